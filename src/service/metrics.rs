//! Metrics: reads what only the store knows, and returns all of them as Prometheus text.

use super::{Caller, Right, ServiceError, ServiceResult, Services};
use crate::domain::slots::Slots;
use crate::domain::{Block, RunId, Timestamp};
use crate::ports::{PortError, PortResult};
use crate::telemetry::{Label, metrics};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Time for which values from the store are used again.
const FRESH: Duration = Duration::from_secs(5);
/// Time a reader waits for the store.
const PATIENCE: Duration = Duration::from_millis(800);
/// Runs with open questions that are counted, those that wait longest first.
const MAX_ASKING: u64 = 1_000;

/// State between two readings.
#[derive(Debug, Default)]
pub struct Monitor {
    /// Upper bounds on runs that hold a slot, and on slots reserved for waiting runs.
    pub slots: (u32, u32),
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    at: Option<Instant>,
    /// Open questions of runs by the run's last event: only runs that changed are loaded again.
    questions: HashMap<RunId, (u64, Questions)>,
}

/// Open questions of one run.
#[derive(Debug)]
struct Questions {
    project: String,
    blocks: Vec<(&'static str, Timestamp)>,
}

impl Monitor {
    /// A monitor of a runtime with these bounds.
    pub fn new(max_live: u32, max_reserved: u32) -> Monitor {
        Monitor { slots: (max_live, max_reserved), ..Monitor::default() }
    }
}

/// Returns all metrics in the Prometheus text format.
///
/// # Errors
/// `missing_right` without [`Right::Metrics`], `unavailable` if they cannot be written as text.
pub async fn scrape(s: &Services, caller: &Caller) -> ServiceResult<String> {
    caller.require(Right::Metrics)?;
    text(s).await
}

/// Returns all metrics without a caller: for the listener that is only reachable from this machine.
///
/// # Errors
/// `unavailable` if they cannot be written as text.
pub async fn text(s: &Services) -> ServiceResult<String> {
    refresh(s).await;
    metrics().text().map_err(|error| {
        ServiceError::unavailable(
            format!("cannot write the metrics: {error}"),
            "Report this as a bug with this message",
        )
    })
}

/// Reads the values of the store again, unless they are fresh. Waits for the store for less than a second, then leaves
/// the last values and says so.
pub async fn refresh(s: &Services) {
    let read = async {
        let mut read = s.monitor.read.lock().await;
        if read.at.is_some_and(|at| at.elapsed() < FRESH) {
            return Ok(());
        }
        observe(s, &mut read).await?;
        read.at = Some(Instant::now());
        PortResult::Ok(())
    };
    let is_stale = match timeout(PATIENCE, read).await {
        Ok(Ok(())) => false,
        Ok(Err(error)) => {
            tracing::debug!(%error, "cannot read the values of metrics");
            true
        }
        Err(_) => true,
    };
    metrics().stale.set(f64::from(u8::from(is_stale)));
    metrics().sandbox.set(f64::from(u8::from(s.sandbox.broken().is_none())));
}

async fn observe(s: &Services, read: &mut Read) -> PortResult<()> {
    let totals = s.store.totals().await?;
    let counts = s.store.counts().await?;
    questions(s, read).await?;
    let now = s.clock.now();
    let age = |at: Timestamp| now.0.saturating_sub(at.0).max(0) as f64 / 1_000.0;

    let rows = totals.open.iter().map(|(project, phase, runs)| {
        let state = match phase.as_str() {
            "queued" => "pending",
            "reporting" => "finalizing",
            _ => "executing",
        };
        ([("project", project.as_str()), ("cicd.pipeline.run.state", state)], *runs as f64)
    });
    metrics().runs.replace(rows);
    let slots =
        Slots { max: s.monitor.slots.0, max_reserved: s.monitor.slots.1, live: counts.live, waiting: counts.waiting };
    let busy = slots.taken().min(slots.max);
    let state = |state| [("state", state)];
    metrics().slots.replace([(state("busy"), f64::from(busy)), (state("available"), f64::from(slots.max - busy))]);
    metrics().quarantined.set(totals.quarantined as f64);
    metrics().oldest_effect.set(totals.oldest_effect.map_or(0.0, age));

    let all = || read.questions.values().flat_map(|(_, q)| q.blocks.iter().map(|block| (q.project.as_str(), block)));
    let rows = all().map(|(project, (code, _))| ([("project", project), ("code", *code)] as [Label<'_>; 2], 1.0));
    metrics().questions.replace(rows);
    metrics().oldest_question.set(all().map(|(_, (_, since))| *since).min().map_or(0.0, age));
    Ok(())
}

/// Loads the questions of the runs that changed.
async fn questions(s: &Services, read: &mut Read) -> PortResult<()> {
    let mut known = std::mem::take(&mut read.questions);
    for (id, seq) in s.store.asking(MAX_ASKING).await? {
        let unchanged = known.remove(&id).filter(|(at, _)| *at == seq);
        let questions = match unchanged {
            Some((_, questions)) => questions,
            None => match s.store.load(id).await {
                Ok(Some(run)) => Questions {
                    project: run.project.as_str().to_owned(),
                    blocks: run.blocks.iter().map(|block: &Block| (block.kind.code(), block.since)).collect(),
                },
                // One that cannot be read must not hide the others.
                Ok(None) | Err(PortError::Permanent { .. }) => continue,
                Err(error) => return Err(error),
            },
        };
        read.questions.insert(id, (seq, questions));
    }
    Ok(())
}
