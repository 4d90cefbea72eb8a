//! What changed since a person last looked, on the page of the changes.

use super::logged_in;
use crate::git_world::git;
use crate::support::rest::{Service, service};
use serde_json::json;
use skep::domain::{Principal, RunId, Sha, Timestamp};
use skep::ports::seen_changes::SeenChange;
use std::time::Duration;

/// Adds a file at the first try, and another one after that.
const ENGINE: &str =
    "command:if [ -e first.txt ]; then cat \"$SKEP_NOTES_FILE\" > second.txt; else seq 1 9 > first.txt; fi";

/// Waits until the run asks another question than this one, and returns its number.
async fn next_question(s: &Service, id: &str, before: &str) -> String {
    for _ in 0..600 {
        let run = s.until(id, "blocked").await;
        match run["escalations"][0]["block"].as_str() {
            Some(block) if block != before => return block.to_owned(),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("the run {id} never asked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_sees_what_changed_since_they_last_looked() {
    let s = service().await;
    let mut browser = logged_in(&s).await;
    let mut new = s.new_run("write two files");
    new["engines"]["dev"] = json!(ENGINE);
    new["checks"] = json!(["test -f first.txt"]);
    let id = s.post("/api/v1/runs", &new).await.json()["id"].as_str().expect("an id").to_owned();
    s.until(&id, "blocked").await;
    let page = format!("/runs/{id}/changes");
    for path in [page.clone(), format!("{page}?since=seen")] {
        let first = browser.open(&path).await.is(200);
        assert!(first.contains("first.txt") && !first.contains("Since you last looked"), "nothing was seen: {first}");
    }
    let declined = browser.send_form(&format!("/q/{id}/b1"), &[("answer", "decline"), ("text", "another file")]).await;
    assert_eq!(declined.status, 303, "{declined:?}");
    let block = next_question(&s, &id, "b1").await;

    // However often the page is opened, what was seen before stays the same until the changes are others.
    for _ in 0..2 {
        let all = browser.open(&page).await.is(200);
        assert!(all.contains("first.txt") && all.contains("second.txt"), "{all}");
        assert!(all.contains("Since you last looked") && all.contains(&format!("{page}?since=seen")), "{all}");
        let since = browser.open(&format!("{page}?since=seen&view=split")).await.is(200);
        assert!(since.contains("id=\"f0\" data-path=\"second.txt\"") && !since.contains("first.txt"), "{since}");
        // The decision is about all of it, and a comment stays on what is shown.
        assert!(since.contains("Your decision") && since.contains("since=seen&amp;at=0:1#decision"), "{since}");
        let comment = browser.open(&format!("{page}?since=seen&at=0:1")).await.is(200);
        assert!(comment.contains(">second.txt:1: </textarea>"), "{comment}");
    }
    // Somebody else has not seen anything, nor has a program that reads the diff.
    let other = Principal::from("user:ann");
    let seen = SeenChange {
        base: Sha::from("1".repeat(40).as_str()),
        head: Sha::from("2".repeat(40).as_str()),
        at: Timestamp(1),
    };
    let run =
        s.state.services.store.load(RunId::try_from(id.clone()).expect("an id")).await.expect("read").expect("a run");
    assert_eq!(s.state.services.seen_changes.see(&other, run.id, &seen).await.expect("stored"), None);

    // The base moves: the changes are rebased, and that alone is nothing new.
    let seed = s.origin.parent().expect("a folder").join("seed");
    std::fs::write(seed.join("other.txt"), "of somebody else\n").expect("a file");
    git(&seed, &["add", "."]);
    git(&seed, &["commit", "-qm", "second"]);
    git(&seed, &["push", "-q", &s.origin.display().to_string(), "main"]);
    s.state.services.runtime.refresh(run.id).await;
    next_question(&s, &id, &block).await;
    let rebased = browser.open(&format!("{page}?since=seen")).await.is(200);
    assert!(
        rebased.contains("Nothing of the changes is different.") && rebased.contains("The base has moved"),
        "{rebased}"
    );
    assert!(!rebased.contains("other.txt") && rebased.contains("Your decision"), "{rebased}");
}
