//! Immutable results, known by their digest.

use super::id::Digest;
use serde::{Deserialize, Serialize};

/// What an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    /// A unified diff.
    Patch,
    /// What an engine said and did.
    Transcript,
    /// A command's output.
    Log,
    /// A JUnit XML report.
    TestReport,
    /// A reviewer's findings.
    Review,
    /// What an engine was told, word for word.
    Prompt,
}

/// A reference to stored bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// What it is.
    pub kind: ArtifactKind,
    /// A name for people (`test.log`).
    pub name: String,
    /// Size in bytes.
    pub size: u64,
}
