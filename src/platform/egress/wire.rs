//! What a call used, read from the provider's answer while it streams past: bounded, and never in its way.
//!
//! | wire | told in | counts as told when |
//! |---|---|---|
//! | Anthropic | `message_start`, `message_delta` | the delta was seen |
//! | Chat | a chunk's `usage` | the answer had finished |
//! | Responses | `response.completed` (or `incomplete`, `failed`) | it was seen |
//! | Gemini | `usageMetadata`, each time anew | an answer had finished, or there was none |
//! | Ollama | the last line | `done` was true |
//!
//! Only places the provider writes are read; what the model says cannot be mistaken for usage.

use crate::providers::meter::WireUsage;
use serde_json::Value;

/// The most bytes of one line of a stream, and of an answer in one piece, that are kept to be read.
const KEPT_MAX: usize = 16 * 1024 * 1024;

/// A wire format, by the path that was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Chat Completions, and the completions before them.
    Chat,
    /// OpenAI Responses.
    Responses,
    /// Gemini `generateContent`.
    Gemini,
    /// Ollama's own.
    Ollama,
}

/// How an answer is cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// Server-sent events, or one JSON text a line.
    Lines,
    /// One JSON text.
    Whole,
}

/// Reads one answer.
#[derive(Debug)]
pub struct Reader {
    wire: Wire,
    framing: Framing,
    kept: Vec<u8>,
    /// The line (or the whole) became too long: nothing more of it is kept.
    skipping: bool,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    usage: Option<WireUsage>,
    finished: bool,
    /// A number that is none: nothing of this answer is believed.
    broken: bool,
}

impl Reader {
    /// A reader for an answer of this content type.
    pub fn new(wire: Wire, content_type: &str) -> Reader {
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let lines = matches!(kind.as_str(), "text/event-stream" | "application/x-ndjson" | "application/jsonl");
        let framing = if lines { Framing::Lines } else { Framing::Whole };
        Reader { wire, framing, kept: Vec::new(), skipping: false, seen: Seen::default() }
    }

    /// Takes the next bytes, cut anywhere.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        if self.framing == Framing::Whole {
            return self.keep(bytes);
        }
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.keep(&bytes[..end]);
            self.line();
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// What was used, if the answer told it and came to its end.
    pub fn end(mut self) -> Option<WireUsage> {
        match self.framing {
            // A last line without an end of line.
            Framing::Lines => self.line(),
            Framing::Whole if self.skipping => {}
            Framing::Whole => match serde_json::from_slice::<Value>(&self.kept) {
                // Gemini streams an array of answers when it is not asked for events.
                Ok(Value::Array(items)) => items.iter().for_each(|item| self.seen.take(self.wire, item)),
                Ok(json) => {
                    self.seen.take(self.wire, &json);
                    // In one piece it is at its end, whatever it says of it.
                    self.seen.finished |= self.wire != Wire::Gemini;
                }
                Err(_) => {}
            },
        }
        self.seen.usage.filter(|_| self.seen.finished && !self.seen.broken)
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.skipping || self.kept.len() + bytes.len() > KEPT_MAX {
            self.skipping = true;
            self.kept = Vec::new();
        } else {
            self.kept.extend_from_slice(bytes);
        }
    }

    fn line(&mut self) {
        let line = std::mem::take(&mut self.kept);
        if !std::mem::take(&mut self.skipping) {
            let text = line.strip_suffix(b"\r").unwrap_or(&line);
            let json = text.strip_prefix(b"data:").unwrap_or(text).trim_ascii_start();
            // Most lines are words of the answer: only those that may tell something are parsed.
            if json.first() == Some(&b'{')
                && self.may_tell(json)
                && let Ok(json) = serde_json::from_slice::<Value>(json)
            {
                self.seen.take(self.wire, &json);
            }
        }
        // The room is used again for the next line.
        self.kept = line;
        self.kept.clear();
    }

    fn may_tell(&self, line: &[u8]) -> bool {
        let has = |word: &[u8]| line.windows(word.len()).any(|w| w == word);
        match self.wire {
            Wire::Anthropic | Wire::Responses => has(b"\"usage\""),
            Wire::Chat => has(b"\"usage\"") || has(b"\"finish_reason\""),
            Wire::Gemini => has(b"\"usageMetadata\"") || has(b"\"finishReason\""),
            Wire::Ollama => has(b"\"done\""),
        }
    }
}

impl Seen {
    fn take(&mut self, wire: Wire, json: &Value) {
        match wire {
            Wire::Anthropic => self.anthropic(json),
            Wire::Chat => self.chat(json),
            Wire::Responses => self.responses(json),
            Wire::Gemini => self.gemini(json),
            Wire::Ollama => self.ollama(json),
        }
    }

    /// A count; 0 when it is not there, and the end of belief when it is no count.
    fn count(&mut self, from: &Value, pointer: &str) -> u64 {
        match from.pointer(pointer) {
            None | Some(Value::Null) => 0,
            Some(value) => value.as_u64().unwrap_or_else(|| {
                self.broken = true;
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
        // The delta repeats the input at some servers, and leaves it out at others.
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
        let (input, told) = (self.count(usage, "/prompt_tokens"), self.count(usage, "/completion_tokens"));
        // Some servers leave reasoning out of the completion, and all of them have it in the total.
        let output = told.max(self.count(usage, "/total_tokens").saturating_sub(input));
        let cached = self.count(usage, "/prompt_tokens_details/cached_tokens");
        self.usage = Some(WireUsage {
            input,
            cached: cached.max(self.count(usage, "/prompt_cache_hit_tokens")),
            cache_written: self.count(usage, "/prompt_tokens_details/cache_write_tokens"),
            output,
            reasoning: self.count(usage, "/completion_tokens_details/reasoning_tokens"),
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
        // A prompt it had at hand is not counted by old versions: then nothing is told.
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

    /// Answers as providers send them, with what they used.
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
            // Nothing that counts: no usage, an error, a number that is none, words instead of an answer.
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
        let mut reader = Reader::new(wire, kind);
        pieces.iter().for_each(|piece| reader.feed(piece));
        reader.end()
    }

    #[test]
    fn usage_is_read_as_each_provider_tells_it() {
        for (wire, kind, text, expected) in answers() {
            assert_eq!(read(wire, kind, &[text.as_bytes()]), expected, "{wire:?}: {text}");
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(read(wire, kind, &bytes), expected, "byte by byte, {wire:?}: {text}");
        }
    }

    #[test]
    fn an_answer_that_was_cut_tells_nothing() {
        for (wire, kind, text, _) in answers().into_iter().filter(|a| a.3.is_some() && a.1 != JSON) {
            let told = text.rfind("\"usage").or(text.rfind("eval_count")).unwrap();
            for cut in 0..told {
                assert_eq!(read(wire, kind, &[&text.as_bytes()[..cut]]), None, "{wire:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_kept() {
        let mut reader = Reader::new(Wire::Chat, SSE);
        let piece = vec![b'x'; 1024 * 1024];
        for _ in 0..40 {
            reader.feed(&piece);
        }
        assert!(reader.kept.capacity() <= 2 * KEPT_MAX);
        reader.feed(b"\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n");
        assert_eq!(reader.end().map(|u| u.input), Some(1), "the next line is read again");
    }

    proptest! {
        #[test]
        fn borders_of_pieces_do_not_matter(which in 0usize..16, cuts in proptest::collection::vec(0usize..900, 0..12)) {
            let all = answers();
            let (wire, kind, text, expected) = all[which % all.len()];
            let mut borders: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            borders.extend([0, text.len()]);
            borders.sort_unstable();
            let pieces: Vec<&[u8]> = borders.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
            prop_assert_eq!(read(wire, kind, &pieces), expected);
        }

        #[test]
        fn rubbish_is_taken_calmly(bytes in proptest::collection::vec(any::<u8>(), 0..300), which in 0usize..5, sse in any::<bool>()) {
            let wire = [Wire::Anthropic, Wire::Chat, Wire::Responses, Wire::Gemini, Wire::Ollama][which];
            prop_assert_eq!(read(wire, if sse { SSE } else { JSON }, &[&bytes]), None);
        }
    }
}
