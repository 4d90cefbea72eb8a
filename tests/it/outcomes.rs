//! Verified outcomes: what a journal proves, written once with the last event, and the same when derived again.

use crate::simulate::wild;
use crate::support::cli::Cli;
use crate::support::fixtures::{bare_policy, other};
use crate::support::rest::service;
use crate::support::stores::{TestStore, on_postgres, on_sqlite};
use crate::support::story::{Story, broken, checked, ci_failure, results, spec};
use serde_json::json;
use skep::domain::*;
use skep::ports::journal::Transition;
use skep::ports::leases::Lease;
use skep::ports::outcomes::{OutcomeFilter, Outcomes};

fn policy() -> Policy {
    Policy { self_approval: true, ..bare_policy() }
}

fn free() -> Policy {
    Policy { approve_merge: false, ..policy() }
}

/// A run whose plan has one task, in progress.
fn one(policy: Policy) -> Story {
    Story::new(policy).apply(Event::Admitted).report(Report::Planned { tasks: vec![spec("a", &[])] })
}

/// From good work of a dev to the reviewer at work.
fn in_review(story: Story) -> Story {
    story.work().all_well(&["check", "integrate"]).all_well(&["push", "check", "ensure_change"])
}

fn gating(story: Story) -> Story {
    in_review(story).review(Verdict::Approve).well("ensure_change")
}

fn landed(story: Story) -> Story {
    gating(story).well("observe").well("land").finished()
}

fn no(why: &str) -> Answer {
    Answer::No { why: why.to_owned() }
}

/// The words of a story: of attempts by number, and of the run as 0.
fn words(story: &Story) -> Vec<(u32, &'static str)> {
    assert!(story.run.ended(), "{:?}", story.run.pending);
    let rows = outcomes(story.journal.clone()).expect("a journal that can be replayed");
    rows.iter().map(|row| (row.attempt.map_or(0, |id| id.0), row.word.name())).collect()
}

#[test]
fn a_run_its_plan_and_its_work_land() {
    assert_eq!(words(&landed(one(free()))), [(0, "landed"), (1, "landed"), (2, "landed")]);
    // A second round is late. Attempts 3 and 5 are the reviews.
    let twice = in_review(one(free())).review(Verdict::Rework);
    let twice = in_review(twice).review(Verdict::Rework);
    let words = words(&landed(twice));
    let late: Vec<u32> = words.iter().filter(|(_, word)| *word == "landed_late").map(|(n, _)| *n).collect();
    assert_eq!(late, [0, 1, 2, 4, 6], "{words:?}");
}

#[test]
fn red_and_unusable_attempts_are_told_apart() {
    let red = one(free()).work().done("check", checked(results(false)));
    assert_eq!(words(&landed(red)), [(0, "landed"), (1, "landed"), (2, "red"), (3, "landed")]);
    let failed = one(free()).report(Report::Failed { why: "gave up".to_owned() });
    assert_eq!(words(&landed(failed)), [(0, "landed"), (1, "landed"), (2, "unusable"), (3, "landed")]);
    // Checks that could not work where they ran say nothing about the attempt.
    let away = one(free()).work().done("check", checked(broken(Fault::Network))).answer(Answer::Yes);
    let away = away.all_well(&["check", "integrate", "push", "check", "ensure_change"]).review(Verdict::Approve);
    let away = away.all_well(&["ensure_change", "observe", "land"]).finished();
    assert_eq!(words(&away), [(0, "landed"), (1, "landed"), (2, "landed")]);
    let unavailable = Report::Unavailable { why: "429".to_owned(), until: Some(Timestamp(5_000)), fix: None };
    let waited = one(free()).report(unavailable).wait(60).apply(Event::Due);
    assert_eq!(words(&landed(waited)), [(0, "landed"), (1, "landed"), (3, "landed")]);
}

#[test]
fn a_review_is_confirmed_by_the_next_round_and_refuted_by_a_merge() {
    // The finding names src/a, which the next round changes.
    let heeded = in_review(one(free())).review(Verdict::Rework);
    assert!(words(&landed(heeded)).contains(&(3, "confirmed")));
    let elsewhere = in_review(one(free())).review(Verdict::Rework);
    let work = crate::support::story::developed(AttemptId(4), &["src/other"]);
    let elsewhere = elsewhere.report(work).all_well(&["check", "integrate", "push", "check", "ensure_change"]);
    let elsewhere = elsewhere.review(Verdict::Approve).all_well(&["ensure_change", "observe", "land"]).finished();
    assert!(!words(&elsewhere).iter().any(|(_, word)| *word == "confirmed"));
    // The rounds are used up, and a person merges the head as it is.
    let mut policy = free();
    policy.limits.rounds = 0;
    let refused = in_review(one(policy)).review(Verdict::Rework);
    let head = refused.run.head.clone();
    let merged = refused.see(|o| o.state = ChangeState::Merged { sha: head, by: other() }).finished();
    assert_eq!(words(&merged), [(0, "landed"), (1, "landed"), (2, "landed"), (3, "refuted")]);
}

#[test]
fn an_approval_before_more_work_has_missed_something() {
    let declined = gating(one(policy())).well("observe").answer(no("it breaks the build on Windows"));
    let declined = gating(declined).well("observe").answer(Answer::Yes).well("observe").well("land").finished();
    assert!(words(&declined).contains(&(3, "missed")) && !words(&declined).contains(&(5, "missed")));
    let with_status = Policy { required_statuses: vec!["ci".to_owned()], ..free() };
    let red = gating(one(with_status)).see(|o| {
        o.statuses = [("ci".to_owned(), StatusState::Failure)].into();
        o.failed = [("ci".to_owned(), 1)].into();
    });
    let red = red.done("inspect_ci", EffectOutcome::CiInspected { failures: vec![ci_failure("ci", "FAILED a")] });
    assert!(words(&red.cancelled()).contains(&(3, "missed")));
    let rejected = gating(one(policy())).well("observe").answer(no("")).finished();
    assert_eq!(words(&rejected), [(0, "unlanded"), (1, "unlanded"), (2, "unlanded"), (3, "missed")]);
}

#[test]
fn a_run_ends_unlanded_only_because_of_its_work() {
    let fail = || Report::Failed { why: "gave up".to_owned() };
    let used_up = one(policy()).report(fail()).report(fail()).answer(no("not worth it")).finished();
    assert_eq!(words(&used_up), [(0, "unlanded"), (1, "unlanded"), (2, "unusable"), (3, "unusable")]);
    assert_eq!(words(&one(policy()).cancelled()), [(0, "void")]);
    let environment = one(policy()).work().done("check", checked(broken(Fault::Network))).answer(no("no network"));
    assert_eq!(words(&environment.finished()), [(0, "void")]);
    assert_eq!(outcomes(one(policy()).journal).expect("replayed"), [], "the run has not ended");
}

#[test]
fn a_journal_that_does_not_fit_proves_nothing() {
    let mut journal = landed(one(free())).journal;
    journal.remove(1);
    let why = outcomes(journal).expect_err("an event is missing");
    assert!(why.starts_with("event 2 does not fit"), "{why}");
    assert!(outcomes(Vec::new()).expect("an empty journal").is_empty());
}

/// Writes a journal to a store as the runtime does, and returns the run.
async fn store_journal(b: &TestStore, opened: &Opened, journal: &[(Event, Timestamp)]) -> RunId {
    let id = RunId(uuid::Uuid::now_v7());
    let (mut run, mut lease): (Option<Run>, Option<Lease>) = (None, None);
    let (mut written, mut proof) = (Vec::new(), None::<Proof>);
    for (event, at) in journal {
        let event = match event {
            Event::Opened(_) => Event::Opened(Box::new(Opened { id, ..opened.clone() })),
            other => other.clone(),
        };
        let decision = match (&run, &event) {
            (None, Event::Opened(opened)) => open(opened, *at).expect("opened"),
            (Some(run), event) => decide(run, event, *at).expect("decided"),
            _ => panic!("{event:?} comes first"),
        };
        written.push((event.clone(), *at));
        match (&run, &mut proof) {
            (Some(before), Some(proof)) => proof.read(before, &event, &decision.run, *at),
            _ => proof = Proof::opened(&decision.run),
        }
        let gathered = proof.as_ref().expect("gathered since the opening").outcomes(&decision.run);
        let outcomes = if decision.run.ended() { outcomes(written.clone()).expect("outcomes") } else { Vec::new() };
        assert_eq!(gathered, outcomes, "gathered as the events happen, and from the journal");
        let transition = Transition {
            lease: lease.clone().unwrap_or_else(|| crate::support::runs::no_lease(id)),
            at: *at,
            event,
            run: std::sync::Arc::new(decision.run.clone()),
            effects: decision.effects,
            finished: decision.finished,
            ledger_rows: decision.ledger_rows,
            outcomes,
        };
        // A transition whose acknowledgement was lost is written again.
        b.commit(transition.clone()).await.expect("a commit");
        b.commit(transition).await.expect("the same commit again");
        if lease.is_none() {
            lease = Some(b.take(id, "one").await);
        }
        run = Some(decision.run);
    }
    id
}

async fn written_once_and_the_same_when_derived_again(b: TestStore) {
    let filter = |run| OutcomeFilter { run: Some(run), limit: 500, ..OutcomeFilter::default() };
    let mut ended = 0;
    for seed in 0..24 {
        let simulated = wild(seed, false).expect("a simulated run");
        let id = store_journal(&b, &simulated.opened, &simulated.journal).await;
        let table = b.sea.list_outcomes(&filter(id)).await.expect("the outcomes");
        let journal = b.store.history(id).await.expect("the store").expect("the journal");
        let derived = outcomes(journal).expect("outcomes");
        assert_eq!(table, derived, "seed {seed}");
        assert_eq!(table.iter().filter(|row| row.attempt.is_none()).count(), usize::from(simulated.run.ended()));
        b.sea.replace_outcomes(id, &derived).await.expect("replaced");
        assert_eq!(b.sea.list_outcomes(&filter(id)).await.expect("the outcomes"), table, "seed {seed}");
        ended += usize::from(simulated.run.ended());
    }
    assert!(ended > 5, "a simulation in which no run ends proves nothing");
    let landed = OutcomeFilter { word: Some(OutcomeWord::Landed), limit: 500, ..OutcomeFilter::default() };
    let landed = b.sea.list_outcomes(&landed).await.expect("the outcomes");
    assert!(landed.iter().all(|row| row.word == OutcomeWord::Landed));
    let newest_first: Vec<RunId> = landed.iter().map(|row| row.run).collect();
    assert!(newest_first.is_sorted_by(|a, b| a >= b), "{newest_first:?}");
}

#[tokio::test]
async fn written_once_on_sqlite() {
    on_sqlite(written_once_and_the_same_when_derived_again).await;
}

#[tokio::test]
async fn written_once_on_postgres() {
    on_postgres(written_once_and_the_same_when_derived_again).await;
}

/// Every simulated run, whatever happens in it, has outcomes that agree with its end.
#[test]
fn simulated_runs_have_sound_outcomes() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..600 {
        let ended = wild(seed, false).expect("a simulated run");
        let rows = outcomes(ended.journal).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        let of_run: Vec<OutcomeWord> = rows.iter().filter(|r| r.attempt.is_none()).map(|r| r.word).collect();
        assert_eq!(of_run.len(), usize::from(ended.run.ended()), "seed {seed}: one row for an ended run");
        let delivered = matches!(ended.run.outcome, Some(Outcome::Delivered { .. })) && ended.run.ended();
        let is_landed = |word: &OutcomeWord| matches!(word, OutcomeWord::Landed | OutcomeWord::LandedLate);
        assert_eq!(of_run.iter().any(is_landed), delivered, "seed {seed}");
        for row in &rows {
            seen.insert(row.word.name());
            let Some(attempt) = row.attempt.and_then(|id| ended.run.attempt(id)) else { continue };
            let step = match row.word {
                OutcomeWord::Confirmed | OutcomeWord::Refuted | OutcomeWord::Missed => Some(Step::Review),
                OutcomeWord::Red => Some(Step::Develop),
                _ => None,
            };
            assert!(step.is_none_or(|step| step == attempt.step), "seed {seed}: {row:?}");
            assert_eq!(row.usage, attempt.ended.as_ref().expect("an ended attempt").charged, "seed {seed}");
        }
    }
    // The simulated reviewers name no file that the next round changes.
    seen.insert(OutcomeWord::Confirmed.name());
    let missing: Vec<&str> = OutcomeWord::ALL.iter().map(|w| w.name()).filter(|w| !seen.contains(w)).collect();
    assert!(missing.is_empty(), "no simulated run shows {missing:?}");
}

#[tokio::test]
async fn rest_lists_and_rebuilds_outcomes() {
    let s = service().await;
    let run = s.open_run("append two").await["id"].as_str().expect("an id").to_owned();
    s.until(&run, "blocked").await;
    assert_eq!(s.get("/api/v1/outcomes").await.json(), json!([]), "the run has not ended");
    let answer = s.post(&format!("/api/v1/runs/{run}/actions/approve"), &json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    s.until(&run, "completed").await;
    let listed = async || s.get(&format!("/api/v1/outcomes?run={run}")).await.json();
    let table = listed().await;
    let words: Vec<(&str, &str)> = table
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (row["word"].as_str().expect("a word"), row["attempt"].as_str().unwrap_or("run")))
        .collect();
    assert_eq!(words, [("landed", "run"), ("landed", "a1"), ("landed", "a2")], "{table}");
    let rebuilt = s.post("/api/v1/outcomes/rebuild", &json!({})).await.json();
    assert_eq!(rebuilt, json!({"runs": 1, "rows": 3, "failed": 0, "failures": []}));
    assert_eq!(listed().await, table, "derived again, they are the same");
    assert_eq!(s.get("/api/v1/outcomes?word=missed").await.json(), json!([]));
    s.get("/api/v1/outcomes?word=mised").await.is_problem(422, "invalid");
}

#[test]
fn the_command_lists_what_a_run_has_proven() {
    let cli = Cli::new();
    let repo = cli.repo("tally", &[("a.txt", "one\n")]);
    let repo = repo.to_str().expect("a path");
    let check = ["--check", "grep -q two a.txt", "--yes"];
    let run = ["run", "Append two", "--repo", repo, "--engine", "command: echo two >> a.txt"];
    cli.run(&["outcomes", "list"]).exits_with(0).prints("No outcomes");
    std::fs::write(cli.path("data/skep.toml"), "[policy]\nbase_checks = \"off\"\n").expect("a file");
    cli.run(&[&run[..], &check[..]].concat()).exits_with(0);
    let rows = cli.run(&["outcomes", "list", "--json"]).exits_with(0).json();
    assert_eq!(rows["outcomes"].as_array().map(Vec::len), Some(3), "{rows}");
    cli.run(&["outcomes", "list", "--word", "landed"]).exits_with(0).prints("the run").prints("sha:");
    cli.run(&["outcomes", "rebuild"]).exits_with(0).prints("3 outcomes of 1 run derived");
    assert_eq!(cli.run(&["outcomes", "list", "--json"]).exits_with(0).json(), rows);
}
