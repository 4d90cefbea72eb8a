//! Backup files: a tar archive with the parts of the store, the files of a data directory that cannot be made again,
//! and last a manifest with the size and SHA-256 of each of them. Without its manifest, a backup is incomplete.

mod content;
mod reader;
mod writer;

pub use content::{BackupFile, EntryPath, data_files};
pub use reader::{BackupReader, Item};
pub use writer::{BackupWriter, WrittenBackup};

use crate::domain::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the archive's layout.
pub const FORMAT: u32 = 1;
/// Name of the manifest in the archive.
const MANIFEST: &str = "manifest.json";
/// Name of the entry with the SHA-256 of the manifest.
const MANIFEST_DIGEST: &str = "manifest.json.sha256";

/// Size and digest of one file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256, in hex.
    pub sha256: String,
}

/// Description of a backup: its last file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`] of the Skep that wrote it.
    pub format: u32,
    /// Id of the backup.
    pub id: String,
    /// When it was started, in Unix milliseconds.
    pub created_at: Timestamp,
    /// Version of the Skep that wrote it.
    pub skep: String,
    /// `sqlite` or `postgres`.
    pub database: String,
    /// Migrations of the store's schema, in order.
    pub schema: Vec<String>,
    /// Version of the stored documents.
    pub document_version: i64,
    /// Id of the data directory.
    pub home: String,
    /// Number of rows by table.
    pub rows: BTreeMap<String, u64>,
    /// Every other file, by its path in the archive.
    pub files: BTreeMap<String, FileRecord>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
