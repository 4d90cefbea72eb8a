//! Deployments: the targets, one with its rollouts, and acceptance reports.

use super::me::no_action;
use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::{Fields, Person};
use super::{State, look, see_other};
use crate::domain::deployment::{Cause, CriterionRecord, Rollout, StepRecord};
use crate::render;
use crate::service::Right;
use crate::service::deployments::{self, DeployRequest, DeploymentView};
use axum::extract::{Path, State as Shared};
use axum::response::Response;
use maud::{Markup, html};

/// `GET /deployments`.
pub async fn list(Shared(state): Shared<State>, person: Person) -> PageResult<Markup> {
    let all = deployments::list(&state.services, &person.caller).await?;
    let content = html! {
        h1 { "Deployments" }
        @if all.is_empty() {
            (look::empty("There is no target yet.", html! { "A table such as " code { "[deploy.test]" } " in the configuration adds one." }))
        } @else { (table(&person, &all)) }
    };
    Ok(shell::page(&person.visit, Page { title: "Deployments", live: None, content }))
}

/// Returns the targets as a table.
pub fn table(person: &Person, all: &[DeploymentView]) -> Markup {
    html! {
        table.list {
            caption.hidden-title { "Targets by name" }
            thead { tr { th scope="col" { "Target" } th scope="col" { "Status" } th scope="col" { "Version" }
                th scope="col" { "Last rollout" } th scope="col" { "Project" } th scope="col" { "Address" } } }
            tbody { @for view in all { tr data-row {
                td data-th="Target" { a.title href={ "/deployments/" (view.target.name) } { (view.target.name) } }
                td data-th="Status" { (look::status(view.status.name())) }
                td data-th="Version" { @if let Some(sha) = &view.deployment.sha { (look::sha(sha)) } @else { span.quiet { "none" } } }
                td data-th="Last rollout" { @if let Some(r) = view.rollouts.first() {
                    a href={ "/deployments/" (view.target.name) "/" (r.number) } { "#" (r.number) " " (state(r)) } " "
                    (look::ago(r.created_at, person.visit.at()))
                } @else { span.quiet { "none" } } }
                td data-th="Project" { a href={ "/projects/" (view.target.project) } { (view.target.project) } }
                td.wide data-th="Address" { @if let Some(url) = &view.target.url { (look::outside(url)) } }
            } } }
        }
    }
}

fn state(rollout: &Rollout) -> String {
    rollout.state.name().replace('_', " ")
}

/// `GET /deployments/{target}`.
pub async fn show(Shared(state): Shared<State>, person: Person, Path(name): Path<String>) -> PageResult<Markup> {
    let view = deployments::show(&state.services, &person.caller, &name).await?;
    let target = &view.target;
    let may = |right| person.caller.has(right, &target.project);
    let content = html! {
        header.run {
            div { p.crumbs { a href="/deployments" { "Deployments" } } h1 { (target.name) }
                p.meta { (look::status(view.status.name()))
                    @if let Some(sha) = &view.deployment.sha { (look::sha(sha)) }
                    @if let Some(url) = &target.url { (look::outside(url)) }
                    span { "of " a href={ "/projects/" (target.project) } { (target.project) } } } }
        }
        @if let Some(why) = view.suspended_why() { div.problem role="alert" {
            p { strong { (look::line(&look::sentence(&why))) "." } }
            @if !view.is_resumable() { @if let Some(fix) = view.suspended_fix() { p { (look::line(&fix)) "." } } }
            @else if may(Right::Approve) { (action(&person, &target.name, "resume", "Resume", None)) }
        } }
        @if let Some(waiting) = view.waiting() {
            section aria-labelledby="waiting" { h2 id="waiting" { "Waits for approval" }
                p { "Rollout " (waiting.number) ": " (look::sha(&waiting.sha)) " " (cause(waiting)) }
                @if let Some(proof) = &waiting.proof { p { (look::line(&render::deployment::proof_words(proof))) "." } }
                @if may(Right::Approve) {
                    (decision(&person, waiting, "approve", "Approve", None))
                    (decision(&person, waiting, "decline", "Decline", Some("Why it is declined")))
                }
            }
        }
        section aria-labelledby="rollouts" { h2 id="rollouts" { "Rollouts" }
            @if view.rollouts.is_empty() { (look::empty("Nothing was deployed yet.", html! { "Deploy the newest version below." })) }
            @else { (rollouts(&person, &view)) }
        }
        @if !target.secrets_elsewhere.is_empty() {
            section aria-labelledby="elsewhere" { h2 id="elsewhere" { "Secrets set elsewhere" }
                dl { @for (name, place) in &target.secrets_elsewhere { dt { code { (name) } } dd { (look::line(place)) } } } }
        }
        @if may(Right::Run) {
            section aria-labelledby="actions" { h2 id="actions" { "Actions" }
                (action(&person, &target.name, "deploy", "Deploy the newest version", None))
                @if target.probe().is_some() && view.deployment.sha.is_some() {
                    (action(&person, &target.name, "probe", "Probe now", None))
                }
                @if may(Right::Approve) {
                    @if view.deployment.previous.is_some() {
                        (action(&person, &target.name, "rollback", "Roll back to the previous version", None))
                    }
                    @if view.deployment.suspended.is_none() {
                        (action(&person, &target.name, "suspend", "Suspend", Some("Why it is suspended")))
                    }
                }
            }
        }
    };
    Ok(shell::page(&person.visit, Page { title: target.name.as_str(), live: None, content }))
}

fn action(person: &Person, target: &str, word: &str, name: &str, why: Option<&str>) -> Markup {
    form(person, (target, None), word, name, why)
}

/// An answer, which counts only for the rollout that is shown.
fn decision(person: &Person, waiting: &Rollout, word: &str, name: &str, why: Option<&str>) -> Markup {
    form(person, (&waiting.target, Some(waiting.number)), word, name, why)
}

fn form(person: &Person, (target, rollout): (&str, Option<u64>), word: &str, name: &str, why: Option<&str>) -> Markup {
    html! {
        form.stacked method="post" action={ "/deployments/" (target) "/" (word) } aria-label=(name) {
            (shell::token(&person.visit))
            @if let Some(rollout) = rollout { input type="hidden" name="rollout" value=(rollout); }
            @if let Some(why) = why {
                label for={ "why-" (word) } { (why) }
                input id={ "why-" (word) } name="why" required maxlength="500" autocomplete="off";
            }
            div.buttons { button.button type="submit" { (name) } }
        }
    }
}

fn cause(rollout: &Rollout) -> Markup {
    html! { @match &rollout.cause {
        Cause::Landed { run } => { "landed by " a href={ "/runs/" (run) } { (run.abbrev()) } },
        Cause::Requested { by } => { "requested by " (look::line(by.as_str())) },
        Cause::Rollback { by } => { "an earlier version, asked for by " (look::line(by.as_str())) },
    } }
}

fn rollouts(person: &Person, view: &DeploymentView) -> Markup {
    html! { table.list {
        caption.hidden-title { "Rollouts, newest first" }
        thead { tr { th scope="col" { "Rollout" } th scope="col" { "State" } th scope="col" { "Version" }
            th scope="col" { "From" } th scope="col" { "Queued" } th scope="col" { "Result" } } }
        tbody { @for r in &view.rollouts { tr data-row {
            td data-th="Rollout" { a.title href={ "/deployments/" (view.target.name) "/" (r.number) } { (r.number) } }
            td data-th="State" { (state(r)) }
            td data-th="Version" { (look::sha(&r.sha)) }
            td data-th="From" { (cause(r)) }
            td data-th="Queued" { (look::ago(r.created_at, person.visit.at())) }
            td.wide data-th="Result" { (look::line(&r.why)) }
        } } }
    } }
}

/// `GET /deployments/{target}/{number}`.
pub async fn report(
    Shared(app): Shared<State>,
    person: Person,
    Path((name, number)): Path<(String, u64)>,
) -> PageResult<Markup> {
    let (target, r) = deployments::rollout(&app.services, &person.caller, &name, number).await?;
    let title = format!("Rollout {number} of {}", target.name);
    let runbook = render::deployment::runbook(&target, &r.sha, r.previous.as_ref());
    let content = html! {
        header.run {
            div { p.crumbs { a href="/deployments" { "Deployments" } " " a href={ "/deployments/" (target.name) } { (target.name) } }
                h1 { (title) }
                p.meta { strong { (state(&r)) } (look::sha(&r.sha)) (cause(&r))
                    @if let Some(previous) = &r.previous { span { "before it " (look::sha(previous)) } }
                    @if let Some(by) = &r.approved_by { span { "approved by " (look::line(by.as_str())) } } } }
        }
        @if let Some(proof) = &r.proof { p { (look::line(&render::deployment::proof_words(proof))) "." } }
        @if !r.why.is_empty() { p { (look::line(&look::sentence(&r.why))) "." } }
        @if let Some(step) = &r.deployment { (step_section("deployment", "Deployment", step)) }
        @if !r.criteria.is_empty() { (criteria_section("criteria", "Criteria", &r.criteria)) }
        @if let Some(step) = &r.rollback { (step_section("back", "Way back", step)) }
        @if !r.rollback_criteria.is_empty() { (criteria_section("back-criteria", "Criteria after the rollback", &r.rollback_criteria)) }
        section aria-labelledby="runbook" { h2 id="runbook" { "Runbook" }
            details.more { summary { "How to do it by hand" } (look::fenced(&runbook)) } }
    };
    Ok(shell::page(&person.visit, Page { title: &title, live: None, content }))
}

fn step_section(id: &str, name: &str, step: &StepRecord) -> Markup {
    html! { section aria-labelledby=(id) { h2 id=(id) { (name) }
        p { (look::status(if step.passed { "green" } else { "red" })) " after " (render::duration(step.ms)) }
        @if !step.log.is_empty() { (look::fenced(&step.log)) }
    } }
}

fn criteria_section(id: &str, name: &str, criteria: &[CriterionRecord]) -> Markup {
    html! { section aria-labelledby=(id) { h2 id=(id) { (name) }
        table.list {
            caption.hidden-title { (name) }
            thead { tr { th scope="col" { "Criterion" } th scope="col" { "Result" } th scope="col" { "Test" }
                th scope="col" { "Expected" } th scope="col" { "Observed" } th scope="col" { "Time" } } }
            tbody { @for c in criteria { tr data-row {
                td data-th="Criterion" { (look::line(&c.name)) }
                td data-th="Result" { (look::status(if c.passed { "green" } else { "red" })) }
                td.wide data-th="Test" { code { (look::line(&c.test)) } }
                td data-th="Expected" { (look::line(&c.expected)) }
                td.wide data-th="Observed" { (look::line(&c.got)) }
                td data-th="Time" { (render::duration(c.ms)) }
            } } }
        }
    } }
}

/// `POST /deployments/{target}/{action}`.
pub async fn act(
    Shared(state): Shared<State>,
    person: Person,
    Path((name, action)): Path<(String, String)>,
    fields: Fields,
) -> PageResult<Response> {
    let (s, caller) = (&state.services, &person.caller);
    let notice = match action.as_str() {
        "deploy" => deployments::deploy(s, caller, &name, DeployRequest::default()).await.map(|_| "queued")?,
        "rollback" => deployments::roll_back(s, caller, &name, None).await.map(|_| "queued")?,
        "approve" => deployments::answer(s, caller, &name, seen(&fields)?, None).await.map(|_| "approved")?,
        "decline" => {
            deployments::answer(s, caller, &name, seen(&fields)?, Some(fields.get("why"))).await.map(|_| "declined")?
        }
        "suspend" => deployments::suspend(s, caller, &name, &fields.get("why")).await.map(|_| "suspended")?,
        "resume" => deployments::resume(s, caller, &name).await.map(|_| "resumed-target")?,
        "probe" => deployments::probe(s, caller, &name).await.map(|_| "probed")?,
        _ => return Err(no_action().into()),
    };
    Ok(see_other(&format!("/deployments/{name}?notice={notice}")))
}

/// Returns the rollout that the form was about. Without one, nothing is answered.
fn seen(fields: &Fields) -> PageResult<Option<u64>> {
    Ok(Some(fields.number("rollout", "rollout")?))
}
