//! CI at a commit: commit statuses and check runs, what is known about the failed ones, and their reruns.

use super::api::{Api, PAGE, escaped};
use super::wire::{ActionsRun, Annotation, Branch, BranchRule, CheckRun, CheckRuns, CommitStatus, Job};
use crate::adapters::forge::answer::Answer;
use crate::adapters::forge::ci::CiResults;
use crate::adapters::forge::client::read;
use crate::adapters::forge::job_log;
use crate::adapters::forge::rate;
use crate::adapters::forge::rest::RestApi;
use crate::domain::{CiFailure, CommitCi, JobLog, OwnStatus, Sha, StatusState, WorkflowRun};
use crate::ports::{PortError, PortResult};
use http::header::LOCATION;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::time::SystemTime;

/// Upper bound on the pages of check runs that are read.
const MAX_PAGES: usize = 10;
/// Upper bound on passed jobs with the name of a failed one that are compared with it.
const MAX_COMPARED: usize = 3;
/// Bytes of the end of a log that are searched for what failed.
const LOG_BYTES: usize = 256 * 1024;
/// Upper bound on an annotation, in characters.
const MAX_ANNOTATION_CHARS: usize = 300;
/// The app whose check runs are jobs with a log.
const ACTIONS: &str = "github-actions";

impl CommitStatus {
    fn result(&self) -> StatusState {
        match self.state.as_str() {
            "success" => StatusState::Success,
            "pending" => StatusState::Pending,
            _ => StatusState::Failure,
        }
    }
}

impl CheckRun {
    fn result(&self) -> StatusState {
        match (self.status.as_str(), self.conclusion.as_deref()) {
            ("completed", Some("success" | "neutral" | "skipped")) => StatusState::Success,
            // A workflow from a fork waits until a maintainer approves it.
            ("completed", Some("action_required")) if self.app() == ACTIONS => StatusState::Pending,
            ("completed", _) => StatusState::Failure,
            _ => StatusState::Pending,
        }
    }

    /// Returns whether it ended without a result, most often because a newer commit was pushed.
    fn is_cancelled(&self) -> bool {
        matches!(self.conclusion.as_deref(), Some("cancelled" | "stale"))
    }

    fn app(&self) -> &str {
        self.app.as_ref().map_or("", |app| &app.slug)
    }
}

impl Api<'_> {
    /// Returns the results of CI at a commit.
    pub(super) async fn ci_results(&self, commit: &Sha) -> PortResult<CiResults> {
        let mut results = CiResults::default();
        let mut seen = BTreeSet::new();
        for status in self.statuses(commit).await? {
            // Newest first.
            if seen.insert(status.context.clone()) {
                let state = status.result();
                results.add(status.context, state, status.id);
            }
        }
        for run in self.check_runs(commit, "latest").await? {
            let state = run.result();
            results.add(run.name, state, run.id);
        }
        Ok(results)
    }

    /// Returns the results of CI at a commit of a branch, and what of it was cancelled.
    pub(super) async fn commit_ci(&self, commit: &Sha) -> PortResult<CommitCi> {
        let (mut results, mut seen) = (CiResults::default(), BTreeSet::new());
        for status in self.statuses(commit).await? {
            if seen.insert(status.context.clone()) {
                let state = status.result();
                results.add(status.context, state, status.id);
            }
        }
        let mut ci = CommitCi::default();
        for run in self.check_runs(commit, "latest").await? {
            if !run.is_cancelled() {
                let state = run.result();
                results.add(run.name, state, run.id);
                continue;
            }
            if run.app() == ACTIONS && ci.restartable.is_empty() {
                let doing = format!("read the job {:?}", run.name);
                let job: Result<Job, String> =
                    self.find_if_allowed(&format!("/actions/jobs/{}", run.id), &doing).await?;
                ci.restartable.extend(job.map(|job| WorkflowRun { id: job.run_id, attempt: job.run_attempt }));
            }
            ci.cancelled.insert(run.name);
        }
        // Another workflow, or an earlier attempt, may have tested it after all.
        ci.cancelled.retain(|name| !results.statuses.contains_key(name));
        Ok(CommitCi { statuses: results.statuses, ..ci })
    }

    /// Returns the check runs at a commit. A token that may not read them sees none: fine-grained tokens cannot be given
    /// that permission everywhere.
    async fn check_runs(&self, commit: &Sha, filter: &str) -> PortResult<Vec<CheckRun>> {
        let doing = format!("read the check runs of {}", commit.abbrev());
        let mut all = Vec::new();
        for page in 1..=MAX_PAGES {
            let path = format!("/commits/{commit}/check-runs?filter={filter}&per_page={PAGE}&page={page}");
            let Ok(CheckRuns { check_runs }) = self.find_if_allowed(&path, &doing).await? else {
                tracing::debug!(repository = %self.repo, "the account may not read check runs");
                return Ok(Vec::new());
            };
            let is_last = check_runs.len() < PAGE;
            all.extend(check_runs);
            if is_last {
                break;
            }
        }
        Ok(all)
    }

    /// Returns the contexts that a branch protection rule or a ruleset requires on a branch, without Skep's own.
    pub(super) async fn required_statuses(&self, branch: &str) -> PortResult<BTreeSet<String>> {
        let doing = format!("read the rules of the branch {branch:?}");
        let protected: Result<Branch, _> =
            self.find_if_allowed(&format!("/branches/{}", escaped(branch)), &doing).await?;
        let rules: Result<Vec<BranchRule>, _> =
            self.find_if_allowed(&format!("/rules/branches/{}?per_page={PAGE}", escaped(branch)), &doing).await?;
        let protection = protected.ok().and_then(|branch| branch.protection.required_status_checks);
        let mut required: BTreeSet<String> = protection
            .filter(|checks| checks.enforcement_level != "off")
            .map(|c| c.contexts)
            .into_iter()
            .flatten()
            .collect();
        let of_rulesets = rules.unwrap_or_default().into_iter().filter(|rule| rule.kind == "required_status_checks");
        let checks = of_rulesets.filter_map(|rule| rule.parameters).flat_map(|p| p.required_status_checks);
        required.extend(checks.map(|check| check.context));
        required.retain(|context| !OwnStatus::CONTEXTS.contains(&context.as_str()));
        Ok(required)
    }

    /// Returns what is known about failed checks at a commit.
    pub(super) async fn inspect_ci(&self, head: &Sha, base: &Sha, checks: &[String]) -> PortResult<Vec<CiFailure>> {
        let at_base = self.ci_results(base).await?.statuses;
        let statuses = self.statuses(head).await?;
        let runs = self.check_runs(head, "all").await?;
        let mut failures = Vec::new();
        for name in checks.iter().take(CiFailure::MAX) {
            let failed = runs.iter().filter(|run| run.name == *name && run.result() == StatusState::Failure);
            let failure = match failed.max_by_key(|run| run.id) {
                Some(run) => self.failed_check_run(run, &runs).await?,
                None => failed_status(name, &statuses),
            };
            let red_at_base = at_base.get(name) == Some(&StatusState::Failure);
            failures.push(CiFailure { red_at_base, ..failure });
        }
        Ok(failures)
    }

    async fn failed_check_run(&self, run: &CheckRun, all: &[CheckRun]) -> PortResult<CiFailure> {
        let conclusion = run.conclusion.as_deref().unwrap_or("failure");
        let mut summary = format!("conclusion: {conclusion}\n");
        for text in [&run.output.title, &run.output.summary].into_iter().flatten().filter(|text| !text.is_empty()) {
            summary.push_str(text);
            summary.push('\n');
        }
        let mut failure = CiFailure {
            id: run.id,
            url: run.html_url.clone().unwrap_or_default(),
            annotations: self.annotations(run).await?,
            ..CiFailure::named(&run.name)
        };
        if run.app() == ACTIONS {
            let doing = format!("read the job {:?}", run.name);
            let job: Result<Job, String> = self.find_if_allowed(&format!("/actions/jobs/{}", run.id), &doing).await?;
            match job {
                Ok(job) => {
                    let step = job.steps.iter().find(|step| step.conclusion.as_deref() == Some("failure"));
                    summary.extend(step.map(|step| format!("failed step: {}\n", step.name)));
                    failure.workflow_run = Some(WorkflowRun { id: job.run_id, attempt: job.run_attempt });
                    failure.passed_too = self.has_passed(run, &job, all).await?;
                    failure.log = self.job_log(run.id).await?;
                }
                Err(why) => failure.log = JobLog::Missing { why },
            }
        }
        summary.truncate(summary.floor_char_boundary(CiFailure::MAX_SUMMARY_BYTES));
        Ok(CiFailure { summary, ..failure })
    }

    async fn annotations(&self, run: &CheckRun) -> PortResult<Vec<String>> {
        if run.output.annotations_count == 0 {
            return Ok(Vec::new());
        }
        let doing = format!("read the annotations of {:?}", run.name);
        let path = format!("/check-runs/{}/annotations?per_page={PAGE}", run.id);
        let all: Result<Vec<Annotation>, _> = self.find_if_allowed(&path, &doing).await?;
        let mut all = all.unwrap_or_default();
        // A file that needs a fix first; notices say nothing about the failure.
        all.sort_by_key(|a| a.annotation_level.as_deref() != Some("failure"));
        let shown = all.iter().filter(|a| a.annotation_level.as_deref() != Some("notice")).map(|a| {
            let text = format!("{}:{}: {}", a.path, a.start_line, a.message.as_deref().unwrap_or_default());
            text.chars().take(MAX_ANNOTATION_CHARS).collect()
        });
        Ok(shown.take(CiFailure::MAX_ANNOTATIONS).collect())
    }

    /// Returns whether a job also passed at the commit: in another attempt of its workflow's run, or in another run of
    /// the same workflow. Another workflow may have a job of the same name.
    async fn has_passed(&self, failed: &CheckRun, job: &Job, all: &[CheckRun]) -> PortResult<bool> {
        let doing = format!("compare the results of {:?}", failed.name);
        let is_same = |run: &&CheckRun| run.name == failed.name && run.app() == failed.app();
        let mut passed: Vec<&CheckRun> = all.iter().filter(is_same).collect();
        passed.retain(|run| run.conclusion.as_deref() == Some("success"));
        passed.sort_by_key(|run| std::cmp::Reverse(run.id));
        for run in passed.into_iter().take(MAX_COMPARED) {
            let other: Result<Job, _> = self.find_if_allowed(&format!("/actions/jobs/{}", run.id), &doing).await?;
            let Ok(other) = other else { continue };
            if other.run_id == job.run_id {
                return Ok(true);
            }
            let (one, two) = (self.actions_run(job.run_id).await?, self.actions_run(other.run_id).await?);
            if matches!((one, two), (Ok(one), Ok(two)) if one.workflow_id == two.workflow_id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn job_log(&self, job: u64) -> PortResult<JobLog> {
        let doing = format!("read the log of job {job}");
        let answer = self.send(Method::GET, &self.url(&format!("/actions/jobs/{job}/logs")), None, &doing).await?;
        let log = match answer.status {
            StatusCode::OK => Ok(answer.body),
            StatusCode::FOUND | StatusCode::TEMPORARY_REDIRECT => {
                let url = answer.headers.get(LOCATION).and_then(|url| url.to_str().ok()).unwrap_or_default();
                self.forge.client.tail(None, url, &self.forge.settings.api_url, LOG_BYTES).await
            }
            _ => Err(self.unavailable(&answer, &doing)?),
        };
        Ok(match log {
            Ok(log) => JobLog::read(&job_log::clean(&log[log.len().saturating_sub(LOG_BYTES)..])),
            Err(why) => JobLog::Missing { why },
        })
    }

    async fn actions_run(&self, id: u64) -> PortResult<Result<ActionsRun, String>> {
        self.find_if_allowed(&format!("/actions/runs/{id}"), &format!("read the workflow run {id}")).await
    }

    /// Starts the failed jobs of runs of workflows again, of each at most once since the attempt that was seen.
    pub(super) async fn rerun_ci(&self, runs: &BTreeSet<WorkflowRun>) -> PortResult<()> {
        for run in runs {
            let doing = format!("run the failed jobs of workflow run {} again", run.id);
            let now = self.actions_run(run.id).await?.map_err(|why| {
                PortError::permanent(format!("cannot {doing}: {why}"), "run the jobs again on GitHub")
            })?;
            if now.run_attempt > run.attempt {
                continue;
            }
            if now.status != "completed" {
                return Err(PortError::transient(format!("cannot {doing}: it has not ended")));
            }
            let path = format!("/actions/runs/{}/rerun-failed-jobs", run.id);
            self.write(Method::POST, &path, &serde_json::json!({}), StatusCode::CREATED, &doing).await?;
        }
        Ok(())
    }

    /// Reads what a repository may lack or an account may not see: then, why it cannot be read.
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
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok("GitHub does not have it, or no longer".to_owned()),
            StatusCode::FORBIDDEN if rate::pause(answer, SystemTime::now()).is_none() => {
                Ok(format!("the account may not {doing}; `skep forge test {}` shows what to grant", self.forge.name))
            }
            _ => Err(self.refusal(answer, doing, true)),
        }
    }
}

fn failed_status(name: &str, statuses: &[CommitStatus]) -> CiFailure {
    let of_name = || statuses.iter().filter(|status| status.context == name);
    let newest = of_name().find(|status| status.result() == StatusState::Failure);
    let text = newest.and_then(|status| status.description.as_deref()).unwrap_or_default();
    let url = newest.and_then(|status| status.target_url.clone()).unwrap_or_default();
    CiFailure {
        id: newest.map_or(0, |status| status.id),
        summary: text[..text.floor_char_boundary(CiFailure::MAX_SUMMARY_BYTES)].to_owned(),
        log: JobLog::Missing { why: "GitHub stores none for a commit status".to_owned() },
        passed_too: of_name().any(|status| status.result() == StatusState::Success),
        url,
        ..CiFailure::named(name)
    }
}
