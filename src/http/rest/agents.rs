//! Routes for outside agents and ratings, for people.

use super::body::JsonBody;
use super::problem::ApiResult;
use super::{State, wire};
use crate::service::{Caller, agents, ratings};
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(list, invite)).routes(routes!(revoke)).routes(routes!(rate))
}

/// List the outside agents, by name
#[utoipa::path(get, path = "/api/v1/agents", tag = "agents",
    responses((status = 200, body = Vec<wire::Agent>, description = "All agents, revoked ones too")))]
async fn list(Shared(state): Shared<State>, Extension(caller): Extension<Caller>) -> ApiResult<Json<Vec<wire::Agent>>> {
    let now = state.services.clock.now();
    let agents = agents::list(&state.services, &caller).await?;
    Ok(Json(agents.into_iter().map(|agent| wire::Agent::of(agent, now)).collect()))
}

/// Invite an outside agent
///
/// Send the code to the agent: it registers with it, once, at `POST /api/v1/work/register`. Needs the right `people`.
#[utoipa::path(post, path = "/api/v1/agents", tag = "agents", request_body = wire::NewAgent,
    responses((status = 201, body = wire::Invitation, description = "The code, which is shown only here")))]
async fn invite(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<wire::NewAgent>,
) -> ApiResult<(StatusCode, Json<wire::Invitation>)> {
    let invited = agents::invite(&state.services, &caller, &new.name, new.owner.as_deref(), new.hours).await?;
    let agent = wire::Agent::of(invited.agent, state.services.clock.now());
    Ok((StatusCode::CREATED, Json(wire::Invitation { code: invited.code.expose().to_owned(), agent })))
}

/// Revoke an outside agent
///
/// Its token and its invite code stop working at once, and the offers that it holds are open again. What it has
/// delivered stays. Needs the right `people`.
#[utoipa::path(post, path = "/api/v1/agents/{name}/revoke", tag = "agents",
    params(("name" = String, description = "The agent's name")),
    responses((status = 200, body = wire::Agent, description = "Revoked")))]
async fn revoke(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<Json<wire::Agent>> {
    let agent = agents::revoke(&state.services, &caller, &name).await?;
    Ok(Json(wire::Agent::of(agent, state.services.clock.now())))
}

/// Query for ratings.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Only from outcomes of this project.
    project: Option<String>,
}

/// List the ratings of engines and outside agents
///
/// Glicko-2 over verified outcomes, the best-proven first. Those without enough outcomes come last, by name.
#[utoipa::path(get, path = "/api/v1/ratings", tag = "agents", params(Which),
    responses((status = 200, body = Vec<wire::Rating>, description = "The ratings")))]
async fn rate(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Which>,
) -> ApiResult<Json<Vec<wire::Rating>>> {
    let ratings = ratings::list(&state.services, &caller, query.project.as_deref()).await?;
    Ok(Json(ratings.into_iter().map(Into::into).collect()))
}
