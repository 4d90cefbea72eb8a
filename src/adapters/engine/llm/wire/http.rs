//! One call without the library: sends a body and reads the response line by line, bounded in size and silence.

use super::super::fault::{CallContext, Fault};
use super::{Wire, frames};
use reqwest::Response;
use std::time::Duration;
use tokio::time::timeout;

/// Upper bound of an error body, in bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// Successful response whose body is read.
pub struct Lines<'a> {
    context: CallContext<'a>,
    response: Response,
    buffer: Vec<u8>,
    /// Bytes of the buffer that contain no line ending.
    scanned: usize,
    seen: usize,
    limit: usize,
    ended: bool,
    /// Time without data after which the call is abandoned.
    pub idle_timeout: Duration,
}

/// Sends `body` to `path` below the provider's base URL.
///
/// # Errors
/// The fault of the connection, or of a response with an error status.
pub async fn post<'a>(
    wire: &Wire,
    context: CallContext<'a>,
    path: &str,
    body: String,
    max_output_tokens: u32,
) -> Result<Lines<'a>, Fault> {
    let mut request = wire.clients.http.post(format!("{}{path}", wire.provider.base_url));
    request = request.header("content-type", "application/json").body(body);
    if let Some(key) = &wire.provider.key {
        request = request.bearer_auth(key.expose());
    }
    let idle_timeout = wire.provider.idle_timeout;
    let response = timeout(idle_timeout, request.send()).await.map_err(|_| late(&context, true))?;
    let mut response = response.map_err(|e| context.connection(&e, false))?;
    let status = response.status();
    if !status.is_success() {
        let headers = response.headers().clone();
        let body = timeout(idle_timeout, beginning(&mut response)).await.unwrap_or_default();
        let body = String::from_utf8_lossy(&body);
        return Err(context.response(Some(status.as_u16()), &headers, &body, false));
    }
    let limit = frames::max_bytes(max_output_tokens);
    Ok(Lines { context, response, buffer: Vec::new(), scanned: 0, seen: 0, limit, ended: false, idle_timeout })
}

impl Lines<'_> {
    /// Returns the next line without its line ending; `None` = the response has ended.
    ///
    /// # Errors
    /// If the connection is lost or silent, or the response is too large.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        loop {
            if let Some(end) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=self.scanned + end).collect();
                self.scanned = 0;
                line.truncate(line.trim_ascii_end().len());
                return Ok(Some(line));
            }
            self.scanned = self.buffer.len();
            if self.ended {
                self.scanned = 0;
                return Ok(Some(std::mem::take(&mut self.buffer)).filter(|line| !line.is_empty()));
            }
            let piece =
                timeout(self.idle_timeout, self.response.chunk()).await.map_err(|_| late(&self.context, true))?;
            match piece.map_err(|e| self.context.connection(&e, true))? {
                None => self.ended = true,
                Some(piece) => {
                    self.seen += piece.len();
                    if self.seen > self.limit {
                        return Err(self.context.transient("the answer is unreadable or too large", true));
                    }
                    self.buffer.extend_from_slice(&piece);
                }
            }
        }
    }
}

fn late(context: &CallContext<'_>, began: bool) -> Fault {
    context.transient("timed out: no data arrived in time", began)
}

async fn beginning(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece[..piece.len().min(MAX_ERROR_BYTES - body.len())]);
        if body.len() == MAX_ERROR_BYTES {
            break;
        }
    }
    body
}
