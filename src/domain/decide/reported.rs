//! How an attempt's end is taken: settled first, then believed only as far as it can be.

use super::builder::{DecisionBuilder, cap};
use super::plan;
use super::start::Scarce;
use crate::domain::attempt::{Attempt, Ended, Ending, Resumable};
use crate::domain::block::{BlockKind, Subject};
use crate::domain::budget::{Metered, ModelUse, Usage};
use crate::domain::describe;
use crate::domain::effect::EffectRef;
use crate::domain::gate;
use crate::domain::id::AttemptId;
use crate::domain::order::Step;
use crate::domain::plan as plans;
use crate::domain::refusal::Refusal;
use crate::domain::report::{AskedTo, Finding, Report, Reported, Verdict};
use crate::domain::run::{Phase, Review};
use crate::domain::shared_budget;
use crate::domain::task::Stage;

/// An attempt reported.
pub(super) fn reported(d: &mut DecisionBuilder, reported: &Reported) -> Result<(), Refusal> {
    let id = reported.attempt;
    let begun = d.run.is_pending(&EffectRef::Start(id));
    let Some(attempt) = d.run.attempt(id).filter(|a| a.live() && begun).cloned() else {
        return Err(Refusal::Repeated { what: format!("the report of attempt {id}") });
    };
    d.finish_start(id);
    let over = d.run.stopping.is_some() || d.run.phase >= Phase::Reporting;
    // A run that is stopping or over takes nothing in any more; the attempt is settled all the same.
    let short = match &reported.report {
        Report::SpentOut { what, why } if !over => d.cut_short_of(&attempt, what).map(|budget| (budget, why)),
        _ => None,
    };
    let taken = if over {
        back_to_start(d, &attempt);
        Ok("the run was stopping".to_owned())
    } else if let Some((_, why)) = &short {
        d.try_back(&attempt);
        Ok((*why).clone())
    } else {
        take(d, &attempt, reported)
    };
    let bill = ModelUse::bounded(&reported.bill);
    let worst = worst(d, &attempt);
    let wall_ms = |told: u64| match reported.report {
        // It was not there to tell.
        Report::Lost { .. } | Report::Stopped => worst.wall_ms,
        _ => told.saturating_add(attempt.resumable.as_ref().map_or(0, |r| r.before_ms)),
    };
    let usage = reported.usage.map(|u| Usage { wall_ms: wall_ms(u.wall_ms), ..u });
    let (used, note) = used(&attempt, usage, &bill, worst);
    let charged = d.settle(id, used);
    let (ending, mut why) = match taken {
        Ok(said) => (ending_of(&reported.report), cap(&said, 4096)),
        Err(why) => (Ending::Failed, cap(&why, 4096)),
    };
    why.push_str(&note);
    match ending {
        Ending::Succeeded | Ending::Asked => {
            d.run.unavailable = 0;
            d.worked(&attempt);
        }
        Ending::Failed => d.worked(&attempt),
        _ => {}
    }
    let ended = Ended {
        at: d.at,
        ending,
        why,
        charged,
        session: reported.session.clone().map(|s| cap(&s, 256)),
        artifacts: reported.artifacts.clone(),
        bill,
        given: reported.given.clone(),
    };
    finish(d, &attempt, ended);
    match short {
        Some((Scarce::Own(what), _)) => d.out_of(what),
        Some((Scarce::Shared(of), _)) => {
            let why = describe::spending(&d.run, &shared_budget::names(&of));
            d.out_of_shared(&of, &why);
        }
        None => {}
    }
    Ok(())
}

/// What an attempt is charged, and what is to be said of it: what it reported, but never less than its bill adds up to; all that was
/// set aside when it said nothing, or what nobody can have used. A cost that is not known is charged as what was set aside for it,
/// never as nothing.
fn used(attempt: &Attempt, usage: Option<Usage>, bill: &[ModelUse], worst: Usage) -> (Usage, String) {
    let billed = Usage::billed(bill);
    let Some(mut used) = usage.map(|u| u.max(billed)).filter(|u| !u.is_absurd()) else {
        return (if billed.is_absurd() { worst } else { worst.max(billed) }, String::new());
    };
    let Some(unknown) = bill.iter().find(|m| !m.priced) else { return (used, String::new()) };
    let set_aside = attempt.reserved.cost_micros;
    used.cost_micros = used.cost_micros.max(set_aside);
    let what = match set_aside {
        0 => "its tokens are counted, its cost is not",
        _ => "what was set aside is charged",
    };
    (used, format!(" (the price of {} is not known: {what})", unknown.model))
}

/// What is charged when nobody knows what was used: all that was set aside. Time is known to have passed only since the start.
fn worst(d: &DecisionBuilder, attempt: &Attempt) -> Usage {
    Usage { wall_ms: attempt.passed_ms(d.at), ..attempt.reserved }
}

/// An attempt's conversation can be taken up again from now on.
pub(super) fn session_opened(d: &mut DecisionBuilder, id: AttemptId, session: &str) -> Result<(), Refusal> {
    if session.is_empty() || session.len() > Resumable::SESSION_BYTES_MAX {
        return Err(Refusal::Invalid {
            what: format!("a session's name has 1 to {} bytes", Resumable::SESSION_BYTES_MAX),
        });
    }
    let repeated = || Refusal::Repeated { what: format!("the session of attempt {id}") };
    let begun = d.run.is_pending(&EffectRef::Start(id));
    let attempt = d.run.attempts.iter_mut().find(|a| a.id == id && a.live() && begun).ok_or_else(repeated)?;
    match &mut attempt.resumable {
        Some(known) if known.session == session => return Err(repeated()),
        Some(known) => known.session = session.to_owned(),
        None => attempt.resumable = Some(Resumable { session: session.to_owned(), times: 0, before_ms: 0 }),
    }
    Ok(())
}

/// The conversation of an attempt whose process is gone, if it is to be taken up again: the run still wants the attempt, it has time left,
/// and it did not lose its process each time before.
fn taken_up(d: &DecisionBuilder, attempt: &Attempt) -> Option<Resumable> {
    let over = d.run.stopping.is_some() || d.run.phase >= Phase::Reporting;
    let known = attempt.resumable.as_ref().filter(|r| !over && r.times < Resumable::TIMES_MAX)?;
    let before_ms = attempt.passed_ms(d.at);
    let is_worth_it = attempt.reserved.wall_ms.saturating_sub(before_ms) >= Resumable::LEFT_MS_MIN;
    is_worth_it.then(|| Resumable { session: known.session.clone(), times: known.times + 1, before_ms })
}

/// The process that carried these attempts is gone. Those whose conversation can be taken up again go on: their start stays pending. Each
/// of the others is charged what was counted of it, else in full, and does not count as a try, but a step that keeps losing its process
/// is not started for ever.
pub(super) fn orphaned(
    d: &mut DecisionBuilder,
    attempts: &[AttemptId],
    metered: &[(AttemptId, Metered)],
) -> Result<(), Refusal> {
    // One that waits for its reservation was not begun: that act is carried out again.
    let begun = |a: &&Attempt| attempts.contains(&a.id) && d.run.is_pending(&EffectRef::Start(a.id));
    let live: Vec<Attempt> = d.run.live_attempts().filter(begun).cloned().collect();
    if live.is_empty() {
        return Err(Refusal::Repeated { what: "the loss of these attempts".to_owned() });
    }
    for attempt in live {
        if let Some(again) = taken_up(d, &attempt) {
            d.run.attempts.iter_mut().filter(|a| a.id == attempt.id).for_each(|a| a.resumable = Some(again.clone()));
            continue;
        }
        d.finish_start(attempt.id);
        let worst = worst(d, &attempt);
        let counted = metered.iter().find(|(id, _)| *id == attempt.id).map(|(_, counted)| counted);
        let bill = counted.map(|c| ModelUse::bounded(&c.bill)).unwrap_or_default();
        let usage = counted.map(|c| Usage { wall_ms: worst.wall_ms, ..c.used });
        let (used, note) = used(&attempt, usage, &bill, worst);
        let charged = d.settle(attempt.id, used);
        let ended = Ended {
            at: d.at,
            ending: Ending::Lost,
            why: format!("lost with its process{note}"),
            charged,
            session: None,
            artifacts: Vec::new(),
            bill,
            given: Vec::new(),
        };
        finish(d, &attempt, ended);
        lose(d, &attempt);
    }
    Ok(())
}

/// A loss is no try, but counted.
fn lose(d: &mut DecisionBuilder, attempt: &Attempt) {
    d.try_back(attempt);
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
        Report::Failed { .. } | Report::SpentOut { .. } => Ending::Failed,
        Report::Unavailable { .. } => Ending::Unavailable,
        Report::Lost { .. } | Report::NotResumed { .. } => Ending::Lost,
        Report::Stopped => Ending::Stopped,
        _ => Ending::Succeeded,
    }
}

/// Takes the report in. `Ok(said)` = believed; `Err(why)` = it does not count, and the next try is told why.
fn take(d: &mut DecisionBuilder, attempt: &Attempt, reported: &Reported) -> Result<String, String> {
    if let Report::NotResumed { why } = &reported.report {
        lose(d, attempt);
        return Ok(cap(why, 1024));
    }
    if let Some(by) = attempt.answers {
        return d.looked_into(attempt, by, &reported.report);
    }
    match (&reported.report, attempt.step) {
        (Report::Stopped, _) => {
            back_to_start(d, attempt);
            Ok("stopped".to_owned())
        }
        (Report::Failed { why } | Report::SpentOut { why, .. }, _) => {
            again(d, attempt, "attempt", why);
            Ok(why.clone())
        }
        (Report::Unavailable { why, until, fix }, _) => {
            d.rest(attempt, why, *until, fix.as_deref());
            d.try_back(attempt);
            Ok(cap(why, 512))
        }
        (Report::Lost { why }, _) => {
            again(d, attempt, "attempt", &format!("the attempt was lost: {why}"));
            Ok(why.clone())
        }
        (Report::Asked { question, to }, _) => asked(d, attempt, question, *to),
        (Report::Explored { notes }, Step::Explore) => {
            d.run.note("scout", notes);
            Ok("explored".to_owned())
        }
        (Report::Planned { tasks }, Step::Plan) => match plans::refuse(tasks, &d.run.settings.policy) {
            None => {
                plan::take(d, tasks);
                Ok(format!("{} task{}", tasks.len(), if tasks.len() == 1 { "" } else { "s" }))
            }
            Some(why) => {
                again(d, attempt, "refused", &why);
                Err(why)
            }
        },
        (Report::Developed { .. }, Step::Develop) => developed(d, attempt, &reported.report),
        (Report::Reviewed { .. }, Step::Review) => reviewed(d, attempt, reported),
        (_, step) => {
            let why = format!("the report does not belong to the step {}", step.name());
            again(d, attempt, "attempt", &why);
            Err(why)
        }
    }
}

fn back_to_start(d: &mut DecisionBuilder, attempt: &Attempt) {
    if let Some(task) = attempt.task.and_then(|t| d.run.task_mut(t)) {
        task.stage = Stage::Ready;
    }
}

/// The step goes to its next try, told why.
fn again(d: &mut DecisionBuilder, attempt: &Attempt, from: &str, why: &str) {
    match attempt.task.and_then(|t| d.run.task_mut(t)) {
        Some(task) => task.again(from, why),
        None if attempt.step == Step::Plan => {
            d.run.notes.retain(|n| n.from != "refused");
            d.run.note_for(Step::Plan, "refused", why);
        }
        None => {}
    }
}

fn asked(d: &mut DecisionBuilder, attempt: &Attempt, question: &str, to: AskedTo) -> Result<String, String> {
    let asked = d.run.attempts.iter().filter(|a| a.ended.as_ref().is_some_and(|e| e.ending == Ending::Asked)).count();
    if asked >= d.run.settings.policy.max_questions as usize {
        let why = format!("it asked again after {asked} questions, the policy's most: {}", cap(question, 1024));
        again(d, attempt, "attempt", &why);
        return Err(why);
    }
    // A question is not a failure: the try is given back, and the answer starts a new attempt.
    d.try_back(attempt);
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
        let why = "nothing changed: the worktree is the same as the commit the attempt started from";
        task.again("attempt", why);
        return Err(why.to_owned());
    }
    if let Some(path) = policy.forbids(diff, &task.spec.paths) {
        let why = format!("it changed {path}, which this task must not touch");
        task.again("attempt", &why);
        return Err(why);
    }
    task.head = Some(head.clone());
    task.diff = diff.clone();
    task.stage = Stage::Checking;
    task.results.clear();
    let concerns: Vec<_> = policy.concerns(diff).into_iter().filter(|c| !task.accepted.contains(c)).collect();
    if !concerns.is_empty() {
        let words: Vec<String> = concerns.iter().map(|c| c.words()).collect();
        let why = format!("the work on {} ({}) needs your eyes: {}", task.id, task.spec.title, words.join("; "));
        let subject = Subject::Diff { task: task.id, head: head.clone(), concerns };
        d.block(BlockKind::Approval(subject), &why);
    }
    Ok(summary.clone())
}

fn reviewed(d: &mut DecisionBuilder, attempt: &Attempt, reported: &Reported) -> Result<String, String> {
    let Report::Reviewed { head, verdict, findings, summary } = &reported.report else {
        return Err("no verdict was reported".to_owned());
    };
    if *head != d.run.head {
        return Err(format!("it judged {}, the head is {}", head.abbrev(), d.run.head.abbrev()));
    }
    if reported.session.as_ref().is_some_and(|s| gate::is_author_session(&d.run, s)) {
        return Err("the reviewer's session is one that wrote the change".to_owned());
    }
    if *verdict == Verdict::Rework && findings.is_empty() && summary.trim().is_empty() {
        return Err("it wants rework and does not say what".to_owned());
    }
    let findings: Vec<Finding> = findings
        .iter()
        .take(Finding::MOST)
        .map(|f| Finding { path: cap(&f.path, 512), line: f.line, text: cap(&f.text, 2048) })
        .collect();
    d.run.facts.review = Some(Review { attempt: attempt.id, verdict: *verdict, summary: cap(summary, 2048), findings });
    Ok(summary.clone())
}
