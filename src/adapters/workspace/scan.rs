//! A walk over a worktree that follows nothing: finds what must never be committed, before git looks at it.
//!
//! Invariant: no path is opened by name from the root; every step is relative to a folder that is held open.

use crate::platform::git::durable_fs::run_blocking;
use crate::ports::{PortError, PortResult};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The deepest nesting walked.
const DEPTH_MAX: usize = 256;
/// The most entries walked.
const ENTRIES_MAX: u64 = 5_000_000;
/// The most finds told.
const FINDS_MAX: usize = 1_000;
/// The largest file of rules git is made to read.
const RULES_MAX: u64 = 4 << 20;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Folders that hold a `.git` in any spelling, and that entry; the worktree's own is left out.
    pub nested: Vec<(PathBuf, PathBuf)>,
    /// FIFOs, sockets and devices.
    pub special: Vec<PathBuf>,
    /// `.gitignore` and the like that git must not be made to open.
    pub traps: Vec<PathBuf>,
}

/// Whether a name is `.git` to any system a commit may be checked out on: case, NTFS short names, streams and trailing
/// dots, and the characters HFS+ ignores.
pub fn is_dot_git(name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(name);
    let plain: String = text
        .chars()
        .filter(|c| !matches!(u32::from(*c), 0x200c..=0x200f | 0x202a..=0x202e | 0x206a..=0x206f | 0xfeff))
        .flat_map(char::to_lowercase)
        .collect();
    let plain = plain.split(':').next().unwrap_or_default().trim_end_matches([' ', '.']);
    plain == ".git" || plain == "git~1"
}

/// Walks the worktree.
pub(super) async fn scan(root: &Path) -> PortResult<Found> {
    let root = root.to_owned();
    run_blocking(move || walk(&root)).await
}

fn failed(path: &Path, errno: Errno) -> PortError {
    let what = format!("cannot look at {} in the worktree: {errno}", path.display());
    if errno == Errno::ACCESS {
        PortError::permanent(what, "make it readable, or remove it")
    } else {
        PortError::transient(what)
    }
}

fn walk(root: &Path) -> PortResult<Found> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let start = rustix::fs::open(root, flags, Mode::empty()).map_err(|e| failed(root, e))?;
    let mut found = Found::default();
    let mut entries = 0_u64;
    // (the folder that holds it, its name there, its path from the root, its depth)
    let mut todo: Vec<(Rc<OwnedFd>, std::ffi::CString, PathBuf, usize)> = Vec::new();
    let mut next = Some((start, PathBuf::new(), 0));
    loop {
        let (fd, here, depth) = match next.take() {
            Some(first) => first,
            None => {
                let Some((parent, name, path, depth)) = todo.pop() else { return Ok(found) };
                match openat(&*parent, name.as_c_str(), flags, Mode::empty()) {
                    Ok(fd) => (fd, path, depth),
                    // Replaced or removed since it was listed: git will see what is there then.
                    Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => continue,
                    Err(e) => return Err(failed(&path, e)),
                }
            }
        };
        let fd = Rc::new(fd);
        for entry in Dir::read_from(&*fd).map_err(|e| failed(&here, e))? {
            let entry = entry.map_err(|e| failed(&here, e))?;
            let name = entry.file_name();
            let bytes = name.to_bytes();
            if bytes == b"." || bytes == b".." || (depth == 0 && bytes == b".git") {
                continue;
            }
            entries += 1;
            if entries > ENTRIES_MAX {
                return Err(PortError::permanent(
                    format!("the worktree holds over {ENTRIES_MAX} files and folders"),
                    "remove what was generated, or keep it outside the worktree",
                ));
            }
            let path = here.join(std::ffi::OsStr::from_bytes(bytes));
            if is_dot_git(bytes) {
                if found.nested.len() < FINDS_MAX {
                    found.nested.push((here.clone(), path));
                }
                continue;
            }
            let is_rules = matches!(bytes, b".gitignore" | b".gitattributes" | b".gitmodules");
            let mut kind = entry.file_type();
            if kind == FileType::Unknown || is_rules {
                match statat(&*fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => {
                        kind = FileType::from_raw_mode(stat.st_mode);
                        let large = u64::try_from(stat.st_size).is_ok_and(|size| size > RULES_MAX);
                        let opens = matches!(kind, FileType::RegularFile | FileType::Symlink | FileType::Directory);
                        if is_rules && (large || !opens) && found.traps.len() < FINDS_MAX {
                            found.traps.push(path.clone());
                        }
                    }
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(failed(&path, e)),
                }
            }
            match kind {
                FileType::Directory if depth >= DEPTH_MAX => {
                    return Err(PortError::permanent(
                        format!("the worktree nests deeper than {DEPTH_MAX} folders"),
                        "remove the deepest folders",
                    ));
                }
                FileType::Directory => todo.push((Rc::clone(&fd), name.to_owned(), path, depth + 1)),
                FileType::RegularFile | FileType::Symlink => {}
                _ if found.special.len() < FINDS_MAX => found.special.push(path),
                _ => {}
            }
        }
    }
}

/// The size of a file below `root`, following no link on the way; 0 for whatever is no regular file or gone.
pub(super) fn sizes(root: &Path, paths: &[PathBuf]) -> PortResult<u64> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root_fd = rustix::fs::open(root, flags, Mode::empty()).map_err(|e| failed(root, e))?;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut sum = 0_u64;
    for path in paths {
        let open = openat2(&root_fd, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), within);
        let Ok(fd) = open else { continue };
        let Ok(stat) = rustix::fs::fstat(&fd) else { continue };
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            sum = sum.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::is_dot_git;

    #[test]
    fn every_spelling_is_seen() {
        for bad in [
            ".git",
            ".GIT",
            ".Git",
            "git~1",
            "GIT~1",
            ".git.",
            ".git ",
            ".git. .",
            ".git::$INDEX_ALLOCATION",
            ".g\u{200c}it",
            "\u{feff}.git",
        ] {
            assert!(is_dot_git(bad.as_bytes()), "{bad:?}");
        }
        for good in [".gitignore", ".github", "git", ".git2", "a.git", "git~10", ".gi"] {
            assert!(!is_dot_git(good.as_bytes()), "{good:?}");
        }
    }
}
