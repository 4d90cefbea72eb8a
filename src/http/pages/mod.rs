//! Pages for people, rendered here and complete without JavaScript.
//!
//! | module | duty |
//! |---|---|
//! | `guard` | where a request comes from, whose session it has, headers, errors as pages |
//! | `visit` | the person of a request, preferences, and forms with their token |
//! | `shell`, `look` | the frame of every page; how single facts look |
//! | `parts` | diffs, logs, charts: text in, markup out, without I/O |
//! | `live` | the stream on which open pages learn that something moved |
//! | others | one page each |
//!
//! The module in `assets/skep.js` only saves reloading: when the stream reports that a run moved, it fetches the same
//! page again and replaces what differs. There is no second way to draw anything.
//!
//! Invariant: reading changes nothing but which changes of a run its reader saw; every other change is a form that calls
//! the function that REST calls.
//! Invariant: what comes from outside is text. Links to other sites are checked in `look::outside`; classes, ids and
//! addresses on this site are made from ids and fixed words only.
//! Invariant: every list and every text on a page is bounded, and is marked when it is cut.

mod agents;
mod assets;
mod audit;
mod changes;
mod cost;
mod deployments;
mod events;
mod guard;
mod inbox;
mod live;
mod login;
mod look;
mod me;
mod menu;
mod output;
mod own_messages;
mod parts;
mod people;
mod problem;
mod projects;
mod question;
mod run;
mod run_parts;
mod runs;
mod settings;
mod shell;
mod single_sign_on;
mod spending;
mod start;
mod visit;

pub use guard::missing;

use super::{State, limits};
use crate::service::single_sign_on::CALLBACK;
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, LOCATION};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

/// Builds the routes of the pages with their guards.
pub fn router(state: &State) -> Router<State> {
    Router::new()
        .route("/", get(inbox::inbox))
        .route("/runs", get(runs::list).post(start::open))
        .route("/runs/new", get(start::form))
        .route("/runs/{id}", get(run::overview))
        .route("/runs/{id}/changes", get(changes::changes))
        .route("/runs/{id}/output", get(output::list))
        .route("/runs/{id}/output/{digest}", get(output::show))
        .route("/runs/{id}/events", get(events::events))
        .route("/runs/{id}/cost", get(cost::cost))
        .route("/runs/{id}/{action}", post(run::act))
        .route("/q/{run}/{block}", get(question::show).post(question::answer))
        .route("/projects", get(projects::list))
        .route("/projects/{name}", get(projects::show))
        .route("/spending", get(spending::spending))
        .route("/deployments", get(deployments::list))
        .route("/deployments/{target}", get(deployments::show))
        .route("/deployments/{target}/{part}", get(deployments::report).post(deployments::act))
        .route("/agents", get(agents::list))
        .route("/audit", get(audit::audit))
        .route("/menu", get(menu::menu))
        .route("/settings", get(settings::health))
        .route("/settings/{part}", get(settings::part))
        .route("/me", get(me::show))
        .route("/me/messages", post(own_messages::choose))
        .route("/me/messages/{action}", post(own_messages::act))
        .route("/me/tokens", post(me::create_token))
        .route("/me/tokens/{id}/{action}", post(me::change_token))
        .route("/me/sessions/end-others", post(me::end_others))
        .route("/me/sessions/{id}/end", post(me::end_session))
        .route("/people", get(people::list).post(people::add))
        .route("/people/{name}/{action}", post(people::change))
        .route("/people/tokens/{id}/revoke", post(people::revoke_token))
        .route("/prefs", post(login::prefs))
        .route("/login", get(login::page))
        .route("/login/link/{code}", get(login::link).post(login::log_in))
        .route(single_sign_on::START, get(single_sign_on::begin))
        .route(CALLBACK, get(single_sign_on::finish))
        .route("/logout", post(login::log_out))
        .route("/live", get(live::live))
        .route("/assets/{name}", get(assets::asset))
        .route("/favicon.svg", get(assets::icon))
        // A request passes the layers from the last to the first.
        .layer(from_fn(limits::bounded))
        .layer(CatchPanicLayer::custom(limits::panicked))
        .layer(from_fn_with_state(state.clone(), guard::guard))
        .layer(from_fn(limits::small_head))
        .layer(from_fn(limits::observed))
}

/// Returns whether a page needs no session.
fn is_open(path: &str) -> bool {
    ["/login", single_sign_on::START, CALLBACK, "/favicon.svg"].contains(&path)
        || path.starts_with("/login/link/")
        || path.starts_with("/assets/")
}

/// Leads to another page after a form.
fn see_other(path: &str) -> Response {
    match HeaderValue::from_str(path) {
        Ok(path) => (StatusCode::SEE_OTHER, [(LOCATION, path)]).into_response(),
        // A path is made from ids and encoded text, so it always fits.
        Err(_) => (StatusCode::SEE_OTHER, [(LOCATION, HeaderValue::from_static("/"))]).into_response(),
    }
}
