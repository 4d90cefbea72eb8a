//! The store on SQLite or Postgres: what each part may call, and the port that is made of the parts.
//!
//! A run belongs to the data directory it was opened in, its home: its mirror, workspaces and local changes lie there. The
//! home's id stands in the run's row, and whatever looks for runs to carry on, takes one or counts slots sees those of its own
//! home only. Several services may so share one database, each with a data directory of its own; lists and journals show all.

mod audit;
mod blobs;
mod connect;
mod entity;
mod error;
mod idempotency;
mod journal;
mod journal_postgres;
mod journal_sqlite;
mod lease;
mod ledger;
mod outbox;
mod projects;
mod schema;
mod shared_budgets;
mod vault;
mod vault_keys;
mod views;

pub use blobs::ARTIFACT_BYTES_MAX;
pub use connect::connect;
pub use schema::{SchemaStatus, migrate, status};
pub use vault::SeaVault;
pub use vault_keys::KeySource;

use crate::domain::{ArtifactKind, ArtifactRef, Digest, EffectKey, Project, ProjectName, Run, RunId, Timestamp};
use crate::ports::store::{
    Counts, Found, JournalRow, Lease, Owner, Reservation, Room, RunFilter, RunRow, SharedRaise, Spending,
    SpendingFilter, Store, Taken, Transition,
};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, QueryResult, Statement, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The store.
#[derive(Clone, Debug)]
pub struct SeaStore {
    /// Reads.
    read: DatabaseConnection,
    /// Writes. On SQLite a single connection: it has one writer at a time anyway, and waiting in the pool is fair.
    write: DatabaseConnection,
    /// Where it is, for error messages; without a password.
    place: String,
    /// The id of the data directory whose runs may be carried on through this store.
    home: Arc<str>,
    /// When a connection was last found dead.
    losses: Arc<Losses>,
}

/// When a connection was last found dead: every other one that has been idle since before then is asked before its next use,
/// so that a server's restart costs one unknown outcome and not one for each connection.
#[derive(Debug)]
struct Losses {
    start: Instant,
    /// Milliseconds after `start`; 0 = never.
    last: AtomicU64,
}

impl Losses {
    fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), last: AtomicU64::new(0) })
    }
    fn note(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now.max(1), Ordering::Relaxed);
    }
    /// Whether a connection that was idle this long was last used before the last loss.
    fn suspects(&self, idle: Duration) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last > 0 && self.start.elapsed().saturating_sub(idle) <= Duration::from_millis(last)
    }
}

impl SeaStore {
    /// The same store for the data directory with this id.
    #[must_use]
    pub fn at_home(self, home: &str) -> Self {
        Self { home: home.into(), ..self }
    }

    fn home(&self) -> Value {
        Value::from(&*self.home)
    }

    fn backend(&self) -> DbBackend {
        self.write.get_database_backend()
    }

    /// An error while reading: nothing can have changed.
    fn reading(&self, e: &DbErr) -> PortError {
        self.noted(error::reading(&self.place, e))
    }

    /// An error while writing: when the connection was lost on the way, nobody knows whether it was written.
    fn writing(&self, e: &DbErr) -> PortError {
        self.noted(error::writing(&self.place, e))
    }

    fn noted(&self, e: PortError) -> PortError {
        if matches!(e, PortError::Transient { .. } | PortError::Unknown { .. }) {
            self.losses.note();
        }
        e
    }

    /// The database's clock in Unix milliseconds, as SQL. Leases compare no two machines' clocks.
    fn now(&self) -> &'static str {
        match self.backend() {
            DbBackend::Postgres => "(extract(epoch from clock_timestamp()) * 1000)::bigint",
            _ => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        }
    }

    /// A statement with `$1`… for values, the same on both databases; `{now}` is the database's clock.
    fn statement(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
        Statement::from_sql_and_values(self.backend(), sql.replace("{now}", self.now()), values)
    }

    /// Reads all rows. What is read must be bounded by the statement.
    async fn read(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> PortResult<Vec<QueryResult>> {
        let statement = self.statement(sql, values);
        self.read.query_all_raw(statement).await.map_err(|e| self.reading(&e))
    }

    /// Runs one writing statement as its own transaction and gives its `RETURNING` rows.
    ///
    /// All rows are taken, never the first alone: the commit follows the last row, and who stops reading at the first
    /// row goes on before it.
    async fn write(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> PortResult<Vec<QueryResult>> {
        let statement = self.statement(sql, values);
        self.write.query_all_raw(statement).await.map_err(|e| self.writing(&e))
    }
}

#[async_trait]
impl Store for SeaStore {
    async fn commit(&self, batch: Vec<Transition>) -> Vec<PortResult<()>> {
        self.commit_batch(&batch).await
    }
    async fn take(&self, run: RunId, owner: &Owner, ttl_secs: u64) -> PortResult<Option<Taken>> {
        self.take_lease(run, owner, ttl_secs).await
    }
    async fn renew(&self, leases: &[Lease], ttl_secs: u64) -> PortResult<Vec<RunId>> {
        self.renew_leases(leases, ttl_secs).await
    }
    async fn give_back(&self, lease: &Lease) -> PortResult<()> {
        self.give_lease_back(lease).await
    }
    async fn free_leases(&self) -> PortResult<u64> {
        self.free_all_leases().await
    }
    async fn begin(&self, lease: &Lease, key: &EffectKey) -> PortResult<u32> {
        self.begin_effect(lease, key).await
    }
    async fn unfinished(&self, owner: &Owner) -> PortResult<Vec<RunId>> {
        self.unfinished_runs(owner).await
    }
    async fn queued(&self, limit: u64) -> PortResult<Vec<RunId>> {
        self.queued_runs(limit).await
    }
    async fn waiting(&self, limit: u64) -> PortResult<Vec<RunId>> {
        self.waiting_runs(limit).await
    }
    async fn due(&self, until: Timestamp, limit: u64) -> PortResult<Vec<(RunId, Timestamp)>> {
        self.due_runs(until, limit).await
    }
    async fn reserve(&self, ask: &Reservation) -> PortResult<Room> {
        self.reserve_shared(ask).await
    }
    async fn raise_shared(&self, raise: &SharedRaise) -> PortResult<()> {
        self.give_more(raise).await
    }
    async fn spending(&self, filter: &SpendingFilter) -> PortResult<Vec<Spending>> {
        self.sum_spending(filter).await
    }
    async fn counts(&self) -> PortResult<Counts> {
        self.count_runs().await
    }
    async fn quarantine(&self, run: RunId, why: &str) -> PortResult<()> {
        self.put_aside(run, why).await
    }
    async fn lift_quarantine(&self, run: RunId) -> PortResult<bool> {
        self.unquarantine(run).await
    }
    async fn load(&self, run: RunId) -> PortResult<Option<Run>> {
        self.load_run(run).await
    }
    async fn list(&self, filter: &RunFilter) -> PortResult<Vec<RunRow>> {
        self.list_runs(filter).await
    }
    async fn find(&self, text: &str) -> PortResult<Found> {
        self.find_run(text).await
    }
    async fn journal(&self, run: RunId, after: u64, limit: u64) -> PortResult<Vec<JournalRow>> {
        self.journal_rows(run, after, limit).await
    }
    async fn put_project(&self, project: &Project, replace: bool) -> PortResult<()> {
        self.write_project(project, replace).await
    }
    async fn project(&self, name: &ProjectName) -> PortResult<Option<Project>> {
        self.read_project(name).await
    }
    async fn projects(&self) -> PortResult<Vec<Project>> {
        self.list_projects().await
    }
    async fn put_artifact(&self, run: RunId, kind: ArtifactKind, name: &str, bytes: &[u8]) -> PortResult<ArtifactRef> {
        self.keep_artifact(run, kind, name, bytes).await
    }
    async fn artifact(&self, run: RunId, digest: &Digest) -> PortResult<Option<(ArtifactRef, Vec<u8>)>> {
        self.read_artifact(run, digest).await
    }
    async fn artifacts(&self, run: RunId) -> PortResult<Vec<ArtifactRef>> {
        self.list_artifacts(run).await
    }
    async fn ping(&self) -> PortResult<()> {
        self.read("SELECT 1 AS one", []).await.map(|_| ())
    }
}
