//! The page of the person who looks at it: role, access tokens, and sessions.

use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::{Fields, Person};
use super::{State, look, own_messages, see_other};
use crate::domain::{Project, ProjectName, Timestamp};
use crate::ports::accounts::AccessToken;
use crate::ports::sessions::{LoginMethod, Session};
use crate::service::messages::personal;
use crate::service::tokens::{self, CreatedToken, Expiry, NewToken};
use crate::service::{ErrorKind, Right, ServiceError, people, projects, sessions};
use axum::extract::{Path, State as Shared};
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

/// Lifetimes of a token that the form offers: field value and words. The first one is chosen.
const LIFETIMES: [(&str, &str); 4] =
    [("90", "90 days"), ("30", "30 days"), ("365", "1 year"), ("never", "until it is revoked")];

/// `GET /me`.
pub async fn show(Shared(state): Shared<State>, person: Person) -> PageResult<Markup> {
    page(&state, &person, None).await
}

/// `POST /me/tokens`. The token is in the answer, and nowhere else.
pub async fn create_token(Shared(state): Shared<State>, person: Person, fields: Fields) -> PageResult<Response> {
    let expires = match fields.get("lifetime").as_str() {
        "never" => Expiry::Never,
        "" => Expiry::Default,
        _ => Expiry::Days(u32::try_from(fields.number("lifetime", "lifetime")?).unwrap_or(u32::MAX)),
    };
    let rights = fields.all("right");
    let projects = fields.all("project").into_iter().filter(|name| !name.is_empty()).collect();
    let new = NewToken { name: fields.get("name"), person: None, rights, projects, expires };
    let created = tokens::create_own(&state.services, &person.caller, new).await?;
    shown_once(&state, &person, &created).await
}

/// `POST /me/tokens/{id}/{action}`: `rotate`, `revoke`.
pub async fn change_token(
    Shared(state): Shared<State>,
    person: Person,
    Path((id, action)): Path<(String, String)>,
    _: Fields,
) -> PageResult<Response> {
    match action.as_str() {
        "rotate" => {
            let created = tokens::rotate(&state.services, &person.caller, &id).await?;
            shown_once(&state, &person, &created).await
        }
        "revoke" => {
            tokens::revoke(&state.services, &person.caller, &id).await?;
            Ok(see_other("/me?notice=revoked"))
        }
        _ => Err(no_action().into()),
    }
}

/// `POST /me/sessions/{id}/end`.
pub async fn end_session(
    Shared(state): Shared<State>,
    person: Person,
    Path(id): Path<String>,
    _: Fields,
) -> PageResult<Response> {
    sessions::end_own(&state.services, &person.caller, &id).await?;
    Ok(see_other("/me?notice=ended"))
}

/// `POST /me/sessions/end-others`.
pub async fn end_others(Shared(state): Shared<State>, person: Person, _: Fields) -> PageResult<Response> {
    sessions::end_others(&state.services, &person.caller, person.visit.secret()).await?;
    Ok(see_other("/me?notice=ended"))
}

/// Returns the error of an address that ends in an unknown word.
pub fn no_action() -> ServiceError {
    ServiceError::new(ErrorKind::NotFound, "no_page", "there is no such page", "Start from the inbox")
}

async fn shown_once(state: &State, person: &Person, created: &CreatedToken) -> PageResult<Response> {
    Ok(([(CACHE_CONTROL, "no-store")], page(state, person, Some(created)).await?).into_response())
}

async fn page(state: &State, person: &Person, created: Option<&CreatedToken>) -> PageResult<Markup> {
    let (s, caller) = (&state.services, &person.caller);
    let entry = people::own(s, caller).await?;
    let role = entry.as_ref().map_or("owner of the service", |entry| entry.role.name());
    let roles = entry.as_ref().map(|entry| entry.project_roles.clone()).unwrap_or_default();
    let projects = projects::list(s, caller).await.unwrap_or_default();
    let (tokens, sessions) = (tokens::own(s, caller).await?, sessions::own(s, caller).await?);
    let messages = personal::offer(s, caller).await?;
    let is_usable = |right: &Right| *right != Right::People && caller.has_somewhere(*right);
    let rights: Vec<Right> = Right::ALL.into_iter().filter(is_usable).collect();
    let content = html! {
        h1 { (caller.principal) }
        p { "Role: " strong { (role) } @for (project, role) in &roles { ", " (role.name()) " in " (project) } "." @if caller.rights.contains(&Right::People) {
            " " a href="/people" { "People and tokens of the service" }
        } }
        @if let Some(created) = created { (new_token(created)) }
        section aria-labelledby="tokens" { h2 id="tokens" { "Access tokens" }
            p.quiet { "Programs use them for the command line, REST and MCP, and act as you: at most with the rights that \
                your role has then." }
            @if tokens.is_empty() { (look::empty("No access tokens.", html! { "Create one below." })) }
            @else { (token_table(person, &tokens)) }
            @if caller.has_somewhere(Right::Run) { details.more open[tokens.is_empty()] {
                summary { "New token" }
                (token_form(person, &rights, &projects))
            } }
        }
        (own_messages::section(person, &messages))
        section aria-labelledby="sessions" { h2 id="sessions" { "Sessions" }
            @if sessions.is_empty() { p.quiet { "None: a proxy logs you in at each request." } }
            @else { (session_table(person, &sessions)) }
        }
    };
    Ok(shell::page(&person.visit, Page { title: "You", live: None, content }))
}

fn new_token(created: &CreatedToken) -> Markup {
    html! {
        div.notice role="status" {
            p { strong { "Copy the token now: it is not shown again." } }
            pre { (created.token.expose()) }
            p.quiet { (look::line(&created.row.name)) " may " (rights(&created.row)) "." }
        }
    }
}

/// Names the rights of a token, and where it has them.
pub(super) fn rights(token: &AccessToken) -> String {
    let rights = token.rights.join(", ");
    if token.projects.is_empty() {
        return rights;
    }
    let projects: Vec<&str> = token.projects.iter().map(ProjectName::as_str).collect();
    format!("{rights} in {}", projects.join(", "))
}

fn token_table(person: &Person, tokens: &[AccessToken]) -> Markup {
    let now = person.visit.at();
    html! {
        table.list {
            caption.hidden-title { "Your access tokens, newest first" }
            thead { tr { th scope="col" { "Name" } th scope="col" { "Rights" } th scope="col" { "Created" }
                th scope="col" { "Last used" } th scope="col" { "Ends" } th scope="col" { "Change" } } }
            tbody { @for token in tokens { tr {
                td data-th="Name" { (look::line(&token.name)) }
                td.wide data-th="Rights" { (rights(token)) }
                td data-th="Created" { (look::ago(token.created_at, now)) }
                td data-th="Last used" { (moment(token.last_used_at, now)) }
                td data-th="Ends" { (moment(token.expires_at, now)) }
                td data-th="Change" {
                    (button(person, &format!("/me/tokens/{}/rotate", token.id), "Rotate", &token.name))
                    (button(person, &format!("/me/tokens/{}/revoke", token.id), "Revoke", &token.name))
                }
            } } }
        }
        p.hint { "Rotating makes a new token with the same rights; the old one works for an hour more." }
    }
}

fn token_form(person: &Person, rights: &[Right], projects: &[Project]) -> Markup {
    html! {
        form.stacked method="post" action="/me/tokens" aria-label="New token" {
            (shell::token(&person.visit))
            label for="token-name" { "Name" }
            input #token-name name="name" required maxlength="64" pattern="[a-z0-9][a-z0-9._\\-]*" title="Lower-case letters, digits, dots, underscores and hyphens" placeholder="laptop"
                autocomplete="off" aria-describedby="token-name-hint";
            p.hint #token-name-hint { "Lower-case letters, digits, -, _ and ." }
            fieldset { legend { "Rights" } div.fields {
                @for right in rights {
                    label.check { input type="checkbox" name="right" value=(right.name()) checked[*right == Right::Read];
                        (right.name()) }
                }
            } }
            @if !projects.is_empty() {
                label for="token-project" { "Works in" }
                select #token-project name="project" {
                    option value="" { "all projects" }
                    @for project in projects { option value=(project.name) { (project.name) } }
                }
            }
            label for="token-lifetime" { "Works for" }
            select #token-lifetime name="lifetime" {
                @for (value, words) in LIFETIMES { option value=(value) { (words) } }
            }
            div.buttons { button.button.primary type="submit" { "Create token" } }
        }
    }
}

fn session_table(person: &Person, all: &[Session]) -> Markup {
    let now = person.visit.at();
    let here = person.visit.secret().map(sessions::id_of);
    let is_here = |session: &Session| here.as_deref() == Some(sessions::id(session));
    html! {
        table.list {
            caption.hidden-title { "Your sessions, newest first" }
            thead { tr { th scope="col" { "Browser" } th scope="col" { "Logged in" } th scope="col" { "Last used" }
                th scope="col" { "Change" } } }
            tbody { @for session in all { tr {
                td.wide data-th="Browser" {
                    @if session.agent.is_empty() { span.quiet { "unknown" } } @else { (look::line(&session.agent)) }
                }
                td data-th="Logged in" {
                    (look::ago(session.created_at, now))
                    @match session.login { LoginMethod::Link => " by a link", LoginMethod::Oidc => " at the identity provider" }
                }
                td data-th="Last used" { (look::ago(session.seen_at, now)) }
                td data-th="Change" {
                    @if is_here(session) { span.tag { "this one" } }
                    @else { (button(person, &format!("/me/sessions/{}/end", sessions::id(session)), "Log out", &session.agent)) }
                }
            } } }
        }
        @if all.iter().any(|session| !is_here(session)) {
            form method="post" action="/me/sessions/end-others" {
                (shell::token(&person.visit))
                div.buttons { button.button type="submit" { "Log out everywhere else" } }
            }
        }
    }
}

/// Returns a button that is a form of its own. `of` is the row that it changes, for those who cannot see it.
pub fn button(person: &Person, action: &str, name: &str, of: &str) -> Markup {
    html! {
        form.inline method="post" action=(action) {
            (shell::token(&person.visit))
            button.text type="submit" aria-label={ (name) " " (look::plain(of)) } { (name) }
        }
    }
}

/// Returns a moment, or that there is none.
pub fn moment(at: Option<Timestamp>, now: Timestamp) -> Markup {
    html! { @if let Some(at) = at { (look::ago(at, now)) } @else { span.quiet { "never" } } }
}
