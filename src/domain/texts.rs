//! The texts of an event that come from outside: whoever takes an event in has them cleaned before it is decided upon.
//!
//! Whatever a run holds, orders or tells is made of its events, so what is not in them is nowhere.
//!
//! Invariant: every kind of event, end and report is named here; a new one does not compile until its texts are.

use super::artifact::ArtifactRef;
use super::block::Answer;
use super::change::{DiffStat, Observation};
use super::check::CheckResult;
use super::effect::EffectOutcome;
use super::event::Event;
use super::report::{Finding, Report, Reported};

/// What is done with each text.
type Clean<'a> = &'a mut dyn FnMut(&mut String);

impl Event {
    /// Hands every text from outside to `clean`: not the rules a run is opened with, nor ids and names Skep gives itself.
    pub fn clean_texts(&mut self, clean: Clean<'_>) {
        match self {
            Event::Opened(opened) => clean(&mut opened.goal.text),
            Event::Reported(reported) => self::reported(reported, clean),
            Event::EffectFinished { key: _, done } => self::done(done, clean),
            Event::Observed { observation } => observed(observation, clean),
            Event::Answered { block: _, answer, by: _ } => match answer {
                Answer::No { why: text } | Answer::Text { text } => clean(text),
                Answer::Yes | Answer::More { .. } | Answer::Skip => {}
            },
            Event::CancelRequested { by: _, why } => clean(why),
            Event::SessionOpened { attempt: _, session } => clean(session),
            Event::Orphaned { attempts: _, metered } => {
                metered.iter_mut().flat_map(|(_, m)| &mut m.bill).for_each(|used| clean(&mut used.model));
            }
            Event::Admitted | Event::Due | Event::Raised { .. } | Event::Paused { .. } | Event::Resumed { .. } => {}
        }
    }
}

fn reported(reported: &mut Reported, clean: Clean<'_>) {
    reported.session.iter_mut().for_each(&mut *clean);
    artifacts(&mut reported.artifacts, clean);
    reported.bill.iter_mut().for_each(|used| clean(&mut used.model));
    match &mut reported.report {
        Report::Explored { notes: text } | Report::Asked { question: text, to: _ } => clean(text),
        Report::Failed { why } | Report::Lost { why } | Report::NotResumed { why } => clean(why),
        Report::SpentOut { what, why } => [what, why].into_iter().for_each(clean),
        Report::Unavailable { why, until: _, fix } => {
            clean(why);
            fix.iter_mut().for_each(clean);
        }
        Report::Planned { tasks } => {
            for task in tasks {
                // Names and patterns, too: a name that is none any more is refused, which is better than one that tells.
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
        Report::Reviewed { head: _, verdict: _, findings, summary } => {
            for Finding { path, line: _, text } in findings {
                clean(path);
                clean(text);
            }
            clean(summary);
        }
        Report::Stopped => {}
    }
}

fn done(done: &mut EffectOutcome, clean: Clean<'_>) {
    match done {
        EffectOutcome::Checked { results, wall_ms: _ } => {
            for CheckResult { why, tail, artifacts, .. } in results {
                clean(why);
                clean(tail);
                self::artifacts(artifacts, clean);
            }
        }
        EffectOutcome::Moved { head: _, diff } => paths(diff, clean),
        EffectOutcome::Conflict { paths } => paths.iter_mut().for_each(clean),
        EffectOutcome::Observed { observation } => observed(observation, clean),
        EffectOutcome::Stale { why } | EffectOutcome::Short { of: _, why, levels: _, set_aside: _ } => clean(why),
        EffectOutcome::Held { found } => {
            for one in found {
                clean(&mut one.place);
                clean(&mut one.what);
            }
        }
        EffectOutcome::Failed { failure } => {
            clean(&mut failure.what);
            clean(&mut failure.fix);
        }
        EffectOutcome::Reserved { .. }
        | EffectOutcome::Ensured { .. }
        | EffectOutcome::Landed { .. }
        | EffectOutcome::Ok => {}
    }
}

fn observed(seen: &mut Observation, clean: Clean<'_>) {
    seen.unblocks.iter_mut().for_each(|comment| clean(&mut comment.text));
}

fn paths(diff: &mut DiffStat, clean: Clean<'_>) {
    diff.files.iter_mut().for_each(|file| clean(&mut file.path));
}

fn artifacts(artifacts: &mut [ArtifactRef], clean: Clean<'_>) {
    artifacts.iter_mut().for_each(|artifact| clean(&mut artifact.name));
}
