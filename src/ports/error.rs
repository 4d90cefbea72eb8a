//! How an act on the world can go wrong, told by what to do next.

use std::time::Duration;

/// A port's result.
pub type PortResult<T> = Result<T, PortError>;

/// A port's error. Expected outcomes (a conflict, a red check, a stale head) are values, never errors.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// It may work later: the same call again, after a while.
    #[error("{what}")]
    Transient {
        /// What happened, to what, and why.
        what: String,
        /// When to try again, if the other side said so.
        after: Option<Duration>,
    },
    /// The same call will fail again until somebody changes something.
    #[error("{what}")]
    Permanent {
        /// What happened, to what, and why.
        what: String,
        /// What a person can do about it.
        fix: String,
    },
    /// Nobody knows whether it happened (a time-out, a cut connection): look again before anything else.
    #[error("{what}")]
    Unknown {
        /// What happened, to what, and why.
        what: String,
    },
    /// The lease is another's: this process must stop acting for the run at once.
    #[error("{what}")]
    Fenced {
        /// Which lease.
        what: String,
    },
}

impl PortError {
    /// A transient error.
    pub fn transient(what: impl Into<String>) -> Self {
        PortError::Transient { what: what.into(), after: None }
    }
    /// A permanent error with its fix.
    pub fn permanent(what: impl Into<String>, fix: impl Into<String>) -> Self {
        PortError::Permanent { what: what.into(), fix: fix.into() }
    }
    /// What a person can do about it.
    pub fn fix(&self) -> &str {
        match self {
            PortError::Permanent { fix, .. } => fix,
            PortError::Transient { .. } | PortError::Unknown { .. } => "wait; it is tried again by itself",
            PortError::Fenced { .. } => "nothing: another Skep process carries this run now",
        }
    }
}
