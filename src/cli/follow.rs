//! Follows a run live until it ends, asks, or the person goes away; gives or asks for approvals on the way.

use super::client::{Client, encode, with_query};
use super::exit::{CliError, ExitStatus, Stop};
use super::outcome;
use super::progress::Progress;
use super::run_log;
use super::sse::SseEvent;
use super::terminal::{Style, Terminal};
use crate::http::rest::wire::{Action, Escalation, Event, Outcome, Run, Timestamp};
use futures::{FutureExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often a broken stream is taken up again before the command gives up.
const RECONNECTS: u32 = 5;

/// How long a run may be without a slot before that is told: most have one at once.
const QUEUE_GRACE: Duration = Duration::from_millis(500);

/// How to follow.
#[derive(Clone, Copy, Debug, Default)]
pub struct FollowOptions {
    /// Approvals are given without asking.
    pub yes: bool,
    /// Only what comes after this event is told.
    pub after: u64,
}

/// A line an engine wrote.
#[derive(Debug, Deserialize)]
struct Said {
    attempt: serde_json::Value,
    text: String,
}

struct Follower<'a> {
    client: &'a Client,
    terminal: &'a Terminal,
    options: FollowOptions,
    path: String,
    view: Run,
    seen: u64,
    last_at: Timestamp,
    teller: Progress,
    /// A look that is ahead of the events told so far.
    ahead: Option<Run>,
    asked: BTreeSet<String>,
    waited: Option<String>,
}

/// Follows a run until it ends or waits for a person, and says how it stands. Going away (Ctrl-C) leaves the run as it is.
pub async fn follow(
    client: &Client,
    terminal: &Terminal,
    view: Run,
    options: FollowOptions,
    seen: &mut u64,
) -> Result<ExitStatus, Stop> {
    let short = view.short_id.clone();
    let mut follower = Follower {
        client,
        terminal,
        options,
        path: format!("/runs/{}", encode(&view.id)),
        last_at: view.opened_at,
        teller: Progress::of(&view),
        ahead: None,
        view,
        seen: options.after,
        asked: BTreeSet::new(),
        waited: None,
    };
    let end = tokio::select! {
        end = follower.run() => match end {
            // Nobody reads any more. The run did not end, so the code must not say it did.
            Err(Stop::OutputClosed) => Ok(ExitStatus::WaitsForPerson),
            end => end,
        },
        () = told_to_go() => {
            detached(client, terminal, &short)?;
            Ok(ExitStatus::WaitsForPerson)
        }
    };
    *seen = follower.seen;
    end
}

async fn told_to_go() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_none_can_come) => std::future::pending().await,
        }
    };
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! { () = terminated => {}, () = interrupted => {} }
}

fn detached(client: &Client, terminal: &Terminal, short: &str) -> Result<(), Stop> {
    terminal.print("")?;
    if client.is_remote() {
        terminal.print(&format!("You left; the service goes on with run {short}."))?;
        terminal.suggest(&format!("  skep events {short} --follow   watches it again"))?;
    } else {
        terminal.print(&format!("You left; run {short} stays as it is, nothing is lost."))?;
        terminal.suggest(&format!("  skep resume {short}   goes on with it here"))?;
        terminal.suggest("  skep serve             goes on with every open run")?;
    }
    terminal.object(&json!({ "left": short, "carried_on": client.is_remote() }))
}

impl Follower<'_> {
    async fn run(&mut self) -> Result<ExitStatus, Stop> {
        let mut failures = 0;
        // Where events are still to be told, they come first.
        if self.seen >= self.view.seq {
            for line in self.teller.news(&self.view) {
                self.terminal.line(Style::Bold, &line)?;
            }
            if let Some(exit) = self.stand().await? {
                return Ok(exit);
            }
        }
        loop {
            let before = self.seen;
            let broken = match self.stream().await? {
                Ok(Some(exit)) => return Ok(exit),
                Ok(None) => None,
                Err(error) => Some(error),
            };
            // The stream ended without an end of the run: take it up again. Only a service that is away ends the patience;
            // a stream that was quiet and cut (a run that waits for its forge) is no failure.
            failures = match &broken {
                _ if self.seen > before => 0,
                Some(_) => failures + 1,
                None => (failures + 1).min(RECONNECTS - 1),
            };
            if let Some(error) = broken
                && failures > RECONNECTS
            {
                return Err(error.into());
            }
            tokio::time::sleep(Duration::from_millis(200 << failures)).await;
        }
    }

    /// Reads one stream to its end. The outer error stops the command, the inner one only this stream.
    async fn stream(&mut self) -> Result<Result<Option<ExitStatus>, CliError>, Stop> {
        let mut events = match self.client.stream(&format!("{}/stream", self.path), self.seen).await {
            Ok(events) => events,
            // A wrong name or a quarantined run will not mend itself; a service that is away may come back.
            Err(error) if error.exit == ExitStatus::TryAgain => return Ok(Err(error)),
            Err(error) => return Err(error.into()),
        };
        let mut next = events.next().await;
        while let Some(event) = next {
            let event = match event {
                Ok(event) => event,
                Err(error) => return Ok(Err(error)),
            };
            let moved = self.tell(&event).await?;
            if event.event == "end" {
                break;
            }
            // Several events at once are told together; the look at the run follows the last of them.
            next = match events.next().now_or_never() {
                Some(more) => more,
                None => {
                    if self.view.phase == "queued"
                        && let Ok(soon) = tokio::time::timeout(QUEUE_GRACE, events.next()).await
                    {
                        next = soon;
                        continue;
                    }
                    if moved && let Some(exit) = self.look().await? {
                        return Ok(Ok(Some(exit)));
                    }
                    events.next().await
                }
            };
        }
        // No event follows that could catch up with what a look showed.
        self.seen = self.seen.max(self.ahead.take().map_or(0, |ahead| ahead.seq));
        Ok(Ok(self.look().await?))
    }

    /// Tells one event; whether the run moved.
    async fn tell(&mut self, event: &SseEvent) -> Result<bool, Stop> {
        match event.event.as_str() {
            "end" => Ok(false),
            "said" => {
                if let Ok(said) = serde_json::from_str::<Said>(&event.data) {
                    let who = attempt_name(&said.attempt);
                    self.begin(&who).await?;
                    self.terminal.line(Style::Dim, &format!("     {who} | {}", said.text.trim_end()))?;
                    self.terminal.object(&json!({ "said": { "attempt": who, "text": said.text } }))?;
                }
                Ok(false)
            }
            _ => {
                let Ok(row) = serde_json::from_str::<Event>(&event.data) else { return Ok(false) };
                if row.seq <= self.seen {
                    return Ok(false);
                }
                self.seen = row.seq;
                self.last_at = row.at;
                if let Some(attempt) = Progress::ends(&row) {
                    self.begin(&attempt).await?;
                }
                if !self.teller.repeats(&row)
                    && let Some(line) = run_log::words(&row)
                {
                    self.terminal.line(Style::Plain, &format!("{} {line}", super::text::time_of_day(row.at)))?;
                }
                self.terminal.object(&json!({ "event": row }))?;
                Ok(true)
            }
        }
    }

    async fn look(&mut self) -> Result<Option<ExitStatus>, Stop> {
        let now: Run = self.client.get(&self.path).await?;
        if now.seq > self.seen {
            // Its events are on their way: what it shows is told after them.
            self.ahead = Some(now);
            return Ok(None);
        }
        self.ahead = None;
        for line in self.teller.news(&now) {
            self.terminal.line(Style::Bold, &line)?;
        }
        self.view = now;
        self.stand().await
    }

    /// Tells of an attempt's beginning before anything else is told of it, however short it was.
    async fn begin(&mut self, attempt: &str) -> Result<(), Stop> {
        if !self.teller.lacks(attempt) {
            return Ok(());
        }
        let now: Run = self.client.get(&self.path).await?;
        for line in self.teller.begins(&now, attempt) {
            self.terminal.line(Style::Bold, &line)?;
        }
        Ok(())
    }

    /// What to do where the run stands now; `Some` when there is nothing more to follow.
    async fn stand(&mut self) -> Result<Option<ExitStatus>, Stop> {
        loop {
            if let Some(outcome) = &self.view.outcome {
                // The last events (the report, the release) are still to come until the phase says so.
                if self.view.phase != "ended" {
                    return Ok(None);
                }
                let exit = match outcome {
                    Outcome::Delivered { .. } => ExitStatus::Success,
                    _ => ExitStatus::Undelivered,
                };
                outcome::ended(self.terminal, &self.view, self.last_at)?;
                self.terminal.object(&json!({ "run": self.view }))?;
                return Ok(Some(exit));
            }
            if self.options.yes && self.give_one().await? {
                continue;
            }
            // Other tasks may go on while one waits: the question is put when nothing else moves.
            if !self.view.pending_effects.is_empty() {
                return Ok(None);
            }
            if let Some(by) = &self.view.paused_by {
                self.terminal
                    .suggest(&format!("The run is paused by {by}; `skep resume {}` goes on.", self.view.short_id))?;
                self.terminal.object(&json!({ "run": self.view }))?;
                return Ok(Some(ExitStatus::WaitsForPerson));
            }
            if self.view.escalations.is_empty() {
                let waits = run_log::waits(&self.view);
                if waits != self.waited
                    && let Some(line) = &waits
                {
                    self.terminal.line(Style::Yellow, &format!("waits: {line}"))?;
                }
                self.waited = waits;
                return Ok(None);
            }
            if self.ask().await? {
                continue;
            }
            for escalation in &self.view.escalations {
                if !self.asked.contains(&escalation.block.to_string()) {
                    outcome::escalation(self.terminal, escalation)?;
                }
            }
            self.terminal.object(&json!({ "run": self.view }))?;
            return Ok(Some(ExitStatus::WaitsForPerson));
        }
    }

    /// Gives the oldest approval that was not given yet. Each block is answered once: one that stays open asks for more
    /// than a yes of this person.
    async fn give_one(&mut self) -> Result<bool, Stop> {
        let open = |e: &&Escalation| is_approval(e) && !self.asked.contains(&e.block.to_string());
        let Some(escalation) = self.view.escalations.iter().find(open).cloned() else { return Ok(false) };
        self.asked.insert(escalation.block.to_string());
        outcome::escalation(self.terminal, &escalation)?;
        let say = Action { block: Some(escalation.block.to_string()), ..Action::default() };
        match self.client.post(&format!("{}/actions/approve", self.path), &say, None).await {
            Ok(view) => self.view = view,
            // Not this person's to give (policy), or answered meanwhile: the question stays open, which ends in exit 4.
            Err(error) if error.exit == ExitStatus::Usage => {
                self.terminal.error(&error);
                self.view = self.client.get(&self.path).await?;
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        }
        self.terminal.line(Style::Green, &format!("approval given by you (--yes): {}", escalation.reason))?;
        Ok(true)
    }

    /// Asks the person at the terminal for the oldest approval; whether an answer was given.
    async fn ask(&mut self) -> Result<bool, Stop> {
        let open = |e: &&Escalation| is_approval(e) && !self.asked.contains(&e.block.to_string());
        let Some(escalation) = self.view.escalations.iter().find(open).cloned() else { return Ok(false) };
        if !self.terminal.can_prompt() {
            return Ok(false);
        }
        outcome::escalation(self.terminal, &escalation)?;
        self.asked.insert(escalation.block.to_string());
        let block = Some(escalation.block.to_string());
        let say = loop {
            let answer = self.terminal.ask("Approve? [y]es, [n]o, [d]iff, or Enter to decide later:").await?;
            match answer.as_deref().map(str::to_lowercase).as_deref() {
                Some("y" | "yes") => break Action { block, ..Action::default() },
                Some("n" | "no") => {
                    let why = self.terminal.ask("What should be different? (empty: just no)").await?;
                    break Action { block, no: true, text: why.filter(|w| !w.is_empty()), ..Action::default() };
                }
                Some("d" | "diff") => {
                    let task = outcome::task_of(&escalation);
                    let path = with_query(&format!("{}/patch", self.path), &[("task", task)]);
                    match self.client.bytes(&path).await {
                        Ok(patch) => self.terminal.content(&patch)?,
                        Err(error) => self.terminal.error(&error),
                    }
                }
                Some("") | None => {
                    self.terminal.suggest(&format!(
                        "The run waits. `skep approve {} --block {}` answers later.",
                        self.view.short_id, escalation.block
                    ))?;
                    return Ok(false);
                }
                Some(_) => self.terminal.print("Please answer y, n or d.")?,
            }
        };
        // What was answered is what was shown: the run must not have moved since.
        match self.client.post(&format!("{}/actions/approve", self.path), &say, Some(self.view.seq)).await {
            Ok(view) => self.view = view,
            Err(error) if error.problems.iter().any(|p| p.status == 412) => {
                self.terminal.print("The run has moved meanwhile; look again.")?;
                self.asked.remove(&escalation.block.to_string());
                self.view = self.client.get(&self.path).await?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }
}

fn is_approval(escalation: &Escalation) -> bool {
    escalation.code.starts_with("approve_")
}

/// `a2`, however the attempt is written.
pub fn attempt_name(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Number(n) => format!("a{n}"),
        serde_json::Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => format!("a{text}"),
        serde_json::Value::String(text) => text.clone(),
        _ => "?".to_owned(),
    }
}
