//! Opens the run of an issue. The same issue has one run, which is open or has landed, however often it is asked for.

use super::apply::{Asker, Place, Settled};
use super::{caller, report};
use crate::domain::goal::MAX_GOAL_BYTES;
use crate::domain::{ChangeNumber, GoalSource, Outcome, Run, Timestamp};
use crate::ports::forge_issues::Issue;
use crate::ports::intake::{IssueProgress, IssueRun};
use crate::render;
use crate::service::runs::{self, OpenRun};
use crate::service::{ErrorKind, ServiceResult, Services};

/// Opens the run of an issue, or returns the one it has.
///
/// # Errors
/// `unavailable` if it should be tried again.
pub(super) async fn start(
    s: &Services,
    place: &Place,
    issue: &Issue,
    asker: &Asker,
    more: &str,
) -> ServiceResult<(Settled, Option<Run>)> {
    let new = IssueRun {
        forge: place.forge.clone(),
        repository: place.repository.clone(),
        number: issue.number,
        run: s.clock.new_run_id(),
        asked_at: asker.at,
        progress: IssueProgress::default(),
        is_finished: false,
    };
    let existing = s.intake.issue_run(&place.forge, &place.repository, issue.number).await?;
    let row = match existing {
        None => {
            if let Some(refused) = edited_since(place, issue, asker.at).await? {
                return Ok((refused, None));
            }
            s.intake.claim_issue(&new).await?
        }
        Some(row) => match s.store.load(row.run).await? {
            Some(run) if asker.at <= row.asked_at || is_current(&run) => {
                let reason = format!("run {} was started for this issue already", run.id.abbrev());
                return Ok((Settled::ignored(reason), Some(run)));
            }
            // The process ended between the claim and the run.
            None if asker.at <= row.asked_at && !row.is_finished => Some(row),
            None if asker.at <= row.asked_at => {
                return Ok((Settled::ignored("this request could not be started before"), None));
            }
            _ => {
                if let Some(refused) = edited_since(place, issue, asker.at).await? {
                    return Ok((refused, None));
                }
                match s.intake.replace_issue_run(&new, row.run).await? {
                    true => Some(new),
                    false => s.intake.issue_run(&place.forge, &place.repository, issue.number).await?,
                }
            }
        },
    };
    let Some(row) = row else {
        return Ok((Settled::ignored("a service with another data directory has a run for this issue"), None));
    };
    crate::fault!("after-issue-claim");
    let request = OpenRun {
        project: Some(place.project.name.to_string()),
        goal: goal(issue, more),
        ..OpenRun::default()
    };
    let source = GoalSource::Issue {
        forge: place.forge.clone(),
        repository: place.repository.clone(),
        number: issue.number,
    };
    match runs::open_for_issue(s, &caller(&asker.actor.principal), request, source, row.run).await {
        Ok(run) => {
            report::report(s, row).await?;
            let reason = format!("run {} started", run.id.abbrev());
            Ok((Settled::done(reason), Some(run)))
        }
        Err(error) if error.kind == ErrorKind::Unavailable => Err(error),
        Err(error) => {
            s.intake.put_progress(&IssueRun { is_finished: true, ..row }).await?;
            let text = render::issue::refused(&error.detail, &error.fix);
            let marker = format!("skep:intake:not-started:{}", asker.at.0);
            let number = ChangeNumber(issue.number);
            place.tracker.put_comment(&place.repo, number, &marker, &text).await?;
            Ok((Settled::failed(&error), None))
        }
    }
}

/// Returns whether a run is open or has landed.
fn is_current(run: &Run) -> bool {
    matches!(run.outcome, None | Some(Outcome::Delivered { .. }))
}

/// Refuses an issue whose text was changed by somebody who may not write, after a person had asked for the run: that
/// person has not seen it.
async fn edited_since(place: &Place, issue: &Issue, asked_at: Timestamp) -> ServiceResult<Option<Settled>> {
    for edit in place.tracker.edited(&place.repo, issue).await? {
        if edit.at < asked_at {
            continue;
        }
        let is_trusted = match &edit.by {
            Some(by) if by.principal.is_person() => place.tracker.may_write(&place.repo, by).await?,
            _ => false,
        };
        if !is_trusted {
            let text = "The text of this issue was changed after the run was asked for. Read it again, then set the label \
                again or comment `/skep run`.";
            let marker = format!("skep:intake:edited:{}", asked_at.0);
            let number = ChangeNumber(issue.number);
            place.tracker.put_comment(&place.repo, number, &marker, text).await?;
            return Ok(Some(Settled::ignored("the issue was changed after the run was asked for")));
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
