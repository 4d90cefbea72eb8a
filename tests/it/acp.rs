//! Agents driven over ACP: a scripted agent that behaves like real ones, or worse.

use crate::engines_contract::{AttemptDirs, order, quiet};
use crate::support::engines::system_clock;
use skep::adapters::engine::Registry;
use skep::adapters::engine::settings::{Agent, OutputTable, Protocol, Settings};
use skep::domain::{EngineSpec, Order, Step, Usage, Verdict};
use skep::platform::sandbox::Sandbox;
use skep::ports::engine::{AttemptEnv, EngineEvent, EngineResult, Engines, Sink, StepOutcome};
use skep::ports::prompts::Prompt;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Configuration of the scripted agent.
pub fn agent(part: &str) -> Agent {
    Agent {
        name: "fake".to_owned(),
        protocol: Protocol::Acp,
        command: ["python3", "{home}/agent.py", part].map(str::to_owned).to_vec(),
        provider: None,
        env: BTreeMap::new(),
        pass_env: vec![],
        files: [("agent.py".to_owned(), include_str!("driven/acp_agent.py").to_owned())].into(),
        output: OutputTable::default(),
        mode: None,
        idle_timeout: Duration::from_secs(60),
    }
}

/// Registry with one agent.
pub fn engines(agent: Agent) -> Registry {
    let agents = [(agent.name.clone(), agent)].into();
    Registry::new(
        Sandbox::from_process_env(&[]),
        std::sync::Arc::new(Settings { agents, ..Settings::default() }),
        system_clock(),
    )
}

/// Attempt environment with a prompt.
pub fn attempt_env(dirs: &AttemptDirs) -> AttemptEnv {
    let prompt = Prompt { system: "You are a dev.".to_owned(), user: "Fix add.".to_owned(), version: "v".into() };
    AttemptEnv { prompt: Some(prompt), ..dirs.attempt_env() }
}

pub async fn drive(agent: Agent, order: &Order, dirs: &AttemptDirs, sink: Sink) -> EngineResult {
    let engine = engines(agent).get(&EngineSpec::parse("acp:fake")).unwrap();
    assert!(engine.reads_prompt());
    engine.run(order, &attempt_env(dirs), sink).await.unwrap()
}

async fn play(part: &str, step: Step, dirs: &AttemptDirs) -> EngineResult {
    drive(agent(part), &order(step, None), dirs, quiet()).await
}

async fn result(part: &str, step: Step) -> StepOutcome {
    play(part, step, &AttemptDirs::new()).await.result
}

fn failed(work: StepOutcome) -> String {
    match work {
        StepOutcome::Failed(why) | StepOutcome::BudgetExhausted { why, .. } => why,
        other => panic!("expected a failure, got {other:?}"),
    }
}

pub fn json(dirs: &AttemptDirs, name: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(dirs.tree().join(name)).unwrap()).unwrap()
}

fn transcript(run_result: &EngineResult) -> String {
    String::from_utf8(run_result.files[0].2.clone()).unwrap()
}

/// Whether the processes whose ids are in `file` are gone, or zombies.
pub async fn all_gone(file: &Path) -> bool {
    let pids = std::fs::read_to_string(file).unwrap();
    let alive = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|text| !text.rsplit_once(')').unwrap().1.starts_with(" Z"))
    };
    let until = Instant::now() + Duration::from_secs(10);
    while pids.split_whitespace().any(alive) {
        if Instant::now() > until {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

#[tokio::test]
async fn an_edit_arrives_and_everything_is_reported() {
    let dirs = AttemptDirs::new();
    std::fs::write(dirs.tree().join("calc.py"), "a - b\n").unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let recorded = events.clone();
    let sink: Sink = Arc::new(move |event| recorded.lock().unwrap().push(format!("{event:?}")));
    let mut order = order(Step::Develop, Some("t"));
    order.caps = Usage { tokens: 9_000, cost_micros: 90_000, wall_ms: 30_000, turns: 0 };
    let run_result = drive(agent("edit"), &order, &dirs, sink).await;

    assert!(
        matches!(&run_result.result, StepOutcome::Edited { summary } if summary == "Fixed add();\nthe tests pass."),
        "{:?}",
        run_result.result
    );
    assert_eq!(std::fs::read_to_string(dirs.tree().join("calc.py")).unwrap(), "a + b\n");
    assert_eq!(json(&dirs, "prompt.json"), "You are a dev.\n\nFix add.");
    assert_eq!(json(&dirs, "permission.json")["outcome"]["optionId"], "proceed_once");
    assert_eq!(run_result.session.as_deref(), Some("acp:fake:s-1"));
    // The agent's own figures, because no call was metered.
    assert_eq!(run_result.usage, Some(Usage { tokens: 1350, cost_micros: 5_000, wall_ms: 0, turns: 0 }));
    let events = events.lock().unwrap();
    for expected in ["Said(\"I fix it.\")", "Thought(\"let me see\")", "Did(\"Edit calc.py\")", "Did(\"make test\")"] {
        assert!(events.iter().any(|h| h == expected), "{expected} is not in {events:?}");
    }
    assert!(transcript(&run_result).contains("> plan: 0 of 1 steps done; test"), "{}", transcript(&run_result));
}

#[tokio::test]
async fn nothing_outside_the_workspace_is_read_written_or_permitted() {
    let dirs = AttemptDirs::new();
    std::fs::write(dirs.root.path().join("outside"), "canary").unwrap();
    let run_result = play("grabs", Step::Develop, &dirs).await;
    assert!(matches!(run_result.result, StepOutcome::Edited { .. }), "{:?}", run_result.result);
    let got = json(&dirs, "got.json");
    for (what, answer) in got.as_object().unwrap() {
        match what.split_once(' ').map_or(what.as_str(), |(kind, _)| kind) {
            "read" | "write" => assert!(answer.get("error").is_some(), "{what}: {answer}"),
            "permit" if what == "permit nothing" => {
                assert_eq!(answer["result"]["outcome"]["outcome"], "cancelled", "{what}");
            }
            "permit" => assert_eq!(answer["result"]["outcome"]["optionId"], "n", "{what}: {answer}"),
            _ => assert_eq!(answer["error"]["code"], -32601, "{what}: {answer}"),
        }
    }
    assert!(!got.to_string().contains("canary") && !got.to_string().contains("root:"), "{got}");
    assert!(!Path::new("/tmp/skep-test-escape").exists() && !dirs.root.path().join("escape").exists());
    assert!(!dirs.tree().join("new").exists());
    assert_eq!(json(&dirs, "lines.json")["result"]["content"], "2\n3\n");
    assert!(transcript(&run_result).contains("# refused: /etc/passwd is outside the workspace"));
}

#[tokio::test]
async fn a_reading_step_cannot_write_files() {
    let dirs = AttemptDirs::new();
    let run_result = play("writes", Step::Review, &dirs).await;
    assert!(
        matches!(run_result.result, StepOutcome::Judged { verdict: Verdict::Approve, .. }),
        "{:?}",
        run_result.result
    );
    assert!(json(&dirs, "got.json")["error"]["data"].as_str().unwrap().contains("review step"));
    assert!(!dirs.tree().join("new").exists());
}

#[tokio::test]
async fn noise_on_the_pipe_is_ignored() {
    let run_result = play("noise", Step::Develop, &AttemptDirs::new()).await;
    assert!(
        matches!(&run_result.result, StepOutcome::Edited { summary } if summary == "still here red"),
        "{:?}",
        run_result.result
    );
    let recorded = transcript(&run_result);
    assert!(
        recorded.contains("# Warning: a banner")
            && recorded.contains("> failed: unnamed tool")
            && !recorded.contains('\x1b'),
        "{recorded}"
    );
}

#[tokio::test]
async fn an_invalid_answer_is_corrected_in_the_same_session() {
    let dirs = AttemptDirs::new();
    let corrected = play("corrects", Step::Plan, &dirs).await.result;
    assert!(matches!(&corrected, StepOutcome::Tasks(tasks) if tasks.len() == 1), "{corrected:?}");
    let prompt = |turn: usize| json(&dirs, &format!("told-{turn}.json")).as_str().unwrap().to_owned();
    assert!(prompt(1).contains("json block") && prompt(1).contains("\"tasks\""), "{}", prompt(1));
    assert!(prompt(2).contains("is invalid"), "{}", prompt(2));

    let why = failed(result("never corrects", Step::Review).await);
    assert!(why.contains("unknown variant `merge`") && why.contains("fake"), "{why}");
    assert!(
        matches!(result("notes", Step::Explore).await, StepOutcome::Notes(notes) if notes == "add is in calc.py:2")
    );
    assert!(
        matches!(result("asks", Step::Develop).await, StepOutcome::Asked { question, .. } if question == "Which port?")
    );
    assert!(matches!(result("asks", Step::Review).await, StepOutcome::Asked { .. }));
}

#[tokio::test]
async fn an_incomplete_turn_is_a_failure() {
    for (reason, part) in [
        ("max_tokens", "output limit"),
        ("max_turn_requests", "limit of model calls"),
        ("refusal", "refused to continue"),
        ("cancelled", "its own turn"),
    ] {
        let why = failed(result(&format!("stop {reason}"), Step::Develop).await);
        assert!(why.contains(part) && why.contains("fake"), "{reason}: {why}");
    }
    let why = failed(result("gives up", Step::Develop).await);
    assert!(why.contains("/etc/shadow is outside the workspace"), "{why}");
}

#[tokio::test]
async fn values_of_newer_agents_do_not_discard_the_work() {
    assert!(matches!(result("stop paused_by_policy", Step::Develop).await, StepOutcome::Edited { .. }));
    let edited = async |part: &str| match result(part, Step::Develop).await {
        StepOutcome::Edited { summary } => summary,
        other => panic!("{part}: {other:?}"),
    };
    assert_eq!(edited("asks for more").await, "permitted");
    let refused = edited("asks for always").await;
    assert!(refused.contains("only a permanent permission") && refused.ends_with("refused"), "{refused}");
}

#[tokio::test]
async fn an_agent_that_ends_before_it_answers_cannot_be_used_and_costs_nothing() {
    let line = "echo 'this-agent is no longer maintained, install that-agent'";
    let gone = Agent { command: ["sh", "-c", line].map(str::to_owned).to_vec(), ..agent("edit") };
    let mut develop = order(Step::Develop, Some("t"));
    develop.caps = Usage { tokens: 700, cost_micros: 50, wall_ms: 30_000, turns: 7 };
    let run_result = drive(gone, &develop, &AttemptDirs::new(), quiet()).await;
    let StepOutcome::Unavailable { why, fix: Some(fix), until: None } = &run_result.result else {
        panic!("{:?}", run_result.result)
    };
    assert!(why.contains("no longer maintained") && fix.contains("agents.fake.command"), "{why}; {fix}");
    assert_eq!(run_result.usage, Some(Usage::default()));
}

#[tokio::test]
async fn a_limit_of_a_subscription_is_waited_for() {
    let StepOutcome::Unavailable { until: Some(until), fix: None, .. } =
        result("error You've hit your limit \u{b7} resets 3pm (Europe/Berlin)", Step::Develop).await
    else {
        panic!("it is a limit with a time")
    };
    let ahead = until.0 - chrono::Utc::now().timestamp_millis();
    assert!((-60_000..=86_400_000).contains(&ahead) && until.0 % 3_600_000 == 0, "{ahead}");
}

#[tokio::test]
async fn a_crash_is_reported_with_its_last_output() {
    let why = failed(result("crash Traceback: \x1b[31mboom", Step::Develop).await);
    assert!(why.contains("exit code 3") && why.contains("Traceback: boom"), "{why}");
    for message in ["crash Error: 429 Too Many Requests", "error rate limit reached, try later", "error API status 529"]
    {
        let work = result(message, Step::Develop).await;
        assert!(matches!(&work, StepOutcome::Unavailable { fix: None, .. }), "{message}: {work:?}");
    }
    for message in ["crash Invalid API key", "error status 401", "login", "error Please run /login"] {
        let work = result(message, Step::Develop).await;
        let StepOutcome::Unavailable { why, fix: Some(fix), .. } = &work else { panic!("{message}: {work:?}") };
        assert!(why.contains("fake") && fix.contains("agents.fake.pass_env"), "{why} {fix}");
    }
    let why = failed(result("error it took 429 ms for 401 tests", Step::Develop).await);
    assert!(why.contains("answered with an error"), "{why}");
}

#[tokio::test]
async fn an_agent_that_cannot_be_used_comes_with_a_fix() {
    let dirs = AttemptDirs::new();
    let develop = order(Step::Develop, Some("t"));
    let fix = async |agent: Agent| match drive(agent, &develop, &dirs, quiet()).await.result {
        StepOutcome::Unavailable { why, fix: Some(fix), until: None } => format!("{why}; {fix}"),
        other => panic!("{other:?}"),
    };
    let missing = Agent { command: vec!["no-such-agent".to_owned()], ..agent("edit") };
    let message = fix(missing).await;
    assert!(message.contains("not found") && message.contains("agents.fake.command"), "{message}");
    let message = fix(Agent { mode: Some("yolo".to_owned()), ..agent("notes") }).await;
    assert!(message.contains("no mode \"yolo\"") && message.contains("ask, auto"), "{message}");
    assert!(fix(agent("version")).await.contains("speaks version 1"));
    let moded = Agent { mode: Some("auto".to_owned()), ..agent("notes") };
    drive(moded, &develop, &dirs, quiet()).await;
    assert_eq!(json(&dirs, "mode.json"), "auto");
}

#[tokio::test]
async fn an_idle_agent_is_cancelled_and_its_process_tree_ends() {
    let dirs = AttemptDirs::new();
    let silent = Agent { idle_timeout: Duration::from_secs(2), ..agent("silent") };
    let run_result = drive(silent, &order(Step::Develop, Some("t")), &dirs, quiet()).await;
    let why = failed(run_result.result);
    assert!(why.contains("wrote nothing for 2 s"), "{why}");
    assert_eq!(json(&dirs, "cancelled.json"), true);
    assert!(all_gone(&dirs.tree().join("pids")).await);
}

#[tokio::test]
async fn an_agent_that_ignores_signals_is_killed_with_its_process_tree() {
    let dirs = AttemptDirs::new();
    let stubborn = Agent { idle_timeout: Duration::from_secs(2), ..agent("stubborn") };
    let began = Instant::now();
    let why = failed(drive(stubborn, &order(Step::Develop, Some("t")), &dirs, quiet()).await.result);
    assert!(why.contains("wrote nothing"), "{why}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(all_gone(&dirs.tree().join("pids")).await);
}

#[tokio::test]
async fn dropping_the_run_ends_the_whole_process_tree() {
    let dirs = AttemptDirs::new();
    let engine = engines(agent("busy")).get(&EngineSpec::parse("acp:fake")).unwrap();
    let (develop, attempt_env) = (order(Step::Develop, Some("t")), attempt_env(&dirs));
    let (events, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let sink: Sink = Arc::new(move |event| {
        if let EngineEvent::Said(_) = event {
            let _late = events.send(());
        }
    });
    tokio::select! {
        run_result = engine.run(&develop, &attempt_env, sink) => panic!("{run_result:?}"),
        _said = receiver.recv() => {}
    }
    assert!(all_gone(&dirs.tree().join("pids")).await);
}

#[tokio::test]
async fn time_and_money_limits_stop_an_agent() {
    let dirs = AttemptDirs::new();
    let mut develop = order(Step::Develop, Some("t"));
    develop.caps.wall_ms = 3_000;
    let why = failed(drive(agent("busy"), &develop, &dirs, quiet()).await.result);
    assert!(why.contains("still running") && why.contains("3 s"), "{why}");
    assert!(all_gone(&dirs.tree().join("pids")).await);

    develop.caps = Usage { tokens: 700, cost_micros: 50_000, wall_ms: 30_000, turns: 0 };
    let run_result = drive(agent("spends"), &develop, &AttemptDirs::new(), quiet()).await;
    let usage = run_result.usage.unwrap();
    assert!(failed(run_result.result).contains("budget of money"));
    assert!(usage.cost_micros > 50_000 && usage.tokens == 700, "{usage:?}");
}

#[tokio::test]
async fn absurd_usage_is_charged_as_the_reservation() {
    let mut develop = order(Step::Develop, Some("t"));
    develop.caps = Usage { tokens: 700, cost_micros: 50, wall_ms: 30_000, turns: 7 };
    let run_result = drive(agent("lies"), &develop, &AttemptDirs::new(), quiet()).await;
    assert_eq!(run_result.usage, Some(Usage { tokens: 700, cost_micros: 50, wall_ms: 0, turns: 0 }));
}

#[tokio::test]
async fn an_agent_that_reads_no_answers_is_not_read_from() {
    let dirs = AttemptDirs::new();
    let deaf = Agent { idle_timeout: Duration::from_secs(3), ..agent("deaf") };
    let why = failed(drive(deaf, &order(Step::Develop, Some("t")), &dirs, quiet()).await.result);
    assert!(why.contains("wrote nothing"), "{why}");
    // Only as many requests are read as the agent's pipe and a few responses can hold. Without this limit, a hundred
    // thousand responses of two megabytes each would be buffered here.
    let asked = json(&dirs, "asked.json").as_u64().unwrap();
    assert!(asked < 5_000, "{asked}");
}

#[tokio::test]
async fn a_giant_message_ends_the_session() {
    let why = failed(result("giant", Step::Develop).await);
    assert!(why.contains("exceeds 16777216 bytes"), "{why}");
}

#[tokio::test]
async fn placeholders_are_filled_in_and_no_secret_is_an_argument() {
    let dirs = AttemptDirs::new();
    let base = agent("looks");
    let mut table = Agent {
        command: [
            base.command,
            ["--model={model}", "--effort={effort}", "{dir}", "it's $HOME"].map(str::to_owned).to_vec(),
        ]
        .concat(),
        env: [("GIVEN".to_owned(), "{model} in {home}".to_owned())].into(),
        // `CARGO_MANIFEST_DIR` is set in every test and stands in for an API key.
        pass_env: vec!["SKEP_TEST_NOT_SET".to_owned(), "CARGO_MANIFEST_DIR".to_owned()],
        ..base
    };
    table.files.insert(
        ".agent/config.json".to_owned(),
        "{\"model\": \"{model}\",\n \"effort\": \"{effort}\",\n \"more\": {}}".to_owned(),
    );
    let table = Agent {
        env: [table.env, [("HARD".to_owned(), "{effort}".to_owned())].into()].into_iter().flatten().collect(),
        ..table
    };
    // With an effort, every `{effort}` placeholder is filled in; without one, whatever contains it is left out.
    let hard = engines(table.clone()).get(&EngineSpec::parse("acp:fake/maker/model-1.5#high")).unwrap();
    hard.run(&order(Step::Develop, Some("t")), &attempt_env(&dirs), quiet()).await.unwrap();
    let looks = json(&dirs, "looks.json");
    assert_eq!(
        looks["files"][".agent/config.json"],
        "{\"model\": \"maker/model-1.5\",\n \"effort\": \"high\",\n \"more\": {}}"
    );
    assert_eq!((&looks["env"]["HARD"], &looks["args"][1]), (&"high".into(), &"--effort=high".into()));
    let engine = engines(table).get(&EngineSpec::parse("acp:fake/maker/model-1.5")).unwrap();
    engine.run(&order(Step::Develop, Some("t")), &attempt_env(&dirs), quiet()).await.unwrap();
    let looks = json(&dirs, "looks.json");
    let home = dirs.attempt_env().scratch.join("home");
    assert_eq!(looks["env"]["HOME"], home.to_str().unwrap());
    assert_eq!(looks["env"]["GIVEN"], format!("maker/model-1.5 in {}", home.display()));
    assert_eq!(looks["files"][".agent/config.json"], "{\"model\": \"maker/model-1.5\",\n \"more\": {}}");
    assert!(looks["env"]["HARD"].is_null());
    assert_eq!(looks["args"], serde_json::json!(["--model=maker/model-1.5", dirs.tree(), "it's $HOME"]));
    let given = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    assert_eq!(looks["env"]["CARGO_MANIFEST_DIR"], given);
    assert!(!looks["argv"].as_str().unwrap().contains(&given), "a passed variable is in an argument");
}

#[test]
fn invalid_tables_are_refused_before_anything_starts() {
    let get = |agent: Agent, spec: &str| engines(agent).get(&EngineSpec::parse(spec)).err().unwrap();
    let with = |change: &dyn Fn(&mut Agent)| {
        let mut agent = agent("edit");
        change(&mut agent);
        agent
    };
    for (agent, spec, part) in [
        (agent("edit"), "acp:", "acp:AGENT"),
        (agent("edit"), "acp:none", "configured are: fake"),
        (agent("edit"), "cli:fake", "none is configured"),
        (agent("edit"), "acp:fake/m", "takes no model"),
        (agent("edit"), "acp:fake#low", "takes no effort"),
        (agent("edit"), "acp:fake#lwo", "unknown effort"),
        (with(&|a| a.command.push("{model}".to_owned())), "acp:fake", "needs a model"),
        (with(&|a| a.command.push("{model}".to_owned())), "acp:fake/a\"b", "letters, digits"),
        (with(&|a| a.command.push("{modle}".to_owned())), "acp:fake", "unknown placeholder {modle}"),
        (with(&|a| a.command.push("{proxy_url}".to_owned())), "acp:fake", "must not be an argument"),
        (with(&|a| drop(a.env.insert("URL".to_owned(), "{proxy_url}/v1".to_owned()))), "acp:fake", "no provider"),
        (with(&|a| a.provider = Some("none".to_owned())), "acp:fake", "\"none\" is not configured"),
        (with(&|a| drop(a.files.insert("../x".to_owned(), String::new()))), "acp:fake", "leads outside"),
    ] {
        let message = get(agent, spec);
        assert!(message.contains(part), "{spec}: {message}");
    }
}
