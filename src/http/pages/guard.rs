//! Guards of the pages: Host and origin, the session of the cookie, the token in every form, and the headers of every
//! response.
//!
//! A page may be opened by a link on another site; everything else must come from a page of this service. A form must
//! prove that twice: by the headers that browsers add, and by a token that only this session's pages contain.

use super::State;
use super::problem::PageError;
use super::shell;
use super::visit::{PREFS_COOKIE, SESSION_COOKIES, Visit};
use crate::http::auth;
use crate::service::{ErrorKind, ServiceError, people, sessions};
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request, State as Shared};
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, ETAG, IF_NONE_MATCH, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cookie::Cookie;
use sha2::{Digest, Sha256};

/// Maximum bytes of a page; the parts of a page are bounded far below.
const MAX_PAGE_BYTES: usize = 8 << 20;

/// No page runs inline script or style, loads anything from elsewhere, or is framed. `skep` is the one policy of the
/// module: it parses a page that it fetched again.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types skep";

const HEADERS: [(HeaderName, HeaderValue); 7] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ),
];

/// Checks where the request comes from, finds its person, and renders errors as pages.
pub async fn guard(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let mut response = match admit(&state, &parts).await {
        Ok(Admitted::Visit(visit)) => {
            parts.extensions.insert(visit.clone());
            let known = parts.headers.get(IF_NONE_MATCH).cloned();
            let is_get = parts.method.is_safe();
            let response = rendered(&visit, next.run(Request::from_parts(parts, body)).await).await;
            if is_get { tagged(response, known.as_ref()).await } else { response }
        }
        Ok(Admitted::Elsewhere(response)) => response,
        Err((visit, error)) => rendered(&visit, error.into_response()).await,
    };
    protect(response.headers_mut());
    response
}

/// Answers a browser with a page where no route has the address; other clients get the answer of the interface.
pub async fn missing(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let accepts_page = |accept: &HeaderValue| accept.to_str().is_ok_and(|types| types.contains("text/html"));
    let wants_page = request.method() == Method::GET && request.headers().get_all(ACCEPT).iter().any(accepts_page);
    if !wants_page || request.extensions().get::<MatchedPath>().is_some() {
        return next.run(request).await;
    }
    let (parts, _) = request.into_parts();
    let mut response = match admit(&state, &parts).await {
        Ok(Admitted::Visit(visit)) => rendered(&visit, StatusCode::NOT_FOUND.into_response()).await,
        Ok(Admitted::Elsewhere(response)) => response,
        Err((visit, error)) => rendered(&visit, error.into_response()).await,
    };
    protect(response.headers_mut());
    response
}

/// Adds what every page has.
fn protect(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, value);
    }
    // The back button works, but nothing is shown without asking: the session may have ended.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
}

enum Admitted {
    Visit(Visit),
    /// The request ends here.
    Elsewhere(Response),
}

async fn admit(state: &State, request: &Parts) -> Result<Admitted, (Visit, PageError)> {
    let headers = &request.headers;
    let path = request.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let mut visit = Visit::anonymous(&path, cookie(headers, &[PREFS_COOKIE]).as_deref(), state.services.clock.now());
    let checked = auth::check_host(&state.hosts, headers, &request.uri);
    let authority = match checked {
        Ok(authority) => authority.to_owned(),
        Err(error) => return Ok(Admitted::Elsewhere(error.into_response())),
    };
    if let Err(error) = check_source(&authority, request) {
        return Err((visit, error));
    }
    let is_open = super::is_open(request.uri.path());
    let proxied = match auth::proxied_person(state.proxy.as_ref(), headers, &request.extensions) {
        Ok(proxied) => proxied,
        Err(error) => return Ok(Admitted::Elsewhere(error.into_response())),
    };
    if let (Some(name), Some(proxy)) = (proxied, &state.proxy) {
        // The proxy takes precedence: whoever opened the session may have logged out there since.
        match people::proxied(&state.services, name).await {
            Ok(caller) => visit = visit.of_proxied(caller, proxy.form_secret(name)),
            Err(error) => return Err((visit, error.into())),
        }
    } else if let Some(secret) = cookie(headers, &SESSION_COOKIES) {
        match sessions::caller(&state.services, &secret).await {
            Ok(Some(caller)) => visit = visit.of(caller, secret),
            Ok(None) => {}
            Err(error) => return Err((visit, error.into())),
        }
    }
    if is_open || visit.caller().is_some() {
        return Ok(Admitted::Visit(visit));
    }
    if request.method == Method::GET {
        // A browser does not send the cookie after a link on another site. It does when this page leads on.
        let came_from_elsewhere = headers.get("sec-fetch-site").is_some_and(|s| s == "cross-site" || s == "same-site");
        if came_from_elsewhere {
            return Ok(Admitted::Elsewhere(shell::lead_on(&visit, visit.path())));
        }
        let login = format!("/login?next={}", super::look::in_query(&path));
        return Ok(Admitted::Elsewhere(super::see_other(&login)));
    }
    let detail = "you are not logged in, or your session has ended";
    let error = ServiceError::forbidden("no_session", detail, "Log in again; nothing was changed");
    Err((visit, error.into()))
}

/// Lets links of other sites open pages, and refuses everything else that other sites send.
fn check_source(authority: &str, request: &Parts) -> Result<(), PageError> {
    let headers = &request.headers;
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|v| v == value);
    let opens_page = request.method == Method::GET
        && !headers.contains_key(ORIGIN)
        && is("sec-fetch-mode", "navigate")
        && is("sec-fetch-dest", "document");
    let proves_origin = headers.contains_key(ORIGIN) || is("sec-fetch-site", "same-origin");
    if opens_page || (auth::check_origin(authority, headers).is_ok() && (request.method.is_safe() || proves_origin)) {
        return Ok(());
    }
    Err(ServiceError::forbidden(
        "origin",
        "the request does not come from a page of this service; nothing was changed",
        "Open the page here and send the form again",
    )
    .into())
}

/// Returns the value of the first of these cookies that the request carries.
pub fn cookie(headers: &HeaderMap, names: &[&str]) -> Option<String> {
    let values = headers.get_all(COOKIE).iter().filter_map(|v| v.to_str().ok());
    let cookies: Vec<Cookie<'_>> = values.flat_map(Cookie::split_parse).filter_map(Result::ok).collect();
    names.iter().find_map(|name| cookies.iter().find(|c| c.name() == *name)).map(|c| c.value().to_owned())
}

/// Renders an error that a handler or an extractor returned.
async fn rendered(visit: &Visit, response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(error) = parts.extensions.remove::<PageError>() {
        return (parts.status, shell::problem(visit, &error)).into_response();
    }
    let is_error = parts.status.is_client_error() || parts.status.is_server_error();
    let is_page = parts.headers.get(CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"text/html"));
    if !is_error || is_page {
        return Response::from_parts(parts, body);
    }
    // A refusal of the router or of an extractor, in its words.
    let error = match parts.status {
        StatusCode::NOT_FOUND => ServiceError::not_found("no_page", "there is no such page", "Start from the inbox"),
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::BAD_REQUEST => {
            ServiceError::new(ErrorKind::Malformed, "bad_request", "the request cannot be read", "Send the form again")
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            ServiceError::new(ErrorKind::Malformed, "too_large", "the form is larger than 1 MiB", "Shorten the text")
        }
        StatusCode::GATEWAY_TIMEOUT => {
            let fix = "Check whether the action happened, then try again";
            ServiceError::unavailable("the time limit is over; the action may still happen", fix)
        }
        _ => ServiceError::unavailable("the page cannot be shown; the log has the details", "Try again"),
    };
    (parts.status, shell::problem(visit, &PageError::from(error))).into_response()
}

/// Adds an ETag to a page, and leaves its body out if the browser has it.
async fn tagged(response: Response, known: Option<&HeaderValue>) -> Response {
    let is_page = response.headers().get(CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"text/html"));
    if response.status() != StatusCode::OK || !is_page {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, MAX_PAGE_BYTES).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let digest: String = Sha256::digest(&bytes).iter().take(12).map(|b| format!("{b:02x}")).collect();
    let Ok(tag) = HeaderValue::from_str(&format!("\"{digest}\"")) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    let is_known = known.is_some_and(|k| k == tag);
    parts.headers.insert(ETAG, tag);
    if is_known {
        parts.status = StatusCode::NOT_MODIFIED;
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// Returns the scheme that the browser sees, from the header that it adds to forms.
pub fn is_https(headers: &HeaderMap) -> bool {
    headers.get(ORIGIN).is_some_and(|o| o.as_bytes().starts_with(b"https://"))
}
