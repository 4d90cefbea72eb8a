//! Cost of the agent loop itself, without the model. Run by hand: `cargo test --release --test it llm_measure --
//! --ignored --nocapture`.

use super::engines_contract::AttemptDirs;
use super::llm::{attempt_env, develop, engine};
use super::support::models::{Models, Reply, call};
use serde_json::json;
use skep::ports::engine::{Engine, EngineEvent, StepOutcome};
use skep::providers::settings::{Api, Provider};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const TURNS: usize = 200;

fn turns() -> impl Iterator<Item = Reply> {
    (0..TURNS - 1)
        .map(|n| call("list", json!({"path": ".", "depth": n + 1})))
        .chain([call("done", json!({"summary": "x"}))])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn the_price_of_a_turn() {
    for api in [Api::Anthropic, Api::OpenAi] {
        let dirs = AttemptDirs::new();
        std::fs::write(dirs.tree().join("a.txt"), "text").unwrap();
        let models = Models::play(turns().chain(turns()).chain(turns())).await;
        let engine: Arc<dyn Engine> = engine(models.provider(api));
        let mut order = develop();
        order.caps.turns = TURNS as u64 + 1;
        let work = async || {
            let began = Instant::now();
            let run_result = engine.run(&order, &attempt_env(&dirs), Arc::new(|_| {})).await.unwrap();
            assert!(matches!(run_result.result, StepOutcome::Edited { .. }), "{:?}", run_result.result);
            began.elapsed()
        };
        // The first pass records the requests. The second is measured while the server records nothing, as for the bare
        // client.
        work().await;
        let seen = models.seen();
        models.forget();
        let looped = work().await;
        // The bare client sends the same JSON requests one after another over one client and reads each response to its
        // end.
        let bodies: Vec<(String, Vec<u8>)> = seen
            .iter()
            .map(|r| (format!("{}{}", models.base(), &r.path[1..]), serde_json::to_vec(&r.body).unwrap()))
            .collect();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let began = Instant::now();
        for (url, body) in bodies {
            http.post(url).body(body).send().await.unwrap().bytes().await.unwrap();
        }
        let bare = began.elapsed();
        let each = |d: std::time::Duration| d.as_micros() as usize / TURNS;
        println!(
            "{api:?}: {TURNS} turns, {} us each by the loop (with one `list` each), {} us by a bare client, {} us over; {} connections",
            each(looped),
            each(bare),
            each(looped).saturating_sub(each(bare)),
            models.connections()
        );
    }
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn the_memory_of_a_live_session() {
    const SESSIONS: usize = 200;
    const READS: usize = 10;
    let dirs = Arc::new(AttemptDirs::new());
    for n in 0..READS {
        std::fs::write(dirs.tree().join(format!("f{n}")), "a line of text\n".repeat(270)).unwrap();
    }
    for reads in [0, READS] {
        // All sessions read at the same pace, then the model goes silent, so each session is measured in the middle of
        // an answer.
        let steps = (0..reads).flat_map(|n| (0..SESSIONS).map(move |_| call("read", json!({"path": format!("f{n}")}))));
        let models = Models::play(steps.chain((0..2 * SESSIONS).map(|_| Reply::Silent))).await;
        models.forget();
        let idle_timeout = std::time::Duration::from_secs(600);
        let provider = Provider { idle_timeout, concurrency: 10_000, ..models.provider(Api::Anthropic) };
        let engine: Arc<dyn Engine> = engine(provider);
        let before = resident();
        let events = Arc::new(AtomicUsize::new(0));
        let mut sessions = tokio::task::JoinSet::new();
        for _ in 0..SESSIONS {
            let (engine, order, attempt_env, events) = (engine.clone(), develop(), attempt_env(&dirs), events.clone());
            sessions.spawn(async move {
                let sink = move |e: EngineEvent| {
                    events.fetch_add(usize::from(matches!(e, EngineEvent::Spent(_))), Ordering::Relaxed);
                };
                engine.run(&order, &attempt_env, Arc::new(sink)).await.map(|_| ())
            });
        }
        super::llm::eventually(|| (events.load(Ordering::Relaxed) >= SESSIONS * reads).then_some(())).await;
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let with = resident();
        // The memory that the server and the HTTP client use for as many open responses does not belong to the
        // sessions.
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}v1/messages", models.base());
        let mut open = Vec::new();
        for _ in 0..SESSIONS {
            open.push(http.post(&url).body("{}").send().await.unwrap());
        }
        let bare = resident() - with;
        println!(
            "{SESSIONS} sessions after {reads} turns of 4 KiB: {} KiB each, of which connection and server about {} KiB",
            (with - before) / SESSIONS,
            bare / SESSIONS
        );
        sessions.abort_all();
    }
}
