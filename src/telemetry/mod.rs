//! Logs, traces and metrics: sets them up, redacts them, and exports what is left at shutdown.
//!
//! Invariant: nothing is sent anywhere unless `telemetry.otlp_endpoint` is set.

mod clean;
mod lines;
mod metrics;
pub mod settings;
mod spans;
mod trace_context;

pub use crate::secrets::redact_all as redact;
pub use clean::{escape, is_unsafe_to_print};
pub use metrics::{Gauge, Label, MAX_MODELS, MAX_PROJECTS, Metrics, OTHER, TEXT_FORMAT, metrics};
pub use trace_context::{NotATraceparent, TraceContext};

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter};
use settings::{LogFormat, Telemetry};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

/// Reasons why telemetry cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A global subscriber is already installed.
    #[error("logging is already set up in this process")]
    Twice,
    /// The exporter cannot be created.
    #[error("cannot export to telemetry.otlp_endpoint: {0}")]
    Exporter(String),
}

/// Guard of the exporters. Dropping it exports what remains, for at most `telemetry.flush_timeout`.
#[must_use = "dropping the guard ends the export"]
#[derive(Debug)]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
    limit: Duration,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take() {
            // Both at once, so that together they take no longer than the limit.
            std::thread::scope(|scope| {
                scope.spawn(|| metrics::flush(self.limit));
                // A failure only loses traces, and it is too late to log it.
                let _ = provider.shutdown_with_timeout(self.limit);
            });
        }
    }
}

/// Installs the cryptography provider of TLS. Call it before the first HTTP client is created.
pub fn install_crypto() {
    // An error means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Sets up logging and tracing for this process. Log lines go to stderr, because stdout carries results.
///
/// # Errors
/// If a subscriber is already installed, or the exporter cannot be created.
pub fn init(settings: &Telemetry) -> Result<Guard, TelemetryError> {
    // The default hook prints the panic message without redaction.
    std::panic::set_hook(Box::new(|panic| eprintln!("{}", redact(&panic.to_string()))));
    let provider = match &settings.otlp_endpoint {
        None => None,
        Some(endpoint) => {
            metrics::export_to(otlp_metrics(endpoint, settings)?);
            Some(provider(otlp(endpoint, settings)?))
        }
    };
    let terminal = std::io::stderr().is_terminal();
    let json = match settings.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let logs = logs(&settings.log_level, json, terminal && std::env::var_os("NO_COLOR").is_none(), std::io::stderr);
    let traces = provider.as_ref().map(traces);
    let all = tracing_subscriber::registry().with(traces).with(logs);
    tracing::subscriber::set_global_default(all).map_err(|_| TelemetryError::Twice)?;
    Ok(Guard { provider, limit: settings.flush_timeout })
}

/// Creates the layer that writes log lines. Public for tests.
pub fn logs<S, W>(level: &str, json: bool, colour: bool, writer: W) -> impl Layer<S> + use<S, W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // SQL statements and connection details are logged only if the configured level names their target: later
    // directives win. genai logs provider responses verbatim; their errors are reported redacted elsewhere.
    let quiet = "sqlx=warn,sea_orm=warn,sea_orm_migration=warn,hyper=warn,hyper_util=warn,h2=warn,reqwest=warn,\
                 rustls=warn,opentelemetry=warn,opentelemetry_sdk=warn,opentelemetry-otlp=warn,ractor=warn,genai=off";
    let filter = match level {
        "off" => EnvFilter::new(level),
        "error" => EnvFilter::new("genai=off,error"),
        _ => EnvFilter::new(format!("{quiet},{level}")),
    };
    tracing_subscriber::fmt::layer()
        .fmt_fields(lines::SpanFields)
        .event_format(lines::Lines { json })
        .with_ansi(colour)
        .with_writer(writer)
        .with_filter(filter)
}

/// Creates the layer that turns spans into traces. Public for tests.
///
/// ractor keeps one span open per actor for the whole lifetime of the actor. Exported, it would be one endless trace
/// that contains everything, so it is excluded, as are the spans of the exporter's own HTTP client.
pub fn traces<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = Targets::new().with_default(LevelFilter::INFO).with_targets(
        [
            "ractor",
            "opentelemetry",
            "opentelemetry_sdk",
            "opentelemetry-otlp",
            "hyper",
            "hyper_util",
            "h2",
            "reqwest",
            "genai",
        ]
        .map(|target| (target, LevelFilter::OFF)),
    );
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("skep"))
        // Source locations and threads cost more than they help.
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(filter)
}

/// Describes this process.
fn resource() -> Resource {
    Resource::builder_empty()
        .with_service_name("skep")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Creates a tracer provider that passes spans to `exporter` in batches. Public for tests.
pub fn provider<E: SpanExporter + 'static>(exporter: E) -> SdkTracerProvider {
    SdkTracerProvider::builder().with_resource(resource()).with_batch_exporter(spans::Redacting(exporter)).build()
}

/// Creates the OTLP exporter of traces.
///
/// # Errors
/// If the HTTP client or the exporter cannot be created.
pub fn otlp(endpoint: &str, settings: &Telemetry) -> Result<opentelemetry_otlp::SpanExporter, TelemetryError> {
    let (client, headers) = client(settings)?;
    opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_timeout(export_timeout(settings))
        .with_headers(headers)
        .build()
        .map_err(|e| TelemetryError::Exporter(redact(&e.to_string()).into_owned()))
}

/// Creates the OTLP exporter of metrics.
fn otlp_metrics(endpoint: &str, settings: &Telemetry) -> Result<opentelemetry_otlp::MetricExporter, TelemetryError> {
    let (client, headers) = client(settings)?;
    opentelemetry_otlp::MetricExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(format!("{}/v1/metrics", endpoint.trim_end_matches('/')))
        .with_timeout(export_timeout(settings))
        .with_headers(headers)
        .build()
        .map_err(|e| TelemetryError::Exporter(redact(&e.to_string()).into_owned()))
}

fn export_timeout(settings: &Telemetry) -> Duration {
    settings.flush_timeout.max(Duration::from_secs(1))
}

/// Creates the HTTP client of an exporter, with its headers. It follows no redirects, because headers may hold a token,
/// and uses no proxy, because a collector is close by.
fn client(settings: &Telemetry) -> Result<(reqwest::blocking::Client, HashMap<String, String>), TelemetryError> {
    install_crypto();
    let limit = export_timeout(settings);
    let build = move || {
        reqwest::blocking::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(limit)
            .timeout(limit)
            .build()
    };
    // A blocking client starts its own runtime, which panics inside another one, so it is created on a thread.
    let client = std::thread::spawn(build)
        .join()
        .map_err(|_| TelemetryError::Exporter("cannot create the HTTP client".into()))?
        .map_err(|e| TelemetryError::Exporter(e.to_string()))?;
    let headers = settings.otlp_headers.iter().map(|(k, v)| (k.clone(), v.expose().to_owned())).collect();
    Ok((client, headers))
}
