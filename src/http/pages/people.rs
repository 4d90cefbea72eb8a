//! The people of a service and all access tokens, for those who manage them.

use super::me::{button, moment, no_action, rights};
use super::problem::PageResult;
use super::shell::{self, Page};
use super::visit::{Fields, Person};
use super::{State, look, see_other};
use crate::domain::{AccessRole, Project};
use crate::ports::accounts::{self, AccessToken};
use crate::service::{people, projects, tokens};
use axum::extract::{Path, State as Shared};
use axum::response::Response;
use maud::{Markup, html};

/// Tokens that are shown.
const MAX_TOKENS: u64 = 200;

/// `GET /people`.
pub async fn list(Shared(state): Shared<State>, person: Person) -> PageResult<Markup> {
    let everybody = people::list(&state.services, &person.caller).await?;
    let tokens = tokens::list(&state.services, &person.caller, Some(MAX_TOKENS)).await?;
    let projects = projects::list(&state.services, &person.caller).await?;
    let now = person.visit.at();
    let usable: Vec<&AccessToken> = tokens.iter().filter(|token| tokens::is_usable(token, now)).collect();
    let content = html! {
        h1 { "People" }
        @if everybody.is_empty() {
            (look::empty("Nobody was added.", html! { "The owner of the service, who may do everything, is not listed." }))
        } @else { (people_table(&person, &everybody, &projects)) }
        (add_form(&person))
        section aria-labelledby="tokens" { h2 id="tokens" { "Access tokens" }
            @if usable.is_empty() { (look::empty("No access tokens.", html! { code { "skep token new NAME" } " creates one." })) }
            @else { (token_table(&person, &usable)) }
            @if tokens.len() as u64 == MAX_TOKENS { p.quiet { "Only those among the newest " (MAX_TOKENS) " are shown." } }
        }
    };
    Ok(shell::page(&person.visit, Page { title: "People", live: None, content }))
}

/// `POST /people`.
pub async fn add(Shared(state): Shared<State>, person: Person, fields: Fields) -> PageResult<Response> {
    people::add(&state.services, &person.caller, &fields.get("name"), &fields.get("role"), None).await?;
    Ok(see_other("/people?notice=added"))
}

/// `POST /people/{name}/{action}`: `role`, `project-role`, `disable`, `enable`.
pub async fn change(
    Shared(state): Shared<State>,
    person: Person,
    Path((name, action)): Path<(String, String)>,
    fields: Fields,
) -> PageResult<Response> {
    let (s, caller) = (&state.services, &person.caller);
    match action.as_str() {
        "role" => people::grant(s, caller, &name, &fields.get("role"), None).await?,
        "project-role" => people::grant(s, caller, &name, &fields.get("role"), Some(&fields.get("project"))).await?,
        "disable" => people::set_disabled(s, caller, &name, true).await?,
        "enable" => people::set_disabled(s, caller, &name, false).await?,
        _ => return Err(no_action().into()),
    };
    Ok(see_other("/people?notice=changed"))
}

/// `POST /people/tokens/{id}/revoke`.
pub async fn revoke_token(
    Shared(state): Shared<State>,
    person: Person,
    Path(id): Path<String>,
    _: Fields,
) -> PageResult<Response> {
    tokens::revoke(&state.services, &person.caller, &id).await?;
    Ok(see_other("/people?notice=revoked"))
}

fn people_table(viewer: &Person, everybody: &[accounts::Person], projects: &[Project]) -> Markup {
    let now = viewer.visit.at();
    html! {
        table.list {
            caption.hidden-title { "People, by name" }
            thead { tr { th scope="col" { "Name" } th scope="col" { "Role" } th scope="col" { "Added" }
                th scope="col" { "State" } th scope="col" { "Change" } } }
            tbody { @for person in everybody { tr {
                td data-th="Name" { (person.name) }
                td data-th="Role" {
                    form.inline method="post" action={ "/people/" (person.name) "/role" } {
                        (shell::token(&viewer.visit))
                        (roles(&AccessRole::ALL, person.role, &format!("Role of {}", person.name)))
                        button.text type="submit" aria-label={ "Change the role of " (person.name) } { "Change" }
                    }
                    (project_roles(viewer, person, projects))
                }
                td data-th="Added" { (look::ago(person.created_at, now)) }
                td data-th="State" {
                    @if let Some(at) = person.disabled_at { "disabled " (look::ago(at, now)) } @else { "enabled" }
                }
                td data-th="Change" {
                    @let (action, name) = if person.disabled_at.is_some() { ("enable", "Enable") } else { ("disable", "Disable") };
                    (button(viewer, &format!("/people/{}/{action}", person.name), name, person.name.as_str()))
                }
            } } }
        }
    }
}

fn add_form(viewer: &Person) -> Markup {
    html! {
        form.filters method="post" action="/people" aria-label="Add a person" {
            (shell::token(&viewer.visit))
            label for="person-name" { "Name" }
            input #person-name name="name" required maxlength="64" pattern="[a-z0-9][a-z0-9._\\-]*" title="Lower-case letters, digits, dots, underscores and hyphens" placeholder="ann"
                autocomplete="off";
            (roles(&AccessRole::ALL, AccessRole::Member, "Role of the new person"))
            button.button type="submit" { "Add person" }
        }
    }
}

/// The roles of a person in single projects, and a form to change them.
fn project_roles(viewer: &Person, person: &accounts::Person, projects: &[Project]) -> Markup {
    html! {
        @for (project, role) in &person.project_roles { p.quiet { (role.name()) " in " (project) } }
        @if !projects.is_empty() { details.more {
            summary { "In a project" }
            form.inline method="post" action={ "/people/" (person.name) "/project-role" } {
                (shell::token(&viewer.visit))
                select name="project" aria-label={ "Project in which to change the role of " (person.name) } {
                    @for project in projects { option value=(project.name) { (project.name) } }
                }
                (roles(&[AccessRole::None, AccessRole::Viewer, AccessRole::Member, AccessRole::Approver],
                    AccessRole::Member, &format!("Role of {} in that project", person.name)))
                button.text type="submit" aria-label={ "Change the role of " (person.name) " in that project" } { "Change" }
            }
        } }
    }
}

fn roles(all: &[AccessRole], chosen: AccessRole, label: &str) -> Markup {
    html! {
        select name="role" aria-label=(label) {
            @for role in all.iter().copied() { option value=(role.name()) selected[role == chosen] { (role.name()) } }
        }
    }
}

fn token_table(viewer: &Person, tokens: &[&AccessToken]) -> Markup {
    let now = viewer.visit.at();
    html! {
        table.list {
            caption.hidden-title { "Access tokens that work, newest first" }
            thead { tr { th scope="col" { "Name" } th scope="col" { "Acts as" } th scope="col" { "Rights" }
                th scope="col" { "Last used" } th scope="col" { "Ends" } th scope="col" { "Change" } } }
            tbody { @for token in tokens { tr {
                td data-th="Name" { (look::line(&token.name)) }
                td data-th="Acts as" { (look::line(token.principal.as_str())) }
                td.wide data-th="Rights" { (rights(token)) }
                td data-th="Last used" { (moment(token.last_used_at, now)) }
                td data-th="Ends" { (moment(token.expires_at, now)) }
                td data-th="Change" {
                    (button(viewer, &format!("/people/tokens/{}/revoke", token.id), "Revoke", &token.name))
                }
            } } }
        }
    }
}
