//! Many concurrent runs: slots are respected, all land on one base branch, none is lost, and cancelling is quick.

use crate::support::cli::{Cli, git};
use std::time::{Duration, Instant};

fn detach(cli: &Cli, n: usize, engine: &str) {
    let goal = format!("Write {n}");
    cli.run(&["run", "--repo", "tool.git", "--goal", &goal, "--engine", engine, "--check", "true", "--detach"])
        .exits_with(0);
}

fn rows(cli: &Cli) -> Vec<(String, String)> {
    let runs = cli.run(&["runs", "--json"]).exits_with(0).json();
    let row = |r: &serde_json::Value| (r["run"].as_str().unwrap().to_owned(), r["status"].as_str().unwrap().to_owned());
    runs["runs"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn runs_on_one_base_branch_all_land() {
    const RUNS: usize = 8;
    let cli = Cli::new();
    let bare = cli.repo("tool", &[("a.txt", "a\n")]);
    let _service = cli.serve();
    for n in 0..RUNS {
        detach(&cli, n, &format!("command: echo {n} > file-{n}"));
    }
    cli.until("all ask", || rows(&cli).iter().all(|(_, status)| status == "blocked"));
    for (run, _) in rows(&cli) {
        cli.run(&["approve", &run]).exits_with(0);
    }
    // When the base has moved, the rebased change needs a new approval.
    cli.until("all land", || {
        let rows = rows(&cli);
        for (run, _) in rows.iter().filter(|(_, status)| status == "blocked") {
            cli.run(&["approve", run]);
        }
        rows.iter().all(|(_, status)| status == "completed")
    });
    let files = git(&bare, &["ls-tree", "--name-only", "main"]);
    assert_eq!(files.lines().filter(|f| f.starts_with("file-")).count(), RUNS, "{files}");
}

#[test]
fn concurrent_commands_share_the_data_directory() {
    let cli = Cli::new();
    cli.repo("tool", &[("a.txt", "a\n")]);
    std::thread::scope(|scope| {
        let run = |n: usize| {
            let engine = format!("command: sleep 0.{n}; echo {n} > file-{n}");
            let goal = format!("Write {n}");
            cli.run(&["run", "--repo", "tool.git", "--goal", &goal, "--engine", &engine, "--check", "true"])
        };
        let runs: Vec<_> = (0..5).map(|n| scope.spawn(move || run(n))).collect();
        for run in runs {
            run.join().unwrap().exits_with(4).prints("Escalation: the merge waits for approval");
        }
    });
    assert!(rows(&cli).iter().all(|(_, status)| status == "blocked"));
}

#[test]
fn a_run_without_a_slot_waits_and_cancelling_is_quick() {
    let cli = Cli::new();
    cli.repo("tool", &[("a.txt", "a\n")]);
    std::fs::create_dir_all(cli.path("data")).unwrap();
    std::fs::write(cli.path("data/skep.toml"), "[runs]\nmax_live_runs = 2\n").unwrap();
    let _service = cli.serve();
    for n in 0..3 {
        detach(&cli, n, "command: sleep 301");
    }
    let count = |word: &str| rows(&cli).iter().filter(|(_, status)| status == word).count();
    cli.until("two work", || count("running") == 2);
    assert_eq!(count("pending"), 1);
    for (run, _) in rows(&cli) {
        let began = Instant::now();
        cli.run(&["cancel", &run, "--why", "enough"]).exits_with(0);
        cli.until("it is over", || cli.show(&run)["status"] == "cancelled");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}
