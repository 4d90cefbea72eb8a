//! Servers that imitate the Chat Completions API: their habits, wrong addresses, cut answers, calls as text, and the
//! cost that they report.

use super::engines_contract::AttemptDirs;
use super::llm::{develop, work};
use super::support::models::{Models, Reply, call, text};
use serde_json::{Value, json};
use skep::ports::engine::{EngineResult, StepOutcome};
use skep::providers::settings::{Api, Provider};

const DONE: &str = r#"{"summary":"made it"}"#;

fn is_done(run_result: &EngineResult) -> bool {
    matches!(&run_result.result, StepOutcome::Edited { summary } if summary == "made it")
}

fn fix(run_result: &EngineResult) -> (&str, &str) {
    match &run_result.result {
        StepOutcome::Unavailable { why, fix: Some(fix), until: None } => (why, fix),
        other => panic!("{other:?}"),
    }
}

async fn played(replies: Vec<Reply>) -> (EngineResult, usize) {
    let models = Models::play(replies).await;
    let run_result = work(models.provider(Api::OpenAi), &develop(), &AttemptDirs::new()).await;
    let seen = models.seen().len();
    (run_result, seen)
}

fn stream(chunks: &[Value], end: &str) -> Reply {
    Reply::Raw(chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect::<String>() + end)
}

fn chunk(delta: Value, reason: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
}

#[tokio::test]
async fn the_habits_of_compatible_servers_do_not_matter() {
    let made = |piece: Value| chunk(json!({"tool_calls": [piece]}), Value::Null);
    let end = || chunk(json!({}), json!("tool_calls"));
    let function = json!({"name": "done", "arguments": DONE});
    for (habit, reply) in [
        ("no index", stream(&[made(json!({"id": "1", "function": function})), end()], "data: [DONE]\n\n")),
        ("no id", stream(&[made(json!({"index": 0, "function": function})), end()], "data: [DONE]\n\n")),
        (
            "arguments as an object",
            stream(
                &[made(json!({"index": 0, "id": "1", "function": {"name": "done", "arguments": {"summary": "made it"}}})), end()],
                "data: [DONE]\n\n",
            ),
        ),
        ("no [DONE]", stream(&[made(json!({"index": 0, "id": "1", "function": function})), end()], "")),
        ("no reason", stream(&[made(json!({"index": 0, "id": "1", "function": function}))], "data: [DONE]\n\n")),
        ("comments", stream(&[made(json!({"index": 0, "id": "1", "function": function})), end()], ": keep-alive\n\ndata: [DONE]\n\n")),
        (
            "no stream",
            Reply::Status(
                200,
                vec![("content-type", "application/json".to_owned())],
                json!({"choices": [{"message": {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": function}]}, "finish_reason": "tool_calls"}],
                    "usage": {"prompt_tokens": 10, "completion_tokens": 5}}).to_string(),
            ),
        ),
    ] {
        let (run_result, seen) = played(vec![reply]).await;
        assert!(is_done(&run_result) && seen == 1, "{habit}: {:?}", run_result.result);
    }
}

#[tokio::test]
async fn a_wrong_address_is_reported_at_once_and_costs_nothing() {
    let page = "<!DOCTYPE html><html><head><title>Models</title></head></html>";
    for (body, part) in [
        (page.to_owned(), "web page"),
        (r#"{"error":"Unexpected endpoint or method. (POST /chat/completions)"}"#.to_owned(), "Unexpected endpoint"),
        ("It works!".to_owned(), "It works!"),
    ] {
        let (run_result, seen) = played(vec![Reply::Status(200, vec![], body)]).await;
        let (why, fix) = fix(&run_result);
        assert!(why.contains(part) && fix.contains("providers.acme.base_url"), "{why}; {fix}");
        assert_eq!((seen, run_result.usage.unwrap().tokens), (1, 0));
    }
}

#[tokio::test]
async fn answers_cut_at_the_output_limit_name_the_setting() {
    let cut = || stream(&[chunk(json!({"reasoning_content": "hm "}), json!("length"))], "data: [DONE]\n\n");
    let (run_result, seen) = played(vec![cut(), cut(), cut(), cut()]).await;
    let (why, fix) = fix(&run_result);
    assert!(seen == 3 && why.contains("output limit") && fix.contains("providers.acme."), "{seen} {why}; {fix}");
}

#[tokio::test]
async fn a_blocked_answer_and_an_overflow_within_a_stream_are_told_apart() {
    let (run_result, seen) =
        played(vec![stream(&[chunk(json!({"content": ""}), json!("content_filter"))], "data: [DONE]\n\n")]).await;
    let (why, fix) = fix(&run_result);
    assert!(seen == 1 && why.contains("content_filter") && fix.contains("blocked the content"), "{why}; {fix}");

    let dirs = AttemptDirs::new();
    std::fs::write(dirs.tree().join("big.txt"), "a line of text\n".repeat(1_000)).unwrap();
    let overflow = json!({"error": {"message": "The number of tokens to keep from the initial prompt is greater than the context length"}});
    let models = Models::play([
        call("read", json!({"path": "big.txt"})),
        stream(&[overflow], ""),
        call("done", json!({"summary": "made it"})),
    ])
    .await;
    let run_result = work(models.provider(Api::OpenAi), &develop(), &dirs).await;
    assert!(is_done(&run_result), "{:?}", run_result.result);
}

#[tokio::test]
async fn calls_and_answers_as_text_are_taken() {
    let written = format!("<tool_call>\n{}\n</tool_call>", json!({"name": "list", "arguments": {}}));
    let (run_result, seen) = played(vec![text(&written), text(&format!("Done.\n\n```json\n{DONE}\n```"))]).await;
    assert!(is_done(&run_result) && seen == 2, "{seen} {:?}", run_result.result);
}

#[tokio::test]
async fn a_reported_cost_is_charged_and_needs_no_price() {
    let end = json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 10, "cost": 0.0123}});
    let done = chunk(
        json!({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "done", "arguments": DONE}}]}),
        json!("tool_calls"),
    );
    for (limit, reported) in [
        (0, end.clone()),
        (5_000_000, end.clone()),
        (5_000_000, json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 10}})),
    ] {
        let models = Models::play([stream(&[done.clone(), reported.clone()], "data: [DONE]\n\n")]).await;
        let provider = Provider { name: "openrouter".to_owned(), ..models.provider(Api::OpenAi) };
        let mut order = develop();
        order.caps.cost_micros = limit;
        order.caps.tokens = 0;
        let run_result = super::llm::work_as("llm:openrouter/some/model", provider, &order, &AttemptDirs::new()).await;
        assert!(is_done(&run_result), "{:?}", run_result.result);
        // Without a reported cost, what was reserved for it is charged: all that was left.
        let expected = if reported.to_string().contains("cost") { 12_300 } else { limit };
        assert_eq!(run_result.usage.unwrap().cost_micros, expected);
        assert!(run_result.usage_by_model[0].priced);
    }
}
