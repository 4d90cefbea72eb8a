//! Scans a worktree for entries that must never be committed, before git reads it. Follows no link.
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

/// Upper bound on the nesting of folders.
const MAX_DEPTH: usize = 256;
/// Upper bound on scanned entries.
const MAX_ENTRIES: u64 = 5_000_000;
/// Upper bound on findings of each kind.
const MAX_FINDINGS: usize = 1_000;
/// Upper bound on a file of rules, such as `.gitignore`, that git may be made to read.
const MAX_RULES_BYTES: u64 = 4 << 20;

/// Findings of a scan.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Folders with a `.git` in any spelling, and that entry. Excludes the worktree's own.
    pub nested: Vec<(PathBuf, PathBuf)>,
    /// FIFOs, sockets and devices.
    pub special: Vec<PathBuf>,
    /// Files of rules that git must not open: too large, or not regular.
    pub traps: Vec<PathBuf>,
}

/// Returns whether a name means `.git` on any system where a commit may be checked out. Covers case, NTFS short names,
/// streams and trailing dots, and the characters HFS+ ignores.
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

/// Scans the worktree at `root`.
pub(super) async fn scan(root: &Path) -> PortResult<Findings> {
    let root = root.to_owned();
    run_blocking(move || walk(&root)).await
}

fn failed(path: &Path, errno: Errno) -> PortError {
    let what = format!("cannot read {} in the worktree: {errno}", path.display());
    if errno == Errno::ACCESS {
        PortError::permanent(what, "make it readable or remove it")
    } else {
        PortError::transient(what)
    }
}

fn walk(root: &Path) -> PortResult<Findings> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let start = rustix::fs::open(root, flags, Mode::empty()).map_err(|e| failed(root, e))?;
    let mut found = Findings::default();
    let mut entries = 0_u64;
    // (open parent folder, name in it, path from the root, depth)
    let mut todo: Vec<(Rc<OwnedFd>, std::ffi::CString, PathBuf, usize)> = Vec::new();
    let mut next = Some((start, PathBuf::new(), 0));
    loop {
        let (fd, here, depth) = match next.take() {
            Some(first) => first,
            None => {
                let Some((parent, name, path, depth)) = todo.pop() else { return Ok(found) };
                match openat(&*parent, name.as_c_str(), flags, Mode::empty()) {
                    Ok(fd) => (fd, path, depth),
                    // Replaced or removed since it was listed; git handles the current entry.
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
            if entries > MAX_ENTRIES {
                return Err(PortError::permanent(
                    format!("the worktree has more than {MAX_ENTRIES} files and folders"),
                    "remove generated files, or move them out of the worktree",
                ));
            }
            let path = here.join(std::ffi::OsStr::from_bytes(bytes));
            if is_dot_git(bytes) {
                if found.nested.len() < MAX_FINDINGS {
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
                        let large = u64::try_from(stat.st_size).is_ok_and(|size| size > MAX_RULES_BYTES);
                        let is_usual = matches!(kind, FileType::RegularFile | FileType::Symlink | FileType::Directory);
                        if is_rules && (large || !is_usual) && found.traps.len() < MAX_FINDINGS {
                            found.traps.push(path.clone());
                        }
                    }
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(failed(&path, e)),
                }
            }
            match kind {
                FileType::Directory if depth >= MAX_DEPTH => {
                    return Err(PortError::permanent(
                        format!("the worktree nests deeper than {MAX_DEPTH} folders"),
                        "remove the deepest folders",
                    ));
                }
                FileType::Directory => todo.push((Rc::clone(&fd), name.to_owned(), path, depth + 1)),
                FileType::RegularFile | FileType::Symlink => {}
                _ if found.special.len() < MAX_FINDINGS => found.special.push(path),
                _ => {}
            }
        }
    }
}

/// Returns the total size of the files below `root`, following no link. Anything missing or not a regular file counts
/// as 0.
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
    fn recognizes_every_spelling_of_dot_git() {
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
