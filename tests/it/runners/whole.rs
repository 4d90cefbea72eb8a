//! Complete runs of the real program, with their checks on a host over SSH.

use crate::support::cli::{Cli, ended, git};
use crate::support::sshd::{Sshd, running};
use serde_json::json;
use std::process::Stdio;

const FILE: &str = "[[check]]\nname = \"unit\"\nrunner = \"box\"\njunit = \"r.xml\"\n\
    command = \"printf '<testsuite><testcase/><testcase/></testsuite>' > r.xml; grep -q b a.txt\"\n\
    [[check]]\nname = \"here\"\nkind = \"lint\"\ncommand = \"test -z \\\"$SSH_CONNECTION\\\"\"\n";

fn desk(sshd: &Sshd, more: &str) -> Cli {
    let desk = Cli::new();
    std::fs::create_dir(desk.path("data")).unwrap();
    configure(&desk, sshd, more);
    desk
}

fn configure(desk: &Cli, sshd: &Sshd, more: &str) {
    std::fs::write(
        desk.path("data/skep.toml"),
        format!("{}{more}\n[steps.ops]\ntimeout = \"2s\"\n", sshd.table("box")),
    )
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
    let desk = desk(&sshd, "");
    let repo = desk.repo("tool", &[("a.txt", "a\n"), (".skep.toml", FILE)]);
    let args = run("echo b > a.txt", &[]);
    let refused = desk.does(&words(&args)).ends(2);
    refused.one_error("project tool is not allowed to use runner box", "[project.tool.checks]");
    assert!(sshd.sessions().is_empty() && !sshd.root().exists());
    desk.does(&["runner", "list"]).ends(0).says("box");

    configure(&desk, &sshd, "[project.tool.checks]\nrunners = [\"box\"]");
    desk.does(&["runner", "list"]).ends(0).says("(tool)");
    let look: Vec<&str> = words(&args).into_iter().filter(|w| *w != "--yes").chain(["--dry-run"]).collect();
    desk.does(&look).ends(0).says("unit on box: ");
    desk.does(&words(&args)).ends(0);
    assert_eq!(git(&repo, &["show", "main:a.txt"]).trim(), "b");
    let shown = desk.show(&desk.newest());
    assert_eq!(shown["results"][0]["tests"], json!({"run": 2, "failed": 0, "skipped": 0}), "{shown}");
    assert_eq!((&shown["checks"][0]["runner"], &shown["checks"][1]["runner"]), (&json!("box"), &json!(null)));
    desk.does(&["show", &desk.newest()]).ends(0).says("unit on box passed");
    let change = desk.does(&["change", "show", "tool#1"]).ends(0);
    assert!(change.out.contains("check `unit` on box: green"), "{}", change.out);
    assert!(sshd.sessions().is_empty());
    desk.does(&["doctor"]).says("runner box");

    // A runner that was withdrawn during the run leads to a question, not to a failed check.
    let args = run("echo bb > a.txt; sleep 2", &["--new"]);
    let mut going = desk.skep(&words(&args)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    desk.until("the run exists", || desk.newest() != shown["id"].as_str().unwrap()[24..]);
    going.kill().unwrap();
    let _ended = going.wait();
    configure(&desk, &sshd, "");
    let newest = desk.newest();
    desk.does(&["resume", &newest]);
    let asked = desk.does(&["show", &newest]).ends(0);
    assert!(asked.out.contains("project tool is not allowed"), "{}", asked.out);
}

#[test]
fn a_failed_check_is_reported_and_a_changed_host_key_is_a_question() {
    let sshd = Sshd::start("");
    let desk = desk(&sshd, "[checks]\nrunner = \"box\"");
    desk.repo("tool", &[("a.txt", "a\n")]);
    let red = run("echo b > a.txt", &["--check", "echo seen; grep c a.txt"]);
    desk.does(&words(&red)).ends(4);
    let shown = desk.show(&desk.newest());
    let task = &shown["tasks"][0]["results"][0];
    assert_eq!(
        (&task["green"], &task["exit_code"], &task["tail"]),
        (&json!(false), &json!(1), &json!("seen\n")),
        "{shown}"
    );
    desk.does(&["cancel", &desk.newest()]).ends(0);

    desk.does(&["runner", "test", "box"]).ends(0).says("The runner box works");
    desk.does(&["runner", "test", "nowhere"]).ends(2).one_error("no runner nowhere", "runner list");
    sshd.replace_known_key();
    desk.does(&["runner", "test", "box"]).ends(78).one_error("host key has changed", "known");
    let asked = desk.does(&words(&run("echo b > a.txt", &["--check", "true"]))).ends(4);
    assert!(asked.out.contains("another machine may be answering") && asked.out.contains("known"), "{}", asked.out);
    let shown = desk.show(&desk.newest());
    assert_eq!((&shown["results"], &shown["attempts"]), (&json!([]), &json!([])), "no check counts as failed: {shown}");
    assert!(sshd.sessions().is_empty());
}

#[test]
fn a_killed_skep_leaves_nothing_on_the_host_and_resumes() {
    let sshd = Sshd::start("");
    let desk = desk(&sshd, "[checks]\nrunner = \"box\"");
    let repo = desk.repo("tool", &[("a.txt", "a\n")]);
    let flag = desk.path("flag");
    let check = format!("test -e {} || {{ setsid sleep 6071 & sleep 6071; }}", flag.display());
    let args = run("echo b > a.txt", &["--check", &check]);
    let mut killed = desk.skep(&words(&args)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    desk.until("the check runs on the host", || running("sleep 6071").len() >= 2);
    assert_eq!(sshd.sessions().len(), 1);
    killed.kill().unwrap();
    let _ended = killed.wait();
    desk.until("the host ends the check", || running("sleep 6071").is_empty());
    std::fs::write(&flag, "").unwrap();
    ended(desk.skep(&words(&args))).ends(0);
    assert_eq!(git(&repo, &["show", "main:a.txt"]).trim(), "b");
    assert!(sshd.sessions().is_empty(), "{:?}", sshd.sessions());
}
