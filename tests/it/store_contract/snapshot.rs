//! Snapshots leave out the goal and the settings as long as they are those of the run's first event, and load whole.

use crate::support::runs::{moving, owner, run};
use crate::support::stores::{TestStore, permanent};
use skep::adapters::store::{codec, connect};
use skep::domain::{Phase, Run, Settings};
use std::sync::Arc;

super::on_both!(
    settings_of_the_opening_are_not_repeated,
    changed_settings_are_in_the_snapshot,
    a_snapshot_of_an_earlier_version_loads_and_stays_whole,
    a_damaged_first_event_quarantines_its_run
);

/// Checks with the database whether the run's snapshot has this member.
async fn has_member(b: &TestStore, r: &Run, name: &str) -> bool {
    let sql = format!("SELECT 1 FROM run WHERE id = '{}' AND snapshot LIKE '%\"{name}\":%'", r.id);
    b.count(&sql).await > 0
}

async fn settings_of_the_opening_are_not_repeated(b: TestStore) {
    let mut r = run();
    b.open(&r).await;
    assert!(!has_member(&b, &r, "settings").await && !has_member(&b, &r, "goal").await);
    assert_eq!(b.store.load(r.id).await.expect("a run"), Some(r.clone()));
    // The process that opened the run, and one that only loads it.
    for store in [b.store.clone(), Arc::new(connect(&b.url).await.expect("another process"))] {
        let taken = store.acquire(r.id, &owner("one"), 60).await.expect("acquiring").expect("a free run");
        assert_eq!(*taken.run, r);
        r = *taken.run;
        let results = store.commit(vec![moving(&mut r, &taken.lease, Phase::Planning, 0).into()]).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert!(!has_member(&b, &r, "settings").await && has_member(&b, &r, "phase").await);
        assert_eq!(store.load(r.id).await.expect("a run"), Some(r.clone()));
    }
}

async fn changed_settings_are_in_the_snapshot(b: TestStore) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    r.settings = Arc::new(Settings { base_branch: "next".to_owned(), ..Settings::clone(&r.settings) });
    b.commit(moving(&mut r, &lease, Phase::Planning, 0)).await.expect("a transition");
    assert!(has_member(&b, &r, "settings").await);
    assert_eq!(b.store.load(r.id).await.expect("a run"), Some(r.clone()));
    b.store.release(&lease).await.expect("releasing");
    let taken = b.store.acquire(r.id, &owner("two"), 60).await.expect("acquiring").expect("a free run");
    let mut r = *taken.run;
    b.commit(moving(&mut r, &taken.lease, Phase::Working, 0)).await.expect("a transition");
    assert_eq!(b.store.load(r.id).await.expect("a run"), Some(r));
}

async fn a_snapshot_of_an_earlier_version_loads_and_stays_whole(b: TestStore) {
    let r = run();
    b.open(&r).await;
    let whole = codec::encode_snapshot(&r).expect("a snapshot").replace('\'', "''");
    b.damage(&format!("UPDATE run SET snapshot = '{whole}' WHERE id = '{}'", r.id)).await;
    let store = connect(&b.url).await.expect("a process that did not open the run");
    let store: &dyn skep::ports::Store = &store;
    let taken = store.acquire(r.id, &owner("one"), 60).await.expect("acquiring").expect("a free run");
    assert_eq!(*taken.run, r);
    let mut r = *taken.run;
    let results = store.commit(vec![moving(&mut r, &taken.lease, Phase::Planning, 0).into()]).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert!(has_member(&b, &r, "settings").await);
    assert_eq!(store.load(r.id).await.expect("a run"), Some(r));
}

async fn a_damaged_first_event_quarantines_its_run(b: TestStore) {
    let r = run();
    b.open(&r).await;
    let off = if b.sqlite() { "DROP TRIGGER event_no_update" } else { "DROP TRIGGER event_append_only ON event" };
    b.damage(off).await;
    b.damage("UPDATE event SET body = '{\"event\":'").await;
    let (what, _) = permanent(b.store.acquire(r.id, &owner("one"), 60).await);
    assert!(what.contains("cannot read its first event"), "{what}");
}
