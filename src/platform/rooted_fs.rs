//! Files beneath a folder somebody else can write to: no link is followed, only regular files are read, sizes are capped.
//!
//! Invariant: a path is walked one name at a time from an open folder, so that no race can lead outside.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The longest path taken.
const PATH_BYTES_MAX: usize = 1024;

/// An open folder.
#[derive(Debug)]
pub struct RootedDir {
    root: OwnedFd,
}

/// Why a file beneath could not be had, in words that start with its path.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootedFsError {
    /// It is not there.
    #[error("{0:?} does not exist")]
    Missing(String),
    /// It is there, or is asked for, in a way that is not allowed.
    #[error("{path:?} {what}")]
    Refused {
        /// The path.
        path: String,
        /// What is wrong with it.
        what: String,
    },
}

/// What a name in a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, which is never followed.
    Link,
    /// A pipe, a socket, a device.
    Other,
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name alone.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its size in bytes (files).
    pub size: u64,
}

fn refused(path: &str, what: impl Into<String>) -> RootedFsError {
    RootedFsError::Refused { path: path.to_owned(), what: what.into() }
}

/// Checks a path's form: relative, plain names joined by `/`, nothing that goes up.
pub fn check(path: &str) -> Result<(), RootedFsError> {
    if path.is_empty() || path.len() > PATH_BYTES_MAX {
        return Err(refused(path, format!("must have 1 to {PATH_BYTES_MAX} bytes")));
    }
    if path.starts_with('/') {
        return Err(refused(path, "must be relative to the worktree"));
    }
    if path.chars().any(char::is_control) {
        return Err(refused(path, "has a control character"));
    }
    match path.split('/').find(|n| matches!(*n, "" | "." | "..")) {
        Some("..") => Err(refused(path, "leads outside ('..')")),
        Some(_) => Err(refused(path, "has an empty name or '.' in it")),
        None => Ok(()),
    }
}

impl RootedDir {
    /// Opens the folder.
    ///
    /// # Errors
    /// When it is not a folder that can be opened.
    pub fn open(root: &Path) -> std::io::Result<RootedDir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(RootedDir { root: rustix::fs::open(root, flags, Mode::empty())? })
    }

    /// A regular file's bytes.
    ///
    /// # Errors
    /// When it is missing, not a regular file, behind a link, or larger than `most`.
    pub fn read(&self, path: &str, most: u64) -> Result<Vec<u8>, RootedFsError> {
        let file = self.regular(path)?;
        let size = file.metadata().map_err(|e| refused(path, format!("cannot be read: {e}")))?.len();
        if size > most {
            return Err(refused(path, format!("has {size} bytes; at most {most} are read")));
        }
        let mut bytes = Vec::new();
        // It may grow while it is read.
        let n =
            file.take(most + 1).read_to_end(&mut bytes).map_err(|e| refused(path, format!("cannot be read: {e}")))?;
        if n as u64 > most {
            return Err(refused(path, format!("has more than {most} bytes")));
        }
        Ok(bytes)
    }

    /// A regular file's size.
    ///
    /// # Errors
    /// As for [`RootedDir::read`].
    pub fn size(&self, path: &str) -> Result<u64, RootedFsError> {
        let meta = self.regular(path)?.metadata();
        meta.map(|m| m.len()).map_err(|e| refused(path, format!("cannot be looked at: {e}")))
    }

    /// What is in a folder ("" = the open folder itself), in name order, and whether that is all of it: no more than `most` names are
    /// read. Names that are not UTF-8 or have a control character in them are left out: no path can be written for them.
    ///
    /// # Errors
    /// When it is missing, not a folder, or behind a link.
    pub fn entries(&self, path: &str, most: usize) -> Result<(Vec<Entry>, bool), RootedFsError> {
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
            if found.len() == most {
                found.sort_by(|a: &Entry, b: &Entry| a.name.cmp(&b.name));
                return Ok((found, false));
            }
            // It may be gone by now.
            let Ok(stat) = rustix::fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let kind = match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Kind::File,
                FileType::Directory => Kind::Folder,
                FileType::Symlink => Kind::Link,
                _ => Kind::Other,
            };
            found.push(Entry { name: name.to_owned(), kind, size: u64::try_from(stat.st_size).unwrap_or(0) });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((found, true))
    }

    /// Writes a whole file, folders included, in one step: readers see the old or the new one.
    ///
    /// # Errors
    /// When a part of the path is a link or not a folder, or the file is there and not a regular one.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<(), RootedFsError> {
        let (folder, name) = self.folder(path, true)?;
        let mode = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => 0o644,
            Err(e) => return Err(refused(path, format!("cannot be looked at: {e}"))),
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => stat.st_mode & 0o777,
                other => return Err(refused(path, format!("is {}, not a regular file", kind(other)))),
            },
        };
        let temporary = format!(".skep-{}-{}", std::process::id(), uuid::Uuid::now_v7().simple());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let put = || -> std::io::Result<()> {
            let fd = rustix::fs::openat(&folder, &temporary, flags, Mode::from_raw_mode(0o600))?;
            let mut file = File::from(fd);
            like_its_folder(&folder, &file)?;
            file.write_all(bytes)?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode as RawMode))?;
            rustix::fs::renameat(&folder, &temporary, &folder, name)?;
            Ok(())
        };
        put().map_err(|e| {
            let _absent = rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty());
            refused(path, format!("cannot be written: {e}"))
        })
    }

    /// Renames a regular file, folders of the new name included; its mode goes with it.
    ///
    /// # Errors
    /// When it is missing or not a regular file, something has the new name, or a part of a path is a link or not a folder.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), RootedFsError> {
        self.regular(from)?;
        let (old, new) = (self.folder(from, false)?, self.folder(to, true)?);
        match rustix::fs::statat(&new.0, new.1, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(e) => return Err(refused(to, format!("cannot be looked at: {e}"))),
            Ok(_) => return Err(refused(to, "exists already")),
        }
        rustix::fs::renameat(&old.0, old.1, &new.0, new.1)
            .map_err(|e| refused(from, format!("cannot be renamed to {to:?}: {e}")))
    }

    /// Removes a file or a link (never what the link points to).
    ///
    /// # Errors
    /// When it is missing, a folder, or behind a link.
    pub fn remove(&self, path: &str) -> Result<(), RootedFsError> {
        let (folder, name) = self.folder(path, false)?;
        rustix::fs::unlinkat(&folder, name, AtFlags::empty()).map_err(|e| match e {
            Errno::NOENT => RootedFsError::Missing(path.to_owned()),
            e => refused(path, format!("cannot be removed: {e}")),
        })
    }

    /// Makes a folder, and those above it, where they are missing.
    ///
    /// # Errors
    /// When a part of the path is a link or not a folder.
    pub fn make_dir(&self, path: &str) -> Result<(), RootedFsError> {
        // Making the folder of a file in it makes the folder.
        self.folder(&format!("{path}/x"), true).map(drop)
    }

    fn regular(&self, path: &str) -> Result<File, RootedFsError> {
        let (folder, name) = self.folder(path, false)?;
        // Not blocking: opening a FIFO must not wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&folder, name, flags, Mode::empty()).map_err(|e| opening(path, e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| opening(path, e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(File::from(fd)),
            other => Err(refused(path, format!("is {}, not a regular file", kind(other)))),
        }
    }

    /// The open folder a path's last name is in, and that name.
    fn folder<'p>(&self, path: &'p str, make: bool) -> Result<(OwnedFd, &'p str), RootedFsError> {
        check(path)?;
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.descend(path, folders, make)?, name))
    }

    /// Opens the folder `folders` beneath, name by name.
    fn descend(&self, path: &str, folders: &str, make: bool) -> Result<OwnedFd, RootedFsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut at = self.root.as_fd().try_clone_to_owned().map_err(|e| refused(path, e.to_string()))?;
        for part in folders.split('/').filter(|p| !p.is_empty()) {
            let mut made = false;
            if make {
                match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
                    Ok(()) => made = true,
                    Err(Errno::EXIST) => {}
                    Err(e) => {
                        return Err(refused(path, format!("needs the folder {part:?}, which cannot be made: {e}")));
                    }
                }
            }
            let next = rustix::fs::openat(&at, part, flags, Mode::empty()).map_err(|e| match e {
                Errno::LOOP | Errno::NOTDIR => {
                    refused(path, format!("goes through {part:?}, which is a link or not a folder"))
                }
                e => opening(path, e),
            })?;
            if made {
                like_its_folder(&at, &next).map_err(|e| refused(path, format!("needs the folder {part:?}: {e}")))?;
            }
            at = next;
        }
        Ok(at)
    }
}

/// Gives what was made to the owner of the folder it is in. Started as root, Skep lets commands work as another user in folders of that
/// user's: what it makes for them there must be theirs.
fn like_its_folder(folder: impl AsFd, made: impl AsFd) -> std::io::Result<()> {
    let (folder, mine) = (rustix::fs::fstat(folder)?, rustix::fs::fstat(&made)?);
    if folder.st_uid != mine.st_uid && rustix::process::geteuid().is_root() {
        let (uid, gid) = (rustix::fs::Uid::from_raw(folder.st_uid), rustix::fs::Gid::from_raw(folder.st_gid));
        rustix::fs::fchown(&made, Some(uid), Some(gid))?;
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
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn paths_that_leave_or_hide_are_refused() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "a\0b", "a\nb"] {
            assert!(check(path).is_err(), "{path:?}");
        }
        for path in ["a", "a/b c", "-dash", "…/ü", "..a", "a.."] {
            assert!(check(path).is_ok(), "{path:?}");
        }
    }

    #[test]
    fn links_pipes_and_folders_are_not_read_nor_written_through() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "canary").unwrap();
        symlink(outside.path().join("secret"), dir.path().join("link")).unwrap();
        symlink(outside.path(), dir.path().join("way")).unwrap();
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let beneath = RootedDir::open(dir.path()).unwrap();
        for path in ["link", "way/secret", "folder", "pipe"] {
            assert!(matches!(beneath.read(path, 100), Err(RootedFsError::Refused { .. })), "{path}");
        }
        for path in ["link", "way/secret", "way/new/file", "folder", "pipe"] {
            assert!(matches!(beneath.write(path, b"x"), Err(RootedFsError::Refused { .. })), "{path}");
        }
        assert!(matches!(beneath.remove("way/secret"), Err(RootedFsError::Refused { .. })));
        assert!(matches!(beneath.read("none", 1), Err(RootedFsError::Missing(_))));
        beneath.remove("link").unwrap();
        assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "canary");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn folders_are_listed_in_order_and_never_through_links() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let beneath = RootedDir::open(dir.path()).unwrap();
        beneath.write("b/one", b"123").unwrap();
        beneath.write("a", b"").unwrap();
        symlink(outside.path(), dir.path().join("way")).unwrap();
        let names = |path: &str, most| {
            let (entries, whole) = beneath.entries(path, most).unwrap();
            (entries.into_iter().map(|e| (e.name, e.kind, e.size)).collect::<Vec<_>>(), whole)
        };
        let (found, whole) = names("", 10);
        assert_eq!(
            found.iter().map(|e| (e.0.as_str(), e.1)).collect::<Vec<_>>(),
            [("a", Kind::File), ("b", Kind::Folder), ("way", Kind::Link)]
        );
        assert!(whole && !names("", 2).1);
        assert_eq!(names("b", 10).0, [("one".to_owned(), Kind::File, 3)]);
        for path in ["way", "a", "..", "/", "b/.."] {
            assert!(matches!(beneath.entries(path, 10), Err(RootedFsError::Refused { .. })), "{path}");
        }
        assert!(matches!(beneath.entries("none", 10), Err(RootedFsError::Missing(_))));
    }

    #[test]
    fn writing_keeps_the_mode_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let beneath = RootedDir::open(dir.path()).unwrap();
        beneath.write("a/b/run.sh", b"one").unwrap();
        let path = dir.path().join("a/b/run.sh");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        beneath.write("a/b/run.sh", b"two").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(beneath.read("a/b/run.sh", 3).unwrap(), b"two");
        assert!(beneath.read("a/b/run.sh", 2).is_err());
        assert_eq!(std::fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1);
    }

    #[test]
    fn what_is_made_belongs_to_the_folder_s_owner() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let root = rustix::process::geteuid().is_root();
        let owner = if root { 65534 } else { rustix::process::geteuid().as_raw() };
        std::os::unix::fs::chown(dir.path(), Some(owner), None).unwrap();
        RootedDir::open(dir.path()).unwrap().write("new/folder/file", b"x").unwrap();
        for made in ["new", "new/folder", "new/folder/file"] {
            assert_eq!(std::fs::metadata(dir.path().join(made)).unwrap().uid(), owner, "{made}");
        }
    }
}
