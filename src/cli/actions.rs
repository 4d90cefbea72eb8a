//! Actions of a person on a run: approve, unblock, pause, resume, cancel, retry, raise.

use super::args::{AnswerArgs, RunRef};
use super::client::{Client, encode};
use super::context::{Access, CliContext};
use super::exit::{ExitStatus, Stop};
use super::follow::FollowOptions;
use super::reconnect::follow_run;
use super::select::{self, Fits};
use super::terminal::Style;
use super::text::{brief, short_sha};
use crate::http::rest::wire::{self, Outcome, Raise, RequestedLimits, Role, Run};
use serde_json::json;
use std::collections::BTreeMap;

/// Engines, checks and limits that a run gets in place of its own.
#[derive(Debug, Default)]
pub struct NewSettings {
    /// Engines by role.
    pub engines: BTreeMap<Role, String>,
    /// Check commands.
    pub checks: Vec<String>,
    /// Limits.
    pub limits: RequestedLimits,
}

impl NewSettings {
    fn is_empty(&self) -> bool {
        self.engines.is_empty() && self.checks.is_empty() && self.limits.is_empty()
    }
}

/// Action on a run.
#[derive(Debug)]
pub enum Action {
    /// Answers an approval.
    Approve {
        /// The block; the oldest open one if not given.
        block: Option<String>,
        /// Declines, with the reason.
        no: Option<String>,
    },
    /// Answers any other question.
    Unblock {
        /// The block; the oldest open one if not given.
        block: Option<String>,
        /// The answer.
        answer: AnswerArgs,
        /// What the run gets first.
        settings: NewSettings,
    },
    /// Pauses the run.
    Pause,
    /// Resumes the run.
    Resume,
    /// Lifts the quarantine of the run.
    LiftQuarantine,
    /// Ends the run undelivered.
    Cancel {
        /// The reason.
        why: Option<String>,
    },
    /// Grants more tries, or starts the goal of an ended run again as a new run.
    Retry {
        /// A hint for the next try.
        answer: Option<String>,
        /// Additional budget.
        more: Option<Raise>,
        /// What the run gets first.
        settings: NewSettings,
    },
    /// Opens a run that takes back what the run has landed.
    Revert {
        /// The reason.
        why: Option<String>,
        /// Engines, checks and limits of the new run.
        settings: NewSettings,
    },
    /// Adds budget.
    Raise(Raise),
}

impl Action {
    /// Returns the name of the REST action.
    fn name(&self) -> &'static str {
        match self {
            Action::Approve { .. } => "approve",
            Action::Unblock { .. } => "unblock",
            Action::Pause => "pause",
            Action::Resume => "resume",
            Action::LiftQuarantine => "lift-quarantine",
            Action::Cancel { .. } => "cancel",
            Action::Retry { .. } => "retry",
            Action::Revert { .. } => "revert",
            Action::Raise(_) => "raise",
        }
    }

    /// Returns the run that is meant if none is named.
    fn fits(&self) -> Fits {
        match self {
            Action::Approve { .. } => Fits::Approval,
            Action::Unblock { .. } => Fits::Answer,
            Action::Retry { .. } => Fits::Retry,
            Action::Revert { .. } => Fits::Named,
            Action::Pause | Action::Resume | Action::LiftQuarantine | Action::Cancel { .. } | Action::Raise(_) => {
                Fits::Open
            }
        }
    }

    /// Returns what was done, in a few words.
    fn headline(&self) -> String {
        let words = match self {
            Action::Approve { no: None, .. } => "approved",
            Action::Approve { no: Some(_), .. } => "declined",
            Action::Unblock { answer, settings, .. } => {
                let with = if settings.is_empty() { "" } else { " with new settings" };
                return match answer {
                    AnswerArgs { answer: Some(text), .. } => format!("answered{with}: {}", brief(text, 60)),
                    AnswerArgs { skip: true, .. } => format!("skips what it asked about{with}"),
                    AnswerArgs { no: Some(_), .. } => "ends undelivered".to_owned(),
                    AnswerArgs { more: Some(_), .. } => format!("gets more budget{with}"),
                    _ => format!("continues{with}"),
                };
            }
            Action::Pause => "paused",
            Action::Resume => "resumed",
            Action::LiftQuarantine => "quarantine lifted",
            Action::Cancel { .. } => "cancelled",
            Action::Retry { .. } => "tries again",
            Action::Revert { .. } => "reverts an earlier run",
            Action::Raise(_) => "budget raised",
        };
        words.to_owned()
    }

    /// Converts to the request body of REST.
    pub fn body(self) -> wire::Action {
        match self {
            Action::Approve { block, no } => {
                wire::Action { block, no: no.is_some(), text: no, ..wire::Action::default() }
            }
            Action::Unblock { block, answer, settings } => wire::Action {
                block,
                no: answer.no.is_some(),
                skip: answer.skip,
                text: answer.no.or(answer.answer),
                more: answer.more.map(|more| more.0),
                engines: settings.engines,
                checks: settings.checks,
                limits: settings.limits,
            },
            Action::Retry { answer, more, settings } => wire::Action {
                text: answer,
                more,
                engines: settings.engines,
                checks: settings.checks,
                limits: settings.limits,
                ..wire::Action::default()
            },
            Action::Revert { why, settings } => wire::Action {
                text: why,
                engines: settings.engines,
                checks: settings.checks,
                limits: settings.limits,
                ..wire::Action::default()
            },
            Action::Pause | Action::Resume | Action::LiftQuarantine => wire::Action::default(),
            Action::Cancel { why } => wire::Action { text: why, ..wire::Action::default() },
            Action::Raise(raise) => wire::Action { more: Some(raise), ..wire::Action::default() },
        }
    }
}

/// Performs an action. Where no service drives the run, this command drives it in the foreground afterwards.
pub async fn act(cli: &CliContext<'_>, run: RunRef, action: Action) -> Result<ExitStatus, Stop> {
    let access = if matches!(action, Action::Pause) { Access::Write } else { Access::Drive };
    let connection = cli.connect(access).await?;
    let end = post(cli, &connection.client, &run, action).await;
    connection.close().await;
    end
}

/// `skep watch`.
pub async fn watch(cli: &CliContext<'_>, named: Option<&str>, yes: bool) -> Result<ExitStatus, Stop> {
    let connection = cli.connect(Access::Read).await?;
    let id = select::run(&connection.client, named, Fits::Newest).await;
    let view = match id {
        Ok(id) => connection.client.get::<Run>(&format!("/runs/{}", encode(&id))).await,
        Err(error) => Err(error),
    };
    let is_remote = connection.client.is_remote();
    if is_remote {
        let end = match view {
            Ok(view) => follow_watched(cli, &connection.client, view, yes).await,
            Err(error) => Err(error.into()),
        };
        connection.close().await;
        return end;
    }
    connection.close().await;
    let view = view?;
    if view.outcome.is_none() && view.escalations.is_empty() {
        let short = &view.short_id;
        cli.terminal
            .suggest(&format!("Nothing works on run {short} ({}). `skep resume {short}` continues it.", view.now))?;
        cli.terminal.object(&json!({ "run": view }))?;
        return Ok(ExitStatus::WaitsForPerson);
    }
    // The answer to its question starts work, so this process has to be able to do it.
    let connection = cli.connect(Access::Drive).await?;
    let end = follow_watched(cli, &connection.client, view, yes).await;
    connection.close().await;
    end
}

async fn follow_watched(cli: &CliContext<'_>, client: &Client, view: Run, yes: bool) -> Result<ExitStatus, Stop> {
    cli.terminal.line(Style::Bold, &format!("run {}: {}", view.short_id, view.goal.title))?;
    let after = view.seq;
    follow_run(cli, client, view, FollowOptions { yes, after }).await
}

/// Returns the commit of a run that has landed, if an action on it is too late but nothing is left to do.
fn landed(view: &Run, action: &Action) -> Option<String> {
    let moot = matches!(
        action,
        Action::Approve { .. } | Action::Unblock { .. } | Action::Retry { .. } | Action::Resume | Action::Cancel { .. }
    );
    match &view.outcome {
        Some(Outcome::Delivered { sha }) if moot && view.phase == "ended" => Some(short_sha(sha).to_owned()),
        _ => None,
    }
}

async fn post(cli: &CliContext<'_>, client: &Client, run: &RunRef, action: Action) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let resumes = !matches!(action, Action::Pause);
    let id = select::run(client, run.run.as_deref(), action.fits()).await?;
    let path = format!("/runs/{}", encode(&id));
    let (name, headline) = (action.name(), action.headline());
    let is_cancel = matches!(action, Action::Cancel { .. });
    let before: Run = client.get(&path).await?;
    if let Some(sha) = landed(&before, &action) {
        let (short, title) = (&before.short_id, &before.goal.title);
        terminal.line(Style::Green, &format!("run {short} has already landed as {sha}: {title}"))?;
        terminal.object(&before)?;
        return Ok(ExitStatus::Success);
    }
    let view: Run = client.post(&format!("{path}/actions/{name}"), &action.body(), None).await?;
    let title = &view.goal.title;
    terminal.line(Style::Bold, &format!("run {}: {headline}: {title}", view.short_id))?;
    if resumes && (run.follow || !client.is_remote()) {
        // A retried run is a new one with a journal of its own.
        let after = if view.id == before.id { before.seq } else { 0 };
        return match follow_run(cli, client, view, FollowOptions { yes: false, after }).await {
            // It did what was asked.
            Ok(ExitStatus::Undelivered) if is_cancel => Ok(ExitStatus::Success),
            end => end,
        };
    }
    if resumes && !is_cancel && view.outcome.is_none() && view.escalations.is_empty() {
        let short = &view.short_id;
        terminal.suggest(&format!("{} continues the run. Follow it with `skep watch {short}`.", client.driver()))?;
    }
    terminal.object(&view)?;
    Ok(ExitStatus::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_become_request_bodies() {
        let answer = |answer: Option<&str>, no: Option<&str>, skip| AnswerArgs {
            answer: answer.map(str::to_owned),
            no: no.map(str::to_owned),
            skip,
            more: None,
        };
        let unblock = |answer| Action::Unblock { block: None, answer, settings: NewSettings::default() };
        let body = Action::Approve { block: Some("b1".into()), no: Some(String::new()) }.body();
        assert!(body.no && body.text.as_deref() == Some("") && body.block.as_deref() == Some("b1"));
        let body = Action::Approve { block: None, no: None }.body();
        assert!(!body.no && body.text.is_none());
        let body = unblock(answer(Some("5433"), None, false)).body();
        assert!(!body.no && !body.skip && body.text.as_deref() == Some("5433"));
        let body = unblock(answer(None, Some("no use"), false)).body();
        assert!(body.no && body.text.as_deref() == Some("no use"));
        assert!(unblock(answer(None, None, true)).body().skip);
        let raise = Raise { rounds: 2, ..Raise::default() };
        assert_eq!(Action::Raise(raise).body().more, Some(raise));
    }
}
