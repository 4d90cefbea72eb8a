//! What follows the configuration while the process runs: what new runs are born with, engines, prompts, checks.
//!
//! Invariant: a run that is open keeps what it was born with; a new configuration is taken over whole or not at all.

use super::notifying_vault::Told;
use super::{key_reload, secret_registration, settings};
use crate::actors::{Defaults, DefaultsNow};
use crate::adapters::checks::{CommandChecks, RemoteSessions};
use crate::adapters::engine::Registry;
use crate::adapters::prompts::FilePrompts;
use crate::adapters::workspace::GitWorkspaces;
use crate::config::Config;
use crate::domain::{CheckSpec, EngineSpec, Metered, Order, ProjectName};
use crate::platform::egress::EgressProxy;
use crate::platform::sandbox::Sandbox;
use crate::ports::checks::{Checked, Checks, RepoRules};
use crate::ports::engine::{Engine, Engines};
use crate::ports::{PortResult, Prompt, Prompts, Repo, Vault};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Notify, watch};

/// The parts in force.
pub struct Live {
    defaults: watch::Sender<Arc<Defaults>>,
    engines: RwLock<Arc<Registry>>,
    prompts: RwLock<Arc<FilePrompts>>,
    checks: RwLock<Arc<CommandChecks>>,
    sessions: RemoteSessions,
    workspaces: Arc<GitWorkspaces>,
    vault: Arc<dyn Vault>,
    secrets: Arc<Notify>,
    sandbox: Sandbox,
    gate: Option<Arc<EgressProxy>>,
    config: RwLock<Arc<Config>>,
    check_timeout_secs: AtomicU64,
}

impl Live {
    /// The parts of a configuration. `works`: whether engines are started here.
    ///
    /// # Errors
    /// What can't be used, and what to do.
    pub async fn of(
        config: &Config,
        workspaces: Arc<GitWorkspaces>,
        vault: Arc<dyn Vault>,
        sandbox: &Sandbox,
        works: bool,
        sessions: RemoteSessions,
    ) -> Result<Arc<Live>, String> {
        secret_registration::register_all(config);
        let keys = settings::keys(config, vault.as_ref()).await;
        // Loading certificates takes time that a command which starts no engine need not spend.
        let gate = works.then(settings::egress_proxy).transpose()?;
        Ok(Arc::new(Live {
            defaults: watch::channel(Arc::new(settings::defaults(config))).0,
            engines: RwLock::new(Arc::new(settings::registry(
                config,
                &keys,
                sandbox,
                gate.clone(),
                Some(vault.clone()),
            )?)),
            prompts: RwLock::new(Arc::new(settings::prompts(config, workspaces.clone())?)),
            checks: RwLock::new(Arc::new(settings::checks(config, sandbox, gate.clone(), vault.clone(), &sessions))),
            sessions,
            workspaces,
            vault,
            secrets: Arc::default(),
            sandbox: sandbox.clone(),
            gate,
            config: RwLock::new(Arc::new(config.clone())),
            check_timeout_secs: AtomicU64::new(config.checks.timeout_secs),
        }))
    }

    /// Takes another configuration over, for runs opened from now on.
    ///
    /// # Errors
    /// What can't be used, and what to do; then nothing has changed.
    pub async fn take(&self, config: &Config) -> Result<(), String> {
        secret_registration::register_all(config);
        let keys = settings::keys(config, self.vault.as_ref()).await;
        let (gate, vault) = (self.gate.clone(), self.vault.clone());
        let registry = settings::registry(config, &keys, &self.sandbox, gate.clone(), Some(vault.clone()))?;
        let engines = Arc::new(registry);
        let prompts = Arc::new(settings::prompts(config, self.workspaces.clone())?);
        if let Some(gate) = &gate {
            config.providers.values().for_each(|keyed| gate.limits().adopt(&keyed.provider));
        }
        let checks = Arc::new(settings::checks(config, &self.sandbox, gate, vault, &self.sessions));
        // A poisoned lock held a whole part all the same: they are only ever exchanged.
        *self.engines.write().unwrap_or_else(PoisonError::into_inner) = engines;
        *self.prompts.write().unwrap_or_else(PoisonError::into_inner) = prompts;
        *self.checks.write().unwrap_or_else(PoisonError::into_inner) = checks;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config.clone());
        self.check_timeout_secs.store(config.checks.timeout_secs, Ordering::Relaxed);
        self.defaults.send_replace(Arc::new(settings::defaults(config)));
        Ok(())
    }

    /// The vault for people: what they put there is used at once.
    pub fn vault(&self) -> Arc<dyn Vault> {
        Arc::new(Told { vault: self.vault.clone(), changed: self.secrets.clone() })
    }

    /// Comes back when somebody has put something into the vault or taken it out.
    pub async fn secrets_changed(&self) {
        self.secrets.notified().await;
    }

    /// What new runs are born with.
    pub fn defaults(&self) -> DefaultsNow {
        self.defaults.subscribe()
    }

    fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn registry(&self) -> Arc<Registry> {
        self.engines.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn commands(&self) -> Arc<CommandChecks> {
        self.checks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Removes what an earlier process left at places.
    pub async fn sweep_runners(&self) {
        self.commands().sweep().await;
    }

    /// Time limit of a check that names none, in seconds.
    pub fn check_timeout_secs(&self) -> u64 {
        self.check_timeout_secs.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Engines for Live {
    async fn refresh(&self) {
        let config = self.config();
        let Some(next) = key_reload::with_current_keys(&config) else { return };
        // Where another configuration came meanwhile, it has read the files itself.
        if Arc::ptr_eq(&config, &self.config())
            && let Err(why) = self.take(&next).await
        {
            tracing::error!(why, "the providers' new keys can't be used");
        }
    }

    fn get(&self, spec: &EngineSpec) -> Result<Arc<dyn Engine>, String> {
        self.registry().get(spec)
    }

    fn metered(&self, file: &Path) -> Option<Metered> {
        self.registry().metered(file)
    }

    fn input_cost(&self, spec: &EngineSpec, tokens: u64) -> Option<u64> {
        self.registry().input_cost(spec, tokens)
    }
}

#[async_trait]
impl Prompts for Live {
    async fn render(&self, repo: &Repo, order: &Order, patch: &str) -> PortResult<Prompt> {
        let prompts = self.prompts.read().unwrap_or_else(PoisonError::into_inner).clone();
        prompts.render(repo, order, patch).await
    }
}

#[async_trait]
impl Checks for Live {
    fn wanted(&self) -> &'static [&'static str] {
        self.commands().wanted()
    }

    fn rules(&self, names: &[String], files: &BTreeMap<String, Vec<u8>>) -> Result<RepoRules, String> {
        self.commands().rules(names, files)
    }

    fn placed(&self, project: &ProjectName, checks: Vec<CheckSpec>) -> Result<Vec<CheckSpec>, (String, String)> {
        self.commands().placed(project, checks)
    }

    async fn run(
        &self,
        project: &ProjectName,
        dir: &Path,
        cache: &Path,
        specs: &[CheckSpec],
    ) -> PortResult<Vec<Checked>> {
        self.commands().run(project, dir, cache, specs).await
    }
}
