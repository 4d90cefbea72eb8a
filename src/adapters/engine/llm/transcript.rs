//! Transcript of a session as JSON lines, bounded. It is stored however the session ends.

use super::history::{Call, Outcome};
use super::tools::truncate_middle;
use crate::providers::meter::WireUsage;
use serde_json::{Value, json};

/// Upper bounds of the transcript, and of one text in it.
const MAX_BYTES: usize = 4 * 1024 * 1024;
const MAX_TEXT_BYTES: usize = 16 * 1024;
/// Reserved for the last line.
const END_BYTES: usize = 2 * MAX_TEXT_BYTES;

/// Transcript under construction.
#[derive(Debug, Default)]
pub struct Transcript {
    bytes: Vec<u8>,
    full: bool,
}

impl Transcript {
    /// Writes the first line.
    pub fn begin(&mut self, model: &str, prompt: &str, tools: &[&str]) {
        self.line(&json!({ "model": model, "prompt": prompt, "tools": tools }));
    }

    /// Writes an answer of the model.
    pub fn answer(&mut self, turn: u64, text: &str, calls: &[Call], usage: Option<WireUsage>, ms: u128) {
        let call = |c: &Call| json!({ "id": c.id, "tool": c.tool, "args": cut(&c.args), "invalid": c.invalid });
        let usage = usage.map(|u| {
            json!({ "input": u.input, "cached": u.cached, "cache_written": u.cache_written, "output": u.output, "reasoning": u.reasoning })
        });
        let calls: Vec<Value> = calls.iter().map(call).collect();
        self.line(&json!({
            "turn": turn, "text": truncate_middle(text, MAX_TEXT_BYTES), "calls": calls, "usage": usage, "ms": u64::try_from(ms).ok(),
        }));
    }

    /// Writes the result of a call.
    pub fn result(&mut self, turn: u64, outcome: &Outcome) {
        let text = truncate_middle(&outcome.text, MAX_TEXT_BYTES);
        self.line(&json!({ "turn": turn, "id": outcome.id, "tool": outcome.tool, "ok": outcome.ok, "result": text }));
    }

    /// Writes an event of the session: a fault, a shortening, a nudge.
    pub fn note(&mut self, turn: u64, what: &str, text: &str) {
        self.line(&json!({ "turn": turn, what: truncate_middle(text, MAX_TEXT_BYTES) }));
    }

    /// Writes the last line and returns the transcript.
    pub fn end(mut self, how: &str) -> Vec<u8> {
        self.full = false;
        self.put(&json!({ "end": truncate_middle(how, MAX_TEXT_BYTES) }));
        self.bytes
    }

    fn line(&mut self, line: &Value) {
        if self.full {
            return;
        }
        let before = self.bytes.len();
        self.put(line);
        if self.bytes.len() + END_BYTES > MAX_BYTES {
            self.bytes.truncate(before);
            self.put(&json!({ "cut": "the transcript is full" }));
            self.full = true;
        }
    }

    fn put(&mut self, line: &Value) {
        self.bytes.extend_from_slice(line.to_string().as_bytes());
        self.bytes.push(b'\n');
    }
}

/// Shortens long texts in arguments.
fn cut(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(truncate_middle(text, MAX_TEXT_BYTES)),
        Value::Array(items) => Value::Array(items.iter().take(200).map(cut).collect()),
        Value::Object(fields) => Value::Object(fields.iter().take(64).map(|(k, v)| (k.clone(), cut(v))).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_is_bounded_and_still_records_its_end() {
        let mut transcript = Transcript::default();
        for n in 0..1_000 {
            transcript.note(n, "fault", &"x".repeat(50_000));
        }
        let bytes = transcript.end("it failed");
        assert!(bytes.len() <= MAX_BYTES, "{}", bytes.len());
        let lines: Vec<Value> =
            String::from_utf8(bytes).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert!(lines.iter().any(|l| l.get("cut").is_some()));
        assert_eq!(lines.last().unwrap()["end"], "it failed");
    }
}
