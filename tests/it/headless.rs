//! Headless agents: the documented tables parse the output of real agents, and failures of a command have the right
//! outcome.

use crate::acp::{all_gone, attempt_env, engines};
use crate::engines_contract::{AttemptDirs, order, quiet};
use crate::support::engines::system_clock;
use serde::Deserialize;
use skep::adapters::engine::settings::{Agent, Expression, Format, OutputTable, Protocol};
use skep::domain::{EngineSpec, Order, Step, Usage};
use skep::ports::engine::{EngineEvent, EngineResult, Engines, Sink, StepOutcome};
use skep::ports::prompts::Prompt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Agent table as written in the documentation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    protocol: String,
    command: Vec<String>,
    provider: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    output: BTreeMap<String, OneOrMore>,
    mode: Option<String>,
}

/// One expression or a list of expressions.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn expressions(&self) -> Vec<Expression> {
        let texts = match self {
            OneOrMore::One(text) => std::slice::from_ref(text),
            OneOrMore::More(texts) => texts,
        };
        texts.iter().map(|text| Expression::parse(text).unwrap()).collect()
    }
}

/// Reads `[agents.NAME.output]` as it is documented.
fn output_table(documented: &BTreeMap<String, OneOrMore>) -> OutputTable {
    let mut table = OutputTable::default();
    for (key, value) in documented {
        match (key.as_str(), value) {
            ("format", OneOrMore::One(text)) if text == "json" => table.format = Some(Format::Json),
            _ => {
                let mut slots = table.expressions_mut();
                let (_, slot) = slots.iter_mut().find(|(name, _)| name == key).unwrap();
                **slot = value.expressions();
            }
        }
    }
    table
}

/// Documented agents, by name.
pub fn documented() -> BTreeMap<String, Agent> {
    #[derive(Deserialize)]
    struct Page {
        agents: BTreeMap<String, Written>,
    }
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/agents.md")).unwrap();
    let blocks = text.split("```toml\n").skip(1).map(|part| part.split("```").next().unwrap());
    let agents = blocks.flat_map(|block| toml::from_str::<Page>(block).unwrap().agents);
    let agent = |(name, w): (String, Written)| {
        let protocol = if w.protocol == "acp" { Protocol::Acp } else { Protocol::Cli };
        let provider = (!w.provider.is_empty()).then_some(w.provider);
        let Written { command, env, files, output, mode, .. } = w;
        let (pass_env, idle_timeout) = (vec![], Duration::from_secs(60));
        let output = output_table(&output);
        (name.clone(), Agent { name, protocol, command, provider, env, pass_env, files, output, mode, idle_timeout })
    };
    agents.map(agent).collect()
}

#[test]
fn documented_agents_are_the_built_in_ones() {
    let empty = tempfile::tempdir().unwrap();
    let sources = skep::config::Sources { data_dir: empty.path().into(), ..Default::default() };
    let built_in = skep::config::load(&sources).unwrap().config.agents;
    for (name, agent) in documented() {
        let built_in_agent = &built_in[&name];
        assert_eq!(
            (&agent.command, &agent.provider, &agent.env, &agent.files, &agent.output, &agent.mode, agent.protocol),
            (
                &built_in_agent.command,
                &built_in_agent.provider,
                &built_in_agent.env,
                &built_in_agent.files,
                &built_in_agent.output,
                &built_in_agent.mode,
                built_in_agent.protocol
            ),
            "{name}"
        );
    }
    assert!(documented().len() >= 8);
}

/// The scripted agent with the output table of a documented one.
fn playing(part: &str, output: &str) -> Agent {
    let output = if output.is_empty() { OutputTable::default() } else { documented()[output].output.clone() };
    Agent {
        name: "fake".to_owned(),
        protocol: Protocol::Cli,
        command: ["python3", "{home}/agent.py", part].map(str::to_owned).to_vec(),
        provider: None,
        env: BTreeMap::new(),
        pass_env: vec![],
        files: [("agent.py".to_owned(), include_str!("driven/cli_agent.py").to_owned())].into(),
        output,
        mode: None,
        idle_timeout: Duration::from_secs(60),
    }
}

async fn drive(agent: Agent, order: &Order, dirs: &AttemptDirs, sink: Sink) -> EngineResult {
    std::fs::write(dirs.tree().join("calc.py"), "a - b\n").unwrap();
    let engine = engines(agent).get(&EngineSpec::parse("cli:fake")).unwrap();
    engine.run(order, &attempt_env(dirs), sink).await.unwrap()
}

async fn result(agent: Agent, step: Step) -> StepOutcome {
    drive(agent, &order(step, None), &AttemptDirs::new(), quiet()).await.result
}

fn failed(work: StepOutcome) -> String {
    match work {
        StepOutcome::Failed(why) | StepOutcome::BudgetExhausted { why, .. } => why,
        other => panic!("expected a failure, got {other:?}"),
    }
}

fn capped() -> Order {
    let mut order = order(Step::Develop, Some("t"));
    order.caps = Usage { tokens: 90_000, cost_micros: 900_000, wall_ms: 30_000, turns: 0 };
    order
}

#[tokio::test]
async fn documented_tables_read_the_output_of_real_agents() {
    for (part, table, session, tokens, cost_micros) in [
        ("claude", "claude_cli", "6ff", 4_820, 16_800),
        ("codex", "codex_cli", "01a1", 4_800, 900_000),
        ("opencode", "opencode_cli", "ses_1", 2_200, 3_000),
        ("gemini", "gemini_cli", "865c", 9_600, 900_000),
    ] {
        let dirs = AttemptDirs::new();
        let events = Arc::new(Mutex::new(Vec::new()));
        let recorded = events.clone();
        let sink: Sink = Arc::new(move |event: EngineEvent| recorded.lock().unwrap().push(format!("{event:?}")));
        let run_result = drive(playing(part, table), &capped(), &dirs, sink).await;
        let StepOutcome::Edited { summary } = &run_result.result else { panic!("{part}: {:?}", run_result.result) };
        assert_eq!(summary, "Fixed add().", "{part}");
        assert_eq!(std::fs::read_to_string(dirs.tree().join("calc.py")).unwrap(), "a + b\n");
        assert_eq!(run_result.session.as_deref(), Some(format!("cli:fake:{session}").as_str()));
        assert_eq!(run_result.usage, Some(Usage { tokens, cost_micros, wall_ms: 0, turns: 0 }), "{part}");
        let events = events.lock().unwrap();
        if part != "gemini" {
            assert!(events.iter().any(|h| h.starts_with("Said(\"Step 1")), "{part}: {events:?}");
            assert!(events.iter().any(|h| h.starts_with("Did(")), "{part}: {events:?}");
        }
        if part == "claude" {
            let prompt = std::fs::read_to_string(dirs.tree().join("prompt")).unwrap();
            assert_eq!(prompt, "You are a dev.\n\nFix add.");
        }
    }
    let busy = result(playing("claude fails", "claude_cli"), Step::Develop).await;
    assert!(matches!(&busy, StepOutcome::Unavailable { fix: None, why, .. } if why.contains("529")), "{busy:?}");
    let login = result(playing("codex fails", "codex_cli"), Step::Develop).await;
    assert!(matches!(&login, StepOutcome::Unavailable { fix: Some(_), why, .. } if why.contains("401")), "{login:?}");
}

#[tokio::test]
async fn plain_text_may_contain_an_answer() {
    let StepOutcome::Edited { summary } = result(playing("text", ""), Step::Develop).await else { panic!() };
    assert_eq!(summary, "Applied edit to calc.py\nDone.");
    assert!(matches!(result(playing("plan", ""), Step::Plan).await, StepOutcome::Tasks(tasks) if tasks.len() == 1));
    let why = failed(result(playing("text", ""), Step::Plan).await);
    assert!(why.contains("json block"), "{why}");
    // Without reported usage the reservation is charged.
    let run_result = drive(playing("text", ""), &capped(), &AttemptDirs::new(), quiet()).await;
    assert_eq!(run_result.usage, Some(Usage { wall_ms: 0, ..capped().caps }));
}

#[tokio::test]
async fn the_prompt_is_passed_by_input_argument_or_file_and_never_by_a_shell() {
    for (blank, part) in [("{prompt}", "argument"), ("{prompt_file}", "file")] {
        let dirs = AttemptDirs::new();
        let mut agent = playing(part, "");
        agent.command.push(blank.to_owned());
        let engine = engines(agent).get(&EngineSpec::parse("cli:fake")).unwrap();
        let user = "$(touch hacked) `touch hacked` '; touch hacked; ' \"{dir}\"".to_owned();
        let prompt = Prompt { system: "S".to_owned(), user: user.clone(), version: "v".into() };
        let attempt_env = skep::ports::engine::AttemptEnv { prompt: Some(prompt), ..dirs.attempt_env() };
        engine.run(&capped(), &attempt_env, quiet()).await.unwrap();
        assert_eq!(std::fs::read_to_string(dirs.tree().join("got")).unwrap(), format!("S\n\n{user}|"), "{part}");
        assert!(!dirs.tree().join("hacked").exists());
    }
    let mut agent = playing("argument", "");
    agent.command.push("{prompt}".to_owned());
    let dirs = AttemptDirs::new();
    let prompt = Prompt { system: String::new(), user: "x".repeat(200_000), version: "v".into() };
    let attempt_env = skep::ports::engine::AttemptEnv { prompt: Some(prompt), ..dirs.attempt_env() };
    let engine = engines(agent).get(&EngineSpec::parse("cli:fake")).unwrap();
    let why = engine.run(&capped(), &attempt_env, quiet()).await.unwrap_err().to_string();
    assert!(why.contains("{prompt_file}"), "{why}");
}

#[tokio::test]
async fn exit_codes_and_reasons() {
    let exit = |code: &str| {
        let mut agent = playing("exit", "");
        agent.command.push(code.to_owned());
        agent
    };
    let why = failed(result(exit("3"), Step::Develop).await);
    assert!(why.contains("exit code 3") && why.contains("oh no"), "{why}");
    let patterns = || Some(vec!["oh yes".to_owned(), "OH NO".to_owned()]);
    let (mut retryable, mut fatal) = (exit("3"), exit("3"));
    retryable.output.retryable_errors = patterns();
    fatal.output.fatal_errors = patterns();
    assert!(matches!(result(retryable, Step::Develop).await, StepOutcome::Unavailable { fix: None, .. }));
    assert!(matches!(result(fatal, Step::Develop).await, StepOutcome::Unavailable { fix: Some(_), .. }));
    // The last output of real agents on an older release of Node, and of agents without a login.
    for (output, part) in [
        ("SyntaxError: Invalid regular expression flags\nNode.js v18.20.8", "that it supports"),
        ("ModuleNotFoundError: No module named 'litellm'", "reinstall the agent"),
        ("No API key found for the selected model.\nUse /login to log into a provider", "agents.fake.pass_env"),
        ("Please set an Auth method in your settings.json", "agents.fake.pass_env"),
    ] {
        let mut agent = exit("1");
        agent.command.push(output.to_owned());
        let work = result(agent, Step::Develop).await;
        assert!(
            matches!(&work, StepOutcome::Unavailable { fix: Some(fix), .. } if fix.contains(part)),
            "{output}: {work:?}"
        );
    }
    let missing = Agent { command: vec!["/no/such agent".to_owned()], ..playing("text", "") };
    let work = result(missing, Step::Develop).await;
    assert!(
        matches!(&work, StepOutcome::Unavailable { fix: Some(fix), .. } if fix.contains("no/such agent")),
        "{work:?}"
    );
}

#[tokio::test]
async fn floods_unread_input_and_daemons_are_handled() {
    let run_result = drive(playing("flood", "opencode_cli"), &capped(), &AttemptDirs::new(), quiet()).await;
    assert!(matches!(&run_result.result, StepOutcome::Edited { .. }), "{:?}", run_result.result);
    assert!(run_result.files[0].2.len() <= 1024 * 1024 + 100);
    assert!(matches!(result(playing("deaf", ""), Step::Develop).await, StepOutcome::Edited { .. }));

    let dirs = AttemptDirs::new();
    let began = std::time::Instant::now();
    let run_result = drive(playing("daemon", ""), &capped(), &dirs, quiet()).await;
    assert!(matches!(&run_result.result, StepOutcome::Edited { summary } if summary == "left something behind"));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(all_gone(&dirs.tree().join("pids")).await);
}

#[tokio::test]
async fn idle_time_time_limit_and_a_dropped_future_end_the_process_tree() {
    let dirs = AttemptDirs::new();
    let silent = Agent { idle_timeout: Duration::from_secs(2), ..playing("silent", "") };
    assert!(failed(drive(silent, &capped(), &dirs, quiet()).await.result).contains("wrote nothing"));
    assert!(all_gone(&dirs.tree().join("pids")).await);

    let mut short = capped();
    short.caps.wall_ms = 3_000;
    assert!(failed(drive(playing("busy", ""), &short, &dirs, quiet()).await.result).contains("still running"));
    assert!(all_gone(&dirs.tree().join("pids")).await);

    std::fs::remove_file(dirs.tree().join("pids")).unwrap();
    let (events, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let sink: Sink = Arc::new(move |event| drop(events.send(event)));
    let order = capped();
    tokio::select! {
        run_result = drive(playing("busy", ""), &order, &dirs, sink) => panic!("{run_result:?}"),
        _said = receiver.recv() => {}
    }
    assert!(all_gone(&dirs.tree().join("pids")).await);
}

#[test]
fn every_documented_table_can_be_used() {
    use skep::providers::settings::{Api, Provider};
    let provider = |name: &str, api| Provider {
        name: name.to_owned(),
        api,
        base_url: "http://127.0.0.1:1/v1/".to_owned(),
        key: None,
        key_source: String::new(),
        concurrency: 1,
        requests_per_minute: None,
        idle_timeout: Duration::from_secs(1),
        context_window: 1,
        max_output_tokens: 1,
    };
    let apis = [
        ("anthropic", Api::Anthropic),
        ("openai", Api::OpenAi),
        ("openai_responses", Api::OpenAiResponses),
        ("gemini", Api::Gemini),
    ];
    let agents = documented();
    assert!(agents.len() >= 10);
    let settings = skep::adapters::engine::settings::Settings {
        providers: apis.map(|(name, api)| (name.to_owned(), provider(name, api))).into(),
        agents: agents.clone(),
        ..Default::default()
    };
    let registry = {
        let sandbox = skep::platform::sandbox::Sandbox::from_process_env(&[]);
        skep::adapters::engine::Registry::new(sandbox, std::sync::Arc::new(settings), system_clock())
    };
    for agent in agents.values() {
        let kind = if agent.protocol == Protocol::Acp { "acp" } else { "cli" };
        let spec = EngineSpec::parse(&format!("{kind}:{}/model", agent.name));
        assert!(registry.get(&spec).is_ok(), "{}: {:?}", agent.name, registry.get(&spec).err());
    }
}
