//! What runs cost, and more of what they may cost: `budget show`, `budget raise`.

use super::answer::{Word, answer};
use super::args::{RaiseArgs, To};
use super::client::{Client, encode};
use super::context::{Access, Backend, CliContext, reach};
use super::exit::{Exit, Stop};
use super::render::{span, table};
use super::screen::{Screen, Style};
use crate::config::units::money_text;
use crate::domain::{BudgetScope, Raise};
use crate::http::view::{RaiseShared, Raised};
use crate::ports::store::Spending;
use serde_json::json;

/// `skep budget show`.
pub async fn show(client: &Client, screen: &Screen, by: &str, only: &[(&str, Option<String>)]) -> Result<Exit, Stop> {
    let mut path = format!("/spending?by={by}&limit=500");
    for (name, value) in only {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encode(value)));
        }
    }
    let rows: Vec<Spending> = client.get(&path).await?;
    screen.object(&json!({ "by": by, "spending": rows }))?;
    if rows.is_empty() {
        screen.say("Nothing was spent.")?;
        return Ok(Exit::Done);
    }
    let unknown = rows.iter().map(|r| r.unpriced).sum::<u64>();
    let cells = rows.into_iter().map(|r| {
        let cost = match r.unpriced {
            0 => money_text(r.cost_micros),
            n => format!("{} ({n} of unknown price)", money_text(r.cost_micros)),
        };
        let aside = match (r.reserved_tokens, r.reserved_cost_micros) {
            (0, 0) => String::new(),
            (tokens, micros) => format!("{tokens} tokens, {}", money_text(micros)),
        };
        let (attempts, rounds) = (r.attempts.to_string(), r.rounds.to_string());
        vec![r.key, cost, r.tokens.to_string(), span(r.wall_ms), r.turns.to_string(), rounds, attempts, aside]
    });
    let names = [by, "cost", "tokens", "time", "turns", "rounds", "attempts", "set aside"];
    screen.say(&table(&names, cells.collect(), screen.width))?;
    if unknown > 0 {
        screen
            .advise("Where a price is not known, what was set aside was charged. Put the prices that are not known into the file prices.file names: `skep doctor` tells which.")?;
    }
    Ok(Exit::Done)
}

/// `skep budget raise`.
pub async fn raise(doors: &dyn Backend, context: &CliContext, screen: &Screen, args: RaiseArgs) -> Result<Exit, Stop> {
    let (tokens, cost_micros) = (args.tokens.unwrap_or(0), args.cost.unwrap_or(0));
    if let Some(run) = args.run {
        let more = Raise { tokens, cost_micros, ..Raise::default() };
        return answer(doors, context, screen, To { run, follow: false }, Word::Raise(more)).await;
    }
    let scope = if args.project.is_some() { BudgetScope::Project } else { BudgetScope::Day };
    let reached = reach(doors, context, Access::Write).await?;
    let asked = RaiseShared { scope, project: args.project, tokens, cost_micros };
    let end = tell(&reached.client, screen, &asked).await;
    reached.close().await;
    end
}

async fn tell(client: &Client, screen: &Screen, asked: &RaiseShared) -> Result<Exit, Stop> {
    let raised: Raised = client.post("/budget/raise", asked, None).await?;
    screen.object(&raised)?;
    let whose = match &asked.project {
        Some(project) => format!("the project {project}"),
        None => "this day".to_owned(),
    };
    let mut more = Vec::new();
    if asked.cost_micros > 0 {
        more.push(money_text(asked.cost_micros));
    }
    if asked.tokens > 0 {
        more.push(format!("{} tokens", asked.tokens));
    }
    screen.line(Style::Bold, &format!("{whose} may use {} more", more.join(" and ")))?;
    for run in &raised.resumed {
        let short = run.get(run.len().saturating_sub(8)..).unwrap_or(run);
        match client.is_remote() {
            true => screen.line(Style::Plain, &format!("  {short} goes on"))?,
            false => screen.advise(&format!("{short} waited for it: `skep resume {short}` carries it on."))?,
        }
    }
    Ok(Exit::Done)
}
