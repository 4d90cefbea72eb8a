//! Errors of a provider: passed on without the key, recorded for the engine, and followed by a cooldown if requested.

use crate::support::provider::{KEY, Scripted, answer, base, client, meter, open, provider, proxy};
use axum::body::{Body, Bytes};
use serde_json::json;
use skep::domain::Usage;
use skep::platform::clock::SystemClock;
use skep::platform::egress::ProxySession;
use skep::ports::Clock;
use skep::providers::meter::Meter;
use skep::providers::settings::{Api, Provider};
use std::sync::Arc;
use std::time::Duration;

const JSON: &str = "application/json";

async fn ask(opened: &ProxySession) -> (u16, reqwest::header::HeaderMap, String) {
    let body = json!({ "model": "m", "max_tokens": 10 });
    let response =
        client().post(format!("{}/chat/completions", base(opened))).json(&body).send().await.expect("an answer");
    (response.status().as_u16(), response.headers().clone(), response.text().await.unwrap_or_default())
}

fn one(provider: Provider) -> (skep::platform::egress::EgressProxy, Arc<Meter>, ProxySession) {
    let (proxy, meter) = (proxy(), meter(Usage::default()));
    let opened = open(&proxy, vec![provider], &[], &meter);
    (proxy, meter, opened)
}

#[tokio::test]
async fn each_error_is_passed_on_and_recorded_and_costs_nothing() {
    let echoed = format!(r#"{{"error":{{"message":"Incorrect API key provided: {KEY}"}}}}"#);
    let table: [(u16, &str, u16, &str, Option<&str>); 9] = [
        (401, &echoed, 401, "rejected its key", Some("environment variable P_KEY")),
        (403, &echoed, 403, "rejected its key", Some("environment variable P_KEY")),
        (404, r#"{"error":{"message":"no such model"}}"#, 404, "no such model", Some("does not serve the model m")),
        (429, r#"{"error":{"code":"insufficient_quota","message":"pay"}}"#, 429, "pay", Some("add credit to")),
        (402, "", 402, "returned 402", Some("add credit to")),
        (500, "<html>\u{1b}[31mdown</html>", 500, "<html>down</html>", None),
        (
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            529,
            "Overloaded",
            None,
        ),
        (503, r#"[{"error":{"code":503,"message":"busy"}}]"#, 503, "busy", None),
        (307, "", 502, "returned 307", Some("the address redirects")),
    ];
    for (status, body, seen, says, fix) in table {
        let server = Scripted::always(status, JSON, body).await;
        let (_gate, meter, opened) = one(provider(Api::OpenAi, server.at));
        let (got, headers, reply) = ask(&opened).await;
        assert_eq!(got, seen, "{status}: {reply}");
        assert!(!reply.contains(KEY) && headers.get("location").is_none());
        let fault = opened.fault().expect("noted");
        assert_eq!((fault.provider.as_str(), fault.status), ("p", Some(status)));
        assert!(fault.why.contains(says) && reply.contains("Skep: provider"), "{status}: {fault:?}");
        assert!(!fault.why.contains(KEY) && !fault.why.contains('\u{1b}'));
        assert_eq!(fault.fix.as_deref().map(|f| f.contains(fix.unwrap_or("?"))), fix.map(|_| true), "{fault:?}");
        assert_eq!(meter.committed(), Usage::default(), "{status}");
        assert_eq!(server.asked().len(), 1, "asked once, not again");
    }
    // An invalid request is the agent's own mistake.
    let server = Scripted::always(400, JSON, r#"{"error":{"message":"bad schema"}}"#).await;
    let (_gate, _meter, opened) = one(provider(Api::OpenAi, server.at));
    let (status, _, reply) = ask(&opened).await;
    assert!(status == 400 && reply.contains("bad schema"));
    assert_eq!(opened.fault(), None);
}

#[tokio::test]
async fn a_cooldown_applies_to_all_sessions() {
    let server = Scripted::start(|arrived| {
        Box::pin(async move {
            let mut response = answer(if arrived.json()["model"] == "m" { 429 } else { 200 }, JSON, "{}");
            response.headers_mut().insert("retry-after", "7200".parse().expect("a header"));
            response
        })
    })
    .await;
    let (proxy, _, opened) = one(provider(Api::OpenAi, server.at));
    let now = SystemClock.now();
    let (status, headers, _) = ask(&opened).await;
    assert_eq!((status, headers.get("retry-after").map(|v| v.as_bytes())), (429, Some(&b"7200"[..])));
    let until = opened.fault().and_then(|f| f.until).expect("a time");
    assert!((7_199_000..7_300_000).contains(&(until.0 - now.0)));
    // Another attempt does not call the same model of the provider again, but may call another model.
    let poor = meter(Usage::default());
    let other = open(&proxy, vec![provider(Api::OpenAi, server.at)], &[], &poor);
    let (status, headers, reply) = ask(&other).await;
    assert_eq!((status, headers.contains_key("retry-after")), (429, true), "{reply}");
    assert_eq!((server.asked().len(), other.fault().and_then(|f| f.until)), (1, Some(until)));
    assert_eq!(poor.committed(), Usage::default());
    let body = json!({ "model": "other", "max_tokens": 10 });
    let response =
        client().post(format!("{}/chat/completions", base(&other))).json(&body).send().await.expect("an answer");
    assert_eq!((response.status().as_u16(), other.fault()), (200, None));
    assert_eq!(proxy.limits().for_provider(&provider(Api::OpenAi, server.at)).cooldown_until("m"), Some(until));
}

#[tokio::test]
async fn an_unreachable_provider_costs_nothing_and_a_silent_one_the_worst_case() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let (_gate, meter, opened) = one(provider(Api::OpenAi, unused));
    let (status, _, reply) = ask(&opened).await;
    assert!(status == 502 && reply.contains("did not respond"), "{status} {reply}");
    assert_eq!((opened.fault().map(|f| f.status), meter.committed()), (Some(None), Usage::default()));
    let silent = Scripted::start(|_| Box::pin(futures::future::pending())).await;
    let mut slow = provider(Api::OpenAi, silent.at);
    slow.idle_timeout = Duration::from_millis(50);
    let (_gate, meter, opened) = one(slow);
    let (status, _, reply) = ask(&opened).await;
    assert!(status == 504 && reply.contains("no response within"), "{status} {reply}");
    assert_eq!(meter.usage().turns, 1);
    // The provider starts to respond, then stalls.
    let stuck = Scripted::start(|_| {
        Box::pin(async {
            let first =
                futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from("data: {\"choices\":[],\"x\":1}\n\n"))]);
            answer(
                200,
                "text/event-stream",
                Body::from_stream(futures::StreamExt::chain(first, futures::stream::pending())),
            )
        })
    })
    .await;
    let mut slow = provider(Api::OpenAi, stuck.at);
    slow.idle_timeout = Duration::from_millis(200);
    let (_gate, meter, opened) = one(slow);
    let (status, ..) = ask(&opened).await;
    assert_eq!((status, meter.usage().turns, meter.committed()), (200, 1, meter.usage()));
}

#[tokio::test]
async fn garbage_is_rejected_before_it_costs_anything() {
    let server = Scripted::always(200, JSON, "{}").await;
    let (_gate, meter, opened) = one(provider(Api::OpenAi, server.at));
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"[]".to_vec(),
        b"{".to_vec(),
        b"{}".to_vec(),
        b"\xff\xfe".to_vec(),
        br#"{"model":7}"#.to_vec(),
        br#"{"model":"a\nb"}"#.to_vec(),
        format!(r#"{{"model":"{}"}}"#, "x".repeat(200)).into_bytes(),
        deep.into_bytes(),
        br#"{"model":"m","n":100000}"#.to_vec(),
    ];
    for body in bodies {
        let response = client()
            .post(format!("{}/chat/completions", base(&opened)))
            .body(body.clone())
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), 400, "{}", String::from_utf8_lossy(&body[..body.len().min(80)]));
    }
    let request = client().post(format!("{}/chat/completions", base(&opened)));
    let packed = request.header("content-encoding", "gzip").body("x").send().await.expect("an answer");
    assert_eq!(packed.status(), 415);
    assert!(server.asked().is_empty());
    assert_eq!(meter.committed(), Usage::default());
}
