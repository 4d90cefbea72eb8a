//! Queued and Planning: a slot, optionally a scout's exploration, then the manager's plan, optionally a person's
//! approval.

use super::builder::DecisionBuilder;
use super::{baseline, out_of_place};
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

/// Handles the admission of the run: it has a slot.
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
        if !baseline::allows_engines(d) {
            return;
        }
        let explored = d
            .run
            .attempts
            .iter()
            .filter(|a| a.step == Step::Explore && a.answers.is_none())
            .any(|a| a.ended.as_ref().is_some_and(|e| e.ending.counts() && e.ending != Ending::Lost));
        // A scout that fails or dies costs its findings, not the run: the manager plans without them.
        let policy = &d.run.settings.policy;
        let tries = d.run.tries.get(&Step::Explore).copied().unwrap_or_default();
        let used_up = tries.used >= policy.steps.explore.tries || tries.losses >= policy.max_lost_attempts;
        // The run does not wait for a scout whose engine is in cooldown.
        let step = match policy.explore && !explored && !used_up {
            true if matches!(engine_selection::choose(&d.run, Step::Explore, d.at), Choice::Engine(_)) => Step::Explore,
            _ => Step::Plan,
        };
        return d.start(step, None);
    }
    if d.run.settings.policy.approve_plan && !d.run.plan.approved {
        let revision = d.run.plan.revision;
        return d.block(BlockKind::Approval(Subject::Plan { revision }), "");
    }
    d.run.phase = Phase::Working;
}

/// Adopts the manager's tasks, which have been validated, as the plan.
pub(super) fn adopt(d: &mut DecisionBuilder, specs: &[TaskSpec]) {
    let tries_allowed = d.run.settings.policy.steps.develop.tries;
    d.run.plan.revision += 1;
    d.run.plan.approved = false;
    d.run.tasks = in_order(specs)
        .into_iter()
        .zip(1..)
        .map(|(spec, n)| Task::new(TaskId(n), spec, Origin::Plan, Stage::Waiting, tries_allowed))
        .collect();
}

/// Returns the tasks in the manager's order, except that each comes after its needs. Plan order is integration order,
/// so a task before its need would wait forever.
fn in_order(specs: &[TaskSpec]) -> Vec<TaskSpec> {
    let mut remaining: Vec<&TaskSpec> = specs.iter().collect();
    let mut ordered_names: BTreeSet<&str> = BTreeSet::new();
    let mut ordered = Vec::with_capacity(specs.len());
    while let Some(i) = remaining.iter().position(|s| s.needs.iter().all(|n| ordered_names.contains(n.as_str()))) {
        let spec = remaining.remove(i);
        ordered_names.insert(&spec.name);
        ordered.push(spec.clone());
    }
    ordered
}
