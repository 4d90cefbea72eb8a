//! Agents driven over ACP whose process dies midway: resumed, refused, hanging; and the contents of their home.

use crate::acp::{agent, all_gone, attempt_env, drive, engines, json};
use crate::engines_contract::{AttemptDirs, order, quiet};
use skep::domain::{EngineSpec, Order, Step, Usage};
use skep::ports::engine::{EngineEvent, EngineResult, Engines, Sink, StepOutcome};

/// Starts an order and drops it midway. Returns the session id, if the agent reported one.
async fn begun(part: &str, dirs: &AttemptDirs) -> Option<String> {
    let engine = engines(agent(part)).get(&EngineSpec::parse("acp:fake")).unwrap();
    let (develop, attempt_env) = (order(Step::Develop, Some("t")), attempt_env(dirs));
    let (events, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let sink: Sink = std::sync::Arc::new(move |event| {
        let _late = events.send(event);
    });
    let works = async {
        let mut session = None;
        loop {
            match receiver.recv().await.unwrap() {
                EngineEvent::Session(name) => session = Some(name),
                EngineEvent::Said(_) => return session,
                _ => {}
            }
        }
    };
    let session = tokio::select! {
        run_result = engine.run(&develop, &attempt_env, sink) => panic!("{run_result:?}"),
        session = works => session,
    };
    assert!(all_gone(&dirs.tree().join("pids")).await);
    session
}

fn again(session: &str) -> Order {
    let caps = Usage { tokens: 900, cost_micros: 50, wall_ms: 20_000, turns: 0 };
    Order { resume: Some(session.to_owned()), caps, ..order(Step::Develop, Some("t")) }
}

async fn resumed(part: &str, dirs: &AttemptDirs, order: &Order) -> EngineResult {
    drive(agent(part), order, dirs, quiet()).await
}

#[tokio::test]
async fn a_session_resumes_in_its_worktree_and_home() {
    for part in ["resumes", "resumes quietly"] {
        let dirs = AttemptDirs::new();
        let session = begun(part, &dirs).await.expect("a resumable session");
        assert_eq!(session, "s-1");
        let run_result = resumed(part, &dirs, &again(&session)).await;
        let StepOutcome::Edited { summary } = &run_result.result else { panic!("{part}: {:?}", run_result.result) };
        assert_eq!(summary, "Finished the other half.", "{part}: its history is not an answer");
        assert_eq!(std::fs::read_to_string(dirs.tree().join("half")).unwrap(), "half of it");
        let message = json(&dirs, "told.json").as_str().unwrap().to_owned();
        assert!(message.contains("has been restarted") && message.ends_with("Fix add."), "{message}");
        assert_eq!(run_result.session.as_deref(), Some("acp:fake:s-1"));
        // The usage of the first process was not measured, so at least the reservation is charged.
        let usage = run_result.usage.unwrap();
        assert_eq!((usage.tokens, usage.cost_micros), (900, 50), "{part}");
    }
}

#[tokio::test]
async fn an_unresumable_session_is_lost_with_its_reason() {
    for (part, why) in [("resumes not", "Invalid session identifier"), ("resumes and crashes", "exit code 4")] {
        let dirs = AttemptDirs::new();
        let session = begun(part, &dirs).await.unwrap();
        let run_result = resumed(part, &dirs, &again(&session)).await;
        let StepOutcome::NotResumed(output) = &run_result.result else { panic!("{part}: {:?}", run_result.result) };
        assert!(output.contains(why), "{part}: {output}");
    }
    let dirs = AttemptDirs::new();
    let session = begun("resumes never", &dirs).await.unwrap();
    let mut late = again(&session);
    late.caps.wall_ms = 3_000;
    let run_result = resumed("resumes never", &dirs, &late).await;
    assert!(
        matches!(&run_result.result, StepOutcome::NotResumed(why) if why.contains("still running")),
        "{:?}",
        run_result.result
    );
    // The agent's home is gone, so the session cannot be resumed.
    let dirs = AttemptDirs::new();
    let session = begun("resumes", &dirs).await.unwrap();
    std::fs::remove_dir_all(dirs.attempt_env().scratch.join("home")).unwrap();
    let engine = engines(agent("resumes")).get(&EngineSpec::parse("acp:fake")).unwrap();
    let error = engine.run(&again(&session), &attempt_env(&dirs), quiet()).await.unwrap_err();
    assert!(error.to_string().contains("home no longer exists"), "{error}");
}

#[tokio::test]
async fn links_that_an_agent_left_in_its_home_are_not_followed() {
    for name in [".gitconfig", "agent.py"] {
        let dirs = AttemptDirs::new();
        let session = begun("resumes", &dirs).await.unwrap();
        let (outside, home) = (dirs.root.path().join("outside"), dirs.attempt_env().scratch.join("home"));
        std::fs::write(&outside, "precious").unwrap();
        let _there = std::fs::remove_file(home.join(name));
        std::os::unix::fs::symlink(&outside, home.join(name)).unwrap();
        let engine = engines(agent("resumes")).get(&EngineSpec::parse("acp:fake")).unwrap();
        let error = engine.run(&again(&session), &attempt_env(&dirs), quiet()).await.unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "precious");
        // The same holds if the whole home is a link.
        std::fs::rename(&home, dirs.root.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(dirs.root.path().join("elsewhere"), &home).unwrap();
        let error = engine.run(&again(&session), &attempt_env(&dirs), quiet()).await.unwrap_err();
        assert!(error.to_string().contains("home no longer exists"), "{error}");
    }
}

#[tokio::test]
async fn an_unstorable_session_id_is_not_reported() {
    let dirs = AttemptDirs::new();
    assert_eq!(begun("busy", &dirs).await, None, "there is a control character in it");
}
