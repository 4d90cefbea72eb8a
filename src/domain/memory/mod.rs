//! Memory: what ended runs have shown about a project, in few, short, cited and expiring rows.
//!
//! | file | duty |
//! |---|---|
//! | `derive` | rows made from the events of an ended run, by rules |
//! | `citation` | the lines that a row is about, and whether they are still there |
//! | `document` | sections of a repository's documents, as rows that point to them |
//! | `words`, `rank` | the rows that fit an order, best first |
//! | `effect` | runs that were given rows, compared with the holdout |
//!
//! Invariant: no text of an issue, of a repository or of a model becomes more than a bounded, single-line quotation in a
//! row, and no row is anything but data to the attempt that is given it.

pub mod citation;
pub mod derive;
pub mod document;
pub mod effect;
pub mod rank;
pub mod words;

pub use citation::Citation;
pub use derive::{Derived, Draft, Place, ShownEvent, derive};
pub use effect::{Arm, ArmResult, Effect};
pub use rank::{Query, Record, rank};

use super::hidden::is_hidden;
use super::id::{Principal, RunId, Timestamp};
use super::order::Step;
use super::policy::Policy;
use super::project::ProjectName;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fmt::Write as _;

/// Milliseconds of a day.
pub const DAY_MS: i64 = 24 * 3_600_000;

/// Kind of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryKind {
    /// What a journal proves: a check that is red at the base, what made a check green, what a person decided.
    Fact,
    /// A change that landed: its tasks and files.
    Change,
    /// Advice: written by a person, or a reviewer's finding that was confirmed.
    Lesson,
    /// A section of a document of the repository. Read at the base, never stored.
    Document,
}

impl MemoryKind {
    /// All kinds.
    pub const ALL: [MemoryKind; 4] = [MemoryKind::Fact, MemoryKind::Change, MemoryKind::Lesson, MemoryKind::Document];

    /// Returns the name used in the configuration, JSON and prompts.
    pub fn name(self) -> &'static str {
        match self {
            MemoryKind::Fact => "fact",
            MemoryKind::Change => "change",
            MemoryKind::Lesson => "lesson",
            MemoryKind::Document => "document",
        }
    }

    /// Returns the kind with this name.
    pub fn named(name: &str) -> Option<MemoryKind> {
        MemoryKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns for how long a row is given after it was last seen, in days.
    pub fn days(self) -> i64 {
        match self {
            MemoryKind::Fact | MemoryKind::Lesson | MemoryKind::Document => 28,
            MemoryKind::Change => 365,
        }
    }

    /// Returns the age at which a row ends however often it was seen again, in days.
    pub fn max_days(self) -> i64 {
        match self {
            MemoryKind::Fact | MemoryKind::Lesson | MemoryKind::Document => 180,
            MemoryKind::Change => 365,
        }
    }
}

/// State of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryState {
    /// It may be given until it expires.
    Live,
    /// A later run, or the files it cites, have shown that it no longer holds.
    Stale,
    /// A person had it forgotten: its text is gone, and the same row is not made again.
    Forgotten,
}

impl MemoryState {
    /// All states.
    pub const ALL: [MemoryState; 3] = [MemoryState::Live, MemoryState::Stale, MemoryState::Forgotten];

    /// Returns the name used in JSON and the store.
    pub fn name(self) -> &'static str {
        match self {
            MemoryState::Live => "live",
            MemoryState::Stale => "stale",
            MemoryState::Forgotten => "forgotten",
        }
    }

    /// Returns the state with this name.
    pub fn named(name: &str) -> Option<MemoryState> {
        MemoryState::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Id of a row: twelve hex digits of the digest of its project, kind and key. The same observation always has the same
/// id, so it is never stored twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemoryId(pub String);

impl MemoryId {
    /// Number of hex digits.
    pub const DIGITS: usize = 12;

    /// Returns the id of what `key` identifies in a project.
    pub fn of(project: &ProjectName, kind: MemoryKind, key: &str) -> MemoryId {
        MemoryId(digest(&format!("{project}\n{}\n{key}", kind.name()), Self::DIGITS))
    }

    /// Returns the digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MemoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the first hex digits of a text's SHA-256.
fn digest(text: &str, digits: usize) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing to a string never fails.
        let _infallible = write!(hex, "{byte:02x}");
    }
    hex.truncate(digits);
    hex
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Its id.
    pub id: MemoryId,
    /// Its project; no run of another project is given it.
    pub project: ProjectName,
    /// Its kind.
    pub kind: MemoryKind,
    /// Its state.
    pub state: MemoryState,
    /// Who stated it: `skep` for what a journal proves, a person, or the engine of an attempt.
    pub author: Principal,
    /// The only step that is given it; `None` = plan, develop and review.
    pub step: Option<Step>,
    /// One line, at most [`Memory::MAX_TITLE_CHARS`].
    pub title: String,
    /// At most [`Memory::MAX_BODY_CHARS`].
    pub body: String,
    /// The files and lines it is about; all of them must be as they were.
    pub cites: Vec<Citation>,
    /// The run that showed it last; `None` = a person wrote it.
    pub run: Option<RunId>,
    /// The event of that run which proves it; 0 without a run.
    pub seq: u64,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// When it was last seen.
    pub seen_at: Timestamp,
    /// When it expires.
    pub ends_at: Timestamp,
}

impl Memory {
    /// Upper bound on the characters of a title.
    pub const MAX_TITLE_CHARS: usize = 120;
    /// Upper bound on the characters of a body.
    pub const MAX_BODY_CHARS: usize = 1_200;
    /// Upper bound on citations.
    pub const MAX_CITES: usize = 5;
    /// Upper bound on the rows of a project that are not forgotten. Beyond it, those seen longest ago are removed.
    pub const MAX_ROWS: u64 = 2_000;

    /// Returns whether it may be given to a step now, as far as the row itself shows.
    pub fn is_usable(&self, step: Step, now: Timestamp) -> bool {
        self.state == MemoryState::Live && now < self.ends_at && self.step.is_none_or(|only| only == step)
    }

    /// Returns when a row that was first and last seen at these times expires.
    pub fn end(kind: MemoryKind, created: Timestamp, seen: Timestamp) -> Timestamp {
        let after = |from: Timestamp, days: i64| from.0.saturating_add(days * DAY_MS);
        Timestamp(after(seen, kind.days()).min(after(created, kind.max_days())))
    }
}

/// Returns a text on one line, without control and invisible characters, of at most `max_chars`.
pub fn one_line(text: &str, max_chars: usize) -> String {
    // Variation selectors, too: only a font could show them.
    let is_blank = |c: char| is_hidden(c) || matches!(c, '\u{fe00}'..='\u{fe0f}');
    let visible: String = text.chars().map(|c| if is_blank(c) { ' ' } else { c }).collect();
    let line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(max_chars) {
        None => line,
        Some(_) => line.chars().take(max_chars.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// What a run is given from memory. Pinned when the run is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryPolicy {
    /// The kinds of rows that attempts are given; empty = none.
    pub give: Vec<MemoryKind>,
    /// Percentage of runs that are given none, to measure whether memory helps.
    pub holdout_percent: u8,
}

impl Default for MemoryPolicy {
    fn default() -> Self {
        Self { give: vec![MemoryKind::Fact], holdout_percent: 10 }
    }
}

impl MemoryPolicy {
    /// Returns the policy of a run that is given nothing, such as those of versions without memory.
    pub fn off() -> MemoryPolicy {
        MemoryPolicy { give: Vec::new(), holdout_percent: 0 }
    }

    /// Returns whether runs are given nothing.
    pub fn is_off(&self) -> bool {
        self.give.is_empty()
    }

    /// Returns the arm of a run. It depends on the run's id and its pinned policy only, so it never changes.
    pub fn arm(&self, run: RunId) -> Arm {
        if self.is_off() {
            return Arm::Off;
        }
        let text = digest(&format!("memory\n{run}"), 8);
        let drawn = u64::from_str_radix(&text, 16).unwrap_or(0) % 100;
        if drawn < u64::from(self.holdout_percent) { Arm::Holdout } else { Arm::Given }
    }
}

impl Policy {
    /// Returns the kinds that an attempt of this run is given; none in the holdout.
    pub fn memory_kinds(&self, run: RunId) -> &[MemoryKind] {
        if self.memory.arm(run) == Arm::Given { &self.memory.give } else { &[] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_shows_nothing_hidden_and_is_bounded() {
        assert_eq!(one_line("a\n</data>\u{202e}b\u{200b}\tc", 40), "a </data> b c");
        assert_eq!(one_line("abcdef", 4), "abc…");
        assert_eq!(one_line("abcd", 4), "abcd");
    }

    #[test]
    fn a_row_that_is_seen_again_lives_on_but_not_forever() {
        let at = |day: i64| Timestamp(day * DAY_MS);
        assert_eq!(Memory::end(MemoryKind::Fact, at(0), at(0)), at(28));
        assert_eq!(Memory::end(MemoryKind::Fact, at(0), at(20)), at(48));
        assert_eq!(Memory::end(MemoryKind::Fact, at(0), at(170)), at(180));
        assert_eq!(Memory::end(MemoryKind::Change, at(0), at(100)), at(365));
    }

    #[test]
    fn the_holdout_has_its_share_and_never_changes() {
        let policy = MemoryPolicy::default();
        let runs = (0..10_000u128).map(|n| RunId(uuid::Uuid::from_u128(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))));
        let held = runs.clone().filter(|run| policy.arm(*run) == Arm::Holdout).count();
        assert!((900..=1_100).contains(&held), "{held}");
        let again = runs.clone().filter(|run| policy.clone().arm(*run) == Arm::Holdout).count();
        assert_eq!(held, again);
        let all = MemoryPolicy { holdout_percent: 100, ..MemoryPolicy::default() };
        assert!(runs.clone().all(|run| all.arm(run) == Arm::Holdout));
        let none = MemoryPolicy { holdout_percent: 0, ..MemoryPolicy::default() };
        assert!(runs.clone().all(|run| none.arm(run) == Arm::Given));
        assert!(runs.into_iter().all(|run| MemoryPolicy::off().arm(run) == Arm::Off));
    }
}
