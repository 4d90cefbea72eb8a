//! Reads the usage of a model call from the provider's response as it streams past: bounded, and without delaying it.
//!
//! | wire | reported in | complete when |
//! |---|---|---|
//! | Anthropic | `message_start`, `message_delta` | the delta arrived |
//! | Chat | a chunk's `usage` | the answer finished |
//! | Responses | `response.completed` (or `incomplete`, `failed`) | it arrived |
//! | Gemini | `usageMetadata`, repeated in each chunk | an answer finished, or there was none |
//! | Ollama | the last line | `done` was true |
//!
//! Only fields that the provider itself writes are read, so that model output cannot be mistaken for usage.

use crate::providers::meter::WireUsage;
use crate::providers::prices::reported_cost;
use serde_json::Value;

/// Maximum number of bytes buffered: of one line of a stream, or of a response that is not streamed.
const MAX_BUFFERED_BYTES: usize = 16 * 1024 * 1024;

/// Wire format, determined by the called path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Chat Completions, and the older Completions.
    Chat,
    /// OpenAI Responses.
    Responses,
    /// Gemini `generateContent`.
    Gemini,
    /// Ollama's own API.
    Ollama,
}

/// Framing of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// Server-sent events, or one JSON value per line.
    Lines,
    /// A single JSON value.
    Whole,
}

/// Reads the usage from one response.
#[derive(Debug)]
pub struct UsageReader {
    wire: Wire,
    framing: Framing,
    buffer: Vec<u8>,
    /// Whether the current line (or the whole response) is too long, so that the rest of it is dropped.
    skipping: bool,
    found: FoundUsage,
}

#[derive(Debug, Default)]
struct FoundUsage {
    usage: Option<WireUsage>,
    finished: bool,
    /// Whether a count was not a number, so that nothing in this response is trusted.
    invalid: bool,
}

impl UsageReader {
    /// Creates a reader for a response of this content type.
    pub fn new(wire: Wire, content_type: &str) -> UsageReader {
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let lines = matches!(kind.as_str(), "text/event-stream" | "application/x-ndjson" | "application/jsonl");
        let framing = if lines { Framing::Lines } else { Framing::Whole };
        UsageReader { wire, framing, buffer: Vec::new(), skipping: false, found: FoundUsage::default() }
    }

    /// Reads the next bytes, split anywhere.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        if self.framing == Framing::Whole {
            return self.buffer(bytes);
        }
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.buffer(&bytes[..end]);
            self.line();
            bytes = &bytes[end + 1..];
        }
        self.buffer(bytes);
    }

    /// Returns the usage, if the response reported it and was complete.
    pub fn finish(mut self) -> Option<WireUsage> {
        match self.framing {
            // The last line may lack a newline.
            Framing::Lines => self.line(),
            Framing::Whole if self.skipping => {}
            Framing::Whole => match serde_json::from_slice::<Value>(&self.buffer) {
                // Gemini streams an array of responses unless events are requested.
                Ok(Value::Array(items)) => items.iter().for_each(|item| self.found.take(self.wire, item)),
                Ok(json) => {
                    self.found.take(self.wire, &json);
                    // An unstreamed response is complete; only Gemini's must report that it is.
                    self.found.finished |= self.wire != Wire::Gemini;
                }
                Err(_) => {}
            },
        }
        self.found.usage.filter(|_| self.found.finished && !self.found.invalid)
    }

    fn buffer(&mut self, bytes: &[u8]) {
        if self.skipping || self.buffer.len() + bytes.len() > MAX_BUFFERED_BYTES {
            self.skipping = true;
            self.buffer = Vec::new();
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    fn line(&mut self) {
        let line = std::mem::take(&mut self.buffer);
        if !std::mem::take(&mut self.skipping) {
            let text = line.strip_suffix(b"\r").unwrap_or(&line);
            let json = text.strip_prefix(b"data:").unwrap_or(text).trim_ascii_start();
            // Most lines are parts of the answer: only those that may contain usage are parsed.
            if json.first() == Some(&b'{')
                && self.may_contain_usage(json)
                && let Ok(json) = serde_json::from_slice::<Value>(json)
            {
                self.found.take(self.wire, &json);
            }
        }
        // Reuse the allocation for the next line.
        self.buffer = line;
        self.buffer.clear();
    }

    fn may_contain_usage(&self, line: &[u8]) -> bool {
        let has = |word: &[u8]| line.windows(word.len()).any(|w| w == word);
        match self.wire {
            Wire::Anthropic | Wire::Responses => has(b"\"usage\""),
            Wire::Chat => has(b"\"usage\"") || has(b"\"finish_reason\""),
            Wire::Gemini => has(b"\"usageMetadata\"") || has(b"\"finishReason\""),
            Wire::Ollama => has(b"\"done\""),
        }
    }
}

impl FoundUsage {
    fn take(&mut self, wire: Wire, json: &Value) {
        match wire {
            Wire::Anthropic => self.anthropic(json),
            Wire::Chat => self.chat(json),
            Wire::Responses => self.responses(json),
            Wire::Gemini => self.gemini(json),
            Wire::Ollama => self.ollama(json),
        }
    }

    /// Returns a count: 0 if missing; if it is not a number, the response is no longer trusted.
    fn count(&mut self, from: &Value, pointer: &str) -> u64 {
        match from.pointer(pointer) {
            None | Some(Value::Null) => 0,
            Some(value) => value.as_u64().unwrap_or_else(|| {
                self.invalid = true;
                0
            }),
        }
    }

    fn anthropic(&mut self, json: &Value) {
        let (usage, last) = match json["type"].as_str() {
            Some("message_start") => (&json["message"]["usage"], false),
            Some("message_delta" | "message") => (&json["usage"], true),
            _ => return,
        };
        if !usage.is_object() {
            return;
        }
        let mut sum = self.usage.unwrap_or_default();
        // Some servers repeat the input in the delta, others leave it out.
        if usage.get("input_tokens").is_some_and(|v| !v.is_null()) {
            sum.cached = self.count(usage, "/cache_read_input_tokens").max(sum.cached);
            sum.cache_written = self.count(usage, "/cache_creation_input_tokens").max(sum.cache_written);
            let hour = self.count(usage, "/cache_creation/ephemeral_1h_input_tokens");
            sum.cache_written_hour = hour.max(sum.cache_written_hour);
            let fresh = self.count(usage, "/input_tokens");
            sum.input = fresh.saturating_add(sum.cached).saturating_add(sum.cache_written).max(sum.input);
        }
        sum.output = self.count(usage, "/output_tokens").max(sum.output);
        self.usage = Some(sum);
        self.finished |= last;
    }

    fn chat(&mut self, json: &Value) {
        let choices = json["choices"].as_array().map_or(&[][..], Vec::as_slice);
        self.finished |= choices.is_empty() || choices.iter().any(|c| c["finish_reason"].is_string());
        let usage = &json["usage"];
        if !usage.is_object() {
            return;
        }
        let (input, completion) = (self.count(usage, "/prompt_tokens"), self.count(usage, "/completion_tokens"));
        // Some servers leave reasoning out of the completion tokens, but all include it in the total.
        let output = completion.max(self.count(usage, "/total_tokens").saturating_sub(input));
        let cached = self.count(usage, "/prompt_tokens_details/cached_tokens");
        self.usage = Some(WireUsage {
            input,
            cached: cached.max(self.count(usage, "/prompt_cache_hit_tokens")),
            cache_written: self.count(usage, "/prompt_tokens_details/cache_write_tokens"),
            output,
            reasoning: self.count(usage, "/completion_tokens_details/reasoning_tokens"),
            cost_micros: reported_cost(usage),
            ..WireUsage::default()
        });
    }

    fn responses(&mut self, json: &Value) {
        let usage = match json["type"].as_str() {
            Some("response.completed" | "response.incomplete" | "response.failed") => &json["response"]["usage"],
            Some(_) => return,
            None => &json["usage"],
        };
        if !usage.is_object() {
            return;
        }
        self.usage = Some(WireUsage {
            input: self.count(usage, "/input_tokens"),
            cached: self.count(usage, "/input_tokens_details/cached_tokens"),
            output: self.count(usage, "/output_tokens"),
            reasoning: self.count(usage, "/output_tokens_details/reasoning_tokens"),
            ..WireUsage::default()
        });
        self.finished = true;
    }

    fn gemini(&mut self, json: &Value) {
        let candidates = json["candidates"].as_array().map_or(&[][..], Vec::as_slice);
        self.finished |= candidates.is_empty() || candidates.iter().any(|c| c["finishReason"].is_string());
        let usage = &json["usageMetadata"];
        if !usage.is_object() {
            return;
        }
        let thoughts = self.count(usage, "/thoughtsTokenCount");
        let input =
            self.count(usage, "/promptTokenCount").saturating_add(self.count(usage, "/toolUsePromptTokenCount"));
        self.usage = Some(WireUsage {
            input,
            cached: self.count(usage, "/cachedContentTokenCount"),
            output: self.count(usage, "/candidatesTokenCount").saturating_add(thoughts),
            reasoning: thoughts,
            ..WireUsage::default()
        });
    }

    fn ollama(&mut self, json: &Value) {
        // Old versions do not report the count of a cached prompt, so the usage is unknown.
        let (Some(input), Some(output)) = (json["prompt_eval_count"].as_u64(), json["eval_count"].as_u64()) else {
            return;
        };
        self.usage = Some(WireUsage { input, output, ..WireUsage::default() });
        self.finished |= json["done"] == Value::Bool(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SSE: &str = "text/event-stream; charset=utf-8";
    const JSON: &str = "application/json";

    /// Responses as providers send them, with their usage.
    fn answers() -> Vec<(Wire, &'static str, &'static str, Option<WireUsage>)> {
        let used = |input, cached, cache_written, output, reasoning| {
            Some(WireUsage { input, cached, cache_written, output, reasoning, ..WireUsage::default() })
        };
        vec![
            (
                Wire::Anthropic,
                SSE,
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":10,\"cache_creation_input_tokens\":20,\"cache_read_input_tokens\":300,\"output_tokens\":1}}}\n\n\
                 event: ping\ndata: {\"type\": \"ping\"}\n\n\
                 event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"{\\\"type\\\":\\\"message_delta\\\",\\\"usage\\\":{\\\"output_tokens\\\":0}}\"}}\n\n\
                 event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":42}}\n\n\
                 event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
                used(330, 300, 20, 42, 0),
            ),
            (
                Wire::Anthropic,
                JSON,
                r#"{"type":"message","content":[{"type":"text","text":"ü"}],"usage":{"input_tokens":5,"output_tokens":7,"cache_read_input_tokens":null}}"#,
                used(5, 0, 0, 7, 0),
            ),
            (
                Wire::Chat,
                SSE,
                "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}],\"usage\":null}\r\n\r\n\
                 data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\n\
                 data: {\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":20,\"total_tokens\":120,\"prompt_tokens_details\":{\"cached_tokens\":64},\"completion_tokens_details\":{\"reasoning_tokens\":12}}}\r\n\r\n\
                 data: [DONE]\r\n\r\n",
                used(100, 64, 0, 20, 12),
            ),
            (
                Wire::Chat,
                JSON,
                r#"{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":20}}"#,
                used(9, 0, 0, 11, 0),
            ),
            (
                Wire::Responses,
                SSE,
                "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n\
                 event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"\\\"usage\\\"\"}\n\n\
                 event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":8,\"input_tokens_details\":{\"cached_tokens\":2},\"output_tokens\":6,\"output_tokens_details\":{\"reasoning_tokens\":4},\"total_tokens\":14}}}\n\n",
                used(8, 2, 0, 6, 4),
            ),
            (
                Wire::Responses,
                JSON,
                r#"{"object":"response","usage":{"input_tokens":1,"output_tokens":2}}"#,
                used(1, 0, 0, 2, 0),
            ),
            (
                Wire::Gemini,
                SSE,
                "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}],\"usageMetadata\":{\"promptTokenCount\":7,\"candidatesTokenCount\":1}}\n\n\
                 data: {\"candidates\":[{\"content\":{},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":7,\"candidatesTokenCount\":5,\"thoughtsTokenCount\":30,\"cachedContentTokenCount\":4,\"totalTokenCount\":42}}\n\n",
                used(7, 4, 0, 35, 30),
            ),
            (
                Wire::Gemini,
                JSON,
                r#"[{"candidates":[{}],"usageMetadata":{"promptTokenCount":3}},{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2}}]"#,
                used(3, 0, 0, 2, 0),
            ),
            (
                Wire::Ollama,
                "application/x-ndjson",
                "{\"message\":{\"content\":\"hi\"},\"done\":false}\n{\"done\":true,\"prompt_eval_count\":26,\"eval_count\":290}",
                used(26, 0, 0, 290, 0),
            ),
            (Wire::Ollama, JSON, r#"{"done":true,"eval_count":290}"#, None),
            // No usage: missing, an error, an invalid number, text instead of JSON.
            (Wire::Chat, JSON, r#"{"choices":[{"finish_reason":"stop"}]}"#, None),
            (
                Wire::Anthropic,
                SSE,
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
                None,
            ),
            (Wire::Chat, JSON, r#"{"choices":[],"usage":{"prompt_tokens":-9,"completion_tokens":3}}"#, None),
            (Wire::Anthropic, JSON, r#"{"type":"message","usage":{"input_tokens":1.5,"output_tokens":3}}"#, None),
            (Wire::Responses, JSON, "<html>\"usage\"</html>", None),
            (Wire::Gemini, SSE, "data: \n\ndata: {\n", None),
        ]
    }

    fn read(wire: Wire, kind: &str, pieces: &[&[u8]]) -> Option<WireUsage> {
        let mut reader = UsageReader::new(wire, kind);
        pieces.iter().for_each(|piece| reader.feed(piece));
        reader.finish()
    }

    #[test]
    fn usage_is_read_in_each_format() {
        for (wire, kind, text, expected) in answers() {
            assert_eq!(read(wire, kind, &[text.as_bytes()]), expected, "{wire:?}: {text}");
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(read(wire, kind, &bytes), expected, "byte by byte, {wire:?}: {text}");
        }
    }

    #[test]
    fn a_truncated_response_has_no_usage() {
        for (wire, kind, text, _) in answers().into_iter().filter(|a| a.3.is_some() && a.1 != JSON) {
            let usage_at = text.rfind("\"usage").or(text.rfind("eval_count")).unwrap();
            for cut in 0..usage_at {
                assert_eq!(read(wire, kind, &[&text.as_bytes()[..cut]]), None, "{wire:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn an_endless_line_is_not_buffered() {
        let mut reader = UsageReader::new(Wire::Chat, SSE);
        let piece = vec![b'x'; 1024 * 1024];
        for _ in 0..40 {
            reader.feed(&piece);
        }
        assert!(reader.buffer.capacity() <= 2 * MAX_BUFFERED_BYTES);
        reader.feed(b"\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n");
        assert_eq!(reader.finish().map(|u| u.input), Some(1), "the next line is read");
    }

    proptest! {
        #[test]
        fn chunk_borders_do_not_matter(which in 0usize..16, cuts in proptest::collection::vec(0usize..900, 0..12)) {
            let all = answers();
            let (wire, kind, text, expected) = all[which % all.len()];
            let mut borders: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            borders.extend([0, text.len()]);
            borders.sort_unstable();
            let pieces: Vec<&[u8]> = borders.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
            prop_assert_eq!(read(wire, kind, &pieces), expected);
        }

        #[test]
        fn garbage_is_tolerated(bytes in proptest::collection::vec(any::<u8>(), 0..300), which in 0usize..5, sse in any::<bool>()) {
            let wire = [Wire::Anthropic, Wire::Chat, Wire::Responses, Wire::Gemini, Wire::Ollama][which];
            prop_assert_eq!(read(wire, if sse { SSE } else { JSON }, &[&bytes]), None);
        }
    }
}
