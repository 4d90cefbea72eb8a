//! Stopping a model that goes in circles: the same calls again and again, or no calls at all.

use super::history::Call;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;

/// So many times the same, alone or as a cycle, is enough.
const AGAIN: usize = 4;
/// The longest cycle looked for, in turns.
const CYCLE: usize = 4;
/// Answers without a call in a row before it is given up: the first ones are nudged.
const IDLE: usize = 3;

/// What is to be done about the last answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// It is told so.
    Nudge(&'static str),
    /// The session ends.
    Stop(String),
}

/// Watches one session.
#[derive(Debug, Default)]
pub struct Guard {
    seen: VecDeque<[u8; 32]>,
    idle: usize,
}

impl Guard {
    /// Looks at the calls of an answer.
    pub fn look(&mut self, calls: &[Call]) -> Verdict {
        if calls.is_empty() {
            self.idle += 1;
            return match self.idle {
                IDLE.. => Verdict::Stop(format!(
                    "the model answered {IDLE} times without using a tool; choose a model that can call tools"
                )),
                _ => Verdict::Nudge(
                    "You did not use a tool, so nothing happened. Go on with your tools; when you are finished, call `done`.",
                ),
            };
        }
        self.idle = 0;
        let mut hash = Sha256::new();
        for call in calls {
            // Lengths first, so that two different lists never read the same.
            for part in [call.tool.clone(), sorted(&call.args)] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part.as_bytes());
            }
        }
        self.seen.push_back(hash.finalize().into());
        if self.seen.len() > AGAIN * CYCLE {
            self.seen.pop_front();
        }
        let turns = |n: usize| if n == 1 { "the same call".to_owned() } else { format!("the same {n} calls") };
        match (1..=CYCLE).map(|n| (n, self.rounds(n))).find(|(_, rounds)| *rounds + 1 >= AGAIN) {
            Some((n, rounds)) if rounds >= AGAIN => {
                let what: Vec<&str> = calls.iter().map(|c| c.tool.as_str()).take(3).collect();
                Verdict::Stop(format!(
                    "the model went in circles: {} {AGAIN} times in a row (last: {})",
                    turns(n),
                    what.join(", ")
                ))
            }
            Some((1, _)) => Verdict::Nudge(
                "You have made exactly this call three times in a row. Its result will not change: do something else.",
            ),
            _ => Verdict::Fine,
        }
    }

    /// How many times in a row the last `n` answers have come.
    fn rounds(&self, n: usize) -> usize {
        let last: Vec<_> = self.seen.iter().rev().take(n).collect();
        if last.len() < n {
            return 0;
        }
        let backwards: Vec<_> = self.seen.iter().rev().collect();
        backwards.chunks_exact(n).take_while(|chunk| *chunk == last.as_slice()).count()
    }
}

/// JSON with sorted keys: the order a model writes them in makes no difference.
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
        vec![Call { id: "1".to_owned(), tool: tool.to_owned(), args, broken: None, signed: None }]
    }

    #[test]
    fn the_same_call_is_nudged_then_stopped_whatever_the_order_of_its_keys() {
        let mut guard = Guard::default();
        assert_eq!(guard.look(&call("read", json!({"a": 1, "b": 2}))), Verdict::Fine);
        assert_eq!(guard.look(&call("read", json!({"b": 2, "a": 1}))), Verdict::Fine);
        assert!(matches!(guard.look(&call("read", json!({"a": 1, "b": 2}))), Verdict::Nudge(_)));
        assert!(
            matches!(guard.look(&call("read", json!({"a": 1, "b": 2}))), Verdict::Stop(why) if why.contains("read"))
        );
    }

    #[test]
    fn a_cycle_is_stopped_and_honest_work_is_not() {
        let mut guard = Guard::default();
        let mut ends = Vec::new();
        for n in 0..8 {
            ends.push(guard.look(&call(if n % 2 == 0 { "read" } else { "run" }, json!({}))));
        }
        assert!(matches!(ends.pop(), Some(Verdict::Stop(_))));
        assert!(ends.iter().all(|e| *e == Verdict::Fine), "{ends:?}");
        let mut guard = Guard::default();
        for n in 0..200 {
            assert_eq!(guard.look(&call("edit", json!({ "n": n }))), Verdict::Fine);
            assert_eq!(guard.look(&call("run", json!({"command": "make test"}))), Verdict::Fine);
        }
    }

    #[test]
    fn talking_without_tools_is_nudged_twice() {
        let mut guard = Guard::default();
        assert!(matches!(guard.look(&[]), Verdict::Nudge(_)));
        assert_eq!(guard.look(&call("list", json!({}))), Verdict::Fine);
        assert!(matches!(guard.look(&[]), Verdict::Nudge(_)));
        assert!(matches!(guard.look(&[]), Verdict::Nudge(_)));
        assert!(matches!(guard.look(&[]), Verdict::Stop(why) if why.contains("without using a tool")));
    }
}
