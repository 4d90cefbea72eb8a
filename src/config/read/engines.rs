//! Keys of roles, model providers and coding agents.

use super::super::models::{ApiKeySource, Keyed};
use super::super::problem::printable;
use super::super::reader::Reader;
use super::super::sections::Config;
use super::{MAX_SECRET_BYTES, Parsed, is_plain_to_others, path, variable_name, wrong};
use crate::adapters::engine::settings::{Agent, Expression, Format, OutputTable, Protocol, renamed_placeholder};
use crate::domain::{EngineSpec, Role};
use crate::platform::sandbox::settings::decides_execution;
use crate::providers::settings::{Api, Effort, Provider};
use crate::secrets::{Secret, read_private};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The known engine kinds.
const ENGINE_KINDS: [&str; 7] = ["acp", "cli", "command", "direct", "llm", "open", "script"];
/// The roles that have an engine.
const ENGINE_ROLES: [Role; 4] = [Role::Manager, Role::Scout, Role::Dev, Role::Reviewer];
/// Maximum number of fallbacks of one role.
const MAX_FALLBACKS: usize = 8;
/// Maximum size of an API key, in bytes.
const MAX_KEY_BYTES: usize = 16 * 1024;

/// Reads `[role.*]`, `[engines]`, `[providers.*]` and `[agents.*]`.
pub(super) fn read(r: &mut Reader, c: &mut Config, env: &dyn Fn(&str) -> Option<String>) {
    for name in r.names("providers") {
        let read = provider(r, &name, env);
        c.providers.insert(name, read);
    }
    for name in r.names("agents") {
        let read = agent(r, &name, c);
        c.agents.insert(name, read);
    }
    ENGINE_ROLES.into_iter().for_each(|role| self::role(r, c, role));
    pass_env(r, "engines.pass_env", &mut c.engines.pass_env);
    r.numbers("engines.partial_exit_codes", &mut c.engines.partial_exit_codes, 1..=255);
    r.number("engines.checks_per_session", &mut c.engines.checks_per_session, 0..=20);
}

fn pass_env(r: &mut Reader, key: &str, slot: &mut Vec<String>) {
    r.list(key, slot, |name| {
        let fix = "write names of environment variables such as \"AGENT_API_KEY\", never their values";
        let good = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
            && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        match good {
            true if name.starts_with("SKEP_") => wrong("one entry is a variable of Skep", fix),
            true if decides_execution(name) => {
                wrong("one entry decides which programs and libraries a command runs", fix)
            }
            true => Ok(()),
            false => wrong("one entry is not the name of a variable (capitals, digits, _)", fix),
        }
    });
}

/// Reads one role: its engine with the model appended, and its fallbacks.
fn role(r: &mut Reader, c: &mut Config, role: Role) {
    let at = |key: &str| format!("role.{}.{key}", role.name());
    let (engine_key, model_key, fallback_key) = (at("engine"), at("model"), at("fallback"));
    let mut spec = c.engines.roles.remove(&role);
    r.checked(&engine_key, &mut spec, |t| engine(t, role));
    let mut model = String::new();
    r.checked(&model_key, &mut model, |t| {
        match t.len() <= 200 && !t.contains(|c: char| c.is_whitespace() || c.is_control()) {
            true => Ok(t.to_owned()),
            false => {
                wrong("this cannot be the name of a model", "write the name that the provider uses, without spaces")
            }
        }
    });
    if !model.is_empty() {
        match &mut spec {
            Some(spec) if !takes_model(&spec.kind) => {
                let why = format!("the engine kind {} takes no model", spec.kind);
                r.refuse(&model_key, why, "leave it \"\", or choose an engine of kind llm, acp or cli");
            }
            Some(spec) if spec.arg.contains('/') => {
                let fix = "keep one of them";
                r.refuse(&model_key, format!("{engine_key} names a model as well"), fix);
            }
            Some(spec) => {
                let (name, effort) = spec.arg.split_once('#').map_or((spec.arg.as_str(), None), |(n, e)| (n, Some(e)));
                spec.arg = format!("{name}/{model}{}", effort.map(|e| format!("#{e}")).unwrap_or_default());
            }
            None => {
                r.refuse(&model_key, format!("{engine_key} is not set"), "name the engine, such as \"llm:anthropic\"")
            }
        }
    }
    let mut texts = Vec::new();
    r.list(&fallback_key, &mut texts, |t| match engine(t, role)? {
        Some(_) => Ok(()),
        None => wrong("one entry is empty", "write engines such as \"llm:openai/gpt-5\""),
    });
    if texts.len() > MAX_FALLBACKS {
        r.refuse(&fallback_key, format!("there are more than {MAX_FALLBACKS}"), "leave some out");
    }
    let mut fallbacks: Vec<EngineSpec> = texts.iter().map(|t| EngineSpec::parse(t)).collect();
    effort(r, c, role, &mut spec, &mut fallbacks);
    // With an invalid model, which is already reported, the engine is incomplete and not checked.
    let is_incomplete = r.is_bad(&model_key);
    let complete = spec.iter().filter(|_| !is_incomplete);
    let all = complete.map(|s| (&engine_key, s)).chain(fallbacks.iter().map(|s| (&fallback_key, s)));
    for (key, spec) in all {
        if let Err(e) = check_usable(c, spec) {
            r.refuse(key, e.why, e.fix);
        }
    }
    if let Some(spec) = spec {
        c.engines.roles.insert(role, spec);
    }
    if !fallbacks.is_empty() {
        c.engines.fallbacks.insert(role, fallbacks);
    }
}

/// Reads the reasoning effort of a role. It becomes part of the engine spec and so of the run and each attempt.
/// Fallbacks use the same effort if they support it and do not name another one.
fn effort(r: &mut Reader, c: &Config, role: Role, spec: &mut Option<EngineSpec>, fallbacks: &mut [EngineSpec]) {
    let key = format!("role.{}.effort", role.name());
    let mut word = String::new();
    r.checked(&key, &mut word, |t| match Effort::split(&format!("#{t}")) {
        Err(_) if !t.is_empty() => {
            wrong("unknown effort", "write \"low\", \"medium\" or \"high\"; \"\" leaves it to the model")
        }
        _ => Ok(t.to_owned()),
    });
    if word.is_empty() || r.is_bad(&key) {
        return;
    }
    let takes = |spec: &EngineSpec| match spec.kind.as_str() {
        "llm" => true,
        "acp" | "cli" => c.agents.get(agent_name(&spec.arg)).is_some_and(Agent::takes_effort),
        _ => false,
    };
    match spec {
        None => r.refuse(&key, "the role has no engine", "name the engine, such as \"llm:anthropic\""),
        Some(spec) if !takes_model(&spec.kind) => {
            let why = format!("the engine kind {} takes no effort", spec.kind);
            r.refuse(&key, why, "leave it \"\", or choose an engine of kind llm, acp or cli");
        }
        Some(spec) if spec.arg.contains('#') => {
            r.refuse(&key, format!("role.{}.engine names an effort as well", role.name()), "keep one of them");
        }
        // Whether an agent supports it is checked with the rest of the engine.
        Some(spec) => spec.arg = format!("{}#{word}", spec.arg),
    }
    for spec in fallbacks.iter_mut().filter(|s| !s.arg.contains('#') && takes(s)) {
        spec.arg = format!("{}#{word}", spec.arg);
    }
}

/// Returns the provider or agent that an argument names.
fn agent_name(arg: &str) -> &str {
    arg.split(['/', '#']).next().unwrap_or_default()
}

/// Returns whether a word is a kind of engine.
pub fn is_engine_kind(word: &str) -> bool {
    ENGINE_KINDS.contains(&word)
}

fn takes_model(kind: &str) -> bool {
    matches!(kind, "llm" | "acp" | "cli")
}

/// Checks that the provider or agent of a spec is configured and usable on this machine.
fn check_usable(c: &Config, spec: &EngineSpec) -> Parsed<()> {
    let name = agent_name(&spec.arg);
    let shown = printable(name);
    let usable = |name: &str| match c.providers.get(name) {
        None => {
            let names = c.providers.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            wrong(
                format!("unknown provider {}", printable(name)),
                format!("use one of {names}, or add the table [providers.{}]", printable(name)),
            )
        }
        Some(keyed) => match keyed.keyless() {
            Some((why, fix)) => wrong(why, fix),
            None => Ok(()),
        },
    };
    match spec.kind.as_str() {
        "llm" if spec.arg.split_once('/').is_none_or(|(_, model)| agent_name(model).is_empty()) => wrong(
            format!("the model of {shown} is missing"),
            "write \"llm:PROVIDER/MODEL\", or name it in the role's model key (role.dev.model)",
        ),
        "llm" => usable(name),
        kind @ ("acp" | "cli") => match c.agents.get(name) {
            None => {
                let of_kind = |a: &&Agent| (a.protocol == Protocol::Acp) == (kind == "acp");
                let names: Vec<&str> = c.agents.values().filter(of_kind).map(|a| a.name.as_str()).collect();
                wrong(
                    format!("unknown agent {shown}"),
                    format!("use one of {}, or add the table [agents.{shown}]", names.join(", ")),
                )
            }
            Some(agent) if (agent.protocol == Protocol::Acp) != (kind == "acp") => {
                let other = if kind == "acp" { "cli" } else { "acp" };
                wrong(
                    format!("the agent {shown} does not support {kind}"),
                    format!("write \"{other}:{}\"", printable(&spec.arg)),
                )
            }
            Some(agent) if spec.arg.contains('#') && !agent.takes_effort() => wrong(
                format!("the agent {shown} does not support an effort"),
                format!("leave it out, or put {{effort}} into agents.{shown}.command, env or files"),
            ),
            Some(agent) => agent.provider.as_deref().map_or(Ok(()), usable),
        },
        _ => Ok(()),
    }
}

/// Parses an engine for a role: `KIND` or `KIND:ARG`; "" = none. Checks only the form, not whether the provider or
/// agent is configured.
///
/// # Errors
/// If the kind is unknown, or its argument is missing or invalid.
pub fn engine(text: &str, role: Role) -> Parsed<Option<EngineSpec>> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let spec = EngineSpec::parse(text);
    let kinds = ENGINE_KINDS.join(", ");
    if !ENGINE_KINDS.contains(&spec.kind.as_str()) {
        let near = ENGINE_KINDS.iter().find(|k| k.len() > 3 && strsim::damerau_levenshtein(k, &spec.kind) <= 2);
        return match near {
            Some(k) => wrong("unknown engine", format!("did you mean \"{k}\"? Kinds are: {kinds}")),
            None => wrong("unknown engine", format!("use one of the kinds {kinds}, written KIND or KIND:ARG")),
        };
    }
    if takes_model(&spec.kind)
        && let Err(why) = Effort::split(&spec.arg)
    {
        return wrong(printable(&why), "write, for example, \"llm:PROVIDER/MODEL#high\", or leave the # out");
    }
    let named = !agent_name(&spec.arg).is_empty();
    match (spec.kind.as_str(), spec.arg.is_empty(), role) {
        ("direct", _, Role::Dev | Role::Scout) => {
            wrong("\"direct\" can plan and review, but not edit or explore", "use \"command: <command line>\"")
        }
        ("open", _, Role::Manager | Role::Scout) => wrong("agents only edit and review", "use it for dev or reviewer"),
        ("open", false, _) => wrong("\"open\" takes no argument", "write \"open\""),
        ("direct", false, _) => wrong("\"direct\" takes no argument", "write \"direct\""),
        ("command", true, _) => wrong("\"command\" needs a command line", "write \"command: <command line>\""),
        ("script", true, _) => wrong("\"script\" needs a file", "write \"script: /path/to/script.toml\""),
        ("llm", _, _) if !named => {
            wrong("\"llm\" needs a provider", "write \"llm:PROVIDER/MODEL\", such as \"llm:anthropic/…\"")
        }
        ("acp" | "cli", _, _) if !named => wrong(
            format!("\"{}\" needs an agent", spec.kind),
            format!("write \"{}:AGENT\", such as \"{}:codex\"", spec.kind, spec.kind),
        ),
        _ => Ok(Some(spec)),
    }
}

fn provider(r: &mut Reader, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Keyed {
    let at = |key: &str| format!("providers.{name}.{key}");
    let mut p = Provider {
        name: name.to_owned(),
        api: Api::OpenAi,
        base_url: String::new(),
        key: None,
        key_source: String::new(),
        concurrency: 8,
        requests_per_minute: None,
        idle_timeout: Duration::from_secs(120),
        context_window: 128_000,
        max_output_tokens: 16_384,
    };
    r.checked(&at("api"), &mut p.api, |t| match t {
        "anthropic" => Ok(Api::Anthropic),
        "openai" => Ok(Api::OpenAi),
        "openai-responses" => Ok(Api::OpenAiResponses),
        "gemini" => Ok(Api::Gemini),
        "ollama" => Ok(Api::Ollama),
        _ => wrong(
            "unknown API",
            "write \"anthropic\", \"openai\" (also for compatible servers), \"openai-responses\", \"gemini\" or \"ollama\"",
        ),
    });
    r.checked(&at("base_url"), &mut p.base_url, base_url);
    if p.base_url.is_empty() {
        r.refuse(&at("base_url"), "a provider needs a base URL", "write one such as \"http://127.0.0.1:8000/v1/\"");
    }
    let (mut var, mut file, mut secret) = (String::new(), None, String::new());
    r.checked(&at("key_env"), &mut var, variable_name);
    r.checked(&at("key_file"), &mut file, path);
    r.secret_files.extend(file.clone());
    r.checked(&at("key_secret"), &mut secret, secret_name);
    if file.is_some() && !secret.is_empty() {
        r.refuse(&at("key_secret"), format!("{} is set as well", at("key_file")), "keep one of them");
    }
    let has_key = file.is_some() || !secret.is_empty() || !var.is_empty();
    if has_key && is_plain_to_others(&p.base_url) {
        r.refuse(
            &at("base_url"),
            "the key would be sent unencrypted to another machine",
            "write an https URL, or leave out the key",
        );
    }
    r.number(&at("concurrency"), &mut p.concurrency, 1..=1_000);
    r.at_most(&at("requests_per_minute"), &mut p.requests_per_minute, 1..=1_000_000);
    r.duration(&at("idle_timeout"), &mut p.idle_timeout, "1s", "1h");
    r.number(&at("context_window"), &mut p.context_window, 1_000..=100_000_000);
    r.number(&at("max_output_tokens"), &mut p.max_output_tokens, 256..=10_000_000);
    if u64::from(p.max_output_tokens) >= p.context_window {
        r.refuse(
            &at("max_output_tokens"),
            "an answer of this size does not fit into the context window",
            "write less than context_window",
        );
    }
    // Configured sources override the built-in variable.
    let source = match (file, secret, var) {
        (Some(file), _, _) => {
            match key_in(&file) {
                Ok(key) => p.key = Some(key),
                Err((why, fix)) => r.refuse(&at("key_file"), format!("the file {why}"), fix),
            }
            p.key_source = format!("the file {} ({})", printable(&file.display().to_string()), at("key_file"));
            ApiKeySource::File(file)
        }
        (None, secret, _) if !secret.is_empty() => {
            p.key_source = format!("the secret {secret} of the vault (`skep secret set {secret}`)");
            ApiKeySource::Vault(secret)
        }
        (None, _, var) if !var.is_empty() => {
            p.key = env(&var).as_deref().map(str::trim).filter(|k| is_key(k)).map(Secret::new);
            p.key_source = format!("the environment variable {var} ({})", at("key_env"));
            ApiKeySource::Env(var)
        }
        _ => {
            p.key_source = format!("none is configured ({})", at("key_env"));
            ApiKeySource::None
        }
    };
    Keyed { provider: p, source }
}

/// Returns whether a text is an API key: one line that is valid in a header.
fn is_key(text: &str) -> bool {
    (1..=MAX_KEY_BYTES).contains(&text.len()) && text.bytes().all(|b| (0x21..0x7f).contains(&b))
}

/// Reads an API key from a file.
///
/// # Errors
/// The problem with the file, and the fix.
pub fn key_in(file: &Path) -> Result<Secret, (String, String)> {
    let text = read_private(file, MAX_SECRET_BYTES).map_err(|problem| (problem.why, problem.fix))?;
    let found = text.expose().trim();
    if !is_key(found) {
        let why = "does not hold one key on one line".to_owned();
        return Err((why, "write only the key into that file".to_owned()));
    }
    Ok(Secret::new(found))
}

pub(super) fn secret_name(text: &str) -> Parsed<String> {
    let good = text.len() <= 100 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    match good {
        true => Ok(text.to_owned()),
        false => wrong("this is not the name of a secret", "write its name in the vault, never its value"),
    }
}

pub(super) fn base_url(text: &str) -> Parsed<String> {
    let fix = "write the URL to which the paths of the API are appended, such as \"https://api.example.org/v1/\"";
    let Some(rest) = text.strip_prefix("https://").or(text.strip_prefix("http://")) else {
        return if text.is_empty() { Ok(String::new()) } else { wrong("this is not an http or https URL", fix) };
    };
    let host = rest.split('/').next().unwrap_or_default();
    match () {
        () if host.contains('@') => wrong(
            "the URL contains a user or password",
            "name the source of the key in key_env, key_file or key_secret",
        ),
        () if host.is_empty() || host.starts_with(':') => wrong("the host is missing", fix),
        () if rest.contains(|c: char| c.is_whitespace() || c.is_control() || "?#\\".contains(c))
            || text.len() > 500 =>
        {
            wrong("the URL contains characters that a base URL cannot have", fix)
        }
        () => Ok(format!("{}/", text.trim_end_matches('/'))),
    }
}

fn agent(r: &mut Reader, name: &str, c: &Config) -> Agent {
    let at = |key: &str| format!("agents.{name}.{key}");
    let mut a = Agent {
        name: name.to_owned(),
        protocol: Protocol::Acp,
        command: Vec::new(),
        provider: None,
        env: BTreeMap::new(),
        pass_env: Vec::new(),
        files: BTreeMap::new(),
        output: OutputTable::default(),
        mode: None,
        idle_timeout: Duration::from_secs(15 * 60),
    };
    r.checked(&at("protocol"), &mut a.protocol, |t| match t {
        "acp" => Ok(Protocol::Acp),
        "cli" => Ok(Protocol::Cli),
        _ => wrong(
            "unknown protocol",
            "write \"acp\" (Agent Client Protocol) or \"cli\" (a command that runs to completion)",
        ),
    });
    let check_size = |t: &str| match renamed_placeholder(t) {
        Some((old, new)) => {
            wrong(format!("the placeholder {{{old}}} no longer exists"), format!("write {{{new}}}, its new name"))
        }
        None if t.len() <= 10_000 && !t.contains('\0') => Ok(()),
        None => wrong("one entry is too long or contains a NUL byte", "shorten it"),
    };
    r.list(&at("command"), &mut a.command, |t| match t.is_empty() {
        true => wrong("one entry is empty", "write the program and its arguments, such as [\"codex\", \"exec\"]"),
        false => check_size(t),
    });
    if a.command.is_empty() {
        r.refuse(
            &at("command"),
            "an agent needs a command",
            "write the program and its arguments, such as [\"codex\", \"exec\"]",
        );
    }
    r.checked(&at("provider"), &mut a.provider, |t| Ok((!t.is_empty()).then(|| t.to_owned())));
    if let Some(provider) = &a.provider
        && !c.providers.contains_key(provider)
    {
        let names = c.providers.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        r.refuse(&at("provider"), "unknown provider", format!("use one of {names}, or add its table"));
    }
    pass_env(r, &at("pass_env"), &mut a.pass_env);
    r.texts(&at("env"), &mut a.env, |name, value| {
        let good = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if good {
            check_size(value)
        } else {
            wrong("one name is not the name of a variable", "use letters, digits and _")
        }
    });
    r.texts(&at("files"), &mut a.files, |path, text| {
        let is_inside = !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if is_inside {
            check_size(text)
        } else {
            wrong("one path is outside the agent's home", "write paths such as \".codex/config.toml\"")
        }
    });
    output_table(r, &at("output"), &mut a.output);
    r.duration(&at("idle_timeout"), &mut a.idle_timeout, "1s", "1day");
    r.checked(&at("mode"), &mut a.mode, |t| Ok((!t.is_empty()).then(|| t.to_owned())));
    a
}

/// Reads `[agents.NAME.output]`.
fn output_table(r: &mut Reader, prefix: &str, table: &mut OutputTable) {
    let format_key = format!("{prefix}.format");
    r.checked(&format_key, &mut table.format, |t| match t {
        "" => Ok(None),
        "lines" => Ok(Some(Format::Lines)),
        "json" => Ok(Some(Format::Json)),
        "text" => Ok(Some(Format::Text)),
        _ => wrong("unknown format", "write \"lines\", \"json\" or \"text\""),
    });
    for (key, slot) in table.expressions_mut() {
        r.one_or_more(&format!("{prefix}.{key}"), slot, |t| match t.len() <= 10_000 {
            true => Expression::parse(t).or_else(|(why, fix)| wrong(why, fix)),
            false => wrong("one expression is too long", "shorten it"),
        });
    }
    if table.format == Some(Format::Text) && table.has_expressions() {
        r.refuse(
            &format_key,
            "plain text has no members to select",
            "remove the expressions, or write \"lines\" or \"json\"",
        );
    }
    for (key, slot) in [("retryable_errors", &mut table.retryable_errors), ("fatal_errors", &mut table.fatal_errors)] {
        let mut patterns = Vec::new();
        r.one_or_more(&format!("{prefix}.{key}"), &mut patterns, |t| match t.trim().is_empty() {
            true => wrong("one entry is empty", "write parts of error messages, such as [\"rate limit\"]"),
            false => Ok(t.to_owned()),
        });
        if !patterns.is_empty() {
            *slot = Some(patterns);
        }
    }
}
