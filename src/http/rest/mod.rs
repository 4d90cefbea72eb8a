//! REST interface under `/api/v1`, with its OpenAPI document. Each handler parses, calls one function of `service`, and
//! renders.

mod accounts;
mod actions;
mod agents;
mod artifacts;
mod audit;
mod body;
mod budgets;
mod changes;
mod checks;
mod ci;
mod deployments;
mod etag;
mod forges;
mod health;
mod improve;
mod memories;
pub(super) mod metrics;
mod openapi;
mod outcomes;
pub mod problem;
mod projects;
mod results;
mod runs;
mod schedules;
mod secrets;
mod sessions;
mod stream;
pub mod wire;
mod work;

use super::State;
use axum::Router;
use utoipa_axum::router::OpenApiRouter;

/// Builds the routes and the document that describes them.
pub(super) fn routes() -> (Router<State>, openapi::Document) {
    let (routes, mut document) = OpenApiRouter::with_openapi(openapi::document())
        .merge(health::routes())
        .merge(metrics::routes())
        .merge(openapi::routes())
        .merge(projects::routes())
        .merge(checks::routes())
        .merge(results::routes())
        .merge(secrets::routes())
        .merge(changes::routes())
        .merge(ci::routes())
        .merge(forges::routes())
        .merge(runs::routes())
        .merge(artifacts::routes())
        .merge(actions::routes())
        .merge(budgets::routes())
        .merge(outcomes::routes())
        .merge(improve::routes())
        .merge(memories::routes())
        .merge(stream::routes())
        .merge(audit::routes())
        .merge(sessions::routes())
        .merge(accounts::routes())
        .merge(schedules::routes())
        .merge(deployments::routes())
        .merge(agents::routes())
        .merge(work::routes())
        .split_for_parts();
    openapi::with_problems(&mut document);
    (routes, openapi::Document::of(&document))
}
