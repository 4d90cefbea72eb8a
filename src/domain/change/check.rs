//! Checks: commands that Skep itself runs to find out whether something is true.

use super::failure_name;
use crate::domain::artifact::ArtifactRef;
use crate::domain::id::{RunId, TaskId};
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
    /// Tests of acceptance criteria. They test the whole change, so they run at its head, not after each task.
    Accept,
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
    /// Whether it was detected. Nobody said what its exit code proves, so that it also fails if no test ran.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detected: bool,
}

impl CheckSpec {
    /// Returns whether it tests the work of a task: it neither prepares the checkout nor tests a criterion of the whole
    /// change.
    pub fn proves_tasks(&self) -> bool {
        !matches!(self.kind, CheckKind::Setup | CheckKind::Accept)
    }

    /// Returns a suffix that names its runner: ` on box`; empty for Skep's own machine.
    pub fn on_runner(&self) -> String {
        self.runner.as_ref().map_or_else(String::new, |runner| format!(" on {runner}"))
    }
}

/// Role of the checked commit in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// A task's commit, before its integration.
    Task(TaskId),
    /// The head of the run's branch, before review.
    Head,
    /// The run's base commit, before any engine works: what fails here is not the change's fault. No engine wrote it,
    /// so it is trusted.
    Base,
}

/// Source of the results of checks that did not run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reused {
    /// The checks of a task of this run.
    Task,
    /// Another run of the project, in the same environment.
    Run(RunId),
}

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The check's name.
    pub name: String,
    /// Its purpose.
    pub kind: CheckKind,
    /// Whether it exited with code 0 within its limits, its report, if any, has no failures, and, if it was detected, a
    /// test ran.
    pub green: bool,
    /// The exit code; `None` if it was killed (timeout, signal) or could not start.
    pub exit_code: Option<i32>,
    /// Its duration in milliseconds.
    pub duration_ms: u64,
    /// Why it is red, in one sentence; empty if green.
    #[serde(default)]
    pub why: String,
    /// Names of failed tests, or the lines of its output that say what failed; empty if green or unknown. At most
    /// [`CheckResult::MAX_FAILURES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
    /// The end of its output, at most 4 KiB, control characters removed.
    #[serde(default)]
    pub tail: String,
    /// Test counts from its JUnit report; all zero if its output says that no test ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestCounts>,
    /// Its output and report (capped).
    #[serde(default)]
    pub artifacts: Vec<ArtifactRef>,
    /// Names of the vault secrets it received.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// What its environment lacks, if it is red and its output shows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// Reason why a check could not do its work where it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A program is missing, or cannot be executed.
    Program {
        /// Its name; empty if the output does not show it.
        name: String,
    },
    /// A module or package that the repository declares is not installed.
    Module {
        /// Its name.
        name: String,
    },
    /// A service that it uses does not run where it runs, such as a database.
    Service {
        /// Its address.
        name: String,
    },
    /// The repository needs another version of a toolchain.
    Toolchain {
        /// The toolchain.
        name: String,
        /// The line of the output that says so.
        line: String,
    },
    /// It needs the network, or a host that is not allowed.
    Network,
    /// There was no space left on a disk.
    Space,
}

impl CheckResult {
    /// Upper bound on the names of failing tests.
    pub const MAX_FAILURES: usize = 100;

    /// Returns whether the red result shows nothing that `earlier`, a red result of the same check, did not show: every
    /// failing test failed there as well, or, if neither names its tests, both ended alike.
    pub fn adds_nothing_to(&self, earlier: &CheckResult) -> bool {
        if self.name != earlier.name || earlier.green {
            return false;
        }
        match (self.names_its_failures(), earlier.names_its_failures()) {
            (true, true) => failure_name::all_known(&self.failures, &earlier.failures),
            (false, false) => self.exit_code == earlier.exit_code && self.fault == earlier.fault,
            _ => false,
        }
    }

    /// Returns whether all failing tests are known by name.
    pub fn names_its_failures(&self) -> bool {
        let named = self.failures.len();
        named > 0 && named < Self::MAX_FAILURES && self.tests.is_none_or(|t| t.failed == named as u64)
    }
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

/// Returns whether the results prove the commit: every ordered check ran, there is at least one, and all are green or
/// excused.
pub fn proves(ordered: &[CheckSpec], results: &[CheckResult], excused: impl Fn(&CheckResult) -> bool) -> bool {
    let ran = |spec: &CheckSpec| results.iter().any(|r| r.name == spec.name);
    !results.is_empty() && results.iter().all(|r| r.green || excused(r)) && ordered.iter().all(ran)
}

/// An output of so few lines is read at once, and what failed need not be repeated before it.
const SHORT_TAIL_LINES: usize = 5;

/// Returns the failures as a text for the next attempt or a person: name, reason, what failed, end of output. The
/// output is indented, so that its lines cannot pass for lines of Skep.
pub fn failures(results: &[CheckResult]) -> String {
    if results.is_empty() {
        return "no check ran, so nothing is proven".to_owned();
    }
    let mut text = String::new();
    if results.iter().all(|r| r.green) {
        text.push_str("a check that was ordered did not run\n");
    }
    for r in results.iter().filter(|r| !r.green) {
        text.push_str(&format!("check {} is red: {}\n", r.name, r.why));
        // What failed comes first: the end of a long suite's output seldom says it.
        let tail: Vec<String> = r.tail.trim_end().lines().map(|line| failure_name::of_line(line.trim())).collect();
        let is_seen = |line: &String| tail.len() <= SHORT_TAIL_LINES && tail.contains(line);
        for line in r.failures.iter().filter(|line| !is_seen(line)) {
            text.push_str(&format!("  {}\n", line.replace(char::is_control, " ")));
        }
        for line in r.tail.trim_end().lines() {
            text.push_str(&format!("    {line}\n"));
        }
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

    fn red(failing: &[&str], exit_code: Option<i32>) -> CheckResult {
        let json = r#"{"name":"unit","kind":"test","green":false,"exit_code":null,"duration_ms":1}"#;
        let failures = failing.iter().map(|t| (*t).to_owned()).collect();
        CheckResult { failures, exit_code, ..serde_json::from_str(json).unwrap() }
    }

    #[test]
    fn a_failure_is_known_by_its_tests_or_by_how_it_ended() {
        let base = red(&["a", "b"], Some(1));
        assert!(red(&["b"], Some(1)).adds_nothing_to(&base));
        assert!(!red(&["b", "c"], Some(1)).adds_nothing_to(&base), "a new failure");
        let timed = red(&["--- FAIL: TestKnown (0.15s)"], Some(1));
        assert!(red(&["--- FAIL: TestKnown (0.24s)"], Some(1)).adds_nothing_to(&timed));
        assert!(!red(&[], Some(1)).adds_nothing_to(&base), "unnamed failures may be new");
        assert!(red(&[], Some(2)).adds_nothing_to(&red(&[], Some(2))));
        assert!(!red(&[], Some(1)).adds_nothing_to(&red(&[], Some(2))));
        assert!(!red(&[], Some(1)).adds_nothing_to(&CheckResult { green: true, ..red(&[], Some(1)) }));
        let counted = |failed| TestCounts { run: 9, failed, skipped: 0 };
        let unnamed_third = CheckResult { tests: Some(counted(3)), ..red(&["a", "b"], Some(1)) };
        assert!(!unnamed_third.adds_nothing_to(&base), "one of the failures has no name");
        let many: Vec<String> = (0..CheckResult::MAX_FAILURES).map(|n| n.to_string()).collect();
        let cut = CheckResult { failures: many, ..red(&[], Some(1)) };
        assert!(!cut.names_its_failures(), "a full list may lack some");
        let missing = CheckResult { fault: Some(Fault::Network), ..red(&[], Some(1)) };
        assert!(!missing.adds_nothing_to(&red(&[], Some(1))));
    }

    #[test]
    fn output_cannot_pass_for_a_line_of_skep() {
        let forged = CheckResult { tail: "x\ncheck lint is red: never ran".to_owned(), ..red(&["a"], Some(1)) };
        let text = failures(&[forged]);
        assert_eq!(text.lines().filter(|l| l.starts_with("check ")).count(), 1, "{text}");
        assert!(text.contains("\n  a\n"), "{text}");
        let short =
            CheckResult { tail: "x\n--- FAIL: TestA (0.1s)\n".to_owned(), ..red(&["--- FAIL: TestA"], Some(1)) };
        assert_eq!(failures(&[short]).matches("TestA").count(), 1, "a short output is not repeated");
    }
}
