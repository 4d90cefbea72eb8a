//! Journal rows as log lines for people.
//!
//! Invariant: pure. Foreign text passes through unchanged; the terminal escapes it.

use super::terminal::Mark;
use super::text::{brief, count, duration, usage};
use crate::domain::change::shown_paths;
use crate::domain::{
    Answer, AskedTo, ChangeState, CheckResult, EffectOutcome, Event, Level, Report, Reported, Reused, Scope,
    StatusState, Verdict,
};
use crate::http::rest::wire::{self, Outcome, Run};
use crate::render;

/// Maximum number of characters of a quoted text.
pub const MAX_QUOTE_CHARS: usize = 160;

/// Returns the log line of a row; `None` for internal steps that mean nothing to a person. `run` bounds what an engine
/// reports as its usage: it may report anything, but is not charged more than was reserved.
pub fn line(row: &wire::Event, run: Option<&Run>) -> Option<String> {
    let Some(value) = &row.event else {
        return Some(format!("{} (this row cannot be read; other rows are not affected)", row.name));
    };
    // Rows written by a newer version may be unknown here; then only their name is shown.
    let Ok(event) = serde_json::from_value::<Event>(value.clone()) else {
        return Some(row.name.replace('_', " "));
    };
    match event {
        Event::Opened(o) => Some(format!(
            "started by {}: {} (from {} on {})",
            o.goal.asked_by,
            o.goal.title(),
            o.base.abbrev(),
            o.settings.base_branch
        )),
        Event::Admitted => Some("admitted: work starts".to_owned()),
        Event::Reported(reported) => Some(report(&reported, run)),
        Event::EffectFinished { outcome, .. } => outcome_of(&outcome),
        Event::Observed { observation } => match &observation.state {
            ChangeState::Merged { sha, by } => Some(format!("the change was merged by {by}: {}", sha.abbrev())),
            ChangeState::Closed { by } => Some(format!("the change was closed by {by}")),
            ChangeState::Open => {
                let failing = observation.statuses.iter().filter(|(_, s)| **s == StatusState::Failure);
                let failing: Vec<&str> = failing.map(|(context, _)| context.as_str()).collect();
                Some(match (failing.is_empty(), observation.approved_by.first()) {
                    (false, _) => format!("CI failed: {}", failing.join(", ")),
                    (true, Some(by)) => format!("the change was approved by {by}"),
                    (true, None) => "the change was updated on the forge".to_owned(),
                })
            }
        },
        Event::Answered { block, answer, by } => {
            let about = block.map_or_else(|| "the oldest question".to_owned(), |b| b.to_string());
            Some(match answer {
                Answer::Yes => format!("{by} answered {about}: yes"),
                Answer::No { why } if why.is_empty() => format!("{by} answered {about}: no"),
                Answer::No { why } => format!("{by} answered {about}: no, {}", quote(&why)),
                Answer::Text { text } => format!("{by} answered {about}: {}", quote(&text)),
                Answer::More { .. } => format!("{by} answered {about}: more budget"),
                Answer::Skip => format!("{by} answered {about}: skip it and go on"),
            })
        }
        Event::Due => Some("the waiting time is over".to_owned()),
        Event::Raised { by, .. } => Some(format!("budget raised by {by}")),
        Event::SettingsChanged { overrides, by } => {
            Some(format!("{by} changed the settings: {}", render::overrides(&overrides).join("; ")))
        }
        Event::Paused { by } => Some(format!("paused by {by}")),
        Event::Resumed { by } => Some(format!("resumed by {by}")),
        Event::CancelRequested { by, why } if why.is_empty() => Some(format!("cancelled by {by}")),
        Event::CancelRequested { by, why } => Some(format!("cancelled by {by}: {}", quote(&why))),
        Event::SessionOpened { attempt, .. } => Some(format!("{attempt} can be resumed if this process ends")),
        Event::Orphaned { attempts, .. } if attempts.is_empty() => None,
        Event::Orphaned { attempts, .. } => {
            let ids: Vec<String> = attempts.iter().map(ToString::to_string).collect();
            Some(format!("the process that worked on {} has ended; this one resumes", ids.join(", ")))
        }
    }
}

/// Returns the usage, at most what was reserved; a reservation of 0 bounds nothing.
fn within(used: wire::Usage, reserved: wire::Usage) -> wire::Usage {
    let bounded = |used: u64, reserved: u64| if reserved == 0 { used } else { used.min(reserved) };
    wire::Usage {
        tokens: bounded(used.tokens, reserved.tokens),
        cost_micros: bounded(used.cost_micros, reserved.cost_micros),
        turns: bounded(used.turns, reserved.turns),
        ..used
    }
}

/// Returns what a row reports: something good, something bad, something to do again, or a fact.
pub fn mark(row: &wire::Event) -> Mark {
    let Some(Ok(event)) = row.event.clone().map(serde_json::from_value::<Event>) else { return Mark::Note };
    match event {
        Event::Reported(reported) => match reported.report {
            Report::Explored { .. } | Report::Planned { .. } => Mark::Good,
            Report::Reviewed { verdict: Verdict::Approve, .. } => Mark::Good,
            Report::Developed { diff, .. } if diff.is_empty() => Mark::Again,
            Report::Developed { .. } => Mark::Good,
            Report::Reviewed { verdict: Verdict::Rework, .. } | Report::Asked { .. } | Report::NotResumed { .. } => {
                Mark::Again
            }
            Report::Failed { .. }
            | Report::BudgetExhausted { .. }
            | Report::Unavailable { .. }
            | Report::Lost { .. } => Mark::Bad,
            Report::Stopped => Mark::Note,
        },
        Event::EffectFinished { outcome, .. } => match outcome {
            EffectOutcome::Checked { results, .. } if results.iter().all(|r| r.green) => Mark::Good,
            EffectOutcome::Checked { .. } | EffectOutcome::PushHeld { .. } | EffectOutcome::Failed { .. } => Mark::Bad,
            EffectOutcome::Conflict { .. } | EffectOutcome::Stale { .. } | EffectOutcome::BudgetExhausted { .. } => {
                Mark::Again
            }
            EffectOutcome::Landed { .. } => Mark::Good,
            _ => Mark::Note,
        },
        Event::Observed { observation } => match observation.state {
            ChangeState::Closed { .. } => Mark::Bad,
            ChangeState::Merged { .. } => Mark::Good,
            ChangeState::Open => Mark::Note,
        },
        _ => Mark::Note,
    }
}

fn report(reported: &Reported, run: Option<&Run>) -> String {
    let id = reported.attempt;
    let attempt = run.and_then(|run| run.attempts.iter().find(|a| a.id == id.to_string()));
    let bounded = |u: wire::Usage| attempt.map_or(u, |a| within(u, a.reserved));
    let used = reported.usage.map(|u| format!(" ({})", usage(bounded(u.into())))).unwrap_or_default();
    match &reported.report {
        Report::Explored { .. } => format!("{id} explored the repository{used}"),
        Report::Planned { tasks } => {
            let titles: Vec<String> = tasks.iter().map(|t| brief(&t.title, 60)).collect();
            format!("{id} planned {}: {}{used}", count(tasks.len() as u64, "task"), titles.join("; "))
        }
        Report::Developed { diff, summary, .. } if diff.is_empty() => {
            format!("{id} changed nothing{}{used}", appended(summary))
        }
        Report::Developed { diff, summary, .. } => {
            format!("{id} changed {}{}{used}", diff.summary(), appended(summary))
        }
        Report::Reviewed { verdict: Verdict::Approve, summary, .. } => {
            format!("{id} approved{}{used}", appended(summary))
        }
        Report::Reviewed { verdict: Verdict::Rework, summary, findings, .. } => {
            let number = if findings.is_empty() {
                String::new()
            } else {
                format!(" ({})", count(findings.len() as u64, "finding"))
            };
            format!("{id} requested changes{number}{}{used}", appended(summary))
        }
        Report::Asked { question, to: AskedTo::Person } => format!("{id} asked: {}", quote(question)),
        Report::Asked { question, to: AskedTo::Scout } => format!("{id} asked the scout: {}", quote(question)),
        Report::Failed { why } | Report::BudgetExhausted { why, .. } => format!("{id} failed: {}{used}", quote(why)),
        Report::Unavailable { why, .. } => format!("{id} could not use its engine: {}{used}", quote(why)),
        Report::Lost { why } => format!("{id} was lost: {}{used}", quote(why)),
        Report::NotResumed { why } => format!("{id} could not be resumed: {}{used}", quote(why)),
        Report::Stopped => format!("{id} was stopped{used}"),
    }
}

fn outcome_of(outcome: &EffectOutcome) -> Option<String> {
    match outcome {
        EffectOutcome::Checked { results, scope, reused, .. } => Some(checks(results, *scope, *reused)),
        EffectOutcome::Integrated { head, diff } => {
            Some(format!("integrated: branch now at {} ({})", head.abbrev(), diff.summary()))
        }
        EffectOutcome::Rebased { head, diff } => {
            Some(format!("rebased: branch now at {} ({})", head.abbrev(), diff.summary()))
        }
        EffectOutcome::Conflict { paths } => Some(format!("conflict in {}", shown_paths(paths))),
        EffectOutcome::ChangeOpened { change } => Some(format!("change #{} is open: `{}`", change.number, change.url)),
        EffectOutcome::Reserved { levels, .. } => Some(alerts(levels).join(", ")).filter(|text| !text.is_empty()),
        EffectOutcome::BudgetExhausted { budgets, levels, reserved, .. } => {
            let state = if *reserved { "the rest is reserved for other attempts" } else { "exhausted" };
            let mut lines = alerts(levels);
            lines.push(format!("{state}: {}", render::budget_names(budgets)));
            Some(lines.join(", "))
        }
        EffectOutcome::Landed { sha } => Some(format!("landed as {}", sha.abbrev())),
        EffectOutcome::PushHeld { found } => {
            let each: Vec<String> = found.iter().map(|f| format!("{} at {}", f.what, quote(&f.location))).collect();
            Some(format!("nothing was pushed: {}", each.join("; ")))
        }
        EffectOutcome::Stale { why } => Some(format!("not landed, the base or the head moved: {}", quote(why))),
        EffectOutcome::Failed { failure } => Some(format!("failed: {}", quote(&failure.what))),
        EffectOutcome::Observed { .. }
        | EffectOutcome::Pushed
        | EffectOutcome::Commented
        | EffectOutcome::StatusSet
        | EffectOutcome::ChangeClosed
        | EffectOutcome::Released
        | EffectOutcome::Stopped => None,
    }
}

/// Alerts of shared budgets.
fn alerts(levels: &[Level]) -> Vec<String> {
    let alert = |l: &Level| {
        let (scope, word) = (l.scope.name(), render::budget_word(l.unit.kind()));
        Some(format!("{} % of the {scope} budget is spent ({word})", l.alert_percent?))
    };
    levels.iter().filter_map(alert).collect()
}

fn checks(results: &[CheckResult], scope: Option<Scope>, reused: Option<Reused>) -> String {
    let name = if scope == Some(Scope::Base) { "base checks" } else { "checks" };
    if results.is_empty() {
        return format!("{name}: none ran");
    }
    match reused {
        Some(Reused::Task) => return format!("{name}: passed (as for the task, not run again)"),
        Some(Reused::Run(run)) => return format!("{name}: passed (as in run {}, not run again)", run.abbrev()),
        None => {}
    }
    let each = results.iter().map(|r| {
        let tests = r.tests.map(|t| match t.failed {
            0 => format!(", {}", count(t.run, "test")),
            failed => format!(", {failed} of {} failed", count(t.run, "test")),
        });
        let word = if r.green { "passed" } else { "failed" };
        let why = if r.green || r.why.is_empty() { String::new() } else { format!(": {}", quote(&r.why)) };
        format!("{} {word} ({}{}){why}", r.name, duration(r.duration_ms), tests.unwrap_or_default())
    });
    format!("{name}: {}", each.collect::<Vec<_>>().join("; "))
}

fn appended(summary: &str) -> String {
    if summary.trim().is_empty() { String::new() } else { format!(": {}", quote(summary)) }
}

/// Quotes the first non-empty line, together with the text after it if that line only introduces it.
pub fn quote(text: &str) -> String {
    match text.trim_start().split_once('\n') {
        Some((first, rest)) if first.trim_end().ends_with(':') => {
            brief(&format!("{} {}", first.trim_end(), rest.trim_start()), MAX_QUOTE_CHARS)
        }
        _ => brief(text, MAX_QUOTE_CHARS),
    }
}

/// Returns the state of a run that waits for something else than a person: a slot, a time, the forge.
pub fn waiting(run: &Run) -> Option<&str> {
    let for_forge = run.phase == "gating" && run.pending_effects.is_empty();
    (run.phase == "queued" || run.wake_at.is_some() || for_forge).then_some(run.now.as_str())
}

/// Returns how a run ended, in one line.
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered { sha } => format!("delivered as {}", sha.get(..10).unwrap_or(sha)),
        Outcome::Cancelled { why } => format!("cancelled: {}", quote(why)),
        Outcome::Failed { why } => format!("failed: {}", quote(why)),
        Outcome::Unchanged => "nothing to change".to_owned(),
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
                done(json!({ "checked": { "results": [check(true)], "wall_ms": 1 } })),
                Some("checks: test passed (4.2 s, 9 tests)"),
            ),
            (
                done(json!({ "checked": { "results": [check(false)], "wall_ms": 1 } })),
                Some("checks: test failed (4.2 s, 2 of 9 tests failed): exit code 1"),
            ),
            (done(json!("pushed")), None),
            (
                done(
                    json!({ "reserved": { "caps": {"tokens": 1, "cost_micros": 0, "wall_ms": 1, "turns": 0}, "levels": [
                    { "scope": "day", "unit": "cost", "used": 9, "limit": 10, "alert_percent": 80 },
                    { "scope": "project", "unit": "tokens", "used": 9, "limit": 10 } ] } }),
                ),
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
            (
                json!({ "event": "answered", "block": 1, "answer": "yes", "by": ann }),
                Some("local:ann answered b1: yes"),
            ),
            (
                json!({ "event": "cancel_requested", "by": ann, "why": "x\u{1b}" }),
                Some("cancelled by local:ann: x\\u{1b}"),
            ),
            (
                json!({ "event": "orphaned", "attempts": [1] }),
                Some("the process that worked on a1 has ended; this one resumes"),
            ),
        ];
        for (event, expected) in table {
            assert_eq!(line(&row("x", Some(event.clone())), None).as_deref(), expected, "{event}");
        }
    }

    #[test]
    fn rows_that_cannot_be_read_are_named() {
        assert_eq!(
            line(&row("of_a_newer", Some(json!({ "event": "of_a_newer" }))), None).as_deref(),
            Some("of a newer")
        );
        assert!(line(&row("bad", None), None).is_some_and(|text| text.starts_with("bad (this row cannot be read")));
    }
}
