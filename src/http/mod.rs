//! REST: projects, runs, their events and artifacts, and what people say to them. Talks to the actors by message, to the store by
//! its views.
//!
//! | file | duty |
//! |---|---|
//! | `auth` | who may talk: Host, Origin, token |
//! | `limits` | how long, how much; the span and the headers of every answer |
//! | `problem` | every error as an RFC 9457 problem |
//! | `find` | a run by its shortened id, ETags |
//! | `runs` `artifacts` `actions` `budget` `projects` `secrets` `changes` `stream` `health` | the routes |
//! | `openapi` `shapes` `view` | what is documented, and the shapes of it |
//! | `serve` | the listener |

mod actions;
mod artifacts;
mod auth;
pub mod backend;
mod budget;
mod changes;
mod find;
mod health;
mod limits;
mod openapi;
mod problem;
mod projects;
mod results;
mod runs;
mod secrets;
mod serve;
pub mod shapes;
mod stream;
pub mod view;

pub use auth::{LOOPBACK, OPEN};
pub use serve::serve;

use crate::actors::{DefaultsNow, Notifications, RuntimeHandle};
use crate::domain::{CheckSpec, Principal};
use crate::ports::{Clock, HumanActions, Isolation, Store, Vault, Workspaces};
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

/// Makes checks of command lines.
pub type ChecksFrom = Arc<dyn Fn(&[String]) -> Vec<CheckSpec> + Send + Sync>;

/// What REST is given.
#[derive(Clone)]
pub struct State {
    /// The runtime.
    pub factory: RuntimeHandle,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The truth, to read; and to write projects and shared budgets.
    pub store: Arc<dyn Store>,
    /// The person's side of the local forge.
    pub people: Arc<dyn HumanActions>,
    /// The secrets people gave: written here, never shown.
    pub vault: Arc<dyn Vault>,
    /// Git, to look at a new project's repository and at diffs.
    pub workspaces: Arc<dyn Workspaces>,
    /// News for event streams.
    pub notifications: Notifications,
    /// The bearer token.
    pub token: Arc<str>,
    /// Who the bearer of the token is.
    pub principal: Principal,
    /// The names this service answers to, without port; IPv6 addresses in brackets.
    pub hosts: Arc<[String]>,
    /// Makes checks of command lines.
    pub checks_from: ChecksFrom,
    /// What new projects are born with.
    pub defaults: DefaultsNow,
    /// The walls around commands.
    pub sandbox: Arc<dyn Isolation>,
    /// When the service was started.
    pub started_at: Instant,
    /// Places for event streams: `server.max_streams` of them.
    pub streams: Arc<Semaphore>,
}

/// The service.
pub fn router(state: State) -> Router {
    let (routes, mut document) = OpenApiRouter::with_openapi(openapi::document())
        .merge(health::routes())
        .merge(openapi::routes())
        .merge(projects::routes())
        .merge(results::routes())
        .merge(secrets::routes())
        .merge(changes::routes())
        .merge(runs::routes())
        .merge(artifacts::routes())
        .merge(actions::routes())
        .merge(budget::routes())
        .merge(stream::routes())
        .split_for_parts();
    openapi::with_problems(&mut document);
    routes
        .fallback(limits::not_found)
        .method_not_allowed_fallback(limits::not_allowed)
        // The last one named is the first one passed.
        .layer(from_fn(limits::bounded))
        .layer(from_fn_with_state(state.clone(), auth::guard_token))
        .layer(from_fn_with_state(state.clone(), auth::guard_host))
        .layer(CatchPanicLayer::custom(limits::panicked))
        .layer(from_fn(problem::everywhere))
        .layer(from_fn(limits::observed))
        .layer(axum::Extension(openapi::Document::of(&document)))
        .with_state(state)
}
