//! Attempts whose process is gone: taken up again or lost, and what each is charged.

use crate::support::fixtures::{asker, bare_policy};
use crate::support::story::{Story, developed, spec};
use skep::domain::*;

fn planned(policy: Policy, tasks: Vec<TaskSpec>) -> Story {
    Story::new(policy).tell(Event::Admitted).report(Report::Planned { tasks })
}

fn pending(story: &Story, act: &str) -> usize {
    story.run.pending.values().filter(|t| t.name() == act).count()
}

/// A dev at work whose conversation can be taken up again, and who it is.
fn talking() -> (Story, AttemptId) {
    let story = planned(bare_policy(), vec![spec("a", &[])]);
    let attempt = story.run.live_attempts().next().unwrap().id;
    (story.tell(Event::SessionOpened { attempt, session: "s-1".to_owned() }), attempt)
}

fn orphan(story: Story, attempt: AttemptId, metered: Option<Metered>) -> Story {
    let metered = metered.into_iter().map(|m| (attempt, m)).collect();
    story.tell(Event::Orphaned { attempts: vec![attempt], metered })
}

#[test]
fn an_attempt_that_can_be_taken_up_again_survives_its_process_a_few_times() {
    let (mut story, attempt) = talking();
    let before = (story.run.ledger.clone(), story.run.tasks[0].tries);
    let order = match &story.outbox[&story.key("start")] {
        Effect::Start { order } => order.clone(),
        other => panic!("{other:?}"),
    };
    for times in 1..=Resumable::TIMES_MAX {
        story = orphan(story, attempt, None);
        let known = story.run.attempt(attempt).unwrap().resumable.clone().unwrap();
        assert_eq!((known.times, pending(&story, "start")), (times, 1), "the same start, still pending");
        assert!(known.before_ms > 0);
        let again = order.clone().again(&known);
        assert_eq!(again.resume.as_deref(), Some("s-1"));
        assert_eq!(again.caps.wall_ms, order.caps.wall_ms - known.before_ms);
        assert_eq!((story.run.ledger.clone(), story.run.tasks[0].tries), before, "nothing is charged, no try is used");
    }
    let lost = orphan(story.clone(), attempt, None);
    let ended = lost.run.attempt(attempt).unwrap().ended.clone().unwrap();
    assert_eq!(
        (ended.ending, lost.run.tasks[0].losses, lost.run.tasks[0].tries),
        (Ending::Lost, 1, 1),
        "a new attempt"
    );

    // What it reports of its last life is charged with the time of those before.
    let before_ms = story.run.attempt(attempt).unwrap().resumable.as_ref().unwrap().before_ms;
    let usage = Some(Usage { tokens: 5, cost_micros: 4, wall_ms: 1_000, turns: 3 });
    let report = developed(attempt, &["src/a"]);
    let reported = Reported { attempt, report, usage, session: None, artifacts: vec![], bill: vec![], given: vec![] };
    let done = story.tell(Event::Reported(Box::new(reported)));
    let charged = done.run.attempt(attempt).unwrap().ended.as_ref().unwrap().charged;
    assert_eq!(charged, Usage { tokens: 5, cost_micros: 4, wall_ms: 1_000 + before_ms, turns: 3 });
}

#[test]
fn what_nobody_waits_for_or_has_no_time_left_is_not_taken_up_again() {
    let (story, attempt) = talking();
    let stopping = story.clone().tell(Event::CancelRequested { by: asker(), why: String::new() });
    assert!(!orphan(stopping, attempt, None).run.attempt(attempt).unwrap().live());
    let mut late = story.clone();
    late.waited = 24 * 3_600_000;
    assert!(!orphan(late, attempt, None).run.attempt(attempt).unwrap().live());
    assert!(orphan(story, attempt, None).run.attempt(attempt).unwrap().live());
}

#[test]
fn a_conversation_that_is_not_taken_up_costs_no_try_and_counts_as_a_loss() {
    let (story, attempt) = talking();
    let story = orphan(story, attempt, None);
    let report = Report::NotResumed { why: "no such session".to_owned() };
    let usage = Some(Usage { tokens: 5, cost_micros: 4, wall_ms: 0, turns: 3 });
    let reported = Reported { attempt, report, usage, session: None, artifacts: vec![], bill: vec![], given: vec![] };
    let story = story.tell(Event::Reported(Box::new(reported)));
    let ended = story.run.attempt(attempt).unwrap().ended.clone().unwrap();
    assert_eq!((ended.ending, ended.charged.tokens, ended.why.as_str()), (Ending::Lost, 5, "no such session"));
    let task = &story.run.tasks[0];
    assert_eq!((task.tries, task.losses, pending(&story, "start")), (1, 1, 1), "tried anew, as the same try");
}

#[test]
fn what_was_counted_of_a_lost_attempt_is_its_charge() {
    let model = |priced| ModelUse {
        model: "a/b".to_owned(),
        calls: 2,
        input: 8,
        output: 3,
        cost_micros: 7,
        priced,
        ..ModelUse::default()
    };
    let counted = |priced| Metered {
        used: Usage { tokens: 11, cost_micros: 7, wall_ms: 0, turns: 2 },
        bill: vec![model(priced)],
    };
    let lose = |metered| {
        let story = planned(bare_policy(), vec![spec("a", &[])]);
        let attempt = story.run.live_attempts().next().unwrap().id;
        let story = orphan(story, attempt, Some(metered));
        let attempt = story.run.attempt(attempt).unwrap().clone();
        (attempt.reserved, attempt.ended.unwrap())
    };
    let (_, ended) = lose(counted(true));
    assert_eq!((ended.charged.tokens, ended.charged.cost_micros, ended.charged.turns, ended.bill.len()), (11, 7, 2, 1));
    assert!(ended.charged.wall_ms > 0);
    let (reserved, ended) = lose(counted(false));
    assert_eq!(ended.charged.cost_micros, reserved.cost_micros.max(7), "what has no price is not for nothing");
    let absurd = Metered { used: Usage { tokens: u64::MAX, ..Usage::default() }, bill: Vec::new() };
    let (reserved, ended) = lose(absurd);
    assert_eq!(ended.charged.tokens, reserved.tokens);
}
