//! Calls about one repository, authenticated and mapped to errors.

use super::ForgejoForge;
use super::error::Subject;
use super::wire::{Branch, Permission, Pull, User};
use crate::adapters::forge::answer::Answer;
use crate::adapters::forge::client::read;
use crate::adapters::forge::fork::Forks;
use crate::adapters::forge::rest::{RestApi, sha};
use crate::adapters::forge::settings::RepoName;
use crate::domain::{ChangeNumber, Principal, Sha};
use crate::ports::{PortError, PortResult};
use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Entries of a page: the most that a server gives, unless it is configured otherwise.
pub(super) const PAGE: usize = 50;

/// Escapes what is special in a path or a query, but not the slashes of a branch.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The account that Skep acts as.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub login: String,
}

impl Account {
    /// Returns whether a user is this account.
    pub fn is(&self, user: Option<&User>) -> bool {
        user.is_some_and(|user| user.login.eq_ignore_ascii_case(&self.login))
    }
}

/// Returns whether an account is a person's: the forge has no other kind, apart from its own.
pub(super) fn is_person(user: &User) -> bool {
    user.id > 0
}

/// Returns the principal for a user; `None` = an account that was deleted.
pub(super) fn principal(user: Option<&User>) -> Principal {
    match user {
        Some(user) if is_person(user) => Principal::from(format!("forge:{}", user.login).as_str()),
        Some(user) if !user.login.eq_ignore_ascii_case("ghost") => {
            Principal::from(format!("bot:{}", user.login).as_str())
        }
        _ => Principal::from("forge:ghost"),
    }
}

/// Escapes a branch or a login for a URL.
pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Returns whether a page with this many entries is the last one. A server may be configured to give smaller pages; then
/// only the total says where the list ends.
pub(super) fn is_last(count: usize, seen: usize, total: Option<usize>) -> bool {
    count == 0 || count < PAGE && total.is_none_or(|total| seen >= total)
}

/// A repository on a forge.
pub(super) struct Api<'a> {
    pub forge: &'a ForgejoForge,
    pub repo: RepoName,
}

impl RestApi for Api<'_> {
    fn url(&self, path: &str) -> String {
        format!("{}/repos/{}{path}", self.forge.settings.api_url(), self.repo)
    }

    fn refusal(&self, answer: &Answer, doing: &str, is_read: bool) -> PortError {
        let (forge, settings) = (self.forge.name.as_str(), &self.forge.settings);
        Subject { forge, settings, repo: &self.repo, doing, is_read }.refusal(answer)
    }

    async fn send(&self, method: Method, url: &str, body: Option<&Value>, doing: &str) -> PortResult<Answer> {
        self.forge.credentials.send(&self.forge.client, method, url, body, doing).await
    }
}

impl Forks for Api<'_> {
    fn fork_owner(&self) -> Option<&str> {
        self.forge.settings.fork_owner.as_deref()
    }

    fn name(&self) -> &RepoName {
        &self.repo
    }

    fn other(&self, repo: RepoName) -> Self {
        Api { forge: self.forge, repo }
    }

    async fn login(&self) -> PortResult<String> {
        Ok(self.account().await?.login.clone())
    }

    async fn has_branch(&self, branch: &str) -> PortResult<bool> {
        Ok(self.branch(branch).await?.is_some())
    }
}

impl Api<'_> {
    /// Reads a whole list, at most `max_pages` pages of it.
    pub async fn list<T: DeserializeOwned>(&self, path: &str, max_pages: usize, doing: &str) -> PortResult<Vec<T>> {
        let (all, is_whole) = self.first_pages(path, max_pages, doing).await?;
        match is_whole {
            true => Ok(all),
            false => Err(PortError::permanent(
                format!("cannot {doing} in {}: there are more than {} entries", self.repo, max_pages * PAGE),
                "close the pull request and start the goal again with `skep retry`",
            )),
        }
    }

    /// Reads the first pages of a list, and returns whether that is all of it.
    pub async fn first_pages<T: DeserializeOwned>(
        &self,
        path: &str,
        max_pages: usize,
        doing: &str,
    ) -> PortResult<(Vec<T>, bool)> {
        let mut all = Vec::new();
        for page in 1..=max_pages {
            let (more, total) = self.page(path, page, doing).await?;
            let count = more.len();
            all.extend(more);
            if is_last(count, all.len(), total) {
                return Ok((all, true));
            }
        }
        Ok((all, false))
    }

    /// Reads a page of a list, the first one being 1, and returns how many entries the whole list has, if that is known.
    pub async fn page<T: DeserializeOwned>(
        &self,
        path: &str,
        page: usize,
        doing: &str,
    ) -> PortResult<(Vec<T>, Option<usize>)> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let url = self.url(&format!("{path}{mark}limit={PAGE}&page={page}"));
        let answer = self.send(Method::GET, &url, None, doing).await?;
        if answer.status != StatusCode::OK {
            return Err(self.refusal(&answer, doing, true));
        }
        let total = answer.header("x-total-count").and_then(|total| total.parse().ok());
        Ok((read(&answer, doing)?, total))
    }

    /// Returns the account that Skep acts as.
    pub async fn account(&self) -> PortResult<&Account> {
        let load = async || {
            let doing = "find out which account Skep acts as";
            let url = format!("{}/user", self.forge.settings.api_url());
            let answer = self.send(Method::GET, &url, None, doing).await?;
            if answer.status != StatusCode::OK {
                return Err(self.refusal(&answer, doing, true));
            }
            let user: User = read(&answer, doing)?;
            Ok(Account { login: user.login })
        };
        self.forge.account.get_or_try_init(load).await
    }

    /// Returns a pull request.
    pub async fn pull(&self, number: ChangeNumber) -> PortResult<Pull> {
        let doing = format!("read pull request {number}");
        self.find(&format!("/pulls/{number}"), &doing).await?.ok_or_else(|| {
            PortError::permanent(
                format!("{} has no change {number}, or Skep may not see it", self.repo),
                format!("`skep forge test {} {}` checks the permissions", self.forge.name, self.repo),
            )
        })
    }

    /// Returns a branch; `None` = there is no such branch.
    pub async fn branch(&self, name: &str) -> PortResult<Option<Branch>> {
        self.find(&format!("/branches/{}", escaped(name)), &format!("read the branch {name:?}")).await
    }

    /// Returns the head of a branch; `None` = there is no such branch.
    pub async fn branch_head(&self, name: &str) -> PortResult<Option<Sha>> {
        self.branch(name).await?.map(|branch| sha(&branch.commit.id)).transpose()
    }

    /// Returns the base branch.
    pub async fn base_branch(&self, name: &str) -> PortResult<Branch> {
        self.branch(name).await?.ok_or_else(|| {
            PortError::permanent(
                format!("{} no longer has the branch {name:?}", self.repo),
                "restore the base branch, then run `skep unblock`",
            )
        })
    }

    /// Returns whether a person may write to the repository: only they steer a run.
    pub async fn may_write(&self, login: &str) -> PortResult<bool> {
        let doing = format!("read the permission of {login}");
        let url = self.url(&format!("/collaborators/{}/permission", escaped(login)));
        let answer = self.send(Method::GET, &url, None, &doing).await?;
        match answer.status {
            StatusCode::OK => {
                let Permission { permission } = read(&answer, &doing)?;
                Ok(matches!(permission.as_str(), "owner" | "admin" | "write"))
            }
            StatusCode::NOT_FOUND => Ok(false),
            // Only administrators of a repository see the permissions of others. Everybody sees whom an issue can be
            // assigned to, which are those who may write.
            StatusCode::FORBIDDEN if super::error::scope(&answer).is_none() => {
                let all: Vec<User> = self.get("/assignees", &doing).await?;
                Ok(all.iter().any(|other| other.login.eq_ignore_ascii_case(login)))
            }
            _ => Err(self.refusal(&answer, &doing, true)),
        }
    }
}
