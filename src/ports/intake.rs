//! The durable state of intake: what forges reported, which issue has which run, and how far sweeps have read.

use super::PortResult;
use crate::domain::{CommandTarget, DeliveryState, Fact, ForgeName, RunId, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// The kind of event of a comment that a sweep found.
pub const COMMENTED: &str = "sweep.commented";

/// A delivery to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// The forge.
    pub forge: ForgeName,
    /// Its id, unique for the forge.
    pub id: String,
    /// The kind of event.
    pub event: String,
    /// The repository, `OWNER/REPO` in lower case.
    pub repository: String,
    /// The fact to apply, or why it is ignored.
    pub fact: Result<Fact, String>,
    /// What the fact is about: of several deliveries with the same key, one takes effect. `None` = the fact may be
    /// applied any number of times.
    pub key: Option<String>,
    /// When it arrived.
    pub at: Timestamp,
}

/// A stored delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its number, in order of arrival.
    pub seq: u64,
    /// What was stored.
    pub new: NewDelivery,
    /// Its state.
    pub state: DeliveryState,
    /// What was done, or why nothing was.
    pub reason: String,
    /// Failed tries.
    pub tries: u32,
    /// What its command is about, once known.
    pub target: Option<CommandTarget>,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
}

/// What was written on an issue about its run, each as a digest of the text; empty = nothing yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueProgress {
    /// About the run.
    #[serde(default)]
    pub run: String,
    /// About what the run asks.
    #[serde(default)]
    pub question: String,
}

/// The run of an issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueRun {
    /// The forge.
    pub forge: ForgeName,
    /// The repository, `OWNER/REPO` in lower case.
    pub repository: String,
    /// The number of the issue.
    pub number: u64,
    /// The run, or the id that it will have.
    pub run: RunId,
    /// When the run was asked for, by the forge's clock.
    pub asked_at: Timestamp,
    /// What was written on the issue.
    pub progress: IssueProgress,
    /// Whether nothing remains to be written.
    pub is_finished: bool,
}

/// Durable state of intake in one data directory.
#[async_trait]
pub trait Intake: Send + Sync {
    /// Stores a delivery; returns `false` if it was stored before.
    async fn receive(&self, new: &NewDelivery) -> PortResult<bool>;
    /// Returns the deliveries to apply that are due, at most `limit`: the comments that a sweep found first, which it
    /// stores in the order in which they were written, then the others in order of arrival.
    async fn due(&self, now: Timestamp, limit: u64) -> PortResult<Vec<Delivery>>;
    /// Returns when the next delivery is due.
    async fn next_due(&self) -> PortResult<Option<Timestamp>>;
    /// Stores what a command is about, unless that is stored already; returns what is stored.
    async fn pin(&self, seq: u64, target: &CommandTarget) -> PortResult<CommandTarget>;
    /// Stores what a delivery turned out to be about: of several deliveries with the same key, one takes effect.
    async fn put_key(&self, seq: u64, key: &str) -> PortResult<()>;
    /// Moves a delivery to a state.
    async fn settle(&self, seq: u64, state: DeliveryState, reason: &str, at: Timestamp) -> PortResult<()>;
    /// Counts a failed try, and postpones the next one.
    async fn postpone(&self, seq: u64, reason: &str, until: Timestamp) -> PortResult<()>;
    /// Returns whether another delivery with this key was applied.
    async fn was_applied(&self, forge: &ForgeName, key: &str, seq: u64) -> PortResult<bool>;
    /// Lists the deliveries of a forge, newest first.
    async fn deliveries(&self, forge: &ForgeName, before: Option<u64>, limit: u64) -> PortResult<Vec<Delivery>>;
    /// Deletes all but the newest `keep` settled deliveries of a forge.
    async fn forget_deliveries(&self, forge: &ForgeName, keep: u64) -> PortResult<()>;

    /// Records the run of an issue that has none. Returns the run that it has afterwards; `None` = another data
    /// directory has one for it.
    async fn claim_issue(&self, issue: &IssueRun) -> PortResult<Option<IssueRun>>;
    /// Replaces the run of an issue if it is still `before`.
    async fn replace_issue_run(&self, issue: &IssueRun, before: RunId) -> PortResult<bool>;
    /// Records what was written on an issue about its run.
    async fn put_progress(&self, issue: &IssueRun) -> PortResult<()>;
    /// Returns the run of an issue.
    async fn issue_run(&self, forge: &ForgeName, repository: &str, number: u64) -> PortResult<Option<IssueRun>>;
    /// Returns the issues on which something remains to be written, at most `limit`.
    async fn open_issues(&self, limit: u64) -> PortResult<Vec<IssueRun>>;

    /// Returns how far the comments of a repository were read.
    async fn cursor(&self, forge: &ForgeName, repository: &str) -> PortResult<Option<Timestamp>>;
    /// Records how far the comments of a repository were read.
    async fn put_cursor(&self, forge: &ForgeName, repository: &str, at: Timestamp) -> PortResult<()>;
}
