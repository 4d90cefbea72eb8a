//! Secrets, without their values.

use super::Timestamp;
use crate::ports::vault;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Secret, without its value.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Secret {
    /// Name.
    #[schema(example = "FORGE_TOKEN")]
    pub name: String,
    /// Project it belongs to; `null` for all projects.
    pub project: Option<String>,
    /// Version, incremented with each value.
    pub version: u64,
    /// Id of the key that seals it.
    pub key_id: String,
    /// When the first value was stored.
    pub created_at: Timestamp,
    /// When the current value was stored.
    pub updated_at: Timestamp,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
}

impl From<vault::SecretRow> for Secret {
    fn from(row: vault::SecretRow) -> Secret {
        Secret {
            name: row.name,
            project: row.project,
            version: row.version,
            key_id: row.key_id,
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
            last_used_at: row.last_used_at.map(Into::into),
        }
    }
}

/// Secret to store. It is not `Debug`, because the value must never be printed.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"name": "FORGE_TOKEN", "project": "tally", "value": "…"}))]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// Name: a letter, then letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// Project it belongs to; all projects if absent.
    #[serde(default)]
    pub project: Option<String>,
    /// Value, at most 64 KiB.
    pub value: String,
}

/// Stored secret.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StoredSecret {
    /// The secret, without its value.
    pub secret: Secret,
    /// Notice about where the sealing key is kept.
    pub notice: Option<String>,
}

/// Scope of a secret to remove.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SecretScope {
    /// Project it belongs to; the one for all projects if absent.
    pub project: Option<String>,
}

/// Key to seal every secret with.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Key file: an absolute path on the service's machine, readable by its user only.
    pub file: String,
}

/// Result of sealing every secret with a new key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Rekeyed {
    /// Number of secrets.
    pub secrets: u64,
    /// Id of the new key.
    pub key_id: String,
    /// What a person has to do next; empty if nothing.
    pub next_step: String,
}

impl From<vault::Rekeyed> for Rekeyed {
    fn from(rekeyed: vault::Rekeyed) -> Rekeyed {
        Rekeyed { secrets: rekeyed.secrets, key_id: rekeyed.key_id, next_step: rekeyed.next }
    }
}
