//! Projects: the list, and one with its runs, checks, engines and spending.

use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::Person;
use super::{State, deployments as deployment_list, look, runs as run_list, spending};
use crate::domain::Project;
use crate::domain::deployment::Sponsor;
use crate::domain::deployment::SponsorState;
use crate::ports::ledger::SpendingBy;
use crate::render;
use crate::service::budgets::{self, SpendingQuery};
use crate::service::runs::RunQuery;
use crate::service::{ErrorKind, deployments, memory, projects, results, runs};
use axum::extract::{Path, State as Shared};
use maud::{Markup, html};

/// Projects in the list.
const MAX_PROJECTS: usize = 500;
/// Runs of a project.
const MAX_RUNS: u64 = 20;
/// Rows of memory.
const MAX_MEMORIES: u64 = 8;
/// Days of spending.
const MAX_DAYS: u64 = 30;

/// `GET /projects`.
pub async fn list(Shared(state): Shared<State>, person: Person) -> PageResult<Markup> {
    let projects = projects::list(&state.services, &person.caller).await?;
    let content = html! {
        h1 { "Projects" }
        @if projects.is_empty() {
            (look::empty("There is no project yet.", html! { "A repository becomes a project with its first run: " a href="/runs/new" { "start one" } "." }))
        } @else { table.list {
            caption.hidden-title { "Projects by name" }
            thead { tr { th scope="col" { "Project" } th scope="col" { "Repository" } th scope="col" { "Base" } th scope="col" { "Checks" } } }
            tbody { @for project in projects.iter().take(MAX_PROJECTS) {
                tr data-row {
                    td data-th="Project" { a.title href={ "/projects/" (project.name) } { (project.name) } }
                    td.wide data-th="Repository" { (look::outside(&project.repo)) }
                    td data-th="Base" { (base(project)) }
                    td data-th="Checks" { @if project.checks.is_empty() { span.quiet { "detected" } } @else { (project.checks.len()) } }
                }
            } }
        } }
        @if projects.len() > MAX_PROJECTS { p.quiet { (projects.len() - MAX_PROJECTS) " more projects are not listed." } }
    };
    Ok(shell::page(&person.visit, Page { title: "Projects", live: None, content }))
}

fn base(project: &Project) -> Markup {
    html! { @match &project.base { Some(base) => code { (look::line(base)) }, None => span.quiet { "the default branch" } } }
}

/// What a sponsor gives: "hosting, domain, $20.00 a month".
fn given(sponsor: &Sponsor) -> String {
    let parts = [
        sponsor.hosting.then(|| "hosting".to_owned()),
        sponsor.domain.then(|| "domain".to_owned()),
        sponsor.monthly_micros.map(|micros| format!("{} a month", render::money(micros))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `GET /projects/{name}`.
pub async fn show(Shared(state): Shared<State>, person: Person, Path(name): Path<String>) -> PageResult<Markup> {
    let (s, caller) = (&state.services, &person.caller);
    let project = projects::show(s, caller, &name).await?;
    let query = RunQuery { project: Some(name.clone()), limit: Some(MAX_RUNS), ..RunQuery::default() };
    let page = runs::list(s, caller, &query).await?;
    let by_day =
        SpendingQuery { by: SpendingBy::Day, project: Some(name.clone()), run: None, day: None, limit: Some(MAX_DAYS) };
    let days = budgets::spending(s, caller, &by_day).await?;
    let tests = match results::latest(s, caller, &name).await {
        Ok(tests) => Some(tests),
        Err(error) if error.kind == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let targets = deployments::list(s, caller).await?;
    let targets: Vec<_> = targets.into_iter().filter(|view| view.target.project == project.name).collect();
    let now = s.clock.now();
    let mut sponsors = deployments::list_sponsors(s, caller).await?;
    sponsors.retain(|sponsor| sponsor.project == project.name && sponsor.state(now) == SponsorState::Active);
    let memories = memory::newest(s, caller, &project.name, MAX_MEMORIES).await?;
    let content = html! {
        header.run {
            div { p.crumbs { a href="/projects" { "Projects" } } h1 { (project.name) } p.meta { (look::outside(&project.repo)) span { "lands on " (base(&project)) } } }
            div.actions { a.button.primary href={ "/runs/new?project=" (project.name) } { "New run" } }
        }
        div.columns {
            div {
                section aria-labelledby="runs" { h2 id="runs" { "Runs" }
                    @if page.rows.is_empty() { (look::empty("This project has no run yet.", html! { a href={ "/runs/new?project=" (project.name) } { "Start the first one" } })) }
                    @else { (run_list::table(&person.visit, &page.rows, false)) p { a href={ "/runs?project=" (project.name) } { "All runs of the project" } } } }
                @if !targets.is_empty() { section aria-labelledby="deployments" { h2 id="deployments" { "Deployments" }
                    (deployment_list::table(&person, &targets)) } }
                section aria-labelledby="spending" { h2 id="spending" { "Spending by day" } (spending::table(&days, "Day (UTC)", None)) }
            }
            aside {
                section.side aria-labelledby="tests" { h2 id="tests" { "Latest checks" }
                    @match &tests {
                        None => p.quiet { "No check has run yet." },
                        Some(tests) => {
                            p { (look::status(if tests.green { "green" } else { "red" })) " at " code { (tests.sha.get(..10).unwrap_or(&tests.sha)) }
                                " in " a href={ "/runs/" (tests.run) } { (tests.run.abbrev()) } }
                            ul.plain { @for r in &tests.results { li { (look::status(if r.green { "green" } else { "red" })) " " (look::line(&r.name)) " "
                                span.quiet { (render::duration(r.duration_ms)) } } } }
                        }
                    } }
                section.side aria-labelledby="checks" { h2 id="checks" { "Checks" }
                    @if project.checks.is_empty() { p.quiet { "Those of .skep.toml at the base commit, else detected ones." } }
                    ul.plain { @for check in &project.checks { li { code { (look::line(&check.command)) } } } } }
                section.side aria-labelledby="engines" { h2 id="engines" { "Engines" }
                    @if project.engines.is_empty() { p.quiet { "As configured for all projects." } }
                    ul.plain { @for (role, spec) in &project.engines { li { (role.name()) ": " (look::line(&spec.named())) } } } }
                @if !sponsors.is_empty() { section.side aria-labelledby="sponsors" { h2 id="sponsors" { "Sponsors" }
                    ul.plain { @for sponsor in &sponsors { li { (look::line(&sponsor.name)) " " span.quiet { (given(sponsor)) } } } } } }
                section.side aria-labelledby="memory" { h2 id="memory" { "Memory" }
                    @if memories.is_empty() { p.quiet { "No memory yet." } }
                    ul.plain { @for memory in &memories { li { (look::line(&memory.title)) " "
                        span.quiet { (memory.kind.name()) @if let Some(run) = memory.run { ", " a href={ "/runs/" (run) } { (run.abbrev()) } } } } } } }
            }
        }
    };
    Ok(shell::page(&person.visit, Page { title: project.name.as_str(), live: Some("any".to_owned()), content }))
}
