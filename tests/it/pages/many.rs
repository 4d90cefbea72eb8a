//! A store full of runs: pages stay bounded and say what they leave out. A measurement by hand shows how long they take.

use super::logged_in;
use crate::support::browser::Browser;
use crate::support::rest::{Service, service};
use crate::support::runs::{no_lease, opening, run};
use skep::domain::{
    AttemptId, Block, BlockId, BlockKind, Day, LedgerRow, Outcome, Phase, Role, Run, RunId, Sha, Timestamp, Usage,
};
use skep::ports::journal::Transition;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs of one transaction.
const BATCH: usize = 500;
/// Attempts of a run in the ledger.
const ATTEMPTS: u32 = 3;

/// Stores runs as they are found later: `open` of them wait for a person, the others have landed. Returns the oldest
/// of each kind.
async fn fill(s: &Service, runs: usize, open: usize) -> [RunId; 2] {
    let now = s.state.services.clock.now();
    let all: Vec<Run> = (0..runs).map(|n| stored(n, n % (runs / open) == 0, now)).collect();
    for batch in all.chunks(BATCH) {
        let transitions = batch.iter().map(|run| Arc::new(transition(run, now))).collect();
        for stored in s.ports.deps.store.commit(transitions).await {
            stored.expect("a stored run");
        }
    }
    [all[0].id, all[1].id]
}

fn stored(n: usize, is_open: bool, now: Timestamp) -> Run {
    let mut run = run();
    run.goal.text = format!("Goal {n} <of> many\n\n{}", "Some more words. ".repeat(40));
    run.opened_at = Timestamp(now.0 - 3_600_000);
    run.phase = Phase::Working;
    if is_open {
        run.blocks.push(Block {
            id: BlockId(1),
            kind: BlockKind::Rounds,
            why: "line\n".repeat(60),
            fix: None,
            levels: Vec::new(),
            spending: Vec::new(),
            since: Timestamp(now.0 - 60_000),
            until: None,
        });
    } else {
        run.phase = Phase::Ended;
        run.outcome = Some(Outcome::Delivered { sha: Sha::from("2222222222222222222222222222222222222222") });
    }
    run
}

fn transition(run: &Run, now: Timestamp) -> Transition {
    let row = |attempt| LedgerRow {
        attempt: AttemptId(attempt),
        role: Role::Dev,
        engine: "command".to_owned(),
        round: attempt - 1,
        amount: Usage { tokens: 1_000, cost_micros: 20_000, turns: 3, wall_ms: 900 },
        settled: true,
        usage_by_model: Vec::new(),
        prompt_digest: None,
        day: Day::of(now),
        at: now,
    };
    Transition { ledger_rows: (1..=ATTEMPTS).map(row).collect(), ..opening(run, no_lease(run.id)) }
}

fn paths(open: RunId, ended: RunId) -> Vec<String> {
    let fixed = ["/", "/runs", "/runs?status=blocked", "/runs?open=1", "/runs?status=quarantined", "/projects"];
    let fixed =
        fixed.into_iter().chain(["/spending", "/spending?by=project", "/spending?by=run", "/audit", "/runs/new"]);
    let of_runs =
        [format!("/runs/{open}"), format!("/runs/{ended}"), format!("/q/{open}/b1"), format!("/runs/{ended}/cost")];
    fixed.map(str::to_owned).chain(of_runs).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_say_what_they_leave_out_of_many_runs() {
    let s = service().await;
    let [open, ended] = fill(&s, 1_200, 600).await;
    let mut browser = logged_in(&s).await;
    for path in paths(open, ended) {
        let html = browser.open(&path).await.is(200);
        assert!(html.len() < 150_000, "{path}: {} bytes", html.len());
        assert!(html.matches("<li data-row").count() + html.matches("<tr data-row").count() <= 60, "{path}");
    }
    let inbox = browser.open("/").await.is(200);
    assert!(inbox.contains("(500) Inbox") && inbox.contains("Only the newest 500 open runs"), "{inbox}");
    // Those that have waited longest can be answered at once, one of them without a click.
    let unfolded = inbox.matches("<details class=\"card question\"").count();
    assert_eq!((unfolded, inbox.matches("id=\"q-").count()), (10, 10), "{inbox}");
    assert!(inbox.contains("450 more: <a href=\"/runs?status=blocked\""), "{inbox}");
    // Paging visits every run once.
    let (mut path, mut seen) = ("/runs?status=blocked".to_owned(), 0);
    loop {
        let html = browser.open(&path).await.is(200);
        seen += html.matches("<tr data-row").count();
        let Some(next) = html.split("rel=\"next\" href=\"").nth(1).and_then(|t| t.split('"').next()) else { break };
        path = next.replace("&amp;", "&");
    }
    assert_eq!(seen, 600);
}

/// Prints how long each page takes alone and with 20 at once. Run it by hand with optimization:
/// `cargo test --release --test it pages::many -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn pages_with_ten_thousand_runs() {
    let s = service().await;
    let [open, ended] = fill(&s, 10_000, 500).await;
    let browser = logged_in(&s).await;
    println!("{:<28} {:>9} {:>9} {:>12} {:>9}", "page", "alone ms", "p95", "20 at once", "p95");
    for path in paths(open, ended) {
        let (alone, busy) = (times(&browser, &path, 1, 40).await, times(&browser, &path, 20, 10).await);
        println!("{path:<28.28} {:>9.1} {:>9.1} {:>12.1} {:>9.1}", alone.0, alone.1, busy.0, busy.1);
    }
}

/// Returns the median and the 95th percentile of a page's time in milliseconds.
async fn times(browser: &Browser<'_>, path: &str, at_once: usize, each: usize) -> (f64, f64) {
    let visits = (0..at_once).map(|_| async {
        let mut browser = browser.clone();
        let mut taken = Vec::new();
        for _ in 0..each {
            let start = Instant::now();
            browser.open(path).await.is(200);
            taken.push(start.elapsed());
        }
        taken
    });
    let mut all: Vec<Duration> = futures::future::join_all(visits).await.concat();
    all.sort();
    let ms = |at: usize| all[at.min(all.len() - 1)].as_secs_f64() * 1_000.0;
    (ms(all.len() / 2), ms(all.len() * 95 / 100))
}
