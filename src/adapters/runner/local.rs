//! The local runner: uses the checkout in place and runs its commands in the sandbox of this machine.

use super::{MAX_OUTPUT_BYTES, NoReport, RunnerSession};
use crate::domain::CheckSpec;
use crate::platform::access::broker::CommandAccess;
use crate::platform::process::{OnOutput, ProcessOutput};
use crate::platform::rooted_fs::{RootedDir, RootedFsError};
use crate::platform::sandbox::{Job, Purpose, Sandbox};
use crate::ports::{PortError, PortResult, Repo};
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A checkout on this machine and its cache folder.
pub(in crate::adapters) struct LocalSession {
    sandbox: Sandbox,
    dir: PathBuf,
    origin: Option<PathBuf>,
    cache: PathBuf,
    tree: RootedDir,
}

impl LocalSession {
    /// Opens a session on the checkout of `repo` at `dir`.
    pub(in crate::adapters) fn new(
        sandbox: &Sandbox,
        repo: &Repo,
        dir: &Path,
        cache: &Path,
    ) -> PortResult<LocalSession> {
        let tree = RootedDir::open(dir).map_err(|e| cannot_run(dir, &e))?;
        let origin = repo.local_origin().map(Path::to_owned);
        let (dir, cache) = (dir.to_owned(), cache.to_owned());
        Ok(LocalSession { sandbox: sandbox.clone(), dir, origin, cache, tree })
    }
}

#[async_trait]
impl RunnerSession for LocalSession {
    async fn run(
        &mut self,
        spec: &CheckSpec,
        access: &CommandAccess,
        on_output: OnOutput,
    ) -> PortResult<Result<ProcessOutput, String>> {
        if let Some(path) = &spec.junit {
            // A report that is part of the commit must not pass for the one of this check.
            match self.tree.remove(path) {
                Ok(()) | Err(RootedFsError::Missing(_)) => {}
                Err(why) => return Ok(Err(format!("is unusable: {why}"))),
            }
        }
        std::fs::create_dir_all(&self.cache).map_err(|e| cannot_run(&self.cache, &e))?;
        let scratch = tempfile::tempdir_in(&self.cache).map_err(|e| cannot_run(&self.cache, &e))?;
        let env = access.env();
        let job = Job {
            command: &spec.command,
            purpose: Purpose::Check,
            origin: self.origin.as_deref(),
            dir: &self.dir,
            cache: &self.cache,
            scratch: scratch.path(),
            env: &env,
            timeout: Duration::from_secs(spec.timeout_secs.max(1)),
            max_output: MAX_OUTPUT_BYTES,
            proxy: access.endpoint(),
        };
        let finished = self.sandbox.run(&job, Some(on_output)).await.map_err(|e| cannot_run(&self.dir, &e))?;
        Ok(Ok(finished))
    }

    async fn report(&mut self, path: &str, max_bytes: u64) -> PortResult<Result<Vec<u8>, NoReport>> {
        Ok(self.tree.read(path, max_bytes).map_err(|why| match why {
            RootedFsError::Missing(_) => NoReport::Missing,
            why => NoReport::Unusable(format!("is unusable: {why}")),
        }))
    }

    async fn close(self: Box<Self>) {}
}

fn cannot_run(dir: &Path, e: &std::io::Error) -> PortError {
    use std::io::ErrorKind;
    let what = format!("cannot run checks in {}: {e}", dir.display());
    match e.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            PortError::permanent(what, "check whether the folder was removed")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            PortError::permanent(what, "give the user Skep runs as write access to it")
        }
        ErrorKind::InvalidInput => PortError::permanent(what, "remove the NUL character from the check's command"),
        _ => PortError::transient(what),
    }
}
