//! The budgets runs share: never passed, whoever asks; what people are told of them is told once; a run that is put aside keeps none.

use super::books::{by, charge, opened, sums};
use crate::support::runs::{moving, project};
use crate::support::stores::Bench;
use skep::domain::{AttemptId, BudgetScope, BudgetUnit, Level, Phase, Principal, Role, SharedLimits, Timestamp, Usage};
use skep::ports::store::{Lease, Reservation, Room, SharedRaise, SpendingBy, Transition};

super::on_both!(
    shared_budgets_are_never_passed,
    the_same_attempt_is_given_the_same,
    a_raise_makes_room,
    all_that_is_short_is_named,
    what_people_are_told_they_are_told_once,
    what_a_run_put_aside_had_set_aside_is_spent
);

pub(super) fn limits(day_tokens: u64) -> SharedLimits {
    SharedLimits { day_tokens: Some(day_tokens), ..SharedLimits::default() }
}

pub(super) fn ask(lease: &Lease, attempt: u32, tokens: u64, shared: SharedLimits) -> Reservation {
    Reservation {
        lease: lease.clone(),
        attempt: AttemptId(attempt),
        project: project("demo"),
        role: Role::Dev,
        engine: "llm:a/b".to_owned(),
        caps: Usage { tokens, wall_ms: 9, ..Usage::default() },
        shared,
        alert_percent: vec![50, 80, 100],
        round: 0,
        at: Timestamp(20_000 * 86_400_000 + 5),
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
                    Room::Short { levels, set_aside } => {
                        assert_eq!(set_aside, LIMIT, "none of it is spent yet");
                        let level = &levels[0];
                        assert_eq!((level.scope, level.used, level.limit), (BudgetScope::Day, LIMIT, LIMIT))
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
    let tomorrow = Reservation { at: Timestamp(20_001 * 86_400_000), ..ask(&lease, 2, 0, limits(500)) };
    assert!(matches!(b.store.reserve(&tomorrow).await, Ok(Room::Reserved { .. })), "another day has its own");
}

async fn a_raise_makes_room(b: Bench) {
    let (_, lease) = opened(&b, "demo").await;
    let shared = SharedLimits { project_cost_micros: Some(0), ..limits(10) };
    let asked = async |attempt| b.store.reserve(&ask(&lease, attempt, 4, shared)).await.expect("an answer");
    let short = |room: Room| match room {
        Room::Short { levels, .. } => {
            let short: Vec<_> = levels.iter().filter(|l| l.exhausted().is_some()).collect();
            (short[0].scope, short[0].unit, short[0].limit)
        }
        room => panic!("{room:?}"),
    };
    assert_eq!(short(asked(1).await), (BudgetScope::Project, BudgetUnit::Cost, 0));
    let more = async |share: BudgetScope, key: &str, tokens, cost_micros| {
        let (by, at) = (Principal::from("local:ann"), Timestamp(3));
        let raise = SharedRaise { share, key: key.to_owned(), tokens, cost_micros, by, at };
        b.store.raise_shared(&raise).await.expect("a raise");
    };
    more(BudgetScope::Project, "other", 0, 500).await;
    assert_eq!(
        short(asked(1).await),
        (BudgetScope::Project, BudgetUnit::Cost, 0),
        "another project's is another project's"
    );
    more(BudgetScope::Project, "demo", 0, 500).await;
    let Room::Reserved { caps, levels } = asked(1).await else { panic!("short") };
    assert_eq!((caps.cost_micros, caps.tokens, levels.len()), (500, 4, 2));
    assert_eq!(short(asked(2).await), (BudgetScope::Project, BudgetUnit::Cost, 500));
    more(BudgetScope::Project, "demo", 0, 500).await;
    more(BudgetScope::Day, "20000", 100, 0).await;
    let Room::Reserved { levels, .. } = asked(2).await else { panic!("short") };
    assert_eq!(levels.iter().map(|l| (l.used, l.limit)).collect::<Vec<_>>(), [(1_000, 1_000), (8, 110)]);
}

async fn all_that_is_short_is_named(b: Bench) {
    let (_, lease) = opened(&b, "demo").await;
    let shared = SharedLimits { project_tokens: Some(10), project_cost_micros: Some(0), ..limits(10) };
    let asked = async |attempt, shared| b.store.reserve(&ask(&lease, attempt, 10, shared)).await.expect("an answer");
    let first = SharedLimits { project_cost_micros: None, ..shared };
    assert!(matches!(asked(1, first).await, Room::Reserved { .. }));
    let Room::Short { levels, set_aside } = asked(2, shared).await else { panic!("room") };
    let named: Vec<_> = levels.iter().filter_map(Level::exhausted).map(|b| (b.scope, b.unit, b.over)).collect();
    assert_eq!(
        named,
        [
            (BudgetScope::Project, BudgetUnit::Tokens, 0),
            (BudgetScope::Project, BudgetUnit::Cost, 0),
            (BudgetScope::Day, BudgetUnit::Tokens, 0)
        ]
    );
    assert_eq!(set_aside, 0, "no waiting brings money back that there never was");
    let lower = SharedLimits { project_tokens: None, project_cost_micros: None, ..limits(4) };
    let Room::Short { levels, set_aside } = asked(2, lower).await else { panic!("room") };
    assert_eq!((levels[0].exhausted().map(|b| b.over), set_aside), (Some(6), 10));
}

async fn what_people_are_told_they_are_told_once(b: Bench) {
    let (_, one) = opened(&b, "demo").await;
    let (_, two) = opened(&b, "demo").await;
    let (mut spender, lease) = opened(&b, "demo").await;
    let second = skep::adapters::store::connect(&b.url).await.expect("the store, opened again");
    let mut line = 0;
    let mut spend = async |tokens| {
        line += 1;
        let ledger_rows = vec![charge(line, Role::Dev, tokens, true, &[])];
        let spent = Transition { ledger_rows, ..moving(&mut spender, &lease, Phase::Working, 0) };
        b.commit(spent).await.expect("a transition");
    };
    let told = async |lease: &Lease, attempt| {
        let answer = skep::ports::Store::reserve(&second, &ask(lease, attempt, 10, limits(1_000))).await;
        let (Room::Reserved { levels, .. } | Room::Short { levels, .. }) = answer.expect("an answer");
        (levels[0].spent(), levels[0].alert_percent)
    };
    spend(490).await;
    assert_eq!(told(&one, 1).await, (490, None), "what is set aside may come back");
    spend(10).await;
    assert_eq!(told(&two, 1).await, (500, Some(50)));
    assert_eq!(told(&one, 2).await, (500, None), "another run was told");
    assert_eq!(told(&two, 1).await, (500, Some(50)), "asked again after a crash, it tells what it had to tell");
    spend(400).await;
    assert_eq!(told(&one, 3).await, (900, Some(80)));
    spend(100).await;
    assert_eq!(told(&two, 2).await, (1_000, Some(100)), "that nothing is left is told by who gets nothing");
    assert_eq!(told(&two, 2).await, (1_000, Some(100)), "to it again, after a crash");
    let (by, at) = (Principal::from("local:ann"), Timestamp(3));
    let more = SharedRaise { share: BudgetScope::Day, key: "20000".to_owned(), tokens: 500, cost_micros: 5, by, at };
    b.store.raise_shared(&more).await.expect("a raise");
    assert_eq!(told(&two, 3).await, (1_000, None), "50 % of 1500 was passed before the raise");
    spend(250).await;
    assert_eq!(told(&two, 4).await, (1_250, Some(80)), "80 % was not");
    let of_project = SharedLimits { project_tokens: Some(1_500), ..SharedLimits::default() };
    let other = b.store.reserve(&ask(&one, 9, 10, of_project)).await.expect("an answer");
    assert!(matches!(&other, Room::Reserved { levels, .. } if levels[0].alert_percent == Some(80)), "{other:?}");
    let tomorrow = Reservation { at: Timestamp(20_001 * 86_400_000), ..ask(&one, 10, 600, limits(1_000)) };
    let next = b.store.reserve(&tomorrow).await.expect("an answer");
    assert!(
        matches!(&next, Room::Reserved { levels, .. } if levels[0].alert_percent.is_none()),
        "another day has its own"
    );
}

async fn what_a_run_put_aside_had_set_aside_is_spent(b: Bench) {
    let (mut bad, lease) = opened(&b, "demo").await;
    let (_, other) = opened(&b, "demo").await;
    let asked = async |lease: &Lease, attempt| b.store.reserve(&ask(lease, attempt, 600, limits(1_000))).await;
    assert!(matches!(asked(&lease, 1).await, Ok(Room::Reserved { .. })));
    let used = Transition {
        ledger_rows: vec![charge(2, Role::Dev, 400, true, &[])],
        ..moving(&mut bad, &lease, Phase::Working, 0)
    };
    b.commit(used).await.expect("a transition");
    let short = async || match asked(&other, 1).await.expect("an answer") {
        Room::Short { set_aside, .. } => set_aside,
        room => panic!("{room:?}"),
    };
    // Attempt 2 is of the same day.
    assert_eq!((short().await, sums(&b, by(SpendingBy::Day)).await[0].2), (600, 600));
    b.store.quarantine(bad.id, "its snapshot cannot be read").await.expect("put aside");
    assert_eq!(short().await, 0, "nobody waits for what never comes back");
    let day = &sums(&b, by(SpendingBy::Day)).await[0];
    assert_eq!((day.1, day.2), (1_000, 0), "and nothing that may have been spent is given out again");
    assert_eq!(sums(&b, by(SpendingBy::Model)).await, [("a/b".to_owned(), 1_000, 0, 2)]);
}
