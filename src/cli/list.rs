//! Lists about runs: `runs`, `events`, `logs`.

use super::args::RunsArgs;
use super::client::{Client, encode, with_query};
use super::exit::{ExitStatus, Stop};
use super::follow::attempt_name;
use super::run_log;
use super::terminal::{Style, Terminal};
use super::text::{brief, moment, table, time_of_day};
use crate::http::rest::wire::{Event, Run, RunSummary};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;

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
pub async fn runs(client: &Client, terminal: &Terminal, args: RunsArgs) -> Result<ExitStatus, Stop> {
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
    terminal.object(&json!({ "runs": runs }))?;
    if runs.is_empty() {
        terminal.suggest(
            "No runs found. Start one with `skep run --repo PATH --goal TEXT`, or watch one with `skep demo`.",
        )?;
        return Ok(ExitStatus::Success);
    }
    let full = u64::try_from(runs.len()).unwrap_or(u64::MAX) >= args.limit;
    let oldest = runs.last().map(|r| r.short_id().to_owned());
    let rows = runs.into_iter().map(|r| {
        let short = r.short_id().to_owned();
        let timer = match (r.wake_at, &r.waiting_for) {
            (Some(at), Some(why)) => format!("until {}: {}", time_of_day(at), brief(why, 80)),
            _ => String::new(),
        };
        let waiting_for = match (r.quarantined, r.blocks.is_empty()) {
            (Some(why), _) => why,
            (None, true) => timer,
            (None, false) => r.blocks.join(", "),
        };
        vec![short, r.status, r.project, moment(r.opened_at), waiting_for, r.title]
    });
    let header = ["run", "status", "project", "started", "waiting for", "goal"];
    terminal.print(&table(&header, rows.collect(), terminal.width))?;
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
    let mut seen = after;
    loop {
        let query = [("after", Some(seen.to_string())), ("limit", Some(PAGE_SIZE.to_string()))];
        let page: Vec<Event> = client.get(&with_query(&format!("{path}/events"), &query)).await?;
        let Some(last) = page.last().map(|row| row.seq).filter(|last| *last > seen) else { break };
        for row in &page {
            show(terminal, row)?;
        }
        seen = last;
    }
    if !follow {
        return Ok(ExitStatus::Success);
    }
    let mut events = client.stream(&format!("{path}/stream"), seen).await?;
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    loop {
        let next = tokio::select! {
            next = events.next() => next,
            _ = &mut interrupt => None,
        };
        let Some(event) = next else { break };
        let event = event?;
        match event.event.as_str() {
            "end" => break,
            "output" => {
                if let Ok(output) = serde_json::from_str::<serde_json::Value>(&event.data) {
                    let text = output["text"].as_str().unwrap_or_default();
                    terminal.line(Style::Dim, &format!("     {} | {text}", attempt_name(&output["attempt"])))?;
                }
            }
            _ => {
                if let Ok(row) = serde_json::from_str::<Event>(&event.data)
                    && row.seq > seen
                {
                    seen = row.seq;
                    show(terminal, &row)?;
                }
            }
        }
    }
    Ok(ExitStatus::Success)
}

fn show(terminal: &Terminal, row: &Event) -> Result<(), Stop> {
    terminal.object(row)?;
    // Internal steps appear only with --json.
    let Some(line) = run_log::line(row) else { return Ok(()) };
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
        terminal.content(&bytes)?;
        if !bytes.ends_with(b"\n") {
            terminal.print("")?;
        }
    }
    Ok(ExitStatus::Success)
}
