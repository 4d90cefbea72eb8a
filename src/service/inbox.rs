//! What waits for a person, across all runs, and what is in progress meanwhile.

use super::deployments::{self, DeploymentView};
use super::{Caller, Right, ServiceResult, Services};
use crate::domain::Run;
use crate::ports::PortError;
use crate::ports::run_index::{RunFilter, RunRow};

/// Open runs that are considered.
const MAX_OPEN: u64 = 500;
/// Runs whose state is loaded in each group; the others are known by their rows.
const MAX_LOADED: usize = 10;
/// Ended runs that are listed.
const MAX_ENDED: usize = 8;

/// The inbox.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    /// Runs that have waited longest for a person.
    pub asking: Vec<Run>,
    /// The other runs that wait for a person, longest first.
    pub asking_later: Vec<RunRow>,
    /// Runs that cannot be read.
    pub quarantined: Vec<RunRow>,
    /// The newest runs at work.
    pub working: Vec<Run>,
    /// The other runs at work, newest first.
    pub working_later: Vec<RunRow>,
    /// Runs that wait for a time or a slot, or are paused.
    pub waiting: Vec<RunRow>,
    /// Runs that ended last.
    pub ended: Vec<RunRow>,
    /// Targets of deployments that need a person: a rollout waits for approval, or nothing answers.
    pub deployments: Vec<DeploymentView>,
    /// Whether there are more open runs than are considered.
    pub is_cut: bool,
}

/// Returns the inbox.
///
/// # Errors
/// `missing_right`, or `unavailable`.
pub async fn inbox(s: &Services, caller: &Caller) -> ServiceResult<Inbox> {
    caller.require_somewhere(Right::Read)?;
    let filter = |open_only, limit| RunFilter { projects: caller.readable(), open_only, limit, ..RunFilter::default() };
    let open = s.store.list(&filter(true, MAX_OPEN)).await?;
    let mut inbox = Inbox { is_cut: open.len() as u64 == MAX_OPEN, ..Inbox::default() };
    let (mut asking, mut working) = (Vec::new(), Vec::new());
    for row in open {
        match row.status.as_str() {
            _ if row.quarantined.is_some() => inbox.quarantined.push(row),
            "paused" | "pending" => inbox.waiting.push(row),
            _ if !row.blocks.is_empty() => asking.push(row),
            _ if row.wake_at.is_some() => inbox.waiting.push(row),
            _ => working.push(row),
        }
    }
    // The runs that were moved longest ago have waited longest.
    asking.sort_by_key(|row| row.updated_at);
    inbox.asking_later = asking.split_off(asking.len().min(MAX_LOADED));
    inbox.working_later = working.split_off(working.len().min(MAX_LOADED));
    inbox.asking = loaded(s, &asking).await?;
    // Something else may have moved a run since it asked.
    inbox.asking.sort_by_key(|run| run.blocks.iter().map(|block| block.since).min());
    inbox.working = loaded(s, &working).await?;
    let targets = deployments::list(s, caller).await?.into_iter();
    inbox.deployments = targets.filter(|view| view.waiting().is_some() || view.deployment.is_down()).collect();
    let recent = s.store.list(&filter(false, 100)).await?;
    let ended = recent.into_iter().filter(|row| row.phase == "ended" && row.quarantined.is_none());
    inbox.ended = ended.take(MAX_ENDED).collect();
    Ok(inbox)
}

async fn loaded(s: &Services, rows: &[RunRow]) -> ServiceResult<Vec<Run>> {
    let mut runs = Vec::new();
    for row in rows {
        match s.store.load(row.run).await {
            Ok(Some(run)) => runs.push(run),
            // One that cannot be read must not hide the others.
            Ok(None) | Err(PortError::Permanent { .. }) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(runs)
}
