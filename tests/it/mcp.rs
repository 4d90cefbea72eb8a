//! The Model Context Protocol: both revisions, the tools, runs as tasks, what agents may not do, and what results
//! contain. `bridge` is about the standard input and output of `skep mcp`.

mod bridge;

use crate::git_world::git;
use crate::support::rest::{Reply, Service, TOKEN, json, request, service};
use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};
use skep::domain::Principal;
use skep::http::router;
use skep::service::{Caller, Callers, Right, Via};
use std::sync::Arc;

const CURRENT: &str = "2026-07-28";

/// Tools of an agent without further rights.
const TOOLS: [&str; 18] = [
    "list_projects",
    "list_runs",
    "get_run",
    "get_run_events",
    "get_run_diff",
    "get_run_output",
    "list_questions",
    "search_memory",
    "get_spending",
    "get_deployment",
    "wait_for_run",
    "preview_run",
    "start_run",
    "pause_run",
    "resume_run",
    "retry_run",
    "cancel_run",
    "answer_question",
];

fn message(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
}

fn hello() -> Value {
    let client = json!({"name": "test", "version": "1"});
    message("initialize", json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}))
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

async fn start(s: &Service, goal: &str) -> String {
    done(s, "start_run", s.new_run(goal)).await["run"].as_str().expect("an id").to_owned()
}

/// Waits by the tool until a run asks something new or has ended, and returns it when nothing moves it any more.
async fn until_it_decides(s: &Service, run: &str, seq: u64) -> Value {
    for _ in 0..20 {
        let view = done(s, "wait_for_run", json!({"run": run, "seq": seq, "until": "decision"})).await;
        if view["outcome"].is_object() {
            return view;
        }
        if !view["questions"].as_array().expect("a list").is_empty() {
            s.until(run, "blocked").await;
            return done(s, "get_run", json!({"run": run})).await;
        }
    }
    panic!("run {run} neither asked nor ended");
}

/// Gives agents more rights, as `mcp.allow` does.
fn allow(s: &mut Service, more: Right) {
    let rights = skep::http::mcp::RIGHTS.into_iter().chain([more]).collect();
    s.state.agent_rights = Arc::new(rights);
    s.router = router(s.state.clone());
}

async fn tool_names(s: &Service) -> Vec<String> {
    let listed = send(s, &message("tools/list", json!({}))).await.json();
    let tools = listed["result"]["tools"].as_array().expect("tools");
    tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_both_revisions_are_served() {
    let s = service().await;
    let reply = send(&s, &hello()).await.json();
    assert_eq!(reply["result"]["serverInfo"]["name"], "skep", "{reply}");
    assert_eq!(reply["result"]["protocolVersion"], "2025-06-18", "{reply}");
    let notified = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(send(&s, &notified).await.status, 202);
    let listed = send(&s, &message("tools/list", json!({}))).await.json();
    let current = send_current(&s, "tools/list", json!({}), false).await;
    assert_eq!(listed["result"]["tools"], current["result"]["tools"], "{listed}\n{current}");
    let found = send_current(&s, "server/discover", json!({}), false).await;
    assert!(found["result"]["supportedVersions"].as_array().expect("versions").contains(&json!(CURRENT)), "{found}");

    assert_eq!(tool_names(&s).await, TOOLS);
    // Every byte of it is in the context of an agent.
    let bytes = listed["result"]["tools"].to_string().len();
    assert!(bytes < 34 * 1024, "{bytes}");
    for tool in listed["result"]["tools"].as_array().expect("tools") {
        for part in ["name", "title", "description"] {
            assert!(tool[part].as_str().is_some_and(|t| !t.is_empty()), "{tool}");
        }
        assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{tool}");
        assert_eq!(tool["outputSchema"]["type"], "object", "{tool}");
        assert!(tool["annotations"]["readOnlyHint"].is_boolean(), "{tool}");
    }
    let of = |name: &str| {
        let tools = listed["result"]["tools"].as_array().expect("tools");
        tools.iter().find(|t| t["name"] == name).expect("the tool")["annotations"].clone()
    };
    assert_eq!(of("get_run")["readOnlyHint"], true);
    assert_eq!(
        (&of("cancel_run")["destructiveHint"], &of("cancel_run")["idempotentHint"]),
        (&json!(true), &json!(true))
    );
    assert_eq!((&of("start_run")["readOnlyHint"], &of("start_run")["idempotentHint"]), (&json!(false), &json!(false)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_starts_a_run_and_a_person_approves_it() {
    let s = service().await;
    let mut start = s.new_run("make it two");
    start["key"] = json!("one");
    let preview = done(&s, "preview_run", start.clone()).await;
    assert_eq!(preview["engines"]["dev"].as_str().map(|e| e.starts_with("command")), Some(true), "{preview}");
    assert!(preview["limits"].as_str().is_some_and(|l| l.contains("attempts")), "{preview}");
    assert_eq!(done(&s, "list_runs", json!({})).await["runs"], json!([]), "a preview opens nothing");

    let run = done(&s, "start_run", start.clone()).await["run"].as_str().expect("an id").to_owned();
    assert_eq!(done(&s, "start_run", start.clone()).await["run"], run.as_str(), "the key makes the call repeatable");
    start["goal"] = json!("something else");
    assert_eq!(refused(&s, "start_run", start).await.0, "idempotency_key_reused");
    let view = until_it_decides(&s, &run, 0).await;
    assert_eq!(view["questions"][0]["code"], "approve_merge", "{view}");
    assert_eq!(view["questions"][0]["person_only"], true, "{view}");
    assert_eq!(view["questions"][0]["answers"], json!([]), "{view}");
    assert_eq!(done(&s, "list_questions", json!({})).await["questions"][0]["run"], run.as_str());
    let diff = done(&s, "get_run_diff", json!({"run": run})).await;
    assert!(diff["text"]["quoted"].as_str().expect("a diff").contains("+two"), "{diff}");
    assert_eq!(diff["files"], json!([{"path": "a.txt", "first_line": 1}]), "{diff}");

    // Neither answer approves or declines, and the run has not moved.
    for answer in ["yes", "no", "text", "skip"] {
        let text = "I am the owner, approve it";
        let arguments = json!({"run": run, "block": "b1", "answer": answer, "text": text});
        let (code, fix) = refused(&s, "answer_question", arguments).await;
        assert_eq!(code, "person_only");
        assert!(fix.contains("skep show"), "{fix}");
    }
    let subject = &view["questions"][0]["subject"];
    let approval = json!({"run": run, "block": "b1", "subject": subject});
    assert_eq!(refused(&s, "approve", approval).await.0, "missing_right");
    assert_eq!(refused(&s, "raise_budget", json!({"run": run, "tokens": 9})).await.0, "missing_right");
    assert_eq!(done(&s, "get_run", json!({"run": run})).await["seq"], view["seq"]);

    // A wait for a decision does not return for the question that was seen.
    let seq = view["seq"].as_u64().expect("a number");
    let waited = done(&s, "wait_for_run", json!({"run": run, "seq": seq, "until": "decision", "seconds": 0})).await;
    assert_eq!(waited["seq"], view["seq"]);
    assert_eq!(s.post(&format!("/api/v1/runs/{run}/actions/approve"), &json!({})).await.status, 200);
    let ended = until_it_decides(&s, &run, seq).await;
    assert_eq!(ended["outcome"]["delivered"], true, "{ended}");
    assert_eq!(ended["outcome"]["sha"], git(&s.origin, &["rev-parse", "main"]).trim(), "{ended}");
    let whole = done(&s, "get_run", json!({"run": run})).await;
    assert!(whole["spent"].as_str().is_some_and(|s| s.contains("attempt")), "{whole}");
    assert!(whole["gates"].as_array().is_some_and(|g| !g.is_empty()), "{whole}");
    assert_eq!(whole["checks"][0]["green"], true, "{whole}");
    let output = done(&s, "get_run_output", json!({"run": run, "of": "check-1"})).await;
    assert!(output["lines"].is_number(), "{output}");
    let (code, fix) = refused(&s, "get_run_output", json!({"run": run, "of": "nothing"})).await;
    assert!(code == "no_output" && fix.contains("check-1"), "{code}: {fix}");
    let events = done(&s, "get_run_events", json!({"run": run, "limit": 3})).await;
    assert_eq!(events["last"], 3, "{events}");
    assert!(events["events"][0]["event"].as_str().is_some_and(|e| e.contains("started by")), "{events}");
    let spending = done(&s, "get_spending", json!({"by": "role", "run": run})).await;
    assert!(!spending["rows"].as_array().expect("rows").is_empty(), "{spending}");

    let audit = s.get("/api/v1/audit").await.json();
    let opened = audit.as_array().expect("rows").iter().find(|row| row["action"] == "run.open").expect("a row");
    assert_eq!((&opened["via"], &opened["principal"]), (&json!("mcp"), &json!("local:tester")), "{audit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_the_right_approves_what_it_has_seen() {
    let mut s = service().await;
    allow(&mut s, Right::Approve);
    let names = tool_names(&s).await;
    assert!(names.iter().any(|n| n == "approve") && !names.iter().any(|n| n == "raise_budget"), "{names:?}");
    let run = start(&s, "make it two").await;
    let view = until_it_decides(&s, &run, 0).await;
    let question = &view["questions"][0];
    let tools: Vec<&str> =
        question["answers"].as_array().expect("answers").iter().filter_map(|a| a["tool"].as_str()).collect();
    assert_eq!(tools, ["approve", "answer_question"], "{view}");

    let yes = json!({"run": run, "block": "b1", "answer": "yes"});
    assert_eq!(refused(&s, "answer_question", yes).await.0, "use_approve");
    let approval = |subject: &Value| json!({"run": run, "block": "b1", "subject": subject});
    assert_eq!(refused(&s, "approve", approval(&json!("another head"))).await.0, "moved");
    done(&s, "approve", approval(&question["subject"])).await;
    let ended = until_it_decides(&s, &run, view["seq"].as_u64().expect("a number")).await;
    assert_eq!(ended["outcome"]["delivered"], true, "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_without_a_right_gives_the_agent_none() {
    let mut s = service().await;
    allow(&mut s, Right::Approve);
    let run = start(&s, "make it two").await;
    until_it_decides(&s, &run, 0).await;
    let reader = Caller::new(Principal::from("user:ann"), [Right::Read].into(), Via::Rest);
    s.state.callers = Callers::new([(TOKEN.to_owned(), reader)]);
    s.router = router(s.state.clone());
    assert_eq!(tool_names(&s).await, TOOLS[..11]);
    for (tool, arguments) in [
        ("preview_run", s.new_run("x")),
        ("start_run", s.new_run("x")),
        ("pause_run", json!({"run": run})),
        ("resume_run", json!({"run": run})),
        ("retry_run", json!({"run": run})),
        ("cancel_run", json!({"run": run, "why": "x"})),
        ("approve", json!({"run": run, "block": "b1", "subject": "x"})),
        ("raise_budget", json!({"run": run, "tokens": 1})),
    ] {
        assert_eq!(refused(&s, tool, arguments).await.0, "missing_right", "{tool}");
    }
    let answer = json!({"run": run, "block": "b1", "answer": "no"});
    assert_eq!(refused(&s, "answer_question", answer).await.0, "person_only");
    assert_eq!(done(&s, "get_run", json!({"run": run})).await["status"], "blocked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_can_lower_the_limits_of_its_run_but_not_exceed_the_configured_ones() {
    let s = service().await;
    let with = |limits: Value| {
        let mut start = s.new_run("make it two");
        start["limits"] = limits;
        start
    };
    let given = json!({"cost_micros": 1_250_000, "timeout_secs": 600, "attempts": 5, "rounds": 0, "turns": 40});
    let preview = done(&s, "preview_run", with(given.clone())).await;
    assert!(preview["limits"].as_str().is_some_and(|l| l.contains("$1.25")), "{preview}");
    let run = done(&s, "start_run", with(given.clone())).await["run"].as_str().expect("an id").to_owned();
    let limits = s.get(&format!("/api/v1/runs/{run}")).await.json()["budget"]["limits"].clone();
    for (name, amount) in given.as_object().expect("limits") {
        assert_eq!(&limits[name], amount, "{name}: {limits}");
    }
    // The configured number of attempts is lower.
    assert_eq!(refused(&s, "start_run", with(json!({"attempts": 9_000}))).await.0, "not_allowed");
    assert_eq!(refused(&s, "start_run", with(json!({"attempts": 0}))).await.0, "invalid");
    let reply =
        send(&s, &message("tools/call", json!({"name": "start_run", "arguments": with(json!({"beer": 1}))}))).await;
    assert!(reply.text.contains("unknown field `beer`"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_reports_each_event_once_and_resumes_where_it_was() {
    let s = service().await;
    let run = start(&s, "make it two").await;
    let first = until_it_decides(&s, &run, 0).await["seq"].as_u64().expect("a number");
    let wait = |seq: u64| {
        let arguments = json!({"run": run, "seq": seq, "until": "decision", "seconds": 20});
        message("tools/call", json!({"name": "wait_for_run", "arguments": arguments, "_meta": {"progressToken": "p"}}))
    };
    // Events of a stream: everything after `data: `.
    let messages = |reply: &Reply| -> Vec<Value> {
        let data = reply.text.lines().filter_map(|line| line.strip_prefix("data:"));
        data.filter(|d| !d.trim().is_empty()).map(|d| serde_json::from_str(d).expect("a message")).collect()
    };
    let reply = send(&s, &wait(0)).await;
    assert_eq!(reply.header("content-type"), "text/event-stream", "{reply:?}");
    let all = messages(&reply);
    let (last, reported) = all.split_last().expect("messages");
    let numbers: Vec<u64> =
        reported.iter().map(|m| m["params"]["progress"].as_f64().expect("a number") as u64).collect();
    assert_eq!(numbers, (1..=first).collect::<Vec<_>>(), "{}", reply.text);
    assert!(reported[0]["params"]["message"].as_str().is_some_and(|m| m.contains("make it two")), "{reply:?}");
    assert_eq!(last["result"]["structuredContent"]["seq"], first, "{last}");

    let (waited, approved) = tokio::join!(send_owned(&s, wait(first)), async {
        s.post(&format!("/api/v1/runs/{run}/actions/approve"), &json!({})).await
    });
    assert_eq!(approved.status, 200);
    let all = messages(&waited);
    let (last, reported) = all.split_last().expect("messages");
    assert_eq!(reported[0]["params"]["progress"].as_f64(), Some(first as f64 + 1.0), "{}", waited.text);
    assert_eq!(last["result"]["structuredContent"]["outcome"]["delivered"], true, "{last}");
}

async fn send_owned(s: &Service, message: Value) -> Reply {
    send(s, &message).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_show_hidden_characters_and_no_secret() {
    let s = service().await;
    let secret = "correct-horse-battery-staple-7f3a";
    let _kept = skep::secrets::register("test", &skep::secrets::Secret::new(secret.to_owned()));
    let mut new = s.new_run(&format!("say \u{202e}two with {secret}"));
    let colored = r"command:printf 'two\342\200\256\033[31m\n' >> a.txt; printf 'x\033[31my\342\200\213z\n'";
    new["engines"] = json!({"dev": colored});
    let run = done(&s, "start_run", new).await["run"].as_str().expect("an id").to_owned();
    // Characters that change the reading direction are a question of the task already.
    let view = until_it_decides(&s, &run, 0).await;
    assert!(view["title"].as_str().is_some_and(|t| t.contains("⟦202E⟧two")), "{view}");
    let diff = done(&s, "get_run_diff", json!({"run": run, "task": "t1"})).await.to_string();
    assert!(diff.contains("two⟦202E⟧⟦001B⟧[31m"), "{diff}");
    let output = done(&s, "get_run_output", json!({"run": run, "of": "a2"})).await.to_string();
    assert!(output.contains("xy⟦200B⟧z"), "{output}");
    for (tool, arguments) in [
        ("list_runs", json!({})),
        ("get_run", json!({"run": run})),
        ("get_run_events", json!({"run": run})),
        ("get_run_diff", json!({"run": run, "task": "t1"})),
        ("list_questions", json!({})),
    ] {
        let result = call(&s, tool, arguments).await.to_string();
        assert!(!result.contains(secret) && !result.contains(TOKEN), "{tool}: {result}");
        assert!(!result.contains('\u{202e}'), "{tool}: {result}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_lists_and_texts_are_read_page_by_page() {
    let s = service().await;
    let mut new = s.new_run("many lines");
    new["engines"] = json!({"dev": "command:echo two >> a.txt; seq -f 'line %g of the new file' 1 3000 > b.txt"});
    let run = done(&s, "start_run", new).await["run"].as_str().expect("an id").to_owned();
    until_it_decides(&s, &run, 0).await;
    let (mut next, mut text) = (json!(1), String::new());
    while next.is_u64() {
        let result = call(&s, "get_run_diff", json!({"run": run, "first_line": next, "lines": 100_000})).await;
        assert!(result["structuredContent"].to_string().len() <= 32 * 1024, "{next}");
        text.push_str(result["structuredContent"]["text"]["quoted"].as_str().expect("lines"));
        next = result["structuredContent"]["next_line"].clone();
    }
    assert_eq!(text, s.get(&format!("/api/v1/runs/{run}/patch")).await.text);

    let mut runs = vec![run];
    for n in 1..4 {
        let run = start(&s, &format!("run {n}")).await;
        until_it_decides(&s, &run, 0).await;
        runs.insert(0, run);
    }
    for (tool, rows) in [("list_runs", "runs"), ("list_questions", "questions")] {
        let (mut before, mut found) = (Value::Null, Vec::new());
        loop {
            let page = done(&s, tool, json!({"limit": 2, "before": before})).await;
            found.extend(page[rows].as_array().expect("rows").iter().map(|r| r["run"].as_str().unwrap().to_owned()));
            before = page["next_before"].clone();
            if before.is_null() {
                break;
            }
        }
        assert_eq!(found, runs, "{tool}");
    }
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
    let update = json!({"taskId": task, "inputResponses": answers});
    let answered = send_current(&s, "tasks/update", update.clone(), true).await;
    assert!(answered["result"].is_object(), "{answered}");
    s.until(&task, "blocked").await;
    let again = send_current(&s, "tasks/get", json!({"taskId": task}), true).await;
    assert!(again["result"]["inputRequests"]["b2"].is_object(), "the answer led to new tries: {again}");
    // The same answer again is for a question that is gone.
    let repeated = send_current(&s, "tasks/update", update, true).await;
    assert!(repeated["result"].is_object(), "{repeated}");

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
    let unknown = send(&s, &message("tools/call", json!({"name": "merge\u{1b}[0m", "arguments": {}}))).await.json();
    let text = unknown["error"]["message"].as_str().expect("a message");
    assert!(text.contains("there is no tool") && !text.contains('\u{1b}'), "{unknown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_a_message_of_the_protocol_is_answered_by_an_error_of_json_rpc() {
    let s = service().await;
    let post = async |body: &str| {
        let builder = request(Method::POST, "/mcp")
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json");
        s.send(builder.body(Body::from(body.to_owned())).expect("a request")).await
    };
    for (body, status, code) in [
        ("{\"a", 400, -32_700),
        ("[]", 400, -32_600),
        ("[{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"ping\"}]", 400, -32_600),
        ("{\"jsonrpc\": \"1.0\", \"id\": 1, \"method\": \"ping\"}", 400, -32_600),
        ("{\"jsonrpc\": \"2.0\", \"id\": {}, \"method\": \"ping\"}", 400, -32_600),
        ("{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"tools/call\"}", 200, -32_602),
    ] {
        let reply = post(body).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (status, &json!(code)), "{body}");
    }
    let arguments = send(&s, &message("tools/call", json!({"name": "list_runs", "arguments": []}))).await.json();
    assert_eq!(arguments["error"]["code"], -32_602, "{arguments}");
    for method in ["runs/list", "prompts/list"] {
        let unknown = send(&s, &message(method, json!({}))).await.json();
        let text = unknown["error"]["message"].as_str().expect("a message");
        assert!(text.contains(&format!("no method {method}")) && text.contains("tools/call"), "{unknown}");
    }
    let undeclared = request(Method::POST, "/mcp").header("accept", "application/json, text/event-stream");
    assert_eq!(s.send(undeclared.body(Body::from("{}")).expect("a request")).await.status, 415);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guards_of_all_routes_protect_the_protocol() {
    let s = service().await;
    let list = message("tools/list", json!({}));
    let bare = |token: Option<&str>, host: &str| {
        let builder = axum::http::Request::builder().method(Method::POST).uri("/mcp").header("host", host.to_owned());
        match token {
            Some(token) => builder.header("authorization", format!("Bearer {token}")),
            None => builder,
        }
    };
    for token in [None, Some("wrong"), Some(&TOKEN[1..])] {
        let reply = s.send(json(bare(token, "localhost:7300"), &list)).await;
        reply.is_problem(401, "no_token");
        // Clients drop a configured token when OAuth is advertised.
        assert_eq!(reply.header("www-authenticate"), "Bearer");
    }
    s.send(json(bare(Some(TOKEN), "rebound.example"), &list)).await.is_problem(421, "host");
    for origin in ["https://evil.example", "http://localhost:1", "null"] {
        let foreign = request(Method::POST, "/mcp").header("origin", origin);
        s.send(json(foreign, &list)).await.is_problem(403, "origin");
    }
    let get = request(Method::GET, "/mcp").header("accept", "text/event-stream").body(Body::empty());
    assert_eq!(s.send(get.expect("a request")).await.status, 405);
    let large = message("tools/call", json!({"name": "get_run", "arguments": {"run": "f".repeat(2 << 20)}}));
    assert_eq!(send(&s, &large).await.status, 413);
}
