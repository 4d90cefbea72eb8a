//! Journal rows for people.
//!
//! Text from outside passes through on one line; whoever prints it escapes it.

use super::budget_names;
use super::quantity::{brief, budget_word, count, duration, usage};
use crate::domain::change::shown_paths;
use crate::domain::{
    Answer, AskedTo, AttemptId, ChangeState, CheckKind, CheckResult, CiFailure, EffectOutcome, Event, Level, Report,
    Reported, Reused, Scope, StatusState, Usage, Verdict,
};
use serde::Deserialize;
use serde_json::Value;

/// Upper bound on the characters of a quoted text.
pub const MAX_QUOTE_CHARS: usize = 160;

/// Row of a run's journal, read to be shown to people.
#[derive(Debug)]
pub enum JournalEntry {
    /// The event of the row.
    Event(Box<Event>),
    /// A row that only a newer version knows, by its name.
    Unknown(String),
    /// A row that cannot be read, by its name.
    Unreadable(String),
}

/// How a journal entry bears on the success of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Something went well.
    Good,
    /// Something went wrong.
    Bad,
    /// Something needs attention, or more work.
    Again,
    /// A fact.
    Neutral,
}

impl JournalEntry {
    /// Reads a row from its name and its event as JSON; `None` = the store could not read the event.
    pub fn read(name: &str, event: Option<&Value>) -> JournalEntry {
        let name = || name.replace('_', " ");
        let Some(event) = event else { return JournalEntry::Unreadable(name()) };
        match Event::deserialize(event) {
            Ok(event) => JournalEntry::Event(Box::new(event)),
            Err(_) => JournalEntry::Unknown(name()),
        }
    }

    /// Returns what the entry reports in one line; `None` for internal steps that mean nothing to a person. `reserved`
    /// returns the reservation of an attempt (`a1`), which bounds the usage shown: an engine may report any amount, but
    /// is not charged more than was reserved.
    pub fn words(&self, reserved: impl Fn(&str) -> Option<Usage>) -> Option<String> {
        match self {
            JournalEntry::Event(event) => event_words(event, &reserved),
            JournalEntry::Unknown(name) => Some(name.clone()),
            JournalEntry::Unreadable(name) => {
                Some(format!("{name} (this row cannot be read; other rows are not affected)"))
            }
        }
    }

    /// Returns how the entry bears on the success of its run.
    pub fn tone(&self) -> Tone {
        match self.event() {
            Some(Event::Reported(reported)) => match &reported.report {
                Report::Explored { .. } | Report::Planned { .. } => Tone::Good,
                Report::Reviewed { verdict: Verdict::Approve, .. } => Tone::Good,
                Report::Developed { diff, .. } if diff.is_empty() => Tone::Again,
                Report::Developed { .. } => Tone::Good,
                Report::Reviewed { verdict: Verdict::Rework, .. }
                | Report::Asked { .. }
                | Report::NotResumed { .. } => Tone::Again,
                Report::Failed { .. }
                | Report::BudgetExhausted { .. }
                | Report::Unavailable { .. }
                | Report::Lost { .. } => Tone::Bad,
                Report::Stopped => Tone::Neutral,
            },
            Some(Event::EffectFinished { outcome, .. }) => match outcome {
                EffectOutcome::Checked { results, .. } if results.iter().all(|r| r.green) => Tone::Good,
                EffectOutcome::Checked { .. } | EffectOutcome::PushHeld { .. } | EffectOutcome::Failed { .. } => {
                    Tone::Bad
                }
                EffectOutcome::Conflict { .. }
                | EffectOutcome::Stale { .. }
                | EffectOutcome::PutBack { .. }
                | EffectOutcome::CiInspected { .. }
                | EffectOutcome::CiRerun
                | EffectOutcome::BudgetExhausted { .. } => Tone::Again,
                EffectOutcome::Landed { .. } => Tone::Good,
                _ => Tone::Neutral,
            },
            Some(Event::Observed { observation }) => match observation.state {
                ChangeState::Closed { .. } => Tone::Bad,
                ChangeState::Merged { .. } => Tone::Good,
                ChangeState::Open if observation.change_requests.is_empty() => Tone::Neutral,
                ChangeState::Open => Tone::Again,
            },
            _ => Tone::Neutral,
        }
    }

    /// Returns the attempt that ended by itself with this entry.
    pub fn ended_attempt(&self) -> Option<AttemptId> {
        self.reported().filter(|reported| !matches!(reported.report, Report::Stopped)).map(|reported| reported.attempt)
    }

    /// Returns the attempt that reported its own failure with this entry.
    pub fn failed_attempt(&self) -> Option<AttemptId> {
        let failed = self.reported().filter(|reported| matches!(reported.report, Report::Failed { .. }));
        failed.map(|reported| reported.attempt)
    }

    /// Returns the address of the change that was opened or updated with this entry.
    pub fn opened_change(&self) -> Option<&str> {
        match self.event()? {
            Event::EffectFinished { outcome: EffectOutcome::ChangeOpened { change }, .. } => Some(&change.url),
            _ => None,
        }
    }

    fn reported(&self) -> Option<&Reported> {
        match self.event()? {
            Event::Reported(reported) => Some(reported),
            _ => None,
        }
    }

    fn event(&self) -> Option<&Event> {
        match self {
            JournalEntry::Event(event) => Some(event),
            JournalEntry::Unknown(_) | JournalEntry::Unreadable(_) => None,
        }
    }
}

fn event_words(event: &Event, reserved: &dyn Fn(&str) -> Option<Usage>) -> Option<String> {
    match event {
        Event::Opened(o) => Some(format!(
            "started by {}: {} (from {} on {})",
            o.goal.asked_by,
            o.goal.title(),
            o.base.abbrev(),
            o.settings.base_branch
        )),
        Event::Admitted => Some("admitted: work starts".to_owned()),
        Event::Reported(reported) => Some(report(reported, reserved)),
        Event::EffectFinished { outcome, .. } => outcome_of(outcome),
        Event::Observed { observation } => match &observation.state {
            ChangeState::Merged { sha, by } => Some(format!("the change was merged by {by}: {}", sha.abbrev())),
            ChangeState::Closed { by } => Some(format!("the change was closed by {by}")),
            ChangeState::Open => {
                let failing = observation.statuses.iter().filter(|(_, s)| **s == StatusState::Failure);
                let failing: Vec<&str> = failing.map(|(context, _)| context.as_str()).collect();
                let requested_by = observation.change_requests.last().map(|r| &r.by);
                Some(match (failing.is_empty(), requested_by, observation.approved_by.first()) {
                    (_, Some(by), _) => format!("{by} requested changes"),
                    (false, ..) => format!("CI failed: {}", failing.join(", ")),
                    (true, _, Some(by)) => format!("the change was approved by {by}"),
                    (true, ..) => "the change was updated on the forge".to_owned(),
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
                Answer::Skip => format!("{by} answered {about}: skip it and continue"),
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

/// Returns the usage, at most what was reserved; a reservation of 0 bounds nothing.
fn bounded(used: Usage, reserved: Usage) -> Usage {
    let bounded = |used: u64, reserved: u64| if reserved == 0 { used } else { used.min(reserved) };
    Usage {
        tokens: bounded(used.tokens, reserved.tokens),
        cost_micros: bounded(used.cost_micros, reserved.cost_micros),
        turns: bounded(used.turns, reserved.turns),
        ..used
    }
}

fn report(reported: &Reported, reserved: &dyn Fn(&str) -> Option<Usage>) -> String {
    let id = reported.attempt;
    let used = reported.usage.map(|used| reserved(&id.to_string()).map_or(used, |reserved| bounded(used, reserved)));
    let used = used.map(|used| format!(" ({})", usage(used))).unwrap_or_default();
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
        Report::Reviewed { verdict, summary, findings, .. } => {
            let word = match verdict {
                Verdict::Approve => "approved",
                Verdict::Rework => "requested changes",
            };
            let number = match findings.len() {
                0 => String::new(),
                n => format!(" ({})", count(n as u64, "finding")),
            };
            format!("{id} {word}{number}{}{used}", appended(summary))
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
        EffectOutcome::CiInspected { failures } => Some(ci(failures)),
        EffectOutcome::CiRerun => Some("CI: the failed jobs also passed at this commit, and run again".to_owned()),
        EffectOutcome::Landed { sha, batch } => {
            let proof = batch.as_ref().map(|proof| format!(", {}", super::batch(proof))).unwrap_or_default();
            Some(format!("landed as {}{proof}", sha.abbrev()))
        }
        EffectOutcome::PushHeld { found } => {
            let each: Vec<String> = found.iter().map(|f| format!("{} at {}", f.what, quote(&f.location))).collect();
            Some(format!("nothing was pushed: {}", each.join("; ")))
        }
        EffectOutcome::Stale { why } => Some(format!("not landed: {}", quote(why))),
        EffectOutcome::PutBack { why, .. } => Some(format!("put back by the merge queue: {}", quote(why))),
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
    let source = match reused {
        Some(Reused::Task) => Some("as for the task, not run again".to_owned()),
        Some(Reused::Run(run)) => Some(format!("as in run {}, not run again", run.abbrev())),
        None => None,
    };
    if let Some(source) = &source
        && results.iter().all(|r| r.green)
    {
        return format!("{name}: passed ({source})");
    }
    let each = results.iter().map(|r| {
        let tests = r.tests.map(|t| match t.failed {
            0 => format!(", {}", count(t.run, "test")),
            failed => format!(", {failed} of {} failed", count(t.run, "test")),
        });
        // That a criterion is not met before the change is expected, and needs no reason.
        let is_expected = r.kind == CheckKind::Accept && scope == Some(Scope::Base);
        let word = match (r.kind, r.green) {
            (CheckKind::Accept, true) => "met",
            (CheckKind::Accept, false) if is_expected => "not met yet",
            (CheckKind::Accept, false) => "not met",
            (_, true) => "passed",
            (_, false) => "failed",
        };
        let why =
            if r.green || r.why.is_empty() || is_expected { String::new() } else { format!(": {}", quote(&r.why)) };
        format!("{} {word} ({}{}){why}", r.name, duration(r.duration_ms), tests.unwrap_or_default())
    });
    let source = source.map(|source| format!(" ({source})")).unwrap_or_default();
    format!("{name}: {}{source}", each.collect::<Vec<_>>().join("; "))
}

fn ci(failures: &[CiFailure]) -> String {
    let each = failures.iter().map(|failure| {
        let remark = match (failure.red_at_base, failure.passed_too) {
            (true, _) => " (red at the base as well)",
            (_, true) => " (has also passed at this commit)",
            _ => "",
        };
        format!("{}{remark}", brief(&failure.name, 60))
    });
    format!("read the failures of CI: {}", each.collect::<Vec<_>>().join(", "))
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

#[cfg(test)]
mod tests;
