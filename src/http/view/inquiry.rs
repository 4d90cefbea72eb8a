//! Questions to the scout as they are shown: open ones, and what came of the others.

use crate::domain::{Attempt, Ending, Run};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A question of an attempt that the scout was to look into.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct InquiryView {
    /// The attempt that asked (`a2`).
    pub asked_by: String,
    /// Its step.
    pub step: String,
    /// Its task (`t1`), for `develop`.
    pub task: Option<String>,
    /// What it asked.
    pub question: String,
    /// `open`, `answered`, `passed on` (to a person), or `dropped` with the run.
    pub state: String,
    /// The scouts that looked into it, or do (`a3`).
    pub scouts: Vec<String>,
    /// What came back: what the last scout found, or why it did not.
    pub came_back: Option<String>,
}

impl InquiryView {
    /// All of a run's, in the order they were asked.
    pub fn all(run: &Run) -> Vec<InquiryView> {
        run.attempts.iter().filter_map(|asker| InquiryView::of(run, asker)).collect()
    }

    fn of(run: &Run, asker: &Attempt) -> Option<InquiryView> {
        let open = run.inquiries.iter().find(|i| i.by == asker.id);
        let scouts: Vec<&Attempt> = run.attempts.iter().filter(|a| a.answers == Some(asker.id)).collect();
        if open.is_none() && scouts.is_empty() {
            return None;
        }
        let last = scouts.iter().rev().find_map(|a| a.ended.as_ref());
        let said = asker.ended.as_ref().map_or("", |e| e.why.as_str());
        let state = match last.map(|e| e.ending) {
            _ if open.is_some() => "open",
            Some(Ending::Succeeded) => "answered",
            Some(Ending::Stopped) | None => "dropped",
            Some(_) if run.stopping.is_some() => "dropped",
            Some(_) => "passed on",
        };
        Some(InquiryView {
            asked_by: asker.id.to_string(),
            step: asker.step.name().to_owned(),
            task: asker.task.map(|t| t.to_string()),
            question: open.map_or(said, |i| i.question.as_str()).to_owned(),
            state: state.to_owned(),
            scouts: scouts.iter().map(|a| a.id.to_string()).collect(),
            came_back: last.map(|e| e.why.clone()),
        })
    }
}
