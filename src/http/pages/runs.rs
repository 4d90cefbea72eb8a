//! The list of runs, with filters in its address.

use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::{Person, Visit};
use super::{State, look};
use crate::http::rest::wire::STATUS_WORDS;
use crate::ports::run_index::RunRow;
use crate::service::runs::RunQuery;
use crate::service::{projects, runs};
use axum::extract::{Query, State as Shared};
use maud::{Markup, html};
use serde::Deserialize;

/// Rows of a page.
const ROWS: u64 = 50;
/// Projects that the filter offers.
const MAX_PROJECTS: usize = 500;

/// Query of the list.
#[derive(Deserialize)]
pub struct ListQuery {
    #[serde(default)]
    project: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    open: String,
    #[serde(default)]
    before: String,
}

/// `GET /runs`.
pub async fn list(Shared(state): Shared<State>, person: Person, Query(query): Query<ListQuery>) -> PageResult<Markup> {
    let filled = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    let asked = RunQuery {
        project: filled(&query.project),
        status: filled(&query.status),
        open: !query.open.is_empty(),
        limit: Some(ROWS),
        before: filled(&query.before),
    };
    let page = runs::list(&state.services, &person.caller, &asked).await?;
    let projects = projects::list(&state.services, &person.caller).await?;
    let is_filtered = asked.project.is_some() || asked.status.is_some() || asked.open || asked.before.is_some();
    let content = html! {
        h1 { "Runs" }
        form.filters method="get" action="/runs" {
            label { "Project " select name="project" {
                option value="" { "all" }
                @for project in projects.iter().take(MAX_PROJECTS) {
                    option value=(project.name) selected[query.project == project.name.as_str()] { (project.name) }
                }
            } }
            label { "Status " select name="status" {
                option value="" { "all" }
                @for status in STATUS_WORDS { option value=(status) selected[query.status == status] { (status) } }
            } }
            label.check { input type="checkbox" name="open" value="1" checked[asked.open]; " only open" }
            button.button type="submit" { "Filter" }
            @if is_filtered { a href="/runs" { "Show all" } }
        }
        @if page.rows.is_empty() {
            (look::empty("No run matches.", html! {
                @if is_filtered { a href="/runs" { "Show all runs" } } @else { a href="/runs/new" { "Start the first run" } }
            }))
        } @else {
            (table(&person.visit, &page.rows, true))
        }
        (look::pager("Pages", &html! {
            @if asked.before.is_some() { a.button href=(address(&query, None)) { "Newest" } }
            @if let Some(last) = page.next_before { a.button rel="next" href=(address(&query, Some(&last.to_string()))) { "Older" } }
        }))
    };
    Ok(shell::page(&person.visit, Page { title: "Runs", live: Some("any".to_owned()), content }))
}

fn address(query: &ListQuery, before: Option<&str>) -> String {
    let pairs = [("project", query.project.as_str()), ("status", query.status.as_str()), ("open", query.open.as_str())];
    let pairs = pairs.into_iter().chain(before.map(|b| ("before", b))).filter(|(_, value)| !value.is_empty());
    let query: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", look::in_query(value))).collect();
    format!("/runs?{}", query.join("&"))
}

/// Returns a table of runs, with their projects unless the page is about one.
pub fn table(visit: &Visit, rows: &[RunRow], has_projects: bool) -> Markup {
    html! {
        table.list.runs {
            caption.hidden-title { "Runs, newest first" }
            thead { tr { th scope="col" { "Status" } th scope="col" { "Goal" } @if has_projects { th scope="col" { "Project" } }
                th scope="col" { "Now" } th scope="col" { "Started" } th scope="col" { "Updated" } } }
            tbody { @for row in rows {
                tr data-row {
                    td data-th="Status" { (look::status(&row.status)) }
                    td.wide data-th="Goal" { a.title href={ "/runs/" (row.run) } { (look::line(&row.title)) } " " code.quiet { (row.run.abbrev()) } }
                    @if has_projects { td data-th="Project" { a href={ "/projects/" (row.project) } { (row.project) } } }
                    td.state data-th="Now" { (waits(visit, row)) }
                    td data-th="Started" { (look::ago(row.opened_at, visit.at())) }
                    td data-th="Updated" { (look::ago(row.updated_at, visit.at())) }
                }
            } }
        }
    }
}

fn waits(visit: &Visit, row: &RunRow) -> Markup {
    html! {
        @if let Some(why) = &row.quarantined { (look::line(why)) }
        @else if !row.blocks.is_empty() { "needs " (look::needs(&row.blocks)) }
        @else if let Some(what) = &row.waits { "waits for " (look::line(what)) @if let Some(until) = row.wake_at { ", " (look::ago(until, visit.at())) } }
        @else if row.phase != "ended" { span.quiet { (row.phase) } }
    }
}
