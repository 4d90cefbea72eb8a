//! Running a project's checks on a checkout.

use super::PortResult;
use crate::domain::{ArtifactKind, CheckResult, CheckSpec, ProjectName, Tightening};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::Path;

/// A result with the bytes to keep; the caller stores them and fills in the references.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The result, its `artifacts` still empty.
    pub result: CheckResult,
    /// Output and report: kind, name, bytes (capped).
    pub files: Vec<(ArtifactKind, String, Vec<u8>)>,
}

/// What a repository says of itself at its base commit, or what it looks like.
#[derive(Clone, Debug, Default)]
pub struct RepoRules {
    /// Its checks, named in `.skep.toml` or detected; empty = none found.
    pub checks: Vec<CheckSpec>,
    /// How its policy is stricter.
    pub tightening: Tightening,
}

/// Runs checks. A red check is a result; only "could not run at all" is an error.
#[async_trait]
pub trait Checks: Send + Sync {
    /// The files in the root folder that tell about checks.
    fn wanted(&self) -> &'static [&'static str];
    /// The rules of a repository from the names in its root folder and the files that were wanted and found.
    /// The error names the file, the place and the fix.
    fn rules(&self, names: &[String], files: &BTreeMap<String, Vec<u8>>) -> Result<RepoRules, String>;

    /// The checks of a new run, each with the place it runs at: the one it names, if a person lets the project use it, else the
    /// project's. The error is what is wrong and what to do.
    fn placed(&self, project: &ProjectName, checks: Vec<CheckSpec>) -> Result<Vec<CheckSpec>, (String, String)>;

    /// Runs `specs` of a project in order in the checkout at `dir`, with `cache` as a writable folder kept between checks of one run.
    /// A red setup check stops the rest: they are reported red, not run. Dropping the future ends the commands. What goes wrong with
    /// the place of a check is an error, never a red check.
    async fn run(
        &self,
        project: &ProjectName,
        dir: &Path,
        cache: &Path,
        specs: &[CheckSpec],
    ) -> PortResult<Vec<Checked>>;
}
