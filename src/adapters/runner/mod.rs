//! Runners: where checks run. This machine's sandbox, a host over SSH, or containers of a Docker engine.
//!
//! | file | duty |
//! |---|---|
//! | `settings` | the configured runners |
//! | `local` | the sandbox on this machine |
//! | `ssh`, `remote.sh` | a host: one connection per request, which a script carries out there |
//! | `docker` | one container per check, one volume per checkout |
//! | `sessions` | which sessions are live; anything else that Skep left on a runner is swept |
//! | `archive`, `client` | a checkout as a tar file; the programs `ssh` and `docker` |
//!
//! Invariant: a fault of a runner is an error of the port, never a failed check.

mod archive;
mod client;
mod docker;
mod local;
mod sessions;
pub mod settings;
mod ssh;

pub(super) use archive::{PathFilter, pack};
pub(super) use local::LocalSession;
pub use sessions::RemoteSessions;
pub(super) use ssh::{Reply, SshRunner};

use crate::domain::CheckSpec;
use crate::platform::access::broker::CommandAccess;
use crate::platform::process::{OnOutput, ProcessOutput, TRUNCATION_NOTICE};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use sessions::RemoteRunner;
use settings::Runner;
use std::path::Path;
use std::sync::Arc;

/// Upper bound on the stored output of a check, in bytes.
const MAX_LOG_BYTES: usize = 1024 * 1024;
/// The same without the notice that precedes truncated output.
const MAX_OUTPUT_BYTES: usize = MAX_LOG_BYTES - TRUNCATION_NOTICE.len();

/// A checkout on a runner, shared by the checks of one run in their order. Dropping it ends its processes and removes
/// it.
#[async_trait]
pub(super) trait RunnerSession: Send {
    /// Removes an old report, then runs the check's command to its end or timeout. The inner error describes why the
    /// report's path is unusable; it completes the sentence "its report path …". `access` applies on this machine only:
    /// nothing of it is sent to another one.
    /// `on_output` gets the output while it is written, if the runner shows it.
    async fn run(
        &mut self,
        spec: &CheckSpec,
        access: &CommandAccess,
        on_output: OnOutput,
    ) -> PortResult<Result<ProcessOutput, String>>;
    /// Reads the report the check wrote, up to `max_bytes`.
    async fn report(&mut self, path: &str, max_bytes: u64) -> PortResult<Result<Vec<u8>, NoReport>>;
    /// Ends its processes, removes it, and waits for both.
    async fn close(self: Box<Self>);
}

/// Why a report is unavailable.
pub(super) enum NoReport {
    /// The check did not write it.
    Missing,
    /// The file exists but is refused; the text completes the sentence "its report …".
    Unusable(String),
}

fn remote(name: &str, runner: &Runner) -> Arc<dyn RemoteRunner> {
    match runner {
        Runner::Ssh(ssh) => Arc::new(SshRunner::new(name, ssh)),
        Runner::Docker(docker) => Arc::new(docker::DockerRunner::new(name, docker)),
    }
}

/// Identifies a runner by name and settings: a runner that was reconfigured has sessions of its own.
fn key(name: &str, runner: &Runner) -> String {
    format!("{name} {runner:?}")
}

/// Sends the checkout at `dir` to a runner and opens a session on it. `scratch` holds the archive while it is sent.
pub(super) async fn open_session(
    name: &str,
    runner: &Runner,
    sessions: &RemoteSessions,
    dir: &Path,
    scratch: &Path,
) -> PortResult<Box<dyn RunnerSession>> {
    std::fs::create_dir_all(scratch)
        .map_err(|e| PortError::transient(format!("cannot create the folder {}: {e}", scratch.display())))?;
    let remote = remote(name, runner);
    // Packed first: a checkout that cannot be sent leaves nothing on the runner.
    let archive = archive::pack(dir, scratch, remote.file_owner(), None).await?;
    let guard = sessions.of_runner(&key(name, runner)).admit(&remote).await?;
    remote.clone().create_session(guard, archive).await
}

/// Removes what dead sessions left on a runner, if there may be something.
pub(super) async fn sweep(name: &str, runner: &Runner, sessions: &RemoteSessions) -> PortResult<()> {
    sessions.of_runner(&key(name, runner)).sweep(remote(name, runner).as_ref()).await
}

/// Removes everything these sessions' owner has on a runner.
pub(super) async fn purge(name: &str, runner: &Runner, sessions: &RemoteSessions) -> PortResult<()> {
    remote(name, runner).sweep(sessions.owner_id(), &[]).await
}

/// Checks that a runner is reachable and has the tools it needs. Returns a one-line summary.
pub(super) async fn probe(name: &str, runner: &Runner, sessions: &RemoteSessions) -> PortResult<String> {
    remote(name, runner).probe(sessions.owner_id()).await
}
