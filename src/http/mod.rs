//! HTTP: the surfaces of the service, and what protects all of them.
//!
//! | module | duty |
//! |---|---|
//! | `backend` | how a client in this process reaches the routes |
//! | `auth` | Host and Origin allow-list; the caller of a bearer token |
//! | `limits` | sizes and time limits; span and headers of every response |
//! | `rest` | the REST interface |
//! | `mcp` | the Model Context Protocol |
//! | `pages` | the pages for people |
//! | `public` | the status of public deployments, for everyone |
//! | `webhooks` | what forges report |
//! | `serve` | the listener |
//!
//! Invariant: handlers parse, call `service`, and render. They contain no product rule.

mod auth;
pub mod backend;
mod limits;
pub mod mcp;
mod pages;
mod public;
pub mod rest;
mod serve;
mod webhooks;

pub use auth::{LOOPBACK, OPEN, Peer, TrustedProxy};
pub use serve::serve;

use crate::service::{Callers, Right, Services};
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;

/// State of the HTTP surfaces.
#[derive(Clone)]
pub struct State {
    /// Use cases.
    pub services: Services,
    /// Callers by token.
    pub callers: Callers,
    /// Rights that an agent has over the Model Context Protocol, if its token has them, too.
    pub agent_rights: Arc<BTreeSet<Right>>,
    /// Host names this service answers to, without port; IPv6 addresses in brackets.
    pub hosts: Arc<[String]>,
    /// Proxy that logs people in.
    pub proxy: Option<TrustedProxy>,
    /// Permits for event streams: `server.max_streams` of them.
    pub streams: Arc<Semaphore>,
}

/// Builds the router of `telemetry.metrics_listen`: the metrics alone, without a token.
pub fn metrics_router(state: State) -> Router {
    rest::metrics::open_routes()
        .fallback(limits::not_found)
        .layer(from_fn(limits::bounded))
        .layer(from_fn_with_state(state.clone(), auth::guard_host))
        .layer(from_fn(limits::small_head))
        .layer(CatchPanicLayer::custom(limits::panicked))
        .layer(from_fn(rest::problem::everywhere))
        .layer(from_fn(limits::closed))
        .with_state(state)
}

/// Builds the router of all surfaces. Each surface has its own guards and headers: a token never opens a page, and a
/// session never opens the REST interface.
pub fn router(state: State) -> Router {
    let (routes, document) = rest::routes();
    let rest = routes
        .merge(mcp::routes(&state))
        .fallback(limits::not_found)
        .method_not_allowed_fallback(limits::not_allowed)
        // A request passes the layers from the last to the first.
        .layer(from_fn(limits::bounded))
        .layer(from_fn_with_state((state.clone(), auth::RefusedTokens::default()), auth::guard_token))
        .layer(from_fn_with_state(state.clone(), auth::guard_host))
        .layer(from_fn(limits::small_head))
        .layer(CatchPanicLayer::custom(limits::panicked))
        .layer(from_fn(rest::problem::everywhere))
        .layer(from_fn(limits::closed))
        .layer(from_fn(limits::observed))
        .layer(from_fn_with_state(state.clone(), pages::missing))
        .layer(axum::Extension(document));
    let webhooks = webhooks::routes()
        .layer(from_fn_with_state(state.clone(), auth::guard_host))
        .layer(from_fn(limits::small_head))
        .layer(CatchPanicLayer::custom(limits::panicked))
        .layer(from_fn(rest::problem::everywhere))
        .layer(from_fn(limits::closed))
        .layer(from_fn(limits::observed));
    let public = public::routes()
        .layer(from_fn(limits::bounded))
        // Pages of other sites may show the badge.
        .layer(from_fn_with_state(state.clone(), auth::guard_host_name))
        .layer(from_fn(limits::small_head))
        .layer(CatchPanicLayer::custom(limits::panicked))
        .layer(from_fn(rest::problem::everywhere))
        .layer(from_fn(public::headers))
        .layer(from_fn(limits::observed));
    rest.merge(pages::router(&state)).merge(webhooks).merge(public).with_state(state)
}
