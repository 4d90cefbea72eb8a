//! Real coding agents whose process dies during a call: whether they resume their session. Ignored by default, as in
//! `real_agents`.

use crate::acp::all_gone;
use crate::engines_contract::{AttemptDirs, order, quiet};
use crate::real_agents::{Model, agents_dir, attempt_env, registry, working};
use crate::support::baseline::{Baseline, RUN, approval};
use crate::support::models::{Models, Request, call};
use serde_json::json;
use skep::domain::{EngineSpec, Order, Step, Usage};
use skep::ports::engine::{EngineEvent, EngineResult, Engines, Sink, StepOutcome};
use skep::providers::settings::Api;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Drops an agent during its second call and resumes its session in another process.
async fn dropped_and_resumed(spec: &str) -> (AttemptDirs, Model, EngineResult) {
    let agents = agents_dir();
    let dirs = AttemptDirs::new();
    let model = Model::start(&agents, &dirs);
    let engine = registry(&agents, &model).get(&EngineSpec::parse(spec)).unwrap();
    let (mut develop, attempt_env) = (order(Step::Develop, Some("t")), attempt_env(&dirs, "SLOW"));
    develop.caps = Usage { tokens: 2_000_000, cost_micros: 0, wall_ms: 180_000, turns: 40 };
    let session = Arc::new(Mutex::new(None));
    let recorded = session.clone();
    let sink: Sink = Arc::new(move |event| {
        if let EngineEvent::Session(name) = event {
            *recorded.lock().unwrap() = Some(name);
        }
    });
    let waits = async {
        while !dirs.root.path().join("counts.slow").exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        working(&dirs)
    };
    let pids = tokio::select! {
        run_result = engine.run(&develop, &attempt_env, sink) => panic!("{run_result:?}"),
        pids = waits => pids,
    };
    std::fs::write(dirs.root.path().join("pids"), pids.join(" ")).unwrap();
    assert!(all_gone(&dirs.root.path().join("pids")).await);
    let session = session.lock().unwrap().clone().expect("the agent reports a resumable session");
    let again = Order { resume: Some(session), ..develop };
    let run_result = engine.run(&again, &attempt_env, quiet()).await.unwrap();
    (dirs, model, run_result)
}

async fn resumes(spec: &str) {
    let (dirs, model, run_result) = dropped_and_resumed(spec).await;
    let transcript = String::from_utf8_lossy(&run_result.files[0].2).into_owned();
    let StepOutcome::Edited { summary } = &run_result.result else {
        panic!("{spec}: {:?}\n{transcript}", run_result.result)
    };
    assert!(summary.contains("Fixed add()"), "{spec}: {summary}");
    assert!(std::fs::read_to_string(dirs.tree().join("calc.py")).unwrap().contains("a + b"));
    let (usage, (tokens, turns)) = (run_result.usage.unwrap(), model.served());
    // The call in flight is charged in full.
    assert!(usage.turns == turns && usage.tokens >= tokens, "{spec}: {usage:?}, served {tokens} in {turns}");
    eprintln!("{spec}: {usage:?}, served {tokens} in {turns}");
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn claude_resumes() {
    resumes("acp:claude/claude-sonnet-4-5").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn codex_resumes() {
    resumes("acp:codex/gpt-5").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn opencode_resumes() {
    resumes("acp:opencode/a-coder").await;
}

/// This agent reports a resumable session, then does not know it.
#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn gemini_does_not_and_the_attempt_is_lost() {
    let (_place, _model, run_result) = dropped_and_resumed("acp:gemini/gemini-2.5-pro").await;
    let StepOutcome::NotResumed(why) = &run_result.result else { panic!("{:?}", run_result.result) };
    eprintln!("gemini: {why}");
}

/// Kills the whole program during a real agent's call and restarts it: the change lands by the same attempt.
async fn killed_and_restarted(agent: &str, provider: &str, api: Api) {
    let agents = agents_dir();
    let dirs = AttemptDirs::new();
    let model = Model::start(&agents, &dirs);
    let tasks =
        json!({"tasks": [{"name": "fix", "title": "Fix add", "text": "FIX dir=HERE SLOW", "needs": [], "paths": []}]});
    let thinks = move |request: &Request| match request.model() {
        "strong" => call("done", tasks.clone()),
        _ => approval(),
    };
    let models = Models::responding(thinks).await;
    let roles = format!(
        "[role.manager]\nengine = \"llm:acme/strong\"\n[role.dev]\nengine = \"acp:{agent}\"\n[role.reviewer]\nengine = \"llm:acme/judge\"\n\
         [sandbox]\ntoolchains = [{:?}]\n[providers.{provider}]\nbase_url = \"{}/v1/\"\n",
        agents.canonicalize().unwrap(),
        model.url
    );
    let baseline = Baseline::new(models, api, &roles);
    let key = baseline.cli.path("key");
    baseline.configure(&format!("{}{roles}key_file = {key:?}\n", baseline.provider("acme", Api::OpenAi, "")));
    baseline.cli.repo("calc", &[("a.txt", "a\n"), ("calc.py", "def add(a, b):\n    return a - b\n")]);
    let other = |arg: &&'static str| match *arg {
        "grep b a.txt" => "grep 'a + b' calc.py",
        "tool.git" => "calc.git",
        arg => arg,
    };
    let run: Vec<&str> = RUN.iter().map(other).collect();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", agents.join("bin").display());
    let start = || {
        let log = std::fs::File::options().create(true).append(true).open(baseline.cli.path("log")).unwrap();
        let mut command = baseline.cli.skep(&run);
        command.env("PATH", &path).stdout(log.try_clone().unwrap()).stderr(log);
        crate::support::cli::BackgroundProcess(command.spawn().unwrap())
    };
    let mut first = start();
    let until = std::time::Instant::now() + Duration::from_secs(120);
    while !dirs.root.path().join("counts.slow").exists() {
        let log = || std::fs::read_to_string(baseline.cli.path("log")).unwrap();
        let is_over = std::time::Instant::now() > until || first.0.try_wait().unwrap().is_some();
        assert!(!is_over, "no second call: {}", log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let mut second = start();
    tokio::task::block_in_place(|| second.0.wait()).unwrap();
    let log = std::fs::read_to_string(baseline.cli.path("log")).unwrap();
    let shown = baseline.show();
    let attempts = shown["attempts"].as_array().unwrap();
    assert_eq!((shown["status"].as_str(), attempts.len()), (Some("completed"), 3), "{log}");
    assert_eq!(attempts[1]["resumable"]["resumes"], 1);
    let charged = |key: &str| attempts[1]["ended"]["charged"][key].as_u64().unwrap();
    let (tokens, turns) = model.served();
    assert!(charged("turns") == turns && charged("tokens") >= tokens, "served {tokens} in {turns}");
    eprintln!("{agent}: {}, served {tokens} in {turns}", attempts[1]["ended"]["charged"]);
    baseline.until("nothing is left running", || baseline.processes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn a_killed_run_continues_with_claude() {
    killed_and_restarted("claude/claude-sonnet-4-5", "anthropic", Api::Anthropic).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn a_killed_run_continues_with_opencode() {
    killed_and_restarted("opencode/a-coder", "openai", Api::OpenAi).await;
}
