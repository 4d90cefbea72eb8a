//! What every store must do, on SQLite and on Postgres alike.

use crate::support::runs::{finishing, moving, no_lease, opening, owner, project, run};
use crate::support::stores::{Bench, fenced, permanent};
use skep::adapters::store::{ARTIFACT_BYTES_MAX, connect, migrate, status};
use skep::domain::{
    ArtifactKind, At, Block, BlockId, BlockKind, ChangeNumber, ChangeRef, Digest, EffectKey, Phase, Policy, Project,
    Run, RunId, Sha,
};
use skep::ports::store::{Counts, Found, Lease, RunFilter};
use std::collections::BTreeMap;

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { crate::support::stores::on_sqlite(super::$name).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { crate::support::stores::on_postgres(super::$name).await; })*
        }
    };
}

on_both!(
    acknowledged_transitions_survive_a_reopening,
    a_batch_commits_as_one,
    a_batch_may_hold_one_run_twice,
    an_old_epoch_writes_nothing,
    a_fenced_transition_does_not_touch_its_batch,
    a_gap_in_the_journal_is_refused,
    the_same_transition_again_is_done,
    another_transition_of_the_same_number_is_fenced,
    a_transition_that_contradicts_itself_is_refused_alone,
    an_opened_run_has_no_owner,
    a_run_opened_with_an_epoch_is_its_openers,
    leases_are_taken_renewed_expired_and_given_back,
    begin_counts_before_the_act,
    effects_come_back_in_the_order_of_decision,
    a_corrupt_snapshot_is_one_runs_matter,
    a_newer_snapshot_is_one_runs_matter,
    a_corrupt_effect_is_one_runs_matter,
    a_corrupt_event_is_one_rows_matter,
    a_quarantine_fences_the_owner_and_can_be_lifted,
    the_journal_is_append_only,
    a_newer_schema_is_refused,
    an_older_schema_is_refused_and_migrated,
    two_processes_migrate_once,
    lists_filter_and_page,
    runs_are_found_by_both_ends,
    counts_tell_live_from_waiting,
    artifacts_are_kept_once,
    projects_are_written_and_replaced,
    a_read_only_store_says_so,
    concurrent_commits_all_land,
);

async fn acknowledged_transitions_survive_a_reopening(b: Bench) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    for phase in [Phase::Planning, Phase::Working, Phase::Reviewing] {
        b.commit(moving(&mut r, &lease, phase, 1)).await.expect("a transition");
    }
    let again = connect(&b.url).await.expect("the store, opened again");
    let again: &dyn skep::ports::Store = &again;
    assert_eq!(again.load(r.id).await.expect("a run"), Some(r.clone()));
    let rows = again.journal(r.id, 0, 100).await.expect("its journal");
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(rows.iter().map(|row| row.epoch).collect::<Vec<_>>(), [0, 1, 1, 1]);
    assert_eq!(
        rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(),
        ["opened", "admitted", "paused", "paused"]
    );
    assert_eq!(rows[1].at, At(1_002));
    assert_eq!(rows[2].event.as_ref().expect("readable")["by"], "local:ann");
    let later = again.journal(r.id, 2, 1).await.expect("its journal");
    assert_eq!(later.iter().map(|row| row.seq).collect::<Vec<_>>(), [3]);
    assert_eq!(again.load(run().id).await.expect("an answer"), None);
    again.ping().await.expect("a living store");
}

async fn a_batch_commits_as_one(b: Bench) {
    let mut runs: Vec<Run> = (0..40).map(|_| run()).collect();
    let openings = runs.iter().map(|r| opening(r, no_lease(r.id))).collect();
    assert!(b.store.commit(openings).await.iter().all(Result::is_ok));
    let mut batch = Vec::new();
    for r in &mut runs {
        let lease = b.take(r.id, "one").await;
        batch.push(moving(r, &lease, Phase::Planning, 3));
    }
    // New runs and old ones in one batch.
    let fresh = run();
    batch.push(opening(&fresh, no_lease(fresh.id)));
    assert!(b.store.commit(batch).await.iter().all(Result::is_ok));
    for r in &runs {
        assert_eq!(b.store.load(r.id).await.expect("a run").as_ref(), Some(r));
    }
    assert_eq!(b.store.counts().await.expect("counts"), Counts { live: 40, waiting: 0 });
    assert!(b.store.commit(Vec::new()).await.is_empty());
}

async fn a_batch_may_hold_one_run_twice(b: Bench) {
    let mut r = run();
    let first = opening(&r, Lease { epoch: 1, ..no_lease(r.id) });
    let lease = first.lease.clone();
    let batch = vec![first, moving(&mut r, &lease, Phase::Planning, 1), finishing(&mut r, &lease, Phase::Working)];
    assert!(b.store.commit(batch).await.iter().all(Result::is_ok));
    assert_eq!(b.store.load(r.id).await.expect("a run"), Some(r.clone()));
    assert_eq!(b.store.journal(r.id, 0, 10).await.expect("a journal").len(), 3);
}

async fn an_old_epoch_writes_nothing(b: Bench) {
    let mut r = run();
    b.open(&r).await;
    let old = b.take(r.id, "one").await;
    let new = b.take(r.id, "one").await;
    assert_eq!(new.epoch, old.epoch + 1);
    let before = r.clone();
    assert!(fenced(&b.commit(moving(&mut r, &old, Phase::Planning, 1)).await));
    assert!(fenced(&b.store.begin(&old, &EffectKey::from("2.1")).await));
    assert_eq!(b.store.load(r.id).await.expect("a run"), Some(before));
    assert_eq!(b.store.journal(r.id, 0, 10).await.expect("a journal").len(), 1);
    assert!(b.store.unfinished(&owner("one")).await.expect("a list").is_empty());
}

async fn a_fenced_transition_does_not_touch_its_batch(b: Bench) {
    let mut runs = [run(), run(), run()];
    let mut batch = Vec::new();
    for r in &mut runs {
        b.open(r).await;
        let lease = b.take(r.id, "one").await;
        batch.push(moving(r, &lease, Phase::Planning, 2));
    }
    b.take(runs[1].id, "one").await;
    let answers = b.store.commit(batch).await;
    assert!(answers[0].is_ok() && fenced(&answers[1]) && answers[2].is_ok());
    let lengths = [2, 1, 2];
    for (r, length) in runs.iter().zip(lengths) {
        assert_eq!(b.store.journal(r.id, 0, 10).await.expect("a journal").len(), length);
    }
    let unfinished = b.store.unfinished(&owner("one")).await.expect("a list");
    assert_eq!(unfinished, [runs[0].id, runs[2].id]);
}

async fn a_gap_in_the_journal_is_refused(b: Bench) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    r.seq = 5;
    assert!(fenced(&b.commit(moving(&mut r, &lease, Phase::Planning, 0)).await));
    let unknown = run();
    let lease = Lease { run: unknown.id, ..lease };
    assert!(fenced(&b.commit(moving(&mut unknown.clone(), &lease, Phase::Planning, 0)).await));
}

async fn the_same_transition_again_is_done(b: Bench) {
    let mut r = run();
    let first = opening(&r, no_lease(r.id));
    b.commit(first.clone()).await.expect("once");
    b.commit(first).await.expect("twice");
    let lease = b.take(r.id, "one").await;
    let second = moving(&mut r, &lease, Phase::Planning, 2);
    b.commit(second.clone()).await.expect("once");
    let third = moving(&mut r, &lease, Phase::Working, 0);
    // The lost acknowledgement of one, and the next, in one batch with another run's.
    let other = run();
    let batch = vec![second.clone(), opening(&other, no_lease(other.id)), third.clone()];
    assert!(b.store.commit(batch).await.iter().all(Result::is_ok));
    b.commit(second).await.expect("a repeat that is no longer the last");
    // Also when the lease was lost in between: it is done, whoever has the run now.
    b.take(r.id, "one").await;
    b.commit(third).await.expect("a repeat under an old epoch");
    assert_eq!(b.store.journal(r.id, 0, 10).await.expect("a journal").len(), 3);
    let taken = b.store.take(r.id, &owner("one"), 60).await.expect("an answer").expect("a run");
    assert_eq!(taken.pending.len(), 2);
}

async fn another_transition_of_the_same_number_is_fenced(b: Bench) {
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

async fn a_transition_that_contradicts_itself_is_refused_alone(b: Bench) {
    let (good, other, mut twice) = (run(), run(), run());
    b.open(&twice).await;
    let lease = b.take(twice.id, "one").await;
    let mut doubled = moving(&mut twice, &lease, Phase::Planning, 1);
    doubled.effects.push(doubled.effects[0].clone());
    let batch = vec![opening(&good, no_lease(good.id)), opening(&other, no_lease(run().id)), doubled];
    let mut answers = b.store.commit(batch).await;
    permanent(answers.remove(2));
    assert!(permanent(answers.remove(1)).0.contains("lease"));
    answers.remove(0).expect("the good one");
    assert!(b.store.load(other.id).await.expect("an answer").is_none());
    assert_eq!(b.store.journal(twice.id, 0, 10).await.expect("a journal").len(), 1);
}

async fn an_opened_run_has_no_owner(b: Bench) {
    let mut r = run();
    b.open(&r).await;
    let nobodys = no_lease(r.id);
    assert!(fenced(&b.commit(moving(&mut r, &nobodys, Phase::Planning, 0)).await));
    assert_eq!(b.take(r.id, "two").await.epoch, 1);
}

async fn a_run_opened_with_an_epoch_is_its_openers(b: Bench) {
    let mut r = run();
    let lease = Lease { run: r.id, owner: owner("one"), epoch: 1 };
    b.commit(opening(&r, lease.clone())).await.expect("opening");
    assert!(b.store.take(r.id, &owner("two"), 60).await.expect("an answer").is_none());
    b.commit(moving(&mut r, &lease, Phase::Planning, 0)).await.expect("its next transition");
    assert!(b.store.renew(&[lease], 60).await.expect("an answer").is_empty());
}

async fn leases_are_taken_renewed_expired_and_given_back(b: Bench) {
    let mut r = run();
    b.open(&r).await;
    let one = b.take(r.id, "one").await;
    assert!(b.store.take(r.id, &owner("two"), 60).await.expect("an answer").is_none());
    b.commit(moving(&mut r, &one, Phase::Planning, 1)).await.expect("a transition");
    assert!(b.store.unfinished(&owner("two")).await.expect("a list").is_empty());
    assert_eq!(b.store.unfinished(&owner("one")).await.expect("a list"), [r.id]);

    // No seconds: it is over at once, and the owner may still write until another takes it.
    assert!(b.store.renew(std::slice::from_ref(&one), 0).await.expect("an answer").is_empty());
    assert_eq!(b.store.unfinished(&owner("two")).await.expect("a list"), [r.id]);
    b.commit(moving(&mut r, &one, Phase::Working, 0)).await.expect("a late transition");
    let two = b.take(r.id, "two").await;
    assert_eq!((two.epoch, two.owner.clone()), (one.epoch + 1, owner("two")));
    let unknown = Lease { run: run().id, ..two.clone() };
    let lost = b.store.renew(&[one.clone(), two.clone(), unknown.clone()], 60).await.expect("an answer");
    assert_eq!(lost, [r.id, unknown.run]);
    assert!(b.store.renew(&[], 60).await.expect("an answer").is_empty());

    b.store.give_back(&one).await.expect("a lease that is another's is given back already");
    assert!(b.store.take(r.id, &owner("three"), 60).await.expect("an answer").is_none());
    b.store.give_back(&two).await.expect("giving back");
    assert!(fenced(&b.commit(moving(&mut r.clone(), &two, Phase::Working, 0)).await));
    let three = b.store.take(r.id, &owner("three"), 60).await.expect("an answer").expect("a free run");
    assert_eq!(three.lease.epoch, two.epoch + 1);
    assert_eq!(*three.run, r);
    assert!(permanent(b.store.take(run().id, &owner("one"), 60).await).0.contains("no run"));
}

async fn begin_counts_before_the_act(b: Bench) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    b.commit(moving(&mut r, &lease, Phase::Planning, 1)).await.expect("a transition");
    let key = EffectKey::from("2.1");
    assert_eq!(b.store.begin(&lease, &key).await.expect("a count"), 1);
    assert_eq!(b.store.begin(&lease, &key).await.expect("a count"), 2);
    let again = connect(&b.url).await.expect("the store, opened again");
    let taken = skep::ports::Store::take(&again, r.id, &owner("one"), 60).await.expect("an answer").expect("a run");
    assert_eq!(taken.pending.iter().map(|p| p.begun).collect::<Vec<_>>(), [2]);
    assert!(fenced(&b.store.begin(&lease, &key).await));
    b.commit(finishing(&mut r, &taken.lease, Phase::Working)).await.expect("a transition");
    assert!(permanent(b.store.begin(&taken.lease, &key).await).0.contains("not pending"));
}

async fn effects_come_back_in_the_order_of_decision(b: Bench) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    for _ in 0..10 {
        b.commit(moving(&mut r, &lease, Phase::Working, 11)).await.expect("a transition");
    }
    let taken = b.store.take(r.id, &owner("one"), 60).await.expect("an answer").expect("a run");
    let keys: Vec<String> = taken.pending.into_iter().map(|p| p.key.0).collect();
    let expected: Vec<String> = (2..12).flat_map(|seq| (1..12).map(move |n| format!("{seq}.{n}"))).collect();
    assert_eq!(keys, expected);
}

/// Damages one of two admitted runs and checks that the other goes on, and that the damaged one is shown, not lost.
async fn one_runs_matter(b: &Bench, damage: &str, told: &str) {
    let mut runs = [run(), run()];
    for r in &mut runs {
        b.open(r).await;
        let lease = b.take(r.id, "one").await;
        b.commit(moving(r, &lease, Phase::Planning, 1)).await.expect("a transition");
        b.store.give_back(&lease).await.expect("giving back");
    }
    let [bad, good] = &mut runs;
    b.damage(&damage.replace("{bad}", &bad.id.to_string())).await;
    let (what, fix) = permanent(b.store.take(bad.id, &owner("two"), 60).await);
    assert!(what.contains(told) && what.contains(&bad.id.to_string()), "{what}");
    assert!(!fix.is_empty());
    // Once put aside it stays so, and says why.
    assert!(permanent(b.store.take(bad.id, &owner("two"), 60).await).0.contains(told));

    let rows = b.store.list(&RunFilter { limit: 10, ..RunFilter::default() }).await.expect("a list");
    assert_eq!(rows.iter().map(|r| r.run).collect::<Vec<_>>(), [good.id, bad.id]);
    assert_eq!((rows[1].status.as_str(), rows[0].status.as_str()), ("quarantined", "planning"));
    assert!(rows[1].quarantined.as_ref().expect("a reason").contains(told));
    assert_eq!(rows[1].title, "Add a greeting");
    let aside = RunFilter { status: Some("quarantined".to_owned()), limit: 10, ..RunFilter::default() };
    assert_eq!(b.store.list(&aside).await.expect("a list").len(), 1);

    assert_eq!(b.store.counts().await.expect("counts"), Counts { live: 1, waiting: 0 });
    assert_eq!(b.store.unfinished(&owner("two")).await.expect("a list"), [good.id]);
    b.store.ping().await.expect("a living store");
    let lease = b.take(good.id, "two").await;
    b.commit(finishing(good, &lease, Phase::Working)).await.expect("the other run's transition");
    assert_eq!(b.store.find(&bad.id.to_string()).await.expect("an answer"), Found::One(bad.id));
    assert_eq!(b.store.journal(bad.id, 0, 10).await.expect("a journal").len(), 2);
}

async fn a_corrupt_snapshot_is_one_runs_matter(b: Bench) {
    one_runs_matter(&b, "UPDATE run SET snapshot = '{\"version\": 1' WHERE id = '{bad}'", "snapshot").await;
    let r = run();
    b.open(&r).await;
    b.damage(&format!("UPDATE run SET snapshot = 'x' WHERE id = '{}'", r.id)).await;
    assert!(permanent(b.store.load(r.id).await).0.contains("snapshot"));
}

async fn a_newer_snapshot_is_one_runs_matter(b: Bench) {
    one_runs_matter(&b, "UPDATE run SET version = 99 WHERE id = '{bad}'", "form 99").await;
}

async fn a_corrupt_effect_is_one_runs_matter(b: Bench) {
    one_runs_matter(&b, "UPDATE outbox SET body = '{\"effect\":\"dance\"}' WHERE run = '{bad}'", "effect 2.1").await;
}

async fn a_corrupt_event_is_one_rows_matter(b: Bench) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    b.commit(moving(&mut r, &lease, Phase::Planning, 0)).await.expect("a transition");
    let off = if b.sqlite() { "DROP TRIGGER event_no_update" } else { "DROP TRIGGER event_append_only ON event" };
    b.damage(off).await;
    b.damage("UPDATE event SET body = '{\"event\":' WHERE seq = 1").await;
    let rows = b.store.journal(r.id, 0, 10).await.expect("a journal");
    assert_eq!(rows.iter().map(|row| row.event.is_some()).collect::<Vec<_>>(), [false, true]);
    assert_eq!((rows[0].name.as_str(), rows[0].seq), ("opened", 1));
    b.commit(moving(&mut r, &lease, Phase::Working, 0)).await.expect("the run goes on");
}

async fn a_quarantine_fences_the_owner_and_can_be_lifted(b: Bench) {
    let mut r = run();
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    b.store.quarantine(r.id, "it killed\0 three processes").await.expect("a quarantine");
    assert!(fenced(&b.commit(moving(&mut r.clone(), &lease, Phase::Planning, 0)).await));
    assert!(b.store.queued(10).await.expect("a list").is_empty());
    assert!(permanent(b.store.take(r.id, &owner("one"), 60).await).0.contains("it killed three"));
    assert_eq!(b.store.load(r.id).await.expect("it can still be read"), Some(r.clone()));
    assert!(permanent(b.store.quarantine(run().id, "x").await).0.contains("no run"));

    assert!(b.sea.lift_quarantine(r.id).await.expect("lifting"));
    assert!(!b.sea.lift_quarantine(r.id).await.expect("lifting twice"));
    let lease = b.take(r.id, "one").await;
    b.commit(moving(&mut r, &lease, Phase::Planning, 0)).await.expect("it goes on");
}

async fn the_journal_is_append_only(b: Bench) {
    use sea_orm::ConnectionTrait;
    b.open(&run()).await;
    let db = sea_orm::Database::connect(&b.url).await.expect("a connection");
    for sql in ["UPDATE event SET at = 0", "DELETE FROM event"] {
        let refused = db.execute_unprepared(sql).await.expect_err("the journal must not be changed");
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
    db.close().await.expect("closing");
}

async fn a_newer_schema_is_refused(b: Bench) {
    b.damage("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29990101_000001_beyond', 0)").await;
    for answer in [connect(&b.url).await.map(|_| ()), migrate(&b.url).await.map(|_| ())] {
        let (what, fix) = permanent(answer);
        assert!(what.contains("m29990101_000001_beyond") && fix.contains("newer Skep"), "{what}: {fix}");
    }
    assert_eq!(status(&b.url).await.expect("a status").unknown, ["m29990101_000001_beyond"]);
}

async fn an_older_schema_is_refused_and_migrated(b: Bench) {
    let steps = status(&b.url).await.expect("a status");
    assert!(steps.pending.is_empty() && steps.unknown.is_empty() && !steps.applied.is_empty());
    assert!(migrate(&b.url).await.expect("nothing to do").is_empty());
    for table in ["run_artifact", "artifact", "project", "run", "event", "outbox", "seaql_migrations"] {
        b.damage(&format!("DROP TABLE {table}")).await;
    }
    if !b.sqlite() {
        b.damage("DROP FUNCTION event_append_only").await;
    }
    let (what, fix) = permanent(connect(&b.url).await);
    assert!(what.contains(&steps.applied[0]) && fix.contains("migrate"), "{what}: {fix}");
    // A store whose table is gone under its feet says the same.
    assert!(permanent(b.store.counts().await).1.contains("migrate"));
    assert_eq!(migrate(&b.url).await.expect("the schema"), steps.applied);
    connect(&b.url).await.expect("the store");
}

async fn two_processes_migrate_once(b: Bench) {
    let url = if b.sqlite() { format!("{}2", b.url) } else { crate::support::postgres::database().await };
    let answers = futures::future::join_all((0..4).map(|_| migrate(&url))).await;
    let applied: Vec<usize> = answers.into_iter().map(|a| a.expect("the schema").len()).collect();
    assert_eq!(applied.iter().filter(|n| **n > 0).count(), 1, "{applied:?}");
    if !b.sqlite() {
        crate::support::postgres::drop_database(&url).await;
    }
}

async fn lists_filter_and_page(b: Bench) {
    let mut runs: Vec<Run> = (0..7).map(|_| run()).collect();
    runs[3].project = project("other");
    for r in &mut runs {
        b.open(r).await;
    }
    let lease = b.take(runs[0].id, "one").await;
    b.commit(moving(&mut runs[0], &lease, Phase::Ended, 0)).await.expect("an end");
    let lease = b.take(runs[1].id, "one").await;
    runs[1].blocks.push(Block { id: BlockId(1), kind: BlockKind::Rounds, why: "no more".to_owned(), since: At(5) });
    b.commit(moving(&mut runs[1], &lease, Phase::Working, 0)).await.expect("a block");
    let ids: Vec<RunId> = runs.iter().map(|r| r.id).rev().collect();

    let list = async |filter: RunFilter| b.store.list(&filter).await.expect("a list");
    let all = list(RunFilter { limit: 100, ..RunFilter::default() }).await;
    assert_eq!(all.iter().map(|r| r.run).collect::<Vec<_>>(), ids);
    let blocked = &all[5];
    assert_eq!((blocked.status.as_str(), blocked.phase.as_str(), blocked.seq), ("blocked", "working", 2));
    assert_eq!(blocked.blocks, ["rounds"]);
    assert_eq!((blocked.opened_at, blocked.updated_at), (At(1_000), At(1_002)));
    assert_eq!((all[6].status.as_str(), all[0].status.as_str()), ("completed", "pending"));
    assert!(blocked.quarantined.is_none());

    let first = list(RunFilter { limit: 3, ..RunFilter::default() }).await;
    let next = list(RunFilter { limit: 3, before: Some(first[2].run), ..RunFilter::default() }).await;
    assert_eq!(first.iter().chain(&next).map(|r| r.run).collect::<Vec<_>>(), ids[..6]);
    let other = list(RunFilter { project: Some(project("other")), limit: 9, ..RunFilter::default() }).await;
    assert_eq!(other.iter().map(|r| r.run).collect::<Vec<_>>(), [runs[3].id]);
    let word = list(RunFilter { status: Some("blocked".to_owned()), limit: 9, ..RunFilter::default() }).await;
    assert_eq!(word.iter().map(|r| r.run).collect::<Vec<_>>(), [runs[1].id]);
    assert_eq!(list(RunFilter { open_only: true, limit: 9, ..RunFilter::default() }).await.len(), 6);
    // A limit of none is one, and an absurd one is cut: a list is never the whole table.
    assert_eq!(list(RunFilter::default()).await.len(), 1);
    assert_eq!(list(RunFilter { limit: u64::MAX, ..RunFilter::default() }).await.len(), 7);
}

async fn runs_are_found_by_both_ends(b: Bench) {
    let id = |text: &str| RunId(uuid::Uuid::try_parse(text).expect("an id"));
    let ids = [
        id("0193aaaa00007000800000000000beef"),
        id("0193aaaa00007000800000000001cafe"),
        id("0193bbbb00007000800000000002cafe"),
    ];
    for id in ids {
        b.open(&Run { id, ..run() }).await;
    }
    let find = async |text: &str| b.store.find(text).await.expect("an answer");
    assert_eq!(find("0193aaaa00007000800000000000beef").await, Found::One(ids[0]));
    assert_eq!(find(" 0193AAAA-0000-7000-8000-00000001CAFE ").await, Found::One(ids[1]));
    assert_eq!(find(" BEEF").await, Found::One(ids[0]));
    assert_eq!(find("0193bb").await, Found::One(ids[2]));
    assert_eq!(find(&ids[1].short()).await, Found::One(ids[1]));
    assert_eq!(find("cafe").await, Found::Several(vec![ids[2], ids[1]]));
    assert_eq!(find("0193").await, Found::Several(vec![ids[2], ids[1], ids[0]]));
    for none in ["", "eef", "0000", "xyzw", "'; --", &"0".repeat(33), "g193"] {
        assert_eq!(find(none).await, Found::None, "{none:?}");
    }
}

async fn counts_tell_live_from_waiting(b: Bench) {
    // Queued, live, waiting without and with a change, over (once with an effect left), quarantined.
    let mut runs: Vec<Run> = (0..7).map(|_| run()).collect();
    for r in &runs {
        b.open(r).await;
    }
    let change = ChangeRef { number: ChangeNumber(7), url: "https://forge/7".to_owned() };
    let shapes = [(1, Phase::Planning, 1), (2, Phase::Working, 0), (3, Phase::Gating, 0), (4, Phase::Ended, 0)];
    for (n, phase, effects) in shapes.into_iter().chain([(5, Phase::Ended, 1), (6, Phase::Working, 1)]) {
        let lease = b.take(runs[n].id, "one").await;
        runs[n].change = (n == 3).then(|| change.clone());
        b.commit(moving(&mut runs[n], &lease, phase, effects)).await.expect("a transition");
        b.store.give_back(&lease).await.expect("giving back");
    }
    b.store.quarantine(runs[6].id, "bad").await.expect("a quarantine");

    assert_eq!(b.store.counts().await.expect("counts"), Counts { live: 1, waiting: 2 });
    assert_eq!(b.store.queued(10).await.expect("a list"), [runs[0].id]);
    assert_eq!(b.store.waiting(10).await.expect("a list"), [runs[3].id]);
    // What is over but has an effect left is carried on all the same.
    assert_eq!(b.store.unfinished(&owner("one")).await.expect("a list"), [runs[1].id, runs[5].id]);

    let more: Vec<Run> = (0..3).map(|_| run()).collect();
    for r in &more {
        b.open(r).await;
    }
    assert_eq!(b.store.queued(2).await.expect("a list"), [runs[0].id, more[0].id]);
    let lease = b.take(runs[1].id, "one").await;
    b.commit(finishing(&mut runs[1], &lease, Phase::Working)).await.expect("a transition");
    assert_eq!(b.store.counts().await.expect("counts"), Counts { live: 0, waiting: 3 });
}

async fn artifacts_are_kept_once(b: Bench) {
    let (one, two) = (run(), run());
    b.open(&one).await;
    b.open(&two).await;
    let log = b.store.put_artifact(one.id, ArtifactKind::Log, "test.log", b"all\0 good").await.expect("an artifact");
    assert_eq!((log.size, log.name.as_str()), (9, "test.log"));
    assert_eq!(log.digest.as_str().len(), 64);
    for run in [one.id, two.id] {
        let again = b.store.put_artifact(run, ArtifactKind::Log, "test.log", b"all\0 good").await.expect("an artifact");
        assert_eq!(again, log);
    }
    let patch = b.store.put_artifact(one.id, ArtifactKind::Patch, "t1.\0patch\n", b"").await.expect("an artifact");
    assert_eq!((patch.size, patch.name.as_str()), (0, "t1.patch"));
    assert_eq!(b.store.artifacts(one.id).await.expect("a list"), [log.clone(), patch]);
    assert_eq!(b.store.artifacts(two.id).await.expect("a list"), [log.clone()]);
    let (found, bytes) = b.store.artifact(two.id, &log.digest).await.expect("an answer").expect("an artifact");
    assert_eq!((found, bytes.as_slice()), (log.clone(), b"all\0 good".as_slice()));
    assert!(b.store.artifact(two.id, &Digest::from("00")).await.expect("an answer").is_none());

    // Another run's artifact is not this run's.
    let review = b.store.put_artifact(one.id, ArtifactKind::Review, "r", b"fine").await.expect("an artifact");
    assert!(b.store.artifact(two.id, &review.digest).await.expect("an answer").is_none());

    let most = vec![7u8; ARTIFACT_BYTES_MAX];
    b.store.put_artifact(one.id, ArtifactKind::Log, "most", &most).await.expect("the largest");
    let more = vec![7u8; ARTIFACT_BYTES_MAX + 1];
    assert!(permanent(b.store.put_artifact(one.id, ArtifactKind::Log, "more", &more).await).0.contains("16777217"));
    assert!(permanent(b.store.put_artifact(run().id, ArtifactKind::Log, "l", b"x").await).0.contains("does not exist"));
}

async fn projects_are_written_and_replaced(b: Bench) {
    let mut demo = Project {
        name: project("demo"),
        repo: "/srv/demo".to_owned(),
        base: None,
        branch_prefix: "skep".to_owned(),
        checks: vec![],
        engines: BTreeMap::new(),
        policy: Policy::default(),
    };
    assert_eq!(b.store.project(&demo.name).await.expect("an answer"), None);
    b.store.put_project(&demo, false).await.expect("a new project");
    let (what, fix) = permanent(b.store.put_project(&demo, false).await);
    assert!(what.contains("demo already") && fix.contains("another name"));
    demo.base = Some(Sha::from("main").0);
    b.store.put_project(&demo, true).await.expect("a replacement");
    assert_eq!(b.store.project(&demo.name).await.expect("an answer"), Some(demo.clone()));
    let alpha = Project { name: project("alpha"), ..demo.clone() };
    b.store.put_project(&alpha, true).await.expect("a project by replacement");
    assert_eq!(b.store.projects().await.expect("a list"), [alpha.clone(), demo]);
    b.damage("UPDATE project SET body = '{' WHERE name = 'demo'").await;
    assert_eq!(b.store.projects().await.expect("the others"), [alpha]);
    assert!(permanent(b.store.project(&project("demo")).await).0.contains("demo"));
}

async fn a_read_only_store_says_so(b: Bench) {
    b.open(&run()).await;
    let url = if b.sqlite() {
        format!("{}?mode=ro", b.url)
    } else {
        let name = b.url.split('?').next().and_then(|u| u.rsplit('/').next()).expect("a name").to_owned();
        b.damage(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
        b.url.clone()
    };
    let read_only = connect(&url).await.expect("reading is possible");
    let store: &dyn skep::ports::Store = &read_only;
    assert_eq!(store.queued(10).await.expect("a list").len(), 1);
    let r = run();
    let (what, fix) = permanent(store.commit(vec![opening(&r, no_lease(r.id))]).await.remove(0));
    assert!(what.contains("cannot be written"), "{what}");
    assert!(!fix.is_empty());
    permanent(store.take(r.id, &owner("one"), 60).await);
}

async fn concurrent_commits_all_land(b: Bench) {
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
        let rows = b.store.journal(r.id, 0, 100).await.expect("a journal");
        assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_bad_url_is_refused_with_the_right_form() {
    let urls =
        ["", "skep.db", "mysql://localhost/skep", "sqlite:skep.db", "sqlite://", "sqlite:///x/", "sqlite::memory:"];
    for url in urls.into_iter().chain([
        "sqlite:///tmp/skep.db?cache=shared",
        "postgres://[::1/skep",
        "sqlite:///no/such/folder/skep.db",
    ]) {
        let (what, fix) = permanent(connect(url).await);
        assert!(!what.is_empty() && !fix.is_empty(), "{url:?}: {what}: {fix}");
    }
    assert!(permanent(connect("mysql://localhost/skep").await).0.contains("mysql"));
}

#[tokio::test]
async fn a_sqlite_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    crate::support::stores::on_sqlite(async |b| {
        b.open(&run()).await;
        let path = b.url.trim_start_matches("sqlite://");
        for name in [path.to_owned(), format!("{path}-wal"), format!("{path}-shm")] {
            let mode = std::fs::metadata(&name).expect(&name).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skep.db");
    std::fs::write(&path, "not a database at all, but a text that is long enough to be looked at".repeat(100))
        .expect("a file");
    let (what, _) = permanent(connect(&format!("sqlite://{}", path.display())).await);
    assert!(what.contains("not a Skep store"), "{what}");
}

#[tokio::test]
async fn a_postgres_that_forgets_is_refused() {
    crate::support::stores::on_postgres(async |b| {
        let name = b.url.split('?').next().and_then(|u| u.rsplit('/').next()).expect("a name").to_owned();
        b.damage(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
        let (what, fix) = permanent(connect(&b.url).await);
        assert!(what.contains("synchronous_commit=off") && fix.contains("synchronous_commit=on"), "{what}: {fix}");
    })
    .await;
}

#[tokio::test]
async fn a_cut_connection_leaves_the_outcome_open_and_a_repeat_settles_it() {
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
        assert_eq!(b.store.journal(r.id, 0, 10).await.expect("a journal").len(), 2);
    })
    .await;
}
