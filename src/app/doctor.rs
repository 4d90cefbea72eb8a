//! Looks at everything that is needed, and tells a service's owner at its start how it stands.

use super::{owner, walls};
use crate::adapters::git::{Git, Identity};
use crate::adapters::sandbox::test;
use crate::adapters::store;
use crate::cli::reach::{Level, Looked, Place};
use crate::cli::screen::Screen;
use crate::config::{self, Config, prepare_data_dir};
use crate::ports::Isolation as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn looked(what: &str, level: Level, found: impl Into<String>, fix: impl Into<String>) -> Looked {
    Looked { what: what.to_owned(), level, found: found.into(), fix: fix.into() }
}

/// Everything that is needed, and how it stands. Changes nothing but the data directory's being there.
pub async fn look(place: &Place) -> Vec<Looked> {
    let data_dir = &place.sources.data_dir;
    let mut all = Vec::new();
    let config = match config::load(&place.sources) {
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
    all.push(token(place));
    all.push(match owner::taken(data_dir) {
        true => looked("service", Level::Good, "a process owns the data directory", ""),
        false => looked("service", Level::Good, "none is running: commands carry their own runs", ""),
    });
    all.push(isolation(config.as_ref(), data_dir).await);
    all
}

fn token(place: &Place) -> Looked {
    let path = place.sources.data_dir.join("token");
    match std::fs::metadata(&path) {
        Ok(m) if m.permissions().mode() & 0o077 == 0 => looked("token", Level::Good, "readable by its user only", ""),
        Ok(_) => looked("token", Level::Bad, "others can read it", format!("chmod 600 {}", path.display())),
        Err(_) => looked("token", Level::Good, "made at the first start", ""),
    }
}

/// Tries the walls, as a start would.
async fn isolation(config: Option<&Config>, data_dir: &Path) -> Looked {
    let policy = config.map(walls::policy).unwrap_or_default();
    match test::proven(&policy, &[], data_dir).await {
        Ok(sandbox) if sandbox.level() == "none" => looked(
            "sandbox",
            Level::Weak,
            "none: commands of agents and checks run with the rights of this user",
            "run Skep as a user of its own, and only on repositories you trust",
        ),
        Ok(sandbox) => {
            looked("sandbox", Level::Good, format!("{}: every hostile action was held", sandbox.level()), "")
        }
        Err(refused) => looked("sandbox", Level::Bad, refused.what, refused.fix),
    }
}

/// One screen at a service's start: what it is, where it listens, what is weak.
pub fn greet(screen: &Screen, place: &Place, config: &Config, address: SocketAddr, took: Duration, level: &str) {
    let data_dir = place.sources.data_dir.display().to_string();
    if place.json {
        let ready = serde_json::json!({
            "ready": true, "address": address.to_string(), "data_dir": data_dir, "ready_ms": took.as_millis() as u64,
            "max_live_runs": config.runs.max_live_runs, "sandbox": level,
        });
        // Nobody may be reading; the service goes on.
        let _unread = screen.object(&ready);
        return;
    }
    let lines = format!(
        "Skep {} is ready after {} ms\n  answers on     http://{address}/api/v1  (token in {data_dir}/token)\n  data           \
         {data_dir}\n  runs at once   {}\n  merges         {}\n  sandbox        {}: {}\n",
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
    );
    // Nobody may be reading; the service goes on.
    let _unread = screen.say(&lines);
}
