//! The current state of a run in one sentence.

use super::escalation::escalation;
use super::quantity::{brief, count, elapsed};
use super::{effect_words, time};
use crate::domain::gate::{self, Gate};
use crate::domain::{Attempt, EffectKind, EffectRef, EngineSpec, Outcome, Phase, Run, Stage, Timestamp};

/// Upper bound on the characters of a quoted reason.
const MAX_QUOTE: usize = 160;

/// Returns what the run is doing or waiting for at `at`, in one sentence without a full stop. It may quote text from
/// outside, on one line; the printer escapes it.
pub fn now(run: &Run, at: Timestamp) -> String {
    if let Some(ended) = run.outcome.as_ref().filter(|_| run.ended()) {
        return outcome(ended);
    }
    if run.stopping.is_some() && run.phase < Phase::Reporting {
        return "stopping: waiting for attempts and checks to end".to_owned();
    }
    if let Some(by) = &run.paused {
        return format!("paused by {by}");
    }
    if let Some(block) = run.blocks.first() {
        let more = match run.blocks.len() as u64 - 1 {
            0 => String::new(),
            n => format!(", and {}", count(n, "more question")),
        };
        return format!("waiting for a person: {}{more}", escalation(run, block).reason);
    }
    if run.phase == Phase::Queued {
        return "queued: waiting for a free slot".to_owned();
    }
    if let Some(doing) = activity(run, at) {
        return format!("{}: {doing}", run.phase.name());
    }
    if let Some(wait) = &run.wait {
        let why = brief(&wait.reason.to_string(), MAX_QUOTE);
        return format!("waiting until {} for {why}", time::utc(wait.until));
    }
    if run.phase == Phase::Gating
        && let Some(why) = gate::all(run).into_iter().find_map(|(_, gate)| match gate {
            Gate::Wait(why) => Some(why),
            Gate::Open | Gate::Shut(_) => None,
        })
    {
        return format!("gating: {}", brief(&why, MAX_QUOTE));
    }
    run.phase.name().to_owned()
}

/// Returns the outcome of a run in one sentence.
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered { sha } => format!("delivered as {}", sha.abbrev()),
        Outcome::Cancelled { why } => format!("cancelled: {}", brief(why, MAX_QUOTE)),
        Outcome::Unchanged => "there was nothing to change".to_owned(),
        Outcome::Failed { why } => format!("ended undelivered: {}", brief(why, MAX_QUOTE)),
    }
}

/// Returns what is in progress: attempts first, else effects.
fn activity(run: &Run, at: Timestamp) -> Option<String> {
    let started = |a: &&Attempt| run.is_pending(&EffectRef::Start(a.id));
    let mut parts: Vec<String> = run.live_attempts().filter(started).map(|a| attempt(run, a, at)).collect();
    // Comments and statuses say little about the progress of a run.
    let quiet = [EffectKind::Start, EffectKind::Reserve, EffectKind::Comment, EffectKind::SetStatus, EffectKind::Stop];
    let mut kinds: Vec<EffectKind> = run.pending.values().map(EffectRef::kind).filter(|k| !quiet.contains(k)).collect();
    kinds.sort();
    kinds.dedup();
    parts.extend(kinds.into_iter().map(|kind| effect_words(kind).to_owned()));
    if parts.is_empty() {
        return None;
    }
    if run.phase == Phase::Working {
        let over = run.tasks.iter().filter(|t| t.over()).count();
        let integrated = run.tasks.iter().filter(|t| t.stage == Stage::Integrated).count();
        if over < run.tasks.len() && run.tasks.len() > 1 {
            parts.push(format!("{integrated} of {} integrated", count(run.tasks.len() as u64, "task")));
        }
    }
    Some(parts.join("; "))
}

fn attempt(run: &Run, attempt: &Attempt, at: Timestamp) -> String {
    let subject = match (attempt.task, attempt.answers) {
        (Some(task), _) => {
            let title = run.task(task).map_or("", |t| t.spec.title.as_str());
            format!(" on {task} ({})", brief(title, 72))
        }
        (None, Some(asker)) => format!(" on the question of {asker}"),
        (None, None) => String::new(),
    };
    format!(
        "{} ({}){subject} for {}",
        attempt.step.role().name(),
        EngineSpec::parse(&attempt.engine).named(),
        elapsed(attempt.started_at, at)
    )
}
