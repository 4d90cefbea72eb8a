//! Guards of the REST API: token, Host, Origin, sizes, schemas; every refusal is a problem document, and the OpenAPI
//! document has every route.

use crate::support::away::Away;
use crate::support::rest::{Service, TOKEN, json, request, service};
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use skep::domain::Principal;
use skep::http::OPEN;
use skep::service::{Caller, Callers, Right, Via};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn document(s: &Service) -> Value {
    s.get("/openapi.json").await.json()
}

fn operations(document: &Value) -> Vec<(Method, String)> {
    let paths = document["paths"].as_object().expect("paths");
    let of = |(path, item): (&String, &Value)| {
        let methods: Vec<String> = item.as_object().expect("an item").keys().cloned().collect();
        let path = path.replace("{id}", "0123456789abcdef0123456789abcdef").replace("{name}", "tally");
        let path = path.replace("{n}", "1").replace("{digest}", &"a".repeat(64));
        methods.into_iter().map(move |m| (m.to_uppercase().parse().expect("a method"), path.clone()))
    };
    paths.iter().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_route_exists_and_needs_the_token() {
    let s = service().await;
    let document = document(&s).await;
    let operations = operations(&document);
    assert!(operations.len() >= 30, "{operations:?}");
    for (method, path) in operations {
        let bare = || Request::builder().method(method.clone()).uri(&path).header("host", "127.0.0.1");
        let open = OPEN.contains(&path.as_str());
        let reply = s.send(bare().body(Body::empty()).expect("a request")).await;
        if open {
            assert!(reply.status.is_success(), "{method} {path}: {reply:?}");
        } else {
            reply.is_problem(401, "no_token");
            assert!(reply.header("www-authenticate").starts_with("Bearer"));
        }
        for wrong in ["", "Bearer", "Bearer ", "Bearer wrong", &format!("Basic {TOKEN}"), &format!("Bearer {TOKEN}x")] {
            let reply = s.send(bare().header("authorization", wrong).body(Body::empty()).expect("a request")).await;
            assert_eq!(reply.status == 401, !open, "{method} {path} {wrong:?}");
        }
        // With the token, the response may be another error, but never an unknown route or an internal error.
        let reply = s.send(json(request(method.clone(), &path), &json!({}))).await;
        assert!(!reply.status.is_server_error() && reply.status != 405, "{method} {path}: {reply:?}");
        assert!(!reply.text.contains("no_route"), "{method} {path}: {reply:?}");
    }
    s.send(
        Request::builder().uri("/api/v1/nothing").header("host", "localhost").body(Body::empty()).expect("a request"),
    )
    .await
    .is_problem(401, "no_token");
}

#[test]
fn every_route_is_registered_through_its_documentation() {
    // A route added by hand would work, but would be missing from the document.
    // The pages are for people, webhooks have the form that each forge gives them, and anyone may read the status of public
    // deployments: none of them has a document. The
    // listener for metrics serves one route, which the document has.
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let without = ["pages", "public.rs", "webhooks", "rest/metrics.rs"].map(|name| root.join(name));
    let mut paths = vec![root];
    while let Some(path) = paths.pop() {
        if without.contains(&path) {
            continue;
        }
        if path.is_dir() {
            paths.extend(std::fs::read_dir(&path).expect("src/http").map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(!text.contains(".route(") && !text.contains(".nest_service("), "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_is_complete() {
    let s = service().await;
    let document = document(&s).await;
    assert!(document["openapi"].as_str().is_some_and(|v| v.starts_with("3.1")), "{document}");
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            assert!(operation["summary"].as_str().is_some_and(|t| !t.is_empty()), "{method} {path}");
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            let open = operation["security"] == json!([{}]);
            assert_eq!(open, OPEN.contains(&path.as_str()), "{method} {path}: {}", operation["security"]);
        }
    }
    // Every reference resolves.
    let text = document.to_string();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap_or_default();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    for name in ["NewRun", "NewProject", "Action", "Problem"] {
        let schema = &document["components"]["schemas"][name];
        assert!(schema["example"].is_object() || schema["examples"].is_array(), "{name}: {schema}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_hosts_and_origins_are_refused_everywhere() {
    let s = service().await;
    for path in ["/health", "/openapi.json", "/api/v1/runs", "/nothing"] {
        let with = |pairs: &[(&str, &str)]| {
            let mut builder = Request::builder().uri(path).header("authorization", format!("Bearer {TOKEN}"));
            for (name, value) in pairs {
                builder = builder.header(*name, *value);
            }
            builder.body(Body::empty()).expect("a request")
        };
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[::2]", "10.0.0.1"] {
            s.send(with(&[("host", host)])).await.is_problem(421, "host");
        }
        s.send(with(&[])).await.is_problem(400, "host");
        s.send(with(&[("host", "localhost"), ("host", "evil.example")])).await.is_problem(400, "host");
        for origin in ["http://evil.example", "null", "http://localhost:9999", "file://", "http://localhost:80.evil"] {
            s.send(with(&[("host", "localhost:80"), ("origin", origin)])).await.is_problem(403, "origin");
        }
        s.send(with(&[("host", "localhost"), ("sec-fetch-site", "cross-site")])).await.is_problem(403, "origin");
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:7300", "[::1]:7300", "[::1]"] {
            let origin = format!("http://{host}");
            let reply = s.send(with(&[("host", host), ("origin", &origin)])).await;
            assert!(reply.status == 200 || reply.status == 404, "{reply:?}");
            assert_eq!(reply.header("x-content-type-options"), "nosniff");
            assert!(reply.header("content-security-policy").contains("default-src 'none'"));
            assert!(!reply.headers.contains_key("access-control-allow-origin"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_error_is_a_problem() {
    let s = service().await;
    s.get("/api/v1/nothing").await.is_problem(404, "no_route");
    let reply = s.send(request(Method::DELETE, "/api/v1/runs").body(Body::empty()).expect("a request")).await;
    reply.is_problem(405, "method");
    assert!(reply.header("allow").contains("POST"), "{reply:?}");
    let raw = |body: String, kind: &str| {
        request(Method::POST, "/api/v1/runs").header("content-type", kind).body(Body::from(body)).expect("a request")
    };
    s.send(raw("{".to_owned(), "application/json")).await.is_problem(400, "bad_request");
    s.send(raw("{}".to_owned(), "text/plain")).await.is_problem(415, "media_type");
    s.send(raw(" ".repeat((1 << 20) + 1), "application/json")).await.is_problem(413, "too_large");
    let wrong = s.post("/api/v1/runs", &json!({"goal": 5})).await.is_problem(422, "invalid");
    assert!(wrong["detail"].as_str().is_some_and(|d| d.contains("goal")), "the field is named: {wrong}");
    let unknown = s.post("/api/v1/runs", &json!({"gaol": "x"})).await.is_problem(422, "invalid");
    assert!(unknown["detail"].as_str().is_some_and(|d| d.contains("gaol") && d.contains("goal")), "{unknown}");
    s.post("/api/v1/runs", &json!({"goal": "x"})).await.is_problem(422, "invalid");
    s.post("/api/v1/runs", &json!({"goal": "x", "repo": "relative/path"})).await.is_problem(422, "invalid");
    s.post("/api/v1/runs", &json!({"goal": "x", "repo": "/nowhere/at/all"})).await.is_problem(422, "invalid");
    s.post("/api/v1/runs", &json!({"goal": " ", "repo": s.origin, "checks": ["true"]}))
        .await
        .is_problem(422, "invalid");
    s.post("/api/v1/projects", &json!({"repo": "/nowhere/at/all"})).await.is_problem(422, "invalid");
    s.post("/api/v1/projects", &json!({"repo": s.origin, "name": "No Good"})).await.is_problem(422, "invalid");
    s.get("/api/v1/runs?limit=501").await.is_problem(422, "invalid");
    s.get("/api/v1/runs?limit=x").await.is_problem(400, "bad_request");
    s.get("/api/v1/runs?colour=red").await.is_problem(400, "bad_request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unavailable_store_is_a_problem_that_may_be_retried() {
    let mut s = service().await;
    s.state.services.store = std::sync::Arc::new(Away);
    s.state.services.vault = std::sync::Arc::new(Away);
    s.state.services.audit = std::sync::Arc::new(Away);
    s.state.services.accounts = std::sync::Arc::new(Away);
    s.router = skep::http::router(s.state.clone());
    assert_eq!(s.get("/health/live").await.status, 200);
    s.get("/health/ready").await.is_problem(503, "unavailable");
    let health = s.get("/health").await;
    assert_eq!((health.status.as_u16(), &health.json()["store"]), (503, &json!(false)));
    for (method, path) in operations(&document(&s).await) {
        // These have ports of their own, which are there, or need none.
        let has_port = |part: &str| path.starts_with(&format!("/api/v1/{part}"));
        let has_port = [
            "login-links",
            "schedules",
            "outcomes",
            "proposals",
            "agents",
            "ratings",
            "work",
            "deployments",
            "sponsors",
            "stream",
        ]
        .into_iter()
        .any(has_port);
        if !path.starts_with("/api/") || has_port || path.ends_with("/deliveries") {
            continue;
        }
        let body = match path.as_str() {
            "/api/v1/runs" | "/api/v1/runs/preview" => json!({"project": "tally", "goal": "x"}),
            "/api/v1/checks/plan" | "/api/v1/checks/run" => json!({"project": "tally"}),
            "/api/v1/projects" => json!({"repo": s.origin}),
            "/api/v1/budget/raise" => json!({"scope": "day", "tokens": 1}),
            "/api/v1/secrets" => json!({"name": "A", "value": "x"}),
            "/api/v1/people" => json!({"name": "ann", "role": "member"}),
            "/api/v1/tokens" => json!({"name": "ci"}),
            "/api/v1/secrets/rekey" => json!({"file": "/new.key"}),
            "/api/v1/ci" => json!({"branch": "skep/3f9a12bc", "sha": "0".repeat(40), "state": "success"}),
            "/api/v1/memories" => json!({"project": "tally", "text": "x"}),
            "/api/v1/memories/forget" => json!({"path": "a.rs"}),
            _ if path.ends_with("/status") => json!({"context": "ci/x", "state": "success"}),
            _ if path.ends_with("/role") => json!({"role": "member"}),
            _ if path.ends_with("/link") => json!({"subject": "1"}),
            _ if path.ends_with("/comment") => json!({"text": "x"}),
            _ => json!({}),
        };
        let target = if path == "/api/v1/spending" { format!("{path}?by=role") } else { path.clone() };
        let reply = s.send(json(request(method.clone(), &target), &body)).await;
        reply.is_problem(503, "unavailable");
        assert_eq!(reply.header("retry-after"), "5", "{method} {path}");
    }
    // An access token that cannot be looked up is not a wrong one.
    let token = format!("skep_pat_0a1b2c3d4e5f_{}", "0".repeat(64));
    let bare = Request::builder().uri("/api/v1/runs").header("host", "localhost:7300");
    let sent = bare.header("authorization", format!("Bearer {token}")).body(Body::empty()).expect("a request");
    s.send(sent).await.is_problem(503, "unavailable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_json_and_an_object_where_the_schema_has_one() {
    let s = service().await;
    let run = s.open_run("make it two").await;
    let at = format!("/api/v1/runs/{}/actions", run["id"].as_str().expect("an id"));
    for (path, body) in [
        ("/api/v1/runs".to_owned(), json!([null, s.origin, "a goal"])),
        ("/api/v1/runs".to_owned(), json!([])),
        ("/api/v1/projects".to_owned(), json!([null, s.origin])),
        ("/api/v1/budget/raise".to_owned(), json!(["day", null, 1])),
        ("/api/v1/secrets".to_owned(), json!(["A", null, "a value in an array"])),
        (format!("{at}/raise"), json!({"more": []})),
        (format!("{at}/unblock"), json!({"more": [1, 2]})),
        (format!("{at}/approve"), json!(["b1"])),
    ] {
        let reply = s.post(&path, &body).await;
        reply.is_problem(422, "invalid");
        assert!(!reply.text.contains("a value in an array"), "{reply:?}");
    }
    for path in [
        "/api/v1/runs",
        "/api/v1/secrets",
        "/api/v1/secrets/rekey",
        "/api/v1/secrets/A/remove",
        &format!("{at}/cancel"),
    ] {
        for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
            let sent = request(Method::POST, path).header("content-type", kind).body(Body::from("{}"));
            s.send(sent.expect("a request")).await.is_problem(415, "media_type");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_a_problem_without_details() {
    let mut s = service().await;
    s.state.services.checks_from = std::sync::Arc::new(|_| panic!("a secret"));
    s.router = skep::http::router(s.state.clone());
    let reply = s.post("/api/v1/projects", &json!({"repo": s.origin})).await;
    reply.is_problem(500, "internal");
    assert!(!reply.text.contains("secret"));
    assert_eq!(s.get("/api/v1/projects").await.status, 200, "the service continues");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_ids_are_client_errors() {
    let s = service().await;
    let run = s.open_run("make it two").await;
    let id = run["id"].as_str().expect("an id");
    let long = "f".repeat(60_000);
    for bad in
        ["..%2f..%2fetc", "%00", "%ff%fe", "....", "abc", "%27%20or%201=1--", "%F0%9F%90%9D", "*", "-", long.as_str()]
    {
        for path in [
            format!("/api/v1/runs/{bad}"),
            format!("/api/v1/runs/{bad}/stream"),
            format!("/api/v1/runs/{bad}/events"),
            format!("/api/v1/runs/{bad}/patch"),
            format!("/api/v1/runs/{id}/artifacts/{bad}"),
            format!("/api/v1/runs/{id}/patch?task={bad}"),
            format!("/api/v1/runs?before={bad}"),
            format!("/api/v1/runs?project={bad}"),
            format!("/api/v1/runs?status={bad}"),
            format!("/api/v1/projects/{bad}"),
            format!("/api/v1/projects/{bad}/changes"),
            format!("/api/v1/projects/origin/changes/{bad}"),
        ] {
            // Some paths are too long for a URI.
            let Ok(request) = request(Method::GET, &path).body(Body::empty()) else { continue };
            let reply = s.send(request).await;
            let shown: String = path.chars().take(80).collect();
            assert!(
                reply.status.is_client_error(),
                "{shown}: {} {}",
                reply.status,
                &reply.text[..reply.text.len().min(200)]
            );
            assert!(reply.text.len() < 2_000, "{shown}: the response repeats the request");
            let code = reply.json()["code"].as_str().unwrap_or_default().to_owned();
            reply.is_problem(reply.status.as_u16(), &code);
        }
        let block = json!({ "block": bad });
        let reply = s.post(&format!("/api/v1/runs/{id}/actions/unblock"), &block).await;
        assert!(reply.status.is_client_error(), "{reply:?}");
    }
    for after in ["18446744073709551615", "9223372036854775807"] {
        let reply = s.get(&format!("/api/v1/runs/{id}/events?after={after}")).await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, "[]"));
    }
    s.get("/api/v1/projects/origin/changes/18446744073709551615").await.is_problem(404, "no_change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_listener_refuses_long_heads_and_stops() {
    let s = service().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopping = async { stopped.await.unwrap_or_default() };
    let served = tokio::spawn(skep::http::serve(listener, s.router.clone(), stopping));
    let send = async |text: String| {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        // The service may respond and close the connection before everything is sent.
        let _hung_up = stream.write_all(text.as_bytes()).await;
        let mut answer = vec![0; 256];
        let n = stream.read(&mut answer).await.unwrap_or(0);
        String::from_utf8_lossy(&answer[..n]).into_owned()
    };
    let good = send("GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()).await;
    assert!(good.starts_with("HTTP/1.1 200"), "{good}");
    let long = send(format!("GET /api/v1/runs/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "f".repeat(1 << 20))).await;
    assert!(long.is_empty() || long.starts_with("HTTP/1.1 4"), "{long}");
    let absolute = send("GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()).await;
    assert!(absolute.starts_with("HTTP/1.1 421"), "{absolute}");
    let head =
        |bytes: usize| format!("GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Y: {}\r\n\r\n", "y".repeat(bytes));
    assert!(send(head(30_000)).await.starts_with("HTTP/1.1 200"));
    let refused = send(head(34_000)).await;
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 431"), "{refused}");

    // Connections that send nothing, or never end a request, keep nobody out.
    let mut idle = Vec::new();
    for n in 0..300 {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        if n % 2 == 0 {
            stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: local").await.expect("half a head");
        }
        idle.push(stream);
    }
    for _ in 0..20 {
        let request = send("GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned());
        let good = tokio::time::timeout(Duration::from_secs(3), request).await.expect("an answer at once");
        assert!(good.starts_with("HTTP/1.1 200"), "{good}");
    }
    // Wrong tokens are refused, and too many of them are rate-limited; a valid one is not affected.
    let with = |token: &str| {
        format!(
            "GET /api/v1/projects HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        )
    };
    let mut answers = std::collections::BTreeMap::new();
    for _ in 0..110 {
        let answer = send(with("wrong")).await;
        *answers.entry(answer.get(9..12).unwrap_or_default().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(answers, [("401".to_owned(), 100), ("429".to_owned(), 10)].into());
    assert!(send(with(TOKEN)).await.starts_with("HTTP/1.1 200"));
    stop.send(()).expect("listening");
    let ended = tokio::time::timeout(Duration::from_secs(10), served).await.expect("it stops").expect("no panic");
    ended.expect("no error");
    drop(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_can_do_only_what_its_rights_allow() {
    let mut s = service().await;
    let reader = Caller::new(Principal::from("user:ann"), [Right::Read].into(), Via::Rest);
    s.state.callers = Callers::new([(TOKEN.to_owned(), reader)]);
    s.router = skep::http::router(s.state.clone());
    for (method, path) in operations(&document(&s).await) {
        if OPEN.contains(&path.as_str()) {
            continue;
        }
        let body = match path.as_str() {
            "/api/v1/budget/raise" => json!({"scope": "day", "tokens": 1}),
            "/api/v1/secrets" => json!({"name": "A", "value": "x"}),
            "/api/v1/secrets/rekey" => json!({"file": "/new.key"}),
            "/api/v1/ci" => json!({"branch": "skep/3f9a12bc", "sha": "0".repeat(40), "state": "success"}),
            "/api/v1/people" => json!({"name": "ann", "role": "member"}),
            "/api/v1/tokens" => json!({"name": "ci"}),
            _ if path.ends_with("/role") => json!({"role": "member"}),
            _ if path.ends_with("/link") => json!({"subject": "1"}),
            _ if path.ends_with("/status") => json!({"context": "ci/x", "state": "success"}),
            "/api/v1/deployments/tally/decline" | "/api/v1/deployments/tally/suspend" => json!({"why": "a fault"}),
            _ if path.ends_with("/drop") => json!({"why": "it is known"}),
            _ if path.starts_with("/api/v1/sponsors") => json!({"name": "Acme", "project": "tally"}),
            "/api/v1/agents" => json!({"name": "crab"}),
            "/api/v1/memories" => json!({"project": "tally", "text": "x"}),
            _ if path.ends_with("/submit") => json!({"patch": "x"}),
            _ if path.ends_with("/review") && path.contains("/work/") => json!({"verdict": "approve"}),
            _ => json!({}),
        };
        let reply = s.send(json(request(method.clone(), &path), &body)).await;
        let others = ["/api/v1/audit", "/api/v1/people", "/api/v1/tokens", "/metrics"];
        let may = method == Method::GET && !others.contains(&path.as_str()) && !path.contains("/work/");
        assert_eq!(reply.status == 403, !may, "{method} {path}: {reply:?}");
        if !may {
            reply.is_problem(403, "missing_right");
        }
    }
}
