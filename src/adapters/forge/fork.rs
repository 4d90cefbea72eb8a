//! Forks: where runs push to if Skep may not write to a repository. The forge makes one fork of a repository for an
//! owner, so that a lost answer changes nothing.
//!
//! Invariant: only a fork of exactly this repository is used; another one of that name is a question to a person.

use super::client::read;
use super::rest::RestApi;
use super::settings::RepoName;
use crate::ports::{PortError, PortResult};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// How long a forge is given to make a fork before it is looked at again.
const MAKING: Duration = Duration::from_secs(2);

/// What a forge says about a repository.
#[derive(Debug, Deserialize)]
struct Facts {
    full_name: String,
    #[serde(default)]
    fork: bool,
    /// What it was forked from.
    #[serde(default)]
    parent: Option<Named>,
    /// What Skep's account may do. An App is not told.
    #[serde(default)]
    permissions: Option<Permissions>,
    #[serde(default)]
    default_branch: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Named {
    full_name: String,
}

#[derive(Debug, Deserialize)]
struct Permissions {
    #[serde(default)]
    push: bool,
}

/// Where the branches of runs are pushed to.
pub(super) enum PushTarget {
    /// The repository itself.
    Itself,
    /// A fork of it.
    Fork(RepoName),
    /// A fork that does not exist yet.
    MissingFork(RepoName),
}

impl Facts {
    fn is_fork_of(&self, repo: &RepoName) -> bool {
        let parent = self.parent.as_ref().map_or("", |parent| &parent.full_name);
        self.fork && parent.eq_ignore_ascii_case(&repo.to_string())
    }

    fn may_push(&self) -> bool {
        self.permissions.as_ref().is_none_or(|permissions| permissions.push)
    }
}

/// A repository on a forge that has forks.
pub(super) trait Forks: RestApi + Sized + Send {
    /// Returns the configured owner of forks.
    fn fork_owner(&self) -> Option<&str>;
    /// Returns the repository.
    fn name(&self) -> &RepoName;
    /// Returns another repository of the forge.
    fn other(&self, repo: RepoName) -> Self;
    /// Returns the login of Skep's account.
    fn login(&self) -> impl Future<Output = PortResult<String>> + Send;
    /// Returns whether a repository has a branch.
    fn has_branch(&self, branch: &str) -> impl Future<Output = PortResult<bool>> + Send;

    /// Returns the repository that the branch of a pull request is in: the fork, if it is one.
    fn head_repo(&self, full_name: Option<&str>) -> Option<Self> {
        let repo = RepoName::parse(full_name?)?;
        let is_own = repo.to_string().eq_ignore_ascii_case(&self.name().to_string());
        (!is_own && self.fork_owner().is_some()).then(|| self.other(repo))
    }

    /// Returns where Skep pushes to.
    ///
    /// # Errors
    /// Permanent if another repository has the name of the fork.
    fn target(&self) -> impl Future<Output = PortResult<PushTarget>> + Send {
        async move {
            let repo = self.name();
            let owner = self.fork_owner().filter(|owner| !owner.eq_ignore_ascii_case(&repo.owner));
            let Some(owner) = owner else { return Ok(PushTarget::Itself) };
            let fork = RepoName { owner: owner.to_owned(), name: repo.name.clone() };
            let there: Option<Facts> = self.other(fork.clone()).find("", "look for a fork").await?;
            // A fork that exists stays in use: its pull requests are open.
            if there.as_ref().is_some_and(|there| there.is_fork_of(repo)) {
                return Ok(PushTarget::Fork(fork));
            }
            let facts: Facts = self.get("", "read the repository").await?;
            match there {
                _ if facts.may_push() => Ok(PushTarget::Itself),
                Some(_) => Err(taken(&fork, repo)),
                None => Ok(PushTarget::MissingFork(fork)),
            }
        }
    }

    /// Returns the fork that Skep pushes to; `None` = it pushes to the repository itself, because it may, or because no
    /// owner of forks is configured.
    ///
    /// # Errors
    /// As [`Forks::target`]; transient if the fork does not exist yet.
    fn fork(&self) -> impl Future<Output = PortResult<Option<RepoName>>> + Send {
        async move {
            match self.target().await? {
                PushTarget::Itself => Ok(None),
                PushTarget::Fork(fork) => Ok(Some(fork)),
                PushTarget::MissingFork(fork) => Err(being_made(&fork)),
            }
        }
    }

    /// Returns the fork that Skep pushes to, and makes it if it does not exist; `None` = as for [`Forks::fork`].
    fn ensure_fork(&self) -> impl Future<Output = PortResult<Option<RepoName>>> + Send {
        async move {
            if let PushTarget::MissingFork(_) = self.target().await? {
                self.make_fork().await?;
            }
            let Some(fork) = self.fork().await? else { return Ok(None) };
            // The forge copies the repository after its answer.
            let facts: Facts = self.other(fork.clone()).get("", "read the fork").await?;
            let branch = facts.default_branch.unwrap_or_else(|| "main".to_owned());
            match self.other(fork.clone()).has_branch(&branch).await? {
                true => Ok(Some(fork)),
                false => Err(being_made(&fork)),
            }
        }
    }

    /// Asks the forge for a fork.
    fn make_fork(&self) -> impl Future<Output = PortResult<()>> + Send {
        async move {
            let (repo, owner) = (self.name(), self.fork_owner().unwrap_or_default());
            let doing = format!("fork {repo} to {owner}");
            let is_own = self.login().await?.eq_ignore_ascii_case(owner);
            let body = if is_own { json!({}) } else { json!({ "organization": owner }) };
            crate::fault!("before-fork");
            let answer = self.send(Method::POST, &self.url("/forks"), Some(&body), &doing).await?;
            crate::fault!("after-fork");
            match answer.status {
                StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED => {
                    let made: Facts = read(&answer, &doing)?;
                    let wanted = format!("{owner}/{}", repo.name);
                    if made.full_name.eq_ignore_ascii_case(&wanted) {
                        return Ok(());
                    }
                    Err(PortError::permanent(
                        format!("cannot {doing}: the fork of {owner} is {}", made.full_name),
                        format!("rename {} to {}, then run `skep unblock`", made.full_name, repo.name),
                    ))
                }
                // Another process was faster.
                StatusCode::CONFLICT => Ok(()),
                _ => Err(self.refusal(&answer, &doing, false)),
            }
        }
    }

    /// Creates the error for a merge that Skep may not do.
    fn only_maintainers_merge(&self, pull: u64, url: &str) -> PortError {
        let repo = self.name();
        PortError::permanent(
            format!("the change is proven, but only a maintainer of {repo} can merge pull request {pull}"),
            format!("ask a maintainer to merge {url}; the run ends by itself when that has happened"),
        )
    }
}

fn taken(fork: &RepoName, repo: &RepoName) -> PortError {
    PortError::permanent(
        format!("{fork} exists and is not a fork of {repo}, to which Skep may not push"),
        format!("rename or delete {fork}, or set another `fork_owner`, then run `skep unblock`"),
    )
}

fn being_made(fork: &RepoName) -> PortError {
    PortError::Transient { what: format!("the fork {fork} is not there yet"), after: Some(MAKING) }
}
