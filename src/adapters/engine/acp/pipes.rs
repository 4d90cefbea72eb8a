//! The connection's two pipes as bounded lines, and a bound on what is under way between them: an agent that does not take its answers
//! is not listened to either.
//!
//! Invariant: what comes out of the agent's pipe is a request, a notification or an answer; anything else (a banner, a warning) goes
//! into the transcript and gets no reply.

use super::super::driven::wire::{self, Line};
use super::super::driven::{self, output_log::OutputLog};
use agent_client_protocol::Lines;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Notify;

/// The longest message read.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most kept of a line that is no message.
const NOTE_BYTES_MAX: usize = 400;
/// Requests of an agent's that may wait for their answers at the same time; an answer holds a file of 4 MiB at most.
const OWED_MAX: usize = 16;
/// The longest id of a request.
const ID_BYTES_MAX: usize = 256;
/// After so many messages whoever reads them has a turn: the way to there has no bound of its own.
const AT_ONCE: usize = 64;

/// What of a message tells what it is.
#[derive(Deserialize)]
struct Message {
    #[serde(default, deserialize_with = "whole")]
    id: Option<Value>,
    #[serde(default)]
    method: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "there")]
    result: bool,
    #[serde(default, deserialize_with = "there")]
    error: bool,
}

/// `null` is an id, too, if none that can be answered.
fn whole<'d, D: serde::Deserializer<'d>>(from: D) -> std::result::Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// `null` is there, too.
fn there<'d, D: serde::Deserializer<'d>>(from: D) -> std::result::Result<bool, D::Error> {
    IgnoredAny::deserialize(from).map(|_| true)
}

impl Message {
    /// The id in one form.
    fn id(&self) -> Option<String> {
        match &self.id {
            Some(id @ (Value::String(_) | Value::Number(_))) => {
                Some(id.to_string()).filter(|id| id.len() <= ID_BYTES_MAX)
            }
            _ => None,
        }
    }
}

/// Requests that were read and not answered yet.
#[derive(Default)]
struct Owed {
    ids: Mutex<Vec<String>>,
    fewer: Notify,
}

impl Owed {
    fn ids(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for another one.
    async fn room(&self) {
        loop {
            let fewer = self.fewer.notified();
            if self.ids().len() < OWED_MAX {
                return;
            }
            fewer.await;
        }
    }

    /// A line was written: if it is an answer, that one is owed no more.
    fn wrote(&self, line: &str) {
        let Ok(message) = serde_json::from_str::<Message>(line) else { return };
        let Some(id) = message.id().filter(|_| message.method.is_none()) else { return };
        let mut ids = self.ids();
        if let Some(at) = ids.iter().position(|owed| *owed == id) {
            ids.swap_remove(at);
            self.fewer.notify_one();
        }
    }

    /// Whether a line is a message; a request is owed its answer from now on.
    fn takes(&self, line: &str) -> bool {
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

/// The two pipes.
pub fn open(
    stdin: ChildStdin,
    stdout: ChildStdout,
    heard: Arc<OutputLog>,
) -> Lines<
    impl futures::Sink<String, Error = Error> + Send + 'static,
    impl futures::Stream<Item = Result<String>> + Send + 'static,
> {
    let owed = Arc::new(Owed::default());
    let out = futures::sink::unfold((stdin, owed.clone()), |(mut stdin, owed), line: String| async move {
        // An agent that is gone is noticed by its output, which says more.
        let _gone = stdin.write_all(format!("{line}\n").as_bytes()).await;
        owed.wrote(&line);
        Ok::<_, Error>((stdin, owed))
    });
    let reader = BufReader::with_capacity(64 * 1024, stdout);
    let lines = futures::stream::unfold((reader, heard, owed, 0usize), |(mut reader, heard, owed, count)| async move {
        if count % AT_ONCE == AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        loop {
            owed.room().await;
            let item = match wire::next(&mut reader, LINE_BYTES_MAX).await {
                Ok(None) => return None,
                Ok(Some(Line::Whole(line))) => match String::from_utf8(line) {
                    Ok(line) if line.starts_with('{') && owed.takes(&line) => Ok(line),
                    Ok(line) => {
                        heard.note(&driven::tail(line.as_bytes(), NOTE_BYTES_MAX));
                        continue;
                    }
                    Err(_) => continue,
                },
                Ok(Some(Line::TooLong)) => {
                    let what = format!("a message of the agent has more than {LINE_BYTES_MAX} bytes");
                    Err(Error::new(ErrorKind::InvalidData, what))
                }
                Err(e) => Err(e),
            };
            return Some((item, (reader, heard, owed, count.wrapping_add(1))));
        }
    });
    Lines::new(out, Box::pin(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_messages_pass_and_requests_are_owed_until_they_are_answered() {
        let owed = Owed::default();
        for no in ["{", "{}", r#"{"id":1}"#, r#"{"method":"a","id":null}"#, r#"{"method":"a","id":[1]}"#] {
            assert!(!owed.takes(no), "{no}");
        }
        for yes in [r#"{"method":"a"}"#, r#"{"id":1,"result":null}"#, r#"{"id":"x","error":{}}"#] {
            assert!(owed.takes(yes) && owed.ids().is_empty(), "{yes}");
        }
        (0..OWED_MAX).for_each(|n| assert!(owed.takes(&format!(r#"{{"method":"a","id":{n}}}"#))));
        let soon = std::time::Duration::from_millis(1);
        for still in [r#"{"method":"ours","id":3}"#, r#"{"id":"3","result":1}"#, r#"{"id":99,"result":1}"#] {
            owed.wrote(still);
            assert!(tokio::time::timeout(soon, owed.room()).await.is_err(), "{still}");
        }
        owed.wrote(r#"{"id":3,"result":{}}"#);
        owed.room().await;
    }
}
