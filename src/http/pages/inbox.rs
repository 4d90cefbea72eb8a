//! The inbox: what waits for a person, then what is in progress.

use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::{Person, Visit};
use super::{State, look, question};
use crate::domain::Run;
use crate::ports::run_index::RunRow;
use crate::render;
use crate::service::inbox;
use axum::extract::State as Shared;
use maud::{Markup, html};

/// Questions that are shown in full; further ones are links.
const MAX_CARDS: usize = 10;

/// `GET /`.
pub async fn inbox(Shared(state): Shared<State>, person: Person) -> PageResult<Markup> {
    let inbox = inbox::inbox(&state.services, &person.caller).await?;
    let visit = &person.visit;
    let questions: Vec<_> = inbox.asking.iter().flat_map(|run| run.blocks.iter().map(move |b| (run, b))).collect();
    let nothing = inbox.asking_total + inbox.working_total + inbox.waiting.len() + inbox.quarantined.len() == 0;
    let title = match questions.len() {
        0 => "Inbox".to_owned(),
        n => format!("({n}) Inbox"),
    };
    let content = html! {
        h1.hidden-title { "Inbox" }
        section aria-labelledby="asking" {
            h2 id="asking" { "Waits for you" @if !questions.is_empty() { span.count { (questions.len()) } } }
            @if questions.is_empty() { (look::empty("Nothing waits for you.", started(nothing && inbox.ended.is_empty()))) }
            @for (run, block) in questions.iter().take(MAX_CARDS) { (question::card(visit, run, block)) }
            @if questions.len() > MAX_CARDS {
                ul.rows { @for (run, block) in questions.iter().skip(MAX_CARDS) {
                    li { a href={ "/q/" (run.id) "/" (block.id) } {
                        (look::line(&look::sentence(&render::escalation(run, block).reason)))
                    } " " span.quiet { (look::line(&run.goal.title())) } }
                } }
            }
            @if inbox.asking_total > inbox.asking.len() {
                p { (inbox.asking_total - inbox.asking.len()) " more runs wait: " a href="/runs?status=blocked" { "list them" } }
            }
        }
        @if !inbox.quarantined.is_empty() {
            section aria-labelledby="broken" {
                h2 id="broken" { "Broken" span.count { (inbox.quarantined.len()) } }
                ul.rows { @for row in &inbox.quarantined { (broken(row)) } }
            }
        }
        @if !inbox.working.is_empty() {
            section aria-labelledby="working" {
                h2 id="working" { "At work" span.count { (inbox.working_total) } }
                ul.rows { @for run in &inbox.working { (working(visit, run)) } }
            }
        }
        @if !inbox.waiting.is_empty() {
            section aria-labelledby="waiting" {
                h2 id="waiting" { "Waits for something else" span.count { (inbox.waiting.len()) } }
                ul.rows { @for row in inbox.waiting.iter().take(50) { (waiting(visit, row)) } }
            }
        }
        @if !inbox.ended.is_empty() {
            section aria-labelledby="ended" {
                h2 id="ended" { "Ended lately" }
                ul.rows { @for row in &inbox.ended {
                    li data-row { (look::status(&row.status)) (run_link(row)) span.quiet { (row.project) " · " (look::ago(row.updated_at, visit.at())) } }
                } }
            }
        }
        @if inbox.is_cut { p.quiet { "Only the newest 500 open runs are considered here." } }
    };
    Ok(shell::page(visit, Page { title: &title, live: Some("any".to_owned()), content }))
}

fn started(never: bool) -> Markup {
    html! {
        @if never {
            "Give Skep a repository and a goal: " a href="/runs/new" { "start the first run" }
            ". On the command line: " code { "skep run --repo PATH --goal TEXT" } ", or " code { "skep demo" } " for a sample."
        } @else {
            "Questions of runs appear here. " a href="/runs/new" { "Start a run" } " or " a href="/runs" { "look at the runs" } "."
        }
    }
}

fn run_link(row: &RunRow) -> Markup {
    html! { a.title href={ "/runs/" (row.run) } { (look::line(&row.title)) } }
}

fn working(visit: &Visit, run: &Run) -> Markup {
    html! {
        li data-row {
            (look::status(crate::domain::status::of_run(run).word()))
            a.title href={ "/runs/" (run.id) } { (look::line(&run.goal.title())) }
            span.quiet { (run.project) " · " (look::line(&render::now(run, visit.at()))) " · " (render::money(run.ledger.spent.cost_micros))
                @if let Some(limit) = run.limits.cost_micros { " of " (render::money(limit)) } }
        }
    }
}

fn waiting(visit: &Visit, row: &RunRow) -> Markup {
    html! {
        li data-row {
            (look::status(&row.status)) (run_link(row))
            span.quiet { (row.project)
                @if let Some(what) = &row.waits { " · waits for " (look::line(what)) }
                @if let Some(until) = row.wake_at { " · " (look::ago(until, visit.at())) }
            }
        }
    }
}

fn broken(row: &RunRow) -> Markup {
    html! {
        li data-row { (look::status("quarantined")) (run_link(row))
            span.quiet { (row.project) @if let Some(why) = &row.quarantined { " · " (look::line(why)) } } }
    }
}
