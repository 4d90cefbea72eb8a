//! Long conversations: what is dropped, what stays, and what the provider reads from its cache.

use super::engines_contract::AttemptDirs;
use super::llm::{develop, transcript, work};
use super::support::models::{Models, call};
use serde_json::{Value, json};
use skep::ports::engine::StepOutcome;
use skep::providers::settings::{Api, Provider};

#[tokio::test]
async fn cache_markers_are_set_for_providers_that_need_them() {
    let models = Models::play([call("list", json!({})), call("done", json!({"summary": "x"}))]).await;
    work(models.provider(Api::Anthropic), &develop(), &AttemptDirs::new()).await;
    let body = &models.seen()[1].body;
    assert_eq!(body["system"][0]["cache_control"]["type"], "ephemeral");
    let messages = body["messages"].as_array().unwrap();
    let last = messages.last().unwrap()["content"].as_array().unwrap().last().unwrap();
    assert_eq!(last["cache_control"]["type"], "ephemeral");
    // The message before the last turn keeps its breakpoint: a turn with many parts would else lose the cache.
    assert!(messages[0].to_string().contains("cache_control"));
    let models = Models::play([call("done", json!({"summary": "x"}))]).await;
    work(models.provider(Api::OpenAi), &develop(), &AttemptDirs::new()).await;
    assert!(!models.seen()[0].body.to_string().contains("cache"));
    assert_eq!(models.seen()[0].body.get("reasoning_effort"), None);
}

#[tokio::test]
async fn a_long_conversation_stays_within_the_window_and_keeps_its_order() {
    let dirs = AttemptDirs::new();
    for n in 0..40 {
        std::fs::write(dirs.tree().join(format!("f{n}.txt")), format!("{n} line of text\n").repeat(400)).unwrap();
    }
    let reads = (0..40).map(|n| call("read", json!({"path": format!("f{n}.txt")})));
    let models = Models::play(reads.chain([call("done", json!({"summary": "read all"}))])).await;
    let provider = Provider { context_window: 20_000, max_output_tokens: 2_000, ..models.provider(Api::Anthropic) };
    let run_result = work(provider, &develop(), &dirs).await;
    assert!(matches!(run_result.result, StepOutcome::Edited { .. }), "{:?}", run_result.result);
    let seen = models.seen();
    assert_eq!(seen.len(), 41);
    for request in &seen {
        let body = request.body.to_string();
        assert!(body.contains("THE-ORDER") && body.len() < 3 * 20_000, "{}", body.len());
        // However much was dropped, the last message still ends with a cache breakpoint.
        assert!((2..=4).contains(&body.matches("cache_control").count()), "at most four breakpoints are allowed");
        let last = request.body["messages"].as_array().unwrap().last().unwrap()["content"].as_array().unwrap().last();
        assert!(last.unwrap().get("cache_control").is_some());
        // Every result belongs to a call in the message before it.
        let messages = request.body["messages"].as_array().unwrap();
        let ids = |m: &Value, key: &str| -> Vec<String> {
            m["content"].as_array().map_or(vec![], |parts| {
                parts.iter().filter_map(|p| p[key].as_str().map(str::to_owned)).filter(|id| !id.is_empty()).collect()
            })
        };
        for pair in messages.windows(2) {
            let calls = ids(&pair[0], "id");
            if !calls.is_empty() {
                assert_eq!(calls, ids(&pair[1], "tool_use_id"));
            }
        }
    }
    assert!(seen[40].body.to_string().contains("removed to save space"));
    assert!(transcript(&run_result).contains("\"shortened\":"));
}
