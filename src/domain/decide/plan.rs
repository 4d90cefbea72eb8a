//! Queued and Planning: a slot, perhaps a scout's look, then the manager's plan, perhaps a person's yes.

use super::builder::DecisionBuilder;
use super::out_of_place;
use crate::domain::attempt::Ending;
use crate::domain::block::{BlockKind, Subject};
use crate::domain::engine_selection::{self, Choice};
use crate::domain::id::TaskId;
use crate::domain::order::Step;
use crate::domain::plan::TaskSpec;
use crate::domain::refusal::Refusal;
use crate::domain::run::Phase;
use crate::domain::task::{Origin, Stage, Task};
use std::collections::BTreeSet;

/// The run got a slot.
pub(super) fn admitted(d: &mut DecisionBuilder) -> Result<(), Refusal> {
    if d.run.phase != Phase::Queued {
        return Err(out_of_place(&d.run, "an admission"));
    }
    d.run.phase = Phase::Planning;
    Ok(())
}

pub(super) fn advance(d: &mut DecisionBuilder) {
    if d.run.live_attempts().next().is_some() {
        return;
    }
    if d.run.plan.revision == 0 {
        let explored = d
            .run
            .attempts
            .iter()
            .filter(|a| a.step == Step::Explore && a.answers.is_none())
            .any(|a| a.ended.as_ref().is_some_and(|e| e.ending.counts() && e.ending != Ending::Lost));
        // A scout that fails or dies costs its findings, not the run: the manager plans without them.
        let policy = &d.run.settings.policy;
        let tries = d.run.tries.get(&Step::Explore).copied().unwrap_or_default();
        let spent = tries.used >= policy.steps.explore.tries || tries.losses >= policy.max_losses;
        // Nor is it waited for when its engine rests.
        let step = match policy.explore && !explored && !spent {
            true if matches!(engine_selection::choose(&d.run, Step::Explore, d.at), Choice::Engine(_)) => Step::Explore,
            _ => Step::Plan,
        };
        return d.start(step, None);
    }
    if d.run.settings.policy.approve_plan && !d.run.plan.approved {
        let revision = d.run.plan.revision;
        let why = crate::domain::describe::plan(&d.run);
        return d.block(BlockKind::Approval(Subject::Plan { revision }), &why);
    }
    d.run.phase = Phase::Working;
}

/// Takes the manager's tasks as the plan. They were found usable.
pub(super) fn take(d: &mut DecisionBuilder, specs: &[TaskSpec]) {
    let tries_allowed = d.run.settings.policy.steps.develop.tries;
    d.run.plan.revision += 1;
    d.run.plan.approved = false;
    d.run.tasks = in_order(specs)
        .into_iter()
        .zip(1..)
        .map(|(spec, n)| Task::new(TaskId(n), spec, Origin::Plan, Stage::Waiting, tries_allowed))
        .collect();
}

/// The tasks so that each comes after its needs, otherwise as the manager wrote them: plan order is integration order, so a
/// task before its need would wait for ever.
fn in_order(specs: &[TaskSpec]) -> Vec<TaskSpec> {
    let mut left: Vec<&TaskSpec> = specs.iter().collect();
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    let mut ordered = Vec::with_capacity(specs.len());
    while let Some(i) = left.iter().position(|s| s.needs.iter().all(|n| placed.contains(n.as_str()))) {
        let spec = left.remove(i);
        placed.insert(&spec.name);
        ordered.push(spec.clone());
    }
    ordered
}
