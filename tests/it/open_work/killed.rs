//! The real program: an agent on the command line; claims that lapse; kills between any two steps.

use super::adds;
use crate::support::cli::{BackgroundProcess, Cli, CommandOutput, ended};
use serde_json::Value;
use std::process::Stdio;

const OPEN: &str =
    "[policy]\nbase_checks = \"off\"\n[role.reviewer]\nengine = \"direct\"\n[role.dev]\nengine = \"open\"\n";

struct Machine {
    cli: Cli,
}

impl Machine {
    /// A service with an open run.
    fn new(settings: &str) -> (Machine, BackgroundProcess) {
        let cli = Cli::new();
        cli.repo("tool", &[("a.txt", "one\n")]);
        std::fs::create_dir(cli.path("data")).unwrap();
        std::fs::write(cli.path("data/skep.toml"), format!("{OPEN}{settings}")).unwrap();
        let service = cli.serve();
        cli.run(&["run", "--repo", "tool.git", "--goal", "Add a line", "--check", "grep -q one a.txt", "--detach"])
            .exits_with(0);
        (Machine { cli }, service)
    }

    /// Runs a command of an agent at the running service.
    fn agent(&self, token: &str, args: &[&str]) -> CommandOutput {
        let state = std::fs::read_to_string(self.cli.path("data/service.json")).unwrap();
        let state: Value = serde_json::from_str(&state).unwrap();
        let mut command = self.cli.skep(&[&["work"], args].concat());
        command.env("SKEP_SERVER", format!("http://{}", state["address"].as_str().unwrap())).env("SKEP_TOKEN", token);
        ended(command)
    }

    /// Invites an agent of a person of this name, and returns its token.
    fn join(&self, name: &str) -> String {
        self.cli.run(&["user", "add", name]).exits_with(0);
        let code = self.cli.run(&["agents", "invite", name, "--owner", name]).exits_with(0);
        let code = code.out.lines().next().unwrap().to_owned();
        let joined = self.agent(&code, &["join", "--about", "a test"]).exits_with(0);
        joined.out.lines().next().unwrap().to_owned()
    }

    fn offer(&self, token: &str) -> String {
        let feed = || self.agent(token, &["feed", "--json"]).exits_with(0).json()["offers"].clone();
        self.cli.until("something is offered", || feed()[0].is_object());
        feed()[0]["id"].as_str().unwrap().to_owned()
    }

    fn state(&self, token: &str) -> Value {
        self.agent(token, &["mine", "--json"]).exits_with(0).json()["offers"][0]["offer"]["state"].clone()
    }

    fn serve_with_fault(&self, fault: &str) -> BackgroundProcess {
        let _nothing_left = std::fs::remove_file(self.cli.path("data/service.json"));
        let mut command = self.cli.skep(&["serve", "--listen", "127.0.0.1:0"]);
        command.env("SKEP_FAULT", fault).stdout(Stdio::null()).stderr(Stdio::null());
        BackgroundProcess(command.spawn().unwrap())
    }
}

#[test]
fn no_kill_loses_a_claim_or_a_submission() {
    let (machine, service) = Machine::new("");
    let token = machine.join("crab");
    let offer = machine.offer(&token);
    machine.agent(&token, &["claim", &offer]).exits_with(0).prints("is yours");
    drop(service);

    let mut service = machine.serve_with_fault("mid-submission");
    machine.cli.until("the service responds", || machine.cli.path("data/service.json").is_file());
    assert_eq!(machine.state(&token), "claimed");
    std::fs::write(machine.cli.path("one.patch"), adds("two")).unwrap();
    // The service dies while it applies the patch, and once more when it has.
    machine.agent(&token, &["submit", &offer, "--patch", "one.patch", "--summary", "adds two"]);
    assert!(!service.0.wait().unwrap().success(), "it is killed");
    let mut service = machine.serve_with_fault("after-submission");
    assert!(!service.0.wait().unwrap().success(), "it is killed again");
    let _service = machine.cli.serve_again();
    machine.cli.until("it waits for approval", || {
        machine.cli.show(&machine.cli.newest())["escalations"][0]["code"] == "approve_merge"
    });
    let run = machine.cli.show(&machine.cli.newest());
    let agents: Vec<&Value> = run["attempts"].as_array().unwrap().iter().map(|a| &a["ended"]["session"]).collect();
    assert!(agents.contains(&&Value::from("agent:crab")), "{agents:?}");
    machine.cli.run(&["approve", &machine.cli.newest()]).exits_with(0);
    machine.cli.until("it landed", || machine.cli.show(&machine.cli.newest())["status"] == "completed");
    assert_eq!(crate::support::cli::git(&machine.cli.path("tool.git"), &["show", "main:a.txt"]), "one\ntwo\n");
    let message = crate::support::cli::git(&machine.cli.path("tool.git"), &["log", "-1", "--format=%B", "main"]);
    assert!(message.contains("adds two") && message.contains("Skep-Agent: crab\n"), "{message}");
    machine.agent(&token, &["mine"]).exits_with(0).prints("landed as");
    machine.cli.run(&["agents", "list"]).exits_with(0).prints("crab").prints("too few outcomes (n 1)");
    machine.cli.run(&["agents", "ratings"]).exits_with(0).prints("agent:crab").prints("landed");
}

#[test]
fn a_claim_that_lapses_is_offered_to_others() {
    let (machine, _service) = Machine::new("[open]\nlease = \"1s\"\n");
    let (crab, fox) = (machine.join("crab"), machine.join("fox"));
    let offer = machine.offer(&crab);
    machine.agent(&crab, &["claim", &offer]).exits_with(0);
    // From now on only the other one calls, so nothing extends the lease.
    assert_eq!(machine.offer(&fox), offer);
    machine.agent(&fox, &["claim", &offer]).exits_with(0);
    let lost = machine.agent(&crab, &["claim", &offer]);
    assert_ne!(lost.code, 0);
    let listed = machine.cli.run(&["agents", "list", "--json"]).exits_with(0).json();
    let crab = listed["agents"].as_array().unwrap().iter().find(|agent| agent["name"] == "crab").unwrap().clone();
    assert_eq!(crab["lapses"], 1, "{crab}");
}

#[test]
fn an_offer_that_nobody_claims_goes_to_the_next_engine() {
    let settings = "fallback = [\"command: echo two >> a.txt\"]\n[open]\npatience = \"1s\"\n";
    let (machine, _service) = Machine::new(settings);
    machine.cli.until("it waits for approval", || {
        machine.cli.show(&machine.cli.newest())["escalations"][0]["code"] == "approve_merge"
    });
    let run = machine.cli.show(&machine.cli.newest());
    let engines =
        run["attempts"].as_array().unwrap().iter().map(|a| a["engine"].as_str().unwrap_or_default().to_owned());
    let engines: Vec<String> = engines.collect();
    assert!(engines.contains(&"open".to_owned()) && engines.iter().any(|e| e.starts_with("command")), "{engines:?}");
    machine.cli.run(&["work", "feed"]).one_error("does not have the right `work`", "token");
}
