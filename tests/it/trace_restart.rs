//! One trace per run, over processes: what a second process does hangs in the trace the first one began.

use axum::Router;
use axum::body::Bytes;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

/// What was exported, one body an element.
type Bodies = Arc<Mutex<Vec<Bytes>>>;

fn sink() -> (String, Bodies) {
    let bodies = Bodies::default();
    let kept = bodies.clone();
    let keep = move |body: Bytes| async move {
        kept.lock().expect("bodies").push(body);
        // An empty ExportTraceServiceResponse.
        Bytes::new()
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    listener.set_nonblocking(true).expect("non-blocking");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("listener");
            let router = Router::new().route("/v1/traces", axum::routing::post(keep));
            axum::serve(listener, router).await.expect("serving");
        });
    });
    (format!("http://{address}"), bodies)
}

fn skep(data: &std::path::Path, endpoint: Option<&str>, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(args)
        .arg("--json")
        .env("SKEP_DATA_DIR", data)
        .envs(endpoint.map(|to| ("SKEP_TELEMETRY__OTLP_ENDPOINT", to)))
        .output()
        .expect("skep starts")
}

#[test]
fn a_run_is_one_trace_over_two_processes() {
    let tmp = tempfile::tempdir().expect("temp dir");
    let (endpoint, bodies) = sink();
    let first = skep(tmp.path(), Some(&endpoint), &["demo"]);
    assert_eq!(first.status.code(), Some(4), "{}", String::from_utf8_lossy(&first.stderr));
    let seen_first = bodies.lock().expect("bodies").len();

    let runs = skep(tmp.path(), None, &["runs"]);
    let row: serde_json::Value =
        serde_json::from_slice(runs.stdout.split(|b| *b == b'\n').next().expect("a line")).expect("json");
    let rows = row.as_array().cloned().or_else(|| row["runs"].as_array().cloned()).unwrap_or_else(|| vec![row.clone()]);
    let id = rows[0]["run"].as_str().expect("a run id").to_owned();
    let shown = skep(tmp.path(), None, &["show", &id]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("json");
    let trace = shown["trace_id"].as_str().expect("a trace id");
    let trace: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&trace[2 * i..2 * i + 2], 16).expect("hex")).collect();

    let second = skep(tmp.path(), Some(&endpoint), &["approve", &id]);
    assert_eq!(second.status.code(), Some(0), "{}", String::from_utf8_lossy(&second.stderr));
    let bodies = bodies.lock().expect("bodies");
    // In the protobuf a trace id is its 16 raw bytes; span names are plain text.
    let spans =
        |bodies: &[Bytes]| -> usize { bodies.iter().map(|b| b.windows(16).filter(|w| **w == trace[..]).count()).sum() };
    let names = |bodies: &[Bytes], name: &[u8]| bodies.iter().any(|b| b.windows(name.len()).any(|w| w == name));
    assert!(spans(&bodies[..seen_first]) > 40, "the first process's spans are in the run's trace");
    assert!(names(&bodies[..seen_first], b"attempt"));
    assert!(spans(&bodies[seen_first..]) >= 4, "the second process goes on in the same trace");
    assert!(names(&bodies[seen_first..], b"land"), "the landing is in it");
    assert!(!names(&bodies, b"A customer's invoice"), "no text of the goal or the code is in a span");
}
