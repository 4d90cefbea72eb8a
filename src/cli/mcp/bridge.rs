//! The way of a message to the routes: which process has them now, and what to do when it is gone.
//!
//! A process that uses a service never takes its place: the service may be restarting, and would be refused. Without a
//! service the data directory is locked only while runs are carried, so that a service can be started later.

use super::Output;
use crate::cli::client::Client;
use crate::cli::context::{Access, CliContext, Connection};
use crate::cli::exit::{CliError, ExitStatus};
use crate::cli::sse::SseReader;
use crate::http::mcp::{PATH, is_repeatable};
use axum::http::HeaderValue;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use futures::StreamExt;
use serde_json::{Value, json};
use std::sync::{Mutex as Lock, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

/// How long a service that is gone may take to come back.
const RESTART_GRACE: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// How often a message is sent at most.
const MAX_TRIES: u32 = 4;
/// Maximum bytes of a response that is not a stream.
const MAX_RESPONSE_BYTES: usize = 8 << 20;
/// Timeout of a message. Opening a run may clone a repository.
const TIMEOUT: Duration = Duration::from_secs(11 * 60);

/// Connection to the routes, made when it is needed.
pub struct Bridge<'a> {
    cli: CliContext<'a>,
    state: Mutex<State>,
    /// Revision of the protocol that was agreed on in the handshake of older clients.
    version: Lock<Option<String>>,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// Number of connections so far.
    number: u64,
    /// Whether the last one was to a service.
    was_service: bool,
}

impl<'a> Bridge<'a> {
    /// Creates a bridge that is not connected yet.
    pub fn new(cli: CliContext<'a>) -> Bridge<'a> {
        Bridge { cli, state: Mutex::default(), version: Lock::default() }
    }

    /// Closes the connection; runs that this process carries are saved.
    pub async fn close(&self) {
        if let Some(connection) = self.state.lock().await.connection.take() {
            connection.close().await;
        }
    }

    /// Gives the data directory back if this process has it and no run is at work.
    pub async fn release_if_idle(&self) {
        let mut state = self.state.lock().await;
        let Some(connection) = &state.connection else { return };
        if connection.client.is_remote() {
            return;
        }
        let open = connection.client.get::<Vec<Value>>("/runs?open=true&limit=500").await.unwrap_or_default();
        let waits = |run: &Value| matches!(run["status"].as_str(), Some("blocked" | "paused" | "quarantined"));
        if open.iter().all(waits)
            && let Some(connection) = state.connection.take()
        {
            connection.close().await;
        }
    }

    /// Sends a message and returns the answer; notifications that come before it are written to `output`.
    ///
    /// # Errors
    /// If no process with the routes can be reached, or one was lost during a call that cannot be repeated.
    pub async fn exchange(&self, mut message: Value, output: &Output) -> Result<Option<Value>, CliError> {
        let can_repeat = make_repeatable(&mut message);
        let mut progress = f64::MIN;
        let mut tries = 1;
        loop {
            let (client, number) = self.client().await?;
            let sent = timeout(TIMEOUT, self.send(&client, &message, output, &mut progress)).await;
            let sent = sent.unwrap_or_else(|_elapsed| {
                Err(CliError::unavailable("no answer within 11 minutes", "try again; `skep doctor` checks the service"))
            });
            match sent {
                Err(error) if error.exit == ExitStatus::TryAgain && client.is_remote() => {
                    self.lost(number).await;
                    if !can_repeat {
                        return Err(outcome_unknown(&error));
                    }
                    if tries == MAX_TRIES {
                        return Err(error);
                    }
                    tries += 1;
                }
                Ok(answer) => {
                    self.remember_version(&message, answer.as_ref());
                    return Ok(answer);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the client of the process that has the routes, and the number of the connection.
    async fn client(&self) -> Result<(Client, u64), CliError> {
        let mut state = self.state.lock().await;
        if state.connection.is_none() {
            if state.was_service {
                self.wait_for_service().await?;
            }
            let connection = self.cli.connect(Access::Drive).await?;
            state.was_service = connection.client.is_service();
            state.number += 1;
            state.connection = Some(connection);
        }
        match &state.connection {
            Some(connection) => Ok((connection.client.clone(), state.number)),
            None => Err(CliError::internal("the connection was closed")),
        }
    }

    async fn wait_for_service(&self) -> Result<(), CliError> {
        let deadline = Instant::now() + RESTART_GRACE;
        while self.cli.backend.running_service(self.cli.host).await?.is_none() {
            if Instant::now() > deadline {
                return Err(CliError::unavailable(
                    "the service that this agent uses has stopped",
                    "start it again with `skep serve`, or restart the agent to work without a service",
                ));
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Forgets a connection whose process is gone, unless a newer one was made.
    async fn lost(&self, number: u64) {
        let mut state = self.state.lock().await;
        if state.number == number {
            state.connection = None;
        }
    }

    async fn send(
        &self,
        client: &Client,
        message: &Value,
        output: &Output,
        progress: &mut f64,
    ) -> Result<Option<Value>, CliError> {
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let body = message.to_string().into_bytes();
        let (is_stream, mut chunks) = client.mcp(PATH, body, headers(message, version)).await?;
        let (mut reader, mut whole) = (SseReader::default(), Vec::new());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            if !is_stream {
                whole.extend_from_slice(&chunk);
                if whole.len() > MAX_RESPONSE_BYTES {
                    return Err(CliError::internal("the response to a message is larger than 8 MiB"));
                }
                continue;
            }
            let events = reader.take(&chunk);
            for event in events.map_err(|_too_large| CliError::internal("a message is larger than 16 MiB"))? {
                let Ok(found) = serde_json::from_str::<Value>(&event.data) else { continue };
                if found.get("method").is_none() {
                    return Ok(Some(found));
                }
                // After a repetition, what was reported before comes again.
                let reported = found["params"]["progress"].as_f64();
                if reported.is_none_or(|now| now > *progress) {
                    *progress = reported.unwrap_or(*progress);
                    output.write(&found).await;
                }
            }
        }
        if is_stream {
            return Err(CliError::unavailable("the answer was cut off", "try again"));
        }
        Ok(serde_json::from_slice::<Value>(&whole).ok().map(|answer| as_message(message, answer)))
    }

    fn remember_version(&self, message: &Value, answer: Option<&Value>) {
        let agreed = answer.and_then(|a| a["result"]["protocolVersion"].as_str());
        if message["method"] == "initialize"
            && let Some(agreed) = agreed
        {
            *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(agreed.to_owned());
        }
    }
}

/// Returns whether a message may be sent again if its answer was lost. A run gets a key for that, as from the other
/// commands.
fn make_repeatable(message: &mut Value) -> bool {
    if message["method"] != "tools/call" {
        return true;
    }
    let Some(params) = message.get_mut("params").and_then(Value::as_object_mut) else { return true };
    let name = params.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if name == "start_run" {
        let arguments = params.entry("arguments").or_insert_with(|| json!({}));
        if let Some(arguments) = arguments.as_object_mut() {
            arguments.entry("key").or_insert_with(|| uuid::Uuid::now_v7().simple().to_string().into());
        }
        return true;
    }
    is_repeatable(&name)
}

fn outcome_unknown(error: &CliError) -> CliError {
    let detail = error.problems.first().map_or("", |p| p.detail.as_str());
    CliError::new(
        ExitStatus::TryAgain,
        "outcome_unknown",
        format!("the connection was lost during the call, which may have been carried out: {detail}"),
        "look at the run with get_run before you call the tool again",
    )
}

/// Returns the answer itself, or the refusal of a guard of the routes as an error of the protocol.
fn as_message(message: &Value, answer: Value) -> Value {
    if answer.get("jsonrpc").is_some() {
        return answer;
    }
    let text = |field: &str| answer[field].as_str().unwrap_or("the service did not answer with a message").to_owned();
    super::error(&message["id"], super::SERVER_ERROR, &text("detail"))
}

/// Returns the headers that the protocol demands over HTTP and that repeat what the message says.
fn headers(message: &Value, agreed: Option<String>) -> Vec<(HeaderName, String)> {
    let params = &message["params"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let version = text(&params["_meta"]["io.modelcontextprotocol/protocolVersion"])
        .or_else(|| text(&params["protocolVersion"]))
        .or(agreed);
    let name = text(&params["name"]).or_else(|| text(&params["uri"])).or_else(|| text(&params["taskId"]));
    let given = [("mcp-protocol-version", version), ("mcp-method", text(&message["method"])), ("mcp-name", name)];
    let mut headers =
        vec![(CONTENT_TYPE, "application/json".to_owned()), (ACCEPT, "application/json, text/event-stream".to_owned())];
    for (header, value) in given {
        if let Some(text) = value.filter(|t| HeaderValue::from_str(t).is_ok()) {
            headers.push((HeaderName::from_static(header), text));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_gets_a_key_unless_it_has_one() {
        let call =
            |arguments: Value| json!({"method": "tools/call", "params": {"name": "start_run", "arguments": arguments}});
        let mut without = call(json!({"goal": "x"}));
        assert!(make_repeatable(&mut without));
        assert_eq!(without["params"]["arguments"]["key"].as_str().map(str::len), Some(32));
        let mut with = call(json!({"key": "mine"}));
        assert!(make_repeatable(&mut with));
        assert_eq!(with["params"]["arguments"]["key"], "mine");
        let mut raise = json!({"method": "tools/call", "params": {"name": "raise_budget"}});
        assert!(!make_repeatable(&mut raise));
        assert!(make_repeatable(&mut json!({"method": "tools/list"})));
    }

    #[test]
    fn the_headers_repeat_the_message() {
        let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
        let message = json!({"method": "tools/call", "params": {"name": "get_run", "_meta": meta}});
        let found = headers(&message, Some("2025-06-18".to_owned()));
        let value = |name: &str| found.iter().find(|(n, _)| n.as_str() == name).map(|(_, v)| v.as_str());
        assert_eq!(value("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!((value("mcp-method"), value("mcp-name")), (Some("tools/call"), Some("get_run")));
        let hostile = json!({"method": "tools/call\n", "params": {}});
        assert!(headers(&hostile, None).iter().all(|(name, _)| name.as_str() != "mcp-method"));
    }
}
