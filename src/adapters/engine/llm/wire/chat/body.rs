//! Body of a Chat Completions call.

use super::super::super::history::{Call, History, Turn};
use super::super::super::tools::Spec;
use super::super::Wire;
use genai::chat::ContentPart;
use serde_json::{Map, Value, json};

/// Models that take the output limit under its new name only.
const NEW_LIMIT: [&str; 5] = ["gpt-5", "gpt-6", "o1", "o3", "o4"];

/// Builds the body.
pub fn body(wire: &Wire, system: &str, history: &History, tools: &[Spec], max_output_tokens: u32) -> Value {
    let mut messages =
        vec![json!({"role": "system", "content": system}), json!({"role": "user", "content": history.opening()})];
    // Index of the last message of each turn.
    let mut ends = vec![messages.len() - 1];
    for turn in &history.turns {
        messages.push(assistant_message(turn));
        messages.extend(turn.results.iter().map(|r| json!({"role": "tool", "content": r.text, "tool_call_id": r.id})));
        messages.extend(turn.nudge.iter().map(|nudge| json!({"role": "user", "content": nudge})));
        ends.push(messages.len() - 1);
    }
    if caches_by_marks(wire) {
        let last = ends.iter().rev().take(2).copied();
        last.chain([0]).for_each(|at| mark(&mut messages[at]));
    }
    let tool = |s: &Spec| json!({"type": "function", "function": {"name": s.name, "description": s.description, "parameters": s.schema, "strict": false}});
    let limit = match NEW_LIMIT.iter().any(|start| wire.model.starts_with(start)) {
        true => "max_completion_tokens",
        false => "max_tokens",
    };
    let mut body = json!({
        "model": wire.model,
        "stream": true,
        "stream_options": {"include_usage": true},
        "tools": tools.iter().map(tool).collect::<Vec<_>>(),
        "messages": messages,
        limit: max_output_tokens,
    });
    if let (Some(effort), Some(fields)) = (wire.effort, body.as_object_mut()) {
        fields.insert("reasoning_effort".to_owned(), effort.name().into());
    }
    body
}

fn assistant_message(turn: &Turn) -> Value {
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    let nothing = turn.text.is_empty() && turn.calls.is_empty();
    // No API accepts an empty message.
    message.insert("content".to_owned(), if nothing { "(no answer)".into() } else { turn.text.as_str().into() });
    if !turn.calls.is_empty() {
        message.insert("tool_calls".to_owned(), turn.calls.iter().map(tool_call).collect());
    }
    for part in &turn.reasoning_parts {
        match part {
            ContentPart::ReasoningContent(text) => {
                message.insert("reasoning_content".to_owned(), text.as_str().into());
            }
            ContentPart::Custom(custom) => message.extend(custom.data.as_object().cloned().unwrap_or_default()),
            _ => {}
        }
    }
    Value::Object(message)
}

fn tool_call(call: &Call) -> Value {
    let function = json!({"name": call.tool, "arguments": call.args.to_string()});
    let mut made = json!({"type": "function", "id": call.id, "function": function});
    let extra = call.signatures.iter().flatten().find_map(|text| serde_json::from_str::<Value>(text).ok());
    if let (Some(extra), Some(fields)) = (extra, made.as_object_mut()) {
        fields.insert("extra_content".to_owned(), extra);
    }
    made
}

/// Returns whether the model caches only what is marked: Claude, according to OpenRouter's documentation.
fn caches_by_marks(wire: &Wire) -> bool {
    let host = reqwest::Url::parse(&wire.provider.base_url).ok().and_then(|u| u.host_str().map(str::to_owned));
    host.is_some_and(|host| host == "openrouter.ai" || host.ends_with(".openrouter.ai"))
        && wire.model.starts_with("anthropic/")
}

/// Marks the end of a message: everything up to there is cached.
fn mark(message: &mut Value) {
    let Some(Value::String(text)) = message.get_mut("content").map(Value::take) else { return };
    let part = json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}});
    // No API accepts an empty part.
    message["content"] = if text.is_empty() { Value::String(text) } else { json!([part]) };
}

#[cfg(test)]
mod tests {
    use super::super::super::Clients;
    use super::*;
    use crate::providers::settings::{Api, Provider};
    use std::time::Duration;

    fn wire(base_url: &str, model: &str) -> Wire {
        let provider = Provider {
            name: "p".to_owned(),
            api: Api::OpenAi,
            base_url: base_url.to_owned(),
            key: None,
            key_source: String::new(),
            concurrency: 1,
            requests_per_minute: None,
            idle_timeout: Duration::from_secs(1),
            context_window: 1000,
            max_output_tokens: 100,
        };
        Wire::new(&Clients::new().unwrap(), provider, model, None).unwrap()
    }

    fn marked(base_url: &str, model: &str) -> Vec<bool> {
        let mut history = History::new("order".to_owned());
        for n in 0..3 {
            history.turns.push(Turn {
                text: format!("answer {n}"),
                nudge: Some("go on".to_owned()),
                ..Turn::default()
            });
        }
        let body = body(&wire(base_url, model), "system", &history, &[], 100);
        body["messages"].as_array().unwrap().iter().map(|m| m.to_string().contains("cache_control")).collect()
    }

    #[test]
    fn marks_stand_at_the_system_prompt_and_at_the_ends_of_the_last_two_turns() {
        let marks = marked("https://openrouter.ai/api/v1/", "anthropic/claude-sonnet-4.5");
        assert_eq!(marks, [true, false, false, false, false, true, false, true]);
        assert!(!marked("https://openrouter.ai/api/v1/", "openai/gpt-5").contains(&true));
        assert!(!marked("https://openrouter.ai.example/v1/", "anthropic/claude-sonnet-4.5").contains(&true));
    }

    #[test]
    fn the_output_limit_has_the_name_that_the_model_takes() {
        let body = |model| body(&wire("https://api.example/v1/", model), "", &History::new(String::new()), &[], 7);
        assert_eq!(
            (&body("gpt-5-mini")["max_completion_tokens"], &body("gpt-4o")["max_tokens"]),
            (&json!(7), &json!(7))
        );
        assert!(body("gpt-5-mini").get("max_tokens").is_none());
    }
}
