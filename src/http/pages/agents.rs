//! Outside agents, and the ratings of engines and agents.

use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::Person;
use super::{State, look};
use crate::domain::rating::{MIN_GAMES, Rating};
use crate::service::{agents, ratings};
use axum::extract::State as Shared;
use maud::{Markup, html};

/// Rows of each table.
const MAX_ROWS: usize = 200;
/// Outcomes that are linked with each rating.
const MAX_EVIDENCE: usize = 5;

/// `GET /agents`.
pub async fn list(Shared(state): Shared<State>, person: Person) -> PageResult<Markup> {
    let now = state.services.clock.now();
    let agents = agents::list(&state.services, &person.caller).await?;
    let ratings = ratings::list(&state.services, &person.caller, None).await?;
    let content = html! {
        h1 { "Agents" }
        section aria-labelledby="ratings" { h2 id="ratings" { "Ratings" }
            @if ratings.is_empty() {
                (look::empty("No ratings yet.", html! { "They come from the verified outcomes of ended runs." }))
            } @else {
                p.quiet { "Glicko-2 over verified outcomes. The true rating is within the given range with a confidence of "
                    "95 %. Fewer than " (MIN_GAMES) " outcomes say too little." }
                (table(&ratings))
            }
        }
        section aria-labelledby="outside" { h2 id="outside" { "Outside agents" }
            @if agents.is_empty() {
                (look::empty("No outside agents.", html! { code { "skep agents invite NAME" } " invites one." }))
            } @else { table.list {
                caption.hidden-title { "Outside agents" }
                thead { tr { th scope="col" { "Agent" } th scope="col" { "Owner" } th scope="col" { "State" }
                    th scope="col" { "About" } th.num scope="col" { "Lapsed claims" } } }
                tbody { @for agent in agents.iter().take(MAX_ROWS) { tr {
                    td data-th="Agent" { (agent.name) }
                    td data-th="Owner" { (look::line(agent.owner.as_str())) }
                    td data-th="State" { (agent.state(now)) }
                    td data-th="About" { (look::line(&agent.about)) }
                    td.num data-th="Lapsed claims" { (agent.lapses) }
                } } }
            } }
            @if agents.len() > MAX_ROWS { p.quiet { "Only the first " (MAX_ROWS) " are shown." } }
        }
    };
    Ok(shell::page(&person.visit, Page { title: "Agents", live: None, content }))
}

fn table(ratings: &[Rating]) -> Markup {
    html! {
        table.list {
            caption.hidden-title { "Ratings" }
            thead { tr { th scope="col" { "Engine or agent" } th scope="col" { "Role" } th.num scope="col" { "Rating" }
                th.num scope="col" { "Won" } th.num scope="col" { "Drawn" } th.num scope="col" { "Lost" }
                th scope="col" { "Last outcomes" } } }
            tbody { @for rating in ratings.iter().take(MAX_ROWS) { tr {
                td data-th="Engine or agent" { (look::line(&rating.player)) }
                td data-th="Role" { (rating.role.name()) }
                td.num data-th="Rating" {
                    @if rating.is_established() { (format!("{:.0} ± {:.0}", rating.rating, 2.0 * rating.deviation)) }
                    @else { span.quiet { "too few outcomes" } }
                }
                td.num data-th="Won" { (rating.won) }
                td.num data-th="Drawn" { (rating.drawn) }
                td.num data-th="Lost" { (rating.lost) }
                td data-th="Last outcomes" { @for game in rating.evidence.iter().take(MAX_EVIDENCE) {
                    a href={ "/runs/" (game.run) } { (game.run.abbrev()) " " (game.word.name().replace('_', " ")) } " "
                } }
            } } }
        }
        @if ratings.len() > MAX_ROWS { p.quiet { "Only the first " (MAX_ROWS) " are shown." } }
    }
}
