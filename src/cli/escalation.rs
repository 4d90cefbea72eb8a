//! Prints what a run asks a person, with the answers as shell commands.

use super::answers::{self, Of};
use super::exit::Stop;
use super::terminal::{Style, Terminal};
use crate::http::rest::wire::{Escalation, Run};

/// Prints an escalation in full.
pub fn print(terminal: &Terminal, view: &Run, escalation: &Escalation) -> Result<(), Stop> {
    terminal.print("")?;
    let plain = plain(terminal, view, escalation);
    let (first, rest) = plain.split_once('\n').unwrap_or((&plain, ""));
    terminal.styled(Style::Yellow, first)?;
    terminal.print(rest.trim_end_matches('\n'))
}

/// Writes the question as plain text. The terminal escapes control characters of quoted text.
fn plain(terminal: &Terminal, view: &Run, escalation: &Escalation) -> String {
    let of = Of { run: &view.short_id, project: &view.project, change: view.change };
    let mut text = format!("Escalation: {}\nRun: {}\nWhat I need from you:\n", escalation.reason, escalation.run);
    for (i, need) in escalation.needs.iter().enumerate() {
        text.push_str(&format!("  {}) {} -> {}\n", i + 1, need.what, need.how));
    }
    text.push_str("What happened:\n");
    for line in escalation.why.lines() {
        text.push_str(&format!("  | {line}\n"));
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
