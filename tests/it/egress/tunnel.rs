//! Which hosts are reached: those on the list, at the address that was judged.

use crate::support::provider::{Scripted, client, gate, meter, open};
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

/// Names that lead where a hostile name server says, another way each time.
struct Hostile(Vec<&'static str>, AtomicUsize);

#[async_trait]
impl Resolver for Hostile {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let n = self.1.fetch_add(1, Ordering::SeqCst);
        if host == "nowhere.example" {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
        }
        let ip = self.0[n.min(self.0.len() - 1)].parse().expect("an address");
        Ok(vec![SocketAddr::new(ip, port)])
    }
}

/// A server that says back what it hears.
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
    let mut stream = UnixStream::connect(&opened.place.socket).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut got = Vec::new();
    timeout(SOON, stream.read_to_end(&mut got)).await.expect("in time").expect("read");
    String::from_utf8_lossy(&got).into_owned()
}

fn pass(gate: &EgressProxy, hosts: &[&str]) -> ProxySession {
    open(gate, Vec::new(), hosts, &meter(Usage::default()))
}

#[tokio::test]
async fn a_listed_host_is_reached_by_tunnel_and_in_plain() {
    let far = echo().await;
    let server = Scripted::always(200, "text/plain", "hello").await;
    let (gate, listed) = (gate(), [far.to_string(), server.at.to_string()]);
    let opened = pass(&gate, &[listed[0].as_str(), listed[1].as_str()]);
    let mut stream = UnixStream::connect(&opened.place.socket).await.expect("a connection");
    stream.write_all(format!("CONNECT {far} HTTP/1.1\r\nhost: {far}\r\n\r\n").as_bytes()).await.expect("written");
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
    // By a client of a proxy, with the pass's login.
    let proxy = reqwest::Proxy::http(opened.proxy().expose()).expect("a proxy");
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
    // The host it is judged by is the host it is told.
    let request = format!("GET {url} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
    assert!(raw(&opened, &request).await.starts_with("HTTP/1.1 200"));
    assert_eq!(server.asked()[1].headers["host"], server.at.to_string().as_str());
    assert!(opened.denials().is_empty());
}

#[tokio::test]
async fn everything_else_is_refused_with_the_reason_once() {
    let canary = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = canary.local_addr().expect("an address").port();
    let opened = pass(&gate(), &["pypi.org", "*.crates.io:443", "localhost"]);
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
        let plain_port = matches!(target.as_str(), "pypi.org" | "pypi.org:");
        assert!(plain_port || !got.starts_with("HTTP/1.1 200"), "{target}: {got}");
    }
    let got = raw(&opened, "GET https://pypi.org/ HTTP/1.1\r\nhost: pypi.org\r\nconnection: close\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 403") && got.contains("CONNECT"), "{got}");
    let denials = opened.denials();
    assert!(denials.iter().any(|(what, why)| what == "evil.example:443" && why == "not on the list"), "{denials:?}");
    assert!(denials.len() <= targets.len() * 2 + 1, "each once: {denials:?}");
    assert!(timeout(Duration::from_millis(50), canary.accept()).await.is_err(), "nobody came");
}

#[tokio::test]
async fn a_name_that_leads_inside_leads_nowhere() {
    let canary = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = canary.local_addr().expect("an address").port();
    for inside in
        ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "fd00::1", "64:ff9b::7f00:1"]
    {
        let gate = gate().with_resolver(Arc::new(Hostile(vec![inside], AtomicUsize::new(0))));
        let opened = pass(&gate, &[&format!("rebound.example:{port}")]);
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
    // A name server that answers well the first time and ill the second: asked once, and that address is the one dialled.
    let resolver = Arc::new(Hostile(vec!["10.0.0.1", "127.0.0.1"], AtomicUsize::new(0)));
    let gate = gate().with_resolver(resolver.clone());
    let opened = pass(&gate, &[&format!("rebound.example:{port}")]);
    let got =
        raw(&opened, &format!("CONNECT rebound.example:{port} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
    assert!(got.starts_with("HTTP/1.1 403"), "{got}");
    assert_eq!(resolver.1.load(Ordering::SeqCst), 1);
    assert!(timeout(Duration::from_millis(50), canary.accept()).await.is_err(), "nobody came");
    let got = raw(
        &pass(&gate, &["nowhere.example"]),
        "CONNECT nowhere.example:443 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(got.starts_with("HTTP/1.1 502") && got.contains("no such name"), "{got}");
    // With the address itself on the list a person has said yes.
    let gate = self::gate().with_resolver(Arc::new(Hostile(vec!["127.0.0.1"], AtomicUsize::new(0))));
    let opened = pass(&gate, &[&format!("mirror.example:{port}"), &format!("127.0.0.1:{port}")]);
    let mut stream = UnixStream::connect(&opened.place.socket).await.expect("a connection");
    stream
        .write_all(format!("CONNECT mirror.example:{port} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
        .await
        .expect("written");
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn so_many_connections_and_no_more() {
    let far = echo().await;
    let opened = pass(&gate(), &[&far.to_string()]);
    let mut tunnels = Vec::new();
    let connect = format!("CONNECT {far} HTTP/1.1\r\nhost: x\r\n\r\n");
    for _ in 0..64 {
        let mut stream = UnixStream::connect(&opened.place.socket).await.expect("a connection");
        stream.write_all(connect.as_bytes()).await.expect("written");
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
        tunnels.push(stream);
    }
    let mut late = UnixStream::connect(&opened.place.socket).await.expect("the kernel's queue");
    late.write_all(connect.as_bytes()).await.expect("written");
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(100), late.read(&mut byte)).await.is_err(), "it waits");
    tunnels.pop();
    assert!(head(&mut late).await.starts_with("HTTP/1.1 200"));
    // Closing the pass closes its tunnels.
    drop(opened);
    let ended = timeout(SOON, late.read(&mut byte)).await.expect("in time");
    assert!(matches!(ended, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_pattern_that_is_none_is_refused_when_the_gate_is_opened() {
    let pass = skep::platform::egress::SessionSpec {
        providers: Vec::new(),
        hosts: vec!["https://pypi.org/".to_owned()],
        meter: meter(Usage::default()),
        label: "test".to_owned(),
    };
    let error = gate().open(pass).expect_err("no host");
    assert!(error.to_string().contains("\"https://pypi.org/\" is no host"), "{error}");
    drop(client());
}
