//! Refusals: `decide` rejected the event, and nothing changed.

use serde::{Deserialize, Serialize};

/// Reason why an event was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum Refusal {
    /// The run has ended.
    #[error("the run has ended ({outcome})")]
    Ended {
        /// Its outcome.
        outcome: String,
    },
    /// The event does not fit the state of the run.
    #[error("{what} is not possible: the run is {phase}")]
    OutOfPlace {
        /// The event.
        what: String,
        /// The phase.
        phase: String,
    },
    /// The event was handled before: a repeated report, a second answer. Harmless.
    #[error("{what} was already handled")]
    Repeated {
        /// What was repeated.
        what: String,
    },
    /// There is no such block.
    #[error("no open block {block}")]
    NoBlock {
        /// The block named.
        block: String,
    },
    /// The answer does not lift that block.
    #[error("{why}")]
    NotAnAnswer {
        /// The answers that would.
        why: String,
    },
    /// The principal may not do this.
    #[error("{who} may not {what}: {why}")]
    NotAllowed {
        /// The principal.
        who: String,
        /// The action.
        what: String,
        /// The rule that forbids it.
        why: String,
    },
    /// A role that the run needs has no engine.
    #[error("no engine is set for the role {role}")]
    NoEngine {
        /// The role.
        role: String,
    },
    /// The input cannot be used.
    #[error("{what}")]
    Invalid {
        /// What is wrong, and what would be right.
        what: String,
    },
}

impl Refusal {
    /// Returns the stable code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Ended { .. } => "ended",
            Refusal::OutOfPlace { .. } => "out_of_place",
            Refusal::Repeated { .. } => "repeated",
            Refusal::NoBlock { .. } => "no_block",
            Refusal::NotAnAnswer { .. } => "not_an_answer",
            Refusal::NotAllowed { .. } => "not_allowed",
            Refusal::NoEngine { .. } => "no_engine",
            Refusal::Invalid { .. } => "invalid",
        }
    }
}
