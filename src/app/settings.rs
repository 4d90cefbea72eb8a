//! From the configuration to what the parts are given.

use crate::actors::Defaults;
use crate::adapters::checks::{CommandChecks, RemoteSessions};
use crate::adapters::engine::Registry;
use crate::adapters::engine::settings::Settings;
use crate::adapters::prompts::{FilePrompts, Templates};
use crate::config::{Config, KeyPlace, Keyed, Problem, Problems};
use crate::domain::EngineSpec;
use crate::platform::access::broker::AccessBroker;
use crate::platform::clock::SystemClock;
use crate::platform::egress::EgressProxy;
use crate::platform::sandbox::Sandbox;
use crate::ports::{SecretName, Vault, Workspaces};
use crate::providers::prices::Prices;
use crate::providers::rate_limit::RateLimits;
use crate::providers::settings::{Effort, Provider};
use crate::secrets::Secret;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The largest file of prices, in bytes.
const PRICES_MAX: u64 = 4 << 20;

/// What new runs are born with.
pub fn defaults(config: &Config) -> Defaults {
    Defaults {
        policy: config.policy.clone(),
        engines: config.engines.roles.clone(),
        fallbacks: config.engines.fallbacks.clone(),
        branch_prefix: config.git.branch_prefix.clone(),
    }
}

/// The engines.
///
/// # Errors
/// What can't be used, and what to do.
pub fn registry(
    config: &Config,
    keys: &Keys,
    sandbox: &Sandbox,
    gate: Option<Arc<EgressProxy>>,
    vault: Option<Arc<dyn Vault>>,
) -> Result<Registry, String> {
    let prices = Arc::new(prices(config)?);
    let registry = Registry::new(sandbox.clone(), Arc::new(engines(config, keys)), Arc::new(SystemClock))
        .passing(sandbox.with_passed_env(&config.engines.pass_env))
        .with_prices(prices.clone());
    let registry = match gate {
        // Calls of Skep's own loop and calls through the gate keep to one set of limits.
        Some(gate) => {
            registry.with_limits(gate.limits().clone()).through(gate, prices, Arc::new(config.granted.clone()))
        }
        None => registry,
    };
    Ok(match vault {
        Some(vault) => registry.opening(vault),
        None => registry,
    })
}

/// What runs checks.
pub fn checks(
    config: &Config,
    sandbox: &Sandbox,
    gate: Option<Arc<EgressProxy>>,
    vault: Arc<dyn Vault>,
    sessions: &RemoteSessions,
) -> CommandChecks {
    let access_broker = AccessBroker::default().with_vault(vault);
    let checks = CommandChecks::new(sandbox.clone()).with_access_broker(match gate {
        Some(gate) => access_broker.with_proxy(gate),
        None => access_broker,
    });
    checks.with_runners(config.runners.clone(), config.granted.clone(), sessions.clone())
}

/// Keys of providers that are kept in the vault, by provider.
pub type Keys = BTreeMap<String, Secret>;

/// Opens them. One that is not there, or cannot be opened now, is left out: its provider says so when it is used.
pub async fn keys(config: &Config, vault: &dyn Vault) -> Keys {
    let mut keys = Keys::new();
    for (provider, keyed) in &config.providers {
        let KeyPlace::Vault(name) = &keyed.place else { continue };
        let opened = match SecretName::new(name) {
            Ok(name) => vault.open(&name, None).await.map_err(|e| e.to_string()),
            Err(why) => Err(why),
        };
        match opened {
            Ok(key) => {
                keys.insert(provider.clone(), key);
            }
            Err(why) => tracing::warn!(provider, why, "the provider's key is not in the vault"),
        }
    }
    keys
}

/// The providers and agents.
fn engines(config: &Config, keys: &Keys) -> Settings {
    let provider = |(name, keyed): (&String, &Keyed)| {
        let key = keys.get(name).or(keyed.provider.key.as_ref()).cloned();
        (name.clone(), Provider { key, ..keyed.provider.clone() })
    };
    Settings { providers: config.providers.iter().map(provider).collect(), agents: config.agents.clone() }
}

/// The way out of this process, which lives as long as it.
///
/// # Errors
/// When no HTTP client can be made.
pub fn gate() -> Result<Arc<EgressProxy>, String> {
    crate::telemetry::install_crypto();
    let clock = Arc::new(SystemClock);
    let gate = EgressProxy::new(RateLimits::new(clock.clone()), clock, &std::env::temp_dir());
    gate.map(Arc::new).map_err(|e| format!("the way out to providers cannot be made: {e}"))
}

/// What engines are told.
///
/// # Errors
/// What is wrong with the folder of prompts, and where.
pub fn prompts(config: &Config, workspaces: Arc<dyn Workspaces>) -> Result<FilePrompts, String> {
    Ok(FilePrompts::new(Templates::load(config.prompts.as_deref())?, workspaces))
}

/// What models cost: the built-in prices, a person's over them.
///
/// # Errors
/// What is wrong with the file.
pub fn prices(config: &Config) -> Result<Prices, String> {
    let embedded = Prices::embedded()?;
    let Some(path) = &config.prices else { return Ok(embedded) };
    let text = match std::fs::metadata(path) {
        Ok(m) if m.len() > PRICES_MAX => Err(format!("{} is larger than 4 MiB", path.display())),
        Ok(_) => std::fs::read_to_string(path).map_err(|e| format!("{} can't be read: {e}", path.display())),
        Err(e) => Err(format!("{} can't be read: {e}", path.display())),
    }?;
    let own = Prices::load(&text).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(embedded.overridden_by(own))
}

/// What can only be told by those who use it: problems that the configuration's own reading does not see.
///
/// # Errors
/// All of them.
pub fn check(config: &Config) -> Result<(), Problems> {
    let mut problems = Vec::new();
    if let Err(why) = prices(config) {
        let fix = "mend the file, or set prices.file to \"\"".to_owned();
        problems.push(Problem {
            at: "prices.file".into(),
            source: "file of prices".into(),
            found: String::new(),
            why,
            fix,
        });
    }
    if let Err(why) = Templates::load(config.prompts.as_deref()) {
        let fix = "mend the template, or take it out of the folder of prompts.dir".to_owned();
        problems.push(Problem {
            at: "prompts.dir".into(),
            source: "folder of prompts".into(),
            found: String::new(),
            why,
            fix,
        });
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

/// An engine as people write it.
pub fn written(spec: &EngineSpec) -> String {
    if spec.arg.is_empty() { spec.kind.clone() } else { format!("{}:{}", spec.kind, spec.arg) }
}

/// The model behind an engine as `provider/name`, as prices know it; `None` = no model that Skep knows of.
pub fn model_of(config: &Config, spec: &EngineSpec) -> Option<String> {
    let arg = Effort::split(&spec.arg).map_or(spec.arg.as_str(), |(arg, _)| arg);
    match spec.kind.as_str() {
        "llm" => Some(arg.to_owned()),
        "acp" | "cli" => {
            let (name, model) = arg.split_once('/').unwrap_or((arg, "model of its own choice"));
            let provider = config.agents.get(name)?.provider.as_deref().unwrap_or(name);
            Some(format!("{provider}/{model}"))
        }
        _ => None,
    }
}
