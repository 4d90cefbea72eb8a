//! Skep's own machine: the checkout as it lies there, commands in the sandbox.

use super::LOG_KEPT;
use super::{NoReport, RunnerSession};
use crate::domain::CheckSpec;
use crate::platform::access::broker::CommandAccess;
use crate::platform::process::ProcessOutput;
use crate::platform::rooted_fs::{RootedDir, RootedFsError};
use crate::platform::sandbox::{Job, Purpose, Sandbox};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The checkout and its cache.
pub struct LocalSession {
    sandbox: Sandbox,
    dir: PathBuf,
    cache: PathBuf,
    tree: RootedDir,
}

impl LocalSession {
    /// The checkout at `dir`.
    pub fn new(sandbox: &Sandbox, dir: &Path, cache: &Path) -> PortResult<LocalSession> {
        let tree = RootedDir::open(dir).map_err(|e| not_run(dir, &e))?;
        Ok(LocalSession { sandbox: sandbox.clone(), dir: dir.to_owned(), cache: cache.to_owned(), tree })
    }
}

#[async_trait]
impl RunnerSession for LocalSession {
    async fn run(&mut self, spec: &CheckSpec, given: &CommandAccess) -> PortResult<Result<ProcessOutput, String>> {
        if let Some(path) = &spec.junit {
            // A report that came with the commit must not pass for this run's.
            match self.tree.remove(path) {
                Ok(()) | Err(RootedFsError::Missing(_)) => {}
                Err(why) => return Ok(Err(format!("is not usable: {why}"))),
            }
        }
        std::fs::create_dir_all(&self.cache).map_err(|e| not_run(&self.cache, &e))?;
        let scratch = tempfile::tempdir_in(&self.cache).map_err(|e| not_run(&self.cache, &e))?;
        let env = given.env();
        let job = Job {
            command: &spec.command,
            purpose: Purpose::Check,
            dir: &self.dir,
            cache: &self.cache,
            scratch: scratch.path(),
            env: &env,
            timeout: Duration::from_secs(spec.timeout_secs.max(1)),
            max_output_tokens: LOG_KEPT,
            proxy: given.endpoint(),
        };
        let ended = self.sandbox.run(&job, None).await.map_err(|e| not_run(&self.dir, &e))?;
        Ok(Ok(ended))
    }

    async fn report(&mut self, path: &str, most: u64) -> PortResult<Result<Vec<u8>, NoReport>> {
        Ok(self.tree.read(path, most).map_err(|why| match why {
            RootedFsError::Missing(_) => NoReport::Missing,
            why => NoReport::Refused(format!("is not usable: {why}")),
        }))
    }

    async fn leave(self: Box<Self>) {}
}

fn not_run(runner: &Path, e: &std::io::Error) -> PortError {
    use std::io::ErrorKind;
    let what = format!("checks cannot run at {}: {e}", runner.display());
    match e.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            PortError::permanent(what, "look whether the folder was removed")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            PortError::permanent(what, "let the user Skep runs as write there")
        }
        ErrorKind::InvalidInput => PortError::permanent(what, "take the NUL character out of the check's command"),
        _ => PortError::transient(what),
    }
}
