//! Many runs at once on a day's budget that is nearly used up: what they spend together never passes it; more of it lets them go on.

use crate::support::floor::{Floor, RUN, edits, priced};
use crate::support::models::{Models, Request};
use serde_json::Value;
use skep::adapters::engine::settings::Api;

/// Runs at the same time.
const RUNS: usize = 16;
/// The day's budget, in micro-USD: enough for a few of them. A call takes about 5,000 and may take about 6,500.
const DAY: u64 = 60_000;

const CONFIG: &str = "[role.dev]\nengine = \"llm:acme/cheap\"\n[policy]\napprove_merge = false\n[runs]\nmax_live_runs = 16\n\
    max_reserved_slots = 16\n[steps.develop]\ncost = \"0.02 USD\"\n[budget]\nday_cost = \"0.06 USD\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_runs_on_a_day_that_is_nearly_spent_never_pass_it_and_a_raise_lets_them_go_on() {
    let mind = |request: &Request| edits(request.turn());
    let floor = Floor::new(Models::think(mind).await.large(), Api::OpenAi, CONFIG);
    let text = std::fs::read_to_string(floor.desk.path("data/skep.toml")).unwrap();
    floor.configure(&text.replace("[prices]", "max_output = 300\nconcurrency = 16\n[prices]"));
    let _service = floor.serve();
    for n in 0..RUNS {
        let repo = format!("r{n}");
        tokio::task::block_in_place(|| floor.desk.repo(&repo, &[("a.txt", "a\n")]));
        let mut run: Vec<&str> = RUN.to_vec();
        let origin = format!("{repo}.git");
        run[2] = &origin;
        run.push("--detach");
        run.retain(|word| *word != "--yes");
        floor.does(&run).ends(0);
    }
    let spending = async || {
        let rows = floor.get("/api/v1/spending?by=day").await;
        let of = |key: &str| rows[0][key].as_u64().unwrap_or(0);
        (of("cost_micros"), of("reserved_cost_micros"))
    };
    // At every moment: what is spent and what is set aside together keep to the limit.
    let mut asked = 0;
    let began = std::time::Instant::now();
    while asked == 0 {
        let (spent, aside) = spending().await;
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
    let (spent, aside) = spending().await;
    assert_eq!((spent, aside), (priced(&floor.models.served()).1, 0), "to the micro-USD");
    assert!(spent <= DAY && spent > DAY - 20_000, "{spent}");
    let runs = floor.runs();
    assert!(runs.iter().filter(|r| waiting(r)).all(|r| r["blocks"] == serde_json::json!(["budget"])), "{runs:?}");

    // The escalation's own command, word for word.
    let blocked = runs.iter().find(|r| waiting(r)).unwrap();
    let shown = tokio::task::block_in_place(|| floor.desk.show(blocked["run"].as_str().unwrap()));
    let asked = &shown["escalations"][0];
    assert_eq!(asked["reason"], "the day budget is used up");
    assert!(asked["why"].as_str().unwrap().contains("micro-USD"), "{asked}");
    let raise = asked["answers"][0].as_str().unwrap();
    assert_eq!(raise, "skep budget raise --day --cost \"5.00 USD\"");
    floor.does(&["budget", "raise", "--day", "--cost", "5.00 USD"]).ends(0).says("goes on");
    let blocked: Vec<&str> = runs.iter().filter(|r| waiting(r)).map(|r| r["run"].as_str().unwrap()).collect();
    floor.until("those that asked come home", || {
        let now = floor.runs();
        blocked.iter().all(|id| now.iter().any(|r| r["run"] == *id && r["status"] == "completed"))
    });
    let (spent, _) = spending().await;
    assert!(spent > DAY, "{spent}");
}

fn count(runs: &Value, is_so: impl Fn(&Value) -> bool) -> usize {
    runs.as_array().unwrap().iter().filter(|r| is_so(r)).count()
}
