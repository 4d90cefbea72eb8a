//! A run is one trace across processes: a second process continues the trace of the first.

use crate::support::program::Scene;
use crate::support::sameness::runs;
use axum::Router;
use axum::body::Bytes;
use std::sync::{Arc, Mutex};

/// Bodies of the export requests.
type Bodies = Arc<Mutex<Vec<Bytes>>>;

fn sink() -> (String, Bodies) {
    let bodies = Bodies::default();
    let received = bodies.clone();
    let receive = move |body: Bytes| async move {
        received.lock().expect("bodies").push(body);
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
            let router = Router::new().route("/v1/traces", axum::routing::post(receive));
            axum::serve(listener, router).await.expect("serving");
        });
    });
    (format!("http://{address}"), bodies)
}

#[test]
fn a_run_is_one_trace_over_two_processes() {
    let (endpoint, bodies) = sink();
    let scene = Scene::new("", None).with("SKEP_TELEMETRY__OTLP_ENDPOINT", &endpoint);
    let goal = "Write the second line down";
    let (code, output) = scene.run(scene.order_by(goal, "command: echo two > b.txt", &[]));
    assert_eq!(code, Some(4), "{output}");
    let of_first = bodies.lock().expect("bodies").len();

    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let run = runtime.block_on(runs(&scene)).pop().expect("one run");
    let trace = run.traceparent.as_deref().and_then(|t| t.split('-').nth(1)).expect("a trace id");
    let trace: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&trace[2 * i..2 * i + 2], 16).expect("hex")).collect();
    let (code, output) = scene.run(scene.skep(&["approve", &run.id.to_string()]));
    assert_eq!(code, Some(0), "{output}");

    let bodies = bodies.lock().expect("bodies");
    // In the protobuf a trace id is its 16 raw bytes; span names are plain text.
    let holds = |body: &Bytes, what: &[u8]| body.windows(what.len()).filter(|w| *w == what).count();
    let spans = |bodies: &[Bytes]| bodies.iter().map(|b| holds(b, &trace)).sum::<usize>();
    let named = |bodies: &[Bytes], name: &str| bodies.iter().any(|b| holds(b, name.as_bytes()) > 0);
    assert!(spans(&bodies[..of_first]) > 20, "the spans of the first process are not in the run's trace");
    assert!(named(&bodies[..of_first], "attempt"));
    assert!(spans(&bodies[of_first..]) >= 4, "the second process does not continue the trace");
    assert!(named(&bodies[of_first..], "land"), "the landing is not in the trace");
    assert!(!named(&bodies, goal), "the text of the goal is in a span");
}
