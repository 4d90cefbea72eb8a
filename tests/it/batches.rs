//! Rules of landing batches: what a moved base, a put-back change and a batch's proof mean to a run.

use crate::support::fixtures::{bare_policy, other};
use crate::support::rng::sha;
use crate::support::story::{Story, diff, quiet, results, spec};
use skep::domain::*;

fn queued(policy: Policy) -> Policy {
    Policy { landing_batch: 8, ..policy }
}

/// A run that waits for approval of the merge, or is about to land if no approval is required.
fn gated(policy: Policy) -> Story {
    Story::new(policy)
        .apply(Event::Admitted)
        .report(Report::Planned { tasks: vec![spec("a", &[])] })
        .work()
        .all_well(&["check", "integrate", "push", "check", "ensure_change"])
        .review(Verdict::Approve)
        .all_well(&["ensure_change", "observe"])
}

fn landing() -> Story {
    gated(queued(bare_policy())).answer(Answer::Yes).well("observe")
}

fn pending(story: &Story, effect: &str) -> usize {
    story.run.pending.values().filter(|e| e.name() == effect).count()
}

fn see(story: Story, change: impl Fn(&mut Observation)) -> Story {
    let mut observation = quiet(&story.run);
    change(&mut observation);
    story.apply(Event::Observed { observation })
}

fn proof(story: &Story) -> BatchProof {
    BatchProof {
        base: sha(&["newer"]),
        tip: sha(&["tip"]),
        runs: vec![story.run.id],
        results: results(true),
        environment: None,
    }
}

fn red(story: &Story) -> EffectOutcome {
    let red = RedInBatch {
        base: sha(&["newer"]),
        head: sha(&["on top"]),
        diff: diff(&["src/a"]),
        runs: vec![story.run.id],
        results: results(false),
        environment: Some("here".to_owned()),
    };
    EffectOutcome::PutBack { why: "its checks are red".to_owned(), red: Some(Box::new(red)) }
}

#[test]
fn a_base_that_moves_is_left_to_the_queue_and_voids_no_approval() {
    let story = see(gated(queued(bare_policy())), |o| o.base = sha(&["newer"]));
    assert_eq!((story.run.phase, story.run.blocks.len(), pending(&story, "rebase")), (Phase::Gating, 1, 0));
    let moved = Observation { base: sha(&["newer"]), ..quiet(&story.run) };
    let story = story.answer(Answer::Yes).done("observe", EffectOutcome::Observed { observation: moved });
    assert_eq!((story.run.phase, pending(&story, "land")), (Phase::Landing, 1));
    // Without a queue, the change is moved onto the new base and the question is void.
    let alone = see(gated(bare_policy()), |o| o.base = sha(&["newer"]));
    assert_eq!((alone.run.blocks.len(), pending(&alone, "rebase")), (0, 1));
}

#[test]
fn what_a_batch_does_not_prove_lands_alone() {
    let batch = |story: &Story| story.run.landing_batch();
    assert_eq!(batch(&gated(queued(bare_policy()))), 8);
    let ci = see(gated(queued(bare_policy())), |o| {
        o.statuses.insert("ci/test".to_owned(), StatusState::Success);
    });
    assert_eq!(batch(&ci), 1, "CI has seen the change alone");
    let required = Policy { required_statuses: vec!["ci/test".to_owned()], ..queued(bare_policy()) };
    assert_eq!(batch(&gated(required)), 1);
    let mut elsewhere = gated(queued(bare_policy())).run;
    std::sync::Arc::make_mut(&mut elsewhere.settings).forge = ForgeName("github".to_owned());
    assert_eq!(elsewhere.landing_batch(), 1, "that forge lands one change at a time");
    let mut accepted = gated(queued(bare_policy())).run;
    accepted.facts.results = Some(results(false));
    assert_eq!(accepted.landing_batch(), 1, "a person accepted a red check");
}

#[test]
fn the_proof_of_a_batch_is_kept_with_the_commit_that_landed() {
    let story = landing();
    let proof = proof(&story);
    let landed = EffectOutcome::Landed { sha: sha(&["tip"]), batch: Some(Box::new(proof.clone())) };
    let story = story.done("land", landed);
    assert_eq!(story.run.outcome, Some(Outcome::Delivered { sha: sha(&["tip"]) }));
    assert_eq!(story.run.batch, Some(proof));
}

#[test]
fn a_change_that_is_red_in_a_batch_is_reworked_on_the_new_base_without_another_check() {
    let story = landing();
    let outcome = red(&story);
    let story = story.done("land", outcome);
    assert_eq!((&story.run.base, &story.run.head), (&sha(&["newer"]), &sha(&["on top"])));
    assert!(story.run.facts.review.is_none() && story.run.facts.approved_by.is_none(), "they were for another head");
    assert!(!story.run.pending.values().any(|e| matches!(e, EffectRef::Check(Scope::Head, _))));
    assert_eq!((story.run.phase, story.run.rounds), (Phase::Working, 1));
    assert_eq!(story.run.tasks.last().map(|t| t.origin), Some(task::Origin::Checks));
    assert!(story.run.notes.iter().any(|n| n.text.contains(&story.run.id.abbrev())), "{:?}", story.run.notes);
}

#[test]
fn a_change_that_conflicts_in_the_queue_is_moved_onto_the_base_like_any_other() {
    let conflict = EffectOutcome::PutBack { why: "it conflicts".to_owned(), red: None };
    let story = landing().done("land", conflict);
    assert_eq!((story.run.phase, pending(&story, "observe")), (Phase::Gating, 1));
    let moved = Observation { base: sha(&["newer"]), ..quiet(&story.run) };
    let story = story.done("observe", EffectOutcome::Observed { observation: moved });
    assert_eq!(pending(&story, "rebase"), 1);
    let story = story.well("rebase");
    assert!(!story.run.facts.put_back, "the next head may join a batch again");
}

#[test]
fn a_put_back_change_of_a_run_that_stops_or_was_merged_changes_nothing() {
    let story = landing().apply(Event::CancelRequested { by: other(), why: String::new() });
    let (head, outcome) = (story.run.head.clone(), red(&story));
    let story = story.done("land", outcome);
    assert_eq!((&story.run.head, story.run.tasks.len()), (&head, 1));
    let merged = see(landing(), |o| o.state = ChangeState::Merged { sha: sha(&["merged"]), by: other() });
    let outcome = red(&merged);
    let merged = merged.done("land", outcome);
    assert_eq!(merged.run.outcome, Some(Outcome::Delivered { sha: sha(&["merged"]) }));
}

#[test]
fn every_gate_is_tested_again_before_a_batch_lands() {
    let run = landing().run;
    let seen = quiet(&run);
    assert_eq!(run.shut_since(&Observation { base: sha(&["newer"]), ..seen.clone() }), None);
    let pushed = Observation { head: sha(&["foreign"]), ..seen.clone() };
    let closed = Observation { state: ChangeState::Closed { by: other() }, ..seen.clone() };
    let ci = Observation { statuses: [("ci/test".to_owned(), StatusState::Failure)].into(), ..seen.clone() };
    let request = crate::support::story::request(&run, 7);
    let requested = Observation { change_requests: vec![request], ..seen.clone() };
    for shut in [pushed, closed, ci, requested] {
        assert!(run.shut_since(&shut).is_some(), "{shut:?}");
    }
    let held = Run { paused: Some(other()), ..run };
    assert!(held.shut_since(&seen).is_some());
}
