//! Leases and the outbox: who may write, and what is resumed.

use crate::support::runs::{finishing, moving, no_lease, opening, owner, run};
use crate::support::stores::{TestStore, fenced, permanent};
use skep::adapters::store::connect;
use skep::domain::{EffectKey, Phase};
use skep::ports::leases::Lease;

super::on_both!(
    an_old_epoch_writes_nothing,
    a_fenced_transition_does_not_touch_its_batch,
    an_opened_run_has_no_owner,
    a_run_opened_with_an_epoch_belongs_to_its_opener,
    leases_are_acquired_renewed_expired_and_released,
    beginning_an_effect_is_counted,
    effects_are_returned_in_the_order_of_decision
);

async fn an_old_epoch_writes_nothing(b: TestStore) {
    let mut r = run();
    b.open(&r).await;
    let old = b.take(r.id, "one").await;
    let new = b.take(r.id, "one").await;
    assert_eq!(new.epoch, old.epoch + 1);
    let before = r.clone();
    assert!(fenced(&b.commit(moving(&mut r, &old, Phase::Planning, 1)).await));
    assert!(fenced(&b.store.begin_effect(&old, &EffectKey::from("2.1")).await));
    assert_eq!(b.store.load(r.id).await.expect("a run"), Some(before));
    assert_eq!(b.store.events(r.id, 0, 10).await.expect("a journal").len(), 1);
    assert!(b.store.unfinished(&owner("one")).await.expect("a list").is_empty());
}

async fn a_fenced_transition_does_not_touch_its_batch(b: TestStore) {
    let mut runs = [run(), run(), run()];
    let mut batch = Vec::new();
    for r in &mut runs {
        b.open(r).await;
        let lease = b.take(r.id, "one").await;
        batch.push(moving(r, &lease, Phase::Planning, 2));
    }
    b.take(runs[1].id, "one").await;
    let answers = b.commit_batch(batch).await;
    assert!(answers[0].is_ok() && fenced(&answers[1]) && answers[2].is_ok());
    let lengths = [2, 1, 2];
    for (r, length) in runs.iter().zip(lengths) {
        assert_eq!(b.store.events(r.id, 0, 10).await.expect("a journal").len(), length);
    }
    let unfinished = b.store.unfinished(&owner("one")).await.expect("a list");
    assert_eq!(unfinished, [runs[0].id, runs[2].id]);
}

async fn an_opened_run_has_no_owner(b: TestStore) {
    let mut r = run();
    b.open(&r).await;
    let unowned = no_lease(r.id);
    assert!(fenced(&b.commit(moving(&mut r, &unowned, Phase::Planning, 0)).await));
    assert_eq!(b.take(r.id, "two").await.epoch, 1);
}

async fn a_run_opened_with_an_epoch_belongs_to_its_opener(b: TestStore) {
    let mut r = run();
    let lease = Lease { run: r.id, owner: owner("one"), epoch: 1 };
    b.commit(opening(&r, lease.clone())).await.expect("opening");
    assert!(b.store.acquire(r.id, &owner("two"), 60).await.expect("an answer").is_none());
    b.commit(moving(&mut r, &lease, Phase::Planning, 0)).await.expect("its next transition");
    assert!(b.store.renew(&[lease], 60).await.expect("an answer").is_empty());
}

async fn leases_are_acquired_renewed_expired_and_released(b: TestStore) {
    let mut r = run();
    b.open(&r).await;
    let one = b.take(r.id, "one").await;
    assert!(b.store.acquire(r.id, &owner("two"), 60).await.expect("an answer").is_none());
    b.commit(moving(&mut r, &one, Phase::Planning, 1)).await.expect("a transition");
    assert!(b.store.unfinished(&owner("two")).await.expect("a list").is_empty());
    assert_eq!(b.store.unfinished(&owner("one")).await.expect("a list"), [r.id]);

    // With a duration of 0 s the lease expires at once, but its owner may still write until another owner acquires it.
    assert!(b.store.renew(std::slice::from_ref(&one), 0).await.expect("an answer").is_empty());
    assert_eq!(b.store.unfinished(&owner("two")).await.expect("a list"), [r.id]);
    b.commit(moving(&mut r, &one, Phase::Working, 0)).await.expect("a late transition");
    let two = b.take(r.id, "two").await;
    assert_eq!((two.epoch, two.owner.clone()), (one.epoch + 1, owner("two")));
    let unknown = Lease { run: run().id, ..two.clone() };
    let lost = b.store.renew(&[one.clone(), two.clone(), unknown.clone()], 60).await.expect("an answer");
    assert_eq!(lost, [r.id, unknown.run]);
    assert!(b.store.renew(&[], 60).await.expect("an answer").is_empty());

    b.store.release(&one).await.expect("releasing a lost lease succeeds");
    assert!(b.store.acquire(r.id, &owner("three"), 60).await.expect("an answer").is_none());
    b.store.release(&two).await.expect("releasing");
    assert!(fenced(&b.commit(moving(&mut r.clone(), &two, Phase::Working, 0)).await));
    let three = b.store.acquire(r.id, &owner("three"), 60).await.expect("an answer").expect("a free run");
    assert_eq!(three.lease.epoch, two.epoch + 1);
    assert_eq!(*three.run, r);
    assert!(permanent(b.store.acquire(run().id, &owner("one"), 60).await).0.contains("no run"));
}

async fn beginning_an_effect_is_counted(b: TestStore) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    b.commit(moving(&mut r, &lease, Phase::Planning, 1)).await.expect("a transition");
    let key = EffectKey::from("2.1");
    assert_eq!(b.store.begin_effect(&lease, &key).await.expect("a count"), 1);
    assert_eq!(b.store.begin_effect(&lease, &key).await.expect("a count"), 2);
    let again = connect(&b.url).await.expect("the store, opened again");
    let taken = skep::ports::Leases::acquire(&again, r.id, &owner("one"), 60).await.expect("an answer").expect("a run");
    assert_eq!(taken.pending.iter().map(|p| p.begun).collect::<Vec<_>>(), [2]);
    assert!(fenced(&b.store.begin_effect(&lease, &key).await));
    b.store.withdraw_effect(&lease, &key).await.expect("nothing to do without the lease");
    assert_eq!(b.store.begin_effect(&taken.lease, &key).await.expect("a count"), 3);
    for _ in 0..5 {
        b.store.withdraw_effect(&taken.lease, &key).await.expect("a start is taken back");
    }
    assert_eq!(b.store.begin_effect(&taken.lease, &key).await.expect("a count"), 1);
    b.commit(finishing(&mut r, &taken.lease, Phase::Working)).await.expect("a transition");
    assert!(permanent(b.store.begin_effect(&taken.lease, &key).await).0.contains("not pending"));
}

async fn effects_are_returned_in_the_order_of_decision(b: TestStore) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    for _ in 0..10 {
        b.commit(moving(&mut r, &lease, Phase::Working, 11)).await.expect("a transition");
    }
    let taken = b.store.acquire(r.id, &owner("one"), 60).await.expect("an answer").expect("a run");
    let keys: Vec<String> = taken.pending.into_iter().map(|p| p.key.0).collect();
    let expected: Vec<String> = (2..12).flat_map(|seq| (1..12).map(move |n| format!("{seq}.{n}"))).collect();
    assert_eq!(keys, expected);
}
