//! Commands Skep itself runs to find out whether something is true.

use super::artifact::ArtifactRef;
use super::id::TaskId;
use serde::{Deserialize, Serialize};

/// What a check is for. The order is the order of running.
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
    /// What it is for.
    pub kind: CheckKind,
    /// The command line, given to `sh -c` in a fresh checkout. From a person or the base commit only, never from an agent.
    pub command: String,
    /// Its time limit in seconds.
    pub limit_secs: u64,
    /// Where it writes JUnit XML, relative to the checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub junit: Option<String>,
    /// The place it runs at, by its name in the configuration; `None` = behind the walls of Skep's own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
}

impl CheckSpec {
    /// Where it runs, in words after its name: ` at box`, or nothing.
    pub fn on_runner(&self) -> String {
        self.runner.as_ref().map_or_else(String::new, |runner| format!(" at {runner}"))
    }
}

/// Which commit is checked, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// A task's commit, before it is integrated.
    Task(TaskId),
    /// The head of the run's branch, before review.
    Head,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The check's name.
    pub name: String,
    /// What it is for.
    pub kind: CheckKind,
    /// Whether it ended with exit code 0 within its limits (and its report, if any, has no failures).
    pub green: bool,
    /// The exit code; `None` when it was killed (time limit, signal) or could not start.
    pub exit: Option<i32>,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// Why it is red, in a sentence; empty when green.
    #[serde(default)]
    pub why: String,
    /// The end of its output, at most 4 KiB, control characters removed.
    #[serde(default)]
    pub tail: String,
    /// Tests seen in its JUnit report: (run, failed, skipped).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestCounts>,
    /// Its output and report, kept whole (capped).
    #[serde(default)]
    pub artifacts: Vec<ArtifactRef>,
    /// The secrets of the vault it was given, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<String>,
}

/// Counts from a JUnit report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCounts {
    /// Test cases run, failed and skipped ones included.
    pub run: u64,
    /// Test cases failed or in error.
    pub failed: u64,
    /// Test cases skipped.
    pub skipped: u64,
}

/// Whether the results let the commit through: every check that was ordered ran, at least one of them, and all are green.
pub fn proves(ordered: &[CheckSpec], results: &[CheckResult]) -> bool {
    let ran = |spec: &CheckSpec| results.iter().any(|r| r.name == spec.name);
    !results.is_empty() && results.iter().all(|r| r.green) && ordered.iter().all(ran)
}

/// The failures as a text for the next attempt or a person: name, why, end of output.
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
    fn checks_of_earlier_snapshots_run_on_skep_s_own_machine() {
        let old = r#"{"name":"unit","kind":"test","command":"true","limit_secs":60}"#;
        let spec: CheckSpec = serde_json::from_str(old).unwrap();
        assert_eq!((spec.runner.as_deref(), spec.on_runner().as_str()), (None, ""));
        assert_eq!(serde_json::to_string(&spec).unwrap(), old);
        let there = CheckSpec { runner: Some("box".to_owned()), ..spec };
        assert_eq!(there.on_runner(), " at box");
        assert_eq!(serde_json::from_str::<CheckSpec>(&serde_json::to_string(&there).unwrap()).unwrap(), there);
    }
}
