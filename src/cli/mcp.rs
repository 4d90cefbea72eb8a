//! `skep mcp`: the Model Context Protocol on standard input and output, for agents that start their servers.
//!
//! Each line is one message of the protocol, and is passed on to the address `/mcp`: of the running service, or of
//! routes in this process, which then carries the runs until its input ends. Standard output carries nothing else.
//! `bridge` finds the routes, again whenever their process is gone.

mod bridge;

use super::context::CliContext;
use super::exit::{CliError, ExitStatus, Stop};
use crate::http::mcp::read_message;
use crate::platform::stop_signal;
use bridge::Bridge;
use futures::future::{AbortHandle, Abortable};
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, Read, Write};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Maximum bytes of a message; the same limit as for a request body.
const MAX_MESSAGE_BYTES: u64 = 1024 * 1024;
/// Maximum number of messages that are answered at the same time.
const MAX_CONCURRENT: usize = 32;
/// Interval at which an idle data directory is given back.
const IDLE: Duration = Duration::from_secs(30);
/// Time for the last answers to be read.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// JSON-RPC: this is not a message.
const INVALID_REQUEST: i32 = -32_600;
/// JSON-RPC: an error of the server.
const SERVER_ERROR: i32 = -32_000;

/// Answers messages until standard input ends.
pub async fn mcp(cli: &CliContext<'_>) -> Result<ExitStatus, Stop> {
    let bridge = Bridge::new(*cli);
    let (output, writer) = Output::open();
    let ended = answer_all(&bridge, &output).await;
    drop(output);
    bridge.close().await;
    // An agent that no longer reads must not keep the process alive.
    let _written = tokio::time::timeout(LAST_ANSWERS, writer).await;
    ended.map(|()| ExitStatus::Success)
}

/// Standard output, one message per line. A thread of its own writes: a call that waits for its turn blocks no other,
/// and the process does not wait for an agent that no longer reads.
pub struct Output(mpsc::Sender<String>);

impl Output {
    /// The receiver is closed when everything is written.
    fn open() -> (Output, oneshot::Receiver<()>) {
        let (sender, mut messages) = mpsc::channel::<String>(1);
        let (written, is_written) = oneshot::channel();
        std::thread::spawn(move || {
            let mut output = std::io::stdout();
            while let Some(line) = messages.blocking_recv() {
                // If nobody reads any more, standard input ends as well, and with it the command.
                let _closed = output.write_all(line.as_bytes()).and_then(|()| output.flush());
            }
            drop(written);
        });
        (Output(sender), is_written)
    }

    /// Writes a message.
    pub async fn write(&self, message: &Value) {
        // The writer ends only after this sender.
        let _written = self.0.send(format!("{message}\n")).await;
    }
}

async fn answer_all(bridge: &Bridge<'_>, output: &Output) -> Result<(), Stop> {
    let mut lines = read_lines();
    let mut calls = FuturesUnordered::new();
    let mut running: HashMap<String, AbortHandle> = HashMap::new();
    let mut idle = tokio::time::interval(IDLE);
    idle.tick().await;
    let mut is_open = true;
    while is_open || !calls.is_empty() {
        let line = tokio::select! {
            line = lines.recv(), if is_open => line,
            Some(key) = calls.next() => {
                let key: Option<String> = key;
                running.remove(&key.unwrap_or_default());
                continue;
            }
            _ = idle.tick(), if calls.is_empty() => {
                bridge.release_if_idle().await;
                continue;
            }
            // Runs in this process are stopped in order, and go on with the next command.
            () = stop_signal::requested(1) => break,
        };
        let Some(line) = line else {
            is_open = false;
            continue;
        };
        let message = match line? {
            Line::Message(bytes) => read_message(&bytes),
            Line::TooLong => Err(error(&Value::Null, INVALID_REQUEST, "the message is longer than 1 MiB")),
        };
        let message = match message {
            Ok(message) => message,
            Err(refusal) => {
                output.write(&refusal).await;
                continue;
            }
        };
        if let Some(cancelled) = cancelled_request(&message) {
            // Over HTTP a request is cancelled by closing it, which its end here does.
            if let Some(call) = running.remove(&cancelled) {
                call.abort();
            }
            continue;
        }
        let id = message.get("id").filter(|_| message.get("method").is_some()).cloned();
        let key = id.as_ref().map(Value::to_string);
        if calls.len() >= MAX_CONCURRENT {
            let text = format!("{MAX_CONCURRENT} messages are being answered; send this one again later");
            if let Some(id) = &id {
                output.write(&error(id, SERVER_ERROR, &text)).await;
            }
            continue;
        }
        let (handle, registration) = AbortHandle::new_pair();
        if let Some(key) = &key {
            running.insert(key.clone(), handle);
        }
        // A call may wait for a run: others are answered meanwhile.
        let call = Abortable::new(answer(bridge, output, message, id), registration);
        calls.push(async move {
            let _aborted = call.await;
            key
        });
    }
    Ok(())
}

/// Line of standard input.
enum Line {
    /// It has the size of a message.
    Message(Vec<u8>),
    /// It is longer, and was skipped.
    TooLong,
}

/// Reads lines in a thread of its own: half a line must not be lost when something else happens first, and the end of
/// the process must not wait for a line that never comes.
fn read_lines() -> mpsc::Receiver<Result<Line, CliError>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let read = match input.by_ref().take(MAX_MESSAGE_BYTES + 1).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) if line.len() as u64 > MAX_MESSAGE_BYTES => match line.ends_with(b"\n") {
                    true => Ok(Line::TooLong),
                    false => input.skip_until(b'\n').map(|_| Line::TooLong),
                },
                Ok(_) if line.trim_ascii().is_empty() => continue,
                Ok(_) => Ok(Line::Message(line)),
                Err(e) => Err(e),
            };
            let read = read.map_err(|e| CliError::internal(format!("cannot read standard input: {e}")));
            let is_last = read.is_err();
            if sender.blocking_send(read).is_err() || is_last {
                break;
            }
        }
    });
    receiver
}

/// Returns the id of the request that a notification cancels.
fn cancelled_request(message: &Value) -> Option<String> {
    let is_cancellation = message.get("method").and_then(Value::as_str) == Some("notifications/cancelled");
    is_cancellation.then(|| message["params"]["requestId"].to_string())
}

/// Answers a message; notifications and responses have no answer.
async fn answer(bridge: &Bridge<'_>, output: &Output, message: Value, id: Option<Value>) {
    let is_call = message["method"] == "tools/call";
    let answered = bridge.exchange(message, output).await;
    let Some(id) = id else { return };
    let answer = match answered {
        Ok(Some(answer)) => answer,
        Ok(None) => error(&id, SERVER_ERROR, "the service did not answer with a message"),
        // Models see the results of tools, but clients hide protocol errors from them.
        Err(failure) if is_call => {
            let first = failure.problems.into_iter().next();
            let problem = first.map(|p| json!({ "code": p.code, "detail": p.detail, "fix": p.fix }));
            let problem = problem.unwrap_or_default();
            let content = json!([{ "type": "text", "text": problem.to_string() }]);
            let result = json!({ "content": content, "structuredContent": problem, "isError": true });
            json!({ "jsonrpc": "2.0", "id": id, "result": result })
        }
        Err(failure) => error(&id, SERVER_ERROR, &reasons(&failure)),
    };
    output.write(&answer).await;
}

fn reasons(failure: &CliError) -> String {
    let reason = |p: &crate::http::rest::wire::Problem| format!("{}; {}", p.detail, p.fix);
    failure.problems.iter().map(reason).collect::<Vec<_>>().join("; ")
}

fn error(id: &Value, code: i32, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancellation_names_its_request() {
        let notification = json!({"method": "notifications/cancelled", "params": {"requestId": "r-1"}});
        assert_eq!(cancelled_request(&notification).as_deref(), Some("\"r-1\""));
        assert_eq!(cancelled_request(&json!({"method": "tools/list", "id": 1})), None);
    }
}
