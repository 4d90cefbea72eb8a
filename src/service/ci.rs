//! Results of any CI, reported by it: a commit status that the gates of the branch's run read.

use super::audit::record;
use super::runs::subject;
use super::{Caller, Right, ServiceError, ServiceResult, Services, input};
use crate::domain::{ForgeName, OwnStatus, Run, StatusState};
use crate::ports::Repo;
use crate::ports::run_index::RunMatch;

/// Maximum bytes of a context.
const MAX_CONTEXT_BYTES: usize = 200;

/// Result of a CI.
#[derive(Clone, Debug)]
pub struct CiReport {
    /// Branch of a run.
    pub branch: String,
    /// Commit that was tested.
    pub sha: String,
    /// Context, such as `ci/windows`.
    pub context: String,
    /// State.
    pub state: StatusState,
    /// Address of the CI's own report.
    pub url: Option<String>,
}

/// Sets a commit status on the change of a branch's run, and lets the run observe it.
///
/// # Errors
/// `invalid` if a part is not usable, `no_run` if no run has the branch, `no_change` if its change is not open yet.
pub async fn report(s: &Services, caller: &Caller, report: CiReport) -> ServiceResult<Run> {
    caller.require_somewhere(Right::Review)?;
    let CiReport { branch, sha, context, state, url } = report;
    input::lines([&branch, &context].into_iter().chain(&url))?;
    let is_own = OwnStatus::CONTEXTS.contains(&context.as_str());
    if context.trim().is_empty() || context.len() > MAX_CONTEXT_BYTES || context.chars().any(char::is_control) || is_own
    {
        return Err(ServiceError::invalid(
            format!("context: must be 1 to {MAX_CONTEXT_BYTES} bytes, and none of {}", OwnStatus::CONTEXTS.join(", ")),
            "Name the CI job, such as `ci/windows`",
        ));
    }
    let sha = input::sha(&sha)?;
    if url.as_ref().is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        return Err(ServiceError::invalid("url: must be an http or https URL", "Give the address of the CI's report"));
    }
    let run = run_of(s, caller, &branch).await?;
    let Some(change) = &run.change else {
        let detail = format!("run {} has no change yet", run.id.abbrev());
        return Err(ServiceError::conflict("no_change", detail, "Report it again once the change is open"));
    };
    let repo = Repo { project: run.project.clone(), origin: run.settings.origin.clone() };
    let forge = &run.settings.forge;
    let text = url.unwrap_or_default();
    match *forge == ForgeName::default() {
        true => {
            let actions = s.forges.human_actions(forge)?;
            actions.report_status(&repo, change.number, &caller.principal, &sha, &context, state, &text).await?;
        }
        false => s.forges.get(forge)?.set_status(&repo, change.number, &sha, &context, state, &text).await?,
    }
    record(s, caller, "ci.report", subject(&run), &context).await;
    s.runtime.refresh(run.id).await;
    Ok(s.store.load(run.id).await?.unwrap_or(run))
}

/// Returns the run of a branch: its name ends with the run's short id.
async fn run_of(s: &Services, caller: &Caller, branch: &str) -> ServiceResult<Run> {
    let short = branch.rsplit('/').next().unwrap_or_default();
    let known = caller.projects_with(&[Right::Review, Right::Read]);
    let found = match short.len() == 8 {
        true => s.store.find(short, &known).await?,
        false => RunMatch::None,
    };
    let run = match found {
        RunMatch::One(id) => s.store.load(id).await?,
        RunMatch::None | RunMatch::Several(_) => None,
    };
    let run = run.filter(|run| run.settings.branch == branch).ok_or_else(|| {
        let detail = format!("no run has the branch {}", super::error::shown(branch));
        ServiceError::not_found("no_run", detail, "Report results only for branches that Skep pushed")
    })?;
    caller.require_in(Right::Review, &run.project)?;
    Ok(run)
}
