//! The journal of a run in words, newest first.

use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::{Person, Visit};
use super::{State, look, run};
use crate::domain::Run;
use crate::ports::journal::JournalRow;
use crate::render::JournalEntry;
use crate::service::runs;
use axum::extract::{Path, Query, State as Shared};
use maud::{Markup, html};
use serde::Deserialize;

/// Rows of a page.
pub const PAGE_ROWS: u64 = 200;

/// Events that people act on; the others are steps on the way.
const IMPORTANT: [&str; 17] = [
    "opened",
    "admitted",
    "reported",
    "checked",
    "integrated",
    "rebased",
    "conflict",
    "push_held",
    "change_opened",
    "budget_exhausted",
    "landed",
    "stale",
    "failed",
    "answered",
    "raised",
    "cancel_requested",
    "orphaned",
];

/// Which events to show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Those that people act on.
    Important,
    /// All with words for people.
    Normal,
    /// All, with their rows.
    All,
}

/// Query of the page.
#[derive(Deserialize)]
pub struct EventsQuery {
    #[serde(default)]
    show: String,
    before: Option<u64>,
}

/// `GET /runs/{id}/events`.
pub async fn events(
    Shared(state): Shared<State>,
    person: Person,
    Path(id): Path<String>,
    Query(query): Query<EventsQuery>,
) -> PageResult<Markup> {
    let run = runs::show(&state.services, &person.caller, &id).await?;
    let show = match query.show.as_str() {
        "important" => Show::Important,
        "all" => Show::All,
        _ => Show::Normal,
    };
    let end = query.before.unwrap_or(u64::MAX).min(run.seq.saturating_add(1)).max(1);
    let after = end.saturating_sub(PAGE_ROWS + 1);
    let limit = (end - 1 - after).max(1);
    let rows = runs::events(&state.services, &person.caller, &id, after, Some(limit)).await?;
    let rows: Vec<JournalRow> = rows.into_iter().filter(|row| row.seq < end).collect();
    let link = |word: &str, is: bool| {
        html! {
            a.button href={ "/runs/" (run.id) "/events?show=" (word) } aria-current=[is.then_some("true")] { (look::sentence(word)) }
        }
    };
    let content = html! {
        (run::head(&person.visit, &run, "/events"))
        p.switch role="group" aria-label="Which events" {
            (link("important", show == Show::Important)) (link("normal", show == Show::Normal)) (link("all", show == Show::All))
        }
        (list(&person.visit, &run, &rows, show, usize::MAX))
        (look::pager("Pages", &html! {
            @if end <= run.seq { a.button href={ "/runs/" (run.id) "/events?show=" (query_word(show)) } { "Newest" } }
            @if after > 0 { a.button rel="next" href={ "/runs/" (run.id) "/events?show=" (query_word(show)) "&before=" (after + 1) } { "Older" } }
        }))
    };
    let title = format!("Events · {}", run.goal.title());
    Ok(shell::page(&person.visit, Page { title: &title, live: Some(run::live(&run.id)), content }))
}

fn query_word(show: Show) -> &'static str {
    match show {
        Show::Important => "important",
        Show::Normal => "normal",
        Show::All => "all",
    }
}

/// Returns rows of the journal, newest first, at most `max`.
pub fn list(visit: &Visit, run: &Run, rows: &[JournalRow], show: Show, max: usize) -> Markup {
    let is_shown = |row: &&JournalRow| show != Show::Important || IMPORTANT.contains(&row.name.as_str());
    let lines: Vec<(&JournalRow, String)> =
        rows.iter().rev().filter(is_shown).filter_map(|row| Some((row, words(run, row, show)?))).take(max).collect();
    html! {
        @if lines.is_empty() { p.quiet { "Nothing here yet." } }
        ol.events reversed {
            @for (row, text) in &lines {
                li id={ "e" (row.seq) } value=(row.seq) {
                    span.at { (look::ago(row.at, visit.at())) } " " (look::prose(text))
                    @if show == Show::All { @if let Some(event) = &row.event { details { summary { (look::line(&row.name)) ", as JSON" }
                        (look::fenced(&bounded(event))) } } }
                }
            }
        }
    }
}

/// Returns a row in words; `None` if it means nothing to a person.
fn words(run: &Run, row: &JournalRow, show: Show) -> Option<String> {
    let attempt = |id: &str| run.attempts.iter().find(|a| a.id.to_string() == id);
    let text = JournalEntry::read(&row.name, row.event.as_ref()).words(|id| attempt(id).map(|a| a.reserved));
    if show == Show::All { Some(text.unwrap_or_else(|| row.name.replace('_', " "))) } else { text }
}

/// Returns a row's JSON, cut.
fn bounded(event: &serde_json::Value) -> String {
    const MAX: usize = 8 * 1024;
    let text = serde_json::to_string_pretty(event).unwrap_or_default();
    if text.len() <= MAX {
        return text;
    }
    format!("{}\n… {} more bytes", &text[..text.floor_char_boundary(MAX)], text.len() - MAX)
}
