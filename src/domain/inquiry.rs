//! A question of an attempt that the scout looks into before its asker starts again.

use super::id::{AttemptId, TaskId};
use super::order::Step;
use serde::{Deserialize, Serialize};

/// An open question to the scout. There is at most one for each step and task: its asker does not start meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inquiry {
    /// The attempt that asked.
    pub by: AttemptId,
    /// Its step.
    pub step: Step,
    /// Its task, for `Develop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// What it asked, capped at [`Inquiry::QUESTION_MAX`].
    pub question: String,
    /// Scouts in a row that were lost with their process.
    #[serde(default)]
    pub losses: u32,
}

impl Inquiry {
    /// The most bytes kept of a question.
    pub const QUESTION_MAX: usize = 8 * 1024;
}
