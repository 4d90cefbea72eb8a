//! Complete runs of the real program, with their checks on a host over SSH.

use crate::support::cli::{Cli, ended, git};
use crate::support::sshd::{Sshd, running};
use serde_json::json;
use std::process::Stdio;

const FILE: &str = "[[check]]\nname = \"unit\"\nrunner = \"box\"\njunit = \"r.xml\"\n\
    command = \"printf '<testsuite><testcase/><testcase/></testsuite>' > r.xml; grep -q b a.txt\"\n\
    [[check]]\nname = \"here\"\nkind = \"lint\"\ncommand = \"test -z \\\"$SSH_CONNECTION\\\"\"\n";

fn cli(sshd: &Sshd, more: &str) -> Cli {
    let cli = Cli::new();
    std::fs::create_dir(cli.path("data")).unwrap();
    configure(&cli, sshd, more);
    cli
}

fn configure(cli: &Cli, sshd: &Sshd, more: &str) {
    std::fs::write(cli.path("data/skep.toml"), format!("{}{more}\n[steps.ops]\ntimeout = \"2s\"\n", sshd.table("box")))
        .unwrap();
}

fn run(engine: &str, more: &[&str]) -> Vec<String> {
    let engine = format!("command: {engine}");
    let base = ["run", "--repo", "tool.git", "--goal", "b", "--engine", &engine, "--yes"];
    [&base[..], more].concat().iter().map(|s| (*s).to_owned()).collect()
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn a_repository_can_only_use_runners_allowed_for_its_project() {
    let sshd = Sshd::start("");
    let cli = cli(&sshd, "");
    let repo = cli.repo("tool", &[("a.txt", "a\n"), (".skep.toml", FILE)]);
    let args = run("echo b > a.txt", &[]);
    let refused = cli.run(&words(&args)).exits_with(2);
    refused.one_error("project tool is not allowed to use runner box", "[project.tool.checks]");
    assert!(sshd.sessions().is_empty() && !sshd.root().exists());
    cli.run(&["runner", "list"]).exits_with(0).prints("box");

    configure(&cli, &sshd, "[project.tool.checks]\nrunners = [\"box\"]");
    cli.run(&["runner", "list"]).exits_with(0).prints("(tool)");
    let look: Vec<&str> = words(&args).into_iter().filter(|w| *w != "--yes").chain(["--dry-run"]).collect();
    cli.run(&look).exits_with(0).prints("unit on box: ");
    cli.run(&words(&args)).exits_with(0);
    assert_eq!(git(&repo, &["show", "main:a.txt"]).trim(), "b");
    let shown = cli.show(&cli.newest());
    assert_eq!(shown["results"][0]["tests"], json!({"run": 2, "failed": 0, "skipped": 0}), "{shown}");
    assert_eq!((&shown["checks"][0]["runner"], &shown["checks"][1]["runner"]), (&json!("box"), &json!(null)));
    cli.run(&["show", &cli.newest()]).exits_with(0).prints("unit on box passed");
    let change = cli.run(&["change", "show", "tool#1"]).exits_with(0);
    assert!(change.out.contains("check `unit` on box at ") && change.out.contains(": green"), "{}", change.out);
    assert!(sshd.sessions().is_empty());
    cli.run(&["doctor"]).prints("runner box");

    // A runner that was withdrawn during the run leads to a question, not to a failed check.
    let args = run("echo bb > a.txt; sleep 2", &["--new"]);
    let mut going = cli.skep(&words(&args)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    cli.until("the run exists", || cli.newest() != shown["id"].as_str().unwrap()[24..]);
    going.kill().unwrap();
    let _ended = going.wait();
    configure(&cli, &sshd, "");
    let newest = cli.newest();
    cli.run(&["resume", &newest]);
    let asked = cli.run(&["show", &newest]).exits_with(0);
    assert!(asked.out.contains("project tool is not allowed"), "{}", asked.out);
}

#[test]
fn a_failed_check_is_reported_and_a_changed_host_key_is_a_question() {
    let sshd = Sshd::start("");
    let cli = cli(&sshd, "[checks]\nrunner = \"box\"");
    cli.repo("tool", &[("a.txt", "a\n")]);
    let red = run("echo b > a.txt", &["--check", "echo seen; grep c a.txt"]);
    cli.run(&words(&red)).exits_with(4);
    let shown = cli.show(&cli.newest());
    let task = &shown["tasks"][0]["results"][0];
    assert_eq!(
        (&task["green"], &task["exit_code"], &task["tail"]),
        (&json!(false), &json!(1), &json!("seen\n")),
        "{shown}"
    );
    cli.run(&["cancel", &cli.newest()]).exits_with(0);

    cli.run(&["runner", "test", "box"]).exits_with(0).prints("The runner box works");
    cli.run(&["runner", "test", "nowhere"]).exits_with(2).one_error("no runner nowhere", "runner list");
    sshd.replace_known_key();
    cli.run(&["runner", "test", "box"]).exits_with(78).one_error("host key has changed", "known");
    let asked = cli.run(&words(&run("echo b > a.txt", &["--check", "true"]))).exits_with(4);
    assert!(asked.out.contains("another machine may be answering") && asked.out.contains("known"), "{}", asked.out);
    let shown = cli.show(&cli.newest());
    assert_eq!((&shown["results"], &shown["attempts"]), (&json!([]), &json!([])), "no check counts as failed: {shown}");
    assert!(sshd.sessions().is_empty());
}

#[test]
fn a_killed_skep_leaves_nothing_on_the_host_and_resumes() {
    let sshd = Sshd::start("");
    let cli = cli(&sshd, "[checks]\nrunner = \"box\"");
    let repo = cli.repo("tool", &[("a.txt", "a\n")]);
    let flag = cli.path("flag");
    let check = format!("test -e {} || {{ setsid sleep 6071 & sleep 6071; }}", flag.display());
    let args = run("echo b > a.txt", &["--check", &check]);
    let mut killed = cli.skep(&words(&args)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    cli.until("the check runs on the host", || running("sleep 6071").len() >= 2);
    assert_eq!(sshd.sessions().len(), 1);
    killed.kill().unwrap();
    let _ended = killed.wait();
    cli.until("the host ends the check", || running("sleep 6071").is_empty());
    std::fs::write(&flag, "").unwrap();
    ended(cli.skep(&words(&args))).exits_with(0);
    assert_eq!(git(&repo, &["show", "main:a.txt"]).trim(), "b");
    assert!(sshd.sessions().is_empty(), "{:?}", sshd.sessions());
}
