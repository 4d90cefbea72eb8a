//! What intake needs from a forge: its webhooks, its issues and their comments, and who may write.
//!
//! Every text that is read here is anybody's.
//!
//! A forge may number pull requests apart from issues. Then the numbers by which it names pull requests here, in facts,
//! lists and comments, are keys of its own for the calls below; [`Issue::number`] is the one that people see.

use super::workspace::Repo;
use super::{PortError, PortResult};
use crate::domain::{ChangeNumber, Fact, Principal, Sha, Timestamp};
use async_trait::async_trait;
use std::time::Duration;

/// How a forge's issues are taken in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntakeRules {
    /// The label that starts a run; `None` = no label does.
    pub label: Option<String>,
    /// The login by whose mention people give commands; `None` = no mention is a command.
    pub mention: Option<String>,
    /// How often the repositories are swept for what no webhook reported; `None` = never.
    pub poll_interval: Option<Duration>,
}

/// An account on the forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Its name on the forge.
    pub login: String,
    /// Who it is to Skep: a person, a bot, or Skep itself.
    pub principal: Principal,
}

/// An issue or a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Its number, as people see it.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Its text, Markdown.
    pub body: String,
    /// Its address for people.
    pub url: String,
    /// Whether it is open.
    pub is_open: bool,
    /// Its labels.
    pub labels: Vec<String>,
    /// The branch and the head, if it is a pull request.
    pub pull: Option<(String, Sha)>,
}

impl Issue {
    /// Returns whether it has a label, whose case does not matter.
    pub fn has(&self, label: &str) -> bool {
        self.labels.iter().any(|name| name.eq_ignore_ascii_case(label))
    }
}

/// Somebody did something to an issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueAct {
    /// Who; `None` = an account that was deleted.
    pub by: Option<Actor>,
    /// When, by the forge's clock.
    pub at: Timestamp,
}

/// An issue that Skep wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnIssue {
    /// Its address for people.
    pub url: String,
    /// Whether it is open.
    pub is_open: bool,
}

/// A comment on an issue or pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueComment {
    /// Its id.
    pub id: u64,
    /// The number of the issue or pull request.
    pub number: u64,
    /// The author; `None` = an account that was deleted.
    pub by: Option<Actor>,
    /// Whether Skep wrote it.
    pub is_own: bool,
    /// When it was written, by the forge's clock.
    pub at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Its text, Markdown.
    pub text: String,
}

/// An issue in the list of those with a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledIssue {
    /// Its number.
    pub number: u64,
    /// Whether it is a pull request.
    pub is_pull: bool,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What a webhook reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEvent {
    /// The id of the delivery, chosen by the forge.
    pub id: String,
    /// The kind of event, such as `issues.labeled`.
    pub event: String,
    /// The repository, `OWNER/REPO`; empty if the event has none.
    pub repository: String,
    /// The fact to apply, or why the event is ignored.
    pub fact: Result<Fact, String>,
}

/// Why a webhook was not accepted.
#[derive(Debug)]
pub enum WebhookRefusal {
    /// The forge has no webhook secret: its webhooks are off.
    Off,
    /// The signature is missing or wrong.
    Signature,
    /// It is signed, but not usable.
    Malformed(String),
    /// The secret cannot be read.
    Unavailable(super::PortError),
}

/// A forge as intake uses it.
#[async_trait]
pub trait ForgeIssues: Send + Sync {
    /// Returns the configured rules.
    fn rules(&self) -> IntakeRules;
    /// Returns the name of a repository, `OWNER/REPO` in lower case; `None` = it is on another forge.
    fn repository_name(&self, repo: &Repo) -> Option<String>;
    /// Authenticates a webhook by the signature over its raw bytes, and reads it. `header` returns a header by its
    /// lower-case name.
    async fn read_webhook(
        &self,
        header: &(dyn for<'a> Fn(&'a str) -> Option<String> + Send + Sync),
        body: &[u8],
    ) -> Result<WebhookEvent, WebhookRefusal>;
    /// Returns whether an account may write to the repository.
    async fn may_write(&self, repo: &Repo, actor: &Actor) -> PortResult<bool>;
    /// Returns an issue or pull request; `None` = it does not exist.
    async fn issue(&self, repo: &Repo, number: u64) -> PortResult<Option<Issue>>;
    /// Returns who last gave the issue a label; `None` = it does not have the label.
    async fn labelled(&self, repo: &Repo, issue: &Issue, label: &str) -> PortResult<Option<IssueAct>>;
    /// Returns who changed the title or the text of an issue after a time, as far as the forge reports it. Where it does
    /// not, whoever may have changed it is returned.
    async fn edited(&self, repo: &Repo, issue: &Issue, since: Timestamp) -> PortResult<Vec<IssueAct>>;
    /// Returns a comment on the issue or pull request with this number; `None` = it does not exist.
    async fn comment(&self, repo: &Repo, number: u64, id: u64) -> PortResult<Option<IssueComment>>;
    /// Lists the open issues and pull requests with a label, at most 500.
    async fn list_labelled(&self, repo: &Repo, label: &str) -> PortResult<Vec<LabelledIssue>>;
    /// Lists the comments that were written or changed since a time, oldest first, at most 1,000.
    async fn comments_since(&self, repo: &Repo, since: Timestamp) -> PortResult<Vec<IssueComment>>;
    /// Writes the comment with this marker, or updates it in place.
    async fn put_comment(&self, repo: &Repo, number: ChangeNumber, marker: &str, text: &str) -> PortResult<()>;
    /// Opens the issue with this marker, or updates the title and the text of the one there is. A closed one is left
    /// unchanged. A forge that cannot open issues returns a permanent error.
    async fn put_issue(&self, _repo: &Repo, _marker: &str, _title: &str, _text: &str) -> PortResult<OwnIssue> {
        Err(PortError::permanent("Skep cannot open issues on this forge", "leave out `--as issue`"))
    }
    /// Closes an issue as completed; one that is closed is left unchanged.
    async fn close_issue(&self, repo: &Repo, number: u64) -> PortResult<()>;
}
