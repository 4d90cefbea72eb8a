//! Everything else an agent wants from the network: `CONNECT` and plain requests, to hosts on the pass's list only.
//!
//! The name is judged, then resolved, then each address is judged, and exactly the judged address is dialled: a name that
//! leads elsewhere the second time leads nowhere.

use super::answer::{denied, text};
use super::hosts::plain_host;
use super::listener::ConnectionPermit;
use super::session::SessionState;
use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::{Authority, Scheme};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// How long finding and reaching a host may take.
const REACH_WITHIN: Duration = Duration::from_secs(20);
/// Silence in both directions after which a tunnel is closed.
const IDLE: Duration = Duration::from_secs(300);
/// Headers that concern one hop only, besides those `Connection` names.
const HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Serves a request that is meant for a proxy.
pub async fn serve(open: &Arc<SessionState>, request: Request) -> Response {
    let tunnel = request.method() == Method::CONNECT;
    let (host, port) = match target(request.uri(), tunnel) {
        Ok(target) => target,
        Err(why) => return refuse(open, &request.uri().to_string(), why),
    };
    let name = format!("{host}:{port}");
    if let Err(why) = open.hosts.judge(&host, port) {
        return refuse(open, &name, why);
    }
    let stream = match timeout(REACH_WITHIN, reach(open, &host, port)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(Unreached::Denied(why))) => return refuse(open, &name, why),
        Ok(Err(Unreached::Failed(error))) => {
            return text(StatusCode::BAD_GATEWAY, &format!("Skep: {name} cannot be reached: {error}"));
        }
        Err(_) => return text(StatusCode::GATEWAY_TIMEOUT, &format!("Skep: {name} was not reached in time")),
    };
    if tunnel { connect(open, request, stream) } else { plain(open, request, stream, &host, port).await }
}

fn refuse(open: &SessionState, name: &str, why: &'static str) -> Response {
    let name: String = name.chars().take(300).collect();
    open.deny(&name, why);
    denied(&format!(
        "Skep: {name:?} is not reached from here: {why}. A person adds hosts to `egress.hosts` in the configuration, or to the project's."
    ))
}

/// The host and port a request is for.
fn target(uri: &Uri, tunnel: bool) -> Result<(String, u16), &'static str> {
    let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
    if authority.contains('@') {
        return Err("it has a user in its host");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map_err(|_| "that is no port")?,
        Some(_) => return Err("that is no port"),
        None if tunnel => return Err("it names no port"),
        None => 80,
    };
    if !tunnel && uri.scheme() != Some(&Scheme::HTTP) {
        return Err("only http:// is passed on in plain; https goes by CONNECT");
    }
    let host = plain_host(host).ok_or("that is no plain host name")?;
    Ok((host, port))
}

enum Unreached {
    Denied(&'static str),
    Failed(std::io::Error),
}

/// Dials an address of the host that was judged itself.
async fn reach(open: &SessionState, host: &str, port: u16) -> Result<TcpStream, Unreached> {
    let found = match host.parse() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => open.resolver.resolve(host, port).await.map_err(Unreached::Failed)?,
    };
    let allowed = found.iter().map(|a| SocketAddr::new(a.ip(), port)).filter(|a| open.hosts.may_dial(*a));
    let mut failed = None;
    for address in allowed {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Where it cannot be set, small pieces come later.
                let _later = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) => Err(Unreached::Failed(error)),
        None => Err(Unreached::Denied("its name leads to no public address (list the address itself to allow it)")),
    }
}

fn connect(open: &Arc<SessionState>, mut request: Request, far: TcpStream) -> Response {
    let upgraded = hyper::upgrade::on(&mut request);
    let place = request.extensions_mut().remove::<ConnectionPermit>();
    let open = open.clone();
    tokio::spawn(async move {
        // A tunnel takes its connection's place.
        let _place = place;
        let relayed = async {
            let Ok(near) = upgraded.await else { return };
            relay(TokioIo::new(near), far, &open.traffic).await;
        };
        tokio::select! {
            () = open.closed.cancelled() => {}
            () = relayed => {}
        }
    });
    Response::new(Body::empty())
}

/// Carries bytes both ways until one end closes or both are silent.
async fn relay(near: impl AsyncRead + AsyncWrite + Send, far: TcpStream, traffic: &AtomicU64) {
    let (near_in, near_out) = tokio::io::split(near);
    let (far_in, far_out) = far.into_split();
    let last = std::sync::Mutex::new(Instant::now());
    let both = futures::future::join(carry(near_in, far_out, traffic, &last), carry(far_in, near_out, traffic, &last));
    let silent = async {
        loop {
            let since = last.lock().map_or_else(|p| *p.into_inner(), |at| *at);
            if since.elapsed() >= IDLE {
                return;
            }
            tokio::time::sleep_until(since + IDLE).await;
        }
    };
    tokio::select! {
        _ = both => {}
        () = silent => {}
    }
}

async fn carry<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut from: R,
    mut to: W,
    traffic: &AtomicU64,
    last: &std::sync::Mutex<Instant>,
) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        traffic.fetch_add(count as u64, Ordering::Relaxed);
        if let Ok(mut at) = last.lock() {
            *at = Instant::now();
        }
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
    // The other direction may go on.
    let _closed = to.shutdown().await;
}

/// Passes a plain request on, with the host it was judged by.
async fn plain(open: &Arc<SessionState>, request: Request, stream: TcpStream, host: &str, port: u16) -> Response {
    let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await else {
        return text(StatusCode::BAD_GATEWAY, "Skep: the host speaks no HTTP");
    };
    let held = open.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = held.closed.cancelled() => {}
            _ended = connection => {}
        }
    });
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let Ok(uri) = path.parse::<Uri>() else { return text(StatusCode::BAD_REQUEST, "Skep: that is no path") };
    parts.uri = uri;
    without_hops(&mut parts.headers);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let named = if port == 80 { host } else { format!("{host}:{port}") };
    let Ok(named) = HeaderValue::from_str(&named) else {
        return text(StatusCode::BAD_REQUEST, "Skep: that is no host");
    };
    parts.headers.insert(header::HOST, named);
    let counted = super::session::counted(body, open.clone());
    match timeout(IDLE, sender.send_request(Request::from_parts(parts, counted))).await {
        Ok(Ok(response)) => {
            let (mut parts, body) = response.into_parts();
            without_hops(&mut parts.headers);
            Response::from_parts(parts, super::session::counted(Body::new(body), open.clone()))
        }
        Ok(Err(error)) => text(StatusCode::BAD_GATEWAY, &format!("Skep: the host gave no answer: {error}")),
        Err(_) => text(StatusCode::GATEWAY_TIMEOUT, "Skep: the host gave no answer in time"),
    }
}

/// Takes away what concerns one hop only.
fn without_hops(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(',').map(|n| n.trim().to_ascii_lowercase()))
        .collect();
    for name in named.iter().map(String::as_str).chain(HOP.iter().copied()) {
        headers.remove(name);
    }
}
