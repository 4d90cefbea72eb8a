//! The vault: secrets that people store in Skep. They are written and used, but never shown.

use super::{PortError, PortResult};
use crate::domain::{ProjectName, Timestamp};
use crate::secrets::Secret;
pub use crate::secrets::SecretName;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Upper bound on a value, in bytes.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Metadata of a secret, which people may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRow {
    /// Its name.
    pub name: String,
    /// The project it belongs to; `None` = all projects.
    pub project: Option<String>,
    /// Grows with each value.
    pub version: u64,
    /// The id of the key that seals it.
    pub key_id: String,
    /// When the first value was stored.
    pub created_at: Timestamp,
    /// When this value was stored.
    pub updated_at: Timestamp,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
}

/// Result of resealing every secret with a new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rekeyed {
    /// Number of secrets.
    pub secrets: u64,
    /// The new key's id.
    pub key_id: String,
    /// What a person has to do next; empty = nothing.
    pub next: String,
}

/// The vault.
#[async_trait]
pub trait Vault: Send + Sync {
    /// Stores a value, replacing an older one of that name. Returns its row, and a notice about the key's location if
    /// there is one.
    async fn set(
        &self,
        name: &SecretName,
        project: Option<&ProjectName>,
        value: &Secret,
    ) -> PortResult<(SecretRow, Option<String>)>;

    /// Returns the value: the project's own, else the one for all projects. From now on it is redacted from everything
    /// this process writes.
    async fn open(&self, name: &SecretName, project: Option<&ProjectName>) -> PortResult<Secret>;

    /// Makes every stored value known to this process, so that it is redacted and found from now on, whichever process
    /// used it. A value that cannot be opened is left out.
    async fn remember(&self) -> PortResult<()>;

    /// Lists all secrets, without values.
    async fn list(&self) -> PortResult<Vec<SecretRow>>;

    /// Removes a value; `false` = there was none.
    async fn remove(&self, name: &SecretName, project: Option<&ProjectName>) -> PortResult<bool>;

    /// Reseals every secret with the key in this file, all or none.
    async fn rekey(&self, new_key_file: &Path) -> PortResult<Rekeyed>;

    /// Checks that the key that each secret is sealed with is there; the error names the fix.
    async fn check(&self) -> PortResult<()>;

    /// Returns the value for a command of a run in a sandbox of this level. At level `none` it is refused, because any
    /// other process of the same user could read it.
    async fn for_run(&self, name: &SecretName, project: &ProjectName, level: &str) -> PortResult<Secret> {
        if level == "none" {
            return Err(PortError::permanent(
                format!("the secret {name} is not given to a run, because the sandbox level is none"),
                "run `skep doctor` to see what a stronger sandbox needs, or do without the secret",
            ));
        }
        self.open(name, Some(project)).await
    }
}
