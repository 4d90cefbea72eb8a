//! A run's story in plain words: what a journal row says, what a run waits for, how it ended.
//!
//! Invariant: pure. Text from outside passes through as it is; the screen escapes it.

use super::text::{brief, count, span, usage};
use crate::domain::{
    Answer, AskedTo, ChangeState, CheckResult, EffectOutcome, Event, Level, Report, Reported, StatusState, Verdict,
    shared_budget,
};
use crate::http::rest::wire::{self, GateState, Outcome, Run};

/// The most characters of a quoted text in one line.
pub const QUOTE: usize = 160;

/// What a row says to a person; `None` for steps of the machine that nobody has to know.
pub fn words(row: &wire::Event) -> Option<String> {
    let Some(value) = &row.event else {
        return Some(format!("{} (this row cannot be read; the others are not touched by it)", row.name));
    };
    // Rows of a newer program may hold what this one does not know: the name says enough.
    let Ok(event) = serde_json::from_value::<Event>(value.clone()) else {
        return Some(row.name.replace('_', " "));
    };
    match event {
        Event::Opened(o) => Some(format!(
            "opened for {}: {} (from {} of {})",
            o.goal.asked_by,
            o.goal.title(),
            o.base.abbrev(),
            o.settings.base_branch
        )),
        Event::Admitted => Some("has a slot; work begins".to_owned()),
        Event::Reported(reported) => Some(report(&reported)),
        Event::EffectFinished { done, .. } => self::done(&done),
        Event::Observed { observation } => match &observation.state {
            ChangeState::Merged { sha, by } => Some(format!("the change was merged by {by}: {}", sha.abbrev())),
            ChangeState::Closed { by } => Some(format!("the change was closed by {by}")),
            ChangeState::Open => {
                let red = observation.statuses.iter().filter(|(_, s)| **s == StatusState::Failure);
                let red: Vec<&str> = red.map(|(context, _)| context.as_str()).collect();
                Some(match (red.is_empty(), observation.approved_by.first()) {
                    (false, _) => format!("the forge shows red: {}", red.join(", ")),
                    (true, Some(by)) => format!("the forge shows the approval of {by}"),
                    (true, None) => "the forge has news about the change".to_owned(),
                })
            }
        },
        Event::Answered { block, answer, by } => {
            let about = block.map_or_else(|| "the oldest question".to_owned(), |b| b.to_string());
            Some(match answer {
                Answer::Yes => format!("{by} says yes to {about}"),
                Answer::No { why } if why.is_empty() => format!("{by} says no to {about}"),
                Answer::No { why } => format!("{by} says no to {about}: {}", quote(&why)),
                Answer::Text { text } => format!("{by} answers {about}: {}", quote(&text)),
                Answer::More { .. } => format!("{by} gives more budget for {about}"),
                Answer::Skip => format!("{by} skips the task of {about}"),
            })
        }
        Event::Due => Some("the time it waited for has come".to_owned()),
        Event::Raised { by, .. } => Some(format!("{by} gives more budget")),
        Event::Paused { by } => Some(format!("paused by {by}")),
        Event::Resumed { by } => Some(format!("resumed by {by}")),
        Event::CancelRequested { by, why } if why.is_empty() => Some(format!("cancelled by {by}")),
        Event::CancelRequested { by, why } => Some(format!("cancelled by {by}: {}", quote(&why))),
        Event::SessionOpened { attempt, .. } => {
            Some(format!("{attempt} can be taken up again should this process end"))
        }
        Event::Orphaned { attempts, .. } if attempts.is_empty() => None,
        Event::Orphaned { attempts, .. } => {
            let ids: Vec<String> = attempts.iter().map(ToString::to_string).collect();
            Some(format!("the process that carried {} is gone; this one goes on", ids.join(", ")))
        }
    }
}

fn report(reported: &Reported) -> String {
    let id = reported.attempt;
    let used = reported.usage.map(|u| format!(" ({})", usage(u.into()))).unwrap_or_default();
    match &reported.report {
        Report::Explored { .. } => format!("{id} looked around{used}"),
        Report::Planned { tasks } => {
            let titles: Vec<String> = tasks.iter().map(|t| brief(&t.title, 60)).collect();
            format!("{id} planned {}: {}{used}", count(tasks.len() as u64, "task"), titles.join("; "))
        }
        Report::Developed { diff, summary, .. } if diff.is_empty() => {
            format!("{id} changed nothing{}{used}", said(summary))
        }
        Report::Developed { diff, summary, .. } => format!("{id} changed {}{}{used}", diff.summary(), said(summary)),
        Report::Reviewed { verdict: Verdict::Approve, summary, .. } => {
            format!("{id} approves{}{used}", said(summary))
        }
        Report::Reviewed { verdict: Verdict::Rework, summary, findings, .. } => {
            let many = if findings.is_empty() {
                String::new()
            } else {
                format!(" ({})", count(findings.len() as u64, "finding"))
            };
            format!("{id} wants rework{many}{}{used}", said(summary))
        }
        Report::Asked { question, to: AskedTo::Person } => format!("{id} asks: {}", quote(question)),
        Report::Asked { question, to: AskedTo::Scout } => format!("{id} asks the scout: {}", quote(question)),
        Report::Failed { why } | Report::SpentOut { why, .. } => format!("{id} failed: {}{used}", quote(why)),
        Report::Unavailable { why, .. } => format!("{id} could not start or go on: {}{used}", quote(why)),
        Report::Lost { why } => format!("{id} is lost: {}{used}", quote(why)),
        Report::NotResumed { why } => format!("{id} is lost, it could not be taken up again: {}{used}", quote(why)),
        Report::Stopped => format!("{id} was stopped{used}"),
    }
}

fn done(done: &EffectOutcome) -> Option<String> {
    match done {
        EffectOutcome::Checked { results, .. } => Some(checks(results)),
        EffectOutcome::Moved { head, diff } => {
            Some(format!("the run's branch is at {} ({})", head.abbrev(), diff.summary()))
        }
        EffectOutcome::Conflict { paths } => Some(format!("it does not fit with {}", paths.join(", "))),
        EffectOutcome::Ensured { change } => Some(format!("change #{} shows it: `{}`", change.number, change.url)),
        EffectOutcome::Reserved { levels, .. } => Some(told(levels).join(", ")).filter(|told| !told.is_empty()),
        EffectOutcome::Observed { .. } | EffectOutcome::Ok => None,
        EffectOutcome::Short { of, levels, set_aside, .. } => {
            let how = if *set_aside { "what is left is set aside for others" } else { "used up" };
            let mut lines = told(levels);
            lines.push(format!("{how}: {}", shared_budget::names(of)));
            Some(lines.join(", "))
        }
        EffectOutcome::Landed { sha } => Some(format!("landed as {}", sha.abbrev())),
        EffectOutcome::Held { found } => {
            let each: Vec<String> = found.iter().map(|f| format!("{} at {}", f.what, quote(&f.place))).collect();
            Some(format!("nothing was pushed: {}", each.join("; ")))
        }
        EffectOutcome::Stale { why } => Some(format!("the world has moved: {}", quote(why))),
        EffectOutcome::Failed { failure } => Some(format!("could not be done: {}", quote(&failure.what))),
    }
}

/// What people are told of shared budgets.
fn told(levels: &[Level]) -> Vec<String> {
    levels.iter().filter_map(|l| Some(format!("{} % of the {} is spent", l.told?, l.name()))).collect()
}

fn checks(results: &[CheckResult]) -> String {
    if results.is_empty() {
        return "no check ran".to_owned();
    }
    let each = results.iter().map(|r| {
        let tests = r.tests.map(|t| match t.failed {
            0 => format!(", {}", count(t.run, "test")),
            failed => format!(", {failed} of {}", count(t.run, "test")),
        });
        let word = if r.green { "green" } else { "red" };
        let why = if r.green || r.why.is_empty() { String::new() } else { format!(": {}", quote(&r.why)) };
        format!("{} is {word} ({}{}){why}", r.name, span(r.duration_ms), tests.unwrap_or_default())
    });
    format!("checks: {}", each.collect::<Vec<_>>().join("; "))
}

fn said(summary: &str) -> String {
    if summary.trim().is_empty() { String::new() } else { format!(": {}", quote(summary)) }
}

/// The first line that says something; where it only announces what follows, with what follows.
pub fn quote(text: &str) -> String {
    match text.trim_start().split_once('\n') {
        Some((first, rest)) if first.trim_end().ends_with(':') => {
            brief(&format!("{} {}", first.trim_end(), rest.trim_start()), QUOTE)
        }
        _ => brief(text, QUOTE),
    }
}

/// What a run waits for that no person was asked about: the forge, a slot.
pub fn waits(now: &Run) -> Option<String> {
    if now.phase == "queued" {
        return Some("a free slot".to_owned());
    }
    if let (Some(at), Some(why)) = (now.wake_at, &now.waiting_for) {
        return Some(format!("until {}, for {}", super::text::time_of_day(at), quote(why)));
    }
    let waiting = now.gates.iter().find(|g| g.state == GateState::Wait)?;
    (now.phase == "gating" && now.pending_effects.is_empty()).then(|| waiting.why.clone().unwrap_or_default())
}

/// How it ended, in a line.
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered { sha } => format!("delivered as {}", sha.get(..10).unwrap_or(sha)),
        Outcome::Cancelled { why } => format!("cancelled: {}", quote(why)),
        Outcome::Failed { why } => format!("ended undelivered: {}", quote(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::rest::wire::Timestamp;
    use serde_json::{Value, json};

    fn row(name: &str, event: Option<Value>) -> wire::Event {
        wire::Event { run: "0".repeat(32), seq: 1, at: Timestamp(0), name: name.into(), epoch: 1, event }
    }

    #[test]
    fn rows_become_plain_words() {
        let reported = |report: Value| json!({ "event": "reported", "attempt": 2, "report": report });
        let done = |done: Value| json!({ "event": "done", "key": "3.1", "done": done });
        let check = |green: bool| {
            json!({ "name": "test", "kind": "test", "green": green, "exit": 1, "duration_ms": 4200, "why": "exit code 1",
                    "tests": { "run": 9, "failed": if green { 0 } else { 2 }, "skipped": 0 } })
        };
        let ann = "local:ann";
        let table: Vec<(Value, Option<&str>)> = vec![
            (json!({ "event": "admitted" }), Some("has a slot; work begins")),
            (reported(json!({ "failed": { "why": "exit 3\nmore" } })), Some("a2 failed: exit 3")),
            (reported(json!({ "lost": { "why": "killed" } })), Some("a2 is lost: killed")),
            (reported(json!({ "asked": { "question": "which port?" } })), Some("a2 asks: which port?")),
            (
                reported(json!({ "reviewed": { "head": "1", "verdict": "rework", "summary": "no test",
                                               "findings": [{ "text": "x" }] } })),
                Some("a2 wants rework (1 finding): no test"),
            ),
            (
                done(json!({ "checked": { "results": [check(true)], "wall_ms": 1 } })),
                Some("checks: test is green (4.2 s, 9 tests)"),
            ),
            (
                done(json!({ "checked": { "results": [check(false)], "wall_ms": 1 } })),
                Some("checks: test is red (4.2 s, 2 of 9 tests): exit code 1"),
            ),
            (done(json!("ok")), None),
            (
                done(
                    json!({ "reserved": { "caps": {"tokens": 1, "cost_micros": 0, "wall_ms": 1, "turns": 0}, "levels": [
                    { "share": "day", "money": true, "used": 9, "limit": 10, "told": 80 },
                    { "share": "project", "money": false, "used": 9, "limit": 10 } ] } }),
                ),
                Some("80 % of the day budget: money is spent"),
            ),
            (
                done(
                    json!({ "short": { "why": "x", "of": [{ "share": "project", "money": true }, { "share": "day", "money": true }] } }),
                ),
                Some("used up: the project budget and the day budget"),
            ),
            (done(json!({ "landed": { "sha": "3333333333333" } })), Some("landed as 3333333333")),
            (json!({ "event": "paused", "by": ann }), Some("paused by local:ann")),
            (json!({ "event": "answered", "block": 1, "answer": "yes", "by": ann }), Some("local:ann says yes to b1")),
            (
                json!({ "event": "cancel_requested", "by": ann, "why": "x\u{1b}" }),
                Some("cancelled by local:ann: x\\u{1b}"),
            ),
            (
                json!({ "event": "orphaned", "attempts": [1] }),
                Some("the process that carried a1 is gone; this one goes on"),
            ),
        ];
        for (event, said) in table {
            assert_eq!(words(&row("x", Some(event.clone()))).as_deref(), said, "{event}");
        }
    }

    #[test]
    fn rows_that_cannot_be_read_are_named() {
        assert_eq!(words(&row("of_a_newer", Some(json!({ "event": "of_a_newer" })))).as_deref(), Some("of a newer"));
        assert!(words(&row("bad", None)).is_some_and(|w| w.starts_with("bad (this row cannot be read")));
    }
}
