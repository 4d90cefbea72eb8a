//! Whole runs through the actors, with the real store, git, checks and forge.

use crate::support::program::git;
use async_trait::async_trait;
use skep::actors::{Parts, RunRequest, RuntimeHandle, Scope};
use skep::app;
use skep::config::{Config, Database};
use skep::domain::{
    Answer, AttemptId, BlockKind, BudgetScope, BudgetUnit, CheckKind, CheckSpec, Day, Ending, EngineSpec, Event, Goal,
    GoalSource, LedgerRow, Order, Outcome, Phase, Principal, ProjectSet, Role, Run, RunId, SharedBudget, Timestamp,
    Usage,
};
use skep::ports::engine::{AttemptEnv, EngineEvent, EngineResult, Sink, StepOutcome};
use skep::ports::journal::Transition;
use skep::ports::ledger::{BudgetRaise, SpendingBy, SpendingFilter};
use skep::ports::run_index::RunFilter;
use skep::ports::{Engine, Engines, PortResult};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct World {
    _tmp: tempfile::TempDir,
    data: PathBuf,
    origin: PathBuf,
    ports: app::Ports,
    runtime: RuntimeHandle,
}

async fn world() -> World {
    world_with(Config::default()).await
}

/// Engines that first return scripted outcomes, then run the real engines.
struct Scripted {
    engines: Arc<dyn Engines>,
    outcomes: Mutex<Vec<StepOutcome>>,
}

struct Fixed(StepOutcome);

#[async_trait]
impl Engine for Fixed {
    async fn run(&self, _: &Order, _: &AttemptEnv, sink: Sink) -> PortResult<EngineResult> {
        if let StepOutcome::Notes(_) = &self.0 {
            sink(EngineEvent::Spent(Usage { tokens: 40, cost_micros: 7, wall_ms: 0, turns: 3 }));
            std::future::pending::<()>().await;
        }
        Ok(EngineResult {
            result: self.0.clone(),
            usage: Some(Usage::default()),
            usage_by_model: vec![],
            session: None,
            files: vec![],
        })
    }
}

impl Engines for Scripted {
    fn get(&self, spec: &EngineSpec) -> Result<Arc<dyn Engine>, String> {
        let real = self.engines.get(spec)?;
        if spec.kind != "command" {
            return Ok(real);
        }
        Ok(match self.outcomes.lock().expect("no panic").pop() {
            Some(outcome) => Arc::new(Fixed(outcome)),
            None => real,
        })
    }
}

/// Creates a world whose dev's engine first returns these outcomes, starting with the last. Intake consumes one more.
async fn scripted(config: Config, mut outcomes: Vec<StepOutcome>) -> World {
    let mut w = world_with(config).await;
    w.runtime.stop().await;
    outcomes.push(StepOutcome::Failed("requested at intake".to_owned()));
    let parts = w.ports.deps.parts.current();
    let engines = Arc::new(Scripted { engines: parts.engines.clone(), outcomes: Mutex::new(outcomes) });
    w.ports.deps.parts = Parts { engines, ..Parts::clone(&parts) }.fixed();
    w.runtime = app::start(&w.ports).await.expect("the runtime").0;
    w
}

fn unavailable(until: Option<Timestamp>, fix: Option<&str>) -> StepOutcome {
    StepOutcome::Unavailable { why: "429 too many requests".to_owned(), until, fix: fix.map(str::to_owned) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_waits_for_its_engine_without_an_actor_and_is_woken_in_time() {
    let soon = |secs: i64| Timestamp(chrono::Utc::now().timestamp_millis() + secs * 1000);
    let until = soon(3);
    let w = scripted(Config::default(), vec![unavailable(Some(until), None)]).await;
    let run = w.runtime.open(w.ask("echo two >> a.txt", "grep -q two a.txt")).await.expect("opened");
    let waiting = loop {
        let now = w.ports.deps.store.load(run.id).await.expect("load").expect("a run");
        if now.wait.is_some() {
            break now;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((waiting.wake_at(), waiting.blocks.len(), waiting.tasks[0].tries), (Some(until), 0, 0));
    let filter = RunFilter { limit: 1, ..RunFilter::default() };
    let row = &w.ports.deps.store.list(&filter).await.expect("a list")[0];
    assert_eq!((row.wake_at, row.status.as_str()), (Some(until), "running"));
    assert!(row.waits.as_ref().is_some_and(|why| why.contains("429")), "{row:?}");
    while !w.runtime.live().await.is_empty() {
        assert!(soon(0) < until, "no actor must be alive while it waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The sweep runs every 30 s; the run is woken before that.
    let asked = w.settled(run.id).await;
    assert!(matches!(asked.blocks[0].kind, BlockKind::Approval(_)), "{:?}", asked.blocks);
    assert!(soon(0).0 - until.0 < 15_000, "woken late");
    assert_eq!(asked.attempts[1].ended.as_ref().map(|e| e.ending), Some(Ending::Unavailable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_run_is_found_after_a_restart() {
    let until = Timestamp(chrono::Utc::now().timestamp_millis() + 2_000);
    let mut w = scripted(Config::default(), vec![unavailable(Some(until), None)]).await;
    let run = w.runtime.open(w.ask("echo two >> a.txt", "grep -q two a.txt")).await.expect("opened");
    while w.ports.deps.store.load(run.id).await.expect("load").expect("a run").wait.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    w.runtime.stop().await;
    w.runtime = app::start(&w.ports).await.expect("the runtime").0;
    let asked = w.settled(run.id).await;
    assert!(matches!(asked.blocks[0].kind, BlockKind::Approval(_)), "{:?}", asked.blocks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_times_out_is_charged_the_last_reported_usage() {
    let mut config = Config::default();
    config.policy.steps.develop.timeout_secs = 1;
    config.policy.steps.develop.tries = 1;
    config.policy.limits.tokens = Some(5_000);
    let w = scripted(config, vec![StepOutcome::Notes("never returned".to_owned())]).await;
    let run = w.runtime.open(w.ask("true", "true")).await.expect("opened");
    let asked = w.settled(run.id).await;
    let ended = asked.attempts[1].ended.as_ref().expect("ended");
    assert!(ended.why.contains("exceeded its time limit"), "{}", ended.why);
    assert_eq!((ended.charged.tokens, ended.charged.cost_micros, ended.charged.turns), (40, 7, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_share_a_days_budget_ask_when_it_is_exhausted() {
    let mut config = Config::default();
    config.policy.shared.day_tokens = Some(1_000);
    let w = world_with(config).await;
    let spent = |tokens| LedgerRow {
        attempt: AttemptId(90),
        role: Role::Reviewer,
        engine: "llm:a/b".to_owned(),
        round: 0,
        amount: Usage { tokens, ..Usage::default() },
        settled: true,
        usage_by_model: Vec::new(),
        prompt_digest: None,
        day: Day::of(w.ports.deps.clock.now()),
        at: w.ports.deps.clock.now(),
    };
    // The command reports its usage; otherwise its full reservation would be charged.
    let report = r#"echo two >> a.txt; echo '{"summary": "did", "usage": {"tokens": 5}}' > "$SKEP_REPORT_FILE""#;
    // Another run of this database has spent the whole budget.
    let other = crate::support::runs::run();
    let lease = crate::support::runs::no_lease(other.id);
    let opening = Transition { ledger_rows: vec![spent(1_000)], ..crate::support::runs::opening(&other, lease) };
    w.ports.deps.store.commit(vec![opening.into()]).await.remove(0).expect("written");
    let run = w.runtime.open(w.ask(report, "grep -q two a.txt")).await.expect("opened");
    let asked = w.settled(run.id).await;
    assert_eq!(
        asked.blocks[0].kind,
        BlockKind::SharedBudget {
            budgets: vec![SharedBudget { scope: BudgetScope::Day, unit: BudgetUnit::Tokens, over: 0 }]
        }
    );
    let why = skep::render::escalation(&asked, &asked.blocks[0]).why;
    for part in ["1000 tokens of 1000 tokens spent", "reviewer: 1000", "a/b: 1000"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert_eq!(asked.wake_at(), Some(Day::of(w.ports.deps.clock.now()).end()));
    let raise = BudgetRaise {
        scope: BudgetScope::Day,
        key: Day::of(w.ports.deps.clock.now()).0.to_string(),
        tokens: 500,
        cost_micros: 0,
        by: me(),
        at: w.ports.deps.clock.now(),
    };
    w.ports.deps.store.raise_budget(&raise).await.expect("a raise");
    w.answer(run.id, Answer::Yes).await;
    let asked = w.settled(run.id).await;
    assert!(matches!(asked.blocks[0].kind, BlockKind::Approval(_)), "{:?}", asked.blocks);
    assert_eq!(asked.attempts.iter().filter_map(|a| a.ended.as_ref()).filter(|e| !e.ending.counts()).count(), 1);
    let by_day = SpendingFilter { by: SpendingBy::Day, run: None, projects: ProjectSet::All, day: None, limit: 9 };
    let sums = w.ports.deps.store.spending(&by_day).await.expect("sums");
    assert_eq!((sums[0].tokens, sums[0].reserved_tokens), (1_005, 0));
}

async fn world_with(mut config: Config) -> World {
    let tmp = tempfile::tempdir().expect("temp dir");
    let (seed, origin, data) = (tmp.path().join("seed"), tmp.path().join("origin.git"), tmp.path().join("data"));
    std::fs::create_dir_all(&seed).expect("seed");
    std::fs::create_dir_all(&data).expect("data");
    git(&seed, &["init", "-q", "-b", "main"]);
    std::fs::write(seed.join("a.txt"), "one\n").expect("write");
    git(&seed, &["add", "."]);
    git(&seed, &["commit", "-qm", "first"]);
    git(tmp.path(), &["clone", "-q", "--bare", "seed", "origin.git"]);
    config.store.database = Database::InDataDir;
    let ports = app::connect(&config, &data, Scope::All, &crate::support::sandbox::strict()).await.expect("ports");
    let (runtime, _) = app::start(&ports).await.expect("the runtime");
    World { _tmp: tmp, data, origin, ports, runtime }
}

impl World {
    fn ask(&self, command: &str, check: &str) -> RunRequest {
        let dev = EngineSpec { kind: "command".to_owned(), arg: command.to_owned() };
        RunRequest {
            id: None,
            project: None,
            repo: Some(self.origin.to_string_lossy().into_owned()),
            goal: Goal { text: "make it two".to_owned(), source: GoalSource::Manual, asked_by: me(), spec: None },
            base: None,
            engines: BTreeMap::from([(Role::Dev, dev)]),
            checks: vec![CheckSpec {
                name: "check-1".to_owned(),
                kind: CheckKind::Test,
                command: check.to_owned(),
                timeout_secs: 60,
                junit: None,
                runner: None,
                detected: false,
            }],
            limits: Default::default(),
            may_raise: false,
            must_approve: false,
            carry_on: false,
            on_difference: Default::default(),
            traceparent: None,
        }
    }

    /// Waits until the run has ended or is blocked.
    async fn settled(&self, run: RunId) -> Run {
        let mut notifications = self.ports.deps.notifications.subscribe();
        let wait = async {
            loop {
                let now = self.ports.deps.store.load(run).await.expect("load").expect("a run");
                if now.ended() || (now.parked() && !now.blocks.is_empty()) {
                    return now;
                }
                let _lagged = tokio::time::timeout(Duration::from_millis(500), notifications.recv()).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), wait).await {
            Ok(run) => run,
            Err(_) => {
                let now = self.ports.deps.store.load(run).await.expect("load").expect("a run");
                panic!(
                    "stuck in {:?}: pending {:?}, blocks {:?}, tasks {:?}",
                    now.phase, now.pending, now.blocks, now.tasks
                )
            }
        }
    }

    async fn answer(&self, run: RunId, answer: Answer) {
        let event = Event::Answered { block: None, answer, by: me() };
        self.runtime.send(run, event, None).await.expect("answer taken");
    }
}

fn me() -> Principal {
    Principal::from("local:tester")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_engine_lands_a_change_after_approval() {
    let w = world().await;
    let run = w.runtime.open(w.ask("echo two >> a.txt", "grep -q two a.txt")).await.expect("opened");
    let asked = w.settled(run.id).await;
    assert_eq!(asked.phase, Phase::Gating, "{:?}", asked.blocks);
    assert!(matches!(asked.blocks[0].kind, BlockKind::Approval(_)), "{:?}", asked.blocks);
    assert_eq!(git(&w.origin, &["log", "--oneline", "main"]).lines().count(), 1, "nothing landed before the approval");
    w.answer(run.id, Answer::Yes).await;
    let done = w.settled(run.id).await;
    let Some(Outcome::Delivered { sha }) = &done.outcome else { panic!("{:?}", done.outcome) };
    assert_eq!(git(&w.origin, &["rev-parse", "main"]), sha.0);
    assert_eq!(git(&w.origin, &["show", "main:a.txt"]), "one\ntwo");
    assert!(!w.data.join("work").join(run.id.to_string()).exists(), "the workspace was removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passed_variable_is_visible_to_engines_but_not_to_checks() {
    // Any variable of this process that commands do not get by default.
    let name = "CARGO_MANIFEST_DIR";
    assert!(std::env::var_os(name).is_some(), "cargo sets it");
    let (engine, check) = (format!("test -n \"${name}\" && echo two >> a.txt"), format!("test -z \"${name}\""));
    let mut config = Config::default();
    let w = world_with(config.clone()).await;
    let refused = w.runtime.open(w.ask(&engine, &check)).await.expect("opened");
    let asked = w.settled(refused.id).await;
    assert!(
        matches!(asked.blocks[0].kind, BlockKind::Tries { .. }),
        "no engine gets it unless it is listed: {:?}",
        asked.blocks
    );

    config.engines.pass_env = vec![name.to_owned()];
    let w = world_with(config).await;
    let run = w.runtime.open(w.ask(&engine, &check)).await.expect("opened");
    let asked = w.settled(run.id).await;
    assert_eq!(asked.phase, Phase::Gating, "{:?}", asked.blocks);
    assert!(matches!(asked.blocks[0].kind, BlockKind::Approval(_)), "the check was green: {:?}", asked.blocks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn red_checks_end_in_a_question_and_a_hint_continues_the_run() {
    let w = world().await;
    let run =
        w.runtime
            .open(w.ask(
                "echo more >> a.txt; cat \"$SKEP_NOTES_FILE\" >> a.txt",
                "! grep -q more a.txt || grep -q HINT a.txt",
            ))
            .await;
    let run = run.expect("opened");
    let asked = w.settled(run.id).await;
    assert!(matches!(asked.blocks[0].kind, BlockKind::Tries { .. }), "{:?}", asked.blocks);
    assert_eq!(asked.attempts.len(), 3, "a plan and two tries");
    w.answer(run.id, Answer::Text { text: "HINT".to_owned() }).await;
    let asked = w.settled(run.id).await;
    assert_eq!(asked.phase, Phase::Gating, "{:?}", asked.blocks);
    assert_eq!(asked.attempts.iter().filter(|a| a.task.is_some()).count(), 3, "attempt ids keep counting");
}
