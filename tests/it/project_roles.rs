//! Roles and tokens for single projects: what belongs to another project neither shows nor moves, on any surface.

use crate::support::browser::Browser;
use crate::support::program::git;
use crate::support::rest::{Reply, Service, json, service};
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};

/// A word of the run in the other project.
const MARKER: &str = "xylophone";

/// A service with two projects, each with a run that waits for an approval.
struct World {
    s: Service,
    /// Run in the project `origin`.
    mine: String,
    /// Run in the project `hidden`.
    foreign: String,
}

async fn world() -> World {
    let s = service().await;
    let hidden = s.origin.with_file_name("hidden.git");
    git(s.origin.parent().expect("a folder"), &["clone", "-q", "--bare", "origin.git", "hidden.git"]);
    let mine = s.open_run("make it two").await["id"].as_str().expect("an id").to_owned();
    let mut body = s.new_run(&format!("{MARKER} two"));
    body["repo"] = json!(hidden);
    let opened = s.post("/api/v1/runs", &body).await;
    assert_eq!(opened.status, 201, "{opened:?}");
    let foreign = opened.json()["id"].as_str().expect("an id").to_owned();
    for id in [&mine, &foreign] {
        s.until(id, "blocked").await;
    }
    World { s, mine, foreign }
}

impl World {
    async fn token(&self, body: Value) -> String {
        let reply = self.s.post("/api/v1/tokens", &body).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()["token"].as_str().expect("a token").to_owned()
    }

    async fn add(&self, name: &str, role: &str, project: Option<&str>) -> Value {
        let reply = self.s.post("/api/v1/people", &json!({"name": name, "role": role, "project": project})).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()
    }

    async fn as_token(&self, token: &str, method: Method, path: &str, body: &Value) -> Reply {
        let builder = Request::builder().method(method.clone()).uri(path).header("host", "localhost:7300");
        let builder = builder.header("authorization", format!("Bearer {token}"));
        let sent = match method {
            Method::GET => builder.body(Body::empty()).expect("a request"),
            _ => json(builder, body),
        };
        // The answers of all these routes are compared with their schemas elsewhere.
        self.s.unchecked(sent).await
    }

    /// Sends a request on every documented route about the other project, and checks that nothing of it shows or moves.
    async fn shows_nothing_of_the_other_project(&self, token: &str) {
        let before = self.s.get(&format!("/api/v1/runs/{}", self.foreign)).await.json()["seq"].clone();
        let document = self.s.get("/openapi.json").await.json();
        for (path, item) in document["paths"].as_object().expect("paths") {
            let path = path.replace("{id}", &self.foreign).replace("{name}", "hidden");
            let path = path.replace("{n}", "1").replace("{digest}", &"a".repeat(64));
            for method in item.as_object().expect("an item").keys() {
                let method: Method = method.to_uppercase().parse().expect("a method");
                for body in [json!({}), json!({"answer": "yes", "why": "x", "text": "x", "rounds": 1})] {
                    let reply = self.as_token(token, method.clone(), &path, &body).await;
                    let what = format!("{method} {path} -> {reply:?}");
                    assert!(!reply.text.contains(MARKER), "{what}");
                    // A refusal may repeat the name that was asked for.
                    if reply.status.is_success() && path != "/openapi.json" {
                        assert!(!reply.text.contains("hidden") && !reply.text.contains(&self.foreign), "{what}");
                    }
                    assert!(!reply.status.is_server_error(), "{what}");
                    if path.contains(&self.foreign) || path.contains("hidden") {
                        assert!(!reply.status.is_success(), "{what}");
                    }
                }
            }
        }
        let after = self.s.get(&format!("/api/v1/runs/{}", self.foreign)).await.json()["seq"].clone();
        assert_eq!(before, after, "the other run did not move");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_with_a_role_in_one_project_sees_and_moves_only_that_one() {
    let w = world().await;
    let ann = w.add("ann", "member", Some("origin")).await;
    assert_eq!((&ann["role"], &ann["project_roles"]), (&json!("none"), &json!({"origin": "member"})));
    let all = ["read", "run", "approve", "review", "budget", "secrets", "projects", "admin", "metrics"];
    let token = w.token(json!({"name": "all", "person": "ann", "rights": all})).await;
    w.shows_nothing_of_the_other_project(&token).await;

    // Lists have the own project only.
    let get = async |path: &str| w.as_token(&token, Method::GET, path, &json!({})).await;
    let runs = get("/api/v1/runs").await.json();
    assert_eq!(runs.as_array().expect("runs").len(), 1, "{runs}");
    assert_eq!(get("/api/v1/projects").await.json().as_array().expect("projects").len(), 1);
    assert_eq!(get(&format!("/api/v1/runs/{}", w.mine)).await.status, 200);
    get(&format!("/api/v1/runs/{}", w.foreign)).await.is_problem(404, "no_run");
    get(&format!("/api/v1/runs/{}/stream", w.foreign)).await.is_problem(404, "no_run");
    get("/api/v1/projects/hidden").await.is_problem(404, "no_project");
    get("/api/v1/runs?project=hidden").await.is_problem(404, "no_project");
    get("/api/v1/spending?by=run&project=hidden").await.is_problem(404, "no_project");
    let spent = get("/api/v1/spending?by=project").await;
    assert_eq!(spent.status, 200, "{spent:?}");

    // A role says what its holder may do in the project, and nothing of the service.
    let post = async |path: &str, body: Value| w.as_token(&token, Method::POST, path, &body).await;
    post(&format!("/api/v1/runs/{}/actions/approve", w.mine), json!({})).await.is_problem(403, "missing_right");
    post("/api/v1/runs", json!({"goal": "x", "project": "hidden"})).await.is_problem(404, "no_project");
    // A repository by its path could be any that the service can read.
    post("/api/v1/runs", json!({"goal": "x", "repo": w.s.origin})).await.is_problem(403, "missing_right");
    let preview = post(
        "/api/v1/runs/preview",
        json!({"goal": "x", "project": "origin", "checks": ["true"], "engines": {"dev": "command:true"}}),
    )
    .await;
    assert_eq!(preview.status, 200, "{preview:?}");
    post("/api/v1/budget/raise", json!({"scope": "day", "tokens": 1})).await.is_problem(403, "missing_right");

    // A higher role in the project takes effect at once, and is taken away as fast.
    let grant = async |role: &str, project: &str| {
        w.s.post("/api/v1/people/ann/role", &json!({"role": role, "project": project})).await
    };
    grant("admin", "origin").await.is_problem(422, "invalid");
    grant("viewer", "nowhere").await.is_problem(404, "no_project");
    assert_eq!(grant("approver", "origin").await.status, 200);
    let approved = post(&format!("/api/v1/runs/{}/actions/approve", w.mine), json!({})).await;
    assert_eq!(approved.status, 200, "{approved:?}");
    w.s.until(&w.mine, "completed").await;
    assert_eq!(grant("none", "origin").await.json()["project_roles"], json!({}));
    get("/api/v1/runs").await.is_problem(403, "missing_right");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_for_one_project_takes_the_other_rights_away() {
    let w = world().await;
    let program = w.token(json!({"name": "ci", "rights": ["read", "run", "review"], "projects": ["origin"]})).await;
    w.shows_nothing_of_the_other_project(&program).await;
    w.add("ada", "admin", None).await;
    let limited = json!({"name": "one", "person": "ada", "rights": ["read", "run", "approve"], "projects": ["origin"]});
    let of_admin = w.token(limited.clone()).await;
    w.shows_nothing_of_the_other_project(&of_admin).await;
    let get = async |token: &str| {
        w.as_token(token, Method::GET, &format!("/api/v1/runs/{}", w.mine), &json!({})).await.status.as_u16()
    };
    assert_eq!((get(&program).await, get(&of_admin).await), (200, 200));

    let refused = |rights: Value, projects: Value| json!({"name": "no", "rights": rights, "projects": projects});
    for (body, status, code) in [
        (refused(json!(["read", "admin"]), json!(["origin"])), 422, "invalid"),
        (refused(json!(["read"]), json!(["nowhere"])), 404, "no_project"),
        (refused(json!(["read"]), json!(vec!["origin"; 51])), 422, "invalid"),
    ] {
        w.s.post("/api/v1/tokens", &body).await.is_problem(status, code);
    }

    // Another project of that name is not theirs: neither tokens nor roles come back with it.
    w.add("ann", "member", Some("origin")).await;
    let approved = w.s.post(&format!("/api/v1/runs/{}/actions/approve", w.mine), &json!({})).await;
    assert_eq!(approved.status, 200, "{approved:?}");
    w.s.until(&w.mine, "completed").await;
    let removed = w.s.post("/api/v1/projects/origin/remove", &json!({})).await;
    assert!(removed.status.is_success(), "{removed:?}");
    let added = w.s.post("/api/v1/projects", &json!({"name": "origin", "repo": w.s.origin})).await;
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!((get(&program).await, get(&of_admin).await), (401, 401));
    let people = w.s.get("/api/v1/people").await.json();
    let ann = people.as_array().expect("people").iter().find(|person| person["name"] == "ann").expect("ann");
    assert_eq!(ann["project_roles"], json!({}));
    // Nor do they come with another repository under the same name.
    let granted = w.s.post("/api/v1/people/ann/role", &json!({"role": "viewer", "project": "origin"})).await;
    assert_eq!(granted.json()["project_roles"], json!({"origin": "viewer"}));
    for project in ["origin", "hidden"] {
        let stored = w.s.post("/api/v1/secrets", &json!({"name": "KEY", "project": project, "value": "v-4711"})).await;
        assert!(stored.status.is_success(), "{stored:?}");
        let added = w.s.post("/api/v1/sponsors", &json!({"name": "Acme", "project": project})).await;
        assert!(added.status.is_success(), "{added:?}");
    }
    let other = json!({"name": "origin", "repo": w.s.origin.with_file_name("hidden.git"), "replace": true});
    let replaced = w.s.post("/api/v1/projects", &other).await;
    assert!(replaced.status.is_success(), "{replaced:?}");
    assert_eq!(w.s.get("/api/v1/people").await.json()[1]["project_roles"], json!({}));
    for list in ["secrets", "sponsors"] {
        let left = w.s.get(&format!("/api/v1/{list}")).await.json();
        let of: Vec<&Value> = left.as_array().expect("a list").iter().map(|row| &row["project"]).collect();
        assert!(!of.is_empty() && of.iter().all(|project| **project == "hidden"), "{list}: {left}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_of_somebody_with_a_role_in_one_project_show_that_one() {
    let w = world().await;
    w.add("ann", "approver", Some("origin")).await;
    let link = w.s.post("/api/v1/login-links", &json!({"person": "ann"})).await.json();
    let mut ann = Browser::new(&w.s);
    let path = link["path"].as_str().expect("a path").to_owned();
    ann.open(&path).await.is(200);
    ann.submit(&path, &[]).await;
    for path in ["/", "/runs", "/projects", "/spending", "/me", "/projects/origin", "/runs/new"] {
        let page = ann.open(path).await.is(200);
        assert!(!page.contains(MARKER) && !page.contains("hidden.git") && !page.contains(">hidden<"), "{path}: {page}");
        assert!(!page.contains("href=\"/audit\"") && !page.contains("href=\"/agents\""), "{path}");
    }
    assert!(ann.open("/me").await.is(200).contains("approver in origin"));
    let of_run = ["", "/changes", "/output", "/events", "/cost"].map(|part| format!("/runs/{}{part}", w.foreign));
    for path in of_run.iter().map(String::as_str).chain(["/projects/hidden"]) {
        let page = ann.open(path).await.is(404);
        assert!(!page.contains(MARKER), "{path}: {page}");
    }
    // The administrator gives the role on the page of the people.
    let link = w.s.post("/api/v1/login-links", &json!({})).await.json();
    let mut owner = Browser::new(&w.s);
    let path = link["path"].as_str().expect("a path").to_owned();
    owner.open(&path).await.is(200);
    owner.submit(&path, &[]).await;
    assert!(owner.open("/people").await.is(200).contains("approver in origin"));
    owner.send("/people/ann/project-role", &[("project", "hidden"), ("role", "viewer")]).await;
    assert!(owner.open("/people").await.is(200).contains("viewer in hidden"));
    assert!(ann.open(&format!("/runs/{}", w.foreign)).await.is(200).contains(MARKER));
}
