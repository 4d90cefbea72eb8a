//! The agent loop against a third-party model server. Ignored by default: `scripts/agents` installs the server and
//! prints the command that runs this test.

use super::engines_contract::AttemptDirs;
use super::llm::{develop, engine};
use serde_json::json;
use skep::ports::Prompt;
use skep::ports::engine::{AttemptEnv, Engine, StepOutcome};
use skep::providers::settings::{Api, Provider};
use skep::secrets::Secret;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
#[ignore = "needs a third-party model server: run scripts/agents, then the command that it prints"]
async fn a_dev_works_with_a_third_party_server() {
    let modules =
        std::env::var_os("SKEP_TEST_AIMOCK").expect("SKEP_TEST_AIMOCK names a node_modules folder; run scripts/agents");
    let modules = std::path::PathBuf::from(modules);
    let program = modules.join("@copilotkit/aimock/dist/cli.js");
    assert!(program.is_file(), "{} does not exist; run scripts/agents", program.display());
    let turn = |n: usize, calls: serde_json::Value, result: Option<&str>| {
        let mut fits = json!({"userMessage": "TASK-ADD", "turnIndex": n});
        if let Some(result) = result {
            fits["toolResultContains"] = json!(result);
        }
        let usage =
            json!({"prompt_tokens": 1000 + n, "completion_tokens": 10, "input_tokens": 1000 + n, "output_tokens": 10});
        json!({"match": fits, "response": {"toolCalls": calls, "usage": usage}})
    };
    let fixtures = json!({"fixtures": [
        turn(0, json!([{"id": "c1", "name": "read", "arguments": {"path": "calc.py"}}, {"id": "c2", "name": "list", "arguments": {}}]), None),
        turn(1, json!([{"id": "c3", "name": "edit", "arguments": {"path": "calc.py", "edits": [{"old": "a - b", "new": "a + b"}]}}]), None),
        turn(2, json!([{"id": "c4", "name": "run", "arguments": {"command": "cat calc.py"}}]), Some("1 edit made")),
        turn(3, json!([{"id": "c5", "name": "done", "arguments": {"summary": "add adds"}}]), Some("a + b")),
    ]});
    let dirs = AttemptDirs::new();
    let script = dirs.root.path().join("fixtures.json");
    std::fs::write(&script, fixtures.to_string()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("node");
    command.arg(&program).args(["-p", &port.to_string(), "--strict", "-f"]).arg(&script);
    let _server = Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    super::llm::eventually(|| std::net::TcpStream::connect(("127.0.0.1", port)).ok()).await;

    for (api, path) in [
        (Api::Anthropic, "v1/"),
        (Api::OpenAi, "v1/"),
        (Api::OpenAiResponses, "v1/"),
        (Api::Gemini, "v1beta/"),
        (Api::Ollama, ""),
    ] {
        let dirs = AttemptDirs::new();
        std::fs::write(dirs.tree().join("calc.py"), "def add(a, b):\n    return a - b\n").unwrap();
        let provider = Provider {
            name: "acme".to_owned(),
            api,
            base_url: format!("http://127.0.0.1:{port}/{path}"),
            key: Some(Secret::new("sk-none")),
            key_source: "nowhere".to_owned(),
            concurrency: 1,
            requests_per_minute: None,
            idle_timeout: Duration::from_secs(20),
            context_window: 100_000,
            max_output_tokens: 4_000,
        };
        let prompt = Prompt { system: "You are a dev.".to_owned(), user: "TASK-ADD".to_owned(), version: "v1".into() };
        std::fs::create_dir_all(dirs.root.path().join("scratch")).unwrap();
        let attempt_env = AttemptEnv { prompt: Some(prompt), ..dirs.attempt_env() };
        let engine: Arc<dyn Engine> = engine(provider);
        let run_result = engine.run(&develop(), &attempt_env, Arc::new(|_| {})).await.unwrap();
        let transcript = String::from_utf8_lossy(&run_result.files[0].2).into_owned();
        assert!(
            matches!(&run_result.result, StepOutcome::Edited { summary } if summary == "add adds"),
            "{api:?} {:?}\n{transcript}",
            run_result.result
        );
        assert!(std::fs::read_to_string(dirs.tree().join("calc.py")).unwrap().contains("a + b"));
        let usage_by_model = &run_result.usage_by_model[0];
        match api {
            // The server reports no usage for this API, so the reservation is charged.
            Api::Ollama => assert!(
                usage_by_model.calls == 4 && usage_by_model.input > 4_000 && usage_by_model.output == 16_000,
                "{usage_by_model:?}"
            ),
            _ => assert_eq!(
                (usage_by_model.calls, usage_by_model.input, usage_by_model.output),
                (4, 4_006, 40),
                "{api:?} {transcript}"
            ),
        }
    }
}
