//! Converts the databases' errors into what to do next.

use crate::ports::PortError;
use sea_orm::sqlx::Error as SqlxError;
use sea_orm::{DbErr, RuntimeErr};

/// Converts an error of a read: nothing can have changed.
pub(super) fn reading(location: &str, e: &DbErr) -> PortError {
    from_db(location, e, false)
}

/// Converts an error of a write: if the connection was lost on the way, the outcome is unknown.
pub(super) fn writing(location: &str, e: &DbErr) -> PortError {
    from_db(location, e, true)
}

fn from_db(location: &str, e: &DbErr, wrote: bool) -> PortError {
    match e {
        DbErr::ConnectionAcquire(_) => unavailable(location, &e.to_string()),
        DbErr::Conn(RuntimeErr::SqlxError(e)) => from_sqlx(location, e, false),
        DbErr::Exec(RuntimeErr::SqlxError(e)) | DbErr::Query(RuntimeErr::SqlxError(e)) => from_sqlx(location, e, wrote),
        _ => unexpected(location, &e.to_string()),
    }
}

/// Like [`reading`] and [`writing`], for code that uses the driver directly.
pub(super) fn from_sqlx(location: &str, e: &SqlxError, wrote: bool) -> PortError {
    match e {
        SqlxError::Database(d) => {
            let text = d.message();
            let code = d.code().unwrap_or_default();
            match code.parse::<u32>() {
                // SQLite's codes are numbers of at most four digits, those of Postgres have five characters.
                Ok(code) if d.try_downcast_ref::<sea_orm::sqlx::sqlite::SqliteError>().is_some() => {
                    sqlite(location, code, text, wrote)
                }
                _ => postgres(location, &code, text, wrote),
            }
        }
        SqlxError::PoolTimedOut => unavailable(location, "no connection became free in time"),
        SqlxError::PoolClosed => unavailable(location, "it is being closed"),
        SqlxError::Io(_) | SqlxError::Tls(_) | SqlxError::Protocol(_) | SqlxError::WorkerCrashed => {
            lost(location, &e.to_string(), wrote)
        }
        SqlxError::Configuration(_) => PortError::permanent(
            format!("{location} cannot be opened: {e}"),
            "fix the store's URL: sqlite:///absolute/path/skep.db or postgres://user@host/database",
        ),
        _ => unexpected(location, &e.to_string()),
    }
}

fn lost(location: &str, why: &str, wrote: bool) -> PortError {
    if wrote {
        PortError::Unknown { what: format!("{location}: the outcome of a write is unknown: {why}") }
    } else {
        unavailable(location, why)
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

fn sqlite(location: &str, code: u32, text: &str, wrote: bool) -> PortError {
    match code & 0xff {
        5 | 6 => PortError::transient(format!("{location} is locked by another process: {text}")),
        8 => PortError::permanent(
            format!("{location} cannot be written: {text}"),
            "make the file and its folder writable for the user Skep runs as",
        ),
        // After an I/O error at a commit it is unknown what reached the disk, and a repeated fsync does not reveal it.
        10 if wrote => PortError::Unknown { what: format!("{location}: the disk failed while writing: {text}") },
        10 => PortError::transient(format!("{location}: the disk failed: {text}")),
        11 | 26 => PortError::permanent(
            format!("{location} is damaged or not a Skep store: {text}"),
            "restore the store from a backup, or give the path of a Skep store",
        ),
        13 => PortError::transient(format!("{location}: the disk is full; free some space ({text})")),
        14 => PortError::permanent(
            format!("{location} cannot be opened: {text}"),
            "create its folder and make it writable for the user Skep runs as",
        ),
        1 if text.contains("no such table") || text.contains("no such column") => behind(location, text),
        _ => unexpected(location, text),
    }
}

fn postgres(location: &str, code: &str, text: &str, wrote: bool) -> PortError {
    match code {
        "25006" => PortError::permanent(
            format!("{location} cannot be written: {text}"),
            "connect to the primary, or turn off default_transaction_read_only for this database",
        ),
        "42P01" | "42703" => behind(location, text),
        "42501" => {
            PortError::permanent(format!("{location} denied a privilege: {text}"), "grant it to the user in the URL")
        }
        "3D000" => PortError::permanent(format!("{location} does not exist: {text}"), "create it: createdb <name>"),
        "53100" => {
            PortError::transient(format!("{location}: its server's disk is full; free some space there ({text})"))
        }
        "57014" => PortError::transient(format!("{location} took too long: {text}")),
        // A server that shuts down at the very end cannot report that nothing was written.
        "57P01" | "57P02" | "57P03" => lost(location, text, wrote),
        "40001" | "40P01" | "55P03" => PortError::transient(format!("{location} is busy: {text}")),
        _ if code.starts_with("28") => PortError::permanent(
            format!("{location} refused the login: {text}"),
            "fix user and password in the store's URL",
        ),
        _ if code.starts_with("08") => lost(location, text, wrote),
        _ if code.starts_with("53") || code.starts_with("58") => {
            PortError::transient(format!("{location} is temporarily out of resources: {text}"))
        }
        _ if code.starts_with("XX") => PortError::permanent(
            format!("{location} is damaged: {text}"),
            "check the server's log; restore from a backup",
        ),
        _ => unexpected(location, text),
    }
}

fn behind(location: &str, text: &str) -> PortError {
    PortError::permanent(format!("{location} has an older schema than this Skep expects: {text}"), MIGRATE)
}

/// The fix for a schema that is behind.
pub(super) const MIGRATE: &str = "run `skep migrate`";

/// Copies an error, for every transition of a batch.
pub(super) fn duplicate(e: &PortError) -> PortError {
    match e {
        PortError::Transient { what, after } => PortError::Transient { what: what.clone(), after: *after },
        PortError::Permanent { what, fix } => PortError::Permanent { what: what.clone(), fix: fix.clone() },
        PortError::Unknown { what } => PortError::Unknown { what: what.clone() },
        PortError::Fenced { what } => PortError::Fenced { what: what.clone() },
    }
}
