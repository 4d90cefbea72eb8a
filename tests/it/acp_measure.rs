//! Cost of a driven session for Skep itself, without the agent's processes. Run by hand: `cargo test --test it
//! acp_measure -- --ignored --nocapture --test-threads 1`.

use crate::acp::{agent, attempt_env, engines};
use crate::engines_contract::{AttemptDirs, order};
use skep::domain::{EngineSpec, Step, Usage};
use skep::ports::engine::{EngineEvent, Engines, Sink, StepOutcome};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::unbounded_channel;

/// Resident memory of this process, in KiB: now, and at its peak.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// Processor time of this process alone, in milliseconds.
fn busy_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks * 10
}

fn long() -> skep::domain::Order {
    let mut long = order(Step::Develop, Some("t"));
    long.caps = Usage { tokens: 0, cost_micros: 0, wall_ms: 1_200_000, turns: 0 };
    long
}

/// One process per measurement, because memory retained by the allocator would hide the growth.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn the_memory_of_live_sessions() {
    live(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn the_memory_of_live_sessions_after_1000_updates() {
    live(1_000).await;
}

async fn live(updates: usize) {
    let mut before = 0;
    // The first round covers what the process allocates only once.
    for (round, count) in [1, 1, 20, 100].into_iter().enumerate() {
        if round < 2 {
            before = resident().0;
        }
        let places: Vec<AttemptDirs> = (0..count).map(|_| AttemptDirs::new()).collect();
        let (ready, mut readies) = unbounded_channel();
        let session = |dirs: &AttemptDirs| {
            let engine = engines(agent(&format!("holds {updates}"))).get(&EngineSpec::parse("acp:fake")).unwrap();
            let (attempt_env, ready) = (attempt_env(dirs), ready.clone());
            let sink: Sink = Arc::new(move |event| {
                if let EngineEvent::Did(_) = event {
                    let _late = ready.send(());
                }
            });
            tokio::spawn(async move { engine.run(&long(), &attempt_env, sink).await })
        };
        let sessions: Vec<_> = places.iter().map(session).collect();
        for _ in 0..count {
            readies.recv().await.unwrap();
        }
        let each = resident().0.saturating_sub(before) / count as u64;
        println!("{count:>4} live sessions, {updates} updates each: {each} KiB each");
        sessions.iter().for_each(tokio::task::JoinHandle::abort);
        for session in sessions {
            let _aborted = session.await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn a_flood_of_updates() {
    for updates in [20_000u64, 200_000] {
        let dirs = AttemptDirs::new();
        let engine = engines(agent(&format!("floods {updates}"))).get(&EngineSpec::parse("acp:fake")).unwrap();
        let (before, busy, began) = (resident().0, busy_ms(), Instant::now());
        let run_result = engine.run(&long(), &attempt_env(&dirs), Arc::new(|_| {})).await.unwrap();
        assert!(matches!(run_result.result, StepOutcome::Edited { .. }), "{:?}", run_result.result);
        println!(
            "{updates} updates: {} ms of processor time per 1,000, {} ms in all, peak {} KiB over the start",
            (busy_ms() - busy) as f64 / (updates as f64 / 1_000.0),
            began.elapsed().as_millis(),
            resident().1.saturating_sub(before)
        );
    }
}
