//! What people saw: the version before the last one is returned, for each person and run.

use crate::git_world::run_id;
use crate::support::stores::TestStore;
use skep::domain::{Principal, Sha, Timestamp};
use skep::ports::seen_changes::{SeenChange, SeenChanges};

on_both!(the_version_that_was_seen_before_is_returned, of_concurrent_views_one_moves_what_was_seen);

fn version(base: &str, head: &str, at: i64) -> SeenChange {
    SeenChange { base: Sha::from(base), head: Sha::from(head), at: Timestamp(at) }
}

async fn the_version_that_was_seen_before_is_returned(b: TestStore) {
    let (ann, bob, run) = (Principal::from("user:ann"), Principal::from("user:bob"), run_id(1));
    let see = async |who: &Principal, seen: &SeenChange| b.sea.see(who, run, seen).await.expect("stored");
    let [first, second, rebased] = [version("b1", "h1", 10), version("b1", "h2", 20), version("b2", "h2", 30)];
    assert_eq!(see(&ann, &first).await, None);
    assert_eq!(see(&ann, &SeenChange { at: Timestamp(15), ..first.clone() }).await, None, "the same again");
    assert_eq!(see(&ann, &second).await, Some(first.clone()));
    assert_eq!(see(&ann, &SeenChange { at: Timestamp(25), ..second.clone() }).await, Some(first.clone()));
    assert_eq!(see(&ann, &rebased).await, Some(second.clone()), "another base is another version");
    // Other people, runs and data directories have their own.
    assert_eq!(see(&bob, &rebased).await, None);
    assert_eq!(b.sea.see(&ann, run_id(2), &rebased).await.expect("stored"), None);
    assert_eq!(b.sea.clone().at_home("elsewhere").see(&ann, run, &second).await.expect("stored"), None);
    b.sea.forget_seen(Timestamp(30)).await.expect("forgotten");
    assert_eq!(see(&ann, &rebased).await, Some(second), "what was seen last is kept");
    b.sea.forget_seen(Timestamp(31)).await.expect("forgotten");
    assert_eq!(see(&ann, &first).await, None);
}

async fn of_concurrent_views_one_moves_what_was_seen(b: TestStore) {
    let (ann, run) = (Principal::from("user:ann"), run_id(1));
    let (first, second) = (version("b1", "h1", 10), version("b1", "h2", 20));
    b.sea.see(&ann, run, &first).await.expect("stored");
    for seen in futures::future::join_all((0..8).map(|_| b.sea.see(&ann, run, &second))).await {
        assert_eq!(seen.expect("stored"), Some(first.clone()));
    }
}
