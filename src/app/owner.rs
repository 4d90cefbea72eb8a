//! Ownership of a data directory: its lock, id and token, and the address of the owner.

use crate::domain::Principal;
use crate::ports::{PortError, PortResult};
use crate::secrets::read_private;
use crate::service::host::HostError;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Minimum length of a token in characters: 32 bytes in hex.
const TOKEN_CHARS: usize = 64;
const MAX_TOKEN_BYTES: u64 = 4096;
/// Maximum time to wait for the answer of an owner that has just started.
const START_TIMEOUT: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How often an owner checks that its data directory is in place.
const OWNERSHIP_INTERVAL: Duration = Duration::from_secs(1);

/// Exclusive ownership of a data directory while it lives. The kernel releases the lock when the process ends, however
/// it ends.
#[derive(Debug)]
pub struct Owned {
    lock: File,
    path: PathBuf,
    endpoint: PathBuf,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.is_in_place() {
            // It may be gone already.
            let _result = std::fs::remove_file(&self.endpoint);
        }
    }
}

/// Process id and address of an owner, published for other processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// Process id.
    pub pid: u32,
    /// Address of its REST API.
    pub address: SocketAddr,
    /// Whether it is a service, rather than a command that ends with its own runs.
    #[serde(default)]
    pub is_service: bool,
}

fn endpoint_path(data_dir: &Path) -> PathBuf {
    data_dir.join("service.json")
}

fn unusable(path: &Path, e: &std::io::Error) -> HostError {
    HostError::config(
        format!("{} cannot be used: {e}", path.display()),
        "make the data directory writable for this user, or name another with --data-dir",
    )
}

/// Takes ownership of the data directory; `None` = another process owns it.
///
/// # Errors
/// If the lock file cannot be opened or locked.
pub fn take(data_dir: &Path) -> Result<Option<Owned>, HostError> {
    let path = data_dir.join("skep.lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let lock = lock.map_err(|e| unusable(&path, &e))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(Owned { lock, path, endpoint: endpoint_path(data_dir) })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(unusable(&path, &e)),
    }
}

/// Returns whether another process owns the data directory.
pub fn taken(data_dir: &Path) -> bool {
    let Ok(lock) = OpenOptions::new().write(true).open(data_dir.join("skep.lock")) else { return false };
    matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
}

impl Owned {
    /// Returns whether the data directory is still the one that was locked, and was not removed or replaced.
    pub fn is_in_place(&self) -> bool {
        let id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        match (self.lock.metadata(), self.path.metadata()) {
            (Ok(locked), Ok(there)) => id(locked) == id(there),
            _ => false,
        }
    }

    /// Returns once the data directory was removed or replaced: then the lock no longer excludes other processes.
    pub async fn lost(&self) {
        while self.is_in_place() {
            tokio::time::sleep(OWNERSHIP_INTERVAL).await;
        }
    }

    /// Publishes the address of this process.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn publish_address(&self, address: SocketAddr, is_service: bool) -> Result<(), HostError> {
        let endpoint = Endpoint { pid: std::process::id(), address, is_service };
        let text = serde_json::to_vec(&endpoint).unwrap_or_default();
        let new = self.endpoint.with_extension("new");
        let written = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut f| f.write_all(&text))
            .and_then(|()| std::fs::rename(&new, &self.endpoint));
        written.map_err(|e| unusable(&self.endpoint, &e))
    }
}

/// Returns the token of a data directory: 32 random bytes in hex, readable by its user only. It is created at the first
/// start.
///
/// # Errors
/// If the file cannot be read or created, or its token is too short.
pub fn token(data_dir: &Path, file: Option<&Path>) -> Result<String, HostError> {
    let path = file.map_or_else(|| data_dir.join("token"), Path::to_owned);
    match read_private(&path, MAX_TOKEN_BYTES) {
        Ok(text) if text.expose().trim().len() >= TOKEN_CHARS => return Ok(text.expose().trim().to_owned()),
        Ok(_) => {
            return Err(HostError::config(
                format!("the token in {} is shorter than {TOKEN_CHARS} characters", path.display()),
                match file {
                    Some(_) => "write a longer one: openssl rand -hex 32",
                    None => "remove the file; a new token is created at the next start",
                },
            ));
        }
        Err(problem) if problem.is_missing && file.is_none() => {}
        Err(problem) => {
            let detail = format!("the token file {} {}", path.display(), problem.why);
            return Err(HostError::config(detail, problem.fix));
        }
    }
    let mut bytes = [0; TOKEN_CHARS / 2];
    File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .map_err(|e| HostError::internal(format!("cannot read random bytes from /dev/urandom: {e}")))?;
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    match create_atomically(&path, &text) {
        Ok(()) => Ok(text),
        // Another process created one at the same time.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => token(data_dir, Some(&path)),
        Err(e) => Err(unusable(&path, &e)),
    }
}

/// Refuses a key file of the vault that other users can read: they could read every secret.
///
/// # Errors
/// If the file exists and is not private.
pub fn require_private_key(data_dir: &Path, file: Option<&Path>) -> Result<(), HostError> {
    let path = file.map_or_else(|| data_dir.join("vault.key"), Path::to_owned);
    match read_private(&path, MAX_TOKEN_BYTES) {
        Err(problem) if !problem.is_missing => {
            Err(HostError::config(format!("the vault's key file {} {}", path.display(), problem.why), problem.fix))
        }
        _ => Ok(()),
    }
}

/// Returns the id of a data directory, which is created at the first start. Runs opened in the directory carry the id,
/// and only they are resumed there. The id moves with the directory.
///
/// # Errors
/// If the file cannot be read or created.
pub fn home(data_dir: &Path) -> PortResult<String> {
    let path = data_dir.join("home");
    let error = |e: std::io::Error| match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            PortError::transient(format!("{} cannot be written: the disk is full; free some space", path.display()))
        }
        _ => PortError::permanent(
            format!("{} cannot be used: {e}", path.display()),
            "make the data directory writable for this user, or name another with --data-dir",
        ),
    };
    let read = || match std::fs::read_to_string(&path) {
        Ok(text) => match uuid::Uuid::try_parse(text.trim()) {
            Ok(id) => Ok(Some(id.simple().to_string())),
            Err(_) => Err(PortError::permanent(
                format!("{} does not hold the data directory's id", path.display()),
                "restore that file from a backup; the runs of this data directory name it in the store (run.home)",
            )),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(error(e)),
    };
    if let Some(id) = read()? {
        return Ok(id);
    }
    let id = uuid::Uuid::now_v7().simple().to_string();
    match create_atomically(&path, &id) {
        Ok(()) => Ok(id),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => read().map(Option::unwrap_or_default),
        Err(e) => Err(error(e)),
    }
}

/// Creates a private file atomically, because a partial one would lock the user out. Fails if the file exists.
fn create_atomically(path: &Path, text: &str) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    crate::fault!("mid-secret");
    file.persist_noclobber(path)?;
    File::open(dir)?.sync_all()
}

/// Returns the owner of the data directory, if there is one. Waits for an owner that has just started.
///
/// # Errors
/// If an owner does not answer in time.
pub async fn running_owner(data_dir: &Path, http: &reqwest::Client) -> Result<Option<Endpoint>, HostError> {
    let end = tokio::time::Instant::now() + START_TIMEOUT;
    while taken(data_dir) {
        let endpoint: Option<Endpoint> =
            std::fs::read(endpoint_path(data_dir)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(endpoint) = endpoint {
            let url = format!("http://{}/health/live", endpoint.address);
            let answer = http.get(url).timeout(Duration::from_secs(2)).send().await;
            if answer.is_ok_and(|a| a.status().is_success()) {
                return Ok(Some(endpoint));
            }
        }
        if tokio::time::Instant::now() > end {
            return Err(HostError::unavailable(
                format!("another process owns the data directory {} and does not respond", data_dir.display()),
                "wait until it has ended, or check its log",
            ));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(None)
}

/// Returns the user of this process.
pub fn person() -> Principal {
    let named = ["USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    let usable = |name: &String| !name.is_empty() && name.len() <= 64 && name.chars().all(|c| !c.is_control());
    let login = named.into_iter().find(usable);
    let login = login.unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()));
    Principal(format!("local:{login}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_or_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let created = token(dir.path(), None).unwrap();
        assert_eq!(token(dir.path(), None).unwrap(), created);
        require_private_key(dir.path(), None).unwrap();
        for name in ["token", "vault.key"] {
            let path = dir.path().join(name);
            std::fs::write(&path, "ab".repeat(32)).unwrap();
            for (mode, is_private) in [(0o644, false), (0o640, false), (0o600, true), (0o400, true)] {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
                let result = match name {
                    "token" => token(dir.path(), Some(&path)).map(drop),
                    _ => require_private_key(dir.path(), None),
                };
                assert_eq!(result.is_ok(), is_private, "{name} {mode:o}");
            }
        }
    }

    #[test]
    fn a_removed_or_replaced_data_directory_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let owned = take(&data).unwrap().unwrap();
        assert!(owned.is_in_place() && take(&data).unwrap().is_none());
        std::fs::remove_dir_all(&data).unwrap();
        assert!(!owned.is_in_place());
        std::fs::create_dir(&data).unwrap();
        let other = take(&data).unwrap().unwrap();
        assert!(!owned.is_in_place() && other.is_in_place());
        std::fs::write(data.join("service.json"), "{}").unwrap();
        drop(owned);
        assert!(data.join("service.json").exists(), "it belongs to the other owner");
    }
}
