//! The journal of runs: one transaction writes an event, the snapshot after it, the outbox and the ledger rows.

use super::PortResult;
use super::leases::Lease;
use crate::domain::{Effect, EffectKey, Event, LedgerRow, OutcomeRow, Run, RunId, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One transition to be made durable: event number `run.seq` led to the snapshot `run`.
#[derive(Clone, Debug)]
pub struct Transition {
    /// The right to write.
    pub lease: Lease,
    /// Time of the event.
    pub at: Timestamp,
    /// The event.
    pub event: Event,
    /// The state after it; `run.seq` is the event's sequence number.
    pub run: Arc<Run>,
    /// New outbox rows.
    pub effects: Vec<(EffectKey, Effect)>,
    /// Outbox rows to remove: their effects have ended.
    pub finished: Vec<EffectKey>,
    /// Ledger rows to insert or replace.
    pub ledger_rows: Vec<LedgerRow>,
    /// Outcomes of the run, with its last event.
    pub outcomes: Vec<OutcomeRow>,
}

/// An effect that is not known to have ended.
#[derive(Clone, Debug)]
pub struct PendingEffect {
    /// Its key.
    pub key: EffectKey,
    /// The effect.
    pub effect: Effect,
    /// Number of times it was started.
    pub begun: u32,
}

/// A row of the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JournalRow {
    /// The run.
    pub run: RunId,
    /// Sequence number in the run: from 1, without gaps.
    pub seq: u64,
    /// Time of the event.
    pub at: Timestamp,
    /// The event's name.
    pub name: String,
    /// The epoch of the lease under which it was written.
    pub epoch: i64,
    /// The event as JSON; `None` if the row cannot be read.
    pub event: Option<serde_json::Value>,
}

/// Events, snapshots and the outbox of all runs.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Writes a batch in one transaction and returns one result per transition: written, `Fenced`, or (for all of them)
    /// why the transaction did not commit. A run's first transition (`seq` 1) creates the run. Writing the same
    /// transition again succeeds and changes nothing.
    async fn commit(&self, batch: Vec<Arc<Transition>>) -> Vec<PortResult<()>>;
    /// Counts a start of an effect before it is carried out, and returns the number of its starts, including this one.
    /// Fenced.
    async fn begin_effect(&self, lease: &Lease, key: &EffectKey) -> PortResult<u32>;
    /// Takes back the count of a start that this process interrupts on purpose. Changes nothing without the lease.
    async fn withdraw_effect(&self, lease: &Lease, key: &EffectKey) -> PortResult<()>;
    /// Returns a run's state without leasing the run. A snapshot that cannot be read is a permanent error of this run
    /// only.
    async fn load(&self, run: RunId) -> PortResult<Option<Run>>;
    /// Returns the journal rows after `after`, in order, at most `limit`.
    async fn events(&self, run: RunId, after: u64, limit: u64) -> PortResult<Vec<JournalRow>>;
    /// Returns all events of a run in order. The inner error names the first one that cannot be read.
    async fn history(&self, run: RunId) -> PortResult<Result<Vec<(Event, Timestamp)>, String>>;
}
