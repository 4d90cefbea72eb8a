//! Checks inside a session: what fails goes back to the model that calls its work done.

use crate::support::baseline::{Baseline, ROLES, RUN, edits, usual};
use crate::support::models::{Models, Reply, Request, call};
use serde_json::{Value, json};
use skep::providers::settings::Api;

/// Start of what the model is told.
const SENT_BACK: &str = "Not finished yet. Skep ran the checks";
/// Red at the base with another exit code than after half of the work.
const TWO_PARTS: &str = "grep -q b a.txt || exit 1; test -f second.txt || { echo 'FAILED second part'; exit 2; }";

fn done() -> Reply {
    call("done", json!({"summary": "done"}))
}

fn write(path: &str) -> Reply {
    call("write", json!({"path": path, "content": "x\n"}))
}

fn shell(command: &str) -> Reply {
    call("run", json!({ "command": command }))
}

/// Carries out the standard story with another check and another dev.
async fn story(check: &str, more: &str, dev: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Baseline, Value) {
    let responder = move |request: &Request| if request.model() == "cheap" { dev(request) } else { usual(request) };
    let baseline = Baseline::new(Models::responding(responder).await, Api::OpenAi, &format!("{ROLES}{more}"));
    let args: Vec<&str> = RUN.iter().map(|a| if a.starts_with("grep") { check } else { a }).collect();
    baseline.run(&args).exits_with(0);
    let run = baseline.show();
    (baseline, run)
}

fn develop_attempts(run: &Value) -> usize {
    run["attempts"].as_array().unwrap().iter().filter(|a| a["step"] == "develop").count()
}

/// What the dev was told about its checks, each message once.
fn sent_back(baseline: &Baseline) -> Vec<String> {
    let seen = baseline.models.seen();
    let bodies = seen.iter().filter(|r| r.model() == "cheap").flat_map(|r| super::llm::results(&r.body));
    let mut messages: Vec<String> = bodies.filter(|text| text.starts_with(SENT_BACK)).collect();
    messages.sort();
    messages.dedup();
    messages
}

fn landed_files(baseline: &Baseline) -> String {
    crate::support::cli::git(&baseline.cli.path("tool.git"), &["ls-tree", "-r", "--name-only", "main"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_red_check_is_repaired_in_the_same_session() {
    let dev = |request: &Request| match request.turn() {
        3 => write("second.txt"),
        turn => edits(turn),
    };
    let (baseline, run) = story(TWO_PARTS, "", dev).await;
    assert_eq!(develop_attempts(&run), 1);
    let told = sent_back(&baseline);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("is red: exit code 2") && told[0].contains("  FAILED second part"), "{}", told[0]);
    assert!(landed_files(&baseline).contains("second.txt"));

    // Without it, the same work takes a second attempt with an order of its own.
    let dev = |request: &Request| match request.turn() {
        0 if request.body.to_string().contains("unfinished work of the last attempt") => write("second.txt"),
        1 if request.body.to_string().contains("unfinished work of the last attempt") => done(),
        turn => edits(turn),
    };
    let (baseline, run) = story(TWO_PARTS, "[engines]\nchecks_per_session = 0\n", dev).await;
    assert_eq!((develop_attempts(&run), sent_back(&baseline)), (2, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checks_run_at_most_as_often_as_allowed_and_not_again_on_the_same_work() {
    // Each repair is wrong in another way.
    let dev = |request: &Request| match request.turn() {
        0..=2 => edits(request.turn()),
        turn if turn % 2 == 1 && turn < 20 => write(&format!("wrong-{turn}.txt")),
        _ => done(),
    };
    let more = "[engines]\nchecks_per_session = 2\n[steps.develop]\ntries = 1\n";
    let responder = move |request: &Request| if request.model() == "cheap" { dev(request) } else { usual(request) };
    let baseline = Baseline::new(Models::responding(responder).await, Api::OpenAi, &format!("{ROLES}{more}"));
    let args: Vec<&str> = RUN.iter().map(|a| if a.starts_with("grep") { TWO_PARTS } else { a }).collect();
    baseline.run(&args).exits_with(4);
    // read + list, edit, done (1), write, done (2), write, done: accepted, and proven red.
    let calls = baseline.models.served().iter().filter(|s| s.model == "cheap").count();
    assert_eq!(calls, 7);
    assert!(baseline.show()["escalations"][0]["why"].as_str().unwrap().contains("FAILED second part"));

    // A model that changes nothing more stands by its work: the next attempt continues it.
    let dev = |request: &Request| match request.turn() {
        0 if request.body.to_string().contains("unfinished work of the last attempt") => write("second.txt"),
        turn => edits(turn),
    };
    let (baseline, run) = story(TWO_PARTS, "", dev).await;
    assert_eq!((develop_attempts(&run), sent_back(&baseline).len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_the_base_has_as_well_is_mentioned_once() {
    // In the session, a file that git ignores keeps the check red in the same way as at the base; a fresh checkout is
    // green.
    let check = "grep -q b a.txt && test ! -e junk.pyc";
    let dev = |request: &Request| match request.turn() {
        0 => shell("printf '*.pyc\\n' > .gitignore; touch junk.pyc"),
        1 => edits(1),
        _ => done(),
    };
    let (baseline, run) = story(check, "", dev).await;
    assert_eq!(develop_attempts(&run), 1);
    let told = sent_back(&baseline);
    assert!(told.len() == 1 && told[0].contains("failed in the same way before your change"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_checks_write_is_not_committed() {
    // New files and folders are removed, but not those of the change.
    let check = "grep -q b a.txt || exit 1; echo 1 > out/coverage.txt; mkdir -p 'de ps/x'; \
                 cd 'de ps/x' && seq 3000 | xargs touch";
    let dev = |request: &Request| match request.turn() {
        0 => write("out/mine.txt"),
        turn => edits(turn),
    };
    let (baseline, _) = story(check, "", dev).await;
    assert_eq!((sent_back(&baseline), landed_files(&baseline).trim()), (Vec::new(), "a.txt\nout/mine.txt"));

    // A changed file is for the model to restore, each time.
    let check = "grep -q b a.txt || exit 1; echo c >> a.txt";
    let dev = |request: &Request| match request.turn() {
        3 | 5 | 7 => shell("printf 'b\\n' > a.txt"),
        turn => edits(turn),
    };
    let (baseline, run) = story(check, "", dev).await;
    let told = sent_back(&baseline);
    assert!(told.len() == 1 && told[0].contains("would become part of your change: a.txt."), "{told:?}");
    assert_eq!((develop_attempts(&run), baseline.landed().as_str()), (1, "b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_was_called_done_is_proven_however_the_session_ends() {
    // Red in the session only; the model then goes in circles.
    let check = "grep -q b a.txt || exit 1; test ! -e junk.pyc || exit 3";
    let dev = |request: &Request| match request.turn() {
        0 => shell("printf '*.pyc\\n' > .gitignore; touch junk.pyc"),
        1 => edits(1),
        2 => done(),
        _ => call("read", json!({"path": "a.txt"})),
    };
    let (baseline, run) = story(check, "", dev).await;
    assert_eq!((develop_attempts(&run), sent_back(&baseline).len()), (1, 1));
    assert_eq!(baseline.landed(), "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_cannot_run_in_the_session_is_left_to_the_proof() {
    // The program is missing in the session only: it is found by a path that git ignores in no checkout.
    let check = "grep -q b a.txt || exit 1; test -e junk.pyc && exit 127; exit 0";
    let dev = |request: &Request| match request.turn() {
        0 => shell("printf '*.pyc\\n' > .gitignore; touch junk.pyc"),
        1 => edits(1),
        _ => done(),
    };
    let (baseline, run) = story(check, "", dev).await;
    assert_eq!((develop_attempts(&run), sent_back(&baseline)), (1, Vec::new()));
}
