//! A call as the library takes it: the conversation, and what goes with it by API.

use super::super::history::{History, Outcome};
use super::super::tools::Spec;
use super::Wire;
use crate::providers::settings::{Api, Effort};
use genai::chat::{
    CacheControl, ChatMessage, ChatOptions, ChatRequest, ContentPart, MessageContent, ReasoningEffort, Tool, ToolCall,
    ToolResponse,
};

/// Claude models that are told how many tokens they may think, and not how hard to.
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
/// The least budget there is.
const BUDGET_LEAST: u32 = 1024;

/// What goes with a call.
pub fn options(wire: &Wire, max_output: u32) -> ChatOptions {
    let options = ChatOptions::default()
        .with_max_tokens(max_output)
        .with_stream_header_timeout(wire.provider.idle_timeout)
        .with_stream_read_timeout(wire.provider.idle_timeout)
        .with_capture_usage(true)
        .with_capture_content(true)
        .with_capture_tool_calls(true);
    let effort = effort(wire, max_output);
    match wire.provider.api {
        Api::Anthropic => with_effort(options, wire, effort).with_capture_reasoning_content(true),
        // Capturing would ask for thoughts, which models without them refuse; their signatures come anyway.
        Api::Gemini => with_effort(options, wire, effort),
        Api::OpenAi | Api::Ollama => options
            .with_capture_reasoning_content(true)
            .with_reasoning_effort(effort.unwrap_or(ReasoningEffort::Budget(0))),
        // Here capturing asks for a summary, which models that do not reason refuse.
        Api::OpenAiResponses => {
            let reasons = ["gpt-5", "gpt-6", "o1", "o3", "o4"].iter().any(|p| wire.model.starts_with(p));
            options
                .with_capture_reasoning_content(reasons || effort.is_some())
                .with_reasoning_effort(effort.unwrap_or(ReasoningEffort::Budget(0)))
        }
    }
}

/// The library takes `-high` and the like off a model's name and asks for that effort, unless it is given one: an effort that asks for
/// nothing leaves the name as it is.
fn with_effort(options: ChatOptions, wire: &Wire, effort: Option<ReasoningEffort>) -> ChatOptions {
    let named = || ReasoningEffort::from_model_name(&wire.model).0.map(|_| ReasoningEffort::Zero);
    match effort.or_else(named) {
        Some(effort) => options.with_reasoning_effort(effort),
        None => options,
    }
}

/// The effort as this model takes it; `None` = nothing is asked for.
fn effort(wire: &Wire, max_output: u32) -> Option<ReasoningEffort> {
    let effort = wire.effort?;
    let budgeted = !wire.model.contains("claude") || BUDGETED.iter().any(|old| wire.model.contains(old));
    if wire.provider.api == Api::Anthropic && budgeted {
        // Thoughts are part of the answer there: they must leave room for the rest of it.
        let share = match effort {
            Effort::Low => max_output / 8,
            Effort::Medium => max_output / 4,
            Effort::High => max_output / 2,
        };
        return (max_output > 2 * BUDGET_LEAST).then(|| ReasoningEffort::Budget(share.max(BUDGET_LEAST)));
    }
    Some(match effort {
        Effort::Low => ReasoningEffort::Low,
        Effort::Medium => ReasoningEffort::Medium,
        Effort::High => ReasoningEffort::High,
    })
}

/// The conversation as the library takes it. Where the provider caches by mark, the system prompt with the tools and the end of the
/// conversation are marked, so that each turn reads the one before from the cache.
pub fn request(api: Api, system: &str, history: &History, tools: &[Spec]) -> ChatRequest {
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
            let result = |r: &Outcome| ToolResponse::new(r.id.clone(), r.text.clone()).with_fn_name(r.tool.clone());
            let results: Vec<ToolResponse> = turn.results.iter().map(result).collect();
            messages.push(ChatMessage::from(results));
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
