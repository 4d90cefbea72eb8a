//! Requests and results of backups, restores, verifications and cleanups.

use super::Finding;
use crate::domain::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Backup to make.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    /// File to write, or an existing folder in which the backup gets a name of its own.
    pub to: PathBuf,
    /// Whether the vault's key is part of it.
    pub with_vault_key: bool,
}

/// A backup that was written, or restored.
#[derive(Clone, Debug, Serialize)]
pub struct BackupReport {
    /// Id of the backup.
    pub id: String,
    /// The backup's file.
    pub path: String,
    /// Size of that file in bytes.
    pub bytes: u64,
    /// When it was started, in Unix milliseconds.
    pub created_at: Timestamp,
    /// Number of rows by table of the store.
    pub rows: BTreeMap<String, u64>,
    /// Number of files by kind: `mirrors`, `forge`, `sealed` (meters of attempts), `config`, `vault_key`.
    pub files: BTreeMap<String, u64>,
    /// Where the configuration is now; `null` when a backup was written, or has none.
    pub config: Option<String>,
    /// What a person should know or do.
    pub notes: Vec<String>,
}

/// Result of a verification.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verification {
    /// Number of verified things by kind: `runs`, `events`, `audit` (records), `artifacts`, `mirrors`, `changes` (of the
    /// local forge).
    pub checked: BTreeMap<String, u64>,
    /// What is wrong. Many damages of the store are cut to the first 1,000.
    pub problems: Vec<Finding>,
    /// Number of all problems.
    pub problems_total: u64,
}

/// Cleanup to do.
#[derive(Clone, Copy, Debug)]
pub struct CleanupRequest {
    /// Whether to report only.
    pub dry_run: bool,
    /// How long no check has filled a cache that is removed.
    pub caches_unused: Duration,
    /// How long ago the runs ended whose logs, transcripts, prompts and test reports are removed; `None` = none are.
    pub logs_older: Option<Duration>,
}

/// Result of a cleanup.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CleanupReport {
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// What was removed, would be removed, or is kept although nothing uses it.
    pub items: Vec<CleanupItem>,
    /// Bytes of disk that were freed, or would be.
    pub bytes: u64,
}

/// Something that nothing needs.
#[derive(Clone, Debug, Serialize)]
pub struct CleanupItem {
    /// `workspace`, `mirror`, `cache` or `logs`.
    pub kind: String,
    /// The run, the project, the folder of the cache, or the number of artifacts.
    pub name: String,
    /// Bytes of disk that it takes.
    pub bytes: u64,
    /// Why nothing needs it.
    pub why: String,
    /// Why it is kept all the same.
    pub kept: Option<String>,
}

impl CleanupItem {
    /// Creates an item.
    pub fn new(kind: &str, name: &str, bytes: u64) -> CleanupItem {
        CleanupItem { kind: kind.to_owned(), name: name.to_owned(), bytes, why: String::new(), kept: None }
    }
}
