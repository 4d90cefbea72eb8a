//! `skep mcp`: the Model Context Protocol on standard input and output, for agents that start their servers.
//!
//! Each line is one message of the protocol, and is passed on to the address `/mcp`: of the running service, or of
//! routes in this process, which then carries the runs until its input ends. Standard output carries nothing else.

use super::client::Client;
use super::context::{Access, CliContext};
use super::exit::{CliError, ExitStatus, Stop};
use axum::http::HeaderValue;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Stdout};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

/// Maximum bytes of a message; the same limit as for a request body.
const MAX_MESSAGE_BYTES: u64 = 1024 * 1024;
/// Maximum number of messages that are answered at the same time.
const MAX_CONCURRENT: usize = 32;

/// Answers messages until standard input ends.
pub async fn mcp(cli: &CliContext<'_>) -> Result<ExitStatus, Stop> {
    let connection = cli.connect(Access::Drive).await?;
    let ended = answer_all(&connection.client).await;
    connection.close().await;
    ended.map(|()| ExitStatus::Success)
}

async fn answer_all(client: &Client) -> Result<(), Stop> {
    let output = Arc::new(Mutex::new(tokio::io::stdout()));
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut input = BufReader::new(tokio::io::stdin());
    let mut answers = JoinSet::new();
    loop {
        let mut line = Vec::new();
        let read = (&mut input).take(MAX_MESSAGE_BYTES + 1).read_until(b'\n', &mut line).await;
        let read = read.map_err(|e| CliError::internal(format!("cannot read standard input: {e}")))?;
        if read == 0 {
            break;
        }
        if line.len() as u64 > MAX_MESSAGE_BYTES {
            return Err(CliError::usage("a message is longer than 1 MiB", "send one message per line").into());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        // A call may wait for a run: others are answered meanwhile.
        let Ok(permit) = permits.clone().acquire_owned().await else { break };
        let (client, output) = (client.clone(), output.clone());
        answers.spawn(async move {
            let _permit = permit;
            if let Some(answer) = answer(&client, line).await {
                write(&output, &answer).await;
            }
        });
        while answers.try_join_next().is_some() {}
    }
    while answers.join_next().await.is_some() {}
    Ok(())
}

/// Returns the answer to a message; `None` for notifications and responses, which have none.
async fn answer(client: &Client, line: Vec<u8>) -> Option<Value> {
    let message: Value = match serde_json::from_slice(&line) {
        Ok(message) => message,
        Err(e) => return Some(error(Value::Null, -32_700, &format!("the message is not JSON: {e}"))),
    };
    let id = message.get("id").filter(|_| message.get("method").is_some()).cloned();
    let answered = client.mcp(line, headers(&message)).await;
    let id = id?;
    Some(match answered {
        Ok(body) => serde_json::from_slice::<Value>(&body)
            .ok()
            .filter(|answer| answer.get("jsonrpc").is_some())
            .unwrap_or_else(|| error(id, -32_603, &refusal(&body))),
        Err(failure) => error(id, -32_603, &reasons(&failure)),
    })
}

/// Returns the headers that the protocol demands over HTTP and that repeat what the message says.
fn headers(message: &Value) -> Vec<(HeaderName, String)> {
    let params = message.get("params");
    let version = params
        .and_then(|p| p.get("_meta")?.get("io.modelcontextprotocol/protocolVersion"))
        .or_else(|| params.and_then(|p| p.get("protocolVersion")));
    let name = params.and_then(|p| p.get("name").or_else(|| p.get("uri")).or_else(|| p.get("taskId")));
    let given = [("mcp-protocol-version", version), ("mcp-method", message.get("method")), ("mcp-name", name)];
    let mut headers =
        vec![(CONTENT_TYPE, "application/json".to_owned()), (ACCEPT, "application/json, text/event-stream".to_owned())];
    for (header, value) in given {
        if let Some(text) = value.and_then(Value::as_str).filter(|t| HeaderValue::from_str(t).is_ok()) {
            headers.push((HeaderName::from_static(header), text.to_owned()));
        }
    }
    headers
}

/// Returns the words of a refusal that is not a message of the protocol.
fn refusal(body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = problem.get("detail").and_then(Value::as_str);
    detail.map_or_else(|| "the service did not answer with a message".to_owned(), str::to_owned)
}

fn reasons(failure: &CliError) -> String {
    let reason = |p: &crate::http::rest::wire::Problem| format!("{}; {}", p.detail, p.fix);
    failure.problems.iter().map(reason).collect::<Vec<_>>().join("; ")
}

fn error(id: Value, code: i32, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}

async fn write(output: &Mutex<Stdout>, answer: &Value) {
    let mut output = output.lock().await;
    // If nobody reads any more, standard input ends as well, and with it the command.
    let _closed = output.write_all(format!("{answer}\n").as_bytes()).await;
    let _closed = output.flush().await;
}
