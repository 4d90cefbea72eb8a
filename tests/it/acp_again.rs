//! Agents driven over ACP whose process is gone in the middle: taken up again, refused, hanging; and what was in their home.

use crate::acp::{agent, all_gone, bench, drive, engines, json};
use crate::engines_contract::{Place, order, quiet};
use skep::domain::{EngineSpec, Order, Step, Usage};
use skep::ports::engine::{EngineEvent, EngineResult, Engines, Sink, StepOutcome};

/// Begins an order and drops it in the middle: the name of the conversation, if it was told.
async fn begun(part: &str, place: &Place) -> Option<String> {
    let engine = engines(agent(part)).get(&EngineSpec::parse("acp:fake")).unwrap();
    let (develop, bench) = (order(Step::Develop, Some("t")), bench(place));
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let sink: Sink = std::sync::Arc::new(move |event| {
        let _late = heard.send(event);
    });
    let works = async {
        let mut session = None;
        loop {
            match hears.recv().await.unwrap() {
                EngineEvent::Session(name) => session = Some(name),
                EngineEvent::Said(_) => return session,
                _ => {}
            }
        }
    };
    let session = tokio::select! {
        worked = engine.run(&develop, &bench, sink) => panic!("{worked:?}"),
        session = works => session,
    };
    assert!(all_gone(&place.tree().join("pids")).await);
    session
}

fn again(session: &str) -> Order {
    let caps = Usage { tokens: 900, cost_micros: 50, wall_ms: 20_000, turns: 0 };
    Order { resume: Some(session.to_owned()), caps, ..order(Step::Develop, Some("t")) }
}

async fn resumed(part: &str, place: &Place, order: &Order) -> EngineResult {
    drive(agent(part), order, place, quiet()).await
}

#[tokio::test]
async fn a_conversation_goes_on_where_its_worktree_and_home_were_left() {
    for part in ["resumes", "resumes quietly"] {
        let place = Place::new();
        let session = begun(part, &place).await.expect("a name that can be taken up");
        assert_eq!(session, "s-1");
        let worked = resumed(part, &place, &again(&session)).await;
        let StepOutcome::Edited { summary } = &worked.result else { panic!("{part}: {:?}", worked.result) };
        assert_eq!(summary, "Finished the other half.", "{part}: its past is no answer");
        assert_eq!(std::fs::read_to_string(place.tree().join("half")).unwrap(), "half of it");
        let told = json(&place, "told.json").as_str().unwrap().to_owned();
        assert!(told.contains("has been started again") && told.ends_with("Fix add."), "{told}");
        assert_eq!(worked.session.as_deref(), Some("acp:fake:s-1"));
        // Nobody counted its first life: what was set aside is the least.
        let usage = worked.usage.unwrap();
        assert_eq!((usage.tokens, usage.cost_micros), (900, 50), "{part}");
    }
}

#[tokio::test]
async fn what_cannot_be_taken_up_is_lost_and_says_why() {
    for (part, why) in [("resumes not", "Invalid session identifier"), ("resumes and crashes", "exit code 4")] {
        let place = Place::new();
        let session = begun(part, &place).await.unwrap();
        let worked = resumed(part, &place, &again(&session)).await;
        let StepOutcome::NotResumed(said) = &worked.result else { panic!("{part}: {:?}", worked.result) };
        assert!(said.contains(why), "{part}: {said}");
    }
    let place = Place::new();
    let session = begun("resumes never", &place).await.unwrap();
    let mut late = again(&session);
    late.caps.wall_ms = 3_000;
    let worked = resumed("resumes never", &place, &late).await;
    assert!(
        matches!(&worked.result, StepOutcome::NotResumed(why) if why.contains("still at work")),
        "{:?}",
        worked.result
    );
    // Its home is gone: there is nothing to ask it.
    let place = Place::new();
    let session = begun("resumes", &place).await.unwrap();
    std::fs::remove_dir_all(place.bench().scratch.join("home")).unwrap();
    let engine = engines(agent("resumes")).get(&EngineSpec::parse("acp:fake")).unwrap();
    let error = engine.run(&again(&session), &bench(&place), quiet()).await.unwrap_err();
    assert!(error.to_string().contains("home is not there"), "{error}");
}

#[tokio::test]
async fn links_an_agent_left_in_its_home_lead_nowhere() {
    for name in [".gitconfig", "agent.py"] {
        let place = Place::new();
        let session = begun("resumes", &place).await.unwrap();
        let (outside, home) = (place.root.path().join("outside"), place.bench().scratch.join("home"));
        std::fs::write(&outside, "precious").unwrap();
        let _there = std::fs::remove_file(home.join(name));
        std::os::unix::fs::symlink(&outside, home.join(name)).unwrap();
        let engine = engines(agent("resumes")).get(&EngineSpec::parse("acp:fake")).unwrap();
        let error = engine.run(&again(&session), &bench(&place), quiet()).await.unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "precious");
        // The whole home.
        std::fs::rename(&home, place.root.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(place.root.path().join("elsewhere"), &home).unwrap();
        let error = engine.run(&again(&session), &bench(&place), quiet()).await.unwrap_err();
        assert!(error.to_string().contains("home is not there"), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_kept_as_it_is_is_not_told() {
    let place = Place::new();
    assert_eq!(begun("busy", &place).await, None, "there is a control character in it");
}
