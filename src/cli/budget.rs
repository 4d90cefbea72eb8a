//! Spending and its limits: `budget show`, `budget raise`.

use super::actions::{Action, act};
use super::args::{RaiseArgs, RunRef};
use super::client::{Client, encode};
use super::context::{Access, CliContext};
use super::exit::{ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::{duration, money, table};
use crate::http::rest::wire::{BudgetScope, Raise, RaiseShared, Raised, Spending};
use serde_json::json;

/// `skep budget show`.
pub async fn show(
    client: &Client,
    terminal: &Terminal,
    by: &str,
    filters: &[(&str, Option<String>)],
) -> Result<ExitStatus, Stop> {
    let mut path = format!("/spending?by={by}&limit=500");
    for (name, value) in filters {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encode(value)));
        }
    }
    let rows: Vec<Spending> = client.get(&path).await?;
    terminal.object(&json!({ "by": by, "spending": rows }))?;
    if rows.is_empty() {
        terminal.print("Nothing was spent.")?;
        return Ok(ExitStatus::Success);
    }
    let unpriced = rows.iter().map(|r| r.unpriced).sum::<u64>();
    let cells = rows.into_iter().map(|r| {
        let cost = match r.unpriced {
            0 => money(r.cost_micros),
            n => format!("{} ({n} of unknown price)", money(r.cost_micros)),
        };
        let reserved = match (r.reserved_tokens, r.reserved_cost_micros) {
            (0, 0) => String::new(),
            (tokens, micros) => format!("{tokens} tokens, {}", money(micros)),
        };
        let (attempts, rounds) = (r.attempts.to_string(), r.rounds.to_string());
        vec![r.key, cost, r.tokens.to_string(), duration(r.wall_ms), r.turns.to_string(), rounds, attempts, reserved]
    });
    let header = [by, "cost", "tokens", "time", "turns", "rounds", "attempts", "reserved"];
    terminal.print(&table(&header, cells.collect(), terminal.width))?;
    if unpriced > 0 {
        terminal.suggest(
            "Models without a price were charged their full reservation. Add prices to the file named by prices.file; \
             `skep doctor` lists the models without one.",
        )?;
    }
    Ok(ExitStatus::Success)
}

/// `skep budget raise`.
pub async fn raise(cli: &CliContext<'_>, args: RaiseArgs) -> Result<ExitStatus, Stop> {
    let (tokens, cost_micros) = (args.tokens.unwrap_or(0), args.cost.unwrap_or(0));
    if let Some(run) = args.run {
        let more = Raise { tokens, cost_micros, ..Raise::default() };
        return act(cli, RunRef { run: Some(run), follow: false }, Action::Raise(more)).await;
    }
    let scope = if args.project.is_some() { BudgetScope::Project } else { BudgetScope::Day };
    let connection = cli.connect(Access::Write).await?;
    let request = RaiseShared { scope, project: args.project, tokens, cost_micros };
    let end = raise_shared(&connection.client, cli.terminal, &request).await;
    connection.close().await;
    end
}

async fn raise_shared(client: &Client, terminal: &Terminal, request: &RaiseShared) -> Result<ExitStatus, Stop> {
    let raised: Raised = client.post("/budget/raise", request, None).await?;
    terminal.object(&raised)?;
    let whose = match &request.project {
        Some(project) => format!("of project {project}"),
        None => "of today".to_owned(),
    };
    let mut amounts = Vec::new();
    if request.cost_micros > 0 {
        amounts.push(money(request.cost_micros));
    }
    if request.tokens > 0 {
        amounts.push(format!("{} tokens", request.tokens));
    }
    terminal.line(Style::Bold, &format!("budget {whose} raised by {}", amounts.join(" and ")))?;
    for run in &raised.resumed {
        let short = run.get(run.len().saturating_sub(8)..).unwrap_or(run);
        match client.is_remote() {
            true => terminal.line(Style::Plain, &format!("  run {short} continues"))?,
            false => {
                terminal.suggest(&format!("Run {short} was waiting for it. Resume it with `skep resume {short}`."))?
            }
        }
    }
    Ok(ExitStatus::Success)
}
