//! The end of an attempt: it is settled first, then its report is accepted only as far as it can be verified.

use super::builder::{DecisionBuilder, cap};
use super::plan;
use super::start::{CutBy, Exhausted};
use crate::domain::attempt::{Attempt, Ended, Ending, Resumable};
use crate::domain::block::{BlockKind, Subject};
use crate::domain::budget::{Metered, ModelUse, Usage};
use crate::domain::change::shown_path;
use crate::domain::effect::EffectRef;
use crate::domain::gate;
use crate::domain::id::{AttemptId, Timestamp};
use crate::domain::order::{EngineSpec, NoteSource, Step};
use crate::domain::plan as plans;
use crate::domain::policy::ForbiddenPath;
use crate::domain::refusal::Refusal;
use crate::domain::report::{AskedTo, Finding, Report, Reported, Verdict};
use crate::domain::run::{Phase, Review};
use crate::domain::task::Stage;

/// Handles the report of an attempt.
pub(super) fn reported(d: &mut DecisionBuilder, reported: &Reported) -> Result<(), Refusal> {
    let id = reported.attempt;
    let started = d.run.is_pending(&EffectRef::Start(id));
    let Some(attempt) = d.run.attempt(id).filter(|a| a.live() && started).cloned() else {
        return Err(Refusal::Repeated { what: format!("the report of attempt {id}") });
    };
    d.finish_start(id);
    let over = d.run.stopping.is_some() || d.run.phase >= Phase::Reporting;
    // A run that is stopping or over accepts no more results; the attempt is settled all the same.
    let cut_by = match &reported.report {
        Report::BudgetExhausted { budget, why, .. } if !over => d.cut_by(&attempt, *budget).map(|cut| (cut, why)),
        _ => None,
    };
    let accepted = if over {
        back_to_ready(d, &attempt);
        Ok("the run was stopping".to_owned())
    } else if let Some((_, why)) = &cut_by {
        d.return_try(&attempt);
        if let Report::BudgetExhausted { unfinished: Some(work), .. } = &reported.report
            && let Some(task) = attempt.task.and_then(|t| d.run.task_mut(t))
        {
            task.unfinished = Some(work.clone());
        }
        Ok((*why).clone())
    } else {
        accept(d, &attempt, reported)
    };
    let usage_by_model = ModelUse::bounded(&reported.usage_by_model);
    let worst = worst_case(d, &attempt, d.at);
    let wall_ms = |measured: u64| match reported.report {
        _ if attempt.is_open() => 0,
        // The attempt could not measure its own time.
        Report::Lost { .. } | Report::Stopped => worst.wall_ms,
        _ => measured.saturating_add(attempt.resumable.as_ref().map_or(0, |r| r.elapsed_ms)),
    };
    let usage = reported.usage.map(|u| Usage { wall_ms: wall_ms(u.wall_ms), ..u });
    let (used, note) = usage_to_charge(&attempt, usage, &usage_by_model, worst);
    let charged = d.settle(id, used);
    let (ending, mut why) = match accepted {
        Ok(summary) => (ending_of(&reported.report), cap(&summary, 4096)),
        Err(why) => (Ending::Failed, cap(&why, 4096)),
    };
    if !note.is_empty() {
        why.truncate(why.trim_end().len());
        why.push_str(if why.is_empty() || why.ends_with(['.', '!', '?']) { " " } else { ". " });
        why.push_str(&note);
    }
    match ending {
        Ending::Succeeded | Ending::Asked => {
            d.run.unavailable = 0;
            d.engine_worked(&attempt);
        }
        Ending::Failed => d.engine_worked(&attempt),
        _ => {}
    }
    let ended = Ended {
        at: d.at,
        ending,
        why,
        charged,
        session: reported.session.clone().map(|s| cap(&s, 256)),
        artifacts: reported.artifacts.clone(),
        usage_by_model,
        secrets: reported.secrets.clone(),
        exhausted: match &reported.report {
            Report::BudgetExhausted { budget, .. } => Some(*budget),
            _ => None,
        },
    };
    finish(d, &attempt, ended);
    if let Some(a) = d.run.attempts.iter_mut().find(|a| a.id == id)
        && let Some(digest) = &reported.prompt_digest
    {
        a.prompt_digest = Some(cap(digest, 128));
    }
    match cut_by {
        Some((CutBy::Own(budget), _)) => d.exhausted(budget),
        Some((CutBy::Shared(budgets), _)) => {
            d.shared_exhausted(&Exhausted { budgets: &budgets, levels: &[], spending: &[] });
        }
        None => {}
    }
    Ok(())
}

/// Returns the usage to charge, and a note about it: the reported usage, but never less than the sum over its models;
/// the whole reservation if nothing was reported, or if the amount is absurd. An unknown cost is charged as its
/// reservation, never as nothing.
fn usage_to_charge(
    attempt: &Attempt,
    usage: Option<Usage>,
    usage_by_model: &[ModelUse],
    worst: Usage,
) -> (Usage, String) {
    let sum = Usage::of_models(usage_by_model);
    let Some(mut used) = usage.map(|u| u.max(sum)).filter(|u| !u.is_absurd()) else {
        return (if sum.is_absurd() { worst } else { worst.max(sum) }, String::new());
    };
    let Some(unpriced) = usage_by_model.iter().find(|m| !m.priced) else { return (used, String::new()) };
    let reserved = attempt.reserved.cost_micros;
    used.cost_micros = used.cost_micros.max(reserved);
    let consequence = match reserved {
        0 => "its tokens are counted, its cost is not",
        _ => "the reservation is charged",
    };
    (used, format!("The price of {} is unknown: {consequence}.", unpriced.model))
}

/// Returns the charge for unknown usage: the whole reservation, but only the time from the start to `until`, and model
/// calls only if the run limits them and the engine makes any.
fn worst_case(d: &DecisionBuilder, attempt: &Attempt, until: Timestamp) -> Usage {
    if attempt.is_open() {
        return Usage::default();
    }
    let counts_turns = d.run.limits.turns.is_some() && EngineSpec::parse(&attempt.engine).calls_models();
    let turns = if counts_turns { attempt.reserved.turns } else { 0 };
    Usage { wall_ms: attempt.elapsed_ms(until), turns, ..attempt.reserved }
}

/// Records that an attempt's session can be resumed from now on.
pub(super) fn session_opened(d: &mut DecisionBuilder, id: AttemptId, session: &str) -> Result<(), Refusal> {
    if session.is_empty() || session.len() > Resumable::MAX_SESSION_BYTES {
        return Err(Refusal::Invalid {
            what: format!("the name of a session must have 1 to {} bytes", Resumable::MAX_SESSION_BYTES),
        });
    }
    let repeated = || Refusal::Repeated { what: format!("the session of attempt {id}") };
    let started = d.run.is_pending(&EffectRef::Start(id));
    let attempt = d.run.attempts.iter_mut().find(|a| a.id == id && a.live() && started).ok_or_else(repeated)?;
    match &mut attempt.resumable {
        Some(known) if known.session == session => return Err(repeated()),
        Some(known) => known.session = session.to_owned(),
        None => attempt.resumable = Some(Resumable { session: session.to_owned(), resumes: 0, elapsed_ms: 0 }),
    }
    Ok(())
}

/// Returns the session that an attempt whose process is gone resumes. An attempt resumes if the run still wants it, it
/// has time left, and it has not lost its process too often.
fn resumed(d: &DecisionBuilder, attempt: &Attempt, seen: Timestamp) -> Option<Resumable> {
    let over = d.run.stopping.is_some() || d.run.phase >= Phase::Reporting;
    // An offer runs nothing here that could end this process again, so it is resumed however often that happens.
    let may_resume = |r: &&Resumable| !over && (r.resumes < Resumable::MAX_RESUMES || attempt.is_open());
    let known = attempt.resumable.as_ref().filter(may_resume)?;
    let elapsed_ms = attempt.elapsed_ms(seen);
    let is_worth_it = attempt.reserved.wall_ms.saturating_sub(elapsed_ms) >= Resumable::MIN_LEFT_MS;
    is_worth_it.then(|| Resumable {
        session: known.session.clone(),
        resumes: known.resumes.saturating_add(1),
        elapsed_ms,
    })
}

/// Handles attempts whose process is gone. Attempts with a resumable session go on: their start stays pending. Each of
/// the others is charged its metered usage, else its whole reservation. A lost attempt does not count as a try, but
/// losses are counted, so that a step that repeatedly loses its process is not started forever. That of a process which
/// was `stopped` on purpose is not.
pub(super) fn orphaned(
    d: &mut DecisionBuilder,
    attempts: &[AttemptId],
    metered: &[(AttemptId, Metered)],
    alive: &[(AttemptId, Timestamp)],
    stopped: &[AttemptId],
) -> Result<(), Refusal> {
    // An attempt that waits for its reservation has not started: its `Reserve` effect is carried out again.
    let started = |a: &&Attempt| attempts.contains(&a.id) && d.run.is_pending(&EffectRef::Start(a.id));
    let live: Vec<Attempt> = d.run.live_attempts().filter(started).cloned().collect();
    if live.is_empty() {
        return Err(Refusal::Repeated { what: "the loss of these attempts".to_owned() });
    }
    for attempt in live {
        // Time in which no process worked is not the attempt's.
        let seen = alive.iter().find(|(id, _)| *id == attempt.id).map_or(d.at, |(_, seen)| (*seen).min(d.at));
        if let Some(resumed) = resumed(d, &attempt, seen) {
            d.run.attempts.iter_mut().filter(|a| a.id == attempt.id).for_each(|a| a.resumable = Some(resumed.clone()));
            continue;
        }
        d.finish_start(attempt.id);
        let worst = worst_case(d, &attempt, seen);
        let metered = metered.iter().find(|(id, _)| *id == attempt.id).map(|(_, metered)| metered);
        let usage_by_model = metered.map(|m| ModelUse::bounded(&m.usage_by_model)).unwrap_or_default();
        let usage = metered.map(|m| Usage { wall_ms: worst.wall_ms, ..m.used });
        let (used, note) = usage_to_charge(&attempt, usage, &usage_by_model, worst);
        let charged = d.settle(attempt.id, used);
        let is_stopped = stopped.contains(&attempt.id);
        let ended = Ended {
            at: d.at,
            ending: Ending::Lost,
            why: match is_stopped {
                true => format!("its process was stopped{note}"),
                false => format!("lost with its process{note}"),
            },
            charged,
            session: None,
            artifacts: Vec::new(),
            usage_by_model,
            secrets: Vec::new(),
            exhausted: None,
        };
        finish(d, &attempt, ended);
        match is_stopped {
            true => d.return_try(&attempt),
            false => lose(d, &attempt),
        }
    }
    Ok(())
}

/// Gives back the try of a lost attempt, and counts the loss.
fn lose(d: &mut DecisionBuilder, attempt: &Attempt) {
    d.return_try(attempt);
    match (attempt.answers, attempt.task.and_then(|t| d.run.task_mut(t))) {
        (Some(by), _) => d.scout_lost(by),
        (None, Some(task)) => task.losses += 1,
        (None, None) => d.run.tries.entry(attempt.step).or_default().losses += 1,
    }
}

fn finish(d: &mut DecisionBuilder, attempt: &Attempt, ended: Ended) {
    if ended.ending != Ending::Lost && ended.ending.counts() && attempt.answers.is_none() {
        match attempt.task.and_then(|t| d.run.task_mut(t)) {
            Some(task) => task.losses = 0,
            None => d.run.tries.entry(attempt.step).or_default().losses = 0,
        }
    }
    if let Some(a) = d.run.attempts.iter_mut().find(|a| a.id == attempt.id) {
        a.ended = Some(ended);
    }
}

fn ending_of(report: &Report) -> Ending {
    match report {
        Report::Asked { .. } => Ending::Asked,
        Report::Failed { .. } | Report::BudgetExhausted { .. } => Ending::Failed,
        Report::Unavailable { .. } => Ending::Unavailable,
        Report::Lost { .. } | Report::NotResumed { .. } => Ending::Lost,
        Report::Stopped => Ending::Stopped,
        _ => Ending::Succeeded,
    }
}

/// Accepts or refuses the report.
///
/// # Errors
///
/// Returns why the report was refused; the next try is given that reason.
fn accept(d: &mut DecisionBuilder, attempt: &Attempt, reported: &Reported) -> Result<String, String> {
    if let Report::NotResumed { why } = &reported.report {
        lose(d, attempt);
        return Ok(cap(why, 1024));
    }
    if let Some(by) = attempt.answers {
        return d.scout_reported(attempt, by, &reported.report);
    }
    match (&reported.report, attempt.step) {
        (Report::Stopped, _) => {
            back_to_ready(d, attempt);
            Ok("stopped".to_owned())
        }
        (Report::Failed { why } | Report::BudgetExhausted { why, .. }, _) => {
            next_try(d, attempt, NoteSource::Attempt, why);
            if let Report::BudgetExhausted { unfinished: Some(work), .. } = &reported.report
                && attempt.continues.is_none()
                && let Some(task) = attempt.task.and_then(|t| d.run.task_mut(t))
            {
                task.unfinished = Some(work.clone());
            }
            // A command that ran (it has a transcript) and failed learns nothing from its own output: it would only do
            // the same again.
            if is_command(attempt)
                && !reported.artifacts.is_empty()
                && let Some(task) = attempt.task.and_then(|t| d.run.task_mut(t))
            {
                task.tries_allowed = task.tries;
            }
            Ok(why.clone())
        }
        (Report::Unavailable { why, until, fix }, _) => {
            d.cool_down(attempt, why, *until, fix.as_deref());
            d.return_try(attempt);
            Ok(cap(why, 512))
        }
        (Report::Lost { why }, _) => {
            let unfinished = attempt.task.and_then(|t| d.run.task(t)).and_then(|t| t.unfinished.clone());
            next_try(d, attempt, NoteSource::Attempt, &format!("the attempt was lost: {why}"));
            if let Some(task) = attempt.task.and_then(|t| d.run.task_mut(t)) {
                task.unfinished = unfinished;
            }
            Ok(why.clone())
        }
        (Report::Asked { question, to }, _) => asked(d, attempt, question, *to),
        (Report::Explored { notes }, Step::Explore) => {
            d.run.note(NoteSource::Scout, notes);
            Ok("explored".to_owned())
        }
        (Report::Planned { tasks }, Step::Plan) => match plans::refuse(tasks, &d.run.settings.policy) {
            None => {
                plan::adopt(d, tasks);
                Ok(format!("{} task{}", tasks.len(), if tasks.len() == 1 { "" } else { "s" }))
            }
            Some(why) => {
                next_try(d, attempt, NoteSource::Refused, &why);
                Err(why)
            }
        },
        (Report::Developed { .. }, Step::Develop) => developed(d, attempt, &reported.report),
        (Report::Reviewed { .. }, Step::Review) => reviewed(d, attempt, reported),
        (_, step) => {
            let why = format!("the report does not belong to the step {}", step.name());
            next_try(d, attempt, NoteSource::Attempt, &why);
            Err(why)
        }
    }
}

fn is_command(attempt: &Attempt) -> bool {
    EngineSpec::parse(&attempt.engine).is_command()
}

fn back_to_ready(d: &mut DecisionBuilder, attempt: &Attempt) {
    if let Some(task) = attempt.task.and_then(|t| d.run.task_mut(t)) {
        task.stage = Stage::Ready;
    }
}

/// Sends the step to its next try, with the reason as a note.
fn next_try(d: &mut DecisionBuilder, attempt: &Attempt, source: NoteSource, why: &str) {
    match attempt.task.and_then(|t| d.run.task_mut(t)) {
        Some(task) => task.restart(source, why),
        None if attempt.step == Step::Plan => {
            d.run.notes.retain(|n| n.source != NoteSource::Refused);
            d.run.note_for(Step::Plan, NoteSource::Refused, why);
        }
        None => {}
    }
}

fn asked(d: &mut DecisionBuilder, attempt: &Attempt, question: &str, to: AskedTo) -> Result<String, String> {
    let asked = d.run.attempts.iter().filter(|a| a.ended.as_ref().is_some_and(|e| e.ending == Ending::Asked)).count();
    if asked >= d.run.settings.policy.max_questions as usize {
        let question = cap(question, 1024);
        let why = format!("it asked again after {asked} questions, the most the policy allows: {question}");
        next_try(d, attempt, NoteSource::Attempt, &why);
        return Err(why);
    }
    // A question is not a failure: the try is given back, and the answer starts a new attempt.
    d.return_try(attempt);
    if to == AskedTo::Person || !d.inquire(attempt, question) {
        d.block(BlockKind::Question { step: attempt.step, task: attempt.task }, question);
    }
    Ok(question.to_owned())
}

fn developed(d: &mut DecisionBuilder, attempt: &Attempt, report: &Report) -> Result<String, String> {
    let Report::Developed { head, diff, summary } = report else { return Err("no work was reported".to_owned()) };
    let policy = d.run.settings.policy.clone();
    let Some(task) = attempt.task.and_then(|t| d.run.task_mut(t)) else {
        return Err("the attempt belongs to no task".to_owned());
    };
    if diff.is_empty() || task.base.as_ref() == Some(head) {
        if is_command(attempt) {
            // A command that succeeds and changes nothing has nothing to change.
            task.stage = Stage::Dropped;
            return Ok("it found nothing to change".to_owned());
        }
        let why = "nothing changed: the worktree is identical to the commit the attempt started from";
        task.restart(NoteSource::Attempt, why);
        return Err(why.to_owned());
    }
    if let Some(ForbiddenPath { path, why }) = policy.forbids(diff, &task.spec.paths) {
        let why = format!("it changed {}, which this task must not touch: {why}", shown_path(&path));
        task.restart(NoteSource::Attempt, &why);
        return Err(why);
    }
    task.head = Some(head.clone());
    task.diff = diff.clone();
    task.stage = Stage::Checking;
    task.results.clear();
    let concerns: Vec<_> = policy.concerns(diff).into_iter().filter(|c| !task.has_accepted(c, diff)).collect();
    if !concerns.is_empty() {
        let subject = Subject::Diff { task: task.id, head: head.clone(), concerns };
        d.block(BlockKind::Approval(subject), "");
    }
    Ok(summary.clone())
}

fn reviewed(d: &mut DecisionBuilder, attempt: &Attempt, reported: &Reported) -> Result<String, String> {
    let Report::Reviewed { head, verdict, findings, summary, criteria } = &reported.report else {
        return Err("no verdict was reported".to_owned());
    };
    if *head != d.run.head {
        return Err(format!("it reviewed {}, but the head is {}", head.abbrev(), d.run.head.abbrev()));
    }
    if reported.session.as_ref().is_some_and(|s| gate::is_author_session(&d.run, s)) {
        return Err("the reviewer's session is one that wrote the change".to_owned());
    }
    let is_silent = findings.is_empty() && summary.trim().is_empty() && criteria.iter().all(|c| c.met);
    if *verdict == Verdict::Rework && is_silent {
        return Err("it requests changes without saying which".to_owned());
    }
    let mut criteria = d.run.criteria_verdicts(&EngineSpec::parse(&attempt.engine), criteria)?;
    criteria.iter_mut().for_each(|c| c.why = cap(&c.why, 1024));
    // A criterion that is not met outweighs any approval.
    let verdict = if criteria.iter().all(|c| c.met) { *verdict } else { Verdict::Rework };
    let findings: Vec<Finding> = findings
        .iter()
        .take(Finding::MAX)
        .map(|f| Finding { path: cap(&f.path, 512), line: f.line, text: cap(&f.text, 2048) })
        .collect();
    d.run.facts.review = Some(Review { attempt: attempt.id, verdict, summary: cap(summary, 2048), findings, criteria });
    Ok(summary.clone())
}
