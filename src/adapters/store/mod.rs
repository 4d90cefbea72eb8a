//! The store on SQLite or Postgres: one `SeaStore` that implements each port of durable state in the file that holds
//! its SQL.
//!
//! A run belongs to the data directory it was opened in, because its mirror, workspaces and local changes live there.
//! Each run's row holds the id of that directory, its home. The queries that find runs to resume, acquire one or count
//! slots see only the runs of their own home, so several services may share one database, each with its own data
//! directory. Lists and journals show all runs.

mod accounts;
mod audit;
mod blobs;
pub mod codec;
mod connect;
mod deployments;
pub mod dump;
mod entity;
mod error;
mod idempotency;
mod intake;
mod journal;
mod journal_postgres;
mod journal_sqlite;
mod landing_watches;
mod leases;
mod ledger;
mod memories;
mod messages;
mod open_work;
mod outcomes;
mod personal_messages;
mod projects;
mod proposals;
mod row;
mod run_index;
mod schedules;
mod schema;
mod seen_changes;
mod sessions;
mod shared_budgets;
mod snapshot;
mod transaction;
mod vault;
mod vault_keys;
mod verify;
mod written;

pub use blobs::MAX_ARTIFACT_BYTES;
pub use connect::{connect, exposed_files};
pub use schema::{SchemaStatus, migrate, status};
pub use vault::SeaVault;
pub use vault_keys::KeySource;
pub use verify::{Damage, StoreVerification};

use crate::ports::{PortError, PortResult, Store};
use async_trait::async_trait;
use error::{Operation, from_db};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, QueryResult, Statement, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use written::{StoreFile, Writes};

/// The store.
#[derive(Clone, Debug)]
pub struct SeaStore {
    /// The pool for reading.
    read: DatabaseConnection,
    /// The pool for writing. On SQLite a single connection: SQLite has one writer at a time anyway, and waiting in the
    /// pool is fair.
    write: DatabaseConnection,
    /// The database, for error messages; without a password.
    location: String,
    /// The id of the data directory whose runs this store may acquire.
    home: Arc<str>,
    /// When a connection was last found dead.
    losses: Arc<Losses>,
    /// Whether writes succeed.
    writes: Arc<Writes>,
    /// The settings that snapshots need not repeat.
    openings: Arc<snapshot::OpeningSettings>,
    /// The file on SQLite.
    file: Option<Arc<StoreFile>>,
    /// Whether it was opened with the right schema. Before that, a database that cannot be used is refused; afterwards it
    /// is waited for.
    is_open: bool,
}

/// When a connection was last found dead. Every other connection that has been idle since before then is pinged before
/// its next use, so that a server restart costs one unknown outcome and not one per connection.
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
    fn record(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now.max(1), Ordering::Relaxed);
    }
    /// Returns whether a connection that was idle this long was last used before the last loss.
    fn suspects(&self, idle: Duration) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last > 0 && self.start.elapsed().saturating_sub(idle) <= Duration::from_millis(last)
    }
}

impl SeaStore {
    /// Returns the same store for the data directory with this id.
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

    /// Converts an error of a read: nothing can have changed.
    fn reading(&self, e: &DbErr) -> PortError {
        let e = from_db(&self.location, e, if self.is_open { Operation::Read } else { Operation::Open });
        if matches!(e, PortError::Transient { .. }) {
            self.losses.record();
        }
        e
    }

    /// Returns the database's clock in Unix milliseconds, as SQL. Leases never compare the clocks of two machines.
    fn now(&self) -> &'static str {
        match self.backend() {
            DbBackend::Postgres => "(extract(epoch from clock_timestamp()) * 1000)::bigint",
            _ => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        }
    }

    /// Builds a statement for both databases: `$1`… are the values, `{now}` is the database's clock.
    fn statement(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
        Statement::from_sql_and_values(self.backend(), sql.replace("{now}", self.now()), values)
    }

    /// Reads all rows. The statement itself must bound their number.
    async fn read(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> PortResult<Vec<QueryResult>> {
        let statement = self.statement(sql, values);
        self.read.query_all_raw(statement).await.map_err(|e| self.reading(&e))
    }

    /// Runs one writing statement as its own transaction and returns its `RETURNING` rows.
    ///
    /// It always reads all rows: the commit follows the last row, so a caller that stopped at the first one would
    /// continue before the commit.
    async fn write(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> PortResult<Vec<QueryResult>> {
        let statement = self.statement(sql, values);
        self.written(self.write.query_all_raw(statement).await)
    }
}

#[async_trait]
impl Store for SeaStore {
    async fn ping(&self) -> PortResult<()> {
        self.probe().await
    }
}
