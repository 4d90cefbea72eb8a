//! What a run is doing, as words and as live lines.

use super::live::AtWork;
use super::text::brief;
use crate::http::rest::wire::{Check, Engine, Run, Timestamp};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Effects by their name in the API: the words for them, and whether they are worth a live line. The others end at once.
const EFFECTS: &[(&str, &str, bool)] = &[
    ("start", "starting an attempt", false),
    ("reserve", "reserving budget", false),
    ("check", "running the checks", true),
    ("integrate", "integrating", true),
    ("rebase", "rebasing onto the moved base", true),
    ("push", "pushing the branch", true),
    ("ensure_change", "opening the change", true),
    ("comment", "commenting on the change", false),
    ("set_status", "setting a status", false),
    ("observe", "reading the change from the forge", false),
    ("inspect_ci", "reading the failures of CI", true),
    ("rerun_ci", "running failed CI jobs again", false),
    ("land", "landing", true),
    ("close", "closing the change", false),
    ("release", "removing the workspace", false),
    ("stop", "stopping attempts and checks", false),
];

/// Longest command that stands for the name of a check, in characters.
const MAX_COMMAND_CHARS: usize = 40;

/// Returns the words for an effect.
pub fn words(effect: &str) -> &str {
    EFFECTS.iter().find(|(name, ..)| *name == effect).map_or(effect, |(_, words, _)| *words)
}

/// Returns the words for the status of a task.
pub fn task_status(status: &str) -> &str {
    match status {
        "needs_qa" => "being checked",
        other => other,
    }
}

/// Returns what a run is doing now: its attempts, then its effects, then what it waits for.
pub fn at_work(run: &Run) -> Vec<AtWork> {
    let mut items: Vec<AtWork> = Vec::new();
    for attempt in run.attempts.iter().filter(|a| a.is_live()) {
        let on = attempt.task.as_ref().map_or_else(String::new, |task| format!(" on {task}"));
        let engine = Engine::parse(&attempt.engine).named();
        items.push(AtWork {
            key: attempt.id.clone(),
            name: format!("{} {} ({}){on}", attempt.id, attempt.step.role(), brief(&engine, 24)),
            elapsed: since(attempt.started_at),
        });
    }
    let mut effects: Vec<&str> = run.pending_effects.iter().map(String::as_str).collect();
    effects.dedup();
    for (name, words, _) in EFFECTS.iter().filter(|(name, _, shown)| *shown && effects.contains(name)) {
        let name_of = match *name {
            "check" => {
                let names: Vec<String> = run.checks.iter().map(check_name).collect();
                format!("checks: {}", names.join(", "))
            }
            _ => (*words).to_owned(),
        };
        items.push(AtWork { key: (*name).to_owned(), name: name_of, elapsed: Duration::ZERO });
    }
    items
}

/// Returns what a check is called: one without a name of its own by its command.
pub fn check_name(check: &Check) -> String {
    match is_numbered(&check.name) {
        true => format!("`{}`", brief(&check.command, MAX_COMMAND_CHARS)),
        false => check.name.clone(),
    }
}

/// Replaces the numbers of checks in a line by their commands.
pub fn with_check_names(line: &str, checks: &[Check]) -> String {
    let numbered = checks.iter().filter(|c| is_numbered(&c.name));
    numbered.fold(line.to_owned(), |line, c| line.replace(&format!("{} ", c.name), &format!("{} ", check_name(c))))
}

fn is_numbered(name: &str) -> bool {
    name.strip_prefix("check-").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

/// Returns how long ago a moment is.
fn since(at: Timestamp) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(u64::try_from(at.0).unwrap_or(0)))
}
