//! What follows the configuration while the process runs: what new runs are born with, engines, prompts.
//!
//! Invariant: a run that is open keeps what it was born with; a new configuration is taken over whole or not at all.

use super::{keys, settings};
use crate::actors::{Defaults, DefaultsNow};
use crate::adapters::engine::Registry;
use crate::adapters::gate::Gate;
use crate::adapters::prompts::FilePrompts;
use crate::adapters::workspace::GitWorkspaces;
use crate::config::Config;
use crate::domain::{EngineSpec, Order};
use crate::ports::engine::{Engine, Engines};
use crate::ports::{PortResult, Prompt, Prompts, Repo, Vault};
use async_trait::async_trait;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// The parts in force.
pub struct Live {
    defaults: watch::Sender<Arc<Defaults>>,
    engines: RwLock<Arc<Registry>>,
    prompts: RwLock<Arc<FilePrompts>>,
    workspaces: Arc<GitWorkspaces>,
    gate: Option<Arc<Gate>>,
    config: RwLock<Arc<Config>>,
    vault: Arc<dyn Vault>,
    check_limit_secs: AtomicU64,
}

impl Live {
    /// The parts of a configuration. `works`: whether engines are started here.
    ///
    /// # Errors
    /// What can't be used, and what to do.
    pub fn of(
        config: &Config,
        workspaces: Arc<GitWorkspaces>,
        vault: Arc<dyn Vault>,
        works: bool,
    ) -> Result<Arc<Live>, String> {
        // Loading certificates takes time that a command which starts no engine need not spend.
        let gate = works.then(settings::gate).transpose()?;
        Ok(Arc::new(Live {
            defaults: watch::channel(Arc::new(settings::defaults(config))).0,
            engines: RwLock::new(Arc::new(settings::registry(config, gate.clone())?)),
            prompts: RwLock::new(Arc::new(settings::prompts(config, workspaces.clone())?)),
            workspaces,
            gate,
            config: RwLock::new(Arc::new(config.clone())),
            vault,
            check_limit_secs: AtomicU64::new(config.checks.limit_secs),
        }))
    }

    /// Takes another configuration over, for runs opened from now on.
    ///
    /// # Errors
    /// What can't be used, and what to do; then nothing has changed.
    pub fn take(&self, config: &Config) -> Result<(), String> {
        let engines = Arc::new(settings::registry(config, self.gate.clone())?);
        let prompts = Arc::new(settings::prompts(config, self.workspaces.clone())?);
        // A poisoned lock held a whole part all the same: they are only ever exchanged.
        *self.engines.write().unwrap_or_else(PoisonError::into_inner) = engines;
        *self.prompts.write().unwrap_or_else(PoisonError::into_inner) = prompts;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config.clone());
        self.check_limit_secs.store(config.checks.limit_secs, Ordering::Relaxed);
        self.defaults.send_replace(Arc::new(settings::defaults(config)));
        Ok(())
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

    /// Time limit of a check that names none, in seconds.
    pub fn check_limit_secs(&self) -> u64 {
        self.check_limit_secs.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Engines for Live {
    async fn refresh(&self) {
        let config = self.config();
        let Some(next) = keys::renewed(&config, self.vault.as_ref()).await else { return };
        // Another configuration came meanwhile: its keys are looked at before the next attempt.
        if Arc::ptr_eq(&config, &self.config())
            && let Err(why) = self.take(&next)
        {
            tracing::error!(why, "the providers' new keys can't be used");
        }
    }

    fn get(&self, spec: &EngineSpec) -> Result<Arc<dyn Engine>, String> {
        self.registry().get(spec)
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
