//! The databases' errors told by what to do next.

use crate::ports::PortError;
use sea_orm::sqlx::Error as SqlxError;
use sea_orm::{DbErr, RuntimeErr};

/// An error while reading: nothing can have changed.
pub(super) fn reading(place: &str, e: &DbErr) -> PortError {
    from_db(place, e, false)
}

/// An error while writing: when the connection was lost on the way, nobody knows whether it was written.
pub(super) fn writing(place: &str, e: &DbErr) -> PortError {
    from_db(place, e, true)
}

fn from_db(place: &str, e: &DbErr, wrote: bool) -> PortError {
    match e {
        DbErr::ConnectionAcquire(_) => away(place, &e.to_string()),
        DbErr::Conn(RuntimeErr::SqlxError(e)) => from_sqlx(place, e, false),
        DbErr::Exec(RuntimeErr::SqlxError(e)) | DbErr::Query(RuntimeErr::SqlxError(e)) => from_sqlx(place, e, wrote),
        _ => odd(place, &e.to_string()),
    }
}

/// As [`reading`] and [`writing`], for what speaks to the driver directly.
pub(super) fn from_sqlx(place: &str, e: &SqlxError, wrote: bool) -> PortError {
    match e {
        SqlxError::Database(d) => {
            let text = d.message();
            let code = d.code().unwrap_or_default();
            match code.parse::<u32>() {
                // SQLite's codes are numbers of at most four digits, Postgres' have five characters.
                Ok(code) if d.try_downcast_ref::<sea_orm::sqlx::sqlite::SqliteError>().is_some() => {
                    sqlite(place, code, text, wrote)
                }
                _ => postgres(place, &code, text, wrote),
            }
        }
        SqlxError::PoolTimedOut => away(place, "no connection became free in time"),
        SqlxError::PoolClosed => away(place, "it is being closed"),
        SqlxError::Io(_) | SqlxError::Tls(_) | SqlxError::Protocol(_) | SqlxError::WorkerCrashed => {
            lost(place, &e.to_string(), wrote)
        }
        SqlxError::Configuration(_) => PortError::permanent(
            format!("{place} cannot be opened: {e}"),
            "correct the store's URL: sqlite:///absolute/path/skep.db or postgres://user@host/database",
        ),
        _ => odd(place, &e.to_string()),
    }
}

fn lost(place: &str, why: &str, wrote: bool) -> PortError {
    if wrote {
        PortError::Unknown { what: format!("{place} did not say whether it wrote: {why}") }
    } else {
        away(place, why)
    }
}

fn away(place: &str, why: &str) -> PortError {
    PortError::transient(format!("{place} does not answer: {why}"))
}

fn odd(place: &str, why: &str) -> PortError {
    PortError::permanent(
        format!("{place} refused a statement: {why}"),
        "this is a fault of Skep or a damaged store: report it, with the message",
    )
}

fn sqlite(place: &str, code: u32, text: &str, wrote: bool) -> PortError {
    match code & 0xff {
        5 | 6 => PortError::transient(format!("{place} is locked by another process: {text}")),
        8 => PortError::permanent(
            format!("{place} cannot be written: {text}"),
            "make the file and its folder writable for the user Skep runs as",
        ),
        // An I/O error at a commit leaves open what reached the disk; a repeated fsync would not tell (P1).
        10 if wrote => PortError::Unknown { what: format!("{place}: the disk failed while writing: {text}") },
        10 => PortError::transient(format!("{place}: the disk failed: {text}")),
        11 | 26 => PortError::permanent(
            format!("{place} is damaged or not a Skep store: {text}"),
            "restore the store from a backup, or give the path of a Skep store",
        ),
        13 => PortError::transient(format!("{place}: the disk is full; free some space ({text})")),
        14 => PortError::permanent(
            format!("{place} cannot be opened: {text}"),
            "make its folder exist and be writable for the user Skep runs as",
        ),
        1 if text.contains("no such table") || text.contains("no such column") => behind(place, text),
        _ => odd(place, text),
    }
}

fn postgres(place: &str, code: &str, text: &str, wrote: bool) -> PortError {
    match code {
        "25006" => PortError::permanent(
            format!("{place} cannot be written: {text}"),
            "connect to the primary, or switch default_transaction_read_only off for this database",
        ),
        "42P01" | "42703" => behind(place, text),
        "42501" => PortError::permanent(format!("{place} denies a right: {text}"), "grant it to the user in the URL"),
        "3D000" => PortError::permanent(format!("{place} does not exist: {text}"), "create it: createdb <name>"),
        "53100" => PortError::transient(format!("{place}: its server's disk is full; free some space there ({text})")),
        "57014" => PortError::transient(format!("{place} took too long: {text}")),
        // The server cannot say "not written" when it is cut off at the very end.
        "57P01" | "57P02" | "57P03" => lost(place, text, wrote),
        "40001" | "40P01" | "55P03" => PortError::transient(format!("{place} is busy: {text}")),
        _ if code.starts_with("28") => PortError::permanent(
            format!("{place} refuses the login: {text}"),
            "correct user and password in the store's URL",
        ),
        _ if code.starts_with("08") => lost(place, text, wrote),
        _ if code.starts_with("53") || code.starts_with("58") => {
            PortError::transient(format!("{place} cannot at the moment: {text}"))
        }
        _ if code.starts_with("XX") => PortError::permanent(
            format!("{place} is damaged: {text}"),
            "look into the server's log; restore from a backup",
        ),
        _ => odd(place, text),
    }
}

fn behind(place: &str, text: &str) -> PortError {
    PortError::permanent(format!("{place} has an older schema than this Skep: {text}"), MIGRATE)
}

/// What to do about a schema that is behind.
pub(super) const MIGRATE: &str = "run `skep migrate`";

/// The same error once more, for every transition of a batch.
pub(super) fn again(e: &PortError) -> PortError {
    match e {
        PortError::Transient { what, after } => PortError::Transient { what: what.clone(), after: *after },
        PortError::Permanent { what, fix } => PortError::Permanent { what: what.clone(), fix: fix.clone() },
        PortError::Unknown { what } => PortError::Unknown { what: what.clone() },
        PortError::Fenced { what } => PortError::Fenced { what: what.clone() },
    }
}
