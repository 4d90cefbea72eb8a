//! Messages to people: their outbox, and the channels that deliver them.

use super::PortResult;
use crate::domain::{ChannelRules, Message, RunId, Timestamp};
use async_trait::async_trait;

/// A message that was not delivered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingMessage {
    /// The message.
    pub message: Message,
    /// Failed tries.
    pub tries: u32,
    /// When it was stored.
    pub created_at: Timestamp,
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// The channel accepted it.
    Sent,
    /// It was not needed any more: the question was answered before.
    Obsolete,
    /// Another message replaced it.
    Folded,
    /// It was given up.
    Failed,
}

impl MessageState {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            MessageState::Sent => "sent",
            MessageState::Obsolete => "obsolete",
            MessageState::Folded => "folded",
            MessageState::Failed => "failed",
        }
    }
}

/// The outbox of messages of one data directory. A message is known by its channel and its key.
#[async_trait]
pub trait Messages: Send + Sync {
    /// Returns since when a channel is known; a new one is from `now` on.
    async fn known_since(&self, channel: &str, now: Timestamp) -> PortResult<Timestamp>;
    /// Stores a message, due at once; returns `false` if it was stored before, whatever became of it.
    async fn put(&self, channel: &str, message: &Message, now: Timestamp) -> PortResult<bool>;
    /// Returns the messages of a channel that are due, oldest first, at most `limit`.
    async fn due(&self, channel: &str, now: Timestamp, limit: u64) -> PortResult<Vec<PendingMessage>>;
    /// Returns when the next message of a channel is due.
    async fn next_due(&self, channel: &str) -> PortResult<Option<Timestamp>>;
    /// Returns how many messages of a channel were sent since a moment.
    async fn sent_since(&self, channel: &str, since: Timestamp) -> PortResult<u64>;
    /// Ends a message.
    async fn settle(
        &self,
        channel: &str,
        key: &str,
        state: MessageState,
        reason: &str,
        at: Timestamp,
    ) -> PortResult<()>;
    /// Counts a failed try, and postpones the next one.
    async fn postpone(&self, channel: &str, key: &str, reason: &str, until: Timestamp) -> PortResult<()>;
    /// Stores a message that replaces others, and ends those, in one transaction.
    async fn fold(&self, channel: &str, keys: &[String], into: &Message, now: Timestamp) -> PortResult<()>;
    /// Returns the runs of this data directory that ended at `since` or later, in that order, at most `limit`.
    async fn ended_since(&self, since: Timestamp, limit: u64) -> PortResult<Vec<(RunId, Timestamp)>>;
    /// Deletes messages that ended before a moment.
    async fn forget(&self, before: Timestamp) -> PortResult<()>;
}

/// Why a message was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct DeliveryError {
    /// What failed, without the channel's address, which may be a secret.
    pub what: String,
    /// Whether another try is useless.
    pub is_final: bool,
}

/// A channel.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Returns its name: the one in the configuration, for one of several recipients with `:` and the recipient.
    fn name(&self) -> &str;
    /// Returns when it gets messages.
    fn rules(&self) -> &ChannelRules;
    /// Delivers a message, within ten seconds. The receiver may get the same key twice.
    ///
    /// # Errors
    /// Why it was not accepted.
    async fn send(&self, message: &Message) -> Result<(), DeliveryError>;
}
