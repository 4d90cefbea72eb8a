//! One call of a model: the conversation goes out, an answer comes back as a stream, or a fault.
//!
//! Invariant: `genai` is told provider, address and model each time; nothing is guessed from a model's name.

use super::fault::{Asked, Fault};
use super::history::{Call, History};
use super::tools::Spec;
use crate::adapters::engine::meter::WireUsage;
use crate::adapters::engine::settings::{Api, Provider};
use futures::{FutureExt, StreamExt};
use genai::adapter::AdapterKind;
use genai::chat::{
    CacheControl, ChatFrameSink, ChatMessage, ChatOptions, ChatRequest, ChatStreamEvent, ContentPart, FrameCtx,
    MessageContent, RawFrameRef, ReasoningEffort, StopReason, StreamEnd, Tool, ToolCall, ToolResponse,
};
use genai::resolver::{AuthData, Endpoint};
use genai::{Client, Headers, ModelIden, ModelSpec, ServiceTarget};
use serde_json::{Value, json};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(15);
/// Calls of one answer that are looked at.
pub const CALLS_MAX: usize = 64;
/// What an answer may be on the wire: its frames repeat much around each token.
const FRAME_BYTES_PER_TOKEN: usize = 1024;
const FRAME_BYTES_BASE: usize = 1024 * 1024;

/// The clients all calls of this process share: through the host's proxy, and past it for addresses on this machine.
#[derive(Clone, Debug)]
pub struct Clients {
    out: Client,
    here: Client,
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
            Client::builder().with_reqwest(http).build().map_err(|e| format!("cannot make a model client: {e}"))
        };
        Ok(Clients { out: client(reqwest::Client::builder())?, here: client(reqwest::Client::builder().no_proxy())? })
    }

    fn of(&self, base_url: &str) -> &Client {
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
pub enum Heard<'a> {
    /// Text.
    Text(&'a str),
    /// Thought.
    Thought(&'a str),
}

/// The way to one model.
#[derive(Clone, Debug)]
pub struct Wire {
    client: Client,
    provider: Provider,
    model: String,
}

impl Wire {
    /// The way to `model` of `provider`.
    ///
    /// # Errors
    /// When the model's name cannot be one.
    pub fn new(clients: &Clients, provider: Provider, model: &str) -> Result<Wire, String> {
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
        Ok(Wire { client: clients.of(&provider.base_url).clone(), provider, model: model.to_owned() })
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
        hear: &(dyn Fn(Heard<'_>) + Sync),
    ) -> Result<Answer, Fault> {
        let request = request(self.provider.api, system, history, tools);
        let limit = FRAME_BYTES_BASE + FRAME_BYTES_PER_TOKEN * max_output as usize;
        let options = self.options(max_output).with_raw_frame_sink(Frames { seen: AtomicUsize::new(0), limit });
        let mut began = false;
        let answering = async {
            let answer = self.client.exec_chat_stream(self.target(), request, Some(&options)).await;
            let mut stream = answer.map_err(|e| asked.fault(&e, false))?.stream;
            while let Some(event) = stream.next().await {
                match event.map_err(|e| asked.fault(&e, began))? {
                    ChatStreamEvent::Chunk(chunk) => hear(Heard::Text(&chunk.content)),
                    ChatStreamEvent::ReasoningChunk(chunk) => hear(Heard::Thought(&chunk.content)),
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

    fn options(&self, max_output: u32) -> ChatOptions {
        let options = ChatOptions::default()
            .with_max_tokens(max_output)
            .with_stream_header_timeout(self.provider.silence)
            .with_stream_read_timeout(self.provider.silence)
            .with_capture_usage(true)
            .with_capture_content(true)
            .with_capture_tool_calls(true);
        // The library takes `-high` and the like off a model's name and asks for that effort, unless it is given one: an effort that
        // asks for nothing leaves the name as it is.
        let looks_like_effort = ReasoningEffort::from_model_name(&self.model).0.is_some();
        let exactly = |options: ChatOptions| match looks_like_effort {
            true => options.with_reasoning_effort(ReasoningEffort::Zero),
            false => options,
        };
        match self.provider.api {
            Api::Anthropic => exactly(options).with_capture_reasoning_content(true),
            // Capturing would ask for thoughts, which models without them refuse; their signatures come anyway.
            Api::Gemini => exactly(options),
            Api::OpenAi => {
                options.with_capture_reasoning_content(true).with_reasoning_effort(ReasoningEffort::Budget(0))
            }
            // Here capturing asks for a summary, which models that do not reason refuse.
            Api::OpenAiResponses => {
                let reasons = ["gpt-5", "gpt-6", "o1", "o3", "o4"].iter().any(|p| self.model.starts_with(p));
                options.with_capture_reasoning_content(reasons).with_reasoning_effort(ReasoningEffort::Budget(0))
            }
            Api::Ollama => match &self.provider.key {
                Some(key) => options.with_extra_headers(Headers::from((
                    "Authorization".to_owned(),
                    format!("Bearer {}", key.expose()),
                ))),
                None => options,
            },
        }
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

/// The conversation as the library takes it. Where the provider caches by mark, the system prompt with the tools and the end of the
/// conversation are marked, so that each turn reads the one before from the cache.
fn request(api: Api, system: &str, history: &History, tools: &[Spec]) -> ChatRequest {
    let marks = api == Api::Anthropic;
    let mut messages = Vec::with_capacity(2 + 2 * history.turns.len());
    if marks {
        messages.push(ChatMessage::system(system).with_options(CacheControl::Ephemeral));
    }
    messages.push(ChatMessage::user(history.opening()));
    for turn in &history.turns {
        let mut said = turn.kept.clone();
        if !turn.text.is_empty() {
            said.push(ContentPart::Text(turn.text.clone()));
        }
        said.extend(turn.calls.iter().map(|c| {
            ContentPart::ToolCall(ToolCall {
                call_id: c.id.clone(),
                fn_name: c.tool.clone(),
                fn_arguments: c.args.clone(),
                thought_signatures: c.signed.clone(),
            })
        }));
        if !said.iter().any(|p| p.is_text() || p.is_tool_call()) {
            // No API takes an empty message back.
            said.push(ContentPart::Text("(nothing)".to_owned()));
        }
        messages.push(ChatMessage::assistant(MessageContent::from_parts(said)));
        if !turn.results.is_empty() {
            let result = |r: &super::history::Outcome| {
                ToolResponse::new(r.id.clone(), r.text.clone()).with_fn_name(r.tool.clone())
            };
            let results: Vec<ToolResponse> = turn.results.iter().map(result).collect();
            match api {
                // Of several in one message the library sends the last one only.
                Api::Ollama => messages.extend(results.into_iter().map(ChatMessage::from)),
                _ => messages.push(ChatMessage::from(results)),
            }
        }
        if let Some(told) = &turn.told {
            messages.push(ChatMessage::user(told.clone()));
        }
    }
    if marks && let Some(last) = messages.pop() {
        messages.push(last.with_options(CacheControl::Ephemeral));
    }
    let tool = |s: &Spec| Tool::new(s.name).with_description(s.about).with_schema(s.schema.clone());
    let mut request = ChatRequest::new(messages).with_tools(tools.iter().map(tool).collect::<Vec<_>>());
    if !marks {
        request = request.with_system(system);
    }
    if api == Api::OpenAiResponses {
        // What is said here is kept here, not there.
        request.store = Some(false);
    }
    request
}

/// Watches the frames of an answer: ends one that is larger than its tokens can be, or that would make the library set aside room for
/// calls nobody made.
struct Frames {
    seen: AtomicUsize,
    limit: usize,
}

impl ChatFrameSink for Frames {
    fn on_frame(&self, _ctx: &FrameCtx, frame: RawFrameRef<'_>) {
        let seen = self.seen.fetch_add(frame.data.len(), Ordering::Relaxed) + frame.data.len();
        if seen > self.limit || has_absurd_index(frame.data) {
            // A sink has no other way to stop the stream; caught in `ask`.
            std::panic::resume_unwind(Box::new("too much"));
        }
    }
}

/// Whether a frame numbers something beyond a thousand. Within JSON texts quotes are escaped: what is found is a key.
fn has_absurd_index(frame: &str) -> bool {
    frame.split("\"index\"").skip(1).any(|rest| {
        let rest = rest.trim_start().strip_prefix(':').unwrap_or_default().trim_start();
        rest.chars().take_while(char::is_ascii_digit).count() > 3
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_indexes_are_seen_and_texts_are_not() {
        assert!(has_absurd_index(r#"{"tool_calls":[{"index": 4000000000}]}"#));
        assert!(has_absurd_index(r#"{"index":1,"a":{"index" : 12345}}"#));
        assert!(!has_absurd_index(r#"{"index":999,"content":"\"index\": 123456"}"#));
    }

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
