//! The listeners of a session: authenticates clients, limits connections, and dispatches requests.

use super::response::{denied, text};
use super::session::SessionState;
use super::{provider, tunnel};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Maximum number of simultaneous connections per listener, tunnels included; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// Timeout for the head of a request; an idle connection is closed after the same time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of a request's head, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Answer to a client without the session's token.
const BAD_CREDENTIALS: &str = "Skep: invalid or missing proxy credentials";

/// One of the [`MAX_CONNECTIONS`] permits. A tunnel keeps the permit when it outlives its HTTP connection.
pub type ConnectionPermit = Arc<OwnedSemaphorePermit>;

/// Listener a client is connected to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listener {
    /// Unix socket: only clients that know its path can connect.
    Socket,
    /// Loopback port: everyone on this machine can connect, so the token is required.
    Port,
}

/// Serves both listeners until the session is closed.
pub fn serve(session: Arc<SessionState>, unix: UnixListener, tcp: TcpListener) {
    let (unix, tcp) = (Arc::new(unix), Arc::new(tcp));
    tokio::spawn(accept(session.clone(), Listener::Socket, move || {
        let unix = unix.clone();
        async move { unix.accept().await.map(|(stream, _)| stream) }
    }));
    tokio::spawn(accept(session, Listener::Port, move || {
        let tcp = tcp.clone();
        async move {
            let (stream, _) = tcp.accept().await?;
            // Send pieces of a response immediately. If the option cannot be set, they only arrive later.
            let _later = stream.set_nodelay(true);
            Ok(stream)
        }
    }));
}

async fn accept<S, F>(session: Arc<SessionState>, listener: Listener, mut listen: impl FnMut() -> F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listen().await?, permit))
        };
        let accepted = tokio::select! {
            () = session.closed.cancelled() => return,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, permit)) => drop(tokio::spawn(connection(session.clone(), listener, stream, Arc::new(permit)))),
            Err(error) => {
                // Usually the process has run out of file descriptors; some will be free a moment later.
                tracing::warn!(%error, "cannot accept a connection to the egress proxy");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    session: Arc<SessionState>,
    listener: Listener,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    permit: ConnectionPermit,
) {
    let closed = session.closed.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (session, permit) = (session.clone(), permit.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(permit);
            Ok::<_, Infallible>(answer(&session, listener, request).await)
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    let served = server.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::select! {
        () = closed.cancelled() => {}
        ended = served => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to the egress proxy ended early");
            }
        }
    }
}

async fn answer(session: &Arc<SessionState>, listener: Listener, request: Request) -> Response {
    if request.method() == Method::CONNECT || request.uri().authority().is_some() {
        if listener == Listener::Port && !proxy_token(request.headers()).is_some_and(|token| session.is_token(&token)) {
            let mut response = text(StatusCode::PROXY_AUTHENTICATION_REQUIRED, BAD_CREDENTIALS);
            response.headers_mut().insert(header::PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"skep\""));
            return response;
        }
        return tunnel::serve(session, request).await;
    }
    let path = request.uri().path().to_owned();
    let token = path.strip_prefix("/p/").and_then(|p| p.split_once('/'));
    let inner = match token {
        Some((token, rest)) if session.is_token(token) => rest,
        None if listener == Listener::Socket => path.trim_start_matches('/'),
        _ => return denied(BAD_CREDENTIALS),
    };
    match inner.strip_prefix("llm/") {
        Some(call) => provider::serve(session, request, call).await,
        None => text(
            StatusCode::NOT_FOUND,
            "Skep: this is the egress proxy. Models are at /llm/PROVIDER/; use it as an HTTP proxy to reach hosts.",
        ),
    }
}

/// Returns the token from the proxy credentials, where it is the password.
fn proxy_token(headers: &HeaderMap) -> Option<String> {
    let login = headers.get(header::PROXY_AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = login.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let login = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (_, password) = login.split_once(':')?;
    Some(password.to_owned())
}
