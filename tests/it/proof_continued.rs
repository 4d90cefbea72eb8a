//! Retries of a model's work: the first continues what the last attempt left, the second starts clean.

use crate::support::baseline::{Baseline, ROLES, RUN, edits, usual};
use crate::support::models::{Models, Reply, Request, call};
use serde_json::{Value, json};
use skep::providers::settings::Api;

/// Part of the prompt of an attempt that continues.
const CONTINUES: &str = "holds the unfinished work of the last attempt";
/// Part of the prompt of a later attempt that does not.
const CLEAN: &str = "It starts from a clean copy";

fn says(request: &Request, text: &str) -> bool {
    request.body.to_string().contains(text)
}

fn done() -> Reply {
    call("done", json!({"summary": "done"}))
}

fn write(path: &str) -> Reply {
    call("write", json!({"path": path, "content": "x\n"}))
}

async fn baseline(more: &str, dev: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Baseline {
    let responder = move |request: &Request| if request.model() == "cheap" { dev(request) } else { usual(request) };
    Baseline::new(Models::responding(responder).await, Api::OpenAi, &format!("{ROLES}{more}"))
}

/// Which attempts at the task continued earlier work.
fn continued(run: &Value) -> Vec<bool> {
    let attempts = run["attempts"].as_array().unwrap().iter().filter(|a| a["step"] == "develop");
    attempts.map(|a| a["continues"].is_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_failed_its_checks_is_continued_once() {
    let check = "grep b a.txt && test -f second.txt && test -f third.txt";
    let args: Vec<&str> = RUN.iter().map(|a| if a.starts_with("grep") { check } else { a }).collect();
    let dev = |request: &Request| match request.turn() {
        // The second attempt adds to the first, and is still red.
        0 if says(request, CONTINUES) => call("run", json!({"command": "git diff"})),
        1 if says(request, CONTINUES) => write("second.txt"),
        _ if says(request, CONTINUES) => done(),
        // The third finds none of it.
        2 if says(request, CLEAN) => write("second.txt"),
        3 if says(request, CLEAN) => write("third.txt"),
        turn => edits(turn),
    };
    let baseline = baseline("[steps.develop]\ntries = 3\n", dev).await;
    baseline.run(&args).exits_with(0).prints("(try 2 of 3, continuing the unfinished work)");
    assert_eq!(baseline.landed(), "b");
    let run = baseline.show();
    assert_eq!(continued(&run), [false, true, false]);
    // The second attempt saw the first one's change as its own.
    let seen = baseline.models.seen();
    assert!(seen.iter().any(|r| says(r, CONTINUES) && says(r, "-a\\n+b")), "no diff was seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_ran_out_of_time_is_continued() {
    let dev = |request: &Request| match request.turn() {
        _ if says(request, CONTINUES) => done(),
        2 => call("run", json!({"command": "sleep 600"})),
        turn => edits(turn),
    };
    let baseline = baseline("[steps.develop]\ntimeout = \"4s\"\n", dev).await;
    baseline.run(RUN).exits_with(0);
    assert_eq!(baseline.landed(), "b");
    assert_eq!(continued(&baseline.show()), [false, true]);
}
