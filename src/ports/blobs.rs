//! Artifacts of runs: bytes stored under their digest.

use super::PortResult;
use crate::domain::{ArtifactKind, ArtifactRef, Digest, RunId};
use async_trait::async_trait;

/// Artifacts by digest, linked to the runs that made them.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Stores bytes, redacted, and links them to a run. Storing the same bytes again takes no more space.
    async fn put_artifact(&self, run: RunId, kind: ArtifactKind, name: &str, bytes: &[u8]) -> PortResult<ArtifactRef>;
    /// Returns an artifact of a run with its bytes.
    async fn artifact(&self, run: RunId, digest: &Digest) -> PortResult<Option<(ArtifactRef, Vec<u8>)>>;
    /// Returns a run's artifacts, oldest first.
    async fn artifacts(&self, run: RunId) -> PortResult<Vec<ArtifactRef>>;
}
