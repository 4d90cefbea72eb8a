//! From the configuration to what the parts are given.

use crate::actors::Defaults;
use crate::adapters::engine::Registry;
use crate::adapters::sandbox::Sandbox;
use crate::config::Config;

/// What new runs are born with.
pub fn defaults(config: &Config) -> Defaults {
    Defaults {
        policy: config.policy.clone(),
        engines: config.engines.roles.clone(),
        branch_prefix: config.git.branch_prefix.clone(),
    }
}

/// The engines.
///
/// # Errors
/// What can't be used, and what to do.
pub fn registry(config: &Config) -> Result<Registry, String> {
    Ok(Registry::new(Sandbox::of_this_process(&config.engines.pass_env)))
}
