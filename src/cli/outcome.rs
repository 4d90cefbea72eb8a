//! The ends of a followed run: what landed and where to look, or the question in full.

use super::exit::Stop;
use super::run_log;
use super::terminal::{Style, Terminal};
use super::text::{between, usage};
use crate::http::rest::wire::{Escalation, Outcome, Run, Timestamp};

/// How a run ended: what landed, where, how long, what to look at next.
pub fn ended(terminal: &Terminal, view: &Run, last: Timestamp) -> Result<(), Stop> {
    let Some(outcome) = &view.outcome else { return Ok(()) };
    terminal.print("")?;
    let style = if matches!(outcome, Outcome::Delivered { .. }) { Style::Green } else { Style::Red };
    let line = |name: &str, text: &str| terminal.line(Style::Plain, &format!("  {name:<9} {text}"));
    let (how, why) = match outcome {
        Outcome::Delivered { sha } => (format!("delivered as {}", short(sha)), None),
        Outcome::Cancelled { why } => ("cancelled".to_owned(), Some(why)),
        Outcome::Failed { why } => ("ended undelivered".to_owned(), Some(why)),
    };
    terminal.line(style, &format!("{how}: {}", view.goal.title))?;
    if let Some(why) = why {
        line("why", &run_log::quote(why))?;
    }
    if let Outcome::Delivered { sha } = outcome {
        line("landed", &format!("{} on {} of {}", short(sha), view.base_branch, view.repo))?;
        line("changed", &view.diff.summary())?;
    }
    if let Some(number) = view.change {
        line("change", &format!("{}#{number}", view.project))?;
    }
    let ended = view.attempts.iter().filter_map(|a| a.ended.as_ref()).map(|e| e.at).max();
    let last = ended.map_or(last, |at| at.max(last));
    line("took", &format!("{}, of that at work {}", between(view.opened_at, last), usage(view.budget.spent)))?;
    line("rounds", &format!("{}; attempts {}", view.rounds, view.attempts.len()))?;
    terminal.print("Look at it:")?;
    let id = &view.short_id;
    terminal.suggest(&format!("  skep show {id} --patch     the diff"))?;
    terminal.suggest(&format!("  skep show {id}             plan, attempts, gates, what it cost"))?;
    terminal.suggest(&format!("  skep events {id}           the whole story"))?;
    match outcome {
        Outcome::Delivered { sha } if view.repo.starts_with('/') => {
            terminal.print(&format!("  git -C {} show {}", super::text::shell_quoted(&view.repo), short(sha)))
        }
        Outcome::Delivered { .. } => Ok(()),
        _ => terminal.suggest(&format!("  skep retry {id}            the same goal once more, as a new run")),
    }
}

/// A question in full.
pub fn escalation(terminal: &Terminal, escalation: &Escalation) -> Result<(), Stop> {
    terminal.print("")?;
    let mut whole = escalation.clone();
    whole.resumes = terminal.with_options(&whole.resumes);
    whole.answers.iter_mut().for_each(|answer| *answer = terminal.with_options(answer));
    whole.needs.iter_mut().for_each(|need| need.how = terminal.with_options(&need.how));
    let plain = plain(&whole);
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

/// Shortens a commit id.
fn short(sha: &str) -> &str {
    sha.get(..10).unwrap_or(sha)
}

/// The task a question is about: the one whose diff its text tells to look at.
pub fn task_of(escalation: &Escalation) -> Option<String> {
    let how = escalation.needs.iter().find_map(|n| n.how.split_once("--patch ").map(|(_, rest)| rest))?;
    let task: String = how.chars().take_while(char::is_ascii_alphanumeric).collect();
    super::parse::task(&task).ok().filter(|t| !t.is_empty())
}
