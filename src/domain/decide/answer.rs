//! People's answers to blocks, and budget raises.

use super::builder::{DecisionBuilder, cap};
use super::outcome::give_up;
use super::{baseline, ci};
use crate::domain::block::{Answer, Block, BlockKind, Subject};
use crate::domain::budget::Raise;
use crate::domain::change::UnblockComment;
use crate::domain::effect::SecretFound;
use crate::domain::gate;
use crate::domain::id::{BlockId, Principal, TaskId};
use crate::domain::order::{NoteSource, Step};
use crate::domain::refusal::Refusal;
use crate::domain::run::{Facts, Phase};
use crate::domain::task::{Origin, Stage};

/// Applies a person's answer to a block.
pub(super) fn answered(
    d: &mut DecisionBuilder,
    block: Option<BlockId>,
    answer: &Answer,
    by: &Principal,
) -> Result<(), Refusal> {
    if !by.is_person() {
        return Err(not_allowed(by, "answer", "only people lift blocks"));
    }
    let found = match block {
        Some(id) => d.run.block(id),
        None => d.run.blocks.first(),
    };
    let Some(block) = found.cloned() else {
        let named = block.map_or_else(|| "at all".to_owned(), |b| b.to_string());
        return Err(Refusal::NoBlock { block: named });
    };
    lift(d, &block, answer, by)?;
    d.run.blocks.retain(|b| b.id != block.id);
    Ok(())
}

/// Applies a comment `UNBLOCK #b…` on the change. A comment that is not a valid answer is ordinary text, not an error.
pub(super) fn by_comment(d: &mut DecisionBuilder, comment: &UnblockComment) {
    let text = comment.text.trim();
    let Some(block) = d.run.block(comment.block).cloned() else { return };
    let answer = match &block.kind {
        // A merge is approved by approving the head, not by a comment that may be about an older one.
        BlockKind::Approval(_) => return,
        _ if text.is_empty() => Answer::Yes,
        _ => Answer::Text { text: text.to_owned() },
    };
    if comment.by.is_person() && lift(d, &block, &answer, &comment.by).is_ok() {
        d.run.blocks.retain(|b| b.id != block.id);
    }
}

/// Applies a person's raise of the budget.
pub(super) fn raised(d: &mut DecisionBuilder, raise: &Raise, by: &Principal) -> Result<(), Refusal> {
    if !by.is_person() {
        return Err(not_allowed(by, "raise the budget", "only people give budget"));
    }
    if *raise == Raise::default() {
        return Err(Refusal::Invalid { what: "the raise is empty; name at least one amount above zero".to_owned() });
    }
    if raise.step_secs > 0 {
        let Some((step, task)) = d.run.blocks.iter().find_map(|b| match b.kind {
            BlockKind::StepTime { step, task } => Some((step, task)),
            _ => None,
        }) else {
            let what = "no step has run out of time; time for a step is given in answer to that question".to_owned();
            return Err(Refusal::Invalid { what });
        };
        let time = d.run.step_time.entry(step).or_default();
        *time = time.saturating_add(raise.step_secs);
        d.more_tries(step, task);
        d.run.blocks.retain(|b| !matches!(b.kind, BlockKind::StepTime { step: other, .. } if other == step));
    }
    d.run.limits = d.run.limits.raised(raise);
    d.forget_alerts();
    // A budget that is still exhausted raises its block again.
    d.run.blocks.retain(|b| !matches!(b.kind, BlockKind::Budget(_)));
    if raise.rounds > 0 {
        d.run.blocks.retain(|b| b.kind != BlockKind::Rounds);
    }
    Ok(())
}

fn lift(d: &mut DecisionBuilder, block: &Block, answer: &Answer, by: &Principal) -> Result<(), Refusal> {
    match (&block.kind, answer) {
        (BlockKind::Approval(subject), _) => return approval(d, subject, answer, by),
        (BlockKind::Question { step, task }, _) => return question(d, *step, *task, answer),
        // The outcome is settled: a workspace that cannot be released is left behind, and the run ends.
        (BlockKind::Effect(_), Answer::No { .. }) if d.run.phase >= Phase::Reporting => d.run.closing.released = true,
        (BlockKind::Tries { step, task } | BlockKind::StepTime { step, task }, _) => {
            return tries(d, *step, *task, answer, by);
        }
        (BlockKind::Environment { scope }, _) => return baseline::answered(d, *scope, answer, by),
        (BlockKind::Ci { checks, .. }, _) => return ci::answered(d, (block, checks.as_slice()), answer, by),
        (_, Answer::No { why }) => give_up(d, by, why),
        (BlockKind::Rounds, _) => return rounds(d, answer, by),
        (BlockKind::SharedBudget { .. }, Answer::Yes | Answer::Text { .. }) => {}
        (BlockKind::SharedBudget { .. }, _) => {
            return not_an_answer("this budget is shared with other runs: raise it for all of them, then answer yes");
        }
        (BlockKind::Engine { .. }, Answer::Yes | Answer::Text { .. }) => d.end_cooldowns(),
        (BlockKind::Engine { .. }, _) => {
            return not_an_answer("answer yes when the engine is available again, or no to end the run");
        }
        (BlockKind::Budget(_), Answer::More { raise }) => return raised(d, raise, by),
        (BlockKind::Budget(budget), _) => {
            return not_an_answer(&format!(
                "the run's budget is exhausted ({}): say how much more to give, or answer no to end the run",
                budget.name()
            ));
        }
        (BlockKind::NothingChanged, Answer::Yes) => fresh_task(d, "try the goal once more"),
        (BlockKind::NothingChanged, Answer::Text { text }) => fresh_task(d, text),
        (BlockKind::NothingChanged, _) => {
            return not_an_answer("nothing changed: answer with a hint, yes to try again, or no to end the run");
        }
        (BlockKind::Effect(_), Answer::Yes | Answer::Text { .. }) => {}
        (BlockKind::Effect(_), _) => return not_an_answer("answer yes when it is fixed, or no to end the run"),
        (BlockKind::ChangeClosed, Answer::Yes | Answer::Text { .. }) => {
            d.run.closed_change = d.run.change.take().map(|c| c.number);
            d.run.facts = Facts { pushed: false, observed: None, shown_as_draft: None, ..d.run.facts.clone() };
            d.run.phase = d.run.phase.min(Phase::Reviewing);
        }
        (BlockKind::ChangeClosed, _) => {
            return not_an_answer("answer yes to open a new change, or no to end the run");
        }
        (BlockKind::ForeignPush { head }, Answer::Yes | Answer::Text { .. }) => {
            d.run.overwrite = Some(head.clone());
            d.run.facts.pushed = false;
            d.run.facts.observed = None;
        }
        (BlockKind::ForeignPush { .. }, _) => {
            return not_an_answer("answer yes to restore the run's own head, or no to end the run");
        }
        (BlockKind::SecretFound { found }, Answer::Yes) => {
            d.run.allowed_secrets.extend(found.iter().map(|f| f.fingerprint.clone()));
        }
        (BlockKind::SecretFound { found }, Answer::Text { text }) => redo_without(d, found, text),
        (BlockKind::SecretFound { found }, Answer::Skip) => redo_without(d, found, ""),
        (BlockKind::SecretFound { .. }, _) => {
            return not_an_answer(
                "answer yes if it is not a secret, with a hint to redo the work without it, or no to end the run",
            );
        }
    }
    Ok(())
}

fn approval(d: &mut DecisionBuilder, subject: &Subject, answer: &Answer, by: &Principal) -> Result<(), Refusal> {
    if let Answer::Yes = answer
        && !gate::may_approve(&d.run, by)
    {
        let why = "the person who asked for a run may not approve it (policy `self_approval`)";
        return Err(not_allowed(by, "approve this run", why));
    }
    match (subject, answer) {
        (Subject::Plan { .. }, Answer::Yes) => d.run.plan.approved = true,
        (Subject::Plan { .. }, Answer::No { why }) => {
            d.run.plan.revision = 0;
            d.run.tasks.clear();
            d.run.note(NoteSource::Person, why);
            d.more_tries(Step::Plan, None);
        }
        (Subject::Diff { task, concerns, .. }, Answer::Yes) => {
            if let Some(t) = d.run.task_mut(*task) {
                t.accept(concerns);
            }
        }
        (Subject::Diff { task, .. }, Answer::No { why }) => {
            d.more_tries(Step::Develop, Some(*task));
            if let Some(t) = d.run.task_mut(*task) {
                t.restart(NoteSource::Person, why);
            }
        }
        (Subject::Diff { task, .. }, Answer::Skip) => drop_task(d, *task)?,
        (Subject::Merge { .. }, Answer::Yes) => {
            d.run.facts.approved_by = Some(by.clone());
            // The forge may have moved while the question was open: observe once more before landing.
            d.run.facts.observed = None;
        }
        (Subject::Merge { .. }, Answer::No { why }) if why.trim().is_empty() => {
            give_up(d, by, "the merge was declined")
        }
        (Subject::Merge { .. }, Answer::No { why }) => {
            let title = format!("{by} declined the merge and said what should be different");
            d.add_task(Origin::Person, &title, &[why]);
        }
        _ => return not_an_answer("this waits for a yes or a no"),
    }
    Ok(())
}

fn tries(
    d: &mut DecisionBuilder,
    step: Step,
    task: Option<TaskId>,
    answer: &Answer,
    by: &Principal,
) -> Result<(), Refusal> {
    match answer {
        Answer::Yes => {}
        Answer::Text { text } => note(d, step, task, text),
        Answer::More { raise } => raised(d, raise, by)?,
        Answer::Skip => {
            return match task {
                Some(task) => drop_task(d, task),
                None => not_an_answer("only a task can be skipped; answer yes, with a hint, or no to end the run"),
            };
        }
        Answer::No { why } => {
            give_up(d, by, why);
            return Ok(());
        }
    }
    d.more_tries(step, task);
    Ok(())
}

fn question(d: &mut DecisionBuilder, step: Step, task: Option<TaskId>, answer: &Answer) -> Result<(), Refusal> {
    match answer {
        Answer::Text { text } => note(d, step, task, text),
        Answer::Yes => note(d, step, task, "yes"),
        Answer::No { why } => note(d, step, task, &format!("no. {why}")),
        Answer::Skip => return task.map_or_else(|| not_an_answer("only a task can be skipped"), |t| drop_task(d, t)),
        Answer::More { .. } => return not_an_answer("this is a question: answer it with a text"),
    }
    Ok(())
}

fn rounds(d: &mut DecisionBuilder, answer: &Answer, by: &Principal) -> Result<(), Refusal> {
    let fresh = Raise { rounds: d.run.settings.policy.limits.rounds.max(1), ..Raise::default() };
    match answer {
        Answer::Yes => raised(d, &fresh, by),
        Answer::Text { text } => {
            d.run.note(NoteSource::Answer, text);
            raised(d, &fresh, by)
        }
        Answer::More { raise } if raise.rounds > 0 => raised(d, raise, by),
        _ => not_an_answer("the rounds are used up: answer yes for as many again, with a hint, or no to end the run"),
    }
}

fn note(d: &mut DecisionBuilder, step: Step, task: Option<TaskId>, text: &str) {
    match task.filter(|_| step == Step::Develop).and_then(|t| d.run.task_mut(t)) {
        Some(task) => task.note(NoteSource::Answer, text),
        None => d.run.note(NoteSource::Answer, text),
    }
}

fn fresh_task(d: &mut DecisionBuilder, hint: &str) {
    d.add_task(Origin::Person, "The goal, once more: the first attempt changed nothing", &[hint]);
}

/// Redoes the work without the findings. A further commit is not enough: the earlier ones contain the secret and would
/// be pushed with it.
fn redo_without(d: &mut DecisionBuilder, found: &[SecretFound], hint: &str) {
    let old = d.run.head.clone();
    let title = "The goal, once more: the first work contains a secret and must not be published";
    let text = format!(
        "The commits contain:\n{}\nDo the goal without it. The earlier work is commit {old}.\n{hint}",
        SecretFound::list(found)
    );
    d.add_task(Origin::Person, title, &[text]);
    let base = d.run.base.clone();
    d.set_head(base, Default::default());
}

fn drop_task(d: &mut DecisionBuilder, task: TaskId) -> Result<(), Refusal> {
    match d.run.task_mut(task) {
        Some(t) if !t.over() => {
            t.stage = Stage::Dropped;
            Ok(())
        }
        _ => not_an_answer(&format!("task {task} has already ended")),
    }
}

fn not_an_answer(why: &str) -> Result<(), Refusal> {
    Err(Refusal::NotAnAnswer { why: cap(why, 512) })
}

fn not_allowed(who: &Principal, what: &str, why: &str) -> Refusal {
    Refusal::NotAllowed { who: who.to_string(), what: what.to_owned(), why: why.to_owned() }
}
