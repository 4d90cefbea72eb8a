//! Text for people: escalations, results, pull requests, alerts, the current state of a run, amounts and times.
//!
//! Every interface uses these functions, so that the same fact reads the same everywhere. Plain text is for terminals
//! and JSON; Markdown is for comments on the forge.
//!
//! Invariant: pure. May use `domain` only.
//! Invariant: no shell commands, except in runbooks. They belong to the command line, which adds its own.
//! Invariant: in Markdown, text from outside is fenced or quoted; it cannot close its fence, mention people or create
//! links.

mod acceptance;
mod budget;
mod change;
pub mod deployment;
pub mod diff;
mod environment;
mod escalation;
mod hidden;
pub mod issue;
mod journal;
pub mod landing_watch;
mod markdown;
mod notice;
mod now;
pub mod proposal;
mod quantity;
mod settings;
mod time;
pub mod words;

pub use acceptance::criterion_state;
pub use budget::{alert, shared_alert, spending};
pub use change::{EffectText, batch, change_body, change_name, change_title, effect_text, result, review_comment};
pub use environment::lacks;
pub use escalation::{Escalation, EscalationAnswer, Need, budget_names, effect_words, escalation};
pub use hidden::{is_hidden, visible};
pub use journal::{JournalEntry, MAX_QUOTE_CHARS, Tone, quote};
pub use markdown::{fenced, inline};
pub use notice::{notices, remote};
pub use now::{now, outcome};
pub use quantity::{brief, budget_word, bytes, count, duration, elapsed, files_changed, line, money, usage};
pub use settings::{differences, overrides, settings_changed, settings_differ};
pub use time::{date, utc};
