//! Every question exits with code 4 and prints the commands that answer it; after the answer, the run continues with
//! its counters.

use crate::support::cli::{Cli, git};
use serde_json::Value;

/// Starts a run on a new repository and expects it to end in a question.
fn asked(engine: &str, check: &str, config: &str) -> (Cli, String, String) {
    let cli = Cli::new();
    cli.repo("tool", &[("a.txt", "hello\n")]);
    std::fs::write(cli.path("skep.toml"), config).unwrap();
    let args = ["run", "--repo", "tool.git", "--goal", "Do it", "--engine", engine, "--check", check];
    let output = cli.run(&[&args[..], &["--config", "skep.toml"]].concat()).exits_with(4);
    assert!(
        output.out.contains("\nEscalation: ") && output.out.contains("\nAnswer with one of:\n  skep "),
        "{}",
        output.out
    );
    assert!(output.out.contains("The run resumes by itself after"), "{}", output.out);
    let id = cli.newest();
    (cli, id, output.out)
}

fn codes(view: &Value) -> Vec<&str> {
    view["escalations"].as_array().unwrap().iter().map(|e| e["code"].as_str().unwrap()).collect()
}

#[test]
fn a_command_that_fails_asks_and_keeps_counting() {
    let (cli, id, out) = asked("command: echo oops; exit 3", "true", "");
    assert!(out.contains("a2 failed: the command ended with exit code 3; its last output: oops"), "{out}");
    let before = cli.show(&id);
    assert_eq!(codes(&before).len(), 1);
    // The printed line can be typed as it is, including its comment.
    let line = out.lines().find(|l| l.contains("# as many tries again")).unwrap().trim().to_owned();
    let typed = line.replace("skep ", &format!("{} ", env!("CARGO_BIN_EXE_skep")));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &typed]).env("SKEP_DATA_DIR", cli.path("data")).current_dir(cli.dir.path());
    crate::support::cli::ended(shell).exits_with(4).prints("a3 started: dev (command) on t1 (try 2 of 3)");
    let after = cli.show(&id);
    assert_eq!((&after["branch"], after["attempts"].as_array().unwrap().len()), (&before["branch"], 3));
    cli.run(&["unblock", &id, "--no", "enough"]).exits_with(3).prints("failed: Do it");
}

#[test]
fn failed_checks_and_forbidden_paths_ask() {
    for (engine, check, why) in [
        ("command: echo x >> a.txt", "echo no good; false", "no good"),
        ("command: echo x > .gitmodules", "true", ".gitmodules"),
    ] {
        let (cli, id, _) = asked(engine, check, "");
        let view = cli.show(&id);
        let escalation = &view["escalations"][0];
        assert!(escalation["why"].as_str().unwrap().contains(why), "{escalation}");
        assert_eq!(view["status"], "blocked");
    }
}

#[test]
fn a_protected_path_needs_approval_before_the_merge() {
    let engine = "command: mkdir -p .github/workflows; echo a > .github/workflows/x.yml";
    let (cli, id, out) = asked(engine, "true", "");
    assert!(out.contains("it touches protected paths: .github/workflows/x.yml"), "{out}");
    cli.run(&["approve", &id]).exits_with(4).prints("Escalation: the merge waits for approval");
    cli.run(&["approve", &id]).exits_with(0);
}

#[test]
fn an_exhausted_budget_asks_for_more() {
    let (cli, id, out) = asked("command: echo x >> a.txt", "true", "[limits]\nattempts = 1\n");
    assert!(out.contains("change `[limits]` in the configuration"), "{out}");
    cli.run(&["unblock", &id, "--more", "attempts=10"])
        .exits_with(4)
        .prints("answered b1: more budget")
        .prints("a2 started");
}

#[test]
fn a_question_is_answered_by_comment_and_by_command() {
    let script = "[[turn]]\nstep = \"develop\"\nnote_from = \"answer\"\nedit = [{ append = \"a.txt\", content = \"5433\\n\" }]\n\
                  done = \"as answered\"\n[[turn]]\nstep = \"develop\"\nquestion = \"Which port?\"\n";
    let cli = Cli::new();
    let bare = cli.repo("tool", &[("a.txt", "hello\n")]);
    std::fs::write(cli.path("s.toml"), script).unwrap();
    cli.run(&["run", "--repo", "tool.git", "--goal", "Ask", "--engine", "dev=script:s.toml", "--check", "true"])
        .exits_with(4)
        .prints("  | Which port?");
    cli.run(&["unblock", &cli.newest(), "--answer", "5433"]).exits_with(4).prints("Escalation: the merge waits");
    cli.run(&["change", "approve", "tool#1"]).exits_with(0).prints("skep resume");
    cli.run(&["resume", &cli.newest()]).exits_with(0).prints("delivered as");
    assert!(git(&bare, &["show", "main:a.txt"]).contains("5433"));
}

#[test]
fn endless_rework_asks_after_its_rounds_and_accepts_a_comment() {
    let script = "[[turn]]\nstep = \"develop\"\nedit = [{ append = \"a.txt\", content = \"more\\n\" }]\ndone = \"more\"\n\
                  [[turn]]\nstep = \"review\"\nverdict = \"rework\"\nsummary = \"never enough\"\n\
                  findings = [{ path = \"a.txt\", line = 1, text = \"bad\" }]\n";
    let cli = Cli::new();
    cli.repo("tool", &[("a.txt", "hello\n")]);
    std::fs::write(cli.path("s.toml"), script).unwrap();
    let (dev, reviewer) = ("dev=script:s.toml", "reviewer=script:s.toml");
    cli.run(&["run", "--repo", "tool.git", "--goal", "More", "--engine", dev, "--engine", reviewer, "--check", "true"])
        .exits_with(4)
        .prints("Escalation: the rounds of rework are used up")
        .prints("`UNBLOCK #b1` on tool#1");
    let id = cli.newest();
    let before = cli.show(&id)["attempts"].as_array().unwrap().len();
    cli.run(&["change", "comment", "tool#1", "UNBLOCK #b1"]).exits_with(0);
    cli.run(&["resume", &id]).exits_with(4).prints("Escalation: the rounds of rework are used up");
    assert!(cli.show(&id)["attempts"].as_array().unwrap().len() > before);
}

#[test]
fn actions_on_the_change_are_observed_without_a_service() {
    let add = "command: echo x >> a.txt";
    let (cli, id, _) = asked(add, "true", "");
    cli.run(&["change", "merge", "tool#1"]).exits_with(0);
    cli.run(&["resume", &id]).exits_with(0).prints("delivered as");

    let (cli, id, _) = asked(add, "true", "");
    cli.run(&["change", "close", "tool#1"]).exits_with(0);
    cli.run(&["resume", &id]).exits_with(4).prints("Escalation: the change was closed");

    let (cli, id, _) = asked(add, "true", "");
    let branch = format!("skep/{id}");
    git(cli.dir.path(), &["clone", "-q", "-b", &branch, "tool.git", "other"]);
    git(&cli.path("other"), &["commit", "-q", "--allow-empty", "-m", "foreign"]);
    git(&cli.path("other"), &["push", "-q", "origin", &branch]);
    cli.run(&["approve", &id]).exits_with(4).prints("a foreign commit was pushed to the run's branch");
    cli.run(&["unblock", &id, "--block", "b2"]).exits_with(4);
    cli.run(&["approve", &id]).exits_with(0);
}

#[test]
fn work_that_removes_tests_needs_approval() {
    let cli = Cli::new();
    cli.repo("tool", &[("tests/a_test.py", "one\ntwo\nthree\n")]);
    let engine = "command: echo one > tests/a_test.py; echo more > tests/b_test.py";
    cli.run(&["run", "--repo", "tool.git", "--goal", "Do it", "--engine", engine, "--check", "true"])
        .exits_with(4)
        .prints("it removes tests (2 lines fewer, deleted files included): tests/a_test.py")
        .prints("a task's work needs approval before it continues");
    let id = cli.newest();
    cli.run(&["approve", &id]).exits_with(4).prints("Escalation: the merge waits for approval");
    cli.run(&["approve", &id]).exits_with(0);
}

#[test]
fn a_question_to_the_scout_needs_no_person() {
    let script = "[[turn]]\nstep = \"develop\"\nnote_from = \"scout\"\n\
                  edit = [{ append = \"a.txt\", content = \"5433\\n\" }]\ndone = \"as answered\"\n\
                  [[turn]]\nstep = \"develop\"\nquestion = \"Which port?\"\nto = \"scout\"\n";
    let cli = Cli::new();
    cli.repo("tool", &[("a.txt", "hello\n"), ("port.txt", "5433\n")]);
    std::fs::write(cli.path("s.toml"), script).unwrap();
    let scout = "scout=command: test \"$SKEP_QUESTION\" = 'Which port?' && echo \"it is $(cat port.txt)\"";
    let run = ["run", "--repo", "tool.git", "--goal", "Ask", "--engine", "dev=script:s.toml", "--check", "true"];
    cli.run(&[&run[..], &["--engine", scout]].concat())
        .exits_with(4)
        .prints("asked the scout: Which port?")
        .prints("a3 started: scout (command) for the question of a2")
        .prints("a4 started: dev (script) on t1 (try 1 of 2)")
        .prints("Escalation: the merge waits");
    // Without a scout the same question goes to a person.
    cli.run(&[&run[..], &["--new"]].concat()).exits_with(4).prints("  | Which port?").prints("the dev asks a question");
}
