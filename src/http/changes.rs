//! The person's side of the local forge: changes, reviews, comments, merges, statuses. The run hears of each at once.

use super::problem::{ApiError, ApiResult};
use super::view::{ChangeSay, NewStatus};
use super::{State, projects, runs, shapes};
use crate::domain::{ChangeNumber, Sha};
use crate::ports::store::Found;
use crate::ports::{Change, PortResult, Repo};
use axum::Json;
use axum::extract::{Path, State as Shared};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The longest text said, in bytes.
const TEXT_MAX: usize = 64 * 1024;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(approve))
        .routes(routes!(decline))
        .routes(routes!(comment))
        .routes(routes!(merge))
        .routes(routes!(close))
        .routes(routes!(status))
}

type ChangePath = Path<(String, u64)>;

/// A project's changes, newest first
#[utoipa::path(get, path = "/api/v1/projects/{name}/changes", tag = "changes", params(("name" = String, description = "The project")),
    responses((status = 200, body = Vec<shapes::Change>, description = "At most 200")))]
async fn list(Shared(state): Shared<State>, Path(name): Path<String>) -> ApiResult<Json<Vec<Change>>> {
    let repo = repo(&state, &name).await?;
    Ok(Json(state.people.changes(&repo).await?))
}

/// A change
#[utoipa::path(get, path = "/api/v1/projects/{name}/changes/{n}", tag = "changes",
    params(("name" = String, description = "The project"), ("n" = u64, description = "Its number")),
    responses((status = 200, body = shapes::Change, description = "The change")))]
async fn show(Shared(state): Shared<State>, Path((name, n)): ChangePath) -> ApiResult<Json<Change>> {
    let repo = repo(&state, &name).await?;
    Ok(Json(change(&state, &repo, n).await?))
}

/// Approve a change at its present head
#[utoipa::path(post, path = "/api/v1/projects/{name}/changes/{n}/approve", tag = "changes", request_body = Option<ChangeSay>,
    params(("name" = String, description = "The project"), ("n" = u64, description = "Its number")),
    responses((status = 200, body = shapes::Change, description = "The change after it")))]
async fn approve(
    Shared(state): Shared<State>,
    Path(place): ChangePath,
    say: Option<Json<ChangeSay>>,
) -> ApiResult<Json<Change>> {
    review(&state, place, true, &say.unwrap_or_default().0.text).await
}

/// Ask for changes to a change at its present head
#[utoipa::path(post, path = "/api/v1/projects/{name}/changes/{n}/decline", tag = "changes", request_body = Option<ChangeSay>,
    params(("name" = String, description = "The project"), ("n" = u64, description = "Its number")),
    responses((status = 200, body = shapes::Change, description = "The change after it")))]
async fn decline(
    Shared(state): Shared<State>,
    Path(place): ChangePath,
    say: Option<Json<ChangeSay>>,
) -> ApiResult<Json<Change>> {
    review(&state, place, false, &say.unwrap_or_default().0.text).await
}

/// Say something on a change
///
/// `UNBLOCK #b1 …` lifts a block of its run.
#[utoipa::path(post, path = "/api/v1/projects/{name}/changes/{n}/comment", tag = "changes", request_body = ChangeSay,
    params(("name" = String, description = "The project"), ("n" = u64, description = "Its number")),
    responses((status = 200, body = shapes::Change, description = "The change after it")))]
async fn comment(
    Shared(state): Shared<State>,
    Path((name, n)): ChangePath,
    Json(say): Json<ChangeSay>,
) -> ApiResult<Json<Change>> {
    short(&say.text)?;
    if say.text.trim().is_empty() {
        return Err(ApiError::invalid("text: there is nothing to say", "Give a `text`"));
    }
    let repo = known(&state, &name, n).await?;
    heard(&state, state.people.say(&repo, ChangeNumber(n), &state.principal, &say.text).await).await
}

/// Merge a change as a person
///
/// Only as a fast-forward of its present head onto the base branch.
#[utoipa::path(post, path = "/api/v1/projects/{name}/changes/{n}/merge", tag = "changes",
    params(("name" = String, description = "The project"), ("n" = u64, description = "Its number")),
    responses((status = 200, body = shapes::Change, description = "The change after it")))]
async fn merge(Shared(state): Shared<State>, Path((name, n)): ChangePath) -> ApiResult<Json<Change>> {
    let repo = known(&state, &name, n).await?;
    heard(&state, state.people.merge(&repo, ChangeNumber(n), &state.principal).await).await
}

/// Close a change without merging it
#[utoipa::path(post, path = "/api/v1/projects/{name}/changes/{n}/close", tag = "changes",
    params(("name" = String, description = "The project"), ("n" = u64, description = "Its number")),
    responses((status = 200, body = shapes::Change, description = "The change after it")))]
async fn close(Shared(state): Shared<State>, Path((name, n)): ChangePath) -> ApiResult<Json<Change>> {
    let repo = known(&state, &name, n).await?;
    heard(&state, state.people.close_by(&repo, ChangeNumber(n), &state.principal).await).await
}

/// Report a status, as a CI does
#[utoipa::path(post, path = "/api/v1/projects/{name}/changes/{n}/status", tag = "changes", request_body = NewStatus,
    params(("name" = String, description = "The project"), ("n" = u64, description = "Its number")),
    responses((status = 200, body = shapes::Change, description = "The change after it")))]
async fn status(
    Shared(state): Shared<State>,
    Path((name, n)): ChangePath,
    Json(new): Json<NewStatus>,
) -> ApiResult<Json<Change>> {
    runs::bounded([&new.context, &new.text])?;
    if new.context.trim().is_empty() || new.context.len() > 200 {
        return Err(ApiError::invalid("context: must be 1 to 200 bytes", "Name the CI job, `ci/windows`"));
    }
    let repo = repo(&state, &name).await?;
    let head = change(&state, &repo, n).await?.head;
    let sha = match new.sha.map(|s| s.to_ascii_lowercase()) {
        None => head,
        Some(s) if [40, 64].contains(&s.len()) && s.bytes().all(|b| b.is_ascii_hexdigit()) => Sha(s),
        Some(_) => return Err(ApiError::invalid("sha: must be a whole commit id", "Give all its hex digits")),
    };
    let by = &state.principal;
    let told = state.people.report_status(&repo, ChangeNumber(n), by, &sha, &new.context, new.state, &new.text).await;
    heard(&state, told).await
}

async fn review(state: &State, (name, n): (String, u64), approved: bool, text: &str) -> ApiResult<Json<Change>> {
    short(text)?;
    let repo = known(state, &name, n).await?;
    heard(state, state.people.review(&repo, ChangeNumber(n), &state.principal, approved, text).await).await
}

/// The change after what was done to it; its run is told to look.
async fn heard(state: &State, change: PortResult<Change>) -> ApiResult<Json<Change>> {
    let change = change?;
    // A run's branch ends with its short id. One that is not found (a change of another factory) has nobody to tell.
    let short = change.branch.rsplit('/').next().unwrap_or_default();
    if let Ok(Found::One(run)) = state.store.find(short).await {
        state.factory.look(run).await;
    }
    Ok(Json(change))
}

async fn repo(state: &State, name: &str) -> ApiResult<Repo> {
    let project = projects::named(state, name).await?;
    Ok(Repo { project: project.name, origin: project.repo })
}

async fn change(state: &State, repo: &Repo, n: u64) -> ApiResult<Change> {
    state.people.change(repo, ChangeNumber(n)).await.map_err(|e| ApiError::missing("no_change", e))
}

/// The repository, if it has that change.
async fn known(state: &State, name: &str, n: u64) -> ApiResult<Repo> {
    let repo = repo(state, name).await?;
    change(state, &repo, n).await?;
    Ok(repo)
}

fn short(text: &str) -> ApiResult<()> {
    if text.len() <= TEXT_MAX {
        return Ok(());
    }
    Err(ApiError::invalid("text: longer than 64 KiB", "Shorten it, or name a file of the repository"))
}
