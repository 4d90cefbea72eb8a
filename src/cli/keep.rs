//! Keeps following a run when the process that carried it ends: what it left is looked at, or whoever carries it now is asked.

use super::client::{Client, encode};
use super::context::{Access, Backend, CliContext, Reached, reach};
use super::exit::{Exit, Stop};
use super::follow::{Manner, follow};
use super::screen::Screen;
use crate::http::view::{RunView, Say};

/// How often the process that carries the run may end before the command gives up.
const CARRIERS: u32 = 20;

/// Follows a run until it ends or waits for a person. The carrier may be another command that had the data directory first and
/// left when its own run was through.
pub async fn keep_following(
    doors: &dyn Backend,
    context: &CliContext,
    client: &Client,
    screen: &Screen,
    view: RunView,
    mut manner: Manner,
) -> Result<Exit, Stop> {
    let path = format!("/runs/{}", encode(&view.id));
    let mut end = follow(client, screen, view, manner, &mut manner.after).await;
    let mut is_remote = client.is_remote();
    for _ in 0..CARRIERS {
        match &end {
            Err(Stop::CliError(trouble)) if is_remote && trouble.exit == Exit::Again => {}
            _ => break,
        }
        // Not found again: what was said first is what is wrong.
        let Some((reached, now)) = another(doors, context, &path, manner.yes).await else { break };
        is_remote = reached.client.is_remote();
        end = follow(&reached.client, screen, now, manner, &mut manner.after).await;
        reached.close().await;
    }
    end
}

/// Another way to the run: whoever carries it now, or the store itself where the run rests. A run at work is not taken over: its
/// service may be starting again.
async fn another(doors: &dyn Backend, context: &CliContext, path: &str, yes: bool) -> Option<(Reached, RunView)> {
    let reached = reach(doors, context, Access::Read).await.ok()?;
    let now: Option<RunView> = reached.client.get(path).await.ok();
    let rests = |run: &RunView| run.doing.is_empty() || run.phase == "ended";
    match now {
        Some(now) if reached.client.is_remote() => Some((reached, now)),
        // Approvals that are to be given need somebody who acts on them.
        Some(now) if rests(&now) && yes && now.outcome.is_none() => {
            reached.close().await;
            let reached = reach(doors, context, Access::Drive).await.ok()?;
            let now = reached.client.post(&format!("{path}/actions/resume"), &Say::default(), None).await;
            Some((reached, now.ok()?))
        }
        Some(now) if rests(&now) => Some((reached, now)),
        _ => {
            reached.close().await;
            None
        }
    }
}
