//! Who may talk to REST: the Host and Origin allow-list on every route (DNS rebinding, CSRF), the bearer token on all but the open ones.

use super::State;
use super::problem::ApiError;
use axum::extract::{Request, State as Shared};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// The routes that need no token. Everything else does, unknown routes too.
pub const OPEN: &[&str] = &["/health", "/health/live", "/health/ready", "/openapi.json"];

/// The names under which this machine reaches itself: allowed when nothing else is configured.
pub const LOOPBACK: &[&str] = &["localhost", "127.0.0.1", "[::1]"];

/// Lets only requests through that were meant for this service.
pub async fn guard_host(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    match host(&state.hosts, request.headers(), request.uri()) {
        Ok(()) => next.run(request).await,
        Err(failed) => failed.into_response(),
    }
}

/// Lets only requests through that carry the token.
pub async fn guard_token(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    if OPEN.contains(&request.uri().path()) || token_fits(&state.token, request.headers()) {
        return next.run(request).await;
    }
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "no_token",
        "a valid bearer token is needed",
        "Send `Authorization: Bearer <token>`; the token is in the file `token` of the data directory, or where server.token_file says",
    )
    .into_response()
}

fn host(hosts: &[String], headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    let mut named = headers.get_all(HOST).iter();
    let (Some(authority), None) = (named.next(), named.next()) else {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "host", "there must be one Host header", "Send it"));
    };
    let authority = authority.to_str().unwrap_or_default();
    let fits = |authority: &str| hosts.iter().any(|h| h.eq_ignore_ascii_case(name_of(authority)));
    if !fits(authority) || uri.authority().is_some_and(|a| !fits(a.as_str())) {
        return Err(ApiError::new(
            StatusCode::MISDIRECTED_REQUEST,
            "host",
            "this service does not answer to that Host",
            "Use one of its names, or add this one to the allowed hosts in the configuration",
        ));
    }
    // A browser says where a script comes from; only pages of this very address may send requests.
    let foreign = headers.get_all(ORIGIN).iter().any(|o| {
        let origin = o.to_str().unwrap_or_default();
        let place = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        !place.is_some_and(|p| p.eq_ignore_ascii_case(authority))
    });
    let across = headers.get("sec-fetch-site").is_some_and(|s| s == "cross-site" || s == "same-site");
    if foreign || across {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "origin",
            "requests from pages of another origin are refused",
            "Send the request from a program, or from a page of this service",
        ));
    }
    Ok(())
}

/// The name in `name:port`; an IPv6 address keeps its brackets.
fn name_of(authority: &str) -> &str {
    let port = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    port.map_or(authority, |(name, _)| name)
}

/// Compares digests, bit by bit to the end: neither the length nor the place of a difference shows in the time it takes.
fn token_fits(token: &str, headers: &HeaderMap) -> bool {
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let (Some(sent), None) = (sent.next(), sent.next()) else { return false };
    let Some((scheme, given)) = sent.to_str().ok().and_then(|s| s.split_once(' ')) else { return false };
    let (wanted, given) = (Sha256::digest(token.as_bytes()), Sha256::digest(given.trim().as_bytes()));
    let differs = wanted.iter().zip(given.iter()).fold(0u8, |all, (a, b)| all | (a ^ b));
    // An empty token would be a door without a lock.
    scheme.eq_ignore_ascii_case("bearer") & (std::hint::black_box(differs) == 0) & !token.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_host_is_told_from_its_port() {
        for (authority, name) in [
            ("localhost:8080", "localhost"),
            ("localhost", "localhost"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("evil.example:localhost", "evil.example:localhost"),
        ] {
            assert_eq!(name_of(authority), name);
        }
    }
}
