//! Commits: acknowledged transitions are durable, and each transition of a batch succeeds or fails by itself.

use crate::support::runs::{finishing, moving, no_lease, opening, owner, run};
use crate::support::stores::{TestStore, fenced, permanent};
use skep::adapters::store::connect;
use skep::domain::{Phase, Run, Timestamp};
use skep::ports::leases::Lease;
use skep::ports::run_index::{Counts, RunFilter};

super::on_both!(
    acknowledged_transitions_survive_a_reopening,
    a_batch_commits_as_one,
    a_batch_may_contain_a_run_twice,
    a_gap_in_the_journal_is_refused,
    the_same_transition_again_succeeds,
    another_transition_with_the_same_number_is_fenced,
    an_inconsistent_transition_is_refused_alone,
    the_journal_is_append_only,
    concurrent_commits_all_succeed
);

async fn acknowledged_transitions_survive_a_reopening(b: TestStore) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    for phase in [Phase::Planning, Phase::Working, Phase::Reviewing] {
        b.commit(moving(&mut r, &lease, phase, 1)).await.expect("a transition");
    }
    let again = connect(&b.url).await.expect("the store, opened again");
    let again: &dyn skep::ports::Store = &again;
    assert_eq!(again.load(r.id).await.expect("a run"), Some(r.clone()));
    let rows = again.events(r.id, 0, 100).await.expect("its journal");
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(rows.iter().map(|row| row.epoch).collect::<Vec<_>>(), [0, 1, 1, 1]);
    assert_eq!(
        rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(),
        ["opened", "admitted", "paused", "paused"]
    );
    assert_eq!(rows[1].at, Timestamp(1_002));
    assert_eq!(rows[2].event.as_ref().expect("readable")["by"], "local:ann");
    let later = again.events(r.id, 2, 1).await.expect("its journal");
    assert_eq!(later.iter().map(|row| row.seq).collect::<Vec<_>>(), [3]);
    assert_eq!(again.load(run().id).await.expect("an answer"), None);
    again.ping().await.expect("a living store");
}

async fn a_batch_commits_as_one(b: TestStore) {
    let mut runs: Vec<Run> = (0..40).map(|_| run()).collect();
    let openings = runs.iter().map(|r| opening(r, no_lease(r.id))).collect();
    assert!(b.commit_batch(openings).await.iter().all(Result::is_ok));
    let mut batch = Vec::new();
    for r in &mut runs {
        let lease = b.take(r.id, "one").await;
        batch.push(moving(r, &lease, Phase::Planning, 3));
    }
    // New runs and old ones in one batch.
    let fresh = run();
    batch.push(opening(&fresh, no_lease(fresh.id)));
    assert!(b.commit_batch(batch).await.iter().all(Result::is_ok));
    for r in &runs {
        assert_eq!(b.store.load(r.id).await.expect("a run").as_ref(), Some(r));
    }
    assert_eq!(b.store.counts().await.expect("counts"), Counts { live: 40, waiting: 0 });
    assert!(b.commit_batch(Vec::new()).await.is_empty());
}

async fn a_batch_may_contain_a_run_twice(b: TestStore) {
    let mut r = run();
    let first = opening(&r, Lease { epoch: 1, ..no_lease(r.id) });
    let lease = first.lease.clone();
    let batch = vec![first, moving(&mut r, &lease, Phase::Planning, 1), finishing(&mut r, &lease, Phase::Working)];
    assert!(b.commit_batch(batch).await.iter().all(Result::is_ok));
    assert_eq!(b.store.load(r.id).await.expect("a run"), Some(r.clone()));
    assert_eq!(b.store.events(r.id, 0, 10).await.expect("a journal").len(), 3);
}

async fn a_gap_in_the_journal_is_refused(b: TestStore) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    r.seq = 5;
    assert!(fenced(&b.commit(moving(&mut r, &lease, Phase::Planning, 0)).await));
    let unknown = run();
    let lease = Lease { run: unknown.id, ..lease };
    assert!(fenced(&b.commit(moving(&mut unknown.clone(), &lease, Phase::Planning, 0)).await));
}

async fn the_same_transition_again_succeeds(b: TestStore) {
    let mut r = run();
    let first = opening(&r, no_lease(r.id));
    b.commit(first.clone()).await.expect("once");
    b.commit(first).await.expect("twice");
    let lease = b.take(r.id, "one").await;
    let second = moving(&mut r, &lease, Phase::Planning, 2);
    b.commit(second.clone()).await.expect("once");
    let third = moving(&mut r, &lease, Phase::Working, 0);
    // A transition whose acknowledgement was lost, and the one after it, in one batch with another run.
    let other = run();
    let batch = vec![second.clone(), opening(&other, no_lease(other.id)), third.clone()];
    assert!(b.commit_batch(batch).await.iter().all(Result::is_ok));
    b.commit(second).await.expect("a repeat that is no longer the last");
    // The same holds if the lease was lost in between, whoever owns the run now.
    b.take(r.id, "one").await;
    b.commit(third).await.expect("a repeat under an old epoch");
    assert_eq!(b.store.events(r.id, 0, 10).await.expect("a journal").len(), 3);
    let taken = b.store.acquire(r.id, &owner("one"), 60).await.expect("an answer").expect("a run");
    assert_eq!(taken.pending.len(), 2);
}

async fn another_transition_with_the_same_number_is_fenced(b: TestStore) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    let mut twin = r.clone();
    b.commit(moving(&mut r, &lease, Phase::Planning, 0)).await.expect("the first");
    let mut other = moving(&mut twin, &lease, Phase::Planning, 1);
    other.event = skep::domain::Event::Resumed { by: "local:bob".into() };
    assert!(fenced(&b.commit(other).await));
    assert_eq!(b.store.load(r.id).await.expect("a run"), Some(r));
}

async fn an_inconsistent_transition_is_refused_alone(b: TestStore) {
    let (good, other, mut twice) = (run(), run(), run());
    b.open(&twice).await;
    let lease = b.take(twice.id, "one").await;
    let mut doubled = moving(&mut twice, &lease, Phase::Planning, 1);
    doubled.effects.push(doubled.effects[0].clone());
    let batch = vec![opening(&good, no_lease(good.id)), opening(&other, no_lease(run().id)), doubled];
    let mut answers = b.commit_batch(batch).await;
    permanent(answers.remove(2));
    assert!(permanent(answers.remove(1)).0.contains("lease"));
    answers.remove(0).expect("the good one");
    assert!(b.store.load(other.id).await.expect("an answer").is_none());
    assert_eq!(b.store.events(twice.id, 0, 10).await.expect("a journal").len(), 1);
}

async fn the_journal_is_append_only(b: TestStore) {
    use sea_orm::ConnectionTrait;
    b.open(&run()).await;
    let db = sea_orm::Database::connect(&b.url).await.expect("a connection");
    for sql in ["UPDATE event SET at = 0", "DELETE FROM event"] {
        let refused = db.execute_unprepared(sql).await.expect_err("the journal must not be changed");
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
    db.close().await.expect("closing");
}

async fn concurrent_commits_all_succeed(b: TestStore) {
    let mut runs: Vec<Run> = (0..16).map(|_| run()).collect();
    let carried = runs.iter_mut().map(|r| {
        let b = &b;
        async move {
            b.open(r).await;
            let lease = b.take(r.id, "one").await;
            for n in 0..10 {
                b.commit(moving(r, &lease, Phase::Working, n % 3)).await.expect("a transition");
                b.store.list(&RunFilter { limit: 5, ..RunFilter::default() }).await.expect("a list meanwhile");
            }
        }
    });
    futures::future::join_all(carried).await;
    for r in &runs {
        let rows = b.store.events(r.id, 0, 100).await.expect("a journal");
        assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_lost_connection_leaves_the_outcome_unknown_and_a_repeat_settles_it() {
    crate::support::stores::on_postgres(async |b| {
        let mut r = run();
        b.open(&r).await;
        let lease = b.take(r.id, "one").await;
        let next = moving(&mut r, &lease, Phase::Planning, 1);
        b.damage(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
        let answer = b.commit(next.clone()).await;
        assert!(matches!(answer, Err(skep::ports::PortError::Unknown { .. })), "{answer:?}");
        b.commit(next).await.expect("the same again, on a new connection");
        assert_eq!(b.store.events(r.id, 0, 10).await.expect("a journal").len(), 2);
    })
    .await;
}
