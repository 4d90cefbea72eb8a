//! What all attempts cost, summed up by an attribute.

use super::parts::chart;
use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::Person;
use super::{State, look};
use crate::ports::ledger::{Spending, SpendingBy};
use crate::render;
use crate::service::budgets::{self, SpendingQuery};
use crate::service::projects;
use axum::extract::{Query, State as Shared};
use maud::{Markup, html};
use serde::Deserialize;

/// Rows of the table.
const ROWS: u64 = 90;
/// Projects that the filter offers.
const MAX_PROJECTS: usize = 500;
/// Attributes: word in the address, name, column.
const BY: [(&str, SpendingBy, &str); 5] = [
    ("day", SpendingBy::Day, "Day (UTC)"),
    ("project", SpendingBy::Project, "Project"),
    ("model", SpendingBy::Model, "Model"),
    ("role", SpendingBy::Role, "Role"),
    ("run", SpendingBy::Run, "Run"),
];

/// Query of the page.
#[derive(Deserialize)]
pub struct Asked {
    #[serde(default)]
    by: String,
    #[serde(default)]
    project: String,
    #[serde(default)]
    day: String,
}

/// `GET /spending`.
pub async fn spending(Shared(state): Shared<State>, person: Person, Query(asked): Query<Asked>) -> PageResult<Markup> {
    let (word, by, column) = BY.into_iter().find(|(word, ..)| *word == asked.by).unwrap_or(BY[0]);
    let filled = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    let query =
        SpendingQuery { by, project: filled(&asked.project), run: None, day: filled(&asked.day), limit: Some(ROWS) };
    let rows = budgets::spending(&state.services, &person.caller, &query).await?;
    let projects = projects::list(&state.services, &person.caller).await?;
    let total = rows.iter().fold(0_u64, |sum, row| sum.saturating_add(row.cost_micros));
    let links = match by {
        SpendingBy::Run => Some("/runs/"),
        SpendingBy::Project => Some("/projects/"),
        _ => None,
    };
    let content = html! {
        h1 { "Spending" }
        form.filters method="get" action="/spending" {
            label { "By " select name="by" { @for (name, ..) in BY { option value=(name) selected[name == word] { (name) } } } }
            label { "Project " select name="project" {
                option value="" { "all" }
                @for project in projects.iter().take(MAX_PROJECTS) {
                    option value=(project.name) selected[asked.project == project.name.as_str()] { (project.name) }
                }
            } }
            label { "Day " input type="date" name="day" value=(asked.day); }
            button.button type="submit" { "Show" }
        }
        @if rows.is_empty() { (look::empty("Nothing was spent.", html! { "Attempts appear here when they end. Engines without a model cost time only." })) }
        @else {
            p.now { (render::money(total)) " in the rows below." }
            (table(&rows, column, links))
            @if rows.len() as u64 == ROWS { p.quiet { "Only the first " (ROWS) " rows are shown." } }
        }
    };
    Ok(shell::page(&person.visit, Page { title: "Spending", live: None, content }))
}

/// Returns sums as a table with a bar for each amount. `links` is the path that a key is appended to.
pub fn table(rows: &[Spending], column: &str, links: Option<&str>) -> Markup {
    let by_cost = rows.iter().any(|r| r.cost_micros > 0);
    let amount = |row: &Spending| if by_cost { row.cost_micros } else { row.wall_ms };
    let max = rows.iter().map(amount).max().unwrap_or(0);
    html! {
        @if rows.is_empty() { p.quiet { "Nothing yet." } }
        @else { table.list {
            caption.hidden-title { "Sums" }
            thead { tr { th scope="col" { (column) } th scope="col" { span.hidden-title { "Share" } }
                th.num scope="col" { "Cost" } th.num scope="col" { "Reserved" } th.num scope="col" { "Tokens" }
                th.num scope="col" { "Time" } th.num scope="col" { "Attempts" } } }
            tbody { @for row in rows {
                tr {
                    td data-th=(column) { (key(row, links)) }
                    td.share data-th="Share" { (chart::bar(amount(row), max)) }
                    td.num data-th="Cost" { (render::money(row.cost_micros))
                        @if row.unpriced > 0 { div.quiet { (render::count(row.unpriced, "attempt")) " without a price" } } }
                    td.num data-th="Reserved" { @if row.reserved_cost_micros > 0 { (render::money(row.reserved_cost_micros)) } @else { span.quiet { "none" } } }
                    td.num data-th="Tokens" { (look::number(row.tokens)) }
                    td.num data-th="Time" { (render::duration(row.wall_ms)) }
                    td.num data-th="Attempts" { (look::number(row.attempts)) }
                }
            } }
        } }
    }
}

fn key(row: &Spending, links: Option<&str>) -> Markup {
    // A key of the store that is linked is an id or a project's name; anything else is shown only.
    let is_plain = row.key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    html! { @match links.filter(|_| is_plain) {
        Some(path) => a href={ (path) (row.key) } { (look::line(&row.key)) },
        None => (look::line(&row.key)),
    } }
}
