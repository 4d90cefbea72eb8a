//! Memory: stored once, replaced by what was seen later, forgotten for good, and ranked alike on both databases.

use crate::support::rng::Rng;
use crate::support::stores::{TestStore, on_postgres, on_sqlite};
use skep::domain::memory::{Citation, DAY_MS, Memory, Query, rank};
use skep::domain::*;
use skep::ports::memories::{Forget, GivenMemory, MemoryFilter, NewMemories};
use skep::ports::outcomes::Outcomes;
use std::collections::BTreeSet;

on_both!(
    a_row_is_stored_once_and_lives_on_when_it_is_seen_again,
    a_fact_that_ended_is_stale_until_it_is_seen_again,
    what_is_forgotten_leaves_no_text_and_does_not_come_back,
    rows_belong_to_one_project,
    expired_rows_and_those_beyond_the_bound_are_removed,
    what_became_of_given_rows_is_counted_by_run
);

fn project() -> ProjectName {
    ProjectName::from_text("demo")
}

pub fn row(key: &str, day: i64) -> Memory {
    let (kind, at) = (MemoryKind::Fact, Timestamp(day * DAY_MS));
    Memory {
        id: MemoryId::of(&project(), kind, key),
        project: project(),
        kind,
        state: MemoryState::Live,
        author: Principal::skep(),
        step: None,
        title: format!("title of {key}"),
        body: format!("body of {key}, \"quoted\" 'twice' \u{1f41d}"),
        cites: vec![Citation::of_file("src/a.rs"), Citation::of_line("src/b.rs", 2, "one\ntwo\nthree\n")],
        run: Some(RunId(uuid::Uuid::from_u128(7))),
        seq: 3,
        created_at: at,
        seen_at: at,
        ends_at: Memory::end(kind, at, at),
    }
}

async fn put(b: &TestStore, rows: &[Memory], day: i64) {
    let new = NewMemories { rows: rows.to_vec(), ended: Vec::new() };
    b.store.remember(&project(), &new, Timestamp(day * DAY_MS)).await.expect("stored");
}

async fn all(b: &TestStore) -> Vec<Memory> {
    let filter = MemoryFilter { project: Some(project()), limit: 5_000, ..MemoryFilter::default() };
    b.store.list_memories(&filter).await.expect("rows")
}

async fn live(b: &TestStore, day: i64) -> Vec<Memory> {
    let rows = b.store.recall(&project(), Timestamp(day * DAY_MS)).await.expect("rows");
    rows.into_iter().map(|(row, _)| row).collect()
}

async fn a_row_is_stored_once_and_lives_on_when_it_is_seen_again(b: TestStore) {
    let first = row("base/test", 1);
    put(&b, std::slice::from_ref(&first), 1).await;
    put(&b, std::slice::from_ref(&first), 1).await;
    assert_eq!(all(&b).await, std::slice::from_ref(&first), "the same again changes nothing");
    let again = Memory { body: "seen again".to_owned(), ..row("base/test", 20) };
    put(&b, std::slice::from_ref(&again), 20).await;
    let stored = all(&b).await;
    assert_eq!(stored, [Memory { created_at: first.created_at, ..again.clone() }]);
    put(&b, std::slice::from_ref(&first), 21).await;
    assert_eq!(all(&b).await, stored, "what was seen earlier does not replace it");
    // It ends 180 days after it was first seen, however often it is seen again.
    for day in [45, 70, 95, 120, 145, 170] {
        put(&b, &[row("base/test", day)], day).await;
    }
    assert_eq!(live(&b, 175).await[0].ends_at, Timestamp(181 * DAY_MS));
    assert_eq!((live(&b, 180).await.len(), live(&b, 181).await.len()), (1, 0));
}

async fn a_fact_that_ended_is_stale_until_it_is_seen_again(b: TestStore) {
    let fact = row("base/test", 3);
    put(&b, std::slice::from_ref(&fact), 3).await;
    let end = async |day: i64| {
        let ended = vec![(fact.id.clone(), Timestamp(day * DAY_MS))];
        let new = NewMemories { rows: Vec::new(), ended };
        b.store.remember(&project(), &new, Timestamp(day * DAY_MS)).await.expect("ended");
    };
    end(2).await;
    assert_eq!(live(&b, 4).await.len(), 1, "a run that was earlier does not end it");
    end(5).await;
    assert!(live(&b, 5).await.is_empty());
    assert_eq!(all(&b).await[0].state, MemoryState::Stale);
    put(&b, &[row("base/test", 6)], 6).await;
    assert_eq!(live(&b, 6).await.len(), 1);
    b.store.mark_stale(std::slice::from_ref(&fact.id)).await.expect("stale");
    assert!(live(&b, 6).await.is_empty());
}

async fn what_is_forgotten_leaves_no_text_and_does_not_come_back(b: TestStore) {
    let other_run = RunId(uuid::Uuid::from_u128(8));
    let rows = [
        row("a", 1),
        Memory { run: Some(other_run), ..row("b", 1) },
        Memory { cites: vec![Citation::of_file("canary/c.rs")], ..row("c", 1) },
        Memory { author: Principal::from("user:eve"), ..row("d", 1) },
        row("e", 1),
    ];
    put(&b, &rows, 1).await;
    let nothing = Forget { project: Some(project()), ..Forget::default() };
    assert!(b.store.forget(&nothing).await.expect("nothing").is_empty(), "a project alone is not a condition");
    let elsewhere =
        Forget { project: Some(ProjectName::from_text("other")), run: Some(other_run), ..Forget::default() };
    assert!(b.store.forget(&elsewhere).await.expect("nothing").is_empty());
    for (index, which) in [
        Forget { id: Some(rows[0].id.clone()), ..Forget::default() },
        Forget { run: Some(other_run), ..Forget::default() },
        Forget { path: Some("canary/c.rs".to_owned()), ..Forget::default() },
        Forget { author: Some(Principal::from("user:eve")), ..Forget::default() },
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(b.store.forget(&which).await.expect("forgotten"), [rows[index].id.clone()], "{which:?}");
        assert!(b.store.forget(&which).await.expect("nothing left").is_empty());
    }
    assert_eq!(all(&b).await, [rows[4].clone()]);
    let filter = MemoryFilter { state: Some(MemoryState::Forgotten), limit: 9, ..MemoryFilter::default() };
    let left = b.store.list_memories(&filter).await.expect("rows");
    assert_eq!(left.len(), 4);
    for row in &left {
        assert_eq!((row.title.as_str(), row.body.as_str(), row.cites.len(), row.run), ("", "", 0, None));
        assert_eq!(row.author, Principal::skep());
    }
    put(&b, &rows, 2).await;
    assert_eq!(all(&b).await, [rows[4].clone()], "what was forgotten is not stored again");

    b.store.forget_project(&ProjectName::from_text("other")).await.expect("nothing");
    assert_eq!(all(&b).await, [rows[4].clone()]);
    b.store.forget_project(&project()).await.expect("deleted");
    assert!(all(&b).await.is_empty() && b.store.list_memories(&filter).await.expect("rows").is_empty());
    put(&b, &rows[..1], 3).await;
    assert_eq!(all(&b).await, [rows[0].clone()], "another repository of that name starts afresh");
}

async fn rows_belong_to_one_project(b: TestStore) {
    let other = ProjectName::from_text("other");
    let canary = Memory { project: other.clone(), id: MemoryId::of(&other, MemoryKind::Fact, "a"), ..row("a", 1) };
    assert_ne!(canary.id, row("a", 1).id, "the same key has another id in another project");
    let new = NewMemories { rows: vec![canary.clone()], ended: Vec::new() };
    b.store.remember(&other, &new, Timestamp(DAY_MS)).await.expect("stored");
    put(&b, &[row("a", 1)], 1).await;
    assert_eq!(live(&b, 1).await, [row("a", 1)]);
    let of_other = b.store.recall(&other, Timestamp(DAY_MS)).await.expect("rows");
    assert_eq!(of_other.into_iter().map(|(row, _)| row).collect::<Vec<_>>(), [canary]);
}

async fn expired_rows_and_those_beyond_the_bound_are_removed(b: TestStore) {
    let max = usize::try_from(Memory::MAX_ROWS).expect("a small number");
    let rows: Vec<Memory> =
        (0..max + 3).map(|n| Memory { seen_at: Timestamp(n as i64), ..row(&format!("k{n}"), 1) }).collect();
    put(&b, &rows, 1).await;
    let kept: BTreeSet<MemoryId> = all(&b).await.into_iter().map(|row| row.id).collect();
    assert_eq!(kept.len(), max);
    assert!(rows[..3].iter().all(|row| !kept.contains(&row.id)), "those seen longest ago are gone");
    put(&b, &[], 40).await;
    assert!(live(&b, 40).await.is_empty(), "they have expired, and no run is given them");
    let fresh = row("fresh", 40);
    put(&b, std::slice::from_ref(&fresh), 40).await;
    assert_eq!(all(&b).await, [fresh], "the next row removes those that have expired");
}

async fn what_became_of_given_rows_is_counted_by_run(b: TestStore) {
    let (fact, other) = (row("a", 1), row("b", 1));
    put(&b, &[fact.clone(), other.clone()], 1).await;
    for (n, word) in
        [OutcomeWord::Landed, OutcomeWord::Landed, OutcomeWord::Unlanded, OutcomeWord::Void].iter().enumerate()
    {
        let run = RunId(uuid::Uuid::from_u128(100 + n as u128));
        let given = |attempt| GivenMemory { run, attempt: AttemptId(attempt), memory: fact.id.clone() };
        b.store.give(&project(), &[given(1), given(2)]).await.expect("recorded");
        b.store.give(&project(), &[given(2)]).await.expect("recorded once");
        assert_eq!(b.store.given(run).await.expect("given"), [given(1), given(2)]);
        let outcome = OutcomeRow {
            run,
            project: project(),
            attempt: None,
            word: *word,
            step: None,
            engine: String::new(),
            prompt_digest: None,
            round: 0,
            usage: Usage::default(),
            evidence: Evidence::Event(1),
            at: Timestamp(1),
        };
        b.sea.replace_outcomes(run, &[outcome]).await.expect("an outcome");
    }
    let rows = b.store.recall(&project(), Timestamp(DAY_MS)).await.expect("rows");
    let of = |id: &MemoryId| rows.iter().find(|(row, _)| row.id == *id).expect("a row").1;
    assert_eq!((of(&fact.id).won, of(&fact.id).lost), (2, 1));
    assert_eq!((of(&other.id).won, of(&other.id).lost), (0, 0));
}

/// Words of which the first ones are the most frequent, as in texts.
fn sentence(rng: &mut Rng, words: u64) -> String {
    let word = |rng: &mut Rng| {
        let bound = 1 + rng.below(600);
        format!("{}{}", ["ümlaut", "parse_", "E", "word"][rng.below(4) as usize], rng.below(bound))
    };
    (0..words).map(|_| word(rng)).collect::<Vec<_>>().join(" ")
}

/// Random rows, stored in another order on each database.
async fn ranked_on(b: TestStore, mut rows: Vec<Memory>, seed: u64) -> Vec<Vec<MemoryId>> {
    let mut rng = Rng(seed);
    for index in (1..rows.len()).rev() {
        rows.swap(index, usize::try_from(rng.below(index as u64 + 1)).expect("an index"));
    }
    put(&b, &rows, 1).await;
    let mut rng = Rng(11);
    let mut answers = Vec::new();
    for _ in 0..300 {
        let words = 1 + rng.below(6);
        let query = Query { text: sentence(&mut rng, words), paths: vec![format!("src/{}.rs", rng.below(20))] };
        let now = Timestamp((2 + i64::try_from(rng.below(20)).expect("days")) * DAY_MS);
        let found = b.store.recall(&project(), now).await.expect("rows");
        answers.push(rank(&found, &query, now).into_iter().map(|(index, _)| found[index].0.id.clone()).collect());
    }
    answers
}

#[tokio::test]
async fn three_hundred_random_queries_give_the_same_rows_on_both_databases() {
    let mut rng = Rng(4711);
    let rows: Vec<Memory> = (0..200)
        .map(|n| {
            let title = sentence(&mut rng, 4);
            let cites = vec![Citation::of_file(&format!("src/{}.rs", rng.below(20)))];
            let day = 1 + i64::try_from(rng.below(3)).expect("days");
            Memory { title, body: sentence(&mut rng, 12), cites, ..row(&format!("k{n}"), day) }
        })
        .collect();
    let (mut on_one, mut on_other) = (Vec::new(), Vec::new());
    let (first, second) = (rows.clone(), rows);
    on_sqlite(async |b| on_one = ranked_on(b, first, 1).await).await;
    on_postgres(async |b| on_other = ranked_on(b, second, 2).await).await;
    assert_eq!(on_one, on_other);
    let answered = on_one.iter().filter(|found| !found.is_empty()).count();
    assert!(answered > 100, "{answered} queries found anything");
}
