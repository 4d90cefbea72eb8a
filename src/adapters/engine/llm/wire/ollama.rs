//! One call of Ollama's own API. Not through the library, which cannot say how large the window is to be: Ollama takes a small one then,
//! and drops the beginning of what does not fit without a word.

use super::super::context::tokens;
use super::super::fault::{Asked, Fault, Kind, told_status};
use super::super::history::{Call, History, Turn};
use super::super::tools::Spec;
use super::{Answer, StreamDelta, Wire, frames};
use crate::providers::meter::WireUsage;
use crate::providers::settings::Effort;
use genai::chat::{ContentPart, ToolCall};
use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::time::timeout;

/// The most bytes of an error's body that are read.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// A prompt of more tokens, as estimated, of which less than one in so many was read, was cut: no text has so few.
const CUT_FROM: u64 = 6_000;
const CUT_TIMES: u64 = 3;

/// The call's body.
pub fn body(wire: &Wire, system: &str, history: &History, tools: &[Spec], max_output: u32) -> Value {
    let mut messages =
        vec![json!({"role": "system", "content": system}), json!({"role": "user", "content": history.opening()})];
    for turn in &history.turns {
        messages.push(said(turn));
        let result =
            |r: &super::super::history::Outcome| json!({"role": "tool", "tool_name": r.tool, "content": r.text});
        messages.extend(turn.results.iter().map(result));
        messages.extend(turn.told.iter().map(|told| json!({"role": "user", "content": told})));
    }
    let tool = |s: &Spec| json!({"type": "function", "function": {"name": s.name, "description": s.about, "parameters": s.schema}});
    let mut body = json!({
        "model": wire.model,
        "messages": messages,
        "tools": tools.iter().map(tool).collect::<Vec<_>>(),
        "stream": true,
        // What does not fit is to be an error, and no prompt with its beginning gone.
        "truncate": false,
        "shift": false,
        "options": {"num_ctx": wire.provider.context_window, "num_predict": max_output},
    });
    if let (Some(effort), Some(fields)) = (wire.effort, body.as_object_mut()) {
        fields.insert("think".to_owned(), think(&wire.model, effort));
    }
    body
}

/// Only these models know levels; the others think or do not.
fn think(model: &str, effort: Effort) -> Value {
    if model.contains("gpt-oss") { json!(effort.name()) } else { json!(true) }
}

fn said(turn: &Turn) -> Value {
    let mut said = json!({"role": "assistant", "content": turn.text});
    let Some(fields) = said.as_object_mut() else { return said };
    if !turn.calls.is_empty() {
        let call = |c: &Call| json!({"function": {"name": c.tool, "arguments": c.args}});
        fields.insert("tool_calls".to_owned(), turn.calls.iter().map(call).collect());
    }
    let thought = |part: &ContentPart| part.as_reasoning_content().map(str::to_owned);
    if let Some(thought) = turn.kept.iter().find_map(thought) {
        fields.insert("thinking".to_owned(), thought.into());
    }
    said
}

/// Asks once. Dropping the future gives the call up.
///
/// # Errors
/// The fault, by what to do next.
pub async fn ask(
    wire: &Wire,
    asked: Asked<'_>,
    body: Value,
    max_output: u32,
    on_delta: &(dyn Fn(StreamDelta<'_>) + Sync),
) -> Result<Answer, Fault> {
    let body = body.to_string();
    let sent = tokens(body.len());
    let mut request = wire.line.http.post(format!("{}api/chat", wire.provider.base_url));
    request = request.header("content-type", "application/json").body(body);
    if let Some(key) = &wire.provider.key {
        request = request.bearer_auth(key.expose());
    }
    let late = |began| asked.passing("it did not answer in time", began);
    let response = timeout(wire.provider.idle_timeout, request.send()).await.map_err(|_| late(true))?;
    let mut response = response.map_err(|e| asked.connection(&e, false))?;
    let status = response.status();
    if !status.is_success() {
        let headers = response.headers().clone();
        let body = timeout(wire.provider.idle_timeout, beginning(&mut response)).await.unwrap_or_default();
        return Err(asked.status(status.as_u16(), &headers, &String::from_utf8_lossy(&body), false));
    }
    let mut answer = Answer::default();
    let (mut calls, mut thought) = (Vec::new(), String::new());
    let (mut seen, mut rest) = (0, Vec::new());
    loop {
        let piece = timeout(wire.provider.idle_timeout, response.chunk()).await.map_err(|_| late(true))?;
        let Some(piece) = piece.map_err(|e| asked.connection(&e, true))? else {
            return Err(asked.passing("its answer broke off before its end", true));
        };
        seen += piece.len();
        if seen > frames::most(max_output) {
            return Err(asked.passing("its answer is not readable, or has no end", true));
        }
        rest.extend_from_slice(&piece);
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            if line.trim_ascii().is_empty() {
                continue;
            }
            let Ok(told) = serde_json::from_slice::<Value>(&line) else {
                return Err(asked.passing("its answer is not readable", true));
            };
            if told.get("error").is_some() {
                return Err(asked.status(told_status(&told), &HeaderMap::new(), &told.to_string(), true));
            }
            let text = |at: &str| told.pointer(at).and_then(Value::as_str).filter(|t| !t.is_empty());
            if let Some(text) = text("/message/thinking") {
                on_delta(StreamDelta::Thought(text));
                thought.push_str(text);
            }
            if let Some(text) = text("/message/content") {
                on_delta(StreamDelta::Text(text));
                answer.text.push_str(text);
            }
            calls.extend(told.pointer("/message/tool_calls").and_then(Value::as_array).into_iter().flatten().map(call));
            if told.get("done").and_then(Value::as_bool) != Some(true) {
                continue;
            }
            answer.cut = text("/done_reason") == Some("length");
            answer.usage = usage(&told);
            if let Some(read) = answer.usage.map(|u| u.input).filter(|read| is_cut(sent, *read)) {
                return Err(cut(wire, asked, sent, read));
            }
            if !calls.is_empty() && !thought.is_empty() {
                answer.kept.push(ContentPart::ReasoningContent(thought));
            }
            answer.calls = calls.into_iter().take(super::CALLS_MAX).map(|c| super::call(c, answer.cut)).collect();
            return Ok(answer);
        }
    }
}

async fn beginning(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece[..piece.len().min(ERROR_BYTES_MAX - body.len())]);
        if body.len() == ERROR_BYTES_MAX {
            break;
        }
    }
    body
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

fn usage(told: &Value) -> Option<WireUsage> {
    let count = |key: &str| told.get(key).and_then(Value::as_u64);
    Some(WireUsage {
        input: count("prompt_eval_count")?,
        cached: count("prompt_eval_cached_count").unwrap_or(0),
        output: count("eval_count")?,
        ..WireUsage::default()
    })
}

fn is_cut(sent: u64, read: u64) -> bool {
    sent > CUT_FROM && read.saturating_mul(CUT_TIMES) < sent
}

/// A server that cut the prompt though it was told not to: an old one, or a model with a smaller window than it was given.
fn cut(wire: &Wire, asked: Asked<'_>, sent: u64, read: u64) -> Fault {
    let (name, window) = (&wire.provider.name, wire.provider.context_window);
    let told = asked
        .passing(&format!("it read {read} tokens of about {sent}: it cut the conversation to its own window"), true);
    let fix = format!(
        "take a newer Ollama and a model with a window of {window} tokens, or set providers.{name}.window to what it has"
    );
    Fault { kind: Kind::Needs(fix), ..told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_that_was_cut_is_seen_and_a_short_or_sparse_one_is_not() {
        assert!(is_cut(20_000, 4_096) && is_cut(6_001, 2_000));
        assert!(!is_cut(6_000, 10) && !is_cut(20_000, 7_000) && !is_cut(0, 0));
    }

    #[test]
    fn levels_go_to_models_that_know_them() {
        assert_eq!(think("gpt-oss:20b", Effort::High), json!("high"));
        assert_eq!(think("qwen3:8b", Effort::Low), json!(true));
    }
}
