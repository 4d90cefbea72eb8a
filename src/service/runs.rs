//! Runs: opening, previewing, listing and reading them.

use super::actions::{self, NewSettings};
use super::audit::record;
use super::idempotency::{self, IdempotencyKey};
use super::{Caller, Right, ServiceError, ServiceResult, Services, input, projects, specs};
pub use crate::actors::Preview;
use crate::actors::RunRequest;
use crate::domain::{Goal, GoalSource, OnDifference, RequestedLimits, Role, Run, RunId};
use crate::ports::PortError;
use crate::ports::journal::JournalRow;
use crate::ports::run_index::{RunFilter, RunMatch, RunRow};
use serde::Serialize;
use std::collections::BTreeMap;

/// Request for a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OpenRun {
    /// Project; either this or `repo`.
    pub project: Option<String>,
    /// Repository; becomes a project the first time.
    pub repo: Option<String>,
    /// Text of the goal; empty if there is a spec.
    pub goal: String,
    /// Text of a task spec, in place of the goal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// Branch to land on; the project's if absent.
    pub base: Option<String>,
    /// Engines by role, `KIND[:ARG]`.
    pub engines: BTreeMap<Role, String>,
    /// Check commands; the project's if empty.
    pub checks: Vec<String>,
    /// Limits in place of the configured ones.
    #[serde(skip_serializing_if = "RequestedLimits::is_empty")]
    pub limits: RequestedLimits,
    /// Whether an open run of the same project and goal is reused.
    pub reuse_open_run: bool,
    /// What to do if that run has other settings than those named here.
    #[serde(skip_serializing_if = "is_default")]
    pub on_difference: OnDifference,
    /// W3C trace context of the request. Not part of what was asked for.
    #[serde(skip)]
    pub traceparent: Option<String>,
}

/// Keeps the fingerprints of requests with an idempotency key as they were before this choice existed.
fn is_default(on_difference: &OnDifference) -> bool {
    *on_difference == OnDifference::default()
}

/// Run that was requested.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The run.
    pub run: Run,
    /// Whether this request opened it; otherwise an open run was reused.
    pub is_new: bool,
}

/// Opens a run under this id, unless an open run is reused.
pub(super) async fn open_as(s: &Services, ask: RunRequest, id: RunId) -> ServiceResult<Opened> {
    let run = s.runtime.open(RunRequest { id: Some(id), ..ask }).await?;
    Ok(Opened { is_new: run.id == id, run })
}

/// Opens a run, or reuses an open one if the request allows that. With an idempotency key a repeated request returns
/// the run that the first one opened, also after a restart.
///
/// # Errors
/// `invalid` if the request is not usable, `no_project`, `settings_differ` if the open run has other engines, checks or limits
/// than those named, `idempotency_key_reused` if the key came with another request, `request_in_progress` if the same request
/// is still being handled after two minutes.
pub async fn open(
    s: &Services,
    caller: &Caller,
    request: OpenRun,
    key: Option<&IdempotencyKey>,
) -> ServiceResult<Opened> {
    caller.require_somewhere(Right::Run)?;
    let Some(key) = key else {
        let opened = open_asked(s, caller, request, s.clock.new_run_id()).await?;
        record_opened(s, caller, &opened).await;
        return Ok(opened);
    };
    let _in_progress = s.in_progress.enter(&caller.principal, key).await?;
    let claim = idempotency::claim(s, caller, key, &request).await?;
    if let Some(mut run) = s.store.load(claim.run).await? {
        caller.require_in(Right::Run, &run.project)?;
        if !run.ended() {
            // The process that drove it may be gone.
            s.runtime.resume(run.id).await;
            run = s.store.load(run.id).await?.unwrap_or(run);
        }
        return Ok(Opened { is_new: claim.opened_by_it, run });
    }
    let opened = open_asked(s, caller, request, claim.run).await?;
    if !opened.is_new {
        s.idempotency.settle(&caller.principal, key.as_str(), opened.run.id).await?;
    }
    record_opened(s, caller, &opened).await;
    Ok(opened)
}

/// Opens a run for what is not a request of a person, under this id, or returns the run that has it.
pub(super) async fn open_from(
    s: &Services,
    caller: &Caller,
    request: OpenRun,
    source: GoalSource,
    id: RunId,
) -> ServiceResult<Run> {
    let opened = open_as(s, ask(s, caller, request, source).await?, id).await?;
    record_opened(s, caller, &opened).await;
    Ok(opened.run)
}

/// Opens a run, or reuses an open one and gives it the named settings if the request asks for that.
async fn open_asked(s: &Services, caller: &Caller, request: OpenRun, id: RunId) -> ServiceResult<Opened> {
    let settings = (request.on_difference == OnDifference::Apply).then(|| NewSettings {
        engines: request.engines.clone(),
        checks: request.checks.clone(),
        limits: request.limits,
    });
    let opened = open_as(s, ask(s, caller, request, GoalSource::Manual).await?, id).await?;
    match settings {
        Some(settings) if !opened.is_new => {
            Ok(Opened { run: actions::reopen(s, caller, &opened.run, &settings).await?, is_new: false })
        }
        _ => Ok(opened),
    }
}

async fn record_opened(s: &Services, caller: &Caller, opened: &Opened) {
    let action = if opened.is_new { "run.open" } else { "run.reuse" };
    record(s, caller, action, subject(&opened.run), &opened.run.goal.title()).await;
}

/// Returns what a run would start with. Nothing is opened, written or spent; only the project's mirror is fetched.
///
/// # Errors
/// As [`open`].
pub async fn preview(s: &Services, caller: &Caller, request: OpenRun) -> ServiceResult<Preview> {
    let ask = ask(s, caller, request, GoalSource::Manual).await?;
    Ok(s.runtime.preview(ask).await?)
}

async fn ask(s: &Services, caller: &Caller, request: OpenRun, source: GoalSource) -> ServiceResult<RunRequest> {
    caller.require_somewhere(Right::Run)?;
    if request.project.is_none() == request.repo.is_none() {
        return Err(ServiceError::invalid("name either `project` or `repo`", "Send exactly one of them"));
    }
    input::lines(request.repo.iter().chain(&request.base).chain(request.engines.values()))?;
    let project = match &request.project {
        Some(text) => Some(projects::find_for(s, caller, Right::Run, text).await?.name),
        // Any repository that the service can read may be named.
        None => caller.require(Right::Run).map(|()| None)?,
    };
    // Editors on Windows start text files with a byte order mark, and a shell passes it on.
    let text = request.goal.trim_start_matches('\u{feff}').to_owned();
    let goal = match &request.spec {
        Some(_) if !text.is_empty() => {
            return Err(ServiceError::invalid("both `goal` and `spec` are given", "Put the goal into the spec"));
        }
        Some(spec) => Goal { source, ..specs::goal(s, spec, &caller.principal)? },
        None => Goal { text, source, asked_by: caller.principal.clone(), spec: None },
    };
    let may_raise = match &project {
        Some(name) => caller.has(Right::Budget, name),
        None => caller.require(Right::Budget).is_ok(),
    };
    input::amounts(request.limits.amounts())?;
    Ok(RunRequest {
        id: None,
        project,
        repo: request.repo,
        goal,
        base: request.base,
        engines: input::engines(caller, &request.engines)?,
        checks: input::checks(s, &request.checks)?,
        limits: request.limits,
        may_raise,
        must_approve: false,
        carry_on: request.reuse_open_run,
        on_difference: request.on_difference,
        traceparent: request.traceparent,
    })
}

/// Query for the run list.
#[derive(Clone, Debug, Default)]
pub struct RunQuery {
    /// Only runs of this project.
    pub project: Option<String>,
    /// Only runs with this status word.
    pub status: Option<String>,
    /// Only runs that have not ended.
    pub open: bool,
    /// Maximum number of rows, 1 to 500; 100 if absent.
    pub limit: Option<u64>,
    /// Only runs older than this one, for paging.
    pub before: Option<String>,
}

/// Page of the run list.
#[derive(Clone, Debug)]
pub struct RunPage {
    /// Rows, newest first.
    pub rows: Vec<RunRow>,
    /// Maximum number of rows.
    pub limit: u64,
    /// Last run of a full page: the next page is before it.
    pub next_before: Option<RunId>,
}

/// Lists runs, newest first.
///
/// # Errors
/// `invalid` if the query is not usable, `no_run` or `no_project` if it names something unknown.
pub async fn list(s: &Services, caller: &Caller, query: &RunQuery) -> ServiceResult<RunPage> {
    caller.require_somewhere(Right::Read)?;
    let limit = input::rows(query.limit)?;
    let before = match &query.before {
        Some(text) => Some(find_id(s, caller, Right::Read, text).await?),
        None => None,
    };
    let projects = match &query.project {
        Some(text) => projects::find_for(s, caller, Right::Read, text).await?.name.into(),
        None => caller.readable(),
    };
    let status = query.status.as_deref().map(input::status).transpose()?;
    let filter = RunFilter { projects, status, open_only: query.open, own_only: false, before, limit };
    let rows = s.store.list(&filter).await?;
    let next_before = rows.last().filter(|_| rows.len() as u64 == limit).map(|last| last.run);
    Ok(RunPage { rows, limit, next_before })
}

/// Returns a run by its id, whole or shortened.
///
/// # Errors
/// `no_run`, `several_runs`, or `quarantined` if its data cannot be read.
pub async fn show(s: &Services, caller: &Caller, id: &str) -> ServiceResult<Run> {
    load(s, caller, Right::Read, id).await
}

/// Returns rows of a run's journal after `after`, in order.
///
/// # Errors
/// `no_run`, `several_runs`, or `invalid` if the limit is out of range.
pub async fn events(
    s: &Services,
    caller: &Caller,
    id: &str,
    after: u64,
    limit: Option<u64>,
) -> ServiceResult<Vec<JournalRow>> {
    let run = find_id(s, caller, Right::Read, id).await?;
    let limit = input::rows(limit)?;
    // The store counts in signed numbers.
    Ok(s.store.events(run, after.min(i64::MAX as u64), limit).await?)
}

/// Returns a run's id by its whole or shortened form. For callers who cannot read its project, a run does not exist.
///
/// # Errors
/// `missing_right` if the caller lacks the right in the run's project, `no_run`, `several_runs`.
pub(super) async fn find_id(s: &Services, caller: &Caller, right: Right, text: &str) -> ServiceResult<RunId> {
    caller.require_somewhere(right)?;
    if text.len() > 36 || !text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return Err(ServiceError::no_run(text));
    }
    let known = caller.projects_with(&[Right::Read, right]);
    let id = match s.store.find(text, &known).await? {
        RunMatch::One(id) => id,
        RunMatch::None => return Err(ServiceError::no_run(text)),
        RunMatch::Several(ids) => return Err(ServiceError::several_runs(text, &ids)),
    };
    if caller.require(right).is_err() {
        let project = s.store.project_of(id).await?.ok_or_else(|| ServiceError::no_run(text))?;
        caller.require_in(right, &project)?;
    }
    Ok(id)
}

/// Returns a run's state.
///
/// # Errors
/// As [`find_id`], `quarantined` if it cannot be read.
pub(super) async fn load(s: &Services, caller: &Caller, right: Right, text: &str) -> ServiceResult<Run> {
    load_id(s, find_id(s, caller, right, text).await?).await
}

/// Returns the state of a run that the caller was found to know.
pub(super) async fn load_id(s: &Services, id: RunId) -> ServiceResult<Run> {
    match s.store.load(id).await {
        Ok(Some(run)) => Ok(run),
        Ok(None) => Err(ServiceError::no_run(&id.to_string())),
        // The store reports this for a snapshot it cannot read; other runs are not affected.
        Err(PortError::Permanent { what, fix }) => Err(ServiceError::conflict("quarantined", what, fix)),
        Err(other) => Err(other.into()),
    }
}

/// Returns the audit subject of a run.
pub(super) fn subject(run: &Run) -> String {
    format!("run:{}", run.id)
}
