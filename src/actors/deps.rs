//! What every actor is given: the ports, and the numbers that tune the runtime.

use super::attempt_locks::AttemptLocks;
use super::notifications::Notifications;
use super::parts::{Parts, PartsSource};
use crate::ports::leases::Owner;
use crate::ports::{Clock, Forges, Isolation, Store, Workspaces};
use std::sync::Arc;
use std::time::Duration;

/// Ports and settings of the runtime.
#[derive(Clone)]
pub struct Deps {
    /// Durable state.
    pub store: Arc<dyn Store>,
    /// Git.
    pub workspaces: Arc<dyn Workspaces>,
    /// Checks, engines, prompts and defaults, as configured now.
    pub parts: Arc<dyn PartsSource>,
    /// The forges by name.
    pub forges: Arc<dyn Forges>,
    /// The sandbox's state: while it is broken, no queued run is admitted.
    pub isolation: Arc<dyn Isolation>,
    /// Time and new run ids.
    pub clock: Arc<dyn Clock>,
    /// Live notifications.
    pub notifications: Notifications,
    /// Which attempts have a session now.
    pub attempt_locks: AttemptLocks,
    /// This process, as the owner of leases.
    pub owner: Owner,
    /// Limits and intervals.
    pub tuning: Tuning,
    /// Which runs this process carries.
    pub scope: Scope,
}

impl Deps {
    /// Returns the configured parts.
    pub(super) fn parts(&self) -> Arc<Parts> {
        self.parts.current()
    }
}

/// Which runs a process carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every run of its store: a service.
    All,
    /// Only runs that were requested or sent an event here: a foreground command must not spend on others' runs.
    Asked,
    /// None: requests are written down for another process to carry out.
    Nothing,
}

/// Limits and intervals of the runtime.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Upper bound of runs that hold a slot.
    pub max_live_runs: u32,
    /// How many of these slots waiting runs may keep reserved.
    pub max_reserved_slots: u32,
    /// Validity of a lease.
    pub lease: Duration,
    /// Interval of the sweep.
    pub sweep: Duration,
    /// Upper bound of queued and waiting runs; intake refuses more.
    pub max_open_runs: u32,
}
