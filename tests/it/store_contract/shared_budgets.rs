//! Shared budgets: never exceeded by all processes together; alerts are sent once; a quarantined run reserves nothing.

use super::ledger::{by, charge, opened, sums};
use crate::support::runs::{moving, project};
use crate::support::stores::TestStore;
use skep::domain::{AttemptId, BudgetScope, BudgetUnit, Level, Phase, Principal, Role, SharedLimits, Timestamp, Usage};
use skep::ports::journal::Transition;
use skep::ports::leases::Lease;
use skep::ports::ledger::{BudgetRaise, Reservation, ReserveOutcome, SpendingBy};

super::on_both!(
    shared_budgets_are_never_exceeded,
    the_same_attempt_gets_the_same_answer,
    a_raise_takes_effect,
    all_exhausted_budgets_are_named,
    alerts_are_sent_once,
    reservations_of_a_quarantined_run_are_charged
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

async fn shared_budgets_are_never_exceeded(b: TestStore) {
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
                let outcome = match n % 2 {
                    0 => store.reserve(&reservation).await,
                    _ => second.reserve(&reservation).await,
                };
                match outcome.expect("an answer") {
                    ReserveOutcome::Reserved { caps, levels } => {
                        assert!(caps.tokens > 0 && caps.tokens <= 37 && levels[0].used <= LIMIT, "{caps:?} {levels:?}");
                        given += caps.tokens;
                    }
                    ReserveOutcome::Exhausted { levels, reserved } => {
                        assert_eq!(reserved, LIMIT, "all of it is only reserved");
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

async fn the_same_attempt_gets_the_same_answer(b: TestStore) {
    let (_, lease) = opened(&b, "demo").await;
    // An attempt without a limit of its own gets what is left as its cap.
    let first = b.store.reserve(&ask(&lease, 1, 0, limits(500))).await.expect("an answer");
    assert!(matches!(&first, ReserveOutcome::Reserved { caps, .. } if caps.tokens == 500), "{first:?}");
    let again = b.store.reserve(&ask(&lease, 1, 0, limits(500))).await.expect("an answer");
    assert!(
        matches!(&again, ReserveOutcome::Reserved { caps, .. } if caps.tokens == 500 && caps.wall_ms == 9),
        "{again:?}"
    );
    let next = b.store.reserve(&ask(&lease, 2, 0, limits(500))).await.expect("an answer");
    assert!(matches!(next, ReserveOutcome::Exhausted { .. }), "{next:?}");
    let tomorrow = Reservation { at: Timestamp(20_001 * 86_400_000), ..ask(&lease, 2, 0, limits(500)) };
    assert!(
        matches!(b.store.reserve(&tomorrow).await, Ok(ReserveOutcome::Reserved { .. })),
        "another day has its own budget"
    );
}

async fn a_raise_takes_effect(b: TestStore) {
    let (_, lease) = opened(&b, "demo").await;
    let shared = SharedLimits { project_cost_micros: Some(0), ..limits(10) };
    let asked = async |attempt| b.store.reserve(&ask(&lease, attempt, 4, shared)).await.expect("an answer");
    let short = |room: ReserveOutcome| match room {
        ReserveOutcome::Exhausted { levels, .. } => {
            let short: Vec<_> = levels.iter().filter(|l| l.exhausted().is_some()).collect();
            (short[0].scope, short[0].unit, short[0].limit)
        }
        room => panic!("{room:?}"),
    };
    assert_eq!(short(asked(1).await), (BudgetScope::Project, BudgetUnit::Cost, 0));
    let more = async |scope: BudgetScope, key: &str, tokens, cost_micros| {
        let (by, at) = (Principal::from("local:ann"), Timestamp(3));
        let raise = BudgetRaise { scope, key: key.to_owned(), tokens, cost_micros, by, at };
        b.store.raise_budget(&raise).await.expect("a raise");
    };
    more(BudgetScope::Project, "other", 0, 500).await;
    assert_eq!(
        short(asked(1).await),
        (BudgetScope::Project, BudgetUnit::Cost, 0),
        "a raise for another project has no effect here"
    );
    more(BudgetScope::Project, "demo", 0, 500).await;
    let ReserveOutcome::Reserved { caps, levels } = asked(1).await else { panic!("not reserved") };
    assert_eq!((caps.cost_micros, caps.tokens, levels.len()), (500, 4, 2));
    assert_eq!(short(asked(2).await), (BudgetScope::Project, BudgetUnit::Cost, 500));
    more(BudgetScope::Project, "demo", 0, 500).await;
    more(BudgetScope::Day, "20000", 100, 0).await;
    let ReserveOutcome::Reserved { levels, .. } = asked(2).await else { panic!("not reserved") };
    assert_eq!(levels.iter().map(|l| (l.used, l.limit)).collect::<Vec<_>>(), [(1_000, 1_000), (8, 110)]);
}

async fn all_exhausted_budgets_are_named(b: TestStore) {
    let (_, lease) = opened(&b, "demo").await;
    let shared = SharedLimits { project_tokens: Some(10), project_cost_micros: Some(0), ..limits(10) };
    let asked = async |attempt, shared| b.store.reserve(&ask(&lease, attempt, 10, shared)).await.expect("an answer");
    let first = SharedLimits { project_cost_micros: None, ..shared };
    assert!(matches!(asked(1, first).await, ReserveOutcome::Reserved { .. }));
    let ReserveOutcome::Exhausted { levels, reserved } = asked(2, shared).await else { panic!("not exhausted") };
    let named: Vec<_> = levels.iter().filter_map(Level::exhausted).map(|b| (b.scope, b.unit, b.over)).collect();
    assert_eq!(
        named,
        [
            (BudgetScope::Project, BudgetUnit::Tokens, 0),
            (BudgetScope::Project, BudgetUnit::Cost, 0),
            (BudgetScope::Day, BudgetUnit::Tokens, 0)
        ]
    );
    assert_eq!(reserved, 0, "nothing reserved can come back");
    let lower = SharedLimits { project_tokens: None, project_cost_micros: None, ..limits(4) };
    let ReserveOutcome::Exhausted { levels, reserved } = asked(2, lower).await else { panic!("not exhausted") };
    assert_eq!((levels[0].exhausted().map(|b| b.over), reserved), (Some(6), 10));
}

async fn alerts_are_sent_once(b: TestStore) {
    let (_, one) = opened(&b, "demo").await;
    let (_, two) = opened(&b, "demo").await;
    let (mut spender, lease) = opened(&b, "demo").await;
    let second = skep::adapters::store::connect(&b.url).await.expect("the store, opened again");
    let mut attempt = 0;
    let mut spend = async |tokens| {
        attempt += 1;
        let ledger_rows = vec![charge(attempt, Role::Dev, tokens, true, &[])];
        let spent = Transition { ledger_rows, ..moving(&mut spender, &lease, Phase::Working, 0) };
        b.commit(spent).await.expect("a transition");
    };
    let alert = async |lease: &Lease, attempt| {
        let answer = skep::ports::Ledger::reserve(&second, &ask(lease, attempt, 10, limits(1_000))).await;
        let (ReserveOutcome::Reserved { levels, .. } | ReserveOutcome::Exhausted { levels, .. }) =
            answer.expect("an answer");
        (levels[0].spent(), levels[0].alert_percent)
    };
    spend(490).await;
    assert_eq!(alert(&one, 1).await, (490, None), "reservations do not count");
    spend(10).await;
    assert_eq!(alert(&two, 1).await, (500, Some(50)));
    assert_eq!(alert(&one, 2).await, (500, None), "another run has alerted");
    assert_eq!(alert(&two, 1).await, (500, Some(50)), "the same alert again, after a crash");
    spend(400).await;
    assert_eq!(alert(&one, 3).await, (900, Some(80)));
    spend(100).await;
    assert_eq!(alert(&two, 2).await, (1_000, Some(100)), "the exhausted budget alerts too");
    assert_eq!(alert(&two, 2).await, (1_000, Some(100)), "the same alert again, after a crash");
    let (by, at) = (Principal::from("local:ann"), Timestamp(3));
    let more = BudgetRaise { scope: BudgetScope::Day, key: "20000".to_owned(), tokens: 500, cost_micros: 5, by, at };
    b.store.raise_budget(&more).await.expect("a raise");
    assert_eq!(alert(&two, 3).await, (1_000, None), "50 % of 1500 was reached before the raise");
    spend(250).await;
    assert_eq!(alert(&two, 4).await, (1_250, Some(80)), "80 % was not");
    let of_project = SharedLimits { project_tokens: Some(1_500), ..SharedLimits::default() };
    let other = b.store.reserve(&ask(&one, 9, 10, of_project)).await.expect("an answer");
    assert!(
        matches!(&other, ReserveOutcome::Reserved { levels, .. } if levels[0].alert_percent == Some(80)),
        "{other:?}"
    );
    let tomorrow = Reservation { at: Timestamp(20_001 * 86_400_000), ..ask(&one, 10, 600, limits(1_000)) };
    let next = b.store.reserve(&tomorrow).await.expect("an answer");
    assert!(
        matches!(&next, ReserveOutcome::Reserved { levels, .. } if levels[0].alert_percent.is_none()),
        "another day has its own alerts"
    );
}

async fn reservations_of_a_quarantined_run_are_charged(b: TestStore) {
    let (mut bad, lease) = opened(&b, "demo").await;
    let (_, other) = opened(&b, "demo").await;
    let asked = async |lease: &Lease, attempt| b.store.reserve(&ask(lease, attempt, 600, limits(1_000))).await;
    assert!(matches!(asked(&lease, 1).await, Ok(ReserveOutcome::Reserved { .. })));
    let used = Transition {
        ledger_rows: vec![charge(2, Role::Dev, 400, true, &[])],
        ..moving(&mut bad, &lease, Phase::Working, 0)
    };
    b.commit(used).await.expect("a transition");
    let reserved = async || match asked(&other, 1).await.expect("an answer") {
        ReserveOutcome::Exhausted { reserved, .. } => reserved,
        other => panic!("{other:?}"),
    };
    // Attempt 2 is charged to the same day.
    assert_eq!((reserved().await, sums(&b, by(SpendingBy::Day)).await[0].2), (600, 600));
    b.store.quarantine(bad.id, "its snapshot cannot be read").await.expect("a quarantine");
    assert_eq!(reserved().await, 0, "nothing reserved can come back");
    let day = &sums(&b, by(SpendingBy::Day)).await[0];
    assert_eq!((day.1, day.2), (1_000, 0), "what may have been spent is not reserved again");
    assert_eq!(sums(&b, by(SpendingBy::Model)).await, [("a/b".to_owned(), 1_000, 0, 2)]);
}
