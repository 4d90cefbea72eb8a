//! REST client: calls the same routes in this process or at a service.

use super::exit::{CliError, ExitStatus};
use super::sse::{SseEvent, SseReader};
use crate::http::rest::wire::{Health, Problem};
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use futures::stream::{BoxStream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tower::ServiceExt;

/// Maximum size of a response, in bytes.
const MAX_RESPONSE_BYTES: usize = 64 << 20;
/// Maximum size of a report of health, in bytes.
const MAX_HEALTH_BYTES: usize = 64 << 10;
/// Timeout of a request. Opening a run may clone a repository.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(11 * 60);
/// Longest silence of an event stream: the service sends a comment every 15 seconds.
const MAX_SILENCE: Duration = Duration::from_secs(45);
/// Timeout of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The process that drives the runs of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Driver {
    /// Whether it is a service: it drives every run, and is started again if it ends.
    pub is_service: bool,
    /// Its process id.
    pub pid: u32,
}

/// Client of the REST API.
#[derive(Clone)]
pub enum Client {
    /// Calls routes in this process.
    InProcess {
        /// The routes.
        router: axum::Router,
        /// The token they expect.
        token: String,
    },
    /// Calls a service.
    Remote {
        /// `http://127.0.0.1:7117`.
        base: String,
        /// The token it expects.
        token: String,
        /// The connection pool.
        http: reqwest::Client,
        /// The process that answers.
        driver: Driver,
    },
}

/// Chunks of a body as they arrive.
pub type Bytes = BoxStream<'static, Result<axum::body::Bytes, CliError>>;
/// Server-sent events as they arrive.
pub type Events = BoxStream<'static, Result<SseEvent, CliError>>;

struct ApiRequest<'a> {
    method: Method,
    path: &'a str,
    headers: Vec<(header::HeaderName, String)>,
    body: Option<Vec<u8>>,
}

struct ResponseHead {
    status: StatusCode,
    headers: HeaderMap,
}

impl Client {
    /// Creates a client of routes in this process.
    pub fn in_process(router: axum::Router, token: impl Into<String>) -> Client {
        Client::InProcess { router, token: token.into() }
    }

    /// Creates a client of a service.
    pub fn remote(base: &str, token: &str, driver: Driver) -> Result<Client, CliError> {
        crate::telemetry::install_crypto();
        let http = reqwest::Client::builder()
            // Never send the token through a proxy or after a redirect.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|e| CliError::internal(format!("cannot create an HTTP client: {e}")))?;
        Ok(Client::Remote { base: base.trim_end_matches('/').to_owned(), token: token.to_owned(), http, driver })
    }

    /// Returns whether another process drives the runs.
    pub fn is_remote(&self) -> bool {
        matches!(self, Client::Remote { .. })
    }

    /// Returns whether a service drives the runs, rather than a command that ends with its own run.
    pub fn is_service(&self) -> bool {
        matches!(self, Client::Remote { driver: Driver { is_service: true, .. }, .. })
    }

    /// Returns who drives the runs, at the beginning of a sentence.
    pub fn driver(&self) -> String {
        match self {
            Client::Remote { driver: Driver { is_service: false, pid }, .. } => {
                format!("Process {pid}, a command in another terminal,")
            }
            Client::Remote { .. } => "The service".to_owned(),
            Client::InProcess { .. } => "This process".to_owned(),
        }
    }

    /// Fetches a value.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        typed(path, &self.bytes(path).await?)
    }

    /// Fetches the health of the service, which is not part of the API.
    pub async fn health(&self) -> Result<Health, CliError> {
        let path = "/health";
        let request = ApiRequest { method: Method::GET, path, headers: Vec::new(), body: None };
        let read = async {
            // A service that is not healthy says so in the same form, with another status.
            let (_, mut chunks) = self.send(path, request).await?;
            let mut body = Vec::new();
            while let Some(chunk) = chunks.next().await {
                body.extend_from_slice(&chunk?);
                if body.len() > MAX_HEALTH_BYTES {
                    return Err(CliError::internal(format!("the response to {path} is larger than 64 KiB")));
                }
            }
            typed(path, &body)
        };
        let silent = || CliError::unavailable("the service does not report its health", "try again");
        tokio::time::timeout(MAX_SILENCE, read).await.map_err(|_elapsed| silent())?
    }

    /// Returns the address of the service, if it is another process.
    pub fn base(&self) -> Option<&str> {
        match self {
            Client::Remote { base, .. } => Some(base),
            Client::InProcess { .. } => None,
        }
    }

    /// Fetches bytes (an artifact, a patch).
    pub async fn bytes(&self, path: &str) -> Result<Vec<u8>, CliError> {
        self.read_whole(ApiRequest { method: Method::GET, path, headers: Vec::new(), body: None }).await
    }

    /// Posts a value and reads the response. `if_match`: only if the run is still at this event.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        if_match: Option<u64>,
    ) -> Result<T, CliError> {
        let condition = if_match.map(|seq| (header::IF_MATCH, format!("\"{seq}\"")));
        self.post_with(path, body, condition).await
    }

    /// Posts a value under an idempotency key and reads the response.
    pub async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        key: &str,
    ) -> Result<T, CliError> {
        let header = (header::HeaderName::from_static("idempotency-key"), format!("\"{key}\""));
        self.post_with(path, body, Some(header)).await
    }

    async fn post_with<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        header: Option<(header::HeaderName, String)>,
    ) -> Result<T, CliError> {
        let body = serde_json::to_vec(body).map_err(|e| CliError::internal(format!("{path}: {e}")))?;
        let json = (header::CONTENT_TYPE, "application/json".to_owned());
        let headers = std::iter::once(json).chain(header).collect();
        let bytes = self.read_whole(ApiRequest { method: Method::POST, path, headers, body: Some(body) }).await?;
        typed(path, &bytes)
    }

    /// Opens a stream of the events after the event `after`.
    pub async fn stream(&self, path: &str, after: u64) -> Result<Events, CliError> {
        let mut headers = vec![(header::ACCEPT, "text/event-stream".to_owned())];
        if after > 0 {
            headers.push((header::HeaderName::from_static("last-event-id"), after.to_string()));
        }
        self.events(ApiRequest { method: Method::GET, path, headers, body: None }, MAX_SILENCE).await
    }

    /// Posts a value and reads the events that the response streams.
    pub async fn post_stream(&self, path: &str, body: &impl Serialize) -> Result<Events, CliError> {
        let body = serde_json::to_vec(body).map_err(|e| CliError::internal(format!("{path}: {e}")))?;
        let headers = vec![
            (header::CONTENT_TYPE, "application/json".to_owned()),
            (header::ACCEPT, "text/event-stream".to_owned()),
        ];
        // The response begins after the repository was fetched.
        self.events(ApiRequest { method: Method::POST, path, headers, body: Some(body) }, REQUEST_TIMEOUT).await
    }

    async fn events(&self, request: ApiRequest<'_>, patience: Duration) -> Result<Events, CliError> {
        let silent = || {
            CliError::unavailable(
                "the service has stopped sending events",
                "try again; `skep doctor` checks the service",
            )
        };
        let opened = self.call(request);
        let bytes = tokio::time::timeout(patience, opened).await.map_err(|_elapsed| silent())??;
        let bytes = futures::stream::unfold(Some(bytes), move |bytes| async move {
            let mut bytes = bytes?;
            match tokio::time::timeout(MAX_SILENCE, bytes.next()).await {
                Ok(chunk) => Some((chunk?, Some(bytes))),
                Err(_elapsed) => Some((Err(silent()), None)),
            }
        });
        let events = bytes.scan(SseReader::default(), |reader, chunk| {
            let events: Vec<Result<SseEvent, CliError>> = match chunk.map(|bytes| reader.take(&bytes)) {
                Ok(Ok(events)) => events.into_iter().map(Ok).collect(),
                Ok(Err(_too_large)) => vec![Err(CliError::internal("an event in the stream is larger than 16 MiB"))],
                Err(error) => vec![Err(error)],
            };
            std::future::ready(Some(futures::stream::iter(events)))
        });
        Ok(events.flatten().boxed())
    }

    async fn read_whole(&self, request: ApiRequest<'_>) -> Result<Vec<u8>, CliError> {
        let path = request.path.to_owned();
        let read = async {
            let mut chunks = self.call(request).await?;
            let mut body = Vec::new();
            while let Some(chunk) = chunks.next().await {
                body.extend_from_slice(&chunk?);
                if body.len() > MAX_RESPONSE_BYTES {
                    return Err(CliError::internal(format!("the response to {path} is larger than 64 MiB")));
                }
            }
            Ok(body)
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, read).await {
            Ok(body) => body,
            Err(_elapsed) => Err(CliError::unavailable(
                format!("no response to {path} within 11 minutes"),
                "try again; `skep doctor` checks the service",
            )),
        }
    }

    /// Sends a message of the Model Context Protocol to its address, with the headers given. Returns whether the response is a stream of
    /// events, and its body, which is empty for a notification.
    pub async fn mcp(
        &self,
        path: &str,
        message: Vec<u8>,
        headers: Vec<(header::HeaderName, String)>,
    ) -> Result<(bool, Bytes), CliError> {
        // Errors of the protocol are bodies, too, so the status does not matter.
        let request = ApiRequest { method: Method::POST, path, headers, body: Some(message) };
        let (head, body) = self.send(path, request).await?;
        let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        Ok((kind.is_some_and(|kind| kind.starts_with("text/event-stream")), body))
    }

    async fn call(&self, call: ApiRequest<'_>) -> Result<Bytes, CliError> {
        let path = format!("/api/v1{}", call.path);
        let (head, chunks) = self.send(&path, call).await?;
        if head.status.is_success() { Ok(chunks) } else { Err(problem(head.status, &path, chunks).await) }
    }

    async fn send(&self, path: &str, call: ApiRequest<'_>) -> Result<(ResponseHead, Bytes), CliError> {
        Ok(match self {
            Client::InProcess { router, token } => {
                let mut request = Request::builder()
                    .method(call.method)
                    .uri(path)
                    .header(header::HOST, "localhost")
                    .header(header::AUTHORIZATION, format!("Bearer {token}"));
                for (name, value) in call.headers {
                    request = request.header(name, value);
                }
                let request = request.body(call.body.map_or_else(Body::empty, Body::from)).map_err(|e| {
                    CliError::usage(format!("invalid request path {path}: {e}"), "check the names given")
                })?;
                let response = match router.clone().oneshot(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                let cut = |e: axum::Error| CliError::internal(format!("a response was cut off: {e}"));
                let head = ResponseHead { status: response.status(), headers: response.headers().clone() };
                (head, response.into_body().into_data_stream().map(move |p| p.map_err(cut)).boxed())
            }
            Client::Remote { base, token, http, .. } => {
                let mut request = http.request(call.method, format!("{base}{path}")).bearer_auth(token);
                for (name, value) in call.headers {
                    request = request.header(name, value);
                }
                if let Some(body) = call.body {
                    request = request.body(body);
                }
                let unreachable = {
                    let base = base.clone();
                    move |e: reqwest::Error| unreachable(&base, &e)
                };
                let response = request.send().await.map_err(&unreachable)?;
                let head = ResponseHead { status: response.status(), headers: response.headers().clone() };
                (head, response.bytes_stream().map(move |p| p.map_err(&unreachable)).boxed())
            }
        })
    }
}

fn unreachable(base: &str, error: &reqwest::Error) -> CliError {
    // The innermost source has the readable message ("Connection refused").
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    CliError::unavailable(
        format!("the service at {base} does not respond: {cause}"),
        "try again. If it is the service of this data directory and has stopped, the same command works without it; else check \
         --server or SKEP_SERVER",
    )
}

async fn problem(status: StatusCode, path: &str, mut chunks: Bytes) -> CliError {
    let mut body = Vec::new();
    while let Some(Ok(chunk)) = chunks.next().await {
        body.extend_from_slice(&chunk);
        if body.len() > 1 << 20 {
            break;
        }
    }
    if let Ok(mut problem) = serde_json::from_slice::<Problem>(&body) {
        // REST speaks of resources; here the fix is a command.
        if let Some(fix) = command_fix(&problem.code, run_in(path)) {
            problem.fix = fix;
        }
        return problem.into();
    }
    let problem = Problem {
        kind: "about:blank".to_owned(),
        title: status.canonical_reason().unwrap_or("refused").to_owned(),
        status: status.as_u16(),
        detail: format!("{path} returned {status}"),
        fix: VERSION_FIX.to_owned(),
        code: "http".to_owned(),
    };
    problem.into()
}

/// Returns the command that fixes a problem of this code; `None` if there is none, or if it needs a run and the request was
/// not about one.
fn command_fix(code: &str, run: Option<&str>) -> Option<String> {
    let (_, fix) = COMMAND_FIXES.iter().find(|(with_command, _)| *with_command == code)?;
    match run {
        Some(run) => Some(fix.replace("RUN", run)),
        None => (!fix.contains("RUN")).then(|| (*fix).to_owned()),
    }
}

const VERSION_FIX: &str = "check that the service runs the same version of Skep (`skep doctor`)";

/// The fixes of problems whose next step is a command; `RUN` is the run that the request was about. Other codes keep the
/// fix of the service, which then names no surface.
const COMMAND_FIXES: &[(&str, &str)] = &[
    ("already_answered", "`skep events RUN` shows the answer that was given"),
    ("delivered", "give a new goal with `skep run`"),
    ("elsewhere", "wait until the other process has ended, or repeat the command on its data directory"),
    ("ended", "`skep retry RUN` starts the same goal again"),
    ("method", VERSION_FIX),
    ("moved", "`skep show RUN` shows the run as it is now; repeat what still fits"),
    ("no_artifact", "`skep logs RUN` lists what the run has stored"),
    ("no_block", "`skep show RUN` shows what the run waits for"),
    ("no_change", "`skep change list` lists the changes"),
    ("no_patch", "`skep show RUN` shows the run and what it has changed so far"),
    ("no_project", "`skep project list` lists the projects; `skep project add` adds one"),
    ("no_route", VERSION_FIX),
    ("no_run", "`skep runs` lists the runs; an id may be abbreviated to four or more digits"),
    ("no_run_patch", "name the task: `skep diff RUN t1`"),
    ("no_secret", "`skep secret list` lists the secrets"),
    ("no_token", "the service uses another token: check server.token_file, or restart the service"),
    ("not_an_answer", "`skep show RUN` lists the answers to each question"),
    ("not_quarantined", "`skep runs --status quarantined` lists the quarantined runs"),
    ("nothing_to_answer", "`skep show RUN` shows what the run waits for"),
    ("out_of_place", "`skep show RUN` shows the run; choose an action that fits"),
    ("project_in_use", "wait until the run has ended, or end it with `skep cancel`"),
    (
        "quarantined",
        "restore the store from a backup, or use the Skep version that wrote the run; then `skep lift-quarantine RUN`",
    ),
    ("several_runs", "give more digits; `skep runs` lists the runs"),
    ("taken", "choose another --name, or pass --replace"),
];

/// Returns the run that a request is about.
fn run_in(path: &str) -> Option<&str> {
    let (_, rest) = path.split_once("/runs/")?;
    let id = rest.split(['/', '?']).next()?;
    (id.len() >= 4 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')).then_some(id)
}

fn typed<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, CliError> {
    serde_json::from_slice(bytes).map_err(|e| {
        CliError::new(
            ExitStatus::Internal,
            "response",
            format!("cannot parse the response to {path}: {e}"),
            VERSION_FIX,
        )
    })
}

/// Percent-encodes a segment of a path or query, so that foreign text cannot add a slash or a parameter.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(char::from(byte)),
            // A segment of only dots would mean "this" or "parent".
            b'.' if text.bytes().any(|b| b != b'.') => out.push('.'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Appends a query to a path; parameters without a value are left out.
pub fn with_query(path: &str, query: &[(&str, Option<String>)]) -> String {
    let pairs: Vec<String> =
        query.iter().filter_map(|(name, value)| Some(format!("{name}={}", encode(value.as_ref()?)))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_a_run_or_a_resource_has_a_command_as_its_fix() {
        let documented = include_str!("../../docs/rest.md");
        for (code, _) in COMMAND_FIXES {
            assert!(documented.contains(&format!("`{code}`")), "{code} is not documented");
        }
        assert!(COMMAND_FIXES.is_sorted_by_key(|(code, _)| *code));
        assert_eq!(run_in("/api/v1/runs/67e2cfab/actions/approve"), Some("67e2cfab"));
        for other in ["/api/v1/runs", "/api/v1/runs/preview", "/api/v1/projects/x", "/api/v1/runs/%2E%2E/x"] {
            assert_eq!(run_in(other), None, "{other}");
        }
    }

    #[test]
    fn a_fix_that_names_a_run_is_given_for_requests_about_one() {
        let fix = command_fix("ended", Some("67e2cfab"));
        assert_eq!(fix.as_deref(), Some("`skep retry 67e2cfab` starts the same goal again"));
        assert_eq!((command_fix("moved", None), command_fix("missing_right", None)), (None, None));
        assert!(command_fix("no_change", None).is_some_and(|fix| fix.contains("skep change list")));
    }

    #[test]
    fn foreign_names_stay_in_their_segment() {
        assert_eq!(encode("a b/../?x=1#é"), "a%20b%2F..%2F%3Fx%3D1%23%C3%A9");
        assert_eq!(encode(".."), "%2E%2E");
        assert_eq!(encode("my.repo"), "my.repo");
        let query = [("a", Some("1&2".to_owned())), ("b", None), ("c", Some("x".to_owned()))];
        assert_eq!(with_query("/runs", &query), "/runs?a=1%262&c=x");
        assert_eq!(with_query("/runs", &[("b", None)]), "/runs");
    }
}
