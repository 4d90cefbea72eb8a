//! The two pipes of a connection as bounded lines, with a bound on unanswered requests: an agent that does not read its
//! answers is not read from.
//!
//! Invariant: only requests, notifications and responses pass; anything else (a banner, a warning) goes into the
//! transcript and gets no reply.

use super::super::driven::output_log::OutputLog;
use super::super::driven::wire::{self, Line};
use super::tolerate;
use agent_client_protocol::Lines;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Notify;

/// Upper bound of a message, in bytes.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// Upper bound of the agent's unanswered requests. A response holds a file of at most 4 MiB.
const MAX_PENDING: usize = 16;
/// Upper bound of a request id, in bytes.
const MAX_ID_BYTES: usize = 256;
/// Messages after which the reader yields: the channel behind it is unbounded.
const YIELD_AFTER: usize = 64;

/// Fields that determine the kind of a message.
#[derive(Deserialize)]
struct Message {
    #[serde(default, deserialize_with = "keep_null")]
    id: Option<Value>,
    #[serde(default)]
    method: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "is_present")]
    result: bool,
    #[serde(default, deserialize_with = "is_present")]
    error: bool,
}

/// Keeps `null`, which is an id, though one that cannot be answered.
fn keep_null<'d, D: serde::Deserializer<'d>>(from: D) -> std::result::Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// Counts `null` as present.
fn is_present<'d, D: serde::Deserializer<'d>>(from: D) -> std::result::Result<bool, D::Error> {
    IgnoredAny::deserialize(from).map(|_| true)
}

impl Message {
    /// Returns the id in canonical form.
    fn id(&self) -> Option<String> {
        match &self.id {
            Some(id @ (Value::String(_) | Value::Number(_))) => {
                Some(id.to_string()).filter(|id| id.len() <= MAX_ID_BYTES)
            }
            _ => None,
        }
    }
}

/// Requests that were read but not answered yet.
#[derive(Default)]
struct Pending {
    ids: Mutex<Vec<String>>,
    answered: Notify,
}

impl Pending {
    fn ids(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until another request may be read.
    async fn capacity(&self) {
        loop {
            let answered = self.answered.notified();
            if self.ids().len() < MAX_PENDING {
                return;
            }
            answered.await;
        }
    }

    /// Removes the request that a written line answers.
    fn wrote(&self, line: &str) {
        let Ok(message) = serde_json::from_str::<Message>(line) else { return };
        let Some(id) = message.id().filter(|_| message.method.is_none()) else { return };
        let mut ids = self.ids();
        if let Some(at) = ids.iter().position(|owed| *owed == id) {
            ids.swap_remove(at);
            self.answered.notify_one();
        }
    }

    /// Returns whether a line is a message. A request becomes pending.
    fn accept(&self, line: &str) -> bool {
        let Ok(message) = serde_json::from_str::<Message>(line) else { return false };
        match (&message.method, &message.id) {
            (Some(_), None) => true,
            (Some(_), Some(_)) => match message.id() {
                Some(id) => {
                    self.ids().push(id);
                    true
                }
                None => false,
            },
            (None, id) => id.is_some() && (message.result || message.error),
        }
    }
}

/// Connects the two pipes.
pub fn open(
    stdin: ChildStdin,
    stdout: ChildStdout,
    output: Arc<OutputLog>,
) -> Lines<
    impl futures::Sink<String, Error = Error> + Send + 'static,
    impl futures::Stream<Item = Result<String>> + Send + 'static,
> {
    let owed = Arc::new(Pending::default());
    let out = futures::sink::unfold((stdin, owed.clone()), |(mut stdin, owed), line: String| async move {
        // The exit of an agent is noticed by its output, which says more.
        let _gone = stdin.write_all(format!("{line}\n").as_bytes()).await;
        owed.wrote(&line);
        Ok::<_, Error>((stdin, owed))
    });
    let reader = BufReader::with_capacity(64 * 1024, stdout);
    let lines =
        futures::stream::unfold((reader, output, owed, 0usize), |(mut reader, output, owed, count)| async move {
            if count % YIELD_AFTER == YIELD_AFTER - 1 {
                tokio::task::yield_now().await;
            }
            loop {
                owed.capacity().await;
                let item = match wire::next(&mut reader, MAX_LINE_BYTES).await {
                    Ok(None) => return None,
                    Ok(Some(Line::Whole(line))) => match String::from_utf8(line) {
                        Ok(line) if line.starts_with('{') && owed.accept(&line) => Ok(tolerate::adapt(line, &output)),
                        Ok(line) => {
                            output.stray(line.as_bytes());
                            continue;
                        }
                        Err(_) => continue,
                    },
                    Ok(Some(Line::TooLong)) => {
                        let what = format!("a message of the agent exceeds {MAX_LINE_BYTES} bytes");
                        Err(Error::new(ErrorKind::InvalidData, what))
                    }
                    Err(e) => Err(e),
                };
                return Some((item, (reader, output, owed, count.wrapping_add(1))));
            }
        });
    Lines::new(out, Box::pin(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_messages_pass_and_requests_are_pending_until_answered() {
        let owed = Pending::default();
        for invalid in ["{", "{}", r#"{"id":1}"#, r#"{"method":"a","id":null}"#, r#"{"method":"a","id":[1]}"#] {
            assert!(!owed.accept(invalid), "{invalid}");
        }
        for valid in [r#"{"method":"a"}"#, r#"{"id":1,"result":null}"#, r#"{"id":"x","error":{}}"#] {
            assert!(owed.accept(valid) && owed.ids().is_empty(), "{valid}");
        }
        (0..MAX_PENDING).for_each(|n| assert!(owed.accept(&format!(r#"{{"method":"a","id":{n}}}"#))));
        let soon = std::time::Duration::from_millis(1);
        for still in [r#"{"method":"ours","id":3}"#, r#"{"id":"3","result":1}"#, r#"{"id":99,"result":1}"#] {
            owed.wrote(still);
            assert!(tokio::time::timeout(soon, owed.capacity()).await.is_err(), "{still}");
        }
        owed.wrote(r#"{"id":3,"result":{}}"#);
        owed.capacity().await;
    }
}
