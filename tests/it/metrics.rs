//! Metrics equal the ledger, stay few whatever runs and models are called, and are read by those who may.

use crate::support::baseline::{Baseline, ROLES, RUN, priced, usual};
use crate::support::fixtures::{opened, roomy_policy};
use crate::support::models::Models;
use crate::support::process::{Manner, simulate};
use crate::support::provider;
use crate::support::rest::service;
use crate::support::rng::Rng;
use crate::support::world::World;
use skep::actors::measure;
use skep::domain::{Event, ProjectName, Run, Usage, decide, open};
use skep::providers::settings::Api;
use skep::telemetry::metrics;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

/// A series: its name with its labels, and its value.
fn series(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.rsplit_once(' ').map(|(s, v)| (s.to_owned(), v.parse().unwrap())).unwrap()).collect()
}

/// Returns the sum of the series of a metric.
fn sum(series: &BTreeMap<String, f64>, metric: &str) -> f64 {
    let is_it = |name: &str| name == metric || name.strip_prefix(metric).is_some_and(|rest| rest.starts_with('{'));
    series.iter().filter(|(name, _)| is_it(name)).map(|(_, value)| value).sum()
}

/// Tokens, micro-USD and calls, as the metrics say.
fn spent(series: &BTreeMap<String, f64>) -> (u64, u64, u64) {
    let cost = sum(series, "skep_cost_usd_total") * 1_000_000.0;
    let whole = |name| sum(series, name) as u64;
    (whole("skep_tokens_total"), cost.round() as u64, whole("skep_model_calls_total"))
}

/// Simulates a run and measures each of its transitions.
fn measured(seed: u64, projects: u64) -> Run {
    let mut opened = opened(roomy_policy(&mut Rng(seed)));
    opened.project = ProjectName::new(&format!("p{}", seed % projects)).unwrap();
    let mut world = World::new(seed, &opened.base);
    (world.outages, world.lies) = (seed % 3 == 0, seed % 2 == 0);
    let manner = Manner { helped: true, wild: true, crash_percent: 2, crash_after: Vec::new(), checked: false };
    let ended = simulate(opened, world, Rng(seed), manner).unwrap();
    let mut run: Option<Run> = None;
    for (event, at) in &ended.journal {
        let next = match (&run, event) {
            (None, Event::Opened(opened)) => open(opened, *at).unwrap(),
            (Some(run), event) => decide(run, event, *at).unwrap(),
            (None, _) => panic!("a journal begins with its opening"),
        };
        if let Some(before) = &run {
            measure(before, &next.run, event, *at);
        }
        run = Some(next.run);
    }
    run.unwrap()
}

#[test]
fn a_thousand_runs_add_up_to_their_ledgers_and_make_few_series() {
    let mut all = Usage::default();
    let mut ended = 0.0;
    for seed in 0..1_000 {
        let run = measured(seed, 20);
        all = all.plus(run.ledger.spent);
        ended += f64::from(u8::from(run.ended()));
    }
    let series = series(&metrics().text().unwrap());
    assert!(all.tokens > 100_000 && all.cost_micros > 10_000, "{all:?}");
    assert_eq!(spent(&series), (all.tokens, all.cost_micros, all.turns));
    assert_eq!(sum(&series, "skep_run_duration_seconds_count"), ended);
    // The conventions for generative AI say the same.
    let of = |name: &str| sum(&series, &format!("gen_ai_client_inference_usage_{name}_tokens_total"));
    let unknown: f64 =
        series.iter().filter(|(name, _)| name.contains("kind=\"unknown\"")).map(|(_, tokens)| tokens).sum();
    assert_eq!(of("input") + of("output") + unknown, all.tokens as f64);
    assert!(of("cache_read_input") <= of("input"));
    assert_eq!(sum(&series, "gen_ai_invoke_workflow_duration_seconds_count"), ended);
    assert_eq!(sum(&series, "gen_ai_invoke_agent_duration_seconds_count"), sum(&series, "skep_attempts_total"));
    assert!(series.len() <= 3_500, "{} series", series.len());
    for name in series.keys() {
        assert!(!name.contains("otel_") && name.len() < 300, "{name}");
    }
}

#[test]
fn names_from_outside_add_a_bounded_number_of_series() {
    for n in 0..5_000 {
        let (project, model) = (format!("project-{n}"), format!("acme/m{n}\n{{}}\""));
        metrics().cost.add(0.5, &[("project", &project), ("role", "dev"), ("model", &model)]);
    }
    let text = metrics().text().unwrap();
    let series = series(&text);
    assert_eq!(sum(&series, "skep_cost_usd_total"), 2_500.0, "nothing is lost");
    let count = series.keys().filter(|name| name.starts_with("skep_cost_usd_total")).count();
    assert_eq!(count, skep::telemetry::MAX_PROJECTS + 1);
    assert!(text.contains("project=\"_other\"") && text.contains("model=\"_other\"") && !text.contains("acme"));
}

/// Runs promtool with this input. Says so if it is missing.
fn promtool(args: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: promtool is missing; install it with `apt-get install prometheus`");
        return;
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.is_empty(), "promtool {args:?}: {text}");
}

/// A free port of this machine.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_scraped_without_a_token_on_loopback_and_equals_its_ledger() {
    let port = free_port();
    let roles = format!("{ROLES}[telemetry]\nmetrics_listen = \"127.0.0.1:{port}\"\n");
    let baseline = Baseline::new(Models::responding(usual).await, Api::Anthropic, &roles);
    let _service = baseline.serve();
    baseline.run(RUN).exits_with(0);
    let served = baseline.models.served();
    let (tokens, micros) = priced(&served);
    let client = provider::client();
    let open = format!("http://127.0.0.1:{port}/metrics");
    let reply = client.get(&open).send().await.unwrap();
    assert_eq!(reply.headers()["content-type"], skep::telemetry::TEXT_FORMAT);
    let text = reply.text().await.unwrap();
    promtool(&["check", "metrics"], &text);
    let found = series(&text);
    assert_eq!(spent(&found), (tokens, micros, served.len() as u64));
    for (name, value) in [
        ("skep_landings_total{project=\"tool\",result=\"landed\"}", 1.0),
        ("skep_attempts_total{engine=\"llm:acme/cheap\",outcome=\"succeeded\",project=\"tool\",role=\"dev\"}", 1.0),
        ("skep_run_duration_seconds_count{outcome=\"delivered\",project=\"tool\"}", 1.0),
        (
            "gen_ai_invoke_workflow_duration_seconds_count{gen_ai_operation_name=\"invoke_workflow\",\
             gen_ai_workflow_name=\"skep.run\"}",
            1.0,
        ),
        (
            "gen_ai_invoke_agent_duration_seconds_count{gen_ai_agent_name=\"dev\",\
             gen_ai_operation_name=\"invoke_agent\"}",
            1.0,
        ),
        ("skep_slots{state=\"busy\"}", 0.0),
        ("skep_scrape_stale", 0.0),
        ("skep_sandbox_usable", 1.0),
        ("skep_question_oldest_age_seconds", 0.0),
    ] {
        assert_eq!(found.get(name), Some(&value), "{name} in\n{text}");
    }
    for name in ["process_cpu_time_seconds_total", "process_memory_usage_bytes", "skep_disk_free_bytes"] {
        assert!(sum(&found, name) > 0.0, "{name} in\n{text}");
    }
    for name in ["skep_store_commit_duration_seconds_count", "http_server_request_duration_seconds_count"] {
        assert!(sum(&found, name) > 5.0, "{name} in\n{text}");
    }

    // The model is named as the conventions do.
    let usage = |name: &str, model: &str| {
        let labels = format!(
            "{{gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"acme\",gen_ai_request_model=\"{model}\"}}"
        );
        found.get(&format!("gen_ai_client_inference_usage_{name}_tokens_total{labels}")).copied().unwrap_or_default()
    };
    assert!(usage("input", "cheap") > 0.0 && usage("output", "cheap") > 0.0, "{text}");
    assert_eq!(
        sum(&found, "gen_ai_client_inference_usage_input_tokens_total")
            + sum(&found, "gen_ai_client_inference_usage_output_tokens_total"),
        tokens as f64,
        "{text}"
    );
    let merged = found.get("vcs_change_time_to_merge_seconds{vcs_repository_name=\"tool\"}");
    assert!(merged.is_some_and(|secs| *secs < 600.0), "{text}");

    // Nothing but metrics is there, and only for this machine's own names.
    let other = client.get(format!("http://127.0.0.1:{port}/api/v1/runs")).send().await.unwrap();
    assert_eq!(other.status(), 404);
    let rebound = client.get(&open).header("host", "evil.example").send().await.unwrap();
    assert_eq!(rebound.status(), 421);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_and_open_runs_are_counted_and_a_missing_store_delays_no_scrape() {
    let s = service().await;
    let run = s.open_run("two").await;
    s.until(run["id"].as_str().unwrap(), "blocked").await;
    let reply = s.get("/metrics").await;
    assert_eq!(reply.header("content-type"), skep::telemetry::TEXT_FORMAT);
    let found = series(&reply.text);
    assert_eq!(sum(&found, "skep_questions"), 1.0, "{}", reply.text);
    assert_eq!(found["cicd_pipeline_run_active{cicd_pipeline_run_state=\"executing\",project=\"origin\"}"], 1.0);
    assert!(found["skep_question_oldest_age_seconds"] < 60.0);
    // A value that no longer exists is not reported for ever.
    metrics().questions.replace([([("project", "gone"), ("code", "tries")], 3.0)]);
    metrics().questions.replace([([("project", "here"), ("code", "tries")], 2.0)]);
    let text = metrics().text().unwrap();
    assert!(text.contains("project=\"here\"") && !text.contains("project=\"gone\""), "{text}");

    let away = skep::service::Services {
        store: std::sync::Arc::new(crate::support::away::Away),
        monitor: std::sync::Arc::default(),
        ..s.state.services.clone()
    };
    let began = std::time::Instant::now();
    let text = skep::service::metrics::text(&away).await.unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "the bound is one second");
    let found = series(&text);
    assert_eq!(found["skep_scrape_stale"], 1.0);
    assert_eq!(found["skep_questions{code=\"tries\",project=\"here\"}"], 2.0, "the last values stay");
}
