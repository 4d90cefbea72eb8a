//! What a meter has counted, in a file: written in one step, read with suspicion.
//!
//! A kill of the process loses nothing of it. It is not forced onto the disk: after a loss of power the last calls may be missing.

use crate::domain::Metered;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The largest file that is one of ours.
const BYTES_MAX: u64 = 256 * 1024;

/// Where a meter is written down.
#[derive(Debug)]
pub struct Kept {
    file: PathBuf,
    failed: AtomicBool,
}

impl Kept {
    /// In this file; its folder is made.
    pub fn new(file: &Path) -> Kept {
        Kept { file: file.to_owned(), failed: AtomicBool::new(false) }
    }

    /// Writes it. Where that fails the file is removed: what is not known is charged in full, and never as less than it was.
    pub fn write(&self, counted: &Metered) {
        let Err(error) = replace(&self.file, counted) else { return };
        let gone = std::fs::remove_file(&self.file);
        if !self.failed.swap(true, Ordering::Relaxed) {
            let gone = gone.is_ok() || !self.file.exists();
            tracing::warn!(%error, gone, file = %self.file.display(), "what an attempt uses cannot be written down; killed now, it would be charged in full");
        }
    }
}

fn replace(file: &Path, counted: &Metered) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)?;
    let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
    fresh.write_all(&serde_json::to_vec(counted)?)?;
    fresh.persist(file).map(drop).map_err(|e| e.error)
}

/// What the file says; `None` = there is none, or it is none of ours.
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
