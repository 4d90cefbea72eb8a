//! Acceptance criteria in words: what is known about each at a run's head.

use super::markdown::inline;
use super::quantity::line;
use crate::domain::Run;
use crate::domain::spec::{CriterionRecord, CriterionState, Judge};

/// Returns the state of a criterion as a phrase: `met, tested`.
pub fn criterion_state(record: &CriterionRecord<'_>) -> String {
    let because = if record.why.trim().is_empty() { String::new() } else { format!(": {}", line(record.why)) };
    let judge = match record.by {
        Judge::Command => "tested".to_owned(),
        Judge::Reviewer(None) => "judged by the reviewer".to_owned(),
        Judge::Reviewer(Some(attempt)) => format!("judged by the reviewer (attempt {attempt})"),
        Judge::Approver => "judged by the person who approved the merge".to_owned(),
    };
    match (record.state, record.by) {
        (CriterionState::Met, Judge::Command) if record.met_at_base == Some(true) => {
            "met, tested; its command succeeds at the base as well".to_owned()
        }
        (CriterionState::Met, _) => format!("met, {judge}{because}"),
        (CriterionState::Unmet, _) => format!("not met, {judge}{because}"),
        (CriterionState::Waived, _) => format!("not met, {judge}{because}; a person decided to continue anyway"),
        (CriterionState::Pending, Judge::Command) => "not tested at this head yet".to_owned(),
        (CriterionState::Pending, Judge::Reviewer(_)) => "waits for the reviewer".to_owned(),
        (CriterionState::Pending, Judge::Approver) => "to be judged by the person who approves the merge".to_owned(),
    }
}

/// Returns the criteria of a run as a list in Markdown; empty without a spec.
pub(super) fn markdown_list(run: &Run) -> String {
    let item = |record: CriterionRecord<'_>| {
        let mark = if record.state == CriterionState::Met { 'x' } else { ' ' };
        let state = inline(&criterion_state(&record));
        format!("- [{mark}] {}: {} — {state}\n", inline(&record.criterion.id), inline(&record.criterion.text))
    };
    run.acceptance().into_iter().map(item).collect()
}

/// Returns the criteria of a run as plain lines; empty without a spec.
pub(super) fn plain_lines(run: &Run) -> String {
    let item = |record: CriterionRecord<'_>| {
        format!("criterion {}: {}\n  {}\n", record.criterion.id, line(&record.criterion.text), criterion_state(&record))
    };
    run.acceptance().into_iter().map(item).collect()
}
