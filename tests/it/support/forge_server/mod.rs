//! A server that holds one repository of a forge: an API on top of a state, with `git http-backend` on the same port
//! over a bare repository, and ways to fail.

pub mod git;
mod state;

pub use state::{
    CheckRun, Comment, Fault, Issue, IssueEvent, Minted, Pull, Review, ReviewComment, ShownDeployment, State, Status,
    now,
};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State as Shared};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

/// The repository that it holds.
pub const REPO: &str = "my-org/calc";
/// The token that it accepts.
pub const TOKEN: &str = "stand-in-token-4f9d2c7a81";
/// The account of that token.
pub const LOGIN: &str = "skep-bot";
/// A status and a body.
pub type Reply = (u16, Value);
/// Carries out a request of a forge's API: its parts, its path and its body.
pub type Api = fn(&Served, &Parts, &str, &Bytes) -> Response;

/// A running server.
pub struct ForgeServer {
    pub url: String,
    dir: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What a request is answered from.
#[derive(Clone)]
pub struct Served {
    pub url: String,
    pub root: PathBuf,
    pub state: Arc<Mutex<State>>,
    api: Api,
}

impl ForgeServer {
    /// Starts it on a thread of its own, with an empty repository.
    pub fn start(api: Api) -> ForgeServer {
        let dir = tempfile::tempdir().unwrap();
        let bare = dir.path().join(format!("{REPO}.git"));
        std::fs::create_dir_all(&bare).unwrap();
        crate::git_world::git(&bare, &["init", "-q", "--bare", "-b", "main"]);
        crate::git_world::git(&bare, &["config", "http.receivepack", "true"]);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let served = Served { url: url.clone(), root: dir.path().to_owned(), state: state.clone(), api };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let router = axum::Router::new().fallback(answer).with_state(served);
                let serve = async { axum::serve(listener, router).await.unwrap() };
                tokio::select! { () = serve => {}, _ended = stopped => {} }
            });
        });
        ForgeServer { url, dir, state, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns the bare repository, where people push.
    pub fn bare(&self) -> PathBuf {
        self.dir.path().join(format!("{REPO}.git"))
    }

    /// Returns a working copy of a person, and pushes what is committed there by [`ForgeServer::push`].
    pub fn working_copy(&self, name: &str) -> PathBuf {
        let copy = self.dir.path().join(name);
        if !copy.exists() {
            crate::git_world::git(self.dir.path(), &["clone", "-q", &self.bare().display().to_string(), name]);
        }
        copy
    }

    /// Commits files on a branch, as a person who pushes.
    pub fn push(&self, branch: &str, files: &[(&str, &str)]) -> String {
        use crate::git_world::{git, try_git, write};
        let copy = self.working_copy("person");
        try_git(&copy, &["fetch", "-q", "origin"]);
        if !try_git(&copy, &["checkout", "-q", "-B", branch, &format!("origin/{branch}")]).0 {
            try_git(&copy, &["checkout", "-q", "-B", branch]);
        }
        for (path, text) in files {
            write(&copy, path, text);
        }
        let head = crate::git_world::commit_all(&copy, "A person's commit");
        git(&copy, &["push", "-q", "origin", branch]);
        head.0
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn private_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    /// Returns the head of a branch.
    pub fn head(&self, branch: &str) -> Option<String> {
        git::head(&self.bare(), branch)
    }
}

impl Drop for ForgeServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Writes an answer.
pub fn reply(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Body::from(body.to_string())).unwrap()
}

/// Answers nothing: the connection breaks off.
fn cut() -> Response {
    let broken = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("cut"))]);
    Response::new(Body::from_stream(broken))
}

async fn answer(Shared(served): Shared<Served>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let path = parts.uri.path().to_owned();
    let line = format!("{} {}", parts.method, parts.uri);
    if let Some(call) = git::Call::of(&parts, &body) {
        served.state.lock().unwrap().git_calls += 1;
        return git::serve(&served, call).await;
    }
    let fault = {
        let mut state = served.state.lock().unwrap();
        state.requests.push(line.clone());
        state.faults.iter().position(|(part, _)| line.contains(part)).map(|at| state.faults.remove(at).1)
    };
    match fault {
        Some(Fault::Answer(status, headers, text)) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            return response.body(Body::from(text)).unwrap();
        }
        Some(Fault::CutAfter) => {
            drop((served.api)(&served, &parts, &path, &body));
            return cut();
        }
        Some(Fault::BadGatewayAfter) => {
            drop((served.api)(&served, &parts, &path, &body));
            return reply(502, &json!({ "message": "Bad Gateway" }));
        }
        None => {}
    }
    (served.api)(&served, &parts, &path, &body)
}

/// Returns a value of a query.
pub fn query_value(query: &str, name: &str) -> Option<String> {
    let pair = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")))?;
    Some(percent_decode_str(pair).decode_utf8_lossy().into_owned())
}

/// Writes a time in Unix seconds.
pub fn time(at: i64) -> String {
    chrono::DateTime::from_timestamp(at, 0).unwrap().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
