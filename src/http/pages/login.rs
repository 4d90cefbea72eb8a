//! Logging in by a link that works once, logging out, and the preferences.

use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::{Fields, PREFS_COOKIE, Person, SESSION_COOKIES, Theme, Visit};
use super::{State, guard, look, see_other, single_sign_on};
use crate::service::sessions;
use axum::Extension;
use axum::extract::{Path, Query, Request, State as Shared};
use axum::http::header::{CACHE_CONTROL, SET_COOKIE, USER_AGENT};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use cookie::{Cookie, SameSite};
use maud::{Markup, html};
use serde::Deserialize;

/// Time for which preferences are kept, in seconds.
const PREFS_SECS: i64 = 400 * 86_400;

/// Query of the login page.
#[derive(Deserialize)]
pub struct LoginQuery {
    pub next: Option<String>,
}

/// `GET /login`.
pub async fn page(
    Shared(state): Shared<State>,
    Extension(visit): Extension<Visit>,
    Query(query): Query<LoginQuery>,
) -> Response {
    let next = local(query.next.as_deref());
    if visit.caller().is_some() {
        return see_other(next);
    }
    let label = state.services.single_sign_on.as_ref().map(|sso| sso.provider.label());
    let content = html! {
        div.narrow {
            h1 { "Log in" }
            @if let Some(label) = label {
                p { a.button.primary href={ (single_sign_on::START) "?next=" (look::in_query(next)) } {
                    "Log in with " (look::line(label))
                } }
                h2 { "With a link" }
            }
            p { "Skep has no passwords. A link that works once logs you in. On the machine of the service, run:" }
            pre { "skep open" }
            p { "and open the link it prints. " code { "skep serve" } " prints one, too, when it starts." }
        }
    };
    shell::page(&visit, Page { title: "Log in", live: None, content }).into_response()
}

/// `GET /login/link/{code}`: shows a button. Opening a link must not use it up, because programs open links, too.
pub async fn link(
    Shared(state): Shared<State>,
    Extension(visit): Extension<Visit>,
    Path(code): Path<String>,
) -> PageResult<Response> {
    let works = sessions::is_link(&state.services, &code).await?;
    let content = html! {
        div.narrow {
            h1 { "Log in" }
            @if works {
                p { "This link logs you in to Skep on this browser." }
                form method="post" { button.button.primary type="submit" autofocus { "Log in" } }
            } @else {
                div.problem role="alert" {
                    p { strong { "This login link does not work: it was used already, or is older than ten minutes." } }
                    p { "Create a new one with " code { "skep open" } "." }
                }
                @if visit.caller().is_some() { p { "You are logged in. " a href="/" { "Go to the inbox" } } }
            }
        }
    };
    Ok(unstored(shell::page(&visit, Page { title: "Log in", live: None, content })))
}

/// `POST /login/link/{code}`.
pub async fn log_in(Shared(state): Shared<State>, Path(code): Path<String>, request: Request) -> PageResult<Response> {
    let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let session = sessions::log_in(&state.services, &code, agent).await?;
    let cookie = session_cookie(session.secret, guard::is_https(request.headers()));
    Ok(([(SET_COOKIE, cookie), (CACHE_CONTROL, "no-store".to_owned())], see_other("/")).into_response())
}

/// `POST /logout`.
pub async fn log_out(Shared(state): Shared<State>, person: Person, _: Fields) -> PageResult<Response> {
    if let Some(secret) = person.visit.secret() {
        sessions::log_out(&state.services, &person.caller, secret).await?;
    }
    let mut response = see_other("/login");
    let headers = response.headers_mut();
    for (name, secure) in [(SESSION_COOKIES[0], true), (SESSION_COOKIES[1], false)] {
        if let Ok(value) = cookie(name, String::new(), SameSite::Strict, secure, true, 0).parse() {
            headers.append(SET_COOKIE, value);
        }
    }
    let everything = HeaderValue::from_static("\"cache\", \"storage\"");
    headers.insert(HeaderName::from_static("clear-site-data"), everything);
    Ok(response)
}

/// `POST /prefs`.
pub async fn prefs(person: Person, fields: Fields) -> Response {
    let theme = Theme::of(&fields.get("theme")).unwrap_or(person.visit.theme());
    let cookie = cookie(PREFS_COOKIE, theme.name().to_owned(), SameSite::Strict, false, false, PREFS_SECS);
    ([(SET_COOKIE, cookie)], see_other(local(fields.filled("next").as_deref()))).into_response()
}

/// Returns the cookie of a session.
pub fn session_cookie(secret: String, secure: bool) -> String {
    let max_age = i64::try_from(sessions::MAX_SECS).unwrap_or(i64::MAX);
    cookie(SESSION_COOKIES[usize::from(!secure)], secret, SameSite::Strict, secure, true, max_age)
}

/// Returns a cookie of this site. A private one is out of the reach of scripts.
pub fn cookie(
    name: &str,
    value: String,
    same_site: SameSite,
    secure: bool,
    private: bool,
    max_age_secs: i64,
) -> String {
    let mut text = Cookie::build((name.to_owned(), value))
        .path("/")
        .same_site(same_site)
        .secure(secure)
        .http_only(private)
        .build()
        .to_string();
    text.push_str(&format!("; Max-Age={max_age_secs}"));
    text
}

/// Returns a path on this site; the inbox for anything else.
pub fn local(next: Option<&str>) -> &str {
    let is_local = |path: &&str| {
        path.starts_with('/')
            && !path.starts_with("//")
            && !path.contains('\\')
            && path.bytes().all(|b| b.is_ascii_graphic())
    };
    next.filter(is_local).unwrap_or("/")
}

fn unstored(markup: Markup) -> Response {
    ([(CACHE_CONTROL, "no-store")], markup).into_response()
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn only_paths_on_this_site_are_followed() {
        for bad in ["", "//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/a\tb", "/a\nb"] {
            assert_eq!(local(Some(bad)), "/", "{bad:?}");
        }
        assert_eq!(local(Some("/runs/1?a=b#c")), "/runs/1?a=b#c");
    }
}
