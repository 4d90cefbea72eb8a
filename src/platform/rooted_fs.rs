//! File access below a directory that others can write to: links are not followed, only regular files are read, sizes
//! are limited.
//!
//! Invariant: a path is opened one component at a time, starting at an open directory, so that no race can lead
//! outside.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Maximum length of a path in bytes.
const PATH_BYTES_MAX: usize = 1024;

/// An open directory that all paths are relative to.
#[derive(Debug)]
pub struct RootedDir {
    root: OwnedFd,
}

/// Why a file could not be accessed; the message starts with its path.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootedFsError {
    /// The file does not exist.
    #[error("{0:?} does not exist")]
    Missing(String),
    /// The path or the file is not allowed, or an operation failed.
    #[error("{path:?} {what}")]
    Refused {
        /// The path.
        path: String,
        /// The problem, as the rest of a sentence about the path.
        what: String,
    },
}

/// Type of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, which is never followed.
    Link,
    /// A pipe, a socket or a device.
    Other,
}

/// A directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name without a path.
    pub name: String,
    /// Type of the entry.
    pub kind: EntryKind,
    /// Size in bytes (files only).
    pub size: u64,
}

fn refused(path: &str, what: impl Into<String>) -> RootedFsError {
    RootedFsError::Refused { path: path.to_owned(), what: what.into() }
}

/// Checks the form of a path: relative, plain components separated by `/`, none of which leads up.
pub fn check(path: &str) -> Result<(), RootedFsError> {
    if path.is_empty() || path.len() > PATH_BYTES_MAX {
        return Err(refused(path, format!("must have 1 to {PATH_BYTES_MAX} bytes")));
    }
    if path.starts_with('/') {
        return Err(refused(path, "must be relative to the worktree"));
    }
    if path.chars().any(char::is_control) {
        return Err(refused(path, "contains a control character"));
    }
    match path.split('/').find(|n| matches!(*n, "" | "." | "..")) {
        Some("..") => Err(refused(path, "leads outside ('..')")),
        Some(_) => Err(refused(path, "contains an empty component or '.'")),
        None => Ok(()),
    }
}

impl RootedDir {
    /// Opens a directory.
    ///
    /// # Errors
    /// When it is not a directory that can be opened.
    pub fn open(root: &Path) -> std::io::Result<RootedDir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(RootedDir { root: rustix::fs::open(root, flags, Mode::empty())? })
    }

    /// Reads a regular file.
    ///
    /// # Errors
    /// When it is missing, not a regular file, behind a link, or larger than `max_bytes`.
    pub fn read(&self, path: &str, max_bytes: u64) -> Result<Vec<u8>, RootedFsError> {
        let file = self.regular(path)?;
        let size = file.metadata().map_err(|e| refused(path, format!("cannot be read: {e}")))?.len();
        if size > max_bytes {
            return Err(refused(path, format!("has {size} bytes; the maximum is {max_bytes}")));
        }
        let mut bytes = Vec::new();
        // The file may grow while it is read.
        let n = file
            .take(max_bytes + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| refused(path, format!("cannot be read: {e}")))?;
        if n as u64 > max_bytes {
            return Err(refused(path, format!("has more than {max_bytes} bytes")));
        }
        Ok(bytes)
    }

    /// Returns the size of a regular file.
    ///
    /// # Errors
    /// As for [`RootedDir::read`].
    pub fn size(&self, path: &str) -> Result<u64, RootedFsError> {
        let meta = self.regular(path)?.metadata();
        meta.map(|m| m.len()).map_err(|e| refused(path, format!("cannot be inspected: {e}")))
    }

    /// Lists a directory ("" = the open directory itself) in name order, and returns whether the list is complete: at
    /// most `max_entries` names are read. Names that are not UTF-8 or contain control characters are left out: no
    /// valid path exists for them.
    ///
    /// # Errors
    /// When it is missing, not a directory, or behind a link.
    pub fn entries(&self, path: &str, max_entries: usize) -> Result<(Vec<Entry>, bool), RootedFsError> {
        if !path.is_empty() {
            check(path)?;
        }
        let at = self.descend(path, path, false)?;
        let mut found = Vec::new();
        let unreadable = |e: Errno| refused(path, format!("cannot be listed: {e}"));
        for entry in rustix::fs::Dir::read_from(&at).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name == "." || name == ".." || name.chars().any(char::is_control) {
                continue;
            }
            if found.len() == max_entries {
                found.sort_by(|a: &Entry, b: &Entry| a.name.cmp(&b.name));
                return Ok((found, false));
            }
            // The entry may have been removed in the meantime.
            let Ok(stat) = rustix::fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let kind = match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Directory,
                FileType::Symlink => EntryKind::Link,
                _ => EntryKind::Other,
            };
            found.push(Entry { name: name.to_owned(), kind, size: u64::try_from(stat.st_size).unwrap_or(0) });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((found, true))
    }

    /// Writes a whole file atomically and creates missing directories: readers see either the old or the new content.
    ///
    /// # Errors
    /// When a component of the path is a link or not a directory, or an existing file is not a regular one.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<(), RootedFsError> {
        let (parent, name) = self.parent(path, true)?;
        let mode = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => 0o644,
            Err(e) => return Err(refused(path, format!("cannot be inspected: {e}"))),
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => stat.st_mode & 0o777,
                other => return Err(refused(path, format!("is {}, not a regular file", kind(other)))),
            },
        };
        let temporary = format!(".skep-{}-{}", std::process::id(), uuid::Uuid::now_v7().simple());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let put = || -> std::io::Result<()> {
            let fd = rustix::fs::openat(&parent, &temporary, flags, Mode::from_raw_mode(0o600))?;
            let mut file = File::from(fd);
            inherit_owner(&parent, &file)?;
            file.write_all(bytes)?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode as RawMode))?;
            rustix::fs::renameat(&parent, &temporary, &parent, name)?;
            Ok(())
        };
        put().map_err(|e| {
            let _absent = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
            refused(path, format!("cannot be written: {e}"))
        })
    }

    /// Renames a regular file and creates missing directories of the new path; the mode is kept.
    ///
    /// # Errors
    /// When it is missing or not a regular file, the new path exists, or a component of a path is a link or not a
    /// directory.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), RootedFsError> {
        self.regular(from)?;
        self.relocate(from, to)
    }

    /// Moves a directory and creates missing directories of the new path.
    ///
    /// # Errors
    /// As [`RootedDir::rename`], for a directory.
    pub fn move_dir(&self, from: &str, to: &str) -> Result<(), RootedFsError> {
        check(from)?;
        self.descend(from, from, false)?;
        self.relocate(from, to)
    }

    fn relocate(&self, from: &str, to: &str) -> Result<(), RootedFsError> {
        let (old, new) = (self.parent(from, false)?, self.parent(to, true)?);
        match rustix::fs::statat(&new.0, new.1, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(e) => return Err(refused(to, format!("cannot be inspected: {e}"))),
            Ok(_) => return Err(refused(to, "already exists")),
        }
        rustix::fs::renameat(&old.0, old.1, &new.0, new.1)
            .map_err(|e| refused(from, format!("cannot be renamed to {to:?}: {e}")))
    }

    /// Removes a file or a link (never the link's target).
    ///
    /// # Errors
    /// When it is missing, a directory, or behind a link.
    pub fn remove(&self, path: &str) -> Result<(), RootedFsError> {
        let (parent, name) = self.parent(path, false)?;
        rustix::fs::unlinkat(&parent, name, AtFlags::empty()).map_err(|e| match e {
            Errno::NOENT => RootedFsError::Missing(path.to_owned()),
            e => refused(path, format!("cannot be removed: {e}")),
        })
    }

    /// Creates a directory and its parents, if they are missing.
    ///
    /// # Errors
    /// When a component of the path is a link or not a directory.
    pub fn make_dir(&self, path: &str) -> Result<(), RootedFsError> {
        // Creating the parent directories of a file in it creates the directory.
        self.parent(&format!("{path}/x"), true).map(drop)
    }

    fn regular(&self, path: &str) -> Result<File, RootedFsError> {
        let (parent, name) = self.parent(path, false)?;
        // Non-blocking: opening a FIFO must not wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent, name, flags, Mode::empty()).map_err(|e| opening(path, e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| opening(path, e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(File::from(fd)),
            other => Err(refused(path, format!("is {}, not a regular file", kind(other)))),
        }
    }

    /// Opens the parent directory of a path, and returns it with the last component.
    fn parent<'p>(&self, path: &'p str, create: bool) -> Result<(OwnedFd, &'p str), RootedFsError> {
        check(path)?;
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.descend(path, parents, create)?, name))
    }

    /// Opens the directory `dirs`, component by component.
    fn descend(&self, path: &str, dirs: &str, create: bool) -> Result<OwnedFd, RootedFsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut at = self.root.as_fd().try_clone_to_owned().map_err(|e| refused(path, e.to_string()))?;
        for part in dirs.split('/').filter(|p| !p.is_empty()) {
            let mut is_new = false;
            if create {
                match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
                    Ok(()) => is_new = true,
                    Err(Errno::EXIST) => {}
                    Err(e) => {
                        return Err(refused(
                            path,
                            format!("needs the directory {part:?}, which cannot be created: {e}"),
                        ));
                    }
                }
            }
            let next = rustix::fs::openat(&at, part, flags, Mode::empty()).map_err(|e| match e {
                Errno::LOOP | Errno::NOTDIR => {
                    refused(path, format!("goes through {part:?}, which is a link or not a directory"))
                }
                e => opening(path, e),
            })?;
            if is_new {
                inherit_owner(&at, &next).map_err(|e| refused(path, format!("needs the directory {part:?}: {e}")))?;
            }
            at = next;
        }
        Ok(at)
    }
}

/// Gives a new file or directory to the owner of its parent. When Skep runs as root, commands run as another user in
/// directories of that user, who must own what Skep creates there.
fn inherit_owner(parent: impl AsFd, new: impl AsFd) -> std::io::Result<()> {
    let (parent, own) = (rustix::fs::fstat(parent)?, rustix::fs::fstat(&new)?);
    if parent.st_uid != own.st_uid && rustix::process::geteuid().is_root() {
        let (uid, gid) = (rustix::fs::Uid::from_raw(parent.st_uid), rustix::fs::Gid::from_raw(parent.st_gid));
        rustix::fs::fchown(&new, Some(uid), Some(gid))?;
    }
    Ok(())
}

fn opening(path: &str, e: Errno) -> RootedFsError {
    match e {
        Errno::NOENT => RootedFsError::Missing(path.to_owned()),
        Errno::LOOP => refused(path, "is a symbolic link, which is not followed"),
        Errno::NXIO => refused(path, "is a socket or a device, not a regular file"),
        e => refused(path, format!("cannot be opened: {e}")),
    }
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "of an unknown type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn paths_that_lead_outside_are_rejected() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "a\0b", "a\nb"] {
            assert!(check(path).is_err(), "{path:?}");
        }
        for path in ["a", "a/b c", "-dash", "…/ü", "..a", "a.."] {
            assert!(check(path).is_ok(), "{path:?}");
        }
    }

    #[test]
    fn links_pipes_and_directories_are_neither_read_nor_written() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "canary").unwrap();
        symlink(outside.path().join("secret"), dir.path().join("link")).unwrap();
        symlink(outside.path(), dir.path().join("dir-link")).unwrap();
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let root = RootedDir::open(dir.path()).unwrap();
        for path in ["link", "dir-link/secret", "folder", "pipe"] {
            assert!(matches!(root.read(path, 100), Err(RootedFsError::Refused { .. })), "{path}");
        }
        for path in ["link", "dir-link/secret", "dir-link/new/file", "folder", "pipe"] {
            assert!(matches!(root.write(path, b"x"), Err(RootedFsError::Refused { .. })), "{path}");
        }
        assert!(matches!(root.remove("dir-link/secret"), Err(RootedFsError::Refused { .. })));
        assert!(matches!(root.read("none", 1), Err(RootedFsError::Missing(_))));
        root.remove("link").unwrap();
        assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "canary");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn directories_are_listed_in_order_and_never_through_links() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = RootedDir::open(dir.path()).unwrap();
        root.write("b/one", b"123").unwrap();
        root.write("a", b"").unwrap();
        symlink(outside.path(), dir.path().join("dir-link")).unwrap();
        let names = |path: &str, max_entries| {
            let (entries, complete) = root.entries(path, max_entries).unwrap();
            (entries.into_iter().map(|e| (e.name, e.kind, e.size)).collect::<Vec<_>>(), complete)
        };
        let (found, complete) = names("", 10);
        assert_eq!(
            found.iter().map(|e| (e.0.as_str(), e.1)).collect::<Vec<_>>(),
            [("a", EntryKind::File), ("b", EntryKind::Directory), ("dir-link", EntryKind::Link)]
        );
        assert!(complete && !names("", 2).1);
        assert_eq!(names("b", 10).0, [("one".to_owned(), EntryKind::File, 3)]);
        for path in ["dir-link", "a", "..", "/", "b/.."] {
            assert!(matches!(root.entries(path, 10), Err(RootedFsError::Refused { .. })), "{path}");
        }
        assert!(matches!(root.entries("none", 10), Err(RootedFsError::Missing(_))));
    }

    #[test]
    fn writing_keeps_the_mode_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootedDir::open(dir.path()).unwrap();
        root.write("a/b/run.sh", b"one").unwrap();
        let path = dir.path().join("a/b/run.sh");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        root.write("a/b/run.sh", b"two").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(root.read("a/b/run.sh", 3).unwrap(), b"two");
        assert!(root.read("a/b/run.sh", 2).is_err());
        assert_eq!(std::fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1);
    }

    #[test]
    fn new_files_belong_to_the_owner_of_their_directory() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let root = rustix::process::geteuid().is_root();
        let owner = if root { 65534 } else { rustix::process::geteuid().as_raw() };
        std::os::unix::fs::chown(dir.path(), Some(owner), None).unwrap();
        RootedDir::open(dir.path()).unwrap().write("new/folder/file", b"x").unwrap();
        for path in ["new", "new/folder", "new/folder/file"] {
            assert_eq!(std::fs::metadata(dir.path().join(path)).unwrap().uid(), owner, "{path}");
        }
    }
}
