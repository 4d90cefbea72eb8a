//! Overhead of a run whose steps do nothing: runs per second, time per run, memory per live and per parked run.
//!
//! The ports that touch the outside world (git, checks, engines, forge) are replaced by ones that do nothing and return
//! about as much as in a small run; the store, the actors and the domain are real. Compare the figures with `commits/s`
//! of the same database, measured in the same run.
//!
//! With the arguments `-- sqlite 16 200` (database, concurrent runs, runs) only that case is measured, for a profiler.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a benchmark that cannot run should fail loudly

#[allow(dead_code)]
#[path = "../tests/it/support/postgres.rs"]
mod postgres;

#[path = "support/idle_world.rs"]
mod idle_world;

use idle_world::{IdleWorld, deps};
use skep::actors::{Notification, RunRequest, RuntimeHandle};
use skep::adapters::store;
use skep::domain::{CheckKind, CheckSpec, Goal, GoalSource, Policy, Principal, Project, ProjectName, Run, RunId};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

const AT_ONCE: [(usize, usize); 3] = [(1, 100), (16, 320), (256, 512)];
const MEMORY_RUNS: usize = 500;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    runtime.block_on(async {
        let levels: Vec<(usize, usize)> = match args.as_slice() {
            [] => AT_ONCE.to_vec(),
            [_, at_once, runs] => vec![(at_once.parse().expect("a number"), runs.parse().expect("a number"))],
            _ => panic!("give a database, the number of concurrent runs and of runs; or nothing"),
        };
        let asked = |name: &str| args.first().is_none_or(|only| only == name);
        if asked("sqlite") {
            let folder = tempfile::tempdir().expect("a temporary folder");
            measure("sqlite", &format!("sqlite://{}/skep.db", folder.path().display()), &levels).await;
        }
        if asked("postgres") {
            let url = postgres::database().await;
            measure("postgres", &url, &levels).await;
            postgres::drop_database(&url).await;
        }
        if !args.is_empty() {
            return;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        memory(&format!("sqlite://{}/skep.db", folder.path().display())).await;
    });
}

async fn start(url: &str, approve: bool, hold: bool) -> (RuntimeHandle, skep::actors::Deps) {
    store::migrate(url).await.expect("the schema");
    let store = Arc::new(store::connect(url).await.expect("the store"));
    let deps = deps(store, IdleWorld { hold });
    let policy = Policy { approve_merge: approve, ..Policy::default() };
    let project = Project {
        name: ProjectName::new("idle").expect("a name"),
        repo: "/srv/idle.git".to_owned(),
        forge: Default::default(),
        base: None,
        branch_prefix: "skep".to_owned(),
        checks: Vec::new(),
        engines: BTreeMap::new(),
        policy: Some(policy),
    };
    deps.store.put_project(&project, true).await.expect("a project");
    let (runtime, _) = RuntimeHandle::start(deps.clone()).await.expect("the actors");
    (runtime, deps)
}

fn request(n: usize) -> RunRequest {
    RunRequest {
        id: None,
        project: Some(ProjectName::new("idle").expect("a name")),
        repo: None,
        goal: Goal {
            text: format!("goal {n}\n\n{}", "What should be different. ".repeat(40)),
            source: GoalSource::Manual,
            asked_by: Principal::from("local:bench"),
            spec: None,
        },
        base: None,
        engines: BTreeMap::new(),
        checks: vec![CheckSpec {
            name: "test".to_owned(),
            kind: CheckKind::Test,
            command: "true".to_owned(),
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

/// Wakes the waiter for a run's last transition. One listener serves all runs and reads nothing before that transition,
/// so that the benchmark measures the runs and not itself.
struct Ends {
    waiters: Mutex<HashMap<RunId, Arc<Notify>>>,
    /// The sequence number of a run's last transition, once the first run has shown it.
    last: AtomicU64,
}

impl Ends {
    fn of(&self, run: RunId) -> Arc<Notify> {
        self.waiters.lock().expect("ends").entry(run).or_default().clone()
    }

    fn listen(deps: &skep::actors::Deps) -> Arc<Ends> {
        let ends = Arc::new(Ends { waiters: Mutex::default(), last: AtomicU64::new(1) });
        let mut notifications = deps.notifications.subscribe();
        let listener = ends.clone();
        tokio::spawn(async move {
            loop {
                match notifications.recv().await {
                    Ok(Notification::Moved { run, seq }) if seq >= listener.last.load(Relaxed) => {
                        listener.of(run).notify_one()
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => {
                        listener.waiters.lock().expect("ends").values().for_each(|n| n.notify_one());
                    }
                    Err(RecvError::Closed) => return,
                }
            }
        });
        ends
    }
}

/// Opens a run, waits until it has ended, and returns how long it took.
async fn one(runtime: &RuntimeHandle, deps: &skep::actors::Deps, ends: &Ends, n: usize) -> Duration {
    let began = Instant::now();
    let run = runtime.open(request(n)).await.expect("a run").id;
    let moved = ends.of(run);
    loop {
        // A notification that was lost before this one waited for it is made up for.
        let _lost = tokio::time::timeout(Duration::from_secs(10), moved.notified()).await;
        let now: Run = deps.store.load(run).await.expect("an answer").expect("a run");
        if now.ended() {
            ends.waiters.lock().expect("ends").remove(&run);
            return began.elapsed();
        }
        assert!(!now.parked() || now.blocks.is_empty(), "the run is blocked: {:?}", now.blocks);
    }
}

async fn measure(name: &str, url: &str, levels: &[(usize, usize)]) {
    let (runtime, deps) = start(url, false, false).await;
    let ends = Ends::listen(&deps);
    let events = {
        one(&runtime, &deps, &ends, 0).await;
        let rows =
            deps.store.list(&skep::ports::run_index::RunFilter { limit: 1, ..Default::default() }).await.expect("list");
        rows[0].seq
    };
    ends.last.store(events, Relaxed);
    println!("\n{name}: {events} durable transitions per run");
    println!(
        "{:>8} {:>10} {:>14} {:>10} {:>10} {:>14}",
        "parallel", "runs/s", "transitions/s", "p50 ms", "p99 ms", "CPU s/1,000"
    );
    for (at_once, total) in levels.iter().copied() {
        let cpu = cpu_secs();
        let began = Instant::now();
        let mut times = Vec::new();
        let mut set = JoinSet::new();
        let mut next = 0;
        while next < total || !set.is_empty() {
            while next < total && set.len() < at_once {
                let (runtime, deps, ends) = (runtime.clone(), deps.clone(), ends.clone());
                set.spawn(async move { one(&runtime, &deps, &ends, next).await });
                next += 1;
            }
            times.push(set.join_next().await.expect("one").expect("a run ends"));
        }
        let took = began.elapsed().as_secs_f64();
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
        let rate = total as f64 / took;
        println!(
            "{at_once:>8} {rate:>10.1} {:>14.0} {:>10.1} {:>10.1} {:>14.2}",
            rate * events as f64,
            at(0.5),
            at(0.99),
            (cpu_secs() - cpu) / total as f64 * 1000.0
        );
    }
    runtime.stop().await;
}

/// Memory of runs whose engines never end, and of runs that wait for a person.
async fn memory(url: &str) {
    for (what, approve, hold) in [("live", false, true), ("parked", true, false)] {
        let (runtime, deps) = start(url, approve, hold).await;
        let before = rss_kib();
        let mut runs = Vec::new();
        for n in 0..MEMORY_RUNS {
            runs.push(runtime.open(request(n)).await.expect("a run").id);
        }
        for run in &runs {
            loop {
                let now = deps.store.load(*run).await.expect("an answer").expect("a run");
                let rests = now.parked() && !now.blocks.is_empty();
                if rests || (hold && now.live_attempts().next().is_some()) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let live = runtime.live().await.len();
        let grown = rss_kib().saturating_sub(before);
        println!(
            "\n{MEMORY_RUNS} {what} runs ({live} with an actor): {grown} KiB more, {:.1} KiB a run",
            grown as f64 / MEMORY_RUNS as f64
        );
        runtime.stop().await;
    }
}

fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().expect("user") + fields[12].parse::<f64>().expect("system");
    // Linux reports CPU time in ticks of 10 ms.
    ticks / 100.0
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}
