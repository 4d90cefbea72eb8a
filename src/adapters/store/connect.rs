//! Opens the store: turns a URL into pools whose every commit is durable, or refuses with the reason.

use super::error::{Operation, URL_FORMS, from_sqlx};
use super::written::StoreFile;
use super::{Losses, SeaStore, schema};
use crate::ports::{PortError, PortResult};
use sea_orm::QueryResult;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::sqlx::{self, ConnectOptions, Connection, Row, SqliteConnection, SqlitePool, query};
use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const POSTGRES_READERS: u32 = 6;
/// Few, so that each connection has the commit's plan cached: two for the batches of transitions, of which one is written
/// while another is encoded, and two for leases and other single rows.
const POSTGRES_WRITERS: u32 = 4;
const SQLITE_READERS: u32 = 4;
const CACHED_STATEMENTS: usize = 200;
/// Length of a scheme that an error repeats.
const MAX_SCHEME: usize = 16;
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
    Ok(SeaStore { is_open: true, ..store })
}

/// Opens the store at `url`, whatever its schema.
pub(super) async fn open(url: &str) -> PortResult<SeaStore> {
    match url.split_once(':').map_or(url, |(scheme, _)| scheme) {
        "sqlite" => open_sqlite(url).await,
        "postgres" | "postgresql" => open_postgres(url).await,
        // What is not a URL may be anything, a password included.
        other if other.len() > MAX_SCHEME || !other.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Err(PortError::permanent("the store's URL has no scheme", URL_FORMS))
        }
        other => Err(PortError::permanent(format!("the store's URL has the unknown scheme {other:?}"), URL_FORMS)),
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
        make_private(&path);
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
    let refuse = |e| from_sqlx(&location, &e, Operation::Open);
    let losses = Losses::new();
    let known_losses = losses.clone();
    let single = pool(1).before_acquire(move |connection, meta| {
        let is_doubtful = known_losses.suspects(meta.idle_for);
        Box::pin(async move { Ok(!is_doubtful && is_settled(connection).await) })
    });
    let write = first_connection(&single, &writer).await.map_err(refuse)?;
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
    let file = StoreFile::of(&path).map_err(|e| refuse(e.into()))?;
    let read = pool(SQLITE_READERS).connect_lazy_with(base.read_only(true));
    Ok(SeaStore {
        read: read.into(),
        write: write.into(),
        location,
        home: "".into(),
        losses,
        writes: Arc::default(),
        openings: Arc::default(),
        file: Some(Arc::new(file)),
        is_open: false,
    })
}

/// Returns whether a connection has no transaction left. After a failed commit the rollback may fail as well, and
/// everything written later would belong to a transaction that nobody ends: such a connection is closed.
async fn is_settled(connection: &mut SqliteConnection) -> bool {
    // The rollback of a dropped transaction is queued; the answer to a ping comes after it.
    !connection.is_in_transaction() || (connection.ping().await.is_ok() && !connection.is_in_transaction())
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

/// Returns the files of the store at `url` that others than their owner can access. A server has none here.
pub fn exposed_files(url: &str) -> Vec<PathBuf> {
    match url.starts_with("sqlite:") {
        true => sqlite_path(url).map(|(path, _)| exposed(&path)).unwrap_or_default(),
        false => Vec::new(),
    }
}

fn exposed(path: &Path) -> Vec<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let files = ["", "-wal", "-shm"].map(|ending| {
        let mut file = path.as_os_str().to_owned();
        file.push(ending);
        PathBuf::from(file)
    });
    let is_exposed = |file: &PathBuf| std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.mode() & 0o077 != 0);
    files.into_iter().filter(is_exposed).collect()
}

/// Takes the access of others away, which a copy or a restore from another tool may have given.
fn make_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for file in exposed(path) {
        match std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)) {
            Ok(()) => {
                tracing::warn!(file = %file.display(), "other users could access this file of the store; now only its owner can")
            }
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "other users can access this file of the store")
            }
        }
    }
}

/// Checks and completes a Postgres URL: characters of user or password that end the authority must be percent-encoded,
/// or a piece of the password would become the host. A URL without a host, as libpq takes it, gets one.
fn postgres_url(url: &str) -> PortResult<Cow<'_, str>> {
    let invalid = |what: &str, fix: &str| Err(PortError::permanent(format!("the store's URL {what}"), fix));
    let Some((scheme, rest)) = url.split_once("://") else { return invalid("has no //", URL_FORMS) };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // An `@` after the authority is the one that was meant to end the password.
    if tail.contains(['#', '@']) || authority.matches('@').count() > 1 {
        return invalid(
            "has characters in user, password or database that must be percent-encoded",
            "write @ as %40, / as %2F, # as %23, ? as %3F, : as %3A and % as %25 there",
        );
    }
    let (credentials, host) = match authority.rsplit_once('@') {
        Some((credentials, host)) => (Some(credentials), host),
        None => (None, authority),
    };
    if !host.is_empty() && !host.starts_with(':') {
        return Ok(url.into());
    }
    let credentials = credentials.map_or_else(String::new, |c| format!("{c}@"));
    Ok(format!("{scheme}://{credentials}localhost{host}{tail}").into())
}

async fn open_postgres(url: &str) -> PortResult<SeaStore> {
    let url = postgres_url(url)?;
    let options: PgConnectOptions = url.parse().map_err(|e| from_sqlx("the store", &e, Operation::Open))?;
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
    let refuse = |e| from_sqlx(&location, &e, Operation::Open);
    let write = pool(POSTGRES_WRITERS).connect_with(options).await.map_err(refuse)?;
    let store = SeaStore {
        read: read.into(),
        write: write.into(),
        location,
        home: "".into(),
        losses,
        writes: Arc::default(),
        openings: Arc::default(),
        file: None,
        is_open: false,
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_postgres_url_that_is_not_encoded_is_refused_without_a_word_of_it() {
        for password in ["9xQ@plum", "9xQ/plum", "9xQ#plum", "9xQ?plum", "9x@Q/pl#um", "@9xQplum", "9xQ/@plum"] {
            let error = postgres_url(&format!("postgres://skep:{password}@db.example:5432/skep")).unwrap_err();
            assert!(error.fix().contains("%40"), "{password}: {}", error.fix());
            assert!(!error.to_string().contains("9xQ") && !error.to_string().contains("plum"), "{error}");
        }
    }

    #[tokio::test]
    async fn files_of_the_store_that_others_can_access_are_made_private() {
        use std::os::unix::fs::PermissionsExt;
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("skep.db");
        let url = format!("sqlite://{}", path.display());
        drop(open(&url).await.unwrap());
        assert_eq!(exposed_files(&url), [""; 0].map(PathBuf::from));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(exposed_files(&url), std::slice::from_ref(&path));
        let _store = open(&url).await.unwrap();
        assert_eq!(exposed_files(&url), [""; 0].map(PathBuf::from));
        assert_eq!(exposed_files("postgres://h/d"), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn the_usual_forms_of_a_postgres_url_are_taken() {
        for (url, completed) in [
            ("postgres://u:p%40s@h:5432/d?sslmode=require", "postgres://u:p%40s@h:5432/d?sslmode=require"),
            ("postgres://h/d", "postgres://h/d"),
            ("postgres://u@%2Frun%2Fpostgresql/d", "postgres://u@%2Frun%2Fpostgresql/d"),
            ("postgres://[::1]:5432/d", "postgres://[::1]:5432/d"),
            ("postgres://u@/d?host=/run/postgresql", "postgres://u@localhost/d?host=/run/postgresql"),
            ("postgresql:///d?host=/run/postgresql&user=u", "postgresql://localhost/d?host=/run/postgresql&user=u"),
            ("postgres://u@:5433/d", "postgres://u@localhost:5433/d"),
        ] {
            let taken = postgres_url(url).unwrap();
            assert_eq!(taken, completed);
            let _: PgConnectOptions = taken.parse().unwrap();
        }
    }
}
