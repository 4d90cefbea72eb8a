//! A run at a glance: the question or the failure first, then plan, gates, budget, attempts; and the actions on it.

use super::problem::PageResult;
use super::question::{self, Place};
use super::shell::{self, Page};
use super::visit::{Fields, Person, Visit};
use super::{State, events, look, run_parts, see_other};
use crate::domain::{Raise, Run, RunId, status};
use crate::render;
use crate::service::actions::{self, NewSettings, Retry, Target};
use crate::service::reverts::{self, Revert};
use crate::service::{ServiceError, landings, runs};
use axum::extract::{Path, State as Shared};
use axum::response::Response;
use maud::{Markup, html};

/// Important events at the end of the page.
const MAX_EVENTS: usize = 25;

/// Pages of a run: path below it, name, key.
const TABS: [(&str, &str); 5] =
    [("", "Overview"), ("/changes", "Changes"), ("/output", "Output"), ("/events", "Events"), ("/cost", "Cost")];

/// `GET /runs/{id}`.
pub async fn overview(Shared(state): Shared<State>, person: Person, Path(id): Path<String>) -> PageResult<Markup> {
    let visit = &person.visit;
    let run = runs::show(&state.services, &person.caller, &id).await?;
    let watch = if run.ended() { landings::show(&state.services, &person.caller, &id).await? } else { None };
    let after = run.seq.saturating_sub(events::PAGE_ROWS);
    let rows = runs::events(&state.services, &person.caller, &id, after, Some(events::PAGE_ROWS)).await?;
    let content = html! {
        (head(visit, &run, ""))
        // A question states by itself what the run waits for.
        @if run.blocks.is_empty() || run.paused.is_some() || run.stopping.is_some() {
            p.now { (look::line(&look::sentence(&render::now(&run, visit.at())))) "." }
        }
        @for block in &run.blocks { (question::card(visit, &run, block, Place::Alone)) }
        (run_parts::failure(&run))
        @if let Some(watch) = &watch { (run_parts::after_landing(watch)) }
        div.columns {
            div {
                (run_parts::plan(&run))
                (run_parts::attempts(visit, &run))
                section aria-labelledby="events" {
                    h2 id="events" { "What happened" }
                    (events::list(visit, &run, &rows, events::Show::Important, MAX_EVENTS))
                    p { a href={ "/runs/" (run.id) "/events" } { "All events" } }
                }
            }
            aside {
                (run_parts::gates(&run))
                (run_parts::acceptance(&run))
                (run_parts::checks(&run))
                (run_parts::budget(visit, &run))
                (run_parts::facts(visit, &run))
            }
        }
    };
    let title = format!("{} · {}", run.goal.title(), status::of_run(&run).word());
    Ok(shell::page(visit, Page { title: &title, live: Some(live(&run.id)), content }))
}

/// Returns the topic of live updates of a run.
pub fn live(run: &RunId) -> String {
    format!("run:{run}")
}

/// Returns the top of every page of a run: status, title, actions, tabs.
pub fn head(visit: &Visit, run: &Run, tab: &str) -> Markup {
    html! {
        header.run {
            div {
                p.crumbs { a href={ "/projects/" (run.project) } { (run.project) } " / " a href={ "/runs/" (run.id) } { code { (run.id.abbrev()) } } }
                h1 { (look::line(&run.goal.title())) }
                p.meta {
                    (look::status(status::of_run(run).word()))
                    span { "started " (look::ago(run.opened_at, visit.at())) " by " (look::line(run.goal.asked_by.as_str())) }
                    @if let Some(change) = &run.change { span { "change #" (change.number) } }
                    @if run.diff.files_total > 0 { (look::size_of(&run.diff)) }
                    span { (render::money(run.ledger.spent.cost_micros)) }
                }
            }
            div.actions { (actions_of(visit, run)) }
        }
        nav.tabs aria-label="Run" {
            @for (path, name) in TABS {
                a href={ "/runs/" (run.id) (path) } aria-current=[(path == tab).then_some("page")] { (name) }
            }
        }
    }
}

fn actions_of(visit: &Visit, run: &Run) -> Markup {
    let at = |action: &str| format!("/runs/{}/{action}", run.id);
    let button = |action: &str, text: &str| {
        html! { form method="post" action=(at(action)) { (shell::token(visit)) button.button type="submit" { (text) } } }
    };
    if run.ended() {
        let is_undelivered = !matches!(run.outcome, Some(crate::domain::Outcome::Delivered { .. }));
        return html! { @if is_undelivered { (button("retry", "Retry as a new run")) } @else { details.menu {
            summary.button { "Revert…" }
            form.stacked method="post" action=(at("revert")) {
                (shell::token(visit))
                label { "Reason " textarea name="why" rows="3" maxlength="4000" {} }
                p.quiet { "A new run reverts this change. It is checked, reviewed and approved like any other run." }
                button.button.primary type="submit" { "Start the revert" }
            }
        } } };
    }
    html! {
        @if run.paused.is_some() { (button("resume", "Resume")) } @else { (button("pause", "Pause")) }
        details.menu {
            summary.button { "Budget…" }
            form.stacked method="post" action=(at("raise")) {
                (shell::token(visit))
                p { "Adds to the limits of this run." }
                @for (name, label, mode) in [
                    ("dollars", "Dollars", "decimal"), ("minutes", "Minutes", "numeric"), ("tokens", "Tokens", "numeric"),
                    ("turns", "Model calls", "numeric"), ("attempts", "Attempts", "numeric"), ("rounds", "Rounds of rework", "numeric"),
                ] { label { (label) " " input name=(name) inputmode=(mode) size="8" autocomplete="off"; } }
                button.button.primary type="submit" { "Give more" }
            }
        }
        details.menu {
            summary.button { "Cancel…" }
            form.stacked method="post" action=(at("cancel")) {
                (shell::token(visit))
                label { "Reason " textarea name="why" rows="3" maxlength="4000" {} }
                p.quiet { "Attempts and checks in progress are stopped. The work so far is kept, and nothing is merged." }
                button.button.danger type="submit" { "Cancel the run" }
            }
        }
    }
}

/// `POST /runs/{id}/{action}`.
pub async fn act(
    Shared(state): Shared<State>,
    person: Person,
    Path((id, action)): Path<(String, String)>,
    fields: Fields,
) -> PageResult<Response> {
    let (s, caller) = (&state.services, &person.caller);
    let target = Target { run: &id, if_seq: None };
    let (run, notice) = match action.as_str() {
        "pause" => (actions::pause(s, caller, &target).await?, "paused"),
        "resume" => (actions::resume(s, caller, &target).await?, "resumed"),
        "cancel" => (actions::cancel(s, caller, &target, fields.get("why")).await?, "cancelled"),
        "retry" => {
            let kept = NewSettings::default();
            let how = Retry { block: None, hint: fields.filled("text"), more: None, settings: &kept };
            let opened = actions::retry(s, caller, &target, how, None).await?;
            (opened.run, if opened.is_new { "started" } else { "reused" })
        }
        "revert" => {
            let asked = Revert { why: fields.filled("why"), ..Revert::default() };
            let opened = reverts::revert(s, caller, &id, asked).await?;
            (opened.run, if opened.is_new { "started" } else { "reverting" })
        }
        "raise" => (actions::raise(s, caller, &target, raise(&fields)?).await?, "raised"),
        "lift-quarantine" => (actions::lift_quarantine(s, caller, &id).await?, "resumed"),
        _ => return Err(ServiceError::not_found("no_page", "there is no such action", "Open the run").into()),
    };
    Ok(see_other(&format!("/runs/{}?notice={notice}", run.id)))
}

fn raise(fields: &Fields) -> PageResult<Raise> {
    let small = |name: &str, what: &str| {
        Ok::<u32, super::problem::PageError>(u32::try_from(fields.number(name, what)?).unwrap_or(u32::MAX))
    };
    Ok(Raise {
        tokens: fields.number("tokens", "tokens")?,
        cost_micros: fields.dollars("dollars")?,
        turns: fields.number("turns", "model calls")?,
        time_secs: fields.number("minutes", "minutes")?.saturating_mul(60),
        rounds: small("rounds", "rounds")?,
        attempts: small("attempts", "attempts")?,
        step_secs: 0,
    })
}
