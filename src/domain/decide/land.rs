//! Gating, Landing, Reporting, and the request to stop: the end of a run.
//!
//! Invariant: `Land` is ordered in one place only, in the very decision that found every gate open.

use super::builder::DecisionBuilder;
use super::review::show;
use super::{ci, requests};
use crate::domain::batch::RedInBatch;
use crate::domain::block::{BlockKind, Subject};
use crate::domain::effect::{CommentSubject, Effect, EffectRef};
use crate::domain::gate::{self, Gate};
use crate::domain::id::Sha;
use crate::domain::order::NoteSource;
use crate::domain::run::{Outcome, Phase, Stopping};

/// Waits until every gate is open for exactly this head.
pub(super) fn gating(d: &mut DecisionBuilder) {
    let Some(change) = d.run.change.as_ref().map(|c| c.number) else {
        d.run.phase = Phase::Reviewing;
        return;
    };
    // A head that is not proven returns to Reviewing. Nothing is carried over from another head.
    if !d.run.facts.pushed
        || [gate::diff(&d.run), gate::checks(&d.run), gate::review(&d.run)].iter().any(|g| !g.is_open())
    {
        d.run.phase = Phase::Reviewing;
        return;
    }
    if d.run.facts.shown_as_draft != Some(false) {
        return show(d, false);
    }
    let Some(seen) = d.run.facts.observed.clone() else {
        return d.ensure(Effect::Observe { change });
    };
    if !gate::head(&d.run).is_open() {
        let why = format!(
            "the branch {} on the forge is at {}, but {} was proven",
            d.run.settings.branch, seen.head, d.run.head
        );
        return d.block(BlockKind::ForeignPush { head: seen.head }, &why);
    }
    if d.run.pending.values().any(|e| matches!(e, EffectRef::Rebase(_))) {
        // A rebase ends with a new head, so nothing else starts meanwhile.
        return;
    }
    if requests::rework(d) {
        return;
    }
    if !gate::base(&d.run).is_open() {
        d.run.overtaken = d.run.overtaken.saturating_add(1);
        let effect = Effect::Rebase { from: d.run.base.clone(), head: d.run.head.clone(), onto: seen.base };
        return d.ensure(effect);
    }
    requests::answer(d, change);
    match gate::statuses(&d.run) {
        Gate::Open => {}
        Gate::Wait(_) => return,
        Gate::Shut(_) => return ci::inspect(d, change),
    }
    if let Gate::Wait(_) | Gate::Shut(_) = gate::approval(&d.run) {
        let subject = Subject::Merge { head: d.run.head.clone(), base: d.run.base.clone() };
        // Why the question comes again is part of it.
        let why = match d.run.asked_base.replace(d.run.base.clone()) {
            Some(asked) if asked != d.run.base => format!(
                "{} moved from {} to {} after this was last asked; the change was moved onto it and proven again",
                d.run.settings.base_branch,
                asked.abbrev(),
                d.run.base.abbrev()
            ),
            _ => String::new(),
        };
        return d.block(BlockKind::Approval(subject), &why);
    }
    if gate::all(&d.run).iter().all(|(_, g)| g.is_open()) {
        d.run.phase = Phase::Landing;
        let batch = d.run.landing_batch();
        let effect = Effect::Land { change, head: d.run.head.clone(), base: d.run.base.clone(), batch };
        d.order(effect);
    }
}

/// Takes back a change that the merge queue put back. If its checks are red, the change continues on the base that
/// they ran on, and they are known; else it is moved onto the current base like any other that was overtaken.
pub(super) fn put_back(d: &mut DecisionBuilder, red: Option<&RedInBatch>) {
    d.run.facts.observed = None;
    let Some(red) = red.filter(|_| d.run.stopping.is_none() && d.run.phase == Phase::Landing) else {
        d.run.facts.put_back = true;
        return;
    };
    if !red.runs.is_empty() {
        let runs: Vec<String> = red.runs.iter().map(|run| run.abbrev().to_string()).collect();
        let text = format!(
            "The checks were green until the change was put on top of what landed before it, by the runs {}. It has to \
             work together with that.",
            runs.join(", ")
        );
        d.run.note(NoteSource::Checks, &text);
    }
    d.run.base = red.base.clone();
    d.set_head(red.head.clone(), red.diff.clone());
    d.run.facts.results = Some(red.results.clone());
    d.run.facts.environment = red.environment.clone();
}

/// Waits for the end of the ordered landing. Returns to the gates if no landing is pending.
pub(super) fn landing(d: &mut DecisionBuilder) {
    if !d.run.pending.values().any(|e| matches!(e, EffectRef::Land(_))) {
        d.run.facts.observed = None;
        d.run.phase = Phase::Gating;
    }
}

/// Reports the result once, then releases the workspace, then ends.
pub(super) fn reporting(d: &mut DecisionBuilder) {
    if !d.run.closing.reported {
        d.run.closing.reported = true;
        if let Some(change) = d.run.change.as_ref().map(|c| c.number) {
            d.order(Effect::Comment { change, thread: None, about: CommentSubject::Result });
            if !matches!(d.run.outcome, Some(Outcome::Delivered { .. })) {
                d.order(Effect::Close { change });
            }
        }
    }
    if in_progress(d) {
        // A person merged while attempts or checks were still in progress.
        return stop_work(d);
    }
    if !d.run.pending.is_empty() {
        return;
    }
    if !d.run.closing.released {
        d.run.closing.released = true;
        return d.order(Effect::Release);
    }
    d.run.phase = Phase::Ended;
}

/// Carries out the request to stop: ends what is in progress, waits for it, then reports.
pub(super) fn wind_down(d: &mut DecisionBuilder) {
    let Some(stopping) = d.run.stopping.clone() else { return };
    if d.run.phase == Phase::Queued {
        d.run.outcome = Some(outcome_of(&stopping));
        d.run.phase = Phase::Ended;
        return;
    }
    // Point of no return: whether it landed has to be known first. A landing that only waits for its turn is stopped.
    if d.run.pending.values().any(|e| matches!(e, EffectRef::Land(_))) {
        return stop_work(d);
    }
    if in_progress(d) {
        return stop_work(d);
    }
    if d.run.pending.is_empty() {
        d.run.outcome = Some(outcome_of(&stopping));
        d.run.phase = Phase::Reporting;
    }
}

/// Orders the stop of the attempts and checks in progress. Once is enough, because nothing new starts afterwards.
fn stop_work(d: &mut DecisionBuilder) {
    if !d.run.closing.stopped {
        d.run.closing.stopped = true;
        d.order(Effect::Stop);
    }
}

/// Returns whether an attempt or a check is in progress. These can be stopped at any time.
fn in_progress(d: &DecisionBuilder) -> bool {
    d.run.pending.values().any(|e| matches!(e, EffectRef::Start(_) | EffectRef::Check(..)))
}

fn outcome_of(stopping: &Stopping) -> Outcome {
    let why = if stopping.why.is_empty() {
        format!("by {}", stopping.by)
    } else {
        format!("by {}: {}", stopping.by, stopping.why)
    };
    if stopping.failed { Outcome::Failed { why } } else { Outcome::Cancelled { why } }
}

/// Ends the run, because there was nothing to change.
pub(super) fn unchanged(d: &mut DecisionBuilder) {
    d.run.outcome = Some(Outcome::Unchanged);
    d.run.blocks.clear();
    d.run.phase = Phase::Reporting;
}

/// Records that the change is on the base branch, landed by Skep or by a person. Always accepted, even when stopping.
pub(super) fn delivered(d: &mut DecisionBuilder, sha: &Sha) {
    d.run.outcome = Some(Outcome::Delivered { sha: sha.clone() });
    d.run.blocks.clear();
    d.run.phase = Phase::Reporting;
}
