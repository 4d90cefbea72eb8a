//! `decide` said no; nothing changed.

use serde::{Deserialize, Serialize};

/// Why an event was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum Refusal {
    /// The run has ended.
    #[error("the run has ended ({outcome}); start a new one, or `skep retry` it")]
    Ended {
        /// How it ended.
        outcome: String,
    },
    /// The event does not fit where the run is.
    #[error("{what} does not fit: the run is {phase}")]
    OutOfPlace {
        /// The event.
        what: String,
        /// The phase.
        phase: String,
    },
    /// It happened already: a repeated report, a second answer. Harmless.
    #[error("{what} is known already")]
    Repeated {
        /// What.
        what: String,
    },
    /// There is no such block.
    #[error("no open block {block}; `skep show` lists what the run waits for")]
    NoBlock {
        /// The block named.
        block: String,
    },
    /// The answer does not lift that block.
    #[error("{why}")]
    NotAnAnswer {
        /// What would.
        why: String,
    },
    /// The person may not do that.
    #[error("{who} may not {what}: {why}")]
    NotAllowed {
        /// Who.
        who: String,
        /// What.
        what: String,
        /// Why not.
        why: String,
    },
    /// What was given cannot be used.
    #[error("{what}")]
    Invalid {
        /// What is wrong and what would be right.
        what: String,
    },
}

impl Refusal {
    /// A stable code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Ended { .. } => "ended",
            Refusal::OutOfPlace { .. } => "out_of_place",
            Refusal::Repeated { .. } => "repeated",
            Refusal::NoBlock { .. } => "no_block",
            Refusal::NotAnAnswer { .. } => "not_an_answer",
            Refusal::NotAllowed { .. } => "not_allowed",
            Refusal::Invalid { .. } => "invalid",
        }
    }
}
