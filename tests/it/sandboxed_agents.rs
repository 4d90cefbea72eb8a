//! Driven agents in the sandbox: how they are terminated, and that no secret leaks from them, however it is split.

use crate::acp::attempt_env;
use crate::engines_contract::{AttemptDirs, order};
use crate::support::engines::system_clock;
use crate::support::sandbox;
use skep::adapters::engine::Registry;
use skep::adapters::engine::settings::{Agent, OutputTable, Protocol, Settings};
use skep::domain::{EngineSpec, Step, Usage};
use skep::ports::engine::{EngineEvent, EngineResult, Engines, Sink, StepOutcome};
use skep::secrets::{Secret, register};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn agent(protocol: Protocol, words: &[&str]) -> Agent {
    let text = match protocol {
        Protocol::Acp => include_str!("driven/acp_agent.py"),
        Protocol::Cli => include_str!("driven/cli_agent.py"),
    };
    let command = ["/usr/bin/python3", "{home}/agent.py"].into_iter().chain(words.iter().copied());
    Agent {
        name: "fake".to_owned(),
        protocol,
        command: command.map(str::to_owned).collect(),
        provider: None,
        env: BTreeMap::new(),
        pass_env: vec![],
        files: [("agent.py".to_owned(), text.to_owned())].into(),
        output: OutputTable::default(),
        mode: None,
        idle_timeout: Duration::from_secs(60),
    }
}

/// Drives an agent at `strict`; also returns all events it reported.
async fn drive(agent: Agent, dirs: &AttemptDirs) -> (EngineResult, Vec<String>) {
    let spec = if agent.protocol == Protocol::Acp { "acp:fake" } else { "cli:fake" };
    let settings = Settings { agents: [(agent.name.clone(), agent)].into(), ..Settings::default() };
    let engine =
        Registry::new(sandbox::strict(), Arc::new(settings), system_clock()).get(&EngineSpec::parse(spec)).unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let recorded = events.clone();
    let sink: Sink = Arc::new(move |event: EngineEvent| recorded.lock().unwrap().push(format!("{event:?}")));
    let mut order = order(Step::Develop, Some("t"));
    order.caps = Usage { tokens: 0, cost_micros: 0, wall_ms: 60_000, turns: 0 };
    let run_result = engine.run(&order, &attempt_env(dirs), sink).await.unwrap();
    let events = events.lock().unwrap().clone();
    (run_result, events)
}

#[tokio::test]
async fn a_stopped_agent_may_clean_up_first() {
    for (part, tidied) in [("trap", true), ("ignore", false)] {
        let dirs = AttemptDirs::new();
        let silent = Agent { idle_timeout: Duration::from_secs(2), ..agent(Protocol::Cli, &[part]) };
        let began = Instant::now();
        let (run_result, _) = drive(silent, &dirs).await;
        assert!(
            matches!(&run_result.result, StepOutcome::Failed(why) if why.contains("wrote nothing")),
            "{:?}",
            run_result.result
        );
        assert_eq!(dirs.tree().join("tidy").exists(), tidied, "{part}");
        assert!(began.elapsed() < Duration::from_secs(20), "{part}: {:?}", began.elapsed());
        assert!(gone(&dirs).await, "{part}");
    }
}

/// Waits until no process works in the directory any more. Process ids reported inside the sandbox mean nothing here.
async fn gone(dirs: &AttemptDirs) -> bool {
    let root = dirs.root.path().to_string_lossy().into_owned();
    let until = Instant::now() + Duration::from_secs(10);
    let works = |entry: std::fs::DirEntry| {
        std::fs::read(entry.path().join("environ")).is_ok_and(|e| String::from_utf8_lossy(&e).contains(&root))
    };
    while std::fs::read_dir("/proc").unwrap().flatten().any(works) {
        if Instant::now() > until {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

#[tokio::test]
async fn a_secret_is_redacted_even_if_split_or_truncated() {
    let value = "tangerine-5512-of-nobody-else";
    let _live = register("TANGERINE", &Secret::new(value));
    for protocol in [Protocol::Acp, Protocol::Cli] {
        let dirs = AttemptDirs::new();
        let words = if protocol == Protocol::Acp { vec!["leaks"] } else { vec!["leak", value] };
        let mut leaky = agent(protocol, &words);
        leaky.env.insert("LEAK".to_owned(), value.to_owned());
        let (run_result, events) = drive(leaky, &dirs).await;
        assert!(matches!(run_result.result, StepOutcome::Failed(_)), "{:?}", run_result.result);
        let transcript = String::from_utf8_lossy(&run_result.files[0].2).into_owned();
        let all = format!("{:?}\n{}\n{transcript}", run_result.result, events.join("\n"));
        assert!(all.matches("[redacted:TANGERINE]").count() >= 4, "{all}");
        // No half of the secret and no part that truncation left over is shown.
        for part in ["tangerine", "nobody", "5512", "of-n"] {
            assert!(!all.contains(part), "{part} is in {all}");
        }
    }
}
