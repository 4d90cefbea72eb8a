//! Errors of use cases: a kind, a stable code, what failed and how to fix it. Each surface renders them in its own
//! form.

use crate::actors::RuntimeError;
use crate::domain::{Refusal, RunId};
use crate::ports::PortError;
use crate::secrets::redact_all;

/// Result of a use case.
pub type ServiceResult<T> = Result<T, ServiceError>;

/// Maximum number of characters of a caller's text that an error repeats.
const MAX_SHOWN: usize = 64;
/// Fix for a quarantined run.
const FIX_QUARANTINE: &str = "Restore the store from a backup, or use the program version that wrote the run; then lift the quarantine. \
    Other runs are not affected";

/// Kind of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be parsed.
    Malformed,
    /// The caller may not do it.
    Forbidden,
    /// The subject does not exist.
    NotFound,
    /// It does not fit the current state.
    Conflict,
    /// The run is not at the event the caller expected.
    Moved,
    /// The input is not usable.
    Invalid,
    /// The caller has called too often.
    TooMany,
    /// It may work later.
    Unavailable,
}

/// Error of a use case.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct ServiceError {
    /// Kind.
    pub kind: ErrorKind,
    /// Stable code.
    pub code: &'static str,
    /// What failed, to what, and why.
    pub detail: String,
    /// What to do next.
    pub fix: String,
}

impl ServiceError {
    /// Creates an error. Secrets are redacted from its texts.
    pub fn new(kind: ErrorKind, code: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> ServiceError {
        ServiceError {
            kind,
            code,
            detail: redact_all(&detail.into()).into_owned(),
            fix: redact_all(&fix.into()).into_owned(),
        }
    }
    /// The caller may not do it.
    pub fn forbidden(code: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> ServiceError {
        ServiceError::new(ErrorKind::Forbidden, code, detail, fix)
    }
    /// The subject does not exist.
    pub fn not_found(code: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> ServiceError {
        ServiceError::new(ErrorKind::NotFound, code, detail, fix)
    }
    /// It does not fit the current state.
    pub fn conflict(code: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> ServiceError {
        ServiceError::new(ErrorKind::Conflict, code, detail, fix)
    }
    /// The input is not usable.
    pub fn invalid(detail: impl Into<String>, fix: impl Into<String>) -> ServiceError {
        ServiceError::new(ErrorKind::Invalid, "invalid", detail, fix)
    }
    /// It may work later.
    pub fn unavailable(detail: impl Into<String>, fix: impl Into<String>) -> ServiceError {
        ServiceError::new(ErrorKind::Unavailable, "unavailable", detail, fix)
    }
    /// No run has this id.
    pub fn no_run(id: &str) -> ServiceError {
        let fix = "List the runs; an id may be shortened to four or more of its digits";
        ServiceError::not_found("no_run", format!("there is no run {}", shown(id)), fix)
    }
    /// A shortened id matches several runs.
    pub fn several_runs(id: &str, runs: &[RunId]) -> ServiceError {
        let list: Vec<String> = runs.iter().map(RunId::abbrev).collect();
        let detail = format!("{} matches several runs: {}", shown(id), list.join(", "));
        ServiceError::conflict("several_runs", detail, "Give more digits")
    }
    /// No project has this name.
    pub fn no_project(name: &str) -> ServiceError {
        ServiceError::not_found("no_project", format!("there is no project {}", shown(name)), "List the projects")
    }
    /// A permanent error of a port that means the subject does not exist.
    pub fn missing(code: &'static str, error: PortError) -> ServiceError {
        match error {
            PortError::Permanent { what, fix } => ServiceError::not_found(code, what, fix),
            other => other.into(),
        }
    }
}

impl From<PortError> for ServiceError {
    fn from(error: PortError) -> ServiceError {
        let fix = error.fix().to_owned();
        match error {
            PortError::Permanent { what, .. } => ServiceError::conflict("not_possible", what, fix),
            PortError::Transient { what, .. } | PortError::Unknown { what } => ServiceError::unavailable(what, fix),
            PortError::Fenced { what } => ServiceError::conflict("elsewhere", what, fix),
        }
    }
}

impl From<Refusal> for ServiceError {
    fn from(refusal: Refusal) -> ServiceError {
        let (kind, fix) = match &refusal {
            Refusal::NotAllowed { .. } => (ErrorKind::Forbidden, "Ask a person who is allowed to"),
            Refusal::NoBlock { .. } => (ErrorKind::NotFound, "Show the run: its escalations name the open blocks"),
            Refusal::Invalid { .. } => (ErrorKind::Invalid, "Correct it and send it again"),
            Refusal::NoEngine { .. } => {
                (ErrorKind::Invalid, "Name one, such as `command: ./fix.sh`, or configure it as `role.ROLE.engine`")
            }
            Refusal::NotAnAnswer { .. } => {
                (ErrorKind::Invalid, "Show the run: each escalation lists the answers that lift it")
            }
            Refusal::Ended { .. } => (ErrorKind::Conflict, "Retry the run, or open a new one"),
            Refusal::OutOfPlace { .. } | Refusal::Repeated { .. } => {
                (ErrorKind::Conflict, "Show the run and choose an action that fits")
            }
        };
        ServiceError::new(kind, refusal.code(), refusal.to_string(), fix)
    }
}

impl From<RuntimeError> for ServiceError {
    fn from(rejected: RuntimeError) -> ServiceError {
        let text = rejected.to_string();
        match rejected {
            RuntimeError::Refused(refusal) => refusal.into(),
            RuntimeError::NoRun(id) => ServiceError::no_run(&id.to_string()),
            RuntimeError::Moved { .. } => {
                ServiceError::new(ErrorKind::Moved, "moved", text, "Show the run and repeat what still fits")
            }
            RuntimeError::Invalid { what, fix } => ServiceError::invalid(what, fix),
            RuntimeError::SettingsDiffer(what) => ServiceError::conflict(
                "settings_differ",
                what,
                "Set `on_difference` to `apply` or `keep`, or `reuse_open_run` to false for another run",
            ),
            RuntimeError::Unavailable(what) => ServiceError::unavailable(what, "Retry once it is available"),
            RuntimeError::Elsewhere(_) => ServiceError::conflict(
                "elsewhere",
                text,
                "Send the request to the process that carries the run, or wait",
            ),
            RuntimeError::Quarantined(what) => ServiceError::conflict("quarantined", what, FIX_QUARANTINE),
        }
    }
}

/// Quotes a caller's text for an error: redacted, one line, shortened, without control characters.
pub fn shown(text: &str) -> String {
    // Redacted before it is cut: part of a secret is not recognized as one.
    let clean: String = redact_all(text).chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
    format!("\"{clean}\"")
}
