//! What of the state is on the screen: the questions, the list of runs, and what is selected in them.
//!
//! Invariant: pure.

use super::state::{Link, Screen, State};
use crate::http::rest::wire::{Escalation, Run, RunSummary};

/// Question of a run.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Run.
    pub run: &'a Run,
    /// Question.
    pub asked: &'a Escalation,
}

impl State {
    /// Returns the rows of runs that wait for a person, those that wait longest first.
    pub fn waiting(&self) -> Vec<&RunSummary> {
        let mut waiting: Vec<&RunSummary> = self
            .runs
            .iter()
            .filter(|r| !r.blocks.is_empty() && r.phase != "ended" && r.quarantined.is_none())
            .collect();
        waiting.sort_by(|a, b| (a.updated_at, &a.run).cmp(&(b.updated_at, &b.run)));
        waiting
    }

    /// Returns the questions that wait for a person, the one that waits longest first.
    pub fn questions(&self) -> Vec<Question<'_>> {
        let known = self.waiting().into_iter().filter_map(|row| self.asking.get(&row.run));
        known
            .flat_map(|run| run.escalations.iter().map(move |asked| Question { run, asked }))
            .filter(|q| self.fits(&[&q.run.short_id, &q.run.project, &q.run.goal.title, &q.asked.reason]))
            .collect()
    }

    /// Returns the position of the selected question.
    pub fn question_at(&self, questions: &[Question<'_>]) -> usize {
        let is_selected = |q: &Question<'_>| {
            self.question.as_ref().is_some_and(|(run, block)| *run == q.run.id && *block == q.asked.block)
        };
        questions.iter().position(is_selected).unwrap_or(0)
    }

    /// Returns the runs of the list.
    pub fn listed(&self) -> Vec<&RunSummary> {
        self.runs.iter().filter(|r| self.fits(&[r.short_id(), &r.project, &r.title, &r.status, &r.phase])).collect()
    }

    /// Returns the position of the selected run of the list.
    pub fn selected_at(&self, listed: &[&RunSummary]) -> usize {
        listed.iter().position(|r| self.selected.as_deref() == Some(r.run.as_str())).unwrap_or(0)
    }

    /// Returns whether one of these texts contains the filter.
    fn fits(&self, texts: &[&str]) -> bool {
        let filter = self.filter.to_lowercase();
        filter.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&filter))
    }

    /// Returns the run that the screen is about.
    pub fn subject(&self) -> Option<&Run> {
        match self.screen {
            Screen::Inbox => {
                let questions = self.questions();
                questions.get(self.question_at(&questions)).map(|q| q.run)
            }
            Screen::Run | Screen::Diff => self.open.as_ref().and_then(|open| open.run.as_deref()),
            Screen::Runs | Screen::Spending | Screen::Service => None,
        }
    }

    /// Returns the id of the run that the screen is about.
    pub fn subject_id(&self) -> Option<String> {
        if self.screen == Screen::Runs {
            let listed = self.listed();
            return listed.get(self.selected_at(&listed)).map(|row| row.run.clone());
        }
        self.subject().map(|run| run.id.clone())
    }

    /// Returns the question that the screen is about: the selected one, or the oldest of the open run.
    pub fn asked(&self) -> Option<Question<'_>> {
        match self.screen {
            Screen::Inbox => {
                let questions = self.questions();
                questions.get(self.question_at(&questions)).copied()
            }
            Screen::Run | Screen::Diff => {
                let run = self.subject()?;
                let of_task = |e: &&Escalation| match self.diff.as_ref().and_then(|d| d.task.as_ref()) {
                    Some(task) if self.screen == Screen::Diff => e.task.as_ref() == Some(task),
                    _ => true,
                };
                run.escalations.iter().find(of_task).map(|asked| Question { run, asked })
            }
            Screen::Runs | Screen::Spending | Screen::Service => None,
        }
    }

    /// Returns whether the service answers.
    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }
}
