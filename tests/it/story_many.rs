//! Many concurrent runs: slots are respected, all land on one base branch, none is lost, and cancelling is quick.

use crate::support::cli::{Cli, git};
use std::time::{Duration, Instant};

fn detach(desk: &Cli, n: usize, engine: &str) {
    let goal = format!("Write {n}");
    desk.does(&["run", "--repo", "tool.git", "--goal", &goal, "--engine", engine, "--check", "true", "--detach"])
        .ends(0);
}

fn rows(desk: &Cli) -> Vec<(String, String)> {
    let runs = desk.does(&["runs", "--json"]).ends(0).json();
    let row = |r: &serde_json::Value| (r["run"].as_str().unwrap().to_owned(), r["status"].as_str().unwrap().to_owned());
    runs["runs"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn runs_on_one_base_branch_all_land() {
    const RUNS: usize = 8;
    let desk = Cli::new();
    let bare = desk.repo("tool", &[("a.txt", "a\n")]);
    let _service = desk.serve();
    for n in 0..RUNS {
        detach(&desk, n, &format!("command: echo {n} > file-{n}"));
    }
    desk.until("all ask", || rows(&desk).iter().all(|(_, status)| status == "blocked"));
    for (run, _) in rows(&desk) {
        desk.does(&["approve", &run]).ends(0);
    }
    // When the base has moved, the rebased change needs a new approval.
    desk.until("all land", || {
        let rows = rows(&desk);
        for (run, _) in rows.iter().filter(|(_, status)| status == "blocked") {
            desk.does(&["approve", run]);
        }
        rows.iter().all(|(_, status)| status == "completed")
    });
    let files = git(&bare, &["ls-tree", "--name-only", "main"]);
    assert_eq!(files.lines().filter(|f| f.starts_with("file-")).count(), RUNS, "{files}");
}

#[test]
fn concurrent_commands_share_the_data_directory() {
    let desk = Cli::new();
    desk.repo("tool", &[("a.txt", "a\n")]);
    std::thread::scope(|scope| {
        let run = |n: usize| {
            let engine = format!("command: sleep 0.{n}; echo {n} > file-{n}");
            let goal = format!("Write {n}");
            desk.does(&["run", "--repo", "tool.git", "--goal", &goal, "--engine", &engine, "--check", "true"])
        };
        let runs: Vec<_> = (0..5).map(|n| scope.spawn(move || run(n))).collect();
        for run in runs {
            run.join().unwrap().ends(4).says("Escalation: the merge waits for approval");
        }
    });
    assert!(rows(&desk).iter().all(|(_, status)| status == "blocked"));
}

#[test]
fn a_run_without_a_slot_waits_and_cancelling_is_quick() {
    let desk = Cli::new();
    desk.repo("tool", &[("a.txt", "a\n")]);
    std::fs::create_dir_all(desk.path("data")).unwrap();
    std::fs::write(desk.path("data/skep.toml"), "[runs]\nmax_live_runs = 2\n").unwrap();
    let _service = desk.serve();
    for n in 0..3 {
        detach(&desk, n, "command: sleep 301");
    }
    let count = |word: &str| rows(&desk).iter().filter(|(_, status)| status == word).count();
    desk.until("two work", || count("running") == 2);
    assert_eq!(count("pending"), 1);
    for (run, _) in rows(&desk) {
        let began = Instant::now();
        desk.does(&["cancel", &run, "--why", "enough"]).ends(0);
        desk.until("it is over", || desk.show(&run)["status"] == "cancelled");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}
