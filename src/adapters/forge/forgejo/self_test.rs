//! Tests what the configured token and its account may do. Permissions to write are tested with requests that cannot
//! succeed: the forge refuses them for their content only if it would accept them otherwise.

use super::ForgejoForge;
use super::api::{Api, escaped};
use super::error::scope;
use super::wire::{Branch, Repository};
use crate::adapters::forge::permission::PermissionTest;
use crate::adapters::forge::rate;
use crate::adapters::forge::rest::RestApi;
use crate::adapters::forge::settings::{Forgejo, RepoName};
use crate::domain::ForgeName;
use crate::ports::{PortResult, Vault};
use http::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::SystemTime;

/// Tests the account, and its permissions in a repository if one is given.
///
/// # Errors
/// If the forge does not answer, or the account cannot authenticate.
pub async fn test(
    name: ForgeName,
    settings: Forgejo,
    vault: Option<Arc<dyn Vault>>,
    repo: Option<RepoName>,
) -> PortResult<Vec<PermissionTest>> {
    let forge = ForgejoForge::new(name, settings, vault)?;
    // Without a repository only the account can be tested.
    let nothing = || RepoName { owner: String::new(), name: String::new() };
    let is_account_only = repo.is_none();
    let api = forge.api_of(repo.unwrap_or_else(nothing));
    let account = api.account().await?;
    let mut tests = vec![row("read:user", true, format!("the token acts as {}", account.login))];
    if is_account_only {
        return Ok(tests);
    }
    let Some(repository) = api.find::<Repository>("", "read the repository").await? else {
        let detail =
            format!("{} does not exist, or {} may not see it: add it as a collaborator", api.repo, account.login);
        tests.push(row("read:repository", false, detail));
        return Ok(tests);
    };
    tests.push(api.visible(&repository));
    let rights = api.test_account_rights(&repository).await?;
    let may_write = rights[0].granted;
    tests.extend(rights);
    let branch = repository.default_branch.as_deref().unwrap_or("main");
    tests.extend(api.test_scopes(branch, may_write).await?);
    tests.push(api.test_merging(branch).await?);
    tests.push(api.test_logs().await?);
    Ok(tests)
}

fn row(permission: &str, granted: bool, detail: String) -> PermissionTest {
    PermissionTest { permission: permission.to_owned(), granted, optional: false, detail }
}

fn optional(permission: &str, granted: bool, detail: String) -> PermissionTest {
    PermissionTest { optional: true, ..row(permission, granted, detail) }
}

impl Api<'_> {
    fn visible(&self, repository: &Repository) -> PermissionTest {
        let is_same = repository.full_name.eq_ignore_ascii_case(&self.repo.to_string());
        let (granted, detail) = match (repository.archived, repository.has_pull_requests, is_same) {
            (true, ..) => (false, "the repository is archived: unarchive it in its settings".to_owned()),
            (_, Some(false), _) => {
                (false, "pull requests are disabled: enable them in the repository's settings".to_owned())
            }
            (.., false) => (true, format!("the repository is now {}", repository.full_name)),
            _ => (true, "the repository is visible".to_owned()),
        };
        row("read:repository", granted, detail)
    }

    /// Reports what the account may do in the repository, whatever the scopes of its token are.
    async fn test_account_rights(&self, repository: &Repository) -> PortResult<[PermissionTest; 2]> {
        let rights = repository.permissions.unwrap_or_default();
        let login = &self.account().await?.login;
        let people = format!("{}/{}/settings/collaboration", self.forge.settings.url, self.repo);
        let write = match rights.push || rights.admin {
            true => "to push branches, to merge, and to report checks".to_owned(),
            false => format!("needed to push branches, to merge, and to report checks; let {login} write at {people}"),
        };
        let admin = match rights.admin {
            true => "to read the permissions of people".to_owned(),
            false => "without it, Skep regards those as writers to whom an issue can be assigned".to_owned(),
        };
        Ok([
            row("collaborator: write", rights.push || rights.admin, write),
            optional("collaborator: administrator", rights.admin, admin),
        ])
    }

    /// Tests each scope that Skep needs.
    async fn test_scopes(&self, branch: &str, may_write: bool) -> PortResult<Vec<PermissionTest>> {
        // A branch has no commits that it lacks itself, and no comment has the number 0.
        let new_pull = json!({ "title": "Permission test", "head": branch, "base": branch });
        let edit = json!({ "body": "Permission test" });
        let tests: [(&str, &str, Method, &str, Value); 2] = [
            ("write:repository", "to open and merge pull requests", Method::POST, "/pulls", new_pull),
            ("write:issue", "to comment on pull requests", Method::PATCH, "/issues/comments/0", edit),
        ];
        let mut rows = Vec::new();
        for (permission, needed, method, path, body) in tests {
            let doing = format!("test the scope {permission}");
            let answer = self.send(method, &self.url(path), Some(&body), &doing).await?;
            let granted = match answer.status.as_u16() {
                // An archived repository has a row of its own.
                404 | 409 | 422 | 423 => true,
                // So has an account that may not write, whatever the scopes of its token are.
                403 if rate::pause(&answer, SystemTime::now()).is_none() => scope(&answer).is_none() && !may_write,
                _ => return Err(self.refusal(&answer, &doing, true)),
            };
            let detail = match granted {
                true => needed.to_owned(),
                false => format!("needed {needed}; create a token with it at {}", self.forge.settings.token_url()),
            };
            rows.push(row(permission, granted, detail));
        }
        Ok(rows)
    }

    /// Reports whether the protection rule of a branch lets the account merge.
    async fn test_merging(&self, branch: &str) -> PortResult<PermissionTest> {
        let permission = format!("merge to {branch}");
        let path = format!("/branches/{}", escaped(branch));
        let found: Option<Branch> = self.find(&path, "read the default branch").await?;
        Ok(match found {
            None => row(&permission, false, format!("the repository has no branch {branch}: push a first commit")),
            Some(Branch { protected: true, user_can_merge: false, .. }) => {
                let login = &self.account().await?.login;
                row(&permission, false, format!("add {login} to the merge whitelist of the branch protection rule"))
            }
            Some(_) => row(&permission, true, "no rule keeps the account from merging".to_owned()),
        })
    }

    /// Reports whether this version gives the logs of Actions.
    async fn test_logs(&self) -> PortResult<PermissionTest> {
        let doing = "test the logs of Actions";
        let answer = self.send(Method::GET, &self.url("/actions/runs?limit=1"), None, doing).await?;
        let (granted, detail) = match answer.status.as_u16() {
            200 => (true, "to rework failures of Actions with their logs".to_owned()),
            403..=405 => {
                let software = self.forge.settings.software;
                (false, format!("Actions are off, or this version of {software} has no API for their logs"))
            }
            _ => return Err(self.refusal(&answer, doing, true)),
        };
        Ok(optional("logs of Actions", granted, detail))
    }
}
