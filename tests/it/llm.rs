//! The agent loop over scripted servers of every API: whole conversations, requests, charges and records.

use super::engines_contract::{AttemptDirs, order};
use super::support::models::{KEY, Models, Reply, call, calls, text, with};
use crate::support::engines::system_clock;
use serde_json::{Value, json};
use skep::adapters::engine::Registry;
use skep::domain::{ArtifactKind, AskedTo, DiffStat, EngineSpec, FileChange, FileKind, Order, Step, Usage, Verdict};
use skep::platform::sandbox::Sandbox;
use skep::ports::Prompt;
use skep::ports::engine::{AttemptEnv, Engine, EngineEvent, EngineResult, Engines, Sink, StepOutcome};
use skep::providers::prices::Prices;
use skep::providers::settings::{Api, Provider};
use std::sync::{Arc, Mutex};

/// Every wire format.
pub const APIS: [Api; 5] = [Api::Anthropic, Api::OpenAi, Api::OpenAiResponses, Api::Gemini, Api::Ollama];

/// Prices of the scripted model, in round figures.
const PRICES: &str = r#"
version = "2026-01-01"
[[model]]
match = ["acme/*"]
input = 1.0
output = 10.0
"#;

pub fn engine(provider: Provider) -> Arc<dyn Engine> {
    let registry = Registry::new(Sandbox::from_process_env(&[]), Arc::new(with(provider)), system_clock());
    registry.get(&EngineSpec::parse("llm:acme/some-model-high")).unwrap()
}

pub fn attempt_env(dirs: &AttemptDirs) -> AttemptEnv {
    let prompt = Prompt {
        system: "You are a dev.".to_owned(),
        user: "THE-ORDER: make it right.".to_owned(),
        version: "v1".into(),
    };
    std::fs::create_dir_all(dirs.root.path().join("scratch")).unwrap();
    AttemptEnv { prompt: Some(prompt), ..dirs.attempt_env() }
}

pub async fn work(provider: Provider, order: &Order, dirs: &AttemptDirs) -> EngineResult {
    engine(provider).run(order, &attempt_env(dirs), Arc::new(|_| {})).await.unwrap()
}

/// Like [`work`], with another spec.
pub async fn work_as(spec: &str, provider: Provider, order: &Order, dirs: &AttemptDirs) -> EngineResult {
    let registry = Registry::new(Sandbox::from_process_env(&[]), Arc::new(with(provider)), system_clock())
        .with_prices(Arc::new(Prices::embedded().unwrap()));
    registry.get(&EngineSpec::parse(spec)).unwrap().run(order, &attempt_env(dirs), Arc::new(|_| {})).await.unwrap()
}

/// A develop order with a time limit of one minute.
pub fn develop() -> Order {
    let mut order = order(Step::Develop, Some("parser"));
    order.caps.wall_ms = 60_000;
    order
}

pub fn transcript(run_result: &EngineResult) -> String {
    let (kind, name, bytes) = &run_result.files[0];
    assert_eq!((*kind, name.as_str()), (ArtifactKind::Transcript, "transcript.jsonl"));
    String::from_utf8(bytes.clone()).unwrap()
}

/// Polls for at most half a minute and returns what was found.
pub async fn eventually<T>(mut found: impl FnMut() -> Option<T>) -> T {
    for _ in 0..3_000 {
        if let Some(found) = found() {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it did not come about");
}

/// Texts of the tool results in a request, in order, for any API.
pub fn results(body: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(body, &mut found);
    found
}

fn collect(value: &Value, found: &mut Vec<String>) {
    let word = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    match value {
        Value::Array(items) => items.iter().for_each(|v| collect(v, found)),
        Value::Object(fields) => {
            let kind = |k: &str| fields.get(k).and_then(Value::as_str).unwrap_or_default().to_owned();
            if kind("type") == "tool_result" || kind("role") == "tool" {
                found.extend(fields.get("content").map(word));
            } else if kind("type") == "function_call_output" {
                found.extend(fields.get("output").map(word));
            } else if let Some(response) = fields.get("functionResponse") {
                found.push(response.to_string());
            } else {
                fields.values().for_each(|v| collect(v, found));
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn a_dev_reads_edits_runs_and_is_done_over_every_api() {
    for api in APIS {
        let dirs = AttemptDirs::new();
        std::fs::write(dirs.tree().join("calc.py"), "def add(a, b):\n    return a - b\n").unwrap();
        let models = Models::play([
            Reply::Say(
                "I look first.\n".to_owned(),
                vec![
                    ("read".to_owned(), json!({"path": "calc.py"})),
                    ("list".to_owned(), json!({})),
                    ("search".to_owned(), json!({"pattern": "ret.rn"})),
                ],
            ),
            call("edit", json!({"path": "calc.py", "edits": [{"old": "a - b", "new": "a + b"}]})),
            call("run", json!({"command": "cat calc.py; exit 3"})),
            call("write", json!({"path": "notes/why.md", "content": "because\n"})),
            call("done", json!({"summary": "add adds"})),
        ])
        .await;
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink: Sink = {
            let events = events.clone();
            Arc::new(move |e| events.lock().unwrap().push(e))
        };
        let order = develop();
        let run_result = engine(models.provider(api)).run(&order, &attempt_env(&dirs), sink).await.unwrap();
        assert!(
            matches!(&run_result.result, StepOutcome::Edited { summary } if summary == "add adds"),
            "{api:?} {:?}",
            run_result.result
        );
        let read = |name: &str| std::fs::read_to_string(dirs.tree().join(name)).unwrap();
        assert_eq!(
            (read("calc.py").as_str(), read("notes/why.md").as_str()),
            ("def add(a, b):\n    return a + b\n", "because\n")
        );

        // Requests contain the order and the tools first, then each result; results of parallel calls share one turn,
        // in order.
        let seen = models.seen();
        assert_eq!(seen.len(), 5, "{api:?}");
        let first = seen[0].body.to_string();
        for part in ["THE-ORDER", "You are a dev.", "\"done\"", "\"ask\"", "\"run\"", "\"summary\""] {
            assert!(first.contains(part), "{api:?} lacks {part}: {first}");
        }
        assert!(seen.iter().all(|r| r.body.to_string().contains("THE-ORDER")));
        let last = results(&seen[4].body);
        assert_eq!(last.len(), 6, "{api:?} {last:?}");
        for (n, part) in [
            "calc.py, lines 1 to 2 of 2",
            "calc.py  32",
            "calc.py:2: ",
            "1 edit applied",
            "exit code 3",
            "notes/why.md: created",
        ]
        .iter()
        .enumerate()
        {
            assert!(last[n].contains(part), "{api:?} {n}: {}", last[n]);
        }
        // The key is in its header and nowhere else; the model is exactly the configured one.
        let headers = format!("{:?}", seen[0].headers);
        assert!(headers.contains(KEY), "{api:?} {headers}");
        let named = seen[0].path.contains("/some-model-high:") || seen[0].body["model"] == "some-model-high";
        assert!(named, "{api:?} {} {}", seen[0].path, seen[0].body["model"]);
        for effort in ["thinking", "reasoning", "effort"] {
            assert!(!first.contains(effort), "{api:?} {effort} {first}");
        }

        // The usage reported by the provider is charged.
        let usage = run_result.usage.unwrap();
        assert_eq!((usage.tokens, usage.turns), (550, 5), "{api:?}");
        let usage_by_model = &run_result.usage_by_model[0];
        assert_eq!(
            (usage_by_model.model.as_str(), usage_by_model.calls, usage_by_model.input, usage_by_model.output),
            ("acme/some-model-high", 5, 500, 50),
            "{api:?}"
        );
        let cached = if api == Api::Ollama { 0 } else { 200 };
        assert_eq!((usage_by_model.cached, usage_by_model.priced), (cached, false), "{api:?}");
        // Three APIs report reasoning tokens, which are part of the output.
        let reports_reasoning = matches!(api, Api::OpenAi | Api::OpenAiResponses | Api::Gemini);
        assert_eq!(usage_by_model.reasoning, if reports_reasoning { 15 } else { 0 }, "{api:?}");
        if api == Api::Anthropic {
            assert_eq!(usage_by_model.cache_written, 100);
        }
        let events = events.lock().unwrap();
        assert!(events.iter().any(|e| matches!(e, EngineEvent::Said(t) if t == "I look first.")), "{api:?} {events:?}");
        assert!(
            events.iter().any(|e| matches!(e, EngineEvent::Did(t) if t == "run cat calc.py; exit 3")),
            "{events:?}"
        );
        assert!(events.iter().any(|e| matches!(e, EngineEvent::Spent(u) if u.turns == 5)));
        let transcript = transcript(&run_result);
        assert!(transcript.lines().all(|l| serde_json::from_str::<Value>(l).is_ok()));
        assert!(
            transcript.contains("I look first.") && transcript.contains("exit code 3") && !transcript.contains(KEY)
        );
        assert!(run_result.session.unwrap().starts_with("llm:acme/some-model-high:"));
    }
}

#[tokio::test]
async fn each_role_has_its_tools_and_its_result() {
    let dirs = AttemptDirs::new();
    std::fs::write(dirs.tree().join("a.rs"), "fn main() {}\n").unwrap();
    let tools = |models: &Models| -> Vec<String> {
        let body = models.seen()[0].body.clone();
        body["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_owned()).collect()
    };
    let of = |step| {
        let mut order = order(step, None);
        order.diff = DiffStat {
            files: vec![FileChange {
                path: "gone.rs".to_owned(),
                kind: FileKind::Deleted,
                added: 0,
                removed: 1,
                binary: false,
                blob: None,
            }],
            files_total: 1,
            removed: 1,
            ..DiffStat::default()
        };
        order
    };

    let models = Models::play([call("done", json!({"notes": "a.rs:1 is all there is"}))]).await;
    let run_result = work(models.provider(Api::Anthropic), &of(Step::Explore), &dirs).await;
    assert!(matches!(run_result.result, StepOutcome::Notes(n) if n.contains("a.rs:1")));
    assert_eq!(tools(&models), ["read", "list", "search", "ask", "done"]);

    // A cyclic plan is returned to the model; a good one is accepted.
    let circle = json!({"tasks": [{"name": "a", "title": "A", "text": "t", "needs": ["b"]}, {"name": "b", "title": "B", "text": "t", "needs": ["a"]}]});
    let good = json!({"tasks": [{"name": "a", "title": "A", "text": "t"}, {"name": "b", "title": "B", "text": "t", "needs": ["a"]}]});
    let models = Models::play([call("done", circle), call("done", good)]).await;
    let run_result = work(models.provider(Api::Anthropic), &of(Step::Plan), &dirs).await;
    assert!(matches!(run_result.result, StepOutcome::Tasks(t) if t.len() == 2 && t[1].needs == ["a"]));
    assert_eq!(tools(&models), ["read", "list", "search", "ask", "done"]);
    assert!(results(&models.seen()[1].body)[0].contains("depends on itself"));

    // Findings on files that do not exist are returned to the model. Deleted files are in the diff, so findings on them
    // are valid.
    let judged = |path: &str| json!({"verdict": "rework", "summary": "no", "findings": [{"path": path, "line": 1, "text": "wrong"}]});
    let models = Models::play([
        call("run", json!({"command": "cat a.rs"})),
        call("done", judged("nowhere.rs")),
        call("done", judged("gone.rs")),
    ])
    .await;
    let run_result = work(models.provider(Api::Anthropic), &of(Step::Review), &dirs).await;
    assert!(
        matches!(run_result.result, StepOutcome::Judged { verdict: Verdict::Rework, findings, .. } if findings[0].path == "gone.rs")
    );
    assert_eq!(tools(&models), ["read", "list", "search", "run", "ask", "done"]);
    assert!(results(&models.seen()[2].body)[1].contains("nowhere.rs"));

    let models =
        Models::play([call("ask", json!({"question": ""})), call("ask", json!({"question": "Which port?"}))]).await;
    let run_result = work(models.provider(Api::Anthropic), &develop(), &dirs).await;
    assert!(matches!(run_result.result, StepOutcome::Asked { question: q, to: AskedTo::Person } if q == "Which port?"));
    assert_eq!(tools(&models), ["read", "list", "search", "edit", "patch", "write", "run", "ask", "done"]);
    let models = Models::play([call("ask", json!({"question": "Where is main?", "to": "scout"}))]).await;
    let run_result = work(models.provider(Api::Anthropic), &develop(), &dirs).await;
    assert!(
        matches!(run_result.result, StepOutcome::Asked { question: q, to: AskedTo::Scout } if q == "Where is main?")
    );
}

#[tokio::test]
async fn a_result_with_unknown_fields_is_refused_and_four_invalid_ones_end_the_session() {
    let bad = json!({"tasks": [{"name": "a", "title": "A", "text": "t", "approved": true}]});
    let models = Models::play((0..9).map(|n| {
        let mut bad = bad.clone();
        bad["tasks"][0]["name"] = json!(format!("t{n}"));
        call("done", bad)
    }))
    .await;
    let run_result = work(models.provider(Api::OpenAi), &order(Step::Plan, None), &AttemptDirs::new()).await;
    let StepOutcome::Failed(why) = run_result.result else { panic!("{:?}", run_result.result) };
    assert!(why.contains("refused 4 times") && why.contains("approved"), "{why}");
    assert_eq!(models.seen().len(), 4);
}

#[tokio::test]
async fn done_next_to_a_failed_call_is_not_accepted() {
    let dirs = AttemptDirs::new();
    let models = Models::play([
        calls(&[("read", json!({"path": "none"})), ("done", json!({"summary": "all is well"}))]),
        call("done", json!({"summary": "nothing to do"})),
    ])
    .await;
    let run_result = work(models.provider(Api::Anthropic), &develop(), &dirs).await;
    assert!(matches!(&run_result.result, StepOutcome::Edited { summary } if summary == "nothing to do"));
    assert!(results(&models.seen()[1].body)[1].contains("not accepted: read none"));
}

#[tokio::test]
async fn a_model_that_only_talks_or_goes_in_circles_is_stopped() {
    let models = Models::play([text("I think."), text("I think so."), text("Indeed."), text("Never asked.")]).await;
    let run_result = work(models.provider(Api::Anthropic), &develop(), &AttemptDirs::new()).await;
    assert!(
        matches!(&run_result.result, StepOutcome::Unavailable { why, fix: Some(_), .. } if why.contains("without calling a tool")),
        "{:?}",
        run_result.result
    );
    assert_eq!(models.seen().len(), 3);
    assert!(models.seen()[1].body.to_string().contains("You did not call a tool"));

    let models = Models::play((0..9).map(|_| call("list", json!({"path": "."})))).await;
    let run_result = work(models.provider(Api::OpenAi), &develop(), &AttemptDirs::new()).await;
    assert!(
        matches!(&run_result.result, StepOutcome::Failed(why) if why.contains("in circles")),
        "{:?}",
        run_result.result
    );
    assert_eq!(models.seen().len(), 4);
    assert!(transcript(&run_result).contains("\"end\":\"the model went in circles"));
}

#[tokio::test]
async fn caps_on_turns_tokens_and_money_hold() {
    let endless = || (0..300).map(|n| call("list", json!({"path": ".", "depth": n + 1})));
    let capped = |caps: Usage| Order { caps: Usage { wall_ms: 60_000, ..caps }, ..develop() };
    let used_up = |run_result: &EngineResult| match &run_result.result {
        StepOutcome::BudgetExhausted { why, .. } => {
            assert!(why.contains("budget of this attempt is exhausted"), "{why}")
        }
        other => panic!("{other:?}"),
    };

    let models = Models::play(endless()).await;
    let run_result =
        work(models.provider(Api::Anthropic), &capped(Usage { turns: 3, ..Usage::default() }), &AttemptDirs::new())
            .await;
    used_up(&run_result);
    assert_eq!((models.seen().len(), run_result.usage.unwrap().turns), (3, 3));

    // The last calls request shorter answers, so the charge never exceeds the cap.
    let models = Models::play(endless()).await;
    let cap = 12_000;
    let run_result =
        work(models.provider(Api::Anthropic), &capped(Usage { tokens: cap, ..Usage::default() }), &AttemptDirs::new())
            .await;
    used_up(&run_result);
    assert!(run_result.usage.unwrap().tokens <= cap && models.seen().len() > 10, "{:?}", run_result.usage);
    let asked: Vec<u64> = models.seen().iter().map(|r| r.body["max_tokens"].as_u64().unwrap()).collect();
    assert!(asked[0] == 4_000 && asked[asked.len() - 1] < 4_000, "{asked:?}");

    // With a cost limit and an unknown price, no call is made.
    let models = Models::play(endless()).await;
    let run_result = work(
        models.provider(Api::Anthropic),
        &capped(Usage { cost_micros: 50_000, ..Usage::default() }),
        &AttemptDirs::new(),
    )
    .await;
    assert!(
        matches!(&run_result.result, StepOutcome::Failed(why) if why.contains("no known price")),
        "{:?}",
        run_result.result
    );
    assert!(models.seen().is_empty());

    let prices = Arc::new(Prices::load(PRICES).unwrap());
    let registry = Registry::new(Sandbox::from_process_env(&[]), models.settings(Api::Anthropic), system_clock())
        .with_prices(prices);
    let engine = registry.get(&EngineSpec::parse("llm:acme/some-model")).unwrap();
    let order = capped(Usage { cost_micros: 50_000, ..Usage::default() });
    let run_result = engine.run(&order, &attempt_env(&AttemptDirs::new()), Arc::new(|_| {})).await.unwrap();
    used_up(&run_result);
    let usage = run_result.usage.unwrap();
    assert!(
        usage.cost_micros > 1_000 && usage.cost_micros <= 50_000 && run_result.usage_by_model[0].priced,
        "{usage:?}"
    );
}

#[tokio::test]
async fn dropping_a_session_ends_its_command() {
    let dirs = AttemptDirs::new();
    let models = Models::play([call("run", json!({"command": "echo $$ > pid; sleep 600"}))]).await;
    let (provider, order, attempt_env) = (models.provider(Api::Anthropic), develop(), attempt_env(&dirs));
    let session = tokio::spawn(async move { engine(provider).run(&order, &attempt_env, Arc::new(|_| {})).await });
    let pid = eventually(|| std::fs::read_to_string(dirs.tree().join("pid")).ok().filter(|t| t.ends_with('\n'))).await;
    session.abort();
    let gone = std::path::PathBuf::from(format!("/proc/{}", pid.trim()));
    eventually(|| {
        let stat = std::fs::read_to_string(gone.join("stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    })
    .await;
}
