//! Many concurrent runs on a day budget that is nearly used up: together they never exceed it, and a raise lets them
//! continue.

use crate::support::baseline::{Baseline, RUN, edits, priced};
use crate::support::cli::BackgroundProcess;
use crate::support::models::{Models, Request};
use crate::support::postgres;
use serde_json::Value;
use skep::providers::settings::Api;

/// Concurrent runs.
const RUNS: usize = 32;
/// Day budget in micro-USD, enough for a few runs. A call costs about 5,000 and may cost about 6,500.
const DAY: u64 = 60_000;

const CONFIG: &str = "[role.dev]\nengine = \"llm:acme/cheap\"\n[policy]\napprove_merge = false\n[runs]\nmax_live_runs = 32\n\
    max_reserved_slots = 32\n[steps.develop]\ncost = \"0.02 USD\"\n[budget]\nday_cost = \"0.06 USD\"\n";

async fn baseline(more: &str) -> Baseline {
    let responder = |request: &Request| edits(request.turn());
    let baseline = Baseline::new(Models::responding(responder).await.large(), Api::OpenAi, &format!("{CONFIG}{more}"));
    let text = std::fs::read_to_string(baseline.cli.path("data/skep.toml")).unwrap();
    baseline.configure(&text.replace("[prices]", "max_output_tokens = 300\nconcurrency = 32\n[prices]"));
    baseline
}

/// Creates a repository and returns the arguments for a run on it.
fn run_on(baseline: &Baseline, repo: &str) -> Vec<String> {
    tokio::task::block_in_place(|| baseline.cli.repo(repo, &[("a.txt", "a\n")]));
    let mut run: Vec<String> = RUN.iter().filter(|word| **word != "--yes").map(|word| (*word).to_owned()).collect();
    run[2] = format!("{repo}.git");
    run
}

fn detached(baseline: &Baseline, repo: &str) {
    let mut run = run_on(baseline, repo);
    run.push("--detach".to_owned());
    baseline.run(&run.iter().map(String::as_str).collect::<Vec<_>>()).exits_with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_runs_never_exceed_the_day_budget_and_a_raise_lets_them_continue() {
    let baseline = baseline("").await;
    for n in 0..RUNS {
        detached(&baseline, &format!("r{n}"));
    }
    let _service = baseline.serve();
    // At every moment, spending and reservations together stay within the limit.
    let mut asked = 0;
    let began = std::time::Instant::now();
    while asked == 0 {
        let (spent, aside) = of_the_day(&baseline).await;
        assert!(spent + aside <= DAY, "{spent} spent and {aside} reserved of {DAY}");
        let runs = baseline.get("/api/v1/runs?limit=100").await;
        asked = count(&runs, |r| r["blocks"].to_string().contains("budget"));
        assert!(began.elapsed().as_secs() < 60, "no run asks: {runs}");
    }
    // By the server's own count, less than the cost of one call is left of the budget, and no attempt counts as failed.
    let waiting = |r: &Value| !r["blocks"].as_array().unwrap().is_empty();
    let settles = std::time::Instant::now();
    let spent = loop {
        let runs = baseline.runs();
        let asleep = runs.iter().all(|r| waiting(r) || r["wake_at"].is_i64() || r["phase"] == "ended");
        // A run that wakes up may reserve what is left for a moment, which is too little for a call.
        match of_the_day(&baseline).await {
            (spent, 0) if asleep => break spent,
            (spent, aside) => assert!(settles.elapsed().as_secs() < 60, "{spent} spent, {aside} reserved: {runs:?}"),
        }
    };
    assert_eq!(spent, priced(&baseline.models.served()).1, "to the micro-USD");
    assert!(spent <= DAY && spent > DAY - 20_000, "{spent}");
    let runs = baseline.runs();
    assert!(runs.iter().filter(|r| waiting(r)).all(|r| r["blocks"] == serde_json::json!(["budget"])), "{runs:?}");

    // Runs the command of the escalation verbatim.
    let blocked = runs.iter().find(|r| waiting(r)).unwrap();
    let shown = tokio::task::block_in_place(|| baseline.cli.show(blocked["run"].as_str().unwrap()));
    let asked = &shown["escalations"][0];
    assert_eq!(asked["reason"], "the day budget is exhausted");
    assert!(asked["why"].as_str().unwrap().contains("$"), "{asked}");
    let raise = &asked["answers"][0];
    assert_eq!(
        (&raise["kind"], &raise["cost_micros"]),
        (&serde_json::json!("raise_shared"), &serde_json::json!(5_000_000))
    );
    baseline.run(&["budget", "raise", "--day", "--cost", "5.00 USD"]).exits_with(0).prints("continues");
    let blocked: Vec<&str> = runs.iter().filter(|r| waiting(r)).map(|r| r["run"].as_str().unwrap()).collect();
    baseline.until("the blocked runs complete", || {
        let now = baseline.runs();
        blocked.iter().all(|id| now.iter().any(|r| r["run"] == *id && r["status"] == "completed"))
    });
    let (spent, _) = of_the_day(&baseline).await;
    assert!(spent > DAY, "{spent}");
}

/// Returns the day's spending and reservations of all processes.
async fn of_the_day(baseline: &Baseline) -> (u64, u64) {
    let rows = baseline.get("/api/v1/spending?by=day").await;
    let of = |key: &str| rows[0][key].as_u64().unwrap_or(0);
    (of("cost_micros"), of("reserved_cost_micros"))
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_share_a_database_share_its_day() {
    let url = postgres::database().await;
    let baseline = baseline(&format!("[store]\nurl = {url:?}\n")).await;
    for n in 0..6 {
        detached(&baseline, &format!("r{n}"));
    }
    let runs: Vec<Vec<String>> = (0..3).map(|n| run_on(&baseline, &format!("alone{n}"))).collect();
    // Each process has its own data directory and shares only the database with the service.
    let config = baseline.cli.path("data/skep.toml");
    let alone = |(n, run): (usize, &Vec<String>)| {
        let mut command = baseline.cli.skep(&run.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("SKEP_DATA_DIR", baseline.cli.path(&format!("data{n}"))).env("SKEP_CONFIG", &config);
        let log = std::fs::File::create(baseline.cli.path(&format!("log{n}"))).unwrap();
        BackgroundProcess(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    };
    let others: Vec<BackgroundProcess> = runs.iter().enumerate().map(alone).collect();
    // The service has six runs at once, and would spend the whole budget before the others have started.
    baseline.until("another process spends", || !baseline.models.served().is_empty());
    let service = baseline.serve();
    let home = |r: &Value| r["project"].as_str().is_some_and(|p| p.starts_with("alone"));
    let waits = |r: &Value| r["blocks"] == serde_json::json!(["budget"]);
    let began = std::time::Instant::now();
    loop {
        let (spent, aside) = of_the_day(&baseline).await;
        assert!(spent + aside <= DAY, "{spent} spent and {aside} reserved of {DAY}");
        let runs = baseline.get("/api/v1/runs?limit=100").await;
        let asleep = |r: &Value| waits(r) || r["wake_at"].is_i64() || r["phase"] == "ended";
        if count(&runs, waits) > 0 && count(&runs, asleep) == 9 && aside == 0 {
            break;
        }
        assert!(began.elapsed().as_secs() < 80, "no run asks: {runs}");
    }
    let (spent, _) = of_the_day(&baseline).await;
    assert_eq!(spent, priced(&baseline.models.served()).1, "to the micro-USD");
    assert!(spent > DAY - 20_000, "{spent}");
    let rows = baseline.get("/api/v1/spending?by=project").await;
    let took_part = |at_home: bool| {
        rows.as_array()
            .unwrap()
            .iter()
            .any(|r| r["cost_micros"].as_u64() > Some(0) && home(&serde_json::json!({"project": r["key"]})) != at_home)
    };
    assert!(took_part(true) && took_part(false), "both the service and another process spent: {rows}");
    // Each threshold was reported once, by whichever process came first.
    let mut alerts = Vec::new();
    for run in baseline.get("/api/v1/runs?limit=100").await.as_array().unwrap() {
        let shown = baseline.get(&format!("/api/v1/runs/{}", run["run"].as_str().unwrap())).await;
        let shares = shown["budget"]["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| (a["scope"].to_string(), a["percent"].as_u64()));
        alerts.extend(shares.filter(|(what, _)| what.contains("day")));
    }
    alerts.sort();
    let unique = alerts.len();
    alerts.dedup();
    // Spending between two checks may skip a threshold.
    assert!(unique == alerts.len() && alerts.iter().any(|(_, share)| *share >= Some(50)), "{alerts:?}");
    drop((others, service));
    postgres::drop_database(&url).await;
}

fn count(runs: &Value, is_so: impl Fn(&Value) -> bool) -> usize {
    runs.as_array().unwrap().iter().filter(|r| is_so(r)).count()
}
