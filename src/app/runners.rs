//! Places for checks as people see them: listed, proven, looked at by `doctor`.

use super::program::away;
use crate::adapters::checks::self_test;
use crate::adapters::runner::settings::LOCAL;
use crate::cli::context::{Level, Looked, PromiseTried, RunnerRow, RunnerTested};
use crate::cli::exit::CliError;
use crate::config::Config;
use crate::ports::PortError;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long `doctor` waits for a place.
const PATIENCE: Duration = Duration::from_secs(20);

/// Every place, with whose checks run there.
pub fn list(config: &Config) -> Vec<RunnerRow> {
    let row = |name: &str, kind: &str, found: String| RunnerRow {
        name: name.to_owned(),
        kind: kind.to_owned(),
        found,
        used_by: used_by(config, name),
    };
    let here = row(LOCAL, LOCAL, format!("this machine, behind the walls ({})", config.sandbox.level.name()));
    let others = config.runners.iter().map(|(name, runner)| row(name, runner.kind(), runner.whereabouts()));
    std::iter::once(here).chain(others).collect()
}

fn used_by(config: &Config, name: &str) -> Vec<String> {
    let projects = config.granted.projects.iter().map(|(project, grants)| (project.as_str(), grants));
    let mut users = Vec::new();
    for (who, grants) in std::iter::once(("all", &config.granted.all)).chain(projects) {
        if grants.runner.as_deref().unwrap_or(LOCAL) == name {
            users.push(who.to_owned());
        } else if grants.runners.iter().any(|runner| runner == name) {
            users.push(format!("({who})"));
        }
    }
    users
}

/// Proves a place.
///
/// # Errors
/// Why it can't be used, and what to do.
pub async fn prove(config: &Config, data_dir: &Path, name: &str) -> Result<RunnerTested, CliError> {
    if name == LOCAL {
        return Err(CliError::usage("local is this machine", "`skep sandbox test` proves its walls"));
    }
    let runner = config.runners.get(name).ok_or_else(|| {
        CliError::usage(format!("there is no place {name}"), "`skep place list` shows those there are")
    })?;
    let scratch = tempfile::Builder::new().prefix("probe-").tempdir_in(data_dir).map_err(anyhow::Error::from)?;
    let began = Instant::now();
    let steps = self_test::run(name, runner, scratch.path()).await.map_err(away)?;
    let tried = steps.into_iter().map(|s| PromiseTried { what: s.name.to_owned(), kept: s.passed, found: s.detail });
    let tried: Vec<PromiseTried> = tried.collect();
    let wall_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(RunnerTested { name: name.to_owned(), holds: tried.iter().all(|t| t.kept), tried, wall_ms })
}

/// What `doctor` tells of the places, all looked at together.
pub async fn looked(config: &Config) -> Vec<Looked> {
    let looks = config.runners.iter().map(|(name, runner)| async move {
        let found = tokio::time::timeout(PATIENCE, self_test::probe(name, runner)).await;
        let (level, found, fix) = match found {
            Ok(Ok(found)) => (Level::Good, found, String::new()),
            Ok(Err(PortError::Permanent { what, fix })) => (Level::Bad, what, fix),
            Ok(Err(other)) => (Level::Bad, other.to_string(), "look whether it can be reached from here".to_owned()),
            Err(_) => {
                let found = format!("it did not answer within {} s", PATIENCE.as_secs());
                (Level::Bad, found, "look whether it can be reached from here".to_owned())
            }
        };
        Looked { what: format!("place {name}"), level, found, fix }
    });
    futures::future::join_all(looks).await
}
