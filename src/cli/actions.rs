//! Actions of a person on a run: approve, unblock, pause, resume, cancel, retry, raise.

use super::args::{AnswerArgs, RunRef};
use super::client::{Client, encode};
use super::context::{Access, CliContext};
use super::exit::{ExitStatus, Stop};
use super::follow::FollowOptions;
use super::reconnect::follow_run;
use super::terminal::Style;
use crate::http::rest::wire::{self, Raise, Run};

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
    Retry,
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
            Action::Retry => "retry",
            Action::Raise(_) => "raise",
        }
    }

    fn headline(&self) -> &'static str {
        match self {
            Action::Approve { no: None, .. } => "approved",
            Action::Approve { no: Some(_), .. } => "declined",
            Action::Unblock { .. } => "answered",
            Action::Pause => "paused",
            Action::Resume => "resumed",
            Action::LiftQuarantine => "quarantine lifted",
            Action::Cancel { .. } => "cancelled",
            Action::Retry => "started again",
            Action::Raise(_) => "budget raised",
        }
    }

    /// Converts to the request body of REST.
    pub fn body(self) -> wire::Action {
        match self {
            Action::Approve { block, no } => {
                wire::Action { block, no: no.is_some(), text: no, ..wire::Action::default() }
            }
            Action::Unblock { block, answer } => wire::Action {
                block,
                no: answer.no.is_some(),
                skip: answer.skip,
                text: answer.no.or(answer.answer),
                more: answer.more.map(|more| more.0),
            },
            Action::Pause | Action::Resume | Action::LiftQuarantine | Action::Retry => wire::Action::default(),
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

async fn post(cli: &CliContext<'_>, client: &Client, run: &RunRef, action: Action) -> Result<ExitStatus, Stop> {
    let terminal = cli.terminal;
    let resumes = !matches!(action, Action::Pause);
    let path = format!("/runs/{}", encode(&run.run));
    let (name, headline) = (action.name(), action.headline());
    let before: Run = client.get(&path).await?;
    let view: Run = client.post(&format!("{path}/actions/{name}"), &action.body(), None).await?;
    let title = &view.goal.title;
    terminal.line(Style::Bold, &format!("run {} {headline} (status: {}): {title}", view.short_id, view.status))?;
    if resumes && (run.follow || !client.is_remote()) {
        // A retried run is a new one with a journal of its own.
        let after = if view.id == before.id { before.seq } else { 0 };
        return follow_run(cli, client, view, FollowOptions { yes: false, after }).await;
    }
    if resumes && view.outcome.is_none() {
        let short = &view.short_id;
        terminal.suggest(&format!("The service continues the run. Follow it with `skep events {short} --follow`."))?;
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
        let body = Action::Approve { block: Some("b1".into()), no: Some(String::new()) }.body();
        assert!(body.no && body.text.as_deref() == Some("") && body.block.as_deref() == Some("b1"));
        let body = Action::Approve { block: None, no: None }.body();
        assert!(!body.no && body.text.is_none());
        let body = Action::Unblock { block: None, answer: answer(Some("5433"), None, false) }.body();
        assert!(!body.no && !body.skip && body.text.as_deref() == Some("5433"));
        let body = Action::Unblock { block: None, answer: answer(None, Some("no use"), false) }.body();
        assert!(body.no && body.text.as_deref() == Some("no use"));
        assert!(Action::Unblock { block: None, answer: answer(None, None, true) }.body().skip);
        let raise = Raise { rounds: 2, ..Raise::default() };
        assert_eq!(Action::Raise(raise).body().more, Some(raise));
    }
}
