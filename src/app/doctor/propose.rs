//! A configuration proposed from what was found: strong models to plan and review, a cheaper one to edit, limits on money.
//!
//! Invariant: pure; what it writes is read by `config check` without a problem on the machine it was found on.

use super::found::Found;
use crate::config::Config;
use std::fmt::Write;

/// A provider's models as they are proposed: one that plans and reviews, one that edits. A person may know better.
const MODELS: &[(&str, &str, &str)] = &[
    ("anthropic", "claude-opus-4-5", "claude-sonnet-4-5"),
    ("openai", "gpt-5.1", "gpt-5-mini"),
    ("gemini", "gemini-2.5-pro", "gemini-2.5-flash"),
];

/// What can think, as engine specs.
struct Mind {
    strong: String,
    worker: String,
}

/// The proposal, as the text of a configuration file.
pub fn proposal(config: &Config, found: &Found) -> String {
    let keyed = |name: &str| found.keyed.iter().any(|k| k == name);
    let hosted = MODELS.iter().filter(|(name, ..)| keyed(name) && config.providers.contains_key(*name));
    let mut minds: Vec<Mind> = hosted
        .map(|(name, strong, worker)| Mind {
            strong: format!("llm:{name}/{strong}"),
            worker: format!("llm:{name}/{worker}"),
        })
        .collect();
    for (name, models) in &found.servers {
        if let Some(model) = models.first() {
            let spec = format!("llm:{name}/{model}");
            minds.push(Mind { strong: spec.clone(), worker: spec });
        }
    }
    // An agent is proposed where its calls can go through Skep, which holds the key and counts, or it has its own way.
    let agents: Vec<String> = found
        .agents
        .iter()
        .filter_map(|name| config.agents.get(name))
        .filter(|a| a.provider.as_deref().is_none_or(|p| keyed(p) || found.servers.iter().any(|(s, _)| s == p)))
        .map(|a| {
            let kind = match a.protocol {
                crate::adapters::engine::settings::Protocol::Acp => "acp",
                crate::adapters::engine::settings::Protocol::Cli => "cli",
            };
            format!("{kind}:{}", a.name)
        })
        .collect();
    let mut out = String::new();
    let Some(first) = minds.first() else {
        return without_models(&agents);
    };
    // A reviewer of another maker than the dev's finds other mistakes.
    let second = minds.get(1).unwrap_or(first);
    let others = |of: &str, pick: fn(&Mind) -> &String| -> Vec<String> {
        minds.iter().map(pick).filter(|s| *s != of).take(2).cloned().collect()
    };
    out.push_str(
        "# Proposed by `skep doctor` from what is there. Look at the models and limits, then put it into skep.toml.\n",
    );
    role(&mut out, "manager", &first.strong, &others(&first.strong, |m| &m.strong));
    let mut takes_over = others(&first.worker, |m| &m.worker);
    takes_over.extend(agents.into_iter().take(1));
    role(&mut out, "dev", &first.worker, &takes_over);
    role(&mut out, "reviewer", &second.strong, &others(&second.strong, |m| &m.strong));
    limits(&mut out, found.keyed.is_empty());
    out
}

fn without_models(agents: &[String]) -> String {
    let mut out = String::new();
    match agents.split_first() {
        Some((first, rest)) => {
            out.push_str("# Proposed by `skep doctor`: an agent edits; planning and review are done without a model.\n");
            role(&mut out, "dev", first, &rest.iter().take(2).cloned().collect::<Vec<_>>());
            limits(&mut out, false);
        }
        None => out.push_str(
            "# Nothing that thinks was found: no provider's key in the environment, no model server on this machine, no agent.\n\
             # Set a key (ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY), or start a model server, then ask again.\n",
        ),
    }
    out
}

fn role(out: &mut String, name: &str, spec: &str, fallback: &[String]) {
    // Writing into a text can't fail.
    let _written = write!(out, "\n[role.{name}]\nengine = {}\n", quoted(spec));
    if !fallback.is_empty() {
        let list: Vec<String> = fallback.iter().map(|s| quoted(s)).collect();
        let _written = writeln!(out, "fallback = [{}]", list.join(", "));
    }
}

fn limits(out: &mut String, only_local: bool) {
    if only_local {
        out.push_str("\n[limits]\ntokens = 10000000\n");
    } else {
        out.push_str("\n[limits]\ncost = \"5.00 USD\"\ntokens = 10000000\n\n[budget]\nday_cost = \"20.00 USD\"\nday_tokens = 40000000\n");
    }
}

/// A text as TOML: names of models come from a server.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources};
    use crate::providers::prices::Prices;
    use std::ffi::OsString;

    /// What is proposed, and that it is accepted where it was found.
    fn proposed(keys: &[&str], servers: &[(&str, &[&str])], agents: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let env: Vec<_> = keys.iter().map(|k| (OsString::from(k), OsString::from("sk-1234567890"))).collect();
        let sources = Sources { data_dir: dir.path().into(), env, ..Sources::default() };
        let config = config::load(&sources).unwrap().config;
        let keyed = config.providers.iter().filter(|(_, k)| k.provider.key.is_some()).map(|(n, _)| n.clone()).collect();
        let own = |s: &&str| (*s).to_owned();
        let servers = servers.iter().map(|(n, m)| ((*n).to_owned(), m.iter().map(own).collect())).collect();
        let found = Found { keyed, servers, agents: agents.iter().map(own).collect() };
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
        assert!(one.contains("engine = \"llm:anthropic/claude-sonnet-4-5\"\nfallback = [\"acp:claude\"]"), "{one}");
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
