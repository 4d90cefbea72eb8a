//! What follows the configuration while the process runs: what new runs are born with, and the engines.
//!
//! Invariant: a run that is open keeps what it was born with; a new configuration is taken over whole or not at all.

use super::settings;
use crate::actors::{Defaults, DefaultsNow};
use crate::adapters::engine::Registry;
use crate::config::Config;
use crate::domain::EngineSpec;
use crate::ports::engine::{Engine, Engines};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// The parts in force.
pub struct Live {
    defaults: watch::Sender<Arc<Defaults>>,
    engines: RwLock<Arc<Registry>>,
    check_limit_secs: AtomicU64,
}

impl Live {
    /// The parts of a configuration.
    ///
    /// # Errors
    /// What can't be used, and what to do.
    pub fn of(config: &Config) -> Result<Arc<Live>, String> {
        Ok(Arc::new(Live {
            defaults: watch::channel(Arc::new(settings::defaults(config))).0,
            engines: RwLock::new(Arc::new(settings::registry(config)?)),
            check_limit_secs: AtomicU64::new(config.checks.limit_secs),
        }))
    }

    /// Takes another configuration over, for runs opened from now on.
    ///
    /// # Errors
    /// What can't be used, and what to do; then nothing has changed.
    pub fn take(&self, config: &Config) -> Result<(), String> {
        let engines = Arc::new(settings::registry(config)?);
        // A poisoned lock held a whole registry all the same: it is only ever exchanged.
        *self.engines.write().unwrap_or_else(PoisonError::into_inner) = engines;
        self.check_limit_secs.store(config.checks.limit_secs, Ordering::Relaxed);
        self.defaults.send_replace(Arc::new(settings::defaults(config)));
        Ok(())
    }

    /// What new runs are born with.
    pub fn defaults(&self) -> DefaultsNow {
        self.defaults.subscribe()
    }

    /// Time limit of a check that names none, in seconds.
    pub fn check_limit_secs(&self) -> u64 {
        self.check_limit_secs.load(Ordering::Relaxed)
    }
}

impl Engines for Live {
    fn get(&self, spec: &EngineSpec) -> Result<Arc<dyn Engine>, String> {
        let engines = self.engines.read().unwrap_or_else(PoisonError::into_inner).clone();
        engines.get(spec)
    }
}
