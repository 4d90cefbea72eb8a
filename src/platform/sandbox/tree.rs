//! Walks directories that a command can write to, without following links, so that no race can lead outside.

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timestamps, Uid};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Maximum depth of a walk. Deeper directories were created by a command, not by Skep.
const DEPTH_MAX: usize = 256;
/// Bytes charged for a directory entry besides its content: it takes an inode, and a disk has a limited number of
/// those.
const ENTRY_BYTES: u64 = 4096;

/// Gives a directory and everything in it to a user; entries that already belong to the user are left alone.
///
/// # Errors
/// When an entry cannot be given away.
pub fn give(path: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let root = open(rustix::fs::CWD, path)?;
    if rustix::fs::fstat(&root)?.st_uid != uid.as_raw() {
        rustix::fs::fchown(&root, Some(uid), Some(gid))?;
    }
    walk(root, false, &mut |dir, name, stat| {
        if stat.st_uid != uid.as_raw() {
            match rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
                // Another process is changing this directory.
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    })
}

/// Returns the number of bytes of disk a directory takes; stops counting once it exceeds `max_bytes`.
///
/// # Errors
/// When it cannot be read, or is too deep to be counted (`QuotaExceeded`).
pub fn size(path: &Path, max_bytes: u64) -> io::Result<u64> {
    let (mut bytes, over) = (0u64, || io::Error::other("over"));
    let walked = walk(open(rustix::fs::CWD, path)?, true, &mut |_, _, stat| {
        // Blocks, not length: a hole takes no space.
        bytes = bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0) * 512 + ENTRY_BYTES);
        if bytes > max_bytes { Err(over()) } else { Ok(()) }
    });
    match walked {
        Err(e) if bytes <= max_bytes => Err(e),
        _ => Ok(bytes),
    }
}

/// Copies the directory `from` to `to`, which must not exist: directories, regular files with their permissions and
/// modification times, and links as links. Set-ID bits, other kinds of entries and unreadable files are left out.
///
/// # Errors
/// When it cannot be written, or takes more than `max_bytes` or is too deep (`QuotaExceeded`).
pub fn copy(from: &Path, to: &Path, max_bytes: u64) -> io::Result<()> {
    let from = open(rustix::fs::CWD, from)?;
    std::fs::create_dir_all(to)?;
    copy_entries(&from, &open(rustix::fs::CWD, to)?, &mut { max_bytes }, DEPTH_MAX)
}

fn copy_entries(from: &OwnedFd, to: &OwnedFd, left: &mut u64, depth: usize) -> io::Result<()> {
    let own_permissions = |stat: &Stat| Mode::from_raw_mode(stat.st_mode & 0o777);
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0) * 512 + ENTRY_BYTES;
        *left = left.checked_sub(bytes).ok_or(io::ErrorKind::QuotaExceeded)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if depth == 0 => return Err(io::ErrorKind::QuotaExceeded.into()),
            FileType::Directory => {
                let Ok(inner) = open(from.as_fd(), name) else { continue };
                rustix::fs::mkdirat(to, name, own_permissions(&stat) | Mode::RWXU)?;
                copy_entries(&inner, &open(to.as_fd(), name)?, left, depth - 1)?;
            }
            FileType::Symlink => {
                rustix::fs::symlinkat(rustix::fs::readlinkat(from, name, Vec::new())?.as_c_str(), to, name)?;
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let Ok(source) = rustix::fs::openat(from, name, flags, Mode::empty()) else { continue };
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let target = File::from(rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
                io::copy(&mut File::from(source), &mut &target)?;
                rustix::fs::fchmod(&target, own_permissions(&stat))?;
                // Build tools compare modification times.
                let time = |sec, nsec| rustix::fs::Timespec { tv_sec: sec, tv_nsec: nsec as _ };
                let modified = time(stat.st_mtime as _, stat.st_mtime_nsec);
                rustix::fs::futimens(&target, &Timestamps { last_access: modified, last_modification: modified })?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn open(at: BorrowedFd<'_>, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

type Each<'f> = &'f mut dyn FnMut(BorrowedFd<'_>, &std::ffi::CStr, &Stat) -> io::Result<()>;

fn walk(root: OwnedFd, whole: bool, each: Each<'_>) -> io::Result<()> {
    // An open directory for each level, and the subdirectories not visited yet.
    let mut stack = Vec::new();
    let first = list(&root, each)?;
    stack.push((root, first));
    while let Some((dir, names)) = stack.last_mut() {
        let Some(name) = names.pop() else {
            stack.pop();
            continue;
        };
        // Removed in the meantime, or no longer a directory.
        let Ok(inner) = open(dir.as_fd(), &name) else { continue };
        if stack.len() < DEPTH_MAX {
            let names = list(&inner, each)?;
            stack.push((inner, names));
        } else if whole {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
    }
    Ok(())
}

/// Reports each entry, and returns the names of the subdirectories.
fn list(dir: &OwnedFd, each: Each<'_>) -> io::Result<Vec<CString>> {
    let mut folders = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        each(dir.as_fd(), name, &stat)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            folders.push(name.to_owned());
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn a_copy_has_the_same_content_and_follows_no_link() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("a/b")).unwrap();
        std::fs::write(from.join("a/b/tool"), "x").unwrap();
        let set_mode = |path: &str, mode| {
            std::fs::set_permissions(from.join(path), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        set_mode("a/b/tool", 0o4755);
        set_mode("a/b", 0o555);
        symlink(outside.path(), from.join("a/link")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap());
        copy(&from, &to, 1 << 20).unwrap();
        let (old, new) = (from.join("a/b/tool").metadata().unwrap(), to.join("a/b/tool").metadata().unwrap());
        assert_eq!((new.mode() & 0o7777, new.modified().unwrap()), (0o755, old.modified().unwrap()));
        assert!(std::fs::symlink_metadata(to.join("a/link")).unwrap().is_symlink());
        assert!(!to.join("socket").exists());
        let small = dir.path().join("small");
        assert_eq!(copy(&from, &small, 5000).unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
    }

    #[test]
    fn targets_of_links_are_neither_counted_nor_given_away() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("large"), vec![1; 1 << 20]).unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/file"), vec![1; 8192]).unwrap();
        symlink(outside.path(), dir.path().join("a/link")).unwrap();
        symlink(outside.path().join("large"), dir.path().join("large")).unwrap();
        let bytes = size(dir.path(), u64::MAX).unwrap();
        assert!((8192..100_000).contains(&bytes), "{bytes}");
        assert!(size(dir.path(), 100).unwrap() > 100);
        let deep = dir.path().join("d/".repeat(DEPTH_MAX + 1));
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(size(dir.path(), u64::MAX).unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
        if rustix::process::geteuid().is_root() {
            give(dir.path(), (12_345, 12_345)).unwrap();
            assert_eq!(std::fs::metadata(dir.path().join("a/b/file")).unwrap().uid(), 12_345);
            assert_eq!(std::fs::symlink_metadata(dir.path().join("large")).unwrap().uid(), 12_345);
            assert_eq!(std::fs::metadata(outside.path().join("large")).unwrap().uid(), 0);
            assert_eq!(std::fs::metadata(outside.path()).unwrap().uid(), 0);
        }
    }
}
