//! How a command ends: documented exit codes, and errors that name the problem and the fix.

use crate::http::rest::wire::Problem;
use crate::service::host::{HostError, HostErrorKind};

/// Exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// Delivered, or done.
    Success = 0,
    /// A fault in Skep itself.
    Internal = 1,
    /// Wrong usage: an invalid option, an unknown name, a refused answer.
    Usage = 2,
    /// The run ended without delivering.
    Undelivered = 3,
    /// The run waits for a person.
    WaitsForPerson = 4,
    /// The service, the store or the forge cannot be reached; retrying may help.
    TryAgain = 75,
    /// The configuration or the data directory cannot be used.
    Config = 78,
}

/// The codes, for the help text.
pub const EXIT_CODES: &str = "\
Exit codes:
   0  delivered, or done
   1  internal error in Skep
   2  usage: invalid option, unknown name or refused answer
   3  the run ended without delivering, or a check failed
   4  the run waits for a person
  75  temporary failure: the service, the store or the forge cannot be reached
  78  the configuration or the data directory cannot be used";

impl ExitStatus {
    /// Returns the status for an HTTP problem. The stable code decides first, then the HTTP status.
    pub fn of(problem: &Problem) -> ExitStatus {
        match (problem.code.as_str(), problem.status) {
            (code, _) if code.starts_with("config") => ExitStatus::Config,
            (_, 408 | 423 | 429 | 502..=504) => ExitStatus::TryAgain,
            (_, 400..=499) => ExitStatus::Usage,
            _ => ExitStatus::Internal,
        }
    }
}

impl From<ExitStatus> for std::process::ExitCode {
    fn from(exit: ExitStatus) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}

/// Reason why a command stops early.
#[derive(Clone, Debug)]
pub enum Stop {
    /// It failed.
    Error(CliError),
    /// The reader of the output has closed it: end quietly.
    OutputClosed,
    /// The command left a run before it could report how the run ended.
    Left,
}

/// Failure of a command.
#[derive(Clone, Debug)]
pub struct CliError {
    /// The exit status.
    pub exit: ExitStatus,
    /// What failed and how to fix it; several entries where several things are wrong at once (a configuration).
    pub problems: Vec<Problem>,
}

impl CliError {
    /// Creates an error with one problem.
    pub fn new(exit: ExitStatus, code: &str, detail: impl Into<String>, fix: impl Into<String>) -> CliError {
        let status = match exit {
            ExitStatus::Success => 200,
            ExitStatus::Usage => 400,
            ExitStatus::Undelivered | ExitStatus::WaitsForPerson => 409,
            ExitStatus::TryAgain => 503,
            ExitStatus::Internal | ExitStatus::Config => 500,
        };
        let problem = Problem {
            kind: format!("urn:skep:problem:{code}"),
            title: code.replace('_', " "),
            status,
            detail: detail.into(),
            fix: fix.into(),
            code: code.to_owned(),
        };
        CliError { exit, problems: vec![problem] }
    }

    /// Creates an error about wrong usage.
    pub fn usage(detail: impl Into<String>, fix: impl Into<String>) -> CliError {
        Self::new(ExitStatus::Usage, "usage", detail, fix)
    }

    /// Creates an error about something that cannot be reached now.
    pub fn unavailable(detail: impl Into<String>, fix: impl Into<String>) -> CliError {
        Self::new(ExitStatus::TryAgain, "unavailable", detail, fix)
    }

    /// Creates an error about the configuration or the data directory.
    pub fn config(detail: impl Into<String>, fix: impl Into<String>) -> CliError {
        Self::new(ExitStatus::Config, "config", detail, fix)
    }

    /// Creates an error about a fault in Skep itself.
    pub fn internal(detail: impl Into<String>) -> CliError {
        HostError::internal(detail).into()
    }
}

impl From<Problem> for CliError {
    fn from(problem: Problem) -> Self {
        CliError { exit: ExitStatus::of(&problem), problems: vec![problem] }
    }
}

impl From<HostError> for CliError {
    fn from(error: HostError) -> Self {
        let (exit, code) = match error.kind {
            HostErrorKind::Usage => (ExitStatus::Usage, "usage"),
            HostErrorKind::Unavailable => (ExitStatus::TryAgain, "unavailable"),
            HostErrorKind::Locked => (ExitStatus::TryAgain, "data_dir_locked"),
            HostErrorKind::Config => (ExitStatus::Config, "config"),
            HostErrorKind::Internal => (ExitStatus::Internal, "fault"),
        };
        let problems = error.problems.into_iter().flat_map(|p| CliError::new(exit, code, p.detail, p.fix).problems);
        CliError { exit, problems: problems.collect() }
    }
}

impl From<crate::config::Problems> for CliError {
    fn from(problems: crate::config::Problems) -> Self {
        HostError::from(problems).into()
    }
}

impl From<CliError> for Stop {
    fn from(error: CliError) -> Self {
        Stop::Error(error)
    }
}

impl From<HostError> for Stop {
    fn from(error: HostError) -> Self {
        Stop::Error(error.into())
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Stop::OutputClosed,
            _ => CliError::new(
                ExitStatus::Internal,
                "output",
                format!("cannot write the output: {error}"),
                "check where it goes (a full disk, a closed terminal)",
            )
            .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_exit_codes() {
        let of = |status: u16, code: &str| {
            let mut error = CliError::usage("x", "y");
            let mut problem = error.problems.remove(0);
            (problem.status, problem.code) = (status, code.to_owned());
            ExitStatus::of(&problem)
        };
        let table = [
            (400, "usage", ExitStatus::Usage),
            (401, "unauthorized", ExitStatus::Usage),
            (404, "no_run", ExitStatus::Usage),
            (409, "not_an_answer", ExitStatus::Usage),
            (412, "moved", ExitStatus::Usage),
            (422, "invalid", ExitStatus::Usage),
            (429, "busy", ExitStatus::TryAgain),
            (503, "unavailable", ExitStatus::TryAgain),
            (504, "timeout", ExitStatus::TryAgain),
            (500, "fault", ExitStatus::Internal),
            (500, "config_unknown_key", ExitStatus::Config),
        ];
        for (status, code, exit) in table {
            assert_eq!(of(status, code), exit, "{status} {code}");
        }
    }

    #[test]
    fn a_closed_pipe_is_not_an_error() {
        assert!(matches!(Stop::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe)), Stop::OutputClosed));
    }
}
