//! Questions to the scout: an attempt of its own answers the question, and the asking step starts again with the
//! answer.
//!
//! Invariant: no step waits for the scout forever. A question the scout cannot answer goes to a person.

use super::builder::{DecisionBuilder, cap};
use crate::domain::attempt::Attempt;
use crate::domain::block::BlockKind;
use crate::domain::engine_selection::{self, Choice};
use crate::domain::id::AttemptId;
use crate::domain::inquiry::Inquiry;
use crate::domain::order::{Note, NoteSource, Role, Step};
use crate::domain::report::Report;

/// Upper bound on the bytes of the question that the answer's note repeats. A note that is too long loses its
/// beginning.
const QUESTION_BYTES: usize = 1024;
const ANSWER_BYTES: usize = Note::MAX_TEXT_BYTES - QUESTION_BYTES - 64;

impl DecisionBuilder {
    /// Puts an attempt's question to the scout. Returns false if there is no scout, or if the scout itself asks.
    pub fn inquire(&mut self, asker: &Attempt, question: &str) -> bool {
        if asker.step == Step::Explore || !self.run.settings.engines.contains_key(&Role::Scout) {
            return false;
        }
        let question = cap(question, Inquiry::MAX_QUESTION_BYTES);
        let (by, step, task) = (asker.id, asker.step, asker.task);
        self.run.inquiries.push(Inquiry { by, step, task, question, losses: 0 });
        true
    }

    /// Starts a scout on an open question, unless one is working on it. The run does not wait for a scout whose engine
    /// is in cooldown, because a person may answer sooner.
    pub(super) fn start_scout(&mut self, inquiry: &Inquiry) {
        if self.run.live_attempts().any(|a| a.answers == Some(inquiry.by)) {
            return;
        }
        let losses = inquiry.losses;
        if losses >= self.run.settings.policy.max_lost_attempts {
            let why = format!("it was lost {losses} times in a row together with its process");
            return self.pass_on(inquiry.by, &why);
        }
        if !self.may_start() {
            return;
        }
        let engine = match engine_selection::choose(&self.run, Step::Explore, self.at) {
            Choice::Engine(engine) if self.run.unavailable < engine_selection::MAX_UNAVAILABLE => engine,
            _ => return self.pass_on(inquiry.by, "none of its engines is available"),
        };
        let Some(caps) = self.grant(Step::Explore, &engine) else { return };
        self.begin(Step::Explore, None, Some(inquiry.by), &engine, caps);
    }

    /// Returns the background of a question for the scout: the task it is about.
    pub(super) fn background(&self, inquiry: &Inquiry) -> Option<Note> {
        let task = self.run.task(inquiry.task?)?;
        Some(Note::new(NoteSource::Task, &format!("{}\n\n{}", task.spec.title, task.spec.text)))
    }

    /// Handles the report of a scout that was asked by attempt `by`.
    ///
    /// # Errors
    ///
    /// Returns why the report was refused as an answer.
    pub(super) fn scout_reported(&mut self, scout: &Attempt, by: AttemptId, report: &Report) -> Result<String, String> {
        let (reason, summary) = match report {
            Report::Explored { notes } if !notes.trim().is_empty() => {
                self.deliver(by, notes);
                return Ok(notes.clone());
            }
            Report::Unavailable { why, until, fix } => {
                // The question stays open: a fallback takes over, or it is passed on.
                self.cool_down(scout, why, *until, fix.as_deref());
                return Ok(cap(why, 512));
            }
            Report::Explored { .. } => return Err(self.refuse(by, "it reported no findings")),
            Report::Asked { question, .. } => (format!("it asks: {question}"), question.clone()),
            Report::Failed { why } | Report::Lost { why } => (why.clone(), why.clone()),
            Report::Stopped => ("it was stopped".to_owned(), "stopped".to_owned()),
            _ => return Err(self.refuse(by, "its report does not belong to the step explore")),
        };
        self.pass_on(by, &reason);
        Ok(summary)
    }

    /// Counts another scout of this question that was lost with its process.
    pub(super) fn scout_lost(&mut self, by: AttemptId) {
        if let Some(inquiry) = self.run.inquiries.iter_mut().find(|i| i.by == by) {
            inquiry.losses += 1;
        }
    }

    /// Delivers the answer to exactly the step, or the task, that asked.
    fn deliver(&mut self, by: AttemptId, notes: &str) {
        let Some(inquiry) = self.close(by) else { return };
        let text = format!("Asked: {}\n\n{}", cap(&inquiry.question, QUESTION_BYTES), cap(notes, ANSWER_BYTES));
        match inquiry.task.and_then(|t| self.run.task_mut(t)) {
            Some(task) => task.note(NoteSource::Scout, &text),
            None => self.run.note_for(inquiry.step, NoteSource::Scout, &text),
        }
    }

    /// Puts a question to a person, because the scout cannot answer it.
    fn pass_on(&mut self, by: AttemptId, why: &str) {
        let Some(Inquiry { step, task, question, .. }) = self.close(by) else { return };
        let why = format!("{question}\n\nThe scout was asked first: {}", cap(why, 1024));
        self.block(BlockKind::Question { step, task }, &why);
    }

    fn refuse(&mut self, by: AttemptId, why: &str) -> String {
        self.pass_on(by, why);
        why.to_owned()
    }

    fn close(&mut self, by: AttemptId) -> Option<Inquiry> {
        let at = self.run.inquiries.iter().position(|i| i.by == by)?;
        Some(self.run.inquiries.remove(at))
    }
}
