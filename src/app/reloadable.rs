//! The parts that follow the configuration while the process runs: one set, replaced as a whole.
//!
//! Invariant: an open run keeps what it was born with; a new configuration is adopted whole or not at all.

use super::forges::ConfiguredForges;
use super::notifying_vault::NotifyingVault;
use super::{key_reload, secret_registration, settings};
use crate::actors::{Parts, PartsSource};
use crate::adapters::checks::{CommandChecks, RemoteSessions};
use crate::adapters::engine::OpenEngine;
use crate::adapters::workspace::GitWorkspaces;
use crate::config::Config;
use crate::platform::egress::EgressProxy;
use crate::platform::sandbox::Sandbox;
use crate::ports::{PortResult, Vault};
use async_trait::async_trait;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Notify;

/// What the parts are built from, in addition to the configuration.
pub struct Surroundings {
    pub workspaces: Arc<GitWorkspaces>,
    pub vault: Arc<dyn Vault>,
    pub forges: Arc<ConfiguredForges>,
    pub sandbox: Sandbox,
    pub sessions: RemoteSessions,
    /// The engine that offers steps to outside agents.
    pub open: Arc<OpenEngine>,
    /// `None` in a process that starts no engine.
    pub proxy: Option<Arc<EgressProxy>>,
}

/// A configuration with the parts built from it.
struct Adopted {
    config: Config,
    checks: Arc<CommandChecks>,
    parts: Arc<Parts>,
}

/// The adopted configuration and its parts.
pub struct Reloadable {
    surroundings: Surroundings,
    secrets_changed: Arc<Notify>,
    adopted: RwLock<Arc<Adopted>>,
}

impl Reloadable {
    /// Builds the parts of a configuration.
    ///
    /// # Errors
    /// What cannot be used, and the fix.
    pub async fn new(config: &Config, surroundings: Surroundings) -> Result<Arc<Reloadable>, String> {
        let adopted = RwLock::new(Arc::new(build(config, &surroundings).await?));
        Ok(Arc::new(Reloadable { surroundings, secrets_changed: Arc::default(), adopted }))
    }

    /// Adopts another configuration, for runs opened and attempts started from now on.
    ///
    /// # Errors
    /// What cannot be used, and the fix; then nothing has changed.
    pub async fn adopt(&self, config: &Config) -> Result<(), String> {
        let next = Arc::new(build(config, &self.surroundings).await?);
        if let Some(proxy) = &self.surroundings.proxy {
            config.providers.values().for_each(|keyed| proxy.limits().adopt(&keyed.provider));
        }
        // A poisoned lock still holds a whole set, because sets are only ever exchanged.
        *self.adopted.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Returns the vault for people: what they change there takes effect at once.
    pub fn vault(&self) -> Arc<dyn Vault> {
        Arc::new(NotifyingVault { vault: self.surroundings.vault.clone(), changed: self.secrets_changed.clone() })
    }

    /// Waits until the vault's content has changed.
    pub async fn secrets_changed(&self) {
        self.secrets_changed.notified().await;
    }

    /// Removes what an earlier process left on the runners.
    pub async fn sweep_runners(&self) {
        self.adopted().checks.sweep().await;
    }

    /// Returns the timeout of a check that names none, in seconds.
    pub fn check_timeout_secs(&self) -> u64 {
        self.adopted().config.checks.timeout_secs
    }

    fn adopted(&self) -> Arc<Adopted> {
        self.adopted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl PartsSource for Reloadable {
    fn current(&self) -> Arc<Parts> {
        self.adopted().parts.clone()
    }

    async fn refreshed(&self) -> Arc<Parts> {
        remember(self.surroundings.vault.as_ref()).await;
        let before = self.adopted();
        if let Some(next) = key_reload::with_current_keys(&before.config)
            // A configuration adopted in the meantime has read the key files itself.
            && Arc::ptr_eq(&before, &self.adopted())
            && let Err(why) = self.adopt(&next).await
        {
            tracing::error!(why, "cannot use the providers' new keys");
        }
        self.current()
    }

    async fn remember_secrets(&self) -> PortResult<()> {
        self.surroundings.vault.remember().await
    }
}

/// Makes the values of the vault known: another process, or this one before it was started again, may have used them.
async fn remember(vault: &dyn Vault) {
    if let Err(error) = vault.remember().await {
        tracing::error!(%error, "secrets that other processes used are not redacted");
    }
}

async fn build(config: &Config, surroundings: &Surroundings) -> Result<Adopted, String> {
    let Surroundings { workspaces, vault, forges, sandbox, sessions, open, proxy } = surroundings;
    secret_registration::register_all(config);
    remember(vault.as_ref()).await;
    let keys = settings::keys(config, vault.as_ref()).await;
    let engines = settings::registry(config, &keys, sandbox, proxy.clone(), Some(vault.clone()))?;
    let engines = engines.offering(open.clone());
    let prompts = settings::prompts(config, workspaces.clone())?;
    let checks = Arc::new(settings::checks(config, sandbox, proxy.clone(), vault.clone(), sessions));
    // Last, because the forges are exchanged at once.
    forges.adopt(config).map_err(|e| e.to_string())?;
    let parts = Parts {
        checks: checks.clone(),
        engines: Arc::new(engines),
        prompts: Arc::new(prompts),
        defaults: Arc::new(settings::defaults(config)),
    };
    Ok(Adopted { config: config.clone(), checks, parts: Arc::new(parts) })
}
