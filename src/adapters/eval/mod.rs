//! Evaluation on disk: suites of tasks, trials as runs in data directories of their own, and grading.
//!
//! A trial is an ordinary run: `skep run` in a subprocess, on a repository with one commit, in a data directory of its
//! own. Its grade is an ordinary check: `skep check` on the landed commit with the hidden tests on top of it.
//!
//! Invariant: nothing of the hidden tests and of the oracle patch is written where a run can read it before the run has
//! ended.

mod files;
pub mod formats;
mod grade;
mod manifest;
mod program;
mod proof;
mod repo;
mod run_view;
mod sets;
mod suite;
mod trial;
mod variant;

pub use grade::Grade;
pub use program::SkepProgram;
pub use proof::prove;
pub use sets::{SetLock, SetPlan, load_sets};
pub use suite::{Suite, SuiteProblem, Task};
pub use trial::{TrialContext, run_trial};
pub use variant::{DevEngine, Variant};

use sha2::{Digest, Sha256};

/// Returns the SHA-256 of some parts, in hex. Each part is preceded by its length, so that no two lists are the same.
pub fn digest<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
