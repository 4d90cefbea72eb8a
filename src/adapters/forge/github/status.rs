//! Sets commit statuses.

use super::api::Api;
use super::wire::CommitStatus;
use crate::adapters::forge::ci::{description, state_name};
use crate::adapters::forge::fork::Forks;
use crate::adapters::forge::rest::RestApi;
use crate::domain::{ChangeNumber, Sha, StatusState};
use crate::ports::PortResult;
use http::{Method, StatusCode};
use serde_json::json;

/// Upper bound on the pages of statuses that are read: GitHub stores at most 1,000 of a commit and context.
const MAX_PAGES: usize = 20;

impl Api<'_> {
    /// Returns the statuses of a commit, newest first; of each context the first one counts.
    pub(super) async fn statuses(&self, sha: &Sha) -> PortResult<Vec<CommitStatus>> {
        let doing = format!("read the statuses of {}", sha.abbrev());
        self.list(&format!("/commits/{sha}/statuses"), MAX_PAGES, &doing).await
    }

    pub(super) async fn set_status(
        &self,
        _change: ChangeNumber,
        sha: &Sha,
        context: &str,
        state: StatusState,
        text: &str,
    ) -> PortResult<()> {
        if self.fork().await?.is_some() {
            tracing::debug!(repository = %self.repo, context, "only those who may push set statuses");
            return Ok(());
        }
        let (state, description) = (state_name(state), description(text));
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
