//! What follows from red CI and from people's requests for changes: a rerun, a round of rework, or a question.

use crate::support::fixtures::{bare_policy, other};
use crate::support::rng::sha;
use crate::support::story::{Story, ci_failure, quiet, request, spec};
use skep::domain::*;

/// A run that waits for the approval of its merge.
fn asked() -> Story {
    asked_with(bare_policy())
}

fn asked_with(policy: Policy) -> Story {
    let story = Story::new(policy).apply(Event::Admitted).report(Report::Planned { tasks: vec![spec("a", &[])] });
    proven(story)
}

/// Does the task in progress, up to the gates, where nothing is reported.
fn proven(story: Story) -> Story {
    story
        .work()
        .all_well(&["check", "integrate", "push", "check", "ensure_change"])
        .review(Verdict::Approve)
        .all_well(&["ensure_change", "observe"])
}

/// CI reports these failures, each with an id.
fn red(story: Story, failed: &[(&str, u64)]) -> Story {
    story.see(|o| {
        o.statuses = failed.iter().map(|(name, _)| ((*name).to_owned(), StatusState::Failure)).collect();
        o.failed = failed.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
    })
}

fn green(story: Story) -> Story {
    story.see(|o| o.statuses = [("test".to_owned(), StatusState::Success)].into())
}

fn inspected(story: Story, failures: Vec<CiFailure>) -> Story {
    story.done("inspect_ci", EffectOutcome::CiInspected { failures })
}

fn test_failed(log: &str) -> CiFailure {
    ci_failure("test", log)
}

fn flaky() -> CiFailure {
    let workflow_run = Some(WorkflowRun { id: 9, attempt: 1 });
    CiFailure { passed_too: true, workflow_run, ..test_failed("FAILED a") }
}

fn asks(story: &Story) -> Vec<&'static str> {
    story.run.blocks.iter().map(|b| b.kind.code()).collect()
}

fn pending(story: &Story, name: &str) -> usize {
    story.run.pending.values().filter(|e| e.name() == name).count()
}

/// The notes of the order that was started last.
fn notes(story: &Story) -> Vec<Note> {
    let started = story.outbox.values().filter_map(|effect| match effect {
        Effect::Start { order } => Some(order),
        _ => None,
    });
    started.max_by_key(|order| order.attempt).expect("an order").notes.clone()
}

fn resolved(story: &Story) -> Vec<(Option<u64>, Sha)> {
    let all = story.outbox.values().filter_map(|effect| match effect {
        Effect::Comment { thread, about: CommentSubject::Resolved { commit, .. }, .. } => {
            Some((*thread, commit.clone()))
        }
        _ => None,
    });
    all.collect()
}

#[test]
fn red_ci_becomes_a_task_with_its_log_and_voids_the_question_about_the_merge() {
    let story = red(asked(), &[("test", 1)]);
    assert_eq!((asks(&story), pending(&story, "inspect_ci")), (vec![], 1), "the merge is not asked for meanwhile");
    let ordered = story.outbox.values().find_map(|effect| match effect {
        Effect::InspectCi { head, base, checks, .. } => Some((head, base, checks)),
        _ => None,
    });
    let (head, base, checks) = ordered.unwrap();
    assert_eq!((head, base, checks.as_slice()), (&story.run.head, &story.run.base, &["test".to_owned()][..]));
    let story = inspected(story, vec![test_failed("setup\nFAILED tests/a.py::b - assert 1 == 2\n")]);
    assert_eq!((story.run.phase, story.run.rounds), (Phase::Working, 1));
    let task = story.run.tasks.last().unwrap();
    assert_eq!((task.origin.name(), task.spec.title.as_str()), ("status", "CI is red: test"));
    let notes = notes(&story);
    assert!(notes.iter().all(|n| n.source == NoteSource::Status && n.text.len() <= Note::MAX_TEXT_BYTES));
    assert!(notes.last().unwrap().text.contains("\n    FAILED tests/a.py::b - assert 1 == 2\n"), "{notes:?}");
    // The repair is a new head, about which nothing is known.
    let story = green(proven(story));
    assert_eq!(asks(&story), ["approve_merge"]);
}

#[test]
fn all_failures_are_one_round_and_what_the_forge_does_not_know_counts_too() {
    let story = asked().see(|o| {
        o.statuses =
            [("lint", StatusState::Failure), ("test", StatusState::Pending)].map(|(n, s)| (n.to_owned(), s)).into();
    });
    assert_eq!((asks(&story), pending(&story, "inspect_ci")), (vec!["approve_merge"], 0), "one still runs");
    let story = inspected(red(story, &[("lint", 1), ("test", 2)]), vec![test_failed("FAILED a")]);
    assert_eq!(story.run.rounds, 1);
    let notes = notes(&story);
    assert!(notes.iter().any(|n| n.text.starts_with("CI check lint failed\nits log is not available")), "{notes:?}");
}

#[test]
fn a_failure_that_returns_after_its_rework_is_a_question() {
    let again = |log: &str| {
        let first = inspected(red(asked(), &[("test", 1)]), vec![test_failed("FAILED a in 3 ms")]);
        inspected(red(proven(first), &[("test", 2)]), vec![test_failed(log)])
    };
    let story = again("FAILED b in 3 ms");
    assert_eq!((asks(&story).len(), story.run.rounds), (0, 2), "another failure is another round");
    let story = again("FAILED a in 5 ms");
    assert_eq!((asks(&story), story.run.rounds), (vec!["ci"], 1));
    assert!(story.run.blocks[0].why.contains("FAILED a in 5 ms"));

    let hinted = story.clone().answer(Answer::Text { text: "use the other parser".to_owned() });
    let sources: Vec<NoteSource> = notes(&hinted).iter().map(|n| n.source).collect();
    assert_eq!(sources, [NoteSource::Status, NoteSource::Answer]);

    let read_again = story.clone().answer(Answer::Yes);
    assert_eq!(pending(&read_again, "observe"), 1);
    let read_again = read_again.well("observe");
    assert_eq!(asks(&read_again), ["approve_merge"], "CI is quiet now");

    let accepted = story.clone().answer(Answer::Skip);
    assert_eq!(asks(&accepted), ["approve_merge"]);
    let merge = skep::render::escalation(&accepted.run, &accepted.run.blocks[0]);
    assert!(merge.why.contains("CI check test: red, accepted by a person"), "{}", merge.why);

    assert!(green(story).run.blocks.iter().all(|b| b.kind.code() == "approve_merge"), "a green CI answers it");
}

#[test]
fn what_fails_at_the_base_is_named_and_not_reworked() {
    let of_base = |name: &str| CiFailure { red_at_base: true, ..ci_failure(name, "FAILED a") };
    let story = inspected(red(asked(), &[("test", 1)]), vec![of_base("test")]);
    assert_eq!((asks(&story), story.run.rounds), (vec!["ci"], 0));
    let question = skep::render::escalation(&story.run, &story.run.blocks[0]);
    assert!(question.reason.contains("the base fails in the same checks: test"), "{}", question.reason);

    let story = inspected(red(asked(), &[("lint", 1), ("test", 2)]), vec![of_base("lint"), test_failed("FAILED b")]);
    assert_eq!((story.run.tasks.last().unwrap().spec.title.as_str(), story.run.rounds), ("CI is red: test", 1));
    assert!(notes(&story)[0].text.contains("leave them alone: lint"), "{:?}", notes(&story));
}

#[test]
fn a_job_that_also_passed_at_the_commit_is_run_again_once() {
    let rerun = || inspected(red(asked(), &[("test", 1)]), vec![flaky()]);
    let story = rerun();
    assert_eq!((pending(&story, "rerun_ci"), story.run.rounds), (1, 0));
    // The forge may show the old result for a while.
    let waiting = red(story.well("rerun_ci"), &[("test", 1)]);
    assert_eq!((pending(&waiting, "inspect_ci"), pending(&waiting, "rerun_ci")), (0, 0));
    assert!(matches!(gate::statuses(&waiting.run), gate::Gate::Wait(_)));
    assert_eq!(asks(&green(waiting.clone())), ["approve_merge"]);
    let story = inspected(red(waiting, &[("test", 2)]), vec![CiFailure { id: 2, ..flaky() }]);
    assert_eq!((pending(&story, "rerun_ci"), story.run.rounds), (0, 1), "a second failure is reworked");

    let failure = Failure { what: "403".to_owned(), fix: "grant it".to_owned() };
    let story = rerun().done("rerun_ci", EffectOutcome::Failed { failure });
    assert_eq!((asks(&story).len(), pending(&story, "inspect_ci")), (0, 1), "without a rerun it is reworked");
    assert_eq!(inspected(story, vec![flaky()]).run.rounds, 1);

    let never = asked_with(Policy { max_ci_reruns: 0, ..bare_policy() });
    assert_eq!(inspected(red(never, &[("test", 1)]), vec![flaky()]).run.rounds, 1);
    let mixed = inspected(red(asked(), &[("lint", 3), ("test", 1)]), vec![flaky(), ci_failure("lint", "E")]);
    assert_eq!((pending(&mixed, "rerun_ci"), mixed.run.rounds), (0, 1), "one real failure needs rework anyway");
}

#[test]
fn rounds_are_bounded_and_a_question_at_their_end() {
    let mut policy = bare_policy();
    policy.limits.rounds = 0;
    let story = inspected(red(asked_with(policy), &[("test", 1)]), vec![test_failed("FAILED a")]);
    assert_eq!(asks(&story), ["rounds"]);
    assert!(story.run.blocks[0].why.contains("FAILED a"));
    let story = story.answer(Answer::Yes);
    let story = inspected(story, vec![test_failed("FAILED a")]);
    assert_eq!((asks(&story).len(), story.run.rounds), (0, 1));
}

#[test]
fn a_request_for_changes_becomes_a_task_and_is_answered_in_its_threads_once() {
    let approved_before = sha(&["an earlier head"]);
    let story = asked().see(|o| o.change_requests = vec![request(&quiet_run(), 1)]);
    assert_eq!((story.run.phase, story.run.rounds, asks(&story).len()), (Phase::Working, 1, 0));
    let task = story.run.tasks.last().unwrap();
    assert_eq!((task.origin.name(), task.spec.title.as_str()), ("person", "local:bob requests changes"));
    let note = notes(&story).pop().unwrap();
    assert_eq!(note.source, NoteSource::Person);
    assert!(note.text.contains("    Not like this.\nsrc/a:7\n    unclear\n"), "{}", note.text);
    assert!(resolved(&story).is_empty(), "nothing is done yet");

    let working = story.work().all_well(&["check", "integrate"]);
    assert!(resolved(&working).is_empty() && working.run.head != approved_before, "not proven yet");
    let shown = working.all_well(&["push", "check", "ensure_change"]);
    // The reviewer has to know why the change goes beyond the goal.
    assert!(notes(&shown).iter().any(|n| n.source == NoteSource::Person && n.text.contains("src/a:7")));
    let story = shown.review(Verdict::Approve).well("ensure_change");
    let head = story.run.head.clone();
    let same = |o: &mut Observation| o.change_requests = vec![request(&quiet_run(), 1)];
    let mut observation = quiet(&story.run);
    same(&mut observation);
    let story = story.done("observe", EffectOutcome::Observed { observation });
    assert_eq!(resolved(&story), [(Some(10), head.clone())]);
    assert_eq!((asks(&story), story.run.rounds), (vec!["approve_merge"], 1), "it is read once");
    let story = story.see(same);
    assert!(!story.run.is_news(&{
        let mut observation = quiet(&story.run);
        same(&mut observation);
        observation
    }));
    assert_eq!(resolved(&story), [(Some(10), head)], "and answered once");
}

/// A run whose head is never that of a test.
fn quiet_run() -> Run {
    Story::new(bare_policy()).run
}

#[test]
fn requests_that_say_nothing_or_are_too_long_for_one_task_are_bounded() {
    let empty = ChangeRequest { text: " ".to_owned(), comments: Vec::new(), ..request(&quiet_run(), 1) };
    let story = asked().see(|o| o.change_requests = vec![empty]);
    assert_eq!(asks(&story), ["approve_merge"]);
    let long = |review: u64| {
        let comment = |n: u64| LineComment {
            thread: review * 100 + n,
            path: "a".to_owned(),
            line: n,
            text: "x".repeat(ChangeRequest::MAX_COMMENT_BYTES),
        };
        ChangeRequest { comments: (0..20).map(comment).collect(), ..request(&quiet_run(), review) }
    };
    let story = asked().see(|o| o.change_requests = vec![long(1), long(2), long(3)]);
    assert!(notes(&story).len() <= Task::MAX_NOTES);
    assert_eq!(story.run.requests_read.iter().copied().collect::<Vec<u64>>(), [1, 2], "the rest is the next round");
    let without_thread = ChangeRequest { comments: Vec::new(), ..request(&quiet_run(), 7) };
    let story = proven(asked().see(|o| o.change_requests = vec![without_thread]));
    assert_eq!(resolved(&story), [(None, story.run.head.clone())], "answered on the change itself");
    let Some(about) = story.outbox.values().find_map(|e| match e {
        Effect::Comment { about: CommentSubject::Resolved { .. }, .. } => skep::render::effect_text(&story.run, e),
        _ => None,
    }) else {
        panic!()
    };
    let skep::render::EffectText::Comment(text) = about else { panic!() };
    assert!(text.contains(story.run.head.as_str()) && text.contains(other().as_str()), "{text}");
}

#[test]
fn a_dropped_request_is_not_answered_and_earlier_verdicts_are_void_at_a_new_head() {
    let fail = || Report::Failed { why: "gave up".to_owned() };
    let story = asked().see(|o| o.change_requests = vec![request(&quiet_run(), 1)]);
    let story = story.report(fail()).report(fail());
    assert_eq!(asks(&story), ["tries"]);
    let story = story.answer(Answer::Skip);
    assert_eq!(story.run.phase, Phase::Gating, "the head has not changed");
    let story = story.all_well(&["observe"]);
    assert!(resolved(&story).is_empty() && story.run.open_requests.is_empty());

    // An approval of the head before does not count for the repaired one.
    let approved = |o: &mut Observation| o.approved_by = vec![other()];
    let story = asked().see(|o| {
        approved(o);
        o.change_requests = vec![request(&quiet_run(), 2)];
    });
    assert_eq!(story.run.phase, Phase::Working, "a request for changes goes before an approval");
    let story = proven(story);
    assert_eq!(asks(&story), ["approve_merge"]);
    let mut landed = story.see(approved);
    assert_eq!(landed.run.phase, Phase::Landing);
    assert!(landed.try_apply(&Event::Admitted).is_err());
}
