//! Dependencies of every actor: the ports, and the numbers that tune the runtime.

use super::attempt_locks::AttemptLocks;
use super::landing_queue::LandingQueue;
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
    /// Locks of the attempts that have a session.
    pub attempt_locks: AttemptLocks,
    /// Whose turn it is to land.
    pub landing_queue: LandingQueue,
    /// This process, as the owner of leases.
    pub owner: Owner,
    /// Limits and intervals.
    pub tuning: Tuning,
    /// Which runs this process drives.
    pub scope: Scope,
}

impl Deps {
    /// Returns the configured parts.
    pub(super) fn parts(&self) -> Arc<Parts> {
        self.parts.current()
    }
}

/// Which runs a process drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every run of its store, as a service does.
    All,
    /// Only runs that were opened here or sent an event here: a foreground command must not spend money on other runs.
    Asked,
    /// None: requests are only stored, for another process to carry out.
    Nothing,
}

/// Limits and intervals of the runtime.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Upper bound on runs that hold a slot.
    pub max_live_runs: u32,
    /// Upper bound on the slots that are reserved for waiting runs.
    pub max_reserved_slots: u32,
    /// Validity of a lease.
    pub lease: Duration,
    /// Interval of the sweep.
    pub sweep: Duration,
    /// Upper bound on queued and waiting runs; intake refuses more.
    pub max_open_runs: u32,
}
