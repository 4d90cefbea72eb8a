//! Checks without a run: planning them, and running them on the base commit.

use super::{Caller, Right, ServiceError, ServiceResult, Services, input, projects, specs};
pub use crate::actors::CheckPlan;
use crate::actors::{PlanFor, RunRequest, how_to_name};
use crate::domain::{CheckKind, CheckResult, Goal, GoalSource, OnDifference, Principal, ProjectName, RunId, Sha};
pub use crate::ports::checks::{CheckProgress, NetworkNeed};
use crate::ports::{PortResult, Repo};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Upper bound on progress that a slow reader has not taken yet; what is beyond it is dropped.
const MAX_BACKLOG: usize = 1_000;

/// Request for the checks of a repository.
#[derive(Clone, Debug, Default)]
pub struct ChecksRequest {
    /// Project; either this or `repo`.
    pub project: Option<String>,
    /// Repository.
    pub repo: Option<String>,
    /// Branch.
    pub base: Option<String>,
    /// Check commands, instead of those that the project names or that are detected.
    pub checks: Vec<String>,
    /// Text of a task spec: the commands of its criteria run instead of the checks, after the setup.
    pub spec: Option<String>,
    /// Whether the repository's working copy is checked instead of its last commit.
    pub working_copy: bool,
}

/// Progress of running checks, in this order.
#[derive(Debug)]
pub enum ChecksEvent {
    /// A check started, printed something, or ended.
    Progress(CheckProgress),
    /// All checks ended.
    Ended(Vec<CheckResult>),
    /// The checks could not be run.
    Failed(ServiceError),
}

/// Returns the checks of a repository, and what they need from the network.
///
/// # Errors
/// `invalid` if the repository cannot be read, `no_project`.
pub async fn plan(s: &Services, caller: &Caller, request: ChecksRequest) -> ServiceResult<CheckPlan> {
    caller.require_somewhere(Right::Run)?;
    if request.project.is_none() == request.repo.is_none() {
        return Err(ServiceError::invalid("name either `project` or `repo`", "Send exactly one of them"));
    }
    input::lines(request.repo.iter().chain(&request.base))?;
    let project = match &request.project {
        Some(text) => Some(projects::find_for(s, caller, Right::Run, text).await?.name),
        None => caller.require(Right::Run).map(|()| None)?,
    };
    let goal = match &request.spec {
        Some(spec) => specs::goal(s, spec, &caller.principal)?,
        None => no_goal(caller.principal.clone()),
    };
    let checks = input::checks(s, &request.checks)?;
    let ask = RunRequest { project, repo: request.repo, base: request.base, checks, ..no_run(goal) };
    // The working copy is stored under the id of a run that is never opened.
    let run = request.working_copy.then(|| s.clock.new_run_id());
    let plan = s.runtime.plan_checks(ask, run.map_or(PlanFor::Base, PlanFor::WorkingCopy)).await;
    if let Some(run) = run
        && let Ok(plan) = &plan
    {
        release(s, &plan.repo, run).await;
    }
    let mut plan = plan?;
    if request.spec.is_some() {
        plan.checks.retain(|check| matches!(check.kind, CheckKind::Setup | CheckKind::Accept));
    }
    Ok(plan)
}

/// Runs the checks of a project at a commit of one of its branches, and returns their results; none = it has no checks.
pub(super) async fn run_at(
    s: &Services,
    project: &ProjectName,
    branch: Option<&str>,
    sha: &Sha,
    by: &Principal,
) -> ServiceResult<Vec<CheckResult>> {
    let (project, base) = (Some(project.clone()), branch.map(str::to_owned));
    let ask = RunRequest { project, base, ..no_run(no_goal(by.clone())) };
    let plan = s.runtime.plan_checks(ask, PlanFor::Commit(sha.clone())).await?;
    if plan.checks.is_empty() {
        return Ok(Vec::new());
    }
    let run = s.clock.new_run_id();
    let (progress, _nobody_watches) = mpsc::channel(1);
    let results = run_all(s, &plan, run, progress).await;
    release(s, &plan.repo, run).await;
    Ok(results?)
}

fn no_goal(asked_by: Principal) -> Goal {
    Goal { text: String::new(), source: GoalSource::Manual, asked_by, spec: None }
}

/// Returns the request of a run that is never opened.
fn no_run(goal: Goal) -> RunRequest {
    RunRequest {
        id: None,
        project: None,
        repo: None,
        goal,
        base: None,
        engines: BTreeMap::new(),
        checks: Vec::new(),
        limits: Default::default(),
        may_raise: false,
        must_approve: false,
        carry_on: false,
        on_difference: OnDifference::Keep,
        traceparent: None,
    }
}

/// Removes what was stored for a run that is never opened.
async fn release(s: &Services, repo: &Repo, run: RunId) {
    if let Err(error) = s.workspaces.release(repo, run, &format!("skep/{}", run.abbrev())).await {
        tracing::warn!(%error, "cannot remove the files of checks without a run");
    }
}

/// Runs the checks of a plan on its commit, as a run would. Dropping the receiver ends them.
///
/// # Errors
/// `invalid` if the plan has no checks.
pub fn run(s: &Services, caller: &Caller, plan: CheckPlan) -> ServiceResult<mpsc::Receiver<ChecksEvent>> {
    caller.require_in(Right::Run, &plan.repo.project)?;
    if plan.checks.is_empty() {
        let found = if plan.missing.is_empty() { String::new() } else { format!(": {}", plan.missing.join("; ")) };
        let detail = format!("no checks were found in {} at {}{found}", plan.repo.origin, plan.base.abbrev());
        return Err(ServiceError::invalid(detail, how_to_name(&plan.proposals)));
    }
    let (sender, receiver) = mpsc::channel(MAX_BACKLOG);
    let (s, run) = (s.clone(), s.clock.new_run_id());
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = run_all(&s, &plan, run, sender.clone()) => Some(ended),
            () = sender.closed() => None,
        };
        // Before the end is reported: the process of the caller may end with it.
        release(&s, &plan.repo, run).await;
        let event = match ended {
            Some(Ok(results)) => ChecksEvent::Ended(results),
            Some(Err(error)) => ChecksEvent::Failed(error.into()),
            None => return,
        };
        // A reader that left needs no answer.
        let _left = sender.send(event).await;
    });
    Ok(receiver)
}

async fn run_all(
    s: &Services,
    plan: &CheckPlan,
    run: RunId,
    sender: mpsc::Sender<ChecksEvent>,
) -> PortResult<Vec<CheckResult>> {
    const NAME: &str = "check";
    let dir = s.workspaces.check_dir(&plan.repo, run, NAME, &plan.base).await?;
    let (cache, _) = s.workspaces.scratch_dirs(run, NAME);
    let watch = Arc::new(move |progress| {
        // Only a line of output can be lost: `Ended` carries every result.
        let _full = sender.try_send(ChecksEvent::Progress(progress));
    });
    let checks = s.parts.current().checks.clone();
    let checked = checks.run_watched(&plan.repo, &dir, &cache, plan.trust, &plan.checks, watch).await?;
    Ok(checked.into_iter().map(|check| check.result).collect())
}
