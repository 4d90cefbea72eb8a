//! The programs through which places are reached: Skep's own tools, started with an emptied environment and Skep's own arguments.
//!
//! Invariant: no argument here is text of a repository or an engine but a check's command line, which is one argument of its own and
//! never read by a shell on this machine.

use crate::platform::process::{self, Input, ProcessOutput, Program};
use crate::platform::sandbox;
use crate::ports::{PortError, PortResult};
use crate::secrets::{redact_end, redact_live};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// For what is quick.
pub const QUICK: Duration = Duration::from_secs(60);
/// For what sends or removes a whole tree.
pub const TREE: Duration = Duration::from_secs(900);
/// How much of an ordinary answer is kept.
pub const SAID: usize = 64 * 1024;

/// A program and what it is always given.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its name, looked up on this process's PATH.
    pub program: &'static str,
    /// The package that has it.
    pub package: &'static str,
    /// Arguments that go before all others.
    pub args: Vec<OsString>,
    /// Environment besides PATH and the like.
    pub env: Vec<(&'static str, OsString)>,
}

/// One call.
pub struct Call<'a> {
    /// The arguments.
    pub args: Vec<OsString>,
    /// What it reads.
    pub input: Input,
    /// What it reads, where `input` says so.
    pub stdin: Vec<u8>,
    /// How long it may take.
    pub limit: Duration,
    /// How many bytes of each stream are kept: the last ones.
    pub keep: usize,
    /// Whether its output is bytes to be taken apart first: whoever keeps them takes secrets out.
    pub raw: bool,
    /// The place it is for.
    pub runner: &'a str,
}

impl<'a> Call<'a> {
    /// One without input that is quick.
    pub fn quick<A: Into<OsString>>(runner: &'a str, args: impl IntoIterator<Item = A>) -> Call<'a> {
        let args = args.into_iter().map(Into::into).collect();
        Call { args, input: Input::Closed, stdin: Vec::new(), limit: QUICK, keep: SAID, raw: false, runner }
    }
}

impl Client {
    /// Runs it to its end; any exit code is an answer. Live secrets are taken out of what it says.
    ///
    /// # Errors
    /// When it is not installed or cannot be started.
    pub async fn run(&self, call: Call<'_>) -> PortResult<ProcessOutput> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path)
            .map(|dir| dir.join(self.program))
            .find(|p| p.is_absolute() && p.is_file())
            .ok_or_else(|| self.missing(call.runner))?;
        let fixed = [("PATH", path), ("HOME", "/nonexistent".into()), ("LC_ALL", "C.UTF-8".into())];
        // A later start ends it by the mark, should this process be killed.
        let mark = [(sandbox::JOB_MARKER_VAR, OsString::from(sandbox::job_marker()))];
        let env = fixed.into_iter().chain(mark).chain(self.env.iter().cloned());
        let program = Program {
            name: program.into(),
            args: [self.args.clone(), call.args].concat(),
            env: env.map(|(name, value)| (name.into(), value)).collect(),
            dir: PathBuf::from("/"),
            stdin: call.stdin,
            timeout: call.limit,
            max_output: call.keep,
        };
        let run = process::run_with_input(&program, call.input).await;
        let mut ended = run.map_err(|e| {
            PortError::transient(format!(
                "the place {} cannot be used now: {} does not start: {e}",
                call.runner, self.program
            ))
        })?;
        // Here, before anybody shortens it: of a value that is cut in two nobody could tell. Which stream was cut its length tells.
        let clean = |bytes: &[u8]| match ended.truncated && bytes.len() >= call.keep {
            true => redact_end(bytes).into_owned(),
            false => redact_live(bytes).into_owned(),
        };
        let (out, err) = (if call.raw { None } else { Some(clean(&ended.stdout)) }, clean(&ended.stderr));
        if let Some(out) = out {
            ended.stdout = out;
        }
        ended.stderr = err;
        Ok(ended)
    }

    fn missing(&self, runner: &str) -> PortError {
        PortError::permanent(
            format!("the place {runner} cannot be used: the program {} is not on Skep's PATH", self.program),
            format!("install it: `apt-get install {}`", self.package),
        )
    }
}
