//! Schedules: `schedule …`.

use super::args::ScheduleCommand;
use super::client::{Client, encode};
use super::exit::{ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::{brief, moment, table};
use crate::http::rest::wire::{Run, Schedule};
use serde_json::json;

/// Longest goal in the table.
const MAX_GOAL_CHARS: usize = 60;

/// `skep schedule …`.
pub async fn schedule(client: &Client, terminal: &Terminal, command: ScheduleCommand) -> Result<ExitStatus, Stop> {
    match command {
        ScheduleCommand::List => {
            let schedules: Vec<Schedule> = client.get("/schedules").await?;
            terminal.object(&json!({ "schedules": schedules }))?;
            if schedules.is_empty() {
                terminal
                    .suggest("There are no schedules. Add a table such as [schedules.weekly] to the configuration.")?;
                return Ok(ExitStatus::Success);
            }
            let none = || "-".to_owned();
            let rows = schedules.iter().map(|s| {
                let last = match (&s.last_run, s.last_at) {
                    (Some(run), Some(at)) if s.last_error.is_none() => format!("{} {}", short_id(run), moment(at)),
                    (None, Some(at)) if s.last_error.is_none() => moment(at),
                    (_, Some(at)) => format!("failed {}", moment(at)),
                    _ => none(),
                };
                vec![
                    s.name.clone(),
                    format!("{} {}", s.cron, s.timezone),
                    s.next_at.map_or_else(none, moment),
                    last,
                    s.project.clone().unwrap_or_else(|| "all".to_owned()),
                    brief(&s.goal, MAX_GOAL_CHARS),
                ]
            });
            let columns = ["schedule", "times", "next", "last", "project", "goal"];
            terminal.print(&table(&columns, rows.collect(), terminal.width))?;
            for (s, error) in schedules.iter().filter_map(|s| Some((s, s.last_error.as_ref()?))) {
                let what = if s.work == "run" { "the last run could not be started" } else { "the last pass failed" };
                terminal.line(Style::Yellow, &format!("{}: {what}: {error}", s.name))?;
            }
        }
        ScheduleCommand::Run { name } => {
            let run: Run = client.post(&format!("/schedules/{}/run", encode(&name)), &json!({}), None).await?;
            terminal.object(&json!({ "run": run }))?;
            terminal.print(&format!("run {}: {}", run.short_id, brief(&run.goal.title, MAX_GOAL_CHARS)))?;
            terminal.suggest(&format!("Follow it with `skep watch {}`.", run.short_id))?;
        }
    }
    Ok(ExitStatus::Success)
}

/// Returns the short form of a run's id.
fn short_id(run: &str) -> &str {
    run.get(run.len().saturating_sub(8)..).unwrap_or(run)
}
