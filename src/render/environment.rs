//! The question about checks that are red for a reason no engine can remove: what the environment lacks, and what to do.

use super::escalation::Need;
use super::line;
use crate::domain::change::failure_lines::how_to_get;
use crate::domain::run::baseline::Baseline;
use crate::domain::{AnswerKind, CheckKind, CheckResult, Fault, Run, Scope};

/// Upper bounds on what is asked for at once, and on the checks that are named for one thing.
const MAX_NEEDS: usize = 6;
const MAX_NAMED: usize = 8;

/// What a red check lacks, and what to do about it.
struct Lack {
    thing: String,
    how: String,
    check: String,
}

/// Something that is lacking, and the checks that need it.
type ForChecks = (String, Vec<String>);

/// Returns the reason and the needs.
pub(super) fn reason_and_needs(run: &Run, scope: Scope) -> (String, Vec<Need>) {
    // Criteria that are not met before any change are no reason to ask.
    let is_expected = |r: &CheckResult| r.kind == CheckKind::Accept && scope == Scope::Base;
    let red: Vec<&CheckResult> = results(run, scope).iter().filter(|r| !r.green && !is_expected(r)).collect();
    let names = red.iter().map(|r| line(&r.name)).collect::<Vec<_>>().join(", ");
    let mut needs = grouped(red.iter().filter_map(|r| lack(r)).collect());
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

/// Groups what is lacking by what to do about it: one need each, which names all checks.
fn grouped(lacks: Vec<Lack>) -> Vec<Need> {
    let mut groups: Vec<(String, Vec<ForChecks>)> = Vec::new();
    for Lack { thing, how, check } in lacks {
        let at = groups.iter().position(|(known, _)| *known == how).unwrap_or_else(|| {
            groups.push((how, Vec::new()));
            groups.len() - 1
        });
        let things = &mut groups[at].1;
        match things.iter_mut().find(|(known, _)| *known == thing) {
            Some((_, checks)) => checks.push(check),
            None => things.push((thing, vec![check])),
        }
    }
    let rest: usize =
        groups.iter().skip(MAX_NEEDS).flat_map(|(_, things)| things).map(|(_, checks)| checks.len()).sum();
    let mut needs: Vec<Need> = groups.into_iter().take(MAX_NEEDS).map(|(how, things)| need(&things, how)).collect();
    if rest > 0 {
        let what = format!("What else is lacking, for {}", super::quantity::count(rest as u64, "more check"));
        needs.push(Need { what, how: "their output is above".to_owned() });
    }
    needs
}

/// Returns the need of checks that lack things for the same reason.
fn need(things: &[ForChecks], how: String) -> Need {
    let mut named: Vec<String> =
        things.iter().take(MAX_NAMED).map(|(thing, checks)| for_checks(thing, checks)).collect();
    if things.len() > MAX_NAMED {
        named.push(format!("and {} more", things.len() - MAX_NAMED));
    }
    let what = named.join("; ");
    let first = what.chars().next().map_or(0, char::len_utf8);
    Need { what: format!("{}{}", what[..first].to_uppercase(), &what[first..]), how }
}

fn for_checks(thing: &str, checks: &[String]) -> String {
    let named = checks[..checks.len().min(MAX_NAMED)].join(", ");
    match checks.len() {
        1 => format!("{thing}, for check {named}"),
        all if all > MAX_NAMED => format!("{thing}, for checks {named} and {} more", all - MAX_NAMED),
        _ => format!("{thing}, for checks {named}"),
    }
}

/// Returns what a red check lacks in its environment, and how to get it, on one line; `None` = nothing that is known, or
/// what its reason says in full.
pub fn lacks(red: &CheckResult) -> Option<String> {
    match red.fault {
        // Of the setup nothing is known but that it failed.
        None | Some(Fault::Network) => None,
        Some(_) => lack(red).map(|lack| format!("{}: {}", lack.thing, lack.how)),
    }
}

/// Returns what a red check lacks in its environment; `None` = nothing that is known.
fn lack(red: &CheckResult) -> Option<Lack> {
    let output = "its output is above";
    let (thing, how) = match &red.fault {
        Some(Fault::Program { name }) => {
            let how = how_to_get(name).to_owned();
            let name = if name.is_empty() { "that its output names".to_owned() } else { line(name) };
            (format!("the program {name}"), how)
        }
        Some(Fault::Module { name }) => {
            let how =
                "install it in a check of kind \"setup\", or add the environment that has it to sandbox.toolchains";
            (format!("the package {}", line(name)), how.to_owned())
        }
        Some(Fault::Service { name }) => {
            let how = "start it in the command of the check: in the sandbox, localhost is the sandbox itself, so a \
                       service of this machine cannot be reached";
            (format!("the service at {}", line(name)), how.to_owned())
        }
        Some(Fault::Toolchain { name, line: told }) => {
            let how = format!("install the version it asks for, first on the PATH of skep. It says: {}", line(told));
            (format!("another version of {}", line(name)), how)
        }
        Some(Fault::Network) => {
            let how = red.why.split_once("; ").map_or(red.why.as_str(), |(_, how)| how);
            ("network access".to_owned(), line(how))
        }
        Some(Fault::Space) => ("free disk space".to_owned(), output.to_owned()),
        None if red.kind == CheckKind::Setup => ("a setup that works".to_owned(), output.to_owned()),
        None => return None,
    };
    Some(Lack { thing, how, check: line(&red.name) })
}

/// Returns what an answer does, in a few words.
pub(super) fn effect_of(scope: Scope, answer: &AnswerKind) -> Option<&'static str> {
    Some(match (answer, scope) {
        (AnswerKind::Continue, _) => "checks the same commit again, before an engine runs",
        (AnswerKind::Skip, _) => "continues anyway: these failures are not charged to the change",
        (AnswerKind::Reply, Scope::Base) => "continues with a hint; the checks must pass in the end",
        (AnswerKind::Reply, Scope::Task(_)) => "runs the engine again with a hint",
        (AnswerKind::Reply, Scope::Head) => "adds a task with a hint",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_that_lack_something_for_the_same_reason_are_asked_for_together() {
        let lack = |thing: &str, how: &str, check: &str| Lack {
            thing: thing.to_owned(),
            how: how.to_owned(),
            check: check.to_owned(),
        };
        let found = vec![
            lack("the program go", "install it", "a"),
            lack("network access", "allow x", "b"),
            lack("the program go", "install it", "c"),
            lack("the program uv", "install it", "d"),
        ];
        let whats: Vec<String> = grouped(found).into_iter().map(|need| need.what).collect();
        assert_eq!(
            whats,
            ["The program go, for checks a, c; the program uv, for check d", "Network access, for check b"]
        );
        let many = (0..MAX_NEEDS + 2).map(|n| lack("network access", &format!("allow h{n}"), &format!("c{n}")));
        let needs = grouped(many.collect());
        assert_eq!((needs.len(), &*needs[MAX_NEEDS].what), (MAX_NEEDS + 1, "What else is lacking, for 2 more checks"));
    }
}
