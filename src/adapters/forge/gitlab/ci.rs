//! CI at a commit: the jobs of its pipelines and its external statuses, which GitLab lists together, and what is known
//! about the failed ones.

use super::api::Api;
use super::trace;
use super::wire::CommitStatus;
use crate::adapters::forge::ci::{CiResults, description};
use crate::adapters::forge::rest::RestApi;
use crate::domain::{ChangeNumber, CiFailure, CommitCi, JobLog, Sha, StatusState, WorkflowRun};
use crate::ports::PortResult;
use http::{Method, StatusCode};
use serde_json::json;
use std::collections::BTreeSet;

/// Upper bound on the pages of statuses that are read.
const MAX_PAGES: usize = 20;
/// Bytes of the end of a log that are searched for what failed.
const LOG_BYTES: usize = 256 * 1024;

impl CommitStatus {
    fn result(&self) -> StatusState {
        match self.status.as_str() {
            "success" | "skipped" => StatusState::Success,
            // A job that may fail does not fail its pipeline, and one that is optional need not run.
            "failed" | "canceled" | "manual" if self.allow_failure => StatusState::Success,
            "failed" | "canceled" => StatusState::Failure,
            _ => StatusState::Pending,
        }
    }

    /// Returns whether it is a job, which has a log, and can be run again. Its id is that of the job.
    fn is_job(&self) -> bool {
        let job = self.target_url.as_deref().and_then(|url| url.rsplit_once("/-/jobs/"));
        job.is_some_and(|(_, id)| id == self.id.to_string())
    }
}

/// Returns GitLab's name of a state.
fn state_name(state: StatusState) -> &'static str {
    match state {
        StatusState::Pending => "pending",
        StatusState::Success => "success",
        StatusState::Failure => "failed",
    }
}

impl Api<'_> {
    /// Returns the statuses of a commit, newest first. `all` = with those of jobs that were run again.
    async fn statuses(&self, sha: &Sha, all: bool) -> PortResult<Vec<CommitStatus>> {
        let doing = format!("read the statuses of {}", sha.abbrev());
        let path = format!("/repository/commits/{sha}/statuses{}", if all { "?all=true" } else { "" });
        let mut statuses: Vec<CommitStatus> = self.list(&path, MAX_PAGES, &doing).await?;
        statuses.sort_by_key(|status| std::cmp::Reverse(status.id));
        Ok(statuses)
    }

    /// Returns the results of CI at a commit. Of several with one name, in several pipelines, the newest counts.
    pub(super) async fn ci_results(&self, commit: &Sha) -> PortResult<CiResults> {
        let (mut results, mut seen) = (CiResults::default(), BTreeSet::new());
        for status in self.statuses(commit, false).await? {
            if seen.insert(status.name.clone()) {
                let state = status.result();
                results.add(status.name, state, status.id);
            }
        }
        Ok(results)
    }

    /// Returns the results of CI at a commit of a branch, and which of its jobs were cancelled.
    pub(super) async fn commit_ci(&self, commit: &Sha) -> PortResult<CommitCi> {
        let (mut results, mut ci, mut seen) = (CiResults::default(), CommitCi::default(), BTreeSet::new());
        for status in self.statuses(commit, false).await? {
            if !seen.insert(status.name.clone()) {
                continue;
            }
            if status.status == "canceled" && !status.allow_failure {
                // A job that is run again becomes another one, so that each has one attempt.
                let job = status.is_job().then_some(WorkflowRun { id: status.id, attempt: 1 });
                ci.restartable.extend(job);
                ci.cancelled.insert(status.name);
                continue;
            }
            let state = status.result();
            results.add(status.name, state, status.id);
        }
        Ok(CommitCi { statuses: results.statuses, ..ci })
    }

    pub(super) async fn set_status(
        &self,
        change: ChangeNumber,
        sha: &Sha,
        context: &str,
        state: StatusState,
        text: &str,
    ) -> PortResult<()> {
        let (state, description) = (state_name(state), description(text));
        let is_set = async || {
            let latest = self.statuses(sha, false).await?.into_iter().find(|status| status.name == context);
            let is_same = |s: &CommitStatus| s.status == state && s.description.as_deref() == Some(&description);
            Ok(latest.as_ref().is_some_and(is_same))
        };
        if is_set().await? {
            return Ok(());
        }
        let doing = format!("set the status {context} of {}", sha.abbrev());
        // Without its branch, GitLab would choose one that contains the commit.
        let branch = self.merge_request(change).await?.source_branch;
        let body = json!({ "state": state, "name": context, "description": description, "ref": branch });
        let answer = self.send(Method::POST, &self.url(&format!("/statuses/{sha}")), Some(&body), &doing).await?;
        match answer.status {
            StatusCode::OK | StatusCode::CREATED => Ok(()),
            // GitLab refuses to set the state that a status has; its text is not worth an error.
            StatusCode::BAD_REQUEST if answer.says("cannot transition status") => Ok(()),
            _ => Err(self.refusal(&answer, &doing, false)),
        }
    }

    /// Returns what is known about failed checks at a commit.
    pub(super) async fn inspect_ci(&self, head: &Sha, base: &Sha, checks: &[String]) -> PortResult<Vec<CiFailure>> {
        let at_base = self.ci_results(base).await?.statuses;
        let statuses = self.statuses(head, true).await?;
        let mut failures = Vec::new();
        for name in checks.iter().take(CiFailure::MAX) {
            let of_name = || statuses.iter().filter(|status| status.name == *name);
            let newest = of_name().find(|status| status.result() == StatusState::Failure);
            let job = newest.filter(|status| status.is_job()).map(|status| status.id);
            let text = newest.and_then(|status| status.description.as_deref()).unwrap_or_default();
            failures.push(CiFailure {
                id: newest.map_or(0, |status| status.id),
                url: newest.and_then(|status| status.target_url.clone()).unwrap_or_default(),
                summary: text[..text.floor_char_boundary(CiFailure::MAX_SUMMARY_BYTES)].to_owned(),
                log: match job {
                    Some(job) => self.job_log(job).await?,
                    None => JobLog::Missing { why: "GitLab stores none for an external status".to_owned() },
                },
                red_at_base: at_base.get(name) == Some(&StatusState::Failure),
                passed_too: of_name().any(|status| status.result() == StatusState::Success),
                // A job that is run again becomes another one, so that each has one attempt.
                workflow_run: job.map(|id| WorkflowRun { id, attempt: 1 }),
                ..CiFailure::named(name)
            });
        }
        Ok(failures)
    }

    /// Returns the end of the log of a job.
    async fn job_log(&self, job: u64) -> PortResult<JobLog> {
        let url = self.url(&format!("/jobs/{job}/trace"));
        let token = self.forge.credentials.token().await?;
        let log = self.forge.client.tail(Some(&token), &url, &self.forge.settings.url, LOG_BYTES).await;
        Ok(match log {
            Ok(log) => JobLog::read(&trace::clean(&log)),
            Err(why) => JobLog::Missing { why },
        })
    }

    /// Starts failed jobs again. GitLab refuses it for one that was started again already.
    pub(super) async fn rerun_ci(&self, runs: &BTreeSet<WorkflowRun>) -> PortResult<()> {
        for WorkflowRun { id, .. } in runs {
            let doing = format!("run job {id} again");
            let url = self.url(&format!("/jobs/{id}/retry"));
            let answer = self.send(Method::POST, &url, None, &doing).await?;
            match answer.status {
                StatusCode::CREATED | StatusCode::OK => {}
                StatusCode::FORBIDDEN if answer.says("not retryable") => {
                    tracing::debug!(repository = %self.repo, job = id, "the job cannot be run again, or was already");
                }
                _ => return Err(self.refusal(&answer, &doing, false)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: &str, allow_failure: bool, target_url: &str) -> CommitStatus {
        serde_json::from_value(json!({
            "id": 93, "status": status, "name": "test", "target_url": target_url, "allow_failure": allow_failure,
        }))
        .unwrap()
    }

    #[test]
    fn a_job_that_may_fail_does_not_fail_its_pipeline() {
        for (name, required, optional) in [
            ("success", StatusState::Success, StatusState::Success),
            ("skipped", StatusState::Success, StatusState::Success),
            ("failed", StatusState::Failure, StatusState::Success),
            ("canceled", StatusState::Failure, StatusState::Success),
            ("manual", StatusState::Pending, StatusState::Success),
            ("running", StatusState::Pending, StatusState::Pending),
            ("waiting_for_resource", StatusState::Pending, StatusState::Pending),
        ] {
            assert_eq!(status(name, false, "").result(), required, "{name}");
            assert_eq!(status(name, true, "").result(), optional, "{name}");
        }
    }

    #[test]
    fn a_job_is_known_by_its_page() {
        assert!(status("failed", false, "https://gitlab.com/my-org/calc/-/jobs/93").is_job());
        for other in ["", "https://gitlab.com/my-org/calc/-/jobs/94", "https://ci.example.org/builds/93"] {
            assert!(!status("failed", false, other).is_job(), "{other}");
        }
    }
}
