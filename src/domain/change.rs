//! A branch with its pull request: what changed, and what the forge says about it.

use super::id::{ChangeNumber, Principal, Sha};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A change on its forge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRef {
    /// Its number.
    pub number: ChangeNumber,
    /// Where a person sees it (a URL or a command).
    pub url: String,
}

/// What happened to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// New.
    Added,
    /// Changed.
    Modified,
    /// Gone.
    Deleted,
}

/// One file of a diff. Renames are an addition and a deletion: both paths count for the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// What happened to it.
    pub kind: FileKind,
    /// Lines added; 0 for a binary file.
    pub added: u64,
    /// Lines removed; 0 for a binary file.
    pub removed: u64,
    /// Whether git takes it for binary.
    #[serde(default)]
    pub binary: bool,
}

/// A diff's size and paths. At most [`DiffStat::FILES_MAX`] files are listed; totals are exact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffStat {
    /// The files, in path order, capped.
    pub files: Vec<FileChange>,
    /// How many files there are in all.
    pub files_total: u64,
    /// Lines added in all.
    pub added: u64,
    /// Lines removed in all.
    pub removed: u64,
}

impl DiffStat {
    /// The most files listed by name. A larger diff is over any sane `max_files` anyway.
    pub const FILES_MAX: usize = 1_000;

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.files_total == 0
    }
    /// Lines added and removed.
    pub fn lines(&self) -> u64 {
        self.added.saturating_add(self.removed)
    }
    /// The listed paths.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|f| f.path.as_str())
    }
    /// `3 files, +10 -2`.
    pub fn summary(&self) -> String {
        let s = if self.files_total == 1 { "" } else { "s" };
        format!("{} file{s}, +{} -{}", self.files_total, self.added, self.removed)
    }
}

/// Something about a diff that a person should see first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Concern {
    /// It touches protected paths.
    Protected {
        /// Which.
        paths: Vec<String>,
    },
    /// It deletes many files.
    Deletes {
        /// How many.
        files: u64,
        /// The policy's most.
        most: u64,
    },
    /// It deletes tests, or takes more out of them than it puts in.
    Tests {
        /// Which files.
        paths: Vec<String>,
        /// Lines that went, less those that came, in these files.
        lines: u64,
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
    /// In words.
    pub fn words(&self) -> String {
        match self {
            Concern::Protected { paths } => format!("it touches protected paths: {}", paths.join(", ")),
            Concern::Deletes { files, most } => format!("it deletes {files} files (the policy lets {most} pass)"),
            Concern::Tests { paths, lines } => {
                format!("it takes tests away ({lines} lines fewer, files it deletes included): {}", paths.join(", "))
            }
            Concern::Large { files, lines } => format!("it is large: {files} files, {lines} lines"),
        }
    }
}

/// Where a change is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeState {
    /// Open.
    Open,
    /// Closed without merging.
    Closed {
        /// By whom.
        by: Principal,
    },
    /// Merged.
    Merged {
        /// The commit on the base branch.
        sha: Sha,
        /// By whom.
        by: Principal,
    },
}

/// A commit status on the forge.
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

/// What was read from the forge about a change in one look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Its state.
    pub state: ChangeState,
    /// The head of its branch on the forge.
    pub head: Sha,
    /// The head of the base branch on the forge.
    pub base: Sha,
    /// Statuses at that head set by others than Skep, by context.
    #[serde(default)]
    pub statuses: BTreeMap<String, StatusState>,
    /// Who approved exactly that head, on the forge.
    #[serde(default)]
    pub approved_by: Vec<Principal>,
    /// `UNBLOCK #b…` comments by people who may steer, oldest first.
    #[serde(default)]
    pub unblocks: Vec<UnblockComment>,
}

/// A comment that lifts a block. Read once: its id is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnblockComment {
    /// The comment's id on the forge.
    pub comment: u64,
    /// The block it names.
    pub block: super::BlockId,
    /// Who wrote it.
    pub by: Principal,
    /// The rest of the comment, as the answer's text.
    pub text: String,
}
