//! One call of Ollama's native API. The library cannot set the context window; Ollama then uses a small one and
//! silently drops the beginning of a longer prompt.

use super::super::context::tokens;
use super::super::fault::{CallContext, Fault, Kind};
use super::super::history::{Call, History, Turn};
use super::super::tools::Spec;
use super::{Answer, StreamDelta, Wire, http};
use crate::providers::meter::WireUsage;
use crate::providers::settings::Effort;
use genai::chat::{ContentPart, ToolCall};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// A prompt of at least this many estimated tokens was truncated if fewer than 1 / `TRUNCATION_FACTOR` of them were
/// read.
const TRUNCATION_MIN_TOKENS: u64 = 6_000;
const TRUNCATION_FACTOR: u64 = 3;

/// Builds the body of the call.
pub fn body(wire: &Wire, system: &str, history: &History, tools: &[Spec], max_output_tokens: u32) -> Value {
    let mut messages =
        vec![json!({"role": "system", "content": system}), json!({"role": "user", "content": history.opening()})];
    for turn in &history.turns {
        messages.push(assistant_message(turn));
        let result =
            |r: &super::super::history::Outcome| json!({"role": "tool", "tool_name": r.tool, "content": r.text});
        messages.extend(turn.results.iter().map(result));
        messages.extend(turn.nudge.iter().map(|nudge| json!({"role": "user", "content": nudge})));
    }
    let tool = |s: &Spec| json!({"type": "function", "function": {"name": s.name, "description": s.description, "parameters": s.schema}});
    let mut body = json!({
        "model": wire.model,
        "messages": messages,
        "tools": tools.iter().map(tool).collect::<Vec<_>>(),
        "stream": true,
        // A prompt that does not fit must be an error, not lose its beginning.
        "truncate": false,
        "shift": false,
        "options": {"num_ctx": wire.provider.context_window, "num_predict": max_output_tokens},
    });
    if let (Some(effort), Some(fields)) = (wire.effort, body.as_object_mut()) {
        fields.insert("think".to_owned(), think(&wire.model, effort));
    }
    body
}

/// Returns the reasoning setting. Only these models have effort levels; the others have reasoning on or off.
fn think(model: &str, effort: Effort) -> Value {
    if model.contains("gpt-oss") { json!(effort.name()) } else { json!(true) }
}

fn assistant_message(turn: &Turn) -> Value {
    let mut message = json!({"role": "assistant", "content": turn.text});
    let Some(fields) = message.as_object_mut() else { return message };
    if !turn.calls.is_empty() {
        let call = |c: &Call| json!({"function": {"name": c.tool, "arguments": c.args}});
        fields.insert("tool_calls".to_owned(), turn.calls.iter().map(call).collect());
    }
    let thought = |part: &ContentPart| part.as_reasoning_content().map(str::to_owned);
    if let Some(thought) = turn.reasoning_parts.iter().find_map(thought) {
        fields.insert("thinking".to_owned(), thought.into());
    }
    message
}

/// Makes one call. Dropping the future cancels it.
///
/// # Errors
/// The fault, classified by what to do next.
pub async fn ask(
    wire: &Wire,
    context: CallContext<'_>,
    body: Value,
    max_output_tokens: u32,
    on_delta: &(dyn Fn(StreamDelta<'_>) + Sync),
) -> Result<Answer, Fault> {
    let body = body.to_string();
    let sent = tokens(body.len());
    let mut lines = http::post(wire, context, "api/chat", body, max_output_tokens).await?;
    let mut answer = Answer::default();
    let (mut calls, mut thought, mut began) = (Vec::new(), String::new(), false);
    while let Some(line) = lines.next().await? {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Ok(frame) = serde_json::from_slice::<Value>(&line) else {
            let wrong = context.wrong_answer(&String::from_utf8_lossy(&line)).filter(|_| !began);
            return Err(wrong.unwrap_or_else(|| context.transient("unreadable answer", true)));
        };
        if frame.get("error").is_some() {
            return Err(context.response(None, &HeaderMap::new(), &frame.to_string(), began));
        }
        began = true;
        let text = |at: &str| frame.pointer(at).and_then(Value::as_str).filter(|t| !t.is_empty());
        if let Some(text) = text("/message/thinking") {
            on_delta(StreamDelta::Thought(text));
            thought.push_str(text);
        }
        if let Some(text) = text("/message/content") {
            on_delta(StreamDelta::Text(text));
            answer.text.push_str(text);
        }
        calls.extend(frame.pointer("/message/tool_calls").and_then(Value::as_array).into_iter().flatten().map(call));
        if frame.get("done").and_then(Value::as_bool) != Some(true) {
            continue;
        }
        answer.cut = text("/done_reason") == Some("length");
        answer.usage = usage(&frame);
        if let Some(read) = answer.usage.map(|u| u.input).filter(|read| is_truncated(sent, *read)) {
            return Err(truncated(wire, context, sent, read));
        }
        if !calls.is_empty() && !thought.is_empty() {
            answer.reasoning_parts.push(ContentPart::ReasoningContent(thought));
        }
        answer.calls = calls.into_iter().take(super::MAX_CALLS).map(|c| super::call(c, answer.cut)).collect();
        return Ok(answer);
    }
    Err(context.transient("the answer broke off", true))
}

fn call(call: &Value) -> ToolCall {
    let word = |at: &str| call.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    ToolCall {
        call_id: word("/id"),
        fn_name: word("/function/name"),
        fn_arguments: call.pointer("/function/arguments").cloned().unwrap_or_default(),
        thought_signatures: None,
    }
}

fn usage(frame: &Value) -> Option<WireUsage> {
    let count = |key: &str| frame.get(key).and_then(Value::as_u64);
    Some(WireUsage {
        input: count("prompt_eval_count")?,
        cached: count("prompt_eval_cached_count").unwrap_or(0),
        output: count("eval_count")?,
        ..WireUsage::default()
    })
}

fn is_truncated(sent: u64, read: u64) -> bool {
    sent > TRUNCATION_MIN_TOKENS && read.saturating_mul(TRUNCATION_FACTOR) < sent
}

/// Creates the fault of a server that truncated the prompt against the request: an old release, or a model with a
/// smaller context window than configured.
fn truncated(wire: &Wire, context: CallContext<'_>, sent: u64, read: u64) -> Fault {
    let (name, window) = (&wire.provider.name, wire.provider.context_window);
    let fault = context.transient(
        &format!("read {read} of about {sent} tokens: the conversation was truncated to its own context window"),
        true,
    );
    let fix = format!(
        "use a newer Ollama and a model with a context window of {window} tokens, or set providers.{name}.context_window to the model's"
    );
    Fault { kind: Kind::NeedsPerson(fix), ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_prompt_is_detected_and_a_short_or_sparse_one_is_not() {
        assert!(is_truncated(20_000, 4_096) && is_truncated(6_001, 2_000));
        assert!(!is_truncated(6_000, 10) && !is_truncated(20_000, 7_000) && !is_truncated(0, 0));
    }

    #[test]
    fn effort_levels_go_only_to_models_that_have_them() {
        assert_eq!(think("gpt-oss:20b", Effort::High), json!("high"));
        assert_eq!(think("qwen3:8b", Effort::Low), json!(true));
    }
}
