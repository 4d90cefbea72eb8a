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
    DemoSetup, Diagnosis, EngineRow, EngineTest, Host, HostContext, HostError, HostResult, IsolationLevel, RunnerRow,
    RunnerTest, SandboxTest, SchemaStep, Setting, StepPrompt,
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

/// State behind the routes.
struct Fake {
    run: Run,
    rows: Vec<wire::Event>,
    /// Blocks raised one after the other; the run is delivered once all are answered.
    blocks: VecDeque<Block>,
    answers: Vec<wire::Action>,
    unavailable: bool,
    order: Option<NewRun>,
}

type Shared = Arc<Mutex<Fake>>;

impl Fake {
    fn new(blocks: Vec<Block>) -> Fake {
        Fake { run: a_run(), rows: vec![], blocks: blocks.into(), answers: vec![], unavailable: false, order: None }
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
    let mut problem = CliError::usage("the store cannot be reached", "try again").problems.remove(0);
    (problem.status, problem.code) = (status, code.to_owned());
    (StatusCode::from_u16(status).unwrap(), Json(problem)).into_response()
}

async fn open_run(State(fake): State<Shared>, Json(order): Json<NewRun>) -> axum::response::Response {
    let mut fake = fake.lock().unwrap();
    if fake.unavailable {
        return problem(503, "unavailable");
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
    assert_eq!(action, "approve");
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
    async fn doctor(&self, _: &HostContext) -> HostResult<Diagnosis> {
        unreachable!()
    }
    async fn list_engines(&self, _: &HostContext) -> HostResult<Vec<EngineRow>> {
        unreachable!()
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
