//! How hard a model is to think, as each API is told it; and the window, as Ollama is.

use super::engines_contract::Place;
use super::llm::{bench, develop};
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

async fn work(provider: Provider, engine: &str, place: &Place) -> EngineResult {
    let registry = Registry::new(Sandbox::from_process_env(&[]), Arc::new(with(provider)), system_clock());
    let engine = registry.get(&EngineSpec::parse(engine)).unwrap();
    engine.run(&develop(), &bench(place), Arc::new(|_| {})).await.unwrap()
}

/// What is sent to a model for an effort.
async fn sent(api: Api, model: &str) -> Value {
    let models = Models::play([done()]).await;
    let provider = Provider { max_output_tokens: 16_000, ..models.provider(api) };
    let worked = work(provider, &format!("llm:acme/{model}"), &Place::new()).await;
    assert!(matches!(worked.result, StepOutcome::Edited { .. }), "{:?}", worked.result);
    // Prices and books know the model without the effort.
    assert_eq!(worked.usage_by_model[0].model, format!("acme/{}", model.split('#').next().unwrap()));
    models.seen()[0].body.clone()
}

#[tokio::test]
async fn each_api_is_told_the_effort_as_it_takes_it_and_the_models_name_stays() {
    for (api, model, at, told) in [
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
        assert_eq!(body.pointer(at), Some(&told), "{api:?} {model} {body}");
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
async fn ollama_is_told_the_window_and_a_prompt_it_cut_is_not_taken_for_read() {
    let models = Models::play([done()]).await;
    let provider = Provider { context_window: 24_000, ..models.provider(Api::Ollama) };
    work(provider, "llm:acme/m", &Place::new()).await;
    let body = &models.seen()[0].body;
    assert_eq!((&body["options"]["num_ctx"], &body["options"]["num_predict"]), (&json!(24_000), &json!(4_000)));
    assert_eq!((&body["truncate"], &body["shift"]), (&json!(false), &json!(false)));

    // Its own word that it is too long: the conversation is shortened, once.
    let place = Place::new();
    std::fs::write(place.tree().join("big.txt"), "a line of text\n".repeat(2_000)).unwrap();
    let too_long = Reply::Status(
        400,
        vec![],
        r#"{"error":"prompt too long; exceeded max context length by 812 tokens"}"#.to_owned(),
    );
    let read = || call("read", json!({"path": "big.txt", "lines": 2_000}));
    let models = Models::play([read(), too_long, done()]).await;
    let worked = work(models.provider(Api::Ollama), "llm:acme/m", &place).await;
    assert!(matches!(worked.result, StepOutcome::Edited { .. }), "{:?}", worked.result);
    let sizes: Vec<usize> = models.seen().iter().map(|r| r.body.to_string().len()).collect();
    assert!(sizes[2] < sizes[1] - 3_000, "{sizes:?}");

    // Without that word: by what it says it read (100 tokens).
    let models = Models::play([read(), done()]).await;
    let worked = work(models.provider(Api::Ollama), "llm:acme/m", &place).await;
    let StepOutcome::Unavailable { why, fix, .. } = worked.result else { panic!("{:?}", worked.result) };
    assert!(why.contains("it read 100 tokens of about") && why.contains("cut the conversation"), "{why}");
    assert!(fix.unwrap().contains("providers.acme.window"));
}

#[tokio::test]
async fn ollamas_thoughts_go_back_with_the_calls_they_led_to_and_its_errors_are_told() {
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
    let worked = work(models.provider(Api::Ollama), "llm:acme/m#high", &Place::new()).await;
    assert!(matches!(worked.result, StepOutcome::Edited { .. }), "{:?}", worked.result);
    let messages = models.seen()[2].body["messages"].clone();
    assert_eq!(messages[2]["thinking"], "Let me see.");
    assert_eq!(
        (&messages[2]["content"], &messages[2]["tool_calls"][0]["function"]["name"]),
        (&json!("I look."), &json!("list"))
    );
    assert_eq!((&messages[3]["role"], &messages[3]["tool_name"]), (&json!("tool"), &json!("list")));
    // The second answer began and broke off: it is charged in full.
    let usage_by_model = &worked.usage_by_model[0];
    assert!(
        usage_by_model.calls == 3 && usage_by_model.cached == 20 && usage_by_model.output == 7 + 4_000 + 10,
        "{usage_by_model:?}"
    );
}
