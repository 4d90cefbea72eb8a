//! Results of any CI: reported through REST and by the script, they open the gate that waits for them.

use super::{TOKEN, World};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use skep::domain::{ProjectName, StatusState};

async fn report(w: &World, body: &Value) -> (StatusCode, String) {
    let request = Request::post("/api/v1/ci").header("host", "localhost").header("content-type", "application/json");
    let request = request.header("authorization", format!("Bearer {TOKEN}")).body(Body::from(body.to_string()));
    w.request(request.unwrap()).await
}

#[tokio::test]
async fn a_run_waits_for_a_result_that_a_ci_reports() {
    let mut w = World::new().await;
    let name = ProjectName::new("calc").unwrap();
    let mut project = w.services.store.project(&name).await.unwrap().unwrap();
    project.policy.as_mut().unwrap().required_statuses = vec!["ci/windows".to_owned()];
    project.policy.as_mut().unwrap().approve_merge = false;
    w.services.store.put_project(&project, true).await.unwrap();
    let issue = w.forge.state().open_issue("ann", "Say hello", "");
    w.label(issue, "ann", "skep").await;
    w.pass().await;
    let waits = |run: &skep::domain::Run| run.phase == skep::domain::Phase::Gating && run.change.is_some();
    let run = w.until("waits for its CI", waits).await;
    let (branch, sha) = (run.settings.branch.clone(), run.head.to_string());
    for (part, value, status) in [
        ("branch", json!("main"), 404),
        ("branch", json!("other/3f9a12bc"), 404),
        ("sha", json!("0123abc"), 422),
        ("context", json!("skep/checks"), 422),
        ("context", json!(""), 422),
        ("url", json!("javascript:alert(1)"), 422),
        ("state", json!("maybe"), 422),
    ] {
        let mut body = json!({ "branch": branch, "sha": sha, "state": "success", "context": "ci/windows" });
        body[part] = value;
        let (got, text) = report(&w, &body).await;
        assert_eq!(got.as_u16(), status, "{part}: {text}");
    }
    let body = json!({ "branch": branch, "sha": sha, "state": "pending", "context": "ci/windows" });
    assert_eq!(report(&w, &body).await.0, StatusCode::OK);
    let run = w.run().await;
    assert_eq!(
        run.facts.observed.as_ref().unwrap().statuses.get("ci/windows"),
        Some(&StatusState::Pending),
        "observed at once"
    );
    let body = json!({ "branch": branch, "sha": sha, "state": "success", "context": "ci/windows",
        "url": "https://ci.example.org/7" });
    assert_eq!(report(&w, &body).await.0, StatusCode::OK);
    w.until("ends", skep::domain::Run::ended).await;
    assert_eq!(w.forge.state().merges, 1);
}
