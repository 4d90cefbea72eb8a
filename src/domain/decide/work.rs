//! Working: the stages of the tasks, from Waiting to Integrated.
//!
//! Invariant: tasks are integrated in plan order, one at a time, so the run's branch has one history.

use super::builder::DecisionBuilder;
use crate::domain::block::BlockKind;
use crate::domain::check::Scope;
use crate::domain::effect::{Effect, EffectRef};
use crate::domain::id::TaskId;
use crate::domain::order::Step;
use crate::domain::run::Phase;
use crate::domain::task::Stage;
use std::collections::BTreeSet;

pub(super) fn advance(d: &mut DecisionBuilder) {
    make_ready(d);
    integrate_next(d);
    check_developed(d);
    start_ready(d);
    finish(d);
}

/// Waiting tasks whose needs are over become ready.
fn make_ready(d: &mut DecisionBuilder) {
    let over: BTreeSet<String> = d.run.tasks.iter().filter(|t| t.over()).map(|t| t.spec.name.clone()).collect();
    for task in d.run.tasks.iter_mut().filter(|t| t.stage == Stage::Waiting) {
        if task.spec.needs.iter().all(|n| over.contains(n)) {
            task.stage = Stage::Ready;
        }
    }
}

/// The first task in plan order that is not over goes on the branch, if its commit is proven.
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
    if !d.run.pending.values().any(|t| matches!(t, EffectRef::Integrate(..))) {
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
pub(super) fn check(d: &mut DecisionBuilder, scope: Scope, sha: crate::domain::Sha) {
    if d.run.is_pending(&EffectRef::Check(scope, sha.clone())) {
        return;
    }
    if d.run.ledger.committed().wall_ms >= d.run.limits.wall_secs.saturating_mul(1000) {
        // Set aside is not spent: see `DecisionBuilder::start`.
        if d.run.ledger.reserved.is_empty() {
            d.out_of("wall time");
        }
        return;
    }
    let checks = d.run.settings.checks.clone();
    d.order(Effect::Check { scope, sha, checks });
}

fn start_ready(d: &mut DecisionBuilder) {
    let ready: Vec<TaskId> = d.run.tasks.iter().filter(|t| t.stage == Stage::Ready).map(|t| t.id).collect();
    for id in ready {
        // Devs, and scouts that look something up for one.
        if d.run.live_attempts().count() >= d.run.settings.policy.width as usize || d.held() {
            return;
        }
        d.start(Step::Develop, Some(id));
    }
}

/// All tasks are over: on to the review, or ask when there is nothing to review.
fn finish(d: &mut DecisionBuilder) {
    if d.run.tasks.iter().any(|t| !t.over()) || d.held() {
        return;
    }
    if d.run.diff.is_empty() || d.run.head == d.run.base {
        let why = "every task is over, and the run's branch is the same as its base";
        return d.block(BlockKind::NothingChanged, why);
    }
    d.run.phase = Phase::Reviewing;
}
