//! The data directory: its default location, and checks that it is owned, private, writable and on a local disk.

use super::problem::{Problem, printable};
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

fn problem<T>(path: &Path, why: impl Into<String>, fix: impl Into<String>) -> Result<T, Problem> {
    let (at, found) = (printable(&path.display().to_string()), String::new());
    Err(Problem { at, source: "data directory".into(), found, why: why.into(), fix: fix.into() })
}

/// Returns `$XDG_DATA_HOME/skep`, else `$HOME/.local/share/skep`.
///
/// # Errors
/// If there is no home directory.
pub fn default_data_dir(xdg_data_home: Option<OsString>, home: Option<OsString>) -> Result<PathBuf, Problem> {
    // By the XDG specification, relative paths are ignored.
    let absolute = |dir: Option<OsString>| dir.map(PathBuf::from).filter(|p| p.is_absolute());
    if let Some(dir) = absolute(xdg_data_home) {
        return Ok(dir.join("skep"));
    }
    match absolute(home) {
        Some(home) => Ok(home.join(".local/share/skep")),
        None => problem(
            Path::new("SKEP_DATA_DIR"),
            "there is no home directory for the data",
            "name a directory with --data-dir or SKEP_DATA_DIR",
        ),
    }
}

/// Creates the data directory (mode 0700) if it does not exist, and checks that it can be used.
///
/// # Errors
/// If it cannot be created or written, belongs to another user, or is writable by others.
pub fn prepare_data_dir(path: &Path) -> Result<(), Problem> {
    match std::fs::metadata(path) {
        Ok(m) => {
            if !m.is_dir() {
                return problem(path, "is not a directory", "name a directory with --data-dir");
            }
            let me = rustix::process::geteuid().as_raw();
            if m.uid() != me {
                let why = format!("belongs to another user (uid {}, this process is uid {me})", m.uid());
                return problem(path, why, "run Skep as that user, or name another directory with --data-dir");
            }
            if m.mode() & 0o022 != 0 {
                let fix = format!("run: chmod 700 {}", printable(&path.display().to_string()));
                return problem(path, "can be written by other users", fix);
            }
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            if let Err(e) = created {
                return refused(path, "cannot be created", &e);
            }
        }
        Err(e) => return refused(path, "cannot be accessed", &e),
    }
    probe(path).or_else(|e| refused(path, "cannot be written", &e))
}

/// Writes, syncs and removes a small file: the only reliable test for a read-only or full disk and for permissions.
fn probe(path: &Path) -> std::io::Result<()> {
    let file = path.join(format!(".probe-{}", std::process::id()));
    let written = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&file).and_then(
        |mut f| {
            f.write_all(&[0; 64 * 1024])?;
            f.sync_all()
        },
    );
    let removed = std::fs::remove_file(&file);
    written.and(removed)
}

fn refused(path: &Path, what: &str, e: &std::io::Error) -> Result<(), Problem> {
    let (why, fix) = match e.kind() {
        ErrorKind::ReadOnlyFilesystem => ("the file system is read-only", "name a writable directory with --data-dir"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ("the disk is full", "free some space, then retry"),
        ErrorKind::PermissionDenied => {
            ("permission denied", "make it writable for this user, or name another with --data-dir")
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            ("a part of its path is not a directory", "name a directory with --data-dir")
        }
        _ => return problem(path, format!("{what}: {}", e.kind()), "name another directory with --data-dir"),
    };
    problem(path, format!("{what}: {why}"), fix)
}

/// Returns the kind of network file system that holds `path`, if any. SQLite's locks are unreliable there.
pub fn network_file_system(path: &Path) -> Option<&'static str> {
    // From linux/magic.h; the type is unsigned on some machines and signed on others.
    let magic = rustix::fs::statfs(path).ok()?.f_type as u32;
    match magic {
        0x6969 => Some("NFS"),
        0x517b => Some("SMB"),
        0xff53_4d42 => Some("CIFS"),
        0xfe53_4d42 => Some("SMB2"),
        0x0102_1997 => Some("9P"),
        0x7375_7245 => Some("Coda"),
        0x5346_414f => Some("AFS"),
        0x00c3_6400 => Some("Ceph"),
        _ => None,
    }
}
