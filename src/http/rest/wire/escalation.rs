//! Questions put to a person.

use crate::domain::escalation;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Thing that a person is asked for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Need {
    /// What.
    pub what: String,
    /// Where to create or find it, with exact scopes, and where to put it.
    pub how: String,
}

/// Question that a run has for a person.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Escalation {
    /// Block that the answer lifts.
    #[schema(example = "b1")]
    pub block: String,
    /// Stable code.
    #[schema(example = "approve_merge")]
    pub code: String,
    /// Reason, in a few words.
    pub reason: String,
    /// Run, by its short id and goal.
    pub run: String,
    /// What happened. May contain text from outside.
    pub why: String,
    /// What is needed.
    pub needs: Vec<Need>,
    /// Answers that lift the block, as commands.
    pub answers: Vec<String>,
    /// How the run resumes without a command.
    pub resumes: String,
    /// What stays reserved in the meantime.
    pub reserved: String,
}

impl From<escalation::Escalation> for Escalation {
    fn from(escalation: escalation::Escalation) -> Escalation {
        let need = |n: escalation::Need| Need { what: n.what, how: n.how };
        Escalation {
            block: escalation.block.to_string(),
            code: escalation.code,
            reason: escalation.reason,
            run: escalation.run,
            why: escalation.why,
            needs: escalation.needs.into_iter().map(need).collect(),
            answers: escalation.answers,
            resumes: escalation.resumes,
            reserved: escalation.reserved,
        }
    }
}
