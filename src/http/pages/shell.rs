//! The frame of every page: head, navigation, notices, footer.

use super::problem::PageError;
use super::visit::{TOKEN_FIELD, Theme, Visit};
use super::{assets, look};
use crate::service::Right;
use axum::http::HeaderName;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

/// Entries of the navigation: path, name, key after `g`, and the right in the whole service without which the page
/// shows nothing.
pub const NAVIGATION: [(&str, &str, &str, Option<Right>); 8] = [
    ("/", "Inbox", "i", None),
    ("/runs", "Runs", "r", None),
    ("/projects", "Projects", "p", None),
    ("/deployments", "Deployments", "d", None),
    ("/spending", "Spending", "s", None),
    ("/agents", "Agents", "e", Some(Right::Read)),
    ("/audit", "Audit", "a", Some(Right::Admin)),
    ("/settings", "Settings", "c", Some(Right::Admin)),
];

/// Notices that a page may show after a form, by the word in its address.
const NOTICES: [(&str, &str); 21] = [
    ("started", "The run has started."),
    ("reused", "An open run has the same goal: this is it."),
    ("reverting", "This open run already reverts it."),
    ("answered", "Your answer was given to the run."),
    ("approved", "Approved."),
    ("declined", "Declined, with your reason."),
    ("paused", "Paused: nothing new starts."),
    ("resumed", "Resumed."),
    ("cancelled", "Cancelling: attempts and checks in progress are stopped."),
    ("raised", "The budget was raised."),
    ("queued", "Queued: a rollout starts when it is its turn."),
    ("suspended", "Suspended: nothing new is deployed."),
    ("resumed-target", "Resumed: deployments go on."),
    ("probed", "Probed."),
    ("revoked", "The token was revoked."),
    ("ended", "The session was ended."),
    ("messages", "Saved. Messages reach you about what happens from now on."),
    ("no-messages", "No message reaches you personally any more."),
    ("tested", "A test message was delivered."),
    ("added", "The person was added."),
    ("changed", "Saved. It takes effect with the next request."),
];

/// Content of a page.
pub struct Page<'a> {
    /// Title, also of the window.
    pub title: &'a str,
    /// What the page is about, for live updates: `any`, `run:<id>`, or nothing.
    pub live: Option<String>,
    /// The content below the navigation.
    pub content: Markup,
}

/// Returns a whole page.
pub fn page(visit: &Visit, page: Page<'_>) -> Markup {
    let theme = Some(visit.theme().name()).filter(|_| visit.theme() != Theme::System);
    html! {
        (DOCTYPE)
        html lang="en" data-theme=[theme] {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (look::plain(page.title)) " · Skep" }
                link rel="icon" href="/favicon.svg" type="image/svg+xml";
                link rel="stylesheet" href=(assets::style_path());
                @if visit.caller().is_some() {
                    script type="module" src=(assets::script_path()) {}
                }
            }
            body data-live=[page.live] data-build=(assets::build()) {
                a.skip href="#main" { "Skip to the content" }
                @if visit.caller().is_some() { (header(visit)) }
                main id="main" tabindex="-1" { (notice(visit)) (page.content) }
                p id="said" role="status" {}
                (footer(visit))
            }
        }
    }
}

fn header(visit: &Visit) -> Markup {
    let path = visit.path().split(['?', '#']).next().unwrap_or("/");
    let is_here = |at: &str| if at == "/" { path == "/" || path.starts_with("/q/") } else { path.starts_with(at) };
    let caller = visit.caller();
    let is_shown = |needed: &Option<Right>| needed.is_none_or(|right| caller.is_some_and(|c| c.require(right).is_ok()));
    html! {
        header.top {
            a.brand href="/" aria-label="Skep, inbox" { (assets::mark()) span { "Skep" } }
            nav aria-label="Main" {
                @for (at, name, key, _) in NAVIGATION.iter().filter(|(.., needed)| is_shown(needed)) {
                    a href=(at) aria-current=[is_here(at).then_some("page")] title={ "g " (key) } { (name) }
                }
            }
            // The script opens the same list in a dialog.
            a.button.find href="/menu" data-menu title="Ctrl K" { "Find" }
            @if caller.is_some_and(|caller| caller.has_somewhere(Right::Run)) {
                a.button.primary href="/runs/new" title="n" { "New run" }
            }
        }
    }
}

fn notice(visit: &Visit) -> Markup {
    let query = visit.path().split_once('?').map_or("", |(_, query)| query);
    let word = query.split('&').find_map(|pair| pair.strip_prefix("notice="));
    let text = word.and_then(|word| NOTICES.iter().find(|(name, _)| *name == word)).map(|(_, text)| *text);
    html! { @if let Some(text) = text { p.notice role="status" { (text) } } }
}

fn footer(visit: &Visit) -> Markup {
    html! {
        footer.bottom {
            @if let Some(person) = visit.person() {
                span { "Logged in as " a href="/me" { strong { (person) } } }
                @if visit.secret().is_some() {
                    form method="post" action="/logout" { (token(visit)) button.text type="submit" { "Log out" } }
                }
                form method="post" action="/prefs" aria-label="Colors" {
                    (token(visit))
                    input type="hidden" name="next" value=(visit.path());
                    span aria-hidden="true" { "Colors:" }
                    @for theme in Theme::ALL {
                        button.text type="submit" name="theme" value=(theme.name())
                            aria-pressed=(visit.theme() == theme) { (theme.name()) }
                    }
                }
                span #connection hidden {}
            }
        }
    }
}

/// Returns the hidden field that every form has.
pub fn token(visit: &Visit) -> Markup {
    html! { input type="hidden" name=(TOKEN_FIELD) value=(visit.form_token()); }
}

/// Returns the page of an error.
pub fn problem(visit: &Visit, error: &PageError) -> Markup {
    let status = error.status().canonical_reason().unwrap_or("problem");
    let status = look::sentence(&status.to_lowercase());
    let error = error.error();
    let content = html! {
        div.narrow {
            h1 { (status) }
            (problem_box(error))
            p { a href="/" { "Inbox" } " · " a href="/runs" { "Runs" } }
        }
    };
    page(visit, Page { title: &status, live: None, content })
}

/// Returns an error as a part of a page.
pub fn problem_box(error: &crate::service::ServiceError) -> Markup {
    html! {
        div.problem role="alert" {
            p { strong { (look::prose(&look::sentence(&error.detail))) "." } }
            p { (look::prose(&error.fix)) "." }
            p.quiet { code { (error.code) } }
        }
    }
}

/// Returns the page that leads a browser, which comes from another site, on to a path on this one.
pub fn lead_on(visit: &Visit, path: &str) -> Response {
    let content = html! {
        div.narrow { h1 { "Opening" } p { a href=(path) { "Continue to the page" } } }
    };
    let markup = page(visit, Page { title: "Opening", live: None, content });
    let refresh = format!("0; url={path}");
    ([(HeaderName::from_static("refresh"), refresh)], markup).into_response()
}
