//! Configuration reload of a running service: new runs use it, an invalid file is refused, other keys need a restart.

use crate::support::baseline::{Baseline, RUN, edits};
use crate::support::cli::{BackgroundProcess, Cli};
use crate::support::models::Models;
use rustix::process::{Pid, Signal, kill_process};
use skep::providers::settings::Api;
use std::fs::File;
use std::process::Stdio;

/// Starts a service that checks its file every second and logs to `log`.
fn serve(cli: &Cli) -> BackgroundProcess {
    let log = File::create(cli.path("log")).unwrap();
    let mut command = cli.skep(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("SKEP_RUNS__SWEEP_INTERVAL", "1s").stdout(Stdio::null()).stderr(Stdio::from(log));
    let service = BackgroundProcess(command.spawn().unwrap());
    cli.until("the service answers", || cli.path("data/service.json").is_file());
    service
}

fn logged(cli: &Cli, text: &str) -> bool {
    std::fs::read_to_string(cli.path("log")).unwrap().contains(text)
}

fn write(cli: &Cli, text: &str) {
    // Replace the file with a new one, as editors do.
    std::fs::write(cli.path("new.toml"), text).unwrap();
    std::fs::rename(cli.path("new.toml"), cli.path("data/skep.toml")).unwrap();
}

/// The attempt limit of a new run.
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
    cli.run(&run).exits_with(0);
    cli.show(&cli.newest())["budget"]["limits"]["attempts"].as_u64().unwrap()
}

#[test]
fn a_changed_file_applies_to_new_runs_and_an_invalid_one_is_refused() {
    let cli = Cli::new();
    cli.repo("tool", &[("a", "a")]);
    std::fs::create_dir(cli.path("data")).unwrap();
    let service = serve(&cli);
    assert_eq!(attempts_of_a_new_run(&cli, "one"), 64);
    let first = cli.newest();

    // The file did not exist before.
    write(&cli, "[limits]\nattempts = 7\n[server]\nmax_streams = 9\n");
    cli.until("the new file is loaded", || logged(&cli, "new runs use it"));
    assert!(
        logged(&cli, "limits.attempts")
            && logged(&cli, "restart Skep to apply them")
            && logged(&cli, "server.max_streams")
    );
    assert_eq!(attempts_of_a_new_run(&cli, "two"), 7, "a known project does not use the new limit");
    assert_eq!(cli.show(&first)["budget"]["limits"]["attempts"], 64, "an open run changed its limit");

    write(&cli, "[limits]\nattempts = \"hunter2\"\n");
    cli.until("the invalid file is refused", || logged(&cli, "the previous configuration stays in effect"));
    assert!(logged(&cli, "a whole number from 1") && !logged(&cli, "hunter2"));
    assert_eq!(attempts_of_a_new_run(&cli, "three"), 7);

    write(&cli, "[limits]\nattempts = 5\n");
    let pid = Pid::from_raw(i32::try_from(service.0.id()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    cli.until("the fixed file is loaded", || {
        attempts_of_a_new_run(&cli, &format!("{:?}", std::time::Instant::now())) == 5
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_provider_limits_apply_at_once() {
    let more =
        "[role.dev]\nengine = \"llm:acme/cheap\"\n[policy]\napprove_merge = false\n[runs]\nsweep_interval = \"1s\"\n";
    let baseline = Baseline::new(Models::responding(|request| edits(request.turn())).await, Api::OpenAi, more);
    let text = std::fs::read_to_string(baseline.cli.path("data/skep.toml")).unwrap();
    baseline.configure(&text.replace("[prices]", "requests_per_minute = 1\n[prices]"));
    let run = |repo: &str| {
        let mut run: Vec<&str> = RUN.iter().copied().filter(|word| *word != "--yes").collect();
        run[2] = repo;
        run.push("--detach");
        baseline.run(&run).exits_with(0);
    };
    let _service = baseline.serve();
    run("tool.git");
    baseline.until("the only call of this minute", || baseline.models.seen().len() == 1);
    write(&baseline.cli, &text);
    baseline.until("the new file is loaded", || logged(&baseline.cli, "new runs use it"));
    tokio::task::block_in_place(|| baseline.cli.repo("other", &[("a.txt", "a\n")]));
    run("other.git");
    // With the old limit, the run's three calls would take more than two minutes.
    baseline.until("a change lands", || {
        baseline.runs().iter().any(|r| r["project"] == "other" && r["status"] == "completed")
    });
}
