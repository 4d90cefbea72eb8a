//! General network access: `CONNECT` and plain HTTP requests, only to hosts on the session's list.
//!
//! The name is checked and resolved, each address is checked, and the connection goes to exactly the checked address. A
//! name that resolves differently the second time therefore gains nothing.

use super::hosts::{self, normalize_host};
use super::listener::ConnectionPermit;
use super::response::{denied, text};
use super::session::SessionState;
use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::{Authority, Scheme};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Timeout for resolving and connecting to a host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Inactivity in both directions after which a tunnel is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Hop-by-hop headers, in addition to those that `Connection` names.
const HOP_BY_HOP: &[&str] = &[
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

/// Serves a proxy request.
pub async fn serve(session: &Arc<SessionState>, request: Request) -> Response {
    let tunnel = request.method() == Method::CONNECT;
    let mut response = respond(session, request, tunnel).await;
    if tunnel && !response.status().is_success() {
        // Clients such as npm take this for the host's own response and would send their next request, which nobody
        // reads, on the same connection: they hang until they time out.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn respond(session: &Arc<SessionState>, request: Request, tunnel: bool) -> Response {
    let (host, port) = match target(request.uri(), tunnel) {
        Ok(target) => target,
        Err(why) => return refuse(session, &request.uri().to_string(), why, None),
    };
    let name = format!("{host}:{port}");
    if let Err(why) = session.hosts.check(&host, port) {
        return refuse(session, &name, why, Some(hosts::entry(&host, port)));
    }
    let stream = match timeout(CONNECT_TIMEOUT, dial(session, &host, port)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(DialError::Private(ip))) => {
            let why = format!("the name resolves to no public address, but to {ip}");
            // An address of this machine's cloud gives away credentials, and is not proposed.
            let entry = hosts::may_be_listed(ip).then(|| hosts::entry(&ip.to_string(), port));
            return refuse(session, &name, &why, entry);
        }
        Ok(Err(DialError::Failed(error))) => {
            session.set_reached(&name, Err(error.to_string()));
            return text(StatusCode::BAD_GATEWAY, &format!("Skep: cannot reach {name}: {error}"));
        }
        Err(_) => {
            session.set_reached(&name, Err("the connection timed out".to_owned()));
            return text(StatusCode::GATEWAY_TIMEOUT, &format!("Skep: timed out connecting to {name}"));
        }
    };
    session.set_reached(&name, Ok(()));
    if tunnel { connect(session, request, stream) } else { forward(session, request, stream, &host, port).await }
}

/// Refuses a request. `entry` would allow it, if a person added it to the hosts.
fn refuse(session: &SessionState, name: &str, why: &str, entry: Option<String>) -> Response {
    let name: String = name.chars().take(300).collect();
    session.deny_host(&name, why, entry);
    denied(&format!(
        "Skep: access to {name:?} is denied: {why}. A person can add hosts to `egress.hosts` in the configuration, globally or for the project."
    ))
}

/// Parses the host and port of a request.
fn target(uri: &Uri, tunnel: bool) -> Result<(String, u16), &'static str> {
    let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
    if authority.contains('@') {
        return Err("the host contains user information");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map_err(|_| "invalid port")?,
        Some(_) => return Err("invalid port"),
        None if tunnel => return Err("the port is missing"),
        None => 80,
    };
    if !tunnel && uri.scheme() != Some(&Scheme::HTTP) {
        return Err("only http:// is forwarded; use CONNECT for https");
    }
    let host = normalize_host(host).ok_or("invalid host name")?;
    Ok((host, port))
}

enum DialError {
    /// The name resolves to this address, which is not public and not listed.
    Private(IpAddr),
    Failed(std::io::Error),
}

/// Connects to an address of the host that has passed the address check.
async fn dial(session: &SessionState, host: &str, port: u16) -> Result<TcpStream, DialError> {
    let found = match host.parse() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => session.resolver.resolve(host, port).await.map_err(DialError::Failed)?,
    };
    let allowed = found.iter().map(|a| SocketAddr::new(a.ip(), port)).filter(|a| session.hosts.may_dial(*a));
    let (mut failed, first) = (None, found.first().map(|address| address.ip().to_canonical()));
    for address in allowed {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // If the option cannot be set, small pieces only arrive later.
                let _later = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => failed = Some(error),
        }
    }
    match (failed, first) {
        (Some(error), _) => Err(DialError::Failed(error)),
        (None, Some(ip)) => Err(DialError::Private(ip)),
        (None, None) => Err(DialError::Failed(std::io::Error::other("the name resolves to no address"))),
    }
}

fn connect(session: &Arc<SessionState>, mut request: Request, remote: TcpStream) -> Response {
    let upgraded = hyper::upgrade::on(&mut request);
    let permit = request.extensions_mut().remove::<ConnectionPermit>();
    let session = session.clone();
    tokio::spawn(async move {
        // The tunnel outlives the HTTP connection and keeps its permit.
        let _permit = permit;
        let relayed = async {
            let Ok(local) = upgraded.await else { return };
            relay(TokioIo::new(local), remote, &session.traffic).await;
        };
        tokio::select! {
            () = session.closed.cancelled() => {}
            () = relayed => {}
        }
    });
    Response::new(Body::empty())
}

/// Relays bytes in both directions until one side closes or both are idle.
async fn relay(local: impl AsyncRead + AsyncWrite + Send, remote: TcpStream, traffic: &AtomicU64) {
    let (local_in, local_out) = tokio::io::split(local);
    let (remote_in, remote_out) = remote.into_split();
    let last = std::sync::Mutex::new(Instant::now());
    let both =
        futures::future::join(copy(local_in, remote_out, traffic, &last), copy(remote_in, local_out, traffic, &last));
    let idle = async {
        loop {
            let since = last.lock().map_or_else(|p| *p.into_inner(), |at| *at);
            if since.elapsed() >= IDLE_TIMEOUT {
                return;
            }
            tokio::time::sleep_until(since + IDLE_TIMEOUT).await;
        }
    };
    tokio::select! {
        _ = both => {}
        () = idle => {}
    }
}

async fn copy<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
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
    // The other direction may continue.
    let _closed = to.shutdown().await;
}

/// Forwards a plain HTTP request, with the host name that was checked.
async fn forward(session: &Arc<SessionState>, request: Request, stream: TcpStream, host: &str, port: u16) -> Response {
    let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await else {
        return text(StatusCode::BAD_GATEWAY, "Skep: the host does not speak HTTP");
    };
    let session_state = session.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = session_state.closed.cancelled() => {}
            _ended = connection => {}
        }
    });
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let Ok(uri) = path.parse::<Uri>() else { return text(StatusCode::BAD_REQUEST, "Skep: invalid path") };
    parts.uri = uri;
    remove_hop_by_hop(&mut parts.headers);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let host_header = if port == 80 { host } else { format!("{host}:{port}") };
    let Ok(host_header) = HeaderValue::from_str(&host_header) else {
        return text(StatusCode::BAD_REQUEST, "Skep: invalid host");
    };
    parts.headers.insert(header::HOST, host_header);
    let counted = super::session::count_traffic(body, session.clone());
    match timeout(IDLE_TIMEOUT, sender.send_request(Request::from_parts(parts, counted))).await {
        Ok(Ok(response)) => {
            let (mut parts, body) = response.into_parts();
            remove_hop_by_hop(&mut parts.headers);
            Response::from_parts(parts, super::session::count_traffic(Body::new(body), session.clone()))
        }
        Ok(Err(error)) => text(StatusCode::BAD_GATEWAY, &format!("Skep: no response from the host: {error}")),
        Err(_) => text(StatusCode::GATEWAY_TIMEOUT, "Skep: the host did not respond in time"),
    }
}

/// Removes hop-by-hop headers.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let connection_headers: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(',').map(|n| n.trim().to_ascii_lowercase()))
        .collect();
    for name in connection_headers.iter().map(String::as_str).chain(HOP_BY_HOP.iter().copied()) {
        headers.remove(name);
    }
}
