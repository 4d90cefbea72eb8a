//! The REST API on the real ports, in the test's own process: no socket, no second program.

use super::schema;
use crate::git_world::git;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use skep::actors::{Parts, Scope};
use skep::app;
use skep::config::{Config, Database};
use skep::domain::{CheckKind, CheckSpec, Principal};
use skep::http::{LOOPBACK, State, router};
use skep::service::{Caller, Callers, Services, Via};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tower::ServiceExt;

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

pub struct Service {
    _tmp: tempfile::TempDir,
    pub origin: PathBuf,
    pub ports: app::Ports,
    pub state: State,
    pub router: axum::Router,
}

/// A response.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().expect("ASCII")
    }
    /// Asserts that the response is a complete problem document with this status and code, and returns it.
    pub fn is_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["type"], format!("urn:skep:problem:{code}"));
        assert_eq!(problem["status"], status);
        for field in ["title", "detail", "fix"] {
            assert!(problem[field].as_str().is_some_and(|t| !t.is_empty()), "{field}: {problem}");
        }
        problem
    }
}

pub async fn service() -> Service {
    service_with(None).await
}

/// A service with the test's own engines.
pub async fn service_with(engines: Option<Arc<dyn skep::ports::Engines>>) -> Service {
    start(engines, |_| {}).await
}

/// A service with a configuration of its own.
pub async fn service_configured(configure: impl FnOnce(&mut Config)) -> Service {
    start(None, configure).await
}

async fn start(engines: Option<Arc<dyn skep::ports::Engines>>, configure: impl FnOnce(&mut Config)) -> Service {
    let tmp = tempfile::tempdir().expect("a folder");
    let (seed, origin, data) = (tmp.path().join("seed"), tmp.path().join("origin.git"), tmp.path().join("data"));
    std::fs::create_dir_all(&seed).expect("seed");
    std::fs::create_dir_all(&data).expect("data");
    git(&seed, &["init", "-q", "-b", "main"]);
    std::fs::write(seed.join("a.txt"), "one\n").expect("a file");
    git(&seed, &["add", "."]);
    git(&seed, &["commit", "-qm", "first"]);
    git(tmp.path(), &["clone", "-q", "--bare", "seed", "origin.git"]);
    let mut config = Config::default();
    config.store.database = Database::InDataDir;
    configure(&mut config);
    let mut ports = app::connect(&config, &data, Scope::All, &super::sandbox::strict()).await.expect("the ports");
    if let Some(engines) = engines {
        ports.deps.parts = Parts { engines, ..Parts::clone(&ports.deps.parts.current()) }.fixed();
    }
    let (runtime, _) = app::start(&ports).await.expect("the runtime");
    let checks_from = |commands: &[String]| -> Vec<CheckSpec> {
        let spec = |(n, command): (usize, &String)| CheckSpec {
            name: format!("check-{}", n + 1),
            kind: CheckKind::Test,
            command: command.clone(),
            timeout_secs: 60,
            junit: None,
            runner: None,
            detected: false,
        };
        commands.iter().enumerate().map(spec).collect()
    };
    let services = Services { checks_from: Arc::new(checks_from), ..app::services(&ports, runtime) };
    let caller = Caller::with_all_rights(Principal::from("local:tester"), Via::Rest);
    let state = State {
        services,
        callers: Callers::new([(TOKEN.to_owned(), caller)]),
        agent_rights: Arc::new(skep::http::mcp::RIGHTS.into()),
        proxy: None,
        hosts: LOOPBACK.iter().map(|h| (*h).to_owned()).collect(),
        streams: Arc::new(Semaphore::new(config.server.max_streams as usize)),
    };
    let router = router(state.clone());
    Service { _tmp: tmp, origin, ports, state, router }
}

/// Returns a request builder that passes every guard.
pub fn request(method: Method, path: &str) -> axum::http::request::Builder {
    let builder = Request::builder().method(method).uri(path).header("host", "localhost:7300");
    builder.header("authorization", format!("Bearer {TOKEN}"))
}

impl Service {
    /// Sends a request. A JSON response must match the published schema.
    pub async fn send(&self, sent: Request<Body>) -> Reply {
        let (method, path) = (sent.method().clone(), sent.uri().path().to_owned());
        let reply = self.unchecked(sent).await;
        let kind = reply.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        // The Model Context Protocol has its own schemas.
        if kind.starts_with("application/") && path != "/openapi.json" && path != skep::http::mcp::PATH {
            let document = request(Method::GET, "/openapi.json").body(Body::empty()).expect("a request");
            let document = self.unchecked(document).await.json();
            let schema = schema::of_response(&document, method.as_str(), &path, reply.status.as_u16(), kind);
            let is_refused = reply.status.is_client_error();
            assert!(schema.is_some() || is_refused, "{method} {path}: {} {kind} is not documented", reply.status);
            let found = schema.map(|schema| schema::mismatches(&document, schema, &reply.json())).unwrap_or_default();
            assert!(found.is_empty(), "{method} {path}: {found:#?}");
        }
        reply
    }

    /// Sends a request whose response is not compared with the schema, which takes longer than most requests.
    pub async fn unchecked(&self, request: Request<Body>) -> Reply {
        // The stream of all runs has no end: only its beginning is a reply.
        let is_endless = request.uri().path() == "/api/v1/stream";
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = match is_endless && parts.status.is_success() {
            true => axum::body::Bytes::new(),
            false => to_bytes(body, 8 << 20).await.expect("a body"),
        };
        Reply { status: parts.status, headers: parts.headers, text: String::from_utf8_lossy(&body).into_owned() }
    }
    pub async fn get(&self, path: &str) -> Reply {
        self.send(request(Method::GET, path).body(Body::empty()).expect("a request")).await
    }
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(json(request(Method::POST, path), body)).await
    }
    /// Opens a run that appends a line and needs an approval to merge.
    pub async fn open_run(&self, goal: &str) -> Value {
        let reply = self.post("/api/v1/runs", &self.new_run(goal)).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
        reply.json()
    }
    pub fn new_run(&self, goal: &str) -> Value {
        serde_json::json!({"repo": self.origin, "goal": goal, "engines": {"dev": "command:echo two >> a.txt"},
            "checks": ["grep -q two a.txt"]})
    }
    /// Waits until the run has this status and no pending effects.
    pub async fn until(&self, id: &str, status: &str) -> Value {
        for _ in 0..600 {
            let run = self.get(&format!("/api/v1/runs/{id}")).await.json();
            // The status changes a moment before the last effect is done.
            if run["status"] == status && run["pending_effects"] == serde_json::json!([]) {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("run {id} never became {status}: {}", self.get(&format!("/api/v1/runs/{id}")).await.text);
    }
}

pub fn json(builder: axum::http::request::Builder, body: &Value) -> Request<Body> {
    builder.header("content-type", "application/json").body(Body::from(body.to_string())).expect("a request")
}
