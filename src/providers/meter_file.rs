//! The meter file: the usage a meter has counted. Written atomically, validated when read.
//!
//! It survives a kill of the process. It is not synced to disk: after a power failure the last calls may be missing.

use crate::domain::Metered;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Maximum size of a meter file in bytes.
const BYTES_MAX: u64 = 256 * 1024;

/// File of one meter.
#[derive(Debug)]
pub struct MeterFile {
    file: PathBuf,
    failed: AtomicBool,
}

impl MeterFile {
    /// Creates the handle of this file; its directory is created when it is written.
    pub fn new(file: &Path) -> MeterFile {
        MeterFile { file: file.to_owned(), failed: AtomicBool::new(false) }
    }

    /// Writes the usage. If that fails, the file is removed: unknown usage is charged in full, while an outdated file
    /// would charge too little.
    pub fn write(&self, counted: &Metered) {
        let Err(error) = replace(&self.file, counted) else { return };
        let gone = std::fs::remove_file(&self.file);
        if !self.failed.swap(true, Ordering::Relaxed) {
            let gone = gone.is_ok() || !self.file.exists();
            tracing::warn!(%error, removed = gone, file = %self.file.display(), "cannot write the usage of an attempt to its meter file; if Skep were killed now, the attempt would be charged in full");
        }
    }
}

fn replace(file: &Path, counted: &Metered) -> std::io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir)?;
    let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
    temporary.write_all(&serde_json::to_vec(counted)?)?;
    temporary.persist(file).map(drop).map_err(|e| e.error)
}

/// Reads the usage; `None` = the file does not exist or is not a meter file.
pub fn read(file: &Path) -> Option<Metered> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).ok()?;
    opened.take(BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > BYTES_MAX {
        return None;
    }
    let counted: Metered = serde_json::from_slice(&bytes).ok()?;
    (!counted.used.is_absurd()).then_some(counted)
}
