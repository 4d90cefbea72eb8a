//! The watch over a base branch after a run has landed there: who is blamed, and that a revert is proposed once and never
//! lands by itself.

use crate::intake::{Kind, TOKEN, World};
use crate::story_intake::{machine, serve, started};
use crate::support::cli::ended;
use crate::support::forge_server::REPO;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use skep::domain::{GoalSource, LandingWatch, Outcome, Policy, ProjectName, Run, RunId, WatchState};
use skep::service::landings::{Progress, pass};
use std::time::{Duration, Instant};

/// A world whose project has this policy besides that merges need no approval, and a check that never fails.
async fn world(kind: Kind, adjust: impl FnOnce(&mut Policy)) -> World {
    let w = World::on(kind).await;
    let name = ProjectName::new("calc").unwrap();
    let mut project = w.services.store.project(&name).await.unwrap().unwrap();
    project.checks[0].command = "test -f greet.txt".to_owned();
    let policy = project.policy.as_mut().unwrap();
    policy.approve_merge = false;
    adjust(policy);
    w.services.store.put_project(&project, true).await.unwrap();
    w
}

fn ci(w: &World, sha: &str, state: &str) {
    w.forge.state().status(sha, "ci/test", state);
}

/// Lands a change, and returns its run, the commit before it and its commit.
async fn landed(w: &mut World) -> (Run, String, String) {
    let before = w.forge.head("main").unwrap();
    let issue = w.forge.state().open_issue("ann", "Say hello", "");
    w.label(issue, "ann", "skep").await;
    w.pass().await;
    let run = w.until("ends", Run::ended).await;
    let Some(Outcome::Delivered { sha }) = &run.outcome else { panic!("{:?}", run.outcome) };
    (run.clone(), before, sha.to_string())
}

/// Reads CI, and returns the watch over what the run has landed.
async fn watched(w: &World, run: RunId) -> Option<LandingWatch> {
    pass(&w.services, &mut Progress::default()).await.unwrap();
    w.services.landings.store.landing_watch(run).await.unwrap()
}

async fn state(w: &World, run: RunId) -> WatchState {
    watched(w, run).await.expect("a watch").state
}

async fn until_run(w: &World, id: RunId, what: &str, fits: impl Fn(&Run) -> bool) -> Run {
    for _ in 0..600 {
        if let Some(run) = w.services.store.load(id).await.unwrap().filter(|run| fits(run)) {
            return run;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("run {id} never {what}: {:?}", w.services.store.load(id).await);
}

async fn get(w: &World, path: &str) -> Value {
    let request = Request::get(path).header("host", "localhost").header("authorization", format!("Bearer {TOKEN}"));
    let (status, text) = w.request(request.body(Body::empty()).unwrap()).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_turned_ci_red_is_proposed_to_be_reverted_once_and_waits_for_a_person() {
    for kind in Kind::ALL {
        let mut w = world(kind, |_| {}).await;
        let base = w.forge.head("main").unwrap();
        ci(&w, &base, "success");
        let (run, before, sha) = landed(&mut w).await;
        assert_eq!((state(&w, run.id).await, before), (WatchState::Watching, base), "{kind:?}");
        let view = get(&w, &format!("/api/v1/runs/{}", run.id)).await;
        assert_eq!(view["after_landing"]["state"], "watching", "{view}");
        ci(&w, &sha, "pending");
        assert_eq!(state(&w, run.id).await, WatchState::Watching);
        ci(&w, &sha, "failure");
        let found = state(&w, run.id).await;
        let WatchState::Blamed { revert, checks, error: None, .. } = &found else { panic!("{kind:?}: {found:?}") };
        assert_eq!(checks, &["ci/test"]);
        // However often it is looked at.
        for _ in 0..3 {
            assert_eq!(state(&w, run.id).await, found);
        }
        assert_eq!(w.runs().await.len(), 2, "{kind:?}");
        let asks = |run: &Run| run.blocks.iter().any(|block| block.kind.is_approval());
        let proposed = until_run(&w, *revert, "asks for an approval", asks).await;
        assert_eq!(proposed.goal.source, GoalSource::Revert { run: run.id });
        assert!(proposed.goal.asked_by.as_str() == "skep" && proposed.settings.policy.approve_merge);
        assert_eq!(w.forge.state().merges, 1, "a proposed revert does not land by itself");
        let view = get(&w, &format!("/api/v1/runs/{}", run.id)).await;
        assert_eq!(view["after_landing"]["revert"], revert.to_string(), "{view}");
        {
            let state = w.forge.state();
            let marker = format!("<!-- skep:{}:landed -->", run.id);
            let marks = |on: u64| state.comments_on(on).iter().filter(|c| c.body.ends_with(&marker)).count();
            let (issue, pull) = (state.issues[0].number, run.change.as_ref().unwrap().number.0);
            let all = state.comments.iter().filter(|c| c.body.contains("turned red with this change")).count();
            assert_eq!(all, 2, "{kind:?}: {:#?}", state.comments);
            if kind == Kind::GitHub {
                assert_eq!((marks(issue), marks(pull)), (1, 1), "{:#?}", state.comments);
            }
        }
        let approve = Request::post(format!("/api/v1/runs/{revert}/actions/approve"))
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {TOKEN}"));
        assert_eq!(w.request(approve.body(Body::from("{}")).unwrap()).await.0, 200);
        until_run(&w, *revert, "ends", Run::ended).await;
        let text = crate::git_world::git(&w.forge.bare(), &["show", "main:greet.txt"]);
        assert_eq!((text.as_str(), w.forge.state().merges), ("helo", 2), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_squashed_change_is_reverted_as_well() {
    let mut w = world(Kind::GitHub, |_| {}).await;
    w.forge.state().forbidden_methods.insert("merge");
    ci(&w, &w.forge.head("main").unwrap(), "success");
    let (run, _, sha) = landed(&mut w).await;
    ci(&w, &sha, "failure");
    let found = state(&w, run.id).await;
    let WatchState::Blamed { revert, error: None, .. } = found else { panic!("{found:?}") };
    let asks = |run: &Run| !run.blocks.is_empty();
    let proposed = until_run(&w, revert, "asks", asks).await;
    assert!(proposed.blocks[0].kind.is_approval(), "{:?}", proposed.blocks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_that_was_red_before_a_green_one_and_no_ci_blame_nobody() {
    let mut w = world(Kind::GitHub, |_| {}).await;
    ci(&w, &w.forge.head("main").unwrap(), "failure");
    let (run, _, sha) = landed(&mut w).await;
    ci(&w, &sha, "failure");
    assert_eq!(state(&w, run.id).await, WatchState::RedBefore { checks: vec!["ci/test".to_owned()] });
    assert_eq!(w.runs().await.len(), 1);
    let asked = w.forge.state().requests.len();
    assert!(watched(&w, run.id).await.unwrap().ended_at.is_some());
    assert_eq!(w.forge.state().requests.len(), asked, "what has ended asks the forge nothing");

    let mut w = world(Kind::GitHub, |_| {}).await;
    let (run, ..) = landed(&mut w).await;
    assert_eq!(state(&w, run.id).await, WatchState::NoCi);

    let mut w = world(Kind::GitHub, |_| {}).await;
    ci(&w, &w.forge.head("main").unwrap(), "success");
    let (run, _, sha) = landed(&mut w).await;
    ci(&w, &sha, "success");
    assert_eq!(state(&w, run.id).await, WatchState::Green);

    let mut w = world(Kind::GitHub, |policy| policy.watch_landed_secs = 0).await;
    let (run, ..) = landed(&mut w).await;
    assert_eq!(watched(&w, run.id).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_ci_left_out_is_tested_before_anybody_is_blamed() {
    for (is_wanted, conclusion) in [(true, "success"), (true, "failure"), (false, "")] {
        let mut w = world(Kind::GitHub, |policy| policy.bisect_landed = is_wanted).await;
        let green = w.forge.head("main").unwrap();
        w.forge.state().job(&green, "test", 1, "completed", Some("success"));
        let pushed = w.forge.push("main", &[("other.txt", "x\n")]);
        w.forge.state().job(&pushed, "test", 1, "completed", Some("cancelled"));
        let (run, _, sha) = landed(&mut w).await;
        w.forge.state().job(&sha, "test", 1, "completed", Some("failure"));
        let found = state(&w, run.id).await;
        if !is_wanted {
            assert!(matches!(found, WatchState::Unclear { commits: 2, .. }), "{found:?}");
            let state = w.forge.state();
            assert!(
                state.comments.iter().any(|c| c.body.contains("any of 2 may be to blame")),
                "{:#?}",
                state.comments
            );
            continue;
        }
        assert_eq!(found, WatchState::Watching);
        let queued = |w: &World| w.forge.state().check_runs.iter().filter(|job| job.sha == pushed).count();
        assert_eq!((state(&w, run.id).await, queued(&w)), (WatchState::Watching, 2), "it is started again once");
        w.forge.state().complete(&pushed, conclusion);
        match (conclusion, state(&w, run.id).await) {
            ("success", WatchState::Blamed { error: None, green, .. }) => assert_eq!(green.as_str(), pushed),
            ("failure", WatchState::RedBefore { .. }) => assert_eq!(w.runs().await.len(), 1),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_service_that_is_killed_while_it_proposes_a_revert_proposes_one() {
    for fault in skep::fault::LANDING_POINTS {
        let forge = started(Kind::GitHub);
        let cli = machine(Kind::GitHub, &forge, "");
        let base = forge.head("main").unwrap();
        forge.state().status(&base, "ci/test", "success");
        let engine = "command: sed -i s/helo/hello/ greet.txt";
        let check = ["--check", "test -f greet.txt", "--yes"];
        cli.run(&[&["run", "--repo", REPO, "--goal", "Say hello", "--engine", engine][..], &check[..]].concat())
            .exits_with(0);
        let landed = cli.newest();
        let sha = forge.head("main").unwrap();
        forge.state().status(&sha, "ci/test", "failure");
        let mut killed = cli.skep(&["serve", "--listen", "127.0.0.1:0"]);
        killed.env("SKEP_FAULT", fault);
        let started_at = Instant::now();
        assert_eq!(ended(killed).code, -1, "{fault} aborts");
        assert!(started_at.elapsed() < Duration::from_secs(60), "{fault} is reached");
        let _service = serve(&cli, None);
        let is_told = || forge.state().comments.iter().any(|c| c.body.contains("turned red with this change"));
        cli.until("the change is commented on", is_told);
        let view = cli.show(&landed);
        let revert = view["after_landing"]["revert"].as_str().expect("a revert").to_owned();
        cli.run(&["show", &landed]).exits_with(0).prints("base CI").prints("proposes its revert");
        cli.until("the revert asks", || cli.show(&revert)["status"] == "blocked");
        let runs = cli.run(&["runs", "--json"]).exits_with(0).json();
        assert_eq!(runs["runs"].as_array().unwrap().len(), 2, "{fault}: {runs}");
        let state = forge.state();
        let told = state.comments.iter().filter(|c| c.body.contains("turned red with this change")).count();
        assert_eq!((told, state.merges, state.pulls.len()), (1, 1, 2), "{fault}");
        assert_eq!(json!(state.pulls[0].open), json!(false));
    }
}
