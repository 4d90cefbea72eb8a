//! Whole runs through the actors, with the real store, git, checks and forge.

use crate::support::program::git;
use skep::actors::{Ask, Factory, Scope};
use skep::app;
use skep::config::{Config, Database};
use skep::domain::{
    Answer, BlockKind, CheckKind, CheckSpec, EngineSpec, Event, Goal, GoalSource, Outcome, Phase, Principal, Role, Run,
    RunId,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

struct World {
    _tmp: tempfile::TempDir,
    data: PathBuf,
    origin: PathBuf,
    ports: app::Ports,
    factory: Factory,
}

async fn world() -> World {
    world_with(Config::default()).await
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
    let ports = app::connect(&config, &data, Scope::All, &crate::support::walls::sandbox()).await.expect("ports");
    let (factory, _) = app::start(&ports).await.expect("factory");
    World { _tmp: tmp, data, origin, ports, factory }
}

impl World {
    fn ask(&self, command: &str, check: &str) -> Ask {
        let dev = EngineSpec { kind: "command".to_owned(), arg: command.to_owned() };
        Ask {
            project: None,
            repo: Some(self.origin.to_string_lossy().into_owned()),
            goal: Goal { text: "make it two".to_owned(), source: GoalSource::Manual, asked_by: me() },
            base: None,
            engines: BTreeMap::from([(Role::Dev, dev)]),
            checks: vec![CheckSpec {
                name: "check-1".to_owned(),
                kind: CheckKind::Test,
                command: check.to_owned(),
                limit_secs: 60,
                junit: None,
            }],
            carry_on: false,
            traceparent: None,
        }
    }

    /// Waits until the run is over or asks.
    async fn rest(&self, run: RunId) -> Run {
        let mut news = self.ports.deps.feed.listen();
        let wait = async {
            loop {
                let now = self.ports.deps.store.load(run).await.expect("load").expect("there");
                if now.ended() || (now.parked() && !now.blocks.is_empty()) {
                    return now;
                }
                let _lagged = tokio::time::timeout(Duration::from_millis(500), news.recv()).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), wait).await {
            Ok(run) => run,
            Err(_) => {
                let now = self.ports.deps.store.load(run).await.expect("load").expect("there");
                panic!(
                    "stuck in {:?}: pending {:?}, blocks {:?}, tasks {:?}",
                    now.phase, now.pending, now.blocks, now.tasks
                )
            }
        }
    }

    async fn answer(&self, run: RunId, answer: Answer) {
        let event = Event::Answered { block: None, answer, by: me() };
        self.factory.tell(run, event, None).await.expect("answer taken");
    }
}

fn me() -> Principal {
    Principal::from("local:tester")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_engine_lands_a_change_after_a_persons_yes() {
    let w = world().await;
    let run = w.factory.ask(w.ask("echo two >> a.txt", "grep -q two a.txt")).await.expect("opened");
    let asked = w.rest(run.id).await;
    assert_eq!(asked.phase, Phase::Gating, "{:?}", asked.blocks);
    assert!(matches!(asked.blocks[0].kind, BlockKind::Approval(_)), "{:?}", asked.blocks);
    assert_eq!(git(&w.origin, &["log", "--oneline", "main"]).lines().count(), 1, "nothing landed before the yes");
    w.answer(run.id, Answer::Yes).await;
    let done = w.rest(run.id).await;
    let Some(Outcome::Delivered { sha }) = &done.outcome else { panic!("{:?}", done.outcome) };
    assert_eq!(git(&w.origin, &["rev-parse", "main"]), sha.0);
    assert_eq!(git(&w.origin, &["show", "main:a.txt"]), "one\ntwo");
    assert!(!w.data.join("work").join(run.id.to_string()).exists(), "the workspace was given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_variable_let_in_is_seen_by_engines_and_not_by_checks() {
    // Any variable of this process that no command gets by itself.
    let name = "CARGO_MANIFEST_DIR";
    assert!(std::env::var_os(name).is_some(), "cargo sets it");
    let (engine, check) = (format!("test -n \"${name}\" && echo two >> a.txt"), format!("test -z \"${name}\""));
    let mut config = Config::default();
    let w = world_with(config.clone()).await;
    let shut = w.factory.ask(w.ask(&engine, &check)).await.expect("opened");
    let asked = w.rest(shut.id).await;
    assert!(matches!(asked.blocks[0].kind, BlockKind::Tries { .. }), "no engine gets it unnamed: {:?}", asked.blocks);

    config.engines.pass_env = vec![name.to_owned()];
    let w = world_with(config).await;
    let run = w.factory.ask(w.ask(&engine, &check)).await.expect("opened");
    let asked = w.rest(run.id).await;
    assert_eq!(asked.phase, Phase::Gating, "{:?}", asked.blocks);
    assert!(matches!(asked.blocks[0].kind, BlockKind::Approval(_)), "the check was green: {:?}", asked.blocks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn red_checks_end_in_a_question_and_a_hint_carries_on() {
    let w = world().await;
    let run = w.factory.ask(w.ask("echo more >> a.txt; cat \"$SKEP_NOTES_FILE\" >> a.txt", "grep -q HINT a.txt")).await;
    let run = run.expect("opened");
    let asked = w.rest(run.id).await;
    assert!(matches!(asked.blocks[0].kind, BlockKind::Tries { .. }), "{:?}", asked.blocks);
    assert_eq!(asked.attempts.len(), 3, "a plan and two tries");
    w.answer(run.id, Answer::Text { text: "HINT".to_owned() }).await;
    let asked = w.rest(run.id).await;
    assert_eq!(asked.phase, Phase::Gating, "{:?}", asked.blocks);
    assert_eq!(asked.attempts.iter().filter(|a| a.task.is_some()).count(), 3, "attempts go on counting");
}
