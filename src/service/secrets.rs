//! Secrets: storing, listing, removing and rekeying them.
//!
//! Invariant: a value is accepted and never returned, neither in an error nor in the audit log.

use super::audit::record;
use super::error::shown;
use super::{Caller, Right, ServiceError, ServiceResult, Services, projects};
use crate::domain::ProjectName;
use crate::ports::vault::{Rekeyed, SecretName, SecretRow};
use crate::secrets::Secret;
use std::path::Path;

/// Secret that was stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The secret, without its value.
    pub secret: SecretRow,
    /// Notice about where the sealing key is kept.
    pub notice: Option<String>,
}

/// Lists the secrets by name, without their values.
///
/// # Errors
/// `missing_right`, or `unavailable`.
pub async fn list(s: &Services, caller: &Caller) -> ServiceResult<Vec<SecretRow>> {
    caller.require_somewhere(Right::Read)?;
    let mut secrets = s.vault.list().await?;
    secrets.retain(|secret| match &secret.project {
        Some(project) => caller.reads(project),
        None => caller.require(Right::Read).is_ok(),
    });
    Ok(secrets)
}

/// Stores a value, replacing an older one of that name.
///
/// # Errors
/// `invalid` if the name is not usable, `no_project`, `not_possible` if the value is too large or the vault has no key.
pub async fn set(
    s: &Services,
    caller: &Caller,
    name: &str,
    project: Option<&str>,
    value: &Secret,
) -> ServiceResult<Stored> {
    caller.require(Right::Secrets)?;
    let name = secret_name(name)?;
    // The project must exist: a secret for any other would never be used.
    let project = match project {
        Some(text) => Some(projects::find(s, text).await?.name),
        None => None,
    };
    let (secret, notice) = s.vault.set(&name, project.as_ref(), value).await?;
    record(s, caller, "secret.set", subject(&name, project.as_ref()), &format!("version {}", secret.version)).await;
    Ok(Stored { secret, notice })
}

/// Removes the secrets of a project that is removed or gets another repository.
pub(super) async fn remove_of(s: &Services, caller: &Caller, project: &ProjectName) -> ServiceResult<()> {
    let rows = s.vault.list().await?.into_iter();
    for row in rows.filter(|row| row.project.as_deref() == Some(project.as_str())) {
        let name = secret_name(&row.name)?;
        if s.vault.remove(&name, Some(project)).await? {
            record(s, caller, "secret.remove", subject(&name, Some(project)), "its project ended").await;
        }
    }
    Ok(())
}

/// Removes a secret.
///
/// # Errors
/// `no_secret`, `no_project`, or `invalid` if the name is not usable.
pub async fn remove(s: &Services, caller: &Caller, name: &str, project: Option<&str>) -> ServiceResult<()> {
    caller.require(Right::Secrets)?;
    let name = secret_name(name)?;
    let project = project.map(|text| ProjectName::new(text).map_err(|_| ServiceError::no_project(text))).transpose()?;
    if !s.vault.remove(&name, project.as_ref()).await? {
        let of = project.map_or_else(String::new, |p| format!(" of project {p}"));
        return Err(ServiceError::not_found("no_secret", format!("there is no secret {name}{of}"), "List the secrets"));
    }
    record(s, caller, "secret.remove", subject(&name, project.as_ref()), "").await;
    Ok(())
}

/// Seals every secret with the key in this file, all or none.
///
/// # Errors
/// `invalid` if the path is not absolute, `not_possible` if the key is not usable.
pub async fn rekey(s: &Services, caller: &Caller, key_file: &str) -> ServiceResult<Rekeyed> {
    caller.require(Right::Admin)?;
    let path = Path::new(key_file);
    if !path.is_absolute() {
        return Err(ServiceError::invalid("file: not an absolute path", "Give the whole path, starting with /"));
    }
    let rekeyed = s.vault.rekey(path).await?;
    record(s, caller, "secret.rekey", "vault", &format!("key {}", rekeyed.key_id)).await;
    Ok(rekeyed)
}

fn secret_name(text: &str) -> ServiceResult<SecretName> {
    SecretName::new(text).map_err(|why| ServiceError::invalid(format!("{}: {why}", shown(text)), "Give another name"))
}

fn subject(name: &SecretName, project: Option<&ProjectName>) -> String {
    match project {
        Some(project) => format!("secret:{project}/{name}"),
        None => format!("secret:{name}"),
    }
}
