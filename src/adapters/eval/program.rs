//! Skep itself as a subprocess, on a data directory and configuration of its own.

use crate::platform::process::{self, ProcessOutput, Program};
use crate::platform::terminal_text;
use crate::ports::{PortError, PortResult};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of output that are kept, from the end: enough for the last line of a run.
const MAX_OUTPUT_BYTES: usize = 8 * 1024 * 1024;
/// Upper bound of the end of an error output in a message, in bytes.
const MAX_ERROR_BYTES: usize = 600;

/// The program, with the environment of its subprocesses.
#[derive(Clone, Debug)]
pub struct SkepProgram {
    /// Path of the program.
    pub path: PathBuf,
    /// The complete environment, without variables that select a data directory, configuration or service.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory, to which relative paths of the configuration refer.
    pub dir: PathBuf,
}

/// Data directory and configuration file of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home<'p> {
    /// Data directory.
    pub data: &'p Path,
    /// Configuration file.
    pub config: &'p Path,
}

impl SkepProgram {
    /// Calls Skep with `--json`.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub(super) async fn call<A: AsRef<OsStr>>(
        &self,
        home: Home<'_>,
        args: impl IntoIterator<Item = A>,
        stdin: &[u8],
        timeout: Duration,
    ) -> PortResult<ProcessOutput> {
        let mut all: Vec<OsString> = vec!["--json".into(), "--data-dir".into(), home.data.into()];
        all.extend(["--config".into(), home.config.into()]);
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        let program = Program {
            name: self.path.clone().into(),
            args: all,
            env: self.env.clone(),
            dir: self.dir.clone(),
            stdin: stdin.to_vec(),
            timeout,
            max_output: MAX_OUTPUT_BYTES,
        };
        let ended = process::run(&program, None).await.map_err(|e| {
            PortError::permanent(format!("cannot start {}: {e}", self.path.display()), "reinstall Skep")
        })?;
        if ended.timed_out {
            let limit = humantime::format_duration(timeout);
            return Err(PortError::transient(format!("a subprocess of Skep did not end within {limit}")));
        }
        Ok(ended)
    }

    /// Calls Skep and parses the last line that it prints. Its exit code must be 0.
    ///
    /// # Errors
    /// When it fails.
    pub(super) async fn read<A: AsRef<OsStr>>(
        &self,
        home: Home<'_>,
        args: impl IntoIterator<Item = A>,
        timeout: Duration,
    ) -> PortResult<Value> {
        let ended = self.call(home, args, &[], timeout).await?;
        match (ended.code, last_object(&ended.stdout)) {
            (Some(0), Some(value)) => Ok(value),
            _ => Err(PortError::transient(failure(&ended))),
        }
    }
}

/// Returns the last line of an output as JSON.
pub(super) fn last_object(output: &[u8]) -> Option<Value> {
    let line = output.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty())?;
    serde_json::from_slice(line).ok()
}

/// Describes a call that failed, by what it printed.
pub(super) fn failure(ended: &ProcessOutput) -> String {
    let how = match (ended.code, ended.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    };
    let errors = terminal_text::tail(&ended.stderr, MAX_ERROR_BYTES);
    let detail = last_object(&ended.stderr).and_then(|problem| Some(problem["detail"].as_str()?.to_owned()));
    format!("Skep ended with {how}: {}", detail.unwrap_or_else(|| errors.trim().to_owned()))
}
