//! How a command ends: the documented exit codes, and errors as one line what and why, one line what to do.

use crate::http::view::Problem;

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Delivered, or done.
    Done = 0,
    /// A fault in Skep itself.
    Fault = 1,
    /// What was asked is wrong or does not fit: usage, unknown names, refused answers.
    Usage = 2,
    /// The run ended without delivering.
    Undelivered = 3,
    /// The run waits for a person.
    Waits = 4,
    /// Try again later: the service, the store or the forge is away.
    Again = 75,
    /// The configuration or the data directory cannot be used.
    Config = 78,
}

/// The codes for the help text.
pub const EXIT_CODES: &str = "\
Exit codes:
   0  delivered, or done
   1  a fault in Skep itself
   2  usage: the command, a name or an answer does not fit
   3  the run ended without delivering
   4  the run waits for a person
  75  try again later: the service, the store or the forge is away
  78  the configuration or the data directory cannot be used";

impl Exit {
    /// The code of an HTTP problem. The stable code decides first, the status where it says nothing special.
    pub fn of(problem: &Problem) -> Exit {
        match (problem.code.as_str(), problem.status) {
            (code, _) if code.starts_with("config") => Exit::Config,
            (_, 408 | 423 | 429 | 502..=504) => Exit::Again,
            (_, 400..=499) => Exit::Usage,
            _ => Exit::Fault,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}

/// Why a command stops early.
#[derive(Clone, Debug)]
pub enum Stop {
    /// It cannot be done.
    CliError(CliError),
    /// Nobody reads the output any more: end quietly.
    Closed,
}

/// What cannot be done, with the exit code.
#[derive(Clone, Debug)]
pub struct CliError {
    /// The exit code.
    pub exit: Exit,
    /// What, why, and what to do; several where several things are wrong at once (a configuration).
    pub problems: Vec<Problem>,
}

impl CliError {
    /// One thing that is wrong.
    pub fn new(exit: Exit, code: &str, detail: impl Into<String>, fix: impl Into<String>) -> CliError {
        let status = match exit {
            Exit::Done => 200,
            Exit::Usage => 400,
            Exit::Undelivered | Exit::Waits => 409,
            Exit::Again => 503,
            Exit::Fault | Exit::Config => 500,
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
    /// The command does not fit.
    pub fn usage(detail: impl Into<String>, fix: impl Into<String>) -> CliError {
        Self::new(Exit::Usage, "usage", detail, fix)
    }
    /// Something is away for now.
    pub fn away(detail: impl Into<String>, fix: impl Into<String>) -> CliError {
        Self::new(Exit::Again, "away", detail, fix)
    }
    /// The configuration or the data directory cannot be used.
    pub fn config(detail: impl Into<String>, fix: impl Into<String>) -> CliError {
        Self::new(Exit::Config, "config", detail, fix)
    }
    /// A fault in Skep itself.
    pub fn fault(detail: impl Into<String>) -> CliError {
        Self::new(
            Exit::Fault,
            "fault",
            detail,
            "This is a fault in Skep; run it again with -vv and report what it says",
        )
    }
}

impl From<Problem> for CliError {
    fn from(problem: Problem) -> Self {
        CliError { exit: Exit::of(&problem), problems: vec![problem] }
    }
}

impl From<crate::config::Problems> for CliError {
    fn from(problems: crate::config::Problems) -> Self {
        let each = |p: crate::config::Problem| {
            let found = if p.found.is_empty() { String::new() } else { format!(", {}", p.found) };
            CliError::config(format!("{} ({}{found}): {}", p.at, p.source, p.why), p.fix).problems
        };
        CliError { exit: Exit::Config, problems: problems.0.into_iter().flat_map(each).collect() }
    }
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<crate::config::Problems>() {
            Ok(problems) => problems.into(),
            Err(error) => CliError::fault(format!("{error:#}")),
        }
    }
}

impl From<CliError> for Stop {
    fn from(trouble: CliError) -> Self {
        Stop::CliError(trouble)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Stop::Closed,
            _ => CliError::new(
                Exit::Fault,
                "output",
                format!("the output cannot be written: {error}"),
                "Check where it goes (a full disk, a closed terminal)",
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
            let mut trouble = CliError::usage("x", "y");
            let mut problem = trouble.problems.remove(0);
            (problem.status, problem.code) = (status, code.to_owned());
            Exit::of(&problem)
        };
        let table = [
            (400, "usage", Exit::Usage),
            (401, "unauthorized", Exit::Usage),
            (404, "no_run", Exit::Usage),
            (409, "not_an_answer", Exit::Usage),
            (412, "moved", Exit::Usage),
            (422, "invalid", Exit::Usage),
            (429, "busy", Exit::Again),
            (503, "away", Exit::Again),
            (504, "timeout", Exit::Again),
            (500, "fault", Exit::Fault),
            (500, "config_unknown_key", Exit::Config),
        ];
        for (status, code, exit) in table {
            assert_eq!(of(status, code), exit, "{status} {code}");
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        assert!(matches!(Stop::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe)), Stop::Closed));
    }
}
