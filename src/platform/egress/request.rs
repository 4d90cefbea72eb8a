//! Validates an agent's request to a model before it is forwarded: computes its worst case, and removes what must not
//! be sent.
//!
//! A provider can be asked to access the network itself (search, fetch an image's URL, call a tool server). That would
//! bypass the host list and cost money that is not counted: tools run by the provider are removed, and URLs are
//! rejected.

use super::wire::Wire;
use crate::providers::settings::Provider;
use serde_json::{Map, Value};

/// Maximum length of a model name.
const MODEL_MAX: usize = 128;
/// Maximum depth to which a request is inspected; the JSON parser rejects deeper ones.
const DEPTH_MAX: usize = 130;
/// Maximum number of answers in one request; more are rejected.
const CHOICES_MAX: u64 = 16;
/// Fields that cost more than the list price, outlive the call, or make the provider access the network.
const REMOVED_FIELDS: &[&str] = &[
    "background",
    "container",
    "mcp_servers",
    "models",
    "plugins",
    "route",
    "service_tier",
    "serviceTier",
    "speed",
    "web_search_options",
    "webhook",
];
/// Gemini's object with the output limits, in both accepted spellings.
const GEMINI_CONFIG: [&str; 2] = ["generationConfig", "generation_config"];
/// Types of tools that the caller runs, not the provider.
const CLIENT_TOOLS: &[&str] = &["function", "custom", "local_shell", "apply_patch"];
/// Anthropic's types of such tools, as the prefix before the date.
const CLIENT_TOOLS_ANTHROPIC: &[&str] = &["bash_", "text_editor_", "memory_", "computer_"];

/// A request body that does not make the provider access the network.
#[derive(Debug)]
pub struct SanitizedBody {
    /// The body to send: never the received bytes, which may contain a field twice.
    pub body: Map<String, Value>,
    /// The removed parts, for the log.
    pub removed: Vec<String>,
}

impl SanitizedBody {
    /// Parses a request body, and removes what would make the provider access the network.
    ///
    /// # Errors
    /// The reason why it is rejected.
    pub fn read(wire: Wire, raw: &[u8]) -> Result<SanitizedBody, String> {
        let json: Value = serde_json::from_slice(raw).map_err(|e| format!("the body is not valid JSON: {e}"))?;
        let Value::Object(mut body) = json else { return Err("the body is not a JSON object".to_owned()) };
        if body.values().any(|value| makes_provider_fetch(value, DEPTH_MAX)) {
            return Err("the request contains a URL for the provider to fetch; send the content itself".to_owned());
        }
        let mut removed = Vec::new();
        for field in REMOVED_FIELDS {
            if body.get(*field).is_some_and(|v| !v.is_null()) {
                body.shift_remove(*field);
                removed.push((*field).to_owned());
            }
        }
        remove_provider_tools(wire, &mut body, &mut removed);
        Ok(SanitizedBody { body, removed })
    }
}

/// A paid request, as it will be sent.
#[derive(Debug)]
pub struct ModelRequest {
    /// Name of the model at the provider.
    pub model: String,
    /// Upper bound of the tokens sent.
    pub input: u64,
    /// Maximum number of output tokens, all choices together.
    pub max_output_tokens: u32,
    /// The removed parts, for the log.
    pub removed: Vec<String>,
    wire: Wire,
    choices: u32,
    body: Map<String, Value>,
}

impl ModelRequest {
    /// Parses a request body. `path_model` is the model, if the path names it.
    ///
    /// # Errors
    /// The reason why it is rejected.
    pub fn read(wire: Wire, raw: &[u8], path_model: Option<&str>, provider: &Provider) -> Result<ModelRequest, String> {
        let SanitizedBody { mut body, removed } = SanitizedBody::read(wire, raw)?;
        let model = path_model.or(body.get("model").and_then(Value::as_str)).unwrap_or_default().to_owned();
        if model.is_empty() || model.len() > MODEL_MAX || !model.chars().all(|c| c.is_ascii_graphic()) {
            return Err(format!("`model` is missing or invalid (up to {MODEL_MAX} printable ASCII characters)"));
        }
        if wire == Wire::Chat && body.get("stream") == Some(&Value::Bool(true)) {
            request_usage(&mut body);
        }
        let choices = choices(wire, &body)?;
        let requested = limits(wire, &body);
        // A provider may interpret `-1`, `1e9` or `"many"` in any way.
        let has_invalid = requested.iter().any(|limit| limit.as_u64().is_none());
        // The largest limit counts, because a server may apply any of them.
        let each = requested.iter().filter_map(|limit| limit.as_u64()).max();
        let each = each.unwrap_or(u64::from(provider.max_output_tokens));
        let max_output_tokens = u32::try_from(each.saturating_mul(choices)).unwrap_or(u32::MAX);
        // A token is three to four bytes of text or code, and more than three bytes of JSON with its escapes. The input
        // can never exceed the context window. If the provider adds stored context, it may fill the whole window.
        let stored = ["previous_response_id", "conversation", "cachedContent", "cached_content", "prompt", "context"];
        let uses_stored = wire != Wire::Chat && stored.iter().any(|k| body.get(*k).is_some_and(|v| !v.is_null()));
        let sent = (raw.len() as u64).div_ceil(3);
        let input =
            if uses_stored { provider.context_window.max(sent) } else { sent.min(provider.context_window.max(1)) };
        let choices = u32::try_from(choices).unwrap_or(1);
        let mut request = ModelRequest { model, input, max_output_tokens, removed, wire, choices, body };
        if has_invalid && !request.limit_output(max_output_tokens, false) {
            return Err("the output limit is not a positive integer".to_owned());
        }
        Ok(request)
    }

    /// Lowers the output limit to `max_tokens` for all choices together. `openai` = the request goes to OpenAI itself.
    /// Returns `false` if the limit cannot be lowered, because thinking has claimed a part of it.
    pub fn limit_output(&mut self, max_tokens: u32, openai: bool) -> bool {
        let each = u64::from(max_tokens / self.choices.max(1));
        let thinking = self.body.get("thinking").and_then(|t| t["budget_tokens"].as_u64()).unwrap_or(0);
        if each == 0 || thinking >= each {
            return false;
        }
        let (parent, field) = match self.wire {
            Wire::Anthropic => (None, "max_tokens"),
            Wire::Chat if self.body.contains_key("max_completion_tokens") => (None, "max_completion_tokens"),
            Wire::Chat if openai && !self.body.contains_key("max_tokens") => (None, "max_completion_tokens"),
            Wire::Chat => (None, "max_tokens"),
            Wire::Responses => (None, "max_output_tokens"),
            Wire::Gemini => (Some("generationConfig"), "maxOutputTokens"),
            Wire::Ollama => (Some("options"), "num_predict"),
        };
        if self.wire == Wire::Gemini {
            // Gemini accepts both spellings of both names, so no other spelling may allow more.
            for config_name in GEMINI_CONFIG {
                if let Some(config) = self.body.get_mut(config_name).and_then(Value::as_object_mut) {
                    config.retain(|name, _| !matches!(name.as_str(), "maxOutputTokens" | "max_output_tokens"));
                }
            }
        }
        let target = match parent {
            None => Some(&mut self.body),
            Some(parent) => self.body.entry(parent).or_insert_with(|| Value::Object(Map::new())).as_object_mut(),
        };
        let Some(target) = target else { return false };
        target.insert(field.to_owned(), Value::from(each));
        if self.wire == Wire::Chat {
            // The other name of the limit must not allow more.
            for other in ["max_tokens", "max_completion_tokens"] {
                if let Some(value) = self.body.get_mut(other) {
                    *value = Value::from(each);
                }
            }
        }
        self.max_output_tokens = u32::try_from(each).unwrap_or(u32::MAX).saturating_mul(self.choices);
        true
    }

    /// Returns the body to send.
    pub fn into_body(self) -> Map<String, Value> {
        self.body
    }
}

/// Lists the output limits the request contains.
fn limits(wire: Wire, body: &Map<String, Value>) -> Vec<&Value> {
    let paths: &[&[&str]] = match wire {
        Wire::Anthropic => &[&["max_tokens"]],
        Wire::Chat => &[&["max_tokens"], &["max_completion_tokens"]],
        Wire::Responses => &[&["max_output_tokens"]],
        Wire::Gemini => &[
            &["generationConfig", "maxOutputTokens"],
            &["generationConfig", "max_output_tokens"],
            &["generation_config", "maxOutputTokens"],
            &["generation_config", "max_output_tokens"],
        ],
        Wire::Ollama => &[&["options", "num_predict"]],
    };
    let value_at = |path: &&[&str]| {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(body.get(*first)?, |value, key| value.get(*key)).filter(|limit| !limit.is_null())
    };
    paths.iter().filter_map(value_at).collect()
}

fn choices(wire: Wire, body: &Map<String, Value>) -> Result<u64, String> {
    let config = |key: &'static str| GEMINI_CONFIG.into_iter().filter_map(move |folder| body.get(folder)?.get(key));
    let requested: Vec<&Value> = match wire {
        Wire::Chat => body.get("n").into_iter().chain(body.get("best_of")).collect(),
        Wire::Gemini => config("candidateCount").chain(config("candidate_count")).collect(),
        _ => Vec::new(),
    };
    let mut max = 1;
    for number in requested.into_iter().filter(|number| !number.is_null()) {
        max = max.max(number.as_u64().ok_or("the number of answers is not a positive integer")?);
    }
    if max > CHOICES_MAX {
        Err(format!("the request asks for {max} answers; at most {CHOICES_MAX} are allowed"))
    } else {
        Ok(max)
    }
}

/// Makes a streamed response report its usage at the end.
fn request_usage(body: &mut Map<String, Value>) {
    let options = body.entry("stream_options").or_insert_with(|| Value::Object(Map::new()));
    if !options.is_object() {
        *options = Value::Object(Map::new());
    }
    options["include_usage"] = Value::Bool(true);
}

fn remove_provider_tools(wire: Wire, body: &mut Map<String, Value>, removed: &mut Vec<String>) {
    let Some(Value::Array(tools)) = body.get_mut("tools") else { return };
    let kind_of = |tool: &Value| tool["type"].as_str().unwrap_or("function").chars().take(40).collect::<String>();
    tools.retain_mut(|tool| {
        let is_client_tool = match wire {
            Wire::Gemini => {
                // One object may define several tools: functions stay, everything else is removed.
                let Some(fields) = tool.as_object_mut() else { return false };
                let function = |k: &String| matches!(k.as_str(), "functionDeclarations" | "function_declarations");
                removed.extend(fields.keys().filter(|k| !function(k)).map(|k| k.chars().take(40).collect::<String>()));
                fields.retain(|k, _| function(k));
                return !fields.is_empty();
            }
            Wire::Anthropic => {
                let kind = kind_of(tool);
                matches!(kind.as_str(), "function" | "custom")
                    || CLIENT_TOOLS_ANTHROPIC.iter().any(|p| kind.starts_with(p))
            }
            Wire::Responses if tool["type"] == "namespace" => tool["tools"]
                .as_array()
                .is_some_and(|inner| inner.iter().all(|t| CLIENT_TOOLS.contains(&kind_of(t).as_str()))),
            Wire::Chat | Wire::Responses | Wire::Ollama => CLIENT_TOOLS.contains(&kind_of(tool).as_str()),
        };
        if !is_client_tool {
            removed.push(kind_of(tool));
        }
        is_client_tool
    });
    if tools.is_empty() {
        body.shift_remove("tools");
        // Most providers reject a tool choice without tools.
        body.shift_remove("tool_choice");
    }
}

/// Returns whether a part of a message makes the provider fetch a URL. Arguments that a model gave a tool are not
/// inspected: they are only text.
fn makes_provider_fetch(value: &Value, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return true };
    let is_remote = |v: &Value| v.as_str().is_some_and(|s| !s.trim_start().to_ascii_lowercase().starts_with("data:"));
    match value {
        Value::Array(items) => items.iter().any(|item| makes_provider_fetch(item, depth)),
        Value::Object(fields) => {
            let field = |name: &str| fields.get(name).unwrap_or(&Value::Null);
            let is_fetched = match field("type").as_str() {
                Some("tool_use") => return false,
                Some("image" | "document") => field("source")["type"] == "url" || is_remote(field("url")),
                Some("image_url") => is_remote(field("image_url")) || is_remote(&field("image_url")["url"]),
                Some("input_image") => is_remote(field("image_url")),
                Some("input_file" | "file") => is_remote(field("file_url")) || is_remote(&field("file")["file_url"]),
                _ => is_remote(&field("fileData")["fileUri"]) || is_remote(&field("file_data")["file_uri"]),
            };
            // Tool arguments and tool schemas are the agent's own text.
            let plain_text = ["functionCall", "function_call", "args", "arguments", "parameters", "input_schema"];
            is_fetched
                || fields.iter().any(|(k, v)| !plain_text.contains(&k.as_str()) && makes_provider_fetch(v, depth))
        }
        _ => false,
    }
}
