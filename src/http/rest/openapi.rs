//! OpenAPI document, generated from the handlers.

use super::{State, wire};
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa::Modify;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Ref, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Head of the document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Skep",
        description = "Projects, runs with their events and artifacts, and the actions of people on them.\n\nEvery error is an \
            RFC 9457 problem with a stable `code` and a `fix`. A run's ETag is the number of its last event: send it as \
            `If-Match` with an action to act only on what you have seen (412 if the run has moved on). Actions may be repeated: \
            one that has happened already responds 200 with the run as it is. A run's id may be shortened to four or more of its \
            first or last digits. Times are milliseconds since 1970, amounts of money are micro-USD.",
        license(name = "MIT OR Apache-2.0")
    ),
    security(("token" = [])),
    components(schemas(wire::Problem, wire::Output, wire::End)),
    modifiers(&Token),
    tags(
        (name = "runs", description = "Goals on their way to an outcome"),
        (name = "actions", description = "Actions on runs"),
        (name = "budget", description = "Spending, and budgets that runs share"),
        (name = "memory", description = "What ended runs have shown, and what attempts were given of it"),
        (name = "improvement", description = "Verified outcomes, and proposals for what makes runs fail"),
        (name = "checks", description = "Checks of a repository, without a run"),
        (name = "projects", description = "Repositories with their policy, checks and engines"),
        (name = "secrets", description = "Secrets: stored and used, never shown"),
        (name = "changes", description = "Changes (pull requests) of the local forge"),
        (name = "audit", description = "Who changed what"),
        (name = "sessions", description = "Logging in to the pages"),
        (name = "schedules", description = "Goals that become runs at certain times"),
        (name = "deployments", description = "Targets, rollouts and sponsors"),
        (name = "agents", description = "Outside agents, and ratings of engines and agents"),
        (name = "work", description = "Open work for outside agents"),
        (name = "people", description = "People, their roles, and access tokens"),
        (name = "health", description = "Probes"),
    )
)]
struct Head;

struct Token;

impl Modify for Token {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The token of the data directory, created at the first start; never part of an address"))
            .build();
        api.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Returns the document without its routes.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut api = Head::openapi();
    api.info.version = env!("CARGO_PKG_VERSION").to_owned();
    api
}

/// Adds the problem response to every operation in one place, so that no handler can forget it.
pub fn with_problems(api: &mut utoipa::openapi::OpenApi) {
    let problem = || {
        ResponseBuilder::new()
            .description("A problem; its `code` is stable, its `fix` says what to do")
            .content("application/problem+json", Content::new(Some(Ref::from_schema_name("Problem"))))
            .build()
    };
    for item in api.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), problem().into());
        }
    }
}

/// Serialized document.
#[derive(Clone)]
pub struct Document(Bytes);

impl Document {
    /// Serializes a document.
    pub fn of(api: &utoipa::openapi::OpenApi) -> Document {
        // It consists of strings and lists, which always serialize; a test reads it.
        Document(api.to_json().unwrap_or_default().into())
    }
}

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::default().routes(routes!(openapi))
}

/// Get this document
#[utoipa::path(get, path = "/openapi.json", tag = "health", security(()), responses(
    (status = 200, description = "OpenAPI 3.1", body = Object),
))]
async fn openapi(axum::Extension(document): axum::Extension<Document>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], document.0)
}
