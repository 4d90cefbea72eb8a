//! The git program, sealed: nothing a repository or a worktree holds can make it run anything.
//!
//! Invariant: no call without an explicit git dir, no inherited environment, no shell.

pub mod durable_fs;
mod errors;
mod hardening;
mod lock;
mod mirror;
mod object;
mod origin;
mod read;

pub use errors::{command_error, output_tail};
pub use hardening::Identity;
pub use lock::{LockGuard, Locks};
pub use mirror::{Mirrors, RemoteHeads};
pub use object::{CommitParts, check_branch, check_sha, write_commit};
pub use origin::Origin;
pub use read::{commit_tree, is_ancestor, read_blob, read_commit, root_names, with_repo};

use crate::platform::process::{self, OnOutput, ProcessOutput, Program};
use crate::platform::sandbox;
use crate::ports::{PortError, PortResult};
use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// For what reads and writes a few objects or refs.
pub const QUICK: Duration = Duration::from_secs(60);
/// For what goes over a whole tree.
pub const TREE: Duration = Duration::from_secs(600);
/// For what goes over the network.
pub const NET: Duration = Duration::from_secs(1800);
/// The oldest git with everything used here (`merge-tree --write-tree`, `safe.bareRepository`).
const OLDEST: (u32, u32) = (2, 38);
/// How much of an ordinary answer is kept.
const KEEP: usize = 64 * 1024 * 1024;

/// The git program on this machine, its version checked.
#[derive(Debug)]
pub struct Git {
    program: PathBuf,
    identity: Identity,
}

impl Git {
    /// Finds git on this process's `PATH` and checks its version.
    ///
    /// # Errors
    /// Permanent when there is none or it is too old.
    pub async fn find(identity: Identity) -> PortResult<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path)
            .map(|dir| dir.join("git"))
            .find(|p| p.is_absolute() && p.is_file())
            .ok_or_else(|| PortError::permanent("git is not on the PATH", "install git 2.38 or newer"))?;
        let git = Self { program, identity };
        let said = git.bare_call().arg("version").output("ask git for its version").await?;
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        match version(&said) {
            Some(v) if v >= OLDEST => Ok(git),
            _ => Err(PortError::permanent(
                format!("{} says {said:?}; at least git {}.{} is needed", git.program.display(), OLDEST.0, OLDEST.1),
                "install a newer git and start again",
            )),
        }
    }

    /// Who Skep's commits are by.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    fn bare_call(&self) -> Call {
        Call {
            program: self.program.clone(),
            git_dir: None,
            global: vec!["--literal-pathspecs".into()],
            args: Vec::new(),
            env: hardening::environment(&self.program, &self.identity),
            dir: PathBuf::from("/"),
            stdin: Vec::new(),
            limit: QUICK,
            keep: KEEP,
        }
    }

    /// A call on a trusted git dir, without a worktree.
    pub fn call(&self, git_dir: &Path) -> Call {
        let mut call = self.bare_call();
        call.git_dir = Some(git_dir.to_owned());
        call.global.push(joined("--git-dir=", git_dir));
        call
    }
}

/// `git version 2.47.3 (Apple Git-1)` -> (2, 47).
fn version(said: &str) -> Option<(u32, u32)> {
    let mut parts = said.strip_prefix("git version ")?.split(['.', ' ', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn joined(option: &str, value: &Path) -> OsString {
    let mut whole = OsString::from(option);
    whole.push(value);
    whole
}

/// One call of git, being put together.
#[derive(Debug)]
pub struct Call {
    program: PathBuf,
    git_dir: Option<PathBuf>,
    global: Vec<OsString>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: PathBuf,
    stdin: Vec<u8>,
    limit: Duration,
    keep: usize,
}

impl Call {
    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }
    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }
    /// On a worktree with its index kept elsewhere.
    #[must_use]
    pub fn on_worktree(mut self, work_tree: &Path, index: &Path) -> Self {
        self.global.push(joined("--work-tree=", work_tree));
        self.env.push(("GIT_INDEX_FILE".into(), index.into()));
        self.dir = work_tree.to_owned();
        self
    }
    /// Lets it speak to an origin, by that origin's protocol only.
    #[must_use]
    pub fn with_origin(mut self, origin: &Origin) -> Self {
        self.global.extend(origin.options());
        self.env.extend(origin.environment());
        self.limit = NET;
        self
    }
    /// For the verbs that refuse literal pathspecs; their paths must start with `./` then.
    #[must_use]
    pub fn with_pathspec_magic(mut self) -> Self {
        self.global.retain(|option| option != "--literal-pathspecs");
        self
    }
    /// What it reads.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }
    /// How long it may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
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
            timeout: self.limit,
            max_output: self.keep,
        }
    }

    /// Runs it; any exit code is an answer.
    ///
    /// A lock file that a killed git left behind is removed and the call repeated once.
    ///
    /// # Errors
    /// When it cannot be started or its time is up.
    pub async fn run(&self, doing: &str) -> PortResult<ProcessOutput> {
        let program = self.program();
        let mut cleared = false;
        loop {
            let done = process::run(&program, None).await.map_err(|e| errors::start(doing, &e))?;
            if done.timed_out {
                return Err(PortError::Unknown {
                    what: format!("cannot {doing}: git did not end within {} s", self.limit.as_secs()),
                });
            }
            if done.ok() || cleared {
                return Ok(done);
            }
            cleared = match &self.git_dir {
                Some(dir) => errors::remove_stale_lock(dir, &done.stderr),
                None => false,
            };
            if !cleared {
                return Ok(done);
            }
        }
    }

    /// Runs it and wants exit code 0; gives its output.
    ///
    /// # Errors
    /// As told by what git said.
    pub async fn output(&self, doing: &str) -> PortResult<Vec<u8>> {
        let done = self.run(doing).await?;
        if !done.ok() {
            return Err(errors::command_error(doing, &done));
        }
        if done.truncated {
            return Err(PortError::permanent(
                format!("cannot {doing}: git's answer is over {} MiB", self.keep >> 20),
                "the repository or the change is larger than Skep handles; make it smaller",
            ));
        }
        Ok(done.stdout)
    }

    /// Like `output`, as one trimmed line.
    ///
    /// # Errors
    /// As told by what git said.
    pub async fn output_line(&self, doing: &str) -> PortResult<String> {
        Ok(String::from_utf8_lossy(&self.output(doing).await?).trim().to_owned())
    }

    /// Runs it and shows each chunk of its output to `remote_heads`, which may end it early. Nothing is kept.
    ///
    /// # Errors
    /// As told by what git said, unless it was ended early.
    pub async fn stream_output(
        &self,
        doing: &str,
        look: impl FnMut(&[u8]) -> ControlFlow<()> + Send + 'static,
    ) -> PortResult<()> {
        let mut program = self.program();
        program.max_output = 64 * 1024;
        let enough = Arc::new(tokio::sync::Notify::new());
        let tell = Arc::clone(&enough);
        let look = Mutex::new((look, false));
        let on_output: OnOutput = Arc::new(move |is_err, chunk| {
            let Ok(mut look) = look.lock() else { return };
            if !is_err && !look.1 && (look.0)(chunk).is_break() {
                look.1 = true;
                tell.notify_one();
            }
        });
        let done = tokio::select! {
            // Dropping the run kills the process group.
            () = enough.notified() => return Ok(()),
            done = process::run(&program, Some(on_output)) => done.map_err(|e| errors::start(doing, &e))?,
        };
        if done.timed_out {
            return Err(PortError::transient(format!("cannot {doing}: git did not end in time")));
        }
        if done.ok() { Ok(()) } else { Err(errors::command_error(doing, &done)) }
    }

    /// The first `most` bytes of its output.
    ///
    /// # Errors
    /// As told by what git said.
    pub async fn output_head(&self, doing: &str, most: usize) -> PortResult<Vec<u8>> {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&kept);
        self.stream_output(doing, move |chunk| {
            let Ok(mut kept) = into.lock() else { return ControlFlow::Break(()) };
            let room = most.saturating_sub(kept.len());
            kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() >= room { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await?;
        Ok(kept.lock().map(|mut k| std::mem::take(&mut *k)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("git version 2.47.3"), Some((2, 47)));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version("git version 3.0-rc1"), Some((3, 0)));
        assert_eq!(version("hub 1"), None);
    }
}
