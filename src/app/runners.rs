//! Runners of checks: lists them, tests them, inspects them for `doctor`.

use crate::adapters::checks::self_test;
use crate::adapters::runner::settings::LOCAL;
use crate::config::Config;
use crate::ports::PortError;
use crate::service::host::{Finding, HostError, HostResult, RunnerRequirement, RunnerRow, RunnerTest, Severity};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long `doctor` waits for a runner.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// Lists every runner with its users.
pub fn list(config: &Config) -> Vec<RunnerRow> {
    let row = |name: &str, kind: &str, detail: String| RunnerRow {
        name: name.to_owned(),
        kind: kind.to_owned(),
        detail,
        used_by: used_by(config, name),
    };
    let local = row(LOCAL, LOCAL, format!("this machine, in the sandbox ({})", config.sandbox.level.name()));
    let others = config.runners.iter().map(|(name, runner)| row(name, runner.kind(), runner.location()));
    std::iter::once(local).chain(others).collect()
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

/// Tests a runner.
///
/// # Errors
/// Why the runner cannot be used, and what to do.
pub async fn test(config: &Config, data_dir: &Path, name: &str) -> HostResult<RunnerTest> {
    if name == LOCAL {
        return Err(HostError::usage(
            "the runner local is this machine, which needs no runner test",
            "test its sandbox with `skep sandbox test`",
        ));
    }
    let runner = config.runners.get(name).ok_or_else(|| {
        HostError::usage(format!("there is no runner {name}"), "`skep runner list` shows the configured runners")
    })?;
    let scratch = tempfile::Builder::new().prefix("probe-").tempdir_in(data_dir).map_err(anyhow::Error::from)?;
    let began = Instant::now();
    let steps = self_test::run(name, runner, scratch.path()).await?;
    let requirements: Vec<RunnerRequirement> = steps
        .into_iter()
        .map(|s| RunnerRequirement { requirement: s.name.to_owned(), met: s.passed, observed: s.detail })
        .collect();
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(RunnerTest { name: name.to_owned(), passed: requirements.iter().all(|r| r.met), requirements, duration_ms })
}

/// Inspects all runners concurrently, for `doctor`.
pub async fn inspect(config: &Config) -> Vec<Finding> {
    const UNREACHABLE: &str = "check that this machine can reach it";
    let probes = config.runners.iter().map(|(name, runner)| async move {
        let probed = tokio::time::timeout(PROBE_TIMEOUT, self_test::probe(name, runner)).await;
        let (severity, detail, fix) = match probed {
            Ok(Ok(detail)) => (Severity::Ok, detail, String::new()),
            Ok(Err(PortError::Permanent { what, fix })) => (Severity::Error, what, fix),
            Ok(Err(other)) => (Severity::Error, other.to_string(), UNREACHABLE.to_owned()),
            Err(_) => {
                let detail = format!("no answer within {} s", PROBE_TIMEOUT.as_secs());
                (Severity::Error, detail, UNREACHABLE.to_owned())
            }
        };
        Finding { subject: format!("runner {name}"), severity, detail, fix }
    });
    futures::future::join_all(probes).await
}
