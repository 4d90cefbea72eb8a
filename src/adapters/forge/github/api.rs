//! Calls about one repository, authenticated and mapped to errors.

use super::GitHubForge;
use super::error::Subject;
use super::wire::{App, GitRef, GraphQl, Pull, User};
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
use serde_json::{Value, json};

/// Entries of a page.
pub(super) const PAGE: usize = 100;

/// Escapes what is special in a path or a query, but not the slashes of a branch.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The account that Skep acts as.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub login: String,
    /// Whether it belongs to Skep alone. A person's token acts as that person.
    pub is_bot: bool,
}

impl Account {
    /// Returns whether a user is this account.
    pub fn is(&self, user: Option<&User>) -> bool {
        user.is_some_and(|user| user.login.eq_ignore_ascii_case(&self.login))
    }

    /// Returns the principal for a user; `None` = an account that was deleted.
    pub fn principal(&self, user: Option<&User>) -> Principal {
        match user {
            Some(_) if self.is_bot && self.is(user) => Principal::skep(),
            Some(user) if is_person(user) => Principal::from(format!("forge:{}", user.login).as_str()),
            Some(user) => Principal::from(format!("bot:{}", user.login).as_str()),
            None => Principal::from("forge:ghost"),
        }
    }
}

/// Returns whether an account is a person's.
pub(super) fn is_person(user: &User) -> bool {
    user.kind != "Bot" && !user.login.ends_with("[bot]")
}

/// Escapes a branch or a login for a URL.
pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// A repository on a forge.
pub(super) struct Api<'a> {
    pub forge: &'a GitHubForge,
    pub repo: RepoName,
}

impl RestApi for Api<'_> {
    fn url(&self, path: &str) -> String {
        format!("{}/repos/{}{path}", self.forge.settings.api_url, self.repo)
    }

    fn refusal(&self, answer: &Answer, doing: &str, is_read: bool) -> PortError {
        let (forge, settings) = (self.forge.name.as_str(), &self.forge.settings);
        Subject { forge, settings, repo: Some(&self.repo), doing, is_read }.refusal(answer)
    }

    async fn send(&self, method: Method, url: &str, body: Option<&Value>, doing: &str) -> PortResult<Answer> {
        let GitHubForge { client, credentials, .. } = self.forge;
        let token = credentials.token(client, &self.repo).await?;
        let answer = client.send(Some(&token), method.clone(), url, body, doing).await?;
        // A refused token did nothing, so the request may be sent again with the token that replaced it.
        if answer.status == StatusCode::UNAUTHORIZED && credentials.drop_refused(&token).await {
            let fresh = credentials.token(client, &self.repo).await?;
            if fresh != token {
                return client.send(Some(&fresh), method, url, body, doing).await;
            }
        }
        Ok(answer)
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
        Ok(self.branch_head(branch).await?.is_some())
    }
}

impl Api<'_> {
    /// Reads a list, at most `max_pages` pages of it. `path` has no query.
    pub async fn list<T: DeserializeOwned>(&self, path: &str, max_pages: usize, doing: &str) -> PortResult<Vec<T>> {
        let mut all = Vec::new();
        for page in 1..=max_pages {
            let path = format!("{path}?per_page={PAGE}&page={page}");
            let more: Vec<T> = self.get(&path, doing).await?;
            let is_last = more.len() < PAGE;
            all.extend(more);
            if is_last {
                return Ok(all);
            }
        }
        Err(PortError::permanent(
            format!("cannot {doing} in {}: there are more than {} entries", self.repo, max_pages * PAGE),
            "close the pull request and start the goal again with `skep retry`",
        ))
    }

    /// Carries out a GraphQL mutation on an object, for what the REST API lacks.
    pub async fn mutate(&self, mutation: &str, field: &str, node_id: &str, doing: &str) -> PortResult<()> {
        let query = format!("mutation($id: ID!) {{ {mutation}(input: {{{field}: $id}}) {{ clientMutationId }} }}");
        let body = json!({ "query": query, "variables": { "id": node_id } });
        let url = self.forge.settings.graphql_url();
        let answer = self.send(Method::POST, &url, Some(&body), doing).await?;
        if answer.status != StatusCode::OK {
            return Err(self.refusal(&answer, doing, false));
        }
        let outcome: GraphQl = read(&answer, doing)?;
        match outcome.errors.first() {
            None => Ok(()),
            Some(error) if error.kind == "RATE_LIMITED" => {
                Err(PortError::transient(format!("cannot {doing}: {}", error.message)))
            }
            Some(error) => Err(PortError::permanent(
                format!("cannot {doing} in {}: GitHub answered: {}", self.repo, error.message),
                format!(
                    "`skep forge test {} {}` checks the permissions, then run `skep unblock`",
                    self.forge.name, self.repo
                ),
            )),
        }
    }

    /// Returns the account that Skep acts as.
    pub async fn account(&self) -> PortResult<&Account> {
        let GitHubForge { client, credentials, settings, account, .. } = self.forge;
        let load = async || {
            let doing = "find out which account Skep acts as";
            if let Some(app_token) = credentials.app_token().await? {
                let url = format!("{}/app", settings.api_url);
                let answer = client.send(Some(&app_token), Method::GET, &url, None, doing).await?;
                if answer.status != StatusCode::OK {
                    return Err(self.refusal(&answer, doing, true));
                }
                let app: App = read(&answer, doing)?;
                return Ok(Account { login: format!("{}[bot]", app.slug), is_bot: true });
            }
            let answer = self.send(Method::GET, &format!("{}/user", settings.api_url), None, doing).await?;
            if answer.status != StatusCode::OK {
                return Err(self.refusal(&answer, doing, true));
            }
            let user: User = read(&answer, doing)?;
            Ok(Account { is_bot: !is_person(&user), login: user.login })
        };
        account.get_or_try_init(load).await
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

    /// Returns the head of a branch; `None` = there is no such branch.
    pub async fn branch_head(&self, branch: &str) -> PortResult<Option<Sha>> {
        let path = format!("/git/ref/heads/{}", escaped(branch));
        let found: Option<GitRef> = self.find(&path, &format!("read the branch {branch:?}")).await?;
        found.map(|found| sha(&found.object.sha)).transpose()
    }

    /// Returns the head of the base branch.
    pub async fn base_head(&self, branch: &str) -> PortResult<Sha> {
        self.branch_head(branch).await?.ok_or_else(|| {
            PortError::permanent(
                format!("{} no longer has the branch {branch:?}", self.repo),
                "restore the base branch, then run `skep unblock`",
            )
        })
    }
}
