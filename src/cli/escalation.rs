//! Prints what a run asks a person, with the answers as shell commands.

use super::exit::Stop;
use super::terminal::{Style, Terminal};
use crate::http::rest::wire::Escalation;

/// Prints an escalation in full.
pub fn print(terminal: &Terminal, escalation: &Escalation) -> Result<(), Stop> {
    terminal.print("")?;
    let mut complete = escalation.clone();
    complete.resumes = terminal.with_options(&complete.resumes);
    complete.answers.iter_mut().for_each(|answer| *answer = terminal.with_options(answer));
    complete.needs.iter_mut().for_each(|need| need.how = terminal.with_options(&need.how));
    let plain = plain(&complete);
    let (first, rest) = plain.split_once('\n').unwrap_or((&plain, ""));
    terminal.styled(Style::Yellow, first)?;
    terminal.print(rest.trim_end_matches('\n'))
}

/// Writes the question as plain text. The terminal escapes control characters of quoted text.
fn plain(escalation: &Escalation) -> String {
    let mut text = format!("Escalation: {}\nRun: {}\nWhat I need from you:\n", escalation.reason, escalation.run);
    for (i, need) in escalation.needs.iter().enumerate() {
        text.push_str(&format!("  {}) {} -> {}\n", i + 1, need.what, need.how));
    }
    text.push_str("What happened:\n");
    for line in escalation.why.lines() {
        text.push_str(&format!("  | {line}\n"));
    }
    text.push_str("Answer with one of:\n");
    for answer in &escalation.answers {
        text.push_str(&format!("  {answer}\n"));
    }
    text.push_str(&format!("{}\n{}\n", escalation.resumes, escalation.reserved));
    text
}

/// Returns the task whose diff the escalation is about, if there is one.
pub fn task_of(escalation: &Escalation) -> Option<String> {
    let how = escalation.needs.iter().find_map(|n| n.how.split_once("--patch ").map(|(_, rest)| rest))?;
    let task: String = how.chars().take_while(char::is_ascii_alphanumeric).collect();
    super::parse::task(&task).ok().filter(|t| !t.is_empty())
}
