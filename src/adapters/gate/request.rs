//! What an agent asks of a model, read before it is let through: the worst case, and what must not go along.
//!
//! A provider can be asked to reach out itself (search, fetch an image's address, call a tool server). That would be a way
//! out past the list of hosts, and money nobody counted: tools the provider runs are left out, addresses are refused.

use super::wire::Wire;
use crate::adapters::engine::settings::Provider;
use serde_json::{Map, Value};

/// The longest name of a model.
const MODEL_MAX: usize = 128;
/// How deep a request is looked into; deeper ones are refused by the JSON reader.
const DEPTH_MAX: usize = 130;
/// The most answers asked for at once that are counted; more are refused.
const CHOICES_MAX: u64 = 16;
/// Fields that cost more than the list says, run longer than the call, or have the provider reach out.
const LEFT_OUT: &[&str] = &[
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
/// Kinds of tools that are run by whoever asks, not by the provider.
const OWN_TOOLS: &[&str] = &["function", "custom", "local_shell", "apply_patch"];
/// The same at Anthropic, as the part before the date.
const OWN_TOOLS_ANTHROPIC: &[&str] = &["bash_", "text_editor_", "memory_", "computer_"];

/// A request for an answer, as it will go out.
#[derive(Debug)]
pub struct Asked {
    /// The model, as the provider calls it.
    pub model: String,
    /// Tokens it sends, at most.
    pub input: u64,
    /// The longest answer it may get, all choices together.
    pub max_output: u32,
    /// What was left out, for the log.
    pub left_out: Vec<String>,
    wire: Wire,
    choices: u32,
    body: Map<String, Value>,
    /// The bytes as they came, while nothing was changed.
    raw: Option<Vec<u8>>,
}

impl Asked {
    /// Reads a request's body. `path_model` is the model where the path names it.
    ///
    /// # Errors
    /// Why it cannot be let through.
    pub fn read(wire: Wire, raw: Vec<u8>, path_model: Option<&str>, provider: &Provider) -> Result<Asked, String> {
        let json: Value = serde_json::from_slice(&raw).map_err(|e| format!("the body is no JSON: {e}"))?;
        let Value::Object(mut body) = json else { return Err("the body is no JSON object".to_owned()) };
        let model = path_model.or(body.get("model").and_then(Value::as_str)).unwrap_or_default().to_owned();
        if model.is_empty() || model.len() > MODEL_MAX || !model.chars().all(|c| c.is_ascii_graphic()) {
            return Err(format!("`model` is missing or no name (up to {MODEL_MAX} letters, digits and signs)"));
        }
        if body.values().any(|value| reaches_out(value, DEPTH_MAX)) {
            return Err("it names an address for the provider to fetch; send the content itself".to_owned());
        }
        let mut left_out = Vec::new();
        for field in LEFT_OUT {
            if body.get(*field).is_some_and(|v| !v.is_null()) {
                body.shift_remove(*field);
                left_out.push((*field).to_owned());
            }
        }
        own_tools_only(wire, &mut body, &mut left_out);
        let mut changed = !left_out.is_empty();
        if wire == Wire::Chat && body.get("stream") == Some(&Value::Bool(true)) {
            changed |= ask_for_usage(&mut body);
        }
        let choices = choices(wire, &body)?;
        let each = longest(wire, &body).unwrap_or(u64::from(provider.max_output));
        let max_output = u32::try_from(each.saturating_mul(choices)).unwrap_or(u32::MAX);
        // A token is three to four bytes of text or code; counted in JSON, with its escapes, three bytes are fewer than it
        // takes. No more than the window fits in any case. Where the provider adds what it kept, all of the window may.
        let kept = ["previous_response_id", "conversation", "cachedContent", "cached_content", "prompt", "context"];
        let remembers = wire != Wire::Chat && kept.iter().any(|k| body.get(*k).is_some_and(|v| !v.is_null()));
        let sent = (raw.len() as u64).div_ceil(3);
        let input = if remembers { provider.window.max(sent) } else { sent.min(provider.window.max(1)) };
        let raw = (!changed).then_some(raw);
        let choices = u32::try_from(choices).unwrap_or(1);
        Ok(Asked { model, input, max_output, left_out, wire, choices, body, raw })
    }

    /// Asks for a shorter answer, of `most` tokens in all. `openai` = it goes to OpenAI itself. False where it cannot be cut: a part
    /// of the answer is promised to thinking.
    pub fn cut(&mut self, most: u32, openai: bool) -> bool {
        let each = u64::from(most / self.choices.max(1));
        let thinking = self.body.get("thinking").and_then(|t| t["budget_tokens"].as_u64()).unwrap_or(0);
        if each == 0 || thinking >= each {
            return false;
        }
        let (folder, field) = match self.wire {
            Wire::Anthropic => (None, "max_tokens"),
            Wire::Chat if self.body.contains_key("max_completion_tokens") => (None, "max_completion_tokens"),
            Wire::Chat if openai && !self.body.contains_key("max_tokens") => (None, "max_completion_tokens"),
            Wire::Chat => (None, "max_tokens"),
            Wire::Responses => (None, "max_output_tokens"),
            Wire::Gemini => (Some("generationConfig"), "maxOutputTokens"),
            Wire::Ollama => (Some("options"), "num_predict"),
        };
        let place = match folder {
            None => Some(&mut self.body),
            Some(folder) => self.body.entry(folder).or_insert_with(|| Value::Object(Map::new())).as_object_mut(),
        };
        let Some(place) = place else { return false };
        place.insert(field.to_owned(), Value::from(each));
        if self.wire == Wire::Chat {
            // The other name for it must not say more.
            for other in ["max_tokens", "max_completion_tokens"] {
                if let Some(value) = self.body.get_mut(other) {
                    *value = Value::from(each);
                }
            }
        }
        self.max_output = u32::try_from(each).unwrap_or(u32::MAX).saturating_mul(self.choices);
        self.raw = None;
        true
    }

    /// The body to send: the very bytes that came, unless something had to be changed.
    pub fn into_body(self) -> Result<Vec<u8>, String> {
        match self.raw {
            Some(raw) => Ok(raw),
            None => serde_json::to_vec(&self.body).map_err(|e| format!("the body cannot be written: {e}")),
        }
    }
}

/// The largest of the limits it names: a server may obey any of them.
fn longest(wire: Wire, body: &Map<String, Value>) -> Option<u64> {
    let places: &[&[&str]] = match wire {
        Wire::Anthropic => &[&["max_tokens"]],
        Wire::Chat => &[&["max_tokens"], &["max_completion_tokens"]],
        Wire::Responses => &[&["max_output_tokens"]],
        Wire::Gemini => &[&["generationConfig", "maxOutputTokens"], &["generation_config", "max_output_tokens"]],
        Wire::Ollama => &[&["options", "num_predict"]],
    };
    let at = |path: &&[&str]| {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(body.get(*first)?, |value, key| value.get(*key))?.as_u64()
    };
    places.iter().filter_map(at).max()
}

fn choices(wire: Wire, body: &Map<String, Value>) -> Result<u64, String> {
    let config = |key: &str| body.get("generationConfig").and_then(|c| c.get(key));
    let asked = match wire {
        Wire::Chat => [body.get("n"), body.get("best_of")],
        Wire::Gemini => [config("candidateCount"), None],
        _ => [None, None],
    };
    let most = asked.into_iter().flatten().filter_map(Value::as_u64).max().unwrap_or(1).max(1);
    if most > CHOICES_MAX {
        Err(format!("it asks for {most} answers at once; {CHOICES_MAX} at most"))
    } else {
        Ok(most)
    }
}

/// Has a streamed answer tell its usage at the end; whether that was a change.
fn ask_for_usage(body: &mut Map<String, Value>) -> bool {
    let options = body.entry("stream_options").or_insert_with(|| Value::Object(Map::new()));
    if !options.is_object() {
        *options = Value::Object(Map::new());
    }
    let before = options.get("include_usage") == Some(&Value::Bool(true));
    options["include_usage"] = Value::Bool(true);
    !before
}

fn own_tools_only(wire: Wire, body: &mut Map<String, Value>, left_out: &mut Vec<String>) {
    let Some(Value::Array(tools)) = body.get_mut("tools") else { return };
    let kind_of = |tool: &Value| tool["type"].as_str().unwrap_or("function").chars().take(40).collect::<String>();
    tools.retain_mut(|tool| {
        let own = match wire {
            Wire::Gemini => {
                // One object may hold several: functions stay, everything beside them goes.
                let Some(fields) = tool.as_object_mut() else { return false };
                let function = |k: &String| matches!(k.as_str(), "functionDeclarations" | "function_declarations");
                left_out.extend(fields.keys().filter(|k| !function(k)).map(|k| k.chars().take(40).collect::<String>()));
                fields.retain(|k, _| function(k));
                return !fields.is_empty();
            }
            Wire::Anthropic => {
                let kind = kind_of(tool);
                matches!(kind.as_str(), "function" | "custom")
                    || OWN_TOOLS_ANTHROPIC.iter().any(|p| kind.starts_with(p))
            }
            Wire::Responses if tool["type"] == "namespace" => tool["tools"]
                .as_array()
                .is_some_and(|inner| inner.iter().all(|t| OWN_TOOLS.contains(&kind_of(t).as_str()))),
            Wire::Chat | Wire::Responses | Wire::Ollama => OWN_TOOLS.contains(&kind_of(tool).as_str()),
        };
        if !own {
            left_out.push(kind_of(tool));
        }
        own
    });
    if tools.is_empty() {
        body.shift_remove("tools");
        // A choice among no tools is an error at most providers.
        body.shift_remove("tool_choice");
    }
}

/// Whether a part of a message has the provider fetch an address. What a model gave a tool is not looked at: it is only words.
fn reaches_out(value: &Value, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return true };
    let away = |v: &Value| v.as_str().is_some_and(|s| !s.trim_start().to_ascii_lowercase().starts_with("data:"));
    match value {
        Value::Array(items) => items.iter().any(|item| reaches_out(item, depth)),
        Value::Object(fields) => {
            let field = |name: &str| fields.get(name).unwrap_or(&Value::Null);
            let fetched = match field("type").as_str() {
                Some("tool_use") => return false,
                Some("image" | "document") => field("source")["type"] == "url" || away(field("url")),
                Some("image_url") => away(field("image_url")) || away(&field("image_url")["url"]),
                Some("input_image") => away(field("image_url")),
                Some("input_file" | "file") => away(field("file_url")) || away(&field("file")["file_url"]),
                _ => away(&field("fileData")["fileUri"]) || away(&field("file_data")["file_uri"]),
            };
            // Arguments of tools and schemas of tools are the agent's own words.
            let words = ["functionCall", "function_call", "args", "arguments", "parameters", "input_schema"];
            fetched || fields.iter().any(|(k, v)| !words.contains(&k.as_str()) && reaches_out(v, depth))
        }
        _ => false,
    }
}
