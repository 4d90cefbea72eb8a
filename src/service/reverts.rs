//! Reverts: what a run has landed is taken back by another run, which is checked, reviewed and approved like every other.

use super::actions::NewSettings;
use super::audit::record;
use super::runs::{self, Opened, open_as, subject};
use super::{Caller, Right, ServiceError, ServiceResult, Services, input};
use crate::actors::RunRequest;
use crate::domain::{CheckKind, EngineSpec, Goal, GoalSource, OnDifference, Outcome, Role, Run, RunId, Sha};

/// What a revert is asked for with.
#[derive(Clone, Debug, Default)]
pub struct Revert {
    /// Why, for those who review and approve it.
    pub why: Option<String>,
    /// Engines, checks and limits in place of the project's or the landed run's. The developer is Git.
    pub settings: NewSettings,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
}

/// Opens a run that takes back what another one has landed, or returns the open one that does.
///
/// # Errors
/// `missing_right`, `no_run`, `several_runs`, `not_landed` if the run has landed nothing, and those of opening a run.
pub async fn revert(s: &Services, caller: &Caller, id: &str, asked: Revert) -> ServiceResult<Opened> {
    let landed = runs::load(s, caller, Right::Run, id).await?;
    open_revert(s, caller, &landed, asked, s.clock.new_run_id(), false).await
}

/// Opens the run that takes back what turned CI red, under this id, or returns the open one that does. A person has to
/// approve its merge, whatever the policy says.
///
/// # Errors
/// As [`revert`].
pub(super) async fn propose(
    s: &Services,
    caller: &Caller,
    landed: &Run,
    why: &str,
    id: RunId,
) -> ServiceResult<Opened> {
    let asked = Revert { why: Some(why.to_owned()), ..Revert::default() };
    open_revert(s, caller, landed, asked, id, true).await
}

async fn open_revert(
    s: &Services,
    caller: &Caller,
    landed: &Run,
    asked: Revert,
    id: RunId,
    must_approve: bool,
) -> ServiceResult<Opened> {
    let Some(Outcome::Delivered { sha }) = &landed.outcome else {
        let detail = format!("run {} has landed nothing", landed.id.abbrev());
        return Err(ServiceError::conflict("not_landed", detail, "Name a run whose change has landed"));
    };
    let mut text = format!(
        "Revert \"{}\"\n\nRevert the change that run {} landed on {} as {}.",
        landed.goal.title(),
        landed.id.abbrev(),
        landed.settings.base_branch,
        sha.abbrev()
    );
    if let Some(why) = asked.why.as_deref().map(str::trim).filter(|why| !why.is_empty()) {
        input::text(why)?;
        text = format!("{text}\n\n{why}");
    }
    input::lines(asked.settings.engines.values())?;
    let mut engines = input::engines(caller, &asked.settings.engines)?;
    // There is nothing to plan.
    engines.entry(Role::Manager).or_insert_with(|| EngineSpec::parse("direct"));
    engines.insert(Role::Dev, git_revert(landed, sha));
    let mut checks = input::checks(s, &asked.settings.checks)?;
    if checks.is_empty() {
        // What the goal was accepted by is to be undone with it.
        checks.extend(landed.settings.checks.iter().filter(|check| check.kind != CheckKind::Accept).cloned());
    }
    let request = RunRequest {
        id: None,
        project: Some(landed.project.clone()),
        repo: None,
        goal: Goal {
            text,
            source: GoalSource::Revert { run: landed.id },
            asked_by: caller.principal.clone(),
            spec: None,
        },
        base: Some(landed.settings.base_branch.clone()),
        engines,
        checks,
        limits: asked.settings.limits,
        may_raise: caller.has(Right::Budget, &landed.project),
        must_approve,
        carry_on: true,
        on_difference: OnDifference::Keep,
        traceparent: asked.traceparent,
    };
    let opened = open_as(s, request, id).await?;
    if opened.is_new {
        record(s, caller, "run.revert", subject(landed), &format!("as run {}", opened.run.id)).await;
    }
    Ok(opened)
}

/// Returns the engine that takes the run's own changes back, and nothing that landed before or after them. If the
/// reverse patch conflicts, Git names the files, and a person is asked. A change that was squashed is one commit on its
/// base, and its own commits are not in the history of the branch.
fn git_revert(landed: &Run, sha: &Sha) -> EngineSpec {
    let (base, head) = (&landed.base, &landed.head);
    let command = format!(
        "git update-index -q --refresh; if git cat-file -e {head}^{{commit}} 2>/dev/null; then git diff --binary {base} \
         {head}; elif [ \"$(git rev-parse {sha}^)\" = {base} ]; then git diff --binary {base} {sha}; fi | git apply -R \
         --3way"
    );
    EngineSpec { kind: "command".to_owned(), arg: command }
}
