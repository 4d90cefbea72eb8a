//! Reasoning effort in the form of each API, and the context window of Ollama.

use super::engines_contract::AttemptDirs;
use super::llm::{attempt_env, develop};
use super::support::models::{Models, Reply, call, with};
use crate::support::engines::system_clock;
use serde_json::{Value, json};
use skep::adapters::engine::Registry;
use skep::domain::EngineSpec;
use skep::platform::sandbox::Sandbox;
use skep::ports::engine::{EngineResult, Engines, StepOutcome};
use skep::providers::settings::{Api, Provider};
use std::sync::Arc;

fn done() -> Reply {
    call("done", json!({"summary": "x"}))
}

async fn work(provider: Provider, engine: &str, dirs: &AttemptDirs) -> EngineResult {
    let registry = Registry::new(Sandbox::from_process_env(&[]), Arc::new(with(provider)), system_clock());
    let engine = registry.get(&EngineSpec::parse(engine)).unwrap();
    engine.run(&develop(), &attempt_env(dirs), Arc::new(|_| {})).await.unwrap()
}

/// Returns the request body that is sent for a model with an effort.
async fn sent(api: Api, model: &str) -> Value {
    let models = Models::play([done()]).await;
    let provider = Provider { max_output_tokens: 16_000, ..models.provider(api) };
    let run_result = work(provider, &format!("llm:acme/{model}"), &AttemptDirs::new()).await;
    assert!(matches!(run_result.result, StepOutcome::Edited { .. }), "{:?}", run_result.result);
    // Prices and the ledger use the model's name without the effort.
    assert_eq!(run_result.usage_by_model[0].model, format!("acme/{}", model.split('#').next().unwrap()));
    models.seen()[0].body.clone()
}

#[tokio::test]
async fn each_api_receives_the_effort_in_its_form_and_the_model_name_unchanged() {
    for (api, model, at, expected) in [
        (Api::OpenAi, "gpt-5#high", "/reasoning_effort", json!("high")),
        (Api::OpenAi, "some-model-high#low", "/reasoning_effort", json!("low")),
        (Api::OpenAiResponses, "gpt-5#medium", "/reasoning/effort", json!("medium")),
        (Api::Anthropic, "claude-opus-4-6#high", "/output_config/effort", json!("high")),
        (Api::Anthropic, "claude-sonnet-4-5#high", "/thinking/budget_tokens", json!(8_000)),
        (Api::Anthropic, "some-model-high#low", "/thinking/budget_tokens", json!(2_000)),
        (Api::Gemini, "gemini-3-pro#low", "/generationConfig/thinkingConfig/thinkingLevel", json!("LOW")),
        (Api::Ollama, "gpt-oss:20b#high", "/think", json!("high")),
        (Api::Ollama, "qwen3:8b#low", "/think", json!(true)),
    ] {
        let body = sent(api, model).await;
        assert_eq!(body.pointer(at), Some(&expected), "{api:?} {model} {body}");
        if api != Api::Gemini {
            assert_eq!(body["model"], model.split('#').next().unwrap(), "{api:?}");
        }
        let without = sent(api, model.split('#').next().unwrap()).await;
        assert_eq!(without.pointer(at), None, "{api:?} {model}");
    }
    let registry = Registry::new(Sandbox::from_process_env(&[]), Arc::default(), system_clock());
    let why = registry.get(&EngineSpec::parse("llm:acme/m#hihg")).map(|_| ()).unwrap_err();
    assert!(why.contains("unknown effort \"hihg\"; write low, medium or high"), "{why}");
}

#[tokio::test]
async fn ollama_receives_the_window_and_a_truncated_prompt_is_a_fault() {
    let models = Models::play([done()]).await;
    let provider = Provider { context_window: 24_000, ..models.provider(Api::Ollama) };
    work(provider, "llm:acme/m", &AttemptDirs::new()).await;
    let body = &models.seen()[0].body;
    assert_eq!((&body["options"]["num_ctx"], &body["options"]["num_predict"]), (&json!(24_000), &json!(4_000)));
    assert_eq!((&body["truncate"], &body["shift"]), (&json!(false), &json!(false)));

    // If Ollama reports that the prompt is too long, the conversation is shortened once.
    let dirs = AttemptDirs::new();
    std::fs::write(dirs.tree().join("big.txt"), "a line of text\n".repeat(2_000)).unwrap();
    let too_long = Reply::Status(
        400,
        vec![],
        r#"{"error":"prompt too long; exceeded max context length by 812 tokens"}"#.to_owned(),
    );
    let read = || call("read", json!({"path": "big.txt", "lines": 2_000}));
    let models = Models::play([read(), too_long, done()]).await;
    let run_result = work(models.provider(Api::Ollama), "llm:acme/m", &dirs).await;
    assert!(matches!(run_result.result, StepOutcome::Edited { .. }), "{:?}", run_result.result);
    let sizes: Vec<usize> = models.seen().iter().map(|r| r.body.to_string().len()).collect();
    assert!(sizes[2] < sizes[1] - 3_000, "{sizes:?}");

    // If Ollama truncates silently, the reported input (100 tokens) reveals it.
    let models = Models::play([read(), done()]).await;
    let run_result = work(models.provider(Api::Ollama), "llm:acme/m", &dirs).await;
    let StepOutcome::Unavailable { why, fix, .. } = run_result.result else { panic!("{:?}", run_result.result) };
    assert!(why.contains("read 100 of about") && why.contains("conversation was truncated"), "{why}");
    assert!(fix.unwrap().contains("providers.acme.context_window"));
}

#[tokio::test]
async fn ollama_gets_its_reasoning_back_and_its_errors_are_reported() {
    let line = |message: Value| format!("{}\n", json!({"model": "m", "message": message, "done": false}));
    let end = json!({"done": true, "done_reason": "stop", "message": {"role": "assistant", "content": ""},
        "prompt_eval_count": 50, "prompt_eval_cached_count": 20, "eval_count": 7});
    let calls = json!([{"function": {"name": "list", "arguments": {}}}]);
    let thoughtful = line(json!({"role": "assistant", "content": "", "thinking": "Let me "}))
        + &line(json!({"role": "assistant", "content": "I look.", "thinking": "see.", "tool_calls": calls}))
        + &format!("{end}\n");
    let failing = line(json!({"role": "assistant", "content": "I"}))
        + "{\"error\":\"an error was encountered while running the model\"}\n";
    let models = Models::play([Reply::Raw(thoughtful), Reply::Raw(failing), done()]).await;
    let run_result = work(models.provider(Api::Ollama), "llm:acme/m#high", &AttemptDirs::new()).await;
    assert!(matches!(run_result.result, StepOutcome::Edited { .. }), "{:?}", run_result.result);
    let messages = models.seen()[2].body["messages"].clone();
    assert_eq!(messages[2]["thinking"], "Let me see.");
    assert_eq!(
        (&messages[2]["content"], &messages[2]["tool_calls"][0]["function"]["name"]),
        (&json!("I look."), &json!("list"))
    );
    assert_eq!((&messages[3]["role"], &messages[3]["tool_name"]), (&json!("tool"), &json!("list")));
    // The second answer broke off after it began, so its reservation is charged in full.
    let usage_by_model = &run_result.usage_by_model[0];
    assert!(
        usage_by_model.calls == 3 && usage_by_model.cached == 20 && usage_by_model.output == 7 + 4_000 + 10,
        "{usage_by_model:?}"
    );
}
