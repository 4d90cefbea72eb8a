//! What anyone may read of a public target: its status, as JSON and as a badge. A target that is not public answers like
//! one that does not exist.

use super::State;
use super::limits;
use super::rest::problem::{ApiError, ApiResult};
use crate::service::deployments::{self, DeploymentView};
use axum::extract::Request;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Requests that are answered in a window.
const MAX_REQUESTS: u32 = 600;
const WINDOW: Duration = Duration::from_secs(60);
const CACHED: (HeaderName, &str) = (CACHE_CONTROL, "public, max-age=60");

/// Requests in the present window.
#[derive(Clone)]
struct Rate(Arc<Mutex<(Instant, u32)>>);

/// Builds the routes.
pub fn routes() -> Router<State> {
    let rate = Rate(Arc::new(Mutex::new((Instant::now(), 0))));
    Router::new()
        .route("/api/v1/public/{target}/deployment", get(status))
        .route("/api/v1/public/{target}/badge.json", get(badge_json))
        .route("/api/v1/public/{target}/badge.svg", get(badge_svg))
        .method_not_allowed_fallback(limits::not_allowed)
        .layer(axum::Extension(rate))
}

/// Adds the headers of all responses. Other sites may show them, and nothing in them is carried out.
pub async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn find(state: &State, rate: &Rate, target: &str) -> ApiResult<(DeploymentView, Vec<String>)> {
    {
        let mut window = rate.0.lock().await;
        if window.0.elapsed() > WINDOW {
            *window = (Instant::now(), 0);
        }
        window.1 += 1;
        if window.1 > MAX_REQUESTS {
            let detail = format!("there were more than {MAX_REQUESTS} requests in a minute");
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many", detail, "Wait a minute"));
        }
    }
    let found = deployments::public(&state.services, target).await?;
    found.ok_or_else(|| {
        let detail = "there is no public target of this name";
        ApiError::new(StatusCode::NOT_FOUND, "no_target", detail, "Check the name")
    })
}

async fn status(
    Shared(state): Shared<State>,
    axum::Extension(rate): axum::Extension<Rate>,
    Path(target): Path<String>,
) -> ApiResult<Response> {
    let (view, sponsors) = find(&state, &rate, &target).await?;
    let d = &view.deployment;
    let body = json!({
        "target": view.target.name,
        "project": view.target.project.as_str(),
        "status": view.status.name(),
        "kind": view.target.method.kind(),
        "url": view.target.url,
        "sha7": d.sha.as_ref().map(|sha| sha.as_str().get(..7).unwrap_or_default()),
        "since": d.changed_at.0,
        "sponsors": sponsors,
    });
    Ok(([CACHED], Json(body)).into_response())
}

/// Returns the color of a status: its name for shields.io, and its value.
fn color(status: &str) -> (&'static str, &'static str) {
    match status {
        "live" => ("brightgreen", "#2f7d32"),
        "ready" | "sponsored" => ("blue", "#1f5fa8"),
        "suspended" => ("red", "#b3261e"),
        _ => ("lightgrey", "#6b6b6b"),
    }
}

async fn badge_json(
    Shared(state): Shared<State>,
    axum::Extension(rate): axum::Extension<Rate>,
    Path(target): Path<String>,
) -> ApiResult<Response> {
    let (view, _) = find(&state, &rate, &target).await?;
    let status = view.status.name();
    let body = json!({ "schemaVersion": 1, "label": view.target.name, "message": status, "color": color(status).0 });
    Ok(([CACHED], Json(body)).into_response())
}

async fn badge_svg(
    Shared(state): Shared<State>,
    axum::Extension(rate): axum::Extension<Rate>,
    Path(target): Path<String>,
) -> ApiResult<Response> {
    let (view, _) = find(&state, &rate, &target).await?;
    // Names of targets and statuses need no escaping.
    let (label, status) = (&view.target.name, view.status.name());
    let width = |text: &str| 10 + 7 * text.len();
    let (left, right) = (width(label), width(status));
    let (all, fill) = (left + right, color(status).1);
    let (middle_left, middle_right) = (left / 2, left + right / 2);
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all}\" height=\"20\" role=\"img\" \
         aria-label=\"{label}: {status}\"><title>{label}: {status}</title>\
         <rect width=\"{left}\" height=\"20\" fill=\"#444\"/>\
         <rect x=\"{left}\" width=\"{right}\" height=\"20\" fill=\"{fill}\"/>\
         <g fill=\"#fff\" text-anchor=\"middle\" font-family=\"Verdana,sans-serif\" font-size=\"11\">\
         <text x=\"{middle_left}\" y=\"14\">{label}</text><text x=\"{middle_right}\" y=\"14\">{status}</text></g></svg>"
    );
    Ok(([CACHED, (CONTENT_TYPE, "image/svg+xml")], svg).into_response())
}
