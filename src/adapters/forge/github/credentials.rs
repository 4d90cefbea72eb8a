//! The tokens by which Skep authenticates: a configured one, or installation tokens of a GitHub App.
//!
//! Invariant: every token is registered for redaction as long as it is used.

use super::error::{Subject, grant_url};
use super::jwt;
use super::wire::{Installation, InstallationToken};
use crate::adapters::forge::client::{Client, read};
use crate::adapters::forge::secret::{SecretReader, TOKEN_REUSE, TokenInUse};
use crate::adapters::forge::settings::{Account, GitHub, RepoName};
use crate::domain::ForgeName;
use crate::ports::{PortError, PortResult, Vault};
use crate::secrets::Secret;
use http::Method;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Mutex;

/// An installation token that expires within this time is replaced.
const EXPIRY_MARGIN: Duration = Duration::from_secs(600);
/// Upper bound on installation tokens in use.
const MAX_INSTALLATION_TOKENS: usize = 200;
/// The permissions that Skep uses, as far as the installation has them: what it can do with a token, others could do
/// who steal it.
pub(super) const PERMISSIONS: &[(&str, &str)] = &[
    ("actions", "write"),
    ("checks", "read"),
    ("contents", "write"),
    ("deployments", "write"),
    ("issues", "write"),
    ("metadata", "read"),
    ("pull_requests", "write"),
    ("statuses", "write"),
    ("workflows", "write"),
];

/// The credentials of one forge.
pub(super) struct Credentials {
    forge: ForgeName,
    settings: GitHub,
    /// Where the configured secrets are read.
    pub secrets: SecretReader,
    tokens: Mutex<HashMap<Option<RepoName>, TokenInUse>>,
}

impl Credentials {
    pub fn new(forge: ForgeName, settings: GitHub, vault: Option<Arc<dyn Vault>>) -> Credentials {
        let secrets = SecretReader::new(forge.clone(), &settings.url, vault);
        Credentials { forge, settings, secrets, tokens: Mutex::default() }
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
                let token = self.secrets.read(source, "token").await?;
                TokenInUse::new(&self.forge, token, now + TOKEN_REUSE)
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
        let pem = self.secrets.read(private_key, "private key").await?;
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

    async fn installation_token(&self, client: &Client, repo: &RepoName) -> PortResult<TokenInUse> {
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
        Ok(TokenInUse::new(&self.forge, Secret::new(token), SystemTime::from(expires_at) - EXPIRY_MARGIN))
    }

    fn subject<'a>(&'a self, repo: &'a RepoName, doing: &'a str, is_read: bool) -> Subject<'a> {
        Subject { forge: self.forge.as_str(), settings: &self.settings, repo: Some(repo), doing, is_read }
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
