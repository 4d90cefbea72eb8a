//! Schedules through the real program: what is due becomes one run, also if the service is killed in between, and what
//! passed while nothing ran is made up for once.

use crate::support::cli::{BackgroundProcess, Cli};
use serde_json::Value;
use skep::adapters::store::{SeaStore, connect};
use skep::domain::Timestamp;
use skep::ports::schedules::Schedules;
use std::process::Stdio;

const SCHEDULE: &str = "[schedules.weekly]\ncron = \"0 5 * * MON\"\ntimezone = \"Europe/Berlin\"\nproject = \"tool\"\n\
    goal = \"a.txt says b\"\n";

fn machine() -> Cli {
    let cli = Cli::new();
    cli.repo("tool", &[("a.txt", "a\n")]);
    std::fs::create_dir(cli.path("data")).unwrap();
    std::fs::write(cli.path("data/skep.toml"), format!("[policy]\nbase_checks = \"off\"\n{SCHEDULE}")).unwrap();
    let engine = ["--engine", "command: echo b > a.txt", "--check", "grep -q b a.txt"];
    cli.run(&[&["project", "add", "tool.git"][..], &engine[..]].concat()).exits_with(0);
    cli
}

async fn store(cli: &Cli) -> SeaStore {
    let home = std::fs::read_to_string(cli.path("data/home")).unwrap();
    let url = format!("sqlite:{}", cli.path("data/skep.db").display());
    connect(&url).await.unwrap().at_home(home.trim())
}

/// Makes the schedule due, as if its time had passed while no service was running.
async fn pass_a_time(cli: &Cli) {
    let store = store(cli).await;
    let mut state = store.schedules().await.unwrap().remove(0);
    state.next_at = Timestamp(1_000);
    store.put_schedule(&state).await.unwrap();
}

fn listed(cli: &Cli) -> Value {
    cli.run(&["schedule", "list", "--json"]).exits_with(0).json()["schedules"][0].clone()
}

fn runs(cli: &Cli) -> Vec<Value> {
    cli.run(&["runs", "--json"]).exits_with(0).json()["runs"].as_array().unwrap().clone()
}

fn serve_with_fault(cli: &Cli, fault: &str) -> BackgroundProcess {
    let mut command = cli.skep(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("SKEP_FAULT", fault).stdout(Stdio::null()).stderr(Stdio::null());
    BackgroundProcess(command.spawn().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missed_time_is_made_up_for_once_also_after_kills() {
    let cli = machine();
    {
        let _service = cli.serve();
        cli.until("the schedule was seen", || listed(&cli)["next_at"].is_i64());
        assert!(listed(&cli)["last_at"].is_null(), "a new schedule waits for its time");
    }
    pass_a_time(&cli).await;
    for fault in ["after-schedule-claim", "before-schedule-settle"] {
        let mut killed = serve_with_fault(&cli, fault);
        assert!(!killed.0.wait().unwrap().success(), "it is killed at {fault}");
    }
    let _service = cli.serve_again();
    cli.until("the run was started", || listed(&cli)["last_run"].is_string());
    let found = runs(&cli);
    assert_eq!(found.len(), 1, "{found:?}");
    let schedule = listed(&cli);
    assert_eq!((&schedule["last_run"], &schedule["last_at"]), (&found[0]["run"], &1_000.into()));
    assert!(schedule["next_at"].as_i64().unwrap() > 1_000_000_000_000, "{schedule}");
    let run = cli.show(&cli.newest());
    assert_eq!(run["goal"]["asked_by"], "schedule:weekly");
    assert_eq!(run["goal"]["source"]["schedule"]["name"], "weekly");
    cli.until("it waits for approval", || cli.show(&cli.newest())["escalations"][0]["code"] == "approve_merge");

    // While the run is open, starting it by hand leads to the same run.
    let by_hand = cli.run(&["schedule", "run", "weekly", "--json"]).exits_with(0).json();
    assert_eq!(by_hand["run"]["id"], found[0]["run"]);
    assert_eq!(runs(&cli).len(), 1);
    cli.run(&["schedule", "list"]).exits_with(0).prints("Europe/Berlin").prints("a.txt says b");
    cli.run(&["schedule", "run", "daily"])
        .exits_with(2)
        .one_error("there is no schedule \"daily\"", "skep schedule list");
}

/// An open run of the same goal would be found again in any case; one that has ended only by its stored id.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ended_while_nothing_was_settled_is_not_repeated() {
    let cli = machine();
    {
        let _service = cli.serve();
        cli.until("the schedule was seen", || listed(&cli)["next_at"].is_i64());
    }
    pass_a_time(&cli).await;
    let mut killed = serve_with_fault(&cli, "before-schedule-settle");
    assert!(!killed.0.wait().unwrap().success());
    cli.run(&["cancel", &cli.newest()]).exits_with(0);
    let _service = cli.serve_again();
    cli.until("it was settled", || listed(&cli)["last_run"].is_string());
    assert_eq!(runs(&cli).len(), 1, "{:?}", runs(&cli));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_started_is_told_and_not_repeated() {
    let cli = machine();
    {
        let _service = cli.serve();
        cli.until("the schedule was seen", || listed(&cli)["next_at"].is_i64());
    }
    cli.run(&["project", "remove", "tool"]).exits_with(0);
    pass_a_time(&cli).await;
    let _service = cli.serve_again();
    cli.until("it was tried", || listed(&cli)["last_error"].is_string());
    let schedule = listed(&cli);
    assert!(schedule["last_error"].as_str().unwrap().contains("tool"), "{schedule}");
    assert!(schedule["next_at"].as_i64().unwrap() > 1_000_000_000_000 && runs(&cli).is_empty(), "{schedule}");
    cli.run(&["schedule", "list"]).exits_with(0).prints("could not be started");
}

#[test]
fn a_schedule_that_improves_is_listed_and_opens_no_run() {
    let cli = machine();
    std::fs::write(cli.path("data/skep.toml"), "[schedules.look]\ncron = \"@weekly\"\ndo = \"improve\"\n").unwrap();
    cli.run(&["config", "check"]).exits_with(0);
    cli.run(&["schedule", "list"]).exits_with(0).prints("look").prints("all").prints("failures that recur");
    let listed = listed(&cli);
    assert!(listed["do"] == "improve" && listed["project"].is_null(), "{listed}");
    cli.run(&["schedule", "run", "look"]).exits_with(2).one_error("opens no run", "skep improve");
}

#[test]
fn a_schedule_that_cannot_work_is_refused_with_the_configuration() {
    let cli = machine();
    for (from, to, why) in [
        ("0 5 * * MON", "*/5 * * * *", "less than 15 minutes apart"),
        ("Europe/Berlin", "Europe/Bremen", "not a time zone"),
        ("project = \"tool\"\n", "", "a schedule needs cron, project and goal"),
        ("goal =", "gaol =", "unknown key"),
        ("goal =", "do = \"improve\"\ngoal =", "has no goal"),
        ("goal =", "do = \"tidy\"\ngoal =", "a schedule can do"),
        ("goal =", "as_issue = true\ngoal =", "writes issues"),
    ] {
        let text = SCHEDULE.replace(from, to);
        std::fs::write(cli.path("data/skep.toml"), text).unwrap();
        let checked = cli.run(&["config", "check"]).exits_with(78);
        assert!(format!("{}{}", checked.out, checked.err).contains(why), "{why}: {} {}", checked.out, checked.err);
    }
}
