//! Builds the parts of the service from the configuration.

use crate::actors::Defaults;
use crate::adapters::checks::{CommandChecks, RemoteSessions};
use crate::adapters::engine::Registry;
use crate::adapters::engine::settings::Settings;
use crate::adapters::prompts::{FilePrompts, Templates};
use crate::config::{ApiKeySource, Config, Keyed, Problem, Problems};
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

/// Maximum size of a price file, in bytes.
const MAX_PRICES_BYTES: u64 = 4 << 20;

/// Defaults of new runs.
pub fn defaults(config: &Config) -> Defaults {
    Defaults {
        policy: config.policy.clone(),
        engines: config.engines.roles.clone(),
        fallbacks: config.engines.fallbacks.clone(),
        branch_prefix: config.git.branch_prefix.clone(),
    }
}

/// Builds the engine registry.
///
/// # Errors
/// If the price file is invalid.
pub fn registry(
    config: &Config,
    keys: &Keys,
    sandbox: &Sandbox,
    proxy: Option<Arc<EgressProxy>>,
    vault: Option<Arc<dyn Vault>>,
) -> Result<Registry, String> {
    let prices = Arc::new(prices(config)?);
    let registry = Registry::new(sandbox.clone(), Arc::new(engines(config, keys)), Arc::new(SystemClock))
        .passing(sandbox.with_passed_env(&config.engines.pass_env))
        .with_prices(prices.clone());
    let registry = match proxy {
        // Calls of the llm engine and calls through the proxy share one set of rate limits.
        Some(proxy) => {
            registry.with_limits(proxy.limits().clone()).through(proxy, prices, Arc::new(config.granted.clone()))
        }
        None => registry,
    };
    Ok(match vault {
        Some(vault) => registry.opening(vault),
        None => registry,
    })
}

/// Builds the port that runs checks.
pub fn checks(
    config: &Config,
    sandbox: &Sandbox,
    proxy: Option<Arc<EgressProxy>>,
    vault: Arc<dyn Vault>,
    sessions: &RemoteSessions,
) -> CommandChecks {
    let access_broker = AccessBroker::default().with_vault(vault);
    let checks = CommandChecks::new(sandbox.clone()).with_access_broker(match proxy {
        Some(proxy) => access_broker.with_proxy(proxy),
        None => access_broker,
    });
    checks.with_runners(config.runners.clone(), config.granted.clone(), sessions.clone())
}

/// API keys of providers that are stored in the vault, by provider.
pub type Keys = BTreeMap<String, Secret>;

/// Reads the API keys from the vault. A key that is missing or cannot be read is left out; its provider reports that
/// when it is used.
pub async fn keys(config: &Config, vault: &dyn Vault) -> Keys {
    let mut keys = Keys::new();
    for (provider, keyed) in &config.providers {
        let ApiKeySource::Vault(name) = &keyed.source else { continue };
        let opened = match SecretName::new(name) {
            Ok(name) => vault.open(&name, None).await.map_err(|e| e.to_string()),
            Err(why) => Err(why),
        };
        match opened {
            Ok(key) => {
                keys.insert(provider.clone(), key);
            }
            Err(why) => tracing::warn!(provider, why, "cannot read the provider's key from the vault"),
        }
    }
    keys
}

/// Returns the providers and agents.
fn engines(config: &Config, keys: &Keys) -> Settings {
    let provider = |(name, keyed): (&String, &Keyed)| {
        let key = keys.get(name).or(keyed.provider.key.as_ref()).cloned();
        (name.clone(), Provider { key, ..keyed.provider.clone() })
    };
    let keyless = config.providers.iter().filter_map(|(name, keyed)| Some((name.clone(), keyed.keyless()?)));
    Settings {
        providers: config.providers.iter().map(provider).collect(),
        agents: config.agents.clone(),
        partial_exit_codes: Some(config.engines.partial_exit_codes.clone()),
        checks_per_session: Some(config.engines.checks_per_session),
        keyless: keyless.collect(),
    }
}

/// Creates the egress proxy of this process.
///
/// # Errors
/// If no HTTP client can be created.
pub fn egress_proxy() -> Result<Arc<EgressProxy>, String> {
    crate::telemetry::install_crypto();
    let clock = Arc::new(SystemClock);
    let proxy = EgressProxy::new(RateLimits::new(clock.clone()), clock, &std::env::temp_dir());
    proxy.map(Arc::new).map_err(|e| format!("cannot create the egress proxy: {e}"))
}

/// Loads the prompts of engines.
///
/// # Errors
/// The problem with the prompt folder, with its position.
pub fn prompts(config: &Config, workspaces: Arc<dyn Workspaces>) -> Result<FilePrompts, String> {
    Ok(FilePrompts::new(Templates::load(config.prompts.as_deref())?, workspaces))
}

/// Loads the prices of models: the built-in ones, overridden by the configured file.
///
/// # Errors
/// The problem with the file.
pub fn prices(config: &Config) -> Result<Prices, String> {
    let embedded = Prices::embedded()?;
    let Some(path) = &config.prices else { return Ok(embedded) };
    let text = match std::fs::metadata(path) {
        Ok(m) if m.len() > MAX_PRICES_BYTES => Err(format!("{} is larger than 4 MiB", path.display())),
        Ok(_) => std::fs::read_to_string(path).map_err(|e| format!("{} cannot be read: {e}", path.display())),
        Err(e) => Err(format!("{} cannot be read: {e}", path.display())),
    }?;
    let own = Prices::load(&text).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(embedded.overridden_by(own))
}

/// Checks the files that the configuration names, which loading it does not do.
///
/// # Errors
/// All problems found in them.
pub fn check(config: &Config) -> Result<(), Problems> {
    let mut problems = Vec::new();
    if let Err(why) = prices(config) {
        let fix = "fix the file, or set prices.file to \"\"".to_owned();
        problems.push(Problem {
            at: "prices.file".into(),
            source: "price file".into(),
            found: String::new(),
            why,
            fix,
        });
    }
    if let Err(why) = Templates::load(config.prompts.as_deref()) {
        let fix = "fix the template, or remove it from the folder prompts.dir".to_owned();
        problems.push(Problem {
            at: "prompts.dir".into(),
            source: "prompt folder".into(),
            found: String::new(),
            why,
            fix,
        });
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

/// Formats an engine as it is written in the configuration.
pub fn written(spec: &EngineSpec) -> String {
    if spec.arg.is_empty() { spec.kind.clone() } else { format!("{}:{}", spec.kind, spec.arg) }
}

/// Returns the model of an engine as `provider/name`, as in price files; `None` = no known model.
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
