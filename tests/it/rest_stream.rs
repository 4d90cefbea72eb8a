//! The event stream sends every committed row once, in order, wherever the watcher reconnects.

use crate::support::rest::{Service, request, service};
use axum::body::Body;
use axum::http::Method;
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

/// An event as a browser receives it: id, name, data.
type SentEvent = (Option<u64>, String, Value);

/// Reads a stream until it ends or has sent `max_rows` journal rows.
async fn watch(s: &Service, path: &str, last: Option<u64>, max_rows: usize) -> Vec<SentEvent> {
    let mut builder = request(Method::GET, path);
    if let Some(last) = last {
        builder = builder.header("last-event-id", last);
    }
    let response = s.router.clone().oneshot(builder.body(Body::empty()).expect("a request")).await.expect("infallible");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut bytes = response.into_body().into_data_stream();
    let (mut text, mut seen) = (String::new(), Vec::new());
    let read = async {
        while let Some(chunk) = bytes.next().await {
            text.push_str(std::str::from_utf8(&chunk.expect("a chunk")).expect("UTF-8"));
            while let Some((block, rest)) = text.split_once("\n\n") {
                seen.extend(event(block));
                text = rest.to_owned();
            }
            if seen.iter().filter(|e: &&SentEvent| e.0.is_some()).count() >= max_rows {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("the stream continues");
    seen
}

fn event(block: &str) -> Option<SentEvent> {
    let field = |name: &str| block.lines().find_map(|l| l.strip_prefix(name)).map(str::trim_start);
    let data = field("data:")?;
    let id = field("id:").map(|id| id.parse().expect("a number"));
    Some((id, field("event:").unwrap_or("message").to_owned(), serde_json::from_str(data).expect("JSON")))
}

fn rows(seen: &[SentEvent]) -> Vec<u64> {
    seen.iter().filter_map(|e| e.0).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_reconnects_misses_and_repeats_nothing() {
    let s = service().await;
    let run = s.open_run("make it two").await;
    let id = run["id"].as_str().expect("an id");
    let path = format!("/api/v1/runs/{id}/stream");
    // While the run is active: a few rows, disconnect, reconnect, a few more.
    let mut all = Vec::new();
    for _ in 0..3 {
        let last = rows(&all).last().copied();
        all.extend(watch(&s, &path, last, 2).await);
    }
    let blocked = s.until(id, "blocked").await;
    let seq = blocked["seq"].as_u64().expect("a number");
    let (at, last) = (format!("{path}?after={}", rows(&all).len()), rows(&all).len() as u64);
    all.extend(watch(&s, &at, None, (seq - last) as usize).await);
    // From the last row known to the end of the run, live.
    let live = watch(&s, &path, Some(seq), usize::MAX);
    let approve = async {
        let reply = s.post(&format!("/api/v1/runs/{id}/actions/approve"), &json!({})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    let (live, ()) = tokio::join!(live, approve);
    all.extend(live);

    let done = s.until(id, "completed").await;
    assert_eq!(rows(&all), (1..=done["seq"].as_u64().expect("a number")).collect::<Vec<_>>());
    let (end_id, name, data) = all.last().expect("an end");
    assert_eq!((end_id, name.as_str(), &data["status"]), (&None, "end", &json!("completed")));
    for (id, name, data) in all.iter().filter(|e| e.0.is_some()) {
        assert_eq!((Some(*name == data["name"]), data["seq"].as_u64()), (Some(true), *id), "{data}");
    }
    // Reading the stream again sends the same rows; after the last row, only the end is sent.
    let again = watch(&s, &path, None, usize::MAX).await;
    assert_eq!(rows(&again), rows(&all));
    let after = watch(&s, &path, done["seq"].as_u64(), usize::MAX).await;
    assert_eq!((after.len(), after[0].1.as_str()), (1, "end"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_names_every_run_that_moves() {
    let s = service().await;
    let sent = request(Method::GET, "/api/v1/stream").body(Body::empty()).expect("a request");
    let response = s.router.clone().oneshot(sent).await.expect("infallible");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"text/event-stream".parse().expect("a header"))
    );
    let runs = [s.open_run("make it two").await, s.open_run("make it three").await];
    let mut missing: Vec<&str> = runs.iter().map(|run| run["id"].as_str().expect("an id")).collect();
    let (mut bytes, mut text, mut names) = (response.into_body().into_data_stream(), String::new(), Vec::new());
    let read = async {
        while !missing.is_empty() {
            text.push_str(std::str::from_utf8(&bytes.next().await.expect("more").expect("a chunk")).expect("UTF-8"));
            while let Some((block, rest)) = text.split_once("\n\n") {
                if let Some((id, name, data)) = event(block) {
                    assert_eq!(id, None, "nothing is promised that could be resumed");
                    missing.retain(|run| data["run"] != *run);
                    assert!(name == "hello" || data["seq"].as_u64().is_some_and(|seq| seq > 0), "{name} {data}");
                    names.push(name);
                }
                text = rest.to_owned();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("both runs move");
    assert_eq!((names[0].as_str(), names[1].as_str()), ("hello", "moved"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_limited_and_invalid_positions_refused() {
    let s = service().await;
    let run = s.open_run("make it two").await;
    let path = format!("/api/v1/runs/{}/stream", run["id"].as_str().expect("an id"));
    for wrong in ["x", "-1", "1.5", ""] {
        let request =
            request(Method::GET, &path).header("last-event-id", wrong).body(Body::empty()).expect("a request");
        s.send(request).await.is_problem(400, "last_event_id");
    }
    let permits = s.state.streams.available_permits();
    let all = s.state.streams.clone().try_acquire_many_owned(permits as u32).expect("no stream is open");
    let busy = s.get(&path).await;
    busy.is_problem(503, "busy");
    assert_eq!(busy.header("retry-after"), "5");
    drop(all);
    assert!(!watch(&s, &path, None, 1).await.is_empty());
    assert_eq!(s.state.streams.available_permits(), permits, "a watcher that leaves returns its permit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_notification_costs_time_but_no_row() {
    let s = service().await;
    let run = s.open_run("make it two").await;
    let id = run["id"].as_str().expect("an id");
    let seq = s.until(id, "blocked").await["seq"].as_u64().expect("a number");
    // A watcher that is notified only about other runs still receives every committed row.
    let noise = async {
        for _ in 0..40 {
            for _ in 0..200 {
                let run = skep::domain::RunId(uuid::Uuid::now_v7());
                s.ports.deps.notifications.send(skep::actors::Notification::Moved { run, seq: 1 });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let path = format!("/api/v1/runs/{id}/stream");
    let pause = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(s.post(&format!("/api/v1/runs/{id}/actions/pause"), &json!({})).await.status, 200);
    };
    let (seen, (), ()) = tokio::join!(watch(&s, &path, Some(seq), 1), noise, pause);
    assert_eq!(rows(&seen), [seq + 1]);
}
