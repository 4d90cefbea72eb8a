//! Files of other evaluation tools: predictions of SWE-bench, logs of inspect_ai, tasks of Harbor.
//!
//! Invariant: what is read from them is hostile, and is only ever graded.

mod harbor;
mod inspect;
mod predictions;

pub use harbor::write_tasks;
pub use inspect::log;
pub use predictions::{Prediction, grade, read, write};
