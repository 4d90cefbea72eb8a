//! Files that hold a secret.

use super::Secret;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Why a secret's file cannot be used.
#[derive(Debug)]
pub struct FileProblem {
    /// Whether the file does not exist.
    pub is_missing: bool,
    /// The reason, to follow the name of the file.
    pub why: String,
    /// What to do about it.
    pub fix: String,
}

fn problem<T>(why: impl Into<String>, fix: impl Into<String>) -> Result<T, FileProblem> {
    Err(FileProblem { is_missing: false, why: why.into(), fix: fix.into() })
}

/// Reads a secret from a regular file of at most `max` bytes that only its owner can read: this user, or root. A file of
/// root may be readable by this process's own group, too.
///
/// # Errors
/// The problem with the file, and its fix.
pub fn read_private(path: &Path, max: u64) -> Result<Secret, FileProblem> {
    let unreadable = |e: std::io::Error| FileProblem {
        is_missing: e.kind() == ErrorKind::NotFound,
        why: format!("cannot be read: {e}"),
        fix: "name a file that this user can read".to_owned(),
    };
    // A pipe that nobody writes to must not block the reader. Regular files ignore the flag.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| unreadable(e.into()))?;
    let mut file = File::from(file);
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return problem("is not a regular file", "name a regular file that this user can read");
    }
    if meta.uid() != rustix::process::geteuid().as_raw() && meta.uid() != 0 {
        return problem("belongs to another user", "change its owner to the user Skep runs as");
    }
    let exposed = exposed(meta.mode(), meta.uid(), meta.gid(), rustix::process::getegid().as_raw());
    if exposed != 0 {
        let what = if exposed & 0o022 != 0 { "written" } else { "read" };
        return problem(format!("can be {what} by other users"), format!("run: chmod 600 {}", path.display()));
    }
    if meta.len() > max {
        return problem(format!("is larger than {max} bytes"), "name a file that holds only the secret");
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    match (&mut file).take(max).read_to_string(&mut text) {
        Ok(_) => Ok(Secret::new(text.as_str())),
        Err(e) if e.kind() == ErrorKind::InvalidData => problem("is not UTF-8 text", "save it as UTF-8"),
        Err(e) => Err(unreadable(e)),
    }
}

/// Returns the permission bits that let others than this user read or write a file. A file of root may be readable by
/// this process's own group: Kubernetes mounts secrets that way.
fn exposed(mode: u32, uid: u32, gid: u32, own_group: u32) -> u32 {
    let is_mounted_secret = uid == 0 && gid == own_group && own_group != 0;
    mode & if is_mounted_secret { 0o037 } else { 0o077 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(mode: u32, text: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn only_private_regular_files_are_read() {
        let read = |file: &tempfile::NamedTempFile| read_private(file.path(), 100);
        assert_eq!(read(&file(0o600, b"value")).unwrap().expose(), "value");
        assert_eq!(read(&file(0o400, b"value")).unwrap().expose(), "value");
        for mode in [0o644, 0o640, 0o604, 0o660, 0o622, 0o601] {
            let error = read(&file(mode, b"value")).unwrap_err();
            assert!(error.why.contains("by other users") && error.fix.contains("chmod 600"), "{mode:o}: {error:?}");
        }
        assert!(read(&file(0o600, &[0xff])).unwrap_err().why.contains("UTF-8"));
        assert!(read(&file(0o600, &[b'x'; 101])).unwrap_err().why.contains("larger"));
        let folder = tempfile::tempdir().unwrap();
        assert!(read_private(folder.path(), 100).unwrap_err().why.contains("regular"));
        assert!(read_private(Path::new("/dev/zero"), 100).unwrap_err().why.contains("regular"));
        assert!(read_private(&folder.path().join("x"), 100).unwrap_err().is_missing);
    }

    #[test]
    fn a_pipe_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(read_private(&pipe, 100).unwrap_err().why.contains("regular"));
    }

    #[test]
    fn only_a_file_of_root_may_be_readable_by_the_own_group() {
        for (mode, uid, gid, own_group, expected) in [
            (0o440, 0, 7377, 7377, 0),
            (0o400, 7377, 7377, 7377, 0),
            (0o440, 7377, 7377, 7377, 0o040),
            (0o440, 0, 100, 7377, 0o040),
            (0o440, 0, 0, 0, 0o040),
            (0o444, 0, 7377, 7377, 0o004),
            (0o460, 0, 7377, 7377, 0o020),
        ] {
            assert_eq!(exposed(mode, uid, gid, own_group), expected, "{mode:o} of {uid}:{gid}");
        }
    }
}
