//! Engine selection: cooldowns, fallbacks, waits, other model families, second opinions; and how the ledger treats
//! reported usage.

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
    Story::of(born).apply(Event::Admitted).report(Report::Planned { tasks })
}

fn away(until: Option<Timestamp>, fix: Option<&str>) -> Report {
    Report::Unavailable { why: "429 from the provider".to_owned(), until, fix: fix.map(str::to_owned) }
}

fn running_engine(story: &Story) -> Option<String> {
    story.run.live_attempts().next().map(|a| a.engine.clone())
}

fn now(story: &Story) -> i64 {
    story.run.seq as i64 * 1000 + story.waited
}

fn asks(story: &Story) -> Vec<&'static str> {
    story.run.blocks.iter().map(|b| b.kind.code()).collect()
}

#[test]
fn fallback_takes_over_at_once_and_costs_no_try() {
    let story = planned(born(bare_policy(), Role::Dev, &["anthropic/claude-9", "openai/gpt-9"]));
    assert_eq!(running_engine(&story).as_deref(), Some("llm:anthropic/claude-9"));
    let story = story.report(away(None, None));
    assert_eq!(running_engine(&story).as_deref(), Some("llm:openai/gpt-9"));
    assert_eq!((story.run.tasks[0].tries, story.run.counted_attempts()), (1, 2), "the plan and the one that works");
    let story = story.report(away(None, None));
    assert_eq!((running_engine(&story), asks(&story).len(), story.run.tasks[0].tries), (None, 0, 0));
    let wait = story.run.wait.clone().expect("a wait");
    assert!(wait.reason.to_string().contains("claude-9: 429"), "{wait:?}");
    assert_eq!(story.run.wake_at(), Some(wait.until));
    // Too early, the wake-up is refused; in time, the first available engine works.
    let early = decide(&story.run, &Event::Due, Timestamp(wait.until.0 - 1));
    assert!(matches!(early, Err(Refusal::Repeated { .. })));
    let story = story.wait(30).apply(Event::Due);
    assert_eq!(running_engine(&story).as_deref(), Some("llm:anthropic/claude-9"));
    let attempt = story.run.live_attempts().next().unwrap().id;
    let story = story.report(developed(attempt, &["src/a"]));
    assert!(!story.run.cooldowns.contains_key("llm:anthropic/claude-9"), "it works again");
    assert_eq!(story.run.unavailable, 0);
}

#[test]
fn run_waits_for_a_reset_time_and_resumes_by_itself() {
    let story = planned(born(bare_policy(), Role::Dev, &["anthropic/claude-9"]));
    let reset = Timestamp(now(&story) + 95 * MINUTE);
    let story = story.report(away(Some(reset), None));
    assert_eq!((story.run.wake_at(), asks(&story).len(), story.run.parked()), (Some(reset), 0, true));
    assert_eq!(status::of_run(&story.run).word(), "running");
    assert!(decide(&story.run, &Event::Due, Timestamp(reset.0 - 1)).is_err());
    let story = story.wait(95 * 60 + 5).apply(Event::Due);
    assert!(running_engine(&story).is_some() && story.run.wake_at().is_none());
}

#[test]
fn invalid_key_is_put_to_a_person() {
    let story = planned(born(bare_policy(), Role::Dev, &["anthropic/claude-9", "openai/gpt-9"]));
    let story = story.report(away(None, Some("put a key into ANTHROPIC_API_KEY")));
    assert_eq!(running_engine(&story).as_deref(), Some("llm:openai/gpt-9"), "a fallback needs no person");
    let story = story.report(away(None, Some("put a key into OPENAI_API_KEY")));
    assert_eq!((asks(&story), story.run.wake_at()), (vec!["engine"], None));
    let question = skep::render::escalation(&story.run, &story.run.blocks[0]).question();
    for text in ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "llm:anthropic/claude-9", "dev"] {
        assert!(question.contains(text), "{text} in {question}");
    }
    let more = Event::Answered { block: None, answer: Answer::Skip, by: asker() };
    assert!(matches!(decide(&story.run, &more, Timestamp(1)), Err(Refusal::NotAnAnswer { .. })));
    let story = story.answer(Answer::Yes);
    assert_eq!(running_engine(&story).as_deref(), Some("llm:anthropic/claude-9"));
    assert!(story.run.cooldowns.is_empty());
}

#[test]
fn wait_of_days_blocks_and_ends_by_itself() {
    let story = planned(born(bare_policy(), Role::Dev, &["anthropic/claude-9"]));
    let reset = Timestamp(now(&story) + 40 * 60 * MINUTE);
    let story = story.report(away(Some(reset), None));
    assert_eq!((asks(&story), story.run.wake_at()), (vec!["engine"], Some(reset)));
    let question = skep::render::escalation(&story.run, &story.run.blocks[0]);
    assert!(question.resumes.contains("by itself at 1970-01-02 16:00 UTC"), "{}", question.resumes);
    let story = story.wait(40 * 3600).apply(Event::Due);
    assert!(asks(&story).is_empty() && running_engine(&story).is_some());
}

#[test]
fn engine_that_never_recovers_is_not_tried_for_ever() {
    let mut story = planned(born(bare_policy(), Role::Dev, &["anthropic/claude-9", "openai/gpt-9"]));
    let mut attempts = 0;
    while asks(&story).is_empty() {
        story = match running_engine(&story) {
            Some(_) => story.report(away(None, None)),
            None => story.wait(1800).apply(Event::Due),
        };
        attempts += 1;
        assert!(attempts < 100);
    }
    assert_eq!((asks(&story), story.run.unavailable), (vec!["engine"], engine_selection::MAX_UNAVAILABLE));
    assert!(story.run.blocks[0].why.contains("20 attempts in a row"), "{}", story.run.blocks[0].why);
    // Nobody has to answer: one attempt after each wait shows whether the engine has recovered.
    let mut waiting = story.clone();
    for _ in 0..3 {
        let until = waiting.run.wake_at().expect("the end of the wait");
        assert_eq!(waiting.run.blocks[0].until, Some(until));
        waiting = waiting.wait(1800).apply(Event::Due);
        assert!(asks(&waiting).is_empty() && running_engine(&waiting).is_some());
        while running_engine(&waiting).is_some() {
            waiting = waiting.report(away(None, None));
        }
        assert_eq!(asks(&waiting), ["engine"]);
    }
    let story = story.answer(Answer::Yes);
    assert!(running_engine(&story).is_some());
}

#[test]
fn run_does_not_wait_for_a_scout() {
    let born = born(Policy { explore: true, ..bare_policy() }, Role::Scout, &["anthropic/claude-9"]);
    let story = Story::of(born).apply(Event::Admitted).report(away(None, None));
    assert_eq!(story.run.live_attempts().next().map(|a| a.step), Some(Step::Plan));
}

#[test]
fn reviewer_of_another_family_is_preferred_and_a_second_try_goes_to_another_engine() {
    let mut born = born(bare_policy(), Role::Reviewer, &["anthropic/claude-9", "openrouter/claude-8", "openai/gpt-9"]);
    born.settings.engines.insert(Role::Dev, llm("anthropic/claude-9"));
    let ways = ["check", "integrate", "push", "check", "ensure_change"];
    let story = planned(born.clone()).work().all_well(&ways);
    assert_eq!(running_engine(&story).as_deref(), Some("llm:openai/gpt-9"));
    let again = story.clone().report(Report::Failed { why: "no verdict".to_owned() });
    assert_eq!(running_engine(&again).as_deref(), Some("llm:anthropic/claude-9"), "a second opinion");
    let other = story.report(away(None, None));
    assert_eq!(
        running_engine(&other).as_deref(),
        Some("llm:anthropic/claude-9"),
        "an engine of the same family is better than none"
    );
    // An engine without a model has no family.
    born.settings.engines.insert(Role::Dev, EngineSpec::parse("command:./fix.sh"));
    assert_eq!(running_engine(&planned(born).work().all_well(&ways)).as_deref(), Some("llm:anthropic/claude-9"));
}

#[test]
fn refused_plan_goes_to_another_engine() {
    let story = Story::of(born(bare_policy(), Role::Manager, &["anthropic/claude-9", "openai/gpt-9"]));
    let story = story.apply(Event::Admitted).report(Report::Planned { tasks: Vec::new() });
    assert_eq!(running_engine(&story).as_deref(), Some("llm:openai/gpt-9"));
}

fn used(model: &str, input: u64, cost_micros: u64, priced: bool) -> ModelUse {
    ModelUse { model: model.to_owned(), calls: 2, input, cost_micros, priced, ..ModelUse::default() }
}

/// Returns the plan's attempt, reported with this usage.
fn planned_with(policy: Policy, usage: Option<Usage>, usage_by_model: Vec<ModelUse>) -> (Attempt, Story) {
    let story = Story::new(policy).apply(Event::Admitted);
    let report = Report::Planned { tasks: vec![spec("a", &[])] };
    let reported = Reported {
        attempt: AttemptId(1),
        report,
        usage,
        session: None,
        artifacts: Vec::new(),
        usage_by_model,
        secrets: Vec::new(),
        prompt_digest: None,
    };
    let story = story.apply(Event::Reported(Box::new(reported)));
    (story.run.attempts[0].clone(), story)
}

#[test]
fn unknown_price_is_never_charged_as_zero() {
    let usage = Some(Usage { tokens: 100, cost_micros: 0, wall_ms: 5, turns: 2 });
    let mut policy = bare_policy();
    policy.limits.cost_micros = Some(9_000);
    policy.steps.plan.cost_micros = Some(700);
    let (attempt, story) = planned_with(policy, usage, vec![used("a/new", 100, 0, false)]);
    let ended = attempt.ended.expect("ended");
    assert_eq!((ended.charged.cost_micros, story.run.ledger.spent.cost_micros), (700, 700));
    assert!(ended.why.contains("price of a/new is unknown"), "{}", ended.why);
    let (attempt, _) = planned_with(bare_policy(), usage, vec![used("a/new", 100, 0, false)]);
    let ended = attempt.ended.expect("ended");
    assert_eq!((ended.charged.cost_micros, ended.charged.tokens), (0, 100));
    assert!(ended.why.contains("its cost is not"), "{}", ended.why);
}

#[test]
fn usage_by_model_is_bounded_and_is_the_least_that_is_charged() {
    let usage = Some(Usage { tokens: 1, cost_micros: 1, wall_ms: 5, turns: 0 });
    let usage_by_model: Vec<ModelUse> = (0..40).map(|n| used(&format!("a/m{n}\0\u{1b}"), 10, 3, true)).collect();
    let (attempt, _) = planned_with(bare_policy(), usage, usage_by_model);
    let ended = attempt.ended.expect("ended");
    assert_eq!((ended.usage_by_model.len(), ended.usage_by_model[0].model.as_str()), (ModelUse::MAX_MODELS, "a/m0"));
    assert_eq!((ended.charged.tokens, ended.charged.cost_micros, ended.charged.turns), (160, 48, 32));
    let (attempt, _) = planned_with(bare_policy(), usage, vec![used("a/lie", u64::MAX, u64::MAX, true); 3]);
    let ended = attempt.ended.expect("ended");
    assert_eq!(ended.charged.tokens, attempt.reserved.tokens, "an absurd report counts as no report");
}

#[test]
fn turns_are_granted_cut_and_refused_like_tokens() {
    let mut policy = bare_policy();
    policy.limits.turns = Some(70);
    let mut born = opened(policy);
    born.settings.engines.values_mut().for_each(|engine| *engine = EngineSpec::parse("llm:a/b"));
    let story = Story::of(born).apply(Event::Admitted);
    assert_eq!(story.run.attempts[0].reserved.turns, 60, "the step's own limit");
    let usage = Some(Usage { turns: 60, wall_ms: 1, ..Usage::default() });
    let report = Report::Planned { tasks: vec![spec("a", &[])] };
    let plan = Reported {
        attempt: AttemptId(1),
        report,
        usage,
        session: None,
        artifacts: vec![],
        usage_by_model: vec![],
        secrets: Vec::new(),
        prompt_digest: None,
    };
    let story = story.apply(Event::Reported(Box::new(plan)));
    assert_eq!(story.run.attempts[1].reserved.turns, 10, "what is left");
    let story = story.report(Report::Failed { why: "no".to_owned() });
    assert_eq!(asks(&story), ["budget"], "an exhausted budget is not unlimited");
    assert_eq!(story.run.blocks[0].kind, BlockKind::Budget(BudgetKind::Turns));
    let raise = Raise { turns: 5, ..Raise::default() };
    let story = story.answer(Answer::More { raise });
    assert_eq!(story.run.live_attempts().next().map(|a| a.reserved.turns), Some(5));
    let step = StepLimits { cost_micros: Some(0), ..Policy::default().steps.plan };
    let caps = Ledger::default().grant(&step, &Limits::default()).expect("a grant");
    assert_eq!(caps.cost_micros, 1, "a step's limit of 0 is not unlimited");
}

#[test]
fn budget_thresholds_are_reported_once() {
    let mut policy = bare_policy();
    policy.limits.tokens = Some(1_000);
    policy.steps.plan.tokens = Some(600);
    policy.steps.develop.tokens = Some(100);
    let (_, story) = planned_with(policy, None, Vec::new());
    let alerts = |s: &Story| s.run.alerts.iter().map(|a| (a.budget, a.percent)).collect::<Vec<_>>();
    assert_eq!(alerts(&story), [(BudgetKind::Tokens, 50)]);
    let story = story.report(Report::Failed { why: "no".to_owned() });
    assert_eq!(alerts(&story).len(), 1, "700 of 1000 reach no new threshold");
    let story = story.report(Report::Failed { why: "no".to_owned() });
    assert_eq!(alerts(&story), [(BudgetKind::Tokens, 50), (BudgetKind::Tokens, 80)]);
    let raise = Raise { tokens: 9_000, ..Raise::default() };
    assert!(
        alerts(&story.apply(Event::Raised { raise, by: asker() })).is_empty(),
        "nothing was reported about the new limit"
    );
}
