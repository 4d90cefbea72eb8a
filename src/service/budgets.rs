//! Spending, and budgets that runs share. The limits of a single run are raised by [`super::actions::raise`].

use super::audit::record;
use super::{Caller, Right, ServiceError, ServiceResult, Services, input, projects, runs};
use crate::actors::RuntimeError;
use crate::domain::{
    Answer, BlockKind, BudgetKind, BudgetScope, BudgetUnit, Day, Event, ProjectName, Raise, Run, RunId,
};
use crate::ports::PortError;
use crate::ports::ledger::{BudgetRaise, Spending, SpendingBy, SpendingFilter};
use crate::ports::run_index::RunFilter;
use crate::render;

/// Maximum number of waiting runs that one raise resumes. The next raise, or a person, resumes the others.
const MAX_RESUMED: u64 = 500;

/// Query for spending.
#[derive(Clone, Debug)]
pub struct SpendingQuery {
    /// Attribute to sum up by.
    pub by: SpendingBy,
    /// Only this project.
    pub project: Option<String>,
    /// Only this run, by its whole or shortened id.
    pub run: Option<String>,
    /// Only this UTC day, `2026-11-21` or `today`.
    pub day: Option<String>,
    /// Maximum number of rows, 1 to 500; 100 if absent.
    pub limit: Option<u64>,
}

/// Returns what attempts cost, summed up by an attribute.
///
/// # Errors
/// `invalid` if the query is not usable, `no_run` or `several_runs`.
pub async fn spending(s: &Services, caller: &Caller, query: &SpendingQuery) -> ServiceResult<Vec<Spending>> {
    caller.require_somewhere(Right::Read)?;
    let run = match &query.run {
        Some(text) => Some(runs::find_id(s, caller, Right::Read, text).await?),
        None => None,
    };
    let projects = match &query.project {
        Some(name) => projects::named(caller, Right::Read, Some(name))?.into(),
        None => caller.readable(),
    };
    let day = query.day.as_deref().map(|text| input::day(s, text)).transpose()?;
    let filter = SpendingFilter { by: query.by, run, projects, day, limit: input::rows(query.limit)? };
    Ok(s.store.spending(&filter).await?)
}

/// Amounts to add to a shared budget.
#[derive(Clone, Debug)]
pub struct RaiseShared {
    /// Scope.
    pub scope: BudgetScope,
    /// Project, for [`BudgetScope::Project`].
    pub project: Option<String>,
    /// Tokens.
    pub tokens: u64,
    /// Micro-USD.
    pub cost_micros: u64,
}

/// Adds to the limits that the runs of a project, or of the current UTC day, share. Resumes the runs that waited for
/// exactly this budget and returns them.
///
/// # Errors
/// `invalid` if the amounts or the scope are not usable, `no_project`.
pub async fn raise_shared(s: &Services, caller: &Caller, request: &RaiseShared) -> ServiceResult<Vec<RunId>> {
    let project = checked_project(s, caller, request).await?;
    let RaiseShared { scope, tokens, cost_micros, .. } = *request;
    let now = s.clock.now();
    let key = project.as_ref().map_or_else(|| Day::of(now).0.to_string(), |p| p.as_str().to_owned());
    let by = caller.principal.clone();
    s.store.raise_budget(&BudgetRaise { scope, key, tokens, cost_micros, by, at: now }).await?;
    let name = project.as_ref().map_or_else(|| Day::of(now).to_string(), ToString::to_string);
    let detail = amounts(&Raise { tokens, cost_micros, ..Raise::default() });
    record(s, caller, "budget.raise", format!("{}:{name}", scope.name()), &detail).await;
    resume_waiting(s, caller, project, request).await
}

async fn checked_project(s: &Services, caller: &Caller, request: &RaiseShared) -> ServiceResult<Option<ProjectName>> {
    caller.require_somewhere(Right::Budget)?;
    let RaiseShared { scope, project, tokens, cost_micros } = request;
    if *tokens == 0 && *cost_micros == 0 {
        return Err(ServiceError::invalid("no amount is given", "Give `tokens` or `cost_micros` above zero"));
    }
    input::amounts([(BudgetKind::Tokens, *tokens), (BudgetKind::Cost, *cost_micros)])?;
    match (scope, project) {
        (BudgetScope::Project, Some(text)) => Ok(Some(projects::find_for(s, caller, Right::Budget, text).await?.name)),
        (BudgetScope::Day, None) => caller.require(Right::Budget).map(|()| None),
        (BudgetScope::Project, None) => Err(ServiceError::invalid("project: missing", "Name the project")),
        (BudgetScope::Day, Some(_)) => {
            Err(ServiceError::invalid("project: all projects share the budget of a day", "Leave `project` out"))
        }
    }
}

/// Resumes the runs that are blocked by the raised budget.
async fn resume_waiting(
    s: &Services,
    caller: &Caller,
    project: Option<ProjectName>,
    raised: &RaiseShared,
) -> ServiceResult<Vec<RunId>> {
    let filter = RunFilter {
        projects: project.into(),
        open_only: true,
        own_only: true,
        limit: MAX_RESUMED,
        ..RunFilter::default()
    };
    let mut resumed = Vec::new();
    for row in s.store.list(&filter).await?.into_iter().filter(|r| r.blocks.iter().any(|b| b == "budget")) {
        let run = match s.store.load(row.run).await {
            Ok(Some(run)) => run,
            Ok(None) | Err(PortError::Permanent { .. }) => continue,
            Err(other) => return Err(other.into()),
        };
        let Some(block) = run.blocks.iter().find(|b| waits_for(&b.kind, raised)).map(|b| b.id) else { continue };
        let event = Event::Answered { block: Some(block), answer: Answer::Yes, by: caller.principal.clone() };
        match s.runtime.send(run.id, event, None).await {
            Ok(Run { id, .. }) => resumed.push(id),
            // It continued in the meantime, or another process drives it and requests the budget again on its next
            // event.
            Err(RuntimeError::Refused(_) | RuntimeError::Elsewhere(_)) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(resumed)
}

fn waits_for(kind: &BlockKind, raised: &RaiseShared) -> bool {
    let added = |unit: BudgetUnit| match unit {
        BudgetUnit::Tokens => raised.tokens > 0,
        BudgetUnit::Cost => raised.cost_micros > 0,
    };
    match kind {
        BlockKind::SharedBudget { budgets } => budgets.iter().any(|b| b.scope == raised.scope && added(b.unit)),
        _ => false,
    }
}

/// Writes the amounts of a raise for the audit log.
pub(super) fn amounts(raise: &Raise) -> String {
    let word = |(kind, amount): (BudgetKind, u64)| match kind {
        BudgetKind::Cost => format!("cost +{}", render::money(amount)),
        BudgetKind::Time | BudgetKind::StepTime => format!("{} +{}", kind.name(), render::duration(amount * 1_000)),
        _ => format!("{} +{amount}", kind.name()),
    };
    raise.amounts().into_iter().filter(|(_, n)| *n > 0).map(word).collect::<Vec<_>>().join(", ")
}
