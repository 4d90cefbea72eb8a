//! Artifacts and logs of a run.

use super::word::words;
use crate::domain;
use crate::service::artifacts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// Kind of an artifact.
    ArtifactKind = domain::ArtifactKind {
        /// Diff of an attempt.
        Patch = "patch",
        /// Conversation with an engine.
        Transcript = "transcript",
        /// Output of a command.
        Log = "log",
        /// JUnit report of a check.
        TestReport = "test_report",
        /// Review of a change.
        Review = "review",
        /// Prompt of an attempt.
        Prompt = "prompt",
    }
}

/// Reference to stored bytes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// SHA-256 of the bytes, 64 hex digits.
    pub digest: String,
    /// Kind.
    pub kind: ArtifactKind,
    /// File name for people.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
}

impl From<&domain::ArtifactRef> for Artifact {
    fn from(artifact: &domain::ArtifactRef) -> Artifact {
        Artifact {
            digest: artifact.digest.as_str().to_owned(),
            kind: artifact.kind.into(),
            name: artifact.name.clone(),
            size: artifact.size,
        }
    }
}

/// Log, transcript or test report of a run. The artifact with this digest has its bytes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Log {
    /// SHA-256 of the bytes, 64 hex digits.
    pub digest: String,
    /// Kind.
    #[schema(example = "log")]
    pub kind: ArtifactKind,
    /// File name for people.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Attempt that wrote it (`a1`); `null` for checks.
    pub attempt: Option<String>,
    /// Task it belongs to (`t1`), if known.
    pub task: Option<String>,
}

impl From<artifacts::Log> for Log {
    fn from(log: artifacts::Log) -> Log {
        let Artifact { digest, kind, name, size } = (&log.artifact).into();
        let (attempt, task) = (log.attempt.map(|id| id.to_string()), log.task.map(|id| id.to_string()));
        Log { digest, kind, name, size, attempt, task }
    }
}
