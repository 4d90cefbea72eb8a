//! A call of a model: judged, counted, given its key, and its answer streamed back with the key kept out.

use super::answer::{denied, error};
use super::mask::Mask;
use super::request::{Asked, Judged};
use super::route::{Route, route, wire_of};
use super::session::{Fault, SessionState, unless_silent};
use super::wire::{Reader, Wire};
use crate::domain::Timestamp;
use crate::platform::terminal_text::sanitize;
use crate::providers::meter::{Cap, Refused, Ticket};
use crate::providers::quota;
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

/// The most bytes of a request, as the largest provider takes them.
const BODY_MAX: usize = 32 * 1024 * 1024;
/// Bodies in memory are counted in pieces of this size; see [`ROOM`].
const PIECE: usize = 1024 * 1024;
/// Pieces there is room for, all passes together.
pub const ROOM: usize = 160;
/// How long a request's body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// The most bytes of an answer.
const ANSWER_MAX: u64 = 256 * 1024 * 1024;
/// The most bytes of an error's body.
const ERROR_MAX: usize = 64 * 1024;
/// What of a provider's words is told.
const WORDS_MAX: usize = 300;
/// How often a call is cut shorter before it is given up: others may take what was offered.
const CUTS_MAX: usize = 3;

/// Headers of the agent's that go to the provider. Everything else stays: credentials, cookies, whose account pays.
const SENT: &[&str] = &["accept", "anthropic-beta", "anthropic-version", "content-type", "openai-beta", "user-agent"];
/// Headers of the provider's that go to the agent, besides its limits.
const GIVEN: &[&str] =
    &["content-type", "request-id", "retry-after", "retry-after-ms", "x-request-id", "x-should-retry"];
const GIVEN_PREFIXES: &[&str] = &["anthropic-ratelimit-", "x-ratelimit-", "ratelimit-"];

/// Serves `/llm/<provider>/<rest>`; `path` is what comes after `/llm/`.
pub async fn serve(open: &Arc<SessionState>, request: Request, path: &str) -> Response {
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    let Some(provider) = open.providers.get(name) else {
        let name: String = name.chars().take(100).collect();
        open.deny(&format!("/llm/{name}"), "no provider of this agent");
        return denied(&format!("Skep: {name:?} is no provider this agent may call"));
    };
    let wire = wire_of(provider.api);
    match call(open, provider, request, rest).await {
        Ok(response) => response,
        Err(no) => {
            if no.status == StatusCode::FORBIDDEN {
                open.deny(&format!("/llm/{name}/{}", rest.chars().take(200).collect::<String>()), &no.why);
            }
            let mut response = error(no.wire.unwrap_or(wire), no.status, &no.why);
            if let Some(secs) = no.retry_secs {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
            }
            response
        }
    }
}

/// A ticket of a call that was not sent yet: given up before, it costs nothing.
struct Waiting(Option<Ticket>);

impl Waiting {
    fn go(mut self) -> Option<Ticket> {
        self.0.take()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.take().map(Ticket::release).unwrap_or_default();
    }
}

/// Why a call was not made, or has no answer.
struct ProxyError {
    status: StatusCode,
    why: String,
    wire: Option<Wire>,
    retry_secs: Option<u64>,
}

fn no(status: StatusCode, why: impl Into<String>) -> ProxyError {
    ProxyError { status, why: format!("Skep: {}", why.into()), wire: None, retry_secs: None }
}

async fn call(
    open: &Arc<SessionState>,
    provider: &Provider,
    request: Request,
    rest: &str,
) -> Result<Response, ProxyError> {
    let (parts, body) = request.into_parts();
    let route =
        route(provider, &parts.method, rest, parts.uri.query()).map_err(|why| no(StatusCode::FORBIDDEN, why))?;
    let encoded = parts.headers.get(header::CONTENT_ENCODING).is_some_and(|v| v != "identity");
    if encoded {
        return Err(no(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the request uncompressed: it is read before it goes on",
        ));
    }
    let (raw, room) = take(open, &parts.headers, body).await?;
    let mut asked = match &route.paid {
        None => None,
        Some((wire, model)) => {
            let read = Asked::read(*wire, &raw, model.as_deref(), provider);
            Some((*wire, read.map_err(|why| ProxyError { wire: Some(*wire), ..no(StatusCode::BAD_REQUEST, why) })?))
        }
    };
    // Counting is free, and reads the same bodies.
    let free = match &asked {
        None if !raw.is_empty() => {
            Some(Judged::read(wire_of(provider.api), &raw).map_err(|why| no(StatusCode::BAD_REQUEST, why))?)
        }
        _ => None,
    };
    let paid = asked.as_ref().map(|(_, a)| &a.left_out);
    for field in paid.or(free.as_ref().map(|f| &f.left_out)).into_iter().flatten() {
        open.deny(
            &format!("{}: {field:?} in a request", provider.name),
            "the provider would reach out or charge more; left out",
        );
    }
    let model = asked.as_ref().map_or(String::new(), |(_, a)| a.model.clone());
    // First the budget, then the provider's place: an attempt that waits for its own calls keeps no place from others.
    let waiting = match &mut asked {
        None => Waiting(None),
        Some((wire, asked)) => {
            Waiting(Some(admit(open, provider, asked).await.map_err(|why| ProxyError { wire: Some(*wire), ..why })?))
        }
    };
    let limiter = open.shared.limits.of(provider);
    let permit = limiter.acquire(&model).await.map_err(|until| rests(open, provider, &model, until))?;
    let ticket = waiting.go();
    let body = asked.map(|(_, asked)| asked.into_body()).or(free.map(|free| free.body));
    let bytes = match body.map(|body| serde_json::to_vec(&body)).transpose() {
        Ok(bytes) => Bytes::from(bytes.unwrap_or_default()),
        Err(why) => return Err(no(StatusCode::BAD_REQUEST, format!("the body cannot be written: {why}"))),
    };
    let sent = send(open, provider, &route, parts.method, &parts.headers, bytes).await;
    drop(room);
    let response = match sent {
        Ok(response) => response,
        Err(Unsent::Unreached(why)) => {
            // It never got there.
            ticket.map(Ticket::release).unwrap_or_default();
            return Err(unanswered(open, provider, &model, StatusCode::BAD_GATEWAY, why));
        }
        Err(Unsent::Unanswered(why)) => {
            return Err(unanswered(open, provider, &model, StatusCode::GATEWAY_TIMEOUT, why));
        }
        Err(Unsent::Unfit(why)) => {
            ticket.map(Ticket::release).unwrap_or_default();
            return Err(no(StatusCode::BAD_GATEWAY, why));
        }
    };
    if response.status().is_success() {
        open.note(None);
        let wire = route.paid.map(|(wire, _)| wire);
        return Ok(streamed(provider, response, wire, ticket, permit));
    }
    Err(refused_there(open, provider, &model, response, ticket).await)
}

/// The body, whole, and its place in memory.
async fn take(
    open: &SessionState,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, OwnedSemaphorePermit), ProxyError> {
    let told = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    let large = || no(StatusCode::PAYLOAD_TOO_LARGE, format!("the request is larger than {BODY_MAX} bytes"));
    if told.is_some_and(|bytes| bytes > BODY_MAX) {
        return Err(large());
    }
    let pieces = u32::try_from(told.unwrap_or(BODY_MAX).div_ceil(PIECE).max(1)).unwrap_or(1);
    let room = open.shared.room.clone().acquire_many_owned(pieces).await;
    let room = room.map_err(|_| no(StatusCode::SERVICE_UNAVAILABLE, "the gate is closing"))?;
    match timeout(BODY_WITHIN, to_bytes(body, BODY_MAX)).await {
        Ok(Ok(bytes)) => Ok((bytes, room)),
        Ok(Err(_)) => Err(large()),
        Err(_) => Err(no(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time")),
    }
}

/// Sets the call's worst case aside; a shorter answer is asked for where only that fits.
async fn admit(open: &SessionState, provider: &Provider, asked: &mut Asked) -> Result<Ticket, ProxyError> {
    let name = format!("{}/{}", provider.name, asked.model);
    let openai = provider.base_url.contains("//api.openai.com/") || provider.base_url.contains(".azure.com/");
    let mut refused: Option<Refused> = None;
    for _ in 0..=CUTS_MAX {
        match open.meter.admit_when_free(&name, asked.input, asked.max_output).await {
            Ok(ticket) => return Ok(ticket),
            Err(why) => {
                let cut = why.fits.is_some_and(|most| asked.cut(most, openai));
                refused = Some(why);
                if !cut {
                    break;
                }
            }
        }
    }
    let cap = refused.as_ref().map_or(Cap::Tokens, |r| r.cap);
    open.meter.gave_up(cap);
    let why = refused.map_or_else(|| "the budget of this attempt is used up".to_owned(), |r| r.to_string());
    Err(no(StatusCode::PAYMENT_REQUIRED, why))
}

enum Unsent {
    /// No connection.
    Unreached(String),
    /// A connection, but no answer: it may have been paid for.
    Unanswered(String),
    /// It cannot be written down.
    Unfit(String),
}

async fn send(
    open: &SessionState,
    provider: &Provider,
    route: &Route,
    method: axum::http::Method,
    given: &HeaderMap,
    body: Bytes,
) -> Result<reqwest::Response, Unsent> {
    let mut headers = HeaderMap::new();
    for name in SENT {
        // One of each: what a second one means is a matter of taste.
        if let Some(value) = given.get(*name) {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
    }
    if let Some(key) = &provider.key {
        let (name, value) = credential(provider.api, key.expose());
        let unfit = || {
            Unsent::Unfit(format!("the key of provider {:?} is no key (look at {})", provider.name, provider.key_place))
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| unfit())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    if provider.api == Api::Anthropic && !headers.contains_key("anthropic-version") {
        headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
    }
    let client = if is_near(&provider.base_url) { &open.shared.near } else { &open.shared.far };
    let request = client.request(method, &route.url).headers(headers).body(body);
    match timeout(provider.silence, request.send()).await {
        Ok(Ok(response)) => Ok(response),
        // Without the address: it may hold what a person took for a good place.
        Ok(Err(error)) if error.is_connect() => Err(Unsent::Unreached(causes(&error.without_url()))),
        Ok(Err(error)) if error.is_builder() => Err(Unsent::Unfit(causes(&error.without_url()))),
        Ok(Err(error)) => Err(Unsent::Unanswered(causes(&error.without_url()))),
        Err(_) => Err(Unsent::Unanswered(format!("it was silent for {} s", provider.silence.as_secs()))),
    }
}

fn credential(api: Api, key: &str) -> (HeaderName, String) {
    match api {
        // A subscription's token, not a key.
        Api::Anthropic if key.starts_with("sk-ant-oat") => (header::AUTHORIZATION, format!("Bearer {key}")),
        Api::Anthropic => (HeaderName::from_static("x-api-key"), key.to_owned()),
        Api::Gemini => (HeaderName::from_static("x-goog-api-key"), key.to_owned()),
        Api::OpenAi | Api::OpenAiResponses | Api::Ollama => (header::AUTHORIZATION, format!("Bearer {key}")),
    }
}

/// Whether an address is this machine's: no proxy is asked for it.
fn is_near(base_url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(base_url) else { return false };
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// An error with what it comes from.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    sanitize(text.as_bytes()).chars().take(WORDS_MAX).collect()
}

fn fault(open: &SessionState, provider: &Provider, model: &str, status: Option<u16>, why: &str) -> Fault {
    let (provider, model, why) = (provider.name.clone(), model.to_owned(), why.to_owned());
    Fault { provider, model, at: open.shared.clock.now(), status, why, until: None, fix: None }
}

fn unanswered(open: &SessionState, provider: &Provider, model: &str, status: StatusCode, why: String) -> ProxyError {
    let why = format!("provider {:?} gave no answer: {why}", provider.name);
    open.note(Some(fault(open, provider, model, None, &why)));
    no(status, why)
}

fn rests(open: &SessionState, provider: &Provider, model: &str, until: Timestamp) -> ProxyError {
    let secs = u64::try_from(until.0.saturating_sub(open.shared.clock.now().0)).unwrap_or(0).div_ceil(1000);
    let why = format!("provider {:?} rests for {secs} s for model {model:?}: it said so", provider.name);
    open.note(Some(Fault { until: Some(until), ..fault(open, provider, model, Some(429), &why) }));
    ProxyError { retry_secs: Some(secs), ..no(StatusCode::TOO_MANY_REQUESTS, why) }
}

/// The provider said no: what that means is noted, and told on without the key.
async fn refused_there(
    open: &SessionState,
    provider: &Provider,
    model: &str,
    response: reqwest::Response,
    ticket: Option<Ticket>,
) -> ProxyError {
    let status = response.status();
    let headers = response.headers().clone();
    // What answers for a provider that is slow may be paid for all the same; a no of the provider's own is not.
    if !matches!(status.as_u16(), 408 | 502 | 504 | 524) {
        ticket.map(Ticket::release).unwrap_or_default();
    }
    let body = beginning(response, provider.silence).await;
    let now = open.shared.clock.now();
    let until = quota::reset(status.as_u16(), &headers, &body, now);
    if let Some(until) = until {
        open.shared.limits.of(provider).rest_until(model, until);
    }
    let masked = Mask::new(provider.key.as_ref().map_or("", |k| k.expose())).whole(&body);
    let words: String = words_of(&masked).chars().take(WORDS_MAX).collect();
    let code = status.as_u16();
    let place = &provider.key_place;
    let fix = match code {
        401 | 403 => Some(format!("give provider {:?} a key that works ({place})", provider.name)),
        404 => Some(format!(
            "look whether provider {:?} has a model {model:?}, and whether its address is right",
            provider.name
        )),
        300..=399 => Some(format!("correct the address of provider {:?}: it leads elsewhere", provider.name)),
        _ if quota::is_out_of_credit(code, &body) => {
            Some(format!("pay provider {:?}, or choose another", provider.name))
        }
        _ => None,
    };
    let why = match code {
        // Some providers repeat a part of the key here.
        401 => format!("provider {:?} does not take its key", provider.name),
        _ => format!("provider {:?} answered {code}: {words}", provider.name),
    };
    // What the agent asked wrongly says nothing about the provider.
    let its_own = matches!(code, 400 | 413 | 422) && fix.is_none();
    if !its_own {
        open.note(Some(Fault { until, fix, ..fault(open, provider, model, Some(code), &why) }));
    }
    let status = if status.is_redirection() { StatusCode::BAD_GATEWAY } else { status };
    let wait = until.map(|at| u64::try_from(at.0.saturating_sub(now.0)).unwrap_or(0).div_ceil(1000));
    ProxyError { retry_secs: wait, ..no(status, why) }
}

/// The beginning of an error's body.
async fn beginning(response: reqwest::Response, silence: Duration) -> Vec<u8> {
    let mut body = Vec::new();
    let mut stream =
        std::pin::pin!(unless_silent(response.bytes_stream().map(|p| p.map_err(io::Error::other)), silence));
    while let Some(Ok(piece)) = stream.next().await {
        body.extend_from_slice(&piece[..piece.len().min(ERROR_MAX - body.len())]);
        if body.len() >= ERROR_MAX {
            break;
        }
    }
    body
}

/// The message in an error's body, in any of the shapes there are; else the body, plainly.
fn words_of(body: &[u8]) -> String {
    let json = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    let json = if json.is_array() { &json[0] } else { &json };
    let said = ["/error/message", "/error", "/message", "/detail"].iter().find_map(|p| json.pointer(p)?.as_str());
    sanitize(said.map_or(body, str::as_bytes)).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Settles a call when its answer has ended, by whatever end.
struct Bill {
    reader: Option<Reader>,
    ticket: Option<Ticket>,
    _permit: Permit,
}

impl Drop for Bill {
    fn drop(&mut self) {
        let told = self.reader.take().and_then(Reader::end);
        match (self.ticket.take(), told) {
            (Some(ticket), Some(usage)) => ticket.settle(usage),
            // Cut off, or nothing told: the worst case.
            (ticket, _) => drop(ticket),
        }
    }
}

struct Answer {
    from: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    mask: Mask,
    left: u64,
    bill: Bill,
}

fn streamed(
    provider: &Provider,
    response: reqwest::Response,
    wire: Option<Wire>,
    ticket: Option<Ticket>,
    permit: Permit,
) -> Response {
    let mut out = Response::new(Body::empty());
    *out.status_mut() = response.status();
    let given = |name: &str| GIVEN.contains(&name) || GIVEN_PREFIXES.iter().any(|p| name.starts_with(p));
    for (name, value) in response.headers() {
        if given(name.as_str()) {
            out.headers_mut().append(name.clone(), value.clone());
        }
    }
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let answer = Answer {
        bill: Bill { reader: wire.map(|w| Reader::new(w, kind)), ticket, _permit: permit },
        mask: Mask::new(provider.key.as_ref().map_or("", |k| k.expose())),
        left: ANSWER_MAX,
        from: Box::pin(unless_silent(response.bytes_stream().map(|p| p.map_err(io::Error::other)), provider.silence)),
    };
    *out.body_mut() = Body::from_stream(futures::stream::unfold(Some(answer), next));
    out
}

/// The next piece of an answer: read for its usage, freed of the key, passed on at once.
async fn next(answer: Option<Answer>) -> Option<(io::Result<Bytes>, Option<Answer>)> {
    let mut answer = answer?;
    loop {
        match answer.from.next().await {
            Some(Ok(piece)) => {
                answer.left = match answer.left.checked_sub(piece.len() as u64) {
                    Some(left) => left,
                    None => return Some((Err(io::Error::other("the answer is too large")), None)),
                };
                if let Some(reader) = &mut answer.bill.reader {
                    reader.feed(&piece);
                }
                let piece = answer.mask.feed(piece);
                if !piece.is_empty() {
                    return Some((Ok(piece), Some(answer)));
                }
            }
            Some(Err(error)) => return Some((Err(error), None)),
            None => {
                let rest = answer.mask.end();
                // Settled before the agent can see the end and ask what it used.
                drop(answer);
                return (!rest.is_empty()).then_some((Ok(rest), None));
            }
        }
    }
}
