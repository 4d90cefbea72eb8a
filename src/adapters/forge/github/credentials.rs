//! The tokens by which Skep authenticates: a configured one, or installation tokens of a GitHub App.
//!
//! Invariant: every token is registered for redaction as long as it is used.

use super::client::{Client, read};
use super::error::{Subject, grant_url};
use super::jwt;
use super::wire::{Installation, InstallationToken};
use crate::adapters::forge::settings::{Account, GitHub, RepoName, SecretSource};
use crate::domain::ForgeName;
use crate::platform::process::{self, Program};
use crate::ports::{PortError, PortResult, SecretName, Vault};
use crate::secrets::{Live, Secret, read_private, register};
use http::Method;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Mutex;

/// How long a configured token is used before its source is read again.
const TOKEN_REUSE: Duration = Duration::from_secs(60);
/// An installation token that expires within this time is replaced.
const EXPIRY_MARGIN: Duration = Duration::from_secs(600);
/// Upper bound on installation tokens in use.
const MAX_INSTALLATION_TOKENS: usize = 200;
const MAX_SECRET_BYTES: u64 = 64 * 1024;
const GH_TIMEOUT: Duration = Duration::from_secs(20);
/// The permissions that Skep uses, as far as the installation has them: what it can do with a token, others could do
/// who steal it.
pub(super) const PERMISSIONS: &[(&str, &str)] = &[
    ("actions", "write"),
    ("checks", "read"),
    ("contents", "write"),
    ("issues", "write"),
    ("metadata", "read"),
    ("pull_requests", "write"),
    ("statuses", "write"),
    ("workflows", "write"),
];

/// A token in use.
struct InUse {
    token: Secret,
    until: SystemTime,
    /// Redacts it.
    _live: Live,
}

impl InUse {
    fn new(forge: &ForgeName, token: Secret, until: SystemTime) -> InUse {
        let live = register(&format!("token of {forge}"), &token);
        InUse { token, until, _live: live }
    }
}

/// The credentials of one forge.
pub(super) struct Credentials {
    forge: ForgeName,
    settings: GitHub,
    vault: Option<Arc<dyn Vault>>,
    tokens: Mutex<HashMap<Option<RepoName>, InUse>>,
}

impl Credentials {
    pub fn new(forge: ForgeName, settings: GitHub, vault: Option<Arc<dyn Vault>>) -> Credentials {
        Credentials { forge, settings, vault, tokens: Mutex::default() }
    }

    /// Returns a token for a repository.
    pub async fn token(&self, client: &Client, repo: &RepoName) -> PortResult<Secret> {
        let key = match self.settings.account {
            Account::Token(_) => None,
            Account::App { .. } => Some(repo.clone()),
        };
        let mut tokens = self.tokens.lock().await;
        let now = SystemTime::now();
        if let Some(used) = tokens.get(&key).filter(|used| used.until > now) {
            return Ok(used.token.clone());
        }
        let fresh = match &self.settings.account {
            Account::Token(source) => {
                let token = self.read(source, "token").await?;
                InUse::new(&self.forge, token, now + TOKEN_REUSE)
            }
            Account::App { .. } => self.installation_token(client, repo).await?,
        };
        if tokens.len() >= MAX_INSTALLATION_TOKENS {
            tokens.retain(|_, used| used.until > now);
        }
        if tokens.len() >= MAX_INSTALLATION_TOKENS {
            tokens.clear();
        }
        let token = fresh.token.clone();
        tokens.insert(key, fresh);
        Ok(token)
    }

    /// Drops a token that was refused. Returns whether another try with a new one may help.
    pub async fn drop_refused(&self, token: &Secret) -> bool {
        let mut tokens = self.tokens.lock().await;
        let before = tokens.len();
        tokens.retain(|_, used| used.token != *token);
        tokens.len() < before
    }

    /// Returns the token by which the App identifies itself; `None` = Skep does not act as an App.
    pub async fn app_token(&self) -> PortResult<Option<Secret>> {
        let Account::App { id, private_key } = &self.settings.account else { return Ok(None) };
        let pem = self.read(private_key, "private key").await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signed = jwt::sign(*id, pem.expose(), now).map_err(|why| {
            PortError::permanent(
                format!("cannot use the private key of the forge {}, {private_key}: {why}", self.forge),
                format!("create a private key at {} and store it there", grant_url(&self.settings)),
            )
        })?;
        Ok(Some(Secret::new(signed)))
    }

    /// Returns the App's installation on a repository.
    pub async fn installation(&self, client: &Client, repo: &RepoName) -> PortResult<Installation> {
        let doing = "find the GitHub App's installation";
        let app_token = self.app_token().await?;
        let url = format!("{}/repos/{repo}/installation", self.settings.api_url);
        let answer = client.send(app_token.as_ref(), Method::GET, &url, None, doing).await?;
        if answer.status == http::StatusCode::NOT_FOUND {
            return Err(PortError::permanent(
                format!(
                    "the GitHub App of the forge {} is not installed on {repo}, or there is no such repository",
                    self.forge
                ),
                format!("install it: {} > Install App, then run `skep unblock`", grant_url(&self.settings)),
            ));
        }
        if answer.status != http::StatusCode::OK {
            return Err(self.subject(repo, doing, true).refusal(&answer));
        }
        read(&answer, doing)
    }

    async fn installation_token(&self, client: &Client, repo: &RepoName) -> PortResult<InUse> {
        let doing = "create an installation token";
        let installation = self.installation(client, repo).await?;
        if installation.suspended_at.is_some() {
            return Err(PortError::permanent(
                format!("the installation of the GitHub App on {} is suspended", repo.owner),
                "lift the suspension in the settings of the organization, then run `skep unblock`",
            ));
        }
        let permissions = down_scoped(&installation.permissions);
        let body = json!({ "repositories": [repo.name], "permissions": permissions });
        let url = format!("{}/app/installations/{}/access_tokens", self.settings.api_url, installation.id);
        let app_token = self.app_token().await?;
        let answer = client.send(app_token.as_ref(), Method::POST, &url, Some(&body), doing).await;
        let answer = answer.map_err(|e| match e {
            // A second token does no harm.
            PortError::Unknown { what } => PortError::transient(what),
            other => other,
        })?;
        if answer.status != http::StatusCode::CREATED {
            return Err(self.subject(repo, doing, true).refusal(&answer));
        }
        let InstallationToken { token, expires_at } = read(&answer, doing)?;
        let expires_at = chrono::DateTime::parse_from_rfc3339(&expires_at)
            .map_err(|e| PortError::transient(format!("cannot {doing}: its expiry is not a time: {e}")))?;
        Ok(InUse::new(&self.forge, Secret::new(token), SystemTime::from(expires_at) - EXPIRY_MARGIN))
    }

    fn subject<'a>(&'a self, repo: &'a RepoName, doing: &'a str, is_read: bool) -> Subject<'a> {
        Subject { forge: self.forge.as_str(), settings: &self.settings, repo: Some(repo), doing, is_read }
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
            SecretSource::GitHubCli => self.gh_token().await,
        }?;
        let trimmed = secret.expose().trim();
        if trimmed.is_empty() {
            return Err(missing(format!("{source} is empty"), format!("store the {what} there")));
        }
        Ok(Secret::new(trimmed))
    }

    /// Asks GitHub's command line, which the operator has logged in.
    async fn gh_token(&self) -> PortResult<Secret> {
        let host = super::error::host(&self.settings.url);
        let names = ["PATH", "HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "GH_CONFIG_DIR", "DBUS_SESSION_BUS_ADDRESS"];
        let program = Program {
            name: "gh".into(),
            args: ["auth", "token", "--hostname", host].map(Into::into).into(),
            env: names.into_iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect(),
            dir: "/".into(),
            stdin: Vec::new(),
            timeout: GH_TIMEOUT,
            max_output: 64 * 1024,
        };
        let login = format!("log in with `gh auth login --hostname {host}`, as the user Skep runs as");
        let failed = |why: String| {
            PortError::permanent(format!("the forge {} has no token: `gh auth token` {why}", self.forge), login.clone())
        };
        let finished = process::run(&program, None).await.map_err(|e| failed(format!("failed: {e}")))?;
        match finished.ok() {
            true => Ok(Secret::new(String::from_utf8_lossy(&finished.stdout).trim())),
            false => Err(failed(format!("failed: {}", String::from_utf8_lossy(&finished.stderr).trim()))),
        }
    }
}

/// Returns the permissions that Skep uses, at most at the level that the installation has.
fn down_scoped(granted: &BTreeMap<String, String>) -> BTreeMap<&'static str, &'static str> {
    let scoped = |(name, wanted): &(&'static str, &'static str)| {
        let level = match granted.get(*name)?.as_str() {
            "write" | "admin" => wanted,
            _ => "read",
        };
        // There is no permission to only read workflows.
        (*name != "workflows" || level == "write").then_some((*name, level))
    };
    PERMISSIONS.iter().filter_map(scoped).collect()
}
