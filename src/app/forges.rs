//! The forges of this process, looked up by name and by the repositories they hold.

use crate::adapters::forge::forgejo::{self, ForgejoForge};
use crate::adapters::forge::github::{self, GitHubForge};
use crate::adapters::forge::gitlab::{self, GitLabForge};
use crate::adapters::forge::permission::PermissionTest;
use crate::adapters::forge::settings::{ForgeSettings, RepoName};
use crate::config::Config;
use crate::domain::ForgeName;
use crate::ports::forge::LocatedRepo;
use crate::ports::{
    Forge, ForgeIssues, Forges, GitCredential, GitCredentials, HumanActions, PortError, PortResult, Vault,
};
use crate::service::host::{Finding, ForgePermission, ForgeRow, ForgeTest, HostError, HostResult, Severity};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// How long `doctor` waits for a forge.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// A forge on another machine, with its issues and its credentials for git.
trait RemoteForge: Forge + ForgeIssues + GitCredentials {}

impl<F: Forge + ForgeIssues + GitCredentials> RemoteForge for F {}

type Configured = BTreeMap<ForgeName, (ForgeSettings, Arc<dyn RemoteForge>)>;

/// The forges of the configuration. They follow it while the process runs.
pub struct ConfiguredForges {
    vault: Arc<dyn Vault>,
    forges: RwLock<Arc<Configured>>,
}

impl std::fmt::Debug for ConfiguredForges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.all().keys()).finish()
    }
}

impl ConfiguredForges {
    /// Creates an empty set, whose secrets are in this vault.
    pub fn new(vault: Arc<dyn Vault>) -> ConfiguredForges {
        ConfiguredForges { vault, forges: RwLock::default() }
    }

    /// Adopts a configuration. A forge whose settings did not change keeps what it knows.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn adopt(&self, config: &Config) -> PortResult<()> {
        let before = self.all();
        let mut next = Configured::new();
        for (name, settings) in &config.forges {
            let name = ForgeName(name.clone());
            let forge: Arc<dyn RemoteForge> = match (before.get(&name), settings) {
                (Some((known, forge)), _) if known == settings => forge.clone(),
                (_, ForgeSettings::GitHub(github)) => {
                    Arc::new(GitHubForge::new(name.clone(), github.clone(), Some(self.vault.clone()))?)
                }
                (_, ForgeSettings::Forgejo(forgejo)) => {
                    Arc::new(ForgejoForge::new(name.clone(), forgejo.clone(), Some(self.vault.clone()))?)
                }
                (_, ForgeSettings::GitLab(gitlab)) => {
                    Arc::new(GitLabForge::new(name.clone(), gitlab.clone(), Some(self.vault.clone()))?)
                }
            };
            next.insert(name, (settings.clone(), forge));
        }
        *self.forges.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(())
    }

    fn all(&self) -> Arc<Configured> {
        self.forges.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl GitCredentials for ConfiguredForges {
    async fn credential(&self, url: &str) -> PortResult<Option<GitCredential>> {
        for (_, forge) in self.all().values() {
            if let Some(credential) = forge.credential(url).await? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }
}

/// The local forge and the configured ones.
pub struct ForgeRegistry {
    local: Arc<dyn Forge>,
    local_actions: Arc<dyn HumanActions>,
    configured: Arc<ConfiguredForges>,
}

impl ForgeRegistry {
    /// Creates a registry.
    pub fn new<F: Forge + HumanActions + 'static>(local: Arc<F>, configured: Arc<ConfiguredForges>) -> ForgeRegistry {
        ForgeRegistry { local: local.clone(), local_actions: local, configured }
    }

    fn unknown(&self, name: &ForgeName) -> PortError {
        let all = self.configured.all();
        let local = ForgeName::default();
        let names: Vec<&str> = std::iter::once(&local).chain(all.keys()).map(ForgeName::as_str).collect();
        PortError::permanent(
            format!("there is no forge {name}; configured: {}", names.join(", ")),
            format!("configure it with a table [forges.{name}], then run `skep unblock`"),
        )
    }
}

impl Forges for ForgeRegistry {
    fn locate(&self, repo: &str) -> PortResult<LocatedRepo> {
        let all = self.configured.all();
        let named: Vec<_> =
            all.iter().filter_map(|(name, (settings, _))| Some((name, settings, settings.parse_name(repo)?))).collect();
        match named.as_slice() {
            [(name, settings, repo)] => {
                return Ok(LocatedRepo { forge: (*name).clone(), origin: settings.clone_url(repo) });
            }
            [] if !all.is_empty() && RepoName::parse_nested(repo).is_some() => {
                return Err(PortError::permanent(
                    format!("{repo} is neither a directory nor the name of a repository on a configured forge"),
                    "give OWNER/REPO, a clone URL, or the path of a directory that exists",
                ));
            }
            [] if RepoName::parse_nested(repo).is_some() => {
                return Err(PortError::permanent(
                    format!("{repo} names a repository of a forge, and no forge is configured"),
                    "add a table [forges.NAME] to the configuration (docs/github.md, docs/gitlab.md, docs/forgejo.md), or \
                     give a directory or URL",
                ));
            }
            [] => {}
            _ => {
                let urls: Vec<String> = named.iter().map(|(_, settings, repo)| settings.clone_url(repo)).collect();
                return Err(PortError::permanent(
                    format!("{repo} may be on any of several forges"),
                    format!("give its clone URL: {}", urls.join(" or ")),
                ));
            }
        }
        let found = all.iter().find_map(|(name, (settings, _))| Some((name, settings, settings.repository(repo)?)));
        Ok(match found {
            // One address for all spellings. Over ssh, the user and the port stay.
            Some((name, settings, found)) if repo.starts_with("http") => {
                LocatedRepo { forge: name.clone(), origin: settings.clone_url(&found) }
            }
            Some((name, ..)) => LocatedRepo { forge: name.clone(), origin: repo.to_owned() },
            None => LocatedRepo { forge: ForgeName::default(), origin: repo.to_owned() },
        })
    }

    fn get(&self, name: &ForgeName) -> PortResult<Arc<dyn Forge>> {
        if *name == ForgeName::default() {
            return Ok(self.local.clone());
        }
        let all = self.configured.all();
        let (_, forge) = all.get(name).ok_or_else(|| self.unknown(name))?;
        Ok(forge.clone())
    }

    fn human_actions(&self, name: &ForgeName) -> PortResult<Arc<dyn HumanActions>> {
        if *name == ForgeName::default() {
            return Ok(self.local_actions.clone());
        }
        self.get(name)?;
        Err(PortError::permanent(
            format!("the forge {name} has pages of its own for this"),
            "review, comment and merge on the forge's own pages",
        ))
    }

    fn issues(&self, name: &ForgeName) -> PortResult<Arc<dyn ForgeIssues>> {
        if *name == ForgeName::default() {
            let fix = "start runs with `skep run --repo`, or use a forge whose issues Skep reads";
            return Err(PortError::permanent(format!("runs cannot begin at issues of the forge {name}"), fix));
        }
        let all = self.configured.all();
        let (_, forge) = all.get(name).ok_or_else(|| self.unknown(name))?;
        Ok(forge.clone())
    }

    fn with_issues(&self) -> Vec<ForgeName> {
        self.configured.all().keys().cloned().collect()
    }
}

/// Lists every configured forge.
pub fn list(config: &Config) -> Vec<ForgeRow> {
    let row = |(name, settings): (&String, &ForgeSettings)| ForgeRow {
        name: name.clone(),
        kind: settings.kind().to_owned(),
        url: settings.url().to_owned(),
        account: settings.account(),
    };
    config.forges.iter().map(row).collect()
}

/// Tests a forge: its account, and the permissions in a repository.
///
/// # Errors
/// Why the forge cannot be used, and what to do.
pub async fn test(
    config: &Config,
    vault: Option<Arc<dyn Vault>>,
    name: &str,
    repo: Option<&str>,
) -> HostResult<ForgeTest> {
    let settings = config.forges.get(name).ok_or_else(|| {
        HostError::usage(format!("there is no forge {name}"), "`skep forge list` shows the configured forges")
    })?;
    let repo = repo
        .map(|text| {
            let found = settings.parse_name(text).or_else(|| settings.repository(text));
            found.ok_or_else(|| {
                HostError::usage(
                    format!("{text:?} is not a repository of {}", settings.url()),
                    "write OWNER/REPO, or its clone URL",
                )
            })
        })
        .transpose()?;
    let tested = test_permissions(ForgeName(name.to_owned()), settings, vault, repo).await?;
    let permissions: Vec<ForgePermission> = tested
        .into_iter()
        .map(|t| ForgePermission {
            permission: t.permission,
            granted: t.granted,
            optional: t.optional,
            detail: t.detail,
        })
        .collect();
    let passed = permissions.iter().all(|p| p.granted || p.optional);
    Ok(ForgeTest { name: name.to_owned(), passed, permissions })
}

async fn test_permissions(
    name: ForgeName,
    settings: &ForgeSettings,
    vault: Option<Arc<dyn Vault>>,
    repo: Option<RepoName>,
) -> PortResult<Vec<PermissionTest>> {
    match settings {
        ForgeSettings::GitHub(github) => github::test(name, github.clone(), vault, repo).await,
        ForgeSettings::Forgejo(forgejo) => forgejo::test(name, forgejo.clone(), vault, repo).await,
        ForgeSettings::GitLab(gitlab) => gitlab::test(name, gitlab.clone(), vault, repo).await,
    }
}

/// Inspects all forges concurrently, for `doctor`.
pub async fn inspect(config: &Config, vault: Option<Arc<dyn Vault>>) -> Vec<Finding> {
    let probes = config.forges.iter().map(|(name, settings)| {
        let vault = vault.clone();
        async move {
            let tested = test_permissions(ForgeName(name.clone()), settings, vault, None);
            let (severity, detail, fix) = match tokio::time::timeout(PROBE_TIMEOUT, tested).await {
                Ok(Ok(tests)) => {
                    let details: Vec<String> = tests.into_iter().map(|t| t.detail).collect();
                    (Severity::Ok, format!("{}: {}", settings.url(), details.join("; ")), String::new())
                }
                Ok(Err(PortError::Permanent { what, fix })) => (Severity::Error, what, fix),
                Ok(Err(other)) => {
                    (Severity::Error, other.to_string(), "check that this machine can reach it".to_owned())
                }
                Err(_) => {
                    let detail = format!("no answer from {} within {} s", settings.url(), PROBE_TIMEOUT.as_secs());
                    (Severity::Error, detail, "check that this machine can reach it".to_owned())
                }
            };
            Finding { subject: format!("forge {name}"), severity, detail, fix }
        }
    });
    futures::future::join_all(probes).await
}
