//! The typed messages between the actors. They carry the trace context, never a span.

use super::check_plan::CheckPlan;
use super::error::RuntimeError;
use super::preview::Preview;
use super::request::{PlanFor, RunRequest};
use crate::domain::{AttemptId, Effect, EffectKey, EffectOutcome, Event, Reported, Run, RunId, Timestamp};
use crate::ports::PortResult;
use crate::ports::journal::Transition;
use crate::ports::leases::Lease;
use crate::render::EffectText;
use ractor::RpcReplyPort;
use std::sync::Arc;

/// The answer to a caller outside the runtime: the run after the event, or the error.
pub type Reply = RpcReplyPort<Result<Run, RuntimeError>>;

/// Messages to the root.
pub enum RootMsg {
    /// Open a run.
    Open { request: Box<RunRequest>, reply: Reply },
    /// Compute what a run would start with.
    Preview { request: Box<RunRequest>, reply: RpcReplyPort<Result<Preview, RuntimeError>> },
    /// Compute which checks a repository has.
    PlanChecks { request: Box<RunRequest>, of: PlanFor, reply: RpcReplyPort<Result<CheckPlan, RuntimeError>> },
    /// Deliver an event from outside to a run. `if_seq`: only if the run is still at this event.
    Send { run: RunId, event: Box<Event>, if_seq: Option<u64>, reply: Reply },
    /// A run has, or may have, something to do (start, sweep).
    Wake { run: RunId },
    /// A run wants to be woken at this time.
    Alarm { at: Timestamp },
    /// The time a run waits for has come.
    Due { run: RunId },
    /// A run was opened or requested: this process drives it from now on.
    Requested { run: RunId },
    /// Observe a run's change. The reply is sent once any update is in the journal.
    Refresh { run: RunId, reply: RpcReplyPort<()> },
    /// The sweep observed an update of a waiting run.
    Observed { run: RunId, event: Box<Event> },
    /// A run's lease was acquired.
    Leased { lease: Lease },
    /// A run has nothing to do after `handled` messages from the root.
    Idle { run: RunId, handled: u64, ended: bool },
    /// Queued runs that may start, and the number of waiting runs, as far as the store knows.
    Queued { runs: Vec<RunId>, waiting: u32 },
    /// Leases that were lost to another owner.
    LostLeases { runs: Vec<RunId> },
    /// Check for queued runs.
    Admit,
    /// Renew the leases.
    Renew,
    /// List the live runs, for health and tests.
    Live { reply: RpcReplyPort<Vec<RunId>> },
}

/// Messages to a run's supervisor.
pub enum RunMsg {
    /// Acquire the lease and load the state: always the first message.
    Load,
    /// The run has a slot: effects may be carried out.
    Go,
    /// The run is admitted from the queue.
    Admit,
    /// An event from outside.
    Deliver { event: Box<Event>, if_seq: Option<u64>, reply: Option<Reply> },
    /// The run was woken without an event.
    Nudge,
    /// An effect ended.
    EffectFinished { key: EffectKey, outcome: Box<EffectOutcome> },
    /// An attempt's conversation can be resumed if this process ends.
    SessionOpened { attempt: AttemptId, session: String },
    /// An attempt ended.
    Reported { reported: Box<Reported> },
    /// The lease belongs to another owner.
    Fenced,
}

/// Messages to the commits actor.
pub enum CommitsMsg {
    /// Make a transition durable.
    Commit { transition: Arc<Transition>, reply: RpcReplyPort<PortResult<()>> },
    /// A batch was written.
    Flushed,
}

/// Messages to a run's operations actor.
pub enum OpsMsg {
    /// Carry out an effect. `text`: what it puts on the forge. `again`: it may have been started before.
    Act { key: EffectKey, effect: Box<Effect>, text: Option<EffectText>, again: bool },
    /// An effect ended.
    Ended { key: EffectKey, outcome: Box<EffectOutcome> },
    /// The lease belongs to another owner.
    Fenced,
    /// Stop the checks.
    StopChecks,
}

/// Messages to the sweeper.
pub enum SweeperMsg {
    /// A sweep is due.
    Tick,
    /// The leases must be renewed.
    Renew,
    /// Check for due runs at this time.
    Alarm { at: Timestamp },
    /// Check for due runs now.
    Due,
    /// Observe the change of one run for a caller that waits for it.
    Refresh { run: RunId, reply: RpcReplyPort<()> },
}

/// Messages to a role's actor.
pub enum RoleMsg {
    /// The session ended.
    Ended { reported: Box<Reported> },
}
