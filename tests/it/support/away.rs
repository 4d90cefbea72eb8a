//! An unavailable store, whose every call fails with a transient error.

use async_trait::async_trait;
use skep::domain::memory::Record;
use skep::domain::{
    AccessRole, ArtifactKind, ArtifactRef, Digest, EffectKey, Event, Memory, MemoryId, PersonName, Principal, Project,
    ProjectName, ProjectSet, Run, RunId, Timestamp,
};
use skep::ports::accounts::{AccessToken, Accounts, Identity, Person};
use skep::ports::audit::{AuditEntry, AuditFilter, AuditLog, AuditRow};
use skep::ports::blobs::{ArtifactBytes, RemovableArtifacts};
use skep::ports::idempotency::{Claimed, IdempotencyKeys, NewClaim};
use skep::ports::journal::{JournalRow, Transition};
use skep::ports::leases::{Lease, LeasedRun, Owner};
use skep::ports::ledger::{BudgetRaise, Reservation, ReserveOutcome, Spending, SpendingFilter};
use skep::ports::memories::{Forget, GivenMemory, MemoryFilter, NewMemories};
use skep::ports::run_index::{Counts, RunFilter, RunMatch, RunRow, Totals};
use skep::ports::vault::Rekeyed;
use skep::ports::{
    Blobs, Journal, Leases, Ledger, Memories, PortError, PortResult, Projects, RunIndex, SecretName, SecretRow, Store,
    Vault,
};
use skep::secrets::Secret;
use std::path::Path;
use std::sync::Arc;

pub struct Away;

fn away<T>() -> PortResult<T> {
    Err(PortError::transient("the database does not answer"))
}

#[async_trait]
impl Accounts for Away {
    async fn add_person(&self, _: &Person) -> PortResult<bool> {
        away()
    }
    async fn person(&self, _: &PersonName) -> PortResult<Option<Person>> {
        away()
    }
    async fn people(&self) -> PortResult<Vec<Person>> {
        away()
    }
    async fn set_role(&self, _: &PersonName, _: AccessRole) -> PortResult<bool> {
        away()
    }
    async fn set_project_role(&self, _: &PersonName, _: &ProjectName, _: AccessRole) -> PortResult<()> {
        away()
    }
    async fn remove_project_roles(&self, _: &ProjectName) -> PortResult<()> {
        away()
    }
    async fn set_disabled(&self, _: &PersonName, _: Option<Timestamp>) -> PortResult<bool> {
        away()
    }
    async fn person_of(&self, _: &Identity) -> PortResult<Option<PersonName>> {
        away()
    }
    async fn add_person_with(&self, _: &Person, _: &Identity) -> PortResult<bool> {
        away()
    }
    async fn link(&self, _: &Identity, _: &PersonName, _: Timestamp) -> PortResult<()> {
        away()
    }
    async fn add_token(&self, _: &AccessToken) -> PortResult<()> {
        away()
    }
    async fn token(&self, _: &str) -> PortResult<Option<AccessToken>> {
        away()
    }
    async fn tokens(&self, _: u64) -> PortResult<Vec<AccessToken>> {
        away()
    }
    async fn tokens_of(&self, _: &Principal, _: u64) -> PortResult<Vec<AccessToken>> {
        away()
    }
    async fn expire_token(&self, _: &str, _: Timestamp) -> PortResult<()> {
        away()
    }
    async fn revoke_token(&self, _: &str, _: Timestamp) -> PortResult<bool> {
        away()
    }
    async fn touch_token(&self, _: &str, _: Timestamp) -> PortResult<()> {
        away()
    }
}

#[async_trait]
impl Journal for Away {
    async fn commit(&self, batch: Vec<Arc<Transition>>) -> Vec<PortResult<()>> {
        batch.iter().map(|_| away()).collect()
    }
    async fn begin_effect(&self, _: &Lease, _: &EffectKey) -> PortResult<u32> {
        away()
    }
    async fn withdraw_effect(&self, _: &Lease, _: &EffectKey) -> PortResult<()> {
        away()
    }
    async fn load(&self, _: RunId) -> PortResult<Option<Run>> {
        away()
    }
    async fn events(&self, _: RunId, _: u64, _: u64) -> PortResult<Vec<JournalRow>> {
        away()
    }
    async fn history(&self, _: RunId) -> PortResult<Result<Vec<(Event, Timestamp)>, String>> {
        away()
    }
}

#[async_trait]
impl Leases for Away {
    async fn acquire(&self, _: RunId, _: &Owner, _: u64) -> PortResult<Option<LeasedRun>> {
        away()
    }
    async fn renew(&self, _: &[Lease], _: u64) -> PortResult<Vec<RunId>> {
        away()
    }
    async fn release(&self, _: &Lease) -> PortResult<()> {
        away()
    }
    async fn release_all(&self) -> PortResult<u64> {
        away()
    }
    async fn quarantine(&self, _: RunId, _: &str) -> PortResult<()> {
        away()
    }
    async fn lift_quarantine(&self, _: RunId) -> PortResult<bool> {
        away()
    }
}

#[async_trait]
impl RunIndex for Away {
    async fn list(&self, _: &RunFilter) -> PortResult<Vec<RunRow>> {
        away()
    }
    async fn find(&self, _: &str, _: &ProjectSet) -> PortResult<RunMatch> {
        away()
    }
    async fn project_of(&self, _: RunId) -> PortResult<Option<ProjectName>> {
        away()
    }
    async fn counts(&self) -> PortResult<Counts> {
        away()
    }
    async fn totals(&self) -> PortResult<Totals> {
        away()
    }
    async fn asking(&self, _: u64) -> PortResult<Vec<(RunId, u64)>> {
        away()
    }
    async fn queued(&self, _: u64) -> PortResult<Vec<RunId>> {
        away()
    }
    async fn queue_length(&self) -> PortResult<u64> {
        away()
    }
    async fn waiting(&self, _: u64) -> PortResult<Vec<RunId>> {
        away()
    }
    async fn unfinished(&self, _: &Owner) -> PortResult<Vec<RunId>> {
        away()
    }
    async fn due(&self, _: Timestamp, _: u64) -> PortResult<Vec<(RunId, Timestamp)>> {
        away()
    }
}

#[async_trait]
impl Ledger for Away {
    async fn reserve(&self, _: &Reservation) -> PortResult<ReserveOutcome> {
        away()
    }
    async fn raise_budget(&self, _: &BudgetRaise) -> PortResult<()> {
        away()
    }
    async fn spending(&self, _: &SpendingFilter) -> PortResult<Vec<Spending>> {
        away()
    }
}

#[async_trait]
impl Projects for Away {
    async fn put_project(&self, _: &Project, _: bool) -> PortResult<()> {
        away()
    }
    async fn remove_project(&self, _: &ProjectName) -> PortResult<bool> {
        away()
    }
    async fn project(&self, _: &ProjectName) -> PortResult<Option<Project>> {
        away()
    }
    async fn projects(&self) -> PortResult<Vec<Project>> {
        away()
    }
}

#[async_trait]
impl Blobs for Away {
    async fn put_artifact(&self, _: RunId, _: ArtifactKind, _: &str, _: &[u8]) -> PortResult<ArtifactRef> {
        away()
    }
    async fn artifact(&self, _: RunId, _: &Digest) -> PortResult<Option<(ArtifactRef, ArtifactBytes)>> {
        away()
    }
    async fn artifacts(&self, _: RunId) -> PortResult<Vec<ArtifactRef>> {
        away()
    }
    async fn removable_artifacts(&self, _: Timestamp) -> PortResult<RemovableArtifacts> {
        away()
    }
    async fn remove_artifacts(&self, _: Timestamp) -> PortResult<()> {
        away()
    }
}

#[async_trait]
impl Memories for Away {
    async fn remember(&self, _: &ProjectName, _: &NewMemories, _: Timestamp) -> PortResult<()> {
        away()
    }
    async fn recall(&self, _: &ProjectName, _: Timestamp) -> PortResult<Vec<(Memory, Record)>> {
        away()
    }
    async fn list_memories(&self, _: &MemoryFilter) -> PortResult<Vec<Memory>> {
        away()
    }
    async fn forget_project(&self, _: &ProjectName) -> PortResult<()> {
        away()
    }
    async fn forget(&self, _: &Forget) -> PortResult<Vec<MemoryId>> {
        away()
    }
    async fn mark_stale(&self, _: &[MemoryId]) -> PortResult<()> {
        away()
    }
    async fn give(&self, _: &ProjectName, _: &[GivenMemory]) -> PortResult<()> {
        away()
    }
    async fn given(&self, _: RunId) -> PortResult<Vec<GivenMemory>> {
        away()
    }
}

#[async_trait]
impl Store for Away {
    async fn ping(&self) -> PortResult<()> {
        away()
    }
}

#[async_trait]
impl AuditLog for Away {
    async fn record(&self, _: &AuditEntry) -> PortResult<()> {
        away()
    }
    async fn list(&self, _: &AuditFilter) -> PortResult<Vec<AuditRow>> {
        away()
    }
}

#[async_trait]
impl IdempotencyKeys for Away {
    async fn claim(&self, _: &NewClaim) -> PortResult<Claimed> {
        away()
    }
    async fn settle(&self, _: &Principal, _: &str, _: RunId) -> PortResult<()> {
        away()
    }
}

#[async_trait]
impl Vault for Away {
    async fn set(
        &self,
        _: &SecretName,
        _: Option<&ProjectName>,
        _: &Secret,
    ) -> PortResult<(SecretRow, Option<String>)> {
        away()
    }
    async fn open(&self, _: &SecretName, _: Option<&ProjectName>) -> PortResult<Secret> {
        away()
    }
    async fn remember(&self) -> PortResult<()> {
        away()
    }
    async fn list(&self) -> PortResult<Vec<SecretRow>> {
        away()
    }
    async fn remove(&self, _: &SecretName, _: Option<&ProjectName>) -> PortResult<bool> {
        away()
    }
    async fn check(&self) -> PortResult<()> {
        away()
    }
    async fn rekey(&self, _: &Path) -> PortResult<Rekeyed> {
        away()
    }
}
