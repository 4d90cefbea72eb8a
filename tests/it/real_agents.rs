//! Real coding agents, driven with the documented tables through the egress proxy on a scripted model. Ignored by
//! default: `scripts/agents` installs the agents and prints the command that runs these tests.

use crate::acp::all_gone;
use crate::engines_contract::{AttemptDirs, order, quiet};
use crate::headless::documented;
use crate::support::engines::system_clock;
use futures::StreamExt;
use skep::adapters::engine::Registry;
use skep::adapters::engine::settings::{Protocol, Settings};
use skep::domain::{EngineSpec, Step, Usage};
use skep::platform::clock::SystemClock;
use skep::platform::egress::EgressProxy;
use skep::platform::sandbox::{Policy, Sandbox};
use skep::ports::engine::{AttemptEnv, Engines, StepOutcome};
use skep::ports::prompts::Prompt;
use skep::providers::prices::Prices;
use skep::providers::rate_limit::RateLimits;
use skep::providers::settings::{Api, Provider};
use skep::secrets::Secret;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Folder of the installed agents.
pub fn agents_dir() -> PathBuf {
    let dir =
        std::env::var_os("SKEP_TEST_AGENTS").map(PathBuf::from).expect("SKEP_TEST_AGENTS is set; run scripts/agents");
    assert!(dir.join("bin/node").exists(), "{} contains no agents; run scripts/agents", dir.display());
    dir
}

/// A scripted model server on a port of its own.
pub struct Model {
    child: Child,
    pub url: String,
    counts: PathBuf,
}

impl Model {
    pub fn start(agents: &Path, dirs: &AttemptDirs) -> Model {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let counts = dirs.root.path().join("counts");
        std::fs::write(&counts, "").unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/driven/model.mjs");
        let mut node = Command::new(agents.join("bin/node"));
        node.arg(script).arg(agents).arg(port.to_string()).arg(&counts).stdout(Stdio::piped());
        let mut child = node.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready");
        Model { child, url: format!("http://127.0.0.1:{port}"), counts }
    }

    /// Returns the tokens and calls served.
    pub fn served(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(&self.counts).unwrap();
        let calls: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let tokens = |c: &serde_json::Value| c["input"].as_u64().unwrap() + c["output"].as_u64().unwrap();
        (calls.iter().map(tokens).sum(), calls.len() as u64)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub fn registry(agents: &Path, model: &Model) -> Registry {
    rustls::crypto::ring::default_provider().install_default().ok();
    let provider = |name: &str, api, path: &str| Provider {
        name: name.to_owned(),
        api,
        base_url: format!("{}{path}", model.url),
        key: Some(Secret::new("canary-of-a-key-7731")),
        key_source: "a test".to_owned(),
        concurrency: 4,
        requests_per_minute: None,
        idle_timeout: Duration::from_secs(60),
        context_window: 200_000,
        max_output_tokens: 16_000,
    };
    let providers = [
        provider("anthropic", Api::Anthropic, "/v1/"),
        provider("openai", Api::OpenAi, "/v1/"),
        provider("openai_responses", Api::OpenAiResponses, "/v1/"),
        provider("gemini", Api::Gemini, "/v1beta/"),
    ];
    let providers = providers.map(|p| (p.name.clone(), p)).into();
    let settings = Settings { providers, agents: documented(), ..Settings::default() };
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", agents.join("bin").display());
    // In the sandbox, as in a run, the only folder of this machine that the agents see is their own.
    let policy = Policy { readable: vec![agents.canonicalize().unwrap()], ..Policy::default() };
    let helper = Path::new(env!("CARGO_BIN_EXE_skep"));
    let host = BTreeMap::from([("PATH".into(), path.into())]);
    let sandbox = Sandbox::new(&host, &[]).with_policy(&policy, Some(helper)).unwrap();
    let gate =
        EgressProxy::new(RateLimits::new(Arc::new(SystemClock)), Arc::new(SystemClock), &std::env::temp_dir()).unwrap();
    Registry::new(sandbox, Arc::new(settings), system_clock()).through(
        Arc::new(gate),
        Arc::new(Prices::embedded().unwrap()),
        Arc::default(),
    )
}

pub fn attempt_env(dirs: &AttemptDirs, more: &str) -> AttemptEnv {
    let tree = dirs.tree();
    std::fs::write(tree.join("calc.py"), "def add(a, b):\n    return a - b\n").unwrap();
    let test = "import unittest\nfrom calc import add\n\nclass T(unittest.TestCase):\n    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n";
    std::fs::write(tree.join("test_calc.py"), test).unwrap();
    let init = Command::new("git").args(["init", "-q"]).current_dir(&tree).status().unwrap();
    assert!(init.success());
    let user = format!("FIX dir={} {more}", tree.display());
    AttemptEnv {
        prompt: Some(Prompt { system: "You are a dev.".to_owned(), user, version: "v".into() }),
        ..dirs.attempt_env()
    }
}

/// Runs one agent to its end and checks that the edit was made and that the measured usage equals what the model
/// served. (opencode chooses tools by the model's name, and the script does not know all of them.)
async fn drives(name: &str, model_name: &str) {
    let agents = agents_dir();
    let dirs = AttemptDirs::new();
    let model = Model::start(&agents, &dirs);
    let kind = if documented()[name].protocol == Protocol::Acp { "acp" } else { "cli" };
    let engine = registry(&agents, &model).get(&EngineSpec::parse(&format!("{kind}:{name}/{model_name}"))).unwrap();
    let mut develop = order(Step::Develop, Some("t"));
    develop.caps = Usage { tokens: 2_000_000, cost_micros: 0, wall_ms: 180_000, turns: 40 };
    let run_result = engine.run(&develop, &attempt_env(&dirs, ""), quiet()).await.unwrap();
    let transcript = String::from_utf8_lossy(&run_result.files[0].2).into_owned();
    let StepOutcome::Edited { summary } = &run_result.result else {
        panic!("{name}: {:?}\n{transcript}", run_result.result)
    };
    // Plain text does not mark the final message.
    let is_plain = !documented()[name].output.has_expressions();
    let output = if is_plain { &transcript } else { summary };
    assert!(output.contains("Fixed add()") && !summary.is_empty(), "{name}: {summary}\n{transcript}");
    let calc = std::fs::read_to_string(dirs.tree().join("calc.py")).unwrap();
    assert!(calc.contains("a + b"), "{name}: {calc}\n{transcript}");
    let usage = run_result.usage.unwrap();
    assert_eq!(
        (usage.tokens, usage.turns),
        model.served(),
        "{name}: counted against served; {:?}",
        run_result.usage_by_model
    );
    let session = run_result.session.unwrap_or_default();
    assert!(is_plain || session.starts_with(&format!("{kind}:{name}:")), "{name}: {session:?}");
    assert!(!transcript.contains("canary-of-a-key-7731"));
    eprintln!("{name}: {usage:?}; {summary}");
}

/// Runs one agent while the provider refuses its calls, and returns the outcome and how long it took.
async fn refused(name: &str, model_name: &str, fault: &str) -> (StepOutcome, Duration) {
    let agents = agents_dir();
    let dirs = AttemptDirs::new();
    let model = Model::start(&agents, &dirs);
    let kind = if documented()[name].protocol == Protocol::Acp { "acp" } else { "cli" };
    let engine = registry(&agents, &model).get(&EngineSpec::parse(&format!("{kind}:{name}/{model_name}"))).unwrap();
    let mut develop = order(Step::Develop, Some("t"));
    develop.caps = Usage { tokens: 2_000_000, cost_micros: 0, wall_ms: 300_000, turns: 40 };
    let began = std::time::Instant::now();
    let run_result = engine.run(&develop, &attempt_env(&dirs, &format!("FAULT={fault}")), quiet()).await.unwrap();
    let transcript = String::from_utf8_lossy(&run_result.files[0].2).into_owned();
    eprintln!("{name} {fault}: {:?} in {:?}\n{transcript}", run_result.result, began.elapsed());
    assert_eq!(run_result.usage.unwrap().tokens, 0, "{name} {fault}: a refused call is not charged");
    (run_result.result, began.elapsed())
}

/// Every documented agent with a model name that it accepts.
const ALL: &[(&str, &str)] = &[
    ("claude", "claude-sonnet-4-5"),
    ("claude_cli", "claude-sonnet-4-5"),
    ("codex", "gpt-5"),
    ("codex_cli", "gpt-5"),
    ("opencode", "a-coder"),
    ("opencode_cli", "a-coder"),
    ("gemini", "gemini-2.5-pro"),
    ("gemini_cli", "gemini-2.5-pro"),
    ("qwen", "a-coder"),
    ("qwen_cli", "a-coder"),
    ("pi", "a-coder"),
    ("cline", "a-coder"),
    ("mini", "a-coder"),
    ("aider", "a-coder"),
];

async fn all_refused(fault: &str, fits: impl Fn(&str, &StepOutcome) -> bool) {
    // Four agents run at a time, because they mostly wait for retries.
    let ended = futures::stream::iter(ALL)
        .map(async |(name, model_name)| (name, model_name, refused(name, model_name, fault).await))
        .buffer_unordered(4);
    let wrong = ended.filter_map(async |(name, model_name, (work, took))| {
        let is_wrong = !fits(model_name, &work) || took > Duration::from_secs(90);
        is_wrong.then(|| format!("{name}: {work:?} in {took:?}"))
    });
    let wrong: Vec<String> = wrong.collect().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn a_wrong_key_names_the_place_of_the_key() {
    all_refused("401", |_, work| {
        matches!(work, StepOutcome::Unavailable { fix: Some(fix), until: None, .. } if fix.contains("a working key (a test)"))
    })
    .await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn an_unknown_model_is_named() {
    all_refused(
        "404",
        |model, work| matches!(work, StepOutcome::Unavailable { fix: Some(fix), until: None, .. } if fix.contains(model)),
    )
    .await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn a_rate_limit_parks_until_its_reset() {
    all_refused("429", |_, work| matches!(work, StepOutcome::Unavailable { fix: None, until: Some(_), .. })).await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn claude_over_acp() {
    drives("claude", "claude-sonnet-4-5").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn claude_headless() {
    drives("claude_cli", "claude-sonnet-4-5").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn codex_over_acp() {
    drives("codex", "gpt-5").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn codex_headless() {
    drives("codex_cli", "gpt-5").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn opencode_over_acp() {
    drives("opencode", "a-coder").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn opencode_headless() {
    drives("opencode_cli", "a-coder").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn gemini_over_acp() {
    drives("gemini", "gemini-2.5-pro").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn gemini_headless() {
    drives("gemini_cli", "gemini-2.5-pro").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn qwen_over_acp() {
    drives("qwen", "a-coder").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn qwen_headless() {
    drives("qwen_cli", "a-coder").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn pi_headless() {
    drives("pi", "a-coder").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn cline_headless() {
    drives("cline", "a-coder").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn mini_swe_agent_headless() {
    drives("mini", "a-coder").await;
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn aider_headless() {
    drives("aider", "a-coder").await;
}

/// Ids of the processes that run in `dirs`.
pub fn working(dirs: &AttemptDirs) -> Vec<String> {
    let root = dirs.root.path().to_string_lossy().into_owned();
    let of = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let environ = std::fs::read(entry.path().join("environ")).ok()?;
        (name.parse::<u32>().is_ok() && String::from_utf8_lossy(&environ).contains(&root)).then_some(name)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}

#[tokio::test]
#[ignore = "needs real agents: run scripts/agents, then the command that it prints"]
async fn dropping_an_agent_during_a_call_ends_its_processes() {
    let agents = agents_dir();
    let dirs = AttemptDirs::new();
    let model = Model::start(&agents, &dirs);
    let engine = registry(&agents, &model).get(&EngineSpec::parse("acp:opencode/a-coder")).unwrap();
    let (mut order, attempt_env) = (order(Step::Develop, Some("t")), attempt_env(&dirs, "SLOW"));
    order.caps.wall_ms = 180_000;
    // Check while the agent runs, not in the body of a `select!` branch: that runs after the other future was dropped.
    let waits = async {
        while !dirs.root.path().join("counts.slow").exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        working(&dirs)
    };
    let pids = tokio::select! {
        run_result = engine.run(&order, &attempt_env, quiet()) => panic!("{run_result:?}"),
        pids = waits => pids,
    };
    assert!(!pids.is_empty());
    std::fs::write(dirs.tree().join("pids"), pids.join(" ")).unwrap();
    assert!(all_gone(&dirs.tree().join("pids")).await);
    assert_eq!(working(&dirs), Vec::<String>::new());
}
