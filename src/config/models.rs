//! Types of `[providers.*]` with the source of their API key, and of `[sandbox]`.

use crate::platform::sandbox::settings::Level;
use crate::providers::settings::Provider;
use std::path::PathBuf;

/// Source of a provider's API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiKeySource {
    /// The provider needs no key.
    None,
    /// An environment variable.
    Env(String),
    /// A file.
    File(PathBuf),
    /// A secret of the vault.
    Vault(String),
}

/// A configured provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyed {
    /// The provider. `key` is set if the variable or file holds a key.
    pub provider: Provider,
    /// Source of the key.
    pub source: ApiKeySource,
}

impl Keyed {
    /// Returns why the provider cannot be used; `None` = no problem is known. A key in the vault is read only when it
    /// is used.
    pub fn missing(&self) -> Option<String> {
        match &self.source {
            ApiKeySource::Env(name) if self.provider.key.is_none() => Some(format!("the variable {name} is not set")),
            ApiKeySource::File(path) if self.provider.key.is_none() => {
                Some(format!("the file {} holds no key", super::problem::printable(&path.display().to_string())))
            }
            _ => None,
        }
    }

    /// Returns [`Keyed::missing`] as an error and its fix.
    pub fn keyless(&self) -> Option<(String, String)> {
        let (why, name) = (self.missing()?, &self.provider.name);
        Some((
            format!("the provider {name} has no key: {why}"),
            format!(
                "set it before Skep starts, or name the source of the key: providers.{name}.key_env, key_file or key_secret"
            ),
        ))
    }
}

/// `[sandbox]`, with sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSettings {
    /// Isolation level. Commands are refused if the machine cannot enforce it.
    pub level: Level,
    /// Whether the operator accepts that level "none" isolates nothing.
    pub accept_no_isolation: bool,
    /// Uid and gid of the unprivileged user that runs commands if Skep is root; `None` = chosen by Skep.
    pub user: Option<(u32, u32)>,
    /// Memory limit of each process, and of the resident memory of all processes of a command together.
    pub memory: Option<u64>,
    /// Maximum number of processes of one command.
    pub processes: u32,
    /// Maximum size of one file.
    pub file_size: u64,
    /// Maximum size of all files of one worktree together.
    pub workspace_size: u64,
    /// Additional folders that commands may read, such as toolchains.
    pub toolchains: Vec<PathBuf>,
}

impl Default for SandboxSettings {
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
