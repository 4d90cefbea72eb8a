//! Terminals of agents driven over ACP: what commands receive, what they are denied, and that nothing remains.

use crate::acp::{agent, all_gone, drive, engines, json};
use crate::engines_contract::{AttemptDirs, order, quiet};
use crate::support::engines::system_clock;
use crate::support::sandbox;
use skep::adapters::engine::Registry;
use skep::adapters::engine::settings::Settings;
use skep::domain::{EngineSpec, Step};
use skep::ports::engine::{EngineEvent, Engines, Sink, StepOutcome};
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn commands_run_as_requested_and_only_inside_the_worktree() {
    let dirs = AttemptDirs::new();
    let did = Arc::new(Mutex::new(Vec::new()));
    let recorded = did.clone();
    let sink: Sink = Arc::new(move |event| {
        if let EngineEvent::Did(what) = event {
            recorded.lock().unwrap().push(what);
        }
    });
    let run_result = drive(agent("commands"), &order(Step::Review, None), &dirs, sink).await;
    // The agent gives no verdict, so the review fails; this test only checks the terminal responses.
    assert!(matches!(run_result.result, StepOutcome::Failed(_)), "{:?}", run_result.result);
    let got = json(&dirs, "got.json");
    let output_of = |what: &str| got[what]["said"]["output"].as_str().unwrap().to_owned();
    let exit = |what: &str| got[what]["exit"]["exitCode"].as_i64();
    assert_eq!((output_of("both streams"), exit("both streams")), ("out\nerr\n".to_owned(), Some(3)));
    assert_eq!(
        (output_of("words"), exit("words")),
        ("$HOME|a b|`id`|'|".to_owned(), Some(0)),
        "no shell takes them apart"
    );
    assert_eq!(output_of("folder").trim(), dirs.tree().join("sub dir").canonicalize().unwrap().to_str().unwrap());
    assert_eq!(output_of("variable"), "x y\n");
    assert!(output_of("home").starts_with(dirs.root.path().to_str().unwrap()), "{}", output_of("home"));
    assert_eq!((output_of("limit"), &got["limit"]["said"]["truncated"]), ("6789".to_owned(), &true.into()));
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
    assert!(all_gone(&dirs.tree().join("pids")).await);
    let did = did.lock().unwrap();
    assert!(did.iter().any(|d| d == "$ sh -c echo out; echo err >&2; exit 3"), "{did:?}");
    assert!(did.iter().any(|d| d.starts_with("$ printf %s|")), "{did:?}");
}

#[tokio::test]
async fn terminals_work_in_the_sandbox() {
    let dirs = AttemptDirs::new();
    let agent = agent("commands");
    let settings = Settings { agents: [(agent.name.clone(), agent)].into(), ..Settings::default() };
    let engine = Registry::new(sandbox::strict(), Arc::new(settings), system_clock())
        .get(&EngineSpec::parse("acp:fake"))
        .unwrap();
    engine.run(&order(Step::Review, None), &crate::acp::attempt_env(&dirs), quiet()).await.unwrap();
    let got = json(&dirs, "got.json");
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
async fn terminals_are_bounded_and_end_with_their_session() {
    let dirs = AttemptDirs::new();
    let run_result = drive(agent("leaves commands"), &order(Step::Develop, Some("t")), &dirs, quiet()).await;
    assert!(matches!(run_result.result, StepOutcome::Edited { .. }), "{:?}", run_result.result);
    let refused = json(&dirs, "got.json");
    assert!(refused["error"]["data"].as_str().is_some_and(|why| why.contains("16 terminals are open")), "{refused}");
    assert!(all_gone(&dirs.tree().join("pids")).await);
}

#[tokio::test]
async fn terminals_end_when_the_run_is_dropped() {
    let dirs = AttemptDirs::new();
    let engine = engines(agent("leaves commands")).get(&EngineSpec::parse("acp:fake")).unwrap();
    let (develop, attempt_env) = (order(Step::Develop, Some("t")), crate::acp::attempt_env(&dirs));
    let pids = dirs.tree().join("pids");
    let are_there = async {
        while std::fs::read_to_string(&pids).unwrap_or_default().split_whitespace().count() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        run_result = engine.run(&develop, &attempt_env, quiet()) => panic!("{run_result:?}"),
        () = are_there => {}
    }
    assert!(all_gone(&pids).await);
}
