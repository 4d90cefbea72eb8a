//! The review of a run's head.

use super::word::words;
use crate::domain;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// Verdict of a review.
    ReviewVerdict = domain::Verdict {
        /// The change may proceed.
        Approve = "approve",
        /// Its findings have to be addressed first.
        Rework = "rework",
    }
}

/// Review of the head.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Review {
    /// Attempt of the reviewer.
    #[schema(example = "a3")]
    pub attempt: String,
    /// Verdict.
    pub verdict: ReviewVerdict,
    /// A sentence or two.
    pub summary: String,
    /// What the reviewer found. An approving review may have findings too: they are for a person to decide.
    pub findings: Vec<Finding>,
}

/// Finding of a review.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// File; empty = the change as a whole.
    pub path: String,
    /// Line, from 1; 0 = the file as a whole.
    pub line: u64,
    /// What was found.
    pub text: String,
    /// All of this in one phrase.
    #[schema(example = "a.bin: a new binary file of 30000 bytes, which cannot be reviewed as text")]
    pub words: String,
}

impl From<&domain::run::Review> for Review {
    fn from(review: &domain::run::Review) -> Review {
        let finding = |f: &domain::Finding| Finding {
            path: f.path.clone(),
            line: f.line,
            text: f.text.clone(),
            words: f.to_string(),
        };
        Review {
            attempt: review.attempt.to_string(),
            verdict: review.verdict.into(),
            summary: review.summary.clone(),
            findings: review.findings.iter().map(finding).collect(),
        }
    }
}
