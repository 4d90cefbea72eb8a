//! Writes a backup: to a temporary file beside its path, which gets the name only once all of it is on disk.

use super::content::MAX_FILES;
use super::{FileRecord, MANIFEST, MANIFEST_DIGEST, Manifest, hex};
use crate::ports::{PortError, PortResult};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Bytes of a file that are read into memory. Larger files never change once they are written.
const SMALL_BYTES: u64 = 4 * 1024 * 1024;

/// A finished backup.
#[derive(Clone, Debug)]
pub struct WrittenBackup {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Backup being written.
pub struct BackupWriter {
    path: PathBuf,
    archive: tar::Builder<BufWriter<NamedTempFile>>,
    files: BTreeMap<String, FileRecord>,
}

impl BackupWriter {
    /// Begins a backup at `path`.
    ///
    /// # Errors
    /// If the file exists, or its folder cannot be written.
    pub fn create(path: &Path) -> PortResult<BackupWriter> {
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(PortError::permanent(
                format!("{} exists already", path.display()),
                "name another file, or a folder in which the backup gets a name of its own",
            ));
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Only its user can read it.
        let file = tempfile::Builder::new().prefix(".skep-backup-").tempfile_in(dir).map_err(|e| failed(path, &e))?;
        let archive = tar::Builder::new(BufWriter::with_capacity(1024 * 1024, file));
        Ok(BackupWriter { path: path.to_owned(), archive, files: BTreeMap::new() })
    }

    /// Adds a file with these bytes.
    ///
    /// # Errors
    /// If the backup cannot be written.
    pub fn add_bytes(mut self, path: &str, bytes: &[u8]) -> PortResult<BackupWriter> {
        self.append(path, bytes.len() as u64, bytes)?;
        Ok(self)
    }

    /// Adds a copy of a file. One that is gone meanwhile is left out.
    ///
    /// # Errors
    /// If the file cannot be read, or the backup cannot be written.
    pub fn add_file(mut self, path: &str, from: &Path) -> PortResult<BackupWriter> {
        let unreadable = |e: std::io::Error| {
            PortError::permanent(format!("cannot read {}: {e}", from.display()), "make it readable for this user")
        };
        let mut file = match File::open(from) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(self),
            Err(e) => return Err(unreadable(e)),
        };
        let size = file.metadata().map_err(unreadable)?.len();
        if size <= SMALL_BYTES {
            let mut bytes = Vec::new();
            (&mut file).take(SMALL_BYTES * 2).read_to_end(&mut bytes).map_err(unreadable)?;
            self.append(path, bytes.len() as u64, bytes.as_slice())?;
        } else if self.append(path, size, (&mut file).take(size))? != size {
            return Err(PortError::transient(format!("{} became shorter while it was copied", from.display())));
        }
        Ok(self)
    }

    /// Adds an entry, and returns the number of bytes that were read for it.
    fn append(&mut self, path: &str, size: u64, content: impl Read) -> PortResult<u64> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_entry_type(tar::EntryType::Regular);
        let mut content = Hashing { content, hash: Sha256::new(), bytes: 0 };
        self.archive.append_data(&mut header, path, &mut content).map_err(|e| failed(&self.path, &e))?;
        let record = FileRecord { size, sha256: hex(&content.hash.finalize()) };
        if self.files.len() > MAX_FILES || self.files.insert(path.to_owned(), record).is_some() {
            return Err(PortError::permanent(
                format!("{path} would be in the backup twice, or the backup has too many files"),
                "this is a bug in Skep: report it with this message",
            ));
        }
        Ok(content.bytes)
    }

    /// Completes the backup: adds the manifest, brings everything to disk and gives the file its name.
    ///
    /// # Errors
    /// If the backup cannot be written, or a file of that name was made meanwhile.
    pub fn finish(mut self, manifest: Manifest) -> PortResult<(WrittenBackup, Manifest)> {
        let manifest = Manifest { files: std::mem::take(&mut self.files), ..manifest };
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|e| PortError::permanent(format!("cannot serialize the manifest: {e}"), "report this as a bug"))?;
        let digest = format!("{}\n", hex(&Sha256::digest(&text)));
        self.append(MANIFEST, text.len() as u64, text.as_slice())?;
        self.append(MANIFEST_DIGEST, digest.len() as u64, digest.as_bytes())?;
        let path = self.path;
        let fail = |e: std::io::Error| failed(&path, &e);
        let file = self.archive.into_inner().map_err(fail)?.into_inner().map_err(|e| fail(e.into_error()))?;
        file.as_file().sync_all().map_err(fail)?;
        let bytes = file.as_file().metadata().map_err(fail)?.len();
        file.persist_noclobber(&path).map_err(|e| failed(&path, &e.error))?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail)?;
        Ok((WrittenBackup { path, bytes }, manifest))
    }
}

fn failed(path: &Path, e: &std::io::Error) -> PortError {
    let what = format!("cannot write the backup {}: {e}", path.display());
    match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => PortError::permanent(what, "free some space there"),
        ErrorKind::NotFound => PortError::permanent(what, "create its folder first"),
        _ => PortError::permanent(what, "name a file in a folder that this user can write"),
    }
}

/// Reader that hashes and counts what is read through it.
struct Hashing<R> {
    content: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.content.read(buffer)?;
        self.hash.update(buffer.get(..n).unwrap_or_default());
        self.bytes += n as u64;
        Ok(n)
    }
}
