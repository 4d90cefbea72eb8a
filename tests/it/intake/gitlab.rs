//! Webhooks as GitLab writes them, and what only they have.

use super::{Kind, PREVIOUS_SECRET, SECRET, World, signature};
use crate::support::forge_server::REPO;
use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use serde_json::{Value, json};
use skep::domain::DeliveryState;

/// Writes an event as GitLab does.
pub fn payload(event: &str, body: Value) -> Value {
    let labels = |label: &Value| json!([{ "id": 1, "title": label["name"] }]);
    let number = |part: &str| body[part]["number"].clone();
    let changes = json!({ "labels": { "previous": [], "current": labels(&body["label"]) } });
    let mut written = match event {
        "issues" if body["action"] == "update" => {
            json!({ "object_kind": "issue", "changes": changes, "labels": labels(&body["label"]),
                "object_attributes": { "iid": number("issue"), "action": "update" } })
        }
        "issues" => {
            json!({ "object_kind": "issue", "object_attributes": { "iid": number("issue"), "action": "close" } })
        }
        "issue_comment" => {
            let kind = if body["is_pull"] == true { "MergeRequest" } else { "Issue" };
            let part = if body["is_pull"] == true { "merge_request" } else { "issue" };
            let action = if body["action"] == "created" { "create" } else { "update" };
            let mut note = json!({ "object_kind": "note", "object_attributes": { "id": body["comment"]["id"],
                "note": body["comment"]["body"], "noteable_type": kind, "action": action } });
            note[part] = json!({ "iid": number("issue"), "source_branch": "x" });
            note
        }
        "pull_request" => {
            let attributes = json!({ "iid": number("pull_request"), "action": "update",
                "source_branch": body["pull_request"]["head"]["ref"] });
            let changes = if body["label"].is_null() { json!({}) } else { changes };
            json!({ "object_kind": "merge_request", "object_attributes": attributes, "changes": changes })
        }
        "pipeline" => {
            let attributes = json!({ "ref": body["ref"].as_str().unwrap_or_default(), "sha": body["sha"],
                "status": body["status"].as_str().unwrap_or("success") });
            json!({ "object_kind": "pipeline", "object_attributes": attributes })
        }
        "push" => json!({ "object_kind": "push", "ref": body["ref"], "commits": body["commits"] }),
        other => json!({ "object_kind": other, "object_attributes": { "action": body["action"] } }),
    };
    written["project"] = json!({ "id": 5, "name": "Calc", "path_with_namespace": REPO });
    written["repository"] = json!({ "name": "Calc", "url": "git@gitlab.example.org:my-org/calc.git" });
    written["user"] = json!({ "username": body["sender"]["login"] });
    written
}

/// Returns the headers of a webhook. GitLab sends the secret itself: it is the one by which the body was signed, or a
/// wrong one if the signature does not fit.
pub fn headers(id: String, event: String, body: &[u8], signed: Option<String>) -> Vec<(&'static str, String)> {
    let known = [SECRET, PREVIOUS_SECRET];
    let secret = |text: String| {
        let of_body = known.iter().find(|secret| signature(secret, body) == text);
        of_body.map_or(text, |secret| (*secret).to_owned())
    };
    let event = format!("{} Hook", event.replace('_', " "));
    let mut headers = vec![
        ("x-gitlab-event", event),
        ("x-gitlab-webhook-uuid", format!("webhook-{id}")),
        ("x-gitlab-event-uuid", "same-for-what-follows-from-it".to_owned()),
        ("idempotency-key", id),
    ];
    headers.extend(signed.map(|text| ("x-gitlab-token", secret(text))));
    headers
}

#[tokio::test]
async fn a_signing_token_authenticates_as_well() {
    let w = World::on(Kind::GitLab).await;
    let key = [7_u8; 32];
    w.forge.private_file("webhook", &format!("whsec_{}", BASE64.encode(key)));
    let body = Kind::GitLab.payload("push", json!({ "ref": "refs/heads/main" })).to_string().into_bytes();
    let sign = |id: &str, body: &[u8]| {
        let signed = [id.as_bytes(), b".1764500000.", body].concat();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &signed);
        format!("v1,{}", BASE64.encode(tag))
    };
    for (id, signature, expected) in [
        ("one", sign("one", &body), 202),
        ("one", sign("one", &body), 202),
        ("two", sign("one", &body), 401),
        ("three", sign("three", b"{}"), 401),
    ] {
        let request = Request::post("/webhooks/gitlab").header("host", "localhost").header("webhook-id", id);
        let request = request.header("webhook-timestamp", "1764500000").header("webhook-signature", signature);
        let request = request.header("idempotency-key", id).header("content-length", body.len());
        let status = w.request(request.body(Body::from(body.clone())).unwrap()).await.0;
        assert_eq!(status.as_u16(), expected, "{id}");
    }
    let stored = w.deliveries().await;
    assert_eq!((stored.len(), stored[0].new.event.as_str()), (1, "push"));
}

#[tokio::test]
async fn an_event_without_a_kind_is_visible_and_what_only_members_see_is_not_read() {
    let mut w = World::on(Kind::GitLab).await;
    let issue = w.forge.state().open_issue("ann", "Say hello", "CONFIDENTIAL");
    w.label(issue, "ann", "skep").await;
    w.pass().await;
    assert_eq!(w.last().await, (DeliveryState::Ignored, "the issue does not exist any more".to_owned()));
    let body = json!({ "event_name": "user_add_to_team", "access_level": "Developer" }).to_string().into_bytes();
    assert_eq!(w.send("d", "System", &body, Some(&signature(SECRET, &body))).await.as_u16(), 202);
    let (state, reason) = w.last().await;
    assert_eq!((state, reason.as_str()), (DeliveryState::Ignored, "Skep does not use this event"));
}

#[tokio::test]
async fn a_red_pipeline_is_observed_by_its_branch() {
    let mut w = World::on(Kind::GitLab).await;
    let issue = w.forge.state().open_issue("ann", "Say hello", "");
    w.label(issue, "ann", "skep").await;
    w.pass().await;
    let run = w.until_approval().await;
    let body = json!({ "ref": run.settings.branch, "sha": run.head.to_string(), "status": "failed" });
    w.hook("pipeline", body).await;
    w.pass().await;
    assert_eq!(w.last().await.0, DeliveryState::Done, "{:?}", w.last().await);
    assert_eq!(w.deliveries().await[0].new.event, "pipeline.failed");
}
