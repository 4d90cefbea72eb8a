//! Verified outcomes: `outcomes …`.

use super::args::OutcomesCommand;
use super::client::{Client, encode};
use super::exit::{ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::{count, moment, money, table};
use crate::http::rest::wire::{RebuiltOutcomes, VerifiedOutcome};
use serde_json::json;

/// `skep outcomes …`.
pub async fn outcomes(client: &Client, terminal: &Terminal, command: OutcomesCommand) -> Result<ExitStatus, Stop> {
    match command {
        OutcomesCommand::List { run, project, word, limit } => {
            let mut path = format!("/outcomes?limit={limit}");
            for (name, value) in [("run", run), ("project", project), ("word", word)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", encode(&value)));
                }
            }
            let rows: Vec<VerifiedOutcome> = client.get(&path).await?;
            terminal.object(&json!({ "outcomes": rows }))?;
            if rows.is_empty() {
                terminal.suggest(
                    "No outcomes. They are recorded when a run ends; `skep outcomes rebuild` derives those of older runs.",
                )?;
                return Ok(ExitStatus::Success);
            }
            let cells = rows.into_iter().map(|row| {
                let run = row.run.chars().skip(row.run.len().saturating_sub(8)).collect();
                let attempt = row.attempt.unwrap_or_else(|| "the run".to_owned());
                let (step, engine) = (row.step.unwrap_or_default(), row.engine.unwrap_or_default());
                let cost = money(row.usage.cost_micros);
                vec![run, row.project, attempt, step, row.word, engine, cost, row.evidence, moment(row.at)]
            });
            let head = ["run", "project", "attempt", "step", "outcome", "engine", "cost", "evidence", "at"];
            terminal.print(&table(&head, cells.collect(), terminal.width))?;
        }
        OutcomesCommand::Rebuild => {
            let rebuilt: RebuiltOutcomes = client.post("/outcomes/rebuild", &json!({}), None).await?;
            terminal.object(&rebuilt)?;
            let derived = format!("{} of {} derived", count(rebuilt.rows, "outcome"), count(rebuilt.runs, "run"));
            terminal.line(Style::Green, &derived)?;
            for failure in &rebuilt.failures {
                terminal.line(Style::Red, failure)?;
            }
            if rebuilt.failed > 0 {
                let failed = count(rebuilt.failed, "run");
                terminal.suggest(&format!(
                    "The journals of {failed} cannot be replayed; `skep verify` shows what is wrong."
                ))?;
            }
        }
    }
    Ok(ExitStatus::Success)
}

/// Returns whether a command only reads.
pub fn only_reads(command: &OutcomesCommand) -> bool {
    matches!(command, OutcomesCommand::List { .. })
}
