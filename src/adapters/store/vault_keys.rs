//! The vault's keys: from a configured file or variable, else from a file in the data directory, created at first use.

use crate::ports::{PortError, PortResult};
use crate::secrets::{Key, Secret, read_private};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Prefix of the file names of new keys.
const NEXT: &str = "vault.key.";
/// Upper bound of a key file, in bytes.
const MAX_FILE_BYTES: u64 = 4096;

/// Source of the key.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// This file: `secrets.key_file`.
    File(PathBuf),
    /// The variable of this name, with its value: `secrets.key_env`.
    Env(String, Secret),
    /// `vault.key` in the data directory.
    DataDir,
}

/// The keys this process holds: first the one that seals new values, then those that older rows may need.
#[derive(Debug)]
pub(super) struct VaultKeys {
    source: KeySource,
    data_dir: PathBuf,
    keys: Mutex<Vec<Key>>,
}

impl VaultKeys {
    pub fn new(source: KeySource, data_dir: &Path) -> Self {
        Self { source, data_dir: data_dir.to_owned(), keys: Mutex::default() }
    }

    fn own_file(&self) -> PathBuf {
        self.data_dir.join("vault.key")
    }
    /// Returns the path of a new key until everything is sealed with it.
    fn next_file(&self, id: &str) -> PathBuf {
        self.data_dir.join(format!("{NEXT}{id}"))
    }

    /// Returns whether a key is configured, or was created.
    pub fn is_configured(&self) -> bool {
        !matches!(self.source, KeySource::DataDir) || self.own_file().exists()
    }

    /// Returns a notice for people about the key's location.
    pub fn notice(&self) -> Option<String> {
        matches!(self.source, KeySource::DataDir).then(|| {
            format!(
                "the key is in {}, next to the data: anyone who has both can read the secrets. Use secrets.key_file or \
                 secrets.key_env (`skep secret rekey`) to keep them apart",
                self.own_file().display()
            )
        })
    }

    /// Returns the key that seals new values. With `create`, a missing key of the data directory is created.
    pub fn current(&self, create: bool) -> PortResult<Key> {
        if let Some(key) = self.keys().first() {
            return Ok(key.clone());
        }
        let key = match &self.source {
            KeySource::File(path) => read(path)?,
            KeySource::Env(name, text) => Key::parse(text.expose()).ok_or_else(|| {
                PortError::permanent(format!("the variable {name} does not hold a vault key"), KEY_FORMAT)
            })?,
            KeySource::DataDir => match read(&self.own_file()) {
                Err(_) if create && !self.own_file().exists() => {
                    let key = Key::generate().map_err(no_random)?;
                    write_new(&self.own_file(), &key)?;
                    // Another process may have created it first.
                    read(&self.own_file())?
                }
                other => other?,
            },
        };
        self.keys().push(key.clone());
        Ok(key)
    }

    /// Returns the key of this id from any of its sources.
    pub fn by_id(&self, id: &str) -> PortResult<Option<Key>> {
        let find = || self.keys().iter().find(|key| key.id() == id).cloned();
        if let Some(key) = find() {
            return Ok(Some(key));
        }
        self.current(false)?;
        // The id comes from the store: it must not become a path to another file.
        let next = self.next_file(id);
        if id.bytes().all(|b| b.is_ascii_hexdigit()) && next.exists() {
            let key = read(&next)?;
            self.keys().push(key);
        }
        Ok(find())
    }

    /// Makes a new key durable next to the old one, before anything is sealed with it.
    pub fn announce(&self, new: &Key) -> PortResult<()> {
        write_new(&self.next_file(&new.id()), new)
    }

    /// Makes the new key the current one, now that everything is sealed with it. Returns what a person has to do next.
    pub fn adopt(&self, new: Key, from: &Path) -> PortResult<String> {
        let next = self.next_file(&new.id());
        self.keys().insert(0, new);
        let next_step = match &self.source {
            KeySource::DataDir => {
                std::fs::rename(&next, self.own_file()).map_err(|e| unusable(&self.own_file(), &e))?;
                format!("{} now holds the new key; {} is no longer needed", self.own_file().display(), from.display())
            }
            KeySource::Env(name, _) => format!("put the new key into the variable {name} before the next start"),
            KeySource::File(_) => format!("set secrets.key_file to {} before the next start", from.display()),
        };
        // The files of this and of any interrupted rekeying: nothing is sealed with another key now.
        for entry in std::fs::read_dir(&self.data_dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(NEXT)
                && let Err(e) = std::fs::remove_file(entry.path())
            {
                tracing::warn!(error = %e, "cannot remove the file of an old key");
            }
        }
        Ok(next_step)
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Vec<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const RESTORE: &str =
    "restore the key file, or name another one in secrets.key_file; without the key no secret can be read";
const KEY_FORMAT: &str = "write 64 hex digits (`openssl rand -hex 32`) or base64 of 32 bytes there";

/// Reads a key's file; refuses one that other users can read.
pub(super) fn read(path: &Path) -> PortResult<Key> {
    let refuse =
        |why: &str, fix: &str| PortError::permanent(format!("the vault's key file {} {why}", path.display()), fix);
    let text = read_private(path, MAX_FILE_BYTES).map_err(|problem| match problem.is_missing {
        true => refuse("does not exist", RESTORE),
        false => refuse(&problem.why, &problem.fix),
    })?;
    Key::parse(text.expose()).ok_or_else(|| refuse("does not hold a key", KEY_FORMAT))
}

/// Writes a new key file, atomically; an existing one is left alone.
fn write_new(path: &Path, key: &Key) -> PortResult<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let write = || {
        // Created with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(key.to_hex().as_bytes())?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Err(e) if e.error.kind() != ErrorKind::AlreadyExists => return Err(e.error),
            _ => {}
        }
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| unusable(path, &e))
}

fn unusable(path: &Path, e: &std::io::Error) -> PortError {
    PortError::permanent(format!("cannot use the vault's key file {}: {e}", path.display()), RESTORE)
}

pub(super) fn no_random(e: getrandom::Error) -> PortError {
    PortError::permanent(format!("no random bytes: {e}"), "check this machine's kernel: getrandom does not work")
}
