//! What a run cost: by model, and by attempt.

use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::Person;
use super::{State, look, run, run_parts, spending};
use crate::ports::ledger::SpendingBy;
use crate::render;
use crate::service::budgets::{self, SpendingQuery};
use crate::service::runs;
use axum::extract::{Path, State as Shared};
use maud::{Markup, html};

/// Attempts in the table.
const MAX_ATTEMPTS: usize = 500;

/// `GET /runs/{id}/cost`.
pub async fn cost(Shared(state): Shared<State>, person: Person, Path(id): Path<String>) -> PageResult<Markup> {
    let run = runs::show(&state.services, &person.caller, &id).await?;
    let query = |by| SpendingQuery { by, project: None, run: Some(run.id.to_string()), day: None, limit: None };
    let models = budgets::spending(&state.services, &person.caller, &query(SpendingBy::Model)).await?;
    let roles = budgets::spending(&state.services, &person.caller, &query(SpendingBy::Role)).await?;
    let content = html! {
        (run::head(&person.visit, &run, "/cost"))
        p.now { "Spent: " (render::usage(run.ledger.spent)) "." }
        div.columns {
            div {
                section aria-labelledby="models" { h2 id="models" { "By model" } (spending::table(&models, "Model", None)) }
                section aria-labelledby="roles" { h2 id="roles" { "By role" } (spending::table(&roles, "Role", None)) }
                section aria-labelledby="attempts" { h2 id="attempts" { "By attempt" }
                    @if run.attempts.is_empty() { (look::empty("No attempt has started.", html! {})) }
                    @else { (run_parts::attempts_table(&person.visit, &run, MAX_ATTEMPTS)) } }
            }
            aside { (run_parts::budget(&person.visit, &run)) }
        }
    };
    let title = format!("Cost · {}", run.goal.title());
    Ok(shell::page(&person.visit, Page { title: &title, live: Some(run::live(&run.id)), content }))
}
