//! Logs are redacted and carry ids; traces continue across processes and are exported over HTTP.

use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use skep::telemetry::settings::Telemetry;
use skep::telemetry::{self, TraceContext};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use tracing::{info, info_span};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Sink {
    type Writer = Sink;
    fn make_writer(&'w self) -> Sink {
        self.clone()
    }
}

fn logged(json: bool, level: &str, act: impl FnOnce()) -> String {
    let sink = Sink::default();
    let subscriber = tracing_subscriber::registry().with(telemetry::logs(level, json, false, sink.clone()));
    tracing::subscriber::with_default(subscriber, act);
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn hostile() {
    let run = info_span!("step", run = "r-1", attempt = tracing::field::Empty, colour = "blue");
    run.record("attempt", 7);
    let _in = run.enter();
    info!(
        api_token = "hunter2",
        input_tokens = 12,
        path = "a b\u{1b}[31m",
        url = "https://u:hunter2@h/x",
        "done\nfake line \u{202e}\u{9b}"
    );
    info!(target: "sqlx::query", "select 1");
}

#[test]
fn json_lines_carry_ids_but_no_secrets_or_control_characters() {
    let text = logged(true, "info", hostile);
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!((&line["run"], &line["attempt"], &line["level"]), (&"r-1".into(), &7.into(), &"info".into()));
    assert_eq!((&line["api_token"], &line["input_tokens"]), (&"***".into(), &12.into()));
    assert_eq!(line["message"], "done\nfake line \u{202e}\u{9b}");
    assert!(line.get("colour").is_none() && !text.contains("hunter2"), "{text}");
    assert!(!text.trim_end().contains(telemetry::is_unsafe_to_print), "{text:?}");
}

#[test]
fn text_lines_escape_hostile_text() {
    let text = logged(false, "info", hostile);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("INFO") && text.contains("run=r-1") && text.contains("done\\nfake line"), "{text}");
    assert!(!text.trim_end().contains(telemetry::is_unsafe_to_print) && !text.contains("hunter2"), "{text:?}");
}

#[test]
fn levels_and_directives_are_applied() {
    assert_eq!(logged(true, "error", hostile), "");
    assert_eq!(logged(true, "off", hostile), "");
    assert_eq!(logged(true, "info,sqlx=info", hostile).lines().count(), 2);
}

/// Records the spans of one process of a run. `stored` is the traceparent of the run's row; returns the one to store.
fn process(exporter: InMemorySpanExporter, stored: Option<&str>, name: &'static str) -> (String, SdkTracerProvider) {
    let provider = telemetry::provider(exporter);
    let subscriber = tracing_subscriber::registry().with(telemetry::traces(&provider));
    let context = tracing::subscriber::with_default(subscriber, || {
        let _actor = tracing::info_span!(target: "ractor::actor", "Actor").entered();
        let span = match stored {
            None => info_span!(parent: None, "run", otel.name = name, run = "r-1"),
            some => TraceContext::under(some, info_span!(parent: None, "attempt", otel.name = name, run = "r-1")),
        };
        let context = TraceContext::of(&span).to_string();
        let _in = span.enter();
        info_span!("commit").in_scope(|| {});
        context
    });
    provider.force_flush().unwrap();
    // The exporter drops its spans together with its provider, so the provider is returned as well.
    (context, provider)
}

#[test]
fn spans_of_two_processes_join_one_trace() {
    let exporter = InMemorySpanExporter::default();
    let (stored, _one) = process(exporter.clone(), None, "run r-1");
    let _two = process(exporter.clone(), Some(&stored), "attempt 1");
    let _three = process(exporter.clone(), Some("not a traceparent"), "alone");
    let spans = exporter.get_finished_spans().unwrap();
    let named = |name: &str| spans.iter().find(|s| s.name == name).unwrap();
    let (run, attempt, alone) = (named("run r-1"), named("attempt 1"), named("alone"));
    assert_eq!(run.span_context.trace_id(), attempt.span_context.trace_id());
    assert_eq!(attempt.parent_span_id, run.span_context.span_id());
    assert!(attempt.parent_span_is_remote);
    assert_ne!(alone.span_context.trace_id(), run.span_context.trace_id());
    assert_eq!(stored.parse::<TraceContext>().unwrap().trace_id(), run.span_context.trace_id().to_string());
    assert_eq!(spans.iter().filter(|s| s.name == "commit").count(), 3);
    assert!(!spans.iter().any(|s| s.name == "Actor"), "ractor's own spans are not exported");
}

#[test]
fn without_an_exporter_a_trace_id_still_exists() {
    let context = TraceContext::of(&tracing::Span::none());
    assert_eq!(context.to_string().len(), 55);
}

/// Accepts one POST and sends its head and body to the channel.
fn collector() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        let (head, length) = loop {
            let mut part = [0; 4096];
            let n = stream.read(&mut part).unwrap();
            bytes.extend_from_slice(&part[..n]);
            if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap();
                let length = length.parse::<usize>().unwrap();
                bytes.drain(..end + 4);
                break (head.clone(), length);
            }
        };
        while bytes.len() < length {
            let mut part = [0; 4096];
            let n = stream.read(&mut part).unwrap();
            bytes.extend_from_slice(&part[..n]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        sender.send((head, bytes)).unwrap();
    });
    (endpoint, requests)
}

#[test]
fn spans_are_exported_over_http_with_headers_and_resource() {
    let (endpoint, requests) = collector();
    let secret = skep::config::Secret::new("hunter2");
    let settings = Telemetry { otlp_headers: vec![("x-key".into(), secret)], ..Telemetry::default() };
    // Inside a runtime, as in the service: the blocking client must not panic there.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let exporter = runtime.block_on(async { telemetry::otlp(&endpoint, &settings).unwrap() });
    let provider = telemetry::provider(exporter);
    let subscriber = tracing_subscriber::registry().with(telemetry::traces(&provider));
    tracing::subscriber::with_default(subscriber, || info_span!("land", run = "r-77").in_scope(|| {}));
    provider.shutdown_with_timeout(Duration::from_secs(5)).unwrap();
    let (head, body) = requests.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
    assert!(head.contains("x-key: hunter2") && head.contains("content-type: application/x-protobuf"), "{head}");
    let has = |text: &str| body.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(has("service.name") && has("service.version") && has("land") && has("r-77"));
    assert!(!has("hunter2"));
}

#[test]
fn a_dead_collector_does_not_delay_the_shutdown() {
    // A collector that accepts connections but never answers is worse than one that refuses them.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let settings = Telemetry { flush_timeout: Duration::from_secs(1), ..Telemetry::default() };
    let provider = telemetry::provider(telemetry::otlp(&endpoint, &settings).unwrap());
    let subscriber = tracing_subscriber::registry().with(telemetry::traces(&provider));
    tracing::subscriber::with_default(subscriber, || info_span!("lost").in_scope(|| {}));
    let before = Instant::now();
    let _ = provider.shutdown_with_timeout(settings.flush_timeout);
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
}

#[test]
fn live_secrets_are_redacted_in_lines_and_spans() {
    let value = "correct-horse-battery-staple";
    let _live = skep::secrets::register("PASS", &skep::secrets::Secret::new(value));
    let act = || {
        let span = info_span!("step", run = value, otel.status_code = "ERROR", otel.status_description = value);
        let _in = span.enter();
        info!(error = %format!("no {value}"), "said Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ==");
    };
    for json in [true, false] {
        let text = logged(json, "info", act);
        assert!(!text.contains("horse") && !text.contains("Y29y") && text.contains("[redacted:PASS]"), "{text}");
    }
    let exporter = InMemorySpanExporter::default();
    let provider = telemetry::provider(exporter.clone());
    let subscriber = tracing_subscriber::registry().with(telemetry::traces(&provider));
    tracing::subscriber::with_default(subscriber, act);
    provider.force_flush().unwrap();
    let spans = format!("{:?}", exporter.get_finished_spans().unwrap());
    assert!(!spans.contains("horse") && !spans.contains("Y29y"), "{spans}");
    assert!(spans.matches("[redacted:PASS]").count() >= 3, "{spans}");
}
