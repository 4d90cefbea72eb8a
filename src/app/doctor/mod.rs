//! `skep doctor`: inspects everything Skep needs. Also collects the findings that a service reports when it is ready.

mod found;
mod offers;
mod propose;

use super::{check_vault, forges, identity, owner, runners, sandbox, settings, vault_of};
use crate::adapters::store;
use crate::config::{self, Config, prepare_data_dir};
use crate::http::backend::ServiceReady;
use crate::platform::git::{Git, Identity};
use crate::platform::sandbox::Sandbox;
use crate::secrets::read_private;
use crate::service::host::{Diagnosis, Finding, HostContext, Severity};
pub use found::Found;
pub use found::{Installed, hidden_fix, installed, listens};
pub use offers::{named, offers};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Maximum size of a token's file, in bytes.
const MAX_TOKEN_BYTES: u64 = 4096;

/// What is said of a store that does not exist yet.
const NEW_STORE: &str = "new; created at the first start";

fn finding(subject: &str, severity: Severity, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { subject: subject.to_owned(), severity, detail: detail.into(), fix: fix.into() }
}

/// Inspects everything Skep needs and proposes a configuration for this machine. Creates the data directory if it is
/// missing; changes nothing else.
pub async fn diagnose(context: &HostContext) -> Diagnosis {
    let data_dir = &context.sources.data_dir;
    let mut all = Vec::new();
    let config = match config::load(&context.sources) {
        Ok(loaded) => {
            all.push(match loaded.old_keys() {
                [] => finding("configuration", Severity::Ok, "valid", ""),
                old => finding("configuration", Severity::Warning, old.join("; "), "use the new names"),
            });
            Some(loaded.config)
        }
        Err(problems) => {
            let fix = "fix the problems listed; `skep config check` shows each value with its source";
            all.push(finding("configuration", Severity::Error, problems.to_string(), fix));
            None
        }
    };
    all.push(match prepare_data_dir(data_dir) {
        Ok(()) if is_open_to_others(data_dir) => finding(
            "data directory",
            Severity::Warning,
            format!("{} can be listed by other users", data_dir.display()),
            format!("chmod 700 {}", data_dir.display()),
        ),
        Ok(()) => finding("data directory", Severity::Ok, data_dir.display().to_string(), ""),
        Err(p) => finding("data directory", Severity::Error, format!("{} {}", p.at, p.why), p.fix),
    });
    all.push(match Git::find(Identity::default()).await {
        Ok(_) => finding("git", Severity::Ok, "installed, and recent enough", ""),
        Err(e) => finding("git", Severity::Error, e.to_string(), e.fix().to_owned()),
    });
    if let Some(config) = &config {
        all.extend(exposed_store(config, data_dir));
        let schema = schema(config, data_dir).await;
        // A store that does not exist yet, or lacks its schema, has no secrets to check.
        let is_current = schema.severity == Severity::Ok && schema.detail != NEW_STORE;
        all.push(schema);
        if is_current {
            all.push(vault(config, data_dir).await);
        }
    }
    all.push(token(data_dir, config.as_ref().and_then(|c| c.server.token_file.as_deref())));
    all.push(match owner::taken(data_dir) {
        true => finding("service", Severity::Ok, "a process uses the data directory", ""),
        false => finding("service", Severity::Ok, "not running: each command drives its own runs", ""),
    });
    all.push(isolation(config.as_ref(), data_dir).await);
    let Some(config) = config else { return Diagnosis { findings: all, proposed_config: String::new() } };
    let sandbox = Sandbox::isolated(&sandbox::policy(&config, data_dir), &[], None).ok();
    let found = Found::on_this_machine(&config, sandbox.as_ref()).await;
    all.extend(roles(&config));
    all.push(budget(&config));
    all.push(providers(&config, &found));
    all.extend(runners::inspect(&config).await);
    // What is wrong with the vault is a finding of its own.
    let vault = if config.forges.is_empty() { None } else { vault_of(&config, data_dir).await.ok().flatten() };
    all.extend(forges::inspect(&config, vault).await);
    all.extend(identity::inspect(&config).await);
    all.push(match found.agents.is_empty() {
        true => finding("agents", Severity::Ok, "none of the configured agents is installed", ""),
        false => finding("agents", Severity::Ok, format!("installed: {}", found.agents.join(", ")), ""),
    });
    all.extend(found.hidden.iter().map(|(name, folder)| {
        let detail = format!("{name} is installed, but its program is not visible in the sandbox");
        finding("agents", Severity::Warning, detail, hidden_fix(folder))
    }));
    Diagnosis { findings: all, proposed_config: propose::proposal(&config, &found) }
}

/// Inspects whether others can access the files of the store.
fn exposed_store(config: &Config, data_dir: &Path) -> Option<Finding> {
    let files = store::exposed_files(config.store.database.url(data_dir).expose());
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let fix = format!("run chmod 600 {}; the next start does so", names.join(" "));
    (!names.is_empty())
        .then(|| finding("store", Severity::Warning, format!("other users can access {}", names.join(", ")), fix))
}

async fn schema(config: &Config, data_dir: &Path) -> Finding {
    let url = config.store.database.url(data_dir);
    match store::status(url.expose()).await {
        Ok(s) if s.unknown.is_empty() && s.pending.is_empty() => {
            finding("store", Severity::Ok, format!("schema up to date ({} steps)", s.applied.len()), "")
        }
        // A first start: the store is created then, at the current schema.
        Ok(s) if s.unknown.is_empty() && s.applied.is_empty() => finding("store", Severity::Ok, NEW_STORE, ""),
        Ok(s) if s.unknown.is_empty() => finding(
            "store",
            Severity::Warning,
            format!("{} schema steps pending", s.pending.len()),
            "run `skep migrate`; a service also migrates when it starts",
        ),
        Ok(s) => finding(
            "store",
            Severity::Error,
            format!("its schema is newer than this program: {}", s.unknown.join(", ")),
            "use the newer Skep that wrote it",
        ),
        Err(e) => finding("store", Severity::Error, e.to_string(), e.fix().to_owned()),
    }
}

/// Inspects the engine of each role, and whether its price is known.
fn roles(config: &Config) -> Vec<Finding> {
    let mut all = Vec::new();
    let prices = match settings::prices(config) {
        Ok(prices) => prices,
        Err(why) => {
            let fix = "fix the file named by prices.file, or set prices.file to \"\"";
            return vec![finding("prices", Severity::Error, why, fix)];
        }
    };
    all.push(finding("prices", Severity::Ok, format!("price list of {}", prices.version()), ""));
    for (role, spec) in &config.engines.roles {
        let subject = format!("role {}", role.name());
        let text = settings::written(spec);
        all.push(match settings::model_of(config, spec) {
            None => finding(&subject, Severity::Ok, text, ""),
            Some(model) if prices.of(&model).is_some() => {
                finding(&subject, Severity::Ok, format!("{text}, price known"), "")
            }
            Some(_) => finding(
                &subject,
                Severity::Warning,
                format!("{text}, price unknown: a cost limit cannot stop it"),
                "limit its tokens, or add its price to the file named by prices.file",
            ),
        });
    }
    all
}

/// Inspects whether anything limits what models may cost.
fn budget(config: &Config) -> Finding {
    let uses_models = config.engines.roles.values().any(|spec| settings::model_of(config, spec).is_some());
    let (run, shared) = (&config.policy.limits, &config.policy.shared);
    let limited = shared.any() || run.tokens.or(run.cost_micros).is_some();
    match (uses_models, limited) {
        (true, false) => finding(
            "budget",
            Severity::Warning,
            "models are in use, and no run, project or day has a limit",
            "set limits.cost and budget.day_cost, or limits on tokens",
        ),
        (_, true) => finding("budget", Severity::Ok, "limited", ""),
        (false, false) => finding("budget", Severity::Ok, "no limit, and no role uses a model", ""),
    }
}

/// Inspects which providers could be used.
fn providers(config: &Config, found: &Found) -> Finding {
    let sends_key_in_clear = |k: &&config::Keyed| {
        let url = &k.provider.base_url;
        k.source != config::ApiKeySource::None && url.starts_with("http://") && !found::is_loopback(url)
    };
    if let Some(k) = config.providers.values().find(sends_key_in_clear) {
        return finding(
            "providers",
            Severity::Warning,
            format!("the key of {} is sent to {} without encryption", k.provider.name, k.provider.base_url),
            "use https, or a server on this machine",
        );
    }
    let servers = found.servers.iter().map(|(name, models)| match models.len() {
        1 => format!("{name} (on this machine, 1 model)"),
        n => format!("{name} (on this machine, {n} models)"),
    });
    let keyed = found.keyed.iter().map(|name| format!("{name} (has a key)"));
    let all: Vec<String> = keyed.chain(servers).collect();
    match all.is_empty() {
        true => finding("providers", Severity::Ok, "none usable: no key, and no model server on this machine", ""),
        false => finding("providers", Severity::Ok, format!("usable: {}", all.join(", ")), ""),
    }
}

/// Inspects the token's file, as a start would.
fn token(data_dir: &Path, file: Option<&Path>) -> Finding {
    let path = file.map_or_else(|| data_dir.join("token"), Path::to_owned);
    match read_private(&path, MAX_TOKEN_BYTES) {
        Ok(_) => finding("token", Severity::Ok, "readable only by its owner", ""),
        Err(problem) if problem.is_missing && file.is_none() => {
            finding("token", Severity::Ok, "created at the first start", "")
        }
        Err(problem) => finding("token", Severity::Error, format!("{} {}", path.display(), problem.why), problem.fix),
    }
}

/// Inspects whether the vault's key is there and private, and opens what is stored.
async fn vault(config: &Config, data_dir: &Path) -> Finding {
    match check_vault(config, data_dir).await {
        Ok(()) => finding("vault", Severity::Ok, "the key of every secret is there", ""),
        Err(e) => finding("vault", Severity::Error, e.to_string(), e.fix().to_owned()),
    }
}

fn is_open_to_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

/// Tests the sandbox, as a start would.
async fn isolation(config: Option<&Config>, data_dir: &Path) -> Finding {
    let policy = config.map(|config| sandbox::policy(config, data_dir)).unwrap_or_default();
    match sandbox::proven(&policy, data_dir).await {
        Ok(sandbox) if sandbox.level().name() == "none" => finding(
            "sandbox",
            Severity::Warning,
            "none: commands of agents and checks run with the rights of this user",
            "run Skep as a dedicated user, and only on repositories you trust",
        ),
        Ok(sandbox) => {
            let detail = format!("{}: blocks every hostile action; {}", sandbox.level().name(), sandbox.bounds());
            finding("sandbox", Severity::Ok, detail, "")
        }
        Err(refused) => finding("sandbox", Severity::Error, refused.what, refused.fix),
    }
}

/// Returns the engine of each role.
fn engines(config: &Config) -> BTreeMap<&'static str, String> {
    config.engines.roles.iter().map(|(role, spec)| (role.name(), settings::written(spec))).collect()
}

/// Describes a service that is ready: where it listens, what it uses, what deserves attention.
pub fn ready(
    context: &HostContext,
    config: &Config,
    address: SocketAddr,
    startup: Duration,
    sandbox: &'static str,
) -> ServiceReady {
    let reported = |f: &Finding| f.severity != Severity::Ok || matches!(f.subject.as_str(), "budget" | "prices");
    ServiceReady {
        address,
        login: None,
        data_dir: context.sources.data_dir.clone(),
        startup,
        max_live_runs: config.runs.max_live_runs,
        approve_merge: config.policy.approve_merge,
        sandbox,
        engines: engines(config),
        prices: settings::prices(config).map_or(String::new(), |p| p.version().to_owned()),
        findings: roles(config).into_iter().chain([budget(config)]).filter(reported).collect(),
    }
}
