//! The files for operators: they parse, and the dashboard and the alerts query only metrics that exist.

use std::path::Path;

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Returns the names in a query that look like metrics.
fn metrics(query: &str) -> Vec<&str> {
    query
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|w| w.starts_with("skep_") || w.starts_with("otelcol_"))
        .collect()
}

const KNOWN: [&str; 5] = [
    "skep_calls_total",
    "skep_duration_seconds_bucket",
    "otelcol_receiver_accepted_spans_total",
    "otelcol_receiver_refused_spans_total",
    "otelcol_exporter_send_failed_spans_total",
];

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_exist() {
    let dashboard: serde_json::Value = serde_json::from_str(&file("otel/grafana/dashboards/skep.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 8);
    let targets = panels.iter().flat_map(|p| p["targets"].as_array().unwrap());
    let mut queries: Vec<String> = targets.map(|t| t["expr"].as_str().unwrap().to_owned()).collect();
    queries.push(file("otel/prometheus/alerts.yml"));
    for query in &queries {
        assert!(!metrics(query).is_empty(), "{query}");
        for metric in metrics(query) {
            assert!(KNOWN.contains(&metric), "{metric} in {query}");
        }
    }
}

#[test]
fn compose_has_no_default_password_no_open_port_and_no_floating_image() {
    let compose = file("docker-compose.yml");
    for line in compose.lines().map(str::trim) {
        if let Some(image) = line.strip_prefix("image: ") {
            let tag = image.rsplit_once(':').map(|(_, tag)| tag);
            assert!(tag.is_some_and(|t| t != "latest"), "{line}");
        }
        if line.contains("PASSWORD") {
            assert!(line.contains(":?") || line.starts_with('#'), "{line}");
        }
        if line.starts_with("- \"") && line.matches(':').count() >= 1 && line.ends_with("\"") && !line.contains('=') {
            assert!(line.starts_with("- \"127.0.0.1:"), "{line}");
        }
    }
    assert!(file(".env.example").lines().filter(|l| !l.starts_with('#')).all(|l| l.ends_with('=')));
}
