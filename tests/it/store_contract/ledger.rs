//! The ledger: rows follow their events, every report adds up to the same, and due runs are found in time.

use crate::support::runs::{moving, project, run};
use crate::support::stores::{TestStore, fenced};
use skep::domain::{
    AttemptId, Day, LedgerRow, ModelUse, Phase, ProjectSet, Role, Run, RunId, Timestamp, Usage, Wait, WaitReason,
};
use skep::ports::journal::Transition;
use skep::ports::leases::Lease;
use skep::ports::ledger::{Spending, SpendingBy, SpendingFilter};

super::on_both!(
    rows_follow_their_events,
    a_fenced_transition_leaves_no_row,
    every_grouping_adds_up_to_the_same,
    due_runs_are_found_in_time
);

pub(super) fn charge(attempt: u32, role: Role, tokens: u64, settled: bool, models: &[(&str, u64, bool)]) -> LedgerRow {
    let line = |(model, input, priced): &(&str, u64, bool)| ModelUse {
        model: (*model).to_owned(),
        calls: 1,
        input: *input,
        cost_micros: if *priced { input * 2 } else { 0 },
        priced: *priced,
        ..ModelUse::default()
    };
    LedgerRow {
        attempt: AttemptId(attempt),
        role,
        engine: "llm:a/b".to_owned(),
        round: attempt.saturating_sub(1),
        amount: Usage { tokens, cost_micros: tokens * 2, wall_ms: 7, turns: 3 },
        settled,
        usage_by_model: models.iter().map(line).collect(),
        prompt_digest: None,
        day: Day(20_000),
        at: Timestamp(1),
    }
}

pub(super) fn by(by: SpendingBy) -> SpendingFilter {
    SpendingFilter { by, run: None, projects: ProjectSet::All, day: None, limit: 100 }
}

pub(super) async fn sums(b: &TestStore, filter: SpendingFilter) -> Vec<(String, u64, u64, u64)> {
    let rows: Vec<Spending> = b.store.spending(&filter).await.expect("sums");
    rows.into_iter().map(|s| (s.key, s.tokens, s.reserved_tokens, s.attempts)).collect()
}

pub(super) async fn opened(b: &TestStore, name: &str) -> (Run, Lease) {
    let r = Run { project: project(name), ..run() };
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    (r, lease)
}

async fn rows_follow_their_events(b: TestStore) {
    let (mut r, lease) = opened(&b, "demo").await;
    let (mut other, other_lease) = opened(&b, "other").await;
    let with = |t: Transition, ledger_rows: Vec<LedgerRow>| Transition { ledger_rows, ..t };
    let reserved = vec![charge(1, Role::Dev, 100, false, &[]), charge(2, Role::Reviewer, 50, false, &[])];
    b.commit(with(moving(&mut r, &lease, Phase::Working, 0), reserved)).await.expect("a transition");
    assert_eq!(
        sums(&b, by(SpendingBy::Role)).await,
        [("dev".to_owned(), 0, 100, 1), ("reviewer".to_owned(), 0, 50, 1)]
    );
    let used = vec![charge(1, Role::Dev, 60, true, &[("a/good", 40, true), ("a/new", 20, false)])];
    let transition = with(moving(&mut r, &lease, Phase::Working, 0), used);
    b.commit(transition.clone()).await.expect("a transition");
    // A transition that is committed again, as after a lost acknowledgement, still adds only one row.
    b.commit(transition).await.expect("the same again");
    let unnamed = vec![charge(1, Role::Dev, 5, true, &[])];
    b.commit(with(moving(&mut other, &other_lease, Phase::Working, 0), unnamed)).await.expect("a transition");
    assert_eq!(sums(&b, by(SpendingBy::Role)).await, [("dev".to_owned(), 65, 0, 2), ("reviewer".to_owned(), 0, 50, 1)]);
    let models = b.store.spending(&by(SpendingBy::Model)).await.expect("sums");
    let by_model: Vec<_> = models.iter().map(|m| (m.key.as_str(), m.tokens, m.cost_micros, m.unpriced)).collect();
    assert_eq!(
        by_model,
        [("a/good", 40, 80, 0), ("a/new", 20, 40, 1), ("a/b", 5, 10, 0)],
        "charges without a model are listed under the engine's model"
    );
    assert_eq!(models[2].reserved_tokens, 50, "reserved for the model that the engine names");
    assert_eq!(sums(&b, by(SpendingBy::Day)).await, [("2024-10-04".to_owned(), 65, 50, 3)]);
    let mine = SpendingFilter { projects: project("demo").into(), ..by(SpendingBy::Run) };
    assert_eq!(sums(&b, mine).await, [(r.id.to_string(), 60, 50, 2)]);
    let one = SpendingFilter { run: Some(other.id), ..by(SpendingBy::Model) };
    assert_eq!(sums(&b, one).await, [("a/b".to_owned(), 5, 0, 1)]);
    let never = SpendingFilter { day: Some(Day(1)), ..by(SpendingBy::Project) };
    assert!(sums(&b, never).await.is_empty());
}

async fn a_fenced_transition_leaves_no_row(b: TestStore) {
    let (mut r, old) = opened(&b, "demo").await;
    b.take(r.id, "one").await;
    let ledger_rows = vec![charge(1, Role::Dev, 100, false, &[])];
    let late = Transition { ledger_rows, ..moving(&mut r, &old, Phase::Working, 0) };
    assert!(fenced(&b.commit(late).await));
    assert!(sums(&b, by(SpendingBy::Role)).await.is_empty());
    assert!(fenced(
        &b.store.reserve(&super::shared_budgets::ask(&old, 1, 10, super::shared_budgets::limits(1_000))).await
    ));
}

async fn every_grouping_adds_up_to_the_same(b: TestStore) {
    let (mut r, lease) = opened(&b, "demo").await;
    let nameless = |n| LedgerRow { engine: "acp:robot".to_owned(), ..charge(n, Role::Manager, 11, false, &[]) };
    let rows = vec![
        charge(1, Role::Dev, 60, true, &[("a/good", 40, true), ("a/new", 20, false)]),
        charge(2, Role::Dev, 100, false, &[]),
        charge(3, Role::Reviewer, 9, true, &[("a/lies", 4_000, true)]),
        nameless(4),
        LedgerRow { settled: true, ..nameless(5) },
    ];
    b.commit(Transition { ledger_rows: rows, ..moving(&mut r, &lease, Phase::Working, 0) })
        .await
        .expect("a transition");
    let mut all = Vec::new();
    for grouping in [SpendingBy::Project, SpendingBy::Day, SpendingBy::Run, SpendingBy::Role, SpendingBy::Model] {
        let rows: Vec<Spending> = b.store.spending(&by(grouping)).await.expect("sums");
        let sum = |of: fn(&Spending) -> u64| rows.iter().map(of).sum::<u64>();
        let used = (sum(|s| s.tokens), sum(|s| s.cost_micros), sum(|s| s.turns), sum(|s| s.wall_ms));
        all.push((used, sum(|s| s.reserved_tokens), sum(|s| s.reserved_cost_micros)));
        if grouping == SpendingBy::Run {
            assert_eq!((rows[0].attempts, rows[0].rounds), (5, 4), "attempts 2 to 5 each belong to a round of rework");
        }
        if grouping == SpendingBy::Model {
            let reserved = |key: &str| rows.iter().find(|s| s.key == key).map(|s| s.reserved_tokens);
            assert_eq!((reserved("a/b"), reserved("not known yet")), (Some(100), Some(11)), "{rows:?}");
        }
    }
    assert_eq!(all[0], ((80, 160, 9, 21), 111, 222));
    assert!(all.iter().all(|sums| *sums == all[0]), "{all:?}");
}

async fn due_runs_are_found_in_time(b: TestStore) {
    let mut ids: Vec<RunId> = Vec::new();
    for until in [5_000, 3_000, 9_000] {
        let (mut r, lease) = opened(&b, "demo").await;
        r.wait = Some(Wait {
            until: Timestamp(until),
            reason: WaitReason::Engine { engine: "llm:a/b".to_owned(), why: "429".to_owned() },
        });
        b.commit(moving(&mut r, &lease, Phase::Working, 0)).await.expect("a transition");
        ids.push(r.id);
    }
    let due = async |until| b.store.due(Timestamp(until), 10).await.expect("a list");
    assert_eq!(due(2_999).await, []);
    assert_eq!(due(5_000).await, [(ids[1], Timestamp(3_000)), (ids[0], Timestamp(5_000))]);
    let row =
        &b.store.list(&skep::ports::run_index::RunFilter { limit: 1, ..Default::default() }).await.expect("a list")[0];
    assert_eq!((row.wake_at, row.waits.as_deref()), (Some(Timestamp(9_000)), Some("llm:a/b: 429")));
    let mut r = b.store.load(ids[1]).await.expect("an answer").expect("a run");
    let lease = b.take(r.id, "one").await;
    r.wait = None;
    b.commit(moving(&mut r, &lease, Phase::Working, 0)).await.expect("a transition");
    assert_eq!(due(99_999).await.len(), 2, "one that was woken waits no more");
}
