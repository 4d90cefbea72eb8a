//! Reverts: a run takes back what another one has landed, with the checks, the review and the approval of every change.

use crate::support::browser::Browser;
use crate::support::program::git;
use crate::support::rest::{Reply, Service, service};
use serde_json::{Value, json};

/// Lands a line in `a.txt`, and returns the id of the run.
async fn landed(s: &Service) -> String {
    let run = s.open_run("make it two").await;
    let id = run["id"].as_str().expect("an id").to_owned();
    finish(s, &id).await;
    id
}

async fn finish(s: &Service, id: &str) {
    s.until(id, "blocked").await;
    let approved = s.post(&format!("/api/v1/runs/{id}/actions/approve"), &json!({})).await;
    assert_eq!(approved.status, 200, "{approved:?}");
    s.until(id, "completed").await;
}

async fn revert(s: &Service, id: &str, body: &Value) -> Reply {
    s.post(&format!("/api/v1/runs/{id}/actions/revert"), body).await
}

fn on_main(s: &Service, path: &str) -> String {
    git(&s.origin, &["show", &format!("main:{path}")])
}

/// Commits to the origin, as somebody else.
fn push(s: &Service, path: &str, text: &str) {
    let seed = s.origin.with_file_name("seed");
    git(&seed, &["pull", "-q", "../origin.git", "main"]);
    std::fs::write(seed.join(path), text).expect("a file");
    git(&seed, &["add", "."]);
    git(&seed, &["commit", "-qm", "later"]);
    git(&seed, &["push", "-q", "../origin.git", "HEAD:main"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_landed_is_taken_back_after_an_approval() {
    let s = service().await;
    let id = landed(&s).await;
    assert!(on_main(&s, "a.txt").contains("two"));
    // What landed later stays.
    push(&s, "b.txt", "later\n");
    let asked = json!({"text": "it is one too many", "checks": ["! grep -q two a.txt"]});
    let opened = revert(&s, &id, &asked).await;
    assert_eq!(opened.status, 201, "{opened:?}");
    let run = opened.json();
    assert_eq!(run["goal"]["source"], json!({"revert": {"run": id}}), "{run}");
    assert_eq!(run["goal"]["title"], "Revert \"make it two\"");
    assert!(run["goal"]["text"].as_str().expect("a text").ends_with("it is one too many"));
    // The same again, whatever the reason, is the same run.
    let again = revert(&s, &id, &json!({"text": "another reason"})).await;
    assert_eq!((again.status.as_u16(), &again.json()["id"]), (200, &run["id"]), "{again:?}");
    let reverting = run["id"].as_str().expect("an id");
    finish(&s, reverting).await;
    assert_eq!((on_main(&s, "a.txt"), on_main(&s, "b.txt")), ("one".to_owned(), "later".to_owned()));
    // A revert can be reverted.
    let back = revert(&s, reverting, &json!({"checks": ["grep -q two a.txt"]})).await;
    finish(&s, back.json()["id"].as_str().expect("an id")).await;
    assert_eq!(on_main(&s, "a.txt"), "one\ntwo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_come_off_cleanly_is_a_question_that_names_the_file() {
    let s = service().await;
    let id = landed(&s).await;
    push(&s, "a.txt", "one\ntwo, and more");
    let opened = revert(&s, &id, &json!({"checks": ["true"]})).await.json();
    let blocked = s.until(opened["id"].as_str().expect("an id"), "blocked").await;
    let why = blocked["escalations"].to_string();
    assert!(why.contains("a.txt"), "{why}");
    // Once it is cancelled, others open another run, and two of them at once the same one.
    let first = opened["id"].as_str().expect("an id");
    let cancelled = s.post(&format!("/api/v1/runs/{first}/actions/cancel"), &json!({})).await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    let asked = ["slow", "wrong"].map(|why| json!({"text": why, "checks": ["true"]}));
    let [one, two] =
        futures::future::join_all(asked.iter().map(|body| revert(&s, &id, body))).await.try_into().unwrap();
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!((statuses, &one.json()["id"]), ([200, 201], &two.json()["id"]), "{one:?} {two:?}");
    assert_eq!(on_main(&s, "a.txt"), "one\ntwo, and more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_has_landed_is_taken_back() {
    let s = service().await;
    let open = s.open_run("make it two").await;
    let id = open["id"].as_str().expect("an id").to_owned();
    revert(&s, &id, &json!({})).await.is_problem(409, "not_landed");
    revert(&s, "ffffffff", &json!({})).await.is_problem(404, "no_run");
    finish(&s, &id).await;
    revert(&s, &id, &json!({"text": "x".repeat(100_000)})).await.is_problem(422, "invalid");

    // On its page.
    let link = s.post("/api/v1/login-links", &json!({})).await.json();
    let path = link["path"].as_str().expect("a path").to_owned();
    let mut browser = Browser::new(&s);
    browser.open(&path).await.is(200);
    browser.submit(&path, &[]).await;
    let at = format!("/runs/{id}");
    assert!(browser.open(&at).await.is(200).contains("Start the revert"));
    let started = browser.send(&format!("{at}/revert"), &[("why", "no")]).await;
    assert!(started.header("location").ends_with("?notice=started"), "{started:?}");
}
