//! Outside agents: `agents …`.

use super::args::AgentsCommand;
use super::client::{Client, encode};
use super::exit::{ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::{moment, table};
use crate::http::rest::wire::{Agent, Invitation, NewAgent, Rating};
use crate::secrets::{Secret, register};
use serde_json::json;

/// Outcomes that are shown with each rating.
const SHOWN_OUTCOMES: usize = 3;

/// `skep agents …`.
pub async fn agents(client: &Client, terminal: &Terminal, command: AgentsCommand) -> Result<ExitStatus, Stop> {
    match command {
        AgentsCommand::Invite { name, owner, hours } => {
            let invited: Invitation = client.post("/agents", &NewAgent { name, owner, hours }, None).await?;
            // Nothing but the line below may print it.
            register("invite code", &Secret::new(invited.code.clone())).keep();
            terminal.object(&invited)?;
            terminal.print(&invited.code)?;
            let agent = &invited.agent;
            terminal.suggest(&format!(
                "Give this code to the agent {}, which belongs to {}: `skep work join` redeems it once, until {}. It is \
                 not shown again.",
                agent.name,
                agent.owner,
                moment(agent.invite_ends_at)
            ))?;
        }
        AgentsCommand::List => {
            let agents: Vec<Agent> = client.get("/agents").await?;
            let ratings: Vec<Rating> = client.get("/ratings").await?;
            terminal.object(&json!({ "agents": agents }))?;
            if agents.is_empty() {
                terminal.suggest("No agents yet. Invite one with `skep agents invite NAME`.")?;
                return Ok(ExitStatus::Success);
            }
            let rows = agents.into_iter().map(|agent| {
                let player = format!("agent:{}", agent.name);
                let rated = ratings.iter().filter(|rating| rating.player == player);
                let rated: Vec<String> = rated.map(|r| format!("{} {}", r.role.name(), numbers(r))).collect();
                let rated = if rated.is_empty() { "none".to_owned() } else { rated.join(", ") };
                let seen = agent.seen_at.map_or_else(|| "never".to_owned(), moment);
                vec![agent.name, agent.owner, agent.state, seen, agent.lapses.to_string(), rated]
            });
            let head = ["agent", "owner", "state", "seen", "lapses", "ratings"];
            terminal.print(&table(&head, rows.collect(), terminal.width))?;
        }
        AgentsCommand::Ratings { project } => {
            let query = project.map(|name| format!("?project={}", encode(&name))).unwrap_or_default();
            let ratings: Vec<Rating> = client.get(&format!("/ratings{query}")).await?;
            terminal.object(&json!({ "ratings": ratings }))?;
            if ratings.is_empty() {
                terminal.suggest("No ratings yet: they come from the verified outcomes of ended runs.")?;
                return Ok(ExitStatus::Success);
            }
            let rows = ratings.into_iter().map(|rating| {
                let last = rating.evidence.iter().take(SHOWN_OUTCOMES);
                let short = |run: &str| run.get(run.len().saturating_sub(8)..).unwrap_or(run).to_owned();
                let last: Vec<String> =
                    last.map(|o| format!("{} {} {}", short(&o.run), o.attempt, o.outcome)).collect();
                let numbers = numbers(&rating);
                vec![rating.player, rating.role.name().to_owned(), numbers, last.join(", ")]
            });
            let head = ["engine or agent", "role", "rating", "last outcomes"];
            terminal.print(&table(&head, rows.collect(), terminal.width))?;
        }
        AgentsCommand::Revoke { name } => {
            let agent: Agent = client.post(&format!("/agents/{}/revoke", encode(&name)), &json!({}), None).await?;
            terminal.object(&agent)?;
            terminal.line(Style::Green, &format!("agent {} is revoked, and its token no longer works", agent.name))?;
        }
    }
    Ok(ExitStatus::Success)
}

/// Returns whether a command only reads.
pub fn only_reads(command: &AgentsCommand) -> bool {
    matches!(command, AgentsCommand::List | AgentsCommand::Ratings { .. })
}

/// Returns a rating with its uncertainty, `1612 ± 140 (n 23)`.
fn numbers(rating: &Rating) -> String {
    let games = rating.won + rating.drawn + rating.lost;
    match rating.established {
        true => format!("{:.0} ± {:.0} (n {games})", rating.rating, 2.0 * rating.deviation),
        false => format!("too few outcomes (n {games})"),
    }
}
