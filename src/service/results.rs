//! Newest test results of a project.

use super::{Caller, Right, ServiceError, ServiceResult, Services, projects};
use crate::domain::{CheckResult, Run, RunId, Scope, check};
use crate::ports::run_index::RunFilter;
use std::collections::BTreeMap;

/// Maximum number of runs that are searched.
const MAX_RUNS: u64 = 50;

/// Newest test results of a project.
#[derive(Clone, Debug)]
pub struct LatestTests {
    /// Run.
    pub run: RunId,
    /// `head` of the run's branch, or a task (`t1`).
    pub scope: String,
    /// Commit that was checked.
    pub sha: String,
    /// Whether every check of the run ran and passed.
    pub green: bool,
    /// Runner by check, for checks that run elsewhere than on Skep's own machine.
    pub runners: BTreeMap<String, String>,
    /// Results.
    pub results: Vec<CheckResult>,
}

/// Returns the newest results of the newest run that was checked: at the head of its branch, else at a task's commit.
///
/// # Errors
/// `no_project`, or `no_tests` if no check has run yet.
pub async fn latest(s: &Services, caller: &Caller, project: &str) -> ServiceResult<LatestTests> {
    let project = projects::find_for(s, caller, Right::Read, project).await?.name;
    let filter = RunFilter { projects: project.clone().into(), limit: MAX_RUNS, ..RunFilter::default() };
    for row in s.store.list(&filter).await? {
        // A run that cannot be read must not hide the others; the run list shows it as quarantined.
        if let Ok(Some(run)) = s.store.load(row.run).await
            && let Some(found) = of_run(&run)
        {
            return Ok(found);
        }
    }
    let detail = format!("no check of project {project} has run yet");
    Err(ServiceError::not_found("no_tests", detail, "Open a run"))
}

fn of_run(run: &Run) -> Option<LatestTests> {
    let checks = &run.settings.checks;
    let tests = |scope: Scope, name: String, sha: &str, results: &[CheckResult]| LatestTests {
        run: run.id,
        scope: name,
        sha: sha.to_owned(),
        green: check::proves(&run.checks_in(scope), results, |_| false),
        runners: checks.iter().filter_map(|c| Some((c.name.clone(), c.runner.clone()?))).collect(),
        results: results.to_vec(),
    };
    if let Some(results) = &run.facts.results {
        return Some(tests(Scope::Head, "head".to_owned(), run.head.as_str(), results));
    }
    let mut checked = run.tasks.iter().rev().filter(|task| !task.results.is_empty());
    checked.find_map(|task| {
        Some(tests(Scope::Task(task.id), task.id.to_string(), task.head.as_ref()?.as_str(), &task.results))
    })
}
