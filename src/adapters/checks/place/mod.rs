//! Where checks run: behind the walls of this machine, on a host over SSH, in containers of a Docker engine.
//!
//! | file | duty |
//! |---|---|
//! | `here` | Skep's own machine, in the sandbox |
//! | `ssh`, `remote.sh` | a host: one connection an order, a script of Skep's own that does it there |
//! | `docker` | a container for each check, a volume for the checks of one run |
//! | `ground` | whose folders and containers are still wanted; the rest is swept |
//! | `parcel`, `client` | a checkout as tar; the programs `ssh` and `docker` |
//!
//! Invariant: what goes wrong with a place is an error of the port, never a red check.

mod client;
mod docker;
mod ground;
mod here;
mod parcel;
mod ssh;

pub use ground::Grounds;
pub(super) use here::Here;

use super::super::grants::give::Given;
use super::super::places::Place;
use super::super::process::Finished;
use crate::domain::CheckSpec;
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use ground::Remote;
use std::path::Path;
use std::sync::Arc;

/// A checkout at a place, for the checks of one run in their order. Dropped, all of it there is ended and removed.
#[async_trait]
pub(super) trait Site: Send {
    /// Runs a check's command to its end or limit, its report's place empty before. The inner error says why that place is not
    /// usable, in words that finish the sentence "its report's place …". What is `given` stays on Skep's own machine.
    async fn run(&mut self, spec: &CheckSpec, given: &Given) -> PortResult<Result<Finished, String>>;
    /// The report it wrote, at most `most` bytes; the inner error finishes the sentence "its report …" or is [`Unwritten`].
    async fn report(&mut self, path: &str, most: u64) -> PortResult<Result<Vec<u8>, Unwritten>>;
    /// Ends and removes all of it, and waits for that.
    async fn leave(self: Box<Self>);
}

/// Why there is no report.
pub(super) enum Unwritten {
    /// It was not written.
    Missing,
    /// It is there and cannot be taken; finishes the sentence "its report …".
    Refused(String),
}

/// The other side of a place.
pub(super) fn remote(name: &str, place: &Place) -> Arc<dyn Remote> {
    match place {
        Place::Ssh(ssh) => Arc::new(ssh::Host::new(name, ssh)),
        Place::Docker(docker) => Arc::new(docker::Engine::new(name, docker)),
    }
}

/// Takes a checkout to a place.
pub(super) async fn settle(
    remote: Arc<dyn Remote>,
    grounds: &Grounds,
    key: &str,
    dir: &Path,
    scratch: &Path,
) -> PortResult<Box<dyn Site>> {
    std::fs::create_dir_all(scratch)
        .map_err(|e| PortError::transient(format!("the folder {} cannot be made: {e}", scratch.display())))?;
    // Packed first: nothing is made there for a checkout that can't be sent.
    let parcel = parcel::pack(dir, scratch, remote.owner()).await?;
    let guest = grounds.of(key).admit(&remote).await?;
    remote.clone().furnish(guest, parcel).await
}
