//! Rows of a run's journal, and the other events of a stream.

use super::{Outcome, Timestamp};
use crate::ports::journal::JournalRow;
use crate::secrets::redact_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use utoipa::ToSchema;

/// Row of a run's journal.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Run.
    pub run: String,
    /// Sequence number in the run, from 1, without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Name.
    #[schema(example = "admitted")]
    pub name: String,
    /// Epoch of the lease under which it was written.
    pub epoch: i64,
    /// The event in the journal's own form; `null` if the row cannot be read.
    #[schema(value_type = serde_json::Value)]
    pub event: Option<serde_json::Value>,
}

impl From<JournalRow> for Event {
    fn from(row: JournalRow) -> Event {
        Event {
            run: row.run.to_string(),
            seq: row.seq,
            at: row.at.into(),
            name: row.name,
            epoch: row.epoch,
            event: row.event.map(redacted),
        }
    }
}

/// Redacts the texts of an event: the settings of a run keep the command lines of engines and checks as they work.
fn redacted(mut event: Value) -> Value {
    match &mut event {
        Value::String(text) => {
            if let Cow::Owned(clean) = redact_all(text) {
                *text = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = redacted(item.take())),
        Value::Object(fields) => fields.values_mut().for_each(|field| *field = redacted(field.take())),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    event
}

/// Line of output of a running engine or check (stream event `output`).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Output {
    /// Run.
    pub run: String,
    /// Attempt (`a1`), for an engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// Name of the check, for a check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// Text, one line. Comes from outside.
    pub text: String,
}

/// That a run has moved (stream event `moved`).
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Movement {
    /// Run; absent if any may have moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Its last event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// Last event of a stream (stream event `end`).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct End {
    /// Run.
    pub run: String,
    /// Status word.
    pub status: String,
    /// Outcome.
    pub outcome: Option<Outcome>,
}
