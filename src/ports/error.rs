//! Errors of port calls, classified by what to do next.

use std::time::Duration;

/// Result of a port's call.
pub type PortResult<T> = Result<T, PortError>;

/// Error of a port's call. Expected outcomes (a conflict, a red check, a stale head) are values, never errors.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The same call may succeed later.
    #[error("{what}")]
    Transient {
        /// What happened, to what, and why.
        what: String,
        /// When to retry, if the other side announced it.
        after: Option<Duration>,
    },
    /// The same call will fail again until a person changes something.
    #[error("{what}")]
    Permanent {
        /// What happened, to what, and why.
        what: String,
        /// What a person can do about it, in the imperative.
        fix: String,
    },
    /// The outcome is unknown (a timeout, a lost connection): observe before anything else.
    #[error("{what}")]
    Unknown {
        /// What happened, to what, and why.
        what: String,
    },
    /// The lease was lost to another owner: this process must stop acting for the run at once.
    #[error("{what}")]
    Fenced {
        /// Which lease.
        what: String,
    },
}

impl PortError {
    /// Creates a transient error.
    pub fn transient(what: impl Into<String>) -> Self {
        PortError::Transient { what: what.into(), after: None }
    }
    /// Creates a permanent error with its fix.
    pub fn permanent(what: impl Into<String>, fix: impl Into<String>) -> Self {
        PortError::Permanent { what: what.into(), fix: fix.into() }
    }
    /// Returns what a person can do about it.
    pub fn fix(&self) -> &str {
        match self {
            PortError::Permanent { fix, .. } => fix,
            PortError::Transient { .. } | PortError::Unknown { .. } => {
                "try again later; what a run needs is retried automatically"
            }
            PortError::Fenced { .. } => "nothing to do: another Skep process carries this run now",
        }
    }
}
