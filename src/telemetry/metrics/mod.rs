//! Metrics: one set of OpenTelemetry instruments for this process, read as Prometheus text and exported over OTLP.
//!
//! Invariant: no label holds an id, a person, a path or free text. Labels whose values come from outside are bounded by
//! [`labels`].

mod instruments;
mod kinds;
mod labels;
mod process;

pub use instruments::Instruments;
pub use kinds::Gauge;
pub use labels::{Label, MAX_MODELS, MAX_PROJECTS, OTHER};

use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::{Encoder, Registry, TextEncoder};
use std::ops::Deref;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

/// Media type of [`Metrics::text`].
pub const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;
/// Interval at which metrics are exported over OTLP.
const EXPORT_INTERVAL: Duration = Duration::from_secs(30);

static METRICS: OnceLock<Metrics> = OnceLock::new();

/// Returns the metrics of this process.
pub fn metrics() -> &'static Metrics {
    METRICS.get_or_init(|| Metrics::new(builder()))
}

/// Creates the metrics of this process with an OTLP exporter. Has no effect once they exist.
pub(super) fn export_to<E: PushMetricExporter>(exporter: E) {
    METRICS.get_or_init(|| {
        let reader = PeriodicReader::builder(exporter).with_interval(EXPORT_INTERVAL).build();
        Metrics::new(builder().with_reader(reader))
    });
}

/// Exports what was not exported yet.
pub(super) fn flush(limit: Duration) {
    if let Some(metrics) = METRICS.get() {
        // A failure only loses measurements, and it is too late to log it.
        let _ = metrics.provider.shutdown_with_timeout(limit);
    }
}

fn builder() -> opentelemetry_sdk::metrics::MeterProviderBuilder {
    SdkMeterProvider::builder().with_resource(super::resource())
}

/// Instruments of a process, and the reader for Prometheus.
#[derive(Debug)]
pub struct Metrics {
    provider: SdkMeterProvider,
    registry: Registry,
    instruments: Instruments,
}

impl Deref for Metrics {
    type Target = Instruments;

    fn deref(&self) -> &Instruments {
        &self.instruments
    }
}

impl Metrics {
    fn new(builder: opentelemetry_sdk::metrics::MeterProviderBuilder) -> Metrics {
        let registry = Registry::new();
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .scope_info_enabled(false)
            .build();
        let builder = match reader {
            Ok(reader) => builder.with_reader(reader),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be read as Prometheus text");
                builder
            }
        };
        let provider = builder.build();
        let meter = provider.meter("skep");
        process::observe(&meter);
        let instruments = Instruments::new(&meter);
        Metrics { provider, registry, instruments }
    }

    /// Returns the current values in the Prometheus text format.
    ///
    /// # Errors
    /// If the values cannot be encoded.
    pub fn text(&self) -> Result<String, String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).map_err(|e| e.to_string())?;
        String::from_utf8(text).map_err(|e| e.to_string())
    }

    /// Reports the free space of the file system that holds the data directory, from now on.
    pub fn observe_disk(&self, data_dir: &Path) {
        process::observe_disk(&self.provider.meter("skep"), data_dir.to_owned());
    }
}
