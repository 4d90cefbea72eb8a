//! Opens the run of an issue. The same issue has one run, which is open or has landed, however often it is asked for.

use super::apply::{Requester, Settled, TrackedRepo};
use super::{caller, report};
use crate::domain::goal::MAX_GOAL_BYTES;
use crate::domain::{GoalSource, Outcome, Run, Timestamp};
use crate::ports::forge_issues::Issue;
use crate::ports::intake::{IssueProgress, IssueRun};
use crate::render;
use crate::service::runs::{self, OpenRun};
use crate::service::{ErrorKind, ServiceResult, Services};

/// What a request for the run of an issue leads to.
pub(super) struct Started {
    pub settled: Settled,
    /// The run of the issue.
    pub run: Option<Run>,
    /// What the person who asked should know.
    pub notice: Option<String>,
}

impl Started {
    fn ignored(reason: impl Into<String>, run: Option<Run>) -> Started {
        Started { settled: Settled::ignored(reason), run, notice: None }
    }
}

/// Opens the run of an issue, or returns the one it has.
///
/// # Errors
/// `unavailable` if it should be tried again.
pub(super) async fn start(
    s: &Services,
    tracked: &TrackedRepo,
    issue: &Issue,
    requester: &Requester,
    more: &str,
) -> ServiceResult<Started> {
    let new = IssueRun {
        forge: tracked.forge.clone(),
        repository: tracked.repository.clone(),
        number: issue.number,
        run: s.clock.new_run_id(),
        asked_at: requester.at,
        progress: IssueProgress::default(),
        is_finished: false,
    };
    let existing = s.intake.issue_run(&tracked.forge, &tracked.repository, issue.number).await?;
    let row = match existing {
        None => {
            if let Some(refused) = edited_since(tracked, issue, requester.at).await? {
                return Ok(refused);
            }
            s.intake.claim_issue(&new).await?
        }
        Some(row) => match s.store.load(row.run).await? {
            Some(run) if requester.at <= row.asked_at || is_current(&run) => {
                let reason = format!("run {} was started for this issue already", run.id.abbrev());
                return Ok(Started::ignored(reason, Some(run)));
            }
            // The process ended between the claim and the run.
            None if requester.at <= row.asked_at && !row.is_finished => Some(row),
            None if requester.at <= row.asked_at => {
                return Ok(Started::ignored("this request could not be started before", None));
            }
            _ => {
                if let Some(refused) = edited_since(tracked, issue, requester.at).await? {
                    return Ok(refused);
                }
                match s.intake.replace_issue_run(&new, row.run).await? {
                    true => Some(new),
                    false => s.intake.issue_run(&tracked.forge, &tracked.repository, issue.number).await?,
                }
            }
        },
    };
    let Some(row) = row else {
        return Ok(Started::ignored("a service with another data directory has a run for this issue", None));
    };
    crate::fault!("after-issue-claim");
    let request =
        OpenRun { project: Some(tracked.project.name.to_string()), goal: goal(issue, more), ..OpenRun::default() };
    let source = GoalSource::Issue {
        forge: tracked.forge.clone(),
        repository: tracked.repository.clone(),
        number: issue.number,
    };
    match runs::open_from(s, &caller(&requester.actor.principal, &tracked.project.name), request, source, row.run).await
    {
        Ok(run) => {
            if let Err(error) = report::report(s, row).await {
                // The next pass writes it.
                tracing::debug!(%error, "cannot write on the issue of a new run yet");
            }
            let settled = Settled::done(format!("run {} started", run.id.abbrev()));
            Ok(Started { settled, run: Some(run), notice: None })
        }
        Err(error) if error.kind == ErrorKind::Unavailable => Err(error),
        Err(error) => {
            s.intake.put_progress(&IssueRun { is_finished: true, ..row }).await?;
            let notice = Some(render::issue::refused(&error.detail, &error.fix));
            Ok(Started { settled: Settled::failed(&error), run: None, notice })
        }
    }
}

/// Returns whether a run is open or has landed.
fn is_current(run: &Run) -> bool {
    matches!(run.outcome, None | Some(Outcome::Delivered { .. }))
}

/// Refuses an issue whose text was changed by somebody who may not write, after a person had asked for the run: that
/// person has not seen it.
async fn edited_since(tracked: &TrackedRepo, issue: &Issue, asked_at: Timestamp) -> ServiceResult<Option<Started>> {
    for edit in tracked.tracker.edited(&tracked.repo, issue, asked_at).await? {
        let is_trusted = match &edit.by {
            Some(by) if by.principal.is_person() => tracked.tracker.may_write(&tracked.repo, by).await?,
            _ => false,
        };
        if !is_trusted {
            let notice = "The text of this issue was changed after the run was asked for. Read it again, then set the label \
                again or comment `/skep run`.";
            let settled = Settled::ignored("the issue was changed after the run was asked for");
            return Ok(Some(Started { settled, run: None, notice: Some(notice.to_owned()) }));
        }
    }
    Ok(None)
}

/// Returns the goal: title, text, and what the command added. The text is anybody's.
fn goal(issue: &Issue, more: &str) -> String {
    let mut goal = issue.title.trim().to_owned();
    for part in [more, issue.body.as_str()].into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        goal.push_str("\n\n");
        goal.push_str(part);
    }
    goal.truncate(goal.floor_char_boundary(MAX_GOAL_BYTES));
    goal
}
