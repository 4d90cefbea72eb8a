//! Red CI at the head: a rerun for flaky jobs, else a round of rework, else a question.
//!
//! A job is flaky only on evidence: it also passed at the same commit. A failure of the base is not the change's fault,
//! and one that returns after a round of rework is not helped by another round.

use super::builder::DecisionBuilder;
use super::outcome::give_up;
use crate::domain::block::{Answer, Block, BlockKind, CiDoubt};
use crate::domain::change::{CiFailure, WorkflowRun};
use crate::domain::effect::{Effect, EffectRef};
use crate::domain::gate::{self, Gate};
use crate::domain::id::{ChangeNumber, Principal, Sha};
use crate::domain::order::NoteSource;
use crate::domain::refusal::Refusal;
use crate::domain::run::Phase;
use crate::domain::task::Origin;
use std::collections::{BTreeMap, BTreeSet};

/// Orders to read the failures of CI at the head.
pub(super) fn inspect(d: &mut DecisionBuilder, change: ChangeNumber) {
    if d.run.pending.values().any(|e| matches!(e, EffectRef::RerunCi(_))) {
        return;
    }
    let checks = d.run.ci().failed.iter().take(CiFailure::MAX).map(|name| (*name).to_owned()).collect();
    d.ensure(Effect::InspectCi { change, head: d.run.head.clone(), base: d.run.base.clone(), checks });
}

/// Handles what is known about the failures. If the run cannot act on it now, it is read again when it can.
pub(super) fn inspected(d: &mut DecisionBuilder, head: &Sha, failures: &[CiFailure]) {
    let is_current = *head == d.run.head && d.run.phase == Phase::Gating && d.run.stopping.is_none() && !d.held();
    if !is_current || !matches!(gate::statuses(&d.run), Gate::Shut(_)) {
        return;
    }
    // Every failed check counts, whatever the forge knows about it.
    let failed: Vec<String> = d.run.ci().failed.iter().map(|name| (*name).to_owned()).collect();
    let known = |name: &String| failures.iter().find(|f| f.name == *name).cloned();
    let read = failed.iter().take(CiFailure::MAX);
    let failures: Vec<CiFailure> = read.map(|name| known(name).unwrap_or_else(|| CiFailure::named(name))).collect();
    let (of_base, own): (Vec<CiFailure>, Vec<CiFailure>) = failures.into_iter().partition(|f| f.red_at_base);
    if own.is_empty() {
        return ask(d, CiDoubt::RedBase, &of_base);
    }
    if rerun(d, &own) {
        return;
    }
    let returned: Vec<CiFailure> =
        own.iter().filter(|f| d.run.reworked_failures.contains(&f.signature())).cloned().collect();
    if !returned.is_empty() {
        return ask(d, CiDoubt::Returned, &returned);
    }
    let mut intro = format!("CI is red at {}.", head.abbrev());
    if failed.len() > CiFailure::MAX {
        intro.push_str(&format!(" {} checks failed; these notes show {} of them.", failed.len(), own.len()));
    }
    if !of_base.is_empty() {
        intro.push_str(&format!(" The base fails in these checks as well, so leave them alone: {}.", names(&of_base)));
    }
    let notes: Vec<String> = std::iter::once(intro).chain(own.iter().map(CiFailure::text)).collect();
    if d.rework(Origin::Status, &format!("CI is red: {}", names(&own)), &notes) {
        d.run.reworked_failures.extend(own.iter().map(CiFailure::signature));
    }
}

/// Orders a rerun, if every failure is flaky and the head has a rerun left.
fn rerun(d: &mut DecisionBuilder, failures: &[CiFailure]) -> bool {
    let is_left = d.run.facts.reruns < d.run.settings.policy.max_ci_reruns;
    let runs: Option<BTreeSet<WorkflowRun>> =
        failures.iter().map(|f| f.workflow_run.filter(|_| f.passed_too && f.id != 0)).collect();
    let Some(runs) = runs.filter(|_| is_left) else { return false };
    d.run.facts.reruns += 1;
    d.run.facts.rerun = failures.iter().map(|f| (f.name.clone(), f.id)).collect();
    d.order(Effect::RerunCi { head: d.run.head.clone(), runs });
    true
}

/// Handles a rerun that was not possible: its failures count again.
pub(super) fn not_rerun(d: &mut DecisionBuilder, head: &Sha) {
    if *head == d.run.head {
        d.run.facts.rerun = BTreeMap::new();
    }
}

fn ask(d: &mut DecisionBuilder, doubt: CiDoubt, failures: &[CiFailure]) {
    let why = failures.iter().map(CiFailure::text).collect::<String>();
    // The names as the gate knows them.
    let checks = failures.iter().map(|f| f.name.clone()).collect();
    d.block(BlockKind::Ci { doubt, checks }, &why);
}

fn names(failures: &[CiFailure]) -> String {
    failures.iter().map(|f| f.name.replace(char::is_control, " ")).collect::<Vec<_>>().join(", ")
}

/// Applies the answer to such a question: read CI again, go on although it is red, or rework it with a hint.
pub(super) fn answered(
    d: &mut DecisionBuilder,
    (block, checks): (&Block, &[String]),
    answer: &Answer,
    by: &Principal,
) -> Result<(), Refusal> {
    match answer {
        Answer::Yes => d.run.facts.observed = None,
        Answer::Skip => d.run.facts.accepted_statuses.extend(checks.iter().cloned()),
        Answer::Text { text } => {
            d.add_task(Origin::Status, &format!("CI is red: {}", checks.join(", ")), &[&block.why]);
            if let Some(task) = d.run.tasks.last_mut() {
                task.note(NoteSource::Answer, text);
            }
        }
        Answer::No { why } => give_up(d, by, why),
        Answer::More { .. } => {
            let why = "answer yes to read CI again, skip to continue although it is red, a hint to rework it, or no to \
                       end the run";
            return Err(Refusal::NotAnAnswer { why: why.to_owned() });
        }
    }
    Ok(())
}
