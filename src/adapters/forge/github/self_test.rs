//! Tests what the configured account may do. Permissions to write are tested with requests that cannot succeed: GitHub
//! refuses them for their content only if it would accept them otherwise.

use super::GitHubForge;
use super::api::{Api, escaped};
use super::error::grant_url;
use super::wire::Repository;
use crate::adapters::forge::permission::PermissionTest;
use crate::adapters::forge::rate;
use crate::adapters::forge::rest::RestApi;
use crate::adapters::forge::settings::{Account, GitHub, RepoName};
use crate::domain::ForgeName;
use crate::ports::{PortResult, Vault};
use http::Method;
use serde_json::{Value, json};
use std::sync::Arc;

/// A commit that no repository has.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";
/// A branch that no repository has.
const NO_BRANCH: &str = "skep/forge-test-no-such-branch";

/// Tests the account, and its permissions in a repository if one is given.
///
/// # Errors
/// If GitHub does not answer, or the account cannot authenticate.
pub async fn test(
    name: ForgeName,
    settings: GitHub,
    vault: Option<Arc<dyn Vault>>,
    repo: Option<RepoName>,
) -> PortResult<Vec<PermissionTest>> {
    let forge = GitHubForge::new(name, settings, vault)?;
    // Without a repository only the account can be tested.
    let nothing = || RepoName { owner: String::new(), name: String::new() };
    let is_account_only = repo.is_none();
    let api = forge.api_of(repo.unwrap_or_else(nothing));
    let mut tests = vec![api.test_account().await?];
    if is_account_only {
        return Ok(tests);
    }
    let Some((settings, visible)) = api.test_repository().await? else {
        let url = grant_url(&forge.settings);
        tests.push(PermissionTest {
            permission: "metadata: read".to_owned(),
            granted: false,
            optional: false,
            detail: format!("{} does not exist, or is not visible; give the account access to it at {url}", api.repo),
        });
        return Ok(tests);
    };
    tests.push(visible);
    let branch = settings.default_branch.as_deref().unwrap_or("main");
    tests.extend(api.test_permissions(branch).await?);
    tests.extend(api.test_workflows().await?);
    Ok(tests)
}

impl Api<'_> {
    async fn test_account(&self) -> PortResult<PermissionTest> {
        let account = self.account().await?;
        let kind = if account.is_bot { "a bot" } else { "a person: use a GitHub App to tell Skep's work from yours" };
        Ok(PermissionTest {
            permission: "account".to_owned(),
            granted: true,
            optional: false,
            detail: format!("acts as {}, {kind}", account.login),
        })
    }

    async fn test_repository(&self) -> PortResult<Option<(Repository, PermissionTest)>> {
        let found: Option<Repository> = self.find("", "read the repository").await?;
        Ok(found.map(|repository| {
            let detail = match (repository.archived, repository.full_name.eq_ignore_ascii_case(&self.repo.to_string()))
            {
                (true, _) => "the repository is archived: unarchive it in its settings".to_owned(),
                (_, false) => format!("the repository is now {}", repository.full_name),
                _ => "the repository is visible".to_owned(),
            };
            let granted = !repository.archived;
            (repository, PermissionTest { permission: "metadata: read".to_owned(), granted, optional: false, detail })
        }))
    }

    /// Tests each permission that Skep uses.
    async fn test_permissions(&self, branch: &str) -> PortResult<Vec<PermissionTest>> {
        let new_ref = json!({ "ref": format!("refs/heads/{NO_BRANCH}"), "sha": NO_COMMIT });
        // A branch has no commits that it lacks itself.
        let new_pull = json!({ "title": "Permission test", "head": branch, "base": branch });
        let new_status = json!({ "state": "pending", "context": "skep/forge-test" });
        let tests: [(&str, &str, Method, String, Option<Value>); 7] = [
            ("contents: write", "to push branches and to merge", Method::POST, "/git/refs".to_owned(), Some(new_ref)),
            ("pull_requests: write", "to open pull requests", Method::POST, "/pulls".to_owned(), Some(new_pull)),
            ("statuses: write", "to report checks", Method::POST, format!("/statuses/{NO_COMMIT}"), Some(new_status)),
            ("pull_requests: read", "to read reviews", Method::GET, "/pulls?per_page=1".to_owned(), None),
            ("statuses: read", "to read CI", Method::GET, format!("/commits/{}/statuses", escaped(branch)), None),
            ("checks: read", "to read CI", Method::GET, format!("/commits/{}/check-runs", escaped(branch)), None),
            ("actions: read", "to read logs of CI", Method::GET, "/actions/runs?per_page=1".to_owned(), None),
        ];
        let mut rows = Vec::new();
        for (permission, needed, method, path, body) in tests {
            let doing = format!("test the permission {permission}");
            let answer = self.send(method, &self.url(&path), body.as_ref(), &doing).await?;
            let granted = match answer.status.as_u16() {
                200 | 201 | 409 | 422 => true,
                401 | 403 | 404 if rate::pause(&answer, std::time::SystemTime::now()).is_none() => false,
                _ => return Err(self.refusal(&answer, &doing, true)),
            };
            let detail = match granted {
                true => needed.to_owned(),
                false => format!("needed {needed}; grant it at {}", self.grant_url().await?),
            };
            // Not every kind of token can be given the first one; without it Skep sees commit statuses only. Without the
            // second one it reworks failures without their logs.
            let optional = matches!(permission, "checks: read" | "actions: read");
            rows.push(PermissionTest { permission: permission.to_owned(), granted, optional, detail });
        }
        Ok(rows)
    }

    /// Reports whether Skep may change workflow files, where GitHub tells.
    async fn test_workflows(&self) -> PortResult<Option<PermissionTest>> {
        let forge = self.forge;
        let granted = match forge.settings.account {
            Account::App { .. } => {
                let installation = forge.credentials.installation(&forge.client, &self.repo).await?;
                installation.permissions.contains_key("workflows")
            }
            Account::Token(_) => {
                let url = format!("{}/user", forge.settings.api_url);
                let answer = self.send(Method::GET, &url, None, "read the token's scopes").await?;
                // Fine-grained tokens have none.
                let Some(scopes) = answer.headers.get("x-oauth-scopes").and_then(|scopes| scopes.to_str().ok()) else {
                    return Ok(None);
                };
                scopes.split(',').any(|scope| scope.trim() == "workflow")
            }
        };
        let detail = match granted {
            true => "to change files in .github/workflows".to_owned(),
            false => {
                format!("needed only to change files in .github/workflows; grant it at {}", self.grant_url().await?)
            }
        };
        Ok(Some(PermissionTest { permission: "workflows: write".to_owned(), granted, optional: true, detail }))
    }

    /// Returns the page where this account's permissions are granted.
    async fn grant_url(&self) -> PortResult<String> {
        let settings = &self.forge.settings;
        let account = self.account().await?;
        Ok(match (&settings.account, account.login.strip_suffix("[bot]")) {
            (Account::App { .. }, Some(slug)) => format!("{}/settings/apps/{slug}/permissions", settings.url),
            _ => grant_url(settings),
        })
    }
}
