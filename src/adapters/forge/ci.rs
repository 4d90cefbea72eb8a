//! Commit statuses and the results of CI.

use crate::domain::{OwnStatus, StatusState};
use std::collections::BTreeMap;

/// Upper bound on a description, in characters.
const MAX_DESCRIPTION_CHARS: usize = 140;

/// The results of CI at a commit, without Skep's own. Of two with one name, the worse counts.
#[derive(Default)]
pub(super) struct CiResults {
    pub statuses: BTreeMap<String, StatusState>,
    /// The id of the newest failed result of each failed status.
    pub failed: BTreeMap<String, u64>,
}

impl CiResults {
    /// Adds a result, unless it is one of Skep's own.
    pub fn add(&mut self, name: String, state: StatusState, id: u64) {
        if OwnStatus::CONTEXTS.contains(&name.as_str()) {
            return;
        }
        let badness = |state: StatusState| match state {
            StatusState::Success => 0,
            StatusState::Pending => 1,
            StatusState::Failure => 2,
        };
        if state == StatusState::Failure {
            let newest = self.failed.entry(name.clone()).or_default();
            *newest = id.max(*newest);
        }
        let slot = self.statuses.entry(name).or_insert(state);
        if badness(state) > badness(*slot) {
            *slot = state;
        }
    }
}

/// Returns the name of a state that Skep sets.
pub(super) fn state_name(state: StatusState) -> &'static str {
    match state {
        StatusState::Pending => "pending",
        StatusState::Success => "success",
        StatusState::Failure => "failure",
    }
}

/// Shortens a text to what forges accept as the description of a status, on one line.
pub(super) fn description(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.chars().count() > MAX_DESCRIPTION_CHARS {
        true => line.chars().take(MAX_DESCRIPTION_CHARS - 1).chain(['…']).collect(),
        false => line,
    }
}

#[cfg(test)]
mod tests {
    use super::description;

    #[test]
    fn descriptions_have_at_most_140_characters() {
        assert_eq!(description(" all\nchecks  are green "), "all checks are green");
        let long = description(&"é".repeat(141));
        assert_eq!((long.chars().count(), long.ends_with('…')), (140, true));
        assert_eq!(description(&"é".repeat(140)).chars().count(), 140);
    }
}
