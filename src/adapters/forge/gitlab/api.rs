//! Calls about one project, authenticated and mapped to errors.

use super::error::Subject;
use super::wire::{Branch, Member, MergeRequest, Note, Project, User};
use super::{GitLabForge, Topic};
use crate::adapters::forge::answer::Answer;
use crate::adapters::forge::client::read;
use crate::adapters::forge::rest::{RestApi, sha};
use crate::adapters::forge::settings::RepoName;
use crate::domain::{ChangeNumber, Principal, Sha, Timestamp};
use crate::ports::{PortError, PortResult};
use chrono::DateTime;
use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Entries of a page, as many as GitLab gives at most.
pub(super) const PAGE: usize = 100;
/// Upper bound on the pages of notes that are read.
const MAX_NOTE_PAGES: usize = 20;
/// The access level of a developer, the first role that may push.
pub(super) const DEVELOPER: u64 = 30;

/// Escapes what is special in a part of a path or in a query. A branch is one part of a path.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// GitLab's own accounts.
const OWN_BOTS: &[&str] = &[
    "alert-bot",
    "gitlab-admin-bot",
    "gitlab-automation-bot",
    "gitlab-llm-bot",
    "gitlab-security-bot",
    "gitlabduo",
    "migration-bot",
    "support-bot",
    "visual-review-bot",
];
/// How GitLab names service accounts, unless somebody gave one another name.
const SERVICE_ACCOUNT: &str = "service_account_";
/// The account that stands for those that were deleted.
const GHOST: &str = "ghost";

/// The account that Skep acts as.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub id: u64,
    pub login: String,
}

impl Account {
    /// Returns whether a user is this account.
    pub fn is(&self, user: Option<&User>) -> bool {
        user.is_some_and(|user| user.id == self.id)
    }
}

/// Returns whether an account is a person's. The bot of a project's or a group's access token has a name such as
/// `project_7_bot_3f9a12bc`.
pub(super) fn is_person(user: &User) -> bool {
    let name = user.username.to_ascii_lowercase();
    let of_token = ["project_", "group_"].iter().any(|prefix| {
        let rest = name.strip_prefix(prefix).unwrap_or_default();
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        after.len() < rest.len() && after.starts_with("_bot")
    });
    let is_bot = user.bot == Some(true) || of_token || name.starts_with(SERVICE_ACCOUNT);
    !is_bot && name != GHOST && !OWN_BOTS.contains(&name.as_str())
}

/// Returns the principal for a user; `None` = an account that was deleted.
pub(super) fn principal(user: Option<&User>) -> Principal {
    match user {
        Some(user) if is_person(user) => Principal::from(format!("forge:{}", user.username).as_str()),
        Some(user) if !user.username.eq_ignore_ascii_case(GHOST) => {
            Principal::from(format!("bot:{}", user.username).as_str())
        }
        _ => Principal::from("forge:ghost"),
    }
}

/// Escapes a part of a path or a value of a query.
pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Reads a time.
pub(super) fn time(text: &str) -> PortResult<Timestamp> {
    let at = DateTime::parse_from_rfc3339(text)
        .map_err(|_| PortError::transient("GitLab's answer contains an invalid time"))?;
    Ok(Timestamp(at.timestamp_millis()))
}

/// A project on GitLab.
pub(super) struct Api<'a> {
    pub forge: &'a GitLabForge,
    pub repo: RepoName,
}

impl RestApi for Api<'_> {
    fn url(&self, path: &str) -> String {
        format!("{}/projects/{}{path}", self.forge.settings.api_url(), escaped(&self.repo.to_string()))
    }

    fn refusal(&self, answer: &Answer, doing: &str, is_read: bool) -> PortError {
        let (forge, settings) = (self.forge.name.as_str(), &self.forge.settings);
        Subject { forge, settings, repo: &self.repo, doing, is_read }.refusal(answer)
    }

    async fn send(&self, method: Method, url: &str, body: Option<&Value>, doing: &str) -> PortResult<Answer> {
        self.forge.credentials.send(&self.forge.client, method, url, body, doing).await
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
                "look at what has piled up there; for a merge request, close it and run `skep retry`",
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
            let (more, is_last) = self.page(path, page, doing).await?;
            all.extend(more);
            if is_last {
                return Ok((all, true));
            }
        }
        Ok((all, false))
    }

    /// Reads a page of a list, the first one being 1, and returns whether it is the last one.
    pub async fn page<T: DeserializeOwned>(&self, path: &str, page: usize, doing: &str) -> PortResult<(Vec<T>, bool)> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let url = self.url(&format!("{path}{mark}per_page={PAGE}&page={page}"));
        let answer = self.send(Method::GET, &url, None, doing).await?;
        if answer.status != StatusCode::OK {
            return Err(self.refusal(&answer, doing, true));
        }
        let entries: Vec<T> = read(&answer, doing)?;
        let is_last = match answer.header("link") {
            // A server may be configured to give smaller pages.
            Some(links) => entries.is_empty() || !links.contains("rel=\"next\""),
            None => entries.len() < PAGE,
        };
        Ok((entries, is_last))
    }

    /// Returns the account that Skep acts as.
    pub async fn account(&self) -> PortResult<&Account> {
        let load = async || {
            let user: User = self.of_server("/user", "find out which account Skep acts as").await?;
            Ok(Account { id: user.id, login: user.username })
        };
        self.forge.account.get_or_try_init(load).await
    }

    /// Reads what belongs to no project.
    async fn of_server<T: DeserializeOwned>(&self, path: &str, doing: &str) -> PortResult<T> {
        let url = format!("{}{path}", self.forge.settings.api_url());
        let answer = self.send(Method::GET, &url, None, doing).await?;
        match answer.status {
            StatusCode::OK => read(&answer, doing),
            _ => Err(self.refusal(&answer, doing, true)),
        }
    }

    /// Returns the project with its settings.
    pub async fn project(&self) -> PortResult<Project> {
        self.get("", "read the project's settings").await
    }

    /// Returns a merge request.
    pub async fn merge_request(&self, number: ChangeNumber) -> PortResult<MergeRequest> {
        let doing = format!("read merge request {number}");
        self.find(&Topic::MergeRequest(number.0).path(), &doing).await?.ok_or_else(|| {
            PortError::permanent(
                format!("{} has no change {number}, or Skep may not see it", self.repo),
                format!("`skep forge test {} {}` checks the permissions", self.forge.name, self.repo),
            )
        })
    }

    /// Returns a branch; `None` = there is no such branch.
    pub async fn branch(&self, name: &str) -> PortResult<Option<Branch>> {
        self.find(&format!("/repository/branches/{}", escaped(name)), &format!("read the branch {name:?}")).await
    }

    /// Returns the head of a branch; `None` = there is no such branch.
    pub async fn branch_head(&self, name: &str) -> PortResult<Option<Sha>> {
        self.branch(name).await?.map(|branch| sha(&branch.commit.id)).transpose()
    }

    /// Returns the head of the target branch.
    pub async fn target_head(&self, name: &str) -> PortResult<Sha> {
        self.branch_head(name).await?.ok_or_else(|| {
            PortError::permanent(
                format!("{} no longer has the branch {name:?}", self.repo),
                "restore the base branch, then run `skep unblock`",
            )
        })
    }

    /// Returns the notes on a topic, oldest first, those that GitLab writes itself included.
    pub async fn notes(&self, topic: Topic) -> PortResult<Vec<Note>> {
        let path = format!("{}/notes?sort=asc&order_by=created_at", topic.path());
        self.list(&path, MAX_NOTE_PAGES, &format!("read the comments on {topic}")).await
    }

    /// Returns whether a person may write to the project: only they steer a run.
    pub async fn may_write(&self, login: &str) -> PortResult<bool> {
        Ok(self.access_level(login).await? >= DEVELOPER)
    }

    /// Returns the level of somebody's role, as a member of the project or of a group that it is in; 0 = none.
    pub async fn access_level(&self, login: &str) -> PortResult<u64> {
        let doing = format!("read the role of {login}");
        // By its id: the search among members finds parts of names as well, and in a large group any number of them.
        let users: Vec<User> = self.of_server(&format!("/users?username={}", escaped(login)), &doing).await?;
        let Some(user) = users.iter().find(|user| user.username.eq_ignore_ascii_case(login)) else { return Ok(0) };
        let member: Option<Member> = self.find(&format!("/members/all/{}", user.id), &doing).await?;
        let active = member.filter(|member| matches!(member.state.as_str(), "active" | ""));
        Ok(active.map_or(0, |member| member.access_level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bots_are_no_people() {
        let person = |name: &str, bot| is_person(&User { id: 1, username: name.to_owned(), bot });
        assert!(person("ann", None) && person("project_manager", Some(false)) && person("project_7", None));
        for bot in [
            "project_7_bot",
            "project_7_bot1",
            "group_12_bot_3f9a12bc",
            "service_account_group_3_ab",
            "Ghost",
            "support-bot",
        ] {
            assert!(!person(bot, None), "{bot}");
        }
        assert!(!person("helper", Some(true)));
        let user = User { id: 2, username: "project_7_bot_ab".to_owned(), bot: None };
        assert_eq!(principal(Some(&user)), Principal::from("bot:project_7_bot_ab"));
        assert_eq!(principal(None), Principal::from("forge:ghost"));
    }

    #[test]
    fn a_project_and_a_branch_are_one_part_of_a_path() {
        assert_eq!(escaped("my-org/team/calc"), "my-org%2Fteam%2Fcalc");
        assert_eq!(escaped("skep/3f9a12bc"), "skep%2F3f9a12bc");
        assert_eq!(escaped("a b?&#é"), "a%20b%3F%26%23%C3%A9");
    }
}
