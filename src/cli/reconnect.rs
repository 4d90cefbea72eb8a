//! Follows a run across process changes: when the process that drives it ends, the follower reconnects to its
//! successor.

use super::client::{Client, encode};
use super::context::{Access, CliContext, Connection};
use super::exit::{ExitStatus, Stop};
use super::follow::{FollowOptions, follow};
use super::terminal::Style;
use crate::http::rest::wire::{Action, Run};
use std::time::Duration;
use tokio::time::Instant;

/// How many times the process that drives a run may end before the command gives up.
const MAX_RECONNECTS: u32 = 20;
/// How long a service that is gone may take to come back.
const RESTART_GRACE: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Follows a run until it ends or waits for a person. The driving process may be another command, which held the data
/// directory first and exits when its own run is finished.
pub async fn follow_run(
    cli: &CliContext<'_>,
    client: &Client,
    view: Run,
    mut options: FollowOptions,
) -> Result<ExitStatus, Stop> {
    let path = format!("/runs/{}", encode(&view.id));
    let mut end = follow(client, cli.terminal, view, options, &mut options.after).await;
    let (mut is_remote, mut is_service) = (client.is_remote(), client.is_service());
    for _ in 0..MAX_RECONNECTS {
        match &end {
            Err(Stop::Error(error)) if is_remote && error.exit == ExitStatus::TryAgain => {}
            _ => break,
        }
        // Without a successor the first error is the one to report.
        let Some((connection, now)) = successor(cli, &path, options.yes, is_service).await else { break };
        is_service = connection.client.is_service();
        is_remote = connection.client.is_remote();
        end = follow(&connection.client, cli.terminal, now, options, &mut options.after).await;
        connection.close().await;
    }
    end
}

/// Connects to a process that drives the run from now on: this one, unless another was faster.
async fn drive(cli: &CliContext<'_>, path: &str) -> Option<(Connection, Run)> {
    let connection = cli.connect(Access::Drive).await.ok()?;
    let now = connection.client.post(&format!("{path}/actions/resume"), &Action::default(), None).await;
    Some((connection, now.ok()?))
}

/// Connects to the process that drives the run now, or to the store if the run is idle. A run that a service works on is
/// not taken over: the service may be restarting.
async fn successor(cli: &CliContext<'_>, path: &str, yes: bool, was_service: bool) -> Option<(Connection, Run)> {
    let mut connection = cli.connect(Access::Read).await.ok()?;
    let deadline = Instant::now() + RESTART_GRACE;
    // A service that is being restarted is waited for: taking its place would keep it from starting.
    while was_service && !connection.client.is_remote() && Instant::now() < deadline {
        tokio::time::sleep(POLL_INTERVAL).await;
        connection.close().await;
        connection = cli.connect(Access::Read).await.ok()?;
    }
    let now: Option<Run> = connection.client.get(path).await.ok();
    let is_idle = |run: &Run| run.pending_effects.is_empty() || run.phase == "ended";
    match now {
        Some(now) if connection.client.is_remote() => Some((connection, now)),
        // Its carrier was a command that ended with its own run, and will not come back: this command takes over.
        Some(now) if !was_service && !is_idle(&now) => {
            let line = format!("The process that worked on run {} has ended; this one continues.", now.short_id);
            cli.terminal.line(Style::Bold, &line).ok()?;
            connection.close().await;
            drive(cli, path).await
        }
        // With --yes, approvals still have to be given, which requires a process that acts on them.
        Some(now) if is_idle(&now) && yes && now.outcome.is_none() => {
            connection.close().await;
            drive(cli, path).await
        }
        Some(now) if is_idle(&now) => Some((connection, now)),
        _ => {
            connection.close().await;
            None
        }
    }
}
