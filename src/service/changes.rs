//! Changes of a forge, and actions of people on them through Skep. The run of a change sees each action at once.

use super::audit::record;
use super::{Caller, Right, ServiceError, ServiceResult, Services, input, projects};
use crate::domain::{ChangeNumber, ProjectName, StatusState};
use crate::ports::run_index::RunMatch;
use crate::ports::{Change, HumanActions, PortResult, Repo};
use std::sync::Arc;

/// Maximum bytes of a status's context.
const MAX_CONTEXT_BYTES: usize = 200;

/// Change of a project.
#[derive(Clone, Copy, Debug)]
pub struct ChangeRef<'a> {
    /// Project.
    pub project: &'a str,
    /// Number.
    pub number: u64,
}

/// Status that a CI reports.
#[derive(Clone, Debug)]
pub struct NewStatus {
    /// Context.
    pub context: String,
    /// State.
    pub state: StatusState,
    /// Line for people.
    pub text: String,
    /// Commit; the current head if absent.
    pub sha: Option<String>,
}

/// Lists the changes of a project, newest first, at most 200.
///
/// # Errors
/// `no_project`.
pub async fn list(s: &Services, caller: &Caller, project: &str) -> ServiceResult<Vec<Change>> {
    let (repo, forge) = forge(s, caller, Right::Read, project).await?;
    Ok(forge.changes(&repo).await?)
}

/// Returns a change.
///
/// # Errors
/// `no_project` or `no_change`.
pub async fn show(s: &Services, caller: &Caller, change: ChangeRef<'_>) -> ServiceResult<Change> {
    let (repo, forge) = forge(s, caller, Right::Read, change.project).await?;
    load(forge.as_ref(), &repo, change.number).await
}

/// Reviews a change at its current head: approves it, or requests changes.
///
/// # Errors
/// `invalid` if the text is too long, `not_possible` if the change is closed, and those of [`show`].
pub async fn review(
    s: &Services,
    caller: &Caller,
    change: ChangeRef<'_>,
    approved: bool,
    text: &str,
) -> ServiceResult<Change> {
    caller.require_somewhere(Right::Review)?;
    input::text(text)?;
    let (repo, forge) = existing(s, caller, change).await?;
    let reviewed = forge.review(&repo, ChangeNumber(change.number), &caller.principal, approved, text).await;
    let action = if approved { "change.approve" } else { "change.request_changes" };
    acted(s, caller, change, reviewed, action, text).await
}

/// Comments on a change. `UNBLOCK #b1 …` lifts a block of its run.
///
/// # Errors
/// `invalid` if the text is empty or too long, and those of [`show`].
pub async fn comment(s: &Services, caller: &Caller, change: ChangeRef<'_>, text: &str) -> ServiceResult<Change> {
    caller.require_somewhere(Right::Review)?;
    input::text(text)?;
    if text.trim().is_empty() {
        return Err(ServiceError::invalid("text: empty", "Give a `text`"));
    }
    let (repo, forge) = existing(s, caller, change).await?;
    let commented = forge.comment(&repo, ChangeNumber(change.number), &caller.principal, text).await;
    acted(s, caller, change, commented, "change.comment", text).await
}

/// Merges a change as a person: a fast-forward of the base branch to the current head.
///
/// # Errors
/// `not_possible` if it cannot be merged, and those of [`show`].
pub async fn merge(s: &Services, caller: &Caller, change: ChangeRef<'_>) -> ServiceResult<Change> {
    caller.require_somewhere(Right::Review)?;
    let (repo, forge) = existing(s, caller, change).await?;
    let merged = forge.merge(&repo, ChangeNumber(change.number), &caller.principal).await;
    acted(s, caller, change, merged, "change.merge", "").await
}

/// Closes a change without merging it.
///
/// # Errors
/// As [`merge`].
pub async fn close(s: &Services, caller: &Caller, change: ChangeRef<'_>) -> ServiceResult<Change> {
    caller.require_somewhere(Right::Review)?;
    let (repo, forge) = existing(s, caller, change).await?;
    let closed = forge.close_by(&repo, ChangeNumber(change.number), &caller.principal).await;
    acted(s, caller, change, closed, "change.close", "").await
}

/// Reports a status of a commit, as a CI does.
///
/// # Errors
/// `invalid` if the context or the commit is not usable, and those of [`show`].
pub async fn report_status(
    s: &Services,
    caller: &Caller,
    change: ChangeRef<'_>,
    status: NewStatus,
) -> ServiceResult<Change> {
    caller.require_somewhere(Right::Review)?;
    let NewStatus { context, state, text, sha } = status;
    input::lines([&context, &text])?;
    if context.trim().is_empty() || context.len() > MAX_CONTEXT_BYTES {
        let detail = format!("context: must be 1 to {MAX_CONTEXT_BYTES} bytes");
        return Err(ServiceError::invalid(detail, "Name the CI job, such as `ci/windows`"));
    }
    let (repo, forge) = forge(s, caller, Right::Review, change.project).await?;
    let head = load(forge.as_ref(), &repo, change.number).await?.head;
    let sha = sha.map_or(Ok(head), |sha| input::sha(&sha))?;
    let (number, by) = (ChangeNumber(change.number), &caller.principal);
    let reported = forge.report_status(&repo, number, by, &sha, &context, state, &text).await;
    acted(s, caller, change, reported, "change.status", &context).await
}

/// Records an action on a change and lets its run observe the change.
async fn acted(
    s: &Services,
    caller: &Caller,
    of: ChangeRef<'_>,
    outcome: PortResult<Change>,
    action: &str,
    detail: &str,
) -> ServiceResult<Change> {
    let change = outcome?;
    record(s, caller, action, format!("change:{}#{}", of.project, of.number), detail).await;
    // A run's branch ends with its short id. No run is found for a branch of another installation, and then none needs
    // to observe the change.
    let short = change.branch.rsplit('/').next().unwrap_or_default();
    if let Ok(project) = ProjectName::new(of.project)
        && let Ok(RunMatch::One(run)) = s.store.find(short, &project.into()).await
    {
        s.runtime.refresh(run).await;
    }
    Ok(change)
}

/// Returns the repository of a project, and what people can do on its forge through Skep.
async fn forge(
    s: &Services,
    caller: &Caller,
    right: Right,
    project: &str,
) -> ServiceResult<(Repo, Arc<dyn HumanActions>)> {
    let project = projects::find_for(s, caller, right, project).await?;
    let actions = s.forges.human_actions(&project.forge)?;
    Ok((Repo { project: project.name, origin: project.repo }, actions))
}

async fn load(forge: &dyn HumanActions, repo: &Repo, number: u64) -> ServiceResult<Change> {
    forge.change(repo, ChangeNumber(number)).await.map_err(|e| ServiceError::missing("no_change", e))
}

/// Returns the same as [`forge`] to review with, if the project has the change.
async fn existing(
    s: &Services,
    caller: &Caller,
    change: ChangeRef<'_>,
) -> ServiceResult<(Repo, Arc<dyn HumanActions>)> {
    let (repo, forge) = forge(s, caller, Right::Review, change.project).await?;
    load(forge.as_ref(), &repo, change.number).await?;
    Ok((repo, forge))
}
