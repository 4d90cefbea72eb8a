//! Runs git hardened: no content of a repository or worktree can make it execute anything.
//!
//! Invariant: no call without an explicit git directory, no inherited environment, no shell.

mod access;
mod credential;
pub mod durable_fs;
mod errors;
mod hardening;
mod heads;
mod index_lock;
mod leftovers;
mod local;
mod lock;
mod mirror;
mod object;
mod origin;
mod personal;
mod push;
mod read;
mod tags;
mod uncommitted;
mod working_copy;

pub use access::Access;
pub use errors::{command_error, output_tail};
pub use hardening::Identity;
pub use heads::RemoteHeads;
pub use index_lock::IndexLock;
pub use local::{LocalRepository, LocalView, Settings, WorkingCopy, is_on};
pub use lock::{LockGuard, Locks};
pub use mirror::Mirrors;
pub use object::{CommitParts, check_branch, check_sha, write_commit};
pub use origin::Origin;
pub use personal::{from_home, personal_settings};
pub use push::{BranchUpdate, lock_error};
pub use read::{
    commit_tree, first_parents, folder_names, is_ancestor, paths, read_blob, read_commit, read_objects, read_starts,
    with_repo,
};
pub use uncommitted::{UncommittedFiles, uncommitted_files};
pub use working_copy::WorkingCopyMove;

use crate::platform::process::{self, OnOutput, ProcessOutput, Program};
use crate::platform::sandbox;
use crate::ports::{GitCredential, PortError, PortResult};
use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Timeout for reading or writing a few objects or refs.
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout for operations on a complete tree.
pub const TREE_TIMEOUT: Duration = Duration::from_secs(600);
/// Timeout for network operations.
pub const NET_TIMEOUT: Duration = Duration::from_secs(1800);
/// Newest commits of a branch whose tags are fetched, and that worktrees have at most.
pub const HISTORY_COMMITS: usize = 500;
/// Oldest supported git: it has `merge-tree --write-tree` and `safe.bareRepository`.
const MIN_VERSION: (u32, u32) = (2, 38);
/// Upper bound on repetitions of one call after lock files of a killed git were removed. Each may reveal another.
const MAX_CLEARINGS: u32 = 4;
/// Upper bound on the output of an ordinary call, in bytes.
const MAX_OUTPUT_BYTES: usize = 64 * 1024 * 1024;

/// The git program of this machine, with a supported version.
#[derive(Debug)]
pub struct Git {
    program: PathBuf,
    identity: Identity,
}

impl Git {
    /// Finds git on this process's `PATH` and checks its version.
    ///
    /// # Errors
    /// Permanent when git is missing or too old.
    pub async fn find(identity: Identity) -> PortResult<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path)
            .map(|dir| dir.join("git"))
            .find(|p| p.is_absolute() && p.is_file())
            .ok_or_else(|| PortError::permanent("git is not on the PATH", "install git 2.38 or newer"))?;
        let git = Self { program, identity };
        let output = git.bare_call().arg("version").output("read the version of git").await?;
        let output = String::from_utf8_lossy(&output).trim().to_owned();
        match parse_version(&output) {
            Some(v) if v >= MIN_VERSION => Ok(git),
            _ => Err(PortError::permanent(
                format!(
                    "{} reports {output:?}; git {}.{} or newer is required",
                    git.program.display(),
                    MIN_VERSION.0,
                    MIN_VERSION.1
                ),
                "install a newer git and restart Skep",
            )),
        }
    }

    /// Returns the author of Skep's commits.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    fn bare_call(&self) -> Call {
        Call {
            program: self.program.clone(),
            git_dir: None,
            global: vec!["--literal-pathspecs".into()],
            credential: None,
            args: Vec::new(),
            env: hardening::environment(&self.program, &self.identity),
            dir: PathBuf::from("/"),
            stdin: Vec::new(),
            timeout: SHORT_TIMEOUT,
            max_bytes: MAX_OUTPUT_BYTES,
        }
    }

    /// Starts a call on a trusted git directory, without a worktree.
    pub fn call(&self, git_dir: &Path) -> Call {
        let mut call = self.bare_call();
        call.git_dir = Some(git_dir.to_owned());
        call.global.push(joined("--git-dir=", git_dir));
        call
    }
}

/// Parses `git version 2.47.3 (Apple Git-1)` as (2, 47).
fn parse_version(output: &str) -> Option<(u32, u32)> {
    let mut parts = output.strip_prefix("git version ")?.split(['.', ' ', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn joined(option: &str, value: &Path) -> OsString {
    let mut arg = OsString::from(option);
    arg.push(value);
    arg
}

/// Builder for one call of git.
#[derive(Debug)]
pub struct Call {
    program: PathBuf,
    git_dir: Option<PathBuf>,
    global: Vec<OsString>,
    credential: Option<(Origin, GitCredential)>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: PathBuf,
    stdin: Vec<u8>,
    timeout: Duration,
    max_bytes: usize,
}

impl Call {
    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }
    /// Appends arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }
    /// Works on a worktree whose index is stored elsewhere.
    #[must_use]
    pub fn on_worktree(mut self, work_tree: &Path, index: &Path) -> Self {
        self.global.push(joined("--work-tree=", work_tree));
        self.env.push(("GIT_INDEX_FILE".into(), index.into()));
        self.dir = work_tree.to_owned();
        self
    }
    /// Allows access to an origin, by that origin's protocol only, with the credential of its forge.
    #[must_use]
    pub fn with_origin(mut self, access: &Access) -> Self {
        self.global.extend(access.origin.options());
        self.credential = access.credential.clone().map(|credential| (access.origin.clone(), credential));
        self.env.extend(access.origin.environment());
        self.timeout = NET_TIMEOUT;
        self
    }
    /// Adds options that precede the subcommand, after those of every call.
    #[must_use]
    pub fn with_options(mut self, options: &[OsString]) -> Self {
        self.global.extend_from_slice(options);
        self
    }
    /// Also reads the objects in another folder.
    #[must_use]
    pub fn with_objects(mut self, objects: &Path) -> Self {
        // Quoted, because a colon separates folders.
        let mut list = OsString::from("\"");
        for byte in objects.as_os_str().as_bytes() {
            if matches!(byte, b'"' | b'\\') {
                list.push("\\");
            }
            list.push(OsStr::from_bytes(&[*byte]));
        }
        list.push("\"");
        self.env.push(("GIT_ALTERNATE_OBJECT_DIRECTORIES".into(), list));
        self
    }
    /// Allows pathspec magic, for subcommands that reject literal pathspecs. Their paths must then start with `./`.
    #[must_use]
    pub fn with_pathspec_magic(mut self) -> Self {
        self.global.retain(|option| option != "--literal-pathspecs");
        self
    }
    /// Sets the standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }
    /// Sets the timeout.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn program(&self) -> Program {
        let mut args = hardening::options();
        args.extend(self.global.iter().cloned());
        args.extend(self.args.iter().cloned());
        Program {
            name: self.program.clone().into(),
            args,
            env: [self.env.as_slice(), &[(sandbox::JOB_MARKER_VAR.into(), sandbox::git_job_marker().into())]].concat(),
            dir: self.dir.clone(),
            stdin: self.stdin.clone(),
            timeout: self.timeout,
            max_output: self.max_bytes,
        }
    }

    /// Runs the call, whatever its exit code.
    ///
    /// If lock files of a killed git are in the way in its own git directory, removes them and repeats the call.
    ///
    /// # Errors
    /// When git cannot be started or exceeds its timeout.
    pub async fn run(&self, doing: &str) -> PortResult<ProcessOutput> {
        let program = self.program();
        let mut clearings = 0;
        loop {
            let finished = match &self.credential {
                Some((origin, credential)) => {
                    let subcommand = program.args.len() - self.args.len();
                    credential::run(&program, subcommand, origin, credential).await
                }
                None => process::run(&program, None).await,
            };
            let finished = finished.map_err(|e| errors::start_error(doing, &e))?;
            if finished.timed_out {
                return Err(PortError::Unknown {
                    what: format!("cannot {doing}: git did not finish within {} s", self.timeout.as_secs()),
                });
            }
            let may_clear = !finished.ok() && clearings < MAX_CLEARINGS;
            let Some(git_dir) = self.git_dir.clone().filter(|_| may_clear) else { return Ok(finished) };
            let message = String::from_utf8_lossy(&finished.stderr).into_owned();
            let cleared = durable_fs::run_blocking(move || Ok(leftovers::remove_locks(&git_dir, &message))).await;
            if !cleared.unwrap_or(false) {
                return Ok(finished);
            }
            clearings += 1;
        }
    }

    /// Runs the call and requires exit code 0. Returns its output.
    ///
    /// # Errors
    /// When git fails, mapped by its message.
    pub async fn output(&self, doing: &str) -> PortResult<Vec<u8>> {
        let finished = self.run(doing).await?;
        if !finished.ok() {
            return Err(errors::command_error(doing, &finished));
        }
        if finished.truncated {
            return Err(PortError::permanent(
                format!("cannot {doing}: the output of git exceeds {} MiB", self.max_bytes >> 20),
                "reduce the size of the repository or the change",
            ));
        }
        Ok(finished.stdout)
    }

    /// Like [`Call::output`], as trimmed text.
    ///
    /// # Errors
    /// See [`Call::output`].
    pub async fn output_line(&self, doing: &str) -> PortResult<String> {
        Ok(String::from_utf8_lossy(&self.output(doing).await?).trim().to_owned())
    }

    /// Runs the call and passes each chunk of its output to `consume`, which may stop it early. Stores nothing.
    ///
    /// # Errors
    /// See [`Call::output`], unless it was stopped early.
    pub async fn stream_output(
        &self,
        doing: &str,
        consume: impl FnMut(&[u8]) -> ControlFlow<()> + Send + 'static,
    ) -> PortResult<()> {
        let mut program = self.program();
        program.max_output = 64 * 1024;
        let stopped = Arc::new(tokio::sync::Notify::new());
        let stop = Arc::clone(&stopped);
        let consumer = Mutex::new((consume, false));
        let on_output: OnOutput = Arc::new(move |is_err, chunk| {
            let Ok(mut consumer) = consumer.lock() else { return };
            if !is_err && !consumer.1 && (consumer.0)(chunk).is_break() {
                consumer.1 = true;
                stop.notify_one();
            }
        });
        let finished = tokio::select! {
            // Dropping the future kills the process group.
            () = stopped.notified() => return Ok(()),
            result = process::run(&program, Some(on_output)) => result.map_err(|e| errors::start_error(doing, &e))?,
        };
        if finished.timed_out {
            return Err(PortError::transient(format!("cannot {doing}: git did not finish in time")));
        }
        if finished.ok() { Ok(()) } else { Err(errors::command_error(doing, &finished)) }
    }

    /// Returns the first `max_bytes` of its output.
    ///
    /// # Errors
    /// See [`Call::output`].
    pub async fn output_head(&self, doing: &str, max_bytes: usize) -> PortResult<Vec<u8>> {
        let head = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&head);
        self.stream_output(doing, move |chunk| {
            let Ok(mut head) = shared.lock() else { return ControlFlow::Break(()) };
            let remaining = max_bytes.saturating_sub(head.len());
            head.extend_from_slice(&chunk[..chunk.len().min(remaining)]);
            if chunk.len() >= remaining { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await?;
        Ok(head.lock().map(|mut bytes| std::mem::take(&mut *bytes)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn parses_versions() {
        assert_eq!(parse_version("git version 2.47.3"), Some((2, 47)));
        assert_eq!(parse_version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(parse_version("git version 3.0-rc1"), Some((3, 0)));
        assert_eq!(parse_version("hub 1"), None);
    }
}
