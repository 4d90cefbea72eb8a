//! Assembles an answer from the chunks of a stream, in every form that compatible servers send.

use super::super::{Answer, MAX_CALLS, StreamDelta, call};
use crate::providers::cause::Cause;
use crate::providers::meter::WireUsage;
use crate::providers::prices::reported_cost;
use genai::chat::{ContentPart, CustomPart, ToolCall};
use serde_json::{Map, Value, json};

/// What the reasons mean with which servers end an answer. A reason that is not listed ends it normally.
const FINISH_REASONS: &[(&str, Finish)] = &[
    ("length", Finish::Cut),
    ("max_tokens", Finish::Cut),
    ("model_length", Finish::Cut),
    ("max_output_tokens", Finish::Cut),
    ("content_filter", Finish::Fault(Cause::Moderation)),
    ("contentfilter", Finish::Fault(Cause::Moderation)),
    ("sensitive", Finish::Fault(Cause::Moderation)),
    ("safety", Finish::Fault(Cause::Moderation)),
    ("prohibited_content", Finish::Fault(Cause::Moderation)),
    ("refusal", Finish::Fault(Cause::Moderation)),
    ("model_context_window_exceeded", Finish::Fault(Cause::TooLong)),
    ("insufficient_system_resource", Finish::Fault(Cause::Overloaded)),
    ("network_error", Finish::Fault(Cause::ServerFault)),
    ("error", Finish::Fault(Cause::ServerFault)),
    ("abort", Finish::Fault(Cause::ServerFault)),
];
/// Names of a message's members with reasoning that some servers expect back. A server that sends another form, such
/// as typed parts of the content, refuses these.
const REASONING: [&str; 2] = ["reasoning_content", "reasoning"];
/// Upper bound of the reasoning blocks that are sent back.
const MAX_DETAILS: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    /// The answer reached its length limit.
    Cut,
    /// The answer is not usable.
    Fault(Cause),
}

/// End of an answer.
#[derive(Debug)]
pub enum End {
    /// The answer is whole, or was cut at its length limit.
    Whole(Answer),
    /// The provider ended it for this cause; its own word for it.
    Fault(Cause, String),
    /// The connection ended before the answer.
    BrokenOff,
}

/// Answer so far.
#[derive(Debug, Default)]
pub struct Assembly {
    text: String,
    /// Reasoning, and the member it arrived in.
    thought: String,
    thought_member: Option<&'static str>,
    details: Vec<Value>,
    calls: Vec<PartialCall>,
    usage: Option<WireUsage>,
    finish: Option<String>,
    began: bool,
}

/// Tool call so far.
#[derive(Debug, Default)]
struct PartialCall {
    index: Option<u64>,
    id: String,
    name: String,
    text: String,
    object: Option<Value>,
    /// What the provider expects back with the call (a thought signature of Gemini).
    extra: Option<Value>,
}

/// Returns the error that a chunk reports.
pub fn error(chunk: &Value) -> Option<&Value> {
    let inner = || chunk.pointer("/choices/0/error").filter(|e| !e.is_null());
    match chunk.get("error") {
        Some(error) if !error.is_null() => Some(chunk),
        _ if chunk.get("type").is_some_and(|t| t == "error") => Some(chunk),
        // Some servers report only `{"object": "error", "message": …}`.
        _ if chunk.get("object").is_some_and(|o| o == "error") => Some(chunk),
        _ if chunk.get("choices").is_none()
            && chunk.get("usage").is_none()
            && chunk.get("message").is_some_and(Value::is_string) =>
        {
            Some(chunk)
        }
        _ => inner(),
    }
}

impl Assembly {
    /// Returns whether anything arrived: then it is billed.
    pub fn began(&self) -> bool {
        self.began
    }

    /// Returns whether the model has ended its answer.
    pub fn is_complete(&self) -> bool {
        self.finish.is_some()
    }

    /// Adds a chunk, or a whole answer of a server that does not stream.
    pub fn push(&mut self, chunk: &Value, on_delta: &(dyn Fn(StreamDelta<'_>) + Sync)) {
        self.began = true;
        let choice = chunk.get("choices").and_then(|choices| choices.get(0)).unwrap_or(&Value::Null);
        let usages = [chunk.get("usage"), chunk.pointer("/x_groq/usage"), choice.get("usage")];
        if let Some(usage) = usages.into_iter().flatten().find_map(usage) {
            self.usage = Some(usage);
        }
        let message = ["delta", "message"].iter().find_map(|member| choice.get(member).filter(|m| m.is_object()));
        if let Some(message) = message {
            self.reasoning(message, on_delta);
            self.content(message, on_delta);
            self.tool_calls(message);
        }
        let reason = choice.get("finish_reason").and_then(Value::as_str).filter(|reason| !reason.is_empty());
        if let Some(reason) = reason {
            self.finish = Some(reason.to_owned());
        }
    }

    fn reasoning(&mut self, message: &Value, on_delta: &(dyn Fn(StreamDelta<'_>) + Sync)) {
        let found = REASONING
            .into_iter()
            .find_map(|member| Some((member, message.get(member)?.as_str().filter(|text| !text.is_empty())?)));
        if let Some((member, text)) = found {
            self.thought_member = Some(member);
            self.thought.push_str(text);
            on_delta(StreamDelta::Thought(text));
        }
        for detail in message.get("reasoning_details").and_then(Value::as_array).into_iter().flatten() {
            self.detail(detail);
        }
    }

    /// Adds a block of reasoning, or a further piece of the last one. The blocks go back as they came.
    fn detail(&mut self, detail: &Value) {
        let same = |known: &Value| ["index", "type"].iter().all(|member| known.get(member) == detail.get(member));
        let piece = detail.as_object();
        let room = self.details.len() < MAX_DETAILS;
        match (self.details.last_mut().filter(|known| detail.get("index").is_some() && same(known)), piece) {
            (Some(Value::Object(known)), Some(piece)) => {
                for (name, value) in piece {
                    match (known.get_mut(name), value) {
                        (Some(Value::String(text)), Value::String(more))
                            if matches!(name.as_str(), "text" | "summary" | "data") =>
                        {
                            text.push_str(more);
                        }
                        (_, Value::Null) => {}
                        (_, value) => {
                            known.insert(name.clone(), value.clone());
                        }
                    }
                }
            }
            (_, Some(_)) if room => self.details.push(detail.clone()),
            _ => {}
        }
    }

    fn content(&mut self, message: &Value, on_delta: &(dyn Fn(StreamDelta<'_>) + Sync)) {
        let mut text = |text: &str| {
            if !text.is_empty() {
                self.text.push_str(text);
                on_delta(StreamDelta::Text(text));
            }
        };
        match message.get("content") {
            Some(Value::String(piece)) => text(piece),
            // Typed parts: text, and reasoning of Mistral's models.
            Some(Value::Array(parts)) => {
                for part in parts {
                    match (part.get("text").and_then(Value::as_str), part.get("thinking")) {
                        (Some(piece), _) => text(piece),
                        (None, Some(Value::String(thought))) => on_delta(StreamDelta::Thought(thought)),
                        (None, Some(Value::Array(inner))) => {
                            let pieces = inner.iter().filter_map(|p| p.get("text").and_then(Value::as_str));
                            pieces.for_each(|thought| on_delta(StreamDelta::Thought(thought)));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        if let Some(refusal) = message.get("refusal").and_then(Value::as_str) {
            text(refusal);
        }
    }

    fn tool_calls(&mut self, message: &Value) {
        match message.get("tool_calls") {
            Some(Value::Array(pieces)) => pieces.iter().for_each(|piece| self.piece(piece)),
            Some(piece @ Value::Object(_)) => self.piece(piece),
            _ => {}
        }
        if let Some(function @ Value::Object(_)) = message.get("function_call") {
            self.piece(&json!({ "function": function }));
        }
    }

    /// Adds a piece of a tool call.
    fn piece(&mut self, piece: &Value) {
        let function = piece.get("function").filter(|f| f.is_object()).unwrap_or(piece);
        let word = |of: &Value, member: &str| of.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
        let index = piece.get("index").and_then(|i| i.as_u64().or_else(|| i.as_str()?.parse().ok()));
        let (id, name) = (word(piece, "id"), word(function, "name"));
        let arguments = ["arguments", "parameters", "input"].iter().find_map(|member| function.get(member));
        let Some(at) = self.continued(index, &id, &name, arguments).or_else(|| self.begin(index)) else { return };
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            call.id = id;
        }
        if call.name.is_empty() {
            call.name = name;
        }
        match arguments {
            Some(Value::String(text)) => call.text.push_str(text),
            Some(object @ (Value::Object(_) | Value::Array(_))) => call.object = Some(object.clone()),
            _ => {}
        }
        if let Some(extra) = piece.get("extra_content").filter(|e| e.is_object()) {
            call.extra = Some(extra.clone());
        }
    }

    /// Returns the call that a piece continues. An index or an id names it; without both, a piece with a name begins a
    /// new call, unless the last one has the same name and is incomplete.
    fn continued(&self, index: Option<u64>, id: &str, name: &str, arguments: Option<&Value>) -> Option<usize> {
        let named = match index {
            Some(index) => self.calls.iter().rposition(|call| call.index == Some(index)),
            None if !id.is_empty() => self.calls.iter().rposition(|call| call.id == id),
            None => self.calls.len().checked_sub(1),
        };
        let at = named.or_else(|| (index.is_none() && id.is_empty()).then(|| self.calls.len().checked_sub(1))?)?;
        let call = &self.calls[at];
        // Some servers send every call whole, all with the same index.
        let is_other = !id.is_empty() && !call.id.is_empty() && call.id != id;
        let has_arguments = arguments.is_some_and(|a| !a.is_null() && *a != "");
        let again =
            !name.is_empty() && !call.name.is_empty() && (name != call.name || (has_arguments && call.is_whole()));
        (!is_other && !again).then_some(at)
    }

    fn begin(&mut self, index: Option<u64>) -> Option<usize> {
        (self.calls.len() < MAX_CALLS).then(|| {
            self.calls.push(PartialCall { index, ..PartialCall::default() });
            self.calls.len() - 1
        })
    }

    /// Ends the answer. `done`: the server said that the stream is complete.
    pub fn end(self, done: bool) -> End {
        let reason = self.finish.as_deref().map(str::to_ascii_lowercase);
        let finish =
            FINISH_REASONS.iter().find(|(name, _)| reason.as_deref() == Some(*name)).map(|(_, finish)| *finish);
        match (finish, &self.finish) {
            (Some(Finish::Fault(cause)), Some(reason)) => return End::Fault(cause, reason.clone()),
            (None, None) if !done => return End::BrokenOff,
            _ => {}
        }
        let cut = finish == Some(Finish::Cut);
        let mut answer = Answer { text: self.text, usage: self.usage, cut, ..Answer::default() };
        let calls = self.calls.into_iter().filter(|call| !call.name.is_empty());
        answer.calls = calls.map(|made| call(made.into_tool_call(), cut)).collect();
        if answer.calls.is_empty() {
            return End::Whole(answer);
        }
        let mut back = Map::new();
        match self.thought_member.filter(|_| !self.thought.is_empty()) {
            Some("reasoning_content") => answer.reasoning_parts.push(ContentPart::ReasoningContent(self.thought)),
            Some(member) => {
                back.insert(member.to_owned(), Value::String(self.thought));
            }
            None => {}
        }
        if !self.details.is_empty() {
            back.insert("reasoning_details".to_owned(), Value::Array(self.details));
        }
        if !back.is_empty() {
            answer
                .reasoning_parts
                .push(ContentPart::Custom(CustomPart { model_iden: None, data: Value::Object(back) }));
        }
        End::Whole(answer)
    }
}

impl PartialCall {
    /// Returns whether its arguments are complete.
    fn is_whole(&self) -> bool {
        self.object.is_some() || serde_json::from_str::<Map<String, Value>>(&self.text).is_ok()
    }

    fn into_tool_call(self) -> ToolCall {
        let arguments = self.object.unwrap_or_else(|| {
            let parsed = serde_json::from_str(&self.text);
            parsed.unwrap_or(Value::String(self.text))
        });
        ToolCall {
            call_id: self.id,
            fn_name: self.name,
            fn_arguments: arguments,
            thought_signatures: self.extra.map(|extra| vec![extra.to_string()]),
        }
    }
}

/// Reads the usage of a call; `None` if nothing plausible was reported.
fn usage(usage: &Value) -> Option<WireUsage> {
    let count = |pointer: &str| usage.pointer(pointer).and_then(|n| n.as_u64().or_else(|| whole(n.as_f64()?)));
    let (input, completion) = (count("/prompt_tokens")?, count("/completion_tokens")?);
    Some(WireUsage {
        input,
        cached: count("/prompt_tokens_details/cached_tokens")
            .or_else(|| count("/prompt_cache_hit_tokens"))
            .unwrap_or(0),
        cache_written: count("/prompt_tokens_details/cache_write_tokens").unwrap_or(0),
        // Some servers report reasoning only in the total.
        output: completion.max(count("/total_tokens").unwrap_or(0).saturating_sub(input)),
        reasoning: count("/completion_tokens_details/reasoning_tokens").unwrap_or(0),
        cost_micros: reported_cost(usage),
        ..WireUsage::default()
    })
}

fn whole(number: f64) -> Option<u64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within what a double holds exactly
    (number.is_finite() && (0.0..9e15).contains(&number)).then_some(number as u64)
}

#[cfg(test)]
mod tests;
