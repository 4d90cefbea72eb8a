//! The walls around commands: which are wanted, whether they hold, and that nothing new is claimed when they don't.

use crate::actors::Scope;
use crate::cli::args::Isolation;
use crate::cli::context::{CliContext, WallTried, WallsTested};
use crate::cli::exit::CliError;
use crate::config::{Config, prepare_data_dir};
use crate::platform::sandbox::{Groups, Level, Limits, Policy, Refused, Sandbox, test};
use crate::ports::Isolation as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::AbortHandle;

/// How often the walls of a service are tested again.
const AGAIN: Duration = Duration::from_secs(3600);
/// The same while they do not hold.
const MEND: Duration = Duration::from_secs(60);
/// What the demo says where it has no walls.
const DEMO_WITHOUT: &str =
    "the demo runs without a sandbox: its commands are those of Skep's own sample; `skep run` will refuse here";

/// What the configuration says about isolation, for commands in this data directory.
pub fn policy(config: &Config, data_dir: &Path) -> Policy {
    let walls = &config.sandbox;
    let limits = Limits {
        memory: walls.memory.unwrap_or(0),
        processes: walls.processes.into(),
        file: walls.file_size,
        workspace: walls.workspace_size,
        ..Limits::default()
    };
    Policy {
        level: walls.level,
        accept_no_isolation: walls.accept_no_isolation,
        user: walls.user,
        limits,
        readable: walls.toolchains.clone(),
        data_dir: Some(data_dir.to_owned()),
    }
}

/// The sandbox this process starts commands in, proven to hold. A process that carries no run on gets one that starts nothing.
///
/// The demo's commands are those of Skep's own sample: where there are no walls to be had, it runs without, and says so.
///
/// # Errors
/// When the level that is wanted does not hold.
pub async fn raise(config: &Config, context: &CliContext, scope: Scope) -> Result<Sandbox, CliError> {
    if scope == Scope::Nothing {
        return Ok(Sandbox::closed());
    }
    match proven(&policy(config, &context.sources.data_dir), &context.sources.data_dir).await {
        Ok(sandbox) => {
            tracing::debug!(bounds = sandbox.bounds(), "the sandbox holds");
            Ok(sandbox)
        }
        Err(refused) if context.is_demo => {
            tracing::error!(why = refused.what, fix = refused.fix, "{DEMO_WITHOUT}");
            Ok(Sandbox::of_this_process(&[]))
        }
        Err(refused) => Err(trouble(refused)),
    }
}

/// The sandbox a policy wants, with what control groups there are, proven here and now.
///
/// # Errors
/// When its level does not hold.
pub async fn proven(policy: &Policy, data_dir: &Path) -> Result<Sandbox, Refused> {
    test::proven(Sandbox::walled(policy, &[], None)?.grouped(Groups::given()), data_dir).await
}

/// Tests the walls again and again while the process lives; while they do not hold, nothing is started.
pub fn keep_watch(sandbox: Sandbox, data_dir: PathBuf) -> AbortHandle {
    let watch = tokio::spawn(async move {
        loop {
            let is_broken = sandbox.broken().is_some();
            tokio::time::sleep(if is_broken { MEND } else { AGAIN }).await;
            let tested = test::run(&sandbox, &data_dir).await.and_then(|rows| test::verdict(sandbox.wall(), &rows));
            match &tested {
                Err(refused) => {
                    tracing::error!(why = refused.what, fix = refused.fix, "no command is started any more")
                }
                Ok(()) if is_broken => tracing::warn!("the sandbox holds again; commands are started again"),
                Ok(()) => tracing::debug!("the sandbox holds"),
            }
            sandbox.refuse(tested.err());
        }
    });
    watch.abort_handle()
}

/// Tries every hostile action at a level.
///
/// # Errors
/// When the walls cannot even be made.
pub async fn test(config: &Config, context: &CliContext, level: Option<Isolation>) -> Result<WallsTested, CliError> {
    let data_dir = &context.sources.data_dir;
    let mut policy = policy(config, data_dir);
    match level {
        Some(Isolation::Strict) => policy.level = Level::Strict,
        Some(Isolation::Landlock) => policy.level = Level::Landlock,
        None => {}
    }
    prepare_data_dir(data_dir).map_err(|p| crate::config::Problems(vec![p]))?;
    let sandbox = Sandbox::walled(&policy, &[], None).map_err(trouble)?.grouped(Groups::given());
    let rows = test::run(&sandbox, data_dir).await.map_err(trouble)?;
    let holds = test::verdict(sandbox.wall(), &rows).is_ok();
    let tried = rows
        .into_iter()
        .map(|r| WallTried { action: r.action, promised: r.promised, held: r.held, found: r.found })
        .collect();
    Ok(WallsTested { level: sandbox.wall().name().to_owned(), holds, bounds: sandbox.bounds(), tried })
}

/// A level that does not hold, as the end of a command.
pub fn trouble(refused: Refused) -> CliError {
    CliError::config(refused.what, refused.fix)
}
