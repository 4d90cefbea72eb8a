//! Proposes a configuration for this machine: strong models plan and review, a cheaper one edits, and cost is limited.
//!
//! Invariant: pure; `config check` accepts every proposal on the machine it was made for.

use super::found::Found;
use super::offers::spec_of;
use crate::config::Config;
use std::fmt::Write;

/// Proposed models per provider: one to plan and review, one to edit. A starting point, not a ranking.
const MODELS: &[(&str, &str, &str)] = &[
    ("anthropic", "claude-opus-4-5", "claude-sonnet-4-5"),
    ("openai", "gpt-5.1", "gpt-5-mini"),
    ("gemini", "gemini-2.5-pro", "gemini-2.5-flash"),
];

/// Returns the model that edits, of a provider whose models are known; one with several APIs has a table for each.
pub(super) fn model_of_provider(name: &str) -> Option<&'static str> {
    MODELS
        .iter()
        .find(|(provider, ..)| name == *provider || name.starts_with(&format!("{provider}_")))
        .map(|(.., worker)| *worker)
}

/// Returns whether a provider serves the model of this name, as far as its first word says (`claude-…`, `gpt-…`).
pub(super) fn serves(provider: &str, model: &str) -> bool {
    let family = |name: &str| name.split_once('-').map(|(family, _)| family.to_owned());
    let known = model_of_provider(provider).and_then(family);
    known.is_some() && known == family(model)
}

/// Models of one provider, as engine specs.
struct Models {
    strong: String,
    worker: String,
}

/// Writes the proposal, as the text of a configuration file.
pub fn proposal(config: &Config, found: &Found) -> String {
    let keyed = |name: &str| found.keyed.iter().any(|k| k == name);
    let hosted = MODELS.iter().filter(|(name, ..)| keyed(name) && config.providers.contains_key(*name));
    let mut candidates: Vec<Models> = hosted
        .map(|(name, strong, worker)| Models {
            strong: format!("llm:{name}/{strong}"),
            worker: format!("llm:{name}/{worker}"),
        })
        .collect();
    for (name, served) in &found.servers {
        if let Some(model) = served.first() {
            let spec = format!("llm:{name}/{model}");
            candidates.push(Models { strong: spec.clone(), worker: spec });
        }
    }
    // An agent is proposed where Skep can proxy and meter its model calls, or where it needs no provider of Skep's.
    let agents: Vec<String> = found
        .agents
        .iter()
        .filter_map(|name| config.agents.get(name))
        .filter(|a| a.provider.as_deref().is_none_or(|p| keyed(p) || found.servers.iter().any(|(s, _)| s == p)))
        .map(spec_of)
        .collect();
    let mut out = String::new();
    let Some(first) = candidates.first() else {
        return without_models(&agents);
    };
    // A reviewer from another vendor than the dev finds different mistakes.
    let second = candidates.get(1).unwrap_or(first);
    let others = |of: &str, pick: fn(&Models) -> &String| -> Vec<String> {
        candidates.iter().map(pick).filter(|s| *s != of).take(2).cloned().collect()
    };
    out.push_str(
        "# Proposed by `skep doctor` for this machine. Check the models and limits, then save it as skep.toml.\n",
    );
    role(&mut out, "manager", &first.strong, &others(&first.strong, |m| &m.strong));
    let mut dev_fallback = others(&first.worker, |m| &m.worker);
    dev_fallback.extend(agents.into_iter().take(1));
    role(&mut out, "dev", &first.worker, &dev_fallback);
    role(&mut out, "reviewer", &second.strong, &others(&second.strong, |m| &m.strong));
    limits(&mut out, found.keyed.is_empty());
    out
}

fn without_models(agents: &[String]) -> String {
    let mut out = String::new();
    match agents.split_first() {
        Some((first, rest)) => {
            out.push_str("# Proposed by `skep doctor`: an agent edits; planning and review need no model.\n");
            role(&mut out, "dev", first, &rest.iter().take(2).cloned().collect::<Vec<_>>());
            limits(&mut out, false);
        }
        None => out.push_str(
            "# Found no model to use: no provider key in the environment, no model server on this machine, no agent.\n\
             # Set ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY, or start a model server, then run this again.\n",
        ),
    }
    out
}

fn role(out: &mut String, name: &str, spec: &str, fallback: &[String]) {
    // Writing to a String cannot fail.
    let _infallible = write!(out, "\n[role.{name}]\nengine = {}\n", quoted(spec));
    if !fallback.is_empty() {
        let list: Vec<String> = fallback.iter().map(|s| quoted(s)).collect();
        let _infallible = writeln!(out, "fallback = [{}]", list.join(", "));
    }
}

fn limits(out: &mut String, only_local: bool) {
    if only_local {
        out.push_str("\n[limits]\ntokens = 10000000\n");
    } else {
        out.push_str("\n[limits]\ncost = \"5.00 USD\"\ntokens = 10000000\n\n[budget]\nday_cost = \"20.00 USD\"\nday_tokens = 40000000\n");
    }
}

/// Quotes a text for TOML: model names come from a server.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources};
    use crate::providers::prices::Prices;
    use std::ffi::OsString;

    /// Returns the proposal, after checking that the configuration loads with it.
    fn proposed(keys: &[&str], servers: &[(&str, &[&str])], agents: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let env: Vec<_> = keys.iter().map(|k| (OsString::from(k), OsString::from("sk-1234567890"))).collect();
        let sources = Sources { data_dir: dir.path().into(), env, ..Sources::default() };
        let config = config::load(&sources).unwrap().config;
        let keyed = config.providers.iter().filter(|(_, k)| k.provider.key.is_some()).map(|(n, _)| n.clone()).collect();
        let own = |s: &&str| (*s).to_owned();
        let servers = servers.iter().map(|(n, m)| ((*n).to_owned(), m.iter().map(own).collect())).collect();
        let found = Found { keyed, servers, agents: agents.iter().map(own).collect(), hidden: Vec::new() };
        let text = proposal(&config, &found);
        std::fs::write(dir.path().join("skep.toml"), &text).unwrap();
        if let Err(problems) = config::load(&sources) {
            panic!("{problems}\n{text}");
        }
        text
    }

    #[test]
    fn every_proposal_is_accepted() {
        let nothing = proposed(&[], &[], &[]);
        assert!(nothing.lines().all(|l| l.starts_with('#')), "{nothing}");
        let one = proposed(&["ANTHROPIC_API_KEY"], &[], &["claude"]);
        assert!(
            one.contains("engine = \"llm:anthropic/claude-sonnet-4-5\"\nfallback = [\"acp:claude/claude-sonnet-4-5\"]"),
            "{one}"
        );
        let two = proposed(&["ANTHROPIC_API_KEY", "OPENAI_API_KEY"], &[("ollama", &["qwen3:8b"])], &[]);
        assert!(two.contains("[role.reviewer]\nengine = \"llm:openai/"), "{two}");
        assert!(two.contains("cost = ") && two.contains("llm:ollama/qwen3:8b"), "{two}");
        let local = proposed(&[], &[("vllm", &["a\"b\\c", "d"])], &["claude"]);
        assert!(!local.contains("cost = ") && !local.contains("acp:claude"), "an agent without its key: {local}");
    }

    #[test]
    fn every_model_proposed_has_a_price() {
        let prices = Prices::embedded().unwrap();
        for (provider, strong, worker) in MODELS {
            for model in [strong, worker] {
                assert!(prices.of(&format!("{provider}/{model}")).is_some(), "{provider}/{model}");
            }
        }
    }
}
