//! What a forge reported: facts to look into. They carry no text from outside; what they are about is read from the
//! forge when they are applied.

use super::Sha;
use super::id::{BlockId, RunId, Timestamp};
use serde::{Deserialize, Serialize};

/// The label that answers the oldest question of a run with yes.
pub const UNBLOCKED_LABEL: &str = "unblocked";

/// A fact about a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// An issue or a pull request was given a label.
    Labelled {
        /// Its number.
        number: u64,
        /// The label.
        label: String,
    },
    /// The labels of an issue or a pull request changed, and at least one means something to Skep.
    Relabelled {
        /// Its number.
        number: u64,
    },
    /// Somebody commented on an issue or a pull request, with a command.
    Commented {
        /// The number of the issue or pull request.
        number: u64,
        /// The comment.
        comment: u64,
    },
    /// A pull request, its reviews or its CI moved.
    Moved {
        /// The branches.
        branches: Vec<String>,
    },
    /// A CI reported about a commit.
    Tested {
        /// The commit.
        sha: Sha,
    },
}

/// State of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Stored, to be applied.
    Received,
    /// Applied; the reply is still to be written.
    Applied,
    /// Applied.
    Done,
    /// There was nothing to do.
    Ignored,
    /// It could not be applied.
    Failed,
}

impl DeliveryState {
    /// All states.
    pub const ALL: [DeliveryState; 5] = [
        DeliveryState::Received,
        DeliveryState::Applied,
        DeliveryState::Done,
        DeliveryState::Ignored,
        DeliveryState::Failed,
    ];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            DeliveryState::Received => "received",
            DeliveryState::Applied => "applied",
            DeliveryState::Done => "done",
            DeliveryState::Ignored => "ignored",
            DeliveryState::Failed => "failed",
        }
    }
}

/// What a command was about when it was first applied. It is stored before the command takes effect, so that a repeated
/// command cannot answer a later question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandTarget {
    /// The run.
    pub run: RunId,
    /// The question, if the command answers one.
    pub block: Option<BlockId>,
}

/// Returns whether a branch may be a run's: its last part is an abbreviated run id.
pub fn may_be_run_branch(branch: &str) -> bool {
    let (prefix, last) = branch.rsplit_once('/').unwrap_or(("", branch));
    !prefix.is_empty() && last.len() == 8 && last.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns whether something that was asked at one time can be about a question raised at another: forges count in
/// seconds, and a question cannot be answered before it was asked.
pub fn is_after(asked: Timestamp, question: Timestamp) -> bool {
    asked.0 >= question.0 - question.0.rem_euclid(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_branches_that_end_with_a_run_id_are_a_runs() {
        for (branch, is_run) in [
            ("skep/3f9a12bc", true),
            ("team/skep/3F9A12BC", true),
            ("3f9a12bc", false),
            ("skep/3f9a12b", false),
            ("skep/3f9a12bg", false),
            ("main", false),
        ] {
            assert_eq!(may_be_run_branch(branch), is_run, "{branch}");
        }
    }

    #[test]
    fn an_answer_of_the_same_second_counts() {
        assert!(is_after(Timestamp(5_000), Timestamp(5_999)));
        assert!(!is_after(Timestamp(4_000), Timestamp(5_000)));
    }
}
