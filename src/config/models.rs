//! Providers with the place of their key, the vault's key, the walls of commands: types of the tables that are named or secret.

use crate::platform::sandbox::Level;
use crate::providers::settings::Provider;
use std::path::PathBuf;

/// Where a provider's key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// It needs none.
    Nowhere,
    /// In an environment variable.
    Env(String),
    /// In a file.
    File(PathBuf),
    /// In the vault.
    Vault(String),
}

/// A provider as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyed {
    /// The provider; its `key` is there when the variable or file holds one.
    pub provider: Provider,
    /// Where the key is.
    pub place: KeyPlace,
}

impl Keyed {
    /// Why it can't be used now; `None` = it can, as far as this machine tells. A key in the vault is looked up when it is used.
    pub fn missing(&self) -> Option<String> {
        match &self.place {
            KeyPlace::Env(name) if self.provider.key.is_none() => Some(format!("the variable {name} is not set")),
            KeyPlace::File(path) if self.provider.key.is_none() => {
                Some(format!("the file {} holds no key", super::problem::printable(&path.display().to_string())))
            }
            _ => None,
        }
    }
}

/// `[sandbox]`: sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walls {
    /// The level wanted; nothing runs when the machine can't hold it.
    pub level: Level,
    /// Whether a person accepts that level "none" isolates nothing.
    pub accept_no_isolation: bool,
    /// The unprivileged user commands run as when Skep is root, as uid and gid; `None` = chosen by Skep.
    pub user: Option<(u32, u32)>,
    /// Memory of one process.
    pub memory: Option<u64>,
    /// Processes of one command.
    pub processes: u32,
    /// The largest file.
    pub file_size: u64,
    /// All files of one worktree together.
    pub workspace_size: u64,
    /// More folders commands may read: toolchains in unusual places.
    pub toolchains: Vec<PathBuf>,
}

impl Default for Walls {
    fn default() -> Self {
        Self {
            level: Level::Strict,
            accept_no_isolation: false,
            user: None,
            memory: Some(8 << 30),
            processes: 4_096,
            file_size: 4 << 30,
            workspace_size: 20 << 30,
            toolchains: Vec::new(),
        }
    }
}
