//! The inbox: what waits for a person, then what is in progress.

use super::problem::PageResult;
use super::question::{self, Place};
use super::shell::{self, Page};
use super::visit::{Person, Visit};
use super::{State, look};
use crate::domain::{Run, Timestamp};
use crate::ports::run_index::RunRow;
use crate::render;
use crate::service::deployments::DeploymentView;
use crate::service::inbox;
use axum::extract::State as Shared;
use maud::{Markup, html};

/// Rows of each further list; the page of all runs has the others.
const MAX_ROWS: usize = 40;
/// Number of questions up to which all are open at first; of more, the one that waits longest is.
const OPEN_CARDS: usize = 3;

/// `GET /`.
pub async fn inbox(Shared(state): Shared<State>, person: Person) -> PageResult<Markup> {
    let inbox = inbox::inbox(&state.services, &person.caller).await?;
    let visit = &person.visit;
    let questions: Vec<_> = inbox.asking.iter().flat_map(|run| run.blocks.iter().map(move |b| (run, b))).collect();
    // A run whose state is not loaded here has at least one question.
    let asked = questions.len() + inbox.asking_later.len() + inbox.deployments.len();
    let at_work = inbox.working.len() + inbox.working_later.len();
    let nothing = asked + at_work + inbox.waiting.len() + inbox.quarantined.len() == 0;
    let title = match asked {
        0 => "Inbox".to_owned(),
        n => format!("({n}) Inbox"),
    };
    let content = html! {
        h1.hidden-title { "Inbox" }
        section aria-labelledby="asking" {
            h2 id="asking" { "Waits for you" @if asked > 0 { span.count { (asked) } } }
            @if asked == 0 { (look::empty("Nothing waits for you.", started(nothing && inbox.ended.is_empty()))) }
            @for (n, (run, block)) in questions.iter().enumerate() {
                (question::card(visit, run, block, Place::Inbox { is_open: n == 0 || questions.len() <= OPEN_CARDS }))
            }
            @if !inbox.deployments.is_empty() {
                ul.rows { @for view in inbox.deployments.iter().take(MAX_ROWS) { (deployment(view, visit.at())) } }
            }
            (rows(&inbox.asking_later, "/runs?status=blocked", |row| html! {
                (row.project) " · needs " (look::needs(&row.blocks)) " · updated " (look::ago(row.updated_at, visit.at()))
            }))
        }
        @if !inbox.quarantined.is_empty() {
            section aria-labelledby="broken" {
                h2 id="broken" { "Broken" span.count { (inbox.quarantined.len()) } }
                ul.rows { @for row in &inbox.quarantined { (broken(row)) } }
            }
        }
        @if at_work > 0 {
            section aria-labelledby="working" {
                h2 id="working" { "At work" span.count { (at_work) } }
                ul.rows { @for run in &inbox.working { (working(visit, run)) } }
                (rows(&inbox.working_later, "/runs?status=running", |row| html! { (row.project) " · " (row.phase) }))
            }
        }
        @if !inbox.waiting.is_empty() {
            section aria-labelledby="waiting" {
                h2 id="waiting" { "Waits for something else" span.count { (inbox.waiting.len()) } }
                (rows(&inbox.waiting, "/runs?open=1", |row| html! { (row.project)
                    @if let Some(what) = &row.waits { " · waits for " (look::line(what)) }
                    @if let Some(until) = row.wake_at { " · " (look::ago(until, visit.at())) } }))
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

/// Returns rows with what `about` says of each. The page at `all` has those that do not fit.
fn rows(rows: &[RunRow], all: &str, about: impl Fn(&RunRow) -> Markup) -> Markup {
    html! {
        @if !rows.is_empty() {
            ul.rows { @for row in rows.iter().take(MAX_ROWS) {
                li data-row { (look::status(&row.status)) (run_link(row)) span.quiet { (about(row)) } }
            } }
        }
        @if rows.len() > MAX_ROWS { p { (rows.len() - MAX_ROWS) " more: " a href=(all) { "list them" } "." } }
    }
}

fn deployment(view: &DeploymentView, at: Timestamp) -> Markup {
    html! {
        li data-row { (look::status(if view.waiting().is_some() { "waiting" } else { view.status.name() }))
            a.title href={ "/deployments/" (view.target.name) } { "Deployment to " (view.target.name) }
            span.quiet { (view.target.project)
                @if let Some(waiting) = view.waiting() { " · rollout " (waiting.number) " waits for approval · queued " (look::ago(waiting.created_at, at)) }
                @else if let Some(why) = view.suspended_why() { " · " (look::line(&why)) } } }
    }
}

fn broken(row: &RunRow) -> Markup {
    html! {
        li data-row { (look::status("quarantined")) (run_link(row))
            span.quiet { (row.project) @if let Some(why) = &row.quarantined { " · " (look::line(why)) } } }
    }
}
