//! The typed messages between the actors. Trace context travels in them, spans do not.

use super::intake::Ask;
use super::preview::Preview;
use super::runtime_handle::Rejected;
use crate::domain::{AttemptId, Effect, EffectKey, EffectOutcome, Event, Reported, Run, RunId, Timestamp};
use crate::ports::PortResult;
use crate::ports::store::{Lease, Transition};
use crate::render::EffectText;
use ractor::RpcReplyPort;

/// An answer to somebody outside: the run after the event, or why not.
pub type Reply = RpcReplyPort<Result<Run, Rejected>>;

/// To the root.
pub enum RootMsg {
    /// Somebody asks for a run.
    Ask { ask: Box<Ask>, reply: Reply },
    /// Somebody asks what a run would begin with.
    Preview { ask: Box<Ask>, reply: RpcReplyPort<Result<Preview, Rejected>> },
    /// Somebody tells a run something. `if_seq`: only if the run is still at this event.
    Tell { run: RunId, event: Box<Event>, if_seq: Option<u64>, reply: Reply },
    /// A run has something to do, or may have (start, sweep).
    Wake { run: RunId },
    /// A run wants to be woken at this time.
    Alarm { at: Timestamp },
    /// The time has come that a run waits for.
    Due { run: RunId },
    /// A run was asked for and is written, or is asked for again.
    Asked { run: RunId },
    /// The forge may have news about a run: look. The answer comes when what was seen is in the journal.
    Look { run: RunId, reply: RpcReplyPort<()> },
    /// The forge has news about a waiting run.
    Seen { run: RunId, event: Box<Event> },
    /// A run was taken: its lease.
    Taken { lease: Lease },
    /// A run has nothing to do after `handled` messages from the root.
    Idle { run: RunId, handled: u64, ended: bool },
    /// Queued runs that may start, as far as the store knows, and how many runs wait.
    Queued { runs: Vec<RunId>, waiting: u32 },
    /// Leases that are no longer ours.
    LostLeases { runs: Vec<RunId> },
    /// Look for queued runs.
    Admit,
    /// Lengthen the leases.
    Renew,
    /// Which runs are alive now, for health and tests.
    Live { reply: RpcReplyPort<Vec<RunId>> },
}

/// To a run's supervisor.
pub enum RunMsg {
    /// Take the lease and load the state: the first message.
    Load,
    /// The slot is given: effects may be carried out.
    Go,
    /// The run is admitted from the queue.
    Admit,
    /// From outside.
    Tell { event: Box<Event>, if_seq: Option<u64>, reply: Option<Reply> },
    /// Nothing: only that it was woken.
    Nudge,
    /// An effect ended.
    EffectFinished { key: EffectKey, outcome: Box<EffectOutcome> },
    /// An attempt's conversation can be taken up again should this process end.
    SessionOpened { attempt: AttemptId, session: String },
    /// An attempt ended.
    Reported { reported: Box<Reported> },
    /// The lease is another's.
    Fenced,
}

/// To the commits.
pub enum CommitsMsg {
    /// Make a transition durable.
    Commit { transition: Box<Transition>, reply: RpcReplyPort<PortResult<()>> },
    /// A batch is through.
    Flushed,
}

/// To a run's hands.
pub enum OpsMsg {
    /// Carry out an effect. `text`: what it puts on the forge. `again`: it may have been begun before.
    Act { key: EffectKey, effect: Box<Effect>, text: Option<EffectText>, again: bool },
    /// One ended.
    Ended { key: EffectKey, outcome: Box<EffectOutcome> },
    /// The lease is another's.
    Fenced,
    /// End the checks.
    StopChecks,
}

/// To the sweeper.
pub enum SweeperMsg {
    /// The periodic look.
    Tick,
    /// The leases are due.
    Renew,
    /// Look for due runs at this time.
    Alarm { at: Timestamp },
    /// Look for due runs.
    Due,
    /// Look at one run's change, for somebody who waits for it.
    Look { run: RunId, reply: RpcReplyPort<()> },
}

/// To a role's actor.
pub enum RoleMsg {
    /// The session ended.
    Ended { reported: Box<Reported> },
}
