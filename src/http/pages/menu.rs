//! The command menu: every page, and the projects and runs that match what was typed. A page of links on its own; the
//! script shows its list in a dialog, with what can be done on the page below it.

use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::Person;
use super::{State, look};
use crate::domain::Run;
use crate::ports::run_index::RunRow;
use crate::service::runs::RunQuery;
use crate::service::{Right, projects, runs};
use axum::extract::{Query, State as Shared};
use maud::{Markup, html};
use serde::Deserialize;

/// Newest runs that are searched; a run is also found by the beginning of its id.
const SEARCHED_RUNS: u64 = 500;
/// Rows of each kind.
const MAX_ROWS: usize = 8;
/// Characters that are searched for.
const MAX_QUERY_CHARS: usize = 100;
/// Digits of an id from which it is looked up.
const MIN_ID_DIGITS: usize = 4;

/// Pages besides those of the navigation, with the right in the whole service that they need.
const MORE: [(&str, &str, Option<Right>); 6] = [
    ("/me", "You: tokens and sessions", None),
    ("/people", "People", Some(Right::People)),
    ("/settings/config", "Settings: configuration", Some(Right::Admin)),
    ("/settings/engines", "Settings: engines", Some(Right::Admin)),
    ("/settings/sandbox", "Settings: sandbox", Some(Right::Admin)),
    ("/settings/forges", "Settings: forges", Some(Right::Admin)),
];

/// Query of the menu.
#[derive(Default, Deserialize)]
pub struct MenuQuery {
    #[serde(default)]
    q: String,
}

/// An entry: address, name, and what it is.
struct Entry {
    to: String,
    name: Markup,
    about: Markup,
}

/// `GET /menu`.
pub async fn menu(Shared(state): Shared<State>, person: Person, Query(query): Query<MenuQuery>) -> PageResult<Markup> {
    let text: String = query.q.trim().chars().take(MAX_QUERY_CHARS).collect();
    let groups = [
        ("pages", "Go to", pages(&person, &text)),
        ("projects", "Projects", projects_named(&state, &person, &text).await?),
        ("runs", "Runs", runs_named(&state, &person, &text).await?),
    ];
    let is_empty = groups.iter().all(|(.., entries)| entries.is_empty());
    let content = html! {
        div.narrow {
            h1 { "Go to" }
            form.filters method="get" action="/menu" role="search" {
                label.hidden-title for="menu-q" { "Page, project, or words of a run" }
                input #menu-q name="q" value=(text) maxlength=(MAX_QUERY_CHARS) autocomplete="off" type="search"
                    placeholder="Page, project, or words of a run";
                button.button type="submit" { "Find" }
            }
            div id="found" {
                @if is_empty { (look::empty("Nothing matches.", html! { a href="/menu" { "Show everything" } })) }
                @for (id, name, entries) in &groups { @if !entries.is_empty() {
                    section aria-labelledby=(id) {
                        h2 id=(id) { (name) }
                        ul.plain.entries { @for entry in entries {
                            li { a href=(entry.to) { (entry.name) } span.quiet { " · " (entry.about) } }
                        } }
                    }
                } }
            }
        }
    };
    Ok(shell::page(&person.visit, Page { title: "Go to", live: None, content }))
}

/// Returns whether a text has all words that were typed, each of them anywhere.
fn matches(text: &str, typed: &str) -> bool {
    let text = text.to_lowercase();
    typed.to_lowercase().split_whitespace().all(|word| text.contains(word))
}

fn pages(person: &Person, typed: &str) -> Vec<Entry> {
    let is_shown = |needed: Option<Right>| needed.is_none_or(|right| person.caller.require(right).is_ok());
    let navigation = shell::NAVIGATION.iter().map(|(to, name, key, needed)| (*to, *name, format!("g {key}"), *needed));
    let more = MORE.iter().map(|(to, name, needed)| (*to, *name, String::new(), *needed));
    let new = person.caller.has_somewhere(Right::Run).then(|| ("/runs/new", "New run", "n".to_owned(), None));
    let all =
        navigation.chain(new).chain(more).filter(|(_, name, _, needed)| is_shown(*needed) && matches(name, typed));
    all.map(|(to, name, key, _)| Entry {
        to: to.to_owned(),
        name: html! { (name) },
        about: html! { @if !key.is_empty() { kbd { (key) } } },
    })
    .collect()
}

async fn projects_named(state: &State, person: &Person, typed: &str) -> PageResult<Vec<Entry>> {
    let all = projects::list(&state.services, &person.caller).await?;
    let named = all.into_iter().filter(|project| matches(project.name.as_str(), typed)).take(MAX_ROWS);
    Ok(named
        .map(|project| Entry {
            to: format!("/projects/{}", project.name),
            name: html! { (project.name) },
            about: html! { "project" },
        })
        .collect())
}

async fn runs_named(state: &State, person: &Person, typed: &str) -> PageResult<Vec<Entry>> {
    let (s, caller) = (&state.services, &person.caller);
    let mut found = Vec::new();
    let is_id = typed.len() >= MIN_ID_DIGITS && typed.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id && let Ok(run) = runs::show(s, caller, typed).await {
        found.push(of_run(&run));
    }
    let query = RunQuery { limit: Some(SEARCHED_RUNS), ..RunQuery::default() };
    let page = runs::list(s, caller, &query).await?;
    let is_named = |row: &&RunRow| matches(&format!("{} {} {}", row.title, row.project, row.run), typed);
    let rows = page.rows.iter().filter(is_named).map(|row| Entry {
        to: format!("/runs/{}", row.run),
        name: look::line(&row.title),
        about: html! { (look::status(&row.status)) " " (row.project) " " code { (row.run.abbrev()) } },
    });
    for entry in rows.take(MAX_ROWS) {
        if found.iter().all(|known: &Entry| known.to != entry.to) {
            found.push(entry);
        }
    }
    Ok(found)
}

fn of_run(run: &Run) -> Entry {
    Entry {
        to: format!("/runs/{}", run.id),
        name: look::line(&run.goal.title()),
        about: html! { (look::status(crate::domain::status::of_run(run).word())) " " (run.project) " "
        code { (run.id.abbrev()) } },
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn every_word_must_be_there_in_any_case_and_order() {
        assert!(matches("Fix the login page", "LOGIN fix") && matches("anything", "  "));
        assert!(!matches("Fix the login page", "login logout"));
    }
}
