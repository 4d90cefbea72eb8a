//! The merge queue: approved runs land in batches, proven by one check of all of them; a run that breaks only together
//! with another one is put back and reworked, and a kill in the middle of a landing loses nothing.

use crate::support::cli::{BackgroundProcess, Cli, git};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::process::Stdio;

/// Green in a tree with the file of one run. In a merged tree it takes a while, and two of the files exclude each other.
const CHECK: &str = "n=$(ls | grep -c '^file-'); [ $n -lt 2 ] || sleep 3; ! { [ -e file-4 ] && [ -e file-8 ]; }";

struct Queue {
    cli: Cli,
    bare: std::path::PathBuf,
}

impl Queue {
    fn new(batch: u32, telemetry: &str) -> Queue {
        let cli = Cli::new();
        let bare = cli.repo("tool", &[("a.txt", "a\n")]);
        std::fs::create_dir_all(cli.path("data")).unwrap();
        let config = format!("[runs]\nmax_live_runs = 20\n[policy]\nlanding_batch = {batch}\n{telemetry}");
        std::fs::write(cli.path("data/skep.toml"), config).unwrap();
        Queue { cli, bare }
    }

    /// Starts a run for each of these files, waits until all ask for the approval of their merge, and returns their ids.
    fn asking(&self, files: &[usize]) -> Vec<String> {
        for n in files {
            // What conflicts with the file of the other run is written to another file.
            let engine = match n {
                4 => "command: if [ -e file-8 ]; then rm -f file-4; echo 4 > other-4; else echo 4 > file-4; fi"
                    .to_owned(),
                8 => "command: if [ -e file-4 ]; then rm -f file-8; echo 8 > other-8; else echo 8 > file-8; fi"
                    .to_owned(),
                n => format!("command: echo {n} > file-{n}"),
            };
            let goal = format!("Write {n}");
            let args = ["--repo", "tool.git", "--goal", &goal, "--engine", &engine, "--check", CHECK, "--detach"];
            self.cli.run(&[&["run"][..], &args].concat()).exits_with(0);
        }
        self.cli.until("all ask", || self.rows().iter().all(|(_, status)| status == "blocked"));
        self.rows().into_iter().map(|(run, _)| run).collect()
    }

    fn rows(&self) -> Vec<(String, String)> {
        let runs = self.cli.run(&["runs", "--json"]).exits_with(0).json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        runs["runs"].as_array().unwrap().iter().map(|r| (text(&r["run"]), text(&r["status"]))).collect()
    }

    /// Approves all of these at once.
    fn approve(&self, runs: &[String]) {
        std::thread::scope(|scope| {
            for run in runs {
                scope.spawn(|| self.cli.run(&["approve", run]));
            }
        });
    }

    fn files(&self) -> BTreeSet<String> {
        git(&self.bare, &["ls-tree", "--name-only", "main"]).lines().map(str::to_owned).collect()
    }

    fn serve_with_fault(&self, fault: &str) -> BackgroundProcess {
        let left = self.cli.path("data/service.json");
        let _nothing_left = std::fs::remove_file(&left);
        let mut command = self.cli.skep(&["serve", "--listen", "127.0.0.1:0"]);
        let child = command.env("SKEP_FAULT", fault).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let service = BackgroundProcess(child);
        self.cli.until("the service responds", || left.is_file());
        service
    }

    fn is_ended(&self, views: &[Value]) -> bool {
        views.iter().all(|view| view["status"] == "completed" || view["status"] == "blocked")
    }
}

/// Returns the number of checks of batches, as the metrics say.
fn batch_checks(port: u16) -> f64 {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let of_batches = |line: &&str| line.starts_with("skep_checks_total{") && line.contains("scope=\"batch\"");
    text.lines().filter(of_batches).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn approved_runs_land_in_batches_and_only_the_one_that_breaks_with_another_is_put_back() {
    const RUNS: usize = 10;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let queue = Queue::new(16, &format!("[telemetry]\nmetrics_listen = \"127.0.0.1:{port}\"\n"));
    let _service = queue.cli.serve();
    let runs = queue.asking(&(0..RUNS).collect::<Vec<_>>());
    queue.approve(&runs);
    let views = || runs.iter().map(|run| queue.cli.show(run)).collect::<Vec<_>>();
    // The one that was put back was reworked on the new base, and asks again.
    queue.cli.until("nine have landed, and one asks again", || {
        let views = views();
        queue.is_ended(&views) && views.iter().filter(|view| view["status"] == "completed").count() == RUNS - 1
    });
    let checks = batch_checks(port);
    assert!(checks < (RUNS - 1) as f64, "{checks} checks of batches, not fewer than one by one");

    let views = views();
    let log = git(&queue.bare, &["log", "--format=%H", "--reverse", "main"]);
    let history: Vec<&str> = log.lines().collect();
    assert_eq!(history.len(), 1 + RUNS - 1, "each change has a commit of its own");
    let files = queue.files();
    assert!(files.contains("file-4") != files.contains("file-8"), "{files:?}");
    let mut alone = 0;
    let mut together = 0;
    for view in views.iter().filter(|view| view["status"] == "completed") {
        let sha = view["outcome"]["delivered"]["sha"].as_str().unwrap();
        let at = history.iter().position(|commit| *commit == sha).expect("its commit is on the branch");
        let body = git(&queue.bare, &["log", "-1", "--format=%b", sha]);
        assert!(body.contains(&format!("Skep-Run: {}", view["id"].as_str().unwrap())), "{body}");
        let Some(proof) = view.get("batch") else {
            alone += 1;
            assert_eq!((at, view["head"].as_str()), (1, Some(sha)), "only the first landed by its own proof");
            continue;
        };
        let members: Vec<&str> = proof["runs"].as_array().unwrap().iter().map(|run| run.as_str().unwrap()).collect();
        together = together.max(members.len());
        // The commits from the base of the batch to the checked one are exactly those of its runs, in order.
        let position = |name: &str| history.iter().position(|commit| *commit == proof[name].as_str().unwrap()).unwrap();
        let (base, tip) = (position("base"), position("tip"));
        let of_run =
            |id: &&str| views.iter().find(|view| view["id"] == **id).unwrap()["outcome"]["delivered"]["sha"].as_str();
        let landed: Vec<&str> = members.iter().filter_map(of_run).collect();
        assert_eq!(landed, history[base + 1..=tip]);
        assert!(proof["results"].as_array().unwrap().iter().all(|result| result["green"] == true));
        let shown = queue.cli.run(&["show", view["short_id"].as_str().unwrap()]).exits_with(0).out;
        assert!(shown.contains(&format!("checked at {}", &history[tip][..7])), "{shown}");
    }
    assert!(alone == 1 && together > 1, "{alone} alone, at most {together} together");

    let back = views.iter().find(|view| view["status"] == "blocked").unwrap();
    let id = back["id"].as_str().unwrap();
    assert!(back["rounds"] == 1 && back["outcome"].is_null(), "{back}");
    let journal = queue.cli.run(&["events", id]).exits_with(0).out;
    assert!(journal.contains("put back by the merge queue: its checks are red on top of"), "{journal}");
    queue.cli.run(&["approve", id]).exits_with(0);
    queue.cli.until("it lands", || queue.cli.show(id)["outcome"]["delivered"].is_object());
    let files = queue.files();
    assert_eq!(files.iter().filter(|name| name.starts_with("file-") || name.starts_with("other-")).count(), RUNS);
}

#[test]
fn a_run_that_is_cancelled_or_paused_in_the_queue_leaves_its_batch() {
    let queue = Queue::new(8, "");
    let _service = queue.cli.serve();
    let runs = queue.asking(&[0, 1, 2, 3, 5]);
    queue.approve(&runs);
    // While the check of a batch takes its time.
    let is_landing = |run: &&String| queue.cli.show(run)["phase"] == "landing";
    queue.cli.until("two wait", || runs.iter().filter(is_landing).count() > 1);
    let waiting: Vec<String> = runs.iter().filter(is_landing).cloned().collect();
    let (cancelled, paused) = (&waiting[0], &waiting[1]);
    queue.cli.run(&["cancel", cancelled, "--why", "enough"]).exits_with(0);
    queue.cli.run(&["pause", paused]);
    queue.cli.until("the others have landed", || {
        let ended = |run: &&String| queue.cli.show(run)["status"] == "completed";
        runs.iter().filter(ended).count() >= runs.len() - 2 && queue.cli.show(cancelled)["phase"] == "ended"
    });
    // Whoever was faster decides: the request, or the landing that had begun.
    let landed = git(&queue.bare, &["rev-list", "--count", "main"]).trim().parse::<usize>().unwrap() - 1;
    let status = |run: &str| queue.cli.show(run)["status"].as_str().unwrap().to_owned();
    let delivered = runs.iter().filter(|run| status(run) == "completed").count();
    assert_eq!(landed, delivered, "nothing landed for a run that was cancelled");
    assert!(["cancelled", "completed"].contains(&status(cancelled).as_str()));
    queue.cli.run(&["resume", paused]);
    queue.cli.until("the paused one lands", || status(paused) == "completed");
}

#[test]
fn a_kill_while_a_batch_lands_loses_no_run_and_no_proof() {
    // The first landing is that of one change by its own proof, the second that of a batch.
    for fault in ["mid-land:2", "after-land-push:2"] {
        let queue = Queue::new(8, "");
        let service = RefCell::new(queue.serve_with_fault(fault));
        let runs = queue.asking(&[0, 1, 2, 3]);
        queue.approve(&runs);
        queue.cli.until("the service is killed", || service.borrow_mut().0.try_wait().unwrap().is_some());
        let landed = git(&queue.bare, &["rev-list", "--count", "main"]).trim().parse::<usize>().unwrap();
        let _service = queue.cli.serve_again();
        queue.cli.until("all have landed", || {
            let rows = queue.rows();
            // An approval that was lost with the service is given again.
            for (run, _) in rows.iter().filter(|(_, status)| status == "blocked") {
                queue.cli.run(&["approve", run]);
            }
            rows.iter().all(|(_, status)| status == "completed")
        });
        assert_eq!(queue.files().len(), 5, "{fault}");
        assert_eq!(git(&queue.bare, &["rev-list", "--count", "main"]), "5\n", "{fault}: each once");
        let views: Vec<Value> = runs.iter().map(|run| queue.cli.show(run)).collect();
        assert_eq!(views.iter().filter(|view| view.get("batch").is_none()).count(), 1, "{fault}: {views:?}");
        if fault.starts_with("after") {
            assert!(landed > 2, "the batch had landed");
        } else {
            assert_eq!(landed, 2, "the batch had not landed");
        }
    }
}

#[test]
fn one_by_one_is_the_default() {
    let queue = Queue::new(1, "");
    let _service = queue.cli.serve();
    let runs = queue.asking(&[0, 1]);
    queue.approve(&runs);
    queue.cli.until("one has landed, and the other asks again", || {
        let rows = queue.rows();
        rows.iter().any(|(_, status)| status == "completed") && rows.iter().any(|(_, status)| status == "blocked")
    });
    assert!(runs.iter().all(|run| queue.cli.show(run).get("batch").is_none()));
}
