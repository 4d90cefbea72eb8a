//! The newest test results of a project.

use super::problem::{ApiError, ApiResult};
use super::view::TestsView;
use super::{State, projects};
use crate::domain::{CheckResult, CheckSpec, Run};
use crate::ports::store::RunFilter;
use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How many runs are looked through.
const RUNS: u64 = 50;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(latest))
}

/// A project's newest test results
///
/// What the checks found last in its newest run that was checked: at the head of its branch, else at a task's commit. The bytes of logs
/// and JUnit reports are the run's artifacts of these digests.
#[utoipa::path(get, path = "/api/v1/projects/{name}/tests/latest", tag = "projects",
    params(("name" = String, description = "The project's name")),
    responses((status = 200, body = TestsView, description = "The results")))]
async fn latest(Shared(state): Shared<State>, Path(name): Path<String>) -> ApiResult<Json<TestsView>> {
    let project = projects::named(&state, &name).await?.name;
    let filter = RunFilter { project: Some(project.clone()), limit: RUNS, ..RunFilter::default() };
    for row in state.store.list(&filter).await? {
        // A run that cannot be read hides no other; the list shows it quarantined.
        if let Ok(Some(run)) = state.store.load(row.run).await
            && let Some(found) = of(&run)
        {
            return Ok(Json(found));
        }
    }
    let detail = format!("no check of the project {project} has run yet");
    Err(ApiError::new(StatusCode::NOT_FOUND, "no_tests", detail, "Open a run: POST /api/v1/runs"))
}

fn of(run: &Run) -> Option<TestsView> {
    let view = |scope: String, sha: &str, results: &[CheckResult]| TestsView {
        run: run.id.to_string(),
        scope,
        sha: sha.to_owned(),
        green: crate::domain::check::proves(&run.settings.checks, results),
        places: run.settings.checks.iter().filter_map(runner).collect(),
        results: results.to_vec(),
    };
    if let Some(results) = &run.facts.results {
        return Some(view("head".to_owned(), run.head.as_str(), results));
    }
    let mut tasks = run.tasks.iter().rev().filter(|task| !task.results.is_empty());
    tasks.find_map(|task| Some(view(task.id.to_string(), task.head.as_ref()?.as_str(), &task.results)))
}

fn runner(check: &CheckSpec) -> Option<(String, String)> {
    Some((check.name.clone(), check.runner.clone()?))
}
