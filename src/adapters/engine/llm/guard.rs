//! Detects a model that makes no progress: the same calls again and again, calls that cannot be carried out, or no calls
//! at all.

use super::history::{Call, Outcome};
use super::tools::{ASK, DONE};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;

/// Repetitions of a call or a cycle after which the session stops.
const MAX_REPETITIONS: usize = 4;
/// Longest cycle that is detected, in turns.
const MAX_CYCLE: usize = 4;
/// Consecutive answers without a call after which the session stops. Each earlier one is answered with a nudge.
const MAX_IDLE: usize = 3;

/// Consecutive answers whose calls could not be carried out, such as unknown tools, after which the session stops.
const MAX_INVALID: usize = 8;

/// Reaction to the last answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is fine.
    Fine,
    /// The model receives this message.
    Nudge(&'static str),
    /// The session ends, for this reason.
    Stop(String),
    /// The session ends, because the model has never used a tool: another try with it would end alike.
    Incapable(String),
}

/// Detector for one session.
#[derive(Debug, Default)]
pub struct Guard {
    seen: VecDeque<[u8; 32]>,
    idle: usize,
    invalid: usize,
    /// Whether a call of the model was carried out.
    has_worked: bool,
}

impl Guard {
    /// Checks the calls of an answer.
    pub fn check(&mut self, calls: &[Call]) -> Verdict {
        if calls.is_empty() {
            self.idle += 1;
            return match self.idle {
                MAX_IDLE.. => self.end(format!("the model answered {MAX_IDLE} times without calling a tool")),
                _ => Verdict::Nudge(
                    "You did not call a tool, so nothing happened. Continue by calling tools. When you are finished, call `done`.",
                ),
            };
        }
        self.idle = 0;
        let mut hash = Sha256::new();
        for call in calls {
            // Lengths first, so that different lists never hash the same bytes.
            for part in [call.tool.clone(), sorted(&call.args)] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part.as_bytes());
            }
        }
        self.seen.push_back(hash.finalize().into());
        if self.seen.len() > MAX_REPETITIONS * MAX_CYCLE {
            self.seen.pop_front();
        }
        let turns = |n: usize| if n == 1 { "the same call".to_owned() } else { format!("the same {n} calls") };
        match (1..=MAX_CYCLE).map(|n| (n, self.rounds(n))).find(|(_, rounds)| *rounds + 1 >= MAX_REPETITIONS) {
            Some((n, rounds)) if rounds >= MAX_REPETITIONS => {
                let what: Vec<&str> = calls.iter().map(|c| c.tool.as_str()).take(3).collect();
                Verdict::Stop(format!(
                    "the model went in circles: {} {MAX_REPETITIONS} times in a row (last: {})",
                    turns(n),
                    what.join(", ")
                ))
            }
            Some((1, _)) => Verdict::Nudge(
                "You have made exactly this call three times in a row. Its result will not change. Try something else.",
            ),
            _ => Verdict::Fine,
        }
    }

    /// Checks the results of an answer's calls: whether they were carried out at all. A command that fails was.
    pub fn check_results(&mut self, results: &[Outcome]) -> Verdict {
        let mut of_tools = results.iter().filter(|o| o.tool != DONE && o.tool != ASK).peekable();
        if of_tools.peek().is_none() {
            return Verdict::Fine;
        }
        if of_tools.any(|outcome| !outcome.text.starts_with("error: ")) {
            (self.has_worked, self.invalid) = (true, 0);
            return Verdict::Fine;
        }
        self.invalid += 1;
        match self.invalid {
            MAX_INVALID.. => self.end(format!(
                "{MAX_INVALID} answers of the model in a row contained only calls that cannot be carried out"
            )),
            _ => Verdict::Fine,
        }
    }

    fn end(&self, why: String) -> Verdict {
        match self.has_worked {
            true => Verdict::Stop(format!("{why}; choose a model that supports tool calls")),
            false => Verdict::Incapable(why),
        }
    }

    /// Returns the number of consecutive repetitions of the last `n` answers.
    fn rounds(&self, n: usize) -> usize {
        let last: Vec<_> = self.seen.iter().rev().take(n).collect();
        if last.len() < n {
            return 0;
        }
        let backwards: Vec<_> = self.seen.iter().rev().collect();
        backwards.chunks_exact(n).take_while(|chunk| *chunk == last.as_slice()).count()
    }
}

/// Serializes JSON with sorted keys, so that their order makes no difference.
fn sorted(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            let mut parts: Vec<String> = fields.iter().map(|(k, v)| format!("{k:?}:{}", sorted(v))).collect();
            parts.sort();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(tool: &str, args: serde_json::Value) -> Vec<Call> {
        vec![Call { id: "1".to_owned(), tool: tool.to_owned(), args, invalid: None, signatures: None }]
    }

    #[test]
    fn a_repeated_call_is_nudged_then_stopped_in_any_order_of_keys() {
        let mut guard = Guard::default();
        assert_eq!(guard.check(&call("read", json!({"a": 1, "b": 2}))), Verdict::Fine);
        assert_eq!(guard.check(&call("read", json!({"b": 2, "a": 1}))), Verdict::Fine);
        assert!(matches!(guard.check(&call("read", json!({"a": 1, "b": 2}))), Verdict::Nudge(_)));
        assert!(
            matches!(guard.check(&call("read", json!({"a": 1, "b": 2}))), Verdict::Stop(why) if why.contains("read"))
        );
    }

    #[test]
    fn a_cycle_is_stopped_and_progress_is_not() {
        let mut guard = Guard::default();
        let mut ends = Vec::new();
        for n in 0..8 {
            ends.push(guard.check(&call(if n % 2 == 0 { "read" } else { "run" }, json!({}))));
        }
        assert!(matches!(ends.pop(), Some(Verdict::Stop(_))));
        assert!(ends.iter().all(|e| *e == Verdict::Fine), "{ends:?}");
        let mut guard = Guard::default();
        for n in 0..200 {
            assert_eq!(guard.check(&call("edit", json!({ "n": n }))), Verdict::Fine);
            assert_eq!(guard.check(&call("run", json!({"command": "make test"}))), Verdict::Fine);
        }
    }

    #[test]
    fn answers_without_tools_are_nudged_twice() {
        let mut guard = Guard::default();
        assert!(matches!(guard.check(&[]), Verdict::Nudge(_)));
        assert_eq!(guard.check(&call("list", json!({}))), Verdict::Fine);
        assert!(matches!(guard.check(&[]), Verdict::Nudge(_)));
        assert!(matches!(guard.check(&[]), Verdict::Nudge(_)));
        let verdict = guard.check(&[]);
        assert!(matches!(verdict, Verdict::Incapable(why) if why.contains("without calling a tool")));
        guard.check_results(&[outcome("1\tx\n")]);
        assert!(matches!(guard.check(&[]), Verdict::Stop(_)), "it has used a tool before");
    }

    fn outcome(text: &str) -> Outcome {
        let (id, tool, what) = ("1".to_owned(), "read".to_owned(), String::new());
        Outcome { id, tool, what, text: text.to_owned(), ok: true, changed: Vec::new() }
    }

    #[test]
    fn calls_that_cannot_be_carried_out_stop_a_session() {
        let mut guard = Guard::default();
        for _ in 1..MAX_INVALID {
            assert_eq!(
                guard.check_results(&[outcome("error: no such tool"), outcome("error: no path")]),
                Verdict::Fine
            );
        }
        assert!(matches!(guard.check_results(&[outcome("error: no such tool")]), Verdict::Incapable(_)));
        assert_eq!(guard.check_results(&[outcome("exit code 1"), outcome("error: x")]), Verdict::Fine);
        for _ in 1..MAX_INVALID {
            assert_eq!(guard.check_results(&[outcome("error: x")]), Verdict::Fine);
        }
        assert!(matches!(guard.check_results(&[outcome("error: x")]), Verdict::Stop(_)), "it has used a tool before");
    }
}
