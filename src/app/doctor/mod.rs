//! Looks at everything that is needed, and tells a service's owner at its start how it stands.

mod found;
mod propose;

use super::{owner, sandbox, settings};
use crate::adapters::store;
use crate::cli::context::{CliContext, Doctored, Level, Looked};
use crate::cli::screen::Screen;
use crate::config::{self, Config, prepare_data_dir};
use crate::platform::git::{Git, Identity};
use crate::ports::Isolation as _;
use found::Found;
pub use found::{is_program, listens};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn looked(what: &str, level: Level, found: impl Into<String>, fix: impl Into<String>) -> Looked {
    Looked { what: what.to_owned(), level, found: found.into(), fix: fix.into() }
}

/// Everything that is needed, and how it stands; and a configuration for what was found. Changes nothing but the data directory's
/// being there.
pub async fn look(context: &CliContext) -> Doctored {
    let data_dir = &context.sources.data_dir;
    let mut all = Vec::new();
    let config = match config::load(&context.sources) {
        Ok(loaded) => {
            all.push(looked("configuration", Level::Good, "read without a problem", ""));
            Some(loaded.config)
        }
        Err(problems) => {
            let fix = "mend what is named; `skep config check` shows each value with its source";
            all.push(looked("configuration", Level::Bad, problems.to_string(), fix));
            None
        }
    };
    all.push(match prepare_data_dir(data_dir) {
        Ok(()) => looked("data directory", Level::Good, data_dir.display().to_string(), ""),
        Err(p) => looked("data directory", Level::Bad, format!("{} {}", p.at, p.why), p.fix),
    });
    all.push(match Git::find(Identity::default()).await {
        Ok(_) => looked("git", Level::Good, "found, and new enough", ""),
        Err(e) => looked("git", Level::Bad, e.to_string(), e.fix().to_owned()),
    });
    if let Some(config) = &config {
        let url = config.store.database.url(data_dir);
        all.push(match store::status(url.expose()).await {
            Ok(s) if s.unknown.is_empty() && s.pending.is_empty() => {
                looked("store", Level::Good, format!("{} schema steps applied", s.applied.len()), "")
            }
            Ok(s) if s.unknown.is_empty() => {
                looked("store", Level::Weak, format!("{} schema steps pending", s.pending.len()), "`skep migrate`")
            }
            Ok(s) => looked(
                "store",
                Level::Bad,
                format!("its schema is newer than this program: {}", s.unknown.join(", ")),
                "use the newer Skep that wrote it",
            ),
            Err(e) => looked("store", Level::Bad, e.to_string(), e.fix().to_owned()),
        });
    }
    all.push(token(context));
    all.push(match owner::taken(data_dir) {
        true => looked("service", Level::Good, "a process owns the data directory", ""),
        false => looked("service", Level::Good, "none is running: commands carry their own runs", ""),
    });
    all.push(isolation(config.as_ref(), data_dir).await);
    let Some(config) = config else { return Doctored { looked: all, proposal: String::new() } };
    let found = Found::on_this_machine(&config).await;
    all.extend(minds(&config));
    all.push(money(&config));
    all.push(keys(&config, &found));
    all.extend(super::runners::looked(&config).await);
    all.push(match found.agents.is_empty() {
        true => looked("agents", Level::Good, "none of those that are configured is installed", ""),
        false => looked("agents", Level::Good, format!("installed: {}", found.agents.join(", ")), ""),
    });
    Doctored { looked: all, proposal: propose::proposal(&config, &found) }
}

/// Each role with what thinks for it, and whether its price is known.
fn minds(config: &Config) -> Vec<Looked> {
    let mut all = Vec::new();
    let prices = match settings::prices(config) {
        Ok(prices) => prices,
        Err(why) => {
            let fix = "mend the file prices.file names, or set it to \"\"";
            return vec![looked("prices", Level::Bad, why, fix)];
        }
    };
    all.push(looked("prices", Level::Good, format!("of {}", prices.version()), ""));
    for (role, spec) in &config.engines.roles {
        let what = format!("role {}", role.name());
        let text = settings::written(spec);
        all.push(match settings::model_of(config, spec) {
            None => looked(&what, Level::Good, text, ""),
            Some(model) if prices.of(&model).is_some() => {
                looked(&what, Level::Good, format!("{text}, price known"), "")
            }
            Some(_) => looked(
                &what,
                Level::Weak,
                format!("{text}, price not known: no limit of money can hold it"),
                "limit its tokens, or put its price into the file named by prices.file",
            ),
        });
    }
    all
}

/// Whether anything limits what models may cost.
fn money(config: &Config) -> Looked {
    let thinks = config.engines.roles.values().any(|spec| settings::model_of(config, spec).is_some());
    let (run, shared) = (&config.policy.limits, &config.policy.shared);
    let limited = shared.any() || run.tokens.or(run.cost_micros).is_some();
    match (thinks, limited) {
        (true, false) => looked(
            "budget",
            Level::Weak,
            "models are used, and neither a run, a project nor a day has a limit",
            "set limits.cost and budget.day_cost, or limits of tokens",
        ),
        (_, true) => looked("budget", Level::Good, "limited", ""),
        (false, false) => looked("budget", Level::Good, "no limit, and no role uses a model", ""),
    }
}

/// Which providers could be used.
fn keys(config: &Config, found: &Found) -> Looked {
    let open = |k: &&config::Keyed| {
        let url = &k.provider.base_url;
        k.place != config::KeyPlace::Nowhere && url.starts_with("http://") && !found::is_loopback(url)
    };
    if let Some(k) = config.providers.values().find(open) {
        return looked(
            "providers",
            Level::Weak,
            format!("the key of {} goes to {} unencrypted", k.provider.name, k.provider.base_url),
            "use https, or a server on this machine",
        );
    }
    let servers = found.servers.iter().map(|(name, models)| format!("{name} on this machine, {} models", models.len()));
    let keyed = found.keyed.iter().map(|name| format!("{name} by its key"));
    let all: Vec<String> = keyed.chain(servers).collect();
    match all.is_empty() {
        true => looked("providers", Level::Good, "none can be used: no key, no model server on this machine", ""),
        false => looked("providers", Level::Good, all.join("; "), ""),
    }
}

fn token(context: &CliContext) -> Looked {
    let path = context.sources.data_dir.join("token");
    match std::fs::metadata(&path) {
        Ok(m) if m.permissions().mode() & 0o077 == 0 => looked("token", Level::Good, "readable by its user only", ""),
        Ok(_) => looked("token", Level::Bad, "others can read it", format!("chmod 600 {}", path.display())),
        Err(_) => looked("token", Level::Good, "made at the first start", ""),
    }
}

/// Tries the walls, as a start would.
async fn isolation(config: Option<&Config>, data_dir: &Path) -> Looked {
    let policy = config.map(|config| sandbox::policy(config, data_dir)).unwrap_or_default();
    match sandbox::proven(&policy, data_dir).await {
        Ok(sandbox) if sandbox.level() == "none" => looked(
            "sandbox",
            Level::Weak,
            "none: commands of agents and checks run with the rights of this user",
            "run Skep as a user of its own, and only on repositories you trust",
        ),
        Ok(sandbox) => {
            let held = format!("{}: every hostile action was held; {}", sandbox.level(), sandbox.bounds());
            looked("sandbox", Level::Good, held, "")
        }
        Err(refused) => looked("sandbox", Level::Bad, refused.what, refused.fix),
    }
}

/// Who thinks for each role.
fn engines(config: &Config) -> BTreeMap<&'static str, String> {
    config.engines.roles.iter().map(|(role, spec)| (role.name(), settings::written(spec))).collect()
}

/// The lines of the start screen about engines and money.
fn thinking(config: &Config) -> String {
    let mut lines = String::new();
    for (role, spec) in engines(config) {
        lines.push_str(&format!("  {role:<14} {spec}\n"));
    }
    for look in minds(config).into_iter().chain([money(config)]) {
        let told = look.level != Level::Good || matches!(look.what.as_str(), "budget" | "prices");
        if told {
            let fix = if look.fix.is_empty() { String::new() } else { format!(" ({})", look.fix) };
            lines.push_str(&format!("  {:<14} {}{fix}\n", look.what, look.found));
        }
    }
    lines
}

/// One screen at a service's start: what it is, where it listens, what is weak.
pub fn greet(screen: &Screen, context: &CliContext, config: &Config, address: SocketAddr, took: Duration, level: &str) {
    let data_dir = context.sources.data_dir.display().to_string();
    if context.json {
        let ready = serde_json::json!({
            "ready": true, "address": address.to_string(), "data_dir": data_dir, "ready_ms": took.as_millis() as u64,
            "max_live_runs": config.runs.max_live_runs, "sandbox": level,
            "engines": engines(config), "prices": settings::prices(config).map_or(String::new(), |p| p.version().to_owned()),
        });
        // Nobody may be reading; the service goes on.
        let _unread = screen.object(&ready);
        return;
    }
    let lines = format!(
        "Skep {} is ready after {} ms\n  answers on     http://{address}/api/v1  (token in {data_dir}/token)\n  data           \
         {data_dir}\n  runs at once   {}\n  merges         {}\n  sandbox        {}: {}\n{}",
        env!("CARGO_PKG_VERSION"),
        took.as_millis(),
        config.runs.max_live_runs,
        if config.policy.approve_merge {
            "only after a person's approval"
        } else {
            "without asking, where the policy allows"
        },
        level,
        if level == "none" { "commands run with this user's rights" } else { "commands are walled in" },
        thinking(config),
    );
    // Nobody may be reading; the service goes on.
    let _unread = screen.say(&lines);
}
