//! A question to the scout: it is looked into by an attempt of its own, and its asker starts again with what was found.
//!
//! Invariant: nobody is left waiting for the scout: a question it cannot answer goes to a person.

use super::builder::{DecisionBuilder, cap};
use crate::domain::attempt::Attempt;
use crate::domain::block::BlockKind;
use crate::domain::engine_selection::{self, Choice};
use crate::domain::id::AttemptId;
use crate::domain::inquiry::Inquiry;
use crate::domain::order::{Note, Role, Step};
use crate::domain::report::Report;

/// The most a scout's answer repeats of its question: a note keeps its end.
const QUESTION_BYTES: usize = 1024;
const ANSWER_BYTES: usize = Note::TEXT_MAX - QUESTION_BYTES - 64;

impl DecisionBuilder {
    /// Puts an attempt's question to the scout; false = there is none, or it is the scout who asks.
    pub fn inquire(&mut self, asker: &Attempt, question: &str) -> bool {
        if asker.step == Step::Explore || !self.run.settings.engines.contains_key(&Role::Scout) {
            return false;
        }
        let question = cap(question, Inquiry::QUESTION_MAX);
        let (by, step, task) = (asker.id, asker.step, asker.task);
        self.run.inquiries.push(Inquiry { by, step, task, question, losses: 0 });
        true
    }

    /// Starts a scout on an open question, unless one is at it. No scout is waited for: a person may know sooner.
    pub(super) fn look_into(&mut self, inquiry: &Inquiry) {
        if self.run.live_attempts().any(|a| a.answers == Some(inquiry.by)) {
            return;
        }
        let losses = inquiry.losses;
        if losses >= self.run.settings.policy.max_losses {
            return self.pass_on(inquiry.by, &format!("it was lost {losses} times in a row with its process"));
        }
        if !self.may_start() {
            return;
        }
        let engine = match engine_selection::choose(&self.run, Step::Explore, self.at) {
            Choice::Engine(engine) if self.run.unavailable < engine_selection::UNAVAILABLE_MOST => engine,
            _ => return self.pass_on(inquiry.by, "none of its engines can be used now"),
        };
        let Some(caps) = self.granted(Step::Explore) else { return };
        self.begin(Step::Explore, None, Some(inquiry.by), &engine, caps);
    }

    /// What the scout of a question is told besides: the task it is about.
    pub(super) fn background(&self, inquiry: &Inquiry) -> Option<Note> {
        let task = self.run.task(inquiry.task?)?;
        Some(Note::new("task", &format!("{}\n\n{}", task.spec.title, task.spec.text)))
    }

    /// Takes the end of a scout that looked into a question of attempt `by`. `Err` = it was no answer.
    pub(super) fn looked_into(&mut self, scout: &Attempt, by: AttemptId, report: &Report) -> Result<String, String> {
        let why = match report {
            Report::Explored { notes } if !notes.trim().is_empty() => {
                self.found(by, notes);
                return Ok(notes.clone());
            }
            Report::Unavailable { why, until, fix } => {
                // Still open: a fall-back takes over, or it is passed on.
                self.rest(scout, why, *until, fix.as_deref());
                return Ok(cap(why, 512));
            }
            Report::Explored { .. } => return Err(self.pass_on_for(by, "it found nothing to say")),
            Report::Asked { question, .. } => (format!("it asks: {question}"), question.clone()),
            Report::Failed { why } | Report::Lost { why } => (why.clone(), why.clone()),
            Report::Stopped => ("it was stopped".to_owned(), "stopped".to_owned()),
            _ => return Err(self.pass_on_for(by, "its report does not belong to the step explore")),
        };
        self.pass_on(by, &why.0);
        Ok(why.1)
    }

    /// One more scout of this question was lost with its process.
    pub(super) fn scout_lost(&mut self, by: AttemptId) {
        if let Some(inquiry) = self.run.inquiries.iter_mut().find(|i| i.by == by) {
            inquiry.losses += 1;
        }
    }

    /// The answer goes to exactly the step, or the task, that asked.
    fn found(&mut self, by: AttemptId, notes: &str) {
        let Some(inquiry) = self.close(by) else { return };
        let text = format!("Asked: {}\n\n{}", cap(&inquiry.question, QUESTION_BYTES), cap(notes, ANSWER_BYTES));
        match inquiry.task.and_then(|t| self.run.task_mut(t)) {
            Some(task) => task.note("scout", &text),
            None => self.run.note_for(inquiry.step, "scout", &text),
        }
    }

    /// The scout cannot answer: a person is asked instead.
    fn pass_on(&mut self, by: AttemptId, why: &str) {
        let Some(Inquiry { step, task, question, .. }) = self.close(by) else { return };
        let why = format!("{question}\n\nThe scout was asked first: {}", cap(why, 1024));
        self.block(BlockKind::Question { step, task }, &why);
    }

    fn pass_on_for(&mut self, by: AttemptId, why: &str) -> String {
        self.pass_on(by, why);
        why.to_owned()
    }

    fn close(&mut self, by: AttemptId) -> Option<Inquiry> {
        let at = self.run.inquiries.iter().position(|i| i.by == by)?;
        Some(self.run.inquiries.remove(at))
    }
}
