//! People and access tokens: `user …`, `token …`.

use super::args::{TokenCommand, UserCommand};
use super::client::{Client, encode};
use super::exit::{CliError, ExitStatus, Stop};
use super::terminal::{Style, Terminal};
use super::text::{moment, table};
use crate::http::rest::wire::{
    AccessToken, CreatedAccessToken, LoginLink, NewAccessToken, NewIdentity, NewLoginLink, NewPerson, NewRole, Person,
};
use crate::secrets::{Secret, register};
use serde_json::json;

/// `skep user …`.
pub async fn user(client: &Client, terminal: &Terminal, command: UserCommand) -> Result<ExitStatus, Stop> {
    let of = |name: &str, action: &str| format!("/people/{}/{action}", encode(name));
    match command {
        UserCommand::Add { name, role, project } => {
            let new = NewPerson { name, role: role.name().to_owned(), project };
            let person: Person = client.post("/people", &new, None).await?;
            print_person(terminal, &person, &format!("{} was added as {}", person.name, roles(&person)))?;
            terminal.suggest(&format!(
                "`skep user login-link {0}` prints a link to the pages; `skep token new NAME --person {0}` creates a \
                 token for programs.",
                person.name
            ))?;
        }
        UserCommand::List => {
            let people: Vec<Person> = client.get("/people").await?;
            terminal.object(&json!({ "people": people }))?;
            if people.is_empty() {
                terminal.suggest("Nobody was added yet. Add a person with `skep user add NAME`.")?;
                return Ok(ExitStatus::Success);
            }
            let rows = people.into_iter().map(|p| {
                let state = p.disabled_at.map_or_else(|| "enabled".to_owned(), |at| format!("disabled {}", moment(at)));
                vec![p.name.clone(), roles(&p), moment(p.created_at), state]
            });
            terminal.print(&table(&["person", "role", "added", "state"], rows.collect(), terminal.width))?;
        }
        UserCommand::Grant { name, role, project } => {
            let new = NewRole { role: role.name().to_owned(), project };
            let person: Person = client.post(&of(&name, "role"), &new, None).await?;
            print_person(terminal, &person, &format!("{} is {} now", person.name, roles(&person)))?;
        }
        UserCommand::Link { name, subject } => {
            let person: Person = client.post(&of(&name, "link"), &NewIdentity { subject }, None).await?;
            print_person(terminal, &person, &format!("the account logs in as {} now", person.name))?;
        }
        UserCommand::Disable { name } => {
            let person: Person = client.post(&of(&name, "disable"), &json!({}), None).await?;
            print_person(terminal, &person, &format!("{} is disabled: sessions and tokens work no more", person.name))?;
        }
        UserCommand::Enable { name } => {
            let person: Person = client.post(&of(&name, "enable"), &json!({}), None).await?;
            print_person(terminal, &person, &format!("{} is enabled again, as {}", person.name, roles(&person)))?;
        }
        UserCommand::LoginLink { name } => {
            let Client::Remote { base, .. } = client else {
                return Err(CliError::unavailable(
                    "no service is running on this data directory, and the pages belong to a service",
                    "start one with `skep serve`",
                )
                .into());
            };
            let new = NewLoginLink { person: Some(name.clone()) };
            let link: LoginLink = client.post("/login-links", &new, None).await?;
            let url = format!("{base}{}", link.path);
            terminal.object(&json!({ "url": url, "path": link.path, "ends_at": link.ends_at }))?;
            terminal.print(&url)?;
            terminal.suggest(&format!(
                "Send it to {name} only: it logs its reader in once, within ten minutes. If they reach the service by \
                 another address, put that in front of the path."
            ))?;
        }
    }
    Ok(ExitStatus::Success)
}

/// `skep token …`.
pub async fn token(client: &Client, terminal: &Terminal, command: TokenCommand) -> Result<ExitStatus, Stop> {
    match command {
        TokenCommand::New { name, person, rights, projects, days, never_expires } => {
            let new = NewAccessToken { name, person, rights, projects, days, never_expires };
            let created: CreatedAccessToken = client.post("/tokens", &new, None).await?;
            show(terminal, &created, "")?;
        }
        TokenCommand::Rotate { id } => {
            let path = format!("/tokens/{}/rotate", encode(&id));
            let created: CreatedAccessToken = client.post(&path, &json!({}), None).await?;
            show(terminal, &created, &format!("The token {id} works for an hour more. "))?;
        }
        TokenCommand::List => {
            let tokens: Vec<AccessToken> = client.get("/tokens").await?;
            terminal.object(&json!({ "tokens": tokens }))?;
            if tokens.is_empty() {
                terminal.suggest("No access tokens yet. Create one with `skep token new NAME`.")?;
                return Ok(ExitStatus::Success);
            }
            let rows = tokens.into_iter().map(|t| {
                let used = t.last_used_at.map_or_else(|| "never".to_owned(), moment);
                let ends = match (t.revoked_at, t.expires_at) {
                    (Some(at), _) => format!("revoked {}", moment(at)),
                    (None, Some(at)) => moment(at),
                    (None, None) => "never".to_owned(),
                };
                let limit = if t.projects.is_empty() { String::new() } else { format!(" in {}", t.projects.join(",")) };
                vec![t.id, t.name, t.principal, t.rights.join(",") + &limit, used, ends]
            });
            let head = ["token", "name", "acts as", "rights", "used", "ends"];
            terminal.print(&table(&head, rows.collect(), terminal.width))?;
        }
        TokenCommand::Revoke { id } => {
            let row: AccessToken = client.post(&format!("/tokens/{}/revoke", encode(&id)), &json!({}), None).await?;
            terminal.object(&row)?;
            terminal.line(Style::Green, &format!("token {} of {} no longer works", row.id, row.principal))?;
        }
    }
    Ok(ExitStatus::Success)
}

/// Names the roles of a person: `viewer, approver in tally`.
fn roles(person: &Person) -> String {
    let in_projects = person.project_roles.iter().map(|(project, role)| format!("{role} in {project}"));
    // The role of the whole service says nothing if it gives nothing.
    let whole = (person.role != "none" || person.project_roles.is_empty()).then(|| person.role.clone());
    whole.into_iter().chain(in_projects).collect::<Vec<_>>().join(", ")
}

/// Prints a token that was created.
fn show(terminal: &Terminal, created: &CreatedAccessToken, before: &str) -> Result<(), Stop> {
    // Nothing but the line below may print it.
    register("access token", &Secret::new(created.token.clone())).keep();
    terminal.object(created)?;
    terminal.print(&created.token)?;
    let row = &created.access_token;
    let ends = row.expires_at.map_or_else(|| "until it is revoked".to_owned(), |at| format!("until {}", moment(at)));
    terminal.aside(&format!(
        "{before}It acts as {}, may {}{}, and works {ends}. It is not shown again; `skep token revoke {}` ends it.",
        row.principal,
        row.rights.join(", "),
        if row.projects.is_empty() { String::new() } else { format!(" in {}", row.projects.join(", ")) },
        row.id
    ));
    Ok(())
}

/// Returns whether a command only reads.
pub fn only_reads(command: &super::args::Command) -> bool {
    use super::args::Command;
    matches!(command, Command::User(UserCommand::List) | Command::Token(TokenCommand::List))
}

fn print_person(terminal: &Terminal, person: &Person, text: &str) -> Result<(), Stop> {
    terminal.object(person)?;
    terminal.line(Style::Green, text)
}
