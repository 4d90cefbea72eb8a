//! The merge queue: a run whose proven head was overtaken by a moved base more than once lands before others, so that
//! a slow check among quick ones lands eventually.
//!
//! Invariant: the queue only delays landings. Whether a commit may land is decided by the domain, and the forge
//! compares head and base again. It knows the runs of this process only.

use super::landing_lanes::Lanes;
use crate::domain::{Phase, Run, RunId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Number of times a run must have been overtaken before others wait for it.
const MIN_OVERTAKEN: u32 = 2;
/// Longest time others wait for a run until it is overtaken again: one that waits for a status on the forge must not
/// hold them up forever.
const MAX_HOLD: Duration = Duration::from_secs(1800);

/// The queue of this process.
#[derive(Clone, Debug, Default)]
pub struct LandingQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    claims: Mutex<BTreeMap<RunId, Claim>>,
    changed: Notify,
    lanes: Lanes,
}

/// A run's claim to land next on its base branch.
#[derive(Clone, Debug)]
struct Claim {
    origin: String,
    base_branch: String,
    overtaken: u32,
    since: Instant,
}

impl LandingQueue {
    /// Updates a run's claim: it has one while it works towards a landing that was overtaken before, and waits for no
    /// person.
    pub(super) fn update(&self, run: &Run) {
        let moves = run.paused.is_none() && run.blocks.is_empty() && run.stopping.is_none();
        let lands = matches!(run.phase, Phase::Reviewing | Phase::Gating | Phase::Landing);
        let mut claims = self.claims();
        if run.overtaken < MIN_OVERTAKEN || !moves || !lands {
            if claims.remove(&run.id).is_some() {
                self.0.changed.notify_waiters();
            }
            return;
        }
        let settings = &run.settings;
        let claim = claims.entry(run.id).or_insert_with(|| Claim {
            origin: settings.origin.clone(),
            base_branch: settings.base_branch.clone(),
            overtaken: 0,
            since: Instant::now(),
        });
        if claim.overtaken != run.overtaken {
            (claim.overtaken, claim.since) = (run.overtaken, Instant::now());
        }
    }

    /// Returns the landings that wait for a batch.
    pub(super) fn lanes(&self) -> &Lanes {
        &self.0.lanes
    }

    /// Waits until no other run on this base branch goes first.
    pub(super) async fn turn(&self, run: RunId, origin: &str, base_branch: &str) {
        loop {
            let changed = self.0.changed.notified();
            let Some(until) = self.first_after(run, origin, base_branch) else { return };
            // The time limit also covers a claim whose run died with its actor.
            let _ended = tokio::time::timeout_at(until.min(Instant::now() + Duration::from_secs(1)), changed).await;
        }
    }

    /// Returns when the hold of a run that goes first ends; `None` = none does.
    fn first_after(&self, run: RunId, origin: &str, base_branch: &str) -> Option<Instant> {
        let claims = self.claims();
        let rank = |id: RunId, overtaken: u32| (overtaken, std::cmp::Reverse(id));
        let own = rank(run, claims.get(&run).map_or(0, |c| c.overtaken));
        let ahead = claims.iter().filter(|(id, c)| {
            **id != run && c.origin == origin && c.base_branch == base_branch && rank(**id, c.overtaken) > own
        });
        ahead.map(|(_, c)| c.since + MAX_HOLD).filter(|until| *until > Instant::now()).min()
    }

    fn claims(&self) -> std::sync::MutexGuard<'_, BTreeMap<RunId, Claim>> {
        self.0.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(queue: &LandingQueue, id: RunId, overtaken: u32) {
        let (origin, base_branch) = ("/srv/a".to_owned(), "main".to_owned());
        queue.claims().insert(id, Claim { origin, base_branch, overtaken, since: Instant::now() });
    }

    fn id(last: u32) -> RunId {
        RunId::try_from(format!("{last:032}")).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_run_that_was_overtaken_most_lands_first_and_holds_no_other_branch() {
        let queue = LandingQueue::default();
        claim(&queue, id(1), 2);
        claim(&queue, id(2), 3);
        queue.turn(id(2), "/srv/a", "main").await;
        queue.turn(id(9), "/srv/a", "release").await;
        queue.turn(id(9), "/srv/b", "main").await;
        for waiting in [id(1), id(9)] {
            let mut turn = Box::pin(queue.turn(waiting, "/srv/a", "main"));
            assert!(futures::poll!(&mut turn).is_pending(), "{waiting}");
        }
        queue.claims().remove(&id(2));
        queue.turn(id(1), "/srv/a", "main").await;
        let mut turn = Box::pin(queue.turn(id(9), "/srv/a", "main"));
        assert!(futures::poll!(&mut turn).is_pending());
        // A claim that never leads to a landing holds the others for a limited time only.
        turn.await;
        assert!(queue.claims()[&id(1)].since.elapsed() >= MAX_HOLD);
    }
}
