//! What Skep writes on an issue, and its replies to commands there.

use super::change::result;
use super::escalation::escalation;
use super::markdown::inline;
use super::now::now;
use crate::domain::delivery::UNBLOCKED_LABEL;
use crate::domain::escalation::AnswerKind;
use crate::domain::{Block, Run, Timestamp};

/// Replaces a question that was answered.
pub const ANSWERED: &str = "The question was answered. The run goes on.";

/// Returns the comment about the run of an issue.
pub fn about(run: &Run) -> String {
    let change = match &run.change {
        Some(change) => format!("Its pull request is #{}.", change.number),
        None => "It opens a pull request when its checks pass.".to_owned(),
    };
    format!(
        "Skep works on this issue as run `{}`. {change}\n\nPeople who may write to this repository can comment `/skep \
         status`, `/skep pause`, `/skep resume`, `/skep retry` or `/skep cancel`.",
        run.id.abbrev()
    )
}

/// Returns the comment about what a run asks; `None` = it asks nothing.
pub fn question(run: &Run) -> Option<String> {
    if run.blocks.is_empty() || run.ended() {
        return None;
    }
    let all = run.blocks.iter().map(|block| format!("{}\n{}", escalation(run, block).markdown(), how_to_answer(block)));
    Some(all.collect::<Vec<_>>().join("\n---\n\n"))
}

fn how_to_answer(block: &Block) -> String {
    let mut commands = Vec::new();
    for option in crate::domain::escalation::answers(block) {
        match option.kind {
            AnswerKind::Approve => commands.push("`/skep approve`".to_owned()),
            AnswerKind::Decline => commands.push("`/skep decline TEXT`".to_owned()),
            AnswerKind::Continue => commands.push(format!("`/skep answer #{}`", block.id)),
            AnswerKind::Reply => commands.push(format!("`/skep answer #{} TEXT`", block.id)),
            AnswerKind::Stop => commands.push("`/skep cancel`".to_owned()),
            AnswerKind::Raise { .. } | AnswerKind::RaiseShared { .. } | AnswerKind::Skip => {}
        }
    }
    let label = match commands.iter().any(|command| *command == format!("`/skep answer #{}`", block.id)) {
        true => format!(" The label `{UNBLOCKED_LABEL}` says yes."),
        false => String::new(),
    };
    format!("People who may write to this repository can also comment here: {}.{label}\n", commands.join(" or "))
}

/// Returns the last comment about a run that has ended.
pub fn end(run: &Run) -> Option<String> {
    let change = run.change.as_ref().map(|change| format!(" Pull request: #{}.", change.number)).unwrap_or_default();
    run.outcome.as_ref().map(|_| format!("Run `{}` has ended.{change}\n\n{}", run.id.abbrev(), result(run)))
}

/// Returns the reply to a command that was carried out.
pub fn state(run: &Run, at: Timestamp) -> String {
    format!("Run `{}` is now: {}.", run.id.abbrev(), inline(&now(run, at)))
}

/// Returns the reply to a command that was not carried out.
pub fn refused(detail: &str, fix: &str) -> String {
    let fix = if fix.is_empty() { String::new() } else { format!("\n\nWhat to do: {}", inline(fix)) };
    format!("Skep did not do this: {}.{fix}", inline(detail))
}

/// Returns the reply to a command that does not exist.
pub fn unknown_command(word: &str) -> String {
    let what = if word.is_empty() { "a command is missing".to_owned() } else { format!("there is no command {word}") };
    refused(&what, "use run, approve, decline TEXT, answer TEXT, pause, resume, retry, cancel or status after /skep")
}
