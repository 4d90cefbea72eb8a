//! The pages in a real browser: a first-time user's path in three ways, and what independent judges find. The programs
//! are beside this file; scripts/test installs what they need.

use crate::support::cli::{BackgroundProcess, Cli};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// Edits files in the ways that a diff can show, hidden characters included.
const EDIT: &str = "command: mkdir -p src && printf 'one\\ntwo \\342\\200\\256three\\n' > a.txt && rm b.txt && \
    seq 1 400 > src/numbers.txt && chmod +x src/numbers.txt";
/// Asks a question instead of working.
const ASK: &str =
    "command: echo '{\"question\": \"Should `a.txt` keep its <b>first</b> line?\"}' > \"$SKEP_REPORT_FILE\"";
/// Plans tasks of which two need the first.
const PLAN: &str = "manager=command: printf '{\"tasks\": [{\"name\": \"one\", \"title\": \"First\", \"text\": \"1\"}, \
    {\"name\": \"two\", \"title\": \"Second\", \"text\": \"2\", \"needs\": [\"one\"]}, \
    {\"name\": \"three\", \"title\": \"Third\", \"text\": \"3\", \"needs\": [\"one\"]}]}' > \"$SKEP_REPORT_FILE\"";

/// Returns the command that runs one of the programs; `None`, and says so, without what it needs.
fn program(name: &str) -> Option<Command> {
    let missing = |what: &str| {
        eprintln!("skipped: {what}; scripts/test installs the judges if npm and chromium are there");
        None
    };
    let Some(judges) = std::env::var_os("SKEP_TEST_PAGE_JUDGES") else {
        return missing("SKEP_TEST_PAGE_JUDGES is not set");
    };
    if !Path::new(&judges).join("node_modules").is_dir() {
        return missing("SKEP_TEST_PAGE_JUDGES has no node_modules");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/pages").join(name);
    let mut node = Command::new("node");
    node.arg(path).stdin(Stdio::null());
    Some(node)
}

struct Served {
    cli: Cli,
    _service: BackgroundProcess,
    repo: String,
}

impl Served {
    fn new() -> Served {
        let cli = Cli::new();
        let repo = cli.repo("notes", &[("a.txt", "one\n"), ("b.txt", "gone soon\n")]).display().to_string();
        let _service = cli.serve();
        Served { cli, _service, repo }
    }
    fn link(&self) -> String {
        let printed = self.cli.run(&["open", "--json"]).exits_with(0).json();
        printed["url"].as_str().expect("an address").to_owned()
    }
    /// Starts a run and returns its id.
    fn start(&self, goal: &str, engines: &[&str], check: &str) -> String {
        let mut args = vec!["run", "--json", "--detach", "--new", "--repo", &self.repo, "--check", check, goal];
        args.extend(engines.iter().flat_map(|engine| ["--engine", engine]));
        let started = self.cli.run(&args).exits_with(0);
        let first: Value = serde_json::from_str(started.out.lines().next().expect("a line")).expect("JSON");
        first["id"].as_str().expect("an id").to_owned()
    }
    fn until(&self, run: &str, status: &str) {
        self.cli.until(&format!("{run} is {status}"), || self.cli.show(run)["status"] == status);
    }
}

#[track_caller]
fn passes(mut command: Command) {
    let output = command.output().expect("node starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stderr), text(&output.stdout));
}

fn walks(mode: &str) {
    let Some(mut node) = program("path.mjs") else { return };
    let served = Served::new();
    node.args([&served.link(), &served.repo, mode]);
    passes(node);
}

#[test]
fn the_first_run_needs_only_the_keyboard() {
    walks("keyboard");
}

#[test]
fn the_first_run_needs_no_javascript() {
    walks("noscript");
}

#[test]
fn the_first_run_needs_only_the_window_of_a_phone() {
    walks("phone");
}

#[test]
fn twelve_tabs_of_a_browser_follow_a_run() {
    let Some(mut node) = program("live.mjs") else { return };
    let served = Served::new();
    let run = served.start("Ask", &[ASK], "true");
    served.until(&run, "blocked");
    node.args([&served.link(), &run, env!("CARGO_BIN_EXE_skep")]).env("SKEP_DATA_DIR", served.cli.path("data"));
    passes(node);
}

#[test]
fn the_command_menu_goes_finds_and_does_by_keyboard() {
    let Some(mut node) = program("menu.mjs") else { return };
    let served = Served::new();
    let run = served.start("Choose the first line", &[ASK], "true");
    served.until(&run, "blocked");
    node.args([&served.link(), &run, "Choose the first line"]);
    passes(node);
}

#[test]
fn judges_find_nothing_on_any_page() {
    let Some(mut node) = program("judge.mjs") else { return };
    let served = Served::new();
    let landed = served.start("Make it two", &["command: echo two >> a.txt"], "test -f a.txt");
    let asking = served.start("Choose the first line", &[ASK], "true");
    let approval = served.start("Change everything\n\nIn many ways.", &[EDIT], "echo fine");
    let red = served.start(
        "Break it",
        &["command: echo three >> a.txt"],
        "seq 1 60; printf '\\033[31mred\\033[0m\\n'; false",
    );
    let planned = served.start("Three tasks", &[PLAN, "command: echo $SKEP_TASK > $SKEP_TASK.txt"], "true");
    for run in [&landed, &asking, &approval, &red, &planned] {
        served.until(run, "blocked");
    }
    served.cli.run(&["user", "add", "ann"]).exits_with(0);
    served.cli.run(&["token", "new", "ci"]).exits_with(0);
    let paused = served.start("Wait", &[ASK], "true");
    served.cli.run(&["pause", &paused]).exits_with(0);
    served.cli.run(&["approve", &landed]).exits_with(0);
    served.until(&landed, "completed");
    let logs = served.cli.run(&["logs", &red, "--json"]).exits_with(0).out;
    let log: Value = serde_json::from_str(logs.lines().last().expect("a log")).expect("JSON");
    let mut paths: Vec<String> = [
        "/",
        "/runs",
        "/runs?status=quarantined",
        "/runs/new",
        "/projects",
        "/projects/notes",
        "/spending",
        "/deployments",
        "/audit",
        "/me",
        "/menu",
        "/menu?q=notes",
        "/people",
        "/settings",
        "/settings/config",
        "/settings/config?q=budget&changed=1",
        "/settings/engines",
        "/settings/sandbox",
        "/settings/forges",
        "/runs/00000000",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.extend([&landed, &asking, &approval, &red, &planned, &paused].map(|run| format!("/runs/{run}")));
    for page in ["changes", "changes?view=split", "output", "events?show=all", "cost"] {
        paths.push(format!("/runs/{approval}/{page}"));
    }
    paths.extend([format!("/q/{approval}/b1"), format!("/q/{landed}/b1"), format!("/runs/{asking}/changes")]);
    if let Some(digest) = log["digest"].as_str() {
        paths.push(format!("/runs/{red}/output/{digest}"));
    }
    node.arg(served.link()).args(paths);
    passes(node);
}
