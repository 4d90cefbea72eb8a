//! Follows a run until it ends, waits for a person, or the command is interrupted; gives or requests approvals
//! meanwhile.

mod ask;

use super::activity;
use super::client::{Client, encode};
use super::escalation::{self, Form};
use super::exit::{CliError, ExitStatus, Stop};
use super::outcome;
use super::progress::{Line, Progress};
use super::run_log;
use super::sse::SseEvent;
use super::terminal::{Mark, Style, Terminal};
use crate::http::rest::wire::{Event, Outcome, Run, Timestamp};
use crate::platform::stop_signal;
use futures::{FutureExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// How many times in a row a broken stream is reopened before the command gives up.
const MAX_RETRIES: u32 = 5;

/// How long a run may be queued before that is printed: most are admitted at once.
const QUEUE_GRACE: Duration = Duration::from_millis(500);

/// How long a command that was asked to leave waits for a landing. Container runtimes kill after ten seconds.
const LANDING_GRACE: Duration = Duration::from_secs(8);

/// Characters of a task's title in the row that reports the plan.
const MAX_TITLE_CHARS: usize = 60;

/// How to follow a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct FollowOptions {
    /// Gives approvals without asking.
    pub yes: bool,
    /// Prints only what comes after this event.
    pub after: u64,
}

/// Line of the output of an engine or a check.
#[derive(Debug, Deserialize)]
pub struct Output {
    #[serde(default)]
    attempt: serde_json::Value,
    #[serde(default)]
    check: Option<String>,
    text: String,
}

impl Output {
    /// Returns where it comes from: an attempt, or a check.
    pub fn source(&self) -> String {
        self.check.clone().unwrap_or_else(|| attempt_name(&self.attempt))
    }

    /// Returns the text, without its line end.
    pub fn text(&self) -> &str {
        self.text.trim_end()
    }
}

struct Follower<'a> {
    client: &'a Client,
    terminal: &'a Terminal,
    options: FollowOptions,
    path: String,
    view: Run,
    seen: u64,
    last_at: Timestamp,
    progress: Progress,
    /// A fetched run that is ahead of the events printed so far.
    ahead: Option<Run>,
    asked: BTreeSet<String>,
    /// The base on which a merge was approved here.
    approved_on: Option<String>,
    waiting: Option<String>,
    /// Whether its admission was printed: from then on the fetched run is out of date at each pause of the stream.
    is_admitted: bool,
}

/// Follows a run until it ends or waits for a person, and prints its state. Ctrl-C leaves the run unchanged.
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
        progress: Progress::of(&view),
        ahead: None,
        view,
        seen: options.after,
        asked: BTreeSet::new(),
        approved_on: None,
        waiting: None,
        is_admitted: false,
    };
    let path = follower.path.clone();
    let end = tokio::select! {
        end = follower.run() => match end {
            Err(Stop::OutputClosed) => Err(Stop::Left),
            end => end,
        },
        left = leave(client, terminal, &path) => {
            left?;
            detached(client, terminal, &short)?;
            Err(Stop::Left)
        }
    };
    *seen = follower.seen;
    terminal.at_work(&[]);
    end
}

/// Waits until the command is asked to leave. A run that lands in this process is followed to its end first: a landing
/// cannot be taken back, so saying that the run was left as it is would be wrong. A second signal leaves at once.
async fn leave(client: &Client, terminal: &Terminal, path: &str) -> Result<(), Stop> {
    stop_signal::requested(1).await;
    if client.is_remote() {
        return Ok(());
    }
    let lands =
        |run: &Run| matches!(run.phase.as_str(), "gating" | "landing" | "reporting") && run.escalations.is_empty();
    if let Ok(Ok(run)) = tokio::time::timeout(Duration::from_secs(1), client.get::<Run>(path)).await
        && lands(&run)
    {
        terminal.print("The run is landing, which is finished first; interrupt again to leave at once.")?;
        tokio::select! { () = stop_signal::requested(2) => {}, () = tokio::time::sleep(LANDING_GRACE) => {} }
    }
    Ok(())
}

fn detached(client: &Client, terminal: &Terminal, short: &str) -> Result<(), Stop> {
    terminal.at_work(&[]);
    terminal.print("")?;
    if client.is_remote() {
        terminal.print(&format!("Stopped following; the service continues run {short}."))?;
        terminal.suggest(&format!("  skep watch {short}   follow it again"))?;
    } else {
        terminal.print(&format!("Stopped; run {short} is saved and nothing is lost."))?;
        terminal.suggest(&format!("  skep resume {short}   continue this run"))?;
        terminal.suggest("  skep serve             continue every open run")?;
    }
    terminal.object(&json!({ "left": short, "carried_on": client.is_remote() }))
}

impl Follower<'_> {
    async fn run(&mut self) -> Result<ExitStatus, Stop> {
        let mut failures = 0;
        let mut is_reopened = false;
        // Pending events are printed first.
        if self.seen >= self.view.seq {
            for line in self.progress.update(&self.view) {
                self.print_progress(&line)?;
            }
            self.terminal.at_work(&activity::at_work(&self.view));
            if let Some(exit) = self.evaluate().await? {
                return Ok(exit);
            }
        }
        loop {
            let before = self.seen;
            let broken = match self.stream(std::mem::replace(&mut is_reopened, true)).await? {
                Ok(Some(exit)) => return Ok(exit),
                Ok(None) => None,
                Err(error) => Some(error),
            };
            // The stream ended before the run did: reopen it. Only an unreachable service counts as a failure; a quiet
            // stream that was cut (the run waits for its forge) does not.
            failures = match &broken {
                _ if self.seen > before => 0,
                Some(_) => failures + 1,
                None => (failures + 1).min(MAX_RETRIES - 1),
            };
            if let Some(error) = broken
                && failures > MAX_RETRIES
            {
                return Err(error.into());
            }
            tokio::time::sleep(Duration::from_millis(200 << failures)).await;
        }
    }

    /// Reads one stream to its end. The outer error ends the command, the inner one only this stream.
    async fn stream(&mut self, is_reopened: bool) -> Result<Result<Option<ExitStatus>, CliError>, Stop> {
        let mut events = match self.client.stream(&format!("{}/stream", self.path), self.seen).await {
            Ok(events) => events,
            // An unknown or quarantined run stays that way; an unreachable service may come back.
            Err(error) if error.exit == ExitStatus::TryAgain => return Ok(Err(error)),
            Err(error) => return Err(error.into()),
        };
        // The last stream may have broken between an event and the look at the run; no further event may come.
        if is_reopened && let Some(exit) = self.refresh().await? {
            return Ok(Ok(Some(exit)));
        }
        let mut next = events.next().await;
        while let Some(event) = next {
            let event = match event {
                Ok(event) => event,
                Err(error) => return Ok(Err(error)),
            };
            let moved = self.print_event(&event).await?;
            if event.event == "end" {
                break;
            }
            // A burst of events is printed together; the run is fetched after the last of them.
            next = match events.next().now_or_never() {
                Some(more) => more,
                None => {
                    if self.view.phase == "queued"
                        && !self.is_admitted
                        && let Ok(soon) = tokio::time::timeout(QUEUE_GRACE, events.next()).await
                    {
                        next = soon;
                        continue;
                    }
                    if moved && let Some(exit) = self.refresh().await? {
                        return Ok(Ok(Some(exit)));
                    }
                    events.next().await
                }
            };
        }
        // No further event will catch up with the fetched run.
        self.seen = self.seen.max(self.ahead.take().map_or(0, |ahead| ahead.seq));
        Ok(Ok(self.refresh().await?))
    }

    /// Prints one event; returns whether the run has moved.
    async fn print_event(&mut self, event: &SseEvent) -> Result<bool, Stop> {
        match event.event.as_str() {
            "end" => Ok(false),
            "output" => {
                if let Ok(output) = serde_json::from_str::<Output>(&event.data) {
                    self.print_output(&output).await?;
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
                self.is_admitted |= row.name == "admitted";
                if let Some(attempt) = Progress::ended_attempt(&row) {
                    self.start_attempt(&attempt).await?;
                }
                if !self.progress.repeats(&row)
                    && let Some(line) = run_log::line(&row, Some(&self.view))
                {
                    self.print_row(&row, &line)?;
                }
                self.terminal.object(&json!({ "event": row }))?;
                Ok(true)
            }
        }
    }

    /// Fetches the run and prints what is new.
    async fn refresh(&mut self) -> Result<Option<ExitStatus>, Stop> {
        let now: Run = self.client.get(&self.path).await?;
        if now.seq > self.seen {
            // Its events are still to come: print them first.
            self.ahead = Some(now);
            return Ok(None);
        }
        self.ahead = None;
        for line in self.progress.update(&now) {
            self.print_progress(&line)?;
        }
        self.view = now;
        self.terminal.at_work(&activity::at_work(&self.view));
        self.evaluate().await
    }

    /// Prints a line of the output of an engine or a check.
    async fn print_output(&mut self, output: &Output) -> Result<(), Stop> {
        let source = output.source();
        if output.check.is_none() {
            self.start_attempt(&source).await?;
        }
        let key = if output.check.is_some() { "check" } else { source.as_str() };
        if !self.terminal.output_of(key, &output.text) {
            self.terminal.line(Style::Dim, &format!("     {source} | {}", output.text.trim_end()))?;
        }
        let kind = if output.check.is_some() { "check" } else { "attempt" };
        self.terminal.object(&json!({ "output": { kind: source, "text": output.text } }))
    }

    /// Prints a row of the journal: on a terminal with its mark, elsewhere with its time.
    fn print_row(&self, row: &Event, line: &str) -> Result<(), Stop> {
        // The goal is in the headline already; the plan of a single task repeats it.
        let title = format!(": {}", crate::render::brief(&self.view.goal.title, MAX_TITLE_CHARS));
        let line = &match row.name.as_str() {
            "opened" => line.replacen(&format!(": {}", self.view.goal.title), "", 1),
            "reported" => line.replacen(&title, "", 1),
            _ => line.to_owned(),
        };
        if !self.terminal.is_live() {
            return self.terminal.line(Style::Plain, &format!("{} {line}", super::text::time_of_day(row.at)));
        }
        // There is no line for the start of an attempt: its end says whose it was.
        let attempt = line.split(' ').next().and_then(|id| self.view.attempts.iter().find(|a| a.id == id));
        match attempt {
            Some(attempt) => {
                let rest = line.trim_start_matches(attempt.id.as_str());
                self.terminal.marked(run_log::mark(row), &format!("{} {}{rest}", attempt.id, attempt.step.role()))
            }
            None => self.terminal.marked(run_log::mark(row), &activity::with_check_names(line, &self.view.checks)),
        }
    }

    /// Prints a line about the progress of the run.
    fn print_progress(&self, line: &Line) -> Result<(), Stop> {
        match line {
            _ if !self.terminal.is_live() => self.terminal.line(Style::Bold, line.text()),
            Line::Phase(text) => self.terminal.prose(Style::Bold, text, 2),
            Line::Started(_) => Ok(()),
            Line::Rejected(text) => self.terminal.marked(Mark::Bad, text),
            Line::Added(text) => self.terminal.marked(Mark::Again, text),
        }
    }

    /// Prints the start of an attempt before anything else about it, however short it was.
    async fn start_attempt(&mut self, attempt: &str) -> Result<(), Stop> {
        if !self.progress.lacks(attempt) {
            return Ok(());
        }
        let now: Run = self.client.get(&self.path).await?;
        for line in self.progress.attempt_started(&now, attempt) {
            self.print_progress(&line)?;
        }
        // Its end is about to be printed, and names its role.
        if now.seq == self.view.seq || self.view.attempts.iter().all(|a| a.id != attempt) {
            self.view.attempts = now.attempts;
        }
        Ok(())
    }

    /// Acts on the state of the run; returns the exit status when there is nothing more to follow.
    async fn evaluate(&mut self) -> Result<Option<ExitStatus>, Stop> {
        loop {
            if let Some(outcome) = &self.view.outcome {
                // Until the phase is `ended`, the last events (the report, the release) are still to come.
                if self.view.phase != "ended" {
                    return Ok(None);
                }
                let exit = match outcome {
                    Outcome::Delivered { .. } | Outcome::Unchanged => ExitStatus::Success,
                    _ => ExitStatus::Undelivered,
                };
                outcome::print(self.terminal, &self.view, self.last_at)?;
                self.terminal.object(&json!({ "run": self.view }))?;
                return Ok(Some(exit));
            }
            if self.options.yes && self.approve_next().await? {
                continue;
            }
            // Other tasks may continue while one waits: ask once nothing else moves.
            if !self.view.pending_effects.is_empty() {
                return Ok(None);
            }
            if let Some(by) = &self.view.paused_by {
                self.terminal.suggest(&format!(
                    "The run was paused by {by}. Resume it with `skep resume {}`.",
                    self.view.short_id
                ))?;
                self.terminal.object(&json!({ "run": self.view }))?;
                return Ok(Some(ExitStatus::WaitsForPerson));
            }
            if self.view.escalations.is_empty() {
                let waiting = run_log::waiting(&self.view).map(str::to_owned);
                if waiting != self.waiting
                    && let Some(line) = &waiting
                {
                    self.terminal.prose(Style::Yellow, line, 2)?;
                }
                self.waiting = waiting;
                return Ok(None);
            }
            self.terminal.at_work(&[]);
            if self.ask().await? {
                continue;
            }
            for escalation in &self.view.escalations {
                if !self.asked.contains(&escalation.block.to_string()) {
                    escalation::print(self.terminal, &self.view, escalation, Form::Full)?;
                }
            }
            self.terminal.object(&json!({ "run": self.view }))?;
            return Ok(Some(ExitStatus::WaitsForPerson));
        }
    }
}

/// Returns the name of an attempt (`a2`) from either JSON form.
pub fn attempt_name(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Number(n) => format!("a{n}"),
        serde_json::Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => format!("a{text}"),
        serde_json::Value::String(text) => text.clone(),
        _ => "?".to_owned(),
    }
}
