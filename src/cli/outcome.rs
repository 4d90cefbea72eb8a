//! Prints how a followed run ended: what landed, and what to inspect next.

use super::exit::Stop;
use super::run_log;
use super::terminal::{Style, Terminal};
use super::text::{between, count, shell_quoted, short_sha, usage};
use crate::http::rest::wire::{Outcome, Run, Timestamp};

/// Prints what a run delivered, where, how long it took, and commands to inspect it. `last` is the time of its last
/// event.
pub fn print(terminal: &Terminal, view: &Run, last: Timestamp) -> Result<(), Stop> {
    let Some(outcome) = &view.outcome else { return Ok(()) };
    terminal.print("")?;
    let style = match outcome {
        Outcome::Delivered { .. } => Style::Green,
        Outcome::Unchanged => Style::Plain,
        Outcome::Cancelled { .. } | Outcome::Failed { .. } => Style::Red,
    };
    let line = |name: &str, text: &str| terminal.prose(Style::Plain, &format!("  {name:<9} {text}"), 12);
    let (headline, reason) = match outcome {
        Outcome::Delivered { sha } => (format!("delivered as {}", short_sha(sha)), None),
        Outcome::Cancelled { why } => ("cancelled".to_owned(), Some(why)),
        Outcome::Failed { why } => ("failed".to_owned(), Some(why)),
        Outcome::Unchanged => ("nothing to change".to_owned(), None),
    };
    terminal.prose(style, &format!("{headline}: {}", view.goal.title), 4)?;
    if let Some(reason) = reason {
        line("reason", &run_log::quote(reason))?;
    }
    if let Outcome::Delivered { sha } = outcome {
        line("landed", &format!("{} on {} of {}", short_sha(sha), view.base_branch, view.repo))?;
        line("diff", &view.diff.summary())?;
    }
    if let Some(number) = view.change {
        let name = format!("{}#{number}", view.project);
        let url = view.change_url.as_deref().filter(|_| view.local_change().is_none());
        line("change", &url.map_or(name.clone(), |url| format!("{name} at {url}")))?;
    }
    let ended = view.attempts.iter().filter_map(|a| a.ended.as_ref()).map(|e| e.at).max();
    let last = ended.map_or(last, |at| at.max(last));
    line("duration", &format!("{}, active for {}", between(view.opened_at, last), usage(view.budget.spent)))?;
    let (attempts, rounds) = (count(view.attempts.len() as u64, "attempt"), count(view.rounds.into(), "rework round"));
    line("effort", &format!("{attempts}, {rounds}"))?;
    if terminal.is_transient() {
        return Ok(());
    }
    terminal.print("")?;
    let id = &view.short_id;
    if view.diff.files_total > 0 {
        terminal.suggest(&format!("  skep diff {id}             the diff"))?;
    }
    terminal.suggest(&format!("  skep show {id}             plan, attempts, gates and cost"))?;
    terminal.suggest(&format!("  skep events {id}           every event"))?;
    match outcome {
        Outcome::Delivered { sha } if view.repo.starts_with('/') => {
            let repo = shell_quoted(&view.repo);
            terminal.print(&format!("  git -C {repo} show {}", short_sha(sha)))?;
            let Some(remote) = &view.remote else { return Ok(()) };
            let (remote, branch) = (shell_quoted(remote), shell_quoted(&view.base_branch));
            terminal.print(&format!("  git -C {repo} push {remote} {branch}   publishes it"))
        }
        Outcome::Delivered { .. } => Ok(()),
        _ => terminal.suggest(&format!("  skep retry {id}            try the same goal again, as a new run")),
    }
}
