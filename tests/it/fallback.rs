//! Which engine does what: rests, fall-backs, waiting by itself, other model families, second opinions; and what the ledger makes of
//! bills.

use crate::support::fixtures::{asker, bare_policy, opened};
use crate::support::story::{Story, developed, spec};
use skep::domain::*;

const MINUTE: i64 = 60_000;

fn llm(arg: &str) -> EngineSpec {
    EngineSpec { kind: "llm".to_owned(), arg: arg.to_owned() }
}

fn born(policy: Policy, role: Role, engines: &[&str]) -> Opened {
    let mut opened = opened(policy);
    opened.settings.engines.insert(role, llm(engines[0]));
    opened.settings.fallbacks.insert(role, engines[1..].iter().map(|e| llm(e)).collect());
    opened
}

fn planned(born: Opened) -> Story {
    let tasks = vec![spec("a", &[])];
    Story::of(born).tell(Event::Admitted).report(Report::Planned { tasks })
}

fn away(until: Option<Timestamp>, fix: Option<&str>) -> Report {
    Report::Unavailable { why: "429 from the provider".to_owned(), until, fix: fix.map(str::to_owned) }
}

fn at_work(story: &Story) -> Option<String> {
    story.run.live_attempts().next().map(|a| a.engine.clone())
}

fn now(story: &Story) -> i64 {
    story.run.seq as i64 * 1000 + story.waited
}

fn asks(story: &Story) -> Vec<&'static str> {
    story.run.blocks.iter().map(|b| b.kind.code()).collect()
}

#[test]
fn a_fall_back_takes_over_at_once_and_no_try_is_used_up() {
    let story = planned(born(bare_policy(), Role::Dev, &["anthropic/claude-9", "openai/gpt-9"]));
    assert_eq!(at_work(&story).as_deref(), Some("llm:anthropic/claude-9"));
    let story = story.report(away(None, None));
    assert_eq!(at_work(&story).as_deref(), Some("llm:openai/gpt-9"));
    assert_eq!((story.run.tasks[0].tries, story.run.counted_attempts()), (1, 2), "the plan and the one that works");
    let story = story.report(away(None, None));
    assert_eq!((at_work(&story), asks(&story).len(), story.run.tasks[0].tries), (None, 0, 0));
    let wait = story.run.wait.clone().expect("a wait");
    assert!(wait.why.contains("claude-9") && wait.why.contains("429"), "{wait:?}");
    assert_eq!(story.run.wake_at(), Some(wait.until));
    // Too early it is no news; in time the first that is back works.
    let early = decide(&story.run, &Event::Due, Timestamp(wait.until.0 - 1));
    assert!(matches!(early, Err(Refusal::Repeated { .. })));
    let story = story.wait(30).tell(Event::Due);
    assert_eq!(at_work(&story).as_deref(), Some("llm:anthropic/claude-9"));
    let attempt = story.run.live_attempts().next().unwrap().id;
    let story = story.report(developed(attempt, &["src/a"]));
    assert!(!story.run.cooldowns.contains_key("llm:anthropic/claude-9"), "it works again");
    assert_eq!(story.run.unavailable, 0);
}

#[test]
fn a_reset_time_is_waited_for_and_then_it_goes_on_by_itself() {
    let story = planned(born(bare_policy(), Role::Dev, &["anthropic/claude-9"]));
    let reset = Timestamp(now(&story) + 95 * MINUTE);
    let story = story.report(away(Some(reset), None));
    assert_eq!((story.run.wake_at(), asks(&story).len(), story.run.parked()), (Some(reset), 0, true));
    assert_eq!(status::of_run(&story.run).word(), "running");
    assert!(decide(&story.run, &Event::Due, Timestamp(reset.0 - 1)).is_err());
    let story = story.wait(95 * 60 + 5).tell(Event::Due);
    assert!(at_work(&story).is_some() && story.run.wake_at().is_none());
}

#[test]
fn a_key_that_does_not_work_is_a_persons_matter() {
    let story = planned(born(bare_policy(), Role::Dev, &["anthropic/claude-9", "openai/gpt-9"]));
    let story = story.report(away(None, Some("put a key into ANTHROPIC_API_KEY")));
    assert_eq!(at_work(&story).as_deref(), Some("llm:openai/gpt-9"), "a fall-back needs no person");
    let story = story.report(away(None, Some("put a key into OPENAI_API_KEY")));
    assert_eq!((asks(&story), story.run.wake_at()), (vec!["engine"], None));
    let question = escalation::of(&story.run, &story.run.blocks[0]).plain();
    for told in ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "llm:anthropic/claude-9", "dev"] {
        assert!(question.contains(told), "{told} in {question}");
    }
    let more = Event::Answered { block: None, answer: Answer::Skip, by: asker() };
    assert!(matches!(decide(&story.run, &more, Timestamp(1)), Err(Refusal::NotAnAnswer { .. })));
    let story = story.answer(Answer::Yes);
    assert_eq!(at_work(&story).as_deref(), Some("llm:anthropic/claude-9"));
    assert!(story.run.cooldowns.is_empty());
}

#[test]
fn a_wait_of_days_is_asked_about_and_ends_by_itself() {
    let story = planned(born(bare_policy(), Role::Dev, &["anthropic/claude-9"]));
    let reset = Timestamp(now(&story) + 40 * 60 * MINUTE);
    let story = story.report(away(Some(reset), None));
    assert_eq!((asks(&story), story.run.wake_at()), (vec!["engine"], Some(reset)));
    let question = escalation::of(&story.run, &story.run.blocks[0]);
    assert!(question.resumes.contains("by itself at 1970-01-02 16:00 UTC"), "{}", question.resumes);
    let story = story.wait(40 * 3600).tell(Event::Due);
    assert!(asks(&story).is_empty() && at_work(&story).is_some());
}

#[test]
fn an_engine_that_never_comes_back_is_not_tried_for_ever() {
    let mut story = planned(born(bare_policy(), Role::Dev, &["anthropic/claude-9", "openai/gpt-9"]));
    let mut attempts = 0;
    while asks(&story).is_empty() {
        story = match at_work(&story) {
            Some(_) => story.report(away(None, None)),
            None => story.wait(1800).tell(Event::Due),
        };
        attempts += 1;
        assert!(attempts < 100);
    }
    assert_eq!((asks(&story), story.run.unavailable), (vec!["engine"], engine_selection::UNAVAILABLE_MOST));
    assert!(story.run.blocks[0].why.contains("20 attempts in a row"), "{}", story.run.blocks[0].why);
    let story = story.answer(Answer::Yes);
    assert!(at_work(&story).is_some());
}

#[test]
fn a_scout_is_not_waited_for() {
    let born = born(Policy { explore: true, ..bare_policy() }, Role::Scout, &["anthropic/claude-9"]);
    let story = Story::of(born).tell(Event::Admitted).report(away(None, None));
    assert_eq!(story.run.live_attempts().next().map(|a| a.step), Some(Step::Plan));
}

#[test]
fn a_reviewer_of_another_family_is_preferred_and_a_second_try_is_a_second_opinion() {
    let mut born = born(bare_policy(), Role::Reviewer, &["anthropic/claude-9", "openrouter/claude-8", "openai/gpt-9"]);
    born.settings.engines.insert(Role::Dev, llm("anthropic/claude-9"));
    let ways = ["check", "integrate", "push", "check", "ensure_change"];
    let story = planned(born.clone()).work().all_well(&ways);
    assert_eq!(at_work(&story).as_deref(), Some("llm:openai/gpt-9"));
    let again = story.clone().report(Report::Failed { why: "no verdict".to_owned() });
    assert_eq!(at_work(&again).as_deref(), Some("llm:anthropic/claude-9"), "a second opinion");
    let other = story.report(away(None, None));
    assert_eq!(at_work(&other).as_deref(), Some("llm:anthropic/claude-9"), "better one of the family than none");
    // Nobody's model is of no family.
    born.settings.engines.insert(Role::Dev, EngineSpec::parse("command:./fix.sh"));
    assert_eq!(at_work(&planned(born).work().all_well(&ways)).as_deref(), Some("llm:anthropic/claude-9"));
}

#[test]
fn a_plan_that_was_refused_gets_a_second_opinion() {
    let story = Story::of(born(bare_policy(), Role::Manager, &["anthropic/claude-9", "openai/gpt-9"]));
    let story = story.tell(Event::Admitted).report(Report::Planned { tasks: Vec::new() });
    assert_eq!(at_work(&story).as_deref(), Some("llm:openai/gpt-9"));
}

fn line(model: &str, input: u64, cost_micros: u64, priced: bool) -> ModelUse {
    ModelUse { model: model.to_owned(), calls: 2, input, cost_micros, priced, ..ModelUse::default() }
}

/// The plan's attempt, reported with this usage and bill.
fn billed(policy: Policy, usage: Option<Usage>, bill: Vec<ModelUse>) -> (Attempt, Story) {
    let story = Story::new(policy).tell(Event::Admitted);
    let report = Report::Planned { tasks: vec![spec("a", &[])] };
    let reported = Reported {
        attempt: AttemptId(1),
        report,
        usage,
        session: None,
        artifacts: Vec::new(),
        bill,
        given: Vec::new(),
    };
    let story = story.tell(Event::Reported(Box::new(reported)));
    (story.run.attempts[0].clone(), story)
}

#[test]
fn an_unknown_price_is_never_nothing() {
    let usage = Some(Usage { tokens: 100, cost_micros: 0, wall_ms: 5, turns: 2 });
    let mut policy = bare_policy();
    policy.limits.cost_micros = Some(9_000);
    policy.steps.plan.cost_micros = Some(700);
    let (attempt, story) = billed(policy, usage, vec![line("a/new", 100, 0, false)]);
    let ended = attempt.ended.expect("ended");
    assert_eq!((ended.charged.cost_micros, story.run.ledger.spent.cost_micros), (700, 700));
    assert!(ended.why.contains("price of a/new is not known"), "{}", ended.why);
    let (attempt, _) = billed(bare_policy(), usage, vec![line("a/new", 100, 0, false)]);
    let ended = attempt.ended.expect("ended");
    assert_eq!((ended.charged.cost_micros, ended.charged.tokens), (0, 100));
    assert!(ended.why.contains("its cost is not"), "{}", ended.why);
}

#[test]
fn a_bill_is_bounded_and_nobody_is_charged_less_than_it() {
    let usage = Some(Usage { tokens: 1, cost_micros: 1, wall_ms: 5, turns: 0 });
    let bill: Vec<ModelUse> = (0..40).map(|n| line(&format!("a/m{n}\0\u{1b}"), 10, 3, true)).collect();
    let (attempt, _) = billed(bare_policy(), usage, bill);
    let ended = attempt.ended.expect("ended");
    assert_eq!((ended.bill.len(), ended.bill[0].model.as_str()), (ModelUse::MOST, "a/m0"));
    assert_eq!((ended.charged.tokens, ended.charged.cost_micros, ended.charged.turns), (160, 48, 32));
    let (attempt, _) = billed(bare_policy(), usage, vec![line("a/lie", u64::MAX, u64::MAX, true); 3]);
    let ended = attempt.ended.expect("ended");
    assert_eq!(ended.charged.tokens, attempt.reserved.tokens, "what nobody can have used is no word");
}

#[test]
fn turns_are_granted_cut_and_refused_like_tokens() {
    let mut policy = bare_policy();
    policy.limits.turns = Some(70);
    let story = Story::new(policy).tell(Event::Admitted);
    assert_eq!(story.run.attempts[0].reserved.turns, 60, "the step's own limit");
    let usage = Some(Usage { turns: 60, wall_ms: 1, ..Usage::default() });
    let report = Report::Planned { tasks: vec![spec("a", &[])] };
    let plan = Reported {
        attempt: AttemptId(1),
        report,
        usage,
        session: None,
        artifacts: vec![],
        bill: vec![],
        given: Vec::new(),
    };
    let story = story.tell(Event::Reported(Box::new(plan)));
    assert_eq!(story.run.attempts[1].reserved.turns, 10, "what is left");
    let story = story.report(Report::Failed { why: "no".to_owned() });
    assert_eq!(asks(&story), ["budget"], "nothing left is not unlimited");
    assert!(story.run.blocks[0].why.contains("out of turns"), "{}", story.run.blocks[0].why);
    let raise = Raise { turns: 5, ..Raise::default() };
    let story = story.answer(Answer::More { raise });
    assert_eq!(story.run.live_attempts().next().map(|a| a.reserved.turns), Some(5));
    let step = StepLimits { cost_micros: Some(0), ..Policy::default().steps.plan };
    let caps = Ledger::default().grant(&step, &Limits::default()).expect("a grant");
    assert_eq!(caps.cost_micros, 1, "a step's limit of nothing is not no limit");
}

#[test]
fn shares_of_a_budget_are_told_once() {
    let mut policy = bare_policy();
    policy.limits.tokens = Some(1_000);
    policy.steps.plan.tokens = Some(600);
    policy.steps.develop.tokens = Some(100);
    let (_, story) = billed(policy, None, Vec::new());
    let told = |s: &Story| s.run.alerts.iter().map(|a| (a.what.clone(), a.share)).collect::<Vec<_>>();
    assert_eq!(told(&story), [("tokens".to_owned(), 50)]);
    let story = story.report(Report::Failed { why: "no".to_owned() });
    assert_eq!(told(&story).len(), 1, "700 of 1000 are no news");
    let story = story.report(Report::Failed { why: "no".to_owned() });
    assert_eq!(told(&story), [("tokens".to_owned(), 50), ("tokens".to_owned(), 80)]);
    let raise = Raise { tokens: 9_000, ..Raise::default() };
    assert!(told(&story.tell(Event::Raised { raise, by: asker() })).is_empty(), "of the new limit nothing was told");
}
