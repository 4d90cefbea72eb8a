//! Converts a conversation to the library's request, with the options of each API.

use super::super::history::{History, Outcome};
use super::super::tools::Spec;
use super::Wire;
use crate::providers::settings::{Api, Effort};
use genai::chat::{
    CacheControl, ChatMessage, ChatOptions, ChatRequest, ContentPart, MessageContent, ReasoningEffort, Tool, ToolCall,
    ToolResponse,
};

/// Claude models that take a reasoning budget in tokens instead of an effort.
const BUDGETED: &[&str] = &[
    "claude-3",
    "haiku-4",
    "sonnet-4-0",
    "sonnet-4-1",
    "sonnet-4-2",
    "sonnet-4-5",
    "opus-4-0",
    "opus-4-1",
    "opus-4-2",
];
/// Smallest reasoning budget.
const MIN_BUDGET: u32 = 1024;

/// Options of a call.
pub fn options(wire: &Wire, max_output_tokens: u32) -> ChatOptions {
    let options = ChatOptions::default()
        .with_max_tokens(max_output_tokens)
        .with_stream_header_timeout(wire.provider.idle_timeout)
        .with_stream_read_timeout(wire.provider.idle_timeout)
        .with_capture_usage(true)
        .with_capture_content(true)
        .with_capture_tool_calls(true);
    let effort = effort(wire, max_output_tokens);
    match wire.provider.api {
        Api::Anthropic => with_effort(options, wire, effort).with_capture_reasoning_content(true),
        // Capturing would request reasoning, which models without it refuse. Signatures arrive anyway.
        Api::Gemini => with_effort(options, wire, effort),
        // Not called through the library.
        Api::OpenAi | Api::Ollama => options,
        // Capturing requests a reasoning summary, which models without reasoning refuse.
        Api::OpenAiResponses => {
            let reasons = ["gpt-5", "gpt-6", "o1", "o3", "o4"].iter().any(|p| wire.model.starts_with(p));
            options
                .with_capture_reasoning_content(reasons || effort.is_some())
                .with_reasoning_effort(effort.unwrap_or(ReasoningEffort::Budget(0)))
        }
    }
}

/// Adds an effort to the options. Without one, the library would strip a suffix like `-high` from the model name and
/// request that effort; an effort of zero requests nothing and preserves the name.
fn with_effort(options: ChatOptions, wire: &Wire, effort: Option<ReasoningEffort>) -> ChatOptions {
    let named = || ReasoningEffort::from_model_name(&wire.model).0.map(|_| ReasoningEffort::Zero);
    match effort.or_else(named) {
        Some(effort) => options.with_reasoning_effort(effort),
        None => options,
    }
}

/// Returns the effort in the form of this model; `None` = not requested.
fn effort(wire: &Wire, max_output_tokens: u32) -> Option<ReasoningEffort> {
    let effort = wire.effort?;
    let budgeted = !wire.model.contains("claude") || BUDGETED.iter().any(|old| wire.model.contains(old));
    if wire.provider.api == Api::Anthropic && budgeted {
        // Reasoning counts as output there and must leave room for the answer.
        let share = match effort {
            Effort::Low => max_output_tokens / 8,
            Effort::Medium => max_output_tokens / 4,
            Effort::High => max_output_tokens / 2,
        };
        return (max_output_tokens > 2 * MIN_BUDGET).then(|| ReasoningEffort::Budget(share.max(MIN_BUDGET)));
    }
    Some(match effort {
        Effort::Low => ReasoningEffort::Low,
        Effort::Medium => ReasoningEffort::Medium,
        Effort::High => ReasoningEffort::High,
    })
}

/// Builds the request. Where the provider caches by markers, the system prompt with the tools and the ends of the last
/// two turns are marked, so that each turn reads the previous one from the cache: the provider finds a cached beginning
/// only if it ends at a mark or shortly before one, and one turn may be longer than that.
pub fn request(api: Api, system: &str, history: &History, tools: &[Spec]) -> ChatRequest {
    let marks = api == Api::Anthropic;
    let mut messages = Vec::with_capacity(2 + 2 * history.turns.len());
    if marks {
        messages.push(ChatMessage::system(system).with_options(CacheControl::Ephemeral));
    }
    messages.push(ChatMessage::user(history.opening()));
    // Indexes of the last message of each turn.
    let mut ends = vec![messages.len() - 1];
    for turn in &history.turns {
        let mut parts = turn.reasoning_parts.clone();
        if !turn.text.is_empty() {
            parts.push(ContentPart::Text(turn.text.clone()));
        }
        parts.extend(turn.calls.iter().map(|c| {
            ContentPart::ToolCall(ToolCall {
                call_id: c.id.clone(),
                fn_name: c.tool.clone(),
                fn_arguments: c.args.clone(),
                thought_signatures: c.signatures.clone(),
            })
        }));
        if !parts.iter().any(|p| p.is_text() || p.is_tool_call()) {
            // No API accepts an empty message.
            parts.push(ContentPart::Text("(no answer)".to_owned()));
        }
        messages.push(ChatMessage::assistant(MessageContent::from_parts(parts)));
        if !turn.results.is_empty() {
            let result = |r: &Outcome| ToolResponse::new(r.id.clone(), r.text.clone()).with_fn_name(r.tool.clone());
            let results: Vec<ToolResponse> = turn.results.iter().map(result).collect();
            messages.push(ChatMessage::from(results));
        }
        if let Some(nudge) = &turn.nudge {
            messages.push(ChatMessage::user(nudge.clone()));
        }
        ends.push(messages.len() - 1);
    }
    if marks {
        for at in ends.into_iter().rev().take(2) {
            messages[at] = messages[at].clone().with_options(CacheControl::Ephemeral);
        }
    }
    let tool = |s: &Spec| Tool::new(s.name).with_description(s.description).with_schema(s.schema.clone());
    let mut request = ChatRequest::new(messages).with_tools(tools.iter().map(tool).collect::<Vec<_>>());
    if !marks {
        request = request.with_system(system);
    }
    if api == Api::OpenAiResponses {
        // The provider must not store the conversation.
        request.store = Some(false);
    }
    request
}
