//! Metering of model calls: usage, reservations, caps.

use crate::support::provider::{Scripted, answer, base, client, meter, open, provider, proxy};
use axum::body::{Body, Bytes};
use serde_json::{Value, json};
use skep::domain::Usage;
use skep::providers::meter::Cap;
use skep::providers::settings::Api;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

const SSE: &str = "text/event-stream";
const JSON: &str = "application/json";

fn caps(tokens: u64, cost_micros: u64, turns: u64) -> Usage {
    Usage { tokens, cost_micros, turns, wall_ms: 0 }
}

#[tokio::test]
async fn usage_is_read_for_every_api() {
    let chat = json!({ "choices": [], "usage": { "prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": { "cached_tokens": 60 } } });
    let table: [(Api, &str, Value, &str, String); 8] = [
        (Api::Anthropic, "v1/messages", json!({ "max_tokens": 50 }), JSON,
            json!({ "type": "message", "usage": { "input_tokens": 30, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 10, "output_tokens": 20 } }).to_string()),
        (Api::Anthropic, "v1/messages", json!({ "max_tokens": 50, "stream": true }), SSE,
            "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":40,\"cache_read_input_tokens\":60,\"output_tokens\":1}}}\n\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":20}}\n\n".to_owned()),
        (Api::OpenAi, "v1/chat/completions", json!({ "max_tokens": 50 }), JSON, chat.to_string()),
        (Api::OpenAi, "chat/completions", json!({ "stream": true }), SSE, format!("data: {chat}\n\ndata: [DONE]\n\n")),
        (Api::OpenAiResponses, "responses", json!({ "max_output_tokens": 50 }), JSON,
            json!({ "usage": { "input_tokens": 100, "output_tokens": 20, "input_tokens_details": { "cached_tokens": 60 } } }).to_string()),
        (Api::OpenAiResponses, "responses", json!({ "stream": true }), SSE,
            "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":100,\"output_tokens\":20,\"input_tokens_details\":{\"cached_tokens\":60}}}}\n\n".to_owned()),
        (Api::Gemini, "v1beta/models/m:streamGenerateContent?alt=sse", json!({}), SSE,
            "data: {\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":100,\"candidatesTokenCount\":15,\"thoughtsTokenCount\":5,\"cachedContentTokenCount\":60}}\n\n".to_owned()),
        (Api::Ollama, "api/chat", json!({}), "application/x-ndjson", "{\"done\":false}\n{\"done\":true,\"prompt_eval_count\":100,\"eval_count\":20}\n".to_owned()),
    ];
    for (api, path, mut body, kind, answer) in table {
        let server = Scripted::always(200, kind, answer.clone()).await;
        let (proxy, meter) = (proxy(), meter(Usage::default()));
        let opened = open(&proxy, vec![provider(api, server.at)], &[], &meter);
        body["model"] = json!("m");
        let response = client().post(format!("{}/{path}", base(&opened))).json(&body).send().await.expect("an answer");
        assert_eq!(response.text().await.expect("a body"), answer, "{api:?}: untouched");
        assert_eq!(meter.usage(), caps(120, 100 + 200, 1), "{api:?} {kind}");
        let usage_by_model = meter.usage_by_model();
        assert_eq!(
            (usage_by_model.len(), usage_by_model[0].model.as_str(), usage_by_model[0].priced),
            (1, "p/m", true)
        );
        assert!(api == Api::Ollama || usage_by_model[0].cached == 60, "{api:?}");
        assert_eq!(opened.fault(), None);
        let sent = server.asked()[0].json();
        let forced = sent["stream_options"]["include_usage"] == json!(true);
        assert_eq!(forced, api == Api::OpenAi && body["stream"] == json!(true), "{api:?}: {sent}");
    }
}

#[tokio::test]
async fn an_exhausted_budget_is_reported_in_the_providers_error_format() {
    let server = Scripted::always(200, JSON, r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#).await;
    for (api, path, place) in [
        (Api::Anthropic, "v1/messages", "/error/message"),
        (Api::OpenAi, "v1/chat/completions", "/error/message"),
        (Api::OpenAiResponses, "v1/responses", "/error/message"),
        (Api::Gemini, "v1beta/models/m:generateContent", "/error/message"),
        (Api::Ollama, "api/chat", "/error"),
    ] {
        let (proxy, meter) = (proxy(), meter(caps(100, 0, 0)));
        let opened = open(&proxy, vec![provider(api, server.at)], &[], &meter);
        let response = client()
            .post(format!("{}/{path}", base(&opened)))
            .json(&json!({ "model": "m" }))
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), 402);
        let reply: Value = response.json().await.expect("JSON");
        let message = reply.pointer(place).and_then(Value::as_str).expect("a message");
        assert!(message.contains("budget of this attempt is exhausted"), "{api:?}: {reply}");
        assert_eq!(meter.exhausted_cap(), Some(Cap::Tokens));
        assert_eq!(meter.committed(), Usage::default());
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn the_output_limit_is_lowered_to_what_is_left() {
    let server = Scripted::always(200, JSON, "{}").await;
    for (api, path, field) in [
        (Api::Anthropic, "v1/messages", "/max_tokens"),
        (Api::OpenAi, "v1/chat/completions", "/max_tokens"),
        (Api::OpenAiResponses, "v1/responses", "/max_output_tokens"),
        (Api::Gemini, "v1beta/models/m:generateContent", "/generationConfig/maxOutputTokens"),
        (Api::Ollama, "api/chat", "/options/num_predict"),
    ] {
        let (proxy, meter) = (proxy(), meter(caps(600, 0, 0)));
        let opened = open(&proxy, vec![provider(api, server.at)], &[], &meter);
        let mut body = json!({ "model": "m", "x": "€".repeat(100) });
        if api == Api::Anthropic {
            body["max_tokens"] = json!(4096);
        }
        let response = client().post(format!("{}/{path}", base(&opened))).json(&body).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        let sent = server.asked().last().expect("sent").json();
        let most = sent.pointer(field).and_then(Value::as_u64).unwrap_or_else(|| panic!("{api:?}: {sent}"));
        assert!((256..500).contains(&most), "{api:?}: {most}");
        response.bytes().await.expect("a body");
        assert_eq!(meter.usage().tokens, 600, "no usage reported: the full reservation");
    }
}

#[tokio::test]
async fn stored_context_is_counted_as_the_whole_window() {
    let server = Scripted::always(200, JSON, "{}").await;
    let (proxy, meter) = (proxy(), meter(Usage::default()));
    let opened = open(&proxy, vec![provider(Api::OpenAiResponses, server.at)], &[], &meter);
    let ask = async |body: Value, path: &str| {
        let before = meter.usage().tokens;
        client()
            .post(format!("{}/{path}", base(&opened)))
            .json(&body)
            .send()
            .await
            .expect("an answer")
            .bytes()
            .await
            .expect("a body");
        meter.usage().tokens - before
    };
    assert_eq!(
        ask(json!({ "model": "m", "previous_response_id": "r", "max_output_tokens": 10 }), "responses").await,
        100_010
    );
    let plain = json!({ "model": "m", "max_tokens": 10, "n": 4 });
    assert_eq!(ask(plain.clone(), "chat/completions").await, (plain.to_string().len() as u64).div_ceil(3) + 40);
    let both = json!({ "model": "m", "max_tokens": 10, "max_completion_tokens": 900 });
    assert_eq!(ask(both.clone(), "chat/completions").await, (both.to_string().len() as u64).div_ceil(3) + 900);
    let long = json!({ "model": "m", "max_tokens": 10, "x": "y".repeat(3_000_000) });
    assert_eq!(ask(long, "chat/completions").await, 100_010, "no more than the window");
}

#[tokio::test]
async fn an_agent_that_hangs_up_pays_the_worst_case() {
    let server = Scripted::start(|_| {
        Box::pin(async {
            let first = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from(
                "data: {\"choices\":[{\"delta\":{}}]}\n\n",
            ))]);
            answer(200, SSE, Body::from_stream(futures::StreamExt::chain(first, futures::stream::pending())))
        })
    })
    .await;
    let (proxy, meter) = (proxy(), meter(Usage::default()));
    let opened = open(&proxy, vec![provider(Api::OpenAi, server.at)], &[], &meter);
    let body = json!({ "model": "m", "max_tokens": 500, "stream": true });
    let mut watch = meter.watch();
    let response =
        client().post(format!("{}/chat/completions", base(&opened))).json(&body).send().await.expect("an answer");
    assert_eq!(meter.committed().turns, 1);
    drop(response);
    timeout(Duration::from_secs(10), watch.changed()).await.expect("settled").expect("there");
    assert!((500..600).contains(&meter.usage().tokens));
    // The same applies to a call whose session is closed before it ends.
    let response =
        client().post(format!("{}/chat/completions", base(&opened))).json(&body).send().await.expect("an answer");
    let endpoint = opened.endpoint.clone();
    drop(opened);
    timeout(Duration::from_secs(10), watch.changed()).await.expect("settled").expect("there");
    assert_eq!(meter.usage().turns, 2);
    assert!(response.bytes().await.is_err());
    assert!(!endpoint.socket.exists() && !endpoint.socket.parent().expect("a directory").exists());
    assert!(tokio::net::TcpStream::connect(endpoint.tcp).await.is_err());
}

#[tokio::test]
async fn a_hundred_concurrent_calls_respect_rate_limits_and_caps() {
    let server = Scripted::start(|_| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            answer(200, JSON, r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10}}"#)
        })
    })
    .await;
    let proxy = proxy();
    let mut limited = provider(Api::OpenAi, server.at);
    limited.concurrency = 8;
    // Two attempts, one with hardly any budget: the rate limit is the provider's, each attempt has its own caps.
    let (rich, poor) = (meter(Usage::default()), meter(caps(0, 0, 20)));
    let opened = [open(&proxy, vec![limited.clone()], &[], &rich), open(&proxy, vec![limited], &[], &poor)];
    let client = client();
    let calls = (0..100).map(|n| {
        let request = client
            .post(format!("{}/chat/completions", base(&opened[n % 2])))
            .json(&json!({ "model": "m", "max_tokens": 10 }));
        async move { request.send().await.expect("an answer").status().as_u16() }
    });
    let statuses = futures::future::join_all(calls).await;
    assert_eq!(statuses.iter().filter(|s| **s == 200).count(), 70);
    assert_eq!(statuses.iter().filter(|s| **s == 402).count(), 30);
    assert!((2..=8).contains(&server.peak.load(Ordering::SeqCst)), "{:?}", server.peak);
    assert_eq!((rich.usage(), poor.usage()), (caps(1000, 50 * 110, 50), caps(400, 20 * 110, 20)));
    assert_eq!((rich.committed(), poor.committed()), (rich.usage(), poor.usage()));
}

/// A provider might interpret an invalid limit in any way. It receives the limit that the meter counts with, or no
/// request at all.
#[tokio::test]
async fn an_invalid_output_limit_is_not_forwarded() {
    let server = Scripted::always(200, JSON, "{}").await;
    let (proxy, meter) = (proxy(), meter(Usage::default()));
    for (api, path, body, place) in [
        (Api::Ollama, "api/chat", json!({ "options": { "num_predict": -1 } }), "/options/num_predict"),
        (Api::OpenAi, "chat/completions", json!({ "max_tokens": 1e9 }), "/max_tokens"),
        (Api::OpenAi, "chat/completions", json!({ "max_completion_tokens": "all" }), "/max_completion_tokens"),
        (
            Api::Gemini,
            "v1beta/models/m:generateContent",
            json!({ "generation_config": { "maxOutputTokens": 1e9, "max_output_tokens": -1 } }),
            "/generationConfig/maxOutputTokens",
        ),
    ] {
        let most = provider(api, server.at).max_output_tokens;
        let opened = open(&proxy, vec![provider(api, server.at)], &[], &meter);
        let mut asked = body.clone();
        asked["model"] = json!("m");
        client().post(format!("{}/{path}", base(&opened))).json(&asked).send().await.expect("an answer");
        let sent = server.asked().last().expect("sent").json();
        assert_eq!(sent.pointer(place), Some(&json!(most)), "{api:?}: {sent}");
        assert!(sent.get("generation_config").is_none_or(|c| c == &json!({})), "{sent}");
    }
    let count = server.asked().len();
    for body in [json!({ "model": "m", "n": 1e3 }), json!({ "model": "m", "n": "17" })] {
        let opened = open(&proxy, vec![provider(Api::OpenAi, server.at)], &[], &meter);
        let reply = client().post(format!("{}/chat/completions", base(&opened))).json(&body).send().await;
        assert_eq!(reply.expect("an answer").status(), 400, "{body}");
    }
    assert_eq!(server.asked().len(), count);
}
