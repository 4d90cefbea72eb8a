//! Lists about runs: `runs`, `events`, `logs`.

use super::args::RunsArgs;
use super::client::{Client, encode, with_query};
use super::exit::{ExitStatus, Stop};
use super::follow::{Output, attempt_name};
use super::run_log;
use super::select::{self, Fits};
use super::sse::SseEvent;
use super::terminal::{Style, Terminal};
use super::text::{brief, moment, table, time_of_day};
use crate::http::rest::wire::{Event, Run, RunSummary};
use crate::platform::stop_signal;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// How long the journal is quiet before the run is looked at.
const QUIET: Duration = Duration::from_millis(500);
/// Number of journal rows per request.
const PAGE_SIZE: u64 = 500;

#[derive(Deserialize)]
struct Log {
    name: String,
    kind: String,
    digest: String,
    #[serde(default)]
    attempt: serde_json::Value,
}

/// `skep runs`.
pub async fn runs(client: &Client, terminal: &Terminal, mut args: RunsArgs) -> Result<ExitStatus, Stop> {
    if let Some(before) = &args.before {
        args.before = Some(select::run(client, Some(before), Fits::Newest).await?);
    }
    let path = with_query(
        "/runs",
        &[
            ("project", args.project),
            ("status", args.status),
            ("open", args.open.then(|| "true".to_owned())),
            ("limit", Some(args.limit.to_string())),
            ("before", args.before),
        ],
    );
    let runs: Vec<RunSummary> = client.get(&path).await?;
    // Without another process, nothing drives a run that waits for no person.
    let is_idle = |r: &RunSummary| {
        !client.is_remote() && r.wake_at.is_none() && ["pending", "planning", "running"].contains(&r.status.as_str())
    };
    let listed = runs.iter().map(|r| {
        let mut row = json!(r);
        row["idle"] = json!(is_idle(r));
        row
    });
    terminal.object(&json!({ "runs": listed.collect::<Vec<_>>() }))?;
    if runs.is_empty() {
        terminal.suggest(
            "No runs found. Start one with `skep run \"what should be different\"`, or watch one with `skep demo`.",
        )?;
        return Ok(ExitStatus::Success);
    }
    let full = u64::try_from(runs.len()).unwrap_or(u64::MAX) >= args.limit;
    let some_idle = runs.iter().any(is_idle);
    let oldest = runs.last().map(|r| r.short_id().to_owned());
    let rows = runs.into_iter().map(|r| {
        let short = r.short_id().to_owned();
        let timer = match (r.wake_at, &r.waiting_for) {
            (Some(at), Some(why)) => format!("until {}: {}", time_of_day(at), brief(why, 80)),
            _ => String::new(),
        };
        let status = if is_idle(&r) { "idle".to_owned() } else { r.status.clone() };
        let waiting_for = match (r.quarantined, r.blocks.is_empty()) {
            (Some(why), _) => why,
            (None, true) => timer,
            (None, false) => r.blocks.join(", "),
        };
        vec![short, status, r.project, moment(r.opened_at), waiting_for, r.title]
    });
    let header = ["run", "status", "project", "started", "waiting for", "goal"];
    terminal.print(&table(&header, rows.collect(), terminal.width))?;
    if some_idle {
        terminal.suggest("Nothing works on an idle run: `skep resume RUN` continues one, `skep serve` all.")?;
    }
    if let Some(oldest) = oldest.filter(|_| full) {
        terminal.line(Style::Dim, &terminal.with_options(&format!("More runs: `skep runs --before {oldest}`")))?;
    }
    Ok(ExitStatus::Success)
}

/// `skep events`.
pub async fn events(
    client: &Client,
    terminal: &Terminal,
    run: &str,
    follow: bool,
    after: u64,
) -> Result<ExitStatus, Stop> {
    let path = format!("/runs/{}", encode(run));
    // A run that cannot be read still has a journal.
    let run: Option<Run> = client.get(&path).await.ok();
    let mut seen = after;
    loop {
        let query = [("after", Some(seen.to_string())), ("limit", Some(PAGE_SIZE.to_string()))];
        let page: Vec<Event> = client.get(&with_query(&format!("{path}/events"), &query)).await?;
        let Some(last) = page.last().map(|row| row.seq).filter(|last| *last > seen) else { break };
        for row in &page {
            show(terminal, row, run.as_ref())?;
        }
        seen = last;
    }
    if !follow {
        return Ok(ExitStatus::Success);
    }
    let mut events = client.stream(&format!("{path}/stream"), seen).await?;
    let stopped = stop_signal::requested(1);
    tokio::pin!(stopped);
    let mut asked = None;
    loop {
        // Once the journal is quiet, the run may wait for a person, which no row says.
        let next = tokio::select! {
            next = events.next() => next,
            () = tokio::time::sleep(QUIET), if asked != Some(seen) => {
                asked = Some(seen);
                say_what_it_waits_for(client, terminal, &path).await?;
                continue;
            }
            () = &mut stopped => None,
        };
        let Some(event) = next else { break };
        let event = event?;
        match event.event.as_str() {
            "end" => break,
            "output" => print_output(terminal, &event)?,
            _ => {
                if let Ok(row) = serde_json::from_str::<Event>(&event.data)
                    && row.seq > seen
                {
                    seen = row.seq;
                    show(terminal, &row, run.as_ref())?;
                }
            }
        }
    }
    Ok(ExitStatus::Success)
}

/// Prints that a run waits for a person, if it does; nothing with `--json`, where the run says it.
async fn say_what_it_waits_for(client: &Client, terminal: &Terminal, path: &str) -> Result<(), Stop> {
    let run: Run = client.get(path).await?;
    let short = &run.short_id;
    for escalation in &run.escalations {
        terminal.line(
            Style::Yellow,
            &terminal.with_options(&format!(
                "the run waits for you: {}. Answer with `skep watch {short}`.",
                escalation.reason
            )),
        )?;
    }
    Ok(())
}

/// Prints a line of the output of an engine or a check.
fn print_output(terminal: &Terminal, event: &SseEvent) -> Result<(), Stop> {
    let Ok(output) = serde_json::from_str::<Output>(&event.data) else { return Ok(()) };
    terminal.line(Style::Dim, &format!("     {} | {}", output.source(), output.text()))
}

/// `skep logs --follow`: prints the output of what is at work, until the run ends or waits for a person.
pub async fn follow_logs(client: &Client, terminal: &Terminal, run: &str) -> Result<ExitStatus, Stop> {
    let path = format!("/runs/{}", encode(run));
    let mut view: Run = client.get(&path).await?;
    let mut events = client.stream(&format!("{path}/stream"), view.seq).await?;
    let stopped = stop_signal::requested(1);
    tokio::pin!(stopped);
    loop {
        let waits = !view.escalations.is_empty() && view.pending_effects.is_empty();
        if waits || view.outcome.is_some() {
            terminal.line(Style::Dim, &format!("run {}: {}", view.short_id, view.now))?;
            return Ok(if waits { ExitStatus::WaitsForPerson } else { ExitStatus::Success });
        }
        let event = tokio::select! {
            next = events.next() => next,
            () = &mut stopped => None,
        };
        match event {
            None => return Ok(ExitStatus::Success),
            Some(event) => match event? {
                event if event.event == "output" && terminal.json => {
                    if let Ok(output) = serde_json::from_str::<serde_json::Value>(&event.data) {
                        terminal.object(&json!({ "output": output }))?;
                    }
                }
                event if event.event == "output" => print_output(terminal, &event)?,
                _moved => view = client.get(&path).await?,
            },
        }
    }
}

fn show(terminal: &Terminal, row: &Event, run: Option<&Run>) -> Result<(), Stop> {
    terminal.object(row)?;
    // Internal steps appear only with --json.
    let Some(line) = run_log::line(row, run) else { return Ok(()) };
    terminal.line(Style::Plain, &format!("{:>4}  {}  {:<16}  {line}", row.seq, moment(row.at), row.name))
}

/// `skep logs`.
pub async fn logs(client: &Client, terminal: &Terminal, run: &str, attempt: Option<u32>) -> Result<ExitStatus, Stop> {
    let path = format!("/runs/{}", encode(run));
    let mut logs: Vec<Log> = client.get(&format!("{path}/logs")).await?;
    if let Some(number) = attempt {
        logs.retain(|log| attempt_name(&log.attempt) == format!("a{number}"));
    }
    if logs.is_empty() {
        let view: Run = client.get(&path).await?;
        let whose = attempt.map_or_else(|| format!("Run {}", view.short_id), |a| format!("Attempt a{a}"));
        terminal.print(&format!("{whose} has no logs yet."))?;
    }
    for log in logs {
        let bytes = client.bytes(&format!("{path}/artifacts/{}", encode(&log.digest))).await?;
        let of = if log.attempt.is_null() { String::new() } else { format!(", {}", attempt_name(&log.attempt)) };
        if terminal.json {
            terminal.object(&json!({
                "name": log.name, "kind": log.kind, "digest": log.digest, "attempt": log.attempt,
                "text": String::from_utf8_lossy(&bytes),
            }))?;
            continue;
        }
        terminal.line(Style::Bold, &format!("== {} ({}{of})", log.name, log.kind))?;
        if bytes.is_empty() {
            terminal.line(Style::Dim, "(it printed nothing)")?;
            continue;
        }
        terminal.content(&bytes)?;
        if !bytes.ends_with(b"\n") {
            terminal.print("")?;
        }
    }
    Ok(ExitStatus::Success)
}
