//! Terminals of agents driven over ACP: what a command gets, what it is refused, and that nothing of it stays.

use crate::acp::{agent, all_gone, drive, engines, json};
use crate::engines_contract::{Place, order, quiet};
use crate::support::engines::system_clock;
use crate::support::sandbox;
use skep::adapters::engine::Registry;
use skep::adapters::engine::settings::Settings;
use skep::domain::{EngineSpec, Step};
use skep::ports::engine::{EngineEvent, Engines, Sink, StepOutcome};
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn commands_run_as_they_are_asked_for_and_only_inside() {
    let place = Place::new();
    let did = Arc::new(Mutex::new(Vec::new()));
    let kept = did.clone();
    let sink: Sink = Arc::new(move |event| {
        if let EngineEvent::Did(what) = event {
            kept.lock().unwrap().push(what);
        }
    });
    let worked = drive(agent("commands"), &order(Step::Review, None), &place, sink).await;
    // It says nothing, so the review is none; what counts here is what it got.
    assert!(matches!(worked.result, StepOutcome::Failed(_)), "{:?}", worked.result);
    let got = json(&place, "got.json");
    let said = |what: &str| got[what]["said"]["output"].as_str().unwrap().to_owned();
    let exit = |what: &str| got[what]["exit"]["exitCode"].as_i64();
    assert_eq!((said("both streams"), exit("both streams")), ("out\nerr\n".to_owned(), Some(3)));
    assert_eq!((said("words"), exit("words")), ("$HOME|a b|`id`|'|".to_owned(), Some(0)), "no shell takes them apart");
    assert_eq!(said("folder").trim(), place.tree().join("sub dir").canonicalize().unwrap().to_str().unwrap());
    assert_eq!(said("variable"), "x y\n");
    assert!(said("home").starts_with(place.root.path().to_str().unwrap()), "{}", said("home"));
    assert_eq!((said("limit"), &got["limit"]["said"]["truncated"]), ("6789".to_owned(), &true.into()));
    assert_eq!(
        (&got["flood"]["said"]["output"], &got["flood"]["said"]["truncated"]),
        (&(1024 * 1024).into(), &true.into())
    );
    assert_eq!(exit("no program"), Some(127));
    for (what, why) in [
        ("outside", "outside the workspace"),
        ("above", "outside the workspace"),
        ("by a link", "link"),
        ("Skep's name", "SKEP_JOB"),
        ("no name", "A=B"),
        ("NUL", "NUL"),
        ("nothing", "no program"),
        ("unknown", "no terminal"),
        ("after it", "no terminal"),
    ] {
        let error = &got[what]["error"];
        assert!(error["data"].as_str().is_some_and(|data| data.contains(why)), "{what}: {}", got[what]);
    }
    assert_eq!((&got["alive"]["exitStatus"], &got["alive"]["truncated"]), (&serde_json::Value::Null, &false.into()));
    assert_eq!(got["waited"]["result"]["signal"], "SIGKILL", "{}", got["waited"]);
    assert_eq!(
        (&got["killed"]["exitStatus"]["signal"], &got["killed"]["output"]),
        (&"SIGKILL".into(), &"begun\n".into())
    );
    assert!(all_gone(&place.tree().join("pids")).await);
    let did = did.lock().unwrap();
    assert!(did.iter().any(|d| d == "$ sh -c echo out; echo err >&2; exit 3"), "{did:?}");
    assert!(did.iter().any(|d| d.starts_with("$ printf %s|")), "{did:?}");
}

#[tokio::test]
async fn behind_the_walls_it_is_the_same() {
    let place = Place::new();
    let agent = agent("commands");
    let settings = Settings { agents: [(agent.name.clone(), agent)].into(), ..Settings::default() };
    let engine = Registry::new(sandbox::strict(), Arc::new(settings), system_clock())
        .get(&EngineSpec::parse("acp:fake"))
        .unwrap();
    engine.run(&order(Step::Review, None), &crate::acp::bench(&place), quiet()).await.unwrap();
    let got = json(&place, "got.json");
    assert_eq!(
        (&got["both streams"]["said"]["output"], &got["both streams"]["exit"]["exitCode"]),
        (&"out\nerr\n".into(), &3.into())
    );
    assert_eq!(got["words"]["said"]["output"], "$HOME|a b|`id`|'|");
    assert!(got["folder"]["said"]["output"].as_str().unwrap().ends_with("/sub dir\n"), "{}", got["folder"]);
    assert_eq!(got["waited"]["result"]["signal"], "SIGKILL");
    assert_eq!(got["killed"]["output"], "begun\n");
}

#[tokio::test]
async fn terminals_are_few_and_end_with_their_session() {
    let place = Place::new();
    let worked = drive(agent("leaves commands"), &order(Step::Develop, Some("t")), &place, quiet()).await;
    assert!(matches!(worked.result, StepOutcome::Edited { .. }), "{:?}", worked.result);
    let refused = json(&place, "got.json");
    assert!(refused["error"]["data"].as_str().is_some_and(|why| why.contains("16 terminals are open")), "{refused}");
    assert!(all_gone(&place.tree().join("pids")).await);
}

#[tokio::test]
async fn terminals_end_when_the_work_is_dropped() {
    let place = Place::new();
    let engine = engines(agent("leaves commands")).get(&EngineSpec::parse("acp:fake")).unwrap();
    let (develop, bench) = (order(Step::Develop, Some("t")), crate::acp::bench(&place));
    let pids = place.tree().join("pids");
    let are_there = async {
        while std::fs::read_to_string(&pids).unwrap_or_default().split_whitespace().count() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        worked = engine.run(&develop, &bench, quiet()) => panic!("{worked:?}"),
        () = are_there => {}
    }
    assert!(all_gone(&pids).await);
}
