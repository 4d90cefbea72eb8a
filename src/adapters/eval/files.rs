//! Trees of small files, read from a folder or from a tar archive.
//!
//! Invariant: no link is followed and none becomes part of a tree; every path stays below its root.

use crate::platform::rooted_fs::{self, EntryKind, RootedDir};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Upper bounds of one tree.
const MAX_FILES: usize = 2_000;
const MAX_FILE_BYTES: u64 = 2 * 1024 * 1024;
const MAX_TREE_BYTES: u64 = 16 * 1024 * 1024;
const MAX_DEPTH: usize = 32;

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileContent {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it may be executed.
    pub is_executable: bool,
}

/// Files by path, relative and separated by `/`.
pub(super) type Tree = BTreeMap<String, FileContent>;

/// Collects a tree within its limits.
#[derive(Default)]
struct Collector {
    tree: Tree,
    bytes: u64,
}

impl Collector {
    fn add(&mut self, path: String, bytes: Vec<u8>, is_executable: bool) -> Result<(), String> {
        rooted_fs::check(&path).map_err(|e| e.to_string())?;
        if path.split('/').any(|part| part.eq_ignore_ascii_case(".git")) {
            return Err(format!("{path:?} is part of a git directory"));
        }
        self.bytes += bytes.len() as u64;
        if self.bytes > MAX_TREE_BYTES || self.tree.len() >= MAX_FILES {
            return Err(format!("has more than {MAX_FILES} files or {} MiB", MAX_TREE_BYTES >> 20));
        }
        match self.tree.insert(path.clone(), FileContent { bytes, is_executable }) {
            Some(_) => Err(format!("contains {path:?} twice")),
            None => Ok(()),
        }
    }
}

/// Reads all files below a folder.
///
/// # Errors
/// What is wrong, as the rest of a sentence about the folder.
pub(super) fn read_folder(folder: &Path) -> Result<Tree, String> {
    let root = RootedDir::open(folder).map_err(|e| format!("cannot be opened: {e}"))?;
    let mut collector = Collector::default();
    let mut folders = vec![(String::new(), 0)];
    while let Some((prefix, depth)) = folders.pop() {
        if depth > MAX_DEPTH {
            return Err(format!("is nested more than {MAX_DEPTH} folders deep"));
        }
        let (entries, is_complete) = root.entries(&prefix, MAX_FILES).map_err(|e| e.to_string())?;
        if !is_complete {
            return Err(format!("has more than {MAX_FILES} entries in {prefix:?}"));
        }
        for entry in entries {
            let path = if prefix.is_empty() { entry.name } else { format!("{prefix}/{}", entry.name) };
            match entry.kind {
                EntryKind::Directory => folders.push((path, depth + 1)),
                EntryKind::File => {
                    let mode = folder.join(&path).symlink_metadata().map(|m| m.mode()).unwrap_or_default();
                    let bytes = root.read(&path, MAX_FILE_BYTES).map_err(|e| e.to_string())?;
                    collector.add(path, bytes, mode & 0o100 != 0)?;
                }
                EntryKind::Link | EntryKind::Other => return Err(format!("contains {path:?}, which is not a file")),
            }
        }
    }
    Ok(collector.tree)
}

/// Reads all files of a tar archive without compression, whose SHA-256 must match.
///
/// # Errors
/// What is wrong, as the rest of a sentence about the archive.
pub(super) fn read_archive(archive: &Path, sha256: &str) -> Result<Tree, String> {
    let unreadable = |e: std::io::Error| format!("cannot be read: {e}");
    let file = std::fs::File::open(archive).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // The headers of the entries are part of the file, too.
    let most = 2 * MAX_TREE_BYTES;
    file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(format!("is larger than {} MiB", most >> 20));
    }
    let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if !found.eq_ignore_ascii_case(sha256) {
        return Err(format!("has the SHA-256 {found}, not {sha256}"));
    }
    let mut collector = Collector::default();
    let mut archive = tar::Archive::new(bytes.as_slice());
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let path = String::from_utf8(entry.path_bytes().into_owned()).map_err(|_| "has a path that is not UTF-8")?;
        let path = path.strip_prefix("./").unwrap_or(&path).to_owned();
        match entry.header().entry_type() {
            tar::EntryType::Directory | tar::EntryType::XGlobalHeader => {}
            tar::EntryType::Regular => {
                if entry.size() > MAX_FILE_BYTES {
                    return Err(format!("contains {path:?}, which is larger than {} MiB", MAX_FILE_BYTES >> 20));
                }
                let is_executable = entry.header().mode().unwrap_or_default() & 0o100 != 0;
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map_err(unreadable)?;
                collector.add(path, bytes, is_executable)?;
            }
            _ => return Err(format!("contains {path:?}, which is not a file")),
        }
    }
    Ok(collector.tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType)]) -> (tempfile::TempDir, std::path::PathBuf, String) {
        let dir = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(2);
            header.set_mode(0o755);
            // `set_path` refuses what a hostile archive contains.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, &b"hi"[..]).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let path = dir.path().join("base.tar");
        std::fs::write(&path, bytes).unwrap();
        (dir, path, sha256)
    }

    #[test]
    fn archives_are_read_without_links_and_escapes() {
        use tar::EntryType::{Link, Regular, Symlink};
        let (_dir, path, sha256) = archive(&[("./a/b.sh", Regular), ("c.txt", Regular)]);
        let tree = read_archive(&path, &sha256.to_uppercase()).unwrap();
        assert_eq!(tree.keys().collect::<Vec<_>>(), ["a/b.sh", "c.txt"]);
        assert!(tree["a/b.sh"].is_executable && tree["a/b.sh"].bytes == b"hi");
        assert!(read_archive(&path, &"0".repeat(64)).unwrap_err().contains("has the SHA-256"));
        for (entry, part) in [
            (("../x", Regular), "leads outside"),
            (("/etc/x", Regular), "must be relative"),
            (("a/.git/config", Regular), "part of a git directory"),
            (("x", Symlink), "not a file"),
            (("x", Link), "not a file"),
        ] {
            let (_dir, path, sha256) = archive(&[entry]);
            let why = read_archive(&path, &sha256).unwrap_err();
            assert!(why.contains(part), "{entry:?}: {why}");
        }
        let (_dir, path, sha256) = archive(&[("x", Regular), ("x", Regular)]);
        assert!(read_archive(&path, &sha256).unwrap_err().contains("twice"));
    }

    #[test]
    fn folders_are_read_without_links() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/c.txt"), "hi").unwrap();
        assert_eq!(read_folder(dir.path()).unwrap().keys().collect::<Vec<_>>(), ["a/b/c.txt"]);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("a/link")).unwrap();
        assert!(read_folder(dir.path()).unwrap_err().contains("a/link"));
    }
}
