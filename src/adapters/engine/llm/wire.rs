//! One call of a model: the conversation goes out, an answer comes back as a stream, or a fault.
//!
//! Invariant: `genai` is told provider, address and model each time; nothing is guessed from a model's name.

use super::fault::{Asked, Fault};
use super::history::{Call, History};
use super::tools::Spec;
use crate::providers::meter::WireUsage;
use crate::providers::settings::{Api, Effort, Provider};
use frames::Frames;
use futures::{FutureExt, StreamExt};
use genai::adapter::AdapterKind;
use genai::chat::{ChatStreamEvent, ContentPart, MessageContent, StopReason, StreamEnd, ToolCall};
use genai::resolver::{AuthData, Endpoint};
use genai::{Client, ModelIden, ModelSpec, ServiceTarget};
use serde_json::{Value, json};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

mod frames;
mod ollama;
mod request;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(15);
/// Calls of one answer that are looked at.
pub const CALLS_MAX: usize = 64;

/// The clients all calls of this process share: through the host's proxy, and past it for addresses on this machine.
#[derive(Clone, Debug)]
pub struct Clients {
    out: Line,
    here: Line,
}

/// A client, and the HTTP client it is made of.
#[derive(Clone, Debug)]
struct Line {
    client: Client,
    http: reqwest::Client,
}

impl Clients {
    /// Makes them.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Clients, String> {
        crate::telemetry::install_crypto();
        let client = |builder: reqwest::ClientBuilder| {
            // A key must not follow a redirect to somebody else.
            let http = builder.redirect(reqwest::redirect::Policy::none()).connect_timeout(CONNECT).build();
            let http = http.map_err(|e| format!("cannot make an HTTP client: {e}"))?;
            let client = Client::builder().with_reqwest(http.clone()).build();
            let client = client.map_err(|e| format!("cannot make a model client: {e}"))?;
            Ok::<_, String>(Line { client, http })
        };
        Ok(Clients { out: client(reqwest::Client::builder())?, here: client(reqwest::Client::builder().no_proxy())? })
    }

    fn of(&self, base_url: &str) -> &Line {
        let host = reqwest::Url::parse(base_url).ok().and_then(|u| u.host_str().map(str::to_owned));
        match host.as_deref() {
            Some("localhost" | "[::1]") => &self.here,
            Some(host) if host.starts_with("127.") => &self.here,
            _ => &self.out,
        }
    }
}

/// What an answer brought.
#[derive(Debug, Default)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// Its calls.
    pub calls: Vec<Call>,
    /// What the provider wants to see again.
    pub kept: Vec<ContentPart>,
    /// What it used, as far as that was told.
    pub usage: Option<WireUsage>,
    /// Whether it ended because it was as long as it may be.
    pub cut: bool,
}

/// A piece of an answer as it comes.
#[derive(Debug)]
pub enum StreamDelta<'a> {
    /// Text.
    Text(&'a str),
    /// Thought.
    Thought(&'a str),
}

/// The way to one model.
#[derive(Clone, Debug)]
pub struct Wire {
    line: Line,
    provider: Provider,
    model: String,
    effort: Option<Effort>,
}

impl Wire {
    /// The way to `model` of `provider`, which is to think as hard as `effort` says.
    ///
    /// # Errors
    /// When the model's name cannot be one.
    pub fn new(clients: &Clients, provider: Provider, model: &str, effort: Option<Effort>) -> Result<Wire, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-:/@+".contains(c);
        // Some providers take it into the address.
        let good = (1..=200).contains(&model.len())
            && model.chars().all(fits)
            && !model.contains("::")
            && model.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !good {
            return Err(format!(
                "{model:?} cannot be a model's name; write llm:{}/MODEL as the provider names it",
                provider.name
            ));
        }
        Ok(Wire { line: clients.of(&provider.base_url).clone(), provider, model: model.to_owned(), effort })
    }

    /// The provider.
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// The model's name at its provider.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Asks once. Dropping the future gives the call up.
    ///
    /// # Errors
    /// The fault, by what to do next.
    pub async fn ask(
        &self,
        asked: Asked<'_>,
        system: &str,
        history: &History,
        tools: &[Spec],
        max_output: u32,
        on_delta: &(dyn Fn(StreamDelta<'_>) + Sync),
    ) -> Result<Answer, Fault> {
        if self.provider.api == Api::Ollama {
            return ollama::ask(
                self,
                asked,
                ollama::body(self, system, history, tools, max_output),
                max_output,
                on_delta,
            )
            .await;
        }
        let request = request::request(self.provider.api, system, history, tools);
        let options = request::options(self, max_output).with_raw_frame_sink(Frames::of(max_output));
        let mut began = false;
        let answering = async {
            let answer = self.line.client.exec_chat_stream(self.target(), request, Some(&options)).await;
            let mut stream = answer.map_err(|e| asked.fault(&e, false))?.stream;
            while let Some(event) = stream.next().await {
                match event.map_err(|e| asked.fault(&e, began))? {
                    ChatStreamEvent::Chunk(chunk) => on_delta(StreamDelta::Text(&chunk.content)),
                    ChatStreamEvent::ReasoningChunk(chunk) => on_delta(StreamDelta::Thought(&chunk.content)),
                    ChatStreamEvent::End(end) if self.ended(&end) => return Ok(self.answer(end)),
                    ChatStreamEvent::End(_) => break,
                    // "Start" comes before anything was sent.
                    ChatStreamEvent::Start => continue,
                    _ => {}
                }
                began = true;
            }
            Err(asked.passing("its answer broke off before its end", true))
        };
        // The library may fall over an answer that no provider should send, and `Frames` ends one that is too much.
        let ended = AssertUnwindSafe(answering).catch_unwind().await;
        ended.unwrap_or_else(|_| Err(asked.passing("its answer is not readable, or has no end", true)))
    }

    fn target(&self) -> ModelSpec {
        let adapter = match self.provider.api {
            Api::Anthropic => AdapterKind::Anthropic,
            Api::OpenAi => AdapterKind::OpenAI,
            Api::OpenAiResponses => AdapterKind::OpenAIResp,
            Api::Gemini => AdapterKind::Gemini,
            Api::Ollama => AdapterKind::Ollama,
        };
        // Servers without a key take any; the library wants one.
        let key = self.provider.key.as_ref().map_or("none", |k| k.expose());
        ServiceTarget {
            endpoint: Endpoint::from_owned(self.provider.base_url.as_str()),
            auth: AuthData::from_single(key),
            model: ModelIden::new(adapter, self.model.as_str()),
        }
        .into()
    }

    /// Whether an end is one: for some APIs the library makes one up when the connection closes.
    fn ended(&self, end: &StreamEnd) -> bool {
        match self.provider.api {
            Api::Anthropic | Api::OpenAi => true,
            Api::OpenAiResponses | Api::Gemini | Api::Ollama => end.captured_stop_reason.is_some(),
        }
    }

    fn answer(&self, end: StreamEnd) -> Answer {
        let cut = matches!(end.captured_stop_reason, Some(StopReason::MaxTokens(_)));
        let usage = end.captured_usage.as_ref().and_then(wire_usage);
        let mut answer = Answer { usage, cut, ..Answer::default() };
        let mut calls = Vec::new();
        for part in end.captured_content.map(MessageContent::into_parts).unwrap_or_default() {
            match part {
                ContentPart::Text(text) => answer.text.push_str(&text),
                ContentPart::ToolCall(call) => calls.push(call),
                thought => answer.kept.push(thought),
            }
        }
        let reasoned = answer.kept.iter().any(ContentPart::is_reasoning_content);
        if self.provider.api == Api::OpenAi && !calls.is_empty() && !reasoned {
            // Some compatible servers want their thoughts back with the calls they led to.
            answer.kept.extend(end.captured_reasoning_content.map(ContentPart::ReasoningContent));
        }
        answer.calls = calls.into_iter().take(CALLS_MAX).map(|c| call(c, cut)).collect();
        answer
    }
}

/// A call with arguments every API takes back: an object.
fn call(call: ToolCall, cut: bool) -> Call {
    let name: String =
        call.fn_name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).take(64).collect();
    let tool = if name.is_empty() { "unnamed".to_owned() } else { name };
    let (args, broken) = match call.fn_arguments {
        Value::Object(fields) => (Value::Object(fields), None),
        Value::Null => (json!({}), None),
        Value::String(text) if text.trim().is_empty() && !cut => (json!({}), None),
        _ if cut => (json!({}), Some("your answer was cut off at its longest: send this in smaller pieces".to_owned())),
        _ => (json!({}), Some("the arguments are not a JSON object".to_owned())),
    };
    Call { id: call.call_id, tool, args, broken, signed: call.thought_signatures }
}

/// What was used, or `None` when nothing believable was told.
fn wire_usage(usage: &genai::chat::Usage) -> Option<WireUsage> {
    let count = |n: Option<i32>| n.and_then(|n| u64::try_from(n).ok());
    let (input, output) = (count(usage.prompt_tokens)?, count(usage.completion_tokens)?);
    let details = usage.prompt_tokens_details.as_ref();
    let reasoning = usage.completion_tokens_details.as_ref().and_then(|d| count(d.reasoning_tokens));
    Some(WireUsage {
        input,
        cached: details.and_then(|d| count(d.cached_tokens)).unwrap_or(0),
        cache_written: details.and_then(|d| count(d.cache_creation_tokens)).unwrap_or(0),
        output,
        reasoning: reasoning.unwrap_or(0),
        ..WireUsage::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_objects_or_say_why_not() {
        let made = |args: Value, cut| {
            call(
                ToolCall {
                    call_id: "1".into(),
                    fn_name: "re ad\n".into(),
                    fn_arguments: args,
                    thought_signatures: None,
                },
                cut,
            )
        };
        assert!(made(json!({"a": 1}), false).broken.is_none());
        assert!(made(json!(""), false).broken.is_none());
        assert!(made(json!("{\"path\": \"a"), true).broken.is_some_and(|b| b.contains("smaller pieces")));
        assert!(made(json!([1]), false).broken.is_some_and(|b| b.contains("not a JSON object")));
        assert_eq!(made(json!({}), false).tool, "read");
    }
}
