//! The baseline: what the checks found at the base commit. What fails there is not the change's fault.

use super::Run;
use crate::domain::check::{self, CheckKind, CheckResult, CheckSpec, Fault, Scope};
use crate::domain::id::Sha;
use crate::domain::policy::BaseChecks;
use serde::{Deserialize, Serialize};

/// Results of the checks at a base commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// The base commit.
    pub sha: Sha,
    /// The results.
    pub results: Vec<CheckResult>,
    /// Digest of the environment they ran in; `None` = unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Whether a person decided to continue despite what it shows.
    #[serde(default)]
    pub settled: bool,
}

impl Baseline {
    /// Returns the red results.
    pub fn red(&self) -> impl Iterator<Item = &CheckResult> {
        self.results.iter().filter(|r| !r.green)
    }

    /// Returns whether a person is needed before engines start.
    pub fn needs_person(&self, policy: BaseChecks) -> bool {
        let green_only = policy == BaseChecks::Green;
        // That criteria are not met before the change is expected.
        let mut red = self.red().filter(|r| r.kind != CheckKind::Accept);
        !self.settled && red.any(|r| green_only || is_environment(r))
    }

    /// Returns the red result of a check. That of a criterion excuses nothing: to meet it is the goal.
    fn red_of(&self, name: &str) -> Option<&CheckResult> {
        self.red().find(|r| r.name == name && r.kind != CheckKind::Accept)
    }
}

/// Returns whether a red result is about the environment: it shows a fault, or the checkout could not be prepared.
fn is_environment(red: &CheckResult) -> bool {
    red.fault.is_some() || red.kind == CheckKind::Setup
}

impl Run {
    /// Returns the checks that run in a scope. Acceptance criteria hold for the whole change, not for each task of it.
    pub fn checks_in(&self, scope: Scope) -> Vec<CheckSpec> {
        let runs = |c: &&CheckSpec| c.kind != CheckKind::Accept || !matches!(scope, Scope::Task(_));
        self.settings.checks.iter().filter(runs).cloned().collect()
    }

    /// Returns whether the results prove a commit of this run in a scope. Failures that a person accepted count as
    /// green, and so do failures of the base if the policy asks only that no new ones appear.
    pub fn proves(&self, scope: Scope, results: &[CheckResult]) -> bool {
        check::proves(&self.checks_in(scope), results, |red| self.excuses(red))
    }

    /// Returns whether a red result is not charged to the change.
    pub fn excuses(&self, red: &CheckResult) -> bool {
        let no_new = self.settings.policy.base_checks == BaseChecks::NoNewFailures && red.names_its_failures();
        let of_base = self.baseline.iter().filter(|_| no_new).flat_map(|b| b.red_of(&red.name));
        self.accepted_failures.iter().chain(of_base).any(|known| red.adds_nothing_to(known))
    }

    /// Returns whether every red result fails at the base as well, and in no new way.
    pub fn fails_like_base(&self, results: &[CheckResult]) -> bool {
        let known = |r: &CheckResult| {
            self.baseline.as_ref().and_then(|b| b.red_of(&r.name)).is_some_and(|base| r.adds_nothing_to(base))
        };
        let mut red = results.iter().filter(|r| !r.green).peekable();
        red.peek().is_some() && red.all(known)
    }

    /// Returns whether the red results show something that no engine can fix: the network is closed, or the environment
    /// lacks something and the base did not do better.
    pub fn blames_environment(&self, results: &[CheckResult]) -> bool {
        results.iter().filter(|r| !r.green && !self.excuses(r)).any(|red| match (&red.fault, &self.baseline) {
            (Some(Fault::Network | Fault::Space), _) => true,
            // What the command of a criterion does not find may be what the change has to add.
            _ if red.kind == CheckKind::Accept => false,
            (fault, None) => fault.is_some(),
            (_, Some(base)) => is_environment(red) && base.results.iter().any(|r| r.name == red.name && !r.green),
        })
    }

    /// Returns the results that earlier checks of exactly this commit gave, if they prove it.
    pub fn proof_of(&self, sha: &Sha) -> Option<&[CheckResult]> {
        let task = self.tasks.iter().find(|t| t.head.as_ref() == Some(sha) && !t.results.is_empty());
        task.map(|t| t.results.as_slice()).filter(|results| self.proves(Scope::Head, results))
    }

    /// Accepts the red results: the same failures are not charged to the change.
    pub(in crate::domain) fn accept_failures(&mut self, results: &[CheckResult]) {
        for red in results.iter().filter(|r| !r.green) {
            let known = CheckResult { tail: String::new(), artifacts: Vec::new(), ..red.clone() };
            self.accepted_failures.retain(|r| r.name != known.name);
            self.accepted_failures.push(known);
        }
    }
}
