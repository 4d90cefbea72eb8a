//! What was spent, and more of the budgets that runs share. A run's own budget is raised by its action.

use super::problem::{ApiError, ApiResult};
use super::view::{RaiseShared, Raised};
use super::{State, find, projects, runs, shapes};
use crate::actors::Rejected;
use crate::domain::{Answer as Said, BlockKind, BudgetScope, Day, Event, Timestamp, describe};
use crate::ports::PortError;
use crate::ports::store::{RunFilter, SharedRaise, Spending, SpendingBy, SpendingFilter};
use axum::Json;
use axum::extract::{Query, State as Shared};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The most waiting runs that one raise tells to go on; those left are told by the next one, or by a person.
const RESUMED_MAX: u64 = 500;
/// More than this at once is a slip.
const AMOUNT_MAX: u64 = 1_000_000_000_000;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(spending)).routes(routes!(raise))
}

/// Which spending.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Summed up by `project`, `role`, `model`, `day` or `run`.
    #[param(value_type = String, example = "model")]
    by: SpendingBy,
    /// Only of this project.
    project: Option<String>,
    /// Only of this run, whole or shortened.
    run: Option<String>,
    /// Only of this UTC day, `2026-11-21`, or `today`.
    #[param(example = "today")]
    day: Option<String>,
    /// At most this many rows: 1 to 500, 100 when left out.
    limit: Option<u64>,
}

/// What attempts cost
///
/// Sums of what was used and what is set aside. Days are UTC; an attempt is charged to the day it was ordered on. A model whose
/// price is not known has `unpriced` attempts: their cost is not in its sum, though the run was charged what was set aside.
#[utoipa::path(get, path = "/api/v1/spending", tag = "budget", params(Which),
    responses((status = 200, body = Vec<shapes::Spending>, description = "The sums")))]
async fn spending(Shared(state): Shared<State>, Query(which): Query<Which>) -> ApiResult<Json<Vec<Spending>>> {
    let run = match &which.run {
        Some(text) => Some(find::run_id(&state, text).await?),
        None => None,
    };
    let project = match &which.project {
        Some(text) => Some(runs::name(text)?),
        None => None,
    };
    let day = which.day.as_deref().map(|text| day(&state, text)).transpose()?;
    let filter = SpendingFilter { by: which.by, run, project, day, limit: runs::rows(which.limit)? };
    Ok(Json(state.store.spending(&filter).await?))
}

fn day(state: &State, text: &str) -> ApiResult<Day> {
    if text == "today" {
        return Ok(today(state));
    }
    let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let at = date.and_then(|d| d.and_hms_opt(0, 0, 0)).map(|t| Timestamp(t.and_utc().timestamp_millis()));
    at.map(Day::of).ok_or_else(|| {
        let shown = super::problem::shown(text);
        ApiError::invalid(format!("day: {shown} is no day"), "Write it as 2026-11-21, or today")
    })
}

fn today(state: &State) -> Day {
    Day::of(state.clock.now())
}

/// Give a shared budget more
///
/// Adds to the limits of the project, or of today (UTC), that runs were opened with. Runs that wait for exactly this budget are
/// told to go on.
#[utoipa::path(post, path = "/api/v1/budget/raise", tag = "budget", request_body = RaiseShared,
    responses((status = 200, body = Raised, description = "Given, durably")))]
async fn raise(Shared(state): Shared<State>, Json(more): Json<RaiseShared>) -> ApiResult<Json<Raised>> {
    let RaiseShared { scope, project, tokens, cost_micros } = more;
    if tokens == 0 && cost_micros == 0 {
        return Err(ApiError::invalid("nothing was given", "Name `tokens` or `cost_micros` above zero"));
    }
    if tokens.max(cost_micros) > AMOUNT_MAX {
        return Err(ApiError::invalid(format!("more than {AMOUNT_MAX} at once"), "Give less"));
    }
    let project = match (scope, project) {
        (BudgetScope::Project, Some(text)) => Some(projects::named(&state, &text).await?.name),
        (BudgetScope::Day, None) => None,
        (BudgetScope::Project, None) => return Err(ApiError::invalid("project: missing", "Name the project")),
        (BudgetScope::Day, Some(_)) => {
            return Err(ApiError::invalid("project: a day is shared by all projects", "Leave `project` out"));
        }
    };
    let key = project.as_ref().map_or_else(|| today(&state).0.to_string(), |p| p.as_str().to_owned());
    let by = state.principal.clone();
    let raise = SharedRaise { share: scope, key, tokens, cost_micros, by, at: state.clock.now() };
    state.store.raise_shared(&raise).await?;
    let who = project.as_ref().map_or_else(|| describe::date(today(&state)), ToString::to_string);
    tracing::info!(scope = scope.name(), who, tokens, cost_micros, by = %raise.by, "a shared budget was raised");
    let filter = RunFilter { project, open_only: true, own_only: true, limit: RESUMED_MAX, ..RunFilter::default() };
    let mut resumed = Vec::new();
    for row in state.store.list(&filter).await?.into_iter().filter(|r| r.blocks.iter().any(|b| b == "budget")) {
        let run = match state.store.load(row.run).await {
            Ok(Some(run)) => run,
            Ok(None) | Err(PortError::Permanent { .. }) => continue,
            Err(other) => return Err(other.into()),
        };
        let given = |money: bool| if money { cost_micros > 0 } else { tokens > 0 };
        let waits = |kind: &BlockKind| match kind {
            BlockKind::Shared { of } => of.iter().any(|b| b.share == scope && given(b.money)),
            _ => false,
        };
        let Some(block) = run.blocks.iter().find(|b| waits(&b.kind)).map(|b| b.id) else { continue };
        let event = Event::Answered { block: Some(block), answer: Said::Yes, by: state.principal.clone() };
        match state.factory.tell(run.id, event, None).await {
            Ok(_) => resumed.push(run.id.to_string()),
            // It went on meanwhile, or another process carries it: it asks again by itself when it is told something.
            Err(Rejected::Refused(_) | Rejected::Elsewhere(_)) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(Json(Raised { resumed }))
}
