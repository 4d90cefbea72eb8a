//! Reads a backup. It is verified completely before anything is restored from it.

use super::content::{EntryPath, MAX_FILES};
use super::{FORMAT, FileRecord, MANIFEST, MANIFEST_DIGEST, Manifest, hex};
use crate::ports::{PortError, PortResult};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Upper bound of the manifest, in bytes.
const MAX_MANIFEST_BYTES: u64 = 1024 * 1024 * 1024;
/// Upper bound of one part of the store, in bytes: a full part, and one row more.
const MAX_PART_BYTES: u64 = 256 * 1024 * 1024;
const ANOTHER: &str = "use another backup";

/// Verified backup.
#[derive(Debug)]
pub struct BackupReader {
    path: PathBuf,
    manifest: Manifest,
}

/// One file of a backup, while it is being read.
pub struct Item<'a> {
    /// Where it belongs.
    pub path: EntryPath,
    /// Its path in the backup.
    pub name: String,
    content: &'a mut dyn Read,
    size: u64,
}

impl Item<'_> {
    /// Reads a part of the store.
    ///
    /// # Errors
    /// If it is too large or cannot be read.
    pub fn read_part(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if self.size > MAX_PART_BYTES {
            return Err(std::io::Error::new(ErrorKind::FileTooLarge, "a part of the store is too large"));
        }
        (&mut self.content).take(self.size).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes the file to a path at which there is none.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn write_to(&mut self, path: &Path) -> std::io::Result<()> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::io::copy(&mut self.content, &mut File::create_new(path)?).map(drop)
    }
}

impl BackupReader {
    /// Opens a backup, and verifies every byte of it.
    ///
    /// # Errors
    /// If it is not a complete backup, is damaged (the damaged file is named), or was written by a newer Skep.
    pub fn open(path: &Path) -> PortResult<BackupReader> {
        let refuse = |why: String, fix: &str| PortError::permanent(format!("{} {why}", path.display()), fix);
        let (mut found, mut text, mut digest, mut last) = (BTreeMap::new(), None, None, String::new());
        let read = for_each(path, &mut |name, size, content| {
            let mut hash = Sha256::new();
            let mut keep = (name == MANIFEST || name == MANIFEST_DIGEST).then(Vec::new);
            if keep.is_some() && size > MAX_MANIFEST_BYTES {
                return Err(std::io::Error::new(ErrorKind::FileTooLarge, "its manifest is too large"));
            }
            let mut buffer = vec![0; 128 * 1024];
            loop {
                let n = content.read(&mut buffer)?;
                let bytes = buffer.get(..n).unwrap_or_default();
                if n == 0 {
                    break;
                }
                hash.update(bytes);
                keep.iter_mut().for_each(|kept| kept.extend_from_slice(bytes));
            }
            last = name.to_owned();
            match (name, keep) {
                (MANIFEST, Some(kept)) => text = Some((kept, hex(&hash.finalize()))),
                (MANIFEST_DIGEST, Some(kept)) => digest = Some(String::from_utf8_lossy(&kept).trim().to_owned()),
                _ => {
                    let record = FileRecord { size, sha256: hex(&hash.finalize()) };
                    if found.len() > MAX_FILES || found.insert(name.to_owned(), record).is_some() {
                        return Err(std::io::Error::new(ErrorKind::InvalidData, format!("{name} is in it twice")));
                    }
                }
            }
            Ok(())
        });
        match read {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(refuse("does not exist".to_owned(), "name the file that `skep backup` wrote"));
            }
            Err(e) if e.raw_os_error().is_some() => {
                return Err(refuse(format!("cannot be read: {e}"), "name a file that this user can read"));
            }
            // The reader of archives would quote bytes of whatever the file is.
            Err(_) if last.is_empty() => return Err(refuse("is not a backup".to_owned(), ANOTHER)),
            Err(e) => {
                return Err(refuse(format!("is not a complete backup, or is damaged after {last}: {e}"), ANOTHER));
            }
            Ok(()) => {}
        }
        let (Some((text, sha256)), Some(digest)) = (text, digest) else {
            return Err(refuse(format!("is not a complete backup: it has no {MANIFEST}"), ANOTHER));
        };
        if sha256 != digest {
            return Err(refuse(format!("is damaged: {MANIFEST} does not match its SHA-256"), ANOTHER));
        }
        let format = serde_json::from_slice::<Format>(&text).map(|f| f.format);
        if format.as_ref().is_ok_and(|format| *format > FORMAT) {
            return Err(refuse(
                "was written by a newer Skep".to_owned(),
                "restore it with the version that wrote it, or a newer one",
            ));
        }
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|e| refuse(format!("has a manifest that cannot be read: {e}"), ANOTHER))?;
        if let Some(name) = difference(&manifest.files, &found) {
            return Err(refuse(format!("is damaged: {name} does not match the manifest"), ANOTHER));
        }
        if let Some(name) = found.keys().find(|name| EntryPath::parse(name).is_none()) {
            return Err(refuse(format!("has {name:?}, which no backup of Skep holds"), ANOTHER));
        }
        if uuid::Uuid::try_parse(&manifest.home).is_err() || uuid::Uuid::try_parse(&manifest.id).is_err() {
            return Err(refuse("has a manifest with an invalid id".to_owned(), ANOTHER));
        }
        Ok(BackupReader { path: path.to_owned(), manifest })
    }

    /// Returns the path of the backup.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Passes each file to `take`, in the order in which they were written: the store first.
    ///
    /// # Errors
    /// If the backup was changed since it was verified, or `take` fails.
    pub fn read(&self, take: &mut dyn FnMut(Item<'_>) -> PortResult<()>) -> PortResult<()> {
        let mut failure = None;
        let read = for_each(&self.path, &mut |name, size, content| {
            let known = self.manifest.files.get(name);
            let Some(path) = EntryPath::parse(name).filter(|_| known.is_some_and(|known| known.size == size)) else {
                // The manifest itself, or what somebody has added since.
                return Ok(());
            };
            take(Item { path, name: name.to_owned(), content, size }).map_err(|error| {
                failure = Some(error);
                std::io::Error::other("stopped")
            })
        });
        match (failure, read) {
            (Some(error), _) => Err(error),
            (None, Err(e)) => {
                Err(PortError::permanent(format!("cannot read {}: {e}", self.path.display()), "restore again"))
            }
            (None, Ok(())) => Ok(()),
        }
    }
}

/// The one key that every version of the manifest has.
#[derive(serde::Deserialize)]
struct Format {
    format: u32,
}

/// Returns a file that is not the same in both.
fn difference<'a>(
    expected: &'a BTreeMap<String, FileRecord>,
    found: &'a BTreeMap<String, FileRecord>,
) -> Option<&'a str> {
    let wrong = expected.iter().find(|(name, record)| found.get(*name) != Some(record));
    let extra = || found.keys().find(|name| !expected.contains_key(*name));
    wrong.map(|(name, _)| name).or_else(extra).map(String::as_str)
}

/// Passes name, size and content of each file of the archive to `take`.
fn for_each(path: &Path, take: &mut dyn FnMut(&str, u64, &mut dyn Read) -> std::io::Result<()>) -> std::io::Result<()> {
    let invalid = |why: &str| std::io::Error::new(ErrorKind::InvalidData, why.to_owned());
    let mut archive = tar::Archive::new(BufReader::with_capacity(1024 * 1024, File::open(path)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(invalid("it holds something other than files"));
        }
        let name = String::from_utf8(entry.path_bytes().into_owned()).map_err(|_| invalid("a name is not text"))?;
        let size = entry.size();
        take(&name, size, &mut entry)?;
    }
    Ok(())
}
