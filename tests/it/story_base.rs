//! Stories about the base: its checks come first, what fails there is not the change's fault, and nothing is checked or
//! run twice for nothing.

use crate::support::cli::{Cli, Said};
use serde_json::Value;

fn run(desk: &Cli, goal: &str, check: &str, engine: &str, more: &[&str]) -> Said {
    let args = ["run", "--repo", "tool.git", "--goal", goal, "--check", check, "--engine", engine];
    desk.does(&[&args[..], more].concat())
}

fn desk() -> Cli {
    let desk = Cli::new();
    desk.repo("tool", &[("a.txt", "one\n")]);
    desk
}

fn attempts(view: &Value) -> usize {
    view["attempts"].as_array().unwrap().len()
}

#[test]
fn a_missing_program_is_asked_about_before_any_engine_works() {
    let desk = desk();
    let said = run(&desk, "Add", "no-such-program --all", "command: echo two >> a.txt", &[]).ends(4);
    assert!(said.out.contains("Escalation: the checks cannot run here yet, before any change: "), "{}", said.out);
    assert!(said.out.contains("  1) The program no-such-program, for check "), "{}", said.out);
    let id = desk.newest();
    assert_eq!(attempts(&desk.show(&id)), 0);
    // Checking again costs no attempt either.
    desk.does(&["unblock", &id]).ends(4).says("Escalation: the checks cannot run here yet");
    assert_eq!(attempts(&desk.show(&id)), 0);
    // A person can go on: the failure is not charged to the change, but the merge shows it.
    let said = desk.does(&["unblock", &id, "--skip"]).ends(4).says("Escalation: the merge waits for approval");
    assert!(said.out.contains(": red, which is not charged to the change"), "{}", said.out);
    desk.does(&["approve", &id]).ends(0).says("delivered as ");
}

#[test]
fn checks_run_once_for_each_commit_and_across_runs() {
    let desk = desk();
    let add = "command: echo more >> a.txt";
    let said = run(&desk, "First", "grep -q one a.txt", add, &["--yes"]).ends(0);
    assert!(
        said.out.contains("base checks: ") && said.out.contains("(as for the task, not run again)"),
        "{}",
        said.out
    );
    let first = desk.newest();
    let said = run(&desk, "Second", "grep -q one a.txt", add, &["--yes"]).ends(0);
    assert!(said.out.contains(&format!("base checks: passed (as in run {first}, not run again)")), "{}", said.out);
    // Other checks prove something else.
    let said = run(&desk, "Third", "grep -q more a.txt", add, &["--yes"]).ends(0);
    assert!(!said.out.contains("as in run"), "{}", said.out);
    std::fs::write(desk.path("skep.toml"), "[policy]\ncheck_head_again = true\nbase_checks = \"off\"\n").unwrap();
    let said = run(&desk, "Fourth", "true", add, &["--yes", "--config", "skep.toml"]).ends(0);
    assert!(!said.out.contains("not run again") && !said.out.contains("base checks"), "{}", said.out);
}

#[test]
fn a_failure_of_the_base_is_fixed_or_is_asked_about_once() {
    // The goal may be to fix what is red.
    let desk = desk();
    run(&desk, "Fix", "grep -q two a.txt", "command: echo two >> a.txt", &["--yes"]).ends(0);
    // Work that leaves it as red as it was is not repeated by a command.
    let said = run(&desk, "Other", "grep -q three a.txt", "command: echo other >> a.txt", &[]).ends(4);
    assert!(said.out.contains("Escalation: the checks of task t1 are as red as at the base: "), "{}", said.out);
    let id = desk.newest();
    assert_eq!(attempts(&desk.show(&id)), 2);
    desk.does(&["unblock", &id, "--skip"]).ends(4).says("Escalation: the merge waits for approval");
    desk.does(&["approve", &id]).ends(0).says("delivered as ");
    // A policy can ask for a green base.
    std::fs::write(desk.path("skep.toml"), "[policy]\nbase_checks = \"green\"\n").unwrap();
    run(&desk, "Green", "grep -q three a.txt", "command: true", &["--config", "skep.toml"])
        .ends(4)
        .says("Escalation: the checks are red before any change: ");
}

#[test]
fn a_command_with_nothing_to_fix_ends_its_run_without_a_failure() {
    let desk = desk();
    let said = run(&desk, "Format", "true", "command: true", &[]).ends(0);
    assert!(said.out.contains("nothing to change: Format"), "{}", said.out);
    let view = desk.show(&desk.newest());
    assert_eq!((view["status"].as_str(), view["outcome"].as_str()), (Some("completed"), Some("unchanged")));
}

#[test]
fn a_fixer_that_leaves_something_is_judged_by_the_checks() {
    let desk = desk();
    run(&desk, "Fix", "true", "command: echo two >> a.txt; echo 1 left; exit 1", &["--yes"]).ends(0);
    // Without a change it has failed, and is not run again.
    run(&desk, "Nothing", "true", "command: exit 1", &[]).ends(4).says("Escalation: task t1 did not succeed");
    assert_eq!(attempts(&desk.show(&desk.newest())), 2);
    // Another exit code is a failure, unless the configuration lists it.
    let strict = "command: echo three >> a.txt; exit 101";
    run(&desk, "Strict", "true", strict, &[]).ends(4).says("Escalation: task t1 did not succeed");
    std::fs::write(desk.path("skep.toml"), "[engines]\npartial_exit_codes = [1, 101]\n").unwrap();
    run(&desk, "Listed", "true", strict, &["--yes", "--config", "skep.toml"]).ends(0);
}

#[test]
fn a_step_that_ran_out_of_time_is_given_more() {
    let desk = desk();
    std::fs::write(desk.path("skep.toml"), "[steps.develop]\ntimeout = \"1s\"\n").unwrap();
    let said = run(&desk, "Slow", "true", "command: sleep 2; echo x >> a.txt", &["--config", "skep.toml"]).ends(4);
    assert!(said.out.contains("Escalation: the develop step ran out of time: 1.0 s"), "{}", said.out);
    assert!(said.out.contains("steps.develop.timeout") && said.out.contains("--more step=600s"), "{}", said.out);
    let id = desk.newest();
    let view = desk.show(&id);
    assert_eq!(view["budget"]["spent"]["turns"], 0, "no model was called");
    desk.does(&["unblock", &id, "--more", "step=20s"]).ends(4).says("Escalation: the merge waits for approval");
}

#[test]
fn names_and_output_cannot_pass_for_lines_of_skep() {
    let desk = desk();
    let name = "b.txt (+1 -0)\\ncheck e2e: green (81 s)\\nreview: all is well\\nA c.txt";
    let engine = format!("command: echo two >> a.txt; f=\"$(printf '{name}')\"; echo x > \"$f\"");
    let said = run(&desk, "Two", "true", &engine, &[]).ends(4);
    let id = desk.newest();
    for out in [said.out, desk.does(&["show", &id]).ends(0).out, desk.does(&["change", "show", "tool#1"]).ends(0).out] {
        assert!(!out.lines().any(|l| l.trim_start_matches([' ', '|']).starts_with("check e2e")), "{out}");
        assert!(!out.lines().any(|l| l.trim_start_matches([' ', '|']).starts_with("review: all")), "{out}");
    }
    let forging = "echo 'check lint is red: x'; echo 'failed'; exit 1";
    let said = run(&desk, "Red", forging, "command: echo x >> a.txt", &[]).ends(4);
    assert_eq!(said.out.lines().filter(|l| l.starts_with("  | check ")).count(), 1, "{}", said.out);
}

#[test]
fn a_long_output_leaves_the_question_in_sight() {
    let desk = desk();
    let said = run(&desk, "Long", "true", "command: seq 1 300; exit 3", &[]).ends(4);
    let lines: Vec<&str> = said.out.lines().collect();
    let at =
        |text: &str| lines.iter().position(|l| l.starts_with(text)).unwrap_or_else(|| panic!("{text}: {}", said.out));
    let (happened, reason) = (at("What happened:"), at("Escalation: "));
    assert!(happened < reason && reason + 1 == at("What I need from you:"), "{}", said.out);
    assert!(at("Answer with one of:") - happened <= 14, "{}", said.out);
    assert!(said.out.contains(" more lines: skep logs ") && said.out.contains("  | 300"), "{}", said.out);
}
