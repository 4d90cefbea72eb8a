//! Applies deliveries in order of arrival, sweeps, and keeps the issues up to date. One per service.

use super::apply::{Settled, apply};
use super::{FORGET_EVERY, KEPT_DELIVERIES, report, sweep};
use crate::domain::{DeliveryState, ForgeName, RunId, Timestamp};
use crate::ports::PortResult;
use crate::ports::intake::Delivery;
use crate::service::moved_runs::MovedRuns;
use crate::service::{ErrorKind, ServiceResult, Services};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Deliveries read at once.
const BATCH: u64 = 50;
/// Upper bound on issues with an open run.
const MAX_ISSUES: u64 = 1_000;
/// Longest wait of the worker; everything it waits for also wakes it.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How often every issue is compared with its run.
const COMPARE_ALL: Duration = Duration::from_secs(60);
/// Waits after failed tries, in seconds; the last one repeats.
const BACKOFF_SECS: [i64; 6] = [1, 5, 15, 60, 300, 900];
/// Tries after which a delivery fails: more than a day.
const MAX_TRIES: u32 = 100;

/// What the worker remembers between its passes.
#[derive(Default)]
pub struct Progress {
    swept: BTreeMap<ForgeName, Instant>,
    compared: Option<Instant>,
    moved: BTreeSet<RunId>,
    applied: u64,
}

/// Applies what forges report until the process ends.
pub async fn run(s: Services) {
    let mut moved = MovedRuns::new(&s.notifications);
    let mut progress = Progress::default();
    loop {
        let wait = match pass(&s, &mut progress).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(%error, "the intake of forges is incomplete; it is tried again");
                MAX_WAIT
            }
        };
        tokio::select! {
            () = s.intake_wake.notified() => {}
            () = moved.wait() => {}
            () = tokio::time::sleep(wait) => {}
        }
        match moved.take() {
            Some(runs) => progress.moved.extend(runs),
            None => progress.compared = None,
        }
    }
}

/// Applies what is due, sweeps what is due, and writes what has changed. Returns how long nothing is due.
///
/// # Errors
/// If the store cannot be used.
pub async fn pass(s: &Services, progress: &mut Progress) -> ServiceResult<Duration> {
    let forges = s.forges.with_issues();
    if forges.is_empty() {
        progress.moved.clear();
        return Ok(MAX_WAIT);
    }
    let mut wait = MAX_WAIT;
    for forge in &forges {
        let rules = s.forges.issues(forge)?.rules();
        let (Some(interval), Some(label)) = (rules.poll_interval, rules.label) else { continue };
        let elapsed = progress.swept.get(forge).map(Instant::elapsed);
        if elapsed.is_none_or(|elapsed| elapsed >= interval) {
            sweep::sweep(s, forge, &label).await?;
            progress.swept.insert(forge.clone(), Instant::now());
        }
        wait = wait.min(interval.saturating_sub(elapsed.filter(|e| *e < interval).unwrap_or_default()));
    }
    let mut read = BTreeSet::new();
    loop {
        let due = s.intake.due(s.clock.now(), BATCH).await?;
        if due.is_empty() {
            break;
        }
        if sweep::read_earlier_comments(s, &due, &mut read).await? {
            continue;
        }
        for delivery in &due {
            attempt(s, delivery).await?;
            progress.applied += 1;
            if progress.applied % FORGET_EVERY == 1 {
                s.intake.forget_deliveries(&delivery.new.forge, KEPT_DELIVERIES).await?;
            }
        }
    }
    write_issues(s, progress).await?;
    if let Some(at) = s.intake.next_due().await? {
        let until = u64::try_from(at.0.saturating_sub(s.clock.now().0)).unwrap_or_default();
        wait = wait.min(Duration::from_millis(until.max(50)));
    }
    Ok(wait)
}

/// Applies one delivery. Its failure is recorded in its row, so that the next ones are not held up.
async fn attempt(s: &Services, delivery: &Delivery) -> PortResult<()> {
    let now = s.clock.now();
    let seq = delivery.seq;
    // On the heap: the futures of all commands together are large.
    match Box::pin(apply(s, delivery)).await {
        Ok(Settled { state, reason }) => {
            crate::fault!("before-settle");
            s.intake.settle(seq, state, &reason, now).await
        }
        Err(error) if error.kind == ErrorKind::Unavailable && delivery.tries < MAX_TRIES => {
            let step = usize::try_from(delivery.tries).unwrap_or(usize::MAX).min(BACKOFF_SECS.len() - 1);
            let until = Timestamp(now.0 + BACKOFF_SECS[step] * 1000);
            s.intake.postpone(seq, &error.detail, until).await
        }
        Err(error) => {
            tracing::warn!(delivery = delivery.new.id, %error, "cannot apply a delivery");
            s.intake.settle(seq, DeliveryState::Failed, &Settled::failed(&error).reason, now).await
        }
    }
}

/// Writes what the runs of issues have become.
async fn write_issues(s: &Services, progress: &mut Progress) -> PortResult<()> {
    let is_everything = progress.compared.is_none_or(|at| at.elapsed() >= COMPARE_ALL);
    if progress.moved.is_empty() && !is_everything {
        return Ok(());
    }
    let moved = std::mem::take(&mut progress.moved);
    let mut is_complete = true;
    for row in s.intake.open_issues(MAX_ISSUES).await? {
        if !is_everything && !moved.contains(&row.run) {
            continue;
        }
        let (forge, issue) = (row.forge.clone(), format!("{}#{}", row.repository, row.number));
        if let Err(error) = report::report(s, row).await {
            is_complete = false;
            tracing::warn!(%forge, issue, %error, "cannot write on an issue; it is tried again");
        }
    }
    if is_everything {
        progress.compared = is_complete.then(Instant::now);
    } else if !is_complete {
        progress.compared = None;
    }
    Ok(())
}

impl Progress {
    /// Makes the next pass compare every issue with its run.
    pub fn compare_all(&mut self) {
        self.compared = None;
    }
}
