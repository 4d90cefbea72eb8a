//! The durable truth: one transaction writes event, snapshot, outbox and the tables people read.

use super::PortResult;
use crate::domain::{
    ArtifactKind, ArtifactRef, AttemptId, BudgetScope, Day, Digest, Effect, EffectKey, Event, LedgerRow, Level,
    Principal, Project, ProjectName, Role, Run, RunId, SharedLimits, Timestamp, Usage,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// A process's name for leases: random, new at each start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(pub String);

/// A lease on a run, with the epoch that every write must carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The run.
    pub run: RunId,
    /// Whose.
    pub owner: Owner,
    /// Counts up with each taking; an old epoch writes nothing.
    pub epoch: i64,
}

/// One transition to be made durable: event `run.seq` led to snapshot `run`.
#[derive(Clone, Debug)]
pub struct Transition {
    /// The right to write.
    pub lease: Lease,
    /// When.
    pub at: Timestamp,
    /// The fact.
    pub event: Event,
    /// The state after it; `run.seq` is the event's sequence number.
    pub run: Box<Run>,
    /// New outbox rows.
    pub effects: Vec<(EffectKey, Effect)>,
    /// Outbox rows that are done with.
    pub finished: Vec<EffectKey>,
    /// Lines of the books, written anew.
    pub ledger_rows: Vec<LedgerRow>,
}

/// An effect not known done.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Its key.
    pub key: EffectKey,
    /// The effect.
    pub effect: Effect,
    /// How often it was begun.
    pub begun: u32,
}

/// A run taken from the store to be carried on.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The right to write.
    pub lease: Lease,
    /// Its state.
    pub run: Box<Run>,
    /// Its outbox, in key order of decision.
    pub pending: Vec<Pending>,
}

/// A journal row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JournalRow {
    /// The run.
    pub run: RunId,
    /// Its number in the run, from 1, gapless.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The event's name.
    pub name: String,
    /// The lease's epoch under which it was written.
    pub epoch: i64,
    /// The event as JSON; `None` when the row cannot be read (then `name` says what is known).
    pub event: Option<serde_json::Value>,
}

/// A row of the run list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRow {
    /// The run.
    pub run: RunId,
    /// Its project.
    pub project: String,
    /// Its goal's title.
    pub title: String,
    /// Its status word (M4); `quarantined` when the snapshot cannot be used.
    pub status: String,
    /// Its phase.
    pub phase: String,
    /// Events so far.
    pub seq: u64,
    /// Open blocks, as their codes.
    pub blocks: Vec<String>,
    /// When it goes on by itself, if it waits for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_at: Option<Timestamp>,
    /// What it waits for until then, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// Why it is quarantined, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}

/// Which runs to list.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Only this project's.
    pub project: Option<ProjectName>,
    /// Only this status word.
    pub status: Option<String>,
    /// Only those not over.
    pub open_only: bool,
    /// Only those this process's data directory is the home of.
    pub own_only: bool,
    /// Older than this run (for paging).
    pub before: Option<RunId>,
    /// At most this many (1 to 500).
    pub limit: u64,
}

/// How many runs there are, by what matters for admission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Admitted, not over, with effects pending.
    pub live: u32,
    /// Admitted, not over, nothing pending: they wait for a person or the forge.
    pub waiting: u32,
}

/// An attempt's worst case, to be set aside in the budgets its run shares with others.
#[derive(Clone, Debug)]
pub struct Reservation {
    /// The right to spend for the run.
    pub lease: Lease,
    /// The attempt.
    pub attempt: AttemptId,
    /// The run's project.
    pub project: ProjectName,
    /// Who is to do it.
    pub role: Role,
    /// The engine, as people call it.
    pub engine: String,
    /// The worst case; 0 = not limited.
    pub caps: Usage,
    /// The limits shared; those raised since are added to them.
    pub shared: SharedLimits,
    /// The shares of them, in percent, that people are told of.
    pub alert_percent: Vec<u8>,
    /// Rounds of rework before the attempt.
    pub round: u32,
    /// When the attempt was ordered: the day it is charged to.
    pub at: Timestamp,
}

/// What the shared budgets have for an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// It is set aside.
    Reserved {
        /// The caps, cut to what is left; never 0 where there is a limit.
        caps: Usage,
        /// How full the budgets are with it.
        levels: Vec<Level>,
    },
    /// Nothing is left of at least one, nothing was set aside.
    Short {
        /// How full all of them are.
        levels: Vec<Level>,
        /// How much is only set aside for attempts at work, of that one of those used up where it is least.
        set_aside: u64,
    },
}

/// More of a shared budget, given by a person.
#[derive(Clone, Debug)]
pub struct SharedRaise {
    /// Of which.
    pub share: BudgetScope,
    /// The project's name, or the day's number.
    pub key: String,
    /// More tokens.
    pub tokens: u64,
    /// More micro-USD.
    pub cost_micros: u64,
    /// Who.
    pub by: Principal,
    /// When.
    pub at: Timestamp,
}

/// What spending is summed up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpendingBy {
    /// Projects, the dearest first.
    Project,
    /// Roles, the dearest first.
    Role,
    /// Models, the dearest first; what no model was named for stands under its engine, what is set aside for a model that is not named
    /// under [`crate::domain::LedgerPart::NOT_KNOWN`].
    Model,
    /// UTC days, the newest first.
    Day,
    /// Runs, the newest first.
    Run,
}

/// Which spending.
#[derive(Clone, Debug)]
pub struct SpendingFilter {
    /// Summed up by.
    pub by: SpendingBy,
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only of this project.
    pub project: Option<ProjectName>,
    /// Only of this day.
    pub day: Option<Day>,
    /// At most this many rows (1 to [`Spending::ROWS_MAX`]).
    pub limit: u64,
}

/// What attempts cost, summed up. Checks are not in it: they take time only, which their run's budget shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spending {
    /// The project, role, model, day (`2026-11-21`) or run.
    pub key: String,
    /// Tokens used.
    pub tokens: u64,
    /// Micro-USD.
    pub cost_micros: u64,
    /// Calls of models.
    pub turns: u64,
    /// Milliseconds. By model: of the attempts whose engine named it, or that began with it.
    pub wall_ms: u64,
    /// Tokens set aside for attempts at work.
    pub reserved_tokens: u64,
    /// Micro-USD set aside for attempts at work.
    pub reserved_cost_micros: u64,
    /// Attempts.
    pub attempts: u64,
    /// Rounds of rework they took part in.
    #[serde(default)]
    pub rounds: u64,
    /// By model: attempts for which its price was not known. What was set aside was charged for them.
    pub unpriced: u64,
}

impl Spending {
    /// The most rows of one answer.
    pub const ROWS_MAX: u64 = 500;
}

/// A run by its short or whole id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Exactly one.
    One(RunId),
    /// None.
    None,
    /// Several; some of them.
    Several(Vec<RunId>),
}

/// The store.
#[async_trait]
pub trait Store: Send + Sync {
    /// Writes a batch in one transaction; each transition stands or falls by itself. The answer of each: done, `Fenced`, or
    /// (all of them) why the transaction did not commit. A run's first transition (`seq` 1) creates it with its lease.
    /// The same transition again is done, not written twice.
    async fn commit(&self, batch: Vec<Transition>) -> Vec<PortResult<()>>;

    /// Takes the lease on a run of this data directory if it is free or expired, and loads it. `None` = somebody else has it.
    /// A snapshot that cannot be read quarantines the run and is a permanent error.
    async fn take(&self, run: RunId, owner: &Owner, ttl_secs: u64) -> PortResult<Option<Taken>>;
    /// Lengthens leases; those no longer ours come back.
    async fn renew(&self, leases: &[Lease], ttl_secs: u64) -> PortResult<Vec<RunId>>;
    /// Gives a lease back.
    async fn give_back(&self, lease: &Lease) -> PortResult<()>;
    /// Frees every lease of this data directory and fences its former owners; returns how many there were. Only for who has
    /// just locked the data directory: that every former owner is dead is what the lock proves.
    async fn free_leases(&self) -> PortResult<u64>;
    /// Counts an effect as begun, before it is carried out; returns how often it was begun, this time included. Fenced.
    async fn begin(&self, lease: &Lease, key: &EffectKey) -> PortResult<u32>;

    /// Runs of this data directory that have effects pending and no valid lease of another: what a starting process carries on. Oldest first.
    async fn unfinished(&self, owner: &Owner) -> PortResult<Vec<RunId>>;
    /// Queued runs of this data directory, oldest first, at most `limit`.
    async fn queued(&self, limit: u64) -> PortResult<Vec<RunId>>;
    /// Admitted runs of this data directory that wait with an open change: what the sweep looks after.
    async fn waiting(&self, limit: u64) -> PortResult<Vec<RunId>>;
    /// Runs of this data directory that want to be woken before `until`, and when; the earliest first, at most `limit`.
    async fn due(&self, until: Timestamp, limit: u64) -> PortResult<Vec<(RunId, Timestamp)>>;
    /// Sets an attempt's worst case aside in the shared budgets, or says that they have nothing left. One asks at a time, whatever
    /// process it is in; the same attempt again is given what it was given. Fenced.
    async fn reserve(&self, ask: &Reservation) -> PortResult<Room>;
    /// Gives a shared budget more.
    async fn raise_shared(&self, raise: &SharedRaise) -> PortResult<()>;
    /// What attempts cost, summed up.
    async fn spending(&self, filter: &SpendingFilter) -> PortResult<Vec<Spending>>;
    /// How many hold slots.
    async fn counts(&self) -> PortResult<Counts>;
    /// Puts a run aside with the reason; nothing carries it on until a person acts. What is set aside for its attempts is charged: nobody
    /// knows what they have used of it.
    async fn quarantine(&self, run: RunId, why: &str) -> PortResult<()>;
    /// Lifts a run's quarantine after its cause was fixed; `false` if it was not quarantined.
    async fn lift_quarantine(&self, run: RunId) -> PortResult<bool>;

    /// A run's state, without taking it. A snapshot that cannot be read is a permanent error for this run only.
    async fn load(&self, run: RunId) -> PortResult<Option<Run>>;
    /// The run list, newest first. A bad row is shown quarantined.
    async fn list(&self, filter: &RunFilter) -> PortResult<Vec<RunRow>>;
    /// Finds a run by its whole id, or a unique beginning or end of it (4 hex digits at least).
    async fn find(&self, text: &str) -> PortResult<Found>;
    /// Journal rows after `after`, in order, at most `limit`.
    async fn journal(&self, run: RunId, after: u64, limit: u64) -> PortResult<Vec<JournalRow>>;

    /// Writes a project; `replace` = false refuses a name that is taken (permanent).
    async fn put_project(&self, project: &Project, replace: bool) -> PortResult<()>;
    /// A project by name.
    async fn project(&self, name: &ProjectName) -> PortResult<Option<Project>>;
    /// All projects by name.
    async fn projects(&self) -> PortResult<Vec<Project>>;

    /// Keeps bytes under their digest, linked to a run. The same bytes again cost nothing.
    async fn put_artifact(&self, run: RunId, kind: ArtifactKind, name: &str, bytes: &[u8]) -> PortResult<ArtifactRef>;
    /// The bytes of an artifact of a run.
    async fn artifact(&self, run: RunId, digest: &Digest) -> PortResult<Option<(ArtifactRef, Vec<u8>)>>;
    /// A run's artifacts, oldest first.
    async fn artifacts(&self, run: RunId) -> PortResult<Vec<ArtifactRef>>;

    /// Whether the store answers (a trivial read), for readiness.
    async fn ping(&self) -> PortResult<()>;
}
