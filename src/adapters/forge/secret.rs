//! Reads the tokens and keys of a forge from where they are configured.
//!
//! Invariant: every token is registered for redaction as long as it is used.

use super::answer::host;
use super::settings::SecretSource;
use crate::domain::ForgeName;
use crate::platform::process::{self, Program};
use crate::ports::{PortError, PortResult, SecretName, Vault};
use crate::secrets::{Live, Secret, read_private, register};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a configured token is used before its source is read again.
pub(super) const TOKEN_REUSE: Duration = Duration::from_secs(60);
const MAX_SECRET_BYTES: u64 = 64 * 1024;
const CLI_TIMEOUT: Duration = Duration::from_secs(20);

/// A token in use.
pub(super) struct TokenInUse {
    pub token: Secret,
    pub until: SystemTime,
    /// Redacts it.
    _live: Live,
}

impl TokenInUse {
    /// Registers a token for redaction.
    pub fn new(forge: &ForgeName, token: Secret, until: SystemTime) -> TokenInUse {
        let live = register(&format!("token of {forge}"), &token);
        TokenInUse { token, until, _live: live }
    }
}

/// Reads the secrets of one forge.
pub(super) struct SecretReader {
    forge: ForgeName,
    url: String,
    vault: Option<Arc<dyn Vault>>,
}

impl SecretReader {
    /// Creates a reader for a forge at this address.
    pub fn new(forge: ForgeName, url: &str, vault: Option<Arc<dyn Vault>>) -> SecretReader {
        SecretReader { forge, url: url.to_owned(), vault }
    }

    /// Reads a secret from its source.
    pub async fn read(&self, source: &SecretSource, what: &str) -> PortResult<Secret> {
        let missing = |why: String, fix: String| {
            PortError::permanent(format!("the forge {} has no {what}: {why}", self.forge), fix)
        };
        let secret = match source {
            SecretSource::Env(name) => std::env::var(name).map(Secret::new).map_err(|_| {
                missing(format!("the variable {name} is not set"), format!("set {name} before Skep starts"))
            }),
            SecretSource::File(path) => read_private(path, MAX_SECRET_BYTES)
                .map_err(|problem| missing(format!("the file {} {}", path.display(), problem.why), problem.fix)),
            SecretSource::Vault(name) => {
                let vault = self.vault.as_ref();
                let vault = vault.ok_or_else(|| missing("the vault is not open".to_owned(), String::new()))?;
                let name = SecretName::new(name).map_err(|why| missing(why, "correct its name".to_owned()))?;
                match vault.open(&name, None).await {
                    Ok(secret) => Ok(secret),
                    Err(PortError::Permanent { what, fix }) => Err(missing(what, fix)),
                    Err(other) => Err(other),
                }
            }
            SecretSource::GitHubCli => self.cli_token("gh", &["auth", "token", "--hostname"], "gh auth login").await,
            SecretSource::GitLabCli => {
                self.cli_token("glab", &["config", "get", "token", "--host"], "glab auth login").await
            }
        }?;
        let trimmed = secret.expose().trim();
        if trimmed.is_empty() {
            return Err(missing(format!("{source} is empty"), format!("store the {what} there")));
        }
        Ok(Secret::new(trimmed))
    }

    /// Asks the forge's command line, which the operator has logged in. `args` end with the host.
    async fn cli_token(&self, name: &str, args: &[&str], login: &str) -> PortResult<Secret> {
        let host = host(&self.url);
        let names = [
            "PATH",
            "HOME",
            "XDG_CONFIG_HOME",
            "XDG_RUNTIME_DIR",
            "GH_CONFIG_DIR",
            "GLAB_CONFIG_DIR",
            "DBUS_SESSION_BUS_ADDRESS",
        ];
        let program = Program {
            name: name.into(),
            args: args.iter().copied().chain([host]).map(Into::into).collect(),
            env: names.into_iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect(),
            dir: "/".into(),
            stdin: Vec::new(),
            timeout: CLI_TIMEOUT,
            max_output: 64 * 1024,
        };
        let fix = format!("log in with `{login} --hostname {host}`, as the user Skep runs as");
        let command = format!("{name} {}", args[..args.len() - 1].join(" "));
        let failed = |why: String| {
            PortError::permanent(
                format!("the forge {} has no token: `{command}` failed: {why}", self.forge),
                fix.clone(),
            )
        };
        let finished = process::run(&program, None).await.map_err(|e| failed(e.to_string()))?;
        match finished.ok() {
            true => Ok(Secret::new(String::from_utf8_lossy(&finished.stdout).trim())),
            false => Err(failed(String::from_utf8_lossy(&finished.stderr).trim().to_owned())),
        }
    }
}
