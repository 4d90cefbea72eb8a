//! Sends the messages of a channel that are due.

use super::plan;
use crate::domain::{Day, Message, MessageEvent, Timestamp};
use crate::ports::messages::{Channel, MessageState, PendingMessage};
use crate::ports::{PortError, PortResult};
use crate::service::Services;
use crate::telemetry::metrics;
use std::collections::BTreeMap;

/// Messages that a channel gets in a minute at most.
const MAX_PER_MINUTE: u64 = 10;
/// Messages of one kind that are written as one.
const FOLD_ABOVE: usize = 3;
/// Messages read at once.
const BATCH: u64 = 1_000;
/// Waits after failed tries, in seconds; the last one repeats.
const BACKOFF_SECS: [u64; 6] = [10, 30, 120, 600, 1_800, 3_600];
/// Time after which a message is given up, in seconds.
const GIVE_UP_SECS: u64 = 24 * 3_600;

/// Sends what is due on a channel. Returns until when the channel is left alone, if it failed or had enough.
///
/// # Errors
/// If the store cannot be used.
pub(super) async fn deliver(s: &Services, channel: &dyn Channel) -> PortResult<Option<Timestamp>> {
    let name = channel.name();
    // A recipient is not a label.
    let label = name.split(':').next().unwrap_or(name);
    let now = s.clock.now();
    let mut due = still_needed(s, name, s.messages.due(name, now, BATCH).await?).await?;
    if fold(s, name, &due, now).await? {
        due = s.messages.due(name, now, BATCH).await?;
    }
    let minute_ago = Timestamp(now.0 - 60_000);
    let mut left = MAX_PER_MINUTE.saturating_sub(s.messages.sent_since(name, minute_ago).await?);
    for pending in due {
        if left == 0 {
            return Ok(Some(now.plus_secs(10)));
        }
        left -= 1;
        let key = pending.message.key.clone();
        crate::fault!("before-message");
        let sent = channel.send(&pending.message).await;
        crate::fault!("after-message");
        let now = s.clock.now();
        let result = match sent {
            Ok(()) => {
                s.messages.settle(name, &key, MessageState::Sent, "", now).await?;
                "sent"
            }
            Err(error) if error.is_final || now >= pending.created_at.plus_secs(GIVE_UP_SECS) => {
                tracing::error!(channel = name, key, %error, "a message is given up");
                s.messages.settle(name, &key, MessageState::Failed, &error.what, now).await?;
                report_failure(s, name, &error.what, now).await?;
                "failed"
            }
            Err(error) => {
                tracing::warn!(channel = name, key, %error, "cannot deliver a message; it is tried again");
                let step = usize::try_from(pending.tries).unwrap_or(usize::MAX).min(BACKOFF_SECS.len() - 1);
                let until = now.plus_secs(BACKOFF_SECS[step]);
                s.messages.postpone(name, &key, &error.what, until).await?;
                metrics().messages.add(1, &[("channel", label), ("result", "postponed")]);
                // The channel is likely to fail for the others, too.
                return Ok(Some(until));
            }
        };
        metrics().messages.add(1, &[("channel", label), ("result", result)]);
    }
    Ok(None)
}

/// Ends the messages about questions that were answered meanwhile, and returns the others.
async fn still_needed(s: &Services, channel: &str, due: Vec<PendingMessage>) -> PortResult<Vec<PendingMessage>> {
    let mut needed = Vec::with_capacity(due.len());
    for pending in due {
        let Message { event, run, block, key, .. } = &pending.message;
        let (MessageEvent::Question, Some(run), Some(block)) = (event, run, block) else {
            needed.push(pending);
            continue;
        };
        let is_open = match s.store.load(*run).await {
            Ok(run) => run.is_some_and(|run| run.blocks.iter().any(|open| open.id.0 == *block)),
            Err(PortError::Permanent { .. }) => false,
            Err(error) => return Err(error),
        };
        if is_open {
            needed.push(pending);
        } else {
            s.messages.settle(channel, key, MessageState::Obsolete, "answered meanwhile", s.clock.now()).await?;
        }
    }
    Ok(needed)
}

/// Replaces many messages of one kind by one. Returns whether it did.
async fn fold(s: &Services, channel: &str, due: &[PendingMessage], now: Timestamp) -> PortResult<bool> {
    let mut kinds: BTreeMap<MessageEvent, Vec<Message>> = BTreeMap::new();
    // One that was tried already may have arrived: it stays what it is.
    for pending in due.iter().filter(|pending| pending.tries == 0 && pending.message.run.is_some()) {
        kinds.entry(pending.message.event).or_default().push(pending.message.clone());
    }
    let mut folded = false;
    for messages in kinds.values().filter(|messages| messages.len() > FOLD_ABOVE) {
        let Some(one) = plan::folded(messages) else { continue };
        let keys: Vec<String> = messages.iter().map(|message| message.key.clone()).collect();
        s.messages.fold(channel, &keys, &one, now).await?;
        folded = true;
    }
    Ok(folded)
}

/// Tells the operator by the other channels, once a day.
async fn report_failure(s: &Services, failed: &str, why: &str, now: Timestamp) -> PortResult<()> {
    let summary = format!("Messages of the channel {failed} are not delivered: {why}.");
    let message = plan::broken(format!("skep.channel-{failed}-{}.broken.1", Day::of(now)), summary, now);
    for channel in s.channels.iter().filter(|channel| channel.name() != failed) {
        if channel.rules().wants(MessageEvent::Broken, "") {
            s.messages.put(channel.name(), &message, now).await?;
        }
    }
    Ok(())
}
