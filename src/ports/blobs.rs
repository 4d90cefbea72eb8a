//! Artifacts of runs: bytes stored under their digest.

use super::PortResult;
use crate::domain::{ArtifactKind, ArtifactRef, Digest, RunId, Timestamp};
use async_trait::async_trait;

/// The bytes of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactBytes {
    /// They are stored.
    Stored(Vec<u8>),
    /// They were removed, long after the runs that made them had ended.
    RemovedAt(Timestamp),
}

/// Artifacts that can be removed, or were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovableArtifacts {
    /// Their number.
    pub count: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// Artifacts by digest, linked to the runs that made them.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Stores bytes, redacted, and links them to a run. Storing the same bytes again takes no more space.
    async fn put_artifact(&self, run: RunId, kind: ArtifactKind, name: &str, bytes: &[u8]) -> PortResult<ArtifactRef>;
    /// Returns an artifact of a run with its bytes.
    async fn artifact(&self, run: RunId, digest: &Digest) -> PortResult<Option<(ArtifactRef, ArtifactBytes)>>;
    /// Returns a run's artifacts, oldest first.
    async fn artifacts(&self, run: RunId) -> PortResult<Vec<ArtifactRef>>;
    /// Returns how many logs, transcripts, prompts and test reports belong only to runs of this data directory that
    /// ended before `before`.
    async fn removable_artifacts(&self, before: Timestamp) -> PortResult<RemovableArtifacts>;
    /// Removes the bytes of those artifacts. Patches and reviews stay.
    async fn remove_artifacts(&self, before: Timestamp) -> PortResult<()>;
}
