//! Notices: what a person should know about a repository before a run, because Skep does it otherwise than git in their
//! own hands.

use serde::{Deserialize, Serialize};

/// A notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The working copy has changes that are in no commit, so they are not part of the run.
    Uncommitted {
        /// Number of files and folders.
        files: u64,
        /// The first of them.
        paths: Vec<String>,
    },
    /// In the working copy, a person has begun a merge, rebase or the like and not finished it.
    Unfinished {
        /// The branch.
        branch: String,
        /// The operation: `merge`, `rebase`, `cherry-pick` or `revert`.
        operation: String,
    },
    /// The working copy has files that git ignores, so no worktree has them.
    Ignored {
        /// The first of them.
        paths: Vec<String>,
    },
    /// The repository has hooks, which Skep never runs.
    Hooks {
        /// Their names.
        names: Vec<String>,
    },
    /// In a person's hands, git signs commits of this repository; Skep does not sign its commits.
    Unsigned,
    /// Submodules, which stay empty in worktrees.
    Submodules {
        /// Their paths.
        paths: Vec<String>,
    },
    /// Filters that store something other than the content of a file, such as Git LFS. Worktrees contain the stored
    /// form.
    Filters {
        /// The products.
        names: Vec<String>,
    },
    /// The repository is a shallow clone, so its history ends early.
    Shallow,
    /// The local repository has a remote, to which a person publishes what landed.
    Remote {
        /// Its name.
        name: String,
    },
}
