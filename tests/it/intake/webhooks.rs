//! Webhooks: their signatures, repetitions, limits, and what is stored of them.

use super::{Kind, PREVIOUS_SECRET, SECRET, TOKEN, World, signature};
use crate::support::github::REPO;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use skep::domain::DeliveryState;

#[tokio::test]
async fn only_a_signature_over_the_raw_bytes_by_a_current_secret_is_accepted() {
    for kind in Kind::ALL {
        let w = World::on(kind).await;
        let body = kind.payload("ping", json!({ "zen": "é" })).to_string().into_bytes();
        let right = signature(SECRET, &body);
        let (previous, another, none) =
            (signature(PREVIOUS_SECRET, &body), signature("another", &body), signature("", &body));
        let truncated = &body[..body.len() - 1];
        let table: [(&str, &[u8], Option<&str>, u16); 9] = [
            ("right", &body, Some(&right), 202),
            ("previous", &body, Some(&previous), 202),
            ("missing", &body, None, 401),
            ("empty", &body, Some(""), 401),
            ("no digits", &body, Some("sha256="), 401),
            ("another secret", &body, Some(&another), 401),
            ("no secret", &body, Some(&none), 401),
            ("truncated body", truncated, Some(&right), 401),
            ("shortened", &body, Some(&right[..right.len() - 2]), 401),
        ];
        for (name, body, signature, expected) in table {
            assert_eq!(w.send(name, "ping", body, signature).await.as_u16(), expected, "{name}");
        }
        // A repetition is acknowledged again and stored once.
        for _ in 0..3 {
            assert_eq!(w.send("right", "ping", &body, Some(&right)).await, StatusCode::ACCEPTED);
        }
        let stored = w.deliveries().await;
        let ids: Vec<&str> = stored.iter().map(|d| d.new.id.as_str()).collect();
        assert_eq!(ids, ["previous", "right"]);
        assert!(stored.iter().all(|d| d.state == DeliveryState::Ignored && d.reason.contains("does not use")));
    }
}

fn to(forge: &str, body: &[u8], length: usize) -> axum::http::request::Builder {
    Request::post(format!("/webhooks/{forge}"))
        .header("host", "localhost:7377")
        .header("content-length", length)
        .header("x-github-delivery", "1")
        .header("x-github-event", "ping")
        .header("x-hub-signature-256", signature(SECRET, body))
}

#[tokio::test]
async fn an_unknown_forge_and_a_forge_without_a_secret_have_no_webhooks() {
    let w = World::new().await;
    for forge in ["nothing", "quiet", "local"] {
        let (status, text) = w.request(to(forge, b"{}", 2).body(Body::from("{}")).unwrap()).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{forge}: {text}");
    }
    // A token opens nothing here, and a signature nothing else.
    let request = Request::post("/webhooks/github").header("host", "localhost").header("content-length", 2);
    let request = request.header("authorization", format!("Bearer {TOKEN}")).body(Body::from("{}")).unwrap();
    let (status, text) = w.request(request).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(!text.contains("signature") && !text.contains("secret"), "{text}");
    let request = Request::get("/api/v1/forges/github/deliveries").header("host", "localhost");
    let request = request.header("x-hub-signature-256", signature(SECRET, b"")).body(Body::empty()).unwrap();
    assert_eq!(w.request(request).await.0, StatusCode::UNAUTHORIZED);
    assert!(w.deliveries().await.is_empty());
}

#[tokio::test]
async fn what_is_too_large_or_malformed_is_refused_and_unknown_events_are_visible() {
    let mut w = World::new().await;
    let request = to("github", b"", 26 << 20).body(Body::empty()).unwrap();
    assert_eq!(w.request(request).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let form = b"payload=%7B%7D";
    let (status, text) = w.request(to("github", form, form.len()).body(Body::from(&form[..])).unwrap()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("application/json"), "{text}");
    // A large body is read, and nothing of it is stored.
    let body = json!({ "action": "created", "text": "x".repeat(2 << 20) });
    assert_eq!(w.hook("dance", body).await, StatusCode::ACCEPTED);
    let request = Request::get("/api/v1/forges/github/deliveries?limit=5").header("host", "localhost");
    let request = request.header("authorization", format!("Bearer {TOKEN}")).body(Body::empty()).unwrap();
    let (status, text) = w.request(request).await;
    assert_eq!(status, StatusCode::OK);
    let listed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!((&listed[0]["event"], &listed[0]["state"]), (&json!("dance.created"), &json!("ignored")));
    assert_eq!(listed[0]["repository"], REPO);
    assert!(text.len() < 1_000, "{text}");
}

#[tokio::test]
async fn a_change_that_moves_is_observed_at_once() {
    for kind in Kind::ALL {
        let mut w = World::on(kind).await;
        let issue = w.forge.state().open_issue("ann", "Say hello", "");
        w.label(issue, "ann", "skep").await;
        w.pass().await;
        let run = w.until_approval().await;
        let number = run.change.as_ref().unwrap().number.0;
        w.forge.state().close_pull(number, "ann");
        let pull = json!({ "number": number, "head": { "ref": run.settings.branch } });
        w.hook("pull_request", json!({ "action": "closed", "pull_request": pull })).await;
        match kind {
            Kind::GitHub => {
                let suite = json!({ "head_branch": "skep/00000000" });
                w.hook("check_suite", json!({ "action": "completed", "check_suite": suite })).await
            }
            Kind::Forgejo => w.hook("status", json!({ "sha": "0".repeat(40), "context": "ci" })).await,
            Kind::GitLab => w.hook("pipeline", json!({ "sha": "0".repeat(40) })).await,
        };
        w.pass().await;
        // Nothing else observes it within the sweep's 30 seconds; the pass has waited for it.
        let run = w.run().await;
        assert!(run.blocks.iter().any(|b| b.kind.code() == "change_closed"), "{:?}", run.blocks);
        let states: Vec<DeliveryState> = w.deliveries().await.iter().take(2).map(|d| d.state).collect();
        assert_eq!(states, [DeliveryState::Ignored, DeliveryState::Done]);
    }
}

#[tokio::test]
async fn the_result_of_a_ci_is_observed_by_its_commit() {
    let mut w = World::on(Kind::Forgejo).await;
    let name = skep::domain::ProjectName::new("calc").unwrap();
    let mut project = w.services.store.project(&name).await.unwrap().unwrap();
    project.policy.as_mut().unwrap().required_statuses = vec!["ci".to_owned()];
    project.policy.as_mut().unwrap().approve_merge = false;
    w.services.store.put_project(&project, true).await.unwrap();
    let issue = w.forge.state().open_issue("ann", "Say hello", "");
    w.label(issue, "ann", "skep").await;
    w.pass().await;
    let waits = |run: &skep::domain::Run| run.phase == skep::domain::Phase::Gating && run.change.is_some();
    let head = w.until("waits for its CI", waits).await.head.to_string();
    w.forge.state().status(&head, "ci", "success");
    let run = json!({ "commit_sha": head, "prettyref": "#2" });
    w.hook("action_run_success", json!({ "action": "success", "run": run })).await;
    w.pass().await;
    assert_eq!(w.last().await.0, DeliveryState::Done, "{:?}", w.last().await);
    w.until("ends", skep::domain::Run::ended).await;
    assert_eq!(w.forge.state().merges, 1);
}

#[tokio::test]
async fn the_headers_of_gitea_and_no_others_are_enough() {
    let w = World::on(Kind::Forgejo).await;
    let body = json!({ "zen": "é", "repository": { "full_name": REPO } }).to_string().into_bytes();
    let signature = signature(SECRET, &body);
    let plain = signature.trim_start_matches("sha256=");
    for (name, value, expected) in [
        ("x-gitea-signature", plain, StatusCode::ACCEPTED),
        // Gitea does not sign with a prefix.
        ("x-gitea-signature", &signature, StatusCode::UNAUTHORIZED),
        ("x-hub-signature-256", &signature, StatusCode::UNAUTHORIZED),
    ] {
        let request = Request::post("/webhooks/forgejo").header("host", "localhost").header(name, value);
        let request = request.header("content-length", body.len()).header("x-gitea-delivery", "1");
        let request = request.header("x-gitea-event", "push").body(Body::from(body.clone())).unwrap();
        assert_eq!(w.request(request).await.0, expected, "{name}: {value}");
    }
    let stored = w.deliveries().await;
    assert_eq!((stored.len(), stored[0].new.event.as_str()), (1, "push"));
}

#[tokio::test]
#[ignore = "needs the payloads of the npm package @octokit/webhooks-examples: SKEP_WEBHOOK_EXAMPLES=<index.json>"]
async fn every_real_payload_is_read_or_visibly_ignored() {
    let w = World::new().await;
    let file = std::env::var_os("SKEP_WEBHOOK_EXAMPLES").unwrap();
    let kinds: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut sent = 0;
    for kind in kinds.as_array().unwrap() {
        let event = kind["name"].as_str().unwrap();
        for example in kind["examples"].as_array().unwrap() {
            let body = example.to_string().into_bytes();
            let status = w.send(&format!("d{sent}"), event, &body, Some(&signature(SECRET, &body))).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{event} {}", example["action"]);
            sent += 1;
        }
    }
    let stored =
        w.services.intake.deliveries(&skep::domain::ForgeName("github".to_owned()), None, 1_000).await.unwrap();
    assert_eq!(stored.len(), sent);
    assert!(stored.iter().all(|d| d.new.fact.is_ok() || !d.reason.is_empty()));
    let facts = stored.iter().filter(|d| d.new.fact.is_ok()).count();
    println!("{sent} payloads: {facts} facts, {} ignored", sent - facts);
}
