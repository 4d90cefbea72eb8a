//! The books: lines follow their events, shared budgets are never passed, and what runs wait for is found when it is due.

use crate::support::runs::{moving, project, run};
use crate::support::stores::{Bench, fenced};
use skep::domain::{
    At, AttemptId, Charge, Day, ModelUse, Phase, Principal, Role, Run, RunId, Share, SharedLimits, Usage, Wait,
};
use skep::ports::store::{Lease, Reservation, Room, SharedRaise, Spending, SpendingBy, SpendingFilter, Transition};

super::on_both!(
    lines_follow_their_events,
    a_fenced_transition_leaves_no_line,
    shared_budgets_are_never_passed,
    the_same_attempt_is_given_the_same,
    a_raise_makes_room,
    due_runs_are_found_in_time
);

fn charge(attempt: u32, role: Role, tokens: u64, settled: bool, models: &[(&str, u64, bool)]) -> Charge {
    let line = |(model, input, priced): &(&str, u64, bool)| ModelUse {
        model: (*model).to_owned(),
        calls: 1,
        input: *input,
        cost_micros: if *priced { input * 2 } else { 0 },
        priced: *priced,
        ..ModelUse::default()
    };
    Charge {
        attempt: AttemptId(attempt),
        role,
        engine: "llm:a/b".to_owned(),
        amount: Usage { tokens, cost_micros: tokens * 2, wall_ms: 7, turns: 3 },
        settled,
        models: models.iter().map(line).collect(),
        day: Day(20_000),
        at: At(1),
    }
}

fn by(by: SpendingBy) -> SpendingFilter {
    SpendingFilter { by, run: None, project: None, day: None, limit: 100 }
}

async fn sums(b: &Bench, filter: SpendingFilter) -> Vec<(String, u64, u64, u64)> {
    let rows: Vec<Spending> = b.store.spending(&filter).await.expect("sums");
    rows.into_iter().map(|s| (s.key, s.tokens, s.reserved_tokens, s.attempts)).collect()
}

async fn opened(b: &Bench, name: &str) -> (Run, Lease) {
    let r = Run { project: project(name), ..run() };
    b.open(&r).await;
    let lease = b.take(r.id, "one").await;
    (r, lease)
}

async fn lines_follow_their_events(b: Bench) {
    let (mut r, lease) = opened(&b, "demo").await;
    let (mut other, other_lease) = opened(&b, "other").await;
    let with = |t: Transition, charges: Vec<Charge>| Transition { charges, ..t };
    let set_aside = vec![charge(1, Role::Dev, 100, false, &[]), charge(2, Role::Reviewer, 50, false, &[])];
    b.commit(with(moving(&mut r, &lease, Phase::Working, 0), set_aside)).await.expect("a transition");
    assert_eq!(
        sums(&b, by(SpendingBy::Role)).await,
        [("dev".to_owned(), 0, 100, 1), ("reviewer".to_owned(), 0, 50, 1)]
    );
    let used = vec![charge(1, Role::Dev, 60, true, &[("a/good", 40, true), ("a/new", 20, false)])];
    let transition = with(moving(&mut r, &lease, Phase::Working, 0), used);
    b.commit(transition.clone()).await.expect("a transition");
    // The same again, as after a lost acknowledgement, is one line.
    b.commit(transition).await.expect("the same again");
    let told = vec![charge(1, Role::Dev, 5, true, &[])];
    b.commit(with(moving(&mut other, &other_lease, Phase::Working, 0), told)).await.expect("a transition");
    assert_eq!(sums(&b, by(SpendingBy::Role)).await, [("dev".to_owned(), 65, 0, 2), ("reviewer".to_owned(), 0, 50, 1)]);
    let models = b.store.spending(&by(SpendingBy::Model)).await.expect("sums");
    let told: Vec<_> = models.iter().map(|m| (m.key.as_str(), m.tokens, m.cost_micros, m.unpriced)).collect();
    assert_eq!(told, [("a/good", 40, 80, 0), ("llm:a/b", 5, 10, 0), ("a/new", 20, 0, 1)]);
    assert_eq!(sums(&b, by(SpendingBy::Day)).await, [("2024-10-04".to_owned(), 65, 50, 3)]);
    let mine = SpendingFilter { project: Some(project("demo")), ..by(SpendingBy::Run) };
    assert_eq!(sums(&b, mine).await, [(r.id.to_string(), 60, 50, 2)]);
    let one = SpendingFilter { run: Some(other.id), ..by(SpendingBy::Model) };
    assert_eq!(sums(&b, one).await, [("llm:a/b".to_owned(), 5, 0, 1)]);
    let never = SpendingFilter { day: Some(Day(1)), ..by(SpendingBy::Project) };
    assert!(sums(&b, never).await.is_empty());
}

async fn a_fenced_transition_leaves_no_line(b: Bench) {
    let (mut r, old) = opened(&b, "demo").await;
    b.take(r.id, "one").await;
    let charges = vec![charge(1, Role::Dev, 100, false, &[])];
    let late = Transition { charges, ..moving(&mut r, &old, Phase::Working, 0) };
    assert!(fenced(&b.commit(late).await));
    assert!(sums(&b, by(SpendingBy::Role)).await.is_empty());
    assert!(fenced(&b.store.reserve(&ask(&old, 1, 10, limits(1_000))).await));
}

fn limits(day_tokens: u64) -> SharedLimits {
    SharedLimits { day_tokens: Some(day_tokens), ..SharedLimits::default() }
}

fn ask(lease: &Lease, attempt: u32, tokens: u64, shared: SharedLimits) -> Reservation {
    Reservation {
        lease: lease.clone(),
        attempt: AttemptId(attempt),
        project: project("demo"),
        role: Role::Dev,
        engine: "llm:a/b".to_owned(),
        caps: Usage { tokens, wall_ms: 9, ..Usage::default() },
        shared,
        at: At(20_000 * 86_400_000 + 5),
    }
}

async fn shared_budgets_are_never_passed(b: Bench) {
    const LIMIT: u64 = 1_000;
    let mut leases = Vec::new();
    for _ in 0..32 {
        leases.push(opened(&b, "demo").await.1);
    }
    // Two processes, each with its own connections.
    let second = skep::adapters::store::connect(&b.url).await.expect("the store, opened again");
    let all = leases.iter().enumerate().map(|(n, lease)| {
        let (second, store) = (&second as &dyn skep::ports::Store, &b.store);
        async move {
            let mut given = 0;
            for attempt in 1..=3 {
                let reservation = ask(lease, attempt, 37, limits(LIMIT));
                let room = match n % 2 {
                    0 => store.reserve(&reservation).await,
                    _ => second.reserve(&reservation).await,
                };
                match room.expect("an answer") {
                    Room::Reserved { caps, levels } => {
                        assert!(caps.tokens > 0 && caps.tokens <= 37 && levels[0].used <= LIMIT, "{caps:?} {levels:?}");
                        given += caps.tokens;
                    }
                    Room::Short { level, set_aside } => {
                        assert_eq!(set_aside, LIMIT, "none of it is spent yet");
                        assert_eq!((level.share, level.used, level.limit), (Share::Day, LIMIT, LIMIT))
                    }
                }
            }
            given
        }
    });
    let given: u64 = futures::future::join_all(all).await.into_iter().sum();
    assert_eq!(given, LIMIT, "all of it, and no token more");
    assert_eq!(sums(&b, by(SpendingBy::Day)).await[0].2, LIMIT);
}

async fn the_same_attempt_is_given_the_same(b: Bench) {
    let (_, lease) = opened(&b, "demo").await;
    // Not limited itself, it gets what is left as its cap.
    let first = b.store.reserve(&ask(&lease, 1, 0, limits(500))).await.expect("an answer");
    assert!(matches!(&first, Room::Reserved { caps, .. } if caps.tokens == 500), "{first:?}");
    let again = b.store.reserve(&ask(&lease, 1, 0, limits(500))).await.expect("an answer");
    assert!(matches!(&again, Room::Reserved { caps, .. } if caps.tokens == 500 && caps.wall_ms == 9), "{again:?}");
    let next = b.store.reserve(&ask(&lease, 2, 0, limits(500))).await.expect("an answer");
    assert!(matches!(next, Room::Short { .. }), "{next:?}");
    let tomorrow = Reservation { at: At(20_001 * 86_400_000), ..ask(&lease, 2, 0, limits(500)) };
    assert!(matches!(b.store.reserve(&tomorrow).await, Ok(Room::Reserved { .. })), "another day has its own");
}

async fn a_raise_makes_room(b: Bench) {
    let (_, lease) = opened(&b, "demo").await;
    let shared = SharedLimits { project_cost_micros: Some(0), ..limits(10) };
    let asked = async |attempt| b.store.reserve(&ask(&lease, attempt, 4, shared)).await.expect("an answer");
    let short = |room: Room| match room {
        Room::Short { level, .. } => (level.share, level.money, level.limit),
        room => panic!("{room:?}"),
    };
    assert_eq!(short(asked(1).await), (Share::Project, true, 0));
    let more = async |share: Share, key: &str, tokens, cost_micros| {
        let (by, at) = (Principal::from("local:ann"), At(3));
        let raise = SharedRaise { share, key: key.to_owned(), tokens, cost_micros, by, at };
        b.store.raise_shared(&raise).await.expect("a raise");
    };
    more(Share::Project, "other", 0, 500).await;
    assert_eq!(short(asked(1).await), (Share::Project, true, 0), "another project's is another project's");
    more(Share::Project, "demo", 0, 500).await;
    let Room::Reserved { caps, levels } = asked(1).await else { panic!("short") };
    assert_eq!((caps.cost_micros, caps.tokens, levels.len()), (500, 4, 2));
    assert_eq!(short(asked(2).await), (Share::Project, true, 500));
    more(Share::Project, "demo", 0, 500).await;
    more(Share::Day, "20000", 100, 0).await;
    let Room::Reserved { levels, .. } = asked(2).await else { panic!("short") };
    assert_eq!(levels.iter().map(|l| (l.used, l.limit)).collect::<Vec<_>>(), [(1_000, 1_000), (8, 110)]);
}

async fn due_runs_are_found_in_time(b: Bench) {
    let mut ids: Vec<RunId> = Vec::new();
    for until in [5_000, 3_000, 9_000] {
        let (mut r, lease) = opened(&b, "demo").await;
        r.wait = Some(Wait { until: At(until), why: "llm:a/b: 429".to_owned() });
        b.commit(moving(&mut r, &lease, Phase::Working, 0)).await.expect("a transition");
        ids.push(r.id);
    }
    let due = async |until| b.store.due(At(until), 10).await.expect("a list");
    assert_eq!(due(2_999).await, []);
    assert_eq!(due(5_000).await, [(ids[1], At(3_000)), (ids[0], At(5_000))]);
    let row =
        &b.store.list(&skep::ports::store::RunFilter { limit: 1, ..Default::default() }).await.expect("a list")[0];
    assert_eq!((row.wake_at, row.waits.as_deref()), (Some(At(9_000)), Some("llm:a/b: 429")));
    let mut r = b.store.load(ids[1]).await.expect("an answer").expect("a run");
    let lease = b.take(r.id, "one").await;
    r.wait = None;
    b.commit(moving(&mut r, &lease, Phase::Working, 0)).await.expect("a transition");
    assert_eq!(due(99_999).await.len(), 2, "one that was woken waits no more");
}
