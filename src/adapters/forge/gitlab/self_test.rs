//! Tests what the configured token and its account may do. Nothing is written: GitLab reports scopes and roles.

use super::GitLabForge;
use super::api::{Api, DEVELOPER};
use super::wire::{Project, Token};
use crate::adapters::forge::client::read;
use crate::adapters::forge::permission::PermissionTest;
use crate::adapters::forge::rest::RestApi;
use crate::adapters::forge::settings::{GitLab, RepoName};
use crate::domain::ForgeName;
use crate::ports::{PortResult, Vault};
use http::{Method, StatusCode};
use std::sync::Arc;

/// The access level of a maintainer, who may push to protected branches unless they say otherwise.
const MAINTAINER: u64 = 40;
/// The scope that Skep needs: no narrower one lets a token open and merge merge requests.
const SCOPE: &str = "api";

/// Tests the account, and its permissions in a project if one is given.
///
/// # Errors
/// If GitLab does not answer, or the account cannot authenticate.
pub async fn test(
    name: ForgeName,
    settings: GitLab,
    vault: Option<Arc<dyn Vault>>,
    repo: Option<RepoName>,
) -> PortResult<Vec<PermissionTest>> {
    let forge = GitLabForge::new(name, settings, vault)?;
    // Without a project only the account can be tested.
    let nothing = || RepoName { owner: String::new(), name: String::new() };
    let is_account_only = repo.is_none();
    let api = forge.api_of(repo.unwrap_or_else(nothing));
    let mut tests = vec![api.test_token().await?];
    if is_account_only {
        return Ok(tests);
    }
    let login = &api.account().await?.login;
    let Some(project) = api.find::<Project>("", "read the project").await? else {
        let detail = format!("{} does not exist, or {login} may not see it: add it as a developer", api.repo);
        tests.push(row("read the project", false, detail));
        return Ok(tests);
    };
    tests.push(api.visible(&project));
    // Only the list of members knows the groups that were invited.
    let level = access_level(&project).max(api.access_level(login).await?);
    tests.push(api.test_role(level).await?);
    let issues = match project.issues_enabled {
        Some(false) => (false, "issues are disabled: no run can begin at one; enable them in the project's settings"),
        _ => (true, "to begin runs at issues"),
    };
    tests.push(optional("issues", issues.0, issues.1.to_owned()));
    let branch = project.default_branch.as_deref().unwrap_or("main");
    tests.push(api.test_merging(branch, level).await?);
    tests.push(train_test(&project));
    tests.extend(thread_note(&project));
    tests.push(pipeline_test(&project));
    Ok(tests)
}

fn row(permission: &str, granted: bool, detail: String) -> PermissionTest {
    PermissionTest { permission: permission.to_owned(), granted, optional: false, detail }
}

fn optional(permission: &str, granted: bool, detail: String) -> PermissionTest {
    PermissionTest { optional: true, ..row(permission, granted, detail) }
}

/// Returns the level of the account's role, by the project or by a group.
fn access_level(project: &Project) -> u64 {
    let permissions = project.permissions.clone().unwrap_or_default();
    let levels = [permissions.project_access, permissions.group_access];
    levels.into_iter().flatten().map(|access| access.access_level).max().unwrap_or_default()
}

/// Reports whether the project merges otherwise than Skep does.
fn train_test(project: &Project) -> PermissionTest {
    match project.merge_trains_enabled {
        Some(true) => row(
            "merging without a merge train",
            false,
            "the project merges by merge trains, which Skep does not use: people add its merge requests to the train"
                .to_owned(),
        ),
        _ => row("merging without a merge train", true, format!("merge method {}", method(project))),
    }
}

fn method(project: &Project) -> &str {
    project.merge_method.as_deref().unwrap_or("merge")
}

/// Reports what people must do before a merge that Skep leaves to them.
fn thread_note(project: &Project) -> Option<PermissionTest> {
    (project.only_allow_merge_if_all_discussions_are_resolved == Some(true)).then(|| {
        let detail = "the project demands that threads are resolved: Skep answers them, and reviewers resolve them";
        optional("threads", true, detail.to_owned())
    })
}

/// Reports whether Skep sees the pipelines that count.
fn pipeline_test(project: &Project) -> PermissionTest {
    match project.merge_pipelines_enabled {
        Some(true) => optional(
            "pipelines",
            false,
            "pipelines of merged results run at another commit than the head, and Skep does not see them".to_owned(),
        ),
        _ => optional("pipelines", true, "to rework failures of jobs with their logs".to_owned()),
    }
}

impl Api<'_> {
    /// Reports the scopes of the token, which it may read itself.
    async fn test_token(&self) -> PortResult<PermissionTest> {
        let login = self.account().await?.login.clone();
        let doing = "read the scopes of the token";
        let settings = &self.forge.settings;
        let url = format!("{}/personal_access_tokens/self", settings.api_url());
        let answer = self.send(Method::GET, &url, None, doing).await?;
        let token: Token = match answer.status {
            StatusCode::OK => read(&answer, doing)?,
            // A token of another kind, such as one of OAuth.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                return Ok(row(SCOPE, true, format!("the token acts as {login}; its scopes are unknown")));
            }
            _ => return Err(self.refusal(&answer, doing, true)),
        };
        let until = token.expires_at.map_or(String::new(), |day| format!(", until {day}"));
        Ok(match token.scopes.iter().any(|scope| scope == SCOPE) {
            true => row(SCOPE, true, format!("the token acts as {login}{until}")),
            false => {
                let detail = format!("needed for everything; create a token with it at {}", settings.token_url());
                row(SCOPE, false, detail)
            }
        })
    }

    fn visible(&self, project: &Project) -> PermissionTest {
        let is_same = project.path_with_namespace.eq_ignore_ascii_case(&self.repo.to_string());
        let (granted, detail) = match (project.archived, project.merge_requests_enabled, is_same) {
            (true, ..) => (false, "the project is archived: unarchive it in its settings".to_owned()),
            (_, Some(false), _) => {
                (false, "merge requests are disabled: enable them in the project's settings".to_owned())
            }
            (.., false) => (true, format!("the project is now {}", project.path_with_namespace)),
            _ => (true, "the project is visible".to_owned()),
        };
        row("read the project", granted, detail)
    }

    /// Reports the role of the account.
    async fn test_role(&self, level: u64) -> PortResult<PermissionTest> {
        let detail = match level >= DEVELOPER {
            true => "to push branches, to open merge requests, and to report checks".to_owned(),
            false => {
                let (login, url) = (&self.account().await?.login, &self.forge.settings.url);
                format!(
                    "needed to push branches and to open merge requests; give {login} this role at \
                     {url}/{}/-/project_members",
                    self.repo
                )
            }
        };
        Ok(row("role Developer", level >= DEVELOPER, detail))
    }

    /// Reports whether the account may merge to a branch, as far as GitLab reports it.
    async fn test_merging(&self, branch: &str, level: u64) -> PortResult<PermissionTest> {
        let permission = format!("merge to {branch}");
        Ok(match self.branch(branch).await? {
            None => row(&permission, false, format!("the project has no branch {branch}: push a first commit")),
            Some(found) if !found.protected || found.developers_can_merge || level >= MAINTAINER => {
                row(&permission, true, "no protected branch keeps the account from merging".to_owned())
            }
            Some(_) => {
                let (login, url) = (&self.account().await?.login, &self.forge.settings.url);
                let detail = format!(
                    "the branch is protected: allow {login} or all developers to merge at \
                     {url}/{}/-/settings/repository",
                    self.repo
                );
                row(&permission, false, detail)
            }
        })
    }
}
