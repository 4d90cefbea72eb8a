//! Follows a run until it ends, waits for a person, or the command is interrupted; gives or requests approvals
//! meanwhile.

use super::client::{Client, encode, with_query};
use super::escalation;
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

/// How many times in a row a broken stream is reopened before the command gives up.
const MAX_RETRIES: u32 = 5;

/// How long a run may be queued before that is printed: most are admitted at once.
const QUEUE_GRACE: Duration = Duration::from_millis(500);

/// How long a command that was asked to leave waits for a landing. Container runtimes kill after ten seconds.
const LANDING_GRACE: Duration = Duration::from_secs(8);

/// How to follow a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct FollowOptions {
    /// Gives approvals without asking.
    pub yes: bool,
    /// Prints only what comes after this event.
    pub after: u64,
}

/// Line of an engine's output.
#[derive(Debug, Deserialize)]
struct EngineOutput {
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
    progress: Progress,
    /// A fetched run that is ahead of the events printed so far.
    ahead: Option<Run>,
    asked: BTreeSet<String>,
    waiting: Option<String>,
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
        waiting: None,
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
    end
}

/// Waits until the command is asked to leave. A run that lands in this process is followed to its end first: a landing
/// cannot be taken back, so saying that the run was left as it is would be wrong. A second signal leaves at once.
async fn leave(client: &Client, terminal: &Terminal, path: &str) -> Result<(), Stop> {
    stop_signal().await;
    if client.is_remote() {
        return Ok(());
    }
    let lands =
        |run: &Run| matches!(run.phase.as_str(), "gating" | "landing" | "reporting") && run.escalations.is_empty();
    if let Ok(Ok(run)) = tokio::time::timeout(Duration::from_secs(1), client.get::<Run>(path)).await
        && lands(&run)
    {
        terminal.print("The run is landing, which is finished first; interrupt again to leave at once.")?;
        tokio::select! { () = stop_signal() => {}, () = tokio::time::sleep(LANDING_GRACE) => {} }
    }
    Ok(())
}

/// Waits for SIGTERM or SIGINT.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_no_handler) => std::future::pending().await,
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
        terminal.print(&format!("Stopped following; the service continues run {short}."))?;
        terminal.suggest(&format!("  skep events {short} --follow   follow it again"))?;
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
                self.terminal.line(Style::Bold, &line)?;
            }
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
                if let Ok(output) = serde_json::from_str::<EngineOutput>(&event.data) {
                    let attempt = attempt_name(&output.attempt);
                    self.start_attempt(&attempt).await?;
                    self.terminal.line(Style::Dim, &format!("     {attempt} | {}", output.text.trim_end()))?;
                    self.terminal.object(&json!({ "output": { "attempt": attempt, "text": output.text } }))?;
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
                if let Some(attempt) = Progress::ended_attempt(&row) {
                    self.start_attempt(&attempt).await?;
                }
                if !self.progress.repeats(&row)
                    && let Some(line) = run_log::line(&row)
                {
                    self.terminal.line(Style::Plain, &format!("{} {line}", super::text::time_of_day(row.at)))?;
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
            self.terminal.line(Style::Bold, &line)?;
        }
        self.view = now;
        self.evaluate().await
    }

    /// Prints the start of an attempt before anything else about it, however short it was.
    async fn start_attempt(&mut self, attempt: &str) -> Result<(), Stop> {
        if !self.progress.lacks(attempt) {
            return Ok(());
        }
        let now: Run = self.client.get(&self.path).await?;
        for line in self.progress.attempt_started(&now, attempt) {
            self.terminal.line(Style::Bold, &line)?;
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
                let waiting = run_log::waiting_for(&self.view);
                if waiting != self.waiting
                    && let Some(line) = &waiting
                {
                    self.terminal.line(Style::Yellow, &format!("waiting: {line}"))?;
                }
                self.waiting = waiting;
                return Ok(None);
            }
            if self.ask_approval().await? {
                continue;
            }
            for escalation in &self.view.escalations {
                if !self.asked.contains(&escalation.block.to_string()) {
                    escalation::print(self.terminal, &self.view, escalation)?;
                }
            }
            self.terminal.object(&json!({ "run": self.view }))?;
            return Ok(Some(ExitStatus::WaitsForPerson));
        }
    }

    /// Gives the oldest open approval (`--yes`). Each block is answered once: one that stays open needs more than the
    /// yes of this person.
    async fn approve_next(&mut self) -> Result<bool, Stop> {
        let open = |e: &&Escalation| is_approval(e) && !self.asked.contains(&e.block.to_string());
        let Some(escalation) = self.view.escalations.iter().find(open).cloned() else { return Ok(false) };
        self.asked.insert(escalation.block.to_string());
        escalation::print(self.terminal, &self.view, &escalation)?;
        let body = Action { block: Some(escalation.block.to_string()), ..Action::default() };
        match self.client.post(&format!("{}/actions/approve", self.path), &body, None).await {
            Ok(view) => self.view = view,
            // This person may not give it (policy), or it was answered meanwhile: it stays open, and the command exits
            // with 4.
            Err(error) if error.exit == ExitStatus::Usage => {
                self.terminal.error(&error);
                self.view = self.client.get(&self.path).await?;
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        }
        self.terminal.line(Style::Green, &format!("approved on your behalf (--yes): {}", escalation.reason))?;
        Ok(true)
    }

    /// Asks the person at the terminal for the oldest open approval; returns whether one was answered.
    async fn ask_approval(&mut self) -> Result<bool, Stop> {
        let open = |e: &&Escalation| is_approval(e) && !self.asked.contains(&e.block.to_string());
        let Some(escalation) = self.view.escalations.iter().find(open).cloned() else { return Ok(false) };
        if !self.terminal.can_prompt() {
            return Ok(false);
        }
        escalation::print(self.terminal, &self.view, &escalation)?;
        self.asked.insert(escalation.block.to_string());
        let block = Some(escalation.block.to_string());
        let body = loop {
            let answer = self.terminal.ask("Approve? [y]es, [n]o, show [d]iff, or Enter to decide later:").await?;
            match answer.as_deref().map(str::to_lowercase).as_deref() {
                Some("y" | "yes") => break Action { block, ..Action::default() },
                Some("n" | "no") => {
                    let why = self.terminal.ask("What should be different? (optional)").await?;
                    break Action { block, no: true, text: why.filter(|w| !w.is_empty()), ..Action::default() };
                }
                Some("d" | "diff") => {
                    let task = escalation.task.clone();
                    let path = with_query(&format!("{}/patch", self.path), &[("task", task)]);
                    match self.client.bytes(&path).await {
                        Ok(patch) => self.terminal.content(&patch)?,
                        Err(error) => self.terminal.error(&error),
                    }
                }
                Some("") | None => {
                    self.terminal.suggest(&format!(
                        "The run waits for your answer. Give it later with `skep approve {} --block {}`.",
                        self.view.short_id, escalation.block
                    ))?;
                    return Ok(false);
                }
                Some(_) => self.terminal.print("Please answer y, n or d.")?,
            }
        };
        // The answer is about the state that was shown: refuse it if the run has moved since.
        match self.client.post(&format!("{}/actions/approve", self.path), &body, Some(self.view.seq)).await {
            Ok(view) => self.view = view,
            Err(error) if error.problems.iter().any(|p| p.status == 412) => {
                self.terminal.print("The run has changed in the meantime; please review it again.")?;
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

/// Returns the name of an attempt (`a2`) from either JSON form.
pub fn attempt_name(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Number(n) => format!("a{n}"),
        serde_json::Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => format!("a{text}"),
        serde_json::Value::String(text) => text.clone(),
        _ => "?".to_owned(),
    }
}
