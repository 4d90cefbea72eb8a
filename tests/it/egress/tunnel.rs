//! Hosts that can be reached: those on the list, at the address that was checked.

use crate::support::provider::{Scripted, client, meter, open, proxy};
use async_trait::async_trait;
use skep::domain::Usage;
use skep::platform::egress::{EgressProxy, ProxySession, Resolver};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

/// Resolves names as a hostile name server would, differently each time.
struct HostileResolver(Vec<&'static str>, AtomicUsize);

#[async_trait]
impl Resolver for HostileResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let n = self.1.fetch_add(1, Ordering::SeqCst);
        if host == "nowhere.example" {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
        }
        let ip = self.0[n.min(self.0.len() - 1)].parse().expect("an address");
        Ok(vec![SocketAddr::new(ip, port)])
    }
}

/// Starts a server that echoes what it receives.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    at
}

async fn head(stream: &mut UnixStream) -> String {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        got.push(timeout(SOON, stream.read_u8()).await.expect("in time").expect("a byte"));
    }
    String::from_utf8(got).expect("text")
}

async fn raw(opened: &ProxySession, request: &str) -> String {
    let mut stream = UnixStream::connect(&opened.endpoint.socket).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut got = Vec::new();
    timeout(SOON, stream.read_to_end(&mut got)).await.expect("in time").expect("read");
    String::from_utf8_lossy(&got).into_owned()
}

fn session(proxy: &EgressProxy, hosts: &[&str]) -> ProxySession {
    open(proxy, Vec::new(), hosts, &meter(Usage::default()))
}

#[tokio::test]
async fn a_listed_host_is_reached_through_a_tunnel_and_by_plain_http() {
    let remote = echo().await;
    let server = Scripted::always(200, "text/plain", "hello").await;
    let (proxy, listed) = (proxy(), [remote.to_string(), server.at.to_string()]);
    let opened = session(&proxy, &[listed[0].as_str(), listed[1].as_str()]);
    let mut stream = UnixStream::connect(&opened.endpoint.socket).await.expect("a connection");
    stream.write_all(format!("CONNECT {remote} HTTP/1.1\r\nhost: {remote}\r\n\r\n").as_bytes()).await.expect("written");
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
    let sent = vec![7u8; 300_000];
    let (mut from, mut to) = stream.split();
    let write = async {
        to.write_all(&sent).await.expect("written");
        to.shutdown().await.expect("closed");
    };
    let mut got = Vec::new();
    let (_, read) = timeout(SOON, futures::future::join(write, from.read_to_end(&mut got))).await.expect("in time");
    assert_eq!((read.expect("read"), got == sent), (sent.len(), true));
    assert!(opened.traffic() >= 600_000);
    // Through an HTTP client with the session's proxy credentials.
    let proxy = reqwest::Proxy::http(opened.proxy_url().expose()).expect("a proxy");
    let proxied = reqwest::Client::builder().proxy(proxy).build().expect("a client");
    let url = format!("http://{}/a?b", server.at);
    let request = proxied.get(&url).header("x-mine", "1").header("connection", "x-hop").header("x-hop", "1");
    let response = request.send().await.expect("an answer");
    assert_eq!(response.text().await.expect("a body"), "hello");
    let arrived = &server.asked()[0];
    assert_eq!(
        (arrived.uri.as_str(), arrived.headers["host"].to_str().expect("text")),
        ("/a?b", server.at.to_string().as_str())
    );
    assert!(arrived.headers.contains_key("x-mine"));
    assert!(!arrived.headers.contains_key("proxy-authorization") && !arrived.headers.contains_key("x-hop"));
    // The checked host replaces the Host header.
    let request = format!("GET {url} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
    assert!(raw(&opened, &request).await.starts_with("HTTP/1.1 200"));
    assert_eq!(server.asked()[1].headers["host"], server.at.to_string().as_str());
    assert!(opened.denials().is_empty());
}

#[tokio::test]
async fn other_hosts_are_denied_with_a_reason_reported_once() {
    let canary = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = canary.local_addr().expect("an address").port();
    let opened = session(&proxy(), &["pypi.org", "*.crates.io:443", "localhost"]);
    let targets = [
        "evil.example:443".to_owned(),
        "pypi.org.evil.example:443".to_owned(),
        "pypi.org:22".to_owned(),
        "crates.io:443".to_owned(),
        "static.crates.io:80".to_owned(),
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        "169.254.169.254:80".to_owned(),
        format!("0x7f000001:{port}"),
        format!("2130706433:{port}"),
        format!("127.1:{port}"),
        format!("localhost:{port}"),
        format!("0:{port}"),
        "user@pypi.org:443".to_owned(),
        "pypi.org:443@evil.example:443".to_owned(),
        "evil.example:443#pypi.org:443".to_owned(),
        "pypi.org%00.evil.example:443".to_owned(),
        "pypi.org%2eevil.example:443".to_owned(),
        "pypi.org".to_owned(),
        "pypi.org:".to_owned(),
        "pypi.org:0443".to_owned() + "0000",
        "PYPI.ORG.:444".to_owned(),
        "xn--pypi-org.example:443".to_owned(),
    ];
    for target in &targets {
        for _ in 0..2 {
            let got =
                raw(&opened, &format!("CONNECT {target} HTTP/1.1\r\nhost: pypi.org\r\nconnection: close\r\n\r\n"))
                    .await;
            assert!(got.starts_with("HTTP/1.1 403") || got.starts_with("HTTP/1.1 400"), "{target}: {got}");
            assert!(got.starts_with("HTTP/1.1 400") || got.contains("egress.hosts"), "{target}: {got}");
        }
        let got =
            raw(&opened, &format!("GET http://{target}/ HTTP/1.1\r\nhost: pypi.org\r\nconnection: close\r\n\r\n"))
                .await;
        let has_default_port = matches!(target.as_str(), "pypi.org" | "pypi.org:");
        assert!(has_default_port || !got.starts_with("HTTP/1.1 200"), "{target}: {got}");
    }
    let got = raw(&opened, "GET https://pypi.org/ HTTP/1.1\r\nhost: pypi.org\r\nconnection: close\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 403") && got.contains("CONNECT"), "{got}");
    let denials = opened.denials();
    assert!(denials.iter().any(|(what, why)| what == "evil.example:443" && why == "not on the list"), "{denials:?}");
    assert!(denials.len() <= targets.len() * 2 + 1, "each once: {denials:?}");
    assert!(timeout(Duration::from_millis(50), canary.accept()).await.is_err(), "no connection arrived");
}

#[tokio::test]
async fn the_connection_of_a_denied_tunnel_is_closed() {
    let opened = session(&proxy(), &["pypi.org"]);
    // `raw` reads until the connection is closed, and the request does not ask for that.
    let got = raw(&opened, "CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example\r\n\r\n").await;
    let got = got.to_ascii_lowercase();
    assert!(got.starts_with("http/1.1 403") && got.contains("connection: close"), "{got}");
}

#[tokio::test]
async fn names_of_private_addresses_are_denied() {
    let canary = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = canary.local_addr().expect("an address").port();
    for inside in
        ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "fd00::1", "64:ff9b::7f00:1"]
    {
        let proxy = proxy().with_resolver(Arc::new(HostileResolver(vec![inside], AtomicUsize::new(0))));
        let opened = session(&proxy, &[&format!("rebound.example:{port}")]);
        let got =
            raw(&opened, &format!("CONNECT rebound.example:{port} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
                .await;
        assert!(got.starts_with("HTTP/1.1 403") && got.contains("no public address"), "{inside}: {got}");
        let got = raw(
            &opened,
            &format!("GET http://rebound.example:{port}/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        )
        .await;
        assert!(got.starts_with("HTTP/1.1 403"), "{inside}: {got}");
    }
    // A name server that changes its answer: the name is resolved once, and exactly that address is used.
    let resolver = Arc::new(HostileResolver(vec!["10.0.0.1", "127.0.0.1"], AtomicUsize::new(0)));
    let proxy = proxy().with_resolver(resolver.clone());
    let opened = session(&proxy, &[&format!("rebound.example:{port}")]);
    let got =
        raw(&opened, &format!("CONNECT rebound.example:{port} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
    assert!(got.starts_with("HTTP/1.1 403"), "{got}");
    assert_eq!(resolver.1.load(Ordering::SeqCst), 1);
    assert!(timeout(Duration::from_millis(50), canary.accept()).await.is_err(), "no connection arrived");
    let opened = session(&proxy, &["nowhere.example"]);
    let got = raw(&opened, "CONNECT nowhere.example:443 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 502") && got.contains("no such name"), "{got}");
    assert_eq!(opened.unreachable(), [("nowhere.example:443".to_owned(), "no such name".to_owned())]);
    assert_eq!(opened.denials(), []);
    // If the address itself is on the list, it is allowed.
    let proxy = self::proxy().with_resolver(Arc::new(HostileResolver(vec!["127.0.0.1"], AtomicUsize::new(0))));
    let opened = session(&proxy, &[&format!("mirror.example:{port}"), &format!("127.0.0.1:{port}")]);
    let mut stream = UnixStream::connect(&opened.endpoint.socket).await.expect("a connection");
    stream
        .write_all(format!("CONNECT mirror.example:{port} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
        .await
        .expect("written");
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_are_limited() {
    let remote = echo().await;
    let opened = session(&proxy(), &[&remote.to_string()]);
    let mut tunnels = Vec::new();
    let connect = format!("CONNECT {remote} HTTP/1.1\r\nhost: x\r\n\r\n");
    for _ in 0..64 {
        let mut stream = UnixStream::connect(&opened.endpoint.socket).await.expect("a connection");
        stream.write_all(connect.as_bytes()).await.expect("written");
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
        tunnels.push(stream);
    }
    let mut late = UnixStream::connect(&opened.endpoint.socket).await.expect("the kernel's queue");
    late.write_all(connect.as_bytes()).await.expect("written");
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(100), late.read(&mut byte)).await.is_err(), "it has to wait");
    tunnels.pop();
    assert!(head(&mut late).await.starts_with("HTTP/1.1 200"));
    // Closing the session closes its tunnels.
    drop(opened);
    let ended = timeout(SOON, late.read(&mut byte)).await.expect("in time");
    assert!(matches!(ended, Ok(0) | Err(_)));
}

#[tokio::test]
async fn an_invalid_pattern_is_rejected_when_the_session_is_opened() {
    let spec = skep::platform::egress::SessionSpec {
        providers: Vec::new(),
        hosts: vec!["https://pypi.org/".to_owned()],
        meter: meter(Usage::default()),
        label: "test".to_owned(),
    };
    let error = proxy().open_session(spec).expect_err("an invalid host");
    assert!(error.to_string().contains("invalid host \"https://pypi.org/\""), "{error}");
    drop(client());
}
