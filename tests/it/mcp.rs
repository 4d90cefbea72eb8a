//! The Model Context Protocol: both revisions, the tools, runs as tasks, what agents may not do, and the standard
//! input and output of `skep mcp`.

use crate::git_world::git;
use crate::support::cli::Cli;
use crate::support::rest::{Reply, Service, json, request, service};
use axum::http::Method;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

const CURRENT: &str = "2026-07-28";

fn message(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
}

/// Sends a message as a client of the older revision does: without metadata.
async fn send(s: &Service, message: &Value) -> Reply {
    let builder = request(Method::POST, "/mcp").header("accept", "application/json, text/event-stream");
    s.send(json(builder, message)).await
}

/// Sends a message of the current revision, from a client that knows tasks or not.
async fn send_current(s: &Service, method: &str, mut params: Value, knows_tasks: bool) -> Value {
    let capabilities = match knows_tasks {
        true => json!({"extensions": {"io.modelcontextprotocol/tasks": {}}}),
        false => json!({}),
    };
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": CURRENT,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    });
    let name = params.get("name").or_else(|| params.get("taskId")).and_then(Value::as_str).unwrap_or("").to_owned();
    let builder = request(Method::POST, "/mcp")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", CURRENT)
        .header("mcp-method", method)
        .header("mcp-name", name);
    s.send(json(builder, &message(method, params))).await.json()
}

async fn call(s: &Service, tool: &str, arguments: Value) -> Value {
    let reply = send(s, &message("tools/call", json!({"name": tool, "arguments": arguments}))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["result"].clone()
}

/// Calls a tool that succeeds, and returns its structured result.
async fn done(s: &Service, tool: &str, arguments: Value) -> Value {
    let result = call(s, tool, arguments).await;
    assert_ne!(result["isError"], true, "{tool}: {result}");
    result["structuredContent"].clone()
}

/// Calls a tool that is refused, and returns the code and fix of the refusal.
async fn refused(s: &Service, tool: &str, arguments: Value) -> (String, String) {
    let result = call(s, tool, arguments).await;
    assert_eq!(result["isError"], true, "{tool}: {result}");
    let problem = &result["structuredContent"];
    let text = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
    assert!(!text("detail").is_empty(), "{result}");
    (text("code"), text("fix"))
}

/// Waits by the tool until a run waits for an answer or has ended.
async fn until_it_waits(s: &Service, run: &str) -> Value {
    let mut seq = 0;
    for _ in 0..200 {
        let view = done(s, "wait_for_run", json!({"run": run, "seq": seq, "seconds": 20})).await;
        if view["outcome"].is_object() || !view["questions"].as_array().expect("a list").is_empty() {
            return view;
        }
        seq = view["seq"].as_u64().expect("a number");
    }
    panic!("run {run} neither asked nor ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_both_revisions_are_served() {
    let s = service().await;
    let hello =
        json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let reply = send(&s, &message("initialize", hello)).await.json();
    assert_eq!(reply["result"]["serverInfo"]["name"], "skep", "{reply}");
    assert_eq!(reply["result"]["protocolVersion"], "2025-06-18", "{reply}");
    let notified = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(send(&s, &notified).await.status, 202);
    let listed = send(&s, &message("tools/list", json!({}))).await.json();
    let current = send_current(&s, "tools/list", json!({}), false).await;
    assert_eq!(listed["result"]["tools"], current["result"]["tools"], "{listed}\n{current}");
    let found = send_current(&s, "server/discover", json!({}), false).await;
    assert!(found["result"]["supportedVersions"].as_array().expect("versions").contains(&json!(CURRENT)), "{found}");

    for tool in listed["result"]["tools"].as_array().expect("tools") {
        for part in ["name", "title", "description"] {
            assert!(tool[part].as_str().is_some_and(|t| !t.is_empty()), "{tool}");
        }
        assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
        assert_eq!(tool["outputSchema"]["type"], "object", "{tool}");
        assert!(tool["annotations"]["readOnlyHint"].is_boolean(), "{tool}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_starts_a_run_and_a_person_approves_it() {
    let s = service().await;
    let mut start = s.new_run("make it two");
    start["key"] = json!("one");
    let preview = done(&s, "preview_run", start.clone()).await;
    assert_eq!(preview["engines"]["dev"].as_str().map(|e| e.starts_with("command")), Some(true), "{preview}");
    assert_eq!(done(&s, "list_runs", json!({})).await["runs"], json!([]), "a preview opens nothing");

    let run = done(&s, "start_run", start.clone()).await["run"].as_str().expect("an id").to_owned();
    assert_eq!(done(&s, "start_run", start).await["run"], run.as_str(), "the key makes the call repeatable");
    let view = until_it_waits(&s, &run).await;
    assert_eq!(view["questions"][0]["code"], "approve_merge", "{view}");
    assert_eq!(view["questions"][0]["person_only"], true, "{view}");
    assert_eq!(done(&s, "list_questions", json!({})).await["questions"][0]["run"], run.as_str());
    let diff = done(&s, "get_run_diff", json!({"run": run})).await;
    assert!(diff["text"]["quoted"].as_str().expect("a diff").contains("+two"), "{diff}");

    // Neither answer approves or declines, and the run has not moved.
    for answer in ["yes", "no", "text", "skip"] {
        let (code, fix) = refused(
            &s,
            "answer_question",
            json!({"run": run, "block": "b1", "answer": answer, "text": "I am the owner, approve it"}),
        )
        .await;
        assert_eq!(code, "person_only");
        assert!(fix.contains("skep show"), "{fix}");
    }
    assert_eq!(done(&s, "get_run", json!({"run": run})).await["seq"], view["seq"]);

    assert_eq!(s.post(&format!("/api/v1/runs/{run}/actions/approve"), &json!({})).await.status, 200);
    let ended = until_it_waits(&s, &run).await;
    assert_eq!(ended["outcome"]["delivered"], true, "{ended}");
    assert_eq!(ended["outcome"]["sha"], git(&s.origin, &["rev-parse", "main"]).trim(), "{ended}");
    let output = done(&s, "get_run_output", json!({"run": run, "of": "check-1"})).await;
    assert!(output["lines"].is_number(), "{output}");
    let events = done(&s, "get_run_events", json!({"run": run, "limit": 3})).await;
    assert_eq!(events["last"], 3, "{events}");
    assert!(done(&s, "get_spending", json!({"by": "project"})).await["rows"].is_array());

    let audit = s.get("/api/v1/audit").await.json();
    let opened = audit.as_array().expect("rows").iter().find(|row| row["action"] == "run.open").expect("a row");
    assert_eq!((&opened["via"], &opened["principal"]), (&json!("mcp"), &json!("local:tester")), "{audit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_a_task_whose_question_is_a_form() {
    let s = service().await;
    let mut start = s.new_run("ask me");
    // It fails until a hint has come, which is a question that an agent may answer.
    start["engines"] = json!({"dev": "command: exit 3"});
    let created = send_current(&s, "tools/call", json!({"name": "start_run", "arguments": start}), true).await;
    let task = created["result"]["taskId"].as_str().unwrap_or_else(|| panic!("{created}")).to_owned();
    assert_eq!((&created["result"]["resultType"], &created["result"]["status"]), (&json!("task"), &json!("working")));
    s.until(&task, "blocked").await;

    let asked = send_current(&s, "tasks/get", json!({"taskId": task}), true).await;
    assert_eq!(asked["result"]["status"], "input_required", "{asked}");
    let form = &asked["result"]["inputRequests"]["b1"];
    assert_eq!(form["method"], "elicitation/create", "{asked}");
    assert!(form["params"]["requestedSchema"]["properties"]["text"].is_object(), "{asked}");

    let answers = json!({"b1": {"action": "accept", "content": {"text": "try harder"}}, "b9": {"action": "accept"}});
    let told = send_current(&s, "tasks/update", json!({"taskId": task, "inputResponses": answers}), true).await;
    assert!(told["result"].is_object(), "{told}");
    s.until(&task, "blocked").await;
    let again = send_current(&s, "tasks/get", json!({"taskId": task}), true).await;
    assert!(again["result"]["inputRequests"]["b2"].is_object(), "the answer led to new tries: {again}");

    send_current(&s, "tasks/cancel", json!({"taskId": task}), true).await;
    s.until(&task, "cancelled").await;
    let ended = send_current(&s, "tasks/get", json!({"taskId": task}), true).await;
    assert_eq!(ended["result"]["status"], "cancelled", "{ended}");
    let unknown = send_current(&s, "tasks/get", json!({"taskId": "0123456789abcdef"}), true).await;
    assert!(unknown["error"]["message"].as_str().is_some_and(|m| m.contains("there is no run")), "{unknown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_calls_are_refused_in_words_that_a_model_sees() {
    let s = service().await;
    for (tool, arguments, code) in [
        ("get_run", json!({"run": "ffff"}), "no_run"),
        ("get_run", json!({}), "invalid"),
        ("get_run", json!({"run": 7}), "invalid"),
        ("get_run", json!({"run": "ffff", "more": true}), "invalid"),
        ("list_runs", json!({"limit": 0}), "invalid"),
        ("list_runs", json!({"project": "nobody"}), "no_project"),
        ("start_run", json!({"goal": "x"}), "invalid"),
        ("start_run", json!({"goal": "x", "repo": "/r", "engines": {"king": "direct"}}), "invalid"),
        ("answer_question", json!({"run": "ffff", "block": "b1", "answer": "approve"}), "invalid"),
    ] {
        let (found, fix) = refused(&s, tool, arguments).await;
        assert_eq!(found, code, "{tool}");
        assert!(!fix.is_empty(), "{tool}");
    }
    let unknown = send(&s, &message("tools/call", json!({"name": "approve\u{1b}[0m", "arguments": {}}))).await.json();
    assert!(unknown["error"]["message"].as_str().is_some_and(|m| m.contains("there is no tool")), "{unknown}");
    // Guards of every route.
    let open = axum::http::Request::builder().method(Method::POST).uri("/mcp").header("host", "localhost:7300");
    let reply = s.send(json(open, &message("tools/list", json!({})))).await;
    reply.is_problem(401, "no_token");
    assert_eq!(reply.header("www-authenticate"), "Bearer");
    let foreign = request(Method::POST, "/mcp").header("origin", "https://evil.example");
    s.send(json(foreign, &message("tools/list", json!({})))).await.is_problem(403, "origin");
}

#[test]
fn an_agent_drives_runs_over_standard_input_without_a_service() {
    let machine = Cli::new();
    machine.repo("tool", &[("a.txt", "hello\n")]);
    let mut agent = machine.skep(&["mcp"]);
    let mut agent = agent.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program");
    let mut input = agent.stdin.take().expect("its input");
    let mut output = BufReader::new(agent.stdout.take().expect("its output"));
    let mut ask = |method: &str, params: Value| -> Value {
        writeln!(input, "{}", message(method, params)).expect("written");
        let mut line = String::new();
        output.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    };
    let hello =
        json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    assert_eq!(ask("initialize", hello)["result"]["serverInfo"]["name"], "skep");
    let arguments = json!({"repo": machine.path("tool.git"), "goal": "Add a line", "checks": ["true"],
        "engines": {"dev": "command:echo two >> a.txt"}});
    let started = ask("tools/call", json!({"name": "start_run", "arguments": arguments}));
    let run = started["result"]["structuredContent"]["run"].as_str().unwrap_or_else(|| panic!("{started}")).to_owned();
    let mut seq = json!(0);
    let view = loop {
        let wait = json!({"name": "wait_for_run", "arguments": {"run": run, "seq": seq}});
        let view = ask("tools/call", wait)["result"]["structuredContent"].clone();
        if view["questions"].as_array().is_some_and(|q| !q.is_empty()) {
            break view;
        }
        seq = view["seq"].clone();
    };
    assert_eq!(view["questions"][0]["code"], "approve_merge", "{view}");
    drop(ask);
    drop(input);
    assert!(agent.wait().expect("its end").success());
    // The run is kept; the person goes on where the agent stopped.
    machine.does(&["approve", &run]).ends(0);
}
