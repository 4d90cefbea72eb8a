//! People, roles and access tokens: who may do what, over REST, on the pages, and with the command line at a service
//! that is named by its address.

use crate::support::cli::{Cli, ended, git};
use crate::support::rest::{Service, json, service};
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use skep::service::Right;

/// Sends a request with this token.
async fn with(s: &Service, token: &str, method: Method, path: &str, body: &Value) -> crate::support::rest::Reply {
    let builder = Request::builder().method(method.clone()).uri(path).header("host", "localhost:7300");
    let builder = builder.header("authorization", format!("Bearer {token}"));
    let sent = match method {
        Method::GET => builder.body(Body::empty()).expect("a request"),
        _ => json(builder, body),
    };
    s.send(sent).await
}

async fn create(s: &Service, body: Value) -> (String, String) {
    let reply = s.post("/api/v1/tokens", &body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let created = reply.json();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (text(&created["token"]), text(&created["access_token"]["id"]))
}

async fn add(s: &Service, name: &str, role: &str) {
    let reply = s.post("/api/v1/people", &json!({"name": name, "role": role})).await;
    assert_eq!(reply.status, 201, "{reply:?}");
}

/// Routes of every kind, each with the right it needs.
const ROUTES: &[(&str, &str, Right)] = &[
    ("GET", "/api/v1/runs", Right::Read),
    ("GET", "/api/v1/projects", Right::Read),
    ("GET", "/api/v1/secrets", Right::Read),
    ("GET", "/api/v1/spending", Right::Read),
    ("GET", "/api/v1/outcomes", Right::Read),
    ("GET", "/api/v1/proposals", Right::Read),
    ("GET", "/api/v1/memories", Right::Read),
    ("GET", "/api/v1/memories/effect", Right::Read),
    ("POST", "/api/v1/memories/sweep", Right::Run),
    ("POST", "/api/v1/memories/forget", Right::Approve),
    ("POST", "/api/v1/improve", Right::Run),
    ("POST", "/api/v1/proposals/abcd/accept", Right::Approve),
    ("POST", "/api/v1/proposals/abcd/drop", Right::Approve),
    ("POST", "/api/v1/outcomes/rebuild", Right::Admin),
    ("POST", "/api/v1/runs", Right::Run),
    ("POST", "/api/v1/runs/preview", Right::Run),
    ("POST", "/api/v1/projects", Right::Projects),
    ("POST", "/api/v1/budget/raise", Right::Budget),
    ("POST", "/api/v1/secrets", Right::Secrets),
    ("POST", "/api/v1/secrets/rekey", Right::Admin),
    ("GET", "/api/v1/audit", Right::Admin),
    ("GET", "/metrics", Right::Metrics),
    ("GET", "/api/v1/people", Right::People),
    ("POST", "/api/v1/people", Right::People),
    ("GET", "/api/v1/tokens", Right::People),
    ("POST", "/api/v1/tokens", Right::People),
    ("POST", "/api/v1/login-links", Right::People),
    ("GET", "/api/v1/agents", Right::Read),
    ("GET", "/api/v1/ratings", Right::Read),
    ("POST", "/api/v1/agents", Right::People),
    ("POST", "/api/v1/agents/crab/revoke", Right::People),
    ("GET", "/api/v1/work/feed", Right::Work),
    ("POST", "/api/v1/work/register", Right::Register),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_may_do_exactly_what_it_says() {
    let s = service().await;
    for (name, role) in [("vera", "viewer"), ("mia", "member"), ("abe", "approver"), ("ada", "admin")] {
        add(&s, name, role).await;
        let all: Vec<&str> = Right::ALL.iter().filter(|r| **r != Right::People).map(|r| r.name()).collect();
        let (token, _) = create(&s, json!({"name": "all", "person": name, "rights": all})).await;
        let role = skep::domain::AccessRole::named(role).expect("a role");
        for (method, path, right) in ROUTES {
            let body = match *path {
                "/api/v1/runs" | "/api/v1/runs/preview" => json!({"goal": "x", "project": "none"}),
                "/api/v1/projects" => json!({"repo": "/nowhere"}),
                "/api/v1/secrets" => json!({"name": "A", "value": "12345678"}),
                "/api/v1/secrets/rekey" => json!({"file": "/nowhere"}),
                "/api/v1/budget/raise" => json!({"scope": "day", "tokens": 1}),
                "/api/v1/proposals/abcd/drop" => json!({"why": "known"}),
                "/api/v1/people" => json!({"name": "zoe", "role": "admin"}),
                "/api/v1/tokens" => json!({"name": "more"}),
                "/api/v1/agents" => json!({"name": "crab"}),
                _ => json!({}),
            };
            let reply = with(&s, &token, method.parse().expect("a method"), path, &body).await;
            // No token manages people, whatever the role.
            let allowed = Right::of_role(role).contains(right) && *right != Right::People;
            let refused = reply.status == 403 && reply.text.contains("missing_right");
            assert_eq!(refused, !allowed, "{name}: {method} {path} -> {reply:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_those_who_may_raise_budgets_exceed_a_configured_limit() {
    let s = service().await;
    add(&s, "mia", "member").await;
    let (token, _) = create(&s, json!({"name": "mine", "person": "mia", "rights": ["read", "run"]})).await;
    let body = |limits: Value| {
        let mut body = s.new_run("x");
        body["limits"] = limits;
        body
    };
    let preview = async |limits| with(&s, &token, Method::POST, "/api/v1/runs/preview", &body(limits)).await;
    let lower = preview(json!({"rounds": 1, "cost_micros": 1_000_000})).await;
    assert_eq!(lower.status, 200, "{lower:?}");
    assert_eq!(lower.json()["limits"]["rounds"], 1);
    preview(json!({"rounds": 90})).await.is_problem(403, "not_allowed");
    preview(json!({"tokens": 0})).await.is_problem(422, "invalid");
    let raised = s.post("/api/v1/runs/preview", &body(json!({"rounds": 90}))).await;
    assert_eq!(raised.status, 200, "{raised:?}");
    assert_eq!(raised.json()["limits"]["rounds"], 90);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_with_its_time_its_revocation_and_its_person() {
    let s = service().await;
    add(&s, "ann", "member").await;
    let (mine, id) = create(&s, json!({"name": "laptop", "person": "ann", "rights": ["read", "run"]})).await;
    assert!(mine.starts_with(&format!("skep_pat_{id}_")), "{mine}");
    let get = async |token: &str| with(&s, token, Method::GET, "/api/v1/runs", &json!({})).await.status.as_u16();
    assert_eq!(get(&mine).await, 200);
    let (program, _) = create(&s, json!({"name": "ci", "never_expires": true})).await;
    assert!(program.starts_with("skep_svc_"));
    assert_eq!(get(&program).await, 200);

    // Neither is one with another secret, another kind, or anything around it.
    let other = format!("{}{}", &mine[..mine.len() - 1], if mine.ends_with('0') { '1' } else { '0' });
    let kind = mine.replacen("skep_pat_", "skep_svc_", 1);
    for wrong in [other, kind, format!("{mine}0"), mine[..mine.len() - 1].to_owned(), mine.to_uppercase()] {
        assert_eq!(get(&wrong).await, 401, "{wrong}");
    }

    // The role counts at each request.
    let run = json!({"goal": "x", "project": "none"});
    assert_eq!(with(&s, &mine, Method::POST, "/api/v1/runs", &run).await.status, 404);
    assert_eq!(s.post("/api/v1/people/ann/role", &json!({"role": "viewer"})).await.status, 200);
    with(&s, &mine, Method::POST, "/api/v1/runs", &run).await.is_problem(403, "missing_right");
    assert_eq!(s.post("/api/v1/people/ann/disable", &json!({})).await.status, 200);
    assert_eq!(get(&mine).await, 401);
    s.post("/api/v1/tokens", &json!({"name": "x", "person": "ann"})).await.is_problem(409, "disabled");
    s.post("/api/v1/login-links", &json!({"person": "ann"})).await.is_problem(409, "disabled");
    assert_eq!(s.post("/api/v1/people/ann/enable", &json!({})).await.status, 200);
    assert_eq!(get(&mine).await, 200);
    assert_eq!(s.post(&format!("/api/v1/tokens/{id}/revoke"), &json!({})).await.status, 200);
    assert_eq!(get(&mine).await, 401);
    assert_eq!(get(&program).await, 200, "the other one still works");

    let listed = s.get("/api/v1/tokens").await;
    assert!(!listed.text.contains(&mine[mine.len() - 64..]), "no secret is listed");
    assert_eq!(listed.json().as_array().expect("a list").len(), 2);
    let audit = s.get("/api/v1/audit").await.text;
    for action in ["person.add", "person.grant", "person.disable", "person.enable", "token.create", "token.revoke"] {
        assert!(audit.contains(action), "{action} is not in {audit}");
    }
    assert!(!audit.contains(&mine[mine.len() - 64..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusable_input_changes_nothing() {
    let s = service().await;
    add(&s, "ann", "member").await;
    s.post("/api/v1/people", &json!({"name": "ann", "role": "admin"})).await.is_problem(409, "person_exists");
    for name in ["", "Ann", "ann\n", "../x", &"a".repeat(65)] {
        s.post("/api/v1/people", &json!({"name": name, "role": "member"})).await.is_problem(422, "invalid");
        s.post("/api/v1/tokens", &json!({"name": name})).await.is_problem(422, "invalid");
    }
    s.post("/api/v1/people", &json!({"name": "eve", "role": "owner"})).await.is_problem(422, "invalid");
    s.post("/api/v1/people/eve/role", &json!({"role": "admin"})).await.is_problem(404, "no_person");
    s.post("/api/v1/people/eve/disable", &json!({})).await.is_problem(404, "no_person");
    s.post("/api/v1/tokens/nothing/revoke", &json!({})).await.is_problem(404, "no_token");
    for body in [
        json!({"name": "x", "person": "eve"}),
        json!({"name": "x", "rights": ["people"]}),
        json!({"name": "x", "rights": ["root"]}),
        json!({"name": "x", "days": 0}),
        json!({"name": "x", "days": 4000}),
        json!({"name": "x", "days": 1, "never_expires": true}),
    ] {
        let reply = s.post("/api/v1/tokens", &body).await;
        assert!(reply.status.is_client_error(), "{body}: {reply:?}");
    }
    assert_eq!(s.get("/api/v1/people").await.json().as_array().expect("a list").len(), 1);
    assert_eq!(s.get("/api/v1/tokens").await.json(), json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_programs_token_opens_runs_and_approves_nothing() {
    let s = service().await;
    let all = ["read", "run", "approve", "review", "budget"];
    let (token, _) = create(&s, json!({"name": "ci", "rights": all})).await;
    let opened = with(&s, &token, Method::POST, "/api/v1/runs", &s.new_run("Add a line")).await;
    assert_eq!(opened.status, 201, "{opened:?}");
    let run = opened.json();
    assert_eq!(run["goal"]["asked_by"], "token:ci", "{run}");
    let id = run["id"].as_str().expect("an id");
    s.until(id, "blocked").await;
    let approve = format!("/api/v1/runs/{id}/actions/approve");
    let refused = with(&s, &token, Method::POST, &approve, &json!({})).await;
    assert!(refused.status.is_client_error(), "{refused:?}");
    assert_eq!(s.get(&format!("/api/v1/runs/{id}")).await.json()["status"], "blocked");
    // Somebody with a role that allows it approves.
    add(&s, "abe", "approver").await;
    let (token, _) = create(&s, json!({"name": "cli", "person": "abe", "rights": ["read", "run", "approve"]})).await;
    let approved = with(&s, &token, Method::POST, &approve, &json!({})).await;
    assert!(approved.status.is_success(), "{approved:?}");
}

#[test]
fn the_command_line_works_at_a_service_elsewhere() {
    let machine = Cli::new();
    machine.repo("tool", &[("a.txt", "hello\n")]);
    let tool = machine.path("tool.git");
    let tool = tool.to_str().expect("a path");
    let engine = ["--engine", "command: echo two >> a.txt", "--check", "grep -q hello a.txt"];
    machine.run(&[&["project", "add", tool][..], &engine[..]].concat()).exits_with(0);
    let _service = machine.serve();
    machine.run(&["user", "add", "ann", "--role", "approver"]).exits_with(0).prints("ann was added as approver");
    machine.run(&["user", "list"]).exits_with(0).prints("approver");
    let link = machine.run(&["user", "login-link", "ann"]).exits_with(0);
    assert!(link.out.contains("/login/link/"), "{}", link.out);
    let new = ["token", "new", "laptop", "--person", "ann", "--rights", "read,run,approve", "--json"];
    let created = machine.run(&new).exits_with(0).json();
    let service: Value =
        serde_json::from_str(&std::fs::read_to_string(machine.path("data/service.json")).expect("a file"))
            .expect("JSON");
    let url = format!("http://{}", service["address"].as_str().expect("an address"));

    // Another machine: nothing of the service's data directory can be read there.
    let laptop = Cli::new();
    let file = laptop.path("token");
    let skep = |args: &[&str]| {
        let mut command = laptop.skep(args);
        command.env("SKEP_SERVER", &url).env("SKEP_TOKEN_FILE", &file);
        ended(command)
    };
    skep(&["runs"]).exits_with(2).one_error("SKEP_TOKEN_FILE", "");
    std::fs::write(&file, created["token"].as_str().expect("a token")).expect("a file");
    skep(&["runs"]).exits_with(2).one_error("SKEP_TOKEN_FILE", "chmod 600");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a mode");
    skep(&["runs"]).exits_with(0);
    skep(&["run", "Add a line"]).exits_with(2).one_error("no project given", "--project");
    skep(&["run", "Add a line", "--repo", tool]).exits_with(2).one_error("is on this machine", "--project");
    skep(&["doctor"]).exits_with(2).one_error("`skep doctor` is about the machine it runs on", "leave the server out");
    skep(&["run", "Add a line", "--project", "tool"]).exits_with(4).prints("the merge waits for approval");
    // The one who asked may not have to be the one who approves; by default it may be the same person.
    skep(&["approve"]).exits_with(0);
    let landed = || git(&machine.path("tool.git"), &["show", "main:a.txt"]).contains("two");
    machine.until("the change lands", landed);
    let shown = machine.run(&["show", "@", "--json"]).exits_with(0).json();
    assert_eq!(shown["goal"]["asked_by"], "user:ann", "{shown}");

    let id = created["access_token"]["id"].as_str().expect("an id");
    machine.run(&["token", "list"]).exits_with(0).prints("user:ann");
    machine.run(&["token", "revoke", id]).exits_with(0);
    let refused = skep(&["runs"]);
    refused.one_error("a valid bearer token is required", "");
    assert!(!laptop.path("data/token").exists(), "no store was opened on this machine");
}
