//! Packs a checkout into a tar file for a remote runner, and reads a single file back out of a tar.
//!
//! Invariant: no symbolic link is followed, neither within a path nor at its end. Only folders, regular files and the
//! links themselves are packed.

use crate::ports::{PortError, PortResult};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Folder that holds the checkout.
pub const TREE: &str = "tree";
/// Empty folders next to it: the home, and temporary files.
const EMPTY_FOLDERS: [&str; 2] = ["home", "tmp"];
/// Upper bound on the sum of file sizes.
const MAX_BYTES: u64 = 4 << 30;
/// Upper bound on files and folders.
const MAX_ENTRIES: u64 = 1_000_000;
/// Upper bound on the nesting of folders.
const MAX_DEPTH: usize = 256;

/// Selects the files of a checkout by their paths in it.
pub type PathFilter = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Packs the checkout at `dir` into an unnamed file in `scratch`, which disappears with this process. `owner` is the
/// user and group id of every entry. With a filter, only the regular files that it selects are packed.
///
/// # Errors
/// When the checkout cannot be read, the file cannot be written, or a size limit is exceeded.
pub async fn pack(dir: &Path, scratch: &Path, owner: (u32, u32), filter: Option<PathFilter>) -> PortResult<File> {
    let (dir, scratch) = (dir.to_owned(), scratch.to_owned());
    let packed = tokio::task::spawn_blocking(move || {
        let file = tempfile::tempfile_in(&scratch).map_err(|e| write_error(&scratch, &e))?;
        let tar = tar::Builder::new(std::io::BufWriter::new(file));
        let is_whole = filter.is_none();
        let mut archive = Packer { tar, owner, filter, bytes: 0, entries: 0 };
        for name in EMPTY_FOLDERS.into_iter().filter(|_| is_whole) {
            archive.folder(Path::new(name), 0o755).map_err(|e| write_error(&scratch, &e))?;
        }
        archive.tree(&dir)?;
        let written =
            archive.tar.into_inner().and_then(|w| w.into_inner().map_err(std::io::IntoInnerError::into_error));
        let rewound = written.and_then(|mut file| file.rewind().map(|()| file));
        rewound.map_err(|e| write_error(&scratch, &e))
    });
    packed.await.map_err(|e| PortError::transient(format!("packing the checkout was aborted: {e}")))?
}

fn write_error(scratch: &Path, e: &std::io::Error) -> PortError {
    PortError::transient(format!("cannot pack the checkout into {}: {e}", scratch.display()))
}

fn read_error(path: &Path, e: impl std::fmt::Display) -> PortError {
    PortError::transient(format!("cannot read the checkout at {}: {e}", path.display()))
}

fn too_large(what: &str) -> PortError {
    PortError::permanent(
        format!("the checkout is too large for a remote runner: it {what}"),
        "run this check on the local runner, or keep generated files out of the repository",
    )
}

struct Packer<W: std::io::Write> {
    tar: tar::Builder<W>,
    owner: (u32, u32),
    filter: Option<PathFilter>,
    bytes: u64,
    entries: u64,
}

impl<W: std::io::Write> Packer<W> {
    fn header(&self, kind: tar::EntryType, mode: u32, size: u64, mtime: i64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(self.owner.0.into());
        header.set_gid(self.owner.1.into());
        header.set_mtime(u64::try_from(mtime).unwrap_or(0));
        header
    }

    fn folder(&mut self, path: &Path, mode: u32) -> std::io::Result<()> {
        let mut header = self.header(tar::EntryType::Directory, mode, 0, 0);
        self.tar.append_data(&mut header, path, std::io::empty())
    }

    fn link(&mut self, path: &Path, target: &[u8]) -> std::io::Result<()> {
        let mut header = self.header(tar::EntryType::Symlink, 0o777, 0, 0);
        // Stored byte for byte. Only a long target uses the other call, which may normalize it.
        match header.set_link_name_literal(target) {
            Ok(()) => self.tar.append_data(&mut header, path, std::io::empty()),
            Err(_) => self.tar.append_link(&mut header, path, OsStr::from_bytes(target)),
        }
    }

    /// Returns whether a path in the archive is packed; folders and links are only without a filter.
    fn selects(&self, path: &Path, is_file: bool) -> bool {
        let Some(filter) = &self.filter else { return true };
        let inside = path.strip_prefix(TREE).ok().and_then(Path::to_str);
        is_file && inside.is_some_and(filter)
    }

    /// Packs a tree, opening every entry relative to its open parent folder.
    fn tree(&mut self, root: &Path) -> PortResult<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let start = rustix::fs::open(root, flags, Mode::empty()).map_err(|e| read_error(root, e))?;
        self.folder(Path::new(TREE), 0o755).map_err(|e| read_error(root, e))?;
        let mut todo: Vec<(Rc<OwnedFd>, CString, PathBuf, usize)> = Vec::new();
        let mut next = Some((start, PathBuf::from(TREE), 0));
        loop {
            let (fd, here, depth) = match next.take() {
                Some(first) => first,
                None => {
                    let Some((parent, name, path, depth)) = todo.pop() else { return Ok(()) };
                    let fd =
                        openat(&*parent, name.as_c_str(), flags, Mode::empty()).map_err(|e| read_error(&path, e))?;
                    (fd, path, depth)
                }
            };
            let fd = Rc::new(fd);
            for entry in Dir::read_from(&*fd).map_err(|e| read_error(&here, e))? {
                let entry = entry.map_err(|e| read_error(&here, e))?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                self.entries += 1;
                if self.entries > MAX_ENTRIES {
                    return Err(too_large(&format!("has more than {MAX_ENTRIES} files and folders")));
                }
                let path = here.join(OsStr::from_bytes(name.to_bytes()));
                let stat = statat(&*fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| read_error(&path, e))?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory if depth >= MAX_DEPTH => {
                        return Err(too_large(&format!("nests deeper than {MAX_DEPTH} folders")));
                    }
                    FileType::Directory => {
                        if self.selects(&path, false) {
                            self.folder(&path, stat.st_mode & 0o777 | 0o700).map_err(|e| read_error(&path, e))?;
                        }
                        todo.push((Rc::clone(&fd), name.to_owned(), path, depth + 1));
                    }
                    FileType::RegularFile if self.selects(&path, true) => self.file(&fd, name, &path)?,
                    FileType::Symlink if self.selects(&path, false) => {
                        let target = readlinkat(&*fd, name, Vec::new()).map_err(|e| read_error(&path, e))?;
                        self.link(&path, target.to_bytes()).map_err(|e| read_error(&path, e))?;
                    }
                    // What the filter leaves out; and no commit contains pipes, sockets or devices.
                    _ => {}
                }
            }
        }
    }

    fn file(&mut self, folder: &OwnedFd, name: &std::ffi::CStr, path: &Path) -> PortResult<()> {
        // Opened non-blocking and checked again, because it may have become a pipe since.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match openat(folder, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NXIO) => return Ok(()),
            Err(e) => return Err(read_error(path, e)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|e| read_error(path, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > MAX_BYTES {
            return Err(too_large(&format!("has more than {} GiB", MAX_BYTES >> 30)));
        }
        #[allow(clippy::useless_conversion)] // its type differs by platform
        let mut header = self.header(tar::EntryType::Regular, stat.st_mode & 0o777, size, stat.st_mtime.into());
        // Exactly as many bytes as the header promises, even if the file changes meanwhile.
        let content = ExactBytes { file: File::from(fd), remaining: size };
        self.tar.append_data(&mut header, path, content).map_err(|e| read_error(path, e))
    }
}

/// Reads exactly `remaining` bytes of a file, or fails.
struct ExactBytes {
    file: File,
    remaining: u64,
}

impl Read for ExactBytes {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        match self.file.read(&mut buffer[..wanted])? {
            0 => Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the file shrank while it was read")),
            n => {
                self.remaining -= n as u64;
                Ok(n)
            }
        }
    }
}

/// Returns the content of the first entry of an untrusted tar: a regular file of at most `max_bytes`, under any name.
///
/// # Errors
/// A text that completes the sentence "its report …".
pub fn read_single_file(tar: &[u8], max_bytes: u64) -> Result<Vec<u8>, String> {
    let broken = |e: std::io::Error| format!("arrived as an invalid archive: {e}");
    let mut archive = tar::Archive::new(tar);
    let mut entries = archive.entries().map_err(broken)?;
    let entry = entries.next().ok_or("arrived as an empty archive")?.map_err(broken)?;
    if entry.header().entry_type() != tar::EntryType::Regular {
        return Err("is not a regular file".to_owned());
    }
    if entry.size() > max_bytes {
        return Err(format!("has {} bytes; the limit is {max_bytes}", entry.size()));
    }
    let (size, mut bytes) = (entry.size(), Vec::new());
    entry.take(max_bytes).read_to_end(&mut bytes).map_err(broken)?;
    match bytes.len() as u64 == size {
        true => Ok(bytes),
        false => Err("arrived truncated".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[tokio::test]
    async fn packs_exactly_the_tree_and_follows_no_link() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "canary").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &[u8]| dir.path().join(OsStr::from_bytes(name));
        std::fs::create_dir(at(b"deep")).unwrap();
        for name in [&b"-rf"[..], b"new\nline", b"\xff\xfe", b"deep/run me.sh"] {
            std::fs::write(at(name), name).unwrap();
        }
        std::fs::write(at(&[b'n'; 200]), "long").unwrap();
        std::fs::set_permissions(at(b"deep/run me.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        symlink(outside.path().join("secret"), at(b"link")).unwrap();
        symlink("./deep//x", at(b"odd")).unwrap();
        symlink(outside.path(), at(b"dirlink")).unwrap();
        let pipe = at(b"pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let mut file = pack(dir.path(), scratch.path(), (7, 8), None).await.unwrap();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "the archive file is unnamed");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert!(!bytes.windows(6).any(|w| w == b"canary"));
        let mut names = Vec::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (7, 8));
            let path = entry.path_bytes().into_owned();
            if path == b"tree/odd" {
                assert_eq!(&*entry.link_name_bytes().unwrap(), b"./deep//x");
            }
            if path == b"tree/deep/run me.sh" {
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                assert_eq!((text.as_str(), entry.header().mode().unwrap()), ("deep/run me.sh", 0o755));
            }
            names.push(path);
        }
        names.sort();
        let long = [b"tree/".as_slice(), &[b'n'; 200]].concat();
        let mut expected = vec![
            &b"home"[..],
            b"tmp",
            b"tree",
            b"tree/-rf",
            b"tree/deep",
            b"tree/deep/run me.sh",
            b"tree/link",
            b"tree/new\nline",
            b"tree/odd",
            b"tree/dirlink",
            b"tree/\xff\xfe",
            &long,
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
    }

    #[test]
    fn reads_one_regular_file_and_nothing_else() {
        let tar = |kind, size: u64, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_path("any/name").unwrap();
            header.set_cksum();
            let mut all = header.as_bytes().to_vec();
            all.extend_from_slice(bytes);
            all.resize(all.len().next_multiple_of(512) + 1024, 0);
            all
        };
        assert_eq!(read_single_file(&tar(tar::EntryType::Regular, 3, b"abc"), 3).unwrap(), b"abc");
        assert!(read_single_file(&tar(tar::EntryType::Regular, 3, b"abc"), 2).unwrap_err().contains("limit is 2"));
        assert!(read_single_file(&tar(tar::EntryType::Symlink, 0, b""), 9).unwrap_err().contains("regular"));
        assert!(read_single_file(&tar(tar::EntryType::Directory, 0, b""), 9).unwrap_err().contains("regular"));
        assert!(read_single_file(&tar(tar::EntryType::Regular, 9_000, b"abc"), 10_000).is_err());
        assert!(read_single_file(&tar(tar::EntryType::Regular, u64::MAX >> 2, b"abc"), 10_000).is_err());
        assert!(read_single_file(b"", 9).is_err() && read_single_file(&[7; 2000], 9).is_err());
    }
}
