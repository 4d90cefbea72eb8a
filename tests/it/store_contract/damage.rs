//! Damaged rows: one run is quarantined, everything else continues.

use crate::support::runs::{finishing, moving, owner, run};
use crate::support::stores::{TestStore, fenced, permanent};
use skep::domain::{Phase, ProjectSet};
use skep::ports::run_index::{Counts, RunFilter, RunMatch};

super::on_both!(
    a_corrupt_snapshot_affects_one_run,
    a_newer_snapshot_affects_one_run,
    a_corrupt_effect_affects_one_run,
    a_corrupt_event_affects_one_row,
    a_quarantine_fences_the_owner_and_can_be_lifted
);

/// Damages one of two admitted runs and checks that the other continues and that the damaged one is listed.
async fn affects_one_run(b: &TestStore, damage: &str, reason: &str) {
    let mut runs = [run(), run()];
    for r in &mut runs {
        b.open(r).await;
        let lease = b.take(r.id, "one").await;
        b.commit(moving(r, &lease, Phase::Planning, 1)).await.expect("a transition");
        b.store.release(&lease).await.expect("releasing");
    }
    let [bad, good] = &mut runs;
    b.damage(&damage.replace("{bad}", &bad.id.to_string())).await;
    let (what, fix) = permanent(b.store.acquire(bad.id, &owner("two"), 60).await);
    assert!(what.contains(reason) && what.contains(&bad.id.to_string()), "{what}");
    assert!(!fix.is_empty());
    // The damaged run stays quarantined, with the reason.
    assert!(permanent(b.store.acquire(bad.id, &owner("two"), 60).await).0.contains(reason));

    let rows = b.store.list(&RunFilter { limit: 10, ..RunFilter::default() }).await.expect("a list");
    assert_eq!(rows.iter().map(|r| r.run).collect::<Vec<_>>(), [good.id, bad.id]);
    assert_eq!((rows[1].status.as_str(), rows[0].status.as_str()), ("quarantined", "planning"));
    assert!(rows[1].quarantined.as_ref().expect("a reason").contains(reason));
    assert_eq!(rows[1].title, "Add a greeting");
    let quarantined = RunFilter { status: Some("quarantined".to_owned()), limit: 10, ..RunFilter::default() };
    assert_eq!(b.store.list(&quarantined).await.expect("a list").len(), 1);

    assert_eq!(b.store.counts().await.expect("counts"), Counts { live: 1, waiting: 0 });
    assert_eq!(b.store.unfinished(&owner("two")).await.expect("a list"), [good.id]);
    b.store.ping().await.expect("a living store");
    let lease = b.take(good.id, "two").await;
    b.commit(finishing(good, &lease, Phase::Working)).await.expect("the other run's transition");
    assert_eq!(b.store.find(&bad.id.to_string(), &ProjectSet::All).await.expect("an answer"), RunMatch::One(bad.id));
    assert_eq!(b.store.events(bad.id, 0, 10).await.expect("a journal").len(), 2);
}

async fn a_corrupt_snapshot_affects_one_run(b: TestStore) {
    affects_one_run(&b, "UPDATE run SET snapshot = '{\"version\": 1' WHERE id = '{bad}'", "snapshot").await;
    let r = run();
    b.open(&r).await;
    b.damage(&format!("UPDATE run SET snapshot = 'x' WHERE id = '{}'", r.id)).await;
    assert!(permanent(b.store.load(r.id).await).0.contains("snapshot"));
}

async fn a_newer_snapshot_affects_one_run(b: TestStore) {
    affects_one_run(&b, "UPDATE run SET version = 99 WHERE id = '{bad}'", "version 99").await;
}

async fn a_corrupt_effect_affects_one_run(b: TestStore) {
    affects_one_run(&b, "UPDATE outbox SET body = '{\"effect\":\"dance\"}' WHERE run = '{bad}'", "effect 2.1").await;
}

async fn a_corrupt_event_affects_one_row(b: TestStore) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    b.commit(moving(&mut r, &lease, Phase::Planning, 0)).await.expect("a transition");
    let off = if b.sqlite() { "DROP TRIGGER event_no_update" } else { "DROP TRIGGER event_append_only ON event" };
    b.damage(off).await;
    b.damage("UPDATE event SET body = '{\"event\":' WHERE seq = 1").await;
    let rows = b.store.events(r.id, 0, 10).await.expect("a journal");
    assert_eq!(rows.iter().map(|row| row.event.is_some()).collect::<Vec<_>>(), [false, true]);
    assert_eq!((rows[0].name.as_str(), rows[0].seq), ("opened", 1));
    b.commit(moving(&mut r, &lease, Phase::Working, 0)).await.expect("the run continues");
}

async fn a_quarantine_fences_the_owner_and_can_be_lifted(b: TestStore) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    b.store.quarantine(r.id, "it killed\0 three processes").await.expect("a quarantine");
    assert!(fenced(&b.commit(moving(&mut r.clone(), &lease, Phase::Planning, 0)).await));
    assert!(b.store.queued(10).await.expect("a list").is_empty());
    assert!(permanent(b.store.acquire(r.id, &owner("one"), 60).await).0.contains("it killed three"));
    assert_eq!(b.store.load(r.id).await.expect("it can still be read"), Some(r.clone()));
    assert!(permanent(b.store.quarantine(run().id, "x").await).0.contains("no run"));

    assert!(b.store.lift_quarantine(r.id).await.expect("lifting"));
    assert!(!b.store.lift_quarantine(r.id).await.expect("lifting twice"));
    let lease = b.take(r.id, "one").await;
    b.commit(moving(&mut r, &lease, Phase::Planning, 0)).await.expect("the run continues");
}
