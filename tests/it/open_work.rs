//! Open work: outside agents are invited, register, claim, submit and review over REST, the Model Context Protocol and
//! the command line, and what they deliver lands like any other change.

mod hostile;
mod killed;

use crate::git_world::git;
use crate::support::rest::{Reply, Service, json, service};
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use std::time::Duration;

/// Sends a request with this token.
async fn with(s: &Service, token: &str, method: Method, path: &str, body: &Value) -> Reply {
    let builder = Request::builder().method(method.clone()).uri(path).header("host", "localhost:7300");
    let builder = builder.header("authorization", format!("Bearer {token}"));
    let sent = match method {
        Method::GET => builder.body(Body::empty()).expect("a request"),
        _ => json(builder, body),
    };
    s.send(sent).await
}

/// An agent over REST.
struct Agent<'a> {
    service: &'a Service,
    token: String,
}

impl<'a> Agent<'a> {
    /// Invites and registers an agent of a person, who is added if necessary.
    async fn of(service: &'a Service, owner: &str, name: &str) -> Agent<'a> {
        let person = service.post("/api/v1/people", &json!({"name": owner, "role": "member"})).await;
        assert!(person.status == 201 || person.status == 409, "{person:?}");
        let invited = service.post("/api/v1/agents", &json!({"name": name, "owner": owner})).await;
        assert_eq!(invited.status, 201, "{invited:?}");
        let code = invited.json()["code"].as_str().expect("a code").to_owned();
        let about = json!({"about": "a test"});
        let joined = with(service, &code, Method::POST, "/api/v1/work/register", &about).await;
        assert_eq!(joined.status, 201, "{joined:?}");
        let token = joined.json()["token"].as_str().expect("a token").to_owned();
        // The code works once.
        with(service, &code, Method::POST, "/api/v1/work/register", &about).await.is_problem(401, "no_token");
        Agent { service, token }
    }

    async fn get(&self, path: &str) -> Value {
        let reply = with(self.service, &self.token, Method::GET, &format!("/api/v1/work{path}"), &Value::Null).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        with(self.service, &self.token, Method::POST, &format!("/api/v1/work{path}"), body).await
    }

    async fn done(&self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    }

    async fn claim(&self, id: &str) -> Reply {
        self.post(&format!("/offers/{id}/claim"), &json!({})).await
    }

    async fn submit(&self, id: &str, patch: &str) -> Reply {
        self.post(&format!("/offers/{id}/submit"), &json!({"patch": patch, "summary": "does it"})).await
    }

    /// Waits until the feed has an offer of a project for a step, and returns its id.
    async fn offer(&self, project: &str, step: &str) -> String {
        for _ in 0..600 {
            let feed = self.get("/feed").await;
            let found = feed.as_array().expect("offers").iter();
            let mut fits = found.filter(|offer| offer["project"] == project && offer["step"] == step);
            if let Some(offer) = fits.next() {
                return offer["id"].as_str().expect("an id").to_owned();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("nothing of {project} is offered for {step}: {}", self.get("/feed").await);
    }

    /// Waits until one of its own offers fulfils a condition, and returns it.
    async fn own(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..600 {
            let own = self.get("/mine").await;
            if let Some(found) = own.as_array().expect("offers").iter().find(|own| holds(own)) {
                return found.clone();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{what}: {}", self.get("/mine").await);
    }
}

/// Creates another repository like the service's, as a project of this name, and opens a run that agents carry out.
async fn open_run(s: &Service, project: &str) -> String {
    let folder = s.origin.parent().expect("a folder");
    let name = format!("{project}.git");
    git(folder, &["clone", "-q", "--bare", "origin.git", &name]);
    let body = json!({
        "repo": folder.join(&name), "goal": format!("Add a line to {project}"), "checks": ["grep -q one a.txt"],
        "engines": {"manager": "direct", "dev": "open", "reviewer": "open"},
    });
    let reply = s.post("/api/v1/runs", &body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()["id"].as_str().expect("an id").to_owned()
}

fn adds(line: &str) -> String {
    format!("--- a/a.txt\n+++ b/a.txt\n@@ -1 +1,2 @@\n one\n+{line}\n")
}

/// Calls a tool of the Model Context Protocol with an agent's token, and returns its structured result.
async fn tool(agent: &Agent<'_>, name: &str, arguments: Value) -> Value {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": name, "arguments": arguments}});
    let result = mcp(agent, &body).await;
    assert_ne!(result["isError"], true, "{name}: {result}");
    result["structuredContent"].clone()
}

async fn mcp(agent: &Agent<'_>, body: &Value) -> Value {
    let builder = Request::builder().method(Method::POST).uri("/mcp").header("host", "localhost:7300");
    let builder = builder.header("authorization", format!("Bearer {}", agent.token));
    let builder = builder.header("accept", "application/json, text/event-stream");
    let reply = agent.service.send(json(builder, body)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["result"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_over_rest_and_one_over_mcp_do_the_whole_loop() {
    let s = service().await;
    let (crab, fox, owl) =
        (Agent::of(&s, "ann", "crab").await, Agent::of(&s, "ben", "fox").await, Agent::of(&s, "cid", "owl").await);
    let runs = [open_run(&s, "red").await, open_run(&s, "green").await, open_run(&s, "blue").await];

    // Two tasks over REST; the first patch of one turns a check red, and the next try is its author's.
    let (red, green) = (crab.offer("red", "develop").await, fox.offer("green", "develop").await);
    assert_eq!(crab.claim(&red).await.status, 200);
    assert_eq!(crab.claim(&red).await.status, 200, "claiming twice is claiming once");
    fox.claim(&red).await.is_problem(409, "offer_taken");
    assert_eq!(fox.claim(&green).await.status, 200);
    let details = crab.get(&format!("/offers/{red}")).await;
    assert_eq!((&details["is_mine"], &details["checks"][0]["command"]), (&json!(true), &json!("grep -q one a.txt")));
    assert_eq!(crab.get(&format!("/offers/{red}/files")).await["paths"], json!(["a.txt"]));
    assert_eq!(crab.get(&format!("/offers/{red}/file?path=a.txt")).await["text"], "one\n");
    let wrong = "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-one\n+eins\n";
    assert_eq!(crab.submit(&red, wrong).await.json()["accepted"], true);
    let again = crab.own("the next try is claimed", |own| own["offer"]["state"] == "claimed").await;
    assert_eq!(again["offer"]["try_number"], 2, "{again}");
    let notes = again["notes"].as_array().expect("notes");
    assert!(notes.iter().any(|note| note["source"] == "checks"), "{again}");
    let red = again["offer"]["id"].as_str().expect("an id").to_owned();
    crab.submit(&red, "--- a/b.txt\n+++ b/b.txt\n@@ -1 +1,2 @@\n x\n+y\n").await.is_problem(422, "refused_submission");
    assert_eq!(crab.submit(&red, &adds("red")).await.json()["accepted"], true);
    assert_eq!(crab.submit(&red, &adds("red")).await.json()["accepted"], true, "sending it again changes nothing");
    assert_eq!(fox.submit(&green, &adds("green")).await.json()["accepted"], true);

    // One task over the Model Context Protocol, where an agent sees its own tools only.
    let listed = mcp(&owl, &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})).await;
    let names: Vec<&str> =
        listed["tools"].as_array().expect("tools").iter().filter_map(|t| t["name"].as_str()).collect();
    assert!(names.len() == 10 && names.iter().all(|name| name.starts_with("work_")), "{names:?}");
    owl.offer("blue", "develop").await;
    let feed = tool(&owl, "work_feed", json!({})).await;
    let blue = feed["offers"].as_array().expect("offers").iter().find(|offer| offer["project"] == "blue");
    let blue = blue.expect("an offer")["id"].clone();
    assert_eq!(tool(&owl, "work_claim", json!({"offer": blue})).await["state"], "claimed");
    assert!(
        tool(&owl, "work_details", json!({"offer": blue})).await["goal"].as_str().expect("a goal").contains("blue")
    );
    let file = tool(&owl, "work_files", json!({"offer": blue, "path": "a.txt"})).await;
    assert_eq!(file["text"]["quoted"], "one\n", "{file}");
    let patch = json!({"offer": blue, "patch": adds("blue"), "summary": "adds blue"});
    assert_eq!(tool(&owl, "work_submit", patch).await["accepted"], true);

    // Each reviews the change of another; nobody reviews what an agent of the same owner wrote.
    let cousin = Agent::of(&s, "ann", "cousin").await;
    let review = fox.offer("red", "review").await;
    cousin.claim(&review).await.is_problem(409, "own_work");
    crab.claim(&review).await.is_problem(409, "own_work");
    assert!(!cousin.get("/feed").await.to_string().contains(&review), "it is not even offered");
    assert_eq!(fox.claim(&review).await.status, 200);
    let details = fox.get(&format!("/offers/{review}")).await;
    assert!(details["patch"].as_str().expect("a diff").contains("+red"), "{details}");
    fox.submit(&review, &adds("x")).await.is_problem(422, "invalid");
    let approve = json!({"verdict": "approve", "summary": "fine"});
    assert_eq!(fox.done(&format!("/offers/{review}/review"), &approve).await["accepted"], true);
    let review = owl.offer("green", "review").await;
    assert_eq!(tool(&owl, "work_claim", json!({"offer": review})).await["state"], "claimed");
    let diff = tool(&owl, "work_diff", json!({"offer": review})).await;
    assert!(diff["text"]["quoted"].as_str().expect("a diff").contains("+green"), "{diff}");
    let sent = json!({"offer": review, "verdict": "approve", "summary": "fine"});
    assert_eq!(tool(&owl, "work_review", sent).await["accepted"], true);

    // A review that requests changes sends the task back to its author, and another agent reviews the result.
    let review = crab.offer("blue", "review").await;
    assert_eq!(crab.claim(&review).await.status, 200);
    let no_finding = json!({"verdict": "rework"});
    crab.post(&format!("/offers/{review}/review"), &no_finding).await.is_problem(422, "invalid");
    let rework = json!({"verdict": "rework", "findings": [{"path": "a.txt", "line": 2, "text": "say azure"}]});
    assert_eq!(crab.done(&format!("/offers/{review}/review"), &rework).await["accepted"], true);
    let blue = owl.offer("blue", "develop").await;
    assert_eq!(owl.claim(&blue).await.status, 200);
    let patch = "--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n one\n-blue\n+azure\n";
    assert_eq!(owl.submit(&blue, patch).await.json()["accepted"], true);
    let review = fox.offer("blue", "review").await;
    crab.claim(&review).await.is_problem(409, "already_reviewed");
    assert_eq!(fox.claim(&review).await.status, 200);
    assert_eq!(fox.done(&format!("/offers/{review}/review"), &approve).await["accepted"], true);

    for run in &runs {
        s.until(run, "blocked").await;
        let approved = s.post(&format!("/api/v1/runs/{run}/actions/approve"), &json!({})).await;
        assert_eq!(approved.status, 200, "{approved:?}");
        s.until(run, "completed").await;
    }
    for (agent, project) in [(&crab, "red"), (&fox, "green"), (&owl, "blue")] {
        let own = agent.own("it landed", |own| own["offer"]["project"] == project && own["landed"].is_string()).await;
        let origin = s.origin.parent().expect("a folder").join(format!("{project}.git"));
        let head = crate::support::cli::git(&origin, &["log", "-1", "--format=%H", "main"]);
        assert_eq!(own["landed"].as_str(), Some(head.trim()), "{own}");
    }

    // The outcomes name the agents, and rate them.
    let ratings = s.get("/api/v1/ratings").await.json();
    let rated = |player: &str, role: &str| {
        let mut found =
            ratings.as_array().expect("ratings").iter().filter(|r| r["player"] == player && r["role"] == role);
        found.next().unwrap_or_else(|| panic!("{player} is not rated: {ratings}")).clone()
    };
    let green = rated("agent:fox", "dev");
    assert_eq!((&green["won"], &green["established"]), (&json!(1), &json!(false)), "{green}");
    assert_eq!(green["evidence"][0]["run"], runs[1], "{green}");
    assert!(green["rating"].as_f64() > Some(1500.0), "{green}");
    assert_eq!(rated("agent:crab", "dev")["lost"], 1, "the try with red checks");
    assert_eq!(rated("agent:crab", "reviewer")["won"], 1, "the request was addressed");
    let audit = s.get("/api/v1/audit?limit=500").await.text;
    for action in ["agent.invite", "agent.register", "work.claim", "work.submit"] {
        assert!(audit.contains(action), "{action}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_has_the_rights_of_the_loop_and_no_others() {
    let s = service().await;
    let crab = Agent::of(&s, "ann", "crab").await;
    for path in ["/api/v1/runs", "/api/v1/agents", "/api/v1/ratings", "/api/v1/projects", "/api/v1/people", "/metrics"]
    {
        with(&s, &crab.token, Method::GET, path, &Value::Null).await.is_problem(403, "missing_right");
    }
    let run = s.new_run("x");
    with(&s, &crab.token, Method::POST, "/api/v1/runs", &run).await.is_problem(403, "missing_right");
    with(&s, &crab.token, Method::POST, "/api/v1/work/register", &json!({})).await.is_problem(403, "missing_right");
    // A person cannot act as an agent, whatever their rights.
    s.get("/api/v1/work/feed").await.is_problem(403, "missing_right");
    let tokens = s.post("/api/v1/tokens", &json!({"name": "ci", "rights": ["work"]})).await;
    tokens.is_problem(422, "invalid");

    let status = crab.get("/status").await;
    assert_eq!((&status["agent"]["name"], &status["agent"]["owner"]), (&json!("crab"), &json!("user:ann")));
    for id in ["nothing", "0-1", "..", "%2e%2e", &"f".repeat(200)] {
        crab.claim(id).await.is_problem(404, "no_offer");
    }
    s.post("/api/v1/agents", &json!({"name": "crab", "owner": "ann"})).await.is_problem(409, "agent_exists");
    s.post("/api/v1/agents", &json!({"name": "x", "owner": "nobody"})).await.is_problem(404, "no_person");
    s.post("/api/v1/agents", &json!({"name": "X", "owner": "ann"})).await.is_problem(422, "invalid");
    s.post("/api/v1/agents", &json!({"name": "x", "owner": "ann", "hours": 0})).await.is_problem(422, "invalid");
    for n in 0..4 {
        let name = format!("crab-{n}");
        assert_eq!(s.post("/api/v1/agents", &json!({"name": name, "owner": "ann"})).await.status, 201);
    }
    s.post("/api/v1/agents", &json!({"name": "sixth", "owner": "ann"})).await.is_problem(409, "too_many_agents");

    // What a disabled owner's agent may do is nothing, and a revoked agent's claim is open again.
    open_run(&s, "red").await;
    let fox = Agent::of(&s, "ben", "fox").await;
    let red = crab.offer("red", "develop").await;
    assert_eq!(crab.claim(&red).await.status, 200);
    s.post("/api/v1/people/ann/disable", &json!({})).await;
    with(&s, &crab.token, Method::GET, "/api/v1/work/feed", &Value::Null).await.is_problem(401, "no_token");
    s.post("/api/v1/people/ann/enable", &json!({})).await;
    assert_eq!(crab.get("/status").await["claims"], 1);
    fox.claim(&red).await.is_problem(409, "offer_taken");
    assert_eq!(s.post("/api/v1/agents/crab/revoke", &json!({})).await.json()["state"], "revoked");
    with(&s, &crab.token, Method::GET, "/api/v1/work/feed", &Value::Null).await.is_problem(401, "no_token");
    assert_eq!(fox.claim(&red).await.status, 200);
    assert_eq!(fox.done(&format!("/offers/{red}/abandon"), &json!({"why": "too hard"})).await["state"], "open");
    fox.claim(&red).await.is_problem(409, "offer_turned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_offer_of_a_cancelled_run_is_gone() {
    let s = service().await;
    let crab = Agent::of(&s, "ann", "crab").await;
    let run = open_run(&s, "red").await;
    let red = crab.offer("red", "develop").await;
    assert_eq!(crab.claim(&red).await.status, 200);
    s.post(&format!("/api/v1/runs/{run}/actions/cancel"), &json!({"text": "no longer"})).await;
    s.until(&run, "cancelled").await;
    crab.submit(&red, &adds("red")).await.is_problem(409, "offer_closed");
    assert_eq!(crab.get("/feed").await, json!([]));
    assert_eq!(crab.get("/mine").await[0]["run_status"], "cancelled");
}
