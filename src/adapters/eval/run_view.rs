//! What a trial reads from a run, as `skep show --json` prints it.

use crate::domain::eval::Spent;
use serde_json::Value;

/// Returns how a run ended, or the code of the question that it waits on.
pub(super) fn end_of(run: &Value) -> String {
    let outcome = match &run["outcome"] {
        Value::String(word) => Some(word.clone()),
        Value::Object(one) => one.keys().next().cloned(),
        _ => None,
    };
    let asked = || run["escalations"][0]["code"].as_str().map(str::to_owned);
    outcome.or_else(asked).unwrap_or_else(|| run["status"].as_str().unwrap_or("unknown").to_owned())
}

/// Returns the commit with the work that a stopped run has kept: its branch, else its last task with a commit.
pub(super) fn kept_commit(run: &Value, base: &str) -> Option<String> {
    let is_work = |sha: &&str| *sha != base && !sha.is_empty();
    let tasks = run["tasks"].as_array().into_iter().flatten().rev();
    let heads = std::iter::once(&run["head"]).chain(tasks.map(|task| &task["head"]));
    heads.filter_map(Value::as_str).find(is_work).map(str::to_owned)
}

/// Returns whether a text is the id of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns what a run used.
pub(super) fn spent(run: &Value) -> Spent {
    let number = |name: &str| run["budget"]["spent"][name].as_u64().unwrap_or_default();
    let small = |value: &Value| u32::try_from(value.as_u64().unwrap_or_default()).unwrap_or(u32::MAX);
    Spent {
        tokens: number("tokens"),
        cost_micros: number("cost_micros"),
        wall_ms: number("wall_ms"),
        turns: number("turns"),
        rounds: small(&run["rounds"]),
        attempts: small(&run["budget"]["attempts"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_kept_work_and_the_end_of_a_run_are_read_from_what_show_prints() {
        let base = "b".repeat(40);
        let run = |outcome: Value, head: &str, tasks: Value| {
            json!({ "outcome": outcome, "head": head, "tasks": tasks, "status": "blocked",
                    "escalations": [{ "code": "tries" }], "rounds": 2,
                    "budget": { "spent": { "tokens": 7, "cost_micros": 8, "wall_ms": 9, "turns": 1 }, "attempts": 3 } })
        };
        let delivered = run(json!({ "delivered": { "sha": "x" } }), "h", json!([]));
        assert_eq!(end_of(&delivered), "delivered");
        assert_eq!(end_of(&run(json!("unchanged"), "h", json!([]))), "unchanged");
        let waits = run(Value::Null, &base, json!([{ "head": "one" }, { "head": null }, { "head": base }]));
        assert_eq!(end_of(&waits), "tries");
        assert_eq!(kept_commit(&waits, &base), Some("one".to_owned()));
        assert_eq!(kept_commit(&run(Value::Null, "work", json!([])), &base), Some("work".to_owned()));
        assert_eq!(kept_commit(&run(Value::Null, &base, json!([])), &base), None);
        let expected = Spent { tokens: 7, cost_micros: 8, wall_ms: 9, turns: 1, rounds: 2, attempts: 3 };
        assert_eq!(spent(&waits), expected);
    }
}
