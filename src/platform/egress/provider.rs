//! A model call: validates and meters it, adds the key, and streams the response back with the key removed.

use super::key_mask::KeyMask;
use super::request::{ModelRequest, SanitizedBody};
use super::response::{denied, error};
use super::route::{Route, route, wire_of};
use super::session::{Fault, SessionState, with_idle_timeout};
use super::wire::{UsageReader, Wire};
use crate::domain::Timestamp;
use crate::platform::terminal_text::sanitize;
use crate::providers::cause::{Advice, Cause, Verdict};
use crate::providers::meter::{AdmissionError, Cap, Ticket};
use crate::providers::rate_limit::Permit;
use crate::providers::settings::{Api, Provider};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::{Stream, StreamExt};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// Maximum size of a request body in bytes, the limit of the most generous provider.
const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;
/// Memory for bodies is accounted in chunks of this size; see [`BODY_MEMORY_CHUNKS`].
const BODY_CHUNK_BYTES: usize = 1024 * 1024;
/// Number of chunks available to all sessions together.
pub const BODY_MEMORY_CHUNKS: usize = 160;
/// Timeout for receiving a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum size of a response body in bytes.
const MAX_RESPONSE_BYTES: u64 = 256 * 1024 * 1024;
/// Maximum size of an error response's body in bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// Maximum number of characters of a provider's message that is passed on.
const MAX_MESSAGE_CHARS: usize = 300;
/// Maximum number of times a call's output limit is lowered: other calls may take the budget that was offered.
const MAX_REDUCTIONS: usize = 3;

/// Request headers that are forwarded to the provider. All others are dropped: credentials, cookies, the account to
/// charge.
const REQUEST_HEADERS: &[&str] =
    &["accept", "anthropic-beta", "anthropic-version", "content-type", "openai-beta", "user-agent"];
/// Response headers that are forwarded to the agent, in addition to rate limits.
const RESPONSE_HEADERS: &[&str] =
    &["content-type", "request-id", "retry-after", "retry-after-ms", "x-request-id", "x-should-retry"];
const RESPONSE_HEADER_PREFIXES: &[&str] = &["anthropic-ratelimit-", "x-ratelimit-", "ratelimit-"];

/// Serves `/llm/<provider>/<rest>`; `path` is everything after `/llm/`.
pub async fn serve(session: &Arc<SessionState>, request: Request, path: &str) -> Response {
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    let Some(provider) = session.providers.get(name) else {
        let name: String = name.chars().take(100).collect();
        session.deny(&format!("/llm/{name}"), "not a provider of this agent");
        return denied(&format!("Skep: this agent may not call provider {name:?}"));
    };
    let wire = wire_of(provider.api);
    match call(session, provider, request, rest).await {
        Ok(response) => response,
        Err(failure) => {
            if failure.status == StatusCode::FORBIDDEN {
                session.deny(&format!("/llm/{name}/{}", rest.chars().take(200).collect::<String>()), &failure.why);
            }
            let mut response = error(failure.wire.unwrap_or(wire), failure.status, &failure.why);
            if let Some(secs) = failure.retry_secs {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
            }
            response
        }
    }
}

/// Ticket of a call that has not been sent yet. Dropping it releases the ticket, so the call costs nothing.
struct PendingTicket(Option<Ticket>);

impl PendingTicket {
    fn start(mut self) -> Option<Ticket> {
        self.0.take()
    }
}

impl Drop for PendingTicket {
    fn drop(&mut self) {
        self.0.take().map(Ticket::release).unwrap_or_default();
    }
}

/// Why a call was not made or failed.
struct ProxyError {
    status: StatusCode,
    why: String,
    wire: Option<Wire>,
    retry_secs: Option<u64>,
}

fn failure(status: StatusCode, why: impl Into<String>) -> ProxyError {
    ProxyError { status, why: format!("Skep: {}", why.into()), wire: None, retry_secs: None }
}

async fn call(
    session: &Arc<SessionState>,
    provider: &Provider,
    request: Request,
    rest: &str,
) -> Result<Response, ProxyError> {
    let (parts, body) = request.into_parts();
    let route =
        route(provider, &parts.method, rest, parts.uri.query()).map_err(|why| failure(StatusCode::FORBIDDEN, why))?;
    let encoded = parts.headers.get(header::CONTENT_ENCODING).is_some_and(|v| v != "identity");
    if encoded {
        return Err(failure(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the request uncompressed: the proxy inspects it",
        ));
    }
    let (raw, memory) = read_body(session, &parts.headers, body).await?;
    let mut model_request = match &route.paid {
        None => None,
        Some((wire, model)) => {
            let read = ModelRequest::read(*wire, &raw, model.as_deref(), provider);
            Some((
                *wire,
                read.map_err(|why| ProxyError { wire: Some(*wire), ..failure(StatusCode::BAD_REQUEST, why) })?,
            ))
        }
    };
    // Token counting is free and accepts the same bodies.
    let free = match &model_request {
        None if !raw.is_empty() => Some(
            SanitizedBody::read(wire_of(provider.api), &raw).map_err(|why| failure(StatusCode::BAD_REQUEST, why))?,
        ),
        _ => None,
    };
    let paid = model_request.as_ref().map(|(_, a)| &a.removed);
    for field in paid.or(free.as_ref().map(|f| &f.removed)).into_iter().flatten() {
        session.deny(
            &format!("{}: {field:?} in a request", provider.name),
            "removed: the provider would access the network or charge more",
        );
    }
    let model = model_request.as_ref().map_or(String::new(), |(_, a)| a.model.clone());
    // First the budget, then the rate limit: an attempt that waits for its own calls must not block others.
    let pending = match &mut model_request {
        None => PendingTicket(None),
        Some((wire, model_request)) => PendingTicket(Some(
            admit(session, provider, model_request).await.map_err(|why| ProxyError { wire: Some(*wire), ..why })?,
        )),
    };
    let limiter = session.shared.limits.for_provider(provider);
    let permit = limiter.acquire(&model).await.map_err(|until| cooling_down(session, provider, &model, until))?;
    let ticket = pending.start();
    let body = model_request.map(|(_, model_request)| model_request.into_body()).or(free.map(|free| free.body));
    let bytes = match body.map(|body| serde_json::to_vec(&body)).transpose() {
        Ok(bytes) => Bytes::from(bytes.unwrap_or_default()),
        Err(why) => return Err(failure(StatusCode::BAD_REQUEST, format!("cannot serialize the body: {why}"))),
    };
    let sent = send(session, provider, &route, parts.method, &parts.headers, bytes).await;
    drop(memory);
    let response = match sent {
        Ok(response) => response,
        Err(SendError::Unreachable(why)) => {
            // The provider never received the call.
            ticket.map(Ticket::release).unwrap_or_default();
            return Err(no_response(session, provider, &model, StatusCode::BAD_GATEWAY, why));
        }
        Err(SendError::NoResponse(why)) => {
            return Err(no_response(session, provider, &model, StatusCode::GATEWAY_TIMEOUT, why));
        }
        Err(SendError::Invalid(why)) => {
            ticket.map(Ticket::release).unwrap_or_default();
            return Err(failure(StatusCode::BAD_GATEWAY, why));
        }
    };
    if response.status().is_success() {
        session.set_fault(None);
        let wire = route.paid.map(|(wire, _)| wire);
        return Ok(stream_response(provider, response, wire, ticket, permit));
    }
    Err(provider_error(session, provider, &model, response, ticket).await)
}

/// Reads the complete body, and reserves memory for it.
async fn read_body(
    session: &SessionState,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, OwnedSemaphorePermit), ProxyError> {
    let content_length =
        headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    let large = || failure(StatusCode::PAYLOAD_TOO_LARGE, format!("the request is larger than {MAX_BODY_BYTES} bytes"));
    if content_length.is_some_and(|bytes| bytes > MAX_BODY_BYTES) {
        return Err(large());
    }
    let chunks = u32::try_from(content_length.unwrap_or(MAX_BODY_BYTES).div_ceil(BODY_CHUNK_BYTES).max(1)).unwrap_or(1);
    let memory = session.shared.body_memory.clone().acquire_many_owned(chunks).await;
    let memory = memory.map_err(|_| failure(StatusCode::SERVICE_UNAVAILABLE, "the egress proxy is shutting down"))?;
    match timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY_BYTES)).await {
        Ok(Ok(bytes)) => Ok((bytes, memory)),
        Ok(Err(_)) => Err(large()),
        Err(_) => Err(failure(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time")),
    }
}

/// Reserves the call's worst case; lowers its output limit if only a shorter answer fits.
async fn admit(
    session: &SessionState,
    provider: &Provider,
    model_request: &mut ModelRequest,
) -> Result<Ticket, ProxyError> {
    let name = format!("{}/{}", provider.name, model_request.model);
    let openai = provider.base_url.contains("//api.openai.com/") || provider.base_url.contains(".azure.com/");
    let mut denied: Option<AdmissionError> = None;
    for _ in 0..=MAX_REDUCTIONS {
        match session.meter.admit_when_free(&name, model_request.input, model_request.max_output_tokens).await {
            Ok(ticket) => return Ok(ticket),
            Err(why) => {
                let was_reduced = why.fits.is_some_and(|max_tokens| model_request.limit_output(max_tokens, openai));
                denied = Some(why);
                if !was_reduced {
                    break;
                }
            }
        }
    }
    let cap = denied.as_ref().map_or(Cap::Tokens, |r| r.cap);
    session.meter.mark_exhausted(cap);
    let why = denied.map_or_else(|| "the budget of this attempt is exhausted".to_owned(), |r| r.to_string());
    Err(failure(StatusCode::PAYMENT_REQUIRED, why))
}

enum SendError {
    /// The connection failed.
    Unreachable(String),
    /// Connected, but no response: the call may be charged.
    NoResponse(String),
    /// The request is invalid and was not sent.
    Invalid(String),
}

async fn send(
    session: &SessionState,
    provider: &Provider,
    route: &Route,
    method: axum::http::Method,
    agent_headers: &HeaderMap,
    body: Bytes,
) -> Result<reqwest::Response, SendError> {
    let mut headers = HeaderMap::new();
    for name in REQUEST_HEADERS {
        // Only the first header of each name: servers disagree on what a second one means.
        if let Some(value) = agent_headers.get(*name) {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
    }
    if let Some(key) = &provider.key {
        let (name, value) = credential(provider.api, key.expose());
        let invalid_key = || {
            SendError::Invalid(format!("provider {:?}: invalid API key (from {})", provider.name, provider.key_source))
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| invalid_key())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    if provider.api == Api::Anthropic && !headers.contains_key("anthropic-version") {
        headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
    }
    let client =
        if is_local(&provider.base_url) { &session.shared.local_client } else { &session.shared.remote_client };
    let request = client.request(method, &route.url).headers(headers).body(body);
    match timeout(provider.idle_timeout, request.send()).await {
        Ok(Ok(response)) => Ok(response),
        // Without the URL, which may contain a credential.
        Ok(Err(error)) if error.is_connect() => Err(SendError::Unreachable(error_chain(&error.without_url()))),
        Ok(Err(error)) if error.is_builder() => Err(SendError::Invalid(error_chain(&error.without_url()))),
        Ok(Err(error)) => Err(SendError::NoResponse(error_chain(&error.without_url()))),
        Err(_) => Err(SendError::NoResponse(format!("no response within {} s", provider.idle_timeout.as_secs()))),
    }
}

fn credential(api: Api, key: &str) -> (HeaderName, String) {
    match api {
        // An OAuth token of a subscription, not an API key.
        Api::Anthropic if key.starts_with("sk-ant-oat") => (header::AUTHORIZATION, format!("Bearer {key}")),
        Api::Anthropic => (HeaderName::from_static("x-api-key"), key.to_owned()),
        Api::Gemini => (HeaderName::from_static("x-goog-api-key"), key.to_owned()),
        Api::OpenAi | Api::OpenAiResponses | Api::Ollama => (header::AUTHORIZATION, format!("Bearer {key}")),
    }
}

/// Returns whether a URL points to this machine, so that no proxy is used for it.
fn is_local(base_url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(base_url) else { return false };
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// Formats an error with its causes.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    sanitize(text.as_bytes()).chars().take(MAX_MESSAGE_CHARS).collect()
}

fn fault(session: &SessionState, provider: &Provider, model: &str, status: Option<u16>, why: &str) -> Fault {
    let (provider, model, why) = (provider.name.clone(), model.to_owned(), why.to_owned());
    Fault { provider, model, at: session.shared.clock.now(), status, why, until: None, fix: None }
}

fn no_response(
    session: &SessionState,
    provider: &Provider,
    model: &str,
    status: StatusCode,
    why: String,
) -> ProxyError {
    let why = format!("provider {:?} did not respond: {why}", provider.name);
    session.set_fault(Some(fault(session, provider, model, None, &why)));
    failure(status, why)
}

fn cooling_down(session: &SessionState, provider: &Provider, model: &str, until: Timestamp) -> ProxyError {
    let secs = u64::try_from(until.0.saturating_sub(session.shared.clock.now().0)).unwrap_or(0).div_ceil(1000);
    let why = format!("provider {:?} asked to wait {secs} s before calling model {model:?} again", provider.name);
    session.set_fault(Some(Fault { until: Some(until), ..fault(session, provider, model, Some(429), &why) }));
    ProxyError { retry_secs: Some(secs), ..failure(StatusCode::TOO_MANY_REQUESTS, why) }
}

/// Turns an error response into an error for the agent, without the key, and records what it means.
async fn provider_error(
    session: &SessionState,
    provider: &Provider,
    model: &str,
    response: reqwest::Response,
    ticket: Option<Ticket>,
) -> ProxyError {
    let status = response.status();
    let headers = response.headers().clone();
    // A gateway's timeout may be charged all the same; an error of the provider itself is not.
    if !matches!(status.as_u16(), 408 | 502 | 504 | 524) {
        ticket.map(Ticket::release).unwrap_or_default();
    }
    let body = read_error_body(response, provider.idle_timeout).await;
    let now = session.shared.clock.now();
    let verdict = Verdict::of_response(Some(status.as_u16()), &headers, &body, now);
    let until = verdict.until;
    if let Some(until) = until {
        session.shared.limits.for_provider(provider).cool_down_until(model, until);
    }
    let masked = KeyMask::new(provider.key.as_ref().map_or("", |k| k.expose())).mask(&body);
    let message: String = error_message(&masked).chars().take(MAX_MESSAGE_CHARS).collect();
    let code = status.as_u16();
    let cause = verdict.cause;
    let advice = Advice { provider, model: &sanitize(model.as_bytes()), role: None };
    // An invalid or overlong request of the agent says nothing about the provider.
    let is_agent_error = matches!(cause, Cause::TooLong) || (matches!(code, 400 | 422) && cause == Cause::Unclassified);
    let fix = advice.fix(cause).filter(|_| !is_agent_error);
    let why = match cause {
        // Some providers repeat a part of the key in this message.
        Cause::Key => format!("provider {:?} rejected its key", provider.name),
        _ => format!("provider {:?} returned {code}: {message}", provider.name),
    };
    if !is_agent_error {
        session.set_fault(Some(Fault { until, fix, ..fault(session, provider, model, Some(code), &why) }));
    }
    let status = if status.is_redirection() { StatusCode::BAD_GATEWAY } else { status };
    let wait = until.map(|at| u64::try_from(at.0.saturating_sub(now.0)).unwrap_or(0).div_ceil(1000));
    ProxyError { retry_secs: wait, ..failure(status, why) }
}

/// Reads the beginning of an error response's body.
async fn read_error_body(response: reqwest::Response, idle_timeout: Duration) -> Vec<u8> {
    let mut body = Vec::new();
    let mut stream =
        std::pin::pin!(with_idle_timeout(response.bytes_stream().map(|p| p.map_err(io::Error::other)), idle_timeout));
    while let Some(Ok(piece)) = stream.next().await {
        body.extend_from_slice(&piece[..piece.len().min(MAX_ERROR_BYTES - body.len())]);
        if body.len() >= MAX_ERROR_BYTES {
            break;
        }
    }
    body
}

/// Returns the message in an error body, in any of the known formats; otherwise the body as text.
fn error_message(body: &[u8]) -> String {
    let json = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    let json = if json.is_array() { &json[0] } else { &json };
    let message = ["/error/message", "/error", "/message", "/detail"].iter().find_map(|p| json.pointer(p)?.as_str());
    sanitize(message.map_or(body, str::as_bytes)).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Settles a call when its response ends, however it ends.
struct Settlement {
    reader: Option<UsageReader>,
    ticket: Option<Ticket>,
    _permit: Permit,
}

impl Drop for Settlement {
    fn drop(&mut self) {
        let usage = self.reader.take().and_then(UsageReader::finish);
        match (self.ticket.take(), usage) {
            (Some(ticket), Some(usage)) => ticket.settle(usage),
            // Cut off, or no usage reported: charge the worst case.
            (ticket, _) => drop(ticket),
        }
    }
}

struct ResponseStream {
    body: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    mask: KeyMask,
    bytes_left: u64,
    settlement: Settlement,
}

fn stream_response(
    provider: &Provider,
    response: reqwest::Response,
    wire: Option<Wire>,
    ticket: Option<Ticket>,
    permit: Permit,
) -> Response {
    let mut out = Response::new(Body::empty());
    *out.status_mut() = response.status();
    let is_forwarded =
        |name: &str| RESPONSE_HEADERS.contains(&name) || RESPONSE_HEADER_PREFIXES.iter().any(|p| name.starts_with(p));
    for (name, value) in response.headers() {
        if is_forwarded(name.as_str()) {
            out.headers_mut().append(name.clone(), value.clone());
        }
    }
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let stream = ResponseStream {
        settlement: Settlement { reader: wire.map(|w| UsageReader::new(w, kind)), ticket, _permit: permit },
        mask: KeyMask::new(provider.key.as_ref().map_or("", |k| k.expose())),
        bytes_left: MAX_RESPONSE_BYTES,
        body: Box::pin(with_idle_timeout(
            response.bytes_stream().map(|p| p.map_err(io::Error::other)),
            provider.idle_timeout,
        )),
    };
    *out.body_mut() = Body::from_stream(futures::stream::unfold(Some(stream), next));
    out
}

/// Returns the next chunk of a response, after reading its usage and removing the key.
async fn next(stream: Option<ResponseStream>) -> Option<(io::Result<Bytes>, Option<ResponseStream>)> {
    let mut stream = stream?;
    loop {
        match stream.body.next().await {
            Some(Ok(piece)) => {
                stream.bytes_left = match stream.bytes_left.checked_sub(piece.len() as u64) {
                    Some(left) => left,
                    None => return Some((Err(io::Error::other("the response is too large")), None)),
                };
                if let Some(reader) = &mut stream.settlement.reader {
                    reader.feed(&piece);
                }
                let piece = stream.mask.feed(piece);
                if !piece.is_empty() {
                    return Some((Ok(piece), Some(stream)));
                }
            }
            Some(Err(error)) => return Some((Err(error), None)),
            None => {
                let rest = stream.mask.finish();
                // Settle before the agent sees the end and can query its usage.
                drop(stream);
                return (!rest.is_empty()).then_some((Ok(rest), None));
            }
        }
    }
}
