//! Reads the configuration again while a service runs: when its file changes, and on SIGHUP.

use super::reloadable::Live;
use crate::config::{self, Config, Entry, KeyPlace, Loaded, Sources};
use std::convert::Infallible;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Keys that are read once, at the start: whole tables, and single keys.
const AT_START: &[&str] =
    &["git.author_email", "git.author_name", "runs.", "sandbox.", "secrets.", "server.", "store.", "telemetry."];

/// What a file looks like from outside: another content nearly always changes one of these.
type Look = Option<(u64, u64, i64, i64)>;

fn look(path: &Path) -> Look {
    let m = std::fs::metadata(path).ok()?;
    Some((m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
}

/// What tells that the configuration may be another.
pub struct Signs {
    path: PathBuf,
    seen: Look,
    hangup: Signal,
}

/// The files a configuration is made of: itself, and those it names that are read with it.
fn looks(path: &Path, config: &Config) -> Vec<Look> {
    let keys = config.providers.values().filter_map(|keyed| match &keyed.place {
        KeyPlace::File(file) => Some(file.as_path()),
        _ => None,
    });
    std::iter::once(path).chain(keys).chain(config.prices.as_deref()).map(look).collect()
}

impl Signs {
    /// Looks and listens from now on. To be made before the configuration is read: nothing that changes after that is missed.
    ///
    /// # Errors
    /// When the signal cannot be listened for.
    pub fn of(sources: &Sources) -> std::io::Result<Signs> {
        let path = sources.file.clone().unwrap_or_else(|| sources.data_dir.join("skep.toml"));
        Ok(Signs { seen: look(&path), path, hangup: signal(SignalKind::hangup())? })
    }
}

/// Follows the configuration until dropped. `loaded` is what is in force; `every` how often the files are looked at.
pub async fn follow(signs: Signs, sources: Sources, loaded: Loaded, live: Arc<Live>, every: Duration) -> Infallible {
    let (Signs { path, seen: first, mut hangup }, mut in_force) = (signs, loaded);
    let mut seen = looks(&path, &in_force.config);
    seen[0] = first;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _heard = hangup.recv() => {}
            () = live.secrets_changed() => {}
            _tick = ticks.tick() => {
                let now = looks(&path, &in_force.config);
                if now == seen {
                    continue;
                }
            }
        }
        seen = looks(&path, &in_force.config);
        if let Some(next) = again(&sources, &in_force, &live).await {
            in_force = next;
        }
    }
}

/// Reads it once more; `None` = the old one stays.
async fn again(sources: &Sources, before: &Loaded, live: &Live) -> Option<Loaded> {
    let next = match config::load(sources) {
        Ok(next) => next,
        Err(problems) => {
            for problem in &problems.0 {
                tracing::error!(%problem, "the configuration was read again and is not taken over: the old one stays");
            }
            return None;
        }
    };
    if let Err(why) = live.take(&next.config).await {
        tracing::error!(why, "the configuration was read again and is not taken over: the old one stays");
        return None;
    }
    let changed = changed(before.explain(), next.explain());
    let (waits, taken): (Vec<&str>, Vec<&str>) =
        changed.into_iter().partition(|key| AT_START.iter().any(|start| key.starts_with(start)));
    tracing::info!(keys = taken.join(", "), "the configuration was read again: new runs have it");
    if !waits.is_empty() {
        tracing::warn!(keys = waits.join(", "), "these keys are read at the start only: restart Skep for them");
    }
    Some(next)
}

/// The keys whose value is another one, or that came or went.
fn changed<'e>(before: &'e [Entry], after: &'e [Entry]) -> Vec<&'e str> {
    let differs = |a: &&Entry, all: &[Entry]| !all.iter().any(|b| a.key == b.key && a.value == b.value);
    let gone = before.iter().filter(|e| !after.iter().any(|a| a.key == e.key));
    after.iter().filter(|e| differs(e, before)).chain(gone).map(|e| e.key.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_named_once() {
        let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into(), source: "x".into() };
        let before = [entry("a.b", "1"), entry("a.c", "2"), entry("a.d", "3")];
        let after = [entry("a.b", "1"), entry("a.c", "5"), entry("a.e", "3")];
        assert_eq!(changed(&before, &after), ["a.c", "a.e", "a.d"]);
        assert!(changed(&before, &before).is_empty());
    }

    #[test]
    fn every_key_read_at_the_start_exists() {
        let empty = tempfile::tempdir().unwrap();
        let loaded = config::load(&Sources { data_dir: empty.path().into(), ..Sources::default() }).unwrap();
        for start in AT_START {
            assert!(loaded.explain().iter().any(|e| e.key.starts_with(start)), "{start}");
        }
    }
}
