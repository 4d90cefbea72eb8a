//! Applies one delivery: reads what it is about from the forge, checks who asked, and acts.

use super::start::Started;
use super::{caller, commands, projects_of, repo_of, start};
use crate::domain::delivery::UNBLOCKED_LABEL;
use crate::domain::{
    ChangeNumber, Command, DeliveryState, Fact, ForgeName, Phase, Project, Run, Sha, Timestamp, command, delivery,
};
use crate::ports::forge_issues::{Actor, ForgeIssues, Issue, IssueComment};
use crate::ports::intake::Delivery;
use crate::ports::run_index::{RunFilter, RunMatch};
use crate::ports::{PortResult, Repo};
use crate::render;
use crate::secrets::redact_all;
use crate::service::{ErrorKind, ServiceError, ServiceResult, Services, landings};
use std::sync::Arc;

/// Marks the one reply to people who may not give commands.
const REFUSED_MARKER: &str = "skep:intake:refused";
const REFUSED: &str = "Only people who may write to this repository can give Skep commands. Skep answers this once on \
    each issue and pull request.";

/// Upper bound on the open runs of a project that a tested commit is compared with.
const MAX_TESTED_RUNS: u64 = 500;

/// How a delivery ends.
pub(super) struct Settled {
    pub state: DeliveryState,
    pub reason: String,
}

impl Settled {
    pub fn done(reason: impl Into<String>) -> Settled {
        Settled { state: DeliveryState::Done, reason: reason.into() }
    }
    pub fn ignored(reason: impl Into<String>) -> Settled {
        Settled { state: DeliveryState::Ignored, reason: reason.into() }
    }
    /// Joins the ends of the parts of a delivery: the most important state, and every reason.
    fn join(parts: Vec<Settled>) -> Option<Settled> {
        let of = |state| parts.iter().any(|part| part.state == state);
        let states = [DeliveryState::Failed, DeliveryState::Done, DeliveryState::Ignored];
        let state = states.into_iter().find(|state| of(*state))?;
        let reasons: Vec<&str> = parts.iter().map(|part| part.reason.as_str()).collect();
        Some(Settled { state, reason: reasons.join("; ") })
    }
    pub fn failed(error: &ServiceError) -> Settled {
        Settled { state: DeliveryState::Failed, reason: format!("{}. {}", error.detail, error.fix) }
    }
}

/// A repository on a forge, with the project that holds it.
pub(super) struct TrackedRepo {
    pub forge: ForgeName,
    pub repository: String,
    pub tracker: Arc<dyn ForgeIssues>,
    pub project: Project,
    pub repo: Repo,
}

impl TrackedRepo {
    /// Writes a comment, or updates it in place.
    async fn put_comment(&self, number: ChangeNumber, marker: &str, text: &str) -> PortResult<()> {
        self.tracker.put_comment(&self.repo, number, marker, &redact_all(text)).await
    }
}

/// A person who may write to the repository, and when they asked.
pub(super) struct Requester {
    pub actor: Actor,
    pub at: Timestamp,
}

/// Applies a delivery.
///
/// # Errors
/// `unavailable` if it should be tried again.
pub(super) async fn apply(s: &Services, delivery: &Delivery) -> ServiceResult<Settled> {
    let Ok(fact) = &delivery.new.fact else { return Ok(Settled::ignored(delivery.reason.clone())) };
    let (forge, repository) = (&delivery.new.forge, &delivery.new.repository);
    let tracker = s.forges.issues(forge)?;
    let found = projects_of(s, forge).await?.into_iter().find(|(name, _)| name == repository);
    let Some((_, project)) = found else {
        return Ok(Settled::ignored(format!("no project holds {repository}; `skep project add {repository}` adds it")));
    };
    let repo = repo_of(&project);
    let tracked = TrackedRepo { forge: forge.clone(), repository: repository.clone(), tracker, project, repo };
    match fact {
        Fact::Moved { branches } => moved(s, &tracked, branches).await,
        Fact::Labelled { number, label } => labelled(s, &tracked, delivery, *number, label).await,
        Fact::Relabelled { number } => relabelled(s, &tracked, delivery, *number).await,
        Fact::Tested { sha } => tested(s, &tracked, sha).await,
        Fact::Commented { number, comment } => commented(s, &tracked, delivery, (*number, *comment)).await,
    }
}

/// Lets the runs of these branches observe their changes.
async fn moved(s: &Services, tracked: &TrackedRepo, branches: &[String]) -> ServiceResult<Settled> {
    let mut runs = Vec::new();
    for branch in branches {
        if let Some(run) = run_of_branch(s, tracked, branch).await? {
            s.runtime.refresh(run.id).await;
            runs.push(run.id.abbrev());
        }
    }
    match runs.is_empty() {
        true => Ok(Settled::ignored("no run of this repository has such a branch")),
        false => Ok(Settled::done(format!("run {} observed its change", runs.join(", ")))),
    }
}

/// Lets the runs that wait for the CI of a commit observe their changes.
async fn tested(s: &Services, tracked: &TrackedRepo, sha: &Sha) -> ServiceResult<Settled> {
    let project = Some(tracked.project.name.clone());
    let open = RunFilter {
        projects: project.into(),
        open_only: true,
        own_only: true,
        limit: MAX_TESTED_RUNS,
        ..RunFilter::default()
    };
    let mut runs = Vec::new();
    for row in s.store.list(&open).await?.into_iter().filter(|row| row.phase == Phase::Gating.name()) {
        if s.store.load(row.run).await?.is_some_and(|run| run.head == *sha) {
            s.runtime.refresh(row.run).await;
            runs.push(row.run.abbrev());
        }
    }
    match runs.is_empty() {
        true if landings::tested(s, &tracked.project.name).await? => {
            Ok(Settled::done("CI on the base branch is read, where a run has landed"))
        }
        true => Ok(Settled::ignored("no run waits for the CI of this commit")),
        false => Ok(Settled::done(format!("run {} observed its change", runs.join(", ")))),
    }
}

/// Returns the run of a branch.
pub(super) async fn run_of_branch(s: &Services, tracked: &TrackedRepo, branch: &str) -> PortResult<Option<Run>> {
    if !delivery::may_be_run_branch(branch) {
        return Ok(None);
    }
    let short = branch.rsplit('/').next().unwrap_or_default();
    let of_project = tracked.project.name.clone().into();
    let RunMatch::One(id) = s.store.find(short, &of_project).await? else { return Ok(None) };
    let run = s.store.load(id).await?;
    Ok(run.filter(|run| run.project == tracked.project.name && run.settings.branch == branch))
}

/// Returns the run that an issue or pull request is about.
pub(super) async fn run_of(s: &Services, tracked: &TrackedRepo, issue: &Issue) -> PortResult<Option<Run>> {
    match &issue.pull {
        Some((branch, _)) => {
            let run = run_of_branch(s, tracked, branch).await?;
            Ok(run.filter(|run| run.change.as_ref().is_some_and(|change| change.number.0 == issue.number)))
        }
        None => match s.intake.issue_run(&tracked.forge, &tracked.repository, issue.number).await? {
            // A project that had this repository before may have another one now.
            Some(row) => Ok(s.store.load(row.run).await?.filter(|run| run.project == tracked.project.name)),
            None => Ok(None),
        },
    }
}

async fn labelled(
    s: &Services,
    tracked: &TrackedRepo,
    delivery: &Delivery,
    number: u64,
    label: &str,
) -> ServiceResult<Settled> {
    match tracked.tracker.issue(&tracked.repo, number).await? {
        Some(issue) => apply_label(s, tracked, delivery, &issue, label, None).await,
        None => Ok(Settled::ignored("the issue does not exist any more")),
    }
}

/// Applies each label that an issue has.
async fn relabelled(s: &Services, tracked: &TrackedRepo, delivery: &Delivery, number: u64) -> ServiceResult<Settled> {
    let Some(issue) = tracked.tracker.issue(&tracked.repo, number).await? else {
        return Ok(Settled::ignored("the issue does not exist any more"));
    };
    let start = tracked.tracker.rules().label.filter(|_| issue.pull.is_none());
    let mut all = Vec::new();
    for label in start.as_deref().into_iter().chain([UNBLOCKED_LABEL]) {
        if issue.has(label) {
            all.push(apply_label(s, tracked, delivery, &issue, label, None).await?);
        }
    }
    Ok(Settled::join(all).unwrap_or_else(|| Settled::ignored("the label was removed")))
}

/// Applies the label that starts a run if it was set before a command was written: its delivery may be late or lost.
async fn apply_earlier_label(
    s: &Services,
    tracked: &TrackedRepo,
    delivery: &Delivery,
    issue: &Issue,
    asked_at: Timestamp,
) -> ServiceResult<()> {
    let label = tracked.tracker.rules().label.filter(|label| issue.is_open && issue.pull.is_none() && issue.has(label));
    match label {
        Some(label) => apply_label(s, tracked, delivery, issue, &label, Some(asked_at)).await.map(drop),
        None => Ok(()),
    }
}

/// Applies a label of an issue, unless it was set after a time.
async fn apply_label(
    s: &Services,
    tracked: &TrackedRepo,
    delivery: &Delivery,
    issue: &Issue,
    label: &str,
    until: Option<Timestamp>,
) -> ServiceResult<Settled> {
    let rules = tracked.tracker.rules();
    let is_start = rules.label.as_deref().is_some_and(|start| start.eq_ignore_ascii_case(label));
    let is_unblock = label == UNBLOCKED_LABEL;
    if !is_start && !is_unblock {
        return Ok(Settled::ignored("the label means nothing to Skep any more"));
    }
    if is_start && (!issue.is_open || issue.pull.is_some()) {
        return Ok(Settled::ignored("only an open issue starts a run"));
    }
    let Some(act) = tracked.tracker.labelled(&tracked.repo, issue, label).await? else {
        return Ok(Settled::ignored("the label was removed"));
    };
    if until.is_some_and(|until| act.at > until) {
        return Ok(Settled::ignored("the label was set later"));
    }
    let Some(requester) = person_who_may_write(tracked, act.by, act.at).await? else {
        return Ok(Settled::ignored("whoever set the label may not write to the repository"));
    };
    if !is_start {
        return commands::unblock_by_label(s, tracked, delivery, issue, &requester).await;
    }
    let Started { settled, notice, .. } = start::start(s, tracked, issue, &requester, "").await?;
    if let Some(notice) = notice {
        let marker = format!("skep:intake:label:{}", requester.at.0);
        tracked.put_comment(ChangeNumber(issue.number), &marker, &notice).await?;
    }
    Ok(settled)
}

/// Returns whoever asked, if it is a person who may write to the repository.
async fn person_who_may_write(
    tracked: &TrackedRepo,
    by: Option<Actor>,
    at: Timestamp,
) -> PortResult<Option<Requester>> {
    match by {
        Some(actor) if actor.principal.is_person() && tracked.tracker.may_write(&tracked.repo, &actor).await? => {
            Ok(Some(Requester { actor, at }))
        }
        _ => Ok(None),
    }
}

async fn commented(
    s: &Services,
    tracked: &TrackedRepo,
    delivery: &Delivery,
    (number, id): (u64, u64),
) -> ServiceResult<Settled> {
    if let Some(key) = &delivery.new.key
        && s.intake.was_applied(&tracked.forge, key, delivery.seq).await?
    {
        return Ok(Settled::ignored("another delivery of the same comment was applied"));
    }
    let Some(comment) = tracked.tracker.comment(&tracked.repo, number, id).await? else {
        return Ok(Settled::ignored("the comment does not exist any more"));
    };
    if delivery.state == DeliveryState::Applied {
        return reply(tracked, &comment, &delivery.reason).await;
    }
    if comment.is_own || comment.by.as_ref().is_none_or(|by| !by.principal.is_person()) {
        return Ok(Settled::ignored("only people give commands"));
    }
    let Some(command) = command::parse(&comment.text, tracked.tracker.rules().mention.as_deref()) else {
        return Ok(Settled::ignored("the comment contains no command any more"));
    };
    let Some(requester) = person_who_may_write(tracked, comment.by.clone(), comment.at).await? else {
        let number = ChangeNumber(comment.number);
        tracked.put_comment(number, REFUSED_MARKER, REFUSED).await?;
        return Ok(Settled::ignored("the author of the comment may not write to the repository"));
    };
    let Some(issue) = tracked.tracker.issue(&tracked.repo, comment.number).await? else {
        return Ok(Settled::ignored("the issue does not exist any more"));
    };
    Box::pin(apply_earlier_label(s, tracked, delivery, &issue, requester.at)).await?;
    let outcome = Box::pin(carry_out(s, tracked, delivery, &issue, &requester, &command)).await;
    let text = match outcome {
        Ok(text) => text,
        Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
        Err(error) => render::issue::refused(&error.detail, &error.fix),
    };
    crate::fault!("after-command");
    // From here on, only the reply is repeated.
    s.intake.settle(delivery.seq, DeliveryState::Applied, &text, s.clock.now()).await?;
    reply(tracked, &comment, &text).await
}

async fn carry_out(
    s: &Services,
    tracked: &TrackedRepo,
    delivery: &Delivery,
    issue: &Issue,
    requester: &Requester,
    command: &Command,
) -> ServiceResult<String> {
    match command {
        Command::Run { text } if issue.pull.is_none() => {
            if !issue.is_open {
                return Ok(render::issue::refused("the issue is closed", "Reopen it, then comment again"));
            }
            let Started { settled, run, notice } = start::start(s, tracked, issue, requester, text).await?;
            let state = run.map(|run| render::issue::state(&run, s.clock.now()));
            Ok(notice.or(state).unwrap_or_else(|| render::issue::refused(&settled.reason, "")))
        }
        Command::Run { .. } => {
            Ok(render::issue::refused("a run starts at an issue", "Comment `/skep run` on an issue"))
        }
        Command::Unknown { word } => Ok(render::issue::unknown_command(word)),
        _ => match run_of(s, tracked, issue).await? {
            Some(run) => {
                let caller = caller(&requester.actor.principal, &run.project);
                commands::carry_out(s, tracked, delivery, &caller, (issue, requester.at), command, run).await
            }
            None => Ok(render::issue::refused(
                "no run of Skep belongs here",
                "Comment on the issue that started the run, or on its pull request",
            )),
        },
    }
}

async fn reply(tracked: &TrackedRepo, comment: &IssueComment, text: &str) -> ServiceResult<Settled> {
    let marker = format!("skep:intake:reply:{}", comment.id);
    tracked.put_comment(ChangeNumber(comment.number), &marker, text).await?;
    Ok(Settled::done(text))
}
