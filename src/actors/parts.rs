//! The ports and defaults that follow the configuration: one set, replaced as a whole when the configuration is
//! reloaded.
//!
//! Invariant: code that needs several parts takes them from one set, so that no operation mixes two configurations.

use super::request::Defaults;
use crate::ports::{Checks, Engines, PortResult, Prompts};
use async_trait::async_trait;
use std::sync::Arc;

/// One set of parts.
#[derive(Clone)]
pub struct Parts {
    /// Runs checks.
    pub checks: Arc<dyn Checks>,
    /// Engines by spec.
    pub engines: Arc<dyn Engines>,
    /// Renders prompts.
    pub prompts: Arc<dyn Prompts>,
    /// Defaults of new projects and runs.
    pub defaults: Arc<Defaults>,
}

/// Where the current set comes from.
#[async_trait]
pub trait PartsSource: Send + Sync {
    /// Returns the current set.
    fn current(&self) -> Arc<Parts>;
    /// Picks up what changed outside the configuration, such as a new key file or a secret that another process used, and
    /// returns the resulting set.
    async fn refreshed(&self) -> Arc<Parts> {
        self.current()
    }
    /// Makes the secrets that other processes used known to this one, so that it finds them in what it publishes.
    ///
    /// # Errors
    /// If they cannot be read.
    async fn remember_secrets(&self) -> PortResult<()> {
        Ok(())
    }
}

/// A set that never changes.
struct Fixed(Arc<Parts>);

impl PartsSource for Fixed {
    fn current(&self) -> Arc<Parts> {
        self.0.clone()
    }
}

impl Parts {
    /// A source of this set only.
    pub fn fixed(self) -> Arc<dyn PartsSource> {
        Arc::new(Fixed(Arc::new(self)))
    }
}
