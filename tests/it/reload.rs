//! The configuration read again by a running service: new runs have it, a bad one is refused and named, the rest waits for a start.

use crate::support::baseline::{Baseline, RUN, edits};
use crate::support::cli::{Beside, Cli};
use crate::support::models::Models;
use rustix::process::{Pid, Signal, kill_process};
use skep::providers::settings::Api;
use std::fs::File;
use std::process::Stdio;

/// A service that looks at its file every second, its log in `log`.
fn serve(cli: &Cli) -> Beside {
    let log = File::create(cli.path("log")).unwrap();
    let mut command = cli.skep(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("SKEP_RUNS__SWEEP_INTERVAL", "1s").stdout(Stdio::null()).stderr(Stdio::from(log));
    let service = Beside(command.spawn().unwrap());
    cli.until("the service answers", || cli.path("data/service.json").is_file());
    service
}

fn said(cli: &Cli, text: &str) -> bool {
    std::fs::read_to_string(cli.path("log")).unwrap().contains(text)
}

fn write(cli: &Cli, text: &str) {
    // As editors do it: a new file in the old one's place.
    std::fs::write(cli.path("new.toml"), text).unwrap();
    std::fs::rename(cli.path("new.toml"), cli.path("data/skep.toml")).unwrap();
}

/// The most attempts a run opened now may have.
fn attempts_of_a_new_run(cli: &Cli, goal: &str) -> u64 {
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
    cli.does(&run).ends(0);
    cli.show(&cli.newest())["budget"]["limits"]["attempts"].as_u64().unwrap()
}

#[test]
fn a_service_takes_a_changed_file_over_for_new_runs_and_keeps_the_old_one_when_it_is_bad() {
    let cli = Cli::new();
    cli.repo("tool", &[("a", "a")]);
    std::fs::create_dir(cli.path("data")).unwrap();
    let service = serve(&cli);
    assert_eq!(attempts_of_a_new_run(&cli, "one"), 64);
    let first = cli.newest();

    // A file that was not there before.
    write(&cli, "[limits]\nattempts = 7\n[server]\nmax_streams = 9\n");
    cli.until("the new file is taken over", || said(&cli, "new runs have it"));
    assert!(said(&cli, "limits.attempts") && said(&cli, "restart Skep for them") && said(&cli, "server.max_streams"));
    assert_eq!(attempts_of_a_new_run(&cli, "two"), 7, "a known project follows, too");
    assert_eq!(cli.show(&first)["budget"]["limits"]["attempts"], 64, "a run keeps what it was born with");

    write(&cli, "[limits]\nattempts = \"hunter2\"\n");
    cli.until("the bad file is refused", || said(&cli, "the old one stays"));
    assert!(said(&cli, "a whole number from 1") && !said(&cli, "hunter2"));
    assert_eq!(attempts_of_a_new_run(&cli, "three"), 7);

    write(&cli, "[limits]\nattempts = 5\n");
    let pid = Pid::from_raw(i32::try_from(service.0.id()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    cli.until("it is mended", || attempts_of_a_new_run(&cli, &format!("{:?}", std::time::Instant::now())) == 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_called_as_often_as_its_limits_say_now() {
    let more =
        "[role.dev]\nengine = \"llm:acme/cheap\"\n[policy]\napprove_merge = false\n[runs]\nsweep_interval = \"1s\"\n";
    let baseline = Baseline::new(Models::think(|request| edits(request.turn())).await, Api::OpenAi, more);
    let text = std::fs::read_to_string(baseline.cli.path("data/skep.toml")).unwrap();
    baseline.configure(&text.replace("[prices]", "requests_per_minute = 1\n[prices]"));
    let run = |repo: &str| {
        let mut run: Vec<&str> = RUN.iter().copied().filter(|word| *word != "--yes").collect();
        run[2] = repo;
        run.push("--detach");
        baseline.does(&run).ends(0);
    };
    let _service = baseline.serve();
    run("tool.git");
    baseline.until("the one call of this minute", || baseline.models.seen().len() == 1);
    write(&baseline.cli, &text);
    baseline.until("the new file is taken over", || said(&baseline.cli, "new runs have it"));
    tokio::task::block_in_place(|| baseline.cli.repo("other", &[("a.txt", "a\n")]));
    run("other.git");
    // By the old numbers its three calls would take more than two minutes.
    baseline.until("a change lands", || {
        baseline.runs().iter().any(|r| r["project"] == "other" && r["status"] == "completed")
    });
}
