//! Errors that the runtime returns to its callers.

use crate::domain::{Refusal, RunId};
use crate::ports::PortError;

/// Error returned to a caller outside the runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The domain refused the event; nothing changed.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// No run has this id.
    #[error("there is no run {0}")]
    NoRun(RunId),
    /// The run is no longer at the event the caller had seen.
    #[error("the run has moved on to event {seq}; reload it and repeat what still applies")]
    Moved {
        /// The run's last event.
        seq: u64,
    },
    /// The request cannot be carried out as it is.
    #[error("{what}. {fix}")]
    Invalid {
        /// What is wrong.
        what: String,
        /// What to do about it.
        fix: String,
    },
    /// The open run of the same goal has other settings than the requested ones; nothing changed.
    #[error("{0}")]
    SettingsDiffer(String),
    /// The same request may succeed later.
    #[error("{0}")]
    Unavailable(String),
    /// Another process drives this run.
    #[error(
        "run {0} is carried by another process or belongs to another data directory; send the request to that process"
    )]
    Elsewhere(RunId),
    /// The run's stored state cannot be used.
    #[error("{0}")]
    Quarantined(String),
}

impl From<PortError> for RuntimeError {
    fn from(error: PortError) -> RuntimeError {
        match error {
            PortError::Permanent { what, fix } => RuntimeError::Invalid { what, fix },
            other => RuntimeError::Unavailable(other.to_string()),
        }
    }
}
