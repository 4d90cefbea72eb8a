//! What a command names is never ignored: repeated commands with other flags, answers that bring new settings, and
//! everything that may be left out.

use crate::support::cli::{Cli, ended, git};

const FIX: &str = "command: echo two >> a.txt";

/// A working copy and its bare clone.
fn cli() -> Cli {
    let cli = Cli::new();
    cli.repo("r", &[("a.txt", "one\n"), ("sub/b.txt", "b\n")]);
    cli
}

fn run<'a>(engine: &'a str, check: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["run", "--repo", "r.git", "--goal", "x", "--engine", engine, "--check", check];
    args.extend(more);
    args
}

#[test]
fn a_repeated_command_with_other_flags_is_refused_with_the_commands_that_decide() {
    let cli = cli();
    cli.run(&run(FIX, "false", &[])).exits_with(4);
    let before = cli.show("@");
    for (engine, check, part) in [
        (FIX, "true", "the checks are `false`, not `true`"),
        ("command: true", "false", "the engine of the dev is `command:echo two >> a.txt`, not `command:true`"),
    ] {
        let refused = cli.run(&run(engine, check, &[])).exits_with(2);
        refused.one_error(part, "--update");
        assert!(
            refused.err.contains(&format!("run --new --repo r.git --goal x --engine '{engine}'")),
            "{}",
            refused.err
        );
    }
    cli.run(&run(FIX, "false", &["--base", "other"]))
        .exits_with(2)
        .one_error("it lands on `main`, not on `other`", "--new");
    cli.run(&run(FIX, "false", &["--base", "other", "--update"]))
        .exits_with(2)
        .one_error("cannot change the branch", "another");
    cli.run(&run("acp:claude", "false", &[]))
        .exits_with(2)
        .one_error("cannot use the engine of the role dev", "Choose");
    assert_eq!(cli.show("@")["seq"], before["seq"], "a refused command changes nothing");
    // What is named is the same, or nothing is named: the run continues.
    cli.run(&run(FIX, "false", &[])).exits_with(4).prints("continues");
    cli.run(&["run", "x", "--repo", "r.git"]).exits_with(4).prints("continues");
}

#[test]
fn a_dry_run_shows_the_settings_that_would_count() {
    let cli = cli();
    cli.run(&run(FIX, "false", &[])).exits_with(4);
    let same = cli.run(&["run", "x", "--repo", "r.git", "--dry-run"]).exits_with(0);
    assert!(same.out.contains("would continue") && same.out.contains(": false"), "{}", same.out);
    let other = cli.run(&run(FIX, "true", &["--dry-run"])).exits_with(0);
    for part in ["other settings", "the checks are `false`, not `true`", "--update", "--new", ": true"] {
        assert!(other.out.contains(part), "{part:?} is missing in\n{}", other.out);
    }
}

#[test]
fn update_gives_the_open_run_what_the_command_names_and_it_lands() {
    let cli = cli();
    cli.run(&run("command: exit 1", "true", &[]))
        .exits_with(4)
        .prints("did not succeed: the command of the dev failed");
    let id = cli.newest();
    cli.run(&run(FIX, "true", &["--update", "--yes"])).exits_with(0).prints("delivered as");
    assert_eq!(cli.newest(), id, "it is the same run");
    assert_eq!(cli.show(&id)["engines"]["dev"]["arg"], "echo two >> a.txt");
}

#[test]
fn unblock_and_retry_take_engines_and_checks() {
    let cli = cli();
    cli.run(&run("command: exit 1", "false", &[])).exits_with(4);
    cli.run(&["unblock", "--engine", FIX, "--check", "true"]).exits_with(4).prints("the merge waits for approval");
    let view = cli.show("@");
    assert_eq!(
        (view["engines"]["dev"]["arg"].as_str(), view["checks"][0]["command"].as_str()),
        (Some("echo two >> a.txt"), Some("true"))
    );
    cli.run(&["unblock", "--engine", "nothing:x"]).exits_with(2);
    cli.run(&["cancel", "--why", "again"]);
    let again = cli.run(&["retry", "@", "--check", "grep -q two a.txt", "--more", "rounds=7"]).exits_with(4);
    assert!(again.out.contains("the merge waits for approval"), "{}", again.out);
    let view = cli.show("@");
    assert_eq!(view["checks"][0]["command"], "grep -q two a.txt");
    assert_eq!(view["engines"]["dev"]["arg"], "echo two >> a.txt", "what is not named stays");
    assert!(view["budget"]["limits"]["rounds"].as_u64() > Some(7), "{}", view["budget"]["limits"]);
}

#[test]
fn limits_named_by_the_command_count_and_other_ones_are_asked_about() {
    let cli = cli();
    let limit =
        |limits: &'static str| run(FIX, "false", &[]).into_iter().chain(["--limit", limits]).collect::<Vec<_>>();
    let shown = cli.run(&[&limit("time=2h")[..], &["--dry-run"]].concat()).exits_with(0);
    shown.prints("at most 2 h 0 m");
    cli.run(&limit("rounds=1,cost=2USD,time=2h,tokens=5000,turns=9,attempts=20")).exits_with(4);
    let limits = |cli: &Cli| cli.show("@")["budget"]["limits"].clone();
    let given = serde_json::json!({
        "tokens": 5000, "cost_micros": 2_000_000, "turns": 9, "timeout_secs": 7200, "rounds": 1, "attempts": 20
    });
    assert_eq!(limits(&cli), given);
    // The same limits continue the run, also after a raise; others are a question.
    cli.run(&["raise", "@", "--more", "time=1h"]);
    cli.run(&limit("time=2h,rounds=1")).exits_with(4).prints("continues");
    let refused = cli.run(&limit("cost=3USD,rounds=4")).exits_with(2);
    refused.one_error("the limit of money is $2.00, not $3.00", "--update");
    assert!(refused.err.contains("the limit of rounds of rework is 1, not 4"), "{}", refused.err);
    cli.run(&[&limit("cost=3USD,rounds=4")[..], &["--update"]].concat()).exits_with(4);
    assert_eq!((limits(&cli)["cost_micros"].as_u64(), limits(&cli)["rounds"].as_u64()), (Some(3_000_000), Some(4)));
    assert_eq!(limits(&cli)["timeout_secs"], 3 * 3600, "what is not named stays");
    // The run that follows one without success has the same limits.
    cli.run(&["cancel", "--why", "again"]);
    cli.run(&["retry", "@", "--limit", "turns=7"]).exits_with(4);
    let again = limits(&cli);
    assert_eq!((again["cost_micros"].as_u64(), again["turns"].as_u64()), (Some(3_000_000), Some(7)));
    for (amounts, why) in [
        ("tokens=0", "a limit of zero"),
        ("step=5m", "set in the configuration"),
        ("cost=5", "money needs a currency"),
        ("wall=1h", "unknown budget"),
        ("", "no limit given"),
    ] {
        cli.run(&["run", "x", "--repo", "r.git", "--limit", amounts]).exits_with(2).one_error(why, "");
    }
}

#[test]
fn a_limit_stops_the_run_and_a_new_one_lets_it_continue() {
    let cli = cli();
    let stopped = cli.run(&run(FIX, "true", &["--limit", "attempts=1"])).exits_with(4);
    assert!(stopped.out.contains("attempts"), "{}", stopped.out);
    let before = cli.show("@");
    assert_eq!(before["escalations"][0]["code"], "budget", "{}", before["escalations"]);
    cli.run(&["unblock", "--limit", "attempts=10"]).exits_with(4).prints("the merge waits for approval");
    assert_eq!(cli.show("@")["budget"]["limits"]["attempts"], 10);
}

#[test]
fn everything_that_can_be_known_may_be_left_out() {
    let cli = cli();
    std::fs::write(cli.path("r").join("sub/b.txt"), "changed\n").unwrap();
    std::fs::write(cli.path("r").join(".skep.toml"), "").unwrap();
    let mut command = cli.skep(&["run", "Add a line", "--engine", FIX, "--check", "grep -q two a.txt"]);
    command.current_dir(cli.path("r").join("sub"));
    let asked = ended(command)
        .exits_with(4)
        .prints("2 uncommitted files are not part of this run: .skep.toml, sub/b.txt")
        .prints(".skep.toml is read");
    assert!(asked.out.contains("the merge waits for approval"), "{}", asked.out);
    let id = cli.newest();
    let view = cli.show(&id[..4]);
    assert_eq!(view["repo"].as_str(), cli.path("r").canonicalize().unwrap().to_str(), "the repository, not the folder");
    cli.run(&["diff"]).exits_with(0).prints("+two");
    cli.run(&["status", "@"]).exits_with(0).prints(&id);
    cli.run(&["logs", &id[..5], "a2"]).exits_with(0);
    cli.run(&["runs", "--before", "@"]).exits_with(0);
    // A second run that waits makes the short form ambiguous.
    cli.run(&["run", "Another", "--repo", "r", "--engine", FIX, "--check", "true"]).exits_with(4);
    cli.run(&["approve"]).exits_with(2).one_error("2 runs fit", "name one");
    cli.run(&["cancel", "@"]);
    cli.run(&["approve"]).exits_with(0).prints("delivered as");
    cli.run(&["approve"]).exits_with(2).one_error("no run waits for an approval", "skep runs");
    assert!(git(&cli.path("r"), &["show", "main:a.txt"]).contains("two"));
}

#[test]
fn an_engine_is_found_by_name_or_offered() {
    let cli = cli();
    let without = cli.run(&["run", "x", "--repo", "r.git", "--check", "true"]).exits_with(2);
    without.one_error("no engine is set for the role dev", "--engine 'command: …'");
    // A configuration beside the code is named: it is not read.
    std::fs::write(cli.path("skep.toml"), "[role.dev]\nengine = \"command: true\"\n").unwrap();
    let without = cli.run(&["run", "x", "--repo", "r.git", "--check", "true"]).exits_with(2);
    without.one_error("no engine is set for the role dev", "./skep.toml is not read: move it to");
    cli.run(&["config", "check"]).exits_with(0).prints("./skep.toml is not read");
    cli.run(&["doctor"]).prints("./skep.toml is not read");
    std::fs::remove_file(cli.path("skep.toml")).unwrap();
    let mut keyed = cli.skep(&["run", "x", "--repo", "r.git", "--check", "true"]);
    keyed.env("ANTHROPIC_API_KEY", "sk-0123456789");
    ended(keyed).exits_with(2).one_error("no engine is set", "--engine llm:anthropic/claude-");
    let named = |name: &str, key: bool| {
        let mut command = cli.skep(&["run", "x", "--repo", "r.git", "--check", "true", "--dry-run", "--engine", name]);
        if key {
            command.env("ANTHROPIC_API_KEY", "sk-0123456789");
        }
        ended(command)
    };
    named("anthropic", true).exits_with(0).prints("llm:anthropic/claude-");
    named("claude-opus-4-5", true).exits_with(0).prints("llm:anthropic/claude-opus-4-5");
    named("anthropic", false).exits_with(2).one_error("no key", "export ANTHROPIC_API_KEY");
    named("git", false).exits_with(2).one_error("git is a program", "--engine 'command: git …'");
    named("comand", false).exits_with(2).one_error("unknown engine", "did you mean");
}

#[test]
fn a_goal_from_windows_is_read_as_it_was_meant() {
    let cli = cli();
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let files = [
        ("bom.txt", b"\xef\xbb\xbfFix it\r\nsecond line\r\n".to_vec()),
        ("utf16.txt", utf16("\u{feff}Fix it\r\nsecond line\r\n")),
    ];
    for (name, bytes) in files {
        std::fs::write(cli.path(name), bytes).unwrap();
        cli.run(&["run", "--new", "--repo", "r.git", "--goal-file", name, "--engine", FIX, "--check", "true"])
            .exits_with(4);
        assert_eq!(cli.show("@")["goal"]["title"], "Fix it", "{name}");
    }
    cli.run(&["run", "--new", "--repo", "r.git", "\u{feff}Fix it", "--engine", FIX, "--check", "true"]).exits_with(4);
    assert_eq!(cli.show("@")["goal"]["title"], "Fix it");
}
