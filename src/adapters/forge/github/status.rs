//! Sets commit statuses.

use super::api::Api;
use super::wire::CommitStatus;
use crate::domain::{Sha, StatusState};
use crate::ports::PortResult;
use http::{Method, StatusCode};
use serde_json::json;

/// Upper bound on a description, in characters.
const MAX_DESCRIPTION_CHARS: usize = 140;
/// Upper bound on the pages of statuses that are read: GitHub stores at most 1,000 of a commit and context.
const MAX_PAGES: usize = 20;

impl Api<'_> {
    /// Returns the statuses of a commit, newest first; of each context the first one counts.
    pub(super) async fn statuses(&self, sha: &Sha) -> PortResult<Vec<CommitStatus>> {
        let doing = format!("read the statuses of {}", sha.abbrev());
        self.list(&format!("/commits/{sha}/statuses"), MAX_PAGES, &doing).await
    }

    pub(super) async fn set_status(&self, sha: &Sha, context: &str, state: StatusState, text: &str) -> PortResult<()> {
        let state = match state {
            StatusState::Pending => "pending",
            StatusState::Success => "success",
            StatusState::Failure => "failure",
        };
        let description = shortened(text);
        let latest = self.statuses(sha).await?.into_iter().find(|status| status.context == context);
        let is_same = |s: &CommitStatus| s.state == state && s.description.as_deref().unwrap_or("") == description;
        if latest.as_ref().is_some_and(is_same) {
            return Ok(());
        }
        let doing = format!("set the status {context} of {}", sha.abbrev());
        let body = json!({ "state": state, "context": context, "description": description });
        self.write(Method::POST, &format!("/statuses/{sha}"), &body, StatusCode::CREATED, &doing).await.map(drop)
    }
}

/// Shortens a text to what GitHub accepts as a description, on one line.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.chars().count() > MAX_DESCRIPTION_CHARS {
        true => line.chars().take(MAX_DESCRIPTION_CHARS - 1).chain(['…']).collect(),
        false => line,
    }
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn descriptions_have_at_most_140_characters() {
        assert_eq!(shortened(" all\nchecks  are green "), "all checks are green");
        let long = shortened(&"é".repeat(141));
        assert_eq!((long.chars().count(), long.ends_with('…')), (140, true));
        assert_eq!(shortened(&"é".repeat(140)).chars().count(), 140);
    }
}
