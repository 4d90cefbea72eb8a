//! Running a project's checks on a checkout.

use super::PortResult;
use super::workspace::Repo;
use crate::domain::{ArtifactKind, CheckResult, CheckSpec, ProjectName, Tightening};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A check's result with the files to store. The caller stores them and fills in the references.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The result; its `artifacts` are still empty.
    pub result: CheckResult,
    /// Output and test report: kind, name, bytes (capped).
    pub files: Vec<(ArtifactKind, String, Vec<u8>)>,
}

/// Receives the output of checks as it comes: the name of the check, and one line, redacted. Lossy: it never waits.
pub type CheckOutput = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// Rules of a repository at its base commit: its own, or what was detected.
#[derive(Clone, Debug, Default)]
pub struct RepoRules {
    /// Its checks, from `.skep.toml` or detected; empty = none found.
    pub checks: Vec<CheckSpec>,
    /// Where it makes the policy stricter.
    pub tightening: Tightening,
}

/// What is known about the commit that checks run on. It decides what outlives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The base commit of a run. What its checks leave in their home and caches is kept for the project.
    Base,
    /// Any other commit. Its checks start from a copy of what base commits left, and leave nothing.
    Unproven,
}

/// Runs checks. A red check is a result; only a check that could not run at all is an error.
#[async_trait]
pub trait Checks: Send + Sync {
    /// Names of the files in the root folder that rules are read from.
    fn rule_files(&self) -> &'static [&'static str];
    /// Reads a repository's rules from the names in its root folder and the existing rule files.
    /// The error names the file, the line and the fix.
    fn rules(&self, names: &[String], files: &BTreeMap<String, Vec<u8>>) -> Result<RepoRules, String>;

    /// Assigns a runner to each check of a new run: the one it names, if the project may use it, else the project's.
    /// The error names the problem and the fix.
    fn assign_runners(&self, project: &ProjectName, checks: Vec<CheckSpec>)
    -> Result<Vec<CheckSpec>, (String, String)>;

    /// Returns a digest of everything outside the commit that may decide about these checks: the checks themselves, the
    /// programs, the access of the project. `None` = unknown, so that results elsewhere say nothing about here.
    fn environment(&self, _project: &ProjectName, _specs: &[CheckSpec]) -> Option<String> {
        None
    }

    /// Returns these checks, so that they pass on their output as it comes.
    fn passing_on(&self, output: CheckOutput) -> Arc<dyn Checks>;

    /// Runs the checks of a project in order in the checkout at `dir`. `cache` is a folder for this call alone, with
    /// the home and the caches of the checks: it is emptied before, filled with what base commits left, and removed
    /// afterwards. No command of another commit has ever written to it. After a red setup check the rest is reported red
    /// without running. Dropping the future ends the commands. A failure of the runner itself is an error, never a red
    /// check.
    async fn run(
        &self,
        repo: &Repo,
        dir: &Path,
        cache: &Path,
        trust: Trust,
        specs: &[CheckSpec],
    ) -> PortResult<Vec<Checked>>;

    /// Fills the new cache folder of an attempt that works in the worktree `dir` with what the checks of base commits
    /// left. Does nothing when the folder has been used.
    async fn fill_cache(&self, repo: &Repo, dir: &Path, cache: &Path);
}
