//! Migrates the schema to this program's version, one process at a time, and refuses a newer schema.

use super::SeaStore;
use super::connect::open;
use super::error::MIGRATE;
use crate::ports::{PortError, PortResult};
use migration::{Migrator, MigratorTrait};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

/// The Postgres advisory lock that a migrating process holds: "skep" in ASCII.
pub(super) const MIGRATION_LOCK: i64 = 0x736b_6570;

/// The migrations of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaStatus {
    /// Applied and known to this program.
    pub applied: Vec<String>,
    /// Known to this program, not yet applied.
    pub pending: Vec<String>,
    /// Applied by a newer program.
    pub unknown: Vec<String>,
}

/// Applies the missing migrations to the store at `url`, all or none, and returns their names.
pub async fn migrate(url: &str) -> PortResult<Vec<String>> {
    let store = open(url).await?;
    let options =
        TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() };
    let fail = |e| store.writing(&e);
    let tx = store.write.begin_with_options(options).await.map_err(fail)?;
    if store.backend() == DbBackend::Postgres {
        let lock = format!(
            "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"
        );
        tx.execute_unprepared(&lock).await.map_err(fail)?;
    }
    // Read under the lock: another process may have migrated in the meantime.
    let before = compare(applied_in(&store, &tx).await?);
    refuse_newer(&store, &before)?;
    if !before.pending.is_empty() {
        Migrator::up(&tx, None).await.map_err(fail)?;
    }
    tx.commit().await.map_err(fail)?;
    Ok(before.pending)
}

/// Returns the migrations of the store at `url`. Changes nothing.
pub async fn status(url: &str) -> PortResult<SchemaStatus> {
    let store = open(url).await?;
    Ok(compare(applied(&store).await?))
}

/// Refuses a store whose schema is newer or older than this program's.
pub(super) async fn require_current(store: &SeaStore) -> PortResult<()> {
    let status = compare(applied(store).await?);
    refuse_newer(store, &status)?;
    if status.pending.is_empty() {
        return Ok(());
    }
    Err(PortError::permanent(format!("{} lacks the migrations {}", store.location, status.pending.join(", ")), MIGRATE))
}

fn refuse_newer(store: &SeaStore, status: &SchemaStatus) -> PortResult<()> {
    if status.unknown.is_empty() {
        return Ok(());
    }
    Err(PortError::permanent(
        format!("{} has migrations that this Skep does not know: {}", store.location, status.unknown.join(", ")),
        "start the newer Skep that applied them, or restore a backup from before the upgrade",
    ))
}

fn compare(applied: Vec<String>) -> SchemaStatus {
    let known: Vec<String> = Migrator::migrations().iter().map(|m| m.name().to_owned()).collect();
    let (unknown, done) = applied.into_iter().partition(|name| !known.contains(name));
    let done: Vec<String> = done;
    let pending = known.into_iter().filter(|name| !done.contains(name)).collect();
    SchemaStatus { applied: done, pending, unknown }
}

fn has_table_sql(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "SELECT 1 AS one WHERE to_regclass('seaql_migrations') IS NOT NULL",
        _ => "SELECT 1 AS one FROM sqlite_master WHERE type = 'table' AND name = 'seaql_migrations'",
    }
}

const STEPS: &str = "SELECT version FROM seaql_migrations ORDER BY version LIMIT 10000";

async fn applied(store: &SeaStore) -> PortResult<Vec<String>> {
    read_applied(store, &store.read).await
}

pub(super) async fn applied_in(store: &SeaStore, tx: &DatabaseTransaction) -> PortResult<Vec<String>> {
    read_applied(store, tx).await
}

async fn read_applied(store: &SeaStore, db: &impl ConnectionTrait) -> PortResult<Vec<String>> {
    let fail = |e| store.reading(&e);
    let has_table = store.statement(has_table_sql(store.backend()), []);
    if db.query_all_raw(has_table).await.map_err(fail)?.is_empty() {
        return Ok(Vec::new());
    }
    let rows = db.query_all_raw(store.statement(STEPS, [])).await.map_err(fail)?;
    rows.iter().map(|row| row.try_get("", "version").map_err(fail)).collect()
}
