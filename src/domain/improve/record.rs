//! Reads a run: the ends of its steps, each with the signatures of what failed.

use super::Signature;
use super::line::telling_line;
use crate::domain::attempt::{Attempt, Ending};
use crate::domain::change::CiFailure;
use crate::domain::change::ci::JobLog;
use crate::domain::check::{CheckResult, Fault, Scope};
use crate::domain::effect::{EffectOutcome, SecretFound};
use crate::domain::event::Event;
use crate::domain::id::{AttemptId, RunId, Sha, TaskId, Timestamp};
use crate::domain::order::{EngineSpec, Step};
use crate::domain::project::ProjectName;
use crate::domain::report::Report;
use crate::domain::run::Run;
use std::collections::{BTreeMap, BTreeSet};

/// Step of the checks at the base and the head.
pub const CHECK: &str = "check";
/// Step of the forge's CI.
pub const CI: &str = "ci";
/// Step of Skep's own operations.
pub const OPS: &str = "ops";

/// All steps.
pub const STEPS: &[&str] = &["explore", "plan", "develop", "review", CHECK, CI, OPS];
/// All endings of a failure.
pub const ENDINGS: &[&str] = &[
    "failed",
    "refused",
    "asked",
    "lost",
    "unavailable",
    "exhausted_tokens",
    "exhausted_cost",
    "exhausted_turns",
    "exhausted_time",
    "exhausted_step",
    "exhausted_attempts",
    "exhausted_rounds",
    "red",
    "red_at_base",
    "flaky",
    "timeout",
    "missing_program",
    "missing_module",
    "missing_service",
    "other_toolchain",
    "network",
    "no_space",
    "push_held",
];

/// Names of the events that [`RunRecord::of`] reads. The others need not be decoded.
pub const EVENTS: &[&str] =
    &["opened", "reported", "checked", "integrated", "rebased", "ci_inspected", "push_held", "failed"];

/// One end of a step: an attempt, a check of a commit, a run's CI or its operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepEnd {
    /// The step ([`Signature::step`]).
    pub step: &'static str,
    /// When it ended.
    pub at: Timestamp,
    /// What it cost, in micro-USD.
    pub cost_micros: u64,
    /// Its failures; empty if it succeeded.
    pub failures: BTreeSet<Signature>,
}

/// What a run shows about failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// The run.
    pub run: RunId,
    /// Its project.
    pub project: ProjectName,
    /// The ends of its steps.
    pub ends: Vec<StepEnd>,
}

impl RunRecord {
    /// Reads a run from its state and the events named in [`EVENTS`], in order. The run need not have ended.
    pub fn of<'e>(run: &Run, events: impl IntoIterator<Item = (&'e Event, Timestamp)>) -> RunRecord {
        let mut reader = Reader::of(run);
        for (event, at) in events {
            reader.read(event, at);
        }
        let Reader { attempts, ends: checks, ci, ops, .. } = reader;
        // A run without a failed operation counts as well.
        let ends = attempts.into_values().chain(checks).chain(ci).chain([ops]).collect();
        RunRecord { run: run.id, project: run.project.clone(), ends }
    }
}

struct Reader<'r> {
    run: &'r Run,
    /// Ends of attempts.
    attempts: BTreeMap<AttemptId, StepEnd>,
    /// Ends of checks.
    ends: Vec<StepEnd>,
    ci: Option<StepEnd>,
    ops: StepEnd,
    /// The attempt and the commit of each task's present work.
    work: BTreeMap<TaskId, (AttemptId, Sha)>,
    base: Sha,
    head: Sha,
    /// The results of checks so far: whether green, by commit and name.
    results: BTreeMap<(Sha, String), bool>,
}

impl<'r> Reader<'r> {
    fn of(run: &'r Run) -> Reader<'r> {
        let attempts = run.attempts.iter().filter_map(|a| end_of_attempt(a).map(|end| (a.id, end))).collect();
        let none = |step, at| StepEnd { step, at, cost_micros: 0, failures: BTreeSet::new() };
        Reader {
            run,
            attempts,
            ends: Vec::new(),
            ci: run.change.as_ref().map(|_| none(CI, run.opened_at)),
            ops: none(OPS, run.opened_at),
            work: BTreeMap::new(),
            base: run.base.clone(),
            head: run.base.clone(),
            results: BTreeMap::new(),
        }
    }

    fn read(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::Opened(opened) => (self.base, self.head) = (opened.base.clone(), opened.base.clone()),
            Event::Reported(reported) => {
                if let Report::Developed { head, .. } = &reported.report
                    && let Some(task) = self.run.attempt(reported.attempt).and_then(|a| a.task)
                {
                    self.work.insert(task, (reported.attempt, head.clone()));
                }
                self.reported(reported.attempt, &reported.report);
            }
            Event::EffectFinished { outcome, .. } => self.finished(outcome, at),
            _ => {}
        }
    }

    /// Adds how an attempt ended, if that was a failure.
    fn reported(&mut self, id: AttemptId, report: &Report) {
        let Some(attempt) = self.run.attempt(id) else { return };
        let (Some(ended), Some(end)) = (&attempt.ended, self.attempts.get_mut(&id)) else { return };
        let ending = match (ended.ending, ended.exhausted, report) {
            (Ending::Failed, Some(budget), _) => format!("exhausted_{}", budget.name()),
            (Ending::Failed, None, Report::Failed { .. }) => "failed".to_owned(),
            // The report itself is fine, but what it reports cannot be accepted.
            (Ending::Failed, None, _) => "refused".to_owned(),
            (Ending::Asked, ..) => "asked".to_owned(),
            (Ending::Lost, ..) => "lost".to_owned(),
            (Ending::Unavailable, ..) => "unavailable".to_owned(),
            _ => return,
        };
        let line = match ended.ending {
            // The first line of a question says most.
            Ending::Asked => ended.why.lines().find(|l| !l.trim().is_empty()).unwrap_or_default(),
            _ => telling_line(&ended.why),
        };
        let engine = EngineSpec::parse(&attempt.engine).named();
        end.failures.insert(Signature::new(end.step, ending, &engine, line));
    }

    fn finished(&mut self, outcome: &EffectOutcome, at: Timestamp) {
        match outcome {
            EffectOutcome::Checked { results, scope: Some(scope), reused: None, .. } => {
                self.checked(*scope, results, at);
            }
            EffectOutcome::Integrated { head, .. } => self.head = head.clone(),
            EffectOutcome::Rebased { head, .. } => self.head = head.clone(),
            EffectOutcome::CiInspected { failures } => {
                if let Some(ci) = &mut self.ci {
                    ci.at = at;
                    ci.failures.extend(failures.iter().map(ci_signature));
                }
            }
            EffectOutcome::PushHeld { found } => {
                self.ops.at = at;
                let secret =
                    |f: &SecretFound| Signature::new(OPS, "push_held", "", &format!("{} at {}", f.what, f.location));
                self.ops.failures.extend(found.iter().map(secret));
            }
            EffectOutcome::Failed { failure } => {
                self.ops.at = at;
                self.ops.failures.insert(Signature::new(OPS, "failed", "", telling_line(&failure.what)));
            }
            _ => {}
        }
    }

    fn checked(&mut self, scope: Scope, results: &[CheckResult], at: Timestamp) {
        let sha = match scope {
            Scope::Task(task) => self.work.get(&task).map(|(_, sha)| sha.clone()),
            Scope::Head => Some(self.head.clone()),
            Scope::Base => Some(self.base.clone()),
        };
        let mut failures = BTreeSet::new();
        for result in results.iter().filter(|r| !self.run.excuses(r) || r.green) {
            let before = sha.clone().and_then(|sha| self.results.insert((sha, result.name.clone()), result.green));
            if before.is_some_and(|green| green != result.green) {
                failures.insert(flaky(result));
            } else if !result.green {
                failures.insert(red(result, scope));
            }
        }
        match scope {
            // Red checks of a task are the end of the attempt that did its work.
            Scope::Task(task) => {
                let attempt = self.work.get(&task).map(|(attempt, _)| *attempt);
                if let Some(end) = attempt.and_then(|id| self.attempts.get_mut(&id)) {
                    end.failures.extend(failures);
                }
            }
            Scope::Base | Scope::Head => self.ends.push(StepEnd { step: CHECK, at, cost_micros: 0, failures }),
        }
    }
}

/// Returns the end of an attempt that has ended by itself.
fn end_of_attempt(attempt: &Attempt) -> Option<StepEnd> {
    let ended = attempt.ended.as_ref()?;
    let is_its_own = !matches!(ended.ending, Ending::Stopped | Ending::NotStarted);
    is_its_own.then(|| StepEnd {
        step: attempt.step.name(),
        at: ended.at,
        cost_micros: ended.charged.cost_micros,
        failures: lost(attempt),
    })
}

/// Returns the failure of an attempt whose process was gone, which no report describes.
fn lost(attempt: &Attempt) -> BTreeSet<Signature> {
    let lost = attempt.ended.iter().filter(|e| e.ending == Ending::Lost);
    let engine = EngineSpec::parse(&attempt.engine).named();
    lost.map(|e| Signature::new(attempt.step.name(), "lost", &engine, telling_line(&e.why))).collect()
}

fn red(result: &CheckResult, scope: Scope) -> Signature {
    let step = if matches!(scope, Scope::Task(_)) { Step::Develop.name() } else { CHECK };
    let ending = match &result.fault {
        Some(Fault::Program { .. }) => "missing_program",
        Some(Fault::Module { .. }) => "missing_module",
        Some(Fault::Service { .. }) => "missing_service",
        Some(Fault::Toolchain { .. }) => "other_toolchain",
        Some(Fault::Network) => "network",
        Some(Fault::Space) => "no_space",
        None if result.exit_code.is_none() && result.why.contains("exceeded its timeout") => "timeout",
        None if scope == Scope::Base => "red_at_base",
        None => "red",
    };
    // The output of a command that was killed does not say why.
    let line = if ending == "timeout" { result.why.clone() } else { line_of(result) };
    Signature::new(step, ending, &result.name, &line)
}

/// Returns a failure that the same commit has also passed.
fn flaky(result: &CheckResult) -> Signature {
    Signature::new(CHECK, "flaky", &result.name, "passed and failed at the same commit")
}

fn line_of(result: &CheckResult) -> String {
    line_of_output(&result.failures, &result.tail).unwrap_or_else(|| result.why.clone())
}

/// Returns the most telling line of an output, of which some lines are known to say what failed.
fn line_of_output(failures: &[String], tail: &str) -> Option<String> {
    let known = failures.join("\n");
    let text = if known.is_empty() { tail } else { &known };
    Some(telling_line(text).to_owned()).filter(|line| !line.is_empty())
}

fn ci_signature(failure: &CiFailure) -> Signature {
    let ending = match (failure.passed_too, failure.red_at_base) {
        (true, _) => "flaky",
        (_, true) => "red_at_base",
        _ => "red",
    };
    let of_log = match &failure.log {
        JobLog::Read { tail, failures } => line_of_output(failures, tail),
        JobLog::Missing { .. } => None,
    };
    let line = of_log.or_else(|| failure.annotations.first().cloned()).unwrap_or_else(|| failure.summary.clone());
    Signature::new(CI, ending, &failure.name, &line)
}
