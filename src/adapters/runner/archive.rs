//! A checkout as one tar file, to be sent to a place; and one file back out of a tar.
//!
//! Invariant: no link is followed, on the way or at its end; only folders, regular files and links themselves go in.

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

/// The folder the checkout is in.
pub const TREE: &str = "tree";
/// Folders beside it, empty: the home, temporary files.
const BESIDE: [&str; 2] = ["home", "tmp"];
/// The most bytes of files.
const BYTES_MAX: u64 = 4 << 30;
/// The most files and folders.
const ENTRIES_MAX: u64 = 1_000_000;
/// The deepest folder.
const DEPTH_MAX: usize = 256;

/// Packs the checkout at `dir` into a file in `scratch` that has no name: it is gone with this process. All of it belongs to `owner`.
///
/// # Errors
/// When it cannot be read or written, or is larger than what is sent.
pub async fn pack(dir: &Path, scratch: &Path, owner: (u32, u32)) -> PortResult<File> {
    let (dir, scratch) = (dir.to_owned(), scratch.to_owned());
    let packed = tokio::task::spawn_blocking(move || {
        let file = tempfile::tempfile_in(&scratch).map_err(|e| unwritten(&scratch, &e))?;
        let mut archive = Parcel { tar: tar::Builder::new(std::io::BufWriter::new(file)), owner, bytes: 0, entries: 0 };
        for name in BESIDE {
            archive.folder(Path::new(name), 0o755).map_err(|e| unwritten(&scratch, &e))?;
        }
        archive.tree(&dir)?;
        let written =
            archive.tar.into_inner().and_then(|w| w.into_inner().map_err(std::io::IntoInnerError::into_error));
        let rewound = written.and_then(|mut file| file.rewind().map(|()| file));
        rewound.map_err(|e| unwritten(&scratch, &e))
    });
    packed.await.map_err(|e| PortError::transient(format!("the checkout was not packed: {e}")))?
}

fn unwritten(scratch: &Path, e: &std::io::Error) -> PortError {
    PortError::transient(format!("the checkout cannot be packed in {}: {e}", scratch.display()))
}

fn unread(path: &Path, e: impl std::fmt::Display) -> PortError {
    PortError::transient(format!("the checkout cannot be read at {}: {e}", path.display()))
}

fn too_large(what: &str) -> PortError {
    PortError::permanent(
        format!("the checkout {what}, more than is sent to a place"),
        "run this check on Skep's own machine, or keep what is generated out of the repository",
    )
}

struct Parcel<W: std::io::Write> {
    tar: tar::Builder<W>,
    owner: (u32, u32),
    bytes: u64,
    entries: u64,
}

impl<W: std::io::Write> Parcel<W> {
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
        // As it is written; only a long one goes the way that may write it shorter.
        match header.set_link_name_literal(target) {
            Ok(()) => self.tar.append_data(&mut header, path, std::io::empty()),
            Err(_) => self.tar.append_link(&mut header, path, OsStr::from_bytes(target)),
        }
    }

    /// Walks name by name from open folders.
    fn tree(&mut self, root: &Path) -> PortResult<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let start = rustix::fs::open(root, flags, Mode::empty()).map_err(|e| unread(root, e))?;
        self.folder(Path::new(TREE), 0o755).map_err(|e| unread(root, e))?;
        let mut todo: Vec<(Rc<OwnedFd>, CString, PathBuf, usize)> = Vec::new();
        let mut next = Some((start, PathBuf::from(TREE), 0));
        loop {
            let (fd, here, depth) = match next.take() {
                Some(first) => first,
                None => {
                    let Some((parent, name, path, depth)) = todo.pop() else { return Ok(()) };
                    let fd = openat(&*parent, name.as_c_str(), flags, Mode::empty()).map_err(|e| unread(&path, e))?;
                    (fd, path, depth)
                }
            };
            let fd = Rc::new(fd);
            for entry in Dir::read_from(&*fd).map_err(|e| unread(&here, e))? {
                let entry = entry.map_err(|e| unread(&here, e))?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                self.entries += 1;
                if self.entries > ENTRIES_MAX {
                    return Err(too_large(&format!("has over {ENTRIES_MAX} files and folders")));
                }
                let path = here.join(OsStr::from_bytes(name.to_bytes()));
                let stat = statat(&*fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| unread(&path, e))?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory if depth >= DEPTH_MAX => {
                        return Err(too_large(&format!("nests deeper than {DEPTH_MAX} folders")));
                    }
                    FileType::Directory => {
                        self.folder(&path, stat.st_mode & 0o777 | 0o700).map_err(|e| unread(&path, e))?;
                        todo.push((Rc::clone(&fd), name.to_owned(), path, depth + 1));
                    }
                    FileType::RegularFile => self.file(&fd, name, &path)?,
                    FileType::Symlink => {
                        let target = readlinkat(&*fd, name, Vec::new()).map_err(|e| unread(&path, e))?;
                        self.link(&path, target.to_bytes()).map_err(|e| unread(&path, e))?;
                    }
                    // Pipes, sockets and devices are in no commit.
                    _ => {}
                }
            }
        }
    }

    fn file(&mut self, folder: &OwnedFd, name: &std::ffi::CStr, path: &Path) -> PortResult<()> {
        // Not blocking, and looked at once more: it may have become a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match openat(folder, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NXIO) => return Ok(()),
            Err(e) => return Err(unread(path, e)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|e| unread(path, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > BYTES_MAX {
            return Err(too_large(&format!("has over {} GiB", BYTES_MAX >> 30)));
        }
        #[allow(clippy::useless_conversion)] // its type differs by platform
        let mut header = self.header(tar::EntryType::Regular, stat.st_mode & 0o777, size, stat.st_mtime.into());
        // Exactly as many bytes as the header says, whatever happens to the file meanwhile.
        let content = Exactly { file: File::from(fd), left: size };
        self.tar.append_data(&mut header, path, content).map_err(|e| unread(path, e))
    }
}

/// A file's first `left` bytes, or an error.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        if most == 0 {
            return Ok(0);
        }
        match self.file.read(&mut into[..most])? {
            0 => Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it became shorter while it was read")),
            n => {
                self.left -= n as u64;
                Ok(n)
            }
        }
    }
}

/// The first entry's bytes, of a tar from outside: a regular file of at most `most` bytes, whatever its name.
///
/// # Errors
/// In words that finish the sentence "its report …".
pub fn one_file(tar: &[u8], most: u64) -> Result<Vec<u8>, String> {
    let broken = |e: std::io::Error| format!("came back broken: {e}");
    let mut archive = tar::Archive::new(tar);
    let mut entries = archive.entries().map_err(broken)?;
    let entry = entries.next().ok_or("came back empty")?.map_err(broken)?;
    if entry.header().entry_type() != tar::EntryType::Regular {
        return Err("is not a regular file".to_owned());
    }
    if entry.size() > most {
        return Err(format!("has {} bytes; at most {most} are read", entry.size()));
    }
    let (size, mut bytes) = (entry.size(), Vec::new());
    entry.take(most).read_to_end(&mut bytes).map_err(broken)?;
    match bytes.len() as u64 == size {
        true => Ok(bytes),
        false => Err("came back cut".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[tokio::test]
    async fn exactly_the_tree_goes_and_no_link_is_followed() {
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
        symlink(outside.path(), at(b"way")).unwrap();
        let pipe = at(b"pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let mut file = pack(dir.path(), scratch.path(), (7, 8)).await.unwrap();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "it has no name");
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
        let mut wanted = vec![
            &b"home"[..],
            b"tmp",
            b"tree",
            b"tree/-rf",
            b"tree/deep",
            b"tree/deep/run me.sh",
            b"tree/link",
            b"tree/new\nline",
            b"tree/odd",
            b"tree/way",
            b"tree/\xff\xfe",
            &long,
        ];
        wanted.sort_unstable();
        assert_eq!(names, wanted);
    }

    #[test]
    fn one_file_comes_out_of_a_tar_and_nothing_else() {
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
        assert_eq!(one_file(&tar(tar::EntryType::Regular, 3, b"abc"), 3).unwrap(), b"abc");
        assert!(one_file(&tar(tar::EntryType::Regular, 3, b"abc"), 2).unwrap_err().contains("at most 2"));
        assert!(one_file(&tar(tar::EntryType::Symlink, 0, b""), 9).unwrap_err().contains("regular"));
        assert!(one_file(&tar(tar::EntryType::Directory, 0, b""), 9).unwrap_err().contains("regular"));
        assert!(one_file(&tar(tar::EntryType::Regular, 9_000, b"abc"), 10_000).is_err());
        assert!(one_file(&tar(tar::EntryType::Regular, u64::MAX >> 2, b"abc"), 10_000).is_err());
        assert!(one_file(b"", 9).is_err() && one_file(&[7; 2000], 9).is_err());
    }
}
