//! Each gate by itself: if a run that may land loses one fact, exactly the gate of that fact is no longer open.
//!
//! Earlier phases check some of the same facts, so a whole run would not reveal a missing gate.

use crate::support::fixtures::{asker, bare_policy, other};
use crate::support::rng::sha;
use crate::support::story::{Story, diff, quiet, request, results, spec};
use skep::domain::*;
use std::sync::Arc;

/// A run just before landing, with every gate open.
fn ready() -> Run {
    let policy =
        Policy { required_statuses: vec!["ci".to_owned()], protected_paths: vec!["ci/**".to_owned()], ..bare_policy() };
    let story = Story::new(policy)
        .apply(Event::Admitted)
        .report(Report::Planned { tasks: vec![spec("a", &[])] })
        .work()
        .all_well(&["check", "integrate", "push", "check", "ensure_change"])
        .review(Verdict::Approve)
        .well("ensure_change");
    let mut run = story.run;
    let statuses = [("ci".to_owned(), StatusState::Success)].into();
    run.facts.observed = Some(Observation { statuses, approved_by: vec![other()], ..quiet(&run) });
    run
}

fn shut(change: impl Fn(&mut Run)) -> Vec<&'static str> {
    let mut run = ready();
    change(&mut run);
    gate::all(&run).into_iter().filter(|(_, g)| !g.is_open()).map(|(name, _)| name).collect()
}

fn red(name: &str) -> (String, StatusState) {
    (name.to_owned(), StatusState::Failure)
}

fn seen(run: &mut Run) -> &mut Observation {
    run.facts.observed.as_mut().unwrap()
}

#[test]
fn each_gate_holds_by_itself() {
    assert_eq!(shut(|_| {}), Vec::<&str>::new(), "the run may land");
    assert_eq!(shut(|r| r.diff = diff(&[])), ["diff"]);
    assert_eq!(shut(|r| r.facts.results = None), ["checks"]);
    assert_eq!(shut(|r| r.facts.results = Some(Vec::new())), ["checks"], "no result proves nothing");
    assert_eq!(shut(|r| r.facts.results = Some([results(true), results(false)].concat())), ["checks"]);
    assert_eq!(shut(|r| r.facts.review = None), ["review"]);
    assert_eq!(shut(|r| r.facts.review.as_mut().unwrap().verdict = Verdict::Rework), ["review"]);
    assert_eq!(shut(|r| seen(r).state = ChangeState::Closed { by: other() }), ["change"]);
    assert_eq!(shut(|r| seen(r).state = ChangeState::Merged { sha: sha(&["x"]), by: other() }), ["change"]);
    assert_eq!(shut(|r| seen(r).base = sha(&["newer"])), ["base"]);
    assert_eq!(shut(|r| seen(r).statuses.clear()), ["statuses"]);
    assert_eq!(shut(|r| seen(r).statuses = [("ci".to_owned(), StatusState::Failure)].into()), ["statuses"]);
    assert_eq!(shut(|r| seen(r).statuses = [("ci".to_owned(), StatusState::Pending)].into()), ["statuses"]);
    assert_eq!(shut(|r| seen(r).required = ["lint".to_owned()].into()), ["statuses"]);
    assert_eq!(shut(|r| seen(r).statuses = [("ci".to_owned(), StatusState::Success), red("other")].into()), [""; 0]);
    let free = |r: &mut Run| settings(r).policy.required_statuses.clear();
    let all = |r: &mut Run| {
        free(r);
        seen(r).statuses.extend([red("other")]);
    };
    assert_eq!(shut(all), ["statuses"], "if nothing is required, everything counts");
    assert_eq!(shut(|r| seen(r).change_requests = vec![request(r, 1)]), ["requests"]);
    let accepted = |r: &mut Run| {
        seen(r).statuses = [red("ci")].into();
        r.facts.accepted_statuses = ["ci".to_owned()].into();
    };
    assert_eq!(shut(accepted), [""; 0], "a person accepted it");
    let unapproved = |r: &mut Run| {
        accepted(r);
        settings(r).policy.approve_merge = false;
        seen(r).approved_by.clear();
    };
    assert_eq!(shut(unapproved), ["approval"], "red CI never lands without a person");
    assert_eq!(shut(|r| seen(r).approved_by.clear()), ["approval"]);
    assert_eq!(shut(|r| r.facts.observed = None), ["change", "head", "base", "requests", "statuses", "approval"]);
    // An approval on the forge counts only for the head it was given on.
    assert_eq!(shut(|r| seen(r).head = sha(&["foreign"])), ["head", "approval"]);
}

#[test]
fn session_that_wrote_cannot_review() {
    let same = |r: &mut Run| {
        for attempt in &mut r.attempts {
            attempt.ended.as_mut().unwrap().session = Some("same".to_owned());
        }
    };
    assert_eq!(shut(same), ["review"]);
}

#[test]
fn approval_needs_a_person_who_may_approve() {
    assert_eq!(shut(|r| seen(r).approved_by = vec![Principal::skep()]), ["approval"]);
    assert_eq!(shut(|r| seen(r).approved_by = vec![asker()]), Vec::<&str>::new());
    let strict = |r: &mut Run| {
        settings(r).policy.self_approval = false;
        seen(r).approved_by = vec![asker()];
        r.facts.approved_by = Some(asker());
    };
    assert_eq!(shut(strict), ["approval"]);
    // A low-risk change needs no approval; a change to a protected path does, whatever the policy says about merges.
    let free = |r: &mut Run| {
        settings(r).policy.approve_merge = false;
        seen(r).approved_by.clear();
    };
    assert_eq!(shut(free), Vec::<&str>::new());
    let risky = |r: &mut Run| {
        free(r);
        r.diff = diff(&["ci/build"]);
    };
    assert_eq!(shut(risky), ["approval"]);
}

/// The settings of a run, to change them.
fn settings(run: &mut Run) -> &mut Settings {
    Arc::make_mut(&mut run.settings)
}

/// Gives the run a spec with a tested and a judged criterion; the first has this result.
fn accept(run: &mut Run, tested: Option<CheckResult>, judged: Option<bool>) {
    let test = CriterionTest { command: "true".to_owned(), timeout_secs: 1 };
    let acceptance = vec![
        Criterion { id: "a".to_owned(), text: "A".to_owned(), test: Some(test) },
        Criterion { id: "b".to_owned(), text: "B".to_owned(), test: None },
    ];
    let spec = Spec { id: "s".to_owned(), acceptance, forbidden_paths: Vec::new() };
    settings(run).checks.extend(spec.checks());
    run.goal.spec = Some(Box::new(spec));
    run.facts.results.as_mut().unwrap().extend(tested);
    let verdict = judged.map(|met| CriterionVerdict { id: "b".to_owned(), met, why: "x".to_owned() });
    run.facts.review.as_mut().unwrap().criteria = verdict.into_iter().collect();
}

#[test]
fn criteria_that_are_not_met_shut_a_gate() {
    let result = |green| CheckResult {
        name: "accept:a".to_owned(),
        kind: CheckKind::Accept,
        failures: vec!["line".to_owned()],
        ..results(green).remove(0)
    };
    assert_eq!(shut(|r| accept(r, Some(result(true)), Some(true))), Vec::<&str>::new());
    assert_eq!(shut(|r| accept(r, None, Some(true))), ["checks"], "it was not tested");
    assert_eq!(shut(|r| accept(r, Some(result(false)), Some(true))), ["checks"]);
    // That the base does not meet it either excuses nothing.
    let like_base = |r: &mut Run| {
        accept(r, Some(result(false)), Some(true));
        settings(r).policy.base_checks = BaseChecks::NoNewFailures;
        let (sha, results) = (r.base.clone(), vec![result(false)]);
        r.baseline = Some(Baseline { sha, results, environment: None, settled: true });
        assert!(!r.fails_like_base(r.facts.results.as_deref().unwrap()));
    };
    assert_eq!(shut(like_base), ["checks"]);
    // A program that its command does not find may be what the change has to add: neither the base nor the head asks.
    let missing = CheckResult { fault: Some(Fault::Program { name: "tool".to_owned() }), ..result(false) };
    let lacks_program = |r: &mut Run| {
        accept(r, Some(missing.clone()), Some(true));
        let (sha, results) = (r.base.clone(), vec![missing.clone()]);
        let baseline = Baseline { sha, results, environment: None, settled: false };
        assert!(!baseline.needs_person(BaseChecks::Usable) && !baseline.needs_person(BaseChecks::Green));
        r.baseline = Some(baseline);
        assert!(!r.blames_environment(r.facts.results.as_deref().unwrap()));
    };
    assert_eq!(shut(lacks_program), ["checks"]);
    // What the reviewer did not judge, the person who approves does.
    let unjudged = |r: &mut Run| {
        accept(r, Some(result(true)), None);
        settings(r).policy.approve_merge = false;
    };
    assert_eq!(shut(unjudged), Vec::<&str>::new(), "a person approved");
    assert_eq!(shut(|r| (unjudged(r), seen(r).approved_by.clear()).1), ["approval"]);
    let mut run = ready();
    accept(&mut run, Some(result(true)), Some(false));
    let states: Vec<CriterionState> = run.acceptance().iter().map(|c| c.state).collect();
    assert_eq!(states, [CriterionState::Met, CriterionState::Unmet]);
}
