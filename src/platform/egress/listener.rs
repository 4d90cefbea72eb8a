//! The listeners of a pass: who may come in, how many, and to which part of the gate a request goes.

use super::answer::{denied, text};
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

/// Connections at the same time, by listener, tunnels too; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// How long the head of a request may take; an idle connection is closed after as long.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// The most bytes of a request's head.
const HEAD_MAX: usize = 64 * 1024;

/// A connection's place among [`CONNECTIONS`]; whatever outlives the connection takes it along.
pub type ConnectionPermit = Arc<OwnedSemaphorePermit>;

/// Who can be at a listener.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Only who was told the socket's path.
    Socket,
    /// Anybody on this machine: the token is asked for.
    Port,
}

/// Serves both listeners until the pass is closed.
pub fn serve(open: Arc<SessionState>, unix: UnixListener, tcp: TcpListener) {
    let (unix, tcp) = (Arc::new(unix), Arc::new(tcp));
    tokio::spawn(accept(open.clone(), Side::Socket, move || {
        let unix = unix.clone();
        async move { unix.accept().await.map(|(stream, _)| stream) }
    }));
    tokio::spawn(accept(open, Side::Port, move || {
        let tcp = tcp.clone();
        async move {
            let (stream, _) = tcp.accept().await?;
            // Pieces of an answer go on at once; where that cannot be set they are only later.
            let _later = stream.set_nodelay(true);
            Ok(stream)
        }
    }));
}

async fn accept<S, F>(open: Arc<SessionState>, side: Side, mut listen: impl FnMut() -> F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listen().await?, place))
        };
        let accepted = tokio::select! {
            () = open.closed.cancelled() => return,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, place)) => drop(tokio::spawn(connection(open.clone(), side, stream, Arc::new(place)))),
            Err(error) => {
                // Out of file descriptors, mostly: a moment later some are free again.
                tracing::warn!(%error, "a connection to the gate could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    open: Arc<SessionState>,
    side: Side,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    place: ConnectionPermit,
) {
    let closed = open.closed.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (open, place) = (open.clone(), place.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(place);
            Ok::<_, Infallible>(answer(&open, side, request).await)
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_MAX);
    let served = server.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::select! {
        () = closed.cancelled() => {}
        ended = served => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to the gate ended early");
            }
        }
    }
}

async fn answer(open: &Arc<SessionState>, side: Side, request: Request) -> Response {
    if request.method() == Method::CONNECT || request.uri().authority().is_some() {
        if side == Side::Port && !named_in(request.headers()).is_some_and(|token| open.is_token(&token)) {
            let mut no = text(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "Skep: this gate belongs to somebody else");
            no.headers_mut().insert(header::PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"skep\""));
            return no;
        }
        return tunnel::serve(open, request).await;
    }
    let path = request.uri().path().to_owned();
    let token = path.strip_prefix("/p/").and_then(|p| p.split_once('/'));
    let inner = match token {
        Some((token, rest)) if open.is_token(token) => rest,
        None if side == Side::Socket => path.trim_start_matches('/'),
        _ => return denied("Skep: this gate belongs to somebody else"),
    };
    match inner.strip_prefix("llm/") {
        Some(call) => provider::serve(open, request, call).await,
        None => text(
            StatusCode::NOT_FOUND,
            "Skep: this is the gate: models stand at /llm/PROVIDER/, hosts are reached by it as a proxy",
        ),
    }
}

/// The token in a proxy's login: the password, or the user where there is none.
fn named_in(headers: &HeaderMap) -> Option<String> {
    let login = headers.get(header::PROXY_AUTHORIZATION)?.to_str().ok()?;
    let (scheme, coded) = login.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let login = String::from_utf8(STANDARD.decode(coded.trim()).ok()?).ok()?;
    let (_, password) = login.split_once(':')?;
    Some(password.to_owned())
}
