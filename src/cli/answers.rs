//! The answers to an escalation as shell commands.
//!
//! Invariant: pure. Every command printed here parses; a test parses each of them.

use crate::config::units::money_text;
use crate::http::rest::wire::{Answer, AnswerKind, BudgetScope, Escalation};

/// The run an escalation belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a> {
    /// Its short id.
    pub run: &'a str,
    /// Its project.
    pub project: &'a str,
    /// The number of its change on the local forge, once open.
    pub change: Option<u64>,
}

/// Codes of questions after which another engine or other checks may help.
pub const TRIED: &[&str] = &["tries", "rounds", "nothing_changed", "engine", "environment", "step_time"];

/// Returns the command for each answer, with what it does as a shell comment.
pub fn commands(of: Of<'_>, escalation: &Escalation) -> Vec<String> {
    let mut commands: Vec<String> = escalation.answers.iter().map(|answer| command(of, escalation, answer)).collect();
    if TRIED.contains(&escalation.code.as_str()) {
        let (run, block) = (of.run, &escalation.block);
        commands.push(format!(
            "skep unblock {run} --block {block} --engine 'command: …'  # with another engine, or other checks (--check)"
        ));
    }
    commands
}

fn command(of: Of<'_>, escalation: &Escalation, answer: &Answer) -> String {
    let (run, block, effect) = (of.run, &escalation.block, &answer.effect);
    let unblock = format!("skep unblock {run} --block {block}");
    match answer.kind {
        AnswerKind::Approve => format!("skep approve {run} --block {block}"),
        AnswerKind::Decline => format!("skep approve {run} --block {block} --no \"what should be different\""),
        AnswerKind::Continue => format!("{unblock}  # {effect}"),
        AnswerKind::Reply => format!("{unblock} --answer \"…\"  # {effect}"),
        AnswerKind::Raise => format!("{unblock} --more {}  # {effect}", amount(answer)),
        AnswerKind::RaiseShared => {
            let mut command = match answer.scope {
                Some(BudgetScope::Day) => "skep budget raise --day".to_owned(),
                Some(BudgetScope::Project) | None => format!("skep budget raise --project {}", of.project),
            };
            if let Some(tokens) = answer.tokens {
                command.push_str(&format!(" --tokens {tokens}"));
            }
            if let Some(cost_micros) = answer.cost_micros {
                command.push_str(&format!(" --cost \"{}\"", money_text(cost_micros)));
            }
            command
        }
        AnswerKind::Skip => format!("{unblock} --skip  # {effect}"),
        AnswerKind::Stop => format!("{unblock} --no \"why\"  # {effect}"),
    }
}

/// Returns the argument of `--more`.
pub fn amount(answer: &Answer) -> String {
    let suggested = answer.suggested.unwrap_or_default();
    match answer.budget.as_deref().unwrap_or("tokens") {
        "cost" => format!("cost=\"{}\"", money_text(suggested)),
        name @ ("time" | "step") => format!("{name}={suggested}s"),
        other => format!("{other}={suggested}"),
    }
}

/// Returns the commands that show what the escalation is about.
pub fn inspection(of: Of<'_>, escalation: &Escalation) -> Vec<String> {
    let run = of.run;
    match (escalation.code.as_str(), of.change, &escalation.task) {
        ("approve_merge", Some(change), _) => vec![format!("skep change show {}#{change} --patch", of.project)],
        ("approve_merge", None, _) => vec![format!("skep diff {run}")],
        ("approve_diff", _, Some(task)) => vec![format!("skep show {run} --patch {task}")],
        ("approve_plan", ..) => vec![format!("skep show {run}")],
        ("tries" | "step_time" | "environment", ..) => vec![format!("skep logs {run}")],
        _ => Vec::new(),
    }
}
