//! Engines that are ready on this machine, and the engine that a person means by a name.

use super::found::{Found, Installed, installed};
use super::propose::{self, model_of_provider};
use crate::adapters::engine::settings::{Agent, Protocol};
use crate::config::{self, Config};
use crate::domain::Role;
use crate::service::host::{EngineOffer, HostError, HostResult};

/// Lists the engines that can edit files and are ready here, the likeliest first.
pub fn offers(config: &Config, found: &Found) -> Vec<EngineOffer> {
    let offer = |engine: String, because: String| EngineOffer { engine, because };
    let agents = found.agents.iter().filter_map(|name| config.agents.get(name)).filter(|a| is_supplied(a, found));
    let agents = agents.map(|a| offer(spec_of(a), format!("the agent {} is installed", a.name)));
    let keyed = found.keyed.iter().filter_map(|name| {
        let model = model_of_provider(name)?;
        Some(offer(format!("llm:{name}/{model}"), format!("the provider {name} has a key")))
    });
    let served = found.servers.iter().filter_map(|(name, models)| {
        Some(offer(format!("llm:{name}/{}", models.first()?), format!("{name} runs on this machine")))
    });
    agents.chain(keyed).chain(served).collect()
}

/// Finds the engine that is meant by the name of an agent, a provider or a model.
///
/// # Errors
/// When nothing here has that name, or what has it is not ready; the fix names what would be.
pub fn named(config: &Config, found: &Found, name: &str) -> HostResult<String> {
    let agents: Vec<&Agent> =
        [name.to_owned(), format!("{name}_cli")].iter().filter_map(|n| config.agents.get(n)).collect();
    if let Some(agent) = agents.iter().find(|a| found.agents.contains(&a.name) && is_supplied(a, found)) {
        return Ok(spec_of(agent));
    }
    if let Some(agent) = agents.iter().find(|a| found.agents.contains(&a.name)) {
        let provider = agent.provider.as_deref().unwrap_or_default();
        return Err(HostError::usage(
            format!("the agent {} is installed, but its provider {provider} has no key", agent.name),
            format!("{}, or give a command: --engine 'command: …'", key_hint(config, provider)),
        ));
    }
    if let Some(agent) = agents.first() {
        let programs: Vec<&str> = agents.iter().filter_map(|a| a.command.first()).map(String::as_str).collect();
        return Err(HostError::usage(
            format!(
                "{name} means {}, which is not installed: no {} on the PATH",
                spec_of(agent),
                programs.join(" and no ")
            ),
            "install it (docs/agents.md), or give a command: --engine 'command: …'",
        ));
    }
    if let Some(keyed) = config.providers.get(name) {
        let served = found.servers.iter().find(|(server, _)| server == name).and_then(|(_, models)| models.first());
        let model = served.map(String::as_str).or_else(|| model_of_provider(name));
        let ready = served.is_some() || found.keyed.contains(&keyed.provider.name);
        return match model {
            Some(model) if ready => Ok(format!("llm:{name}/{model}")),
            Some(_) => Err(HostError::usage(format!("the provider {name} has no key"), key_hint(config, name))),
            None => Err(HostError::usage(
                format!("the provider {name} needs a model"),
                format!("write --engine llm:{name}/MODEL"),
            )),
        };
    }
    let (provider, model) = name.split_once('/').map_or((None, name), |(p, m)| (Some(p), m));
    let ready = found.keyed.iter().map(String::as_str).chain(found.servers.iter().map(|(name, _)| name.as_str()));
    if let Some(provider) =
        ready.into_iter().find(|p| provider.map_or_else(|| propose::serves(p, model), |named| named == *p))
    {
        return Ok(format!("llm:{provider}/{model}"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if installed(name, &path, None) != Installed::No {
        return Err(HostError::usage(
            format!("{name} is a program, not an engine"),
            format!("write its command line: --engine 'command: {name} …'"),
        ));
    }
    match config::engine(name, Role::Dev) {
        Err(e) => Err(HostError::usage(format!("{name}: {}", e.why), e.fix)),
        Ok(_) => Ok(name.to_owned()),
    }
}

/// Returns whether an agent's model calls can be answered: it brings its own key, or its provider is ready.
fn is_supplied(agent: &Agent, found: &Found) -> bool {
    let ready = |p: &str| found.keyed.iter().any(|k| k == p) || found.servers.iter().any(|(server, _)| server == p);
    agent.provider.as_deref().is_none_or(ready)
}

/// Returns the engine of an agent, with a model if it takes one.
pub(super) fn spec_of(agent: &Agent) -> String {
    let kind = match agent.protocol {
        Protocol::Acp => "acp",
        Protocol::Cli => "cli",
    };
    match agent.takes_model() {
        true => {
            let model = agent.provider.as_deref().and_then(model_of_provider).unwrap_or("MODEL");
            format!("{kind}:{}/{model}", agent.name)
        }
        false => format!("{kind}:{}", agent.name),
    }
}

fn key_hint(config: &Config, provider: &str) -> String {
    let api = provider.split('_').next().unwrap_or(provider).to_uppercase();
    match config.providers.contains_key(provider) {
        true => format!("export {api}_API_KEY"),
        false => format!("configure [providers.{provider}]"),
    }
}
