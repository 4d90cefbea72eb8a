//! A change: a branch with its pull request, its diff, and the forge's view of it.

pub mod check;
pub mod ci;
pub mod failure_lines;
mod failure_name;
pub mod quoted_path;
pub mod request;

use crate::domain::id::{BlockId, ChangeNumber, Principal, Sha};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use ci::{CiFailure, JobLog, WorkflowRun};
pub use request::{ChangeRequest, LineComment};

/// A change on its forge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRef {
    /// Its number.
    pub number: ChangeNumber,
    /// Where a person can see it (a URL or a command).
    pub url: String,
}

/// Kind of change to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// The file is new.
    Added,
    /// The file was changed.
    Modified,
    /// The file was deleted.
    Deleted,
}

/// One file of a diff. A rename is an addition and a deletion, so that the policy sees both paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Kind of change.
    pub kind: FileKind,
    /// Lines added; 0 for a binary file.
    pub added: u64,
    /// Lines removed; 0 for a binary file.
    pub removed: u64,
    /// Whether git treats it as binary.
    #[serde(default)]
    pub binary: bool,
    /// The object id of its content afterwards; `None` if it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Sha>,
}

/// Size and paths of a diff. At most [`DiffStat::MAX_FILES`] files are listed; totals are exact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffStat {
    /// The files in path order, capped.
    pub files: Vec<FileChange>,
    /// Total number of files.
    pub files_total: u64,
    /// Total lines added.
    pub added: u64,
    /// Total lines removed.
    pub removed: u64,
    /// Entries that a person should look at whatever their lines say, such as links out of the repository, described.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unusual: Vec<String>,
}

impl DiffStat {
    /// Upper bound on the files listed by name. A larger diff exceeds any sensible `max_files`.
    pub const MAX_FILES: usize = 1_000;

    /// Returns whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.files_total == 0
    }
    /// Returns the lines added and removed together.
    pub fn lines(&self) -> u64 {
        self.added.saturating_add(self.removed)
    }
    /// Returns the listed paths.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|f| f.path.as_str())
    }
    /// Returns the size in one line: `3 files, +10 -2`.
    pub fn summary(&self) -> String {
        let s = if self.files_total == 1 { "" } else { "s" };
        format!("{} file{s}, +{} -{}", self.files_total, self.added, self.removed)
    }
}

/// Returns a path as text on one line. A path with characters that are not visible, such as a line break, is quoted and
/// escaped, so that it cannot pass for other text.
pub fn shown_path(path: &str) -> Cow<'_, str> {
    // Line and paragraph separators, zero-width characters, and those that change the reading direction.
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if path.chars().any(hidden) { Cow::Owned(format!("{path:?}")) } else { Cow::Borrowed(path) }
}

/// Returns paths as a list on one line.
pub fn shown_paths(paths: &[String]) -> String {
    paths.iter().map(|p| shown_path(p)).collect::<Vec<_>>().join(", ")
}

/// A property of a diff that a person should see before the run continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Concern {
    /// It touches protected paths.
    Protected {
        /// The paths.
        paths: Vec<String>,
    },
    /// It deletes many files.
    Deletes {
        /// Files deleted.
        files: u64,
        /// The policy's limit.
        limit: u64,
    },
    /// It deletes tests, or removes more of their lines than it adds.
    Tests {
        /// The test files.
        paths: Vec<String>,
        /// Lines removed minus lines added in these files.
        lines: u64,
    },
    /// It changes files that decide what the checks run.
    Checks {
        /// The files.
        paths: Vec<String>,
    },
    /// It replaces lines of tests.
    TestLines {
        /// The test files.
        paths: Vec<String>,
    },
    /// It adds entries that are harmless to read and dangerous to use.
    Unusual {
        /// The entries, described.
        entries: Vec<String>,
    },
    /// It is large.
    Large {
        /// Files changed.
        files: u64,
        /// Lines added and removed.
        lines: u64,
    },
}

impl Concern {
    /// Returns the files of a diff whose content it is about. A size is about none.
    pub fn files<'d>(&self, diff: &'d DiffStat) -> Vec<&'d FileChange> {
        let is_meant = |file: &&FileChange| match self {
            Concern::Protected { paths }
            | Concern::Tests { paths, .. }
            | Concern::Checks { paths }
            | Concern::TestLines { paths } => paths.contains(&file.path),
            Concern::Deletes { .. } => file.kind == FileKind::Deleted,
            // The entries are described in words, so any file may be one.
            Concern::Unusual { .. } => true,
            Concern::Large { .. } => false,
        };
        diff.files.iter().filter(is_meant).collect()
    }
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Concern::Protected { paths } => write!(f, "it touches protected paths: {}", shown_paths(paths)),
            Concern::Deletes { files, limit } => write!(f, "it deletes {files} files (the policy allows {limit})"),
            Concern::Tests { paths, lines } => {
                write!(f, "it removes tests ({lines} lines fewer, deleted files included): {}", shown_paths(paths))
            }
            Concern::Checks { paths } => write!(f, "it changes what the checks run: {}", shown_paths(paths)),
            Concern::TestLines { paths } => write!(f, "it replaces lines of tests: {}", shown_paths(paths)),
            Concern::Unusual { entries } => write!(f, "it adds unusual entries: {}", shown_paths(entries)),
            Concern::Large { files, lines } => write!(f, "it is large: {files} files, {lines} lines"),
        }
    }
}

/// The state of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeState {
    /// Open.
    Open,
    /// Closed without merging.
    Closed {
        /// The account that closed it.
        by: Principal,
    },
    /// Merged.
    Merged {
        /// The commit on the base branch.
        sha: Sha,
        /// The account that merged it.
        by: Principal,
    },
}

/// The state of a commit status on the forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusState {
    /// Not known yet.
    Pending,
    /// Green.
    Success,
    /// Red.
    Failure,
}

/// The forge's view of a change at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The change's state.
    pub state: ChangeState,
    /// The head of its branch on the forge.
    pub head: Sha,
    /// The head of the base branch on the forge.
    pub base: Sha,
    /// Statuses at that head that Skep did not set, by context.
    #[serde(default)]
    pub statuses: BTreeMap<String, StatusState>,
    /// For each failed status the id of its newest result, where the forge has one: after a rerun it is another one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, u64>,
    /// Contexts of the statuses that the forge requires before a merge, without Skep's own.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub required: BTreeSet<String>,
    /// People who approved exactly that head on the forge.
    #[serde(default)]
    pub approved_by: Vec<Principal>,
    /// Reviews that request changes, by people who may write and have not approved since, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub change_requests: Vec<ChangeRequest>,
    /// `UNBLOCK #b…` comments by people who may steer the run, oldest first.
    #[serde(default)]
    pub unblocks: Vec<UnblockComment>,
}

/// A comment that answers a block. It is read once: its id is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnblockComment {
    /// The comment's id on the forge.
    pub comment: u64,
    /// The block it names.
    pub block: BlockId,
    /// Its author.
    pub by: Principal,
    /// The rest of the comment, which is the answer's text.
    pub text: String,
}
