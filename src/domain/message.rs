//! Messages to people outside the pages: what they are about, and when one is due.

use super::id::{RunId, Timestamp};
use serde::{Deserialize, Serialize};

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Subject of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageEvent {
    /// A run waits for a person.
    Question,
    /// A run ended without a delivery.
    Failed,
    /// A run ended, delivered or not.
    Ended,
    /// A budget reached an alert threshold.
    Budget,
    /// The service needs its operator.
    Broken,
    /// What happened in a day, and what waits.
    Digest,
}

impl MessageEvent {
    /// All events.
    pub const ALL: [MessageEvent; 6] = [
        MessageEvent::Question,
        MessageEvent::Failed,
        MessageEvent::Ended,
        MessageEvent::Budget,
        MessageEvent::Broken,
        MessageEvent::Digest,
    ];

    /// Returns the event with this name.
    pub fn named(name: &str) -> Option<MessageEvent> {
        MessageEvent::ALL.into_iter().find(|event| event.name() == name)
    }

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            MessageEvent::Question => "question",
            MessageEvent::Failed => "failed",
            MessageEvent::Ended => "ended",
            MessageEvent::Budget => "budget",
            MessageEvent::Broken => "broken",
            MessageEvent::Digest => "digest",
        }
    }
}

/// A message, as facts: a channel writes it in its own form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Identity, the same at every try: `<run>.<block>.<event>.<n>`.
    pub key: String,
    /// Subject.
    pub event: MessageEvent,
    /// The run, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Number of the block, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u32>,
    /// The project; empty if it is about none.
    #[serde(default)]
    pub project: String,
    /// Title of the goal; may come from outside.
    #[serde(default)]
    pub title: String,
    /// What happened, in one sentence; may quote text from outside.
    pub summary: String,
    /// What is needed from a person, if anything; may quote text from outside.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Cost of the run so far, in micro-USD.
    #[serde(default)]
    pub cost_micros: u64,
    /// Path of the page about it.
    pub path: String,
    /// When it happened.
    pub at: Timestamp,
}

/// When a channel gets messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRules {
    /// Subjects it gets.
    pub events: Vec<MessageEvent>,
    /// Projects it gets messages about; empty = all.
    pub projects: Vec<String>,
    /// Seconds a question may wait before the first message.
    pub delay_secs: u64,
    /// Seconds after which messages about the same question follow, ascending.
    pub remind_secs: Vec<u64>,
    /// When a day ends for [`MessageEvent::Digest`], in minutes after midnight UTC.
    pub digest_minute: u32,
}

impl ChannelRules {
    /// Upper bound on reminders.
    pub const MAX_REMINDERS: usize = 10;

    /// Returns whether the channel gets messages about this subject and project; "" = no project.
    pub fn wants(&self, event: MessageEvent, project: &str) -> bool {
        let in_project = self.projects.is_empty() || project.is_empty() || self.projects.iter().any(|p| p == project);
        in_project && self.events.contains(&event)
    }

    /// Returns the number of the message that is due about a question raised at `since`, from 1, and when the next one
    /// is due. `None` = none is due yet. Messages that were missed are not made up for: only the last one counts.
    pub fn question_due(&self, since: Timestamp, now: Timestamp) -> (Option<usize>, Option<Timestamp>) {
        let first = std::iter::once(self.delay_secs);
        let later = self.remind_secs.iter().filter(|secs| **secs > self.delay_secs).copied();
        let times: Vec<Timestamp> = first.chain(later).map(|secs| since.plus_secs(secs)).collect();
        let passed = times.iter().filter(|at| **at <= now).count();
        ((passed > 0).then_some(passed), times.get(passed).copied())
    }

    /// Returns the last end of a day, if that was after `since`, and when the next one is. Days that were missed are
    /// not made up for.
    pub fn digest_due(&self, since: Timestamp, now: Timestamp) -> (Option<Timestamp>, Timestamp) {
        let offset = i64::from(self.digest_minute) * 60_000;
        let last = Timestamp((now.0 - offset).div_euclid(DAY_MS) * DAY_MS + offset);
        ((last > since).then_some(last), Timestamp(last.0 + DAY_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_reminded_of_at_the_named_times_and_missed_ones_are_not_made_up_for() {
        let rules = ChannelRules {
            events: vec![MessageEvent::Question],
            projects: vec!["tool".to_owned()],
            delay_secs: 120,
            remind_secs: vec![60, 14_400, 86_400],
            digest_minute: 0,
        };
        let at = |secs: u64| Timestamp(0).plus_secs(secs);
        let due = |secs: u64| rules.question_due(at(1_000), at(1_000 + secs));
        assert_eq!(due(119), (None, Some(at(1_120))));
        assert_eq!(due(120), (Some(1), Some(at(15_400))), "a reminder before the first message is none");
        assert_eq!(due(14_400), (Some(2), Some(at(87_400))));
        assert_eq!(due(1_000_000), (Some(3), None));
        assert!(rules.wants(MessageEvent::Question, "tool") && !rules.wants(MessageEvent::Question, "other"));
        assert!(!rules.wants(MessageEvent::Broken, ""));
    }

    #[test]
    fn a_day_ends_once_at_its_minute() {
        let rules = ChannelRules {
            events: vec![MessageEvent::Digest],
            projects: Vec::new(),
            delay_secs: 0,
            remind_secs: Vec::new(),
            digest_minute: 7 * 60,
        };
        let hour = |hours: i64| Timestamp(20_000 * DAY_MS + hours * 3_600_000);
        assert_eq!(rules.digest_due(hour(5), hour(6)), (None, hour(7)), "a new channel waits for its first end");
        assert_eq!(rules.digest_due(hour(5), hour(7)), (Some(hour(7)), hour(31)));
        assert_eq!(rules.digest_due(hour(5), hour(30)), (Some(hour(7)), hour(31)), "the same end until the next one");
        assert_eq!(
            rules.digest_due(hour(5), hour(100)),
            (Some(hour(79)), hour(103)),
            "missed days are not made up for"
        );
    }
}
