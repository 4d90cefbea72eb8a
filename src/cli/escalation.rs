//! Prints what a run asks a person, with the answers as shell commands. The reason and the question come last, and what
//! happened is shortened, so that both stay on the screen.

use super::answers::{self, Of};
use super::exit::Stop;
use super::terminal::{Style, Terminal};
use super::text::count;
use crate::http::rest::wire::{Attempt, Ending, Escalation, Run};

/// Most lines of what happened that are printed, where an answer depends on reading the output of programs, and where
/// it depends on a list that Skep made.
const MAX_OUTPUT_LINES: usize = 7;
const MAX_LISTED_LINES: usize = 16;
/// So few lines more are printed as well: the note about them takes a line too.
const MAX_SPARED_LINES: usize = 2;

/// How an escalation is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Everything, with the commands that answer it.
    Full,
    /// What fits a screen; the answer is asked for right after it.
    Asked,
}

/// Prints an escalation.
pub fn print(terminal: &Terminal, view: &Run, escalation: &Escalation, form: Form) -> Result<(), Stop> {
    let of = Of { run: &view.short_id, project: &view.project, change: view.local_change() };
    terminal.print("")?;
    terminal.prose(Style::Plain, &format!("Run: {}", escalation.run), 5)?;
    happened(terminal, view, escalation)?;
    terminal.styled(Style::Yellow, &format!("Escalation: {}", escalation.reason))?;
    terminal.print("What I need from you:")?;
    for (i, need) in escalation.needs.iter().enumerate() {
        terminal.prose(Style::Plain, &format!("  {}) {} -> {}", i + 1, need.what, need.how), 5)?;
    }
    if form == Form::Asked {
        return Ok(());
    }
    let section = |title: &str, commands: Vec<String>| -> Result<(), Stop> {
        if commands.is_empty() {
            return Ok(());
        }
        terminal.print(&format!("{title}:"))?;
        commands.iter().try_for_each(|c| terminal.suggest(&format!("  {c}")))
    };
    section("Look at it with", answers::inspection(of, escalation))?;
    section("Answer with one of", answers::commands(of, escalation))?;
    terminal.prose(Style::Plain, &escalation.resumes, 0)?;
    terminal.prose(Style::Dim, &escalation.reserved, 0)
}

/// Prints what happened, shortened: of a list its beginning, which says what needs attention, of output its beginning and
/// its end.
fn happened(terminal: &Terminal, view: &Run, escalation: &Escalation) -> Result<(), Stop> {
    let is_list = escalation.code.starts_with("approve_");
    // Blank lines of an output would only take the place of what it says.
    let lines: Vec<&str> = escalation.why.lines().filter(|l| is_list || !l.trim().is_empty()).collect();
    if lines.is_empty() {
        return Ok(());
    }
    terminal.print("What happened:")?;
    let max = if is_list { MAX_LISTED_LINES } else { MAX_OUTPUT_LINES };
    let (first, last) = match (lines.len() > max + MAX_SPARED_LINES, is_list) {
        (false, _) => (lines.len(), 0),
        (true, true) => (max - 1, 0),
        (true, false) => (max / 2, max - max / 2 - 1),
    };
    let line = |text: &&str| terminal.prose(Style::Plain, &format!("  | {}", text.replace('\t', "    ")), 4);
    lines.iter().take(first).try_for_each(line)?;
    let left_out = lines.len() - first - last;
    if left_out > 0 {
        let all = terminal.with_options(&whole(view, escalation));
        terminal.styled(Style::Dim, &format!("  | … {}: {all}", count(left_out as u64, "more line")))?;
    }
    lines.iter().skip(lines.len() - last).try_for_each(line)
}

/// Returns the command that shows all of what happened.
fn whole(view: &Run, escalation: &Escalation) -> String {
    let run = &view.short_id;
    match (escalation.code.as_str(), view.local_change()) {
        ("approve_merge", Some(number)) => format!("skep change show {}#{number} --patch", view.project),
        ("approve_merge", None) => format!("skep diff {run}"),
        (code, _) if code.starts_with("approve_") => format!("skep show {run} --json"),
        _ => {
            let of_task = |task: &Option<String>| escalation.task.is_none() || *task == escalation.task;
            let last = view.attempts.iter().rev().find(|a| of_task(&a.task));
            // The output of a check is not among the logs of the attempt that it judged.
            let has_failed = |a: &&Attempt| a.ended.as_ref().is_some_and(|e| e.ending == Ending::Failed);
            match last.filter(has_failed) {
                Some(attempt) if escalation.code != "environment" => format!("skep logs {run} {}", attempt.id),
                _ => format!("skep logs {run}"),
            }
        }
    }
}
