//! A web server on loopback that responds by path and records the requested paths.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Response to every path that has none of its own.
pub const HELLO: &str = "hello from the host";

/// The server. Its thread ends with the test's process.
pub struct Site {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// Starts a server that responds with `HELLO` to every path.
    pub fn new() -> Site {
        Site::with(|_| BTreeMap::new())
    }

    /// Starts a server with responses by path; `answers` receives the server's address.
    pub fn with(answers: impl FnOnce(SocketAddr) -> BTreeMap<String, Vec<u8>>) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answers, kept) = (Arc::new(answers(address)), asked.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (answers, kept) = (answers.clone(), kept.clone());
                std::thread::spawn(move || answer(client, &answers, &kept));
            }
        });
        Site { address, asked }
    }

    /// The entry for `egress.hosts`. A private address must be listed explicitly, as an address.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// A shell line that fetches the page through the egress proxy. Without `env -u`, the request to loopback would
    /// bypass the proxy and stay in the sandbox's own network.
    pub fn fetch(&self) -> String {
        format!(
            "env -u NO_PROXY -u no_proxy /usr/bin/python3 -c 'import urllib.request as u; \
             print(u.urlopen(\"http://{}/\", timeout=20).read().decode())'",
            self.address
        )
    }

    /// The requested paths.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(mut client: TcpStream, answers: &BTreeMap<String, Vec<u8>>, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut first = String::new();
    if reader.read_line(&mut first).is_err() {
        return;
    }
    for line in reader.lines() {
        if line.map_or(true, |l| l.is_empty()) {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let found = if answers.is_empty() { Some(HELLO.as_bytes()) } else { answers.get(&path).map(Vec::as_slice) };
    asked.lock().unwrap().push(path);
    let (status, body) = found.map_or(("404 Not Found", &b"no"[..]), |body| ("200 OK", body));
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _gone = client.write_all(head.as_bytes()).and_then(|()| client.write_all(body));
}
