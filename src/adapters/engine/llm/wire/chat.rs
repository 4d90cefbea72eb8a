//! One call of the Chat Completions API, which many servers imitate. Skep reads the stream itself, because each of them
//! differs: calls without an index or an id, arguments as objects, no `[DONE]`, no stream at all, errors within a
//! successful response.

use super::super::fault::{CallContext, Fault};
use super::{Answer, StreamDelta, Wire, http};
use crate::providers::cause::Cause;
use assembly::{Assembly, End};
use reqwest::header::HeaderMap;
use serde_json::Value;
use std::time::Duration;

mod assembly;
pub mod body;

/// Time to wait for the usage and the end of the stream after the answer is complete.
const GRACE: Duration = Duration::from_secs(5);
/// Upper bound of a response that is not a stream, in bytes.
const MAX_PLAIN_BYTES: usize = 4 * 1024 * 1024;

/// Makes one call. Dropping the future cancels it.
///
/// # Errors
/// The fault, classified by what to do next.
pub async fn ask(
    wire: &Wire,
    context: CallContext<'_>,
    body: Value,
    max_output_tokens: u32,
    on_delta: &(dyn Fn(StreamDelta<'_>) + Sync),
) -> Result<Answer, Fault> {
    let mut lines = http::post(wire, context, "chat/completions", body.to_string(), max_output_tokens).await?;
    let (mut answer, mut event, mut plain) = (Assembly::default(), String::new(), Vec::new());
    let done = loop {
        if answer.is_complete() {
            lines.idle_timeout = lines.idle_timeout.min(GRACE);
        }
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => break false,
            Err(_) if answer.is_complete() => break false,
            Err(fault) => return Err(fault),
        };
        let text = String::from_utf8_lossy(&line);
        match text.split_once(':') {
            Some(("data", data)) if plain.is_empty() => {
                // The parts of an event that is spread over several lines belong together.
                event.push_str(data.trim_start());
            }
            Some(("event" | "id" | "retry" | "", _)) if plain.is_empty() => continue,
            // An empty line ends an event.
            _ if text.trim().is_empty() => match event.trim().is_empty() {
                true => continue,
                false => return Err(context.transient("unreadable answer", true)),
            },
            _ => {
                if plain.len() + line.len() > MAX_PLAIN_BYTES {
                    return Err(context.transient("unreadable answer", true));
                }
                plain.extend_from_slice(&line);
                plain.push(b'\n');
                continue;
            }
        }
        if event.trim() == "[DONE]" {
            event.clear();
            break true;
        }
        let Ok(chunk) = serde_json::from_str::<Value>(&event) else { continue };
        event.clear();
        if let Some(error) = assembly::error(&chunk).filter(|_| !answer.is_complete()) {
            return Err(context.response(None, &HeaderMap::new(), &error.to_string(), answer.began()));
        }
        answer.push(&chunk, on_delta);
    };
    if !event.trim().is_empty() && !answer.is_complete() {
        return Err(context.transient("unreadable answer", true));
    }
    if !answer.began() && !plain.is_empty() {
        plain_answer(&context, &plain, &mut answer, on_delta)?;
    }
    match answer.end(done) {
        End::Whole(done) => Ok(done),
        End::Fault(cause, reason) => {
            Err(context.caused(cause, &format!("ended its answer with the reason {reason:?}")))
        }
        End::BrokenOff => Err(context.transient("the answer broke off", true)),
    }
}

/// Reads a response that is not a stream: an answer of a server that does not stream, an error, or a web page.
fn plain_answer(
    context: &CallContext<'_>,
    plain: &[u8],
    answer: &mut Assembly,
    on_delta: &(dyn Fn(StreamDelta<'_>) + Sync),
) -> Result<(), Fault> {
    let text = String::from_utf8_lossy(plain);
    if let Some(fault) = context.wrong_answer(&text) {
        return Err(fault);
    }
    match serde_json::from_slice::<Value>(plain) {
        Ok(whole) if whole.get("choices").is_some() => {
            answer.push(&whole, on_delta);
            Ok(())
        }
        // An answer that was cut off.
        Err(_) if text.trim_start().starts_with(['{', '[']) => Err(context.transient("unreadable answer", true)),
        _ => {
            let what = format!("answered with something other than this API does: {}", text.trim());
            Err(Fault { began: false, ..context.caused(Cause::Address, &what) })
        }
    }
}
