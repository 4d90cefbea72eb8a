//! REST: a run from its request to its delivery, actions of people on the way, and what is left afterwards.

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
async fn a_run_is_opened_approved_and_delivered() {
    let s = service().await;
    let reply = s.post("/api/v1/runs", &s.new_run("make it two")).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.header("etag"), "\"1\"");
    let run = reply.json();
    assert_eq!(reply.header("location"), format!("/api/v1/runs/{}", id(&run)));
    assert_eq!(run["goal"]["asked_by"], "local:tester");

    let blocked = s.until(id(&run), "blocked").await;
    assert_eq!(blocked["escalations"][0]["code"], "approve_merge", "{blocked}");
    let short = blocked["short_id"].as_str().expect("a short id");
    let at = format!("/api/v1/runs/{short}");
    assert_eq!(s.get(&at).await.json()["id"], run["id"], "a shortened id is accepted");

    // An action does not apply to a state that the caller has not seen.
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

    assert_eq!(s.post(&approve, &json!({})).await.status, 200, "what was approved has landed");
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

    // A retry opens one new run, however often it is requested.
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
async fn a_run_out_of_tries_continues_with_a_hint() {
    let s = service().await;
    let mut new = s.new_run("make it two");
    new["engines"]["dev"] = json!("command:cat \"$SKEP_NOTES_FILE\" >> a.txt; echo more >> a.txt");
    // Green at the base: what is red there is another question.
    new["checks"] = json!(["! grep -q more a.txt || grep -q HINT a.txt"]);
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
    // Whoever lets a run go on, perhaps with another engine, has approved nothing.
    for words in [json!({}), json!({"engines": {"reviewer": "direct"}})] {
        s.post(&format!("{at}/actions/unblock"), &words).await.is_problem(422, "not_an_answer");
    }
    // A person answers no, which ends the run.
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
    // The open run of a goal is reused on request.
    let same = s.post("/api/v1/runs", &json!({"project": "origin", "goal": "goal 1", "reuse_open_run": true})).await;
    assert_eq!((same.status.as_u16(), id(&same.json())), (200, opened[1].as_str()));
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
    // A prefix that all of them share (they were opened at the same time) is ambiguous.
    let several = s.get(&format!("/api/v1/runs/{}", &opened[0][..6])).await;
    several.is_problem(409, "several_runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_completes_when_a_person_merges_its_change() {
    let s = service().await;
    let run = s.open_run("make it two").await;
    s.until(id(&run), "blocked").await;
    let changes = s.get("/api/v1/projects/origin/changes").await.json();
    let n = changes[0]["number"].as_u64().expect("a change");
    let at = format!("/api/v1/projects/origin/changes/{n}");
    assert_eq!(s.get(&at).await.json()["state"], "open");
    s.get("/api/v1/projects/origin/changes/99").await.is_problem(404, "no_change");
    s.post("/api/v1/projects/origin/changes/99/merge", &json!({})).await.is_problem(404, "no_change");
    let output = s.post(&format!("{at}/comment"), &json!({"text": "hello"})).await.json();
    assert!(output["comments"].as_array().is_some_and(|c| c.iter().any(|c| c["text"] == "hello")), "{output}");
    s.post(&format!("{at}/comment"), &json!({"text": ""})).await.is_problem(422, "invalid");
    let status = json!({"context": "ci/x", "state": "success"});
    assert_eq!(s.post(&format!("{at}/status"), &status).await.status, 200);
    s.post(&format!("{at}/status"), &json!({"context": "ci/x", "state": "fine"})).await.is_problem(422, "invalid");
    let merged = s.post(&format!("{at}/merge"), &json!({})).await;
    assert_eq!(merged.status, 200, "{merged:?}");
    s.until(id(&run), "completed").await;
    // The body is optional.
    let bare = request(Method::POST, &format!("{at}/approve")).body(Body::empty()).expect("a request");
    s.send(bare).await.is_problem(409, "not_possible");
    s.post(&format!("{at}/approve"), &json!({"text": "too late"})).await.is_problem(409, "not_possible");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spending_is_summed_up_and_shared_budgets_are_raised() {
    let s = service().await;
    let mut project = s.ports.deps.parts.current().defaults.policy.clone();
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
    assert_eq!(raised["resumed"], json!([run["id"]]), "the run that waited for it continues");
    let asked = async {
        while s.get(&at).await.json()["escalations"][0]["code"] != "approve_merge" {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), asked).await.expect("it continues");
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
    assert_eq!(sums("by=day").await[0]["attempts"], 3, "an attempt that was not started has no ledger row");
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
async fn the_document_has_the_fields_that_are_sent() {
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
    let stored = s.post("/api/v1/secrets", &json!({"name": "A", "value": "a value for the schema"})).await;
    for (schema, value) in [
        ("Run", blocked.clone()),
        ("Goal", blocked["goal"].clone()),
        ("Attempt", blocked["attempts"][0].clone()),
        ("Escalation", blocked["escalations"][0].clone()),
        ("Need", blocked["escalations"][0]["needs"][0].clone()),
        ("Limits", blocked["budget"]["limits"].clone()),
        ("Usage", blocked["budget"]["spent"].clone()),
        ("Budget", blocked["budget"].clone()),
        ("SharedLimits", blocked["budget"]["shared"].clone()),
        ("Spending", first("/api/v1/spending?by=role").await),
        ("DiffStat", blocked["diff"].clone()),
        ("FileChange", blocked["diff"]["files"][0].clone()),
        ("Check", blocked["checks"][0].clone()),
        ("CheckResult", blocked["results"][0].clone()),
        ("Engine", blocked["engines"]["dev"].clone()),
        ("Task", blocked["tasks"][0].clone()),
        ("RunSummary", first("/api/v1/runs").await),
        ("Event", first(&format!("{at}/events")).await),
        ("Artifact", first(&format!("{at}/artifacts")).await),
        ("Log", first(&format!("{at}/logs")).await),
        ("Project", first("/api/v1/projects").await),
        ("LatestTests", s.get("/api/v1/projects/origin/tests/latest").await.json()),
        ("Change", first("/api/v1/projects/origin/changes").await),
        ("Secret", stored.json()["secret"].clone()),
        ("AuditEntry", first("/api/v1/audit").await),
        ("Health", s.get("/health").await.json()),
    ] {
        let documented = &document["components"]["schemas"][schema];
        let sent = value.as_object().unwrap_or_else(|| panic!("{schema}: {value}"));
        for field in sent.keys() {
            assert!(
                documented["properties"][field].is_object(),
                "{schema}.{field} is sent but not documented: {documented}"
            );
        }
        for field in documented["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(sent.contains_key(field), "{schema}.{field} is documented as required but not sent: {value}");
        }
    }
}

/// Opens a run with an idempotency key.
async fn open_with_key(s: &Service, key: &str, body: &Value) -> crate::support::rest::Reply {
    s.send(json(request(Method::POST, "/api/v1/runs").header("idempotency-key", key), body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_stands_for_one_run() {
    let mut s = service().await;
    let new = s.new_run("make it two");
    let first = open_with_key(&s, "\"8e03-1\"", &new).await;
    assert_eq!(first.status, 201, "{first:?}");
    let repeated = open_with_key(&s, "8e03-1", &new).await;
    assert_eq!((repeated.status.as_u16(), id(&repeated.json())), (201, id(&first.json())), "quotes make no difference");
    // A new process remembers the key.
    s.state.services.in_progress = Default::default();
    s.router = skep::http::router(s.state.clone());
    assert_eq!(id(&open_with_key(&s, "\"8e03-1\"", &new).await.json()), id(&first.json()));

    let other = s.new_run("make it three");
    open_with_key(&s, "\"8e03-1\"", &other).await.is_problem(422, "idempotency_key_reused");
    let another = open_with_key(&s, "\"8e03-2\"", &new).await;
    assert_eq!(another.status, 201, "{another:?}");
    assert_ne!(id(&another.json()), id(&first.json()), "different keys never share a run");
    for bad in ["", "\"open", "\"\""] {
        open_with_key(&s, bad, &new).await.is_problem(400, "idempotency_key");
    }

    // A request that reuses an open run is repeated like any other.
    let mut reuse = new.clone();
    reuse["reuse_open_run"] = json!(true);
    let reused = open_with_key(&s, "\"8e03-3\"", &reuse).await;
    assert_eq!(reused.status, 200, "{reused:?}");
    let repeated = open_with_key(&s, "\"8e03-3\"", &reuse).await;
    assert_eq!((repeated.status.as_u16(), id(&repeated.json())), (200, id(&reused.json())));

    // Of several concurrent requests, one opens the run; the others wait for it and return it.
    let new = s.new_run("all at once");
    let all = futures::future::join_all((0..8).map(|_| open_with_key(&s, "\"8e03-4\"", &new))).await;
    let opened: std::collections::BTreeSet<String> = all.iter().map(|r| id(&r.json()).to_owned()).collect();
    assert_eq!(opened.len(), 1, "{all:?}");
    // The same holds for concurrent requests that reuse an open run, with one key each or without any.
    let mut reuse = s.new_run("reused at once");
    reuse["reuse_open_run"] = json!(true);
    let all = futures::future::join_all((0..8).map(async |n| match n % 2 {
        0 => open_with_key(&s, &format!("\"8e03-5-{n}\""), &reuse).await,
        _ => s.post("/api/v1/runs", &reuse).await,
    }))
    .await;
    let opened: std::collections::BTreeSet<String> = all.iter().map(|r| id(&r.json()).to_owned()).collect();
    assert_eq!(opened.len(), 1, "{all:?}");
    let runs = s.get("/api/v1/runs").await.json();
    for title in ["all at once", "reused at once"] {
        let titled = runs.as_array().expect("rows").iter().filter(|r| r["title"] == title);
        assert_eq!(titled.count(), 1, "{title}");
    }
    // The key still stands for the run when the run has ended.
    let at = format!("/api/v1/runs/{}", id(&first.json()));
    assert_eq!(s.post(&format!("{at}/actions/cancel"), &json!({})).await.status, 200);
    s.until(id(&first.json()), "cancelled").await;
    let after_the_end = open_with_key(&s, "\"8e03-1\"", &s.new_run("make it two")).await;
    assert_eq!((after_the_end.status.as_u16(), id(&after_the_end.json())), (201, id(&first.json())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_may_be_repeated() {
    let s = service().await;
    let run = s.open_run("make it two").await;
    s.until(id(&run), "blocked").await;
    let at = format!("/api/v1/runs/{}", id(&run));
    let approve = format!("{at}/actions/approve");
    let both = [json!({"block": "b1"}), json!({"block": "b1"})];
    let all = futures::future::join_all(both.iter().map(|body| s.post(&approve, body))).await;
    assert!(all.iter().all(|reply| reply.status == 200), "{all:?}");
    s.until(id(&run), "completed").await;
    for body in [json!({"block": "b1"}), json!({})] {
        let reply = s.post(&approve, &body).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["status"]), (200, &json!("completed")), "{body}");
    }
    // Another answer to the same question is not a repetition.
    s.post(&approve, &json!({"block": "b1", "no": true})).await.is_problem(409, "already_answered");
    s.post(&approve, &json!({"block": "b7"})).await.is_problem(409, "ended");
    let events = s.get(&format!("{at}/events")).await.json();
    let answers = events.as_array().expect("rows").iter().filter(|row| row["name"] == "answered");
    assert_eq!(answers.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_shows_no_secret() {
    let s = service().await;
    let value = "pässword-of-a-test-<&>";
    assert_eq!(s.post("/api/v1/secrets", &json!({"name": "TOKEN", "value": value})).await.status, 201);
    let mut new = s.new_run("write it down");
    // The command puts the value together, in clear and as two JSON libraries print it.
    let parts = r"echo two >> a.txt; A=pässword-of-; B=a-test-; echo $A$B'<&>' > clear.txt; \
        echo 'p\u00e4ssword-of-'$B'<&>' > python.txt; echo $A$B'\u003c\u0026\u003e' > go.txt";
    new["engines"]["dev"] = json!(format!("command:{parts}"));
    let run = s.post("/api/v1/runs", &new).await.json();
    let blocked = s.until(id(&run), "blocked").await;
    for path in ["patch", "patch?task=t1"] {
        let patch = s.get(&format!("/api/v1/runs/{}/{path}", id(&run))).await;
        assert_eq!(patch.text.matches("+[redacted:TOKEN]").count(), 3, "{path}: {}", patch.text);
    }
    assert_eq!(blocked["escalations"][0]["code"], "secret_found", "{blocked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_in_the_audit_log_without_secrets() {
    let s = service().await;
    let run = s.open_run("make it two").await;
    s.until(id(&run), "blocked").await;
    let at = format!("/api/v1/runs/{}", id(&run));
    let value = "a value nobody may see";
    assert_eq!(s.post("/api/v1/secrets", &json!({"name": "TOKEN", "value": value})).await.status, 201);
    for _ in 0..2 {
        assert_eq!(s.post(&format!("{at}/actions/pause"), &json!({})).await.status, 200);
    }
    s.post(&format!("{at}/actions/resume"), &json!({})).await;
    s.post(&format!("{at}/actions/retry"), &json!({})).await.is_problem(409, "nothing_to_answer");
    assert_eq!(s.post(&format!("{at}/actions/approve"), &json!({})).await.status, 200);
    let raise = json!({"scope": "day", "tokens": 5});
    assert_eq!(s.post("/api/v1/budget/raise", &raise).await.status, 200);

    let log = s.get("/api/v1/audit").await;
    assert!(!log.text.contains(value));
    let log = log.json();
    let entries: Vec<(&str, &str)> = log
        .as_array()
        .expect("entries")
        .iter()
        .rev()
        .map(|e| (e["action"].as_str().expect("an action"), e["subject"].as_str().expect("a subject")))
        .collect();
    let run = format!("run:{}", id(&run));
    let expected = ["run.open", "secret.set", "run.pause", "run.resume", "run.answer", "budget.raise"];
    assert_eq!(
        entries.iter().map(|e| e.0).collect::<Vec<_>>(),
        expected,
        "refused and repeated actions are not recorded"
    );
    assert_eq!((entries[0].1, entries[1].1, entries[4].1), (run.as_str(), "secret:TOKEN", run.as_str()));
    assert_eq!((&log[0]["principal"], &log[0]["via"]), (&json!("local:tester"), &json!("rest")));
    let older = s.get(&format!("/api/v1/audit?limit=1&before={}", log[0]["id"])).await.json();
    assert_eq!((older.as_array().map(Vec::len), &older[0]["action"]), (Some(1), &json!("run.answer")));
    s.get("/api/v1/audit?limit=0").await.is_problem(422, "invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lifted_quarantine_lets_the_run_continue() {
    let s = service().await;
    let run = s.open_run("make it two").await;
    s.until(id(&run), "blocked").await;
    let at = format!("/api/v1/runs/{}", id(&run));
    let lift = format!("{at}/actions/lift-quarantine");
    s.post(&lift, &json!({})).await.is_problem(409, "not_quarantined");
    let run_id = skep::domain::RunId::try_from(id(&run).to_owned()).expect("an id");
    s.ports.deps.store.quarantine(run_id, "a broken disk").await.expect("a quarantine");
    let listed = s.get("/api/v1/runs?status=quarantined").await.json();
    assert_eq!(listed[0]["quarantined"], "a broken disk");
    let lifted = s.post(&lift, &json!({})).await;
    assert_eq!((lifted.status.as_u16(), &lifted.json()["status"]), (200, &json!("blocked")), "{lifted:?}");
    assert_eq!(s.get("/api/v1/runs?status=quarantined").await.text, "[]");
    s.post(&lift, &json!({})).await.is_problem(409, "not_quarantined");
    assert_eq!(s.post(&format!("{at}/actions/approve"), &json!({})).await.status, 200);
    s.until(id(&run), "completed").await;
}
