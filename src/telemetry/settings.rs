//! Settings of logs, traces and metrics, as the configuration fills them in.

use crate::secrets::Secret;
use std::net::SocketAddr;
use std::time::Duration;

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object per line.
    Json,
}

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// OTLP endpoint without `/v1/traces`; `None` = nothing is exported.
    pub otlp_endpoint: Option<String>,
    /// Headers of export requests.
    pub otlp_headers: Vec<(String, Secret)>,
    /// Loopback address that serves the metrics without a token; `None` = none.
    pub metrics_listen: Option<SocketAddr>,
    /// Time that a clean shutdown waits for the last traces and metrics.
    pub flush_timeout: Duration,
    /// Format of log lines.
    pub log_format: LogFormat,
    /// A level, or filter directives.
    pub log_level: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            otlp_headers: Vec::new(),
            metrics_listen: None,
            flush_timeout: Duration::from_secs(3),
            log_format: LogFormat::Auto,
            log_level: "info".into(),
        }
    }
}
