//! Working: the stages of the tasks, from Waiting to Integrated.
//!
//! Invariant: tasks are integrated in plan order, one at a time, so that the run's branch has one history.

use super::builder::DecisionBuilder;
use super::land;
use crate::domain::attempt::Ending;
use crate::domain::block::BlockKind;
use crate::domain::budget::BudgetKind;
use crate::domain::check::Scope;
use crate::domain::effect::{Effect, EffectRef};
use crate::domain::id::{Sha, TaskId};
use crate::domain::order::Step;
use crate::domain::run::{Phase, Run};
use crate::domain::task::{Stage, Task};
use std::collections::BTreeSet;

pub(super) fn advance(d: &mut DecisionBuilder) {
    make_ready(d);
    integrate_next(d);
    check_developed(d);
    start_ready(d);
    finish(d);
}

/// Makes the waiting tasks ready whose needs have ended.
fn make_ready(d: &mut DecisionBuilder) {
    let over: BTreeSet<String> = d.run.tasks.iter().filter(|t| t.over()).map(|t| t.spec.name.clone()).collect();
    for task in d.run.tasks.iter_mut().filter(|t| t.stage == Stage::Waiting) {
        if task.spec.needs.iter().all(|n| over.contains(n)) {
            task.stage = Stage::Ready;
        }
    }
}

/// Integrates the first open task in plan order, if its commit is proven.
fn integrate_next(d: &mut DecisionBuilder) {
    let Some(task) = d.run.tasks.iter().find(|t| !t.over()) else { return };
    let (Stage::Integrating, Some(from), Some(head)) = (task.stage, &task.base, &task.head) else { return };
    let effect = Effect::Integrate {
        task: task.id,
        from: from.clone(),
        head: head.clone(),
        onto: d.run.head.clone(),
        base: d.run.base.clone(),
    };
    if !d.run.pending.values().any(|e| matches!(e, EffectRef::Integrate(..))) {
        d.order(effect);
    }
}

fn check_developed(d: &mut DecisionBuilder) {
    let checking: Vec<_> = d
        .run
        .tasks
        .iter()
        .filter(|t| t.stage == Stage::Checking)
        .filter_map(|t| Some((Scope::Task(t.id), t.head.clone()?)))
        .collect();
    for (scope, sha) in checking {
        check(d, scope, sha);
    }
}

/// Orders the checks on a commit, if there is wall time left for them.
pub(super) fn check(d: &mut DecisionBuilder, scope: Scope, sha: Sha) {
    if d.run.is_pending(&EffectRef::Check(scope, sha.clone())) {
        return;
    }
    if d.run.ledger.committed().wall_ms >= d.run.limits.timeout_secs.saturating_mul(1000) {
        // Reserved is not spent: see `DecisionBuilder::grant`.
        if d.run.ledger.reserved.is_empty() {
            d.exhausted(BudgetKind::Time);
        }
        return;
    }
    let known = match scope {
        Scope::Head if !d.run.settings.policy.check_head_again => d.run.proof_of(&sha).map(<[_]>::to_vec),
        _ => None,
    };
    let checks = d.run.checks_in(scope);
    d.order(Effect::Check { scope, sha, checks, known: known.unwrap_or_default() });
}

fn start_ready(d: &mut DecisionBuilder) {
    let ready: Vec<TaskId> = d.run.tasks.iter().filter(|t| t.stage == Stage::Ready).map(|t| t.id).collect();
    for id in ready {
        // Live attempts are devs, and scouts that answer a dev's question.
        if d.run.live_attempts().count() >= d.run.settings.policy.parallel_tasks as usize || d.held() {
            return;
        }
        d.start(Step::Develop, Some(id));
    }
}

/// Returns whether a task ended because its command found nothing to change.
fn found_nothing(run: &Run, task: &Task) -> bool {
    let last = run.attempts.iter().rev().find(|a| a.task == Some(task.id) && a.step == Step::Develop);
    let succeeded = last.and_then(|a| a.ended.as_ref()).is_some_and(|e| e.ending == Ending::Succeeded);
    task.stage == Stage::Dropped && succeeded && task.head.is_none()
}

/// Moves on to the review once all tasks have ended, or asks if there is nothing to review.
fn finish(d: &mut DecisionBuilder) {
    if d.run.tasks.iter().any(|t| !t.over()) || d.held() {
        return;
    }
    if d.run.diff.is_empty() || d.run.head == d.run.base {
        if d.run.change.is_none() && d.run.tasks.iter().all(|t| found_nothing(&d.run, t)) {
            return land::unchanged(d);
        }
        let why = "every task has ended, and the run's branch is identical to its base";
        return d.block(BlockKind::NothingChanged, why);
    }
    d.run.phase = Phase::Reviewing;
}
