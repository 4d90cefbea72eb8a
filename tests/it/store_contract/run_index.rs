//! The run index, artifacts and projects, as people and the sweep read them.

use crate::support::runs::{finishing, moving, owner, project, run};
use crate::support::stores::{TestStore, permanent};
use skep::adapters::store::MAX_ARTIFACT_BYTES;
use skep::domain::{
    ArtifactKind, Block, BlockId, BlockKind, ChangeNumber, ChangeRef, Digest, ForgeName, Phase, Policy, Project,
    ProjectName, ProjectSet, Run, RunId, Sha, Timestamp,
};
use skep::ports::blobs::{ArtifactBytes, RemovableArtifacts};
use skep::ports::run_index::{Counts, RunFilter, RunMatch};
use std::collections::BTreeMap;

super::on_both!(
    lists_filter_and_page,
    runs_are_found_by_either_end_of_the_id,
    counts_distinguish_live_from_waiting,
    artifacts_are_stored_once,
    old_logs_are_removed_and_may_be_stored_again,
    projects_are_written_and_replaced
);

async fn lists_filter_and_page(b: TestStore) {
    let mut runs: Vec<Run> = (0..7).map(|_| run()).collect();
    runs[3].project = project("other");
    for r in &mut runs {
        b.open(r).await;
    }
    let lease = b.take(runs[0].id, "one").await;
    b.commit(moving(&mut runs[0], &lease, Phase::Ended, 0)).await.expect("an end");
    let lease = b.take(runs[1].id, "one").await;
    runs[1].blocks.push(Block {
        id: BlockId(1),
        kind: BlockKind::Rounds,
        why: "no more".to_owned(),
        fix: None,
        levels: Vec::new(),
        spending: Vec::new(),
        since: Timestamp(5),
        until: None,
    });
    b.commit(moving(&mut runs[1], &lease, Phase::Working, 0)).await.expect("a block");
    let ids: Vec<RunId> = runs.iter().map(|r| r.id).rev().collect();

    let list = async |filter: RunFilter| b.store.list(&filter).await.expect("a list");
    let all = list(RunFilter { limit: 100, ..RunFilter::default() }).await;
    assert_eq!(all.iter().map(|r| r.run).collect::<Vec<_>>(), ids);
    let blocked = &all[5];
    assert_eq!((blocked.status.as_str(), blocked.phase.as_str(), blocked.seq), ("blocked", "working", 2));
    assert_eq!(blocked.blocks, ["rounds"]);
    assert_eq!((blocked.opened_at, blocked.updated_at), (Timestamp(1_000), Timestamp(1_002)));
    assert_eq!((all[6].status.as_str(), all[0].status.as_str()), ("completed", "pending"));
    assert!(blocked.quarantined.is_none());

    let first = list(RunFilter { limit: 3, ..RunFilter::default() }).await;
    let next = list(RunFilter { limit: 3, before: Some(first[2].run), ..RunFilter::default() }).await;
    assert_eq!(first.iter().chain(&next).map(|r| r.run).collect::<Vec<_>>(), ids[..6]);
    let other = list(RunFilter { projects: project("other").into(), limit: 9, ..RunFilter::default() }).await;
    assert_eq!(other.iter().map(|r| r.run).collect::<Vec<_>>(), [runs[3].id]);
    let word = list(RunFilter { status: Some("blocked".to_owned()), limit: 9, ..RunFilter::default() }).await;
    assert_eq!(word.iter().map(|r| r.run).collect::<Vec<_>>(), [runs[1].id]);
    assert_eq!(list(RunFilter { open_only: true, limit: 9, ..RunFilter::default() }).await.len(), 6);
    // A limit of 0 counts as 1, and a huge limit is reduced, so that a list is never the whole table.
    assert_eq!(list(RunFilter::default()).await.len(), 1);
    assert_eq!(list(RunFilter { limit: u64::MAX, ..RunFilter::default() }).await.len(), 7);
}

async fn runs_are_found_by_either_end_of_the_id(b: TestStore) {
    let id = |text: &str| RunId(uuid::Uuid::try_parse(text).expect("an id"));
    let ids = [
        id("0193aaaa00007000800000000000beef"),
        id("0193aaaa00007000800000000001cafe"),
        id("0193bbbb00007000800000000002cafe"),
    ];
    let projects = ["one", "two", "two"].map(|name| ProjectName::new(name).expect("a name"));
    for (id, project) in ids.into_iter().zip(&projects) {
        b.open(&Run { id, project: project.clone(), ..run() }).await;
    }
    let find = async |text: &str| b.store.find(text, &ProjectSet::All).await.expect("an answer");
    assert_eq!(find("0193aaaa00007000800000000000beef").await, RunMatch::One(ids[0]));
    assert_eq!(find(" 0193AAAA-0000-7000-8000-00000001CAFE ").await, RunMatch::One(ids[1]));
    assert_eq!(find(" BEEF").await, RunMatch::One(ids[0]));
    assert_eq!(find("0193bb").await, RunMatch::One(ids[2]));
    assert_eq!(find(&ids[1].abbrev()).await, RunMatch::One(ids[1]));
    // The beginning of the eight digits that people see.
    assert_eq!(find("0000").await, RunMatch::One(ids[0]));
    assert_eq!(find("0002ca").await, RunMatch::One(ids[2]));
    assert_eq!(find("cafe").await, RunMatch::Several(vec![ids[2], ids[1]]));
    assert_eq!(find("0193").await, RunMatch::Several(vec![ids[2], ids[1], ids[0]]));
    for none in ["", "eef", "00000", "xyzw", "'; --", &"0".repeat(33), "g193"] {
        assert_eq!(find(none).await, RunMatch::None, "{none:?}");
    }
    // Runs of other projects neither match nor make an id ambiguous.
    let find_in = async |text: &str, of: ProjectSet| b.store.find(text, &of).await.expect("an answer");
    let one = || ProjectSet::from(projects[0].clone());
    assert_eq!(find_in("0193", one()).await, RunMatch::One(ids[0]));
    assert_eq!(find_in("0002ca", one()).await, RunMatch::None);
    assert_eq!(find_in(&ids[2].to_string(), one()).await, RunMatch::None);
    assert_eq!(
        find_in("cafe", ProjectSet::Only(projects.clone().into())).await,
        RunMatch::Several(vec![ids[2], ids[1]])
    );
    assert_eq!(find_in("0193", ProjectSet::Only([].into())).await, RunMatch::None);
}

async fn counts_distinguish_live_from_waiting(b: TestStore) {
    // Queued, live, waiting without and with a change, ended without and with a pending effect, quarantined.
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
        b.store.release(&lease).await.expect("releasing");
    }
    b.store.quarantine(runs[6].id, "bad").await.expect("a quarantine");

    assert_eq!(b.store.counts().await.expect("counts"), Counts { live: 1, waiting: 2 });
    assert_eq!(b.store.queued(10).await.expect("a list"), [runs[0].id]);
    assert_eq!(b.store.waiting(10).await.expect("a list"), [runs[3].id]);
    // An ended run with a pending effect still counts as unfinished.
    assert_eq!(b.store.unfinished(&owner("one")).await.expect("a list"), [runs[1].id, runs[5].id]);

    let more: Vec<Run> = (0..3).map(|_| run()).collect();
    for r in &more {
        b.open(r).await;
    }
    assert_eq!(b.store.queued(2).await.expect("a list"), [runs[0].id, more[0].id]);
    assert_eq!(b.store.queue_length().await.expect("a number"), 4);
    let lease = b.take(runs[1].id, "one").await;
    b.commit(finishing(&mut runs[1], &lease, Phase::Working)).await.expect("a transition");
    assert_eq!(b.store.counts().await.expect("counts"), Counts { live: 0, waiting: 3 });
}

async fn artifacts_are_stored_once(b: TestStore) {
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
    assert_eq!(b.store.artifacts(two.id).await.expect("a list"), std::slice::from_ref(&log));
    let (found, bytes) = b.store.artifact(two.id, &log.digest).await.expect("an answer").expect("an artifact");
    assert_eq!((found, bytes), (log.clone(), ArtifactBytes::Stored(b"all\0 good".to_vec())));
    assert!(b.store.artifact(two.id, &Digest::from("00")).await.expect("an answer").is_none());

    // Another run's artifact is not this run's.
    let review = b.store.put_artifact(one.id, ArtifactKind::Review, "r", b"fine").await.expect("an artifact");
    assert!(b.store.artifact(two.id, &review.digest).await.expect("an answer").is_none());

    let most = vec![7u8; MAX_ARTIFACT_BYTES];
    b.store.put_artifact(one.id, ArtifactKind::Log, "most", &most).await.expect("the largest");
    let more = vec![7u8; MAX_ARTIFACT_BYTES + 1];
    assert!(permanent(b.store.put_artifact(one.id, ArtifactKind::Log, "more", &more).await).0.contains("16777217"));
    assert!(permanent(b.store.put_artifact(run().id, ArtifactKind::Log, "l", b"x").await).0.contains("does not exist"));
}

async fn old_logs_are_removed_and_may_be_stored_again(b: TestStore) {
    let (mut ended, open) = (run(), run());
    for r in [&ended, &open] {
        b.open(r).await;
    }
    let put = |run: RunId, kind, name, bytes: &'static [u8]| {
        let store = b.store.clone();
        async move { store.put_artifact(run, kind, name, bytes).await.expect("an artifact") }
    };
    let log = put(ended.id, ArtifactKind::Log, "test.log", b"its own").await;
    put(ended.id, ArtifactKind::Transcript, "a1.txt", b"of both").await;
    let shared = put(open.id, ArtifactKind::Log, "test.log", b"of both").await;
    let patch = put(ended.id, ArtifactKind::Patch, "t1.patch", b"a patch").await;
    let lease = b.take(ended.id, "one").await;
    b.commit(moving(&mut ended, &lease, Phase::Working, 0)).await.expect("a transition");
    let far = Timestamp(i64::MAX);
    assert_eq!(b.store.removable_artifacts(far).await.expect("a number").count, 0, "nothing of a run that works");
    let end = moving(&mut ended, &lease, Phase::Ended, 0);
    let at = end.at;
    b.commit(end).await.expect("a transition");

    assert_eq!(b.store.removable_artifacts(at).await.expect("a number").count, 0, "it ended at that time, not before");
    let removable = RemovableArtifacts { count: 1, bytes: 7 };
    assert_eq!(b.store.removable_artifacts(far).await.expect("a number"), removable);
    b.store.remove_artifacts(far).await.expect("removing");
    assert_eq!(b.store.removable_artifacts(far).await.expect("a number").count, 0);
    let stored = async |run, digest: &Digest| b.store.artifact(run, digest).await.expect("an answer").expect("one").1;
    assert!(matches!(stored(ended.id, &log.digest).await, ArtifactBytes::RemovedAt(at) if at > Timestamp(0)));
    assert_eq!(stored(ended.id, &shared.digest).await, ArtifactBytes::Stored(b"of both".to_vec()));
    assert_eq!(stored(ended.id, &patch.digest).await, ArtifactBytes::Stored(b"a patch".to_vec()));
    assert_eq!(b.store.artifacts(ended.id).await.expect("a list").len(), 3, "what there was is still listed");
    let verified = b.sea.verify().await.expect("a verification");
    assert!(verified.damages.iter().all(|damage| !damage.subject.contains("artifact")), "{verified:?}");

    put(open.id, ArtifactKind::Log, "again.log", b"its own").await;
    assert_eq!(stored(open.id, &log.digest).await, ArtifactBytes::Stored(b"its own".to_vec()));
}

async fn projects_are_written_and_replaced(b: TestStore) {
    let mut demo = Project {
        name: project("demo"),
        repo: "/srv/demo".to_owned(),
        base: None,
        forge: ForgeName::default(),
        branch_prefix: "skep".to_owned(),
        checks: vec![],
        engines: BTreeMap::new(),
        policy: Some(Policy::default()),
    };
    assert_eq!(b.store.project(&demo.name).await.expect("an answer"), None);
    b.store.put_project(&demo, false).await.expect("a new project");
    let (what, fix) = permanent(b.store.put_project(&demo, false).await);
    assert!(what.contains("already a project demo") && fix.contains("another name"));
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
