//! What the commands about forges use.

use serde::Serialize;
use std::path::PathBuf;

/// Configured forge.
#[derive(Clone, Debug, Serialize)]
pub struct ForgeRow {
    /// Its name.
    pub name: String,
    /// Its kind, such as `github`.
    pub kind: String,
    /// Its address.
    pub url: String,
    /// How Skep authenticates, without any secret.
    pub account: String,
}

/// A forge to add to the configuration.
#[derive(Clone, Debug)]
pub struct NewForge {
    /// Its name.
    pub name: String,
    /// Its kind: `github`, `gitlab`, `forgejo` or `gitea`.
    pub kind: String,
    /// Its address; `None` = the public one.
    pub url: Option<String>,
    /// The file with the token; `None` = the usual variable, or the command line of GitHub or GitLab.
    pub token_file: Option<PathBuf>,
    /// The label that starts a run.
    pub label: Option<String>,
    /// The repository in which the permissions are tested.
    pub repo: Option<String>,
}

/// A forge that was added to the configuration.
#[derive(Clone, Debug, Serialize)]
pub struct AddedForge {
    /// The configuration file.
    pub file: String,
    /// How Skep authenticates, without any secret.
    pub account: String,
    /// Its test.
    pub test: ForgeTest,
}

/// Result of a forge test.
#[derive(Clone, Debug, Serialize)]
pub struct ForgeTest {
    /// The forge's name.
    pub name: String,
    /// Whether every permission that is not optional is granted.
    pub passed: bool,
    /// Each permission.
    pub permissions: Vec<ForgePermission>,
}

/// One permission that Skep uses on a forge.
#[derive(Clone, Debug, Serialize)]
pub struct ForgePermission {
    /// The permission, as the forge names it.
    pub permission: String,
    /// Whether it is granted.
    pub granted: bool,
    /// Whether Skep works without it.
    pub optional: bool,
    /// What was observed, or where to grant it.
    pub detail: String,
}
