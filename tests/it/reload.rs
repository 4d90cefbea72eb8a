//! The configuration read again by a running service: new runs have it, a bad one is refused and named, the rest waits for a start.

use crate::support::baseline::{Floor, RUN, edits};
use crate::support::cli::{Beside, Cli};
use crate::support::models::Models;
use rustix::process::{Pid, Signal, kill_process};
use skep::providers::settings::Api;
use std::fs::File;
use std::process::Stdio;

/// A service that looks at its file every second, its log in `log`.
fn serve(desk: &Cli) -> Beside {
    let log = File::create(desk.path("log")).unwrap();
    let mut command = desk.skep(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("SKEP_RUNS__SWEEP_INTERVAL", "1s").stdout(Stdio::null()).stderr(Stdio::from(log));
    let service = Beside(command.spawn().unwrap());
    desk.until("the service answers", || desk.path("data/service.json").is_file());
    service
}

fn said(desk: &Cli, text: &str) -> bool {
    std::fs::read_to_string(desk.path("log")).unwrap().contains(text)
}

fn write(desk: &Cli, text: &str) {
    // As editors do it: a new file in the old one's place.
    std::fs::write(desk.path("new.toml"), text).unwrap();
    std::fs::rename(desk.path("new.toml"), desk.path("data/skep.toml")).unwrap();
}

/// The most attempts a run opened now may have.
fn attempts_of_a_new_run(desk: &Cli, goal: &str) -> u64 {
    let run = [
        "run",
        "--repo",
        "tool.git",
        "--goal",
        goal,
        "--engine",
        "command: true",
        "--check",
        "true",
        "--detach",
        "--json",
    ];
    desk.does(&run).ends(0);
    desk.show(&desk.newest())["budget"]["limits"]["attempts"].as_u64().unwrap()
}

#[test]
fn a_service_takes_a_changed_file_over_for_new_runs_and_keeps_the_old_one_when_it_is_bad() {
    let desk = Cli::new();
    desk.repo("tool", &[("a", "a")]);
    std::fs::create_dir(desk.path("data")).unwrap();
    let service = serve(&desk);
    assert_eq!(attempts_of_a_new_run(&desk, "one"), 64);
    let first = desk.newest();

    // A file that was not there before.
    write(&desk, "[limits]\nattempts = 7\n[server]\nmax_streams = 9\n");
    desk.until("the new file is taken over", || said(&desk, "new runs have it"));
    assert!(
        said(&desk, "limits.attempts") && said(&desk, "restart Skep for them") && said(&desk, "server.max_streams")
    );
    assert_eq!(attempts_of_a_new_run(&desk, "two"), 7, "a known project follows, too");
    assert_eq!(desk.show(&first)["budget"]["limits"]["attempts"], 64, "a run keeps what it was born with");

    write(&desk, "[limits]\nattempts = \"hunter2\"\n");
    desk.until("the bad file is refused", || said(&desk, "the old one stays"));
    assert!(said(&desk, "a whole number from 1") && !said(&desk, "hunter2"));
    assert_eq!(attempts_of_a_new_run(&desk, "three"), 7);

    write(&desk, "[limits]\nattempts = 5\n");
    let pid = Pid::from_raw(i32::try_from(service.0.id()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    desk.until("it is mended", || attempts_of_a_new_run(&desk, &format!("{:?}", std::time::Instant::now())) == 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_called_as_often_as_its_limits_say_now() {
    let more =
        "[role.dev]\nengine = \"llm:acme/cheap\"\n[policy]\napprove_merge = false\n[runs]\nsweep_interval = \"1s\"\n";
    let floor = Floor::new(Models::think(|request| edits(request.turn())).await, Api::OpenAi, more);
    let text = std::fs::read_to_string(floor.desk.path("data/skep.toml")).unwrap();
    floor.configure(&text.replace("[prices]", "per_minute = 1\n[prices]"));
    let run = |repo: &str| {
        let mut run: Vec<&str> = RUN.iter().copied().filter(|word| *word != "--yes").collect();
        run[2] = repo;
        run.push("--detach");
        floor.does(&run).ends(0);
    };
    let _service = floor.serve();
    run("tool.git");
    floor.until("the one call of this minute", || floor.models.seen().len() == 1);
    write(&floor.desk, &text);
    floor.until("the new file is taken over", || said(&floor.desk, "new runs have it"));
    tokio::task::block_in_place(|| floor.desk.repo("other", &[("a.txt", "a\n")]));
    run("other.git");
    // By the old numbers its three calls would take more than two minutes.
    floor
        .until("a change lands", || floor.runs().iter().any(|r| r["project"] == "other" && r["status"] == "completed"));
}
