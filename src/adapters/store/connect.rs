//! Opens the store: turns a URL into pools whose every commit is durable, or refuses with the reason.

use super::error::from_sqlx;
use super::{Losses, SeaStore, schema};
use crate::ports::{PortError, PortResult};
use sea_orm::QueryResult;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::sqlx::{self, ConnectOptions, Connection, Row, SqlitePool, query};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const POSTGRES_READERS: u32 = 6;
/// Few, so that each connection has the commit's plan cached. More would not help: waiting transitions join the next
/// commit.
const POSTGRES_WRITERS: u32 = 2;
const SQLITE_READERS: u32 = 4;
const CACHED_STATEMENTS: usize = 200;
/// Maximum wait for a locked SQLite file, and half the maximum wait for a free connection.
const BUSY: Duration = Duration::from_secs(5);
/// Idle time after which a Postgres connection is pinged before use.
const STALE: Duration = Duration::from_secs(5);
/// Maximum size of a SQLite file that is checked at each start. A larger one would take too long.
const MAX_QUICK_CHECK_BYTES: u64 = 64 * 1024 * 1024;

/// Opens the store at `url`; refuses a schema that differs from this program's.
pub async fn connect(url: &str) -> PortResult<SeaStore> {
    let store = open(url).await?;
    schema::require_current(&store).await?;
    Ok(store)
}

/// Opens the store at `url`, whatever its schema.
pub(super) async fn open(url: &str) -> PortResult<SeaStore> {
    match url.split_once(':').map_or(url, |(scheme, _)| scheme) {
        "sqlite" => open_sqlite(url).await,
        "postgres" | "postgresql" => open_postgres(url).await,
        other => Err(PortError::permanent(
            format!("the store's URL has the unknown scheme {other:?}"),
            "use sqlite:///absolute/path/skep.db or postgres://user@host/database",
        )),
    }
}

/// Parses `sqlite:///path` or `sqlite:///path?mode=ro` into the path and whether it is read-only.
fn sqlite_path(url: &str) -> PortResult<(PathBuf, bool)> {
    let invalid = |why: &str| {
        PortError::permanent(format!("the store's URL {url:?} {why}"), "use sqlite:///absolute/path/skep.db")
    };
    let rest = url.strip_prefix("sqlite:").unwrap_or(url);
    let (path, query) = rest.split_once('?').map_or((rest, ""), |(p, q)| (p, q));
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(invalid("has no absolute path of a file"));
    }
    // Characters that a URL cannot hold are percent-encoded.
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    let path = PathBuf::from(OsString::from_vec(decoded));
    match query {
        "" => Ok((path, false)),
        "mode=ro" => Ok((path, true)),
        _ => Err(invalid("has a parameter other than mode=ro")),
    }
}

async fn open_sqlite(url: &str) -> PortResult<SeaStore> {
    let (path, read_only) = sqlite_path(url)?;
    let location = format!("the store {}", path.display());
    if !read_only {
        create_private(&path, &location)?;
    }
    let base = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .statement_cache_capacity(CACHED_STATEMENTS)
        .disable_statement_logging();
    // FULL, not NORMAL: with NORMAL a power cut can undo acknowledged commits.
    let writer = if read_only {
        base.clone().read_only(true)
    } else {
        base.clone()
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", "67108864")
    };
    let pool = |size: u32| {
        SqlitePoolOptions::new()
            .max_connections(size)
            .acquire_timeout(BUSY * 2)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
    };
    let refuse = |e| from_sqlx(&location, &e, false);
    let write = first_connection(&pool(1), &writer).await.map_err(refuse)?;
    if path.metadata().map_or(0, |m| m.len()) <= MAX_QUICK_CHECK_BYTES {
        let verdict: String =
            query("PRAGMA quick_check(1)").fetch_one(&write).await.and_then(|row| row.try_get(0)).map_err(refuse)?;
        if verdict != "ok" {
            return Err(PortError::permanent(
                format!("{location} is damaged: {verdict}"),
                "stop Skep and restore the store from a backup",
            ));
        }
    }
    let read = pool(SQLITE_READERS).connect_lazy_with(base.read_only(true));
    Ok(SeaStore { read: read.into(), write: write.into(), location, home: "".into(), losses: Losses::new() })
}

/// Opens the writing connection. Switching to the write-ahead log locks the whole file and does not wait for another
/// process that switches at the same moment, so this function waits.
async fn first_connection(pool: &SqlitePoolOptions, writer: &SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    let deadline = tokio::time::Instant::now() + BUSY;
    loop {
        match pool.clone().connect_with(writer.clone()).await {
            Err(sqlx::Error::Database(e))
                if e.message().contains("locked") && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            opened => return opened,
        }
    }
}

/// Creates an empty file that only its owner can read, before SQLite creates one that everybody can. The WAL inherits
/// its mode.
fn create_private(path: &Path, location: &str) -> PortResult<()> {
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(PortError::permanent(
            format!("cannot create {location}: {e}"),
            "create its folder and make it writable for the user Skep runs as",
        )),
    }
}

async fn open_postgres(url: &str) -> PortResult<SeaStore> {
    let options: PgConnectOptions = url.parse().map_err(|e| from_sqlx("the store", &e, false))?;
    let host = options.get_socket().map_or_else(|| options.get_host().to_owned(), |s| s.display().to_string());
    let location = format!("the store {} on {host}:{}", options.get_database().unwrap_or("?"), options.get_port());
    let options = options
        .application_name("skep")
        .statement_cache_capacity(CACHED_STATEMENTS)
        .options([
            ("statement_timeout", "30s"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "60s"),
        ])
        .disable_statement_logging();
    let losses = Losses::new();
    let pool = |size: u32| {
        let known_losses = losses.clone();
        PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(BUSY * 2)
            // A ping before each use would double the round trips of a commit.
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let doubtful = meta.idle_for >= STALE || known_losses.suspects(meta.idle_for);
                Box::pin(async move { Ok(!doubtful || connection.ping().await.is_ok()) })
            })
    };
    let read = pool(POSTGRES_READERS).connect_lazy_with(options.clone());
    // Every write finds its rows by key. A plan cached while a table was small would keep scanning all of it.
    let options = options.options([("enable_seqscan", "off"), ("jit", "off")]);
    let write = pool(POSTGRES_WRITERS).connect_with(options).await.map_err(|e| from_sqlx(&location, &e, false))?;
    let store = SeaStore { read: read.into(), write: write.into(), location, home: "".into(), losses };
    require_durable(&store).await?;
    Ok(store)
}

/// Refuses a server that acknowledges commits before they are durable, or that does not store text as UTF-8.
async fn require_durable(store: &SeaStore) -> PortResult<()> {
    let sql = "SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit, \
               current_setting('server_encoding') AS server_encoding";
    let rows = store.read(sql, []).await?;
    let setting =
        |row: &QueryResult, name: &str| -> PortResult<String> { row.try_get("", name).map_err(|e| store.reading(&e)) };
    for row in &rows {
        for name in ["fsync", "synchronous_commit"] {
            if setting(row, name)? == "off" {
                return Err(PortError::permanent(
                    format!("{} runs with {name}=off: a crash would lose acknowledged work", store.location),
                    format!("set {name}=on in postgresql.conf (or for the database and user) and reload the server"),
                ));
            }
        }
        let encoding = setting(row, "server_encoding")?;
        if encoding != "UTF8" {
            return Err(PortError::permanent(
                format!("{} stores text as {encoding}, not as UTF8", store.location),
                "recreate the database with ENCODING 'UTF8' TEMPLATE template0",
            ));
        }
    }
    Ok(())
}
