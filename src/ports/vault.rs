//! The vault: secrets people gave Skep to keep. Written and used, never shown.

use super::{PortError, PortResult};
use crate::domain::{ProjectName, Timestamp};
use crate::secrets::Secret;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// The most bytes of a value.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;
const NAME_MAX: usize = 64;

/// A secret's name: a letter, then letters, digits, `_`, `-` and `.`, at most 64 in all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName(String);

impl SecretName {
    /// Reads a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<SecretName, String> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        match text {
            t if t.len() > NAME_MAX => Err(format!("a secret's name has at most {NAME_MAX} characters")),
            t if t.starts_with(|c: char| c.is_ascii_alphabetic()) && t.chars().all(is_word) => {
                Ok(SecretName(t.to_owned()))
            }
            _ => Err("a secret's name begins with a letter and has only letters, digits, _ - and .".to_owned()),
        }
    }
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is shown of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRow {
    /// Its name.
    pub name: String,
    /// The project it is for; `None` = for all.
    pub project: Option<String>,
    /// Counts up with each value.
    pub version: u64,
    /// Which key it is sealed with.
    pub key_id: String,
    /// When the first value was kept.
    pub created_at: Timestamp,
    /// When this value was kept.
    pub updated_at: Timestamp,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
}

/// Every secret sealed with a new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rekeyed {
    /// How many.
    pub secrets: u64,
    /// The new key's id.
    pub key_id: String,
    /// What a person has to do now; empty = nothing.
    pub next: String,
}

/// The vault.
#[async_trait]
pub trait Vault: Send + Sync {
    /// Keeps a value, over an older one of that name; gives its row, and what people should know about where the key is.
    async fn set(
        &self,
        name: &SecretName,
        project: Option<&ProjectName>,
        value: &Secret,
    ) -> PortResult<(SecretRow, Option<String>)>;

    /// The value: the project's own, else the one for all. From now on it is redacted in whatever this process writes.
    async fn open(&self, name: &SecretName, project: Option<&ProjectName>) -> PortResult<Secret>;

    /// The names of all.
    async fn list(&self) -> PortResult<Vec<SecretRow>>;

    /// Forgets a value; `false` = there was none.
    async fn remove(&self, name: &SecretName, project: Option<&ProjectName>) -> PortResult<bool>;

    /// Seals every secret with the key in this file, all or none.
    async fn rekey(&self, new_key_file: &Path) -> PortResult<Rekeyed>;

    /// The value for a command of a run, in a sandbox of this level. At level `none` nothing is given: such a command could be read
    /// by any other of the same user.
    async fn for_run(&self, name: &SecretName, project: &ProjectName, level: &str) -> PortResult<Secret> {
        if level == "none" {
            return Err(PortError::permanent(
                format!("the secret {name} is not given to a run, because the sandbox level is none"),
                "`skep doctor` tells what a stronger sandbox needs; or do without the secret",
            ));
        }
        self.open(name, Some(project)).await
    }
}
