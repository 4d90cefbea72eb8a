//! Logical copies of the store: each table as JSON lines, in the same form from SQLite and Postgres, so that a copy of
//! one can be loaded into the other.
//!
//! A part of a table is a header line, `{"table": …, "columns": [{"name": …, "type": …}, …]}`, and one array per row.
//! Bytes are base64.

mod load;

pub use load::Load;

use super::{SeaStore, codec, schema};
use crate::ports::{PortError, PortResult};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::TryStreamExt;
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, IsolationLevel, QueryResult, StreamTrait,
    TransactionTrait,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::sync::mpsc;

/// Tables that are copied, with the columns that order their rows. A table comes after those that it refers to.
pub const TABLES: &[(&str, &str)] = &[
    ("project", "name"),
    ("run", "id"),
    ("event", "run, seq"),
    ("outbox", "run, key"),
    ("artifact", "digest"),
    ("run_artifact", "id"),
    ("ledger_row", "run, attempt"),
    ("budget_raise", "id"),
    ("budget_alert", "scope, key, unit, percent"),
    ("secret", "scope, name"),
    ("audit", "id"),
    ("idempotency_key", "principal, key"),
    ("person", "home, name"),
    ("person_identity", "home, issuer, subject"),
    ("project_role", "home, person, project"),
    ("access_token", "home, id"),
    ("delivery", "seq"),
    ("issue_run", "forge, repository, number"),
    ("intake_cursor", "home, forge, repository"),
    ("schedule", "home, name"),
    ("outcome", "run, attempt, word"),
    ("proposal", "id"),
    ("message_channel", "home, name"),
    ("message", "home, channel, key"),
    ("personal_messages", "home, principal"),
    ("agent", "home, name"),
    ("offer", "home, id"),
    ("agent_call", "home, who, what, hour"),
    ("deployment", "home, target"),
    ("rollout", "home, target, number"),
    ("seen_change", "home, principal, run"),
    ("sponsor", "home, project, name"),
    ("landing_watch", "home, run"),
    ("memory", "id"),
    ("memory_given", "run, attempt, memory"),
];
/// Tables that are not copied: logins end with the service that issued them, and the rest describes this database only.
pub const LEFT_OUT: &[&str] = &["session", "login_link", "write_probe", "seaql_migrations", "sqlite_sequence"];
/// Action of the audit record of a restored copy.
pub const RESTORED: &str = "store.restore";
/// Size at which a part ends, in bytes.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// Type of a column, the same on both databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ColumnType {
    Text,
    Integer,
    Boolean,
    Bytes,
}

impl ColumnType {
    /// Converts a type as a database declares it.
    fn of(declared: &str) -> Option<ColumnType> {
        match declared.to_ascii_lowercase().as_str() {
            "text" => Some(ColumnType::Text),
            "bigint" | "integer" => Some(ColumnType::Integer),
            "boolean" => Some(ColumnType::Boolean),
            "blob" | "bytea" => Some(ColumnType::Bytes),
            _ => None,
        }
    }
}

/// Column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    kind: ColumnType,
}

/// First line of a part.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    table: String,
    columns: Vec<Column>,
}

/// Part of a table.
#[derive(Debug)]
pub struct TablePart {
    /// The table.
    pub table: &'static str,
    /// Number of its rows in this part.
    pub rows: u64,
    /// The rows as JSON lines, after the header.
    pub text: Vec<u8>,
}

/// What a copy of the store was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpSource {
    /// `sqlite` or `postgres`.
    pub database: &'static str,
    /// The migrations that were applied, in order.
    pub schema: Vec<String>,
    /// Version of the stored documents.
    pub version: i64,
}

impl SeaStore {
    /// Sends a copy of all tables to `parts`, in parts of bounded size. All rows belong to one snapshot of the database,
    /// whatever is written meanwhile.
    ///
    /// # Errors
    /// If the database cannot be read, or a row holds what no Skep has written there.
    pub async fn dump(&self, parts: mpsc::Sender<TablePart>) -> PortResult<DumpSource> {
        let fail = |e: DbErr| self.reading(&e);
        let tx = self.snapshot().await?;
        let schema = schema::applied_in(self, &tx).await?;
        for (table, order) in TABLES {
            let columns = columns_of(self, &tx, table).await?;
            let names: Vec<String> = columns.iter().map(|c| format!("\"{}\"", c.name)).collect();
            let sql = format!("SELECT {} FROM \"{table}\" ORDER BY {order}", names.join(", "));
            let mut rows = tx.stream_raw(self.statement(&sql, [])).await.map_err(fail)?;
            let header = Header { table: (*table).to_owned(), columns };
            let mut part = Part::new(table, &header)?;
            while let Some(row) = rows.try_next().await.map_err(fail)? {
                part.push(&row, &header.columns).map_err(|why| unreadable(&self.location, table, &why))?;
                if part.text.len() >= PART_BYTES {
                    let full = std::mem::replace(&mut part, Part::new(table, &header)?);
                    send(&parts, full).await?;
                }
            }
            if part.rows > 0 {
                send(&parts, part).await?;
            }
        }
        // It has only read.
        let _ended = tx.rollback().await;
        let database = if self.backend() == DbBackend::Postgres { "postgres" } else { "sqlite" };
        Ok(DumpSource { database, schema, version: codec::VERSION })
    }

    /// Begins a transaction that reads one snapshot of the database, for as long as it takes.
    pub(super) async fn snapshot(&self) -> PortResult<DatabaseTransaction> {
        let fail = |e: DbErr| self.reading(&e);
        if self.backend() != DbBackend::Postgres {
            // On SQLite, every transaction reads one snapshot.
            return self.read.begin().await.map_err(fail);
        }
        let (isolation, access) = (IsolationLevel::RepeatableRead, AccessMode::ReadOnly);
        let tx = self.read.begin_with_config(Some(isolation), Some(access)).await.map_err(fail)?;
        // The reader of a large table may be slower than the limits for single statements.
        let unlimited = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";
        tx.execute_unprepared(unlimited).await.map_err(fail)?;
        Ok(tx)
    }
}

type Part = TablePart;

impl Part {
    fn new(table: &'static str, header: &Header) -> PortResult<Part> {
        let mut text = serde_json::to_vec(header).map_err(|e| unreadable("the store", table, &e.to_string()))?;
        text.push(b'\n');
        Ok(Part { table, rows: 0, text })
    }

    fn push(&mut self, row: &QueryResult, columns: &[Column]) -> Result<(), String> {
        let values = columns.iter().enumerate().map(|(index, column)| {
            let value = json_of(row, index, column.kind);
            value.map_err(|e| format!("row {} of this part, column {}: {e}", self.rows + 1, column.name))
        });
        let values: Vec<Json> = values.collect::<Result<_, _>>()?;
        serde_json::to_writer(&mut self.text, &values).map_err(|e| e.to_string())?;
        self.text.push(b'\n');
        self.rows += 1;
        Ok(())
    }
}

fn json_of(row: &QueryResult, index: usize, kind: ColumnType) -> Result<Json, DbErr> {
    Ok(match kind {
        ColumnType::Text => row.try_get_by_index::<Option<String>>(index)?.map_or(Json::Null, Json::from),
        ColumnType::Integer => row.try_get_by_index::<Option<i64>>(index)?.map_or(Json::Null, Json::from),
        ColumnType::Boolean => row.try_get_by_index::<Option<bool>>(index)?.map_or(Json::Null, Json::from),
        ColumnType::Bytes => {
            let bytes: Option<Vec<u8>> = row.try_get_by_index(index)?;
            bytes.map_or(Json::Null, |bytes| Json::from(BASE64_STANDARD.encode(bytes)))
        }
    })
}

async fn send(parts: &mpsc::Sender<TablePart>, part: TablePart) -> PortResult<()> {
    // The reader has failed, and reports why.
    parts.send(part).await.map_err(|_| PortError::transient("the copy of the store was abandoned"))
}

fn unreadable(location: &str, table: &str, why: &str) -> PortError {
    PortError::permanent(
        format!("{location}: cannot copy the table {table}: {why}"),
        "run `skep verify` to find what is damaged; until it is repaired, copy the database with its own tools",
    )
}

/// Reads the columns of a table from the database.
async fn columns_of(store: &SeaStore, tx: &DatabaseTransaction, table: &str) -> PortResult<Vec<Column>> {
    let fail = |e: DbErr| store.reading(&e);
    let sql = match store.backend() {
        DbBackend::Postgres => {
            "SELECT column_name AS name, data_type AS type FROM information_schema.columns \
             WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position"
        }
        _ => "SELECT name, type FROM pragma_table_info($1) ORDER BY cid",
    };
    let rows = tx.query_all_raw(store.statement(sql, [table.into()])).await.map_err(fail)?;
    let column = |row: &QueryResult| {
        let (name, declared): (String, String) =
            (row.try_get("", "name").map_err(fail)?, row.try_get("", "type").map_err(fail)?);
        let kind = ColumnType::of(&declared);
        let kind = kind.ok_or_else(|| unreadable(&store.location, table, &format!("column {name} is {declared}")))?;
        Ok(Column { name, kind })
    };
    rows.iter().map(column).collect()
}
