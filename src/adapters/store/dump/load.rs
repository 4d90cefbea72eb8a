//! Loads a copy of the store into an empty database, in one transaction: afterwards all of it is there, or nothing.
//!
//! Invariant: a copy comes from outside. Names in it become SQL only if they are plain identifiers, and everything else
//! is a bound value.

use super::{ColumnType, Header, LEFT_OUT, TABLES};
use crate::adapters::store::schema::{self, MIGRATION_LOCK};
use crate::adapters::store::{SeaStore, audit, codec, connect};
use crate::ports::audit::AuditEntry;
use crate::ports::{PortError, PortResult};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use migration::{Migrator, MigratorTrait};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, SqliteTransactionMode, TransactionOptions, TransactionTrait, Value,
};
use serde_json::Value as Json;

/// Upper bounds of one inserting statement: rows, values, and bytes of their text.
const STATEMENT_ROWS: usize = 100;
const STATEMENT_VALUES: usize = 10_000;
const STATEMENT_BYTES: usize = 1024 * 1024;
/// Longest name of a table or column.
const MAX_NAME: usize = 63;

/// A new owner may not write under an epoch that a former owner has had: every epoch is raised.
const FREE_LEASES: &str = "UPDATE run SET owner = NULL, lease_until = 0, epoch = epoch + 1";
const IDENTITIES: &str = "SELECT table_name AS name, column_name AS col FROM information_schema.columns \
    WHERE table_schema = current_schema() AND is_identity = 'YES'";

/// A database into which a copy is being loaded.
pub struct Load {
    store: SeaStore,
    tx: DatabaseTransaction,
}

impl Load {
    /// Opens the database at `url` and creates the schema that the copy was made with; `None` = the newest audit record
    /// says that `subject` was restored here, so nothing is left to do.
    ///
    /// # Errors
    /// If the copy was made by a newer Skep, or the database has rows already.
    pub async fn begin(url: &str, applied: &[String], version: i64, subject: &str) -> PortResult<Option<Load>> {
        let known: Vec<String> = Migrator::migrations().iter().map(|m| m.name().to_owned()).collect();
        if version > codec::VERSION || applied.iter().any(|name| !known.contains(name)) {
            return Err(PortError::permanent(
                "the backup was made by a newer Skep",
                "restore it with the version of Skep that made it, or a newer one",
            ));
        }
        let store = connect::open(url).await?;
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..Default::default()
        };
        let fail = |e| store.writing(&e);
        let tx = store.write.begin_with_options(options).await.map_err(fail)?;
        if store.backend() == DbBackend::Postgres {
            let lock = format!(
                "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
                 SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"
            );
            tx.execute_unprepared(&lock).await.map_err(fail)?;
        }
        let present = schema::applied_in(&store, &tx).await?;
        if present.is_empty() {
            let steps = u32::try_from(applied.len()).unwrap_or(u32::MAX);
            if known.get(..applied.len()) != Some(applied) {
                return Err(PortError::permanent(
                    "the backup's list of migrations is not one that Skep has ever had",
                    "use another backup",
                ));
            }
            Migrator::up(&tx, Some(steps)).await.map_err(fail)?;
            return Ok(Some(Load { store, tx }));
        }
        let newest = if present == known { audit::newest_subject(&store, &tx, super::RESTORED).await? } else { None };
        if newest.as_deref() == Some(subject) {
            return Ok(None);
        }
        require_empty(&store, &tx, &present, applied).await?;
        Ok(Some(Load { store, tx }))
    }

    /// Inserts the rows of a part, and returns the table with the number of rows.
    ///
    /// # Errors
    /// If the part is malformed, or the database refuses a row.
    pub async fn insert(&self, text: &[u8]) -> PortResult<(String, u64)> {
        let malformed = |why: &str| {
            PortError::permanent(format!("a part of the store in the backup is malformed: {why}"), "use another backup")
        };
        let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let header = lines.next().ok_or_else(|| malformed("it is empty"))?;
        let header: Header = serde_json::from_slice(header).map_err(|e| malformed(&e.to_string()))?;
        let names = || header.columns.iter().map(|c| c.name.as_str()).chain([header.table.as_str()]);
        if header.columns.is_empty() || !names().all(is_identifier) || LEFT_OUT.contains(&header.table.as_str()) {
            return Err(malformed("its header names no table with columns that can be restored"));
        }
        let (mut rows, mut batch, mut bytes) = (0, Vec::new(), 0);
        for line in lines {
            let row: Vec<Json> = serde_json::from_slice(line).map_err(|e| malformed(&e.to_string()))?;
            if row.len() != header.columns.len() {
                return Err(malformed("a row has another number of values than there are columns"));
            }
            for (value, column) in row.into_iter().zip(&header.columns) {
                batch.push(value_of(value, column.kind).ok_or_else(|| malformed("a value has another type"))?);
            }
            (rows, bytes) = (rows + 1, bytes + line.len());
            let in_batch = batch.len() / header.columns.len();
            if in_batch >= STATEMENT_ROWS || batch.len() >= STATEMENT_VALUES || bytes >= STATEMENT_BYTES {
                self.insert_rows(&header, std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        self.insert_rows(&header, batch).await?;
        Ok((header.table, rows))
    }

    async fn insert_rows(&self, header: &Header, values: Vec<Value>) -> PortResult<()> {
        if values.is_empty() {
            return Ok(());
        }
        let columns: Vec<String> = header.columns.iter().map(|c| format!("\"{}\"", c.name)).collect();
        let rows: Vec<String> = (0..values.len() / columns.len())
            .map(|row| {
                let placeholders = (1..=columns.len()).map(|n| format!("${}", row * columns.len() + n));
                format!("({})", placeholders.collect::<Vec<_>>().join(", "))
            })
            .collect();
        // Numbers that the database counts are inserted as they were.
        let counted = if self.store.backend() == DbBackend::Postgres { " OVERRIDING SYSTEM VALUE" } else { "" };
        let sql =
            format!("INSERT INTO \"{}\" ({}){counted} VALUES {}", header.table, columns.join(", "), rows.join(", "));
        let inserted = self.store.execute_in(&self.tx, &sql, values).await;
        inserted.map_err(|e| self.store.writing(&e))
    }

    /// Applies the migrations that the copy lacks, frees all leases, appends the audit record and commits.
    ///
    /// # Errors
    /// If the database refuses any of it; then nothing was restored.
    pub async fn finish(self, record: &AuditEntry) -> PortResult<()> {
        let Load { store, tx } = self;
        let finished = async {
            Migrator::up(&tx, None).await?;
            store.execute_in(&tx, FREE_LEASES, []).await?;
            if store.backend() == DbBackend::Postgres {
                for row in store.query_in(&tx, IDENTITIES, []).await? {
                    let (table, column): (String, String) = (row.try_get("", "name")?, row.try_get("", "col")?);
                    let next = format!(
                        "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), coalesce(max({column}), 1), \
                         max({column}) IS NOT NULL) FROM \"{table}\""
                    );
                    store.query_in(&tx, &next, []).await?;
                }
            }
            audit::append(&store, &tx, record).await
        };
        let finished = finished.await;
        store.end(tx, finished).await
    }
}

/// Refuses a database with rows, or with the schema of another version.
async fn require_empty(
    store: &SeaStore,
    tx: &DatabaseTransaction,
    present: &[String],
    applied: &[String],
) -> PortResult<()> {
    let refuse = |why: &str| {
        PortError::permanent(
            format!("{} {why}", store.location),
            "restore into a new data directory, or into an empty database named by store.url",
        )
    };
    if present != applied {
        return Err(refuse("already has a schema, of another version than the backup"));
    }
    for (table, _) in TABLES {
        let sql = format!("SELECT 1 AS one FROM \"{table}\" LIMIT 1");
        if !store.query_in(tx, &sql, []).await.map_err(|e| store.reading(&e))?.is_empty() {
            return Err(refuse(&format!("is not empty: its table {table} has rows")));
        }
    }
    Ok(())
}

fn is_identifier(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn value_of(json: Json, kind: ColumnType) -> Option<Value> {
    Some(match (kind, json) {
        (ColumnType::Text, Json::Null) => Value::from(None::<String>),
        (ColumnType::Integer, Json::Null) => Value::from(None::<i64>),
        (ColumnType::Boolean, Json::Null) => Value::from(None::<bool>),
        (ColumnType::Bytes, Json::Null) => Value::from(None::<Vec<u8>>),
        (ColumnType::Text, Json::String(text)) => Value::from(text),
        (ColumnType::Integer, json) => Value::from(json.as_i64()?),
        (ColumnType::Boolean, json) => Value::from(json.as_bool()?),
        (ColumnType::Bytes, json) => Value::from(BASE64_STANDARD.decode(json.as_str()?).ok()?),
        (ColumnType::Text, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_become_sql() {
        for (name, is_plain) in [
            ("run", true),
            ("lease_until2", true),
            ("", false),
            ("Run", false),
            ("run\"; DROP TABLE run; --", false),
            ("_x", false),
            (&"a".repeat(64), false),
        ] {
            assert_eq!(is_identifier(name), is_plain, "{name}");
        }
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        assert!(value_of(Json::from("x"), ColumnType::Integer).is_none());
        assert!(value_of(Json::from(1), ColumnType::Text).is_none());
        assert!(value_of(Json::from("no base64!"), ColumnType::Bytes).is_none());
        assert_eq!(value_of(Json::from("AAE="), ColumnType::Bytes), Some(Value::from(vec![0_u8, 1])));
    }
}
