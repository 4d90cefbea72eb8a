//! What a run does about the budgets it shares: asks them first, waits for what is set aside, asks a person, tells what is spent.

use crate::support::fixtures::{asker, bare_policy};
use crate::support::story::{Story, spec};
use skep::domain::*;

/// A day in milliseconds.
const DAY: i64 = 24 * 3_600_000;

fn asks(story: &Story) -> Vec<&'static str> {
    story.run.blocks.iter().map(|b| b.kind.code()).collect()
}

fn shared() -> Policy {
    Policy { shared: SharedLimits { day_tokens: Some(1_000), ..SharedLimits::default() }, ..bare_policy() }
}

fn of(share: BudgetScope, money: bool) -> SharedBudget {
    SharedBudget { share, money, over: 0 }
}

/// A shared budget after a reservation.
fn level(share: BudgetScope, used: u64, told: Option<u8>) -> Level {
    Level { share, money: false, used, set_aside: 0, limit: 1_000, told }
}

fn shared_asked(story: &Story) -> Vec<Vec<(BudgetScope, bool)>> {
    let kinds = story.run.blocks.iter().filter_map(|b| match &b.kind {
        BlockKind::Shared { of } => Some(of.iter().map(|b| (b.share, b.money)).collect()),
        _ => None,
    });
    kinds.collect()
}

fn pending(story: &Story, act: &str) -> usize {
    story.run.pending.values().filter(|t| t.name() == act).count()
}

#[test]
fn shared_budgets_are_asked_before_anything_is_started() {
    let story = Story::new(shared()).tell(Event::Admitted);
    assert_eq!((pending(&story, "reserve"), pending(&story, "start")), (1, 0));
    let cut = EffectOutcome::Reserved { caps: Usage { tokens: 300, ..Usage::default() }, levels: Vec::new() };
    let story = story.done("reserve", cut);
    let started = story.outbox.values().find_map(|e| match e {
        Effect::Start { order } => Some(order.caps),
        _ => None,
    });
    assert_eq!(started.map(|c| (c.tokens, c.wall_ms)), Some((300, 120_000)), "cut, and not loosened elsewhere");
}

#[test]
fn a_day_that_is_used_up_is_asked_about_and_ends() {
    let story = Story::new(shared()).tell(Event::Admitted);
    let short = EffectOutcome::Short {
        of: vec![of(BudgetScope::Day, false)],
        why: "reviewer: 900 tokens".to_owned(),
        levels: Vec::new(),
        set_aside: false,
    };
    let story = story.done("reserve", short);
    assert_eq!((asks(&story), story.run.wake_at()), (vec!["budget"], Some(Timestamp(DAY))));
    assert_eq!((story.run.ledger.committed(), story.run.tries[&Step::Plan].used), (Usage::default(), 0));
    let question = escalation::of(&story.run, &story.run.blocks[0]).plain();
    assert!(question.contains("skep budget raise --day") && question.contains("reviewer: 900"), "{question}");
    let more = Event::Answered {
        block: None,
        answer: Answer::More { raise: Raise { tokens: 5, ..Raise::default() } },
        by: asker(),
    };
    assert!(decide(&story.run, &more, Timestamp(1)).is_err(), "the run's own budget is not what is missing");
    assert_eq!(pending(&story.clone().answer(Answer::Yes), "reserve"), 1);
    assert_eq!(pending(&story.wait(24 * 3600).tell(Event::Due), "reserve"), 1, "the next day it goes on by itself");
}

#[test]
fn what_others_only_set_aside_is_waited_for() {
    let mut story = Story::new(shared()).tell(Event::Admitted);
    let short = || EffectOutcome::Short {
        of: vec![of(BudgetScope::Day, false)],
        why: "dev: 900 tokens".to_owned(),
        levels: Vec::new(),
        set_aside: true,
    };
    for _ in 1..engine_selection::UNAVAILABLE_MOST {
        story = story.done("reserve", short());
        assert!(asks(&story).is_empty() && pending(&story, "reserve") == 0);
        let wait = story.run.wait.clone().expect("a wait");
        assert!(wait.why.contains("set aside"), "{wait:?}");
        story = story.wait(1800).tell(Event::Due);
    }
    assert_eq!(asks(&story.clone().done("reserve", short())), ["budget"], "then a person is asked");
    let caps = Usage { tokens: 300, ..Usage::default() };
    let story = story.done("reserve", EffectOutcome::Reserved { caps, levels: Vec::new() });
    assert!(story.run.short.is_none() && pending(&story, "start") == 1);
    assert_eq!(SharedLimits::cap(0, 20_000_000, true), 5_000_000, "one that may take all takes a quarter");
    assert_eq!((SharedLimits::cap(0, 900_000, true), SharedLimits::cap(70, 50, false)), (900_000, 50));
}

#[test]
fn too_little_left_is_asked_for_and_the_steps_own_limit_is_a_failure() {
    let spent_out =
        |what: &str| Report::SpentOut { what: what.to_owned(), why: "the next call does not fit".to_owned() };
    // Of the day's budget less is left than the attempt may use.
    let started = |levels: &[Level]| {
        let story = Story::new(shared()).tell(Event::Admitted);
        let caps = Usage { tokens: 300, ..Usage::default() };
        story.done("reserve", EffectOutcome::Reserved { caps, levels: levels.to_vec() })
    };
    // Of two budgets the one that had no more is asked for.
    let tight = [level(BudgetScope::Project, 999, None), level(BudgetScope::Day, 1_000, None)];
    let story = started(&tight).report(spent_out("tokens"));
    assert_eq!((asks(&story), story.run.tries[&Step::Plan].used), (vec!["budget"], 0));
    assert_eq!(shared_asked(&story), [[(BudgetScope::Day, false)]]);
    assert!(story.run.blocks[0].until.is_some(), "the next day has its own");
    let both = [level(BudgetScope::Project, 1_000, None), level(BudgetScope::Day, 1_000, None)];
    let story = started(&both).report(spent_out("tokens"));
    assert_eq!(shared_asked(&story), [[(BudgetScope::Project, false), (BudgetScope::Day, false)]]);
    assert!(story.run.blocks[0].until.is_none(), "no day brings the project's back");
    // One that was given a part of plenty used up its part.
    let story = started(&[level(BudgetScope::Day, 500, None)]).report(spent_out("tokens"));
    assert!(asks(&story).is_empty() && story.run.tries[&Step::Plan].used > 0);
    // What nobody limits cannot have been cut short.
    let story = started(&tight).report(spent_out("turns"));
    assert!(asks(&story).is_empty() && story.run.tries[&Step::Plan].used > 0);
    // The run's own: all that was left was set aside.
    let policy = |step: Option<u64>| {
        let mut policy = bare_policy();
        policy.limits.tokens = Some(500);
        policy.steps.plan.tokens = step;
        policy
    };
    let story = Story::new(policy(None)).tell(Event::Admitted).report(spent_out("tokens"));
    assert!(matches!(&story.run.blocks[0].kind, BlockKind::Budget { what } if what == "tokens"));
    assert_eq!(story.run.tries[&Step::Plan].used, 0);
    let story = Story::new(policy(Some(200))).tell(Event::Admitted).report(spent_out("tokens"));
    assert!(asks(&story).is_empty() && story.run.tries[&Step::Plan].used > 0, "its step's limit: a failed try");
}

#[test]
fn what_is_reserved_for_a_run_that_was_held_meanwhile_goes_back() {
    let story = Story::new(shared()).tell(Event::Admitted).tell(Event::Paused { by: asker() });
    let key = story.key("reserve");
    let done = EffectOutcome::Reserved { caps: Usage { tokens: 300, ..Usage::default() }, levels: Vec::new() };
    let decision =
        decide(&story.run, &Event::EffectFinished { key, done: done.clone() }, Timestamp(9_000)).expect("accepted");
    let charge = &decision.charges[0];
    assert!(charge.settled && charge.amount == Usage::default(), "{charge:?}");
    let story = story.done("reserve", done).tell(Event::Resumed { by: asker() });
    assert_eq!((pending(&story, "reserve"), story.run.attempts.len()), (1, 2));
}

#[test]
fn a_share_of_a_shared_budget_is_told_by_the_run_whose_reservation_reached_it() {
    let reserved =
        |levels: Vec<Level>| EffectOutcome::Reserved { caps: Usage { tokens: 300, ..Usage::default() }, levels };
    let told = |s: &Story| s.run.alerts.iter().map(|a| (a.what.clone(), a.share)).collect::<Vec<_>>();
    let story = Story::new(shared()).tell(Event::Admitted);
    let story = story.done(
        "reserve",
        reserved(vec![level(BudgetScope::Day, 600, Some(50)), level(BudgetScope::Project, 900, None)]),
    );
    assert_eq!(told(&story), [("day budget: tokens".to_owned(), 50)], "another run has told of the project's");
    assert!(!story.outbox.values().any(|e| matches!(e, Effect::Comment { .. })), "there is no change yet");
    let story = story.report(Report::Planned { tasks: vec![spec("a", &[])] });
    let story = story.reserved().work().well("check").well("integrate").all_well(&["push", "check", "ensure_change"]);
    let story = story.done("reserve", reserved(vec![level(BudgetScope::Day, 850, Some(80))]));
    assert_eq!(told(&story), [("day budget: tokens".to_owned(), 50), ("day budget: tokens".to_owned(), 80)]);
    let said: Vec<&String> = story
        .outbox
        .values()
        .filter_map(|e| match e {
            Effect::Comment { text, .. } => Some(text),
            _ => None,
        })
        .collect();
    assert!(
        matches!(said[..], [text] if text.contains("80 % of the budget of this UTC day")
        && text.contains("of 1000 tokens 850 are spent") && text.contains("skep budget raise --day")),
        "{said:?}"
    );
}

#[test]
fn what_is_short_is_asked_for_in_one_question_whose_commands_bring_it_above_what_is_used() {
    let story = Story::new(shared()).tell(Event::Admitted);
    let why = || "reviewer: 900 tokens".to_owned();
    let of_two = vec![
        SharedBudget { over: 7_200_000, ..of(BudgetScope::Day, true) },
        of(BudgetScope::Day, false),
        of(BudgetScope::Project, true),
    ];
    let short = EffectOutcome::Short { of: of_two, why: why(), levels: Vec::new(), set_aside: false };
    let story = story.done("reserve", short);
    let question = escalation::of(&story.run, &story.run.blocks[0]);
    assert_eq!(question.reason, "the project budget and the day budget are used up");
    assert_eq!(
        question.answers[..2],
        [
            "skep budget raise --project demo --cost \"5.00 USD\"",
            "skep budget raise --day --tokens 1000000 --cost \"10.00 USD\""
        ]
    );
    // Answered, it is asked again: what is still short is a question of its own.
    let again = story.answer(Answer::Yes);
    let short = EffectOutcome::Short {
        of: vec![of(BudgetScope::Day, false)],
        why: why(),
        levels: Vec::new(),
        set_aside: false,
    };
    assert_eq!(shared_asked(&again.done("reserve", short)), [[(BudgetScope::Day, false)]]);
}
