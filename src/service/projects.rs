//! Projects.

use super::audit::record;
use super::{Caller, Right, ServiceError, ServiceResult, Services, input, secrets, tokens};
use crate::domain::{Policy, Project, ProjectName, Role};
use crate::ports::forge::LocatedRepo;
use crate::ports::run_index::RunFilter;
use crate::ports::{PortError, Repo};
use std::collections::BTreeMap;

/// Project to add.
#[derive(Clone, Debug, Default)]
pub struct NewProject {
    /// Name; derived from the repository if absent.
    pub name: Option<String>,
    /// Repository: an absolute path, a URL, or `OWNER/REPO` on the configured forge.
    pub repo: String,
    /// Branch that changes land on; the repository's default branch if absent.
    pub base: Option<String>,
    /// Check commands; detected if empty.
    pub checks: Vec<String>,
    /// Engines by role, `KIND[:ARG]`.
    pub engines: BTreeMap<Role, String>,
    /// Policy; the configured one if absent.
    pub policy: Option<Policy>,
    /// Whether an existing project of that name is replaced.
    pub replace: bool,
}

/// Lists all projects by name.
///
/// # Errors
/// `missing_right`, or `unavailable`.
pub async fn list(s: &Services, caller: &Caller) -> ServiceResult<Vec<Project>> {
    caller.require_somewhere(Right::Read)?;
    let mut projects = s.store.projects().await?;
    projects.retain(|project| caller.has(Right::Read, &project.name));
    Ok(projects)
}

/// Returns a project by name.
///
/// # Errors
/// `no_project`.
pub async fn show(s: &Services, caller: &Caller, name: &str) -> ServiceResult<Project> {
    find_for(s, caller, Right::Read, name).await
}

/// Adds or replaces a project. Its repository is fetched first: one that cannot be read does not become a project.
///
/// # Errors
/// `invalid` if the input or the repository is not usable, `taken` if the name is.
pub async fn add(s: &Services, caller: &Caller, new: NewProject) -> ServiceResult<Project> {
    caller.require(Right::Projects)?;
    input::lines([&new.repo].into_iter().chain(&new.base).chain(new.engines.values()))?;
    let name = match &new.name {
        Some(name) => input::project_name(name)?,
        None => name_of(&new.repo)?,
    };
    let LocatedRepo { forge, origin } = s.forges.locate(&new.repo).map_err(|e| match e {
        PortError::Permanent { what, fix } => ServiceError::invalid(what, fix),
        other => other.into(),
    })?;
    let project = Project {
        name,
        repo: origin,
        forge,
        base: new.base,
        branch_prefix: s.parts.current().defaults.branch_prefix.clone(),
        checks: input::checks(s, &new.checks)?,
        engines: input::engines(caller, &new.engines)?,
        policy: new.policy,
    };
    let taken = || {
        let detail = format!("project {} already exists", project.name);
        ServiceError::conflict("taken", detail, "Give another `name`, or set `replace`")
    };
    let replaced = s.store.project(&project.name).await?;
    if !new.replace && replaced.is_some() {
        return Err(taken());
    }
    let repo = Repo { project: project.name.clone(), origin: project.repo.clone() };
    match s.workspaces.fetch(&repo, project.base.as_deref()).await {
        Ok(_) => {}
        Err(PortError::Permanent { what, fix }) => return Err(ServiceError::invalid(what, fix)),
        Err(other) => return Err(other.into()),
    }
    if replaced.is_some_and(|old| old.repo != project.repo) {
        forget(s, caller, &project.name).await?;
    }
    match s.store.put_project(&project, new.replace).await {
        Ok(()) => {}
        Err(PortError::Permanent { .. }) if !new.replace => return Err(taken()),
        Err(other) => return Err(other.into()),
    }
    record(s, caller, "project.add", format!("project:{}", project.name), &project.repo).await;
    Ok(project)
}

/// Removes a project. Its repository, and the runs it had, stay.
///
/// # Errors
/// `no_project`, or `project_in_use` if a run of it is open.
pub async fn remove(s: &Services, caller: &Caller, name: &str) -> ServiceResult<Project> {
    caller.require(Right::Projects)?;
    let project = find(s, name).await?;
    let filter = RunFilter { projects: project.name.clone().into(), open_only: true, limit: 1, ..RunFilter::default() };
    if let Some(run) = s.store.list(&filter).await?.first() {
        let detail = format!("run {} of project {} is open", run.run.abbrev(), project.name);
        return Err(ServiceError::conflict("project_in_use", detail, "Wait until it has ended, or cancel it"));
    }
    forget(s, caller, &project.name).await?;
    s.store.remove_project(&project.name).await?;
    record(s, caller, "project.remove", format!("project:{}", project.name), &project.repo).await;
    Ok(project)
}

/// Forgets what belongs to one repository, before its project's name may stand for another: what runs learned, who was
/// let in, secrets and sponsors. Runs stay.
async fn forget(s: &Services, caller: &Caller, project: &ProjectName) -> ServiceResult<()> {
    s.store.forget_project(project).await?;
    s.accounts.remove_project_roles(project).await?;
    tokens::revoke_for(s, caller, project).await?;
    s.deploy.store.remove_sponsors(project).await?;
    secrets::remove_of(s, caller, project).await
}

/// Returns a project by name. For callers who cannot read it, a project does not exist.
///
/// # Errors
/// `missing_right` if the caller lacks the right in the project, `no_project`.
pub(super) async fn find_for(s: &Services, caller: &Caller, right: Right, name: &str) -> ServiceResult<Project> {
    caller.require_somewhere(right)?;
    let project = find(s, name).await?;
    if caller.has(right, &project.name) {
        return Ok(project);
    }
    match caller.has(Right::Read, &project.name) {
        true => caller.require_in(right, &project.name).map(|()| project),
        false => Err(ServiceError::no_project(name)),
    }
}

/// Returns the project that a query names, which may have been removed; `None` = all, for callers who have the right in
/// all.
///
/// # Errors
/// `missing_right`, `invalid` if the name is not one, `no_project` if the caller cannot read it.
pub(super) fn named(caller: &Caller, right: Right, name: Option<&str>) -> ServiceResult<Option<ProjectName>> {
    let Some(text) = name else { return caller.require(right).map(|()| None) };
    caller.require_somewhere(right)?;
    let name = input::project_name(text)?;
    match caller.has(Right::Read, &name) {
        true => caller.require_in(right, &name).map(|()| Some(name)),
        false if caller.has(right, &name) => Ok(Some(name)),
        false => Err(ServiceError::no_project(text)),
    }
}

/// Returns a project by name.
pub(super) async fn find(s: &Services, name: &str) -> ServiceResult<Project> {
    let found = match ProjectName::new(name) {
        Ok(name) => s.store.project(&name).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| ServiceError::no_project(name))
}

/// Derives a name from the last part of a path or URL.
fn name_of(repo: &str) -> ServiceResult<ProjectName> {
    if repo.trim().is_empty() {
        return Err(ServiceError::invalid("repo: missing or empty", "Give an absolute path or a URL"));
    }
    let last = repo.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or(repo);
    Ok(ProjectName::from_text(last.strip_suffix(".git").unwrap_or(last)))
}
