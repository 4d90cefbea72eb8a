//! Events of the journal, in words.
//!
//! Text from outside passes through on one line; whoever prints it escapes it.

use super::budget_names;
use super::quantity::{brief, budget_word, count, duration, usage};
use crate::domain::change::shown_paths;
use crate::domain::{
    Answer, AskedTo, ChangeState, CheckResult, EffectOutcome, Event, Level, Report, Reported, Reused, Scope,
    StatusState, Verdict,
};

/// Upper bound on the characters of a quoted text.
const MAX_QUOTE: usize = 160;

/// Returns what an event reports; `None` for internal steps that mean nothing to a person.
pub fn event_words(event: &Event) -> Option<String> {
    match event {
        Event::Opened(o) => Some(format!(
            "started by {}: {} (from {} on {})",
            o.goal.asked_by,
            o.goal.title(),
            o.base.abbrev(),
            o.settings.base_branch
        )),
        Event::Admitted => Some("admitted: work starts".to_owned()),
        Event::Reported(reported) => Some(report(reported)),
        Event::EffectFinished { outcome, .. } => outcome_of(outcome),
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
                Answer::No { why } => format!("{by} answered {about}: no, {}", quote(why)),
                Answer::Text { text } => format!("{by} answered {about}: {}", quote(text)),
                Answer::More { .. } => format!("{by} answered {about}: more budget"),
                Answer::Skip => format!("{by} answered {about}: skip it and go on"),
            })
        }
        Event::Due => Some("the waiting time is over".to_owned()),
        Event::Raised { by, .. } => Some(format!("budget raised by {by}")),
        Event::SettingsChanged { overrides, by } => {
            Some(format!("{by} changed the settings: {}", super::overrides(overrides).join("; ")))
        }
        Event::Paused { by } => Some(format!("paused by {by}")),
        Event::Resumed { by } => Some(format!("resumed by {by}")),
        Event::CancelRequested { by, why } if why.is_empty() => Some(format!("cancelled by {by}")),
        Event::CancelRequested { by, why } => Some(format!("cancelled by {by}: {}", quote(why))),
        Event::SessionOpened { attempt, .. } => Some(format!("{attempt} can be resumed if this process ends")),
        Event::Orphaned { attempts, .. } if attempts.is_empty() => None,
        Event::Orphaned { attempts, .. } => {
            let ids: Vec<String> = attempts.iter().map(ToString::to_string).collect();
            Some(format!("the process that worked on {} has ended; this one resumes", ids.join(", ")))
        }
    }
}

fn report(reported: &Reported) -> String {
    let id = reported.attempt;
    let used = reported.usage.map(|u| format!(" ({})", usage(u))).unwrap_or_default();
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
            lines.push(format!("{state}: {}", budget_names(budgets)));
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
        let (scope, word) = (l.scope.name(), budget_word(l.unit.kind()));
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
fn quote(text: &str) -> String {
    match text.trim_start().split_once('\n') {
        Some((first, rest)) if first.trim_end().ends_with(':') => {
            brief(&format!("{} {}", first.trim_end(), rest.trim_start()), MAX_QUOTE)
        }
        _ => brief(text, MAX_QUOTE),
    }
}
