//! CI at a commit: its statuses, which of them a branch requires, and what is known about the failed ones. The jobs of
//! the forge's own Actions are statuses as well.

use super::api::Api;
use super::wire::{ActionRuns, Branch, CommitStatus, Jobs};
use crate::adapters::forge::answer::Answer;
use crate::adapters::forge::ci::{CiResults, description, state_name};
use crate::adapters::forge::client::read;
use crate::adapters::forge::fork::Forks;
use crate::adapters::forge::rest::RestApi;
use crate::adapters::forge::{job_log, rate};
use crate::domain::{ChangeNumber, CiFailure, CommitCi, JobLog, OwnStatus, Sha, StatusState, WorkflowRun};
use crate::ports::forge::DeploymentReport;
use crate::ports::{PortError, PortResult};
use globset::Glob;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

/// Upper bound on the pages of statuses that are read.
const MAX_PAGES: usize = 20;
/// The text of the status of a job that was cancelled.
const CANCELLED: &str = "Has been cancelled";
/// Bytes of the end of a log that are searched for what failed.
const LOG_BYTES: usize = 256 * 1024;

impl CommitStatus {
    fn result(&self) -> StatusState {
        match self.state.as_str() {
            "success" | "skipped" => StatusState::Success,
            "pending" => StatusState::Pending,
            // A branch protection rule does not count a warning as a success either.
            _ => StatusState::Failure,
        }
    }
}

/// Returns the contexts that the protection rule of a branch requires, without Skep's own. The rule may contain
/// patterns: one stands for everything that it matches, and for itself as long as it matches nothing.
pub(super) fn required_statuses(branch: &Branch, reported: &BTreeMap<String, StatusState>) -> BTreeSet<String> {
    let mut required = BTreeSet::new();
    let patterns = branch.status_check_contexts.iter().flatten().filter(|_| branch.enable_status_check);
    for pattern in patterns {
        let matcher = Glob::new(pattern).ok().map(|glob| glob.compile_matcher());
        let matches = |context: &str| context == pattern || matcher.as_ref().is_some_and(|m| m.is_match(context));
        let mut matched = reported.keys().filter(|context| matches(context)).cloned().peekable();
        if matched.peek().is_none() && !OwnStatus::CONTEXTS.iter().any(|own| matches(own)) {
            required.insert(pattern.clone());
        }
        required.extend(matched);
    }
    required
}

impl Api<'_> {
    /// Returns the statuses of a commit, newest first; of each context the first one counts.
    async fn statuses(&self, sha: &Sha) -> PortResult<Vec<CommitStatus>> {
        let doing = format!("read the statuses of {}", sha.abbrev());
        let mut statuses: Vec<CommitStatus> = self.list(&format!("/commits/{sha}/statuses"), MAX_PAGES, &doing).await?;
        statuses.sort_by_key(|status| std::cmp::Reverse(status.id));
        Ok(statuses)
    }

    /// Returns the results of CI at a commit.
    pub(super) async fn ci_results(&self, commit: &Sha) -> PortResult<CiResults> {
        let (mut results, mut seen) = (CiResults::default(), BTreeSet::new());
        for status in self.statuses(commit).await? {
            if seen.insert(status.context.clone()) {
                let state = status.result();
                results.add(status.context, state, status.id);
            }
        }
        Ok(results)
    }

    /// Returns the results of CI at a commit of a branch. A job of Actions that was cancelled is a failure with this text.
    pub(super) async fn commit_ci(&self, commit: &Sha) -> PortResult<CommitCi> {
        let (mut results, mut ci, mut seen) = (CiResults::default(), CommitCi::default(), BTreeSet::new());
        for status in self.statuses(commit).await? {
            if !seen.insert(status.context.clone()) {
                continue;
            }
            match status.result() {
                StatusState::Failure if status.description.as_deref() == Some(CANCELLED) => {
                    ci.cancelled.insert(status.context);
                }
                state => results.add(status.context, state, status.id),
            }
        }
        Ok(CommitCi { statuses: results.statuses, ..ci })
    }

    /// Forgejo and Gitea show no deployments.
    pub(super) async fn report_deployment(&self, _report: &DeploymentReport<'_>) -> PortResult<()> {
        Ok(())
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

    /// Returns what is known about failed checks at a commit.
    pub(super) async fn inspect_ci(&self, head: &Sha, base: &Sha, checks: &[String]) -> PortResult<Vec<CiFailure>> {
        let at_base = self.ci_results(base).await?.statuses;
        let statuses = self.statuses(head).await?;
        let mut failures = Vec::new();
        for name in checks.iter().take(CiFailure::MAX) {
            let of_name = || statuses.iter().filter(|status| status.context == *name);
            let newest = of_name().find(|status| status.result() == StatusState::Failure);
            let target = newest.and_then(|status| status.target_url.as_deref()).unwrap_or_default();
            let text = newest.and_then(|status| status.description.as_deref()).unwrap_or_default();
            failures.push(CiFailure {
                id: newest.map_or(0, |status| status.id),
                url: self.page_url(target),
                summary: text[..text.floor_char_boundary(CiFailure::MAX_SUMMARY_BYTES)].to_owned(),
                log: self.job_log(head, target).await?,
                red_at_base: at_base.get(name) == Some(&StatusState::Failure),
                passed_too: of_name().any(|status| status.result() == StatusState::Success),
                ..CiFailure::named(name)
            });
        }
        Ok(failures)
    }

    pub(super) async fn rerun_ci(&self, runs: &BTreeSet<WorkflowRun>) -> PortResult<()> {
        match runs.is_empty() {
            true => Ok(()),
            false => Err(PortError::permanent(
                format!("cannot run jobs again in {}: {} has no API for it", self.repo, self.forge.settings.software),
                "run the failed jobs again on the forge's page",
            )),
        }
    }

    /// Returns the address of the page of a status. That of a job of Actions has no host.
    fn page_url(&self, target: &str) -> String {
        let base = &self.forge.settings.url;
        let end = base.split_once("://").and_then(|(scheme, rest)| Some(scheme.len() + 3 + rest.find('/')?));
        match target.starts_with('/') {
            true => format!("{}{target}", &base[..end.unwrap_or(base.len())]),
            false => target.to_owned(),
        }
    }

    /// Returns the end of the log of a job of Actions, which is known by the page that its status names.
    async fn job_log(&self, head: &Sha, target: &str) -> PortResult<JobLog> {
        let missing = |why: String| Ok(JobLog::Missing { why });
        let Some((run, job)) = actions_job(target) else {
            return missing(format!("{} stores none for a commit status", self.forge.settings.software));
        };
        let doing = "find the workflow run of a failed job";
        let runs = match self.find_if_allowed::<ActionRuns>(&format!("/actions/runs?head_sha={head}"), doing).await? {
            Ok(ActionRuns { workflow_runs }) => workflow_runs,
            Err(why) => return missing(why),
        };
        let Some(run) = runs.iter().find(|candidate| candidate.index_in_repo == run) else {
            return missing("the forge no longer lists its workflow run".to_owned());
        };
        let path = format!("/actions/runs/{}/jobs", run.id);
        let jobs = match self.find_if_allowed(&path, "list the jobs of a workflow run").await? {
            Ok(Jobs::List(jobs) | Jobs::Object { jobs }) => jobs,
            Err(why) => return missing(why),
        };
        let Some(job) = jobs.get(job) else { return missing("the forge no longer lists its job".to_owned()) };
        let url = self.url(&format!("/actions/jobs/{}/logs", job.id));
        let token = self.forge.credentials.token().await?;
        let log = self.forge.client.tail(Some(&token), &url, &self.forge.settings.url, LOG_BYTES).await;
        Ok(match log {
            Ok(log) => JobLog::read(&job_log::clean(&log)),
            Err(why) => JobLog::Missing { why },
        })
    }

    /// Reads what a version may lack or an account may not see: then, why it cannot be read.
    async fn find_if_allowed<T: DeserializeOwned>(&self, path: &str, doing: &str) -> PortResult<Result<T, String>> {
        let answer = self.send(Method::GET, &self.url(path), None, doing).await?;
        match answer.status {
            StatusCode::OK => read(&answer, doing).map(Ok),
            _ => self.unavailable(&answer, doing).map(Err),
        }
    }

    /// Returns why something cannot be read that Skep can do without.
    fn unavailable(&self, answer: &Answer, doing: &str) -> PortResult<String> {
        match answer.status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE => Ok(format!(
                "it is gone, or this version of {} does not offer logs of Actions in its API",
                self.forge.settings.software
            )),
            StatusCode::FORBIDDEN if rate::pause(answer, SystemTime::now()).is_none() => {
                Ok(format!("the account may not {doing}; `skep forge test {}` shows what to grant", self.forge.name))
            }
            _ => Err(self.refusal(answer, doing, true)),
        }
    }
}

/// Returns the number of the run and the position of the job in the address of its page, `…/actions/runs/7/jobs/0`.
fn actions_job(target: &str) -> Option<(u64, usize)> {
    let (_, rest) = target.split_once("/actions/runs/")?;
    let mut parts = rest.split('/');
    let run = parts.next()?.parse().ok()?;
    let job = parts.next().filter(|part| *part == "jobs").and(parts.next())?;
    Some((run, job.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_known_by_the_page_of_its_status() {
        assert_eq!(actions_job("/my-org/calc/actions/runs/12/jobs/3"), Some((12, 3)));
        assert_eq!(actions_job("https://code.example.org/a/b/actions/runs/12/jobs/0/attempt/2"), Some((12, 0)));
        for other in ["", "https://ci.example.org/runs/1", "/a/b/actions/runs/x/jobs/0", "/a/b/actions/runs/1"] {
            assert_eq!(actions_job(other), None, "{other}");
        }
    }

    #[test]
    fn a_pattern_requires_what_it_matches() {
        let required = |patterns: &[&str]| {
            let branch: Branch = serde_json::from_value(json!({
                "commit": { "id": "0" }, "enable_status_check": true, "status_check_contexts": patterns,
            }))
            .unwrap();
            let reported = ["CI / test (pull_request)", "lint"].map(|name| (name.to_owned(), StatusState::Pending));
            required_statuses(&branch, &reported.into()).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(required(&["CI / *"]), ["CI / test (pull_request)"]);
        assert_eq!(required(&["lint", "l*", "*"]), ["CI / test (pull_request)", "lint"]);
        assert_eq!(required(&["build", "deploy*"]), ["build", "deploy*"]);
        assert_eq!(required(&["skep/*", "skep/checks"]), [""; 0]);
        assert_eq!(required(&["[broken"]), ["[broken"]);
    }
}
