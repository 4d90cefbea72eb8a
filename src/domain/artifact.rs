//! Immutable results, identified by their digest.

use super::id::Digest;
use serde::{Deserialize, Serialize};

/// The kind of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    /// A unified diff.
    Patch,
    /// The transcript of an engine session.
    Transcript,
    /// A command's output.
    Log,
    /// A JUnit XML report.
    TestReport,
    /// A reviewer's findings.
    Review,
    /// The exact prompt an engine was given.
    Prompt,
}

/// A reference to stored bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Its kind.
    pub kind: ArtifactKind,
    /// Its display name (`test.log`).
    pub name: String,
    /// Size in bytes.
    pub size: u64,
}
