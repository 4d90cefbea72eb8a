//! What an agent asks of a model, read before it is let through: the worst case, and what must not go along.
//!
//! A provider can be asked to reach out itself (search, fetch an image's address, call a tool server). That would be a way
//! out past the list of hosts, and money nobody counted: tools the provider runs are left out, addresses are refused.

use super::wire::Wire;
use crate::providers::settings::Provider;
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
/// Where Gemini's limits stand, as it may be spelled.
const GEMINI_CONFIG: [&str; 2] = ["generationConfig", "generation_config"];
/// Kinds of tools that are run by whoever asks, not by the provider.
const OWN_TOOLS: &[&str] = &["function", "custom", "local_shell", "apply_patch"];
/// The same at Anthropic, as the part before the date.
const OWN_TOOLS_ANTHROPIC: &[&str] = &["bash_", "text_editor_", "memory_", "computer_"];

/// A body that has the provider reach nowhere.
#[derive(Debug)]
pub struct Judged {
    /// What is sent: never the bytes that came, which may name a field twice.
    pub body: Map<String, Value>,
    /// What was left out, for the log.
    pub left_out: Vec<String>,
}

impl Judged {
    /// Reads a request's body, and leaves out what a provider would do outside.
    ///
    /// # Errors
    /// Why it cannot be let through.
    pub fn read(wire: Wire, raw: &[u8]) -> Result<Judged, String> {
        let json: Value = serde_json::from_slice(raw).map_err(|e| format!("the body is no JSON: {e}"))?;
        let Value::Object(mut body) = json else { return Err("the body is no JSON object".to_owned()) };
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
        Ok(Judged { body, left_out })
    }
}

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
}

impl Asked {
    /// Reads a request's body. `path_model` is the model where the path names it.
    ///
    /// # Errors
    /// Why it cannot be let through.
    pub fn read(wire: Wire, raw: &[u8], path_model: Option<&str>, provider: &Provider) -> Result<Asked, String> {
        let Judged { mut body, left_out } = Judged::read(wire, raw)?;
        let model = path_model.or(body.get("model").and_then(Value::as_str)).unwrap_or_default().to_owned();
        if model.is_empty() || model.len() > MODEL_MAX || !model.chars().all(|c| c.is_ascii_graphic()) {
            return Err(format!("`model` is missing or no name (up to {MODEL_MAX} letters, digits and signs)"));
        }
        if wire == Wire::Chat && body.get("stream") == Some(&Value::Bool(true)) {
            ask_for_usage(&mut body);
        }
        let choices = choices(wire, &body)?;
        let named = limits(wire, &body);
        // -1, 1e9, "many": what a provider makes of them is not known.
        let odd = named.iter().any(|limit| limit.as_u64().is_none());
        // The largest of those it names: a server may obey any of them.
        let each = named.iter().filter_map(|limit| limit.as_u64()).max();
        let each = each.unwrap_or(u64::from(provider.max_output));
        let max_output = u32::try_from(each.saturating_mul(choices)).unwrap_or(u32::MAX);
        // A token is three to four bytes of text or code; counted in JSON, with its escapes, three bytes are fewer than it
        // takes. No more than the window fits in any case. Where the provider adds what it kept, all of the window may.
        let kept = ["previous_response_id", "conversation", "cachedContent", "cached_content", "prompt", "context"];
        let remembers = wire != Wire::Chat && kept.iter().any(|k| body.get(*k).is_some_and(|v| !v.is_null()));
        let sent = (raw.len() as u64).div_ceil(3);
        let input = if remembers { provider.window.max(sent) } else { sent.min(provider.window.max(1)) };
        let choices = u32::try_from(choices).unwrap_or(1);
        let mut asked = Asked { model, input, max_output, left_out, wire, choices, body };
        if odd && !asked.cut(max_output, false) {
            return Err("its longest answer is no whole number above 0".to_owned());
        }
        Ok(asked)
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
        if self.wire == Wire::Gemini {
            // It takes either spelling of either name: the other ones must not say more.
            for folder in GEMINI_CONFIG {
                if let Some(config) = self.body.get_mut(folder).and_then(Value::as_object_mut) {
                    config.retain(|name, _| !matches!(name.as_str(), "maxOutputTokens" | "max_output_tokens"));
                }
            }
        }
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
        true
    }

    /// The body to send.
    pub fn into_body(self) -> Map<String, Value> {
        self.body
    }
}

/// The longest answers it names.
fn limits(wire: Wire, body: &Map<String, Value>) -> Vec<&Value> {
    let places: &[&[&str]] = match wire {
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
    let at = |path: &&[&str]| {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(body.get(*first)?, |value, key| value.get(*key)).filter(|limit| !limit.is_null())
    };
    places.iter().filter_map(at).collect()
}

fn choices(wire: Wire, body: &Map<String, Value>) -> Result<u64, String> {
    let config = |key: &'static str| GEMINI_CONFIG.into_iter().filter_map(move |folder| body.get(folder)?.get(key));
    let asked: Vec<&Value> = match wire {
        Wire::Chat => body.get("n").into_iter().chain(body.get("best_of")).collect(),
        Wire::Gemini => config("candidateCount").chain(config("candidate_count")).collect(),
        _ => Vec::new(),
    };
    let mut most = 1;
    for number in asked.into_iter().filter(|number| !number.is_null()) {
        most = most.max(number.as_u64().ok_or("how many answers it asks for is no whole number above 0")?);
    }
    if most > CHOICES_MAX {
        Err(format!("it asks for {most} answers at once; {CHOICES_MAX} at most"))
    } else {
        Ok(most)
    }
}

/// Has a streamed answer tell its usage at the end.
fn ask_for_usage(body: &mut Map<String, Value>) {
    let options = body.entry("stream_options").or_insert_with(|| Value::Object(Map::new()));
    if !options.is_object() {
        *options = Value::Object(Map::new());
    }
    options["include_usage"] = Value::Bool(true);
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
