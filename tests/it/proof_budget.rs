//! Many runs at once on a day's budget that is nearly used up: what they spend together never passes it; more of it lets them go on.

use crate::support::baseline::{Floor, RUN, edits, priced};
use crate::support::cli::Beside;
use crate::support::models::{Models, Request};
use crate::support::postgres;
use serde_json::Value;
use skep::providers::settings::Api;

/// Runs at the same time.
const RUNS: usize = 32;
/// The day's budget, in micro-USD: enough for a few of them. A call takes about 5,000 and may take about 6,500.
const DAY: u64 = 60_000;

const CONFIG: &str = "[role.dev]\nengine = \"llm:acme/cheap\"\n[policy]\napprove_merge = false\n[runs]\nmax_live_runs = 32\n\
    max_reserved_slots = 32\n[steps.develop]\ncost = \"0.02 USD\"\n[budget]\nday_cost = \"0.06 USD\"\n";

async fn floor(more: &str) -> Floor {
    let mind = |request: &Request| edits(request.turn());
    let floor = Floor::new(Models::think(mind).await.large(), Api::OpenAi, &format!("{CONFIG}{more}"));
    let text = std::fs::read_to_string(floor.desk.path("data/skep.toml")).unwrap();
    floor.configure(&text.replace("[prices]", "max_output = 300\nconcurrency = 32\n[prices]"));
    floor
}

/// The words of a run on a repository of its own, which is made.
fn run_on(floor: &Floor, repo: &str) -> Vec<String> {
    tokio::task::block_in_place(|| floor.desk.repo(repo, &[("a.txt", "a\n")]));
    let mut run: Vec<String> = RUN.iter().filter(|word| **word != "--yes").map(|word| (*word).to_owned()).collect();
    run[2] = format!("{repo}.git");
    run
}

fn detached(floor: &Floor, repo: &str) {
    let mut run = run_on(floor, repo);
    run.push("--detach".to_owned());
    floor.does(&run.iter().map(String::as_str).collect::<Vec<_>>()).ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_runs_on_a_day_that_is_nearly_spent_never_pass_it_and_a_raise_lets_them_go_on() {
    let floor = floor("").await;
    for n in 0..RUNS {
        detached(&floor, &format!("r{n}"));
    }
    let _service = floor.serve();
    // At every moment: what is spent and what is set aside together keep to the limit.
    let mut asked = 0;
    let began = std::time::Instant::now();
    while asked == 0 {
        let (spent, aside) = of_the_day(&floor).await;
        assert!(spent + aside <= DAY, "{spent} spent and {aside} set aside of {DAY}");
        let runs = floor.get("/api/v1/runs?limit=100").await;
        asked = count(&runs, |r| r["blocks"].to_string().contains("budget"));
        assert!(began.elapsed().as_secs() < 60, "nobody asks: {runs}");
    }
    // All of it is spent but for less than a call, by the server's own count, and nobody's work is blamed for it.
    let waiting = |r: &Value| !r["blocks"].as_array().unwrap().is_empty();
    floor.until("what was set aside is settled", || {
        let runs = floor.runs();
        runs.iter().all(|r| waiting(r) || r["wake_at"].is_i64() || r["phase"] == "ended")
    });
    let (spent, aside) = of_the_day(&floor).await;
    assert_eq!((spent, aside), (priced(&floor.models.served()).1, 0), "to the micro-USD");
    assert!(spent <= DAY && spent > DAY - 20_000, "{spent}");
    let runs = floor.runs();
    assert!(runs.iter().filter(|r| waiting(r)).all(|r| r["blocks"] == serde_json::json!(["budget"])), "{runs:?}");

    // The suggested raise, as a command.
    let blocked = runs.iter().find(|r| waiting(r)).unwrap();
    let shown = tokio::task::block_in_place(|| floor.desk.show(blocked["run"].as_str().unwrap()));
    let asked = &shown["escalations"][0];
    assert_eq!(asked["reason"], "the day budget is exhausted");
    assert!(asked["why"].as_str().unwrap().contains("$"), "{asked}");
    let raise = &asked["answers"][0];
    assert_eq!(
        (&raise["kind"], &raise["cost_micros"]),
        (&serde_json::json!("raise_shared"), &serde_json::json!(5_000_000))
    );
    floor.does(&["budget", "raise", "--day", "--cost", "5.00 USD"]).ends(0).says("continues");
    let blocked: Vec<&str> = runs.iter().filter(|r| waiting(r)).map(|r| r["run"].as_str().unwrap()).collect();
    floor.until("those that asked come home", || {
        let now = floor.runs();
        blocked.iter().all(|id| now.iter().any(|r| r["run"] == *id && r["status"] == "completed"))
    });
    let (spent, _) = of_the_day(&floor).await;
    assert!(spent > DAY, "{spent}");
}

/// What is spent and what is set aside of the day, whichever process did it.
async fn of_the_day(floor: &Floor) -> (u64, u64) {
    let rows = floor.get("/api/v1/spending?by=day").await;
    let of = |key: &str| rows[0][key].as_u64().unwrap_or(0);
    (of("cost_micros"), of("reserved_cost_micros"))
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_share_a_database_share_its_day() {
    let url = postgres::database().await;
    let floor = floor(&format!("[store]\nurl = {url:?}\n")).await;
    for n in 0..6 {
        detached(&floor, &format!("r{n}"));
    }
    let runs: Vec<Vec<String>> = (0..3).map(|n| run_on(&floor, &format!("alone{n}"))).collect();
    // Each with a data directory of its own: the only thing they have in common with the service is the database.
    let config = floor.desk.path("data/skep.toml");
    let alone = |(n, run): (usize, &Vec<String>)| {
        let mut command = floor.desk.skep(&run.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("SKEP_DATA_DIR", floor.desk.path(&format!("data{n}"))).env("SKEP_CONFIG", &config);
        let log = std::fs::File::create(floor.desk.path(&format!("log{n}"))).unwrap();
        Beside(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    };
    let others: Vec<Beside> = runs.iter().enumerate().map(alone).collect();
    let service = floor.serve();
    let home = |r: &Value| r["project"].as_str().is_some_and(|p| p.starts_with("alone"));
    let waits = |r: &Value| r["blocks"] == serde_json::json!(["budget"]);
    let began = std::time::Instant::now();
    loop {
        let (spent, aside) = of_the_day(&floor).await;
        assert!(spent + aside <= DAY, "{spent} spent and {aside} set aside of {DAY}");
        let runs = floor.get("/api/v1/runs?limit=100").await;
        let asleep = |r: &Value| waits(r) || r["wake_at"].is_i64() || r["phase"] == "ended";
        if count(&runs, waits) > 0 && count(&runs, asleep) == 9 && aside == 0 {
            break;
        }
        assert!(began.elapsed().as_secs() < 80, "nobody asks: {runs}");
    }
    let (spent, _) = of_the_day(&floor).await;
    assert_eq!(spent, priced(&floor.models.served()).1, "to the micro-USD");
    assert!(spent > DAY - 20_000, "{spent}");
    let rows = floor.get("/api/v1/spending?by=project").await;
    let took_part = |at_home: bool| {
        rows.as_array()
            .unwrap()
            .iter()
            .any(|r| r["cost_micros"].as_u64() > Some(0) && home(&serde_json::json!({"project": r["key"]})) != at_home)
    };
    assert!(took_part(true) && took_part(false), "both the service and another process have spent: {rows}");
    // A share of it was told once, by whichever came first.
    let mut told = Vec::new();
    for run in floor.get("/api/v1/runs?limit=100").await.as_array().unwrap() {
        let shown = floor.get(&format!("/api/v1/runs/{}", run["run"].as_str().unwrap())).await;
        let shares = shown["budget"]["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| (a["scope"].to_string(), a["percent"].as_u64()));
        told.extend(shares.filter(|(what, _)| what.contains("day")));
    }
    told.sort();
    let unique = told.len();
    told.dedup();
    // More may be spent between two looks than the way from one share to the next.
    assert!(unique == told.len() && told.iter().any(|(_, share)| *share >= Some(50)), "{told:?}");
    drop((others, service));
    postgres::drop_database(&url).await;
}

fn count(runs: &Value, is_so: impl Fn(&Value) -> bool) -> usize {
    runs.as_array().unwrap().iter().filter(|r| is_so(r)).count()
}
