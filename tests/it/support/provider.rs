//! A scripted model provider on this machine: it records requests and returns predefined responses.

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures::future::BoxFuture;
use serde_json::Value;
use skep::domain::Usage;
use skep::platform::clock::SystemClock;
use skep::platform::egress::{EgressProxy, ProxySession, SessionSpec};
use skep::providers::meter::Meter;
use skep::providers::prices::Prices;
use skep::providers::rate_limit::RateLimits;
use skep::providers::settings::{Api, Provider};
use skep::secrets::Secret;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The API key that no agent may see.
pub const KEY: &str = "sk-test-0123456789abcdef";

/// A received request.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub method: String,
    pub uri: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Arrived {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

type Answers = Arc<dyn Fn(Arrived) -> BoxFuture<'static, Response> + Send + Sync>;

/// The server; stopped on drop.
pub struct Scripted {
    pub at: SocketAddr,
    asked: Arc<Mutex<Vec<Arrived>>>,
    /// Highest number of concurrent calls.
    pub peak: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Script {
    answers: Answers,
    asked: Arc<Mutex<Vec<Arrived>>>,
    now: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
}

async fn serve(State(script): State<Script>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    let arrived =
        Arrived { method: parts.method.to_string(), uri: parts.uri.to_string(), headers: parts.headers, body };
    script.asked.lock().expect("sound").push(arrived.clone());
    let now = script.now.fetch_add(1, Ordering::SeqCst) + 1;
    script.peak.fetch_max(now, Ordering::SeqCst);
    let response = (script.answers)(arrived).await;
    script.now.fetch_sub(1, Ordering::SeqCst);
    response
}

impl Scripted {
    /// Answers each request with a callback.
    pub async fn start(answers: impl Fn(Arrived) -> BoxFuture<'static, Response> + Send + Sync + 'static) -> Scripted {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let (asked, peak) = (Arc::default(), Arc::default());
        let script = Script {
            answers: Arc::new(answers),
            asked: Arc::clone(&asked),
            now: Arc::default(),
            peak: Arc::clone(&peak),
        };
        let router = Router::new().fallback(serve).with_state(script);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Scripted { at, asked, peak, task }
    }

    /// Answers every request with the same text.
    pub async fn always(status: u16, kind: &'static str, text: impl Into<String>) -> Scripted {
        let text: String = text.into();
        Scripted::start(move |_| {
            let text = text.clone();
            Box::pin(async move { answer(status, kind, text) })
        })
        .await
    }

    pub fn asked(&self) -> Vec<Arrived> {
        self.asked.lock().expect("sound").clone()
    }
}

pub fn answer(status: u16, kind: &str, body: impl Into<Body>) -> Response {
    Response::builder()
        .status(StatusCode::from_u16(status).expect("a status"))
        .header("content-type", kind)
        .body(body.into())
        .expect("a response")
}

/// Creates a provider named `p` at an address.
pub fn provider(api: Api, at: SocketAddr) -> Provider {
    let version = match api {
        Api::Gemini => "v1beta/",
        Api::Ollama => "",
        _ => "v1/",
    };
    Provider {
        name: "p".to_owned(),
        api,
        base_url: format!("http://{at}/{version}"),
        key: Some(Secret::new(KEY)),
        key_source: "environment variable P_KEY".to_owned(),
        concurrency: 64,
        requests_per_minute: None,
        idle_timeout: Duration::from_secs(10),
        context_window: 100_000,
        max_output_tokens: 1_000,
    }
}

/// Creates a meter; `p/m` costs one micro-USD per input token and ten per output token.
pub fn meter(caps: Usage) -> Arc<Meter> {
    let prices = "version = 'test'\n[[model]]\nmatch = ['p/m*']\ninput = 1.0\noutput = 10.0\n";
    Meter::new(caps, Arc::new(Prices::load(prices).expect("prices")))
}

pub fn proxy() -> EgressProxy {
    skep::telemetry::install_crypto();
    let clock = Arc::new(SystemClock);
    EgressProxy::new(RateLimits::new(clock.clone()), clock, Path::new("/tmp")).expect("a proxy")
}

/// Opens a session with these providers and hosts.
pub fn open(proxy: &EgressProxy, providers: Vec<Provider>, hosts: &[&str], meter: &Arc<Meter>) -> ProxySession {
    let hosts = hosts.iter().map(|h| (*h).to_owned()).collect();
    proxy
        .open_session(SessionSpec { providers, hosts, meter: meter.clone(), label: "test".to_owned() })
        .expect("an open session")
}

/// Returns the base URL of provider `p` at the loopback port.
pub fn base(opened: &ProxySession) -> String {
    format!("http://{}{}/llm/p", opened.endpoint.tcp, opened.path_prefix().expose())
}

/// Creates a client without proxy and redirects.
pub fn client() -> reqwest::Client {
    skep::telemetry::install_crypto();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("a client")
}
