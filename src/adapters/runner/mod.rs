//! Where checks run: behind the walls of this machine, on a host over SSH, in containers of a Docker engine.
//!
//! | file | duty |
//! |---|---|
//! | `here` | Skep's own machine, in the sandbox |
//! | `ssh`, `remote.sh` | a host: one connection an order, a script of Skep's own that does it there |
//! | `docker` | a container for each check, a volume for the checks of one run |
//! | `sessions` | whose folders and containers are still wanted; the rest is swept |
//! | `archive`, `client` | a checkout as tar; the programs `ssh` and `docker` |
//!
//! Invariant: what goes wrong with a place is an error of the port, never a red check.

mod archive;
mod client;
mod docker;
mod local;
mod sessions;
pub mod settings;
mod ssh;

pub(super) use local::LocalSession;
pub use sessions::RemoteSessions;

use crate::adapters::runner::settings::Runner;
use crate::domain::CheckSpec;
use crate::platform::access::broker::CommandAccess;
use crate::platform::process::{ProcessOutput, TRUNCATION_NOTICE};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use sessions::RemoteRunner;
use std::path::Path;
use std::sync::Arc;

/// The most of a check's output that is kept.
pub(super) const LOG_BYTES_MAX: usize = 1024 * 1024;
/// The same without the words that stand before the rest of a cut one.
pub(super) const LOG_KEPT: usize = LOG_BYTES_MAX - TRUNCATION_NOTICE.len();

/// A checkout at a place, for the checks of one run in their order. Dropped, all of it there is ended and removed.
#[async_trait]
pub(crate) trait RunnerSession: Send {
    /// Runs a check's command to its end or limit, its report's place empty before. The inner error says why that place is not
    /// usable, in words that finish the sentence "its report's place …". What is `given` stays on Skep's own machine.
    async fn run(&mut self, spec: &CheckSpec, given: &CommandAccess) -> PortResult<Result<ProcessOutput, String>>;
    /// The report it wrote, at most `most` bytes; the inner error finishes the sentence "its report …" or is [`NoReport`].
    async fn report(&mut self, path: &str, most: u64) -> PortResult<Result<Vec<u8>, NoReport>>;
    /// Ends and removes all of it, and waits for that.
    async fn leave(self: Box<Self>);
}

/// Why there is no report.
pub(crate) enum NoReport {
    /// It was not written.
    Missing,
    /// It is there and cannot be taken; finishes the sentence "its report …".
    Refused(String),
}

/// The other side of a place.
pub(super) fn remote(name: &str, runner: &Runner) -> Arc<dyn RemoteRunner> {
    match runner {
        Runner::Ssh(ssh) => Arc::new(ssh::SshRunner::new(name, ssh)),
        Runner::Docker(docker) => Arc::new(docker::DockerRunner::new(name, docker)),
    }
}

/// Takes a checkout to a place.
pub(super) async fn open_session(
    remote: Arc<dyn RemoteRunner>,
    sessions: &RemoteSessions,
    key: &str,
    dir: &Path,
    scratch: &Path,
) -> PortResult<Box<dyn RunnerSession>> {
    std::fs::create_dir_all(scratch)
        .map_err(|e| PortError::transient(format!("the folder {} cannot be made: {e}", scratch.display())))?;
    // Packed first: nothing is made there for a checkout that can't be sent.
    let archive = archive::pack(dir, scratch, remote.owner()).await?;
    let guard = sessions.of(key).admit(&remote).await?;
    remote.clone().create_session(guard, archive).await
}
