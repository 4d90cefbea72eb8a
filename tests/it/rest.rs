//! REST's stories: a project, a run to its delivery, what people say on the way, and what is left behind.

use crate::git_world::git;
use crate::support::rest::{Service, json, request, service};
use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};

fn id(run: &Value) -> &str {
    run["id"].as_str().expect("an id")
}

async fn with(s: &Service, method: Method, path: &str, header: (&str, &str)) -> crate::support::rest::Reply {
    s.send(request(method, path).header(header.0, header.1).body(Body::empty()).expect("a request")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_asked_for_approved_and_delivered() {
    let s = service().await;
    let reply = s.post("/api/v1/runs", &s.new_run("make it two")).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.header("etag"), "\"1\"");
    let run = reply.json();
    assert_eq!(reply.header("location"), format!("/api/v1/runs/{}", id(&run)));
    assert_eq!(run["goal"]["asked_by"], "local:tester");

    let blocked = s.until(id(&run), "blocked").await;
    assert_eq!(blocked["escalations"][0]["code"], "approve_merge", "{blocked}");
    let short = blocked["short"].as_str().expect("a short id");
    let at = format!("/api/v1/runs/{short}");
    assert_eq!(s.get(&at).await.json()["id"], run["id"], "a shortened id is as good");

    // What was not seen is not acted on.
    let etag = s.get(&at).await.header("etag").to_owned();
    assert_eq!(with(&s, Method::GET, &at, ("if-none-match", &etag)).await.status, 304);
    assert_eq!(with(&s, Method::GET, &at, ("if-none-match", "\"1\", W/\"2\"")).await.status, 200);
    let approve = format!("{at}/actions/approve");
    with(&s, Method::POST, &approve, ("if-match", "\"1\"")).await.is_problem(412, "moved");
    with(&s, Method::POST, &approve, ("if-match", "soon")).await.is_problem(400, "if_match");
    let wrong = s.post(&approve, &json!({"block": "b77"})).await;
    wrong.is_problem(404, "no_block");

    assert_eq!(with(&s, Method::POST, &approve, ("if-match", &etag)).await.status, 200);
    let done = s.until(id(&run), "completed").await;
    let sha = done["outcome"]["delivered"]["sha"].as_str().expect("a commit");
    assert_eq!(git(&s.origin, &["rev-parse", "main"]), sha);

    let steps = s.get(&format!("{at}/steps")).await.json();
    assert_eq!(steps["steps"][0]["status"], "completed", "{steps}");
    let events = s.get(&format!("{at}/events?limit=500")).await.json();
    let numbers: Vec<u64> = events.as_array().expect("rows").iter().filter_map(|e| e["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=done["seq"].as_u64().expect("a number")).collect::<Vec<_>>());
    let after = s.get(&format!("{at}/events?after=2&limit=1")).await.json();
    assert_eq!((after.as_array().map(Vec::len), after[0]["seq"].as_u64()), (Some(1), Some(3)));

    s.post(&approve, &json!({})).await.is_problem(409, "ended");
    s.post(&format!("{at}/actions/retry"), &json!({})).await.is_problem(409, "delivered");
    s.post(&format!("{at}/actions/pause"), &json!({})).await.is_problem(409, "ended");
    left_behind(&s, &at).await;
}

async fn left_behind(s: &Service, at: &str) {
    for path in [format!("{at}/patch"), format!("{at}/patch?task=t1")] {
        let patch = s.get(&path).await;
        assert!(patch.text.contains("+two"), "{path}: {patch:?}");
        assert_eq!(patch.header("content-type"), "text/plain; charset=utf-8");
        assert!(patch.header("content-disposition").starts_with("attachment"));
    }
    s.get(&format!("{at}/patch?task=t9")).await.is_problem(404, "no_patch");
    let artifacts = s.get(&format!("{at}/artifacts")).await.json();
    let logs = s.get(&format!("{at}/logs")).await.json();
    assert!(!artifacts.as_array().expect("a list").is_empty());
    for log in logs.as_array().expect("a list").iter().chain(artifacts.as_array().expect("a list")) {
        let digest = log["digest"].as_str().expect("a digest");
        let bytes = s.get(&format!("{at}/artifacts/{digest}")).await;
        assert_eq!(bytes.status, 200);
        assert_eq!(bytes.header("x-content-type-options"), "nosniff");
        assert_eq!(bytes.text.len() as u64, log["size"].as_u64().expect("a size"));
    }
    s.get(&format!("{at}/artifacts/{}", "0".repeat(64))).await.is_problem(404, "no_artifact");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actions_may_be_repeated() {
    let s = service().await;
    let run = s.open_run("make it two").await;
    s.until(id(&run), "blocked").await;
    let at = format!("/api/v1/runs/{}", id(&run));
    for action in ["pause", "pause"] {
        let reply = s.post(&format!("{at}/actions/{action}"), &json!({})).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["status"]), (200, &json!("paused")));
    }
    for _ in 0..2 {
        let reply = s.send(request(Method::POST, &format!("{at}/actions/resume")).body(Body::empty()).expect("")).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["status"]), (200, &json!("blocked")));
    }
    s.post(&format!("{at}/actions/raise"), &json!({})).await.is_problem(422, "invalid");
    let before = s.get(&at).await.json()["budget"]["limits"]["rounds"].as_u64().expect("rounds");
    let raised = s.post(&format!("{at}/actions/raise"), &json!({"more": {"rounds": 2}})).await.json();
    assert_eq!(raised["budget"]["limits"]["rounds"].as_u64(), Some(before + 2));
    s.post(&format!("{at}/actions/retry"), &json!({})).await.is_problem(409, "nothing_to_answer");

    for _ in 0..2 {
        assert_eq!(s.post(&format!("{at}/actions/cancel"), &json!({"text": "not needed"})).await.status, 200);
    }
    let over = s.until(id(&run), "cancelled").await;
    assert_eq!(s.post(&format!("{at}/actions/cancel"), &json!({})).await.status, 200);

    // The same once more is one new run, however often it is asked for.
    let again = s.post(&format!("{at}/actions/retry"), &json!({})).await;
    assert_eq!(again.status, 201, "{again:?}");
    let again = again.json();
    assert_ne!(again["id"], over["id"]);
    assert_eq!(again["goal"]["source"], json!({"retry": {"run": over["id"]}}));
    assert_eq!(again["checks"], over["checks"]);
    assert_eq!(again["engines"], over["engines"]);
    s.until(id(&again), "blocked").await;
    let repeated = s.post(&format!("{at}/actions/retry"), &json!({})).await;
    assert_eq!((repeated.status.as_u16(), repeated.json()["id"].clone()), (200, again["id"].clone()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_out_of_tries_goes_on_with_a_hint() {
    let s = service().await;
    let mut new = s.new_run("make it two");
    new["engines"]["dev"] = json!("command:cat \"$SKEP_NOTES_FILE\" >> a.txt; echo more >> a.txt");
    new["checks"] = json!(["grep -q HINT a.txt"]);
    let run = s.post("/api/v1/runs", &new).await.json();
    let blocked = s.until(id(&run), "blocked").await;
    assert_eq!(blocked["escalations"][0]["code"], "tries", "{blocked}");
    let at = format!("/api/v1/runs/{}", id(&run));
    s.post(&format!("{at}/actions/approve"), &json!({})).await.is_problem(409, "nothing_to_answer");
    assert_eq!(s.post(&format!("{at}/actions/retry"), &json!({"text": "HINT"})).await.status, 200);
    let asked = async {
        loop {
            let run = s.until(id(&run), "blocked").await;
            if run["escalations"][0]["code"] == "approve_merge" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), asked).await.expect("the hint helps");
    // Declined, then ended, by a person.
    let declined = s.post(&format!("{at}/actions/unblock"), &json!({"no": true, "text": "other words"})).await;
    assert_eq!(declined.status, 200, "{declined:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projects_and_lists() {
    let s = service().await;
    let new =
        json!({"repo": s.origin, "checks": ["grep -q two a.txt"], "engines": {"dev": "command:echo two >> a.txt"}});
    let added = s.post("/api/v1/projects", &new).await;
    assert_eq!((added.status.as_u16(), added.header("location")), (201, "/api/v1/projects/origin"), "{added:?}");
    assert_eq!(added.json()["checks"][0]["name"], "check-1");
    s.post("/api/v1/projects", &new).await.is_problem(409, "taken");
    assert_eq!(s.get("/api/v1/projects").await.json().as_array().map(Vec::len), Some(1));
    assert_eq!(s.get("/api/v1/projects/origin").await.json(), added.json());
    s.get("/api/v1/projects/other").await.is_problem(404, "no_project");

    let mut opened = Vec::new();
    for n in 0..3 {
        let new = json!({"project": "origin", "goal": format!("goal {n}")});
        let reply = s.post("/api/v1/runs", &new).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        opened.push(id(&reply.json()).to_owned());
    }
    // A repeated request with a key opens nothing.
    let same = json(
        request(Method::POST, "/api/v1/runs").header("idempotency-key", "k"),
        &json!({"project": "origin", "goal": "goal 1"}),
    );
    assert_eq!(id(&s.send(same).await.json()), opened[1]);
    let page = s.get("/api/v1/runs?project=origin&open=true&limit=2").await;
    let next = page.header("link").to_owned();
    let next = next.strip_prefix('<').and_then(|n| n.split_once('>')).expect("a link").0;
    let rest = s.get(next).await;
    assert!(!rest.headers.contains_key("link"));
    let rows: Vec<Value> = [page.json(), rest.json()].iter().flat_map(|p| p.as_array().cloned()).flatten().collect();
    let listed: Vec<&str> = rows.iter().filter_map(|r| r["run"].as_str()).collect();
    assert_eq!(listed, opened.iter().rev().map(String::as_str).collect::<Vec<_>>());
    s.get("/api/v1/runs?project=other").await.is_problem(404, "no_project");
    s.post("/api/v1/runs", &json!({"project": "other", "goal": "x"})).await.is_problem(404, "no_project");
    s.get("/api/v1/runs?status=fine").await.is_problem(422, "invalid");
    assert_eq!(s.get("/api/v1/runs?status=quarantined").await.text, "[]");
    // A prefix all of them share (they were opened in one moment) is no name.
    let several = s.get(&format!("/api/v1/runs/{}", &opened[0][..6])).await;
    several.is_problem(409, "several_runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_merges_the_change_and_the_run_hears_of_it() {
    let s = service().await;
    let run = s.open_run("make it two").await;
    s.until(id(&run), "blocked").await;
    let changes = s.get("/api/v1/projects/origin/changes").await.json();
    let n = changes[0]["number"].as_u64().expect("a change");
    let at = format!("/api/v1/projects/origin/changes/{n}");
    assert_eq!(s.get(&at).await.json()["state"], "open");
    s.get("/api/v1/projects/origin/changes/99").await.is_problem(404, "no_change");
    s.post("/api/v1/projects/origin/changes/99/merge", &json!({})).await.is_problem(404, "no_change");
    let said = s.post(&format!("{at}/comment"), &json!({"text": "hello"})).await.json();
    assert!(said["comments"].as_array().is_some_and(|c| c.iter().any(|c| c["text"] == "hello")), "{said}");
    s.post(&format!("{at}/comment"), &json!({"text": ""})).await.is_problem(422, "invalid");
    let status = json!({"context": "ci/x", "state": "success"});
    assert_eq!(s.post(&format!("{at}/status"), &status).await.status, 200);
    s.post(&format!("{at}/status"), &json!({"context": "ci/x", "state": "fine"})).await.is_problem(422, "invalid");
    let merged = s.post(&format!("{at}/merge"), &json!({})).await;
    assert_eq!(merged.status, 200, "{merged:?}");
    s.until(id(&run), "completed").await;
    // A bare POST says nothing more than what it is for.
    let bare = request(Method::POST, &format!("{at}/approve")).body(Body::empty()).expect("a request");
    s.send(bare).await.is_problem(409, "not_possible");
    s.post(&format!("{at}/approve"), &json!({"text": "too late"})).await.is_problem(409, "not_possible");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spending_is_summed_up_and_shared_budgets_are_raised() {
    let s = service().await;
    let mut project = s.ports.deps.defaults.borrow().policy.clone();
    project.shared.project_cost_micros = Some(0);
    let dev =
        r#"command:echo two >> a.txt; echo '{"summary": "did it", "usage": {"cost_micros": 7}}' > "$SKEP_REPORT_FILE""#;
    let new = json!({"name": "poor", "repo": s.origin, "checks": ["grep -q two a.txt"], "policy": project,
        "engines": {"dev": dev}});
    assert_eq!(s.post("/api/v1/projects", &new).await.status, 201);
    let run = s.post("/api/v1/runs", &json!({"project": "poor", "goal": "make it two"})).await.json();
    let blocked = s.until(id(&run), "blocked").await;
    assert_eq!(blocked["escalations"][0]["code"], "budget", "{blocked}");
    let at = format!("/api/v1/runs/{}", id(&run));
    let more = json!({"more": {"cost_micros": 5}});
    s.post(&format!("{at}/actions/unblock"), &more).await.is_problem(422, "not_an_answer");
    for (bad, code) in [
        (json!({"scope": "project", "cost_micros": 5}), "invalid"),
        (json!({"scope": "day", "project": "poor", "tokens": 5}), "invalid"),
        (json!({"scope": "project", "project": "poor"}), "invalid"),
        (json!({"scope": "day", "tokens": u64::MAX}), "invalid"),
    ] {
        s.post("/api/v1/budget/raise", &bad).await.is_problem(422, code);
    }
    s.post("/api/v1/budget/raise", &json!({"scope": "project", "project": "nobody", "tokens": 1}))
        .await
        .is_problem(404, "no_project");
    let day = s.post("/api/v1/budget/raise", &json!({"scope": "day", "tokens": 5})).await;
    assert_eq!((day.status.as_u16(), day.json()["resumed"].clone()), (200, json!([])));
    let raise = json!({"scope": "project", "project": "poor", "cost_micros": 5_000});
    let raised = s.post("/api/v1/budget/raise", &raise).await.json();
    assert_eq!(raised["resumed"], json!([run["id"]]), "the run that waited for it goes on");
    let asked = async {
        while s.get(&at).await.json()["escalations"][0]["code"] != "approve_merge" {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), asked).await.expect("it goes on");
    let sums = async |query: &str| s.get(&format!("/api/v1/spending?{query}")).await.json();
    let keys = |rows: &Value| -> Vec<String> {
        let all = rows.as_array().expect("rows").iter();
        let mut keys: Vec<String> = all.filter_map(|r| r["key"].as_str().map(str::to_owned)).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&sums("by=role").await), ["dev", "manager", "reviewer"]);
    assert_eq!(keys(&sums("by=model&day=today").await), ["command", "direct"]);
    assert_eq!(keys(&sums("by=project").await), ["poor"]);
    assert_eq!(keys(&sums(&format!("by=run&project=poor&run={}", id(&run))).await), [id(&run)]);
    assert_eq!(sums("by=day").await[0]["attempts"], 3, "what was not started is no line");
    assert_eq!(sums("by=role&day=2001-01-01").await, json!([]));
    for bad in ["by=role&day=yesterday", "by=role&limit=0"] {
        s.get(&format!("/api/v1/spending?{bad}")).await.is_problem(422, "invalid");
    }
    assert_eq!(s.get("/api/v1/spending?by=moon").await.status, 400);
    let view = s.get(&at).await.json();
    assert_eq!(view["budget"]["shared"]["project_cost_micros"], 0);
    assert_eq!(view["budget"]["spent"]["turns"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_tells_the_fields_that_are_sent() {
    let s = service().await;
    let run = s.open_run("make it two").await;
    let blocked = s.until(id(&run), "blocked").await;
    let document = s.get("/openapi.json").await.json();
    let at = format!("/api/v1/runs/{}", id(&run));
    let first = async |path: &str| s.get(path).await.json()[0].clone();
    let tests = s.get("/api/v1/projects/origin/tests/latest").await.json();
    assert_eq!((&tests["run"], &tests["results"], &tests["scope"]), (&run["id"], &blocked["results"], &json!("head")));
    assert_eq!((&tests["green"], &tests["sha"]), (&json!(true), &blocked["head"]));
    s.get("/api/v1/projects/none/tests/latest").await.is_problem(404, "no_project");
    let kept = s.post("/api/v1/secrets", &json!({"name": "A", "value": "kept for its shape"})).await;
    for (schema, value) in [
        ("RunView", blocked.clone()),
        ("Goal", blocked["goal"].clone()),
        ("Attempt", blocked["attempts"][0].clone()),
        ("Escalation", blocked["escalations"][0].clone()),
        ("Need", blocked["escalations"][0]["needs"][0].clone()),
        ("Limits", blocked["budget"]["limits"].clone()),
        ("Usage", blocked["budget"]["spent"].clone()),
        ("BudgetView", blocked["budget"].clone()),
        ("SharedLimits", blocked["budget"]["shared"].clone()),
        ("Spending", first("/api/v1/spending?by=role").await),
        ("DiffStat", blocked["diff"].clone()),
        ("FileChange", blocked["diff"]["files"][0].clone()),
        ("CheckSpec", blocked["checks"][0].clone()),
        ("CheckResult", blocked["results"][0].clone()),
        ("EngineSpec", blocked["engines"]["dev"].clone()),
        ("TaskView", blocked["tasks"][0].clone()),
        ("RunRow", first("/api/v1/runs").await),
        ("JournalRow", first(&format!("{at}/events")).await),
        ("ArtifactRef", first(&format!("{at}/artifacts")).await),
        ("LogView", first(&format!("{at}/logs")).await),
        ("Project", first("/api/v1/projects").await),
        ("TestsView", s.get("/api/v1/projects/origin/tests/latest").await.json()),
        ("Change", first("/api/v1/projects/origin/changes").await),
        ("SecretRow", kept.json()["secret"].clone()),
        ("Health", s.get("/health").await.json()),
    ] {
        let told = &document["components"]["schemas"][schema];
        let sent = value.as_object().unwrap_or_else(|| panic!("{schema}: {value}"));
        for field in sent.keys() {
            assert!(told["properties"][field].is_object(), "{schema}.{field} is sent and not told: {told}");
        }
        for field in told["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(sent.contains_key(field), "{schema}.{field} is told and not sent: {value}");
        }
    }
}
