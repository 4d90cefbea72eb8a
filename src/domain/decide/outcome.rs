//! The end of an effect, and what an observation of the forge means.

use super::answer;
use super::builder::{DecisionBuilder, cap};
use super::settings;
use super::start::Exhausted;
use super::{baseline, ci, land};
use crate::domain::block::{Block, BlockKind, Subject};
use crate::domain::change::{ChangeState, Observation, shown_paths};
use crate::domain::check::{self, CheckResult, Scope};
use crate::domain::effect::{EffectKind, EffectOutcome, EffectRef, Failure, SecretFound};
use crate::domain::gate::{self, Gate};
use crate::domain::id::{EffectKey, Principal, Sha, TaskId};
use crate::domain::order::{EngineSpec, NoteSource};
use crate::domain::refusal::Refusal;
use crate::domain::run::{Facts, Phase, Stopping};
use crate::domain::task::{Origin, Stage};

/// Handles the end of an effect.
pub(super) fn finished(d: &mut DecisionBuilder, key: &EffectKey, outcome: &EffectOutcome) -> Result<(), Refusal> {
    let Some(effect) = d.run.pending.get(key).cloned() else {
        return Err(Refusal::Repeated { what: format!("the end of effect {key}") });
    };
    if let EffectRef::Start(attempt) = effect {
        // A start ends with its attempt's report, never by itself.
        return Err(Refusal::OutOfPlace {
            what: format!("the end of the start of {attempt}"),
            phase: "live".to_owned(),
        });
    }
    d.finish(key);
    match (&effect, outcome) {
        (_, EffectOutcome::Failed { failure }) => failed(d, &effect, failure),
        (EffectRef::Check(scope, sha), EffectOutcome::Checked { results, wall_ms, environment, .. }) => {
            d.run.ledger.spent.wall_ms = d.run.ledger.spent.wall_ms.saturating_add(*wall_ms);
            if !settings::is_outdated(d, key) {
                checked(d, *scope, sha, results, environment.as_deref());
            }
        }
        (EffectRef::Reserve(id), EffectOutcome::Reserved { caps, levels }) => {
            d.alert_shared(levels);
            d.apply_caps(*id, *caps, levels);
            d.run.budget_wait = None;
            let cooldown = d.run.attempt(*id).and_then(|a| d.run.cooldowns.get(&a.engine));
            let cools_down = cooldown.is_some_and(|c| c.active(d.at));
            if d.held() || cools_down || d.run.stopping.is_some() || d.run.phase >= Phase::Reporting {
                // The run changed while the reservation was made: nothing new starts, and the reservation is returned.
                d.not_started(*id, "the run was held, or its engine became unavailable, before it could begin");
            } else {
                d.send(*id);
            }
        }
        (EffectRef::Reserve(id), EffectOutcome::BudgetExhausted { budgets, levels, spending, reserved }) => {
            d.alert_shared(levels);
            d.budget_refused(*id, &Exhausted { budgets, levels, spending }, *reserved);
        }
        (EffectRef::Integrate(task, _), EffectOutcome::Integrated { head, diff }) => {
            if let Some(t) = d.run.task_mut(*task) {
                t.stage = Stage::Integrated;
            }
            d.set_head(head.clone(), diff.clone());
        }
        (EffectRef::Integrate(task, _), EffectOutcome::Conflict { paths }) => {
            let why = format!("the work conflicts with what other tasks put on the branch: {}", shown_paths(paths));
            if let Some(t) = d.run.task_mut(*task) {
                t.restart(NoteSource::Conflict, &why);
            }
        }
        (EffectRef::Rebase(onto), EffectOutcome::Rebased { head, diff }) => {
            d.run.base = onto.clone();
            d.set_head(head.clone(), diff.clone());
        }
        (EffectRef::Rebase(onto), EffectOutcome::Conflict { paths }) => rebase_conflict(d, onto, paths),
        (EffectRef::Push(sha), EffectOutcome::Pushed) => {
            d.run.pushed = Some(sha.clone());
            d.run.overwrite = None;
            if *sha == d.run.head {
                d.run.facts.pushed = true;
            }
        }
        (EffectRef::Push(_), EffectOutcome::PushHeld { found }) => push_held(d, found),
        (EffectRef::EnsureChange(head, draft), EffectOutcome::ChangeOpened { change }) => {
            if d.run.change.as_ref().is_none_or(|known| known.number != change.number) {
                d.run.change_opened_at = Some(d.at);
            }
            d.run.change = Some(change.clone());
            if *head == d.run.head {
                d.run.facts.shown_as_draft = Some(*draft);
            }
        }
        (EffectRef::Observe, EffectOutcome::Observed { observation }) => observed(d, observation),
        (EffectRef::InspectCi(head), EffectOutcome::CiInspected { failures }) => ci::inspected(d, head, failures),
        (EffectRef::Land(_), EffectOutcome::Landed { sha, batch }) => {
            d.run.batch = batch.as_deref().cloned();
            land::delivered(d, sha);
        }
        (EffectRef::Land(_), EffectOutcome::PutBack { red, .. }) => land::put_back(d, red.as_deref()),
        (EffectRef::Land(_), EffectOutcome::Stale { why }) => stale_landing(d, why),
        (EffectRef::Comment, EffectOutcome::Commented)
        | (EffectRef::SetStatus, EffectOutcome::StatusSet)
        | (EffectRef::RerunCi(_), EffectOutcome::CiRerun)
        | (EffectRef::Close, EffectOutcome::ChangeClosed)
        | (EffectRef::Release, EffectOutcome::Released)
        | (EffectRef::Stop, EffectOutcome::Stopped) => {}
        _ => {
            let what = format!("unexpected outcome `{}` of the effect `{}`", outcome.name(), effect.name());
            let fix = "Report this as a defect. Unblock the run to try again.".to_owned();
            failed(d, &effect, &Failure { what, fix });
        }
    }
    Ok(())
}

/// Handles a landing that was refused because the base or the head moved. The forge is read again: `landing` returns to
/// the gates when no landing is pending.
fn stale_landing(d: &mut DecisionBuilder, why: &str) {
    d.run.facts.observed = None;
    d.run.facts.stale_landings += 1;
    if d.run.facts.stale_landings == 2 {
        // Nothing that is observed has moved, so the run's branch may be gone: pushing restores it, or changes nothing.
        d.run.facts.pushed = false;
    }
    let over = d.run.stopping.is_some() || d.run.phase >= Phase::Reporting;
    if d.run.facts.stale_landings >= Facts::MAX_STALE_LANDINGS && !over {
        d.run.facts.stale_landings = 0;
        let why = format!(
            "landing {} was refused {} times, although nothing observed on the forge has moved: {why}",
            d.run.head.abbrev(),
            Facts::MAX_STALE_LANDINGS
        );
        d.block(BlockKind::Effect(EffectKind::Land), &why);
    }
}

/// Asks a person about a failed effect. After the answer the effect is ordered again, because its result is still
/// missing.
fn failed(d: &mut DecisionBuilder, effect: &EffectRef, failure: &Failure) {
    if let EffectRef::Reserve(id) = effect {
        d.not_started(*id, &failure.what);
    }
    if matches!(effect, EffectRef::Land(_)) && d.run.phase == Phase::Landing {
        d.run.facts.observed = None;
        d.run.phase = Phase::Gating;
    }
    let closing = d.run.phase >= Phase::Reporting;
    if closing && *effect != EffectRef::Release {
        // Either the effect was cut short because the run is over, or the result was not reported. Neither justifies
        // keeping a delivered run open. Reporting again could repeat a comment, because it is unknown which one failed.
        return;
    }
    if let EffectRef::RerunCi(head) = effect {
        // Without a rerun, the failures are reworked.
        return ci::not_rerun(d, head);
    }
    if (d.run.stopping.is_some() && *effect != EffectRef::Release) || matches!(effect, EffectRef::SetStatus) {
        // Informing people is best effort; it does not hold up a run.
        return;
    }
    if *effect == EffectRef::Release {
        d.run.closing.released = false;
    }
    let kind = BlockKind::Effect(effect.kind());
    let block = Block { fix: Some(cap(&failure.fix, 2048)), ..d.new_block(kind, &failure.what) };
    if matches!(effect, EffectRef::Comment) {
        // A comment about it would fail in the same way.
        d.raise_quietly(block);
    } else {
        d.raise(block);
    }
}

/// Asks a person whether the findings of a held push may be published. A push that is no longer wanted raises no
/// question.
fn push_held(d: &mut DecisionBuilder, found: &[SecretFound]) {
    if d.run.stopping.is_some() || d.run.phase >= Phase::Reporting {
        return;
    }
    d.block(BlockKind::SecretFound { found: found.to_vec() }, "");
}

fn checked(d: &mut DecisionBuilder, scope: Scope, sha: &Sha, results: &[CheckResult], environment: Option<&str>) {
    match scope {
        Scope::Head => {
            if *sha == d.run.head {
                d.run.facts.results = Some(results.to_vec());
                d.run.facts.environment = environment.map(str::to_owned);
            }
        }
        Scope::Base => baseline::found(d, sha, results, environment),
        Scope::Task(id) => {
            let Some(task) = d.run.task_mut(id) else { return };
            if task.stage != Stage::Checking || task.head.as_ref() != Some(sha) {
                return;
            }
            task.results = results.to_vec();
            judge(d, id, results);
        }
    }
}

/// Decides what a task's check results lead to: its integration, a question, or its next try.
fn judge(d: &mut DecisionBuilder, id: TaskId, results: &[CheckResult]) {
    let green = d.run.proves(Scope::Task(id), results);
    let out_of_tries = d.run.task(id).is_some_and(|t| t.tries >= t.tries_allowed);
    let hopeless = d.run.fails_like_base(results) && (out_of_tries || by_command(d, id));
    let over = d.run.stopping.is_some() || d.run.phase >= Phase::Reporting;
    // Work that is still red after it was continued once may be a dead end: the next attempt starts clean.
    let last = d.run.attempts.iter().rev().find(|a| a.task == Some(id));
    let started_clean = last.is_some_and(|a| a.continues.is_none());
    let ask = !green && !over && (d.run.blames_environment(results) || hopeless);
    match d.run.task_mut(id) {
        Some(task) if green => task.stage = Stage::Integrating,
        _ if ask => baseline::ask(d, Scope::Task(id), results),
        Some(task) => {
            let work = task.head.take().filter(|_| started_clean);
            task.restart_with(work, NoteSource::Checks, &check::failures(results));
        }
        None => {}
    }
}

/// Returns whether a command did the task's last work.
fn by_command(d: &DecisionBuilder, id: TaskId) -> bool {
    let last = d.run.attempts.iter().rev().find(|a| a.task == Some(id));
    last.is_some_and(|a| EngineSpec::parse(&a.engine).is_command())
}

/// Handles a conflict of the change with a moved base: the work is redone on the new base.
fn rebase_conflict(d: &mut DecisionBuilder, onto: &Sha, paths: &[String]) {
    let title = format!("{} moved and the change conflicts with it", d.run.settings.base_branch);
    let old = d.run.head.clone();
    let text = format!(
        "Redo the goal on top of {}. The earlier work is commit {old}; it conflicts in: {}",
        onto.abbrev(),
        shown_paths(paths)
    );
    if d.run.phase >= Phase::Reporting {
        // It was merged meanwhile: there is nothing to redo.
        return;
    }
    if d.rework(Origin::Conflict, &title, &[text]) {
        d.run.base = onto.clone();
        let base = onto.clone();
        d.set_head(base, Default::default());
    }
}

/// Handles an observation. The forge is authoritative: a person may have merged, closed, approved or pushed there.
pub(super) fn observed(d: &mut DecisionBuilder, seen: &Observation) {
    match &seen.state {
        ChangeState::Merged { sha, .. } => {
            if d.run.phase < Phase::Reporting {
                land::delivered(d, sha);
            }
            return;
        }
        // While landing, the end of the landing decides, and then the gates observe again. A closed change cannot land,
        // no matter who closed it.
        ChangeState::Closed { by } if d.run.stopping.is_none() && d.run.phase < Phase::Landing => {
            // The observation is not stored: once the change is reopened, or a new one is open, the gates observe
            // again.
            d.run.facts.observed = None;
            // A closed change cannot be merged, so the approval is void and the person gets one question instead of
            // two.
            d.forget_approval();
            let why = format!("{by} closed the change");
            d.block(BlockKind::ChangeClosed, &why);
            return read_comments(d, seen);
        }
        _ => {}
    }
    d.run.blocks.retain(|b| b.kind != BlockKind::ChangeClosed);
    read_comments(d, seen);
    if d.run.phase != Phase::Gating {
        return;
    }
    let seen = &d.run.unread(seen);
    d.run.facts.observed = Some(seen.clone());
    // An approval is for one head on one base; if either moved, the question is a different one. In a batch it is for
    // the same patch, wherever the merge queue puts it.
    let same = seen.head == d.run.head && gate::base(&d.run).is_open();
    let is_red = matches!(gate::statuses(&d.run), Gate::Shut(_));
    if is_red || !seen.change_requests.is_empty() {
        // There is work to do before a merge.
        d.run.blocks.retain(|b| !matches!(b.kind, BlockKind::Approval(Subject::Merge { .. })));
    }
    if !is_red {
        d.run.blocks.retain(|b| !matches!(b.kind, BlockKind::Ci { .. }));
    }
    // A question about a foreign head that is no longer there is void.
    d.run.blocks.retain(|b| !matches!(&b.kind, BlockKind::ForeignPush { head } if *head != seen.head));
    if !same || gate::approver(&d.run).is_some() {
        let by = d.run.facts.approved_by.clone();
        d.forget_approval();
        if same {
            d.run.facts.approved_by = by;
        }
    }
}

fn read_comments(d: &mut DecisionBuilder, seen: &Observation) {
    for comment in &seen.unblocks {
        if d.run.comments_read.insert(comment.comment) {
            answer::by_comment(d, comment);
        }
    }
}

/// Ends the run undelivered, because a person rejected it as a whole.
pub(super) fn give_up(d: &mut DecisionBuilder, by: &Principal, why: &str) {
    d.stop(Stopping { by: by.clone(), why: cap(why, 1024), failed: true });
}
