//! Watches over what runs have landed: one for each run and data directory, replaced until it ends.

use crate::support::stores::TestStore;
use skep::domain::{ForgeName, LandingWatch, ProjectName, RunId, Sha, Timestamp, WatchState};
use skep::ports::LandingWatches;

on_both!(a_watch_is_replaced_until_it_ends);

fn watch(run: &str, since: i64) -> LandingWatch {
    LandingWatch {
        run: RunId::try_from(run.to_owned()).unwrap(),
        project: ProjectName::new("demo").unwrap(),
        origin: "https://example.org/my-org/calc.git".to_owned(),
        forge: ForgeName("github".to_owned()),
        branch: "main".to_owned(),
        base: Sha("a".repeat(40)),
        sha: Sha("b".repeat(40)),
        since: Timestamp(since),
        until: Timestamp(since + 7_200_000),
        state: WatchState::Watching,
        may_restart: false,
        restarted: Default::default(),
        ended_at: None,
    }
}

async fn a_watch_is_replaced_until_it_ends(b: TestStore) {
    let (first, second) = (watch("0192f0c1aaaa7bbb8ccc0123456789ab", 5), watch("0192f0c1aaaa7bbb8ccc0123456789ac", 3));
    assert_eq!(b.sea.landing_watch(first.run).await.expect("none"), None);
    for watch in [&first, &second] {
        b.sea.put_landing_watch(watch).await.expect("stored");
    }
    assert_eq!(b.sea.open_landing_watches().await.expect("open"), [second.clone(), first.clone()]);
    let blamed = WatchState::Blamed {
        sha: Sha("b".repeat(40)),
        green: Sha("a".repeat(40)),
        checks: vec!["it's \"new\"".to_owned()],
        revert: second.run,
        error: None,
    };
    let ended = first.clone().ended(blamed, Timestamp(9));
    b.sea.put_landing_watch(&ended).await.expect("replaced");
    assert_eq!(b.sea.landing_watch(first.run).await.expect("stored"), Some(ended));
    assert_eq!(b.sea.open_landing_watches().await.expect("open"), [second]);
    let elsewhere = b.sea.clone().at_home("elsewhere");
    assert!(elsewhere.open_landing_watches().await.expect("none").is_empty());
}
