//! The base is checked before any engine works: a broken environment, or a base that is red already, is a question to a
//! person and costs no attempt.
//!
//! Invariant: a red check that no engine can make green never starts an attempt; it is checked again after an answer.

use super::builder::{DecisionBuilder, cap};
use super::outcome::give_up;
use super::work;
use crate::domain::block::{Answer, Block, BlockKind};
use crate::domain::check::{self, CheckKind, CheckResult, Scope};
use crate::domain::effect::OwnStatus;
use crate::domain::id::{Principal, Sha, TaskId};
use crate::domain::order::{NoteSource, Step};
use crate::domain::policy::BaseChecks;
use crate::domain::refusal::Refusal;
use crate::domain::run::baseline::Baseline;
use crate::domain::task::{Origin, Stage};

/// Returns whether engines may start: the base was checked, and what it shows needs no person. Else orders what is
/// missing.
pub(super) fn allows_engines(d: &mut DecisionBuilder) -> bool {
    let policy = d.run.settings.policy.base_checks;
    if policy == BaseChecks::Off {
        return true;
    }
    let Some(baseline) = &d.run.baseline else {
        work::check(d, Scope::Base, d.run.base.clone());
        return false;
    };
    if !baseline.needs_person(policy) {
        return true;
    }
    let results: Vec<CheckResult> = baseline.results.iter().filter(|r| r.kind != CheckKind::Accept).cloned().collect();
    ask(d, Scope::Base, &results);
    false
}

/// Returns whether the base that the head sits on now has been checked. Else orders its checks.
pub(super) fn knows_base(d: &mut DecisionBuilder) -> bool {
    let base = d.run.base.clone();
    if d.run.baseline.as_ref().is_none_or(|b| b.sha == base) {
        return true;
    }
    work::check(d, Scope::Base, base);
    false
}

/// Records the results at the base. What fails there is a note for every attempt.
pub(super) fn found(d: &mut DecisionBuilder, sha: &Sha, results: &[CheckResult], environment: Option<&str>) {
    if *sha != d.run.base {
        return;
    }
    let settled = d.run.baseline.as_ref().is_some_and(|b| b.settled);
    // Green results are only named; the output of red ones explains them.
    let kept =
        |r: &CheckResult| CheckResult { tail: if r.green { String::new() } else { r.tail.clone() }, ..r.clone() };
    d.run.notes.retain(|n| n.source != NoteSource::Base);
    // Criteria that are not met yet are the goal, not a problem of the base.
    let red: Vec<CheckResult> = results.iter().filter(|r| !r.green && r.kind != CheckKind::Accept).cloned().collect();
    if !red.is_empty() {
        d.run.note(NoteSource::Base, &check::failures(&red));
    }
    let (results, environment) = (results.iter().map(kept).collect(), environment.map(str::to_owned));
    d.run.baseline = Some(Baseline { sha: sha.clone(), results, environment, settled });
}

/// Asks a person about red checks that no engine can make green.
pub(super) fn ask(d: &mut DecisionBuilder, scope: Scope, results: &[CheckResult]) {
    let why = cap(&check::failures(results), Block::MAX_WHY_BYTES);
    d.block(BlockKind::Environment { scope }, &why);
}

/// Applies the answer to such a question: check again, go on with these failures, or go on with a hint.
pub(super) fn answered(d: &mut DecisionBuilder, scope: Scope, answer: &Answer, by: &Principal) -> Result<(), Refusal> {
    match (scope, answer) {
        (_, Answer::No { why }) => give_up(d, by, why),
        (_, Answer::More { .. }) => {
            let why =
                "answer yes to check again, skip to continue anyway, a hint to continue with it, or no to end the run";
            return Err(Refusal::NotAnAnswer { why: why.to_owned() });
        }
        (Scope::Base, Answer::Yes) => d.run.baseline = None,
        (Scope::Base, Answer::Skip) => {
            let mut results = d.run.baseline.as_ref().map(|b| b.results.clone()).unwrap_or_default();
            results.retain(|r| r.kind != CheckKind::Accept);
            d.run.accept_failures(&results);
            settle(d);
        }
        (Scope::Base, Answer::Text { text }) => {
            d.run.note(NoteSource::Answer, text);
            settle(d);
        }
        (Scope::Task(id), answer) => of_task(d, id, answer),
        (Scope::Head, Answer::Yes) => forget_head(d),
        (Scope::Head, Answer::Skip) => {
            let results = d.run.facts.results.clone().unwrap_or_default();
            d.run.accept_failures(&results);
            d.run.facts.statuses.remove(OwnStatus::Checks.context());
        }
        (Scope::Head, Answer::Text { text }) => {
            d.add_task(Origin::Person, "The checks are red; a person said what to do about it", &[text]);
        }
    }
    Ok(())
}

fn of_task(d: &mut DecisionBuilder, id: TaskId, answer: &Answer) {
    let results = d.run.task(id).map(|t| t.results.clone()).unwrap_or_default();
    let Some(task) = d.run.task_mut(id).filter(|t| t.stage == Stage::Checking) else { return };
    match answer {
        Answer::Text { text } => {
            task.restart(NoteSource::Checks, &check::failures(&results));
            task.note(NoteSource::Answer, text);
            d.more_tries(Step::Develop, Some(id));
        }
        Answer::Skip => {
            task.stage = Stage::Integrating;
            d.run.accept_failures(&results);
        }
        // The task still has its commit, which is checked again.
        _ => {}
    }
}

/// Records that a person decided to go on with what the base shows.
fn settle(d: &mut DecisionBuilder) {
    if let Some(baseline) = &mut d.run.baseline {
        baseline.settled = true;
    }
}

/// Forgets the results at the head, so that it is checked again.
fn forget_head(d: &mut DecisionBuilder) {
    d.run.facts.results = None;
    d.run.facts.statuses.remove(OwnStatus::Checks.context());
}
