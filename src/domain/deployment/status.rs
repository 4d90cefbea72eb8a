//! The status word of a deployment, derived from what was observed.

use super::sponsor::Coverage;
use super::target::Target;
use crate::domain::id::{Principal, Sha, Timestamp};
use serde::{Deserialize, Serialize};

/// Red probes in a row that suspend a deployment.
pub const MAX_RED_PROBES: u32 = 3;
/// Probe intervals for which an observation counts.
const FRESH_INTERVALS: u64 = 3;

/// Time between the end of the last sponsor and the suspension that follows from it, in seconds.
const NOTICE_SECS: u64 = 7 * 24 * 3600;

/// What keeps new versions from a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold<'a> {
    /// A person's suspension.
    Person(&'a Suspension),
    /// Its hosting is not sponsored any more.
    Unsponsored {
        /// Since when.
        since: Timestamp,
    },
}

/// Status of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentStatus {
    /// What the target needs is missing in the repository, or was not observed yet.
    None,
    /// It can be deployed.
    Ready,
    /// It can be deployed, and a sponsor covers its hosting.
    Sponsored,
    /// A version is deployed, and answers if it is probed.
    Live,
    /// A person or a lapsed sponsorship suspended it, or it stopped answering.
    Suspended,
}

impl DeploymentStatus {
    /// Returns the word.
    pub fn name(self) -> &'static str {
        match self {
            DeploymentStatus::None => "none",
            DeploymentStatus::Ready => "ready",
            DeploymentStatus::Sponsored => "sponsored",
            DeploymentStatus::Live => "live",
            DeploymentStatus::Suspended => "suspended",
        }
    }
}

/// Result of the last probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// When.
    pub at: Timestamp,
    /// Whether it was answered as expected.
    pub is_green: bool,
    /// Red probes in a row, this one included.
    pub reds: u32,
    /// What was answered.
    pub got: String,
}

impl Probe {
    /// Returns the probe that follows `last`.
    pub fn after(last: Option<&Probe>, is_green: bool, got: String, at: Timestamp) -> Probe {
        let reds = if is_green { 0 } else { last.map_or(0, |last| last.reds).saturating_add(1) };
        Probe { at, is_green, reds, got }
    }
}

/// A person's order to leave a deployment alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// Who suspended it.
    pub by: Principal,
    /// The reason that was given.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// What was observed of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The target.
    pub target: String,
    /// When it was first seen in the configuration. What landed before is not deployed.
    pub since: Timestamp,
    /// Until when the landings were seen that lead to rollouts.
    #[serde(default)]
    pub landed_until: Timestamp,
    /// Whether the base branch has what the target needs; `None` = not observed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_whole: Option<bool>,
    /// When that was observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Timestamp>,
    /// The version that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<Sha>,
    /// The previous version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Sha>,
    /// The last probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// A person's suspension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<Suspension>,
    /// When it last changed.
    pub changed_at: Timestamp,
}

impl Deployment {
    /// Returns the deployment of a target that was not seen before.
    pub fn new(target: &str, now: Timestamp) -> Deployment {
        Deployment {
            target: target.to_owned(),
            since: now,
            landed_until: now,
            is_whole: None,
            observed_at: None,
            sha: None,
            previous: None,
            probe: None,
            suspended: None,
            changed_at: now,
        }
    }

    /// Returns whether it stopped answering.
    pub fn is_down(&self) -> bool {
        self.sha.is_some() && self.probe.as_ref().is_some_and(|probe| probe.reds >= MAX_RED_PROBES)
    }

    /// Returns what keeps new versions from the target.
    pub fn hold(&self, target: &Target, coverage: Coverage, now: Timestamp) -> Option<Hold<'_>> {
        let unsponsored = || match coverage {
            Coverage::Lapsed { since } if suspension_due(target, coverage)? <= now => Some(Hold::Unsponsored { since }),
            _ => None,
        };
        self.suspended.as_ref().map(Hold::Person).or_else(unsponsored)
    }

    /// Returns the status.
    pub fn status(&self, target: &Target, coverage: Coverage, now: Timestamp) -> DeploymentStatus {
        if self.hold(target, coverage, now).is_some() || self.is_down() {
            return DeploymentStatus::Suspended;
        }
        let answers = match &self.probe {
            _ if target.probe().is_none() => true,
            Some(probe) => probe.is_green && now <= probe.at.plus_secs(FRESH_INTERVALS * target.probe_secs),
            None => false,
        };
        match self.is_whole {
            _ if self.sha.is_some() && answers => DeploymentStatus::Live,
            Some(true) if coverage == Coverage::Active => DeploymentStatus::Sponsored,
            Some(true) => DeploymentStatus::Ready,
            _ => DeploymentStatus::None,
        }
    }
}

/// Returns when a target is suspended because its hosting is not sponsored any more; `None` = never.
pub fn suspension_due(target: &Target, coverage: Coverage) -> Option<Timestamp> {
    match coverage {
        Coverage::Lapsed { since } if target.suspends_unsponsored => Some(since.plus_secs(NOTICE_SECS)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::{Criterion, CriterionTest};
    use super::*;

    fn target(with_probe: bool) -> Target {
        let probe = Criterion {
            name: "health".into(),
            test: CriterionTest::Http { path: "/".into(), status: 200, body: None },
            within_secs: 5,
        };
        Target { criteria: if with_probe { vec![probe] } else { Vec::new() }, ..Target::sample() }
    }

    #[test]
    fn the_status_follows_from_observations() {
        let at = |secs: u64| Timestamp(0).plus_secs(secs);
        let (probed, unprobed) = (target(true), target(false));
        let mut d = Deployment::new("test", at(0));
        let word = |d: &Deployment, t: &Target, is_covered: bool, now| {
            let coverage = if is_covered { Coverage::Active } else { Coverage::Lapsed { since: at(0) } };
            d.status(t, coverage, now).name()
        };
        assert_eq!(word(&d, &probed, true, at(0)), "none");
        d.is_whole = Some(false);
        assert_eq!(word(&d, &probed, true, at(0)), "none");
        d.is_whole = Some(true);
        assert_eq!(word(&d, &probed, false, at(0)), "ready");
        assert_eq!(word(&d, &probed, true, at(0)), "sponsored");
        d.sha = Some(Sha::from("a".repeat(40).as_str()));
        assert_eq!(word(&d, &unprobed, false, at(0)), "live");
        assert_eq!(word(&d, &probed, false, at(0)), "ready", "not probed yet");
        d.probe = Some(Probe::after(None, true, String::new(), at(10)));
        assert_eq!(word(&d, &probed, false, at(190)), "live");
        assert_eq!(word(&d, &probed, false, at(191)), "ready", "the observation is too old");
        for (reds, expected) in [(1, "ready"), (2, "ready"), (3, "suspended")] {
            d.probe = Some(Probe::after(d.probe.as_ref(), false, "500".into(), at(20)));
            assert_eq!((d.probe.as_ref().unwrap().reds, word(&d, &probed, false, at(20))), (reds, expected));
        }
        d.probe = Some(Probe::after(d.probe.as_ref(), true, String::new(), at(30)));
        assert_eq!(word(&d, &probed, false, at(30)), "live");
        d.suspended = Some(Suspension { by: "user:ann".into(), why: "a fault".into(), at: at(30) });
        assert_eq!(word(&d, &probed, false, at(30)), "suspended");
    }

    #[test]
    fn a_lapsed_sponsorship_suspends_after_a_week_where_that_is_wanted() {
        let at = |secs: u64| Timestamp(0).plus_secs(secs);
        let strict = Target { suspends_unsponsored: true, ..target(false) };
        let d = Deployment { sha: Some(Sha::from("a".repeat(40).as_str())), ..Deployment::new("test", at(0)) };
        let week = 7 * 24 * 3600;
        let lapsed = Coverage::Lapsed { since: at(10) };
        assert_eq!(suspension_due(&strict, lapsed), Some(at(10 + week)));
        assert_eq!(d.status(&strict, lapsed, at(9 + week)).name(), "live");
        assert_eq!(d.hold(&strict, lapsed, at(10 + week)), Some(Hold::Unsponsored { since: at(10) }));
        assert_eq!(d.status(&strict, lapsed, at(10 + week)).name(), "suspended");
        for (target, coverage) in [(&strict, Coverage::Active), (&strict, Coverage::None), (&target(false), lapsed)] {
            assert_eq!(d.status(target, coverage, at(10 + week)).name(), "live", "{coverage:?}");
        }
    }
}
