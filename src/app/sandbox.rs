//! The sandbox of commands: selects the level, proves that it holds, and keeps testing it.

use crate::actors::Scope;
use crate::config::{Config, prepare_data_dir};
use crate::platform::sandbox::{Cgroups, Level, Limits, Policy, Sandbox, SandboxError, self_test};
use crate::ports::Isolation as _;
use crate::service::host::{HostContext, HostError, HostResult, HostileAction, IsolationLevel, SandboxTest};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::AbortHandle;

/// How often a service tests its sandbox again.
const TEST_INTERVAL: Duration = Duration::from_secs(3600);
/// How often it does so while the sandbox does not hold.
const BROKEN_TEST_INTERVAL: Duration = Duration::from_secs(60);
/// Warning of a demo on a machine that offers no sandbox.
const DEMO_WITHOUT_SANDBOX: &str =
    "the demo runs without a sandbox: it only runs commands of Skep's own sample; `skep run` will refuse here";

/// Returns the configured isolation for commands in this data directory.
pub fn policy(config: &Config, data_dir: &Path) -> Policy {
    let settings = &config.sandbox;
    let limits = Limits {
        memory: settings.memory.unwrap_or(0),
        processes: settings.processes.into(),
        file: settings.file_size,
        workspace: settings.workspace_size,
        ..Limits::default()
    };
    Policy {
        level: settings.level,
        accept_no_isolation: settings.accept_no_isolation,
        user: settings.user,
        limits,
        readable: settings.toolchains.clone(),
        hidden: hidden(config, data_dir),
        data_dir: Some(data_dir.to_owned()),
    }
}

/// Lists what commands must never read: the data directory, the configuration, files with secrets, and a database that
/// lies elsewhere.
fn hidden(config: &Config, data_dir: &Path) -> Vec<PathBuf> {
    let mut hidden = vec![data_dir.to_owned()];
    hidden.extend(config.private_files.iter().cloned());
    let url = config.store.database.url(data_dir);
    if let Some(file) = url.expose().strip_prefix("sqlite:").map(|rest| rest.split('?').next().unwrap_or(rest)) {
        let file = percent_encoding::percent_decode_str(file).decode_utf8_lossy().into_owned();
        hidden.extend(["", "-wal", "-shm", "-journal"].map(|suffix| PathBuf::from(format!("{file}{suffix}"))));
    }
    hidden
}

/// Creates the sandbox in which this process starts commands, proven to hold. A process that drives no run gets a
/// closed one, which starts nothing.
///
/// The demo only runs commands of Skep's own sample: where no sandbox is available it runs without one, and reports
/// that.
///
/// # Errors
/// When the configured level does not hold.
pub async fn enter(config: &Config, context: &HostContext, scope: Scope) -> HostResult<Sandbox> {
    if scope == Scope::Nothing {
        return Ok(Sandbox::disabled());
    }
    match proven(&policy(config, &context.sources.data_dir), &context.sources.data_dir).await {
        Ok(sandbox) => {
            tracing::debug!(bounds = sandbox.bounds(), "the sandbox holds");
            Ok(sandbox)
        }
        Err(refused) if context.is_demo => {
            tracing::error!(why = refused.what, fix = refused.fix, "{DEMO_WITHOUT_SANDBOX}");
            Ok(Sandbox::from_process_env(&[]))
        }
        Err(refused) => Err(refusal(refused)),
    }
}

/// Creates the sandbox of a policy, with the control groups this process was given, and tests it.
///
/// # Errors
/// When its level does not hold.
pub async fn proven(policy: &Policy, data_dir: &Path) -> Result<Sandbox, SandboxError> {
    self_test::proven(Sandbox::isolated(policy, &[], None)?.with_cgroups(Cgroups::delegated()), data_dir).await
}

/// Tests the sandbox periodically while the process lives; while it does not hold, no command is started.
pub fn watch(sandbox: Sandbox, data_dir: PathBuf) -> AbortHandle {
    let watch = tokio::spawn(async move {
        loop {
            let is_broken = sandbox.broken().is_some();
            tokio::time::sleep(if is_broken { BROKEN_TEST_INTERVAL } else { TEST_INTERVAL }).await;
            let tested =
                self_test::run(&sandbox, &data_dir).await.and_then(|rows| self_test::verdict(sandbox.level(), &rows));
            match &tested {
                Err(refused) => {
                    tracing::error!(
                        why = refused.what,
                        fix = refused.fix,
                        "the sandbox does not hold: no commands are started"
                    )
                }
                Ok(()) if is_broken => tracing::warn!("the sandbox holds again: starting commands"),
                Ok(()) => tracing::debug!("the sandbox holds"),
            }
            sandbox.set_broken(tested.err());
        }
    });
    watch.abort_handle()
}

/// Tries every hostile action at a level.
///
/// # Errors
/// When the sandbox cannot be created at all.
pub async fn test(config: &Config, context: &HostContext, level: Option<IsolationLevel>) -> HostResult<SandboxTest> {
    let data_dir = &context.sources.data_dir;
    let mut policy = policy(config, data_dir);
    match level {
        Some(IsolationLevel::Strict) => policy.level = Level::Strict,
        Some(IsolationLevel::Landlock) => policy.level = Level::Landlock,
        None => {}
    }
    prepare_data_dir(data_dir).map_err(|p| crate::config::Problems(vec![p]))?;
    let sandbox = Sandbox::isolated(&policy, &[], None).map_err(refusal)?.with_cgroups(Cgroups::delegated());
    let rows = self_test::run(&sandbox, data_dir).await.map_err(refusal)?;
    let holds = self_test::verdict(sandbox.level(), &rows).is_ok();
    let actions = rows
        .into_iter()
        .map(|r| HostileAction { action: r.action, must_block: r.must_block, blocked: r.blocked, observed: r.observed })
        .collect();
    let level = sandbox.level().name().to_owned();
    Ok(SandboxTest { level, holds, resource_limits: sandbox.bounds(), actions })
}

fn refusal(refused: SandboxError) -> HostError {
    HostError::config(refused.what, refused.fix)
}
