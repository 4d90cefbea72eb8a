//! Converts the databases' errors into what to do next.
//!
//! An error is about a statement, or about the database as a whole: full, read-only, renamed, out of reach. While the
//! store is being opened, a person has to fix the latter first. Later, such errors count as transient: runs wait until
//! they are over, and callers receive an error that asks them to retry.

use crate::ports::PortError;
use sea_orm::sqlx::Error as SqlxError;
use sea_orm::sqlx::sqlite::SqliteError;
use sea_orm::{DbErr, RuntimeErr};

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Opening the store, or changing its schema.
    Open,
    /// A read: nothing can have changed.
    Read,
    /// A write: if the connection was lost on the way, the outcome is unknown.
    Write,
}

/// Meaning of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The connection is gone; a write may have happened.
    Lost,
    /// Passes by itself.
    Busy,
    /// The database as a whole cannot be used until a person acts.
    Unusable,
    /// Its data is damaged.
    Damaged,
}
use Meaning::{Busy, Damaged, Lost, Unusable};

/// A row of a table of errors: the code or its beginning, its meaning, the state in words, and what a person can do.
type Known<C> = (C, Meaning, &'static str, &'static str);

/// The fix for a schema that is behind.
pub(super) const MIGRATE: &str = "run `skep migrate`";
const OLDER_SCHEMA: &str = "has an older schema than this Skep expects";

/// Postgres: SQLSTATE, or its first two characters for the whole class. The first match counts.
const POSTGRES: &[Known<&str>] = &[
    ("25006", Unusable, "cannot be written", "connect to the primary, or make the database writable again"),
    ("25P03", Lost, "ended an idle transaction", ""),
    ("26000", Unusable, POOLED, POOLED_FIX),
    ("28", Unusable, "refused the login", "fix user and password in the store's URL"),
    ("3D000", Unusable, "does not exist", "create it: createdb <name>"),
    ("3F000", Unusable, OLDER_SCHEMA, MIGRATE),
    ("40003", Lost, "did not report the outcome", ""),
    ("40", Busy, "is busy", ""),
    ("42501", Unusable, "denied a privilege", "grant it to the user in the URL"),
    ("42703", Unusable, OLDER_SCHEMA, MIGRATE),
    ("42P01", Unusable, OLDER_SCHEMA, MIGRATE),
    ("42P05", Unusable, POOLED, POOLED_FIX),
    ("53100", Busy, "has no disk space left on its server; free some there", ""),
    ("53", Busy, "is temporarily out of resources", ""),
    ("55P03", Busy, "is busy", ""),
    ("55", Unusable, "does not accept connections", "allow them again: ALTER DATABASE <name> ALLOW_CONNECTIONS true"),
    ("57014", Busy, "took too long", ""),
    // A server that shuts down at the very end cannot report that nothing was written.
    ("57", Lost, "closed the connection", ""),
    ("58", Busy, "is temporarily out of resources", ""),
    ("08", Lost, "lost the connection", ""),
    ("XX", Damaged, "is damaged", "check the server's log; restore from a backup"),
];
const POOLED: &str = "is behind a connection pool that does not keep sessions";
const POOLED_FIX: &str = "connect to Postgres directly, or set pool_mode = session";

/// SQLite: the primary result code.
const SQLITE: &[Known<u32>] = &[
    (3, Unusable, "cannot be used", "make the file and its folder writable for the user Skep runs as"),
    (5, Busy, "is locked by another process", ""),
    (6, Busy, "is locked by another process", ""),
    (8, Unusable, "cannot be written", "make the file and its folder writable for the user Skep runs as"),
    // After an I/O error at a commit it is unknown what reached the disk, and a repeated fsync does not reveal it.
    (10, Lost, "is on a disk that failed", ""),
    (11, Damaged, "is damaged", "restore the store from a backup"),
    (13, Busy, "cannot be written: the disk is full; free some space", ""),
    (14, Unusable, "cannot be opened", "create its folder and make it writable for the user Skep runs as"),
    (26, Damaged, "is not a Skep store", "restore the store from a backup, or give the path of a Skep store"),
];

/// Converts an error of a database.
pub(super) fn from_db(location: &str, e: &DbErr, operation: Operation) -> PortError {
    match e {
        DbErr::ConnectionAcquire(_) => unavailable(location, &e.to_string()),
        // Without a connection nothing can have been written.
        DbErr::Conn(RuntimeErr::SqlxError(e)) if operation == Operation::Write => {
            from_sqlx(location, e, Operation::Read)
        }
        DbErr::Conn(RuntimeErr::SqlxError(e))
        | DbErr::Exec(RuntimeErr::SqlxError(e))
        | DbErr::Query(RuntimeErr::SqlxError(e)) => from_sqlx(location, e, operation),
        _ => unexpected(location, &e.to_string()),
    }
}

/// Like [`from_db`], for code that uses the driver directly.
pub(super) fn from_sqlx(location: &str, e: &SqlxError, operation: Operation) -> PortError {
    match e {
        SqlxError::Database(d) => {
            let (text, code) = (d.message(), d.code().unwrap_or_default());
            let known = match d.try_downcast_ref::<SqliteError>() {
                Some(_) => sqlite(code.parse().unwrap_or_default(), text),
                None => postgres(&code),
            };
            match known {
                Some((meaning, state, fix)) => meant(meaning, &format!("{location} {state}"), text, fix, operation),
                None => unexpected(location, text),
            }
        }
        SqlxError::PoolTimedOut => unavailable(location, "no connection became free in time"),
        SqlxError::PoolClosed => unavailable(location, "it is being closed"),
        SqlxError::Tls(_) if operation == Operation::Open => PortError::permanent(
            format!("{location}: no TLS connection is possible: {e}"),
            "turn on TLS at the server and check its certificate (sslrootcert), or set sslmode in the store's URL to \
             what the server supports",
        ),
        SqlxError::Io(_) | SqlxError::Tls(_) | SqlxError::Protocol(_) | SqlxError::WorkerCrashed => {
            meant(Lost, &format!("{location} lost the connection"), &e.to_string(), "", operation)
        }
        SqlxError::BeginFailed | SqlxError::InvalidSavePointStatement => unavailable(location, &e.to_string()),
        // The text may quote a part of the URL, and so of its password.
        SqlxError::Configuration(_) => {
            PortError::permanent(format!("{location} cannot be opened: its URL cannot be read"), URL_FORMS)
        }
        _ => unexpected(location, &e.to_string()),
    }
}

/// The forms of a store's URL.
pub(super) const URL_FORMS: &str =
    "fix the store's URL: sqlite:///absolute/path/skep.db or postgres://user@host/database";

fn postgres(code: &str) -> Option<(Meaning, &'static str, &'static str)> {
    let found = POSTGRES.iter().find(|(known, ..)| code.starts_with(known));
    found.map(|(_, meaning, state, fix)| (*meaning, *state, *fix))
}

fn sqlite(code: u32, text: &str) -> Option<(Meaning, &'static str, &'static str)> {
    if text.contains("no such table") || text.contains("no such column") {
        return Some((Unusable, OLDER_SCHEMA, MIGRATE));
    }
    let found = SQLITE.iter().find(|(known, ..)| code & 0xff == *known);
    found.map(|(_, meaning, state, fix)| (*meaning, *state, *fix))
}

fn meant(meaning: Meaning, state: &str, text: &str, fix: &str, operation: Operation) -> PortError {
    match (meaning, operation) {
        (Lost, Operation::Write) => {
            PortError::Unknown { what: format!("{state}; the outcome of a write is unknown: {text}") }
        }
        (Lost | Busy, _) => PortError::transient(format!("{state}: {text}")),
        (Damaged, _) | (Unusable, Operation::Open) => PortError::permanent(format!("{state}: {text}"), fix),
        (Unusable, _) => PortError::transient(format!("{state}: {text}; {fix}")),
    }
}

fn unavailable(location: &str, why: &str) -> PortError {
    PortError::transient(format!("{location} is unavailable: {why}"))
}

fn unexpected(location: &str, why: &str) -> PortError {
    PortError::permanent(
        format!("{location} refused a statement: {why}"),
        "this is a bug in Skep or a damaged store: report it with this message",
    )
}

/// Copies an error, for every transition of a batch.
pub(super) fn duplicate(e: &PortError) -> PortError {
    match e {
        PortError::Transient { what, after } => PortError::Transient { what: what.clone(), after: *after },
        PortError::Permanent { what, fix } => PortError::Permanent { what: what.clone(), fix: fix.clone() },
        PortError::Unknown { what } => PortError::Unknown { what: what.clone() },
        PortError::Fenced { what } => PortError::Fenced { what: what.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(error: &PortError) -> &'static str {
        match error {
            PortError::Transient { .. } => "transient",
            PortError::Permanent { .. } => "permanent",
            PortError::Unknown { .. } => "unknown",
            PortError::Fenced { .. } => "fenced",
        }
    }

    /// The classes while opening, reading and writing.
    fn classes(known: Option<(Meaning, &'static str, &'static str)>) -> [&'static str; 3] {
        [Operation::Open, Operation::Read, Operation::Write].map(|operation| match known {
            Some((meaning, state, fix)) => class(&meant(meaning, state, "x", fix, operation)),
            None => class(&unexpected("x", "x")),
        })
    }

    #[test]
    fn a_database_that_cannot_be_used_is_waited_for_once_it_was_open() {
        let waits = ["permanent", "transient", "transient"];
        // A failover, a renamed or closed database, a changed password, a schema that is being restored.
        for code in ["25006", "3D000", "55000", "28P01", "28000", "42501", "42P01", "3F000", "42P05"] {
            assert_eq!(classes(postgres(code)), waits, "{code}");
        }
        for code in [8, 14, 3, 1032] {
            assert_eq!(classes(sqlite(code, "x")), waits, "{code}");
        }
        assert_eq!(classes(sqlite(1, "no such table: run")), waits);
    }

    #[test]
    fn what_passes_is_waited_for_always() {
        for code in ["53100", "53300", "40001", "40P01", "55P03", "57014", "58030"] {
            assert_eq!(classes(postgres(code)), ["transient"; 3], "{code}");
        }
        for code in [5, 6, 13, 517] {
            assert_eq!(classes(sqlite(code, "x")), ["transient"; 3], "{code}");
        }
    }

    #[test]
    fn the_outcome_of_a_write_on_a_lost_connection_is_unknown() {
        let lost = ["transient", "transient", "unknown"];
        for code in ["57P01", "57P02", "57P03", "57P04", "57P05", "08006", "40003", "25P03"] {
            assert_eq!(classes(postgres(code)), lost, "{code}");
        }
        // SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC.
        for code in [10, 778, 1034] {
            assert_eq!(classes(sqlite(code, "x")), lost, "{code}");
        }
    }

    #[test]
    fn damage_and_refused_statements_need_a_person() {
        for known in [postgres("XX001"), postgres("22021"), postgres("23505"), sqlite(11, "x"), sqlite(19, "x")] {
            assert_eq!(classes(known), ["permanent"; 3]);
        }
    }

    #[test]
    fn every_state_that_needs_a_person_names_a_fix() {
        let postgres = POSTGRES.iter().map(|(_, meaning, _, fix)| (meaning, fix));
        for (meaning, fix) in postgres.chain(SQLITE.iter().map(|(_, meaning, _, fix)| (meaning, fix))) {
            assert_eq!(matches!(meaning, Unusable | Damaged), !fix.is_empty());
        }
    }
}
