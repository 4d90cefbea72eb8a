//! The REST client: every command speaks to the same routes, in this process or to a service.

use super::exit::{CliError, ExitStatus};
use super::sse::{SseEvent, SseReader};
use crate::http::rest::wire::Problem;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use futures::stream::{BoxStream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tower::ServiceExt;

/// The most bytes an answer may have.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Opening a run may clone a repository.
const PATIENCE: Duration = Duration::from_secs(11 * 60);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// A client of the REST interface.
#[derive(Clone)]
pub enum Client {
    /// The routes are in this process.
    InProcess {
        /// The routes.
        router: axum::Router,
        /// The token they want.
        token: String,
    },
    /// A service answers.
    Remote {
        /// `http://127.0.0.1:7117`.
        base: String,
        /// The token it wants.
        token: String,
        /// The connection pool.
        http: reqwest::Client,
    },
}

/// Pieces of a body as they come.
pub type Bytes = BoxStream<'static, Result<axum::body::Bytes, CliError>>;
/// Server-sent events as they come.
pub type Events = BoxStream<'static, Result<SseEvent, CliError>>;

struct Ask<'a> {
    method: Method,
    path: &'a str,
    headers: Vec<(header::HeaderName, String)>,
    body: Option<Vec<u8>>,
}

impl Client {
    /// A client of the routes in this process.
    pub fn in_process(router: axum::Router, token: impl Into<String>) -> Client {
        Client::InProcess { router, token: token.into() }
    }

    /// A client of a service.
    pub fn remote(base: &str, token: &str) -> Result<Client, CliError> {
        crate::telemetry::install_crypto();
        let http = reqwest::Client::builder()
            // The token goes to the service itself, never through a proxy or after a redirect.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_PATIENCE)
            .build()
            .map_err(|e| CliError::internal(format!("no HTTP client can be made: {e}")))?;
        Ok(Client::Remote { base: base.trim_end_matches('/').to_owned(), token: token.to_owned(), http })
    }

    /// Whether somebody else carries the runs on when this process ends.
    pub fn is_remote(&self) -> bool {
        matches!(self, Client::Remote { .. })
    }

    /// Reads a value.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        typed(path, &self.bytes(path).await?)
    }

    /// Reads bytes (an artifact, a patch).
    pub async fn bytes(&self, path: &str) -> Result<Vec<u8>, CliError> {
        let ask = Ask { method: Method::GET, path, headers: Vec::new(), body: None };
        self.read_whole(ask).await
    }

    /// Posts a value, reads one. `if_match`: only if the run is still at this event.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        if_match: Option<u64>,
    ) -> Result<T, CliError> {
        let body = serde_json::to_vec(body).map_err(|e| CliError::internal(format!("{path}: {e}")))?;
        let mut headers = vec![(header::CONTENT_TYPE, "application/json".to_owned())];
        if let Some(seq) = if_match {
            headers.push((header::IF_MATCH, format!("\"{seq}\"")));
        }
        let bytes = self.read_whole(Ask { method: Method::POST, path, headers, body: Some(body) }).await?;
        typed(path, &bytes)
    }

    /// Server-sent events after the event `after`.
    pub async fn stream(&self, path: &str, after: u64) -> Result<Events, CliError> {
        let mut headers = vec![(header::ACCEPT, "text/event-stream".to_owned())];
        if after > 0 {
            headers.push((header::HeaderName::from_static("last-event-id"), after.to_string()));
        }
        let bytes = self.call(Ask { method: Method::GET, path, headers, body: None }).await?;
        let events = bytes.scan(SseReader::default(), |reader, piece| {
            let events: Vec<Result<SseEvent, CliError>> = match piece.map(|bytes| reader.take(&bytes)) {
                Ok(Ok(events)) => events.into_iter().map(Ok).collect(),
                Ok(Err(_too_large)) => vec![Err(CliError::internal("an event of the stream is larger than 16 MiB"))],
                Err(error) => vec![Err(error)],
            };
            std::future::ready(Some(futures::stream::iter(events)))
        });
        Ok(events.flatten().boxed())
    }

    async fn read_whole(&self, ask: Ask<'_>) -> Result<Vec<u8>, CliError> {
        let path = ask.path.to_owned();
        let read = async {
            let mut pieces = self.call(ask).await?;
            let mut whole = Vec::new();
            while let Some(piece) = pieces.next().await {
                whole.extend_from_slice(&piece?);
                if whole.len() > ANSWER_BYTES_MAX {
                    return Err(CliError::internal(format!("the answer to {path} is larger than 64 MiB")));
                }
            }
            Ok(whole)
        };
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(CliError::unavailable(
                format!("no answer to {path} within 11 minutes"),
                "Try again; `skep doctor` looks at the service",
            )),
        }
    }

    async fn call(&self, ask: Ask<'_>) -> Result<Bytes, CliError> {
        let path = format!("/api/v1{}", ask.path);
        let (status, pieces): (StatusCode, Bytes) = match self {
            Client::InProcess { router, token } => {
                let mut request = Request::builder()
                    .method(ask.method)
                    .uri(&path)
                    .header(header::HOST, "localhost")
                    .header(header::AUTHORIZATION, format!("Bearer {token}"));
                for (name, value) in ask.headers {
                    request = request.header(name, value);
                }
                let request = request
                    .body(ask.body.map_or_else(Body::empty, Body::from))
                    .map_err(|e| CliError::usage(format!("{path} is no request: {e}"), "Check the names given"))?;
                let answer = match router.clone().oneshot(request).await {
                    Ok(answer) => answer,
                    Err(never) => match never {},
                };
                let cut = |e: axum::Error| CliError::internal(format!("an answer was cut off: {e}"));
                (answer.status(), answer.into_body().into_data_stream().map(move |p| p.map_err(cut)).boxed())
            }
            Client::Remote { base, token, http } => {
                let mut request = http.request(ask.method, format!("{base}{path}")).bearer_auth(token);
                for (name, value) in ask.headers {
                    request = request.header(name, value);
                }
                if let Some(body) = ask.body {
                    request = request.body(body);
                }
                let gone = {
                    let base = base.clone();
                    move |e: reqwest::Error| gone(&base, &e)
                };
                let answer = request.send().await.map_err(&gone)?;
                (answer.status(), answer.bytes_stream().map(move |p| p.map_err(&gone)).boxed())
            }
        };
        if status.is_success() { Ok(pieces) } else { Err(refused(status, &path, pieces).await) }
    }
}

fn gone(base: &str, error: &reqwest::Error) -> CliError {
    // The innermost source says it in words ("Connection refused").
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    CliError::unavailable(
        format!("the service at {base} does not answer: {cause}"),
        "Try again; if the service has ended, the same command carries on without it",
    )
}

async fn refused(status: StatusCode, path: &str, mut pieces: Bytes) -> CliError {
    let mut body = Vec::new();
    while let Some(Ok(piece)) = pieces.next().await {
        body.extend_from_slice(&piece);
        if body.len() > 1 << 20 {
            break;
        }
    }
    if let Ok(mut problem) = serde_json::from_slice::<Problem>(&body) {
        // REST names its own ways; at the command line they have other names.
        if let Some(fix) = as_command(&problem.code) {
            problem.fix = fix.to_owned();
        }
        return problem.into();
    }
    let problem = Problem {
        kind: "about:blank".to_owned(),
        title: status.canonical_reason().unwrap_or("refused").to_owned(),
        status: status.as_u16(),
        detail: format!("{path} was answered with {status}"),
        fix: "Check that the service is of this version (`skep doctor`)".to_owned(),
        code: "http".to_owned(),
    };
    problem.into()
}

/// What to do about a problem, where REST would name a route.
fn as_command(code: &str) -> Option<&'static str> {
    Some(match code {
        "no_run" => "`skep runs` lists those there are; an id may be shortened to four or more of its digits",
        "no_project" => "`skep project list` shows those there are; `skep project add` makes one",
        "no_secret" => "`skep secret list` shows those there are",
        "no_change" => "`skep change list` shows those there are",
        "no_block" => "`skep show RUN` tells what the run waits for",
        _ => return None,
    })
}

fn typed<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, CliError> {
    serde_json::from_slice(bytes).map_err(|e| {
        CliError::new(
            ExitStatus::Internal,
            "answer",
            format!("the answer to {path} cannot be read: {e}"),
            "Check that the service is of this version (`skep doctor`)",
        )
    })
}

/// A piece of a path or a query, percent-encoded: nothing from outside adds a slash or a parameter.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(char::from(byte)),
            // A segment of dots alone would be taken for "here" or "up".
            b'.' if text.bytes().any(|b| b != b'.') => out.push('.'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A path with a query; parameters without a value are left out.
pub fn with_query(path: &str, query: &[(&str, Option<String>)]) -> String {
    let pairs: Vec<String> =
        query.iter().filter_map(|(name, value)| Some(format!("{name}={}", encode(value.as_ref()?)))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_stay_in_their_segment() {
        assert_eq!(encode("a b/../?x=1#é"), "a%20b%2F..%2F%3Fx%3D1%23%C3%A9");
        assert_eq!(encode(".."), "%2E%2E");
        assert_eq!(encode("my.repo"), "my.repo");
        let query = [("a", Some("1&2".to_owned())), ("b", None), ("c", Some("x".to_owned()))];
        assert_eq!(with_query("/runs", &query), "/runs?a=1%262&c=x");
        assert_eq!(with_query("/runs", &[("b", None)]), "/runs");
    }
}
