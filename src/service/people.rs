//! People who use a service: who they are, and what they may do now.
//!
//! The person who owns the process (`local:<login>`) is not listed: anyone who can read the data directory may do
//! everything. Everybody else is added by name, and has a role in the whole service, in single projects, or both.
//!
//! Invariant: a role is read at each call, so that a change takes effect at once, also for sessions and tokens.

use super::audit::record;
use super::error::shown;
use super::{Caller, Right, ServiceError, ServiceResult, Services, Via, projects};
use crate::domain::{AccessRole, PersonName, Principal, ProjectName};
use crate::ports::accounts::Person;
use std::collections::{BTreeMap, BTreeSet};

/// Prefix of a principal who is listed here.
const LISTED: &str = "user:";
/// Prefix of the owner of a process.
const OWNER: &str = "local:";
/// Maximum number of projects in which a person has a role of its own.
const MAX_PROJECT_ROLES: usize = 200;

/// Adds a person with a role, which is for one project only if that is named.
///
/// # Errors
/// `missing_right` without [`Right::People`], `invalid` if the name or the role is not usable, `person_exists`,
/// `no_project`.
pub async fn add(
    s: &Services,
    caller: &Caller,
    name: &str,
    role: &str,
    project: Option<&str>,
) -> ServiceResult<Person> {
    caller.require(Right::People)?;
    let name = parse_name(name)?;
    let in_project = match project {
        Some(project) => Some(project_role(s, role, project).await?),
        None => None,
    };
    let role = if in_project.is_some() { AccessRole::None } else { parse_role(role)? };
    let person = Person { name, role, project_roles: BTreeMap::new(), created_at: s.clock.now(), disabled_at: None };
    if !s.accounts.add_person(&person).await? {
        return Err(ServiceError::conflict(
            "person_exists",
            format!("there is a person {} already", person.name),
            format!("Change the role with `skep user grant {} ROLE`", person.name),
        ));
    }
    record(s, caller, "person.add", subject(&person.name), role.name()).await;
    match in_project {
        Some(role) => set_project_role(s, caller, person, role).await,
        None => Ok(person),
    }
}

/// Lists everybody, by name.
///
/// # Errors
/// `missing_right` without [`Right::People`].
pub async fn list(s: &Services, caller: &Caller) -> ServiceResult<Vec<Person>> {
    caller.require(Right::People)?;
    Ok(s.accounts.people().await?)
}

/// Gives a person another role, in the whole service or in one project; `none` takes it away.
///
/// # Errors
/// `missing_right` without [`Right::People`], `invalid` if there is no such role, `no_person`, `no_project`.
pub async fn grant(
    s: &Services,
    caller: &Caller,
    name: &str,
    role: &str,
    project: Option<&str>,
) -> ServiceResult<Person> {
    caller.require(Right::People)?;
    if let Some(project) = project {
        let role = project_role(s, role, project).await?;
        return set_project_role(s, caller, find(s, name).await?, role).await;
    }
    let role = parse_role(role)?;
    let person = find(s, name).await?;
    s.accounts.set_role(&person.name, role).await?;
    record(s, caller, "person.grant", subject(&person.name), role.name()).await;
    Ok(Person { role, ..person })
}

async fn project_role(s: &Services, role: &str, project: &str) -> ServiceResult<(ProjectName, AccessRole)> {
    let role = parse_role(role)?;
    if role != AccessRole::None && !AccessRole::OF_PROJECTS.contains(&role) {
        let detail = format!("the role {} is for the whole service", role.name());
        let names = AccessRole::OF_PROJECTS.map(AccessRole::name).join(", ");
        return Err(ServiceError::invalid(detail, format!("Use one of {names}, or leave the project out")));
    }
    Ok((projects::find(s, project).await?.name, role))
}

async fn set_project_role(
    s: &Services,
    caller: &Caller,
    mut person: Person,
    (project, role): (ProjectName, AccessRole),
) -> ServiceResult<Person> {
    let is_new = role != AccessRole::None && !person.project_roles.contains_key(&project);
    if is_new && person.project_roles.len() >= MAX_PROJECT_ROLES {
        let detail = format!("{} has roles in {MAX_PROJECT_ROLES} projects", person.name);
        let fix = format!("Give a role in the whole service: `skep user grant {} ROLE`", person.name);
        return Err(ServiceError::conflict("too_many_roles", detail, fix));
    }
    s.accounts.set_project_role(&person.name, &project, role).await?;
    record(s, caller, "person.grant", subject(&person.name), &format!("{} in {project}", role.name())).await;
    match role {
        AccessRole::None => person.project_roles.remove(&project),
        role => person.project_roles.insert(project, role),
    };
    Ok(person)
}

/// Disables a person, who can do nothing from then on, or lifts that. Sessions and tokens are kept.
///
/// # Errors
/// `missing_right` without [`Right::People`], `no_person`.
pub async fn set_disabled(s: &Services, caller: &Caller, name: &str, disabled: bool) -> ServiceResult<Person> {
    caller.require(Right::People)?;
    let person = find(s, name).await?;
    let disabled_at = disabled.then(|| person.disabled_at.unwrap_or_else(|| s.clock.now()));
    s.accounts.set_disabled(&person.name, disabled_at).await?;
    let action = if disabled { "person.disable" } else { "person.enable" };
    record(s, caller, action, subject(&person.name), "").await;
    Ok(Person { disabled_at, ..person })
}

/// Returns a person as a caller with the rights of their role; `None` for programs, and for people who are unknown or
/// disabled.
pub(super) async fn caller_of(s: &Services, principal: &Principal, via: Via) -> ServiceResult<Option<Caller>> {
    if principal.as_str().starts_with(OWNER) && principal.is_person() {
        return Ok(Some(Caller::with_all_rights(principal.clone(), via)));
    }
    let Some(Ok(name)) = principal.as_str().strip_prefix(LISTED).map(PersonName::new) else { return Ok(None) };
    let person = s.accounts.person(&name).await?.filter(|person| person.disabled_at.is_none());
    Ok(person.map(|person| {
        let mut caller = Caller::new(principal.clone(), Right::of_role(person.role), via);
        caller.in_projects = person.project_roles.into_iter().map(|(name, role)| (name, rights_in(role))).collect();
        caller
    }))
}

/// Returns the rights of a role in one project.
fn rights_in(role: AccessRole) -> BTreeSet<Right> {
    Right::of_role(role).into_iter().filter(|right| right.is_of_projects()).collect()
}

/// Returns the person whom the trusted proxy names as a caller.
///
/// # Errors
/// `unknown_person` (forbidden) if nobody of that name was added, or the person was disabled.
pub async fn proxied(s: &Services, name: &str) -> ServiceResult<Caller> {
    let caller = match PersonName::new(name) {
        Ok(name) => caller_of(s, &principal(&name), Via::Page).await?,
        Err(_) => None,
    };
    caller.ok_or_else(|| {
        let detail = format!("you are logged in at the proxy as {}, who may not use this service", shown(name));
        let fix = "Ask an administrator of this service: `skep user add NAME` adds a person under exactly this name";
        ServiceError::forbidden("unknown_person", detail, fix)
    })
}

/// Returns the caller's own entry, with the role; `None` for the owner of the process, who is not listed.
///
/// # Errors
/// `unavailable` if the store does not answer.
pub async fn own(s: &Services, caller: &Caller) -> ServiceResult<Option<Person>> {
    match caller.principal.as_str().strip_prefix(LISTED).map(PersonName::new) {
        Some(Ok(name)) => Ok(s.accounts.person(&name).await?),
        _ => Ok(None),
    }
}

/// Returns the principal of a person who is not disabled.
///
/// # Errors
/// `no_person`, `disabled`.
pub(super) async fn enabled(s: &Services, name: &str) -> ServiceResult<Principal> {
    let person = find(s, name).await?;
    if person.disabled_at.is_some() {
        let fix = format!("Lift that with `skep user enable {}`", person.name);
        return Err(ServiceError::conflict("disabled", format!("{} was disabled", person.name), fix));
    }
    Ok(principal(&person.name))
}

/// Returns the principal of a person.
pub(super) fn principal(name: &PersonName) -> Principal {
    Principal::from(format!("{LISTED}{name}").as_str())
}

/// Returns a person, also a disabled one.
///
/// # Errors
/// `no_person`.
pub(super) async fn find(s: &Services, name: &str) -> ServiceResult<Person> {
    let found = match PersonName::new(name) {
        Ok(name) => s.accounts.person(&name).await?,
        Err(_) => None,
    };
    let missing = || {
        let detail = format!("there is no person {}", shown(name));
        ServiceError::not_found("no_person", detail, "`skep user list` lists them; `skep user add NAME` adds one")
    };
    found.ok_or_else(missing)
}

fn parse_name(name: &str) -> ServiceResult<PersonName> {
    PersonName::new(name).map_err(|what| {
        ServiceError::invalid(what.replacen(&format!("{name:?}"), &shown(name), 1), "Send another name")
    })
}

fn parse_role(role: &str) -> ServiceResult<AccessRole> {
    let names = AccessRole::ALL.map(AccessRole::name).join(", ");
    let unknown = || ServiceError::invalid(format!("there is no role {}", shown(role)), format!("Use one of: {names}"));
    AccessRole::named(role).ok_or_else(unknown)
}

/// Returns a person as the subject of an audit record.
pub(super) fn subject(name: &PersonName) -> String {
    format!("person:{LISTED}{name}")
}
