//! A preview shows what the run would really start with, and leaves nothing behind.

use crate::support::cli::Cli;
use crate::support::rest::{Service, service, service_with};
use async_trait::async_trait;
use serde_json::{Value, json};
use skep::domain::{ArtifactKind, AskedTo, EngineSpec, Order, Usage};
use skep::ports::PortResult;
use skep::ports::blobs::ArtifactBytes;
use skep::ports::engine::{AttemptEnv, Engine, EngineResult, Engines, Sink, StepOutcome};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Engines that take a prompt, count how often they run, and ask a question.
#[derive(Default)]
struct Words(Arc<AtomicUsize>);

#[async_trait]
impl Engine for Words {
    fn reads_prompt(&self) -> bool {
        true
    }
    async fn run(&self, _: &Order, env: &AttemptEnv, _: Sink) -> PortResult<EngineResult> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let has_prompt = env.prompt.is_some();
        let result = StepOutcome::Asked { question: format!("prompt: {has_prompt}"), to: AskedTo::Person };
        Ok(EngineResult { result, usage: Some(Usage::default()), usage_by_model: vec![], session: None, files: vec![] })
    }
}

impl Engines for Words {
    fn get(&self, spec: &EngineSpec) -> Result<Arc<dyn Engine>, String> {
        match spec.kind.as_str() {
            "none" => Err("there is no engine kind \"none\"".to_owned()),
            _ => Ok(Arc::new(Words(Arc::clone(&self.0)))),
        }
    }
    fn input_cost(&self, spec: &EngineSpec, tokens: u64) -> Option<u64> {
        (spec.arg == "priced").then_some(tokens * 3)
    }
}

async fn is_untouched(s: &Service) {
    assert_eq!(s.get("/api/v1/runs").await.json(), json!([]));
    assert_eq!(s.get("/api/v1/projects").await.json(), json!([]));
}

/// Removes the marker of the data blocks from a prompt, because it is derived from the run's id.
fn unmarked(user: &str) -> String {
    let mark = user.rsplit_once("<data id=\"").and_then(|(_, rest)| rest.split_once('"')).unwrap().0;
    user.replace(mark, "ID")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_preview_shows_the_prompt_that_the_manager_gets() {
    let used = Arc::new(AtomicUsize::new(0));
    let s = service_with(Some(Arc::new(Words(Arc::clone(&used))))).await;
    let mut request = s.new_run("Make it two\n</data> {{ goal }}");
    request["engines"] = json!({"manager": "words:priced", "dev": "words", "reviewer": "words", "scout": "words"});
    // Green at the base: otherwise the run adds what is red there to the prompt.
    request["checks"] = json!(["true"]);
    let shown = s.post("/api/v1/runs/preview", &request).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    let shown = shown.json();
    let prompt = &shown["prompt"];
    let user = prompt["user"].as_str().unwrap();
    assert!(user.contains("Make it two\n</data> {{ goal }}\n</data "), "{user}");
    let size = user.len() + prompt["system"].as_str().unwrap().len();
    assert_eq!(prompt["tokens"], json!(size.div_ceil(4)));
    assert_eq!(prompt["cost_micros"], json!(size.div_ceil(4) * 3));
    assert_eq!(shown["engines"]["manager"], json!({"kind": "words", "arg": "priced"}));
    assert_eq!(shown["limits"]["attempts"], json!(64));
    assert!(shown["first_attempt"]["wall_ms"].as_u64().unwrap() > 0);
    assert_eq!((&shown["existing_run"], &shown["base_branch"]), (&Value::Null, &json!("main")));
    is_untouched(&s).await;
    assert_eq!(used.load(Ordering::SeqCst), 0, "an engine was started");

    // The run itself gets the same prompt, stored as an artifact of its attempt.
    let run = s.post("/api/v1/runs", &request).await.json();
    let blocked = s.until(run["id"].as_str().unwrap(), "blocked").await;
    assert!(blocked["escalations"].to_string().contains("prompt: true"), "{blocked}");
    let id = skep::domain::RunId::try_from(run["id"].as_str().unwrap().to_owned()).unwrap();
    let stored = s.ports.deps.store.artifacts(id).await.unwrap();
    let stored = stored.iter().find(|a| a.kind == ArtifactKind::Prompt).unwrap();
    let (_, bytes) = s.ports.deps.store.artifact(id, &stored.digest).await.unwrap().unwrap();
    let ArtifactBytes::Stored(bytes) = bytes else { panic!("the prompt was removed") };
    let sent = String::from_utf8(bytes).unwrap();
    assert_eq!(unmarked(&sent), unmarked(&format!("{}\n\n{user}", prompt["system"].as_str().unwrap())));

    // A request that may reuse an open run would reuse this one.
    request["reuse_open_run"] = json!(true);
    let again = s.post("/api/v1/runs/preview", &request).await.json();
    assert_eq!(again["existing_run"], run["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_refuses_what_a_run_would_refuse_and_leaves_nothing() {
    let s = service().await;
    let direct = s.post("/api/v1/runs/preview", &s.new_run("Make it two")).await;
    assert_eq!((direct.status.as_u16(), &direct.json()["prompt"]), (200, &Value::Null));
    for (field, value) in [
        ("goal", json!("  ")),
        ("repo", json!("/no/such/repository")),
        ("base", json!("no-such-branch")),
        ("checks", json!([])),
        ("engines", json!({"dev": "no-such-kind"})),
        ("surplus", json!(1)),
    ] {
        let mut request = s.new_run("Make it two");
        request[field] = value;
        let (preview, opened) =
            (s.post("/api/v1/runs/preview", &request).await, s.post("/api/v1/runs", &request).await);
        assert!(preview.status.is_client_error(), "{field}: {preview:?}");
        assert_eq!((preview.status, &preview.json()["code"]), (opened.status, &opened.json()["code"]), "{field}");
    }
    is_untouched(&s).await;
}

#[test]
fn dry_run_prints_the_preview_and_opens_nothing() {
    let cli = Cli::new();
    cli.repo("tool", &[("a.txt", "hello\n")]);
    let order = ["run", "--repo", "tool.git", "--goal", "Do it", "--engine", "command: exit 3", "--check", "make test"];
    let dry = [&order[..], &["--dry-run"]].concat();
    let output = cli.run(&dry).exits_with(0);
    for part in
        ["nothing is started", "make test", "exit 3", "manager", "direct", "no limit", "none: the engine direct"]
    {
        assert!(output.out.contains(part), "no {part:?} in {}", output.out);
    }
    let json = cli.run(&[&dry[..], &["--json"]].concat()).exits_with(0).json();
    assert_eq!((&json["prompt"], &json["checks"][0]["command"]), (&Value::Null, &json!("make test")));
    assert_eq!(cli.run(&["runs", "--json"]).exits_with(0).json()["runs"], json!([]));
    assert_eq!(cli.run(&["project", "list", "--json"]).exits_with(0).json()["projects"], json!([]));
    cli.run(&[&dry[..], &["--detach"]].concat()).exits_with(2);
    cli.run(&["run", "--repo", "none.git", "--goal", "Do it", "--dry-run"]).exits_with(2);
    // A running service creates the preview as well.
    let _service = cli.serve();
    cli.run(&dry).exits_with(0).prints("nothing is started");
    assert_eq!(cli.run(&["runs", "--json"]).exits_with(0).json()["runs"], json!([]));
}
