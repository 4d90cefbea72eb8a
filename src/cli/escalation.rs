//! Prints what a run asks a person, with the answers as shell commands. The reason and the question come last, and what
//! happened is shortened, so that both stay on the screen.

use super::answers::{self, Of};
use super::exit::Stop;
use super::terminal::{Style, Terminal};
use super::text::count;
use crate::http::rest::wire::{Escalation, Run};

/// Most lines of what happened that are printed, where an answer depends on reading the output of programs, and where
/// it depends on a list that Skep made.
const MAX_OUTPUT_LINES: usize = 7;
const MAX_LISTED_LINES: usize = 16;

/// Prints an escalation.
pub fn print(terminal: &Terminal, view: &Run, escalation: &Escalation) -> Result<(), Stop> {
    terminal.print("")?;
    for line in happened(terminal, view, escalation) {
        terminal.print(&line)?;
    }
    terminal.styled(Style::Yellow, &format!("Escalation: {}", escalation.reason))?;
    terminal.print(question(terminal, view, escalation).trim_end_matches('\n'))
}

/// Returns the run and what happened. The terminal escapes control characters of quoted text.
fn happened(terminal: &Terminal, view: &Run, escalation: &Escalation) -> Vec<String> {
    let lines: Vec<&str> = escalation.why.trim_end().lines().collect();
    let mut text = vec![format!("Run: {}", escalation.run)];
    if lines.is_empty() {
        return text;
    }
    text.push("What happened:".to_owned());
    let listed = escalation.code.starts_with("approve_");
    let max = if listed { MAX_LISTED_LINES } else { MAX_OUTPUT_LINES };
    let rest = |n: usize| {
        format!("  | … {}: {}", count(n as u64, "more line"), terminal.with_options(&whole(view, escalation)))
    };
    // Of a list the beginning counts, of output also the end.
    let (first, last) = match (lines.len() > max, listed) {
        (false, _) => (lines.len(), 0),
        (true, true) => (max - 1, 0),
        (true, false) => (max / 2, max - max / 2 - 1),
    };
    let quoted = |line: &&str| format!("  | {line}");
    text.extend(lines[..first].iter().map(quoted));
    if first + last < lines.len() {
        text.push(rest(lines.len() - first - last));
    }
    text.extend(lines[lines.len() - last..].iter().map(quoted));
    text
}

/// Returns the command that shows all of what happened.
fn whole(view: &Run, escalation: &Escalation) -> String {
    let run = &view.short_id;
    match (escalation.code.as_str(), view.change) {
        ("approve_merge", Some(number)) => format!("skep change show {}#{number} --patch", view.project),
        (code, _) if code.starts_with("approve_") => format!("skep show {run} --json"),
        _ => {
            let of_task = |task: &Option<String>| escalation.task.is_none() || *task == escalation.task;
            match view.attempts.iter().rev().find(|a| of_task(&a.task)) {
                Some(attempt) if escalation.code != "environment" => format!("skep logs {run} {}", attempt.id),
                _ => format!("skep logs {run}"),
            }
        }
    }
}

/// Returns what is needed, and the answers.
fn question(terminal: &Terminal, view: &Run, escalation: &Escalation) -> String {
    let of = Of { run: &view.short_id, project: &view.project, change: view.change };
    let mut text = "What I need from you:\n".to_owned();
    for (i, need) in escalation.needs.iter().enumerate() {
        text.push_str(&format!("  {}) {} -> {}\n", i + 1, need.what, need.how));
    }
    let mut section = |title: &str, commands: Vec<String>| {
        if !commands.is_empty() {
            text.push_str(&format!("{title}:\n"));
            commands.iter().for_each(|c| text.push_str(&format!("  {}\n", terminal.with_options(c))));
        }
    };
    section("Look at it with", answers::inspection(of, escalation));
    section("Answer with one of", answers::commands(of, escalation));
    text.push_str(&format!("{}\n{}\n", escalation.resumes, escalation.reserved));
    text
}
