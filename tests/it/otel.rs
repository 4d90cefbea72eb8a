//! The files for operators: they parse, and dashboards and alerts query only metrics that exist.

use skep::telemetry::metrics;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Metrics of other programs.
const OTHERS: [&str; 3] = ["otelcol_receiver_refused_spans_total", "otelcol_exporter_send_failed_spans_total", "up"];

/// Returns the names of all series of this program, without labels.
fn exposed() -> BTreeSet<String> {
    let m = metrics();
    m.observe_disk(&std::env::temp_dir());
    for table in
        [&m.runs, &m.slots, &m.questions, &m.oldest_question, &m.quarantined, &m.oldest_effect, &m.stale, &m.sandbox]
    {
        table.set(1.0);
    }
    for counter in [
        &m.attempts,
        &m.checks,
        &m.landings,
        &m.effect_failures,
        &m.tokens,
        &m.model_calls,
        &m.forge_requests,
        &m.messages,
    ] {
        counter.add(1, &[]);
    }
    m.cost.add(1.0, &[]);
    for gauge in
        [&m.budget_limit, &m.budget_used, &m.budget_reserved, &m.cooldown_end, &m.forge_quota, &m.forge_quota_limit]
    {
        gauge.set(1.0, &[]);
    }
    let histograms =
        [&m.run_state, &m.run, &m.rounds, &m.attempt, &m.check, &m.question_wait, &m.commit, &m.commit_size, &m.http];
    for histogram in histograms {
        histogram.record(1.0, &[]);
    }
    let text = m.text().unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
}

/// Returns the names of the metrics in a query: words that are followed by a selector, a range, an operator or the end,
/// and are neither functions nor labels.
fn queried(query: &str) -> BTreeSet<String> {
    // What stands in quotes, braces or after `by` and `on` is not a metric.
    let mut plain = String::new();
    let mut depth = 0;
    let mut quoted = false;
    for c in query.chars() {
        match c {
            '"' => quoted = !quoted,
            '{' if !quoted => depth += 1,
            '}' if !quoted => depth -= 1,
            _ if !quoted && depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let mut names = BTreeSet::new();
    for part in plain.split(" by (").enumerate().map(|(n, part)| match (n, part.split_once(')')) {
        (0, _) | (_, None) => part,
        (_, Some((_, rest))) => rest,
    }) {
        let words = part.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        names.extend(words.filter(|word| word.contains('_') || *word == "up").map(str::to_owned));
    }
    names.remove("histogram_quantile");
    names
}

#[test]
fn dashboards_and_alerts_query_metrics_that_exist() {
    let exposed = exposed();
    let mut queries = Vec::new();
    for name in ["skep", "skep-inside"] {
        let text = file(&format!("otel/grafana/dashboards/{name}.json"));
        let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(dashboard["uid"], name);
        let panels = dashboard["panels"].as_array().unwrap();
        assert!(panels.len() >= 12);
        let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
        queries.extend(targets.map(|target| target["expr"].as_str().unwrap().to_owned()));
    }
    let alerts: Vec<String> = expressions(&file("otel/prometheus/alerts.yml"));
    assert!(alerts.len() >= 15);
    queries.extend(alerts);
    let mut found = 0;
    for query in &queries {
        let names = queried(query);
        assert!(!names.is_empty(), "{query}");
        for name in names {
            assert!(exposed.contains(&name) || OTHERS.contains(&name.as_str()), "{name} in {query}: {exposed:#?}");
            found += 1;
        }
    }
    assert!(found > queries.len());
    // The tests of the rules use the same names.
    for line in
        file("otel/prometheus/alerts.test.yml").lines().filter_map(|line| line.trim().strip_prefix("- series: "))
    {
        let name = line.trim_matches('\'').split('{').next().unwrap();
        let known = exposed.contains(name) || OTHERS.contains(&name) || name == "other";
        assert!(known, "{name}");
    }
}

/// Returns the expressions of the alert rules.
fn expressions(rules: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rule in rules.split("- alert: ").skip(1) {
        let (_, rest) = rule.split_once("expr: |").unwrap();
        found.push(rest.split_once("\n        for:").unwrap().0.to_owned());
    }
    found
}

#[test]
fn a_name_that_no_program_exposes_is_found() {
    let queried = |text: &str| queried(text).into_iter().collect::<Vec<_>>();
    assert_eq!(queried("sum by (le_x) (rate(a_b_bucket{c_d=\"e_f\"}[5m])) / g_h"), ["a_b_bucket", "g_h"]);
    assert!(!exposed().contains("skep_calls_total"));
}

#[test]
fn promtool_accepts_the_rules_and_each_fires_when_it_must() {
    for args in [["check", "rules", "otel/prometheus/alerts.yml"], ["test", "rules", "otel/prometheus/alerts.test.yml"]]
    {
        let mut command = Command::new("promtool");
        let Ok(output) = command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output() else {
            eprintln!("skipped: promtool is missing; install it with `apt-get install prometheus`");
            break;
        };
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
    let (rules, tests) = (file("otel/prometheus/alerts.yml"), file("otel/prometheus/alerts.test.yml"));
    for rule in rules.split("- alert: ").skip(1).map(|rule| rule.lines().next().unwrap()) {
        for case in ["fires", "is quiet"] {
            assert!(tests.contains(&format!("- name: {rule} {case}\n")), "{rule} {case}");
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
