//! Reloads the configuration of a running service when its file changes, and on SIGHUP.

use super::reloadable::Reloadable;
use crate::config::{self, ApiKeySource, Config, Entry, Loaded, Sources};
use std::convert::Infallible;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Tables and keys that are read only at the start.
const AT_START: &[&str] = &[
    "auth.",
    "deploy.",
    "git.author_email",
    "git.author_name",
    "improve.",
    "mcp.",
    "notify.",
    "open.",
    "retention.",
    "runs.",
    "sandbox.",
    "schedules.",
    "secrets.",
    "server.",
    "store.",
    "telemetry.",
];

/// Inode, size and modification time of a file. A change of its content almost always changes one of them.
type FileState = Option<(u64, u64, i64, i64)>;

fn file_state(path: &Path) -> FileState {
    let m = std::fs::metadata(path).ok()?;
    Some((m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
}

/// Triggers of a reload.
pub struct Triggers {
    path: PathBuf,
    seen: FileState,
    /// `None`: SIGHUP ends the process, as it does for every command in a terminal that is closed.
    hangup: Option<Signal>,
}

/// Returns the state of the configuration file and of the files it names.
fn file_states(path: &Path, config: &Config) -> Vec<FileState> {
    let keys = config.providers.values().filter_map(|keyed| match &keyed.source {
        ApiKeySource::File(file) => Some(file.as_path()),
        _ => None,
    });
    std::iter::once(path).chain(keys).chain(config.prices.as_deref()).map(file_state).collect()
}

impl Triggers {
    /// Starts to watch. Create it before the configuration is loaded, so that no later change is missed.
    ///
    /// # Errors
    /// If the signal handler cannot be installed.
    pub fn of(sources: &Sources) -> std::io::Result<Triggers> {
        Ok(Triggers { hangup: Some(signal(SignalKind::hangup())?), ..Self::of_file(sources) })
    }

    /// Starts to watch only the file, for a command in the foreground.
    pub fn of_file(sources: &Sources) -> Triggers {
        let path = sources.file.clone().unwrap_or_else(|| sources.data_dir.join("skep.toml"));
        Triggers { seen: file_state(&path), path, hangup: None }
    }

    async fn hung_up(hangup: &mut Option<Signal>) {
        match hangup {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}

/// Reloads the configuration until dropped. `loaded` is the configuration in effect, `every` the interval at which the
/// files are checked.
pub async fn follow(
    triggers: Triggers,
    sources: Sources,
    loaded: Loaded,
    reloadable: Arc<Reloadable>,
    every: Duration,
) -> Infallible {
    let (Triggers { path, seen: first, mut hangup }, mut in_effect) = (triggers, loaded);
    let mut seen = file_states(&path, &in_effect.config);
    seen[0] = first;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = Triggers::hung_up(&mut hangup) => {}
            () = reloadable.secrets_changed() => {}
            _tick = ticks.tick() => {
                let now = file_states(&path, &in_effect.config);
                if now == seen {
                    continue;
                }
            }
        }
        seen = file_states(&path, &in_effect.config);
        if let Some(next) = reload(&sources, &in_effect, &reloadable).await {
            in_effect = next;
        }
    }
}

/// Reloads the configuration once; `None` = the previous one stays in effect.
async fn reload(sources: &Sources, before: &Loaded, reloadable: &Reloadable) -> Option<Loaded> {
    let next = match config::load(sources) {
        Ok(next) => next,
        Err(problems) => {
            for problem in &problems.0 {
                tracing::error!(%problem, "the new configuration is invalid; the previous configuration stays in effect");
            }
            return None;
        }
    };
    if let Err(why) = reloadable.adopt(&next.config).await {
        tracing::error!(why, "the new configuration is invalid; the previous configuration stays in effect");
        return None;
    }
    let changed = changed(before.explain(), next.explain());
    let (deferred, applied): (Vec<&str>, Vec<&str>) =
        changed.into_iter().partition(|key| AT_START.iter().any(|start| key.starts_with(start)));
    tracing::info!(keys = applied.join(", "), "the configuration was reloaded; new runs use it");
    if !deferred.is_empty() {
        tracing::warn!(keys = deferred.join(", "), "these keys are read only at the start; restart Skep to apply them");
    }
    Some(next)
}

/// Returns the keys that were changed, added or removed.
fn changed<'e>(before: &'e [Entry], after: &'e [Entry]) -> Vec<&'e str> {
    let differs = |a: &&Entry, all: &[Entry]| !all.iter().any(|b| a.key == b.key && a.value == b.value);
    let gone = before.iter().filter(|e| !after.iter().any(|a| a.key == e.key));
    after.iter().filter(|e| differs(e, before)).chain(gone).map(|e| e.key.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_keys_are_named_once() {
        let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into(), source: "x".into() };
        let before = [entry("a.b", "1"), entry("a.c", "2"), entry("a.d", "3")];
        let after = [entry("a.b", "1"), entry("a.c", "5"), entry("a.e", "3")];
        assert_eq!(changed(&before, &after), ["a.c", "a.e", "a.d"]);
        assert!(changed(&before, &before).is_empty());
    }

    #[test]
    fn all_keys_that_are_read_at_the_start_exist() {
        let dir = tempfile::tempdir().unwrap();
        let url = dir.path().join("url");
        std::fs::write(&url, "https://chat.example.org/hook\n").unwrap();
        std::fs::set_permissions(&url, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        // Tables that have no defaults.
        let named = format!(
            "[notify.team]\nkind = \"webhook\"\ntemplate = \"slack\"\nurl_file = {url:?}\n\
             [schedules.weekly]\ncron = \"@weekly\"\nproject = \"tool\"\ngoal = \"Look around\"\n\
             [deploy.test]\nproject = \"tool\"\nkind = \"command\"\ncommand = \"true\"\n"
        );
        std::fs::write(dir.path().join("skep.toml"), named).unwrap();
        let loaded = config::load(&Sources { data_dir: dir.path().into(), ..Sources::default() }).unwrap();
        for start in AT_START {
            assert!(loaded.explain().iter().any(|e| e.key.starts_with(start)), "{start}");
        }
    }
}
