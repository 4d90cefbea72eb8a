//! The texts of an event that come from outside. Secrets are redacted from them before the event is decided.
//!
//! Everything a run stores, orders or reports derives from its events, so what is redacted from them appears nowhere.
//!
//! Invariant: every kind of event, outcome and report is matched here; a new one does not compile until its texts are
//! covered.

use super::artifact::ArtifactRef;
use super::block::Answer;
use super::change::{CiFailure, DiffStat, JobLog, Observation};
use super::check::{CheckResult, Fault};
use super::effect::EffectOutcome;
use super::event::Event;
use super::report::{Finding, Report, Reported};

/// Cleans one text in place.
type Clean<'a> = &'a mut dyn FnMut(&mut String);

impl Event {
    /// Passes every text from outside to `clean`. The settings of a run, and ids and names made by Skep, are not
    /// included.
    pub fn clean_texts(&mut self, clean: Clean<'_>) {
        match self {
            Event::Opened(opened) => opened.goal.clean_texts(clean),
            Event::Reported(reported) => self::reported(reported, clean),
            Event::EffectFinished { key: _, outcome } => self::outcome(outcome, clean),
            Event::Observed { observation } => observed(observation, clean),
            Event::Answered { block: _, answer, by: _ } => match answer {
                Answer::No { why: text } | Answer::Text { text } => clean(text),
                Answer::Yes | Answer::More { .. } | Answer::Skip => {}
            },
            Event::CancelRequested { by: _, why } => clean(why),
            Event::SessionOpened { attempt: _, session } => clean(session),
            Event::Orphaned { attempts: _, metered, alive: _, stopped: _ } => {
                metered.iter_mut().flat_map(|(_, m)| &mut m.usage_by_model).for_each(|used| clean(&mut used.model));
            }
            Event::Admitted
            | Event::Due
            | Event::Raised { .. }
            | Event::SettingsChanged { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. } => {}
        }
    }
}

fn reported(reported: &mut Reported, clean: Clean<'_>) {
    reported.session.iter_mut().for_each(&mut *clean);
    artifacts(&mut reported.artifacts, clean);
    reported.usage_by_model.iter_mut().for_each(|used| clean(&mut used.model));
    match &mut reported.report {
        Report::Explored { notes: text } | Report::Asked { question: text, to: _ } => clean(text),
        Report::Failed { why }
        | Report::Lost { why }
        | Report::NotResumed { why }
        | Report::BudgetExhausted { budget: _, why, unfinished: _ } => clean(why),
        Report::Unavailable { why, until: _, fix } => {
            clean(why);
            fix.iter_mut().for_each(clean);
        }
        Report::Planned { tasks } => {
            for task in tasks {
                // Names and patterns too: a name that becomes invalid is refused, which is better than one that leaks.
                for text in [&mut task.name, &mut task.title, &mut task.text] {
                    clean(text);
                }
                task.needs.iter_mut().chain(&mut task.paths).for_each(&mut *clean);
            }
        }
        Report::Developed { head: _, diff, summary } => {
            paths(diff, clean);
            clean(summary);
        }
        Report::Reviewed { head: _, verdict: _, findings, summary, criteria } => {
            criteria.iter_mut().for_each(|verdict| clean(&mut verdict.why));
            for Finding { path, line: _, text } in findings {
                clean(path);
                clean(text);
            }
            clean(summary);
        }
        Report::Stopped => {}
    }
}

fn outcome(outcome: &mut EffectOutcome, clean: Clean<'_>) {
    match outcome {
        EffectOutcome::Checked { results, wall_ms: _, scope: _, reused: _, environment: _ } => checks(results, clean),
        EffectOutcome::Landed { sha: _, batch } => {
            batch.iter_mut().for_each(|proof| checks(&mut proof.results, clean));
        }
        EffectOutcome::PutBack { why, red } => {
            clean(why);
            if let Some(red) = red {
                paths(&mut red.diff, clean);
                checks(&mut red.results, clean);
            }
        }
        EffectOutcome::Integrated { head: _, diff } | EffectOutcome::Rebased { head: _, diff } => paths(diff, clean),
        EffectOutcome::Conflict { paths } => paths.iter_mut().for_each(clean),
        EffectOutcome::Observed { observation } => observed(observation, clean),
        EffectOutcome::CiInspected { failures } => {
            for failure in failures {
                ci(failure, clean);
            }
        }
        EffectOutcome::Stale { why } => clean(why),
        EffectOutcome::PushHeld { found } => {
            for one in found {
                clean(&mut one.location);
                clean(&mut one.what);
            }
        }
        EffectOutcome::Failed { failure } => {
            clean(&mut failure.what);
            clean(&mut failure.fix);
        }
        EffectOutcome::BudgetExhausted { budgets: _, levels: _, spending, reserved: _ } => {
            spending.iter_mut().for_each(|row| clean(&mut row.name));
        }
        EffectOutcome::Reserved { .. }
        | EffectOutcome::ChangeOpened { .. }
        | EffectOutcome::CiRerun
        | EffectOutcome::Pushed
        | EffectOutcome::Commented
        | EffectOutcome::StatusSet
        | EffectOutcome::ChangeClosed
        | EffectOutcome::Released
        | EffectOutcome::Stopped => {}
    }
}

fn checks(results: &mut [CheckResult], clean: Clean<'_>) {
    for CheckResult { why, tail, artifacts, failures, fault, .. } in results {
        clean(why);
        clean(tail);
        failures.iter_mut().for_each(&mut *clean);
        match fault {
            Some(Fault::Program { name } | Fault::Module { name } | Fault::Service { name }) => clean(name),
            Some(Fault::Toolchain { line, .. }) => clean(line),
            Some(Fault::Network | Fault::Space) | None => {}
        }
        self::artifacts(artifacts, clean);
    }
}

/// The names of statuses stay: the gate compares them.
fn observed(seen: &mut Observation, clean: Clean<'_>) {
    seen.unblocks.iter_mut().for_each(|comment| clean(&mut comment.text));
    for request in &mut seen.change_requests {
        clean(&mut request.text);
        for comment in &mut request.comments {
            clean(&mut comment.path);
            clean(&mut comment.text);
        }
    }
}

fn ci(failure: &mut CiFailure, clean: Clean<'_>) {
    let CiFailure { name: _, id: _, url, summary, annotations, log, red_at_base: _, passed_too: _, workflow_run: _ } =
        failure;
    clean(url);
    clean(summary);
    annotations.iter_mut().for_each(&mut *clean);
    match log {
        JobLog::Read { tail, failures } => {
            clean(tail);
            failures.iter_mut().for_each(clean);
        }
        JobLog::Missing { why } => clean(why),
    }
}

fn paths(diff: &mut DiffStat, clean: Clean<'_>) {
    diff.files.iter_mut().for_each(|file| clean(&mut file.path));
}

fn artifacts(artifacts: &mut [ArtifactRef], clean: Clean<'_>) {
    artifacts.iter_mut().for_each(|artifact| clean(&mut artifact.name));
}
