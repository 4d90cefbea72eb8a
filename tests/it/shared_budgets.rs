//! How a run uses shared budgets: it reserves first, waits for amounts that are only reserved, asks a person, and
//! reports thresholds.

use crate::support::fixtures::{asker, bare_policy};
use crate::support::story::{Story, spec};
use skep::domain::escalation::AnswerKind;
use skep::domain::*;
use skep::render;

/// A day in milliseconds.
const DAY: i64 = 24 * 3_600_000;

fn asks(story: &Story) -> Vec<&'static str> {
    story.run.blocks.iter().map(|b| b.kind.code()).collect()
}

fn shared() -> Policy {
    Policy { shared: SharedLimits { day_tokens: Some(1_000), ..SharedLimits::default() }, ..bare_policy() }
}

fn of(scope: BudgetScope, unit: BudgetUnit) -> SharedBudget {
    SharedBudget { scope, unit, over: 0 }
}

/// A shared budget after a reservation.
fn level(scope: BudgetScope, used: u64, alert_percent: Option<u8>) -> Level {
    Level { scope, unit: BudgetUnit::Tokens, used, reserved: 0, limit: 1_000, alert_percent }
}

fn exhausted(budgets: Vec<SharedBudget>, reserved: bool) -> EffectOutcome {
    let (scope, name) = (BudgetScope::Day, "reviewer".to_owned());
    let spending = vec![SharedSpending { scope, name, tokens: 900, cost_micros: 0 }];
    EffectOutcome::BudgetExhausted { budgets, levels: Vec::new(), spending, reserved }
}

fn day_exhausted(reserved: bool) -> EffectOutcome {
    exhausted(vec![of(BudgetScope::Day, BudgetUnit::Tokens)], reserved)
}

fn blocked_by(story: &Story) -> Vec<Vec<(BudgetScope, BudgetUnit)>> {
    let kinds = story.run.blocks.iter().filter_map(|b| match &b.kind {
        BlockKind::SharedBudget { budgets } => Some(budgets.iter().map(|b| (b.scope, b.unit)).collect()),
        _ => None,
    });
    kinds.collect()
}

fn pending(story: &Story, effect: &str) -> usize {
    story.run.pending.values().filter(|e| e.name() == effect).count()
}

#[test]
fn attempt_reserves_in_shared_budgets_before_it_starts() {
    let story = Story::new(shared()).apply(Event::Admitted);
    assert_eq!((pending(&story, "reserve"), pending(&story, "start")), (1, 0));
    let cut = EffectOutcome::Reserved { caps: Usage { tokens: 300, ..Usage::default() }, levels: Vec::new() };
    let story = story.done("reserve", cut);
    let started = story.outbox.values().find_map(|e| match e {
        Effect::Start { order } => Some(order.caps),
        _ => None,
    });
    assert_eq!(started.map(|c| (c.tokens, c.wall_ms)), Some((300, 600_000)), "cut, and not loosened elsewhere");
}

#[test]
fn exhausted_day_is_asked_about_and_lifts_itself_the_next_day() {
    let story = Story::new(shared()).apply(Event::Admitted).done("reserve", day_exhausted(false));
    assert_eq!((asks(&story), story.run.wake_at()), (vec!["budget"], Some(Timestamp(DAY))));
    assert_eq!((story.run.ledger.committed(), story.run.tries[&Step::Plan].used), (Usage::default(), 0));
    let question = render::escalation(&story.run, &story.run.blocks[0]);
    let raise = AnswerKind::RaiseShared { scope: BudgetScope::Day, tokens: 1_000_000, cost_micros: 0 };
    assert!(question.answers.iter().any(|a| a.option.kind == raise), "{question:?}");
    assert!(question.why.contains("reviewer: 900 tokens"), "{}", question.why);
    let more = Event::Answered {
        block: None,
        answer: Answer::More { raise: Raise { tokens: 5, ..Raise::default() } },
        by: asker(),
    };
    assert!(decide(&story.run, &more, Timestamp(1)).is_err(), "the run's own budget is not exhausted");
    assert_eq!(pending(&story.clone().answer(Answer::Yes), "reserve"), 1);
    assert_eq!(pending(&story.wait(24 * 3600).apply(Event::Due), "reserve"), 1, "the next day it resumes by itself");
}

#[test]
fn run_waits_for_amounts_that_are_only_reserved() {
    let mut story = Story::new(shared()).apply(Event::Admitted);
    for _ in 1..engine_selection::MAX_UNAVAILABLE {
        story = story.done("reserve", day_exhausted(true));
        assert!(asks(&story).is_empty() && pending(&story, "reserve") == 0);
        let wait = story.run.wait.clone().expect("a wait");
        assert!(wait.reason.to_string().contains("reserved"), "{wait:?}");
        story = story.wait(1800).apply(Event::Due);
    }
    assert_eq!(asks(&story.clone().done("reserve", day_exhausted(true))), ["budget"], "then a person is asked");
    let caps = Usage { tokens: 300, ..Usage::default() };
    let story = story.done("reserve", EffectOutcome::Reserved { caps, levels: Vec::new() });
    assert!(story.run.budget_wait.is_none() && pending(&story, "start") == 1);
    let cap = SharedLimits::cap;
    assert_eq!(cap(0, 20_000_000, BudgetUnit::Cost), 5_000_000, "an unlimited attempt is given a quarter");
    assert_eq!((cap(0, 900_000, BudgetUnit::Cost), cap(70, 50, BudgetUnit::Tokens)), (900_000, 50));
}

#[test]
fn cut_reservation_blocks_while_a_steps_own_limit_fails_the_attempt() {
    let exhausted =
        |budget| Report::BudgetExhausted { budget, why: "the next call does not fit".to_owned(), unfinished: None };
    // Less is left of the day's budget than the attempt may use.
    let started = |levels: &[Level]| {
        let story = Story::new(shared()).apply(Event::Admitted);
        let caps = Usage { tokens: 300, ..Usage::default() };
        story.done("reserve", EffectOutcome::Reserved { caps, levels: levels.to_vec() })
    };
    let day = (BudgetScope::Day, BudgetUnit::Tokens);
    // The question is about the exhausted one of the two budgets.
    let tight = [level(BudgetScope::Project, 999, None), level(BudgetScope::Day, 1_000, None)];
    let story = started(&tight).report(exhausted(BudgetKind::Tokens));
    assert_eq!((asks(&story), story.run.tries[&Step::Plan].used), (vec!["budget"], 0));
    assert_eq!(blocked_by(&story), [[day]]);
    assert!(story.run.blocks[0].until.is_some(), "the next day has a budget of its own");
    let both = [level(BudgetScope::Project, 1_000, None), level(BudgetScope::Day, 1_000, None)];
    let story = started(&both).report(exhausted(BudgetKind::Tokens));
    assert_eq!(blocked_by(&story), [[(BudgetScope::Project, BudgetUnit::Tokens), day]]);
    assert!(story.run.blocks[0].until.is_none(), "the project's budget does not come back by itself");
    // An attempt that was granted a part of a large budget has used up its part.
    let story = started(&[level(BudgetScope::Day, 500, None)]).report(exhausted(BudgetKind::Tokens));
    assert!(asks(&story).is_empty() && story.run.tries[&Step::Plan].used > 0);
    // An unlimited amount cannot have been cut.
    let story = started(&tight).report(exhausted(BudgetKind::Turns));
    assert!(asks(&story).is_empty() && story.run.tries[&Step::Plan].used > 0);
    // The run's own budget: all that was left of it was reserved.
    let policy = |step: Option<u64>| {
        let mut policy = bare_policy();
        policy.limits.tokens = Some(500);
        policy.steps.plan.tokens = step;
        policy
    };
    let story = Story::new(policy(None)).apply(Event::Admitted).report(exhausted(BudgetKind::Tokens));
    assert_eq!(story.run.blocks[0].kind, BlockKind::Budget(BudgetKind::Tokens));
    assert_eq!(story.run.tries[&Step::Plan].used, 0);
    let story = Story::new(policy(Some(200))).apply(Event::Admitted).report(exhausted(BudgetKind::Tokens));
    assert!(asks(&story).is_empty() && story.run.tries[&Step::Plan].used > 0, "the step's own limit: a failed try");
}

#[test]
fn reservation_for_a_run_that_was_held_meanwhile_is_returned() {
    let story = Story::new(shared()).apply(Event::Admitted).apply(Event::Paused { by: asker() });
    let key = story.key("reserve");
    let outcome = EffectOutcome::Reserved { caps: Usage { tokens: 300, ..Usage::default() }, levels: Vec::new() };
    let event = Event::EffectFinished { key, outcome: outcome.clone() };
    let decision = decide(&story.run, &event, Timestamp(9_000)).expect("accepted");
    let row = &decision.ledger_rows[0];
    assert!(row.settled && row.amount == Usage::default(), "{row:?}");
    let story = story.done("reserve", outcome).apply(Event::Resumed { by: asker() });
    assert_eq!((pending(&story, "reserve"), story.run.attempts.len()), (1, 2));
}

#[test]
fn shared_threshold_is_reported_by_the_run_whose_reservation_found_it() {
    let reserved =
        |levels: Vec<Level>| EffectOutcome::Reserved { caps: Usage { tokens: 300, ..Usage::default() }, levels };
    let alerts = |s: &Story| s.run.alerts.iter().map(|a| (a.scope, a.budget, a.percent)).collect::<Vec<_>>();
    let day = |percent| (Some(BudgetScope::Day), BudgetKind::Tokens, percent);
    let story = Story::new(shared()).apply(Event::Admitted);
    let story = story.done(
        "reserve",
        reserved(vec![level(BudgetScope::Day, 600, Some(50)), level(BudgetScope::Project, 900, None)]),
    );
    assert_eq!(alerts(&story), [day(50)], "another run has reported the project's");
    assert!(!story.outbox.values().any(|e| matches!(e, Effect::Comment { .. })), "there is no change yet");
    let story = story.report(Report::Planned { tasks: vec![spec("a", &[])] });
    let story = story.reserved().work().well("check").well("integrate").all_well(&["push", "check", "ensure_change"]);
    let story = story.done("reserve", reserved(vec![level(BudgetScope::Day, 850, Some(80))]));
    assert_eq!(alerts(&story), [day(50), day(80)]);
    let comments: Vec<_> = story
        .outbox
        .values()
        .filter(|e| matches!(e, Effect::Comment { .. }))
        .filter_map(|e| render::effect_text(&story.run, e))
        .collect();
    let [render::EffectText::Comment(text)] = &comments[..] else { panic!("{comments:?}") };
    assert!(text.contains("80 % of the budget of this UTC day is spent"), "{text}");
    assert!(text.contains("850 tokens of 1000 tokens spent"), "{text}");
}

#[test]
fn one_question_names_every_exhausted_budget_with_raises_above_its_usage() {
    let story = Story::new(shared()).apply(Event::Admitted);
    let budgets = vec![
        SharedBudget { over: 7_200_000, ..of(BudgetScope::Day, BudgetUnit::Cost) },
        of(BudgetScope::Day, BudgetUnit::Tokens),
        of(BudgetScope::Project, BudgetUnit::Cost),
    ];
    let story = story.done("reserve", exhausted(budgets, false));
    let question = render::escalation(&story.run, &story.run.blocks[0]);
    assert_eq!(question.reason, "the project budget and the day budget are exhausted");
    let raises: Vec<_> = question.answers[..2].iter().map(|a| a.option.kind.clone()).collect();
    let raise = |scope, tokens, cost_micros| AnswerKind::RaiseShared { scope, tokens, cost_micros };
    assert_eq!(raises, [raise(BudgetScope::Project, 0, 5_000_000), raise(BudgetScope::Day, 1_000_000, 10_000_000)]);
    // After the answer, the run reserves again; a budget that is still exhausted leads to a new question.
    let again = story.answer(Answer::Yes);
    assert_eq!(blocked_by(&again.done("reserve", day_exhausted(false))), [[(BudgetScope::Day, BudgetUnit::Tokens)]]);
}
