//! Starts the client programs of remote runners (`ssh`, `docker`) with a cleared environment and Skep's own arguments.
//!
//! Invariant: no argument is text from a repository or an engine, except a check's command line, which is one argument
//! of its own and never read by a shell on this machine.

use crate::platform::process::{self, Input, ProcessOutput, Program};
use crate::platform::sandbox;
use crate::ports::{PortError, PortResult};
use crate::secrets::{redact_end, redact_live};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Timeout of a short request.
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout of sending or removing a complete tree.
pub const TREE_TIMEOUT: Duration = Duration::from_secs(900);
/// Upper bound on the output of an ordinary call, per stream.
pub const MAX_REPLY_BYTES: usize = 64 * 1024;

/// A client program and its fixed arguments.
#[derive(Clone, Debug)]
pub struct Client {
    /// Name of the program, looked up on this process's PATH.
    pub program: &'static str,
    /// Name of the package that provides it.
    pub package: &'static str,
    /// Arguments that precede those of each call.
    pub args: Vec<OsString>,
    /// Environment in addition to PATH, HOME and LC_ALL.
    pub env: Vec<(&'static str, OsString)>,
}

/// One call of a client program.
pub struct Call<'a> {
    /// Arguments.
    pub args: Vec<OsString>,
    /// Source of its standard input.
    pub input: Input,
    /// Bytes it reads first.
    pub stdin: Vec<u8>,
    /// Timeout.
    pub timeout: Duration,
    /// Number of bytes stored of each stream: the last ones.
    pub max_bytes: usize,
    /// Whether standard output is binary. Its secrets are then not redacted here: the caller redacts what it stores.
    pub is_binary: bool,
    /// Name of the runner, for messages.
    pub runner: &'a str,
}

impl<'a> Call<'a> {
    /// Creates a short call without input.
    pub fn short<A: Into<OsString>>(runner: &'a str, args: impl IntoIterator<Item = A>) -> Call<'a> {
        let args = args.into_iter().map(Into::into).collect();
        Call {
            args,
            input: Input::Closed,
            stdin: Vec::new(),
            timeout: SHORT_TIMEOUT,
            max_bytes: MAX_REPLY_BYTES,
            is_binary: false,
            runner,
        }
    }
}

impl Client {
    /// Runs the program to its end, whatever its exit code, and redacts live secrets in its output.
    ///
    /// # Errors
    /// When the program is not installed or cannot be started.
    pub async fn run(&self, call: Call<'_>) -> PortResult<ProcessOutput> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path)
            .map(|dir| dir.join(self.program))
            .find(|p| p.is_absolute() && p.is_file())
            .ok_or_else(|| self.not_installed(call.runner))?;
        let fixed = [("PATH", path), ("HOME", "/nonexistent".into()), ("LC_ALL", "C.UTF-8".into())];
        // If this process is killed, the next process finds the program by this mark and ends it.
        let mark = [(sandbox::JOB_MARKER_VAR, OsString::from(sandbox::job_marker()))];
        let env = fixed.into_iter().chain(mark).chain(self.env.iter().cloned());
        let program = Program {
            name: program.into(),
            args: [self.args.clone(), call.args].concat(),
            env: env.map(|(name, value)| (name.into(), value)).collect(),
            dir: PathBuf::from("/"),
            stdin: call.stdin,
            timeout: call.timeout,
            max_output: call.max_bytes,
        };
        let result = process::run_with_input(&program, call.input).await;
        let mut finished = result.map_err(|e| {
            PortError::transient(format!("runner {} is unavailable: cannot start {}: {e}", call.runner, self.program))
        })?;
        // Before anything shortens the output: a secret cut in two could not be recognized. A stream was truncated
        // exactly when it fills its buffer.
        let redact = |bytes: &[u8]| match finished.truncated && bytes.len() >= call.max_bytes {
            true => redact_end(bytes).into_owned(),
            false => redact_live(bytes).into_owned(),
        };
        let stdout = (!call.is_binary).then(|| redact(&finished.stdout));
        let stderr = redact(&finished.stderr);
        if let Some(stdout) = stdout {
            finished.stdout = stdout;
        }
        finished.stderr = stderr;
        Ok(finished)
    }

    fn not_installed(&self, runner: &str) -> PortError {
        PortError::permanent(
            format!("runner {runner} is unusable: the program {} is not on Skep's PATH", self.program),
            format!("install it: `apt-get install {}`", self.package),
        )
    }
}
