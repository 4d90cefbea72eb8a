//! What can be read of runs as lists: `runs`, `events`, `logs`.

use super::args::RunsArgs;
use super::client::{Client, encode, with_query};
use super::exit::{ExitStatus, Stop};
use super::follow::attempt_name;
use super::run_log::words;
use super::terminal::{Style, Terminal};
use super::text::{brief, moment, table, time_of_day};
use crate::http::rest::wire::{Event, Run, RunSummary};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;

/// How many journal rows are asked for at once.
const PAGE: u64 = 500;

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
    let found: Vec<RunSummary> = client.get(&path).await?;
    terminal.object(&json!({ "runs": found }))?;
    if found.is_empty() {
        terminal
            .suggest("There are no such runs. `skep run --repo PATH --goal TEXT` starts one, `skep demo` shows one.")?;
        return Ok(ExitStatus::Success);
    }
    let full = u64::try_from(found.len()).unwrap_or(u64::MAX) >= args.limit;
    let oldest = found.last().map(|r| r.short_id().to_owned());
    let rows = found.into_iter().map(|r| {
        let short = r.short_id().to_owned();
        let by_itself = match (r.wake_at, &r.waiting_for) {
            (Some(at), Some(why)) => format!("until {}, for {}", time_of_day(at), brief(why, 80)),
            _ => String::new(),
        };
        let waits = match (r.quarantined, r.blocks.is_empty()) {
            (Some(why), _) => why,
            (None, true) => by_itself,
            (None, false) => r.blocks.join(", "),
        };
        vec![short, r.status, r.project, moment(r.opened_at), waits, r.title]
    });
    let header = ["run", "status", "project", "opened", "waits for", "goal"];
    terminal.print(&table(&header, rows.collect(), terminal.width))?;
    if let Some(oldest) = oldest.filter(|_| full) {
        terminal
            .line(Style::Dim, &terminal.with_options(&format!("There may be more: `skep runs --before {oldest}`")))?;
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
        let query = [("after", Some(seen.to_string())), ("limit", Some(PAGE.to_string()))];
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
    let left = tokio::signal::ctrl_c();
    tokio::pin!(left);
    loop {
        let next = tokio::select! {
            next = events.next() => next,
            _ = &mut left => None,
        };
        let Some(event) = next else { break };
        let event = event?;
        match event.event.as_str() {
            "end" => break,
            "said" => {
                if let Ok(said) = serde_json::from_str::<serde_json::Value>(&event.data) {
                    let text = said["text"].as_str().unwrap_or_default();
                    terminal.line(Style::Dim, &format!("     {} | {text}", attempt_name(&said["attempt"])))?;
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
    // What has nothing to tell a person is in --json only.
    let Some(line) = words(row) else { return Ok(()) };
    terminal.line(Style::Plain, &format!("{:>4}  {}  {:<16}  {line}", row.seq, moment(row.at), row.name))
}

/// `skep logs`.
pub async fn logs(client: &Client, terminal: &Terminal, run: &str, attempt: Option<u32>) -> Result<ExitStatus, Stop> {
    let path = format!("/runs/{}", encode(run));
    let mut found: Vec<Log> = client.get(&format!("{path}/logs")).await?;
    if let Some(wanted) = attempt {
        found.retain(|log| attempt_name(&log.attempt) == format!("a{wanted}"));
    }
    if found.is_empty() {
        let view: Run = client.get(&path).await?;
        let of = attempt.map_or_else(String::new, |a| format!(" of a{a}"));
        terminal.print(&format!("Run {} has no logs{of} yet.", view.short_id))?;
    }
    for log in found {
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
