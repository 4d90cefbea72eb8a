//! Logging in at the identity provider: the way there, and the way back.

use super::login::{self, local};
use super::problem::PageResult;
use super::visit::{LOGIN_COOKIES, Visit};
use super::{State, guard, look, see_other, shell};
use crate::service::single_sign_on::{self, CALLBACK, LOGIN_SECS, Returned};
use axum::Extension;
use axum::extract::{Query, State as Shared};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, HOST, SET_COOKIE, USER_AGENT};
use axum::http::uri::Authority;
use axum::response::{AppendHeaders, IntoResponse, Response};
use cookie::SameSite;

/// Path of the page that leads to the provider.
pub const START: &str = "/login/oidc";

/// `GET /login/oidc`. A link, because the policy of the pages lets no form lead to another site.
pub async fn begin(
    Shared(state): Shared<State>,
    Query(query): Query<login::LoginQuery>,
    headers: HeaderMap,
) -> PageResult<Response> {
    let next = local(query.next.as_deref());
    if let Some(sso) = &state.services.single_sign_on {
        // The provider returns the browser to one address, which must be the one that has the cookie.
        let origin = sso.provider.redirect_uri().trim_end_matches(CALLBACK);
        let asked = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !is_at(origin, asked) {
            return Ok(see_other(&format!("{origin}{START}?next={}", look::in_query(next))));
        }
    }
    let started = single_sign_on::begin(&state.services, next).await?;
    let cookie = login_cookie(&state, started.cookie, i64::try_from(LOGIN_SECS).unwrap_or(i64::MAX));
    Ok(([(SET_COOKIE, cookie), (CACHE_CONTROL, "no-store".to_owned())], see_other(&started.location)).into_response())
}

/// Returns whether a browser that names this host is at this origin, which may leave the usual port out.
fn is_at(origin: &str, host: &str) -> bool {
    let (scheme, rest) = origin.split_once("://").unwrap_or_default();
    let usual = if scheme == "https" { 443 } else { 80 };
    let parsed = |text: &str| {
        let authority: Authority = text.split('/').next().unwrap_or_default().parse().ok()?;
        Some((authority.host().to_ascii_lowercase(), authority.port_u16().unwrap_or(usual)))
    };
    parsed(rest).is_some_and(|here| parsed(host) == Some(here))
}

/// `GET /login/oidc/callback`.
pub async fn finish(
    Shared(state): Shared<State>,
    Extension(visit): Extension<Visit>,
    Query(returned): Query<Returned>,
    headers: HeaderMap,
) -> PageResult<Response> {
    // Only the one that was set: another site of the same domain could set the other.
    let cookie = guard::cookie(&headers, &[login_cookie_name(is_secure(&state))]);
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let finished = single_sign_on::finish(&state.services, cookie.as_deref(), &returned, agent).await?;
    let cookies = AppendHeaders([
        (SET_COOKIE, login::session_cookie(finished.session.secret, is_secure(&state))),
        (SET_COOKIE, login_cookie(&state, String::new(), 0)),
    ]);
    // The browser comes from another site, so a redirect would not carry the cookie of the session.
    Ok(([(CACHE_CONTROL, "no-store")], cookies, shell::lead_on(&visit, &finished.next)).into_response())
}

fn login_cookie(state: &State, value: String, max_age_secs: i64) -> String {
    let secure = is_secure(state);
    // It must come back from the provider's site, so it cannot be strict.
    login::cookie(login_cookie_name(secure), value, SameSite::Lax, secure, true, max_age_secs)
}

fn login_cookie_name(secure: bool) -> &'static str {
    LOGIN_COOKIES[usize::from(!secure)]
}

/// Returns whether the pages are reached over TLS, by the address to which the provider returns browsers.
fn is_secure(state: &State) -> bool {
    state.services.single_sign_on.as_ref().is_some_and(|sso| sso.provider.redirect_uri().starts_with("https://"))
}

#[cfg(test)]
mod tests {
    use super::is_at;

    #[test]
    fn the_usual_port_may_be_left_out() {
        for (origin, host) in [
            ("https://skep.example", "Skep.example"),
            ("https://skep.example:443", "skep.example"),
            ("http://localhost:7300", "localhost:7300"),
            ("http://[::1]:7300", "[::1]:7300"),
        ] {
            assert!(is_at(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("https://skep.example", "skep.example:80"),
            ("http://localhost:7300", "127.0.0.1:7300"),
            ("https://skep.example", ""),
        ] {
            assert!(!is_at(origin, host), "{origin} {host}");
        }
    }
}
