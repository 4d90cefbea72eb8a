//! The result of a run: its invariants are checked, and it is reduced to a form in which two runs can be compared.

use super::program::{Scene, git};
use skep::adapters::store::connect;
use skep::domain::{Event, Report, Run, decide, open};
use skep::ports::journal::JournalRow;
use skep::ports::run_index::RunFilter;
use skep::ports::{Journal, RunIndex};
use std::collections::BTreeSet;

/// Everything about a run that does not depend on when the process was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub outcome: String,
    pub tree: String,
    pub commits: String,
    pub branches: usize,
    pub verdicts: Vec<String>,
    pub tasks: Vec<(String, String)>,
    pub changes: usize,
    pub comments: usize,
    pub change_state: String,
    pub statuses: usize,
}

/// The only run of the store.
pub async fn only_run(scene: &Scene) -> Run {
    let runs = runs(scene).await;
    assert_eq!(runs.len(), 1, "exactly one run");
    runs.into_iter().next().expect("a run")
}

/// Every run of the store.
pub async fn runs(scene: &Scene) -> Vec<Run> {
    let store = connect(&scene.store()).await.expect("the store");
    let rows = store.list(&RunFilter { limit: 100, ..RunFilter::default() }).await.expect("the list");
    let mut runs = Vec::new();
    for row in rows {
        assert_eq!(row.quarantined, None);
        runs.push(store.load(row.run).await.expect("readable").expect("there"));
    }
    runs
}

/// A run's whole journal.
pub async fn journal(scene: &Scene, run: &Run) -> Vec<JournalRow> {
    let store = connect(&scene.store()).await.expect("the store");
    let (mut rows, mut after) = (Vec::new(), 0);
    loop {
        let more = store.events(run.id, after, 1_000).await.expect("the journal");
        let Some(last) = more.last() else { return rows };
        after = last.seq;
        rows.extend(more);
    }
}

/// Checks that the journal has no gaps, that its epochs never decrease, and that it replays to exactly the snapshot.
/// Returns its events.
pub async fn check_journal(scene: &Scene, run: &Run) -> Vec<Event> {
    let rows = journal(scene, run).await;
    let seqs: Vec<u64> = rows.iter().map(|r| r.seq).collect();
    assert_eq!(seqs, (1..=run.seq).collect::<Vec<_>>(), "the journal is gapless");
    assert!(rows.is_sorted_by_key(|r| r.epoch), "the epochs never decrease");
    let (mut replayed, mut events): (Option<Run>, Vec<Event>) = (None, Vec::new());
    for row in rows {
        let event: Event = serde_json::from_value(row.event.expect("a body")).expect("an event");
        let decision = match (&replayed, &event) {
            (None, Event::Opened(opened)) => open(opened, row.at),
            (Some(run), event) => decide(run, event, row.at),
            (None, other) => panic!("the journal begins with {other:?}"),
        };
        replayed = Some(decision.unwrap_or_else(|r| panic!("event {} is refused in the replay: {r}", row.seq)).run);
        events.push(event);
    }
    assert_eq!(replayed.as_ref(), Some(run), "the journal replays to the snapshot");
    events
}

/// Checks the invariants of the only run, which has ended, and returns what two runs are compared by.
pub async fn left(scene: &Scene) -> Left {
    let run = only_run(scene).await;
    left_by(scene, &run).await
}

/// Does the same for one of several runs.
pub async fn left_by(scene: &Scene, run: &Run) -> Left {
    let events = check_journal(scene, run).await;
    assert!(run.ended(), "it ended, and not in {}", run.phase.name());
    assert!(run.pending.is_empty(), "nothing is pending: {:?}", run.pending);
    for part in ["work", "sealed", "scratch"] {
        let folder = scene.data.join(part).join(run.id.to_string());
        assert!(!folder.exists(), "{} is left", folder.display());
    }
    assert_eq!(git(&scene.origin, &["status", "--porcelain"]), "", "the working copy is at its branch");
    assert!(!scene.origin.join(".git/index.lock").exists(), "no lock is left");
    scene.wait_until_processes_end();
    let verdicts = events.iter().filter_map(|e| match e {
        Event::Reported(r) => match &r.report {
            Report::Reviewed { verdict, .. } => Some(format!("{verdict:?}")),
            _ => None,
        },
        _ => None,
    });
    let changes = changes(scene);
    let comments = || changes.iter().flat_map(|c| c["comments"].as_array().expect("comments").iter());
    let marked: Vec<&str> = comments().filter_map(|c| c["marker"].as_str()).collect();
    assert_eq!(marked.len(), marked.iter().collect::<BTreeSet<_>>().len(), "each comment once: {marked:?}");
    let texts: Vec<&str> = comments().filter_map(|c| c["text"].as_str()).collect();
    assert_eq!(texts.len(), texts.iter().collect::<BTreeSet<_>>().len(), "no text twice: {texts:#?}");
    let of_head = |c: &serde_json::Value| {
        let head = c["head"].as_str().unwrap_or_default();
        c["statuses"][head].as_object().map_or(0, serde_json::Map::len)
    };
    let word = |v: &serde_json::Value| {
        v.as_object().and_then(|o| o.keys().next().cloned()).unwrap_or_else(|| v.as_str().unwrap_or("?").to_owned())
    };
    Left {
        outcome: run.outcome.as_ref().map_or_else(String::new, |o| {
            format!("{o:?}").split([' ', '{', '(']).next().unwrap_or_default().to_owned()
        }),
        tree: git(&scene.origin, &["rev-parse", "main^{tree}"]),
        commits: git(&scene.origin, &["rev-list", "--count", "main"]),
        branches: git(&scene.origin, &["for-each-ref", "refs/heads"]).lines().count(),
        verdicts: verdicts.collect(),
        tasks: run.tasks.iter().map(|t| (t.spec.name.clone(), format!("{:?}", t.stage))).collect(),
        changes: changes.len(),
        comments: comments().count(),
        change_state: changes.iter().map(|c| word(&c["state"])).collect(),
        statuses: changes.iter().map(of_head).sum(),
    }
}

/// The local forge's changes.
pub fn changes(scene: &Scene) -> Vec<serde_json::Value> {
    let Ok(projects) = std::fs::read_dir(scene.data.join("forge")) else { return Vec::new() };
    let files = projects.flatten().filter_map(|p| std::fs::read_dir(p.path()).ok()).flatten().flatten();
    let json = files.map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "json"));
    json.map(|p| serde_json::from_slice(&std::fs::read(p).expect("a change")).expect("a whole change")).collect()
}
