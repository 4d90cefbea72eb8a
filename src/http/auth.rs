//! Guards of every route: the Host and Origin allow-list (against DNS rebinding and CSRF), the header of the trusted
//! proxy, and the bearer token.

use super::State;
use super::rest::problem::ApiError;
use crate::secrets::Key;
use crate::service::ServiceResult;
use crate::service::tokens::{self, TokenCaller};
use axum::extract::{Request, State as Shared};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{Extensions, HeaderMap, HeaderName, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Routes that need no token. Everything else does, unknown routes included.
pub const OPEN: &[&str] = &["/health", "/health/live", "/health/ready", "/openapi.json"];

/// Header of responses to a token that ends within a week: when it ends.
const TOKEN_ENDS: HeaderName = HeaderName::from_static("skep-token-ends");
/// Time over which refused tokens are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Refused tokens after which others in the same window are answered 429.
const MAX_REFUSED: u64 = 100;

/// Names under which this machine reaches itself: allowed in any configuration.
pub const LOOPBACK: &[&str] = &["localhost", "127.0.0.1", "[::1]"];

/// Refuses requests that were meant for another host, come from another origin's page, or pretend to come from the
/// trusted proxy.
pub async fn guard_host(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let checked = check_host(&state.hosts, request.headers(), request.uri())
        .and_then(|authority| check_origin(authority, request.headers()))
        .and_then(|()| proxied_person(state.proxy.as_ref(), request.headers(), request.extensions()));
    match checked {
        Ok(_) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Refuses requests that were meant for another host. Other sites may lead to what it guards.
pub async fn guard_host_name(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    match check_host(&state.hosts, request.headers(), request.uri()) {
        Ok(_) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Address of the peer of a connection. Requests from this process have none.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Proxy that logs people in, and names them in a header of each request.
#[derive(Clone, Debug)]
pub struct TrustedProxy {
    address: IpAddr,
    header: HeaderName,
    /// Makes the tokens of the forms of people whom the proxy names, which have no session.
    key: Arc<Key>,
}

impl TrustedProxy {
    /// Creates it with a new key.
    ///
    /// # Errors
    /// If the header is not one, or the system provides no random bytes.
    pub fn new(address: IpAddr, header: &str) -> Result<TrustedProxy, String> {
        let header = header.parse().map_err(|_| format!("{header:?} is not the name of a header"))?;
        let key = Key::generate().map_err(|e| format!("no random bytes: {e}"))?;
        Ok(TrustedProxy { address, header, key: Arc::new(key) })
    }

    /// Returns a secret of this process for a person.
    pub fn form_secret(&self, person: &str) -> String {
        let digest = Sha256::digest(format!("{}\0{person}", *self.key.to_hex()));
        digest.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// Returns the name of the person whom the trusted proxy says the request is from.
///
/// # Errors
/// `proxy_header` if another peer sends the header, or it has several values.
pub fn proxied_person<'a>(
    proxy: Option<&TrustedProxy>,
    headers: &'a HeaderMap,
    extensions: &Extensions,
) -> Result<Option<&'a str>, ApiError> {
    let Some(proxy) = proxy else { return Ok(None) };
    let refused = |detail: String, fix: &str| ApiError::new(StatusCode::BAD_REQUEST, "proxy_header", detail, fix);
    let mut values = headers.get_all(&proxy.header).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let is_proxy = extensions.get::<Peer>().is_some_and(|peer| peer.0.to_canonical() == proxy.address.to_canonical());
    if !is_proxy {
        let detail = format!("the header {} is accepted from the trusted proxy only", proxy.header);
        return Err(refused(detail, "Send the request without it, or through the proxy"));
    }
    match (value.to_str(), values.next()) {
        (Ok(name), None) => Ok(Some(name)),
        _ => Err(refused(
            format!("the header {} has no usable value, or several", proxy.header),
            "Let the proxy replace the header that clients send",
        )),
    }
}

/// Requests that were refused for their token.
#[derive(Clone, Debug, Default)]
pub struct RefusedTokens(Arc<Mutex<Refused>>);

#[derive(Debug, Default)]
struct Refused {
    /// Since the start.
    total: u64,
    /// Start of the present window, and the refusals in it.
    window: Option<Instant>,
    in_window: u64,
}

impl RefusedTokens {
    /// Counts a refusal, logs the first one of each window, and returns whether the window has had too many.
    fn record(&self, peer: Option<Peer>) -> bool {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.total += 1;
        let is_new = refused.window.is_none_or(|start| start.elapsed() > WINDOW);
        if is_new {
            let (total, before) = (refused.total, refused.in_window);
            let peer = peer.map_or_else(|| "this process".to_owned(), |peer| peer.0.to_string());
            tracing::warn!(peer, total, in_last_minute = before, "a request with a wrong or missing token was refused");
            (refused.window, refused.in_window) = (Some(Instant::now()), 0);
        }
        refused.in_window += 1;
        // A valid token is always accepted, so failed logins cannot lock its owner out.
        peer.is_some() && refused.in_window > MAX_REFUSED
    }
}

/// Refuses requests without a valid token, and attaches the [`Caller`] of the token to the others.
pub async fn guard_token(
    Shared((state, refused)): Shared<(State, RefusedTokens)>,
    mut request: Request,
    next: Next,
) -> Response {
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let caller = match caller(&state, request.headers()).await {
        Ok(caller) => caller,
        Err(error) => return ApiError::from(error).into_response(),
    };
    let Some(TokenCaller { caller, ends_soon }) = caller else {
        if refused.record(request.extensions().get::<Peer>().copied()) {
            return ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_refused",
                "too many requests without a valid token",
                "Correct the token and try again in a minute; requests with a valid token are not affected",
            )
            .into_response();
        }
        let error = ApiError::new(
            StatusCode::UNAUTHORIZED,
            "no_token",
            "a valid bearer token is required",
            "Send `Authorization: Bearer <token>`; the token is in the file `token` of the data directory, or in server.token_file",
        );
        // RFC 6750, section 3.
        return ([(WWW_AUTHENTICATE, "Bearer")], error).into_response();
    };
    request.extensions_mut().insert(caller);
    let mut response = next.run(request).await;
    let ends = ends_soon.and_then(|at| chrono::DateTime::from_timestamp_millis(at.0));
    if let Some(ends) = ends.and_then(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true).parse().ok()) {
        response.headers_mut().insert(TOKEN_ENDS, ends);
    }
    response
}

/// Returns the host and port that the request was sent to, if they are this service's.
pub fn check_host<'a>(hosts: &[String], headers: &'a HeaderMap, uri: &Uri) -> Result<&'a str, ApiError> {
    let mut values = headers.get_all(HOST).iter();
    let (Some(authority), None) = (values.next(), values.next()) else {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "host", "exactly one Host header is required", "Send it"));
    };
    let authority = authority.to_str().unwrap_or_default();
    let is_ours = |authority: &str| hosts.iter().any(|h| h.eq_ignore_ascii_case(host_name(authority)));
    if !is_ours(authority) || uri.authority().is_some_and(|a| !is_ours(a.as_str())) {
        return Err(ApiError::new(
            StatusCode::MISDIRECTED_REQUEST,
            "host",
            "this service does not answer to that Host",
            "Use one of its names, or add this one to the allowed hosts in the configuration",
        ));
    }
    Ok(authority)
}

/// Refuses requests of another origin's page.
pub fn check_origin(authority: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    // Browsers report the origin of a script; only pages of this address may send requests.
    let is_foreign = headers.get_all(ORIGIN).iter().any(|o| {
        let origin = o.to_str().unwrap_or_default();
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        !host.is_some_and(|h| h.eq_ignore_ascii_case(authority))
    });
    let is_cross_site = headers.get("sec-fetch-site").is_some_and(|s| s == "cross-site" || s == "same-site");
    if is_foreign || is_cross_site {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "origin",
            "requests from pages of another origin are refused",
            "Send the request from a program, or from a page of this service",
        ));
    }
    Ok(())
}

/// Returns the name in `name:port`; an IPv6 address keeps its brackets.
fn host_name(authority: &str) -> &str {
    let port = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    port.map_or(authority, |(name, _)| name)
}

/// Returns the caller of the bearer token that the request carries: the service's own, or an access token.
async fn caller(state: &State, headers: &HeaderMap) -> ServiceResult<Option<TokenCaller>> {
    let Some(token) = bearer(headers) else { return Ok(None) };
    match state.callers.find(token) {
        Some(caller) => Ok(Some(TokenCaller { caller: caller.clone(), ends_soon: None })),
        None => tokens::caller(&state.services, token).await,
    }
}

/// Returns the bearer token that the request carries, if it carries exactly one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_tokens_are_limited_per_window_and_only_on_connections() {
        let refused = RefusedTokens::default();
        let peer = Some(Peer(IpAddr::from([127, 0, 0, 1])));
        let limited = (0..MAX_REFUSED + 5).filter(|_| refused.record(peer)).count();
        assert_eq!(limited, 5);
        assert!(!refused.record(None));
        assert_eq!(refused.0.lock().unwrap().total, MAX_REFUSED + 6);
    }

    #[test]
    fn the_port_is_not_part_of_the_host_name() {
        for (authority, name) in [
            ("localhost:8080", "localhost"),
            ("localhost", "localhost"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("evil.example:localhost", "evil.example:localhost"),
        ] {
            assert_eq!(host_name(authority), name);
        }
    }
}
