//! The question about checks that are red for a reason no engine can remove: what the environment lacks, and what to do.

use super::escalation::Need;
use super::line;
use crate::domain::run::baseline::Baseline;
use crate::domain::{AnswerKind, CheckKind, CheckResult, Fault, Run, Scope};

/// Upper bound on what is asked for at once.
const MAX_NEEDS: usize = 3;

/// Returns the reason and the needs.
pub(super) fn reason_and_needs(run: &Run, scope: Scope) -> (String, Vec<Need>) {
    // Criteria that are not met before any change are no reason to ask.
    let is_expected = |r: &CheckResult| r.kind == CheckKind::Accept && scope == Scope::Base;
    let red: Vec<&CheckResult> = results(run, scope).iter().filter(|r| !r.green && !is_expected(r)).collect();
    let names = red.iter().map(|r| line(&r.name)).collect::<Vec<_>>().join(", ");
    let mut needs: Vec<Need> = Vec::new();
    for need in red.iter().filter_map(|r| need(r)) {
        if !needs.contains(&need) && needs.len() < MAX_NEEDS {
            needs.push(need);
        }
    }
    let broken = !needs.is_empty();
    if !broken {
        let how = match scope {
            Scope::Base => "fix the base and start again, or continue: what fails now is not charged to the change",
            Scope::Task(_) | Scope::Head => {
                "the same fails at the base, and nothing new does: fix it, or continue anyway"
            }
        };
        needs.push(Need { what: "A decision".to_owned(), how: how.to_owned() });
    }
    let reason = match (scope, broken) {
        (Scope::Base, true) => format!("the checks cannot run here yet, before any change: {names}"),
        (Scope::Base, false) => format!("the checks are red before any change: {names}"),
        (Scope::Task(task), true) => format!("the checks cannot judge the work of task {task}: {names}"),
        (Scope::Task(task), false) => format!("the checks of task {task} are as red as at the base: {names}"),
        (Scope::Head, true) => format!("the checks cannot judge the run's branch: {names}"),
        (Scope::Head, false) => format!("the checks are as red as at the base: {names}"),
    };
    (reason, needs)
}

fn results(run: &Run, scope: Scope) -> &[CheckResult] {
    match scope {
        Scope::Base => run.baseline.as_ref().map(|b: &Baseline| b.results.as_slice()),
        Scope::Task(task) => run.task(task).map(|t| t.results.as_slice()),
        Scope::Head => run.facts.results.as_deref(),
    }
    .unwrap_or_default()
}

/// Returns what a red check needs from its environment; `None` = nothing that is known.
fn need(red: &CheckResult) -> Option<Need> {
    let check = line(&red.name);
    let (what, how) = match &red.fault {
        Some(Fault::Program { name }) => {
            let name = if name.is_empty() { "that its output names".to_owned() } else { line(name) };
            let how = "install it, or add the folder that has it to sandbox.toolchains";
            (format!("The program {name}, for check {check}"), how.to_owned())
        }
        Some(Fault::Module { name }) => {
            let how =
                "install it in a check of kind \"setup\", or add the environment that has it to sandbox.toolchains";
            (format!("The package {}, for check {check}", line(name)), how.to_owned())
        }
        Some(Fault::Network) => {
            let how = red.why.split_once("; ").map_or(red.why.as_str(), |(_, how)| how);
            (format!("Network access for check {check}"), line(how))
        }
        Some(Fault::Space) => (format!("Free disk space, for check {check}"), "its output is above".to_owned()),
        None if red.kind == CheckKind::Setup => {
            (format!("A setup check {check} that works"), "its output is above".to_owned())
        }
        None => return None,
    };
    Some(Need { what, how })
}

/// Returns what an answer does, in a few words.
pub(super) fn effect_of(scope: Scope, answer: &AnswerKind) -> Option<&'static str> {
    Some(match (answer, scope) {
        (AnswerKind::Continue, _) => "checks the same commit again; no engine runs",
        (AnswerKind::Skip, _) => "continues anyway: these failures are not charged to the change",
        (AnswerKind::Reply, Scope::Base) => "continues with a hint; the checks must pass in the end",
        (AnswerKind::Reply, Scope::Task(_)) => "runs the engine again with a hint",
        (AnswerKind::Reply, Scope::Head) => "adds a task with a hint",
        _ => return None,
    })
}
