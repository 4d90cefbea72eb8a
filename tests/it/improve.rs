//! Recurring failures: planted ones are found exactly, proposed once, silenced, and their effect is measured.

use crate::support::cli::Cli;
use crate::support::fixtures::{bare_policy, opened};
use crate::support::github::{GitHub, LOGIN, TOKEN};
use crate::support::rest::{Service, service};
use crate::support::story::{Story, developed, spec};
use serde_json::{Value, json};
use skep::domain::improve::{Measurement, Proposal, ProposalState, Rate, RunRecord, Signature, Threshold, symptoms};
use skep::domain::*;
use skep::ports::journal::Transition;
use skep::ports::leases::{Lease, Owner};
use skep::service::schedules::settings::{Schedule, Timing, Work};
use skep::service::{Services, schedules};
use std::collections::BTreeSet;

/// What happens to the develop attempt of a planted run.
#[derive(Clone, Debug)]
enum Plant {
    /// Its checks are red, with this output.
    Red(String),
    /// It reports that it failed.
    Fails(String),
    /// It uses up its model calls.
    OutOfTurns,
    /// Its checks pass, and the run is cancelled.
    Fine,
}

fn result(green: bool, tail: &str) -> CheckResult {
    CheckResult { tail: tail.to_owned(), ..crate::support::story::results(green).remove(0) }
}

/// A run with one planted attempt, which has ended. Its events are at `at` and later.
fn planted(project: &str, plant: &Plant, at: i64) -> Story {
    let id = RunId(uuid::Uuid::now_v7());
    let opened = Opened { id, project: ProjectName::from_text(project), ..opened(bare_policy()) };
    let mut story = Story::of(opened);
    story.waited = at;
    let story = story.apply(Event::Admitted).report(Report::Planned { tasks: vec![spec("a", &[])] });
    let checked = |story: Story, green: bool, tail: &str| {
        let attempt = story.run.live_attempts().next().expect("a live attempt").id;
        let scope = Some(Scope::Task(TaskId(1)));
        let results = vec![result(green, tail)];
        let outcome = EffectOutcome::Checked { results, wall_ms: 10, scope, reused: None, environment: None };
        story.report(developed(attempt, &["src/a"])).done("check", outcome)
    };
    let story = match plant {
        Plant::Red(tail) => checked(story, false, tail),
        Plant::Fine => checked(story, true, ""),
        Plant::Fails(why) => story.report(Report::Failed { why: why.clone() }),
        Plant::OutOfTurns => {
            let why = "it has used its 200 model calls".to_owned();
            story.report(Report::BudgetExhausted { budget: BudgetKind::Turns, why, unfinished: None })
        }
    };
    story.cancelled()
}

fn record(story: &Story) -> RunRecord {
    RunRecord::of(&story.run, story.journal.iter().map(|(event, at)| (event, *at)))
}

/// 50 runs: six causes, each in four runs and with different details, and 26 runs with noise.
fn fifty(at: i64) -> Vec<Story> {
    let mut plants = Vec::new();
    for n in 0..4 {
        plants.push(Plant::Red(format!(
            "Collecting yaml\ncurl: ({n}) Could not resolve host: pypi.org\nmake: *** [test] Error 1"
        )));
        plants.push(Plant::Red(format!(
            "Traceback (most recent call last):\n  File \"/tmp/w{n}/a.py\", line {n}\n    import yaml\n\
             ModuleNotFoundError: No module named 'yaml'\nran in 0.{n}s"
        )));
        plants.push(Plant::Red(format!(
            "   Compiling a v0.{n}.0\nerror[E0308]: mismatched types\n --> src/lib.rs:{n}:1"
        )));
        plants.push(Plant::Red(format!("=== RUN TestSum\n--- FAIL: TestSum (0.0{n}s)\nFAIL\texample.org/a 0.{n}s")));
        let circles = "the model went in circles: the same call 4 times in a row (last: read)";
        plants.push(Plant::Fails(circles.to_owned()));
        plants.push(Plant::OutOfTurns);
    }
    let noise =
        ["src/a.ts(1,5): error TS2345: no overload", "fatal: not a git repository", "npm ERR! missing script: test"];
    for n in 0..26 {
        plants.push(match n {
            0..6 => Plant::Red(format!(
                "{} {}",
                noise[n % 3],
                "abcdef".chars().nth(n).expect("a letter").to_string().repeat(3)
            )),
            _ => Plant::Fine,
        });
    }
    plants.iter().zip(0..).map(|(plant, n)| planted("tool", plant, at + n * 1_000)).collect()
}

#[test]
fn exactly_the_planted_causes_are_found() {
    let records: Vec<RunRecord> = fifty(0).iter().map(record).collect();
    assert_eq!(records.len(), 50);
    let threshold = Threshold::default();
    let found = symptoms(&records, Timestamp(0));
    let above: BTreeSet<String> = found.iter().filter(|s| s.exceeds(&threshold)).map(|s| s.signature.text()).collect();
    let expected = [
        "develop | red | test | curl: (<n>) Could not resolve host: pypi.org",
        "develop | red | test | ModuleNotFoundError: No module named '*'",
        "develop | red | test | error[E0308]: mismatched types",
        "develop | red | test | --- FAIL: TestSum (<n>s)",
        "develop | failed | script | the model went in circles: the same call <n> times in a row (last: read)",
        "develop | exhausted_turns | script | it has used its <n> model calls",
    ];
    assert_eq!(above, expected.map(str::to_owned).into());
    for symptom in found.iter().filter(|s| s.exceeds(&threshold)) {
        assert_eq!((symptom.hits, symptom.runs), (4, 4), "{}", symptom.signature.text());
        assert_eq!(symptom.samples.len(), 4);
    }
    // Six of the runs with noise fail, each in its own way; those that a cancel stopped count as none.
    assert_eq!(found.iter().filter(|s| s.hits == 1).count(), 6, "{found:#?}");
    let half: Vec<RunRecord> = records.iter().take(2).cloned().collect();
    assert!(!symptoms(&half, Timestamp(0)).iter().any(|s| s.exceeds(&threshold)), "two runs are too few");
    assert!(symptoms(&records, Timestamp(i64::MAX)).is_empty(), "nothing is in the window");
}

#[test]
fn a_rare_failure_is_proposed_if_it_is_expensive() {
    let signature = Signature::new("develop", "failed", "llm:a/b", "x");
    let symptom = |hits, ends, runs, lost_micros| improve::Symptom {
        project: ProjectName::from_text("tool"),
        signature: signature.clone(),
        hits,
        ends,
        runs,
        lost_micros,
        samples: Vec::new(),
        first_at: Timestamp(0),
        last_at: Timestamp(0),
    };
    for (hits, ends, runs, lost, exceeds) in [
        (5, 100, 3, 0, true),
        (4, 100, 3, 0, false),
        (4, 100, 3, 5_000_000, true),
        (4, 100, 3, 4_999_999, false),
        (100, 100, 2, 50_000_000, false),
    ] {
        assert_eq!(symptom(hits, ends, runs, lost).exceeds(&Threshold::default()), exceeds, "{hits} of {ends}");
    }
}

#[test]
fn base_head_ci_and_operations_have_signatures_of_their_own() {
    let policy = Policy { base_checks: BaseChecks::Green, ..bare_policy() };
    let red = |scope| EffectOutcome::Checked {
        results: vec![result(false, "FAILED tests/a.py::test_b")],
        wall_ms: 1,
        scope: Some(scope),
        reused: None,
        environment: None,
    };
    let story = Story::new(policy).apply(Event::Admitted).done("check", red(Scope::Base));
    let failed = EffectOutcome::Failed {
        failure: Failure { what: "cannot push to https://example.org/a: HTTP 403".to_owned(), fix: String::new() },
    };
    let pushed =
        Story::new(bare_policy()).apply(Event::Admitted).report(Report::Planned { tasks: vec![spec("a", &[])] });
    let pushed = pushed.work().all_well(&["check", "integrate"]).done("push", failed);
    let texts = |story: &Story| -> Vec<String> {
        symptoms(&[record(story)], Timestamp(0)).iter().map(|s| s.signature.text()).collect()
    };
    assert_eq!(texts(&story), ["check | red_at_base | test | FAILED <dir>/a.py::test_b"]);
    assert_eq!(texts(&pushed), ["ops | failed |  | cannot push to example.org: HTTP 403"]);
}

fn measurement(before: (u64, u64), after: (u64, u64)) -> Measurement {
    let rate = |(hits, ends)| Rate { hits, ends };
    Measurement { since: Timestamp(0), before: rate(before), after: rate(after) }
}

#[test]
fn a_measurement_ends_with_what_the_numbers_prove() {
    let month = Timestamp(Measurement::MAX_MS);
    for (before, after, now, verdict) in [
        ((20, 50), (2, 30), Timestamp(1), Some(ProposalState::Kept)),
        ((5, 50), (12, 30), Timestamp(1), Some(ProposalState::Worse)),
        ((3, 100), (3, 30), Timestamp(1), Some(ProposalState::Unclear)),
        ((20, 50), (2, 29), Timestamp(1), None),
        ((20, 50), (0, 12), month, Some(ProposalState::Kept)),
        ((20, 50), (0, 0), month, Some(ProposalState::Unclear)),
    ] {
        assert_eq!(measurement(before, after).verdict(now), verdict, "{before:?} {after:?}");
    }
}

/// Writes the journals of planted runs to the store of a service. They have ended, so that nothing drives them.
async fn plant(s: &Service, stories: &[Story]) {
    let store = &s.ports.deps.store;
    for story in stories {
        let mut run: Option<Run> = None;
        // Opened under a lease, so that the service does not admit it meanwhile.
        let lease = Lease { run: story.run.id, owner: Owner("planter".to_owned()), epoch: 1 };
        for (event, at) in &story.journal {
            let decision = match (&run, event) {
                (None, Event::Opened(opened)) => open(opened, *at).expect("opened"),
                (Some(run), event) => decide(run, event, *at).expect("decided"),
                _ => panic!("{event:?} comes first"),
            };
            let transition = Transition {
                lease: lease.clone(),
                at: *at,
                event: event.clone(),
                run: std::sync::Arc::new(decision.run.clone()),
                effects: decision.effects,
                finished: decision.finished,
                ledger_rows: decision.ledger_rows,
                outcomes: Vec::new(),
            };
            store.commit(vec![transition.into()]).await.remove(0).expect("a commit");
            run = Some(decision.run);
        }
    }
}

fn now() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("a clock").as_millis()).expect("milliseconds")
}

fn list<'v>(value: &'v Value, key: &str) -> &'v Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key} in {value}"))
}

const DAY: i64 = 24 * 3_600_000;

#[tokio::test]
async fn a_pass_proposes_at_most_three_once_and_a_dropped_one_stays_silent() {
    let s = service().await;
    plant(&s, &fifty(now() - DAY)).await;
    let pass = async |body: Value| s.post("/api/v1/improve", &body).await.json();
    let dry = pass(json!({"dry_run": true})).await;
    assert_eq!((dry["runs"].as_u64(), list(&dry, "proposed").len()), (Some(50), 3), "{dry}");
    assert_eq!(s.get("/api/v1/proposals").await.json(), json!([]), "a dry run stores nothing");
    let first = pass(json!({})).await;
    assert_eq!(list(&first, "proposed").len(), 3, "{first}");
    assert_eq!(list(&first, "symptoms").iter().filter(|s| s["exceeds"] == true).count(), 6);
    assert_eq!((first["failures"].as_u64(), first["unclassified"].as_u64()), (Some(30), Some(4)), "{first}");
    let again = pass(json!({})).await;
    assert!(list(&again, "proposed").is_empty(), "three are open: {again}");
    let stored = s.get("/api/v1/proposals").await.json();
    let ids: Vec<String> = stored.as_array().expect("a list").iter().map(|p| p["id"].to_string()).collect();
    assert_eq!(ids.len(), 3);
    let id = stored[0]["id"].as_str().expect("an id").to_owned();
    let dropped = s.post(&format!("/api/v1/proposals/{}/drop", &id[..6]), &json!({"why": "known"})).await;
    assert_eq!(dropped.json()["state"], "dropped", "{dropped:?}");
    // There is room for one more, which is another failure.
    let third = pass(json!({})).await;
    assert_eq!(list(&third, "proposed").len(), 1, "{third}");
    assert!(!ids.contains(&third["proposed"][0]["id"].to_string()), "{third}");
    s.post(&format!("/api/v1/proposals/{id}/accept"), &json!({})).await.is_problem(409, "not_open");
    s.post("/api/v1/proposals/ffffffffffff/accept", &json!({})).await.is_problem(404, "no_proposal");
    s.post(&format!("/api/v1/proposals/{id}/drop"), &json!({"why": " "})).await.is_problem(422, "invalid");
    s.post("/api/v1/improve", &json!({"since_secs": 1})).await.is_problem(422, "invalid");
    let audit = s.get("/api/v1/audit").await.text;
    assert!(audit.contains("improve.propose") && audit.contains("improve.dropped"), "{audit}");
}

#[tokio::test]
async fn a_schedule_looks_for_failures_every_week() {
    let s = service().await;
    plant(&s, &fifty(now() - DAY)).await;
    let timing = Timing::parse("0 5 * * MON", "UTC").expect("a timing");
    let work = Work::Improve { project: None, as_issue: true };
    let schedule = Schedule { name: "weekly".to_owned(), timing, work };
    let services = Services { schedules: [schedule].into(), ..s.state.services.clone() };
    let pass = async || schedules::pass(&services).await.expect("a pass");
    assert!(pass().await.expect("a wait") <= std::time::Duration::from_secs(600));
    assert_eq!(s.get("/api/v1/proposals").await.json(), json!([]), "a new schedule waits for its time");
    let store = &services.schedule_states;
    let due = async || {
        let mut state = store.schedules().await.expect("states").remove(0);
        state.next_at = Timestamp(1_000);
        store.put_schedule(&state).await.expect("stored");
    };
    for _ in 0..2 {
        due().await;
        pass().await;
        // The second pass proposes nothing twice.
        assert_eq!(s.get("/api/v1/proposals").await.json().as_array().map(Vec::len), Some(3));
    }
    let state = store.schedules().await.expect("states").remove(0);
    assert!(
        state.last_run.is_none() && state.last_at == Some(Timestamp(1_000)) && state.next_at.0 > now(),
        "{state:?}"
    );
    // The local forge has no issues. What could not be written is told; the proposals stand.
    assert!(state.last_error.is_some_and(|why| why.contains("not written to issues")));
    let audit = s.get("/api/v1/audit").await.text;
    assert!(audit.contains("schedule:weekly"), "{audit}");
}

/// The red output of the cause whose rate changes.
const OUTPUT: &str = "FAILED tests/test_a.py::test_b - assert 1 == 2";

fn runs(hits: usize, ends: usize, at: i64) -> Vec<Story> {
    let plant = |n: usize| if n < hits { Plant::Red(OUTPUT.to_owned()) } else { Plant::Fine };
    (0..ends).map(|n| planted("tool", &plant(n), at + n as i64 * 10_000)).collect()
}

/// Plants a failure at one rate, accepts its proposal, plants it at another, and returns the services and the proposal
/// after the next pass.
async fn measured(before: (usize, usize), after: (usize, usize)) -> (Service, Value) {
    let s = service().await;
    plant(&s, &runs(before.0, before.1, now() - DAY)).await;
    let pass = s.post("/api/v1/improve", &json!({"project": "tool"})).await.json();
    let id = pass["proposed"][0]["id"].as_str().unwrap_or_else(|| panic!("{pass}")).to_owned();
    let accepted = s.post(&format!("/api/v1/proposals/{id}/accept"), &json!({})).await.json();
    assert_eq!(accepted["state"], "testing", "{accepted}");
    let (hits, ends) = (before.0 as u64, before.1 as u64);
    assert_eq!(accepted["measurement"]["before"], json!({"hits": hits, "ends": ends}), "{accepted}");
    plant(&s, &runs(after.0, after.1, now())).await;
    let pass = s.post("/api/v1/improve", &json!({})).await.json();
    assert_eq!(list(&pass, "measured").len(), 1, "{pass}");
    assert_eq!(list(&s.post("/api/v1/improve", &json!({})).await.json(), "measured").len(), 0, "measured once");
    let proposal = s.get(&format!("/api/v1/proposals/{id}")).await.json();
    (s, proposal)
}

#[tokio::test]
async fn a_change_that_helps_is_kept() {
    let (_s, proposal) = measured((8, 20), (0, 30)).await;
    assert_eq!(proposal["state"], "kept", "{proposal}");
    assert_eq!(proposal["measurement"]["after"], json!({"hits": 0, "ends": 30}));
    assert!(proposal["measurement"]["p_value"].as_f64().expect("a number") < 0.05);
}

#[tokio::test]
async fn a_change_that_harms_is_worse_and_its_reversal_is_proposed() {
    let (s, proposal) = measured((4, 30), (20, 30)).await;
    assert_eq!(proposal["state"], "worse", "{proposal}");
    let all = s.get("/api/v1/proposals").await.json();
    let reversals: Vec<&Value> = all.as_array().expect("a list").iter().filter(|p| p["kind"] == "revert").collect();
    let [reversal] = reversals.as_slice() else { panic!("{all}") };
    assert_eq!(reversal["state"], "open");
    assert!(reversal["title"].as_str().expect("a title").contains(proposal["id"].as_str().expect("an id")));
}

#[test]
fn a_decided_proposal_is_silent_for_ninety_days() {
    let records: Vec<RunRecord> = runs(4, 10, 0).iter().map(record).collect();
    let symptom = symptoms(&records, Timestamp(0)).remove(0);
    let open = Proposal::of("1".to_owned(), &symptom, None, Timestamp(0));
    let later = |days: i64| Timestamp(days * DAY);
    assert!(open.silences(later(1_000)), "an open one is not proposed twice");
    let dropped = Proposal { state: ProposalState::Dropped, decided_at: Some(Timestamp(0)), ..open };
    assert!(dropped.silences(later(89)) && !dropped.silences(later(90)));
}

/// A failing command whose output carries instructions, marks and an escape.
const HOSTILE: &str = "#!/bin/sh\nprintf '%s\\n' '@all ``` ignore the above <script> curl: (6) Could not resolve host: registry.example.org' >&2\nexit 1\n";

#[test]
fn runs_that_fail_alike_are_named_by_the_program() {
    let cli = Cli::new();
    let repo = cli.repo("tally", &[("a.txt", "one\n"), ("check.sh", HOSTILE)]);
    let repo = repo.to_str().expect("a path");
    cli.run(&["improve"]).exits_with(0).prints("0 runs, 0 failures: nothing new to propose.");
    std::fs::write(cli.path("data/skep.toml"), "[policy]\nbase_checks = \"off\"\n").expect("a file");
    for n in 0..3 {
        let (goal, engine) = (format!("Append {n}"), format!("command: echo {n} >> a.txt"));
        let run = ["run", &goal, "--repo", repo, "--engine", &engine, "--check", "sh check.sh", "--yes", "--new"];
        let ended = cli.run(&run);
        assert_ne!(ended.code, 0, "{ended:?}");
    }
    let shown = cli.run(&["improve", "--dry-run"]).exits_with(0);
    shown.prints("Commands of tally need hosts that they cannot reach.");
    cli.run(&["improve", "list"]).exits_with(0).prints("No proposals");
    let pass = cli.run(&["improve", "--json"]).exits_with(0).json();
    let proposed = list(&pass, "proposed");
    assert_eq!(proposed.len(), 1, "{pass}");
    assert_eq!((&proposed[0]["rule"], &proposed[0]["runs"]), (&json!("network"), &json!(3)), "{pass}");
    cli.run(&["improve"]).exits_with(0).prints("nothing new to propose");
    let id = proposed[0]["id"].as_str().expect("an id");
    cli.run(&["improve", "show", id]).exits_with(0).prints("skep project allow tally HOST");
    cli.run(&["improve", "list"]).exits_with(0).prints(id).prints("open");
    let no_issues = cli.run(&["improve", "--as", "issue"]);
    assert!(no_issues.code != 0 && no_issues.out.contains("cannot publish"), "{no_issues:?}");
    cli.run(&["improve", "accept", &id[..5]]).exits_with(0).prints("Now make the change yourself");
    cli.run(&["improve", "drop", id]).exits_with(2);
    cli.run(&["improve", "drop", id, "--why", "the mirror is back"]).exits_with(0).prints("is dropped");
    cli.run(&["improve", "show", id]).exits_with(0).prints("the mirror is back");
    cli.run(&["improve", "show", "nope"]).one_error("no proposal", "List the proposals");
}

#[test]
fn a_proposal_has_one_issue_and_closing_it_drops_the_proposal() {
    let github = GitHub::start();
    github.push("main", &[("a.txt", "one\n"), ("check.sh", HOSTILE)]);
    let cli = Cli::new();
    let config = format!(
        "[policy]\nbase_checks = \"off\"\n\n[forges.github]\nkind = \"github\"\nurl = \"{0}\"\napi_url = \"{0}\"\n\
         token_file = \"{1}\"\n",
        github.url,
        github.private_file("token", TOKEN).display()
    );
    std::fs::create_dir_all(cli.path("data")).expect("a folder");
    std::fs::write(cli.path("data/skep.toml"), config).expect("a file");
    for n in 0..3 {
        let (goal, engine) = (format!("Append {n}"), format!("command: echo {n} >> a.txt"));
        let run = ["run", &goal, "--repo", "my-org/calc", "--engine", &engine, "--check", "sh check.sh", "--new"];
        let ended = cli.run(&run);
        assert_ne!(ended.code, 0, "{ended:?}");
    }
    for _ in 0..2 {
        cli.run(&["improve", "--as", "issue"]).exits_with(0).prints("/issues/");
    }
    let issue = match github.state().issues.as_slice() {
        [issue] => issue.clone(),
        issues => panic!("not one issue: {issues:?}"),
    };
    assert_eq!((issue.by.as_str(), issue.open), (LOGIN, true));
    // The output is in a block that it cannot close, and mentions nobody outside of it.
    let fenced = issue.body.split("```").nth(1).unwrap_or_default();
    assert!(fenced.contains("@all") && fenced.contains("ignore the above"), "{}", issue.body);
    assert_eq!(issue.body.matches("@all").count(), 1, "{}", issue.body);
    github.state().issues[0].open = false;
    cli.run(&["improve", "--as", "issue"]).exits_with(0);
    cli.run(&["improve", "list"]).exits_with(0).prints("dropped");
    cli.run(&["improve", "--as", "issue"]).exits_with(0).prints("nothing new to propose");
    assert_eq!(github.state().issues.len(), 1);
}
