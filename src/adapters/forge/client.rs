//! Requests to a forge's API: bounded, conditional where they are repeated, and within the rate limits.

use super::answer::{self, Answer};
use super::rate::RateGate;
use crate::ports::{PortError, PortResult};
use crate::secrets::Secret;
use crate::telemetry::metrics;
use async_trait::async_trait;
use http::header::{ACCEPT, AUTHORIZATION, ETAG, HeaderValue, IF_NONE_MATCH, USER_AGENT};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Upper bound on an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// Upper bound on a file of which the end is read, in bytes.
const MAX_FILE_BYTES: usize = 128 * 1024 * 1024;
/// Concurrent requests to one forge.
const CONCURRENCY: usize = 8;
/// Upper bound on remembered answers, and on the size of one.
const MAX_REMEMBERED: usize = 1_000;
const MAX_REMEMBERED_BYTES: usize = 64 * 1024;

/// An error of whatever sends requests.
pub(super) type SendError = Box<dyn std::error::Error + Send + Sync>;

/// Sends requests over a client for http.
#[async_trait]
pub(super) trait Transport: Send + Sync {
    /// Sends a request with a JSON body or none, and returns the answer, whatever its status.
    async fn send(
        &self,
        request: http::request::Builder,
        body: Option<&Value>,
    ) -> Result<http::Response<reqwest::Body>, SendError>;
}

/// Creates the client for http of a forge. It needs a Tokio runtime.
///
/// # Errors
/// If TLS cannot be set up.
pub(super) fn http_client(is_local: bool) -> PortResult<reqwest::Client> {
    crate::telemetry::install_crypto();
    let builder = reqwest::Client::builder()
        // A token must not follow a redirect to another host.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT);
    let builder = if is_local { builder.no_proxy() } else { builder };
    builder.build().map_err(|e| unusable(&e))
}

/// Creates the error for a client that cannot be created.
pub(super) fn unusable(error: &dyn std::fmt::Display) -> PortError {
    PortError::permanent(format!("cannot create an HTTP client: {error}"), "install the system's CA certificates")
}

/// How a forge is spoken to.
pub(super) struct Dialect {
    /// The kind of forge, for metrics.
    pub kind: &'static str,
    /// The media type of its answers.
    pub accept: &'static str,
    /// The word before the token.
    pub scheme: &'static str,
}

/// A client of one forge.
pub(super) struct Client {
    transport: Box<dyn Transport>,
    dialect: Dialect,
    permits: Semaphore,
    rate: RateGate,
    remembered: Mutex<Remembered>,
}

/// Answers by URL, to be asked for again only if they changed.
#[derive(Default)]
struct Remembered {
    answers: HashMap<String, (u64, HeaderValue, Answer)>,
    uses: u64,
}

impl Remembered {
    fn get(&mut self, url: &str) -> Option<(HeaderValue, Answer)> {
        self.uses += 1;
        let uses = self.uses;
        let (used, etag, answer) = self.answers.get_mut(url)?;
        *used = uses;
        Some((etag.clone(), answer.clone()))
    }

    fn put(&mut self, url: &str, etag: HeaderValue, answer: &Answer) {
        if answer.body.len() > MAX_REMEMBERED_BYTES {
            self.answers.remove(url);
            return;
        }
        if self.answers.len() >= MAX_REMEMBERED && !self.answers.contains_key(url) {
            let oldest = self.answers.iter().min_by_key(|(_, (used, ..))| *used).map(|(url, _)| url.clone());
            oldest.map(|url| self.answers.remove(&url));
        }
        self.uses += 1;
        self.answers.insert(url.to_owned(), (self.uses, etag, answer.clone()));
    }
}

impl Client {
    /// Creates a client.
    pub fn new(transport: Box<dyn Transport>, dialect: Dialect) -> Client {
        let (permits, rate) = (Semaphore::new(CONCURRENCY), RateGate::default());
        Client { transport, dialect, permits, rate, remembered: Mutex::default() }
    }

    /// Sends a request and returns the answer, whatever its status. Only `GET` is conditional.
    ///
    /// # Errors
    /// Transient if the request was not sent, or if it was a `GET` without an answer; unknown if another one was sent
    /// and not answered.
    pub async fn send(
        &self,
        token: Option<&Secret>,
        method: Method,
        url: &str,
        body: Option<&Value>,
        doing: &str,
    ) -> PortResult<Answer> {
        let _permit = self.permits.acquire().await;
        if let Some(after) = self.rate.wait() {
            let what = format!("cannot {doing}: the rate limit of {} is used up", answer::host(url));
            return Err(PortError::Transient { what, after: Some(after) });
        }
        let is_read = method == Method::GET;
        let remembered = if is_read { self.remembered().get(url) } else { None };
        let mut request = http::Request::builder()
            .method(method)
            .uri(url)
            .header(USER_AGENT, "skep")
            .header(ACCEPT, self.dialect.accept);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, self.authorization(token, doing)?);
        }
        if let Some((etag, _)) = &remembered {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let sent = self.transport.send(request, body).await;
        let result = match &sent {
            Err(_) => "no_response",
            Ok(response) if response.status().is_client_error() => "client_error",
            Ok(response) if response.status().is_server_error() => "server_error",
            Ok(_) => "ok",
        };
        metrics().forge_requests.add(1, &[("forge", self.dialect.kind), ("result", result)]);
        let response = sent.map_err(|e| answer::transport(&*e, is_read, url, doing))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|e| {
            let what = format!("cannot {doing}: the answer of {} is incomplete: {e}", answer::host(url));
            if is_read { PortError::transient(what) } else { PortError::Unknown { what } }
        })?;
        let answer = Answer { status: parts.status, headers: parts.headers, body: body.to_bytes().to_vec() };
        self.rate.observe(&answer, self.dialect.kind);
        if answer.status == StatusCode::NOT_MODIFIED
            && let Some((_, before)) = remembered
        {
            return Ok(before);
        }
        if is_read
            && answer.status == StatusCode::OK
            && let Some(etag) = answer.headers.get(ETAG)
        {
            self.remembered().put(url, etag.clone(), &answer);
        }
        Ok(answer)
    }

    /// Returns the header that authenticates a request.
    fn authorization(&self, token: &Secret, doing: &str) -> PortResult<HeaderValue> {
        let value = HeaderValue::try_from(format!("{} {}", self.dialect.scheme, token.expose()));
        let mut value = value.map_err(|_| {
            PortError::permanent(
                format!("cannot {doing}: the token has characters that no token has"),
                "store the token again, as one line",
            )
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Reads the end of a file, at most `max_bytes`. An address from an answer of the forge gets no token, and nothing but
    /// https is used, unless it is on the forge itself.
    ///
    /// # Errors
    /// Why it cannot be read, as the end of a sentence.
    pub async fn tail(
        &self,
        token: Option<&Secret>,
        url: &str,
        api_url: &str,
        max_bytes: usize,
    ) -> Result<Vec<u8>, String> {
        let _permit = self.permits.acquire().await;
        let address: http::Uri = url.parse().map_err(|_| "the forge named an invalid address".to_owned())?;
        let api: http::Uri = api_url.parse().map_err(|_| "the forge named an invalid address".to_owned())?;
        let is_on_forge = address.scheme() == api.scheme() && address.authority() == api.authority();
        if address.scheme_str() != Some("https") && !is_on_forge {
            return Err("the forge named an address without https".to_owned());
        }
        let mut request = http::Request::builder().method(Method::GET).uri(address).header(USER_AGENT, "skep");
        if let Some(token) = token {
            let header = self.authorization(token, "read it").map_err(|e| e.to_string())?;
            request = request.header(AUTHORIZATION, header);
        }
        let response = self.transport.send(request, None).await.map_err(|e| answer::chain(&*e))?;
        if response.status() != StatusCode::OK {
            return Err(format!("the server that stores it answered {}", response.status().as_u16()));
        }
        let (mut body, mut end, mut total) = (response.into_body(), Vec::new(), 0_usize);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| format!("the answer is incomplete: {}", answer::chain(&e)))?;
            let Ok(data) = frame.into_data() else { continue };
            total = total.saturating_add(data.len());
            if total > MAX_FILE_BYTES {
                return Err(format!("it is larger than {} MiB", MAX_FILE_BYTES / 1024 / 1024));
            }
            end.extend_from_slice(&data);
            if end.len() > 2 * max_bytes {
                end.drain(..end.len() - max_bytes);
            }
        }
        end.drain(..end.len().saturating_sub(max_bytes));
        Ok(end)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads an answer's body.
///
/// # Errors
/// Transient: a proxy on the way may have answered.
pub(super) fn read<T: DeserializeOwned>(answer: &Answer, doing: &str) -> PortResult<T> {
    serde_json::from_slice(&answer.body)
        .map_err(|e| PortError::transient(format!("cannot {doing}: the answer is not what the forge sends: {e}")))
}
