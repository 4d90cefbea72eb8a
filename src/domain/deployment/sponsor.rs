//! Sponsors: who pays for what a project needs to run. For information only; Skep moves no money.

use crate::domain::id::Timestamp;
use crate::domain::project::ProjectName;
use serde::{Deserialize, Serialize};

/// A sponsor of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sponsor {
    /// Its name.
    pub name: String,
    /// The project.
    pub project: ProjectName,
    /// Whether it covers hosting.
    pub hosting: bool,
    /// Whether it covers the domain.
    pub domain: bool,
    /// What it gives each month, in micro-USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly_micros: Option<u64>,
    /// Whether its name may be shown to everyone.
    pub is_public: bool,
    /// Remarks.
    pub notes: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ended, or will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Sponsor {
    /// Returns whether it pays at a moment.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}
