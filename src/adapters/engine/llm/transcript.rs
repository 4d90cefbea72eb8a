//! What a session said and did, as JSON lines, capped: kept whatever becomes of it.

use super::history::{Call, Outcome};
use super::tools::middle_cut;
use crate::providers::meter::WireUsage;
use serde_json::{Value, json};

/// The whole of it, and the longest text in it.
const BYTES_MAX: usize = 4 * 1024 * 1024;
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Kept free for the last line.
const END_BYTES: usize = 2 * TEXT_BYTES_MAX;

/// A transcript being written.
#[derive(Debug, Default)]
pub struct Transcript {
    bytes: Vec<u8>,
    full: bool,
}

impl Transcript {
    /// How it began.
    pub fn begin(&mut self, model: &str, prompt: &str, tools: &[&str]) {
        self.line(&json!({ "model": model, "prompt": prompt, "tools": tools }));
    }

    /// An answer of the model.
    pub fn said(&mut self, turn: u64, text: &str, calls: &[Call], usage: Option<WireUsage>, ms: u128) {
        let call = |c: &Call| json!({ "id": c.id, "tool": c.tool, "args": cut(&c.args), "broken": c.broken });
        let usage = usage.map(|u| {
            json!({ "input": u.input, "cached": u.cached, "cache_written": u.cache_written, "output": u.output, "reasoning": u.reasoning })
        });
        let calls: Vec<Value> = calls.iter().map(call).collect();
        self.line(&json!({
            "turn": turn, "said": middle_cut(text, TEXT_BYTES_MAX), "calls": calls, "usage": usage, "ms": u64::try_from(ms).ok(),
        }));
    }

    /// The result of a call.
    pub fn result(&mut self, turn: u64, outcome: &Outcome) {
        let text = middle_cut(&outcome.text, TEXT_BYTES_MAX);
        self.line(&json!({ "turn": turn, "id": outcome.id, "tool": outcome.tool, "ok": outcome.ok, "result": text }));
    }

    /// Something Skep did or saw: a fault, a shortening, a nudge.
    pub fn note(&mut self, turn: u64, what: &str, text: &str) {
        self.line(&json!({ "turn": turn, what: middle_cut(text, TEXT_BYTES_MAX) }));
    }

    /// The end, and all of it.
    pub fn end(mut self, how: &str) -> Vec<u8> {
        self.full = false;
        self.put(&json!({ "end": middle_cut(how, TEXT_BYTES_MAX) }));
        self.bytes
    }

    fn line(&mut self, line: &Value) {
        if self.full {
            return;
        }
        let before = self.bytes.len();
        self.put(line);
        if self.bytes.len() + END_BYTES > BYTES_MAX {
            self.bytes.truncate(before);
            self.put(&json!({ "cut": "what follows is not kept" }));
            self.full = true;
        }
    }

    fn put(&mut self, line: &Value) {
        self.bytes.extend_from_slice(line.to_string().as_bytes());
        self.bytes.push(b'\n');
    }
}

/// Arguments with their long texts cut.
fn cut(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(middle_cut(text, TEXT_BYTES_MAX)),
        Value::Array(items) => Value::Array(items.iter().take(200).map(cut).collect()),
        Value::Object(fields) => Value::Object(fields.iter().take(64).map(|(k, v)| (k.clone(), cut(v))).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_still_tells_its_end() {
        let mut transcript = Transcript::default();
        for n in 0..1_000 {
            transcript.note(n, "fault", &"x".repeat(50_000));
        }
        let bytes = transcript.end("it failed");
        assert!(bytes.len() <= BYTES_MAX, "{}", bytes.len());
        let lines: Vec<Value> =
            String::from_utf8(bytes).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert!(lines.iter().any(|l| l.get("cut").is_some()));
        assert_eq!(lines.last().unwrap()["end"], "it failed");
    }
}
