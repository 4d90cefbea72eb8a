//! Journal rows as log lines on the terminal.
//!
//! Invariant: pure. Foreign text passes through unchanged; the terminal escapes it.

use super::terminal::Mark;
use super::text::escape;
use crate::http::rest::wire::{self, Outcome, Run};
pub use crate::render::MAX_QUOTE_CHARS;
use crate::render::{self, JournalEntry, Tone};

/// Reads a row.
pub fn entry(row: &wire::Event) -> JournalEntry {
    JournalEntry::read(&row.name, row.event.as_ref())
}

/// Returns the log line of a row; `None` for internal steps that mean nothing to a person. `run` bounds what an engine
/// reports as its usage: it may report anything, but is not charged more than was reserved.
pub fn line(row: &wire::Event, run: Option<&Run>) -> Option<String> {
    let attempt = |id: &str| run?.attempts.iter().find(|a| a.id == id);
    entry(row).words(|id| attempt(id).map(|a| a.reserved.into()))
}

/// Returns the mark of a row: something good, something bad, something to do again, or a fact.
pub fn mark(row: &wire::Event) -> Mark {
    match entry(row).tone() {
        Tone::Good => Mark::Good,
        Tone::Bad => Mark::Bad,
        Tone::Again => Mark::Again,
        Tone::Neutral => Mark::Note,
    }
}

/// Quotes the first non-empty line, together with the text after it if that line only introduces it.
pub fn quote(text: &str) -> String {
    escape(&render::quote(text))
}

/// Returns the state of a run that waits for something else than a person: a slot, a time, the forge.
pub fn waiting(run: &Run) -> Option<&str> {
    let for_forge = run.phase == "gating" && run.pending_effects.is_empty();
    (run.phase == "queued" || run.wake_at.is_some() || for_forge).then_some(run.now.as_str())
}

/// Returns how a run ended, in one line.
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered { sha } => format!("delivered as {}", sha.get(..10).unwrap_or(sha)),
        Outcome::Cancelled { why } => format!("cancelled: {}", quote(why)),
        Outcome::Failed { why } => format!("failed: {}", quote(why)),
        Outcome::Unchanged => "nothing to change".to_owned(),
    }
}
