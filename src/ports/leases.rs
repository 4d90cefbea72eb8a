//! Leases on runs: who may write for a run, and which runs are quarantined.

use super::PortResult;
use super::journal::PendingEffect;
use crate::domain::{Run, RunId};
use async_trait::async_trait;

/// The name of a process as an owner of leases: random, new at each start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(pub String);

/// A lease on a run, with the epoch that every write must carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The run.
    pub run: RunId,
    /// The owner.
    pub owner: Owner,
    /// Grows with each acquisition; writes under an older epoch are fenced.
    pub epoch: i64,
}

/// A leased run with everything needed to resume it.
#[derive(Clone, Debug)]
pub struct LeasedRun {
    /// The right to write.
    pub lease: Lease,
    /// Its state.
    pub run: Box<Run>,
    /// Its outbox, in the order of decision.
    pub pending: Vec<PendingEffect>,
}

/// Leases and quarantine.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Acquires the lease on a run of this data directory if it is free or expired, and loads the run. `None` = another
    /// process has it. A snapshot that cannot be read quarantines the run and is a permanent error.
    async fn acquire(&self, run: RunId, owner: &Owner, ttl_secs: u64) -> PortResult<Option<LeasedRun>>;
    /// Renews leases and returns the runs whose lease was lost.
    async fn renew(&self, leases: &[Lease], ttl_secs: u64) -> PortResult<Vec<RunId>>;
    /// Releases a lease. Releasing a lost lease succeeds.
    async fn release(&self, lease: &Lease) -> PortResult<()>;
    /// Releases every lease of this data directory, fences the former owners and returns how many leases there were.
    /// Call it only right after locking the data directory: the lock proves that every former owner is dead.
    async fn release_all(&self) -> PortResult<u64>;
    /// Quarantines a run with the reason: no process drives it until a person lifts the quarantine. Its open
    /// reservations are charged in full, because their actual usage is unknown.
    async fn quarantine(&self, run: RunId, why: &str) -> PortResult<()>;
    /// Lifts the quarantine of a run whose cause was repaired; `false` = the run was not quarantined.
    async fn lift_quarantine(&self, run: RunId) -> PortResult<bool>;
}
