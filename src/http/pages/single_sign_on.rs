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
        let host = origin.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
        let is_here = headers.get(HOST).is_some_and(|h| h.as_bytes().eq_ignore_ascii_case(host.as_bytes()));
        if !is_here {
            return Ok(see_other(&format!("{origin}{START}?next={}", look::in_query(next))));
        }
    }
    let started = single_sign_on::begin(&state.services, next).await?;
    let cookie = login_cookie(&state, started.cookie, i64::try_from(LOGIN_SECS).unwrap_or(i64::MAX));
    Ok(([(SET_COOKIE, cookie), (CACHE_CONTROL, "no-store".to_owned())], see_other(&started.location)).into_response())
}

/// `GET /login/oidc/callback`.
pub async fn finish(
    Shared(state): Shared<State>,
    Extension(visit): Extension<Visit>,
    Query(returned): Query<Returned>,
    headers: HeaderMap,
) -> PageResult<Response> {
    let cookie = guard::cookie(&headers, &LOGIN_COOKIES);
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
    login::cookie(LOGIN_COOKIES[usize::from(!secure)], value, SameSite::Lax, secure, true, max_age_secs)
}

/// Returns whether the pages are reached over TLS, by the address to which the provider returns browsers.
fn is_secure(state: &State) -> bool {
    state.services.single_sign_on.as_ref().is_some_and(|sso| sso.provider.redirect_uri().starts_with("https://"))
}
