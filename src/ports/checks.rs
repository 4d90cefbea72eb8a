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

/// Rules of a repository at its base commit: its own, or what was detected.
#[derive(Clone, Debug, Default)]
pub struct RepoRules {
    /// Its checks, from `.skep.toml` or detected; empty = none found.
    pub checks: Vec<CheckSpec>,
    /// Where it makes the policy stricter.
    pub tightening: Tightening,
    /// Why no checks were found, such as a missing test script, or which projects of the repository the detected ones do
    /// not cover; empty if nothing was recognized, or everything is covered.
    pub missing: Vec<String>,
    /// Commands of the repository's CI that a person may choose as checks, each with its file.
    pub proposals: Vec<(String, String)>,
}

/// Progress of a running check.
#[derive(Clone, Debug)]
pub enum CheckProgress {
    /// It starts.
    Started {
        /// Its name.
        name: String,
        /// Its command.
        command: String,
    },
    /// It prints a line. Only checks on this machine show their output before they end.
    Output {
        /// Its name.
        name: String,
        /// The line, redacted.
        line: String,
    },
    /// It ended.
    Finished(CheckResult),
}

/// Observer of running checks. It must not block.
pub type CheckWatch = Arc<dyn Fn(CheckProgress) + Send + Sync>;

/// Network access that checks need and do not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkNeed {
    /// The package manager that needs it.
    pub manager: String,
    /// The checks that start the manager.
    pub checks: Vec<String>,
    /// The hosts that `egress.hosts` does not allow.
    pub hosts: Vec<String>,
    /// Addresses outside the public internet that its hosts lead to here, as in a company's own network, and that
    /// `egress.hosts` does not allow: such an address counts only if it is listed itself. If there are neither hosts
    /// nor addresses, what the manager needs could not be found out.
    pub addresses: Vec<String>,
}

/// Trust in the commit that checks run on. It decides which of their files are kept.
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
    /// Returns the files, among all paths of a repository, that rules are read from.
    fn rule_files(&self, paths: &[String]) -> Vec<String>;
    /// Reads a repository's rules from its paths and the files that `rule_files` names.
    /// The error names the file, the line and the fix.
    fn rules(&self, paths: &[String], files: &BTreeMap<String, Vec<u8>>) -> Result<RepoRules, String>;

    /// Returns the files, among all paths of a repository, that name the hosts its checks need.
    fn network_files(&self, paths: &[String]) -> Vec<String>;
    /// Returns what the checks of a project need from the network and may not reach, by the files that
    /// `network_files` names and by the configuration of the package managers on this machine.
    async fn network_needs(
        &self,
        project: &ProjectName,
        checks: &[CheckSpec],
        paths: &[String],
        files: &BTreeMap<String, Vec<u8>>,
    ) -> Vec<NetworkNeed>;

    /// Assigns a runner to each check of a new run: the one it names, if the project may use it, else the project's.
    /// The error names the problem and the fix.
    fn assign_runners(&self, project: &ProjectName, checks: Vec<CheckSpec>)
    -> Result<Vec<CheckSpec>, (String, String)>;

    /// Returns a digest of everything outside the commit that may decide about these checks: the checks themselves, the
    /// programs, the access of the project. `None` = unknown, so that results elsewhere say nothing about here.
    fn environment(&self, _project: &ProjectName, _specs: &[CheckSpec]) -> Option<String> {
        None
    }

    /// As [`Checks::run_watched`], unobserved.
    async fn run(
        &self,
        repo: &Repo,
        dir: &Path,
        cache: &Path,
        trust: Trust,
        specs: &[CheckSpec],
    ) -> PortResult<Vec<Checked>> {
        self.run_watched(repo, dir, cache, trust, specs, Arc::new(|_| ())).await
    }

    /// Runs the checks of a project in order in the checkout at `dir`. `cache` is a folder for this call alone, with
    /// the home and the caches of the checks: it is emptied before, filled with what base commits left, and removed
    /// afterwards. No command of another commit has ever written to it. After a red setup check the rest is reported red
    /// without running. `watch` is notified of what happens. Dropping the future ends the commands. A failure of the
    /// runner itself is an error, never a red check.
    async fn run_watched(
        &self,
        repo: &Repo,
        dir: &Path,
        cache: &Path,
        trust: Trust,
        specs: &[CheckSpec],
        watch: CheckWatch,
    ) -> PortResult<Vec<Checked>>;

    /// Fills the new cache folder of an attempt that works in the worktree `dir` with what the checks of base commits
    /// left. Does nothing when the folder has been used.
    async fn fill_cache(&self, repo: &Repo, dir: &Path, cache: &Path);
}
