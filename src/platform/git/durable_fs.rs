//! Crash-safe file operations: atomic writes, and removal that copes with any content.

use crate::ports::{PortError, PortResult};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn io_error(doing: &str, path: &Path, error: &std::io::Error) -> PortError {
    let what = format!("cannot {doing} {}: {error}", path.display());
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            PortError::permanent(what, "give the user Skep runs as write access to it")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            PortError::transient(format!("{what}; free some disk space"))
        }
        _ => PortError::transient(what),
    }
}

/// Runs blocking file work on the blocking thread pool.
///
/// # Errors
/// Errors of the work.
pub async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> PortResult<T> + Send + 'static) -> PortResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(PortError::transient(format!("file work was aborted: {e}"))),
    }
}

/// Writes a file atomically: a reader sees the old bytes or the new ones, even after a power failure.
///
/// # Errors
/// Transient for a full disk, permanent for missing permissions.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> PortResult<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let work = || -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        std::fs::File::open(dir)?.sync_all()
    };
    work().map_err(|e| io_error("write", path, &e))
}

/// Copies an index together with its modification time. Git re-reads files that are not older than the index; a newer
/// copy would hide an edit of equal length made right after the checkout.
///
/// # Errors
/// When it cannot be read or written.
pub fn copy_index(from: &Path, to: &Path) -> std::io::Result<()> {
    let written = std::fs::metadata(from)?.modified()?;
    std::fs::copy(from, to)?;
    std::fs::File::options().write(true).open(to)?.set_modified(written)
}

/// Creates a folder and its parents.
///
/// # Errors
/// See [`write_atomic`].
pub fn make_dir(path: &Path) -> PortResult<()> {
    std::fs::create_dir_all(path).map_err(|e| io_error("create", path, &e))
}

/// Reads a small text file; `None` = it does not exist.
///
/// # Errors
/// When it exists and cannot be read.
pub fn read_text(path: &Path) -> PortResult<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error("read", path, &e)),
    }
}

/// Removes a file or folder, without following a link. A missing path is fine.
///
/// # Errors
/// When something remains.
pub fn remove_path(path: &Path) -> PortResult<()> {
    let mut tries = 3;
    loop {
        let removal = match std::fs::symlink_metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => Err(e),
            Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
            Ok(_) => std::fs::remove_file(path),
        };
        match removal {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) if tries == 0 => return Err(io_error("remove", path, &e)),
            // A folder without permissions is made accessible, and the removal is retried in case a process is still
            // writing.
            Err(_) => make_removable(path),
        }
        tries -= 1;
    }
}

/// Gives the owner full permissions on every folder below, as far as possible.
fn make_removable(path: &Path) {
    let mut todo = vec![path.to_owned()];
    while let Some(dir) = todo.pop() {
        if !std::fs::symlink_metadata(&dir).is_ok_and(|m| m.is_dir()) {
            continue;
        }
        // A failure shows up in the removal that follows.
        let _ = std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700));
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        todo.extend(entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
}
