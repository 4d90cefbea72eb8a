//! How an effect's end is taken, and what a look at the forge means.

use super::builder::DecisionBuilder;
use super::land;
use crate::domain::block::BlockKind;
use crate::domain::change::{ChangeState, Observation};
use crate::domain::check::{self, Scope};
use crate::domain::effect::{EffectOutcome, EffectRef, Failure, SecretFound};
use crate::domain::id::EffectKey;
use crate::domain::refusal::Refusal;
use crate::domain::run::{Facts, Phase, Stopping};
use crate::domain::task::{Origin, Stage};

/// An effect ended.
pub(super) fn done(d: &mut DecisionBuilder, key: &EffectKey, done: &EffectOutcome) -> Result<(), Refusal> {
    let Some(tag) = d.run.pending.get(key).cloned() else {
        return Err(Refusal::Repeated { what: format!("the end of effect {key}") });
    };
    if let EffectRef::Start(attempt) = tag {
        // A start ends with its attempt's report, never by itself.
        return Err(Refusal::OutOfPlace {
            what: format!("the end of the start of {attempt}"),
            phase: "live".to_owned(),
        });
    }
    d.finish(key);
    match (&tag, done) {
        (_, EffectOutcome::Failed { failure }) => failed(d, &tag, failure),
        (EffectRef::Check(scope, sha), EffectOutcome::Checked { results, wall_ms }) => {
            d.run.ledger.spent.wall_ms = d.run.ledger.spent.wall_ms.saturating_add(*wall_ms);
            checked(d, *scope, sha, results);
        }
        (EffectRef::Reserve(id), EffectOutcome::Reserved { caps, levels }) => {
            d.alert_shared(levels);
            d.capped(*id, *caps, levels);
            d.run.short = None;
            let rests = d.run.attempt(*id).and_then(|a| d.run.cooldowns.get(&a.engine)).is_some_and(|r| r.active(d.at));
            if d.held() || rests || d.run.stopping.is_some() || d.run.phase >= Phase::Reporting {
                // Things changed while the shared budgets were asked: nothing new starts, and what they gave goes back.
                d.not_started(*id, "the run was held, or the engine not usable any more, before it could begin");
            } else {
                d.send(*id);
            }
        }
        (EffectRef::Reserve(id), EffectOutcome::Short { of, why, levels, set_aside }) => {
            d.alert_shared(levels);
            d.short(*id, of, why, *set_aside);
        }
        (EffectRef::Integrate(task, _), EffectOutcome::Moved { head, diff }) => {
            if let Some(t) = d.run.task_mut(*task) {
                t.stage = Stage::Integrated;
            }
            d.set_head(head.clone(), diff.clone());
        }
        (EffectRef::Integrate(task, _), EffectOutcome::Conflict { paths }) => {
            let why = format!("the work conflicts with what other tasks put on the branch: {}", paths.join(", "));
            if let Some(t) = d.run.task_mut(*task) {
                t.again("conflict", &why);
            }
        }
        (EffectRef::Rebase(onto), EffectOutcome::Moved { head, diff }) => {
            d.run.base = onto.clone();
            d.set_head(head.clone(), diff.clone());
        }
        (EffectRef::Rebase(onto), EffectOutcome::Conflict { paths }) => rebase_conflict(d, onto, paths),
        (EffectRef::Push(sha), EffectOutcome::Ok) => {
            d.run.pushed = Some(sha.clone());
            d.run.overwrite = None;
            if *sha == d.run.head {
                d.run.facts.pushed = true;
            }
        }
        (EffectRef::Push(_), EffectOutcome::Held { found }) => held(d, found),
        (EffectRef::EnsureChange(head, draft), EffectOutcome::Ensured { change }) => {
            d.run.change = Some(change.clone());
            if *head == d.run.head {
                d.run.facts.shown = Some(*draft);
            }
        }
        (EffectRef::Observe, EffectOutcome::Observed { observation }) => observed(d, observation),
        (EffectRef::Land(_), EffectOutcome::Landed { sha }) => land::delivered(d, sha),
        (EffectRef::Land(_), EffectOutcome::Stale { why }) => {
            // What was found is looked at again: `landing` goes back to the gates when no landing is pending.
            d.run.facts.observed = None;
            d.run.facts.stale += 1;
            if d.run.facts.stale >= Facts::STALE_MAX && d.run.stopping.is_none() && d.run.phase < Phase::Reporting {
                d.run.facts.stale = 0;
                let why = format!(
                    "landing {} was refused {} times, though nothing seen on the forge has moved: {why}",
                    d.run.head.abbrev(),
                    Facts::STALE_MAX
                );
                d.block(BlockKind::Act { act: tag.name().to_owned() }, &why);
            }
        }
        (
            EffectRef::Comment | EffectRef::SetStatus | EffectRef::Close | EffectRef::Release | EffectRef::Stop,
            EffectOutcome::Ok,
        ) => {}
        _ => {
            let what = format!("the effect {} ended in a way that is not its own", tag.name());
            let fix = "report this as a defect; unblock to try again".to_owned();
            failed(d, &tag, &Failure { what, fix });
        }
    }
    Ok(())
}

/// An act on the world does not succeed: a person is asked, and the act is ordered again after the answer because what it was for
/// is still missing.
fn failed(d: &mut DecisionBuilder, tag: &EffectRef, failure: &Failure) {
    if let EffectRef::Reserve(id) = tag {
        d.not_started(*id, &failure.what);
    }
    if matches!(tag, EffectRef::Land(_)) && d.run.phase == Phase::Landing {
        d.run.facts.observed = None;
        d.run.phase = Phase::Gating;
    }
    let closing = d.run.phase >= Phase::Reporting;
    if closing && *tag != EffectRef::Release {
        // Work that was cut short because the run is over; or the result was not told, which is worth trying, not worth keeping a
        // delivered run open. Telling it again could say it twice: which comment failed is not known.
        return;
    }
    if (d.run.stopping.is_some() && *tag != EffectRef::Release) || matches!(tag, EffectRef::SetStatus) {
        // Telling people is worth trying, not worth keeping a run.
        return;
    }
    if *tag == EffectRef::Release {
        d.run.closing.released = false;
    }
    let why = format!("{}\nWhat to do: {}", failure.what, failure.fix);
    let block = BlockKind::Act { act: tag.name().to_owned() };
    if matches!(tag, EffectRef::Comment) {
        // Saying why on the change would fail the same way; the block alone tells it.
        d.block_quietly(block, &why);
    } else {
        d.block(block, &why);
    }
}

/// A push was held back: a person says whether what was found may go out. One that is not wanted any more asks nobody.
fn held(d: &mut DecisionBuilder, found: &[SecretFound]) {
    if d.run.stopping.is_some() || d.run.phase >= Phase::Reporting {
        return;
    }
    let mut why = "nothing was pushed, because what would go out holds:\n".to_owned();
    for SecretFound { place, what, .. } in found {
        why.push_str(&format!("- {what} at {place}\n"));
    }
    let marks = found.iter().map(|f| f.mark.clone()).collect();
    d.block(BlockKind::SecretFound { marks }, &why);
}

fn checked(d: &mut DecisionBuilder, scope: Scope, sha: &crate::domain::Sha, results: &[check::CheckResult]) {
    match scope {
        Scope::Head => {
            if *sha == d.run.head {
                d.run.facts.results = Some(results.to_vec());
            }
        }
        Scope::Task(id) => {
            let green = check::proves(&d.run.settings.checks, results);
            let Some(task) = d.run.task_mut(id) else { return };
            if task.stage != Stage::Checking || task.head.as_ref() != Some(sha) {
                return;
            }
            task.results = results.to_vec();
            if green {
                task.stage = Stage::Integrating;
            } else {
                task.again("checks", &check::failures(results));
            }
        }
    }
}

/// The base moved under the change and the two do not fit: the work is done again on the new base.
fn rebase_conflict(d: &mut DecisionBuilder, onto: &crate::domain::Sha, paths: &[String]) {
    let title = format!("{} moved and the change does not fit it any more", d.run.settings.base_branch);
    let old = d.run.head.clone();
    let text = format!(
        "Do the goal again on top of {}. The earlier work is commit {old}; it conflicts in: {}",
        onto.abbrev(),
        paths.join(", ")
    );
    if d.run.phase >= Phase::Reporting {
        // It was merged meanwhile: there is nothing to do again.
        return;
    }
    if d.rework(Origin::Conflict, &title, &text) {
        d.run.base = onto.clone();
        let base = onto.clone();
        d.set_head(base, Default::default());
    }
}

/// What was seen on the forge. The truth is there: a person may have merged, closed, approved or pushed.
pub(super) fn observed(d: &mut DecisionBuilder, seen: &Observation) {
    match &seen.state {
        ChangeState::Merged { sha, .. } => {
            if d.run.phase < Phase::Reporting {
                land::delivered(d, sha);
            }
            return;
        }
        // While landing, the end of the landing tells; then the gates look again. Whoever closed it: a closed change cannot land.
        ChangeState::Closed { by } if d.run.stopping.is_none() && d.run.phase < Phase::Landing => {
            // Not kept: when it is open again, or another one is, the gates look for themselves.
            d.run.facts.observed = None;
            // Nobody can say yes to the merge of a closed change: one question, not two.
            d.forget_approval();
            let why = format!("{by} closed the change");
            d.block(BlockKind::ChangeClosed, &why);
            return take_comments(d, seen);
        }
        _ => {}
    }
    d.run.blocks.retain(|b| b.kind != BlockKind::ChangeClosed);
    take_comments(d, seen);
    if d.run.phase != Phase::Gating {
        return;
    }
    // An approval rests on a head and a base; if either moved, the question is another one.
    let same = seen.head == d.run.head && seen.base == d.run.base;
    d.run.facts.observed = Some(seen.clone());
    // A question about another head than the one there now is another question, or none any more.
    d.run.blocks.retain(|b| !matches!(&b.kind, BlockKind::ForeignPush { head } if *head != seen.head));
    if !same || crate::domain::gate::approver(&d.run).is_some() {
        let by = d.run.facts.approved_by.clone();
        d.forget_approval();
        if same {
            d.run.facts.approved_by = by;
        }
    }
}

fn take_comments(d: &mut DecisionBuilder, seen: &Observation) {
    for comment in &seen.unblocks {
        if d.run.comments_seen.insert(comment.comment) {
            super::answer::by_comment(d, comment);
        }
    }
}

/// A person said no to the whole: the run ends undelivered.
pub(super) fn give_up(d: &mut DecisionBuilder, by: &crate::domain::Principal, why: &str) {
    d.stop(Stopping { by: by.clone(), why: super::builder::cap(why, 1024), failed: true });
}
