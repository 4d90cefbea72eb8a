//! What a command names is never ignored: repeated commands with other flags, answers that bring new settings, and
//! everything that may be left out.

use crate::support::cli::{Cli, ended, git};

const FIX: &str = "command: echo two >> a.txt";

/// A working copy and its bare clone.
fn desk() -> Cli {
    let desk = Cli::new();
    desk.repo("r", &[("a.txt", "one\n"), ("sub/b.txt", "b\n")]);
    desk
}

fn run<'a>(engine: &'a str, check: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["run", "--repo", "r.git", "--goal", "x", "--engine", engine, "--check", check];
    args.extend(more);
    args
}

#[test]
fn a_repeated_command_with_other_flags_is_refused_with_the_commands_that_decide() {
    let desk = desk();
    desk.does(&run(FIX, "false", &[])).ends(4);
    let before = desk.show("@");
    for (engine, check, part) in [
        (FIX, "true", "the checks are `false`, not `true`"),
        ("command: true", "false", "the engine of the dev is `command:echo two >> a.txt`, not `command:true`"),
    ] {
        let refused = desk.does(&run(engine, check, &[])).ends(2);
        refused.one_error(part, "--update");
        assert!(
            refused.err.contains(&format!("run --new --repo r.git --goal x --engine '{engine}'")),
            "{}",
            refused.err
        );
    }
    desk.does(&run(FIX, "false", &["--base", "other"]))
        .ends(2)
        .one_error("it lands on `main`, not on `other`", "--new");
    desk.does(&run(FIX, "false", &["--base", "other", "--update"]))
        .ends(2)
        .one_error("cannot change the branch", "another");
    desk.does(&run("acp:claude", "false", &[])).ends(2).one_error("cannot use the engine of the role dev", "Choose");
    assert_eq!(desk.show("@")["seq"], before["seq"], "a refused command changes nothing");
    // What is named is the same, or nothing is named: the run continues.
    desk.does(&run(FIX, "false", &[])).ends(4).says("continues");
    desk.does(&["run", "x", "--repo", "r.git"]).ends(4).says("continues");
}

#[test]
fn a_dry_run_shows_the_settings_that_would_count() {
    let desk = desk();
    desk.does(&run(FIX, "false", &[])).ends(4);
    let same = desk.does(&["run", "x", "--repo", "r.git", "--dry-run"]).ends(0);
    assert!(same.out.contains("would continue") && same.out.contains(": false"), "{}", same.out);
    let other = desk.does(&run(FIX, "true", &["--dry-run"])).ends(0);
    for part in ["other settings", "the checks are `false`, not `true`", "--update", "--new", ": true"] {
        assert!(other.out.contains(part), "{part:?} is missing in\n{}", other.out);
    }
}

#[test]
fn update_gives_the_open_run_what_the_command_names_and_it_lands() {
    let desk = desk();
    desk.does(&run("command: exit 1", "true", &[])).ends(4).says("did not succeed within its tries");
    let id = desk.newest();
    desk.does(&run(FIX, "true", &["--update", "--yes"])).ends(0).says("delivered as");
    assert_eq!(desk.newest(), id, "it is the same run");
    assert_eq!(desk.show(&id)["engines"]["dev"]["arg"], "echo two >> a.txt");
}

#[test]
fn unblock_and_retry_take_engines_and_checks() {
    let desk = desk();
    desk.does(&run("command: exit 1", "false", &[])).ends(4);
    desk.does(&["unblock", "--engine", FIX, "--check", "true"]).ends(4).says("the merge waits for approval");
    let view = desk.show("@");
    assert_eq!(
        (view["engines"]["dev"]["arg"].as_str(), view["checks"][0]["command"].as_str()),
        (Some("echo two >> a.txt"), Some("true"))
    );
    desk.does(&["unblock", "--engine", "nothing:x"]).ends(2);
    desk.does(&["cancel", "--why", "again"]);
    let again = desk.does(&["retry", "@", "--check", "grep -q two a.txt", "--more", "rounds=7"]).ends(4);
    assert!(again.out.contains("the merge waits for approval"), "{}", again.out);
    let view = desk.show("@");
    assert_eq!(view["checks"][0]["command"], "grep -q two a.txt");
    assert_eq!(view["engines"]["dev"]["arg"], "echo two >> a.txt", "what is not named stays");
    assert!(view["budget"]["limits"]["rounds"].as_u64() > Some(7), "{}", view["budget"]["limits"]);
}

#[test]
fn everything_that_can_be_known_may_be_left_out() {
    let desk = desk();
    std::fs::write(desk.path("r").join("sub/b.txt"), "changed\n").unwrap();
    std::fs::write(desk.path("r").join(".skep.toml"), "").unwrap();
    let mut command = desk.skep(&["run", "Add a line", "--engine", FIX, "--check", "grep -q two a.txt"]);
    command.current_dir(desk.path("r").join("sub"));
    let asked =
        ended(command).ends(4).says("1 changed file and 1 untracked file are not committed").says(".skep.toml is read");
    assert!(asked.out.contains("the merge waits for approval"), "{}", asked.out);
    let id = desk.newest();
    let view = desk.show(&id[..4]);
    assert_eq!(
        view["repo"].as_str(),
        desk.path("r").canonicalize().unwrap().to_str(),
        "the repository, not the folder"
    );
    desk.does(&["diff"]).ends(0).says("+two");
    desk.does(&["status", "@"]).ends(0).says(&id);
    desk.does(&["logs", &id[..5], "a2"]).ends(0);
    desk.does(&["runs", "--before", "@"]).ends(0);
    // A second run that waits makes the short form ambiguous.
    desk.does(&["run", "Another", "--repo", "r", "--engine", FIX, "--check", "true"]).ends(4);
    desk.does(&["approve"]).ends(2).one_error("2 runs fit", "name one");
    desk.does(&["cancel", "@"]);
    desk.does(&["approve"]).ends(0).says("delivered as");
    desk.does(&["approve"]).ends(2).one_error("no run waits for an approval", "skep runs");
    assert!(git(&desk.path("r"), &["show", "main:a.txt"]).contains("two"));
}

#[test]
fn an_engine_is_found_by_name_or_offered() {
    let desk = desk();
    let without = desk.does(&["run", "x", "--repo", "r.git", "--check", "true"]).ends(2);
    without.one_error("no engine is set for the role dev", "--engine 'command: …'");
    let mut keyed = desk.skep(&["run", "x", "--repo", "r.git", "--check", "true"]);
    keyed.env("ANTHROPIC_API_KEY", "sk-0123456789");
    ended(keyed).ends(2).one_error("no engine is set", "--engine llm:anthropic/claude-");
    let named = |name: &str, key: bool| {
        let mut command = desk.skep(&["run", "x", "--repo", "r.git", "--check", "true", "--dry-run", "--engine", name]);
        if key {
            command.env("ANTHROPIC_API_KEY", "sk-0123456789");
        }
        ended(command)
    };
    named("anthropic", true).ends(0).says("llm:anthropic/claude-");
    named("claude-opus-4-5", true).ends(0).says("llm:anthropic/claude-opus-4-5");
    named("anthropic", false).ends(2).one_error("no key", "export ANTHROPIC_API_KEY");
    named("git", false).ends(2).one_error("git is a program", "--engine 'command: git …'");
    named("comand", false).ends(2).one_error("unknown engine", "did you mean");
}

#[test]
fn a_goal_from_windows_is_read_as_it_was_meant() {
    let desk = desk();
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let files = [
        ("bom.txt", b"\xef\xbb\xbfFix it\r\nsecond line\r\n".to_vec()),
        ("utf16.txt", utf16("\u{feff}Fix it\r\nsecond line\r\n")),
    ];
    for (name, bytes) in files {
        std::fs::write(desk.path(name), bytes).unwrap();
        desk.does(&["run", "--new", "--repo", "r.git", "--goal-file", name, "--engine", FIX, "--check", "true"])
            .ends(4);
        assert_eq!(desk.show("@")["goal"]["title"], "Fix it", "{name}");
    }
    desk.does(&["run", "--new", "--repo", "r.git", "\u{feff}Fix it", "--engine", FIX, "--check", "true"]).ends(4);
    assert_eq!(desk.show("@")["goal"]["title"], "Fix it");
}
