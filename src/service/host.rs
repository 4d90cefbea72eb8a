//! Use cases about this installation rather than a run: configuration, schema, engines, runners, sandbox, prompts,
//! demo.
//!
//! Invariant: no adapter and no transport is named here; the composition root implements [`Host`].

pub mod evaluation;
mod forges;
mod maintenance;

pub use forges::{AddedForge, ForgePermission, ForgeRow, ForgeTest, NewForge};
pub use maintenance::{BackupReport, BackupRequest, CleanupItem, CleanupReport, CleanupRequest, Verification};

use crate::config::{self, Sources};
use crate::domain::{ModelUse, Role, Usage};
use crate::ports::PortError;
use async_trait::async_trait;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use tokio::sync::mpsc;

/// Where a use case runs and how much it logs.
#[derive(Clone, Debug)]
pub struct HostContext {
    /// The data directory and the sources of the configuration.
    pub sources: Sources,
    /// How many times `-v` was given.
    pub verbosity: u8,
    /// Whether the log is JSON.
    pub json_logs: bool,
    /// Whether the only commands run are those of the embedded sample project.
    pub is_demo: bool,
    /// The service that was named, which may be on another machine; `None` for the one of the data directory.
    pub server: Option<NamedServer>,
}

/// Service that was named by its address.
#[derive(Clone)]
pub struct NamedServer {
    /// Base URL, such as `https://skep.example.org`.
    pub url: String,
    /// Access token.
    pub token: String,
}

impl fmt::Debug for NamedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is never printed.
        f.debug_struct("NamedServer").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Class of a [`HostError`]. It decides the exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostErrorKind {
    /// The request is wrong: an unknown name, a malformed value.
    Usage,
    /// Something this needs cannot be reached now; retrying may help.
    Unavailable,
    /// Another process locked the data directory in the meantime; that process will answer the retry.
    Locked,
    /// The configuration or the data directory cannot be used as it is.
    Config,
    /// A fault in Skep itself.
    Internal,
}

/// One thing that is wrong, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostProblem {
    /// What failed, and why.
    pub detail: String,
    /// The next step, in the imperative.
    pub fix: String,
}

/// Failure of a use case. A configuration may have several problems at once.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .problems.iter().map(|p| p.detail.as_str()).collect::<Vec<_>>().join("; "))]
pub struct HostError {
    /// The class.
    pub kind: HostErrorKind,
    /// What is wrong, at least one entry.
    pub problems: Vec<HostProblem>,
}

impl HostError {
    /// Creates an error with one problem.
    pub fn new(kind: HostErrorKind, detail: impl Into<String>, fix: impl Into<String>) -> HostError {
        HostError { kind, problems: vec![HostProblem { detail: detail.into(), fix: fix.into() }] }
    }

    /// Creates an error about a wrong request.
    pub fn usage(detail: impl Into<String>, fix: impl Into<String>) -> HostError {
        Self::new(HostErrorKind::Usage, detail, fix)
    }

    /// Creates an error about something that cannot be reached now.
    pub fn unavailable(detail: impl Into<String>, fix: impl Into<String>) -> HostError {
        Self::new(HostErrorKind::Unavailable, detail, fix)
    }

    /// Creates an error about the configuration or the data directory.
    pub fn config(detail: impl Into<String>, fix: impl Into<String>) -> HostError {
        Self::new(HostErrorKind::Config, detail, fix)
    }

    /// Creates an error about a fault in Skep itself.
    pub fn internal(detail: impl Into<String>) -> HostError {
        let fix = "this is a bug in Skep: run it again with -vv and report what it logs";
        Self::new(HostErrorKind::Internal, detail, fix)
    }
}

impl From<config::Problems> for HostError {
    fn from(problems: config::Problems) -> Self {
        let each = |p: config::Problem| {
            let found = if p.found.is_empty() { String::new() } else { format!(", {}", p.found) };
            HostProblem { detail: format!("{} ({}{found}): {}", p.at, p.source, p.why), fix: p.fix }
        };
        HostError { kind: HostErrorKind::Config, problems: problems.0.into_iter().map(each).collect() }
    }
}

impl From<PortError> for HostError {
    fn from(error: PortError) -> Self {
        match error {
            PortError::Permanent { what, fix } => HostError::config(what, fix),
            other => HostError::unavailable(other.to_string(), "retry in a moment"),
        }
    }
}

impl From<anyhow::Error> for HostError {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<config::Problems>() {
            Ok(problems) => problems.into(),
            Err(error) => HostError::internal(format!("{error:#}")),
        }
    }
}

/// Result of a use case about this installation.
pub type HostResult<T> = Result<T, HostError>;

/// Key of the configuration with its value and source.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// The dotted key.
    pub key: String,
    /// The value, with secrets masked.
    pub value: String,
    /// Where the value comes from.
    pub source: String,
}

/// Step of the store's schema.
#[derive(Clone, Debug, Serialize)]
pub struct SchemaStep {
    /// Its name.
    pub name: String,
    /// Whether the store has it (after this call).
    pub applied: bool,
}

/// Severity of a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It works.
    Ok,
    /// It works, but deserves attention.
    Warning,
    /// It does not work.
    Error,
}

/// One thing `doctor` inspected.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was inspected (`git`, `sandbox`, `store`).
    pub subject: String,
    /// Whether it works.
    pub severity: Severity,
    /// What was found.
    pub detail: String,
    /// The next step; empty when nothing needs to be done.
    pub fix: String,
}

/// Result of `doctor`.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// Everything that was inspected.
    pub findings: Vec<Finding>,
    /// A configuration that fits this machine; empty when the present one cannot be read.
    pub proposed_config: String,
}

/// A role, an engine kind, a provider or an agent, and whether it can be used here.
#[derive(Clone, Debug, Serialize)]
pub struct EngineRow {
    /// `role`, `kind`, `provider` or `agent`.
    pub what: String,
    /// Its name.
    pub name: String,
    /// Whether it can be used on this machine now.
    pub usable: bool,
    /// What it is, or why it cannot be used.
    pub detail: String,
}

/// Verdict of an engine test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineVerdict {
    /// The engine did what it was asked to do.
    Passed,
    /// The engine answered, but not as asked.
    Failed,
    /// The engine cannot be reached now.
    Unavailable,
    /// The configuration or the installation has to change first.
    Misconfigured,
}

/// Result of an engine test.
#[derive(Clone, Debug, Serialize)]
pub struct EngineTest {
    /// The engine, as written in the configuration.
    pub engine: String,
    /// The step it was asked to do.
    pub step: String,
    /// The verdict.
    pub verdict: EngineVerdict,
    /// What the engine did, or what is wrong.
    pub detail: String,
    /// The next step; empty when nothing needs to be done.
    pub fix: String,
    /// Duration in milliseconds.
    pub duration_ms: u64,
    /// Usage, where the engine reports it.
    pub usage: Option<Usage>,
    /// The usage, broken down by model.
    pub usage_by_model: Vec<ModelUse>,
}

/// Prompt templates in force for one step.
#[derive(Clone, Debug, Serialize)]
pub struct StepPrompt {
    /// The step.
    pub step: String,
    /// The role that does it.
    pub role: String,
    /// Digest over all its files; recorded with every attempt.
    pub version: String,
    /// The two templates of the role, and the shared ones they may include.
    pub files: Vec<PromptFile>,
}

/// Prompt template in force.
#[derive(Clone, Debug, Serialize)]
pub struct PromptFile {
    /// Its name (`manager/plan.md`).
    pub name: String,
    /// `built in`, `folder` or `project`.
    pub source: String,
    /// The file it was read from; `null` for a built-in template.
    pub path: Option<String>,
    /// Digest of its bytes, in hex.
    pub digest: String,
    /// Its text.
    #[serde(skip)]
    pub text: String,
}

/// Level of isolation to test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationLevel {
    /// Bubblewrap, a system call filter and Landlock.
    Strict,
    /// Landlock and a system call filter.
    Landlock,
}

/// Result of a sandbox test.
#[derive(Clone, Debug, Serialize)]
pub struct SandboxTest {
    /// The level that was tested.
    pub level: String,
    /// Whether everything the level promises to prevent was prevented.
    pub holds: bool,
    /// What limits memory and processes of a command here.
    pub resource_limits: String,
    /// Every hostile action that was tried.
    pub actions: Vec<HostileAction>,
}

/// One hostile action of a sandbox test.
#[derive(Clone, Debug, Serialize)]
pub struct HostileAction {
    /// What the command tried to do.
    pub action: String,
    /// Whether the level promises to prevent it.
    pub must_block: bool,
    /// Whether it was prevented.
    pub blocked: bool,
    /// What was observed.
    pub observed: String,
}

/// Configured runner.
#[derive(Clone, Debug, Serialize)]
pub struct RunnerRow {
    /// Its name.
    pub name: String,
    /// `local`, `ssh` or `docker`.
    pub kind: String,
    /// Its address or description.
    pub detail: String,
    /// Users of the runner: `all`, or names of projects; in parentheses where only single checks may select it.
    pub used_by: Vec<String>,
}

/// Result of a runner test.
#[derive(Clone, Debug, Serialize)]
pub struct RunnerTest {
    /// The runner's name.
    pub name: String,
    /// Whether it fulfils every requirement.
    pub passed: bool,
    /// Each requirement.
    pub requirements: Vec<RunnerRequirement>,
    /// Duration in milliseconds.
    pub duration_ms: u64,
}

/// One requirement that checks place on a runner.
#[derive(Clone, Debug, Serialize)]
pub struct RunnerRequirement {
    /// The requirement.
    pub requirement: String,
    /// Whether it is fulfilled.
    pub met: bool,
    /// What was observed.
    pub observed: String,
}

/// Result of a test message.
#[derive(Clone, Debug, Serialize)]
pub struct NotifyTest {
    /// The channel's name.
    pub name: String,
    /// Whether the receiver accepted it.
    pub delivered: bool,
    /// Why not.
    pub error: Option<String>,
}

/// An engine that is ready on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct EngineOffer {
    /// The engine, `KIND:ARG`.
    pub engine: String,
    /// What it is, or why it is ready.
    pub because: String,
}

/// Uncommitted files of a working copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Uncommitted {
    /// Number of changed, added or deleted files that git tracks.
    pub changed: u64,
    /// Number of files and folders that git does not know and does not ignore.
    pub untracked: u64,
    /// Whether the repository's rules for Skep are among them.
    pub rules: bool,
}

/// Hosts that a project's commands may reach.
#[derive(Clone, Debug, Serialize)]
pub struct AllowedHosts {
    /// The project.
    pub project: String,
    /// All its hosts.
    pub hosts: Vec<String>,
    /// The file they are written in.
    pub file: String,
}

/// Everything needed to open the demo run.
#[derive(Clone, Debug)]
pub struct DemoSetup {
    /// What people must know before they watch.
    pub notice: String,
    /// The sample repository, an absolute path.
    pub repo: String,
    /// The branch to land on.
    pub base: String,
    /// The goal.
    pub goal: String,
    /// The engine of each role, `KIND:ARG`.
    pub engines: BTreeMap<Role, String>,
    /// The checks; empty selects those found in the repository.
    pub checks: Vec<String>,
}

/// Use cases about this installation.
#[async_trait]
pub trait Host: evaluation::Evaluator {
    /// Loads the configuration; reports everything that is wrong with it at once.
    async fn settings(&self, context: &HostContext) -> HostResult<Vec<Setting>>;
    /// Brings the schema up to date; with `status_only`, lists its steps and changes nothing.
    async fn migrate(&self, context: &HostContext, status_only: bool) -> HostResult<Vec<SchemaStep>>;
    /// Writes a backup of everything that cannot be made again. A service may be running.
    async fn backup(&self, context: &HostContext, request: &BackupRequest) -> HostResult<BackupReport>;
    /// Restores a backup into an unused data directory and an empty database.
    async fn restore(&self, context: &HostContext, from: &Path) -> HostResult<BackupReport>;
    /// Verifies the store and the files of the data directory. Changes nothing.
    async fn verify(&self, context: &HostContext) -> HostResult<Verification>;
    /// Frees disk space that nothing needs, or reports what would be freed.
    async fn gc(&self, context: &HostContext, request: &CleanupRequest) -> HostResult<CleanupReport>;
    /// Inspects everything Skep needs.
    async fn doctor(&self, context: &HostContext) -> HostResult<Diagnosis>;
    /// Lists every role, engine kind, provider and agent.
    async fn list_engines(&self, context: &HostContext) -> HostResult<Vec<EngineRow>>;
    /// Lists the engines that can edit files and are ready here.
    async fn offer_engines(&self, context: &HostContext) -> HostResult<Vec<EngineOffer>>;
    /// Finds the engine that is meant by the name of an agent, a provider or a model.
    async fn find_engine(&self, context: &HostContext, name: &str) -> HostResult<String>;
    /// Returns what a working copy holds that its last commit does not; `None` if the folder is none.
    async fn uncommitted(&self, context: &HostContext, folder: &Path) -> HostResult<Option<Uncommitted>>;
    /// Gives an engine (or the engine of a role) a small order in a throw-away repository. Its output goes to `output`.
    async fn test_engine(
        &self,
        context: &HostContext,
        engine: &str,
        output: mpsc::Sender<String>,
    ) -> HostResult<EngineTest>;
    /// Lists the prompt templates in force for a project, or for projects without templates of their own.
    async fn prompts(&self, context: &HostContext, project: Option<&str>) -> HostResult<Vec<StepPrompt>>;
    /// Tries hostile actions in the sandbox, at the configured level or another.
    async fn test_sandbox(&self, context: &HostContext, level: Option<IsolationLevel>) -> HostResult<SandboxTest>;
    /// Lists every runner.
    async fn list_runners(&self, context: &HostContext) -> HostResult<Vec<RunnerRow>>;
    /// Runs small checks on a runner.
    async fn test_runner(&self, context: &HostContext, name: &str) -> HostResult<RunnerTest>;
    /// Lists every configured forge.
    async fn list_forges(&self, context: &HostContext) -> HostResult<Vec<ForgeRow>>;
    /// Sends a test message on a channel.
    async fn test_notify(&self, context: &HostContext, name: &str) -> HostResult<NotifyTest>;
    /// Tests the account of a forge, and its permissions in a repository if one is given.
    async fn test_forge(&self, context: &HostContext, name: &str, repo: Option<&str>) -> HostResult<ForgeTest>;
    /// Tests a forge, and adds it to the configuration file.
    async fn add_forge(&self, context: &HostContext, new: &NewForge) -> HostResult<AddedForge>;
    /// Allows hosts for a project's commands, in the configuration file.
    async fn allow_hosts(&self, context: &HostContext, project: &str, hosts: &[String]) -> HostResult<AllowedHosts>;
    /// Adds keys to the configuration file, and returns its path. Keys that exist stay.
    async fn add_config(&self, context: &HostContext, addition: &str) -> HostResult<String>;
    /// Writes the demo's sample repository, or finds one whose demo was interrupted.
    async fn prepare_demo(&self, context: &HostContext) -> HostResult<DemoSetup>;
}
