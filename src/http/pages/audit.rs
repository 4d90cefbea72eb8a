//! Who changed what.

use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::Person;
use super::{State, look};
use crate::service::audit;
use axum::extract::{Query, State as Shared};
use maud::{Markup, html};
use serde::Deserialize;

/// Rows of a page.
const ROWS: u64 = 50;

/// Query of the page.
#[derive(Deserialize)]
pub struct AuditQuery {
    before: Option<u64>,
}

/// `GET /audit`.
pub async fn audit(
    Shared(state): Shared<State>,
    person: Person,
    Query(query): Query<AuditQuery>,
) -> PageResult<Markup> {
    let rows = audit::list(&state.services, &person.caller, query.before, Some(ROWS)).await?;
    let content = html! {
        h1 { "Audit log" }
        @if rows.is_empty() { (look::empty("No entry.", html! { "Everything that people change through Skep is recorded here." })) }
        @else { table.list {
            caption.hidden-title { "Entries, newest first" }
            thead { tr { th scope="col" { "When" } th scope="col" { "Who" } th scope="col" { "Through" }
                th scope="col" { "Did" } th scope="col" { "To" } th scope="col" { "Detail" } } }
            tbody { @for row in &rows {
                tr data-row {
                    td data-th="When" { (look::ago(row.entry.at, person.visit.at())) }
                    td data-th="Who" { (look::line(row.entry.principal.as_str())) }
                    td data-th="Through" { (look::line(&row.entry.via)) }
                    td data-th="Did" { code { (look::line(&row.entry.action)) } }
                    td data-th="To" { (subject(&row.entry.subject)) }
                    td.wide data-th="Detail" { (look::line(&row.entry.detail)) }
                }
            } }
        } }
        (look::pager("Pages", &html! {
            @if query.before.is_some() { a.button href="/audit" { "Newest" } }
            @if let Some(last) = rows.last().filter(|_| rows.len() as u64 == ROWS) { a.button rel="next" href={ "/audit?before=" (last.id) } { "Older" } }
        }))
    };
    Ok(shell::page(&person.visit, Page { title: "Audit log", live: None, content }))
}

/// Returns a subject, as a link where it has a page.
fn subject(subject: &str) -> Markup {
    let is_plain = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    html! { @match subject.split_once(':') {
        Some(("run", id)) if is_plain(id) => a href={ "/runs/" (id) } { "run " (id.get(id.len().saturating_sub(8)..).unwrap_or(id)) },
        Some(("project", name)) if is_plain(name) => a href={ "/projects/" (name) } { "project " (name) },
        _ => (look::line(subject)),
    } }
}
