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
    /// Since when it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// When it ended, or will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// State of a sponsor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SponsorState {
    /// It pays.
    Active,
    /// It does not pay for now.
    Paused,
    /// It pays no longer.
    Ended,
}

impl SponsorState {
    /// Returns the word.
    pub fn name(self) -> &'static str {
        match self {
            SponsorState::Active => "active",
            SponsorState::Paused => "paused",
            SponsorState::Ended => "ended",
        }
    }
}

impl Sponsor {
    /// Returns the state at a moment.
    pub fn state(&self, now: Timestamp) -> SponsorState {
        match (self.until, self.paused_at) {
            (Some(until), _) if until <= now => SponsorState::Ended,
            (_, Some(_)) => SponsorState::Paused,
            _ => SponsorState::Active,
        }
    }
    /// Returns when it stopped paying; `None` = it pays.
    fn stopped_at(&self, now: Timestamp) -> Option<Timestamp> {
        let ended = self.until.filter(|until| *until <= now);
        [ended, self.paused_at].into_iter().flatten().min()
    }
}

/// Whether somebody pays for the hosting of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// Nobody ever did.
    None,
    /// A sponsor does.
    Active,
    /// The last one stopped.
    Lapsed {
        /// When.
        since: Timestamp,
    },
}

impl Coverage {
    /// Derives it from the sponsors of all projects.
    pub fn of(sponsors: &[Sponsor], project: &ProjectName, now: Timestamp) -> Coverage {
        let hosting = sponsors.iter().filter(|sponsor| sponsor.project == *project && sponsor.hosting);
        let stops: Vec<Option<Timestamp>> = hosting.map(|sponsor| sponsor.stopped_at(now)).collect();
        match stops.iter().flatten().max() {
            _ if stops.contains(&None) => Coverage::Active,
            Some(last) => Coverage::Lapsed { since: *last },
            None => Coverage::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_lapses_when_the_last_sponsor_stops() {
        let project = ProjectName::from_text("tally");
        let sponsor = |name: &str, paused_at: Option<i64>, until: Option<i64>| Sponsor {
            name: name.into(),
            project: project.clone(),
            hosting: true,
            domain: false,
            monthly_micros: None,
            is_public: false,
            notes: String::new(),
            since: Timestamp(0),
            paused_at: paused_at.map(Timestamp),
            until: until.map(Timestamp),
        };
        let at = |sponsors: &[Sponsor], now| Coverage::of(sponsors, &project, Timestamp(now));
        assert_eq!(at(&[], 50), Coverage::None);
        let domain_only = Sponsor { hosting: false, ..sponsor("domain", None, None) };
        let elsewhere = Sponsor { project: ProjectName::from_text("other"), ..sponsor("other", None, None) };
        assert_eq!(at(&[domain_only, elsewhere], 50), Coverage::None);
        let (paused, ended) = (sponsor("a", Some(10), None), sponsor("b", None, Some(40)));
        assert_eq!(at(&[paused.clone(), ended.clone()], 39), Coverage::Active, "it ends only at 40");
        assert_eq!(at(&[paused.clone(), ended.clone()], 50), Coverage::Lapsed { since: Timestamp(40) });
        assert_eq!(at(&[paused.clone(), ended, sponsor("c", None, None)], 50), Coverage::Active);
        assert_eq!(at(&[sponsor("d", Some(10), Some(40))], 50), Coverage::Lapsed { since: Timestamp(10) });
        assert_eq!(
            (paused.state(Timestamp(50)).name(), sponsor("e", Some(1), Some(2)).state(Timestamp(2)).name()),
            ("paused", "ended")
        );
    }
}
