//! One model call: sends the conversation and receives an answer as a stream, or a fault.
//!
//! Invariant: every call names provider, address and model to `genai`; nothing is guessed from a model's name.

use super::fault::{CallContext, Fault};
use super::history::{Call, History};
use super::tools::Spec;
use crate::providers::cause::Cause;
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

mod chat;
mod frames;
mod http;
mod ollama;
mod request;

/// Time limit for establishing a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// Upper bound of the tool calls read from one answer.
pub const MAX_CALLS: usize = 64;

/// HTTP clients shared by all calls of this process: one uses the host's proxy, one bypasses it for addresses on this
/// machine.
#[derive(Clone, Debug)]
pub struct Clients {
    proxied: ClientPair,
    direct: ClientPair,
}

/// Model client and the HTTP client it is built on.
#[derive(Clone, Debug)]
struct ClientPair {
    client: Client,
    http: reqwest::Client,
}

impl Clients {
    /// Builds the clients.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new() -> Result<Clients, String> {
        crate::telemetry::install_crypto();
        let client = |builder: reqwest::ClientBuilder| {
            // A key must not follow a redirect to another host.
            let http = builder.redirect(reqwest::redirect::Policy::none()).connect_timeout(CONNECT).build();
            let http = http.map_err(|e| format!("cannot create an HTTP client: {e}"))?;
            let client = Client::builder().with_reqwest(http.clone()).build();
            let client = client.map_err(|e| format!("cannot create a model client: {e}"))?;
            Ok::<_, String>(ClientPair { client, http })
        };
        Ok(Clients {
            proxied: client(reqwest::Client::builder())?,
            direct: client(reqwest::Client::builder().no_proxy())?,
        })
    }

    fn of(&self, base_url: &str) -> &ClientPair {
        let host = reqwest::Url::parse(base_url).ok().and_then(|u| u.host_str().map(str::to_owned));
        match host.as_deref() {
            Some("localhost" | "[::1]") => &self.direct,
            Some(host) if host.starts_with("127.") => &self.direct,
            _ => &self.proxied,
        }
    }
}

/// Answer of a model.
#[derive(Debug, Default)]
pub struct Answer {
    /// Text.
    pub text: String,
    /// Tool calls.
    pub calls: Vec<Call>,
    /// Parts that the provider expects back (signed reasoning).
    pub reasoning_parts: Vec<ContentPart>,
    /// Reported usage.
    pub usage: Option<WireUsage>,
    /// Whether the answer was cut off at its length limit.
    pub cut: bool,
}

/// Piece of an answer, as it arrives.
#[derive(Debug)]
pub enum StreamDelta<'a> {
    /// Text.
    Text(&'a str),
    /// Reasoning.
    Thought(&'a str),
}

/// Client of one model.
#[derive(Clone, Debug)]
pub struct Wire {
    clients: ClientPair,
    provider: Provider,
    model: String,
    effort: Option<Effort>,
}

impl Wire {
    /// Creates the client for `model` at `provider` with the given reasoning effort.
    ///
    /// # Errors
    /// If the model name is invalid.
    pub fn new(clients: &Clients, provider: Provider, model: &str, effort: Option<Effort>) -> Result<Wire, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-:/@+".contains(c);
        // Some providers put the name into the URL.
        let good = (1..=200).contains(&model.len())
            && model.chars().all(fits)
            && !model.contains("::")
            && model.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !good {
            return Err(format!(
                "invalid model name {model:?}; write llm:{}/MODEL as the provider names it",
                provider.name
            ));
        }
        Ok(Wire { clients: clients.of(&provider.base_url).clone(), provider, model: model.to_owned(), effort })
    }

    /// Returns the provider.
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// Returns the name of the model at its provider.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Makes one call. Dropping the future cancels it.
    ///
    /// # Errors
    /// The fault, classified by what to do next.
    pub async fn ask(
        &self,
        context: CallContext<'_>,
        system: &str,
        history: &History,
        tools: &[Spec],
        max_output_tokens: u32,
        on_delta: &(dyn Fn(StreamDelta<'_>) + Sync),
    ) -> Result<Answer, Fault> {
        match self.provider.api {
            Api::OpenAi => {
                let body = chat::body::body(self, system, history, tools, max_output_tokens);
                return chat::ask(self, context, body, max_output_tokens, on_delta).await;
            }
            Api::Ollama => {
                let body = ollama::body(self, system, history, tools, max_output_tokens);
                return ollama::ask(self, context, body, max_output_tokens, on_delta).await;
            }
            Api::Anthropic | Api::OpenAiResponses | Api::Gemini => {}
        }
        let request = request::request(self.provider.api, system, history, tools);
        let options = request::options(self, max_output_tokens).with_raw_frame_sink(Frames::of(max_output_tokens));
        let mut began = false;
        let answering = async {
            let answer = self.clients.client.exec_chat_stream(self.target(), request, Some(&options)).await;
            let mut stream = answer.map_err(|e| context.fault(&e, false))?.stream;
            while let Some(event) = stream.next().await {
                match event.map_err(|e| context.fault(&e, began))? {
                    ChatStreamEvent::Chunk(chunk) => on_delta(StreamDelta::Text(&chunk.content)),
                    ChatStreamEvent::ReasoningChunk(chunk) => on_delta(StreamDelta::Thought(&chunk.content)),
                    ChatStreamEvent::End(end) if self.ended(&end) => return self.answer(end, &context),
                    ChatStreamEvent::End(_) => break,
                    // "Start" precedes the request.
                    ChatStreamEvent::Start => continue,
                    _ => {}
                }
                began = true;
            }
            Err(context.transient("the answer broke off", true))
        };
        // The library may panic on a malformed answer, and `Frames` ends an oversized one by unwinding.
        let ended = AssertUnwindSafe(answering).catch_unwind().await;
        ended.unwrap_or_else(|_| Err(context.transient("the answer is unreadable or too large", true)))
    }

    fn target(&self) -> ModelSpec {
        let adapter = match self.provider.api {
            Api::Anthropic => AdapterKind::Anthropic,
            Api::OpenAi => AdapterKind::OpenAI,
            Api::OpenAiResponses => AdapterKind::OpenAIResp,
            Api::Gemini => AdapterKind::Gemini,
            Api::Ollama => AdapterKind::Ollama,
        };
        // Servers without a key accept any; the library requires one.
        let key = self.provider.key.as_ref().map_or("none", |k| k.expose());
        ServiceTarget {
            endpoint: Endpoint::from_owned(self.provider.base_url.as_str()),
            auth: AuthData::from_single(key),
            model: ModelIden::new(adapter, self.model.as_str()),
        }
        .into()
    }

    /// Returns whether the stream really ended: for some APIs the library reports an end when the connection closes.
    fn ended(&self, end: &StreamEnd) -> bool {
        match self.provider.api {
            Api::Anthropic => true,
            _ => end.captured_stop_reason.is_some(),
        }
    }

    fn answer(&self, end: StreamEnd, context: &CallContext<'_>) -> Result<Answer, Fault> {
        let cut = matches!(end.captured_stop_reason, Some(StopReason::MaxTokens(_)));
        let blocked = match &end.captured_stop_reason {
            Some(StopReason::ContentFilter(reason)) => Some(reason.clone()),
            Some(StopReason::Other(reason)) if reason == "refusal" => Some(reason.clone()),
            _ => None,
        };
        let usage = end.captured_usage.as_ref().and_then(wire_usage);
        let mut answer = Answer { usage, cut, ..Answer::default() };
        let mut calls = Vec::new();
        for part in end.captured_content.map(MessageContent::into_parts).unwrap_or_default() {
            match part {
                ContentPart::Text(text) => answer.text.push_str(&text),
                ContentPart::ToolCall(call) => calls.push(call),
                thought => answer.reasoning_parts.push(thought),
            }
        }
        answer.calls = calls.into_iter().take(MAX_CALLS).map(|c| call(c, cut)).collect();
        match blocked {
            Some(reason) if answer.calls.is_empty() => {
                Err(context.caused(Cause::Moderation, &format!("ended its answer with the reason {reason:?}")))
            }
            _ => Ok(answer),
        }
    }
}

/// Converts a call so that every API accepts it back: its arguments are an object.
fn call(call: ToolCall, cut: bool) -> Call {
    let name: String =
        call.fn_name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).take(64).collect();
    let tool = if name.is_empty() { "unnamed".to_owned() } else { name };
    let (args, invalid) = match call.fn_arguments {
        Value::Object(fields) => (Value::Object(fields), None),
        Value::Null => (json!({}), None),
        Value::String(text) if text.trim().is_empty() && !cut => (json!({}), None),
        // Some servers encode the arguments twice.
        Value::String(text) if matches!(serde_json::from_str(&text), Ok(Value::Object(_))) => {
            (serde_json::from_str(&text).unwrap_or_default(), None)
        }
        _ if cut => (
            json!({}),
            Some("your answer reached its length limit and was cut off; send this in smaller pieces".to_owned()),
        ),
        _ => (json!({}), Some("the arguments are not a JSON object".to_owned())),
    };
    Call { id: call.call_id, tool, args, invalid, signatures: call.thought_signatures }
}

/// Returns the reported usage; `None` if nothing plausible was reported.
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
    fn arguments_are_objects_or_explain_why_not() {
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
        assert!(made(json!({"a": 1}), false).invalid.is_none());
        assert!(made(json!(""), false).invalid.is_none());
        assert_eq!(made(json!("{\"a\": 1}"), false).args, json!({"a": 1}));
        assert!(made(json!("{\"path\": \"a"), true).invalid.is_some_and(|b| b.contains("smaller pieces")));
        assert!(made(json!([1]), false).invalid.is_some_and(|b| b.contains("not a JSON object")));
        assert_eq!(made(json!({}), false).tool, "read");
    }
}
