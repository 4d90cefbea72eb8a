//! Attempts whose process is gone: they are resumed or lost, and charged accordingly.

use crate::support::fixtures::{asker, bare_policy};
use crate::support::story::{Story, developed, spec};
use skep::domain::*;

fn planned(policy: Policy, tasks: Vec<TaskSpec>) -> Story {
    Story::new(policy).apply(Event::Admitted).report(Report::Planned { tasks })
}

fn pending(story: &Story, act: &str) -> usize {
    story.run.pending.values().filter(|t| t.name() == act).count()
}

/// A dev in progress with a resumable session, and its attempt.
fn with_session() -> (Story, AttemptId) {
    let story = planned(bare_policy(), vec![spec("a", &[])]);
    let attempt = story.run.live_attempts().next().unwrap().id;
    (story.apply(Event::SessionOpened { attempt, session: "s-1".to_owned() }), attempt)
}

fn orphan(story: Story, attempt: AttemptId, metered: Option<Metered>) -> Story {
    let metered = metered.into_iter().map(|m| (attempt, m)).collect();
    story.apply(Event::Orphaned { attempts: vec![attempt], metered, alive: Vec::new(), stopped: Vec::new() })
}

#[test]
fn attempt_with_a_session_survives_its_process_a_few_times() {
    let (mut story, attempt) = with_session();
    let before = (story.run.ledger.clone(), story.run.tasks[0].tries);
    let order = match &story.outbox[&story.key("start")] {
        Effect::Start { order } => order.clone(),
        other => panic!("{other:?}"),
    };
    for resumes in 1..=Resumable::MAX_RESUMES {
        story = orphan(story, attempt, None);
        let known = story.run.attempt(attempt).unwrap().resumable.clone().unwrap();
        assert_eq!((known.resumes, pending(&story, "start")), (resumes, 1), "the same start, still pending");
        assert!(known.elapsed_ms > 0);
        let resumed = order.clone().resumed(&known);
        assert_eq!(resumed.resume.as_deref(), Some("s-1"));
        assert_eq!(resumed.caps.wall_ms, order.caps.wall_ms - known.elapsed_ms);
        assert_eq!((story.run.ledger.clone(), story.run.tasks[0].tries), before, "nothing is charged, no try is used");
    }
    let lost = orphan(story.clone(), attempt, None);
    let ended = lost.run.attempt(attempt).unwrap().ended.clone().unwrap();
    assert_eq!(
        (ended.ending, lost.run.tasks[0].losses, lost.run.tasks[0].tries),
        (Ending::Lost, 1, 1),
        "a new attempt"
    );

    // The usage of the attempt's last process is charged together with the time of the earlier ones.
    let elapsed_ms = story.run.attempt(attempt).unwrap().resumable.as_ref().unwrap().elapsed_ms;
    let usage = Some(Usage { tokens: 5, cost_micros: 4, wall_ms: 1_000, turns: 3 });
    let report = developed(attempt, &["src/a"]);
    let reported = Reported {
        attempt,
        report,
        usage,
        session: None,
        artifacts: vec![],
        usage_by_model: vec![],
        secrets: vec![],
        prompt_digest: None,
    };
    let story = story.apply(Event::Reported(Box::new(reported)));
    let charged = story.run.attempt(attempt).unwrap().ended.as_ref().unwrap().charged;
    assert_eq!(charged, Usage { tokens: 5, cost_micros: 4, wall_ms: 1_000 + elapsed_ms, turns: 3 });
}

#[test]
fn attempt_that_is_unwanted_or_out_of_time_is_not_resumed() {
    let (story, attempt) = with_session();
    let stopping = story.clone().apply(Event::CancelRequested { by: asker(), why: String::new() });
    assert!(!orphan(stopping, attempt, None).run.attempt(attempt).unwrap().live());
    let mut late = story.clone();
    late.waited = 24 * 3_600_000;
    assert!(!orphan(late, attempt, None).run.attempt(attempt).unwrap().live());
    assert!(orphan(story, attempt, None).run.attempt(attempt).unwrap().live());
}

#[test]
fn session_that_cannot_be_resumed_costs_no_try_and_counts_as_a_loss() {
    let (story, attempt) = with_session();
    let story = orphan(story, attempt, None);
    let report = Report::NotResumed { why: "no such session".to_owned() };
    let usage = Some(Usage { tokens: 5, cost_micros: 4, wall_ms: 0, turns: 3 });
    let reported = Reported {
        attempt,
        report,
        usage,
        session: None,
        artifacts: vec![],
        usage_by_model: vec![],
        secrets: vec![],
        prompt_digest: None,
    };
    let story = story.apply(Event::Reported(Box::new(reported)));
    let ended = story.run.attempt(attempt).unwrap().ended.clone().unwrap();
    assert_eq!((ended.ending, ended.charged.tokens, ended.why.as_str()), (Ending::Lost, 5, "no such session"));
    let task = &story.run.tasks[0];
    assert_eq!((task.tries, task.losses, pending(&story, "start")), (1, 1, 1), "tried again, as the same try");
}

#[test]
fn metered_usage_of_a_lost_attempt_is_its_charge() {
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
        usage_by_model: vec![model(priced)],
    };
    let lose = |metered| {
        let story = planned(bare_policy(), vec![spec("a", &[])]);
        let attempt = story.run.live_attempts().next().unwrap().id;
        let story = orphan(story, attempt, Some(metered));
        let attempt = story.run.attempt(attempt).unwrap().clone();
        (attempt.reserved, attempt.ended.unwrap())
    };
    let (_, ended) = lose(counted(true));
    assert_eq!(
        (ended.charged.tokens, ended.charged.cost_micros, ended.charged.turns, ended.usage_by_model.len()),
        (11, 7, 2, 1)
    );
    assert!(ended.charged.wall_ms > 0);
    let (reserved, ended) = lose(counted(false));
    assert_eq!(ended.charged.cost_micros, reserved.cost_micros.max(7), "what has no price is not for nothing");
    let absurd = Metered { used: Usage { tokens: u64::MAX, ..Usage::default() }, usage_by_model: Vec::new() };
    let (reserved, ended) = lose(absurd);
    assert_eq!(ended.charged.tokens, reserved.tokens);
}
