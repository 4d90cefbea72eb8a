//! Checks: commands that Skep itself runs to find out whether something is true.

use crate::domain::artifact::ArtifactRef;
use crate::domain::id::TaskId;
use serde::{Deserialize, Serialize};

/// The purpose of a check. Checks run in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// Prepares the checkout (installs dependencies). A red setup stops the rest.
    Setup,
    /// Tests.
    Test,
    /// Linters and formatters.
    Lint,
    /// Security scanners.
    Scan,
}

/// One check of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSpec {
    /// Its name, unique in the project (`test`, `lint`).
    pub name: String,
    /// Its purpose.
    pub kind: CheckKind,
    /// The command line, given to `sh -c` in a fresh checkout. It comes from a person or the base commit, never from an
    /// agent.
    pub command: String,
    /// Its timeout in seconds.
    pub timeout_secs: u64,
    /// Path of its JUnit XML report, relative to the checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub junit: Option<String>,
    /// The runner it runs on, by its name in the configuration; `None` = the sandbox on Skep's own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
}

impl CheckSpec {
    /// Returns a suffix that names its runner: ` on box`; empty for Skep's own machine.
    pub fn on_runner(&self) -> String {
        self.runner.as_ref().map_or_else(String::new, |runner| format!(" on {runner}"))
    }
}

/// What the checked commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// A task's commit, before its integration.
    Task(TaskId),
    /// The head of the run's branch, before review.
    Head,
}

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The check's name.
    pub name: String,
    /// Its purpose.
    pub kind: CheckKind,
    /// Whether it exited with code 0 within its limits, and its report, if any, has no failures.
    pub green: bool,
    /// The exit code; `None` if it was killed (timeout, signal) or could not start.
    pub exit_code: Option<i32>,
    /// Its duration in milliseconds.
    pub duration_ms: u64,
    /// Why it is red, in one sentence; empty if green.
    #[serde(default)]
    pub why: String,
    /// The end of its output, at most 4 KiB, control characters removed.
    #[serde(default)]
    pub tail: String,
    /// Test counts from its JUnit report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestCounts>,
    /// Its output and report (capped).
    #[serde(default)]
    pub artifacts: Vec<ArtifactRef>,
    /// Names of the vault secrets it received.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

/// Counts from a JUnit report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCounts {
    /// Test cases, including failed and skipped ones.
    pub run: u64,
    /// Test cases that failed or ended in an error.
    pub failed: u64,
    /// Test cases skipped.
    pub skipped: u64,
}

/// Returns whether the results prove the commit: every ordered check ran, there is at least one, and all are green.
pub fn proves(ordered: &[CheckSpec], results: &[CheckResult]) -> bool {
    let ran = |spec: &CheckSpec| results.iter().any(|r| r.name == spec.name);
    !results.is_empty() && results.iter().all(|r| r.green) && ordered.iter().all(ran)
}

/// Returns the failures as a text for the next attempt or a person: name, reason, end of output.
pub fn failures(results: &[CheckResult]) -> String {
    if results.is_empty() {
        return "no check ran, so nothing is proven".to_owned();
    }
    let mut text = String::new();
    if results.iter().all(|r| r.green) {
        text.push_str("a check that was ordered did not run\n");
    }
    for r in results.iter().filter(|r| !r.green) {
        text.push_str(&format!("check {} is red: {}\n{}\n", r.name, r.why, r.tail.trim_end()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_without_runner_runs_on_the_local_machine() {
        let old = r#"{"name":"unit","kind":"test","command":"true","timeout_secs":60}"#;
        let spec: CheckSpec = serde_json::from_str(old).unwrap();
        assert_eq!((spec.runner.as_deref(), spec.on_runner().as_str()), (None, ""));
        assert_eq!(serde_json::to_string(&spec).unwrap(), old);
        let remote = CheckSpec { runner: Some("box".to_owned()), ..spec };
        assert_eq!(remote.on_runner(), " on box");
        assert_eq!(serde_json::from_str::<CheckSpec>(&serde_json::to_string(&remote).unwrap()).unwrap(), remote);
    }
}
