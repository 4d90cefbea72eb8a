//! API keys stay out of the agent's sight, the agent's headers stay out of the provider's, and responses are streamed.

use crate::support::provider::{KEY, Scripted, answer, base, client, meter, open, provider, proxy};
use axum::body::{Body, Bytes};
use futures::StreamExt;
use serde_json::json;
use skep::domain::Usage;
use skep::providers::settings::Api;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

/// Sends raw bytes and returns everything received until the other side closes.
async fn raw(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut got = Vec::new();
    timeout(SOON, stream.read_to_end(&mut got)).await.expect("in time").expect("read");
    String::from_utf8_lossy(&got).into_owned()
}

#[tokio::test]
async fn the_key_goes_to_the_provider_and_the_agent_never_sees_it() {
    let paths = [
        (Api::Anthropic, "v1/messages?beta=true&key=agents", "x-api-key", KEY.to_owned()),
        (Api::OpenAi, "chat/completions", "authorization", format!("Bearer {KEY}")),
        (Api::OpenAiResponses, "v1/responses", "authorization", format!("Bearer {KEY}")),
        (Api::Gemini, "v1beta/models/m:generateContent?key=agents&alt=sse", "x-goog-api-key", KEY.to_owned()),
        (Api::Ollama, "api/chat", "authorization", format!("Bearer {KEY}")),
    ];
    for (api, path, name, value) in paths {
        // A provider that echoes all it received, in headers and body, in two chunks.
        let echo = Scripted::start(|arrived| {
            Box::pin(async move {
                let echoed = format!(
                    "{:?}",
                    arrived
                        .headers
                        .iter()
                        .map(|(n, v)| format!("{n}={}", v.to_str().unwrap_or("?")))
                        .collect::<Vec<_>>()
                );
                let cut = echoed.find("sk-test").map_or(0, |at| at + 9);
                let (a, b) = (Bytes::from(echoed[..cut].to_owned()), Bytes::from(echoed[cut..].to_owned()));
                let mut out = answer(
                    200,
                    "application/json",
                    Body::from_stream(futures::stream::iter([Ok::<_, std::io::Error>(a), Ok(b)])),
                );
                out.headers_mut().insert(
                    "x-echo",
                    arrived
                        .headers
                        .get("x-api-key")
                        .or(arrived.headers.get("authorization"))
                        .or(arrived.headers.get("x-goog-api-key"))
                        .expect("a key")
                        .clone(),
                );
                out.headers_mut().insert("set-cookie", "a=b".parse().expect("a header"));
                out
            })
        })
        .await;
        let (proxy, meter) = (proxy(), meter(Usage::default()));
        let opened = open(&proxy, vec![provider(api, echo.at)], &[], &meter);
        let response = client()
            .post(format!("{}/{path}", base(&opened)))
            .header("x-api-key", "agents")
            .header("authorization", "Bearer agents")
            .header("x-goog-api-key", "agents")
            .header("api-key", "agents")
            .header("cookie", "session=agents")
            .header("openai-organization", "agents")
            .header("x-forwarded-for", "agents")
            .header("proxy-authorization", "agents")
            .header("connection", "x-secret")
            .header("x-secret", "agents")
            .header("anthropic-beta", "kept")
            .json(&json!({ "model": "m", "max_tokens": 10, "messages": [] }))
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), 200, "{api:?}");
        let headers = format!("{:?}", response.headers());
        assert!(response.headers().get("set-cookie").is_none());
        let body = response.text().await.expect("a body");
        assert!(!headers.contains(KEY) && !body.contains(KEY), "{api:?}: {headers} {body}");
        assert!(body.contains("***"), "{api:?}: echoed and masked: {body}");
        let arrived = &echo.asked()[0];
        assert_eq!(arrived.headers.get_all(name).iter().collect::<Vec<_>>(), [value.as_str()], "{api:?}");
        let all = format!("{} {:?}", arrived.uri, arrived.headers);
        assert!(!all.contains("agents"), "{api:?}: {all}");
        assert!(arrived.headers.contains_key("anthropic-beta"));
        assert!(!format!("{opened:?} {proxy:?} {meter:?}").contains(KEY));
        assert!(!format!("{opened:?}").contains(opened.path_prefix().expose()));
    }
}

#[tokio::test]
async fn the_port_requires_the_token_and_the_socket_its_path() {
    let model = Scripted::always(200, "application/json", r#"{"data":[]}"#).await;
    let (proxy, meter) = (proxy(), meter(Usage::default()));
    let opened = open(&proxy, vec![provider(Api::OpenAi, model.at)], &["127.0.0.1:1"], &meter);
    let tcp = opened.endpoint.tcp;
    let get = |path: String| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let prefix = opened.path_prefix().expose().to_owned();
    for path in [
        "/llm/p/models".to_owned(),
        "/p/x/llm/p/models".to_owned(),
        format!("/p/{}/llm/p/models", "0".repeat(64)),
        format!("{}0/llm/p/models", prefix),
        format!("/P{}/llm/p/models", &prefix[2..]),
    ] {
        let got = raw(TcpStream::connect(tcp).await.expect("a connection"), &get(path.clone())).await;
        assert!(got.starts_with("HTTP/1.1 403"), "{path}: {got}");
    }
    for login in ["", "proxy-authorization: Basic c2tlcDp4\r\n", "proxy-authorization: Bearer x\r\n"] {
        let request = format!("CONNECT 127.0.0.1:1 HTTP/1.1\r\nhost: x\r\n{login}connection: close\r\n\r\n");
        let got = raw(TcpStream::connect(tcp).await.expect("a connection"), &request).await;
        assert!(got.starts_with("HTTP/1.1 407"), "{login}: {got}");
    }
    assert!(model.asked().is_empty());
    let socket = &opened.endpoint.socket;
    assert!(socket.as_os_str().len() < 100);
    for path in ["/llm/p/models".to_owned(), format!("{prefix}/llm/p/models")] {
        let got = raw(UnixStream::connect(socket).await.expect("a connection"), &get(path)).await;
        assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    }
    let got = raw(TcpStream::connect(tcp).await.expect("a connection"), &get(format!("{prefix}/llm/p/models"))).await;
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    assert_eq!(model.asked().len(), 3);
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(socket), mode(socket.parent().expect("a directory"))), (0o666, 0o711));
}

#[tokio::test]
async fn only_model_endpoints_can_be_called() {
    let server = Scripted::always(200, "application/json", "{}").await;
    let (proxy, meter) = (proxy(), meter(Usage::default()));
    for (api, method, path) in [
        (Api::OpenAi, "GET", "files"),
        (Api::OpenAi, "POST", "files"),
        (Api::OpenAi, "POST", "fine_tuning/jobs"),
        (Api::OpenAi, "DELETE", "models/m"),
        (Api::OpenAi, "GET", "chat/completions"),
        (Api::OpenAi, "GET", "responses/r1"),
        (Api::OpenAi, "POST", "organization/admin_api_keys"),
        (Api::OpenAi, "POST", "chat/completions/../../files"),
        (Api::OpenAi, "POST", "chat/%2e%2e/files"),
        (Api::OpenAi, "POST", "v1/v1/chat/completions"),
        (Api::OpenAi, "POST", "/chat/completions"),
        (Api::OpenAi, "POST", "chat%00/completions"),
        (Api::OpenAi, "POST", "chat\\completions"),
        (Api::OpenAi, "POST", ""),
        (Api::OpenAi, "POST", "@evil.example/chat/completions"),
        (Api::Anthropic, "POST", "messages/batches"),
        (Api::Anthropic, "POST", "complete"),
        (Api::Anthropic, "GET", "organizations/users"),
        (Api::Gemini, "POST", "models/m:batchGenerateContent"),
        (Api::Gemini, "POST", "files"),
        (Api::Gemini, "POST", "models/m"),
        (Api::Ollama, "POST", "api/pull"),
        (Api::Ollama, "DELETE", "api/delete"),
        (Api::Ollama, "POST", "api/create"),
    ] {
        let opened = open(&proxy, vec![provider(api, server.at)], &[], &meter);
        let request = format!(
            "{method} /llm/p/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 13\r\n\r\n{{\"model\":\"m\"}}"
        );
        let got = raw(UnixStream::connect(&opened.endpoint.socket).await.expect("a connection"), &request).await;
        assert!(got.starts_with("HTTP/1.1 403") || got.starts_with("HTTP/1.1 400"), "{method} {path}: {got}");
    }
    let opened = open(&proxy, vec![provider(Api::OpenAi, server.at)], &[], &meter);
    let other = client()
        .post(base(&opened).replace("/llm/p", "/llm/q/chat/completions"))
        .body("{}")
        .send()
        .await
        .expect("an answer");
    assert_eq!(other.status(), 403);
    assert_eq!(opened.denials().len(), 1);
    assert!(server.asked().is_empty());
    assert_eq!(meter.committed(), Usage::default());
}

#[tokio::test]
async fn ambiguous_requests_are_rejected() {
    let server = Scripted::always(200, "application/json", "{}").await;
    let (proxy, meter) = (proxy(), meter(Usage::default()));
    let opened = open(&proxy, vec![provider(Api::OpenAi, server.at)], &[], &meter);
    let smuggled = "0\r\n\r\nDELETE /v1/models/m HTTP/1.1\r\nhost: x\r\n\r\n";
    for framing in [
        "content-length: 13\r\ncontent-length: 0",
        "content-length: 13, 0",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "content-length: -1",
        "content-length: 13\r\nx\0y: 1",
    ] {
        let request = format!(
            "POST /llm/p/chat/completions HTTP/1.1\r\nhost: x\r\n{framing}\r\nconnection: close\r\n\r\n{smuggled}"
        );
        let got = raw(UnixStream::connect(&opened.endpoint.socket).await.expect("a connection"), &request).await;
        assert!(got.starts_with("HTTP/1.1 400"), "{framing}: {got}");
    }
    // Both framings at once: however it is parsed, it is forwarded as one request with one body.
    let body = r#"{"model":"m"}"#;
    let request = format!(
        "POST /llm/p/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\nd\r\n{body}\r\n{smuggled}"
    );
    raw(UnixStream::connect(&opened.endpoint.socket).await.expect("a connection"), &request).await;
    for arrived in server.asked() {
        assert_eq!((arrived.method.as_str(), arrived.uri.as_str()), ("POST", "/v1/chat/completions"));
        assert_eq!(arrived.body, body.as_bytes());
    }
    assert!(server.asked().len() <= 1);
}

#[tokio::test]
async fn requests_for_the_provider_to_access_the_network_are_removed() {
    let server = Scripted::always(200, "application/json", "{}").await;
    let (proxy, meter) = (proxy(), meter(Usage::default()));
    let ask = async |api: Api, path: &str, body: serde_json::Value| {
        let opened = open(&proxy, vec![provider(api, server.at)], &[], &meter);
        let response = client().post(format!("{}/{path}", base(&opened))).json(&body).send().await.expect("an answer");
        let (status, reply) = (response.status().as_u16(), response.text().await.expect("a body"));
        (status, reply, server.asked().last().map(|a| a.json()), opened.denials().len())
    };
    let tools = json!([{ "name": "a", "input_schema": {} }, { "type": "web_fetch_20250910", "name": "web_fetch" }, { "type": "bash_20250124", "name": "bash" }]);
    let body = json!({ "model": "m", "max_tokens": 5, "tools": tools, "mcp_servers": [{ "url": "https://evil" }], "speed": "fast", "messages": [] });
    let (status, _, sent, denials) = ask(Api::Anthropic, "messages", body).await;
    let sent = sent.expect("sent");
    assert_eq!((status, denials), (200, 3));
    assert_eq!(sent["tools"].as_array().expect("tools").len(), 2);
    assert!(sent.get("mcp_servers").is_none() && sent.get("speed").is_none());
    let body = json!({ "model": "m", "stream": true, "tools": [{ "type": "web_search" }], "tool_choice": "auto", "service_tier": "priority", "background": true, "input": "x" });
    let (_, _, sent, _) = ask(Api::OpenAiResponses, "responses", body).await;
    let sent = sent.expect("sent");
    assert_eq!(sent, json!({ "model": "m", "stream": true, "input": "x" }));
    let body = json!({ "contents": [], "tools": [{ "googleSearch": {}, "functionDeclarations": [{ "name": "f" }] }, { "urlContext": {} }] });
    let (_, _, sent, _) = ask(Api::Gemini, "models/m:generateContent", body).await;
    assert_eq!(sent.expect("sent")["tools"], json!([{ "functionDeclarations": [{ "name": "f" }] }]));
    let count = server.asked().len();
    for (api, path, part) in [
        (
            Api::Anthropic,
            "messages",
            json!({ "type": "image", "source": { "type": "url", "url": "https://evil/?secret" } }),
        ),
        (
            Api::OpenAi,
            "chat/completions",
            json!({ "type": "image_url", "image_url": { "url": "https://evil/?secret" } }),
        ),
        (Api::OpenAiResponses, "responses", json!({ "type": "input_image", "image_url": "https://evil/?secret" })),
        (Api::OpenAiResponses, "responses", json!({ "type": "input_file", "file_url": "https://evil/?secret" })),
        (Api::Gemini, "models/m:generateContent", json!({ "fileData": { "fileUri": "https://evil/?secret" } })),
    ] {
        let body =
            json!({ "model": "m", "max_tokens": 5, "messages": [{ "role": "user", "content": [part.clone()] }] });
        let (status, reply, ..) = ask(api, path, body).await;
        assert_eq!(status, 400, "{reply}");
        assert!(reply.contains("URL for the provider to fetch"), "{reply}");
        // Token counting is free of charge, but would make the provider fetch the URL as well.
        if api == Api::Anthropic {
            let body = json!({ "model": "m", "messages": [{ "role": "user", "content": [part] }] });
            let (status, reply, ..) = ask(api, "messages/count_tokens", body).await;
            assert!(status == 400 && reply.contains("URL for the provider to fetch"), "{reply}");
        }
    }
    assert_eq!(server.asked().len(), count);
    // Text stays text: tool arguments may contain a URL, and inline content is allowed.
    let harmless = json!({ "model": "m", "max_tokens": 5, "messages": [{ "role": "assistant", "content": [
        { "type": "tool_use", "id": "t", "name": "f", "input": { "type": "image", "source": { "type": "url", "url": "https://x" } } },
        { "type": "image", "source": { "type": "base64", "data": "AAAA" } }, { "type": "text", "text": "https://x" } ] }] });
    let (status, _, sent, denials) = ask(Api::Anthropic, "messages", harmless.clone()).await;
    assert_eq!((status, sent, denials), (200, Some(harmless), 0));
}

/// Of two fields with the same name, the proxy reads one and a provider might read the other. Only the field that the
/// proxy read is forwarded.
#[tokio::test]
async fn a_duplicate_field_is_forwarded_once() {
    let server = Scripted::always(200, "application/json", "{}").await;
    let (proxy, meter) = (proxy(), meter(Usage::default()));
    let opened = open(&proxy, vec![provider(Api::OpenAiResponses, server.at)], &[], &meter);
    let body = r#"{"model":"m","tools":[{"type":"web_search"}],"max_output_tokens":99999,"tools":[],"max_output_tokens":9,"input":"x"}"#;
    let sent = client().post(format!("{}/responses", base(&opened))).body(body).send().await.expect("an answer");
    assert_eq!(sent.status(), 200);
    let out = String::from_utf8_lossy(&server.asked()[0].body).into_owned();
    assert!(!out.contains("web_search") && !out.contains("99999") && out.contains("\"max_output_tokens\":9"), "{out}");
}

#[tokio::test]
async fn a_chunk_arrives_before_the_next_is_sent() {
    let (more, pieces) = mpsc::channel::<&'static str>(1);
    let pieces = Arc::new(Mutex::new(Some(pieces)));
    let server = Scripted::start(move |_| {
        let pieces = pieces.clone();
        Box::pin(async move {
            let pieces = pieces.lock().await.take().expect("one call");
            let stream = futures::stream::unfold(pieces, |mut pieces| async move {
                pieces.recv().await.map(|p| (Ok::<_, std::io::Error>(Bytes::from(p)), pieces))
            });
            answer(200, "text/event-stream", Body::from_stream(stream))
        })
    })
    .await;
    let (proxy, meter) = (proxy(), meter(Usage::default()));
    let opened = open(&proxy, vec![provider(Api::Anthropic, server.at)], &[], &meter);
    let sent = [
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"sk-te\"}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":9}}\n\n",
    ];
    more.send(sent[0]).await.expect("listening");
    let body = json!({ "model": "m", "max_tokens": 100, "stream": true, "messages": [] });
    let response = client().post(format!("{}/v1/messages", base(&opened))).json(&body).send().await.expect("an answer");
    let mut got = response.bytes_stream();
    for n in 0..sent.len() {
        let piece = timeout(SOON, got.next()).await.expect("before the next is sent").expect("a piece").expect("sound");
        assert_eq!(piece, sent[n].as_bytes(), "untouched");
        if let Some(next) = sent.get(n + 1) {
            more.send(next).await.expect("listening");
        }
    }
    assert_eq!(meter.usage().tokens, 0);
    drop(more);
    assert!(got.next().await.is_none());
    assert_eq!(meter.usage().tokens, 14, "settled before the end was seen");
}
