//! Checks and their results.

use super::Artifact;
use super::word::words;
use crate::domain;
use crate::render;
use crate::secrets::redact_all;
use crate::service::results;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

words! {
    /// Kind of a check.
    CheckKind = domain::CheckKind {
        /// Prepares the working copy.
        Setup = "setup",
        /// Tests.
        Test = "test",
        /// Lints.
        Lint = "lint",
        /// Scans for vulnerabilities.
        Scan = "scan",
        /// Tests an acceptance criterion.
        Accept = "accept",
    }
}

/// Command that proves a change.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// Name.
    #[schema(example = "check-1")]
    pub name: String,
    /// Kind.
    pub kind: CheckKind,
    /// Command line.
    #[schema(example = "cargo test --locked")]
    pub command: String,
    /// Time limit in seconds.
    pub timeout_secs: u64,
    /// Path of the JUnit report it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub junit: Option<String>,
    /// Runner it runs on; absent for Skep's own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "box")]
    pub runner: Option<String>,
}

impl From<&domain::CheckSpec> for Check {
    fn from(check: &domain::CheckSpec) -> Check {
        Check {
            name: check.name.clone(),
            kind: check.kind.into(),
            command: redact_all(&check.command).into_owned(),
            timeout_secs: check.timeout_secs,
            junit: check.junit.clone(),
            runner: check.runner.clone(),
        }
    }
}

/// Test cases counted in a JUnit report.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct TestCounts {
    /// Run.
    pub run: u64,
    /// Failed.
    pub failed: u64,
    /// Skipped.
    pub skipped: u64,
}

/// Result of a check.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckResult {
    /// Name of the check.
    pub name: String,
    /// Kind of the check.
    pub kind: CheckKind,
    /// Whether it passed.
    pub green: bool,
    /// Exit code; `null` if the command was killed or did not start.
    pub exit_code: Option<i32>,
    /// Duration in milliseconds.
    pub duration_ms: u64,
    /// Reason it failed; empty if it passed.
    pub why: String,
    /// Names of failed tests, or the lines of its output that say what failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub failures: Vec<String>,
    /// What its environment lacks, and how to get it, if its output says so and `why` does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<String>,
    /// End of its output.
    pub tail: String,
    /// Test cases, if it wrote a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestCounts>,
    /// Output and report.
    pub artifacts: Vec<Artifact>,
    /// Names of the secrets it could read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub secrets: Vec<String>,
}

impl From<&domain::CheckResult> for CheckResult {
    fn from(result: &domain::CheckResult) -> CheckResult {
        CheckResult {
            name: result.name.clone(),
            kind: result.kind.into(),
            green: result.green,
            exit_code: result.exit_code,
            duration_ms: result.duration_ms,
            why: result.why.clone(),
            failures: result.failures.clone(),
            lacks: render::lacks(result),
            tail: result.tail.clone(),
            tests: result.tests.map(|t| TestCounts { run: t.run, failed: t.failed, skipped: t.skipped }),
            artifacts: result.artifacts.iter().map(Into::into).collect(),
            secrets: result.secrets.clone(),
        }
    }
}

/// Newest test results of a project.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LatestTests {
    /// Run.
    pub run: String,
    /// What was checked: `head` of the run's branch, or a task (`t1`).
    #[schema(example = "head")]
    pub scope: String,
    /// Commit.
    pub sha: String,
    /// Whether every check of the run ran and passed.
    pub green: bool,
    /// Runner by check, for checks that run elsewhere than on Skep's own machine.
    pub runners: BTreeMap<String, String>,
    /// Results.
    pub results: Vec<CheckResult>,
}

impl From<results::LatestTests> for LatestTests {
    fn from(tests: results::LatestTests) -> LatestTests {
        LatestTests {
            run: tests.run.to_string(),
            scope: tests.scope,
            sha: tests.sha,
            green: tests.green,
            runners: tests.runners,
            results: tests.results.iter().map(Into::into).collect(),
        }
    }
}
