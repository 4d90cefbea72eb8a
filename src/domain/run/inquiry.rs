//! A question of an attempt that the scout answers before the asking step starts again.

use crate::domain::id::{AttemptId, TaskId};
use crate::domain::order::Step;
use serde::{Deserialize, Serialize};

/// An open question to the scout. There is at most one per step and task, because the asking step does not start
/// meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inquiry {
    /// The attempt that asked.
    pub by: AttemptId,
    /// Its step.
    pub step: Step,
    /// Its task, for `Develop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The question, capped at [`Inquiry::MAX_QUESTION_BYTES`].
    pub question: String,
    /// Scouts in a row that were lost with their process.
    #[serde(default)]
    pub losses: u32,
}

impl Inquiry {
    /// Upper bound on the bytes of a question.
    pub const MAX_QUESTION_BYTES: usize = 8 * 1024;
}
