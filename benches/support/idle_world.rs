//! Ports that touch nothing: every operation succeeds at once, every step returns about a kilobyte.

use async_trait::async_trait;
use skep::actors::{AttemptLocks, Defaults, Deps, LandingQueue, Notifications, Parts, Scope, Tuning};
use skep::adapters::prompts::{FilePrompts, Templates};
use skep::domain::{
    ArtifactKind, AttemptId, ChangeNumber, ChangeRef, ChangeState, CheckKind, CheckResult, CheckSpec, DiffStat,
    EngineSpec, FileChange, FileKind, ForgeName, Notice, Observation, Order, Policy, ProjectName, Role, RunId,
    SecretFound, Sha, Step, TaskId, TaskSpec, Usage, Verdict,
};
use skep::platform::clock::SystemClock;
use skep::platform::sandbox::Sandbox;
use skep::ports::checks::{CheckWatch, Checked, NetworkNeed, RepoRules, Trust};
use skep::ports::engine::{AttemptEnv, EngineResult, Sink, StepOutcome};
use skep::ports::forge::{ChangeText, Landing, LocatedRepo};
use skep::ports::leases::Owner;
use skep::ports::workspace::{ChangeVersion, Commit, Moved, VersionDiff};
use skep::ports::{
    Checks, Engine, Engines, Forge, ForgeIssues, Forges, HumanActions, PortError, PortResult, Repo, Store, Workspaces,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The idle world.
#[derive(Clone, Copy)]
pub struct IdleWorld {
    /// Whether engines never end.
    pub hold: bool,
}

/// Dependencies of the actors: an idle world and a real store.
pub fn deps(store: Arc<dyn Store>, world: IdleWorld) -> Deps {
    let direct = || EngineSpec { kind: "idle".to_owned(), arg: String::new() };
    Deps {
        store,
        workspaces: Arc::new(world),
        parts: Parts {
            checks: Arc::new(world),
            engines: Arc::new(world),
            prompts: Arc::new(FilePrompts::new(
                Templates::load(None).expect("the built-in templates"),
                Arc::new(world),
            )),
            defaults: Arc::new(Defaults {
                policy: Policy::default(),
                engines: [Role::Manager, Role::Dev, Role::Reviewer].into_iter().map(|r| (r, direct())).collect(),
                fallbacks: BTreeMap::new(),
                branch_prefix: "skep".to_owned(),
            }),
        }
        .fixed(),
        forges: Arc::new(IdleForges(Arc::default())),
        isolation: Arc::new(Sandbox::from_process_env(&[])),
        clock: Arc::new(SystemClock),
        notifications: Notifications::default(),
        attempt_locks: AttemptLocks::default(),
        landing_queue: LandingQueue::default(),
        owner: Owner(uuid::Uuid::now_v7().to_string()),
        tuning: Tuning {
            max_live_runs: 1_000,
            max_reserved_slots: 900,
            lease: Duration::from_secs(30),
            sweep: Duration::from_secs(60),
            max_open_runs: 10_000,
        },
        scope: Scope::All,
    }
}

fn sha(n: u8) -> Sha {
    Sha(format!("{n:02x}").repeat(20))
}

fn diff() -> DiffStat {
    let file = FileChange {
        path: "src/lib.rs".to_owned(),
        kind: FileKind::Modified,
        added: 3,
        removed: 1,
        binary: false,
        blob: None,
    };
    DiffStat { files: vec![file], files_total: 1, added: 3, removed: 1, ..DiffStat::default() }
}

#[async_trait]
impl Workspaces for IdleWorld {
    async fn fetch(&self, _: &Repo, _: Option<&str>) -> PortResult<(String, Sha)> {
        Ok(("main".to_owned(), sha(1)))
    }
    async fn read_at(&self, _: &Repo, _: &Sha, _: &str) -> PortResult<Option<Vec<u8>>> {
        Ok(None)
    }
    async fn locate(&self, origin: &str) -> PortResult<String> {
        Ok(origin.to_owned())
    }
    async fn inspect(&self, _: &Repo, _: &Sha, _: &str) -> PortResult<Vec<Notice>> {
        Ok(Vec::new())
    }
    async fn paths(&self, _: &Repo, _: &Sha) -> PortResult<Vec<String>> {
        Ok(Vec::new())
    }
    async fn contains(&self, _: &Repo, _: &Sha, _: &Sha) -> PortResult<bool> {
        Ok(true)
    }
    async fn first_parents(&self, _: &Repo, head: &Sha, _: usize) -> PortResult<Vec<Sha>> {
        Ok(vec![head.clone()])
    }
    async fn snapshot(&self, _: &Repo, _: RunId, base: &Sha) -> PortResult<Sha> {
        Ok(base.clone())
    }
    async fn task_dir(&self, _: &Repo, _: RunId, _: TaskId, _: &Sha) -> PortResult<PathBuf> {
        Ok(std::env::temp_dir())
    }

    async fn continue_work(&self, _: &Repo, _: RunId, _: TaskId, _: &Sha) -> PortResult<()> {
        Ok(())
    }
    async fn read_dir(&self, _: &Repo, _: RunId, _: &str, _: &Sha) -> PortResult<PathBuf> {
        Ok(std::env::temp_dir())
    }
    async fn check_dir(&self, _: &Repo, _: RunId, _: &str, _: &Sha) -> PortResult<PathBuf> {
        Ok(std::env::temp_dir())
    }
    async fn remove_dir(&self, _: &Repo, _: RunId, _: &str) -> PortResult<()> {
        Ok(())
    }
    async fn existing_dir(&self, _: RunId, _: Option<TaskId>, _: &str, _: &Sha) -> PortResult<Option<PathBuf>> {
        Ok(None)
    }
    fn meter_file(&self, run: RunId, attempt: AttemptId) -> PathBuf {
        std::env::temp_dir().join(format!("{run}-{attempt}.meter"))
    }
    fn scratch_dirs(&self, run: RunId, name: &str) -> (PathBuf, PathBuf) {
        let dir = std::env::temp_dir().join("skep-bench");
        (dir.join("cache"), dir.join(format!("{run}-{name}")))
    }
    async fn commit(&self, _: &Repo, _: RunId, _: TaskId, _: &str, _: &Sha, _: &str) -> PortResult<Commit> {
        Ok(Commit { head: sha(2), diff: diff(), patch: Vec::new() })
    }
    async fn rebase(&self, _: &Repo, _: &Sha, head: &Sha, _: &Sha, _: &str) -> PortResult<Moved> {
        Ok(Moved::Clean(head.clone()))
    }
    async fn diff(&self, _: &Repo, _: &Sha, _: &Sha) -> PortResult<(DiffStat, Vec<u8>)> {
        Ok((diff(), Vec::new()))
    }
    async fn diff_versions(&self, _: &Repo, _: &ChangeVersion, _: &ChangeVersion) -> PortResult<VersionDiff> {
        Ok(VersionDiff { patch: Vec::new(), conflicts: Vec::new() })
    }
    async fn scan_outgoing(&self, _: &Repo, _: &Sha) -> PortResult<Vec<SecretFound>> {
        Ok(Vec::new())
    }
    async fn push(&self, _: &Repo, _: &Sha, _: &str, _: Option<&Sha>) -> PortResult<()> {
        Ok(())
    }
    async fn release(&self, _: &Repo, _: RunId, _: &str) -> PortResult<()> {
        Ok(())
    }
}

#[async_trait]
impl Checks for IdleWorld {
    fn rule_files(&self, _: &[String]) -> Vec<String> {
        Vec::new()
    }
    fn network_files(&self, _: &[String]) -> Vec<String> {
        Vec::new()
    }
    async fn network_needs(
        &self,
        _: &ProjectName,
        _: &[CheckSpec],
        _: &[String],
        _: &BTreeMap<String, Vec<u8>>,
    ) -> Vec<NetworkNeed> {
        Vec::new()
    }
    fn rules(&self, _: &[String], _: &BTreeMap<String, Vec<u8>>) -> Result<RepoRules, String> {
        Ok(RepoRules::default())
    }
    fn assign_runners(&self, _: &ProjectName, checks: Vec<CheckSpec>) -> Result<Vec<CheckSpec>, (String, String)> {
        Ok(checks)
    }
    async fn fill_cache(&self, _: &Repo, _: &Path, _: &Path) {}
    async fn run_watched(
        &self,
        _: &Repo,
        _: &Path,
        _: &Path,
        _: Trust,
        specs: &[CheckSpec],
        _: CheckWatch,
    ) -> PortResult<Vec<Checked>> {
        let result = |spec: &CheckSpec| CheckResult {
            name: spec.name.clone(),
            kind: CheckKind::Test,
            green: true,
            exit_code: Some(0),
            duration_ms: 1,
            why: String::new(),
            tail: "ok\n".repeat(300),
            tests: None,
            artifacts: Vec::new(),
            secrets: Vec::new(),
            failures: Vec::new(),
            fault: None,
        };
        Ok(specs
            .iter()
            .map(|s| Checked { result: result(s), files: Vec::<(ArtifactKind, String, Vec<u8>)>::new() })
            .collect())
    }
}

#[async_trait]
impl Engine for IdleWorld {
    async fn run(&self, order: &Order, _: &AttemptEnv, _: Sink) -> PortResult<EngineResult> {
        if self.hold {
            std::future::pending::<()>().await;
        }
        let text = "What was done, in some words. ".repeat(30);
        let result = match order.step {
            Step::Plan => StepOutcome::Tasks(vec![TaskSpec {
                name: "goal".to_owned(),
                title: "The goal".to_owned(),
                text,
                needs: Vec::new(),
                paths: Vec::new(),
            }]),
            Step::Develop => StepOutcome::Edited { summary: text },
            Step::Review => StepOutcome::Judged {
                verdict: Verdict::Approve,
                findings: Vec::new(),
                summary: text,
                criteria: Vec::new(),
            },
            Step::Explore => StepOutcome::Notes(text),
        };
        Ok(EngineResult {
            result,
            usage: Some(Usage::default()),
            usage_by_model: Vec::new(),
            session: None,
            files: Vec::new(),
        })
    }
}

impl Engines for IdleWorld {
    fn get(&self, _: &EngineSpec) -> Result<Arc<dyn Engine>, String> {
        Ok(Arc::new(*self))
    }
}

/// The same forge under every name.
struct IdleForges(Arc<IdleForge>);

impl Forges for IdleForges {
    fn locate(&self, repo: &str) -> PortResult<LocatedRepo> {
        Ok(LocatedRepo { forge: ForgeName::default(), origin: repo.to_owned() })
    }
    fn get(&self, _: &ForgeName) -> PortResult<Arc<dyn Forge>> {
        Ok(self.0.clone())
    }
    fn human_actions(&self, _: &ForgeName) -> PortResult<Arc<dyn HumanActions>> {
        Err(PortError::permanent("people do nothing here", "measure something else"))
    }
    fn issues(&self, _: &ForgeName) -> PortResult<Arc<dyn ForgeIssues>> {
        Err(PortError::permanent("there are no issues here", "measure something else"))
    }
    fn with_issues(&self) -> Vec<ForgeName> {
        Vec::new()
    }
}

/// A forge that only numbers changes: one per branch.
#[derive(Default)]
struct IdleForge(Mutex<BTreeMap<String, u64>>);

#[async_trait]
impl Forge for IdleForge {
    async fn ensure_change(&self, _: &Repo, text: ChangeText<'_>) -> PortResult<ChangeRef> {
        let mut changes = self.0.lock().expect("changes");
        let next = changes.len() as u64 + 1;
        let number = *changes.entry(text.branch.to_owned()).or_insert(next);
        Ok(ChangeRef { number: ChangeNumber(number), url: String::new() })
    }
    async fn ensure_comment(&self, _: &Repo, _: ChangeNumber, _: &str, _: &str) -> PortResult<()> {
        Ok(())
    }
    async fn set_status(
        &self,
        _: &Repo,
        _: ChangeNumber,
        _: &Sha,
        _: &str,
        _: skep::domain::StatusState,
        _: &str,
    ) -> PortResult<()> {
        Ok(())
    }
    async fn inspect_ci(
        &self,
        _: &Repo,
        _: ChangeNumber,
        _: &Sha,
        _: &Sha,
        _: &[String],
    ) -> PortResult<Vec<skep::domain::CiFailure>> {
        Ok(Vec::new())
    }
    async fn rerun_ci(&self, _: &Repo, _: &BTreeSet<skep::domain::WorkflowRun>) -> PortResult<()> {
        Ok(())
    }
    async fn observe(&self, _: &Repo, _: ChangeNumber) -> PortResult<Observation> {
        Ok(Observation {
            state: ChangeState::Open,
            head: sha(2),
            base: sha(1),
            statuses: BTreeMap::new(),
            failed: BTreeMap::new(),
            required: BTreeSet::new(),
            approved_by: Vec::new(),
            change_requests: Vec::new(),
            unblocks: Vec::new(),
        })
    }
    async fn land(&self, _: &Repo, _: ChangeNumber, head: &Sha, _: &Sha) -> PortResult<Landing> {
        Ok(Landing::Landed(head.clone()))
    }
    async fn close(&self, _: &Repo, _: ChangeNumber) -> PortResult<()> {
        Ok(())
    }
}
