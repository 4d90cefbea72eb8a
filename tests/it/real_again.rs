//! Real coding agents whose process is gone in the middle of a call: whether they take their conversation up again. Where they are asked for,
//! as in `real_agents`.

use crate::acp::all_gone;
use crate::engines_contract::{Place, order, quiet};
use crate::real_agents::{Model, asked, bench, registry, working};
use crate::support::baseline::{Floor, RUN, approval};
use crate::support::models::{Models, Request, call};
use serde_json::json;
use skep::domain::{EngineSpec, Order, Step, Usage};
use skep::ports::engine::{EngineEvent, EngineResult, Engines, Sink, StepOutcome};
use skep::providers::settings::Api;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Drops an agent in the middle of its second call and takes its conversation up in another process.
async fn dropped_and_taken_up(spec: &str) -> Option<(Place, Model, EngineResult)> {
    let agents = asked()?;
    let place = Place::new();
    let model = Model::start(&agents, &place);
    let engine = registry(&agents, &model).get(&EngineSpec::parse(spec)).unwrap();
    let (mut develop, bench) = (order(Step::Develop, Some("t")), bench(&place, "SLOW"));
    develop.caps = Usage { tokens: 2_000_000, cost_micros: 0, wall_ms: 180_000, turns: 40 };
    let session = Arc::new(Mutex::new(None));
    let kept = session.clone();
    let sink: Sink = Arc::new(move |event| {
        if let EngineEvent::Session(name) = event {
            *kept.lock().unwrap() = Some(name);
        }
    });
    let waits = async {
        while !place.root.path().join("counts.slow").exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        working(&place)
    };
    let pids = tokio::select! {
        worked = engine.run(&develop, &bench, sink) => panic!("{worked:?}"),
        pids = waits => pids,
    };
    std::fs::write(place.root.path().join("pids"), pids.join(" ")).unwrap();
    assert!(all_gone(&place.root.path().join("pids")).await);
    let session = session.lock().unwrap().clone().expect("it says that it can be taken up again");
    let again = Order { resume: Some(session), ..develop };
    let worked = engine.run(&again, &bench, quiet()).await.unwrap();
    Some((place, model, worked))
}

async fn takes_up(spec: &str) {
    let Some((place, model, worked)) = dropped_and_taken_up(spec).await else { return };
    let transcript = String::from_utf8_lossy(&worked.files[0].2).into_owned();
    let StepOutcome::Edited { summary } = &worked.result else { panic!("{spec}: {:?}\n{transcript}", worked.result) };
    assert!(summary.contains("Fixed add()"), "{spec}: {summary}");
    assert!(std::fs::read_to_string(place.tree().join("calc.py")).unwrap().contains("a + b"));
    let (usage, (tokens, turns)) = (worked.usage.unwrap(), model.served());
    // The call that was under way counts at its worst.
    assert!(usage.turns == turns && usage.tokens >= tokens, "{spec}: {usage:?}, served {tokens} in {turns}");
    eprintln!("{spec}: {usage:?}, served {tokens} in {turns}");
}

#[tokio::test]
async fn claude_takes_it_up() {
    takes_up("acp:claude/claude-sonnet-4-5").await;
}

#[tokio::test]
async fn codex_takes_it_up() {
    takes_up("acp:codex/gpt-5").await;
}

#[tokio::test]
async fn opencode_takes_it_up() {
    takes_up("acp:opencode/a-coder").await;
}

/// It says that it can, and then knows no such conversation.
#[tokio::test]
async fn gemini_does_not_and_the_attempt_is_lost() {
    let Some((_place, _model, worked)) = dropped_and_taken_up("acp:gemini/gemini-2.5-pro").await else { return };
    let StepOutcome::NotResumed(why) = &worked.result else { panic!("{:?}", worked.result) };
    eprintln!("gemini: {why}");
}

/// The whole program killed in the middle of a real agent's call, and started again: the change lands, by the same attempt.
async fn killed_and_started_again(agent: &str, provider: &str, api: Api) {
    let Some(agents) = asked() else { return };
    let place = Place::new();
    let model = Model::start(&agents, &place);
    let tasks =
        json!({"tasks": [{"name": "fix", "title": "Fix add", "text": "FIX dir=HERE SLOW", "needs": [], "paths": []}]});
    let thinks = move |request: &Request| match request.model() {
        "strong" => call("done", tasks.clone()),
        _ => approval(),
    };
    let models = Models::think(thinks).await;
    let roles = format!(
        "[role.manager]\nengine = \"llm:acme/strong\"\n[role.dev]\nengine = \"acp:{agent}\"\n[role.reviewer]\nengine = \"llm:acme/judge\"\n\
         [sandbox]\ntoolchains = [{:?}]\n[providers.{provider}]\nbase_url = \"{}/v1/\"\n",
        agents.canonicalize().unwrap(),
        model.url
    );
    let floor = Floor::new(models, api, &roles);
    let key = floor.desk.path("key");
    floor.configure(&format!("{}{roles}key_file = {key:?}\n", floor.provider("acme", Api::OpenAi, "")));
    floor.desk.repo("calc", &[("a.txt", "a\n"), ("calc.py", "def add(a, b):\n    return a - b\n")]);
    let other = |arg: &&'static str| match *arg {
        "grep b a.txt" => "grep 'a + b' calc.py",
        "tool.git" => "calc.git",
        arg => arg,
    };
    let run: Vec<&str> = RUN.iter().map(other).collect();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", agents.join("bin").display());
    let start = || {
        let log = std::fs::File::options().create(true).append(true).open(floor.desk.path("log")).unwrap();
        let mut command = floor.desk.skep(&run);
        command.env("PATH", &path).stdout(log.try_clone().unwrap()).stderr(log);
        crate::support::cli::Beside(command.spawn().unwrap())
    };
    let mut first = start();
    let until = std::time::Instant::now() + Duration::from_secs(120);
    while !place.root.path().join("counts.slow").exists() {
        let log = || std::fs::read_to_string(floor.desk.path("log")).unwrap();
        let is_over = std::time::Instant::now() > until || first.0.try_wait().unwrap().is_some();
        assert!(!is_over, "no second call: {}", log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let mut second = start();
    tokio::task::block_in_place(|| second.0.wait()).unwrap();
    let log = std::fs::read_to_string(floor.desk.path("log")).unwrap();
    let shown = floor.show();
    let attempts = shown["attempts"].as_array().unwrap();
    assert_eq!((shown["status"].as_str(), attempts.len()), (Some("completed"), 3), "{log}");
    assert_eq!(attempts[1]["resumable"]["resumes"], 1);
    let charged = |key: &str| attempts[1]["ended"]["charged"][key].as_u64().unwrap();
    let (tokens, turns) = model.served();
    assert!(charged("turns") == turns && charged("tokens") >= tokens, "served {tokens} in {turns}");
    eprintln!("{agent}: {}, served {tokens} in {turns}", attempts[1]["ended"]["charged"]);
    floor.until("nothing is left running", || floor.strays().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_goes_on_with_claude() {
    killed_and_started_again("claude/claude-sonnet-4-5", "anthropic", Api::Anthropic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_goes_on_with_opencode() {
    killed_and_started_again("opencode/a-coder", "openai", Api::OpenAi).await;
}
