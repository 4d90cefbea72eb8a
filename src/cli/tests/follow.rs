//! Follows runs from the command line to the exit status, against routes in memory.

use super::{a_run, block, merge, opened, shell};
use crate::cli::args::Skep;
use crate::cli::exit::{CliError, ExitStatus};
use crate::cli::run_on;
use crate::cli::terminal::{Prompter, Terminal};
use crate::domain::block::{Block, BlockKind};
use crate::domain::{Answer, BlockId, Event, Outcome, Phase, Principal, Run, Sha, Timestamp};
use crate::http::backend::{Backend, InProcessServer, RunningService, ServiceReady};
use crate::http::rest::wire::{self, NewRun};
use crate::service::host::{
    AddedForge, AllowedHosts, BackupReport, BackupRequest, CleanupReport, CleanupRequest, DemoSetup, Diagnosis,
    EngineOffer, EngineRow, EngineTest, ForgeRow, ForgeTest, Host, HostContext, HostError, HostResult, IsolationLevel,
    NewForge, NotifyTest, RunnerRow, RunnerTest, SandboxTest, SchemaStep, Setting, StepPrompt, Uncommitted,
    Verification,
};
use async_trait::async_trait;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex};

mod evaluator;

/// State behind the routes.
struct Fake {
    run: Run,
    rows: Vec<wire::Event>,
    /// Blocks raised one after the other; the run is delivered once all are answered.
    blocks: VecDeque<Block>,
    answers: Vec<wire::Action>,
    unavailable: bool,
    /// The open run of the goal has other settings.
    differs: bool,
    /// No engine is configured.
    lacks_engine: bool,
    order: Option<NewRun>,
}

type Shared = Arc<Mutex<Fake>>;

impl Fake {
    fn new(blocks: Vec<Block>) -> Fake {
        Fake {
            run: a_run(),
            rows: vec![],
            blocks: blocks.into(),
            answers: vec![],
            unavailable: false,
            differs: false,
            lacks_engine: false,
            order: None,
        }
    }

    fn row(&mut self, event: Event) {
        let seq = self.rows.len() as u64 + 1;
        self.run.seq = seq;
        self.rows.push(wire::Event {
            run: self.run.id.to_string(),
            seq,
            at: Timestamp(1_000 * seq as i64).into(),
            name: event.name().to_owned(),
            epoch: 1,
            event: serde_json::to_value(&event).ok(),
        });
    }

    fn advance(&mut self) {
        match self.blocks.pop_front() {
            Some(block) => {
                self.run.phase = Phase::Gating;
                self.run.blocks = vec![block];
            }
            None => {
                self.run.blocks.clear();
                self.run.phase = Phase::Ended;
                self.run.outcome =
                    Some(Outcome::Delivered { sha: Sha::from("3333333333333333333333333333333333333333") });
            }
        }
    }
}

fn problem(status: u16, code: &str) -> axum::response::Response {
    problem_of(status, code, "the store cannot be reached")
}

fn problem_of(status: u16, code: &str, detail: &str) -> axum::response::Response {
    let mut problem = CliError::usage(detail, "try again").problems.remove(0);
    (problem.status, problem.code) = (status, code.to_owned());
    (StatusCode::from_u16(status).unwrap(), Json(problem)).into_response()
}

async fn open_run(State(fake): State<Shared>, Json(order): Json<NewRun>) -> axum::response::Response {
    let mut fake = fake.lock().unwrap();
    if fake.unavailable {
        return problem(503, "unavailable");
    }
    if fake.differs && order.reuse_open_run && order.on_difference == wire::OnDifference::Refuse {
        return problem_of(409, "settings_differ", "run 3f9a12bc of this goal is open, and its settings differ");
    }
    if fake.lacks_engine && order.engines.is_empty() {
        return problem_of(422, "no_engine", "no engine is set for the role dev");
    }
    fake.order = Some(order);
    fake.row(Event::Opened(Box::new(opened())));
    fake.run.pending.insert("1.1".into(), crate::domain::EffectRef::Comment);
    Json(wire::Run::new(&fake.run, crate::domain::Timestamp(0))).into_response()
}

async fn stream(State(fake): State<Shared>, headers: HeaderMap) -> String {
    let mut fake = fake.lock().unwrap();
    let after: u64 = headers.get("last-event-id").map_or(0, |v| v.to_str().unwrap().parse().unwrap());
    if fake.rows.len() == 1 {
        fake.row(Event::Admitted);
        fake.run.pending.clear();
        fake.advance();
    }
    let mut text = "event: output\ndata: {\"attempt\":1,\"text\":\"hi \\u001b[31m\"}\n\n".to_owned();
    for row in fake.rows.iter().filter(|r| r.seq > after) {
        text += &format!("id: {}\nevent: {}\ndata: {}\n\n", row.seq, row.name, serde_json::to_string(row).unwrap());
    }
    if fake.run.ended() {
        text += "event: end\ndata: {}\n\n";
    }
    text
}

async fn act(
    State(fake): State<Shared>,
    Path((_, action)): Path<(String, String)>,
    Json(say): Json<wire::Action>,
) -> Json<wire::Run> {
    let mut fake = fake.lock().unwrap();
    assert!(matches!(action.as_str(), "approve" | "unblock"), "{action}");
    let answer = if say.no { Answer::No { why: String::new() } } else { Answer::Yes };
    fake.answers.push(say);
    fake.row(Event::Answered { block: Some(BlockId(1)), answer, by: Principal::from("local:ann") });
    fake.advance();
    Json(wire::Run::new(&fake.run, crate::domain::Timestamp(0)))
}

fn routes(fake: Shared) -> Router {
    let show = |State(fake): State<Shared>| async move {
        Json(wire::Run::new(&fake.lock().unwrap().run, crate::domain::Timestamp(0)))
    };
    Router::new()
        .route("/api/v1/runs", post(open_run))
        .route("/api/v1/runs/{id}", get(show))
        .route("/api/v1/runs/{id}/stream", get(stream))
        .route("/api/v1/runs/{id}/patch", get(|| async { "+fixed\n" }))
        .route("/api/v1/runs/{id}/actions/{action}", post(act))
        .with_state(fake)
}

struct FakeBackend(Shared);

#[async_trait]
impl Host for FakeBackend {
    async fn settings(&self, _: &HostContext) -> HostResult<Vec<Setting>> {
        Err(HostError::config("store.url: no", "fix it"))
    }
    async fn migrate(&self, _: &HostContext, _: bool) -> HostResult<Vec<SchemaStep>> {
        unreachable!()
    }
    async fn backup(&self, _: &HostContext, _: &BackupRequest) -> HostResult<BackupReport> {
        unreachable!()
    }
    async fn restore(&self, _: &HostContext, _: &std::path::Path) -> HostResult<BackupReport> {
        unreachable!()
    }
    async fn verify(&self, _: &HostContext) -> HostResult<Verification> {
        unreachable!()
    }
    async fn gc(&self, _: &HostContext, _: &CleanupRequest) -> HostResult<CleanupReport> {
        unreachable!()
    }
    async fn doctor(&self, _: &HostContext) -> HostResult<Diagnosis> {
        unreachable!()
    }
    async fn list_engines(&self, _: &HostContext) -> HostResult<Vec<EngineRow>> {
        unreachable!()
    }
    async fn offer_engines(&self, _: &HostContext) -> HostResult<Vec<EngineOffer>> {
        let offer = |engine: &str| EngineOffer { engine: engine.into(), because: "has a key".into() };
        Ok(vec![offer("llm:anthropic/m"), offer("acp:claude/m")])
    }
    async fn find_engine(&self, _: &HostContext, name: &str) -> HostResult<String> {
        match name {
            "claude" => Ok("acp:claude/m".to_owned()),
            other => Err(HostError::usage(format!("unknown engine {other}"), "write KIND:ARG")),
        }
    }
    async fn uncommitted(&self, _: &HostContext, _: &std::path::Path) -> HostResult<Option<Uncommitted>> {
        Ok(None)
    }
    async fn test_engine(
        &self,
        _: &HostContext,
        _: &str,
        _: tokio::sync::mpsc::Sender<String>,
    ) -> HostResult<EngineTest> {
        unreachable!()
    }
    async fn prompts(&self, _: &HostContext, _: Option<&str>) -> HostResult<Vec<StepPrompt>> {
        unreachable!()
    }
    async fn test_sandbox(&self, _: &HostContext, _: Option<IsolationLevel>) -> HostResult<SandboxTest> {
        unreachable!()
    }
    async fn list_runners(&self, _: &HostContext) -> HostResult<Vec<RunnerRow>> {
        unreachable!()
    }
    async fn test_runner(&self, _: &HostContext, _: &str) -> HostResult<RunnerTest> {
        unreachable!()
    }
    async fn list_forges(&self, _: &HostContext) -> HostResult<Vec<ForgeRow>> {
        unreachable!()
    }
    async fn test_forge(&self, _: &HostContext, _: &str, _: Option<&str>) -> HostResult<ForgeTest> {
        unreachable!()
    }
    async fn add_forge(&self, _: &HostContext, _: &NewForge) -> HostResult<AddedForge> {
        unreachable!()
    }
    async fn test_notify(&self, _: &HostContext, _: &str) -> HostResult<NotifyTest> {
        unreachable!()
    }
    async fn allow_hosts(&self, _: &HostContext, _: &str, _: &[String]) -> HostResult<AllowedHosts> {
        unreachable!()
    }
    async fn add_config(&self, _: &HostContext, _: &str) -> HostResult<String> {
        unreachable!()
    }
    async fn prepare_demo(&self, _: &HostContext) -> HostResult<DemoSetup> {
        unreachable!()
    }
}

#[async_trait]
impl Backend for FakeBackend {
    async fn running_service(&self, _: &HostContext) -> HostResult<Option<RunningService>> {
        Ok(None)
    }
    async fn open_driving(&self, _: &HostContext) -> HostResult<InProcessServer> {
        let close = Box::pin(async {});
        Ok(InProcessServer { router: routes(self.0.clone()), token: "t".into(), close })
    }
    async fn open_writing(&self, context: &HostContext) -> HostResult<InProcessServer> {
        self.open_driving(context).await
    }
    async fn open_reading(&self, context: &HostContext) -> HostResult<InProcessServer> {
        self.open_driving(context).await
    }
    async fn serve(
        &self,
        _: &HostContext,
        _: Option<&str>,
        _: &(dyn Fn(ServiceReady) + Send + Sync),
    ) -> HostResult<()> {
        unreachable!()
    }
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs a command line; returns its exit status, output and errors.
async fn invoke(fake: &Shared, line: &str, answers: Option<&[&str]>) -> (ExitStatus, String, String) {
    let (out, err) = (Buffer::default(), Buffer::default());
    let prompter = match answers {
        None => Prompter::None,
        Some(answers) => Prompter::Scripted(Mutex::new(answers.iter().map(|a| (*a).to_owned()).collect())),
    };
    let skep = Skep::try_parse_from(shell(line)).unwrap();
    let terminal = Terminal::to(Box::new(out.clone()), Box::new(err.clone()), prompter, skep.global.json);
    let exit = run_on(&FakeBackend(fake.clone()), &terminal, skep).await;
    assert!(!out.text().contains('\x1b') && !err.text().contains('\x1b'), "an escape code reached the terminal");
    (exit, out.text(), err.text())
}

fn fake(blocks: Vec<Block>) -> Shared {
    Arc::new(Mutex::new(Fake::new(blocks)))
}

const RUN: &str = "skep --data-dir /tmp run --repo / --goal x --engine script:s.toml";

#[tokio::test(start_paused = true)]
async fn a_delivered_run_exits_with_0_and_a_summary() {
    let fake = fake(vec![]);
    let (exit, out, err) = invoke(&fake, RUN, None).await;
    assert_eq!((exit, err.as_str()), (ExitStatus::Success, ""), "{out}");
    for part in
        ["started: Fix ", "admitted", "a1 | hi \\u{1b}[31m", "delivered as 3333333333", "git -C /srv/tool.git show"]
    {
        assert!(out.contains(part), "missing {part:?} in:\n{out}");
    }
    let order = fake.lock().unwrap().order.clone().unwrap();
    assert_eq!((order.repo.as_deref(), order.reuse_open_run, order.engines.len()), (Some("/"), true, 4));
}

#[tokio::test(start_paused = true)]
async fn a_question_exits_with_4_and_is_shown_in_full_once() {
    let fake = fake(vec![merge(1)]);
    let (exit, out, _) = invoke(&fake, RUN, None).await;
    assert_eq!(exit, ExitStatus::WaitsForPerson);
    assert_eq!(out.matches("Escalation: the merge waits for approval").count(), 1, "{out}");
    assert!(out.contains("  | \\u{1b}]0;owned\\u{7}") && out.contains("skep approve 3f9a12bc --block b1\n"), "{out}");
    assert!(fake.lock().unwrap().answers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn yes_gives_each_approval_once_and_continues() {
    let fake = fake(vec![merge(1), merge(2)]);
    let (exit, out, _) = invoke(&fake, &format!("{RUN} --yes"), None).await;
    assert_eq!(exit, ExitStatus::Success, "{out}");
    assert_eq!(out.matches("approved on your behalf (--yes)").count(), 2);
    let answers: Vec<_> = fake.lock().unwrap().answers.iter().map(|s| (s.block.clone(), s.no)).collect();
    assert_eq!(answers, [(Some("b1".into()), false), (Some("b2".into()), false)]);
}

#[tokio::test(start_paused = true)]
async fn yes_answers_no_other_question() {
    let fake = fake(vec![block(1, BlockKind::Rounds)]);
    let (exit, out, _) = invoke(&fake, &format!("{RUN} --yes"), None).await;
    assert_eq!(exit, ExitStatus::WaitsForPerson);
    assert!(out.contains("the rounds of rework are used up"), "{out}");
    assert!(fake.lock().unwrap().answers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_person_is_asked_and_may_see_the_diff_first() {
    let asked = fake(vec![merge(1), merge(2)]);
    let (exit, out, _) = invoke(&asked, RUN, Some(&["d", "y", "n", "not so"])).await;
    assert_eq!(exit, ExitStatus::Success, "{out}");
    assert!(out.contains("+fixed"));
    let answers: Vec<_> = asked.lock().unwrap().answers.iter().map(|s| (s.no, s.text.clone())).collect();
    assert_eq!(answers, [(false, None), (true, Some("not so".into()))]);

    let later = fake(vec![merge(1)]);
    let (exit, out, _) = invoke(&later, RUN, Some(&[""])).await;
    assert_eq!(exit, ExitStatus::WaitsForPerson);
    assert!(out.contains("Give it later with") && later.lock().unwrap().answers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_question_is_answered_in_place() {
    let task = || BlockKind::Tries { step: crate::domain::Step::Develop, task: Some(crate::domain::TaskId(1)) };
    let question = || BlockKind::Question { step: crate::domain::Step::Develop, task: Some(crate::domain::TaskId(1)) };
    let table: Vec<(BlockKind, &[&str], serde_json::Value)> = vec![
        (task(), &["r"], serde_json::json!({})),
        (task(), &["x", "h", "look at a.txt"], serde_json::json!({ "text": "look at a.txt" })),
        (task(), &["skip"], serde_json::json!({ "skip": true })),
        (task(), &["e", "not worth it"], serde_json::json!({ "no": true, "text": "not worth it" })),
        (
            task(),
            &["c", "command: make fix", "make test"],
            serde_json::json!({ "engines": { "dev": "command: make fix" }, "checks": ["make test"] }),
        ),
        (task(), &["c", "", "", "r"], serde_json::json!({})),
        (question(), &["5433"], serde_json::json!({ "text": "5433" })),
        (
            BlockKind::Budget(crate::domain::BudgetKind::Attempts),
            &["m", "attempts=3"],
            serde_json::json!({ "more": 3 }),
        ),
    ];
    for (kind, typed, expected) in table {
        let fake = fake(vec![block(1, kind)]);
        let (exit, out, err) = invoke(&fake, RUN, Some(typed)).await;
        assert_eq!((exit, err.as_str()), (ExitStatus::Success, ""), "{typed:?}\n{out}");
        assert!(!out.contains("Answer with one of"), "the commands are not needed here:\n{out}");
        let answer = fake.lock().unwrap().answers.remove(0);
        let mut given = serde_json::to_value(&answer).unwrap();
        let object = given.as_object_mut().unwrap();
        assert_eq!(object.remove("block"), Some("b1".into()));
        object.retain(|_, value| !value.is_null() && *value != false);
        if let Some(more) = object.get("more") {
            let attempts = more["attempts"].clone();
            object.insert("more".to_owned(), attempts);
        }
        assert_eq!(given, expected, "{typed:?}");
    }
    let later = fake(vec![block(1, question())]);
    let (exit, out, _) = invoke(&later, RUN, Some(&[""])).await;
    assert_eq!(exit, ExitStatus::WaitsForPerson);
    assert!(out.contains("skep unblock 3f9a12bc --block b1") && out.contains("skep watch 3f9a12bc"), "{out}");
}

#[tokio::test(start_paused = true)]
async fn a_person_decides_which_settings_count() {
    for (answer, expected) in [("u", "apply"), ("k", "keep"), ("n", "refuse")] {
        let fake = fake(vec![]);
        fake.lock().unwrap().differs = true;
        let (exit, out, _) = invoke(&fake, RUN, Some(&["?", answer])).await;
        assert_eq!(exit, ExitStatus::Success, "{out}");
        assert!(out.contains("its settings differ") && out.contains("Please answer u, n or k"), "{out}");
        let order = fake.lock().unwrap().order.clone().unwrap();
        assert_eq!(serde_json::to_value(order.on_difference).unwrap(), expected);
        assert_eq!(order.reuse_open_run, answer != "n");
    }
    let fake = fake(vec![]);
    fake.lock().unwrap().differs = true;
    let (exit, out, _) = invoke(&fake, RUN, Some(&[""])).await;
    assert_eq!(exit, ExitStatus::Success);
    assert!(out.contains("Nothing was started") && fake.lock().unwrap().order.is_none(), "{out}");
    let (exit, _, err) = invoke(&fake, RUN, None).await;
    assert_eq!(exit, ExitStatus::Usage);
    assert!(err.contains("what the command names: skep") && err.contains("another run of this goal: skep"), "{err}");
}

#[tokio::test(start_paused = true)]
async fn where_no_engine_is_set_a_person_chooses_one_that_is_ready() {
    for (answer, expected) in [("2", "acp:claude/m"), ("make fix", "command: make fix"), ("direct", "")] {
        let fake = fake(vec![]);
        fake.lock().unwrap().lacks_engine = true;
        let run = "skep --data-dir /tmp run x --repo / --check true";
        let (exit, out, _) = invoke(&fake, run, Some(&["7", answer])).await;
        assert!(out.contains("[1] llm:anthropic/m") && out.contains("There is no such number"), "{out}");
        let dev = fake.lock().unwrap().order.clone().and_then(|o| o.engines.get(&wire::Role::Dev).cloned());
        assert_eq!(
            (exit == ExitStatus::Success, dev.as_deref()),
            (!expected.is_empty(), Some(expected).filter(|e| !e.is_empty()))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_store_exits_with_75_and_a_fix() {
    let fake = fake(vec![]);
    fake.lock().unwrap().unavailable = true;
    let (exit, _, err) = invoke(&fake, RUN, None).await;
    assert_eq!((exit, err.as_str()), (ExitStatus::TryAgain, "error: the store cannot be reached\nfix: try again\n"));
    let (exit, out, err) = invoke(&fake, &RUN.replace("skep", "skep --json"), None).await;
    let problem: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert_eq!((exit, out.as_str(), problem["code"].as_str()), (ExitStatus::TryAgain, "", Some("unavailable")));
    let (exit, _, _) = invoke(&fake, "skep --data-dir /tmp config check", None).await;
    assert_eq!(exit, ExitStatus::Config);
}

#[tokio::test(start_paused = true)]
async fn a_followed_run_in_json_is_one_object_per_line() {
    let fake = fake(vec![merge(1)]);
    let (exit, out, _) = invoke(&fake, &format!("{RUN} --json"), None).await;
    assert_eq!(exit, ExitStatus::WaitsForPerson);
    let keys: Vec<String> = out
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(l).unwrap())
        .map(|o| o.keys().next().unwrap().clone())
        .collect();
    assert_eq!(keys.last().map(String::as_str), Some("run"));
    assert!(keys.iter().any(|k| k == "event") && keys.iter().any(|k| k == "output"), "{keys:?}");
}
