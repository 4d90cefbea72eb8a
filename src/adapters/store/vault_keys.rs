//! Where the vault's key comes from: a file or a variable somebody named, else a file in the data directory, made at first use.

use crate::ports::{PortError, PortResult};
use crate::secrets::{Key, Secret};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// How the names of new keys' files begin.
const NEXT: &str = "vault.key.";
/// The most bytes of a key file.
const FILE_BYTES_MAX: u64 = 4096;

/// Where the key is.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// In this file: `secrets.key_file`.
    File(PathBuf),
    /// In the variable of this name, with its value: `secrets.key_env`.
    Env(String, Secret),
    /// In `vault.key` of the data directory.
    DataDir,
}

/// The keys this process has: the one new values are sealed with first, then those that older rows may need.
#[derive(Debug)]
pub(super) struct VaultKeys {
    source: KeySource,
    data_dir: PathBuf,
    held: Mutex<Vec<Key>>,
}

impl VaultKeys {
    pub fn new(source: KeySource, data_dir: &Path) -> Self {
        Self { source, data_dir: data_dir.to_owned(), held: Mutex::default() }
    }

    fn own(&self) -> PathBuf {
        self.data_dir.join("vault.key")
    }
    /// A new key by its id, between the moment it is known and the moment everything is known to be sealed with it.
    fn next(&self, id: &str) -> PathBuf {
        self.data_dir.join(format!("{NEXT}{id}"))
    }

    /// What people should know about where the key is.
    pub fn notice(&self) -> Option<String> {
        matches!(self.source, KeySource::DataDir).then(|| {
            format!(
                "the key is in {}, beside the data: who has both has the secrets. secrets.key_file or secrets.key_env \
                 (`skep secret rekey`) keep them apart",
                self.own().display()
            )
        })
    }

    /// The key new values are sealed with; `make` = made now where the data directory should hold one and does not.
    pub fn current(&self, make: bool) -> PortResult<Key> {
        if let Some(key) = self.held().first() {
            return Ok(key.clone());
        }
        let key = match &self.source {
            KeySource::File(path) => read(path)?,
            KeySource::Env(name, text) => Key::parse(text.expose()).ok_or_else(|| {
                PortError::permanent(format!("the variable {name} holds no key of the vault"), HOW_WRITTEN)
            })?,
            KeySource::DataDir => match read(&self.own()) {
                Err(_) if make && !self.own().exists() => {
                    let key = Key::generate().map_err(no_random)?;
                    write_new(&self.own(), &key)?;
                    // Whoever came first has made it.
                    read(&self.own())?
                }
                other => other?,
            },
        };
        self.held().push(key.clone());
        Ok(key)
    }

    /// The key of this id, wherever this process may have it from.
    pub fn by_id(&self, id: &str) -> PortResult<Option<Key>> {
        let held = || self.held().iter().find(|key| key.id() == id).cloned();
        if let Some(key) = held() {
            return Ok(Some(key));
        }
        self.current(false)?;
        // The id comes from the store: it must not lead elsewhere.
        let next = self.next(id);
        if id.bytes().all(|b| b.is_ascii_hexdigit()) && next.exists() {
            let key = read(&next)?;
            self.held().push(key);
        }
        Ok(held())
    }

    /// Makes a new key durable beside the old one, before anything is sealed with it.
    pub fn announce(&self, new: &Key) -> PortResult<()> {
        write_new(&self.next(&new.id()), new)
    }

    /// Everything is sealed with the new key: it is the current one from now on. Gives what a person has to do.
    pub fn adopt(&self, new: Key, from: &Path) -> PortResult<String> {
        let next = self.next(&new.id());
        self.held().insert(0, new);
        let told = match &self.source {
            KeySource::DataDir => {
                std::fs::rename(&next, self.own()).map_err(|e| unusable(&self.own(), &e))?;
                format!("{} holds the new key now; {} is not needed any more", self.own().display(), from.display())
            }
            KeySource::Env(name, _) => format!("put the new key into the variable {name} before the next start"),
            KeySource::File(_) => format!("set secrets.key_file to {} before the next start", from.display()),
        };
        // Of this time and of any that was cut short: nothing is sealed with another key any more.
        for entry in std::fs::read_dir(&self.data_dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(NEXT)
                && let Err(e) = std::fs::remove_file(entry.path())
            {
                tracing::warn!(error = %e, "a key that is not needed any more could not be removed");
            }
        }
        Ok(told)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Vec<Key>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const HOW_WRITTEN: &str = "write 64 hex digits (`openssl rand -hex 32`) or base64 of 32 bytes there";

/// Reads a key's file, if nobody else can.
pub(super) fn read(path: &Path) -> PortResult<Key> {
    let mut file = File::open(path).map_err(|e| unusable(path, &e))?;
    let meta = file.metadata().map_err(|e| unusable(path, &e))?;
    let refuse =
        |why: &str, fix: &str| Err(PortError::permanent(format!("the vault's key file {} {why}", path.display()), fix));
    if !meta.is_file() {
        return refuse("is no file", "name the file that holds the key");
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return refuse("belongs to another user", "let it belong to the user Skep runs as");
    }
    if meta.mode() & 0o077 != 0 {
        return refuse("can be read by other users", &format!("run: chmod 600 {}", path.display()));
    }
    let mut text = Zeroizing::new(String::new());
    (&mut file).take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|e| unusable(path, &e))?;
    match Key::parse(&text) {
        Some(key) => Ok(key),
        None => refuse("holds no key", HOW_WRITTEN),
    }
}

/// Writes a key's file that is not there yet, whole or not at all.
fn write_new(path: &Path, key: &Key) -> PortResult<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let write = || {
        // Made with mode 0600.
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
    PortError::permanent(
        format!("the vault's key file {} cannot be used: {e}", path.display()),
        "put the key's file there, or name another in secrets.key_file; without its key no secret can be read",
    )
}

pub(super) fn no_random(e: getrandom::Error) -> PortError {
    PortError::permanent(format!("no random bytes: {e}"), "look at this machine's kernel: getrandom does not work")
}
