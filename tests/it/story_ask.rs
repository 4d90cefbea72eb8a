//! Every question exits with code 4 and prints the commands that answer it; after the answer, the run continues with
//! its counters.

use crate::support::cli::{Cli, git};
use serde_json::Value;

/// Starts a run on a new repository and expects it to end in a question.
fn asked(engine: &str, check: &str, config: &str) -> (Cli, String, String) {
    let desk = Cli::new();
    desk.repo("tool", &[("a.txt", "hello\n")]);
    std::fs::write(desk.path("skep.toml"), config).unwrap();
    let args = ["run", "--repo", "tool.git", "--goal", "Do it", "--engine", engine, "--check", check];
    let said = desk.does(&[&args[..], &["--config", "skep.toml"]].concat()).ends(4);
    assert!(said.out.contains("\nEscalation: ") && said.out.contains("\nAnswer with one of:\n  skep "), "{}", said.out);
    assert!(said.out.contains("The run resumes by itself after"), "{}", said.out);
    let id = desk.newest();
    (desk, id, said.out)
}

fn codes(view: &Value) -> Vec<&str> {
    view["escalations"].as_array().unwrap().iter().map(|e| e["code"].as_str().unwrap()).collect()
}

#[test]
fn a_command_that_fails_asks_and_keeps_counting() {
    let (desk, id, out) = asked("command: echo oops; exit 3", "true", "");
    assert!(out.contains("a2 failed: the command ended with exit code 3; its last output: oops"), "{out}");
    let before = desk.show(&id);
    assert_eq!(codes(&before).len(), 1);
    // The printed line can be typed as it is, including its comment.
    let line = out.lines().find(|l| l.contains("# as many tries again")).unwrap().trim().to_owned();
    let typed = line.replace("skep ", &format!("{} ", env!("CARGO_BIN_EXE_skep")));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &typed]).env("SKEP_DATA_DIR", desk.path("data")).current_dir(desk.dir.path());
    crate::support::cli::ended(shell).ends(4).says("a3 started: dev (command) on t1 (try 2 of 3)");
    let after = desk.show(&id);
    assert_eq!((&after["branch"], after["attempts"].as_array().unwrap().len()), (&before["branch"], 3));
    desk.does(&["unblock", &id, "--no", "enough"]).ends(3).says("failed: Do it");
}

#[test]
fn failed_checks_and_forbidden_paths_ask() {
    for (engine, check, why) in [
        ("command: echo x >> a.txt", "echo no good; false", "no good"),
        ("command: echo x > .gitmodules", "true", ".gitmodules"),
    ] {
        let (desk, id, _) = asked(engine, check, "");
        let view = desk.show(&id);
        let escalation = &view["escalations"][0];
        assert!(escalation["why"].as_str().unwrap().contains(why), "{escalation}");
        assert_eq!(view["status"], "blocked");
    }
}

#[test]
fn a_protected_path_needs_approval_before_the_merge() {
    let engine = "command: mkdir -p .github/workflows; echo a > .github/workflows/x.yml";
    let (desk, id, out) = asked(engine, "true", "");
    assert!(out.contains("it touches protected paths: .github/workflows/x.yml"), "{out}");
    desk.does(&["approve", &id]).ends(4).says("Escalation: the merge waits for approval");
    desk.does(&["approve", &id]).ends(0);
}

#[test]
fn an_exhausted_budget_asks_for_more() {
    let (desk, id, out) = asked("command: echo x >> a.txt", "true", "[limits]\nattempts = 1\n");
    assert!(out.contains("change `[limits]` in the configuration"), "{out}");
    desk.does(&["unblock", &id, "--more", "attempts=10"]).ends(4).says("answered b1: more budget").says("a2 started");
}

#[test]
fn a_question_is_answered_by_comment_and_by_command() {
    let script = "[[turn]]\nstep = \"develop\"\nnote_from = \"answer\"\nedit = [{ append = \"a.txt\", content = \"5433\\n\" }]\n\
                  done = \"as answered\"\n[[turn]]\nstep = \"develop\"\nquestion = \"Which port?\"\n";
    let desk = Cli::new();
    let bare = desk.repo("tool", &[("a.txt", "hello\n")]);
    std::fs::write(desk.path("s.toml"), script).unwrap();
    desk.does(&["run", "--repo", "tool.git", "--goal", "Ask", "--engine", "dev=script:s.toml", "--check", "true"])
        .ends(4)
        .says("  | Which port?");
    desk.does(&["unblock", &desk.newest(), "--answer", "5433"]).ends(4).says("Escalation: the merge waits");
    desk.does(&["change", "approve", "tool#1"]).ends(0).says("skep resume");
    desk.does(&["resume", &desk.newest()]).ends(0).says("delivered as");
    assert!(git(&bare, &["show", "main:a.txt"]).contains("5433"));
}

#[test]
fn endless_rework_asks_after_its_rounds_and_accepts_a_comment() {
    let script = "[[turn]]\nstep = \"develop\"\nedit = [{ append = \"a.txt\", content = \"more\\n\" }]\ndone = \"more\"\n\
                  [[turn]]\nstep = \"review\"\nverdict = \"rework\"\nsummary = \"never enough\"\n\
                  findings = [{ path = \"a.txt\", line = 1, text = \"bad\" }]\n";
    let desk = Cli::new();
    desk.repo("tool", &[("a.txt", "hello\n")]);
    std::fs::write(desk.path("s.toml"), script).unwrap();
    let (dev, reviewer) = ("dev=script:s.toml", "reviewer=script:s.toml");
    desk.does(&[
        "run", "--repo", "tool.git", "--goal", "More", "--engine", dev, "--engine", reviewer, "--check", "true",
    ])
    .ends(4)
    .says("Escalation: the rounds of rework are used up")
    .says("`UNBLOCK #b1` on tool#1");
    let id = desk.newest();
    let before = desk.show(&id)["attempts"].as_array().unwrap().len();
    desk.does(&["change", "comment", "tool#1", "UNBLOCK #b1"]).ends(0);
    desk.does(&["resume", &id]).ends(4).says("Escalation: the rounds of rework are used up");
    assert!(desk.show(&id)["attempts"].as_array().unwrap().len() > before);
}

#[test]
fn actions_on_the_change_are_observed_without_a_service() {
    let add = "command: echo x >> a.txt";
    let (desk, id, _) = asked(add, "true", "");
    desk.does(&["change", "merge", "tool#1"]).ends(0);
    desk.does(&["resume", &id]).ends(0).says("delivered as");

    let (desk, id, _) = asked(add, "true", "");
    desk.does(&["change", "close", "tool#1"]).ends(0);
    desk.does(&["resume", &id]).ends(4).says("Escalation: the change was closed");

    let (desk, id, _) = asked(add, "true", "");
    let branch = format!("skep/{id}");
    git(desk.dir.path(), &["clone", "-q", "-b", &branch, "tool.git", "other"]);
    git(&desk.path("other"), &["commit", "-q", "--allow-empty", "-m", "foreign"]);
    git(&desk.path("other"), &["push", "-q", "origin", &branch]);
    desk.does(&["approve", &id]).ends(4).says("a foreign commit was pushed to the run's branch");
    desk.does(&["unblock", &id, "--block", "b2"]).ends(4);
    desk.does(&["approve", &id]).ends(0);
}

#[test]
fn work_that_removes_tests_needs_approval() {
    let desk = Cli::new();
    desk.repo("tool", &[("tests/a_test.py", "one\ntwo\nthree\n")]);
    let engine = "command: echo one > tests/a_test.py; echo more > tests/b_test.py";
    desk.does(&["run", "--repo", "tool.git", "--goal", "Do it", "--engine", engine, "--check", "true"])
        .ends(4)
        .says("it removes tests (2 lines fewer, deleted files included): tests/a_test.py")
        .says("a task's work needs approval before it continues");
    let id = desk.newest();
    desk.does(&["approve", &id]).ends(4).says("Escalation: the merge waits for approval");
    desk.does(&["approve", &id]).ends(0);
}

#[test]
fn a_question_to_the_scout_needs_no_person() {
    let script = "[[turn]]\nstep = \"develop\"\nnote_from = \"scout\"\n\
                  edit = [{ append = \"a.txt\", content = \"5433\\n\" }]\ndone = \"as answered\"\n\
                  [[turn]]\nstep = \"develop\"\nquestion = \"Which port?\"\nto = \"scout\"\n";
    let desk = Cli::new();
    desk.repo("tool", &[("a.txt", "hello\n"), ("port.txt", "5433\n")]);
    std::fs::write(desk.path("s.toml"), script).unwrap();
    let scout = "scout=command: test \"$SKEP_QUESTION\" = 'Which port?' && echo \"it is $(cat port.txt)\"";
    let run = ["run", "--repo", "tool.git", "--goal", "Ask", "--engine", "dev=script:s.toml", "--check", "true"];
    desk.does(&[&run[..], &["--engine", scout]].concat())
        .ends(4)
        .says("asked the scout: Which port?")
        .says("a3 started: scout (command) for the question of a2")
        .says("a4 started: dev (script) on t1 (try 1 of 2)")
        .says("Escalation: the merge waits");
    // Without a scout the same question goes to a person.
    desk.does(&[&run[..], &["--new"]].concat()).ends(4).says("  | Which port?").says("the dev asks a question");
}
