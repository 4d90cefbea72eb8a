//! The message about a day: what ended, what it cost, and what waits for people.

use super::plan;
use crate::domain::{ChannelRules, Day, Message, MessageEvent, Run, RunId, Timestamp};
use crate::ports::{PortError, PortResult};
use crate::service::Services;

/// Runs that are looked at, of each sort.
const MAX_RUNS: u64 = 1_000;
/// Waiting runs that are named.
const MAX_WAITING: usize = 3;
/// Length of a day, in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// What happened in a day, for all channels.
pub(super) struct DayOfRuns {
    ended: Vec<Run>,
    asking: Vec<Run>,
    end: Timestamp,
}

impl DayOfRuns {
    /// Reads the day before `end`.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn read(s: &Services, end: Timestamp) -> PortResult<DayOfRuns> {
        let ended = s.messages.ended_since(Timestamp(end.0 - DAY_MS), MAX_RUNS).await?;
        let ended: Vec<RunId> = ended.into_iter().filter(|(_, at)| *at < end).map(|(run, _)| run).collect();
        let asking: Vec<RunId> = s.store.asking(MAX_RUNS).await?.into_iter().map(|(run, _)| run).collect();
        Ok(DayOfRuns { ended: loaded(s, &ended).await?, asking: loaded(s, &asking).await?, end })
    }

    /// Returns the message for a channel; `None` = nothing happened in its projects, and nothing waits there.
    pub fn message(&self, rules: &ChannelRules) -> Option<Message> {
        let wanted = |run: &&Run| rules.wants(MessageEvent::Digest, run.project.as_str());
        let ended: Vec<&Run> = self.ended.iter().filter(wanted).collect();
        let asking: Vec<&Run> = self.asking.iter().filter(wanted).collect();
        if ended.is_empty() && asking.is_empty() {
            return None;
        }
        let delivered = ended.iter().filter(|run| run.outcome.as_ref().is_some_and(plan::is_delivered)).count();
        let summary = format!(
            "{}, {} without a delivery; {} for people.",
            counted(delivered, "run was delivered", "runs were delivered"),
            counted(ended.len() - delivered, "ended", "ended"),
            counted(asking.len(), "run waits", "runs wait"),
        );
        let waiting = asking.iter().take(MAX_WAITING).map(|run| format!("{}: {}", run.project, run.goal.title()));
        Some(Message {
            event: MessageEvent::Digest,
            needs: waiting.collect(),
            cost_micros: ended.iter().map(|run| run.ledger.spent.cost_micros).sum(),
            ..plan::broken(format!("skep.digest-{}.digest.1", Day::of(self.end)), summary, self.end)
        })
    }
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

async fn loaded(s: &Services, ids: &[RunId]) -> PortResult<Vec<Run>> {
    let mut runs = Vec::with_capacity(ids.len());
    for id in ids {
        match s.store.load(*id).await {
            Ok(run) => runs.extend(run),
            Err(PortError::Permanent { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(runs)
}
