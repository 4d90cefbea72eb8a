//! What every actor is given: the ports, and the numbers that tune the runtime.

use super::attempt_locks::AttemptLocks;
use super::intake::DefaultsNow;
use super::notifications::Notifications;
use crate::ports::store::Owner;
use crate::ports::{Checks, Clock, Engines, Forge, Isolation, Prompts, Store, Workspaces};
use std::sync::Arc;
use std::time::Duration;

/// The ports behind one run of the process.
#[derive(Clone)]
pub struct Deps {
    /// The durable truth.
    pub store: Arc<dyn Store>,
    /// Git.
    pub workspaces: Arc<dyn Workspaces>,
    /// Checks.
    pub checks: Arc<dyn Checks>,
    /// Engines.
    pub engines: Arc<dyn Engines>,
    /// What engines are told.
    pub prompts: Arc<dyn Prompts>,
    /// The forge.
    pub forge: Arc<dyn Forge>,
    /// Whether commands may be started: without that nothing new is claimed.
    pub isolation: Arc<dyn Isolation>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// News for people who watch.
    pub notifications: Notifications,
    /// Which attempts have a session now.
    pub attempt_locks: AttemptLocks,
    /// This process, for leases.
    pub owner: Owner,
    /// What new runs are born with where nobody said otherwise.
    pub defaults: DefaultsNow,
    /// Numbers.
    pub tuning: Tuning,
    /// Which runs this process carries on.
    pub scope: Scope,
}

/// Which runs a process carries on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every run of its store: a service.
    All,
    /// Only those it is asked for or told something: a command in the foreground must not spend on others' runs.
    Asked,
    /// None: what is asked for is written and waits for somebody who carries it on.
    Nothing,
}

/// The numbers that tune the runtime.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// The most runs that hold a slot.
    pub max_live_runs: u32,
    /// Of these, how many waiting runs keep to themselves.
    pub max_reserved_slots: u32,
    /// How long a lease is good for.
    pub lease: Duration,
    /// How often the sweep looks.
    pub sweep: Duration,
    /// The most runs that may be queued or waiting; more are refused at intake.
    pub max_open_runs: u32,
}
