//! The landings that wait for a batch, by base branch. One task drives each lane, as long as it has landings.

use super::target::RunTarget;
use crate::domain::{ChangeNumber, EffectKey, EffectOutcome, ForgeName, ProjectName, Sha};
use crate::ports::PortResult;
use crate::ports::leases::Lease;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// A base branch of a project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lane {
    forge: ForgeName,
    project: ProjectName,
    origin: String,
    base_branch: String,
}

impl Lane {
    pub fn of(target: &RunTarget) -> Lane {
        Lane {
            forge: target.forge.clone(),
            project: target.repo.project.clone(),
            origin: target.repo.origin.clone(),
            base_branch: target.base_branch.clone(),
        }
    }
}

/// A landing that was ordered.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    pub target: RunTarget,
    pub lease: Lease,
    /// The effect.
    pub key: EffectKey,
    pub change: ChangeNumber,
    /// The head that the run proved.
    pub head: Sha,
    /// The base that it proved it on.
    pub base: Sha,
    /// Upper bound on the changes of its batch.
    pub limit: u32,
    /// Whether it still waits. Whoever sets this to false decides: it lands, or is stopped.
    pub waits: Arc<AtomicBool>,
}

/// A landing in a lane. It has left once nobody waits for the answer.
#[derive(Debug)]
pub(super) struct Arrival {
    pub joining: Joining,
    pub answer: oneshot::Sender<PortResult<EffectOutcome>>,
}

/// The lanes that have a driver, with the landings that it has not taken over yet.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<BTreeMap<Lane, Vec<Arrival>>>);

impl Lanes {
    /// Adds a landing. Returns whether its lane needs a driver.
    pub fn join(&self, lane: &Lane, arrival: Arrival) -> bool {
        let mut lanes = self.lanes();
        let is_new = !lanes.contains_key(lane);
        lanes.entry(lane.clone()).or_default().push(arrival);
        is_new
    }

    /// Takes over the landings that have arrived.
    pub fn take(&self, lane: &Lane) -> Vec<Arrival> {
        self.lanes().get_mut(lane).map(std::mem::take).unwrap_or_default()
    }

    /// Closes a lane, unless a landing has just arrived. Returns whether it is closed.
    pub fn close_empty(&self, lane: &Lane) -> bool {
        let mut lanes = self.lanes();
        if lanes.get(lane).is_some_and(|arrivals| !arrivals.is_empty()) {
            return false;
        }
        lanes.remove(lane);
        true
    }

    /// Closes a lane whose driver ended. What has just arrived is dropped, and joins again.
    pub fn close(&self, lane: &Lane) {
        self.lanes().remove(lane);
    }

    fn lanes(&self) -> std::sync::MutexGuard<'_, BTreeMap<Lane, Vec<Arrival>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
