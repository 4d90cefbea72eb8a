//! Deployments: what people ask of targets, and what they see of them.
//!
//! | module | duty |
//! |---|---|
//! | `worker` | queues what landed, carries out rollouts, probes what is deployed |
//! | `steps` | the steps of a rollout |
//! | `sponsors` | who pays for hosting |
//!
//! Invariant: what changes a rollout or a deployment is read, changed and stored under one lock.

mod sponsors;
mod steps;
mod worker;

pub use sponsors::{NewSponsor, SponsorAct, add_sponsor, change_sponsor, list_sponsors};
pub use worker::run;

use super::audit::record;
use super::error::shown;
use super::{Caller, ErrorKind, Right, ServiceError, ServiceResult, Services, input, projects};
use crate::domain::deployment::{
    Cause, Coverage, Deployment, DeploymentStatus, Hold, Rollout, RolloutEvent, RolloutState, SponsorState, Suspension,
    Target, waiting,
};
use crate::domain::{Sha, Timestamp};
use crate::ports::deployments::{Deployer, Deployments};
use crate::ports::{PortError, PortResult, Repo};
use crate::render;
use std::sync::Arc;
use tokio::sync::{Mutex, Notify};

/// Rollouts that are listed.
const MAX_ROLLOUTS: u64 = 50;
/// Longest reason, in characters.
const MAX_WHY_CHARS: usize = 500;

/// The targets, and what the use cases about them work with.
#[derive(Clone)]
pub struct DeployParts {
    /// The configured targets.
    pub targets: Arc<[Target]>,
    /// What is stored about them.
    pub store: Arc<dyn Deployments>,
    /// Brings versions to them.
    pub deployer: Arc<dyn Deployer>,
    /// Wakes the worker.
    pub wake: Arc<Notify>,
    /// Held while a stored rollout or deployment is changed.
    pub writing: Arc<Mutex<()>>,
}

impl DeployParts {
    /// Creates the parts.
    pub fn new(targets: Arc<[Target]>, store: Arc<dyn Deployments>, deployer: Arc<dyn Deployer>) -> DeployParts {
        DeployParts { targets, store, deployer, wake: Arc::default(), writing: Arc::default() }
    }
}

/// A target with what is known about it.
#[derive(Clone, Debug)]
pub struct DeploymentView {
    /// The target.
    pub target: Target,
    /// What was observed.
    pub deployment: Deployment,
    /// The status.
    pub status: DeploymentStatus,
    /// Whether somebody pays for its hosting.
    pub coverage: Coverage,
    /// When all this was read.
    pub at: Timestamp,
    /// Its rollouts, newest first.
    pub rollouts: Vec<Rollout>,
}

impl DeploymentView {
    /// Returns the rollout that waits for a person.
    pub fn waiting(&self) -> Option<&Rollout> {
        let newest = self.rollouts.iter().find(|r| !r.state.is_ended())?;
        waiting(std::slice::from_ref(newest))
    }

    /// Returns why the target is suspended, in words.
    pub fn suspended_why(&self) -> Option<String> {
        match (self.deployment.hold(&self.target, self.coverage, self.at), &self.deployment.probe) {
            (Some(hold), _) => Some(in_words(hold)),
            (None, Some(probe)) if self.deployment.is_down() => {
                Some(format!("{} probes in a row were red: {}", probe.reds, probe.got))
            }
            _ => None,
        }
    }

    /// Returns how the suspension ends, if there is one.
    pub fn suspended_fix(&self) -> Option<String> {
        let hold = self.deployment.hold(&self.target, self.coverage, self.at);
        let is_down = self.deployment.is_down();
        let resume = || format!("`skep deploy resume {}` resumes it", self.target.name);
        hold.map(|hold| how_to_lift(hold, &self.target)).or_else(|| is_down.then(resume))
    }

    /// Returns whether `resume` lifts the suspension.
    pub fn is_resumable(&self) -> bool {
        !matches!(self.deployment.hold(&self.target, self.coverage, self.at), Some(Hold::Unsponsored { .. }))
    }
}

fn in_words(hold: Hold<'_>) -> String {
    match hold {
        Hold::Person(Suspension { by, why, .. }) => format!("suspended by {by}: {why}"),
        Hold::Unsponsored { since } => {
            format!("suspended: its hosting has not been sponsored since {}", render::utc(since))
        }
    }
}

/// Version to deploy.
#[derive(Clone, Debug, Default)]
pub struct DeployRequest {
    /// The commit; the newest one of the branch if absent.
    pub sha: Option<String>,
    /// Whether the caller approves the rollout at once.
    pub approve: bool,
}

/// Returns a configured target. For callers who cannot read its project, it does not exist.
fn find<'s>(s: &'s Services, caller: &Caller, right: Right, name: &str) -> ServiceResult<&'s Target> {
    caller.require_somewhere(right)?;
    let readable = s
        .deploy
        .targets
        .iter()
        .filter(|target| caller.has(Right::Read, &target.project) || caller.has(right, &target.project));
    let found = readable.clone().find(|target| target.name == name);
    let target = found.ok_or_else(|| {
        let known: Vec<&str> = readable.map(|target| target.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        ServiceError::not_found(
            "no_target",
            format!("there is no target {}; configured are: {known}", shown(name)),
            "`skep deploy list` lists the targets",
        )
    })?;
    caller.require_in(right, &target.project).map(|()| target)
}

async fn observed(s: &Services, target: &Target) -> PortResult<Deployment> {
    let known = s.deploy.store.deployment(&target.name).await?;
    Ok(known.unwrap_or_else(|| Deployment::new(&target.name, s.clock.now())))
}

async fn view(s: &Services, target: &Target, rollouts: u64) -> ServiceResult<DeploymentView> {
    let deployment = observed(s, target).await?;
    let (coverage, at) = (sponsors::coverage(s, &target.project).await?, s.clock.now());
    let status = deployment.status(target, coverage, at);
    let rollouts = s.deploy.store.rollouts(&target.name, rollouts).await?;
    Ok(DeploymentView { target: target.clone(), deployment, status, coverage, at, rollouts })
}

/// Lists the targets with their newest rollouts, by name.
///
/// # Errors
/// If the caller may not read.
pub async fn list(s: &Services, caller: &Caller) -> ServiceResult<Vec<DeploymentView>> {
    caller.require_somewhere(Right::Read)?;
    let mut all = Vec::new();
    for target in s.deploy.targets.iter().filter(|target| caller.has(Right::Read, &target.project)) {
        all.push(view(s, target, 5).await?);
    }
    Ok(all)
}

/// Returns a target with its rollouts.
///
/// # Errors
/// `no_target`.
pub async fn show(s: &Services, caller: &Caller, name: &str) -> ServiceResult<DeploymentView> {
    view(s, find(s, caller, Right::Read, name)?, MAX_ROLLOUTS).await
}

/// Returns what anyone may know of a public target, with the sponsors that agreed to be named; `None` if it does not exist
/// or is not public.
///
/// # Errors
/// If the store is not available.
pub async fn public(s: &Services, name: &str) -> ServiceResult<Option<(DeploymentView, Vec<String>)>> {
    let Some(target) = s.deploy.targets.iter().find(|target| target.is_public && target.name == name) else {
        return Ok(None);
    };
    let now = s.clock.now();
    let sponsors = s.deploy.store.sponsors().await?.into_iter();
    let named = sponsors.filter(|sponsor| {
        sponsor.project == target.project && sponsor.is_public && sponsor.state(now) == SponsorState::Active
    });
    let named = named.map(|sponsor| sponsor.name);
    let named = named.collect();
    Ok(Some((view(s, target, 1).await?, named)))
}

/// Returns a rollout with its target.
///
/// # Errors
/// `no_target` or `no_rollout`.
pub async fn rollout(s: &Services, caller: &Caller, name: &str, number: u64) -> ServiceResult<(Target, Rollout)> {
    let target = find(s, caller, Right::Read, name)?;
    let found = s.deploy.store.rollout(name, number).await?;
    found.map(|rollout| (target.clone(), rollout)).ok_or_else(|| no_rollout(name, number))
}

fn no_rollout(name: &str, number: u64) -> ServiceError {
    let detail = format!("there is no rollout {number} of {}", shown(name));
    ServiceError::not_found("no_rollout", detail, format!("`skep deploy show {name}` lists the rollouts"))
}

/// Returns the acceptance report of a rollout with the runbook, in Markdown.
///
/// # Errors
/// `no_target` or `no_rollout`.
pub async fn report(s: &Services, caller: &Caller, name: &str, number: u64) -> ServiceResult<String> {
    let (target, rollout) = rollout(s, caller, name, number).await?;
    let runbook = render::deployment::runbook(&target, &rollout.sha, rollout.previous.as_ref());
    Ok(format!("{}\n{runbook}", render::deployment::report(&rollout, &target)))
}

/// Returns how a person deploys the present version, checks it and rolls back without Skep, in Markdown.
///
/// # Errors
/// `no_target`, or the repository cannot be read.
pub async fn runbook(s: &Services, caller: &Caller, name: &str) -> ServiceResult<String> {
    let target = find(s, caller, Right::Read, name)?;
    let deployment = observed(s, target).await?;
    let sha = match deployment.sha {
        Some(sha) => sha,
        None => head(s, target).await?.2,
    };
    Ok(render::deployment::runbook(target, &sha, deployment.previous.as_ref()))
}

/// Returns the repository of a target, its branch, and the newest commit there.
async fn head(s: &Services, target: &Target) -> ServiceResult<(Repo, String, Sha)> {
    let project = projects::find(s, target.project.as_str()).await?;
    let repo = Repo { project: project.name.clone(), origin: project.repo.clone() };
    let branch = target.branch.as_deref().or(project.base.as_deref());
    let (branch, sha) = s.workspaces.fetch(&repo, branch).await?;
    Ok((repo, branch, sha))
}

/// Queues a rollout.
///
/// # Errors
/// If the caller may not, if the target is suspended, or if the commit is not on its branch.
pub async fn deploy(s: &Services, caller: &Caller, name: &str, request: DeployRequest) -> ServiceResult<Rollout> {
    let target = find(s, caller, Right::Run, name)?;
    if request.approve {
        require_approver(caller, target)?;
    }
    refuse_held(s, target).await?;
    let (repo, _, newest) = head(s, target).await?;
    let sha = match &request.sha {
        None => newest,
        Some(text) => {
            let sha = input::sha(text)?;
            let is_there = match s.workspaces.contains(&repo, &sha, &newest).await {
                Ok(is_there) => is_there,
                // The repository has no such commit.
                Err(PortError::Permanent { .. }) => false,
                Err(other) => return Err(other.into()),
            };
            if !is_there {
                let detail = format!("sha: {} is not on the branch that {name} deploys", sha.abbrev());
                return Err(ServiceError::invalid(
                    detail,
                    "Give the id of a commit that is on the branch of the target",
                ));
            }
            sha
        }
    };
    let cause = Cause::Requested { by: caller.principal.clone() };
    queue_requested(s, caller, target, sha, cause, request.approve, "deploy.start").await
}

/// Queues a rollout of an earlier version: the one before, or that of a rollout that was deployed.
///
/// # Errors
/// If the caller may not, or there is no such version.
pub async fn roll_back(s: &Services, caller: &Caller, name: &str, to: Option<u64>) -> ServiceResult<Rollout> {
    let target = find(s, caller, Right::Approve, name)?;
    require_approver(caller, target)?;
    let deployment = observed(s, target).await?;
    let open = s.deploy.store.open_rollouts(name).await?;
    if let Some(current) = open.iter().find(|rollout| rollout.state.is_in_progress()) {
        // Which version is the one before is unknown until it has ended.
        let detail = format!("rollout {} of {name} is in progress", current.number);
        return Err(ServiceError::conflict("in_progress", detail, "Wait until it has ended, then look at the target"));
    }
    let sha = match to {
        None => deployment.previous.clone(),
        Some(number) => {
            let found = s.deploy.store.rollout(name, number).await?.ok_or_else(|| no_rollout(name, number))?;
            (found.state == RolloutState::Deployed).then_some(found.sha)
        }
    };
    let Some(sha) = sha.filter(|sha| deployment.sha.as_ref() != Some(sha)) else {
        return Err(ServiceError::conflict(
            "no_version",
            format!("{name} has no other version to roll back to"),
            format!("`skep deploy show {name}` lists the rollouts; name one that was deployed"),
        ));
    };
    let cause = Cause::Rollback { by: caller.principal.clone() };
    queue_requested(s, caller, target, sha, cause, true, "deploy.rollback").await
}

/// Checks that the caller may approve deployments to a target, and is a person.
fn require_approver(caller: &Caller, target: &Target) -> ServiceResult<()> {
    caller.require_in(Right::Approve, &target.project)?;
    match caller.principal.is_person() {
        true => Ok(()),
        false => Err(ServiceError::forbidden(
            "not_a_person",
            format!("{} is a program, and only a person approves a deployment", caller.principal),
            "Ask a person who has the right `approve`",
        )),
    }
}

async fn refuse_held(s: &Services, target: &Target) -> ServiceResult<()> {
    let deployment = observed(s, target).await?;
    let coverage = sponsors::coverage(s, &target.project).await?;
    let Some(hold) = deployment.hold(target, coverage, s.clock.now()) else { return Ok(()) };
    let fix = how_to_lift(hold, target);
    Err(ServiceError::conflict("suspended", format!("{} is {}", target.name, in_words(hold)), fix))
}

fn how_to_lift(hold: Hold<'_>, target: &Target) -> String {
    let Target { name, project, .. } = target;
    match hold {
        Hold::Person(_) => format!("`skep deploy resume {name}` lifts the suspension"),
        Hold::Unsponsored { .. } => format!(
            "Add a sponsor with `skep sponsor add NAME --project {project} --hosting`, or remove deploy.{name}.unsponsored"
        ),
    }
}

async fn queue_requested(
    s: &Services,
    caller: &Caller,
    target: &Target,
    sha: Sha,
    cause: Cause,
    approve: bool,
    action: &str,
) -> ServiceResult<Rollout> {
    let id = s.clock.new_run_id();
    let rollout = Rollout {
        approved_by: approve.then(|| caller.principal.clone()),
        ..queued(target, id, sha, cause, s.clock.now())
    };
    let rollout = Rollout { key: format!("request.{id}"), ..rollout };
    let _writing = s.deploy.writing.lock().await;
    let added = s.deploy.store.add_rollout(&rollout).await?;
    let rollout = added.ok_or_else(|| ServiceError::unavailable("the rollout was not stored", "Try again"))?;
    record(s, caller, action, format!("deployment:{}", target.name), rollout.sha.as_str()).await;
    s.deploy.wake.notify_waiters();
    Ok(rollout)
}

fn queued(target: &Target, id: crate::domain::RunId, sha: Sha, cause: Cause, now: Timestamp) -> Rollout {
    Rollout {
        target: target.name.clone(),
        number: 0,
        id,
        key: String::new(),
        sha,
        previous: None,
        cause,
        state: RolloutState::Queued,
        proof: None,
        approved_by: None,
        why: String::new(),
        deployment: None,
        criteria: Vec::new(),
        rollback: None,
        rollback_criteria: Vec::new(),
        created_at: now,
        started_at: None,
        ended_at: None,
    }
}

/// Approves the rollout that waits, or declines it with a reason. With `seen`, only if that rollout still waits.
///
/// # Errors
/// If the caller may not, or none waits; `moved` if another one than that seen waits.
pub async fn answer(
    s: &Services,
    caller: &Caller,
    name: &str,
    seen: Option<u64>,
    decline: Option<String>,
) -> ServiceResult<Rollout> {
    let target = find(s, caller, Right::Approve, name)?;
    require_approver(caller, target)?;
    let _writing = s.deploy.writing.lock().await;
    let open = s.deploy.store.open_rollouts(name).await?;
    let Some(rollout) = waiting(&open) else {
        return Err(ServiceError::conflict(
            "nothing_waits",
            format!("no rollout of {name} waits for approval"),
            format!("`skep deploy show {name}` lists the rollouts"),
        ));
    };
    if seen.is_some_and(|seen| seen != rollout.number) {
        let detail = format!("rollout {} of {name} waits now; nothing was answered", rollout.number);
        return Err(ServiceError::new(ErrorKind::Moved, "moved", detail, "Look at the target as it is now"));
    }
    let by = caller.principal.clone();
    let (event, action) = match decline {
        None => (RolloutEvent::Approved { by }, "deploy.approve"),
        Some(why) => (RolloutEvent::Declined { by, why: reason(&why)? }, "deploy.decline"),
    };
    let next = rollout.after(event, target, s.clock.now());
    let next = next.map_err(|why| ServiceError::conflict("not_waiting", why, "Show the target"))?;
    s.deploy.store.put_rollout(&next).await?;
    record(s, caller, action, format!("deployment:{name}"), next.sha.as_str()).await;
    s.deploy.wake.notify_waiters();
    Ok(next)
}

fn reason(text: &str) -> ServiceResult<String> {
    input::text(text)?;
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WHY_CHARS).collect();
    match line.trim() {
        "" => Err(ServiceError::invalid("why: the reason is empty", "Say why, for those who see it later")),
        line => Ok(line.to_owned()),
    }
}

/// Suspends a target: nothing new is deployed to it until somebody resumes it. What is deployed stays as it is.
///
/// # Errors
/// If the caller may not, or the reason is empty.
pub async fn suspend(s: &Services, caller: &Caller, name: &str, why: &str) -> ServiceResult<DeploymentView> {
    let target = find(s, caller, Right::Approve, name)?;
    let why = reason(why)?;
    let suspension = Suspension { by: caller.principal.clone(), why: why.clone(), at: s.clock.now() };
    change(s, target, |deployment| deployment.suspended = Some(suspension)).await?;
    record(s, caller, "deploy.suspend", format!("deployment:{name}"), &why).await;
    view(s, target, 5).await
}

/// Resumes a suspended target, whoever or whatever suspended it.
///
/// # Errors
/// If the caller may not.
pub async fn resume(s: &Services, caller: &Caller, name: &str) -> ServiceResult<DeploymentView> {
    let target = find(s, caller, Right::Approve, name)?;
    change(s, target, |deployment| (deployment.suspended, deployment.probe) = (None, None)).await?;
    record(s, caller, "deploy.resume", format!("deployment:{name}"), "").await;
    s.deploy.wake.notify_waiters();
    // What a person cannot lift is said, not passed over.
    refuse_held(s, target).await?;
    view(s, target, 5).await
}

/// Probes a target now.
///
/// # Errors
/// If the caller may not, or the target cannot be probed.
pub async fn probe(s: &Services, caller: &Caller, name: &str) -> ServiceResult<DeploymentView> {
    let target = find(s, caller, Right::Run, name)?;
    if target.probe().is_none() {
        let fix = format!("Add a criterion with http to [deploy.{name}.accept.NAME]");
        return Err(ServiceError::conflict("no_probe", format!("{name} has no criterion that makes a request"), fix));
    }
    let Some(sha) = observed(s, target).await?.sha else {
        let detail = format!("nothing is deployed to {name} yet");
        return Err(ServiceError::conflict("not_deployed", detail, format!("`skep deploy {name}` deploys it")));
    };
    worker::probe(s, target, &sha).await?;
    view(s, target, 5).await
}

/// Changes what is stored about a target.
async fn change(s: &Services, target: &Target, change: impl FnOnce(&mut Deployment)) -> PortResult<Deployment> {
    let _writing = s.deploy.writing.lock().await;
    let mut deployment = observed(s, target).await?;
    let before = (deployment.sha.clone(), deployment.suspended.clone(), deployment.is_down());
    change(&mut deployment);
    if before != (deployment.sha.clone(), deployment.suspended.clone(), deployment.is_down()) {
        deployment.changed_at = s.clock.now();
    }
    s.deploy.store.put_deployment(&deployment).await?;
    Ok(deployment)
}
