//! Task specs given with a request.

use super::{ServiceError, ServiceResult, Services};
use crate::domain::{Goal, GoalSource, Principal};
use crate::specs;

/// Reads a spec and returns it as the goal of a run.
///
/// # Errors
/// `invalid`, with every problem and its line.
pub(super) fn goal(s: &Services, text: &str, asked_by: &Principal) -> ServiceResult<Goal> {
    let file = specs::parse(text).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        ServiceError::invalid(format!("spec: {}", problems.join("; ")), "Correct the spec and send it again")
    })?;
    let text = file.goal_text();
    // A command without a time limit of its own has that of every check that is given as a command.
    let timeout_secs = |command: &str| {
        let check = (s.checks_from)(&[command.to_owned()]);
        check.first().map_or(0, |check| check.timeout_secs)
    };
    let spec = file.pinned(timeout_secs);
    Ok(Goal { text, source: GoalSource::Manual, asked_by: asked_by.clone(), spec: Some(Box::new(spec)) })
}
