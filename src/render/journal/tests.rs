//! Tests of the words for journal rows.

use super::*;
use serde_json::json;

fn words(event: &Value) -> Option<String> {
    JournalEntry::read("x", Some(event)).words(|_| None)
}

#[test]
fn rows_become_log_lines() {
    let reported = |report: Value| json!({ "event": "reported", "attempt": 2, "report": report });
    let done = |outcome: Value| json!({ "event": "effect_finished", "key": "3.1", "outcome": outcome });
    let check = |green: bool| {
        json!({ "name": "test", "kind": "test", "green": green, "exit_code": 1, "duration_ms": 4200, "why": "exit code 1",
                "tests": { "run": 9, "failed": if green { 0 } else { 2 }, "skipped": 0 } })
    };
    let ann = "local:ann";
    let table: Vec<(Value, Option<&str>)> = vec![
        (json!({ "event": "admitted" }), Some("admitted: work starts")),
        (reported(json!({ "failed": { "why": "exit 3\nmore" } })), Some("a2 failed: exit 3")),
        (reported(json!({ "lost": { "why": "killed" } })), Some("a2 was lost: killed")),
        (reported(json!({ "asked": { "question": "which port?" } })), Some("a2 asked: which port?")),
        (
            reported(json!({ "reviewed": { "head": "1", "verdict": "rework", "summary": "no test",
                                           "findings": [{ "text": "x" }] } })),
            Some("a2 requested changes (1 finding): no test"),
        ),
        (
            reported(json!({ "reviewed": { "head": "1", "verdict": "approve", "summary": "fine",
                                           "findings": [{ "path": "a.bin", "text": "x" }] } })),
            Some("a2 approved (1 finding): fine"),
        ),
        (
            done(json!({ "checked": { "results": [check(true)], "wall_ms": 1, "reused": "task" } })),
            Some("checks: passed (as for the task, not run again)"),
        ),
        (
            done(json!({ "checked": { "results": [check(false)], "wall_ms": 1, "reused": "task" } })),
            Some("checks: test failed (4.2 s, 2 of 9 tests failed): exit code 1 (as for the task, not run again)"),
        ),
        (
            done(json!({ "checked": { "results": [check(true)], "wall_ms": 1 } })),
            Some("checks: test passed (4.2 s, 9 tests)"),
        ),
        (
            done(json!({ "checked": { "results": [check(false)], "wall_ms": 1 } })),
            Some("checks: test failed (4.2 s, 2 of 9 tests failed): exit code 1"),
        ),
        (done(json!("pushed")), None),
        (
            done(json!({ "reserved": { "caps": {"tokens": 1, "cost_micros": 0, "wall_ms": 1, "turns": 0}, "levels": [
                { "scope": "day", "unit": "cost", "used": 9, "limit": 10, "alert_percent": 80 },
                { "scope": "project", "unit": "tokens", "used": 9, "limit": 10 } ] } })),
            Some("80 % of the day budget is spent (money)"),
        ),
        (
            done(
                json!({ "budget_exhausted": { "budgets": [{ "scope": "project", "unit": "cost" }, { "scope": "day", "unit": "cost" }] } }),
            ),
            Some("exhausted: the project budget and the day budget"),
        ),
        (done(json!({ "landed": { "sha": "3333333333333" } })), Some("landed as 3333333333")),
        (json!({ "event": "paused", "by": ann }), Some("paused by local:ann")),
        (json!({ "event": "answered", "block": 1, "answer": "yes", "by": ann }), Some("local:ann answered b1: yes")),
        (json!({ "event": "cancel_requested", "by": ann, "why": "no time" }), Some("cancelled by local:ann: no time")),
        (
            json!({ "event": "orphaned", "attempts": [1] }),
            Some("the process that worked on a1 has ended; this one resumes"),
        ),
    ];
    for (event, expected) in table {
        assert_eq!(words(&event).as_deref(), expected, "{event}");
    }
}

#[test]
fn usage_is_bounded_by_the_reservation() {
    let usage = json!({ "wall_ms": 1_000, "tokens": 900, "cost_micros": 50_000, "turns": 3 });
    let report =
        json!({ "event": "reported", "attempt": 2, "report": { "failed": { "why": "exit 3" } }, "usage": usage });
    let reserved = Usage { tokens: 500, cost_micros: 0, turns: 9, wall_ms: 0 };
    let text = JournalEntry::read("reported", Some(&report)).words(|id| (id == "a2").then_some(reserved));
    assert_eq!(text.as_deref(), Some("a2 failed: exit 3 (1.0 s, 500 tokens, $0.05, 3 model calls)"));
}

#[test]
fn rows_that_cannot_be_read_are_named() {
    let event = json!({ "event": "of_a_newer" });
    assert_eq!(JournalEntry::read("of_a_newer", Some(&event)).words(|_| None).as_deref(), Some("of a newer"));
    let text = JournalEntry::read("bad_row", None).words(|_| None);
    assert!(text.is_some_and(|text| text.starts_with("bad row (this row cannot be read")));
}
