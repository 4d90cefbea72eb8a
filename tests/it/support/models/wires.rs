//! Complete answers in the wire formats of the providers.

use super::Served;
use serde_json::{Value, json};

pub fn say(path: &str, turn: usize, used: &Served, text: &str, calls: &[(String, Value)]) -> String {
    match path {
        p if p.ends_with("/messages") => anthropic(turn, used, text, calls),
        p if p.ends_with("/chat/completions") => openai(turn, used, text, calls),
        p if p.ends_with("/responses") => responses(turn, used, text, calls),
        p if p.ends_with(":streamGenerateContent") => gemini(used, text, calls),
        p if p.ends_with("/api/chat") => ollama(used, text, calls),
        other => panic!("nobody speaks at {other}"),
    }
}

fn events(events: &[(&str, Value)]) -> String {
    events.iter().map(|(name, data)| format!("event: {name}\ndata: {data}\n\n")).collect()
}

/// Returns a complete Anthropic stream that reports `used`. The input is split as this API does: new, read from the
/// cache, and written to the cache.
fn anthropic(turn: usize, used: &Served, text: &str, calls: &[(String, Value)]) -> String {
    let usage = json!({"input_tokens": used.input - used.cached - used.written, "cache_read_input_tokens": used.cached,
        "cache_creation_input_tokens": used.written, "output_tokens": 1});
    let mut all = vec![(
        "message_start",
        json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": usage}}),
    )];
    let mut index = 0;
    if !text.is_empty() {
        all.push((
            "content_block_start",
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        ));
        for piece in text.split_inclusive(' ') {
            all.push((
                "content_block_delta",
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}),
            ));
        }
        all.push(("content_block_stop", json!({"type": "content_block_stop", "index": 0})));
        index = 1;
    }
    for (n, (tool, args)) in calls.iter().enumerate() {
        let at = index + n;
        let block = json!({"type": "tool_use", "id": format!("toolu_{turn}_{n}"), "name": tool, "input": {}});
        all.push(("content_block_start", json!({"type": "content_block_start", "index": at, "content_block": block})));
        let written = args.as_str().map_or_else(|| args.to_string(), str::to_owned);
        let half = written.floor_char_boundary(written.len() / 2);
        for part in [&written[..half], &written[half..]] {
            all.push(("content_block_delta", json!({"type": "content_block_delta", "index": at, "delta": {"type": "input_json_delta", "partial_json": part}})));
        }
        all.push(("content_block_stop", json!({"type": "content_block_stop", "index": at})));
    }
    let reason = if calls.is_empty() { "end_turn" } else { "tool_use" };
    all.push((
        "message_delta",
        json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": used.output}}),
    ));
    all.push(("message_stop", json!({"type": "message_stop"})));
    events(&all)
}

fn openai(turn: usize, used: &Served, text: &str, calls: &[(String, Value)]) -> String {
    let chunk = |delta: Value, reason: Value| {
        format!(
            "data: {}\n\n",
            json!({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
        )
    };
    let mut all = chunk(json!({"role": "assistant", "content": ""}), Value::Null);
    for piece in text.split_inclusive(' ') {
        all.push_str(&chunk(json!({"content": piece}), Value::Null));
    }
    for (n, (tool, args)) in calls.iter().enumerate() {
        let written = args.as_str().map_or_else(|| args.to_string(), str::to_owned);
        let half = written.floor_char_boundary(written.len() / 2);
        let begin = json!({"index": n, "id": format!("call_{turn}_{n}"), "type": "function", "function": {"name": tool, "arguments": &written[..half]}});
        all.push_str(&chunk(json!({"tool_calls": [begin]}), Value::Null));
        let rest = json!({"index": n, "function": {"arguments": &written[half..]}});
        all.push_str(&chunk(json!({"tool_calls": [rest]}), Value::Null));
    }
    all.push_str(&chunk(json!({}), json!(if calls.is_empty() { "stop" } else { "tool_calls" })));
    let usage = json!({"prompt_tokens": used.input, "completion_tokens": used.output, "total_tokens": used.input + used.output,
        "prompt_tokens_details": {"cached_tokens": used.cached}, "completion_tokens_details": {"reasoning_tokens": 3}});
    all.push_str(&format!("data: {}\n\n", json!({"id": "c", "choices": [], "usage": usage})));
    all + "data: [DONE]\n\n"
}

fn responses(turn: usize, used: &Served, text: &str, calls: &[(String, Value)]) -> String {
    let mut all = vec![(
        "response.created",
        json!({"type": "response.created", "response": {"id": "r", "model": "m", "status": "in_progress", "output": []}}),
    )];
    let mut output = Vec::new();
    if !text.is_empty() {
        output.push(json!({"type": "message", "id": "msg", "role": "assistant", "content": [{"type": "output_text", "text": text}]}));
        all.push((
            "response.output_text.delta",
            json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text}),
        ));
    }
    for (n, (tool, args)) in calls.iter().enumerate() {
        let item = json!({"type": "function_call", "id": format!("fc_{n}"), "call_id": format!("call_{turn}_{n}"), "name": tool, "arguments": args.to_string(), "status": "completed"});
        let at = output.len();
        let mut begun = item.clone();
        begun["arguments"] = json!("");
        all.push((
            "response.output_item.added",
            json!({"type": "response.output_item.added", "output_index": at, "item": begun}),
        ));
        all.push(("response.function_call_arguments.delta", json!({"type": "response.function_call_arguments.delta", "output_index": at, "item_id": format!("fc_{n}"), "delta": args.to_string()})));
        all.push((
            "response.output_item.done",
            json!({"type": "response.output_item.done", "output_index": at, "item": item}),
        ));
        output.push(item);
    }
    let usage = json!({"input_tokens": used.input, "input_tokens_details": {"cached_tokens": used.cached}, "output_tokens": used.output,
        "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": used.input + used.output});
    all.push(("response.completed", json!({"type": "response.completed", "response": {"id": "r", "model": "m", "status": "completed", "output": output, "usage": usage}})));
    events(&all)
}

fn gemini(used: &Served, text: &str, calls: &[(String, Value)]) -> String {
    let mut parts: Vec<Value> = Vec::new();
    if !text.is_empty() {
        parts.push(json!({"text": text}));
    }
    parts.extend(calls.iter().map(|(tool, args)| json!({"functionCall": {"name": tool, "args": args}})));
    let usage = json!({"promptTokenCount": used.input, "candidatesTokenCount": used.output - 3, "thoughtsTokenCount": 3,
        "totalTokenCount": used.input + used.output, "cachedContentTokenCount": used.cached});
    let whole = json!({"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}]});
    let end = json!({"candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP", "index": 0}], "usageMetadata": usage});
    format!("data: {whole}\n\ndata: {end}\n\n")
}

fn ollama(used: &Served, text: &str, calls: &[(String, Value)]) -> String {
    let calls: Vec<Value> =
        calls.iter().map(|(tool, args)| json!({"function": {"name": tool, "arguments": args}})).collect();
    let line =
        json!({"model": "m", "message": {"role": "assistant", "content": text, "tool_calls": calls}, "done": false});
    let end = json!({"model": "m", "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop", "prompt_eval_count": used.input, "eval_count": used.output});
    format!("{line}\n{end}\n")
}
