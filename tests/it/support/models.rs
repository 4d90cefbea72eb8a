//! Scripted model server that speaks the wire formats of the providers, including their faults.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, Uri};
use axum::serve::ListenerExt;
use futures::StreamExt;
use serde_json::Value;
use skep::adapters::engine::settings::Settings;
use skep::providers::settings::{Api, Provider};
use skep::secrets::Secret;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

mod wires;

use wires::say;

/// API key that the server is called with.
pub const KEY: &str = "sk-test-canary-4711";

/// Answer to one call.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Complete answer: text and calls (tool, arguments).
    Say(String, Vec<(String, Value)>),
    /// Status with headers and a body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// Answer that breaks off.
    Cut,
    /// Answer that is not JSON.
    Garbage,
    /// Answer that starts and then goes silent.
    Silent,
    /// Stream with exactly these bytes.
    Raw(String),
}

/// Answer with several calls.
pub fn calls(calls: &[(&str, Value)]) -> Reply {
    Reply::Say(String::new(), calls.iter().map(|(tool, args)| ((*tool).to_owned(), args.clone())).collect())
}

/// Answer with one call.
pub fn call(tool: &str, args: Value) -> Reply {
    calls(&[(tool, args)])
}

/// Answer with text only.
pub fn text(text: &str) -> Reply {
    Reply::Say(text.to_owned(), vec![])
}

/// Status without body.
pub fn status(status: u16) -> Reply {
    Reply::Status(status, vec![], r#"{"error":{"message":"scripted"}}"#.to_owned())
}

/// Received request.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Request {
    /// Requested model.
    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    /// Number of answers in the conversation so far.
    pub fn turn(&self) -> usize {
        let messages = self.body["messages"].as_array().map_or(&[][..], Vec::as_slice);
        messages.iter().filter(|m| m["role"] == "assistant").count()
    }
}

/// Usage that the server reports for one complete answer. `input` includes `cached` and `written` (written to the
/// cache, which only one API reports).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub model: String,
    pub input: u64,
    pub cached: u64,
    pub written: u64,
    pub output: u64,
}

impl Served {
    fn of(request: &Request, large: bool, call: u64) -> Served {
        let written = if request.path.ends_with("/messages") { 20 } else { 0 };
        let (input, output) = if large { (2_500, 250) } else { (100, 10) };
        Served {
            model: request.model().to_owned(),
            input: input + call,
            cached: 40,
            written,
            output: output + call % 3,
        }
    }
}

type Responder = dyn Fn(&Request) -> Reply + Send + Sync;

#[derive(Default)]
struct Script {
    replies: VecDeque<Reply>,
    responder: Option<Arc<Responder>>,
    seen: Vec<Request>,
    served: Vec<Served>,
    ids: usize,
    forgets: bool,
    large: bool,
}

/// Running server; dropping it stops the server.
pub struct Models {
    script: Arc<Mutex<Script>>,
    base: String,
    connections: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Models {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Models {
    pub async fn play(replies: impl IntoIterator<Item = Reply>) -> Models {
        Models::serve(Script { replies: replies.into_iter().collect(), ..Script::default() }).await
    }

    /// Starts a server that chooses its answer by the request; each answer has a different usage.
    pub async fn responding(responder: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Models {
        Models::serve(Script { responder: Some(Arc::new(responder)), ..Script::default() }).await
    }

    async fn serve(script: Script) -> Models {
        let script = Arc::new(Mutex::new(script));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let listener = listener.tap_io(move |tcp| {
            counted.fetch_add(1, Ordering::Relaxed);
            // Without this, the body waits until the headers are acknowledged.
            tcp.set_nodelay(true).unwrap();
        });
        let app = Router::new().fallback(answer).with_state(script.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Models { script, base, connections, serving }
    }

    /// Stops recording requests, for measurements.
    pub fn forget(&self) {
        self.script.lock().unwrap().forgets = true;
    }

    /// Makes the usage of answers proportional to the request.
    pub fn large(self) -> Models {
        self.script.lock().unwrap().large = true;
        self
    }

    /// Number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.script.lock().unwrap().seen.clone()
    }

    /// Usage of complete answers, by the server's own count.
    pub fn served(&self) -> Vec<Served> {
        self.script.lock().unwrap().served.clone()
    }

    /// Base URL, with a trailing slash.
    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn provider(&self, api: Api) -> Provider {
        let path = match api {
            Api::Gemini => "v1beta/",
            Api::Ollama => "",
            _ => "v1/",
        };
        Provider {
            name: "acme".to_owned(),
            api,
            base_url: format!("{}{path}", self.base),
            key: Some(Secret::new(KEY)),
            key_source: "environment variable ACME_KEY".to_owned(),
            concurrency: 4,
            requests_per_minute: None,
            idle_timeout: Duration::from_secs(5),
            context_window: 100_000,
            max_output_tokens: 4_000,
        }
    }

    pub fn settings(&self, api: Api) -> Arc<Settings> {
        Arc::new(with(self.provider(api)))
    }
}

/// Settings with one provider.
pub fn with(provider: Provider) -> Settings {
    Settings { providers: [(provider.name.clone(), provider)].into(), ..Settings::default() }
}

async fn answer(
    State(script): State<Arc<Mutex<Script>>>,
    uri: Uri,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response<Body> {
    let (reply, turn, usage) = {
        let mut script = script.lock().unwrap();
        let body = if script.forgets { Value::Null } else { serde_json::from_slice(&body).unwrap_or_default() };
        let request = Request { path: uri.path().to_owned(), headers, body };
        let reply = match &script.responder {
            Some(responder) => responder(&request),
            None => script.replies.pop_front().unwrap_or_else(|| status(418)),
        };
        script.ids += 1;
        let call = if script.responder.is_some() { script.ids as u64 } else { 0 };
        let usage = Served::of(&request, script.large, call);
        if matches!(reply, Reply::Say(..)) && !script.forgets {
            script.served.push(usage.clone());
        }
        if !script.forgets {
            script.seen.push(request);
        }
        (reply, script.ids, usage)
    };
    let stream = |bytes: String| {
        Response::builder().header("content-type", "text/event-stream").body(Body::from(bytes)).unwrap()
    };
    match reply {
        Reply::Say(text, calls) => stream(say(uri.path(), turn, &usage, &text, &calls)),
        Reply::Status(status, headers, body) => {
            let mut response = Response::builder().status(status).header("content-type", "application/json");
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).unwrap()
        }
        Reply::Cut => stream(half(&say(uri.path(), turn, &usage, "I was about to", &[]))),
        Reply::Garbage => stream("event: message_start\ndata: {nonsense\n\n".to_owned()),
        Reply::Silent => {
            let first = half(&say(uri.path(), turn, &usage, "I was about to", &[]));
            let body =
                futures::stream::once(async move { Ok::<_, std::io::Error>(first) }).chain(futures::stream::pending());
            Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(body)).unwrap()
        }
        Reply::Raw(bytes) => stream(bytes),
    }
}

/// Returns the complete lines in the first two thirds of a stream.
fn half(whole: &str) -> String {
    let middle = whole.floor_char_boundary(whole.len() * 2 / 3);
    whole[..whole[..middle].rfind('\n').map_or(0, |at| at + 1)].to_owned() + "\n"
}
