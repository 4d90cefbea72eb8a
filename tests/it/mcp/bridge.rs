//! `skep mcp`, the real program: without a service, and with one that is killed and started again.

use super::{hello, message};
use crate::support::cli::Cli;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// An agent that started `skep mcp`.
struct Agent {
    program: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Agent {
    fn new(machine: &Cli) -> Agent {
        let mut program =
            machine.skep(&["mcp"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program");
        let input = program.stdin.take();
        let output = BufReader::new(program.stdout.take().expect("its output"));
        let mut agent = Agent { program, input, output };
        agent.send(&hello());
        assert_eq!(agent.receive()["result"]["serverInfo"]["name"], "skep");
        agent.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        agent
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.input.as_mut().expect("an open input"), "{message}").expect("written");
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// Calls a tool, and returns its structured result.
    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.send(&message("tools/call", json!({"name": tool, "arguments": arguments})));
        let answer = self.receive();
        assert_ne!(answer["result"]["isError"], true, "{tool}: {answer}");
        answer["result"]["structuredContent"].clone()
    }

    fn start(&mut self, machine: &Cli) -> String {
        let arguments = json!({"repo": machine.path("tool.git"), "goal": "Add a line", "checks": ["true"],
            "engines": {"dev": "command:echo two >> a.txt"}});
        self.call("start_run", arguments)["run"].as_str().expect("an id").to_owned()
    }

    fn until_it_asks(&mut self, run: &str) -> Value {
        for _ in 0..20 {
            let view = self.call("wait_for_run", json!({"run": run, "until": "decision"}));
            if view["questions"].as_array().is_some_and(|q| !q.is_empty()) {
                return view;
            }
        }
        panic!("run {run} never asked");
    }

    /// Closes standard input, and asserts that the program ends.
    fn leave(mut self) {
        self.input = None;
        assert!(self.program.wait().expect("its end").success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ended = self.program.kill();
        let _ended = self.program.wait();
    }
}

#[test]
fn an_agent_carries_runs_without_a_service() {
    let machine = Cli::new();
    machine.repo("tool", &[("a.txt", "hello\n")]);
    let mut agent = Agent::new(&machine);
    let run = agent.start(&machine);
    let view = agent.until_it_asks(&run);
    assert_eq!(view["questions"][0]["code"], "approve_merge", "{view}");
    // Each right after the answer to another.
    for _ in 0..50 {
        agent.call("list_projects", json!({}));
        agent.send(&json!("not a message"));
        assert_eq!(agent.receive()["error"]["code"], -32_600);
    }
    writeln!(agent.input.as_mut().expect("an open input"), "{{").expect("written");
    assert_eq!(agent.receive()["error"]["code"], -32_700);
    agent.send(&json!("x".repeat(2 << 20)));
    assert_eq!(agent.receive()["error"]["code"], -32_600, "one long line");
    agent.call("list_projects", json!({}));
    agent.leave();
    // The run is kept; the person goes on where the agent stopped.
    machine.run(&["approve", &run]).exits_with(0);
}

#[test]
fn a_killed_service_is_found_again_by_the_agent() {
    let machine = Cli::new();
    machine.repo("tool", &[("a.txt", "hello\n")]);
    let service = machine.serve();
    let mut agent = Agent::new(&machine);
    let run = agent.start(&machine);
    // SIGKILL, in the middle of whatever the run is doing.
    drop(service);
    // What is asked while no service runs is answered by the next one.
    agent.send(&message("tools/call", json!({"name": "get_run", "arguments": {"run": run}})));
    let _service = machine.serve_again();
    let answer = agent.receive();
    assert_eq!(answer["result"]["structuredContent"]["run"], run.as_str(), "{answer}");
    let view = agent.until_it_asks(&run);
    assert_eq!(view["questions"][0]["code"], "approve_merge", "{view}");
    machine.run(&["approve", &run]).exits_with(0);
    agent.leave();
}

#[test]
fn a_stopped_agent_leaves_its_runs_in_order() {
    let machine = Cli::new();
    machine.repo("tool", &[("a.txt", "hello\n")]);
    let mut agent = Agent::new(&machine);
    let run = agent.start(&machine);
    let pid = rustix::process::Pid::from_raw(i32::try_from(agent.program.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    assert!(agent.program.wait().expect("its end").success());
    assert!(!machine.path("data/service.json").exists());
    machine.run(&["show", &run]).exits_with(0);
}

#[test]
fn an_agent_that_does_not_read_cannot_keep_the_program_alive() {
    let machine = Cli::new();
    let mut agent = Agent::new(&machine);
    // More answers than a pipe holds.
    for n in 0..200 {
        agent.send(&message("tools/list", json!({ "cursor": null, "n": n })));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(agent.program.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    assert!(agent.program.wait().expect("its end").success());
}

#[test]
fn a_cancelled_call_has_no_answer() {
    let machine = Cli::new();
    machine.repo("tool", &[("a.txt", "hello\n")]);
    let mut agent = Agent::new(&machine);
    let run = agent.start(&machine);
    agent.until_it_asks(&run);
    let wait = json!({"name": "wait_for_run", "arguments": {"run": run, "seq": 1_000_000, "seconds": 300}});
    agent.send(&json!({"jsonrpc": "2.0", "id": "slow", "method": "tools/call", "params": wait}));
    agent.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "slow"}}));
    assert_eq!(agent.call("get_run", json!({"run": run}))["run"], run.as_str());
    agent.leave();
}
