//! Questions to the scout.

use crate::domain::{Attempt, Ending, Run};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Question of an attempt to the scout.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Inquiry {
    /// Attempt that asked (`a2`).
    pub asked_by: String,
    /// Step of that attempt.
    pub step: String,
    /// Task of that attempt (`t1`), for `develop`.
    pub task: Option<String>,
    /// Question.
    pub question: String,
    /// `open`, `answered`, `passed on` (to a person), or `dropped` with the run.
    pub state: String,
    /// Scout attempts that worked on it (`a3`).
    pub scouts: Vec<String>,
    /// Answer of the last scout, or the reason there is none.
    pub answer: Option<String>,
}

impl Inquiry {
    /// Returns a run's questions in the order they were asked.
    pub fn all(run: &Run) -> Vec<Inquiry> {
        run.attempts.iter().filter_map(|asker| Inquiry::of(run, asker)).collect()
    }

    fn of(run: &Run, asker: &Attempt) -> Option<Inquiry> {
        let open = run.inquiries.iter().find(|i| i.by == asker.id);
        let scouts: Vec<&Attempt> = run.attempts.iter().filter(|a| a.answers == Some(asker.id)).collect();
        if open.is_none() && scouts.is_empty() {
            return None;
        }
        let last = scouts.iter().rev().find_map(|a| a.ended.as_ref());
        let asked = asker.ended.as_ref().map_or("", |e| e.why.as_str());
        let state = match last.map(|e| e.ending) {
            _ if open.is_some() => "open",
            Some(Ending::Succeeded) => "answered",
            Some(Ending::Stopped) | None => "dropped",
            Some(_) if run.stopping.is_some() => "dropped",
            Some(_) => "passed on",
        };
        Some(Inquiry {
            asked_by: asker.id.to_string(),
            step: asker.step.name().to_owned(),
            task: asker.task.map(|t| t.to_string()),
            question: open.map_or(asked, |i| i.question.as_str()).to_owned(),
            state: state.to_owned(),
            scouts: scouts.iter().map(|a| a.id.to_string()).collect(),
            answer: last.map(|e| e.why.clone()),
        })
    }
}
