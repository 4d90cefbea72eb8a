//! Bad input: one clear error with a fix, the right exit code, and nothing left behind.

use crate::support::cli::{Cli, git};

const RUN: &[&str] = &["run", "--goal", "g", "--engine", "command: true", "--repo"];

#[test]
fn an_unusable_repository_is_refused_and_leaves_nothing_behind() {
    let cli = Cli::new();
    cli.repo("plain-checks", &[("a", "a")]);
    std::fs::create_dir(cli.path("folder")).unwrap();
    git(cli.dir.path(), &["init", "-q", "-b", "main", "empty"]);
    cli.repo("loose", &[("a", "a")]);
    git(&cli.path("loose"), &["checkout", "-q", "--detach"]);
    let refused = |more: &[&str], code: i32, what: &str, fix: &str| {
        cli.run(&[RUN, more].concat()).exits_with(code).one_error(what, fix);
    };
    refused(&["nowhere"], 2, "nowhere", "pass a directory that exists");
    refused(&["folder"], 2, "folder", "git init");
    refused(&["empty"], 2, "has no commit", "make a first commit");
    refused(&["loose", "--check", "true"], 2, "HEAD is detached", "--base, for example: main");
    refused(&["loose", "--base", "nope", "--check", "true"], 2, "has no branch \"nope\"", "for example: main");
    refused(&["plain-checks"], 2, "no checks were found", "--check");
    refused(&["https://127.0.0.1:1/x.git"], 75, "127.0.0.1", "Retry once it is available");
    refused(&["plain-checks", "--check", "true", "--engine", "script:/no/such.toml"], 2, "no/such", "--engine");
    assert_eq!(cli.run(&["project", "list", "--json"]).exits_with(0).json()["projects"], serde_json::json!([]));
    assert_eq!(cli.run(&["runs", "--json"]).exits_with(0).json()["runs"], serde_json::json!([]));
}

#[test]
fn an_unusable_configuration_or_data_directory_is_named() {
    let cli = Cli::new();
    std::fs::write(cli.path("key.toml"), "[runs]\nmax_live_run = 3\n").unwrap();
    std::fs::write(cli.path("unit.toml"), "[checks]\ntimeout = 30\n").unwrap();
    let refused = |args: &[&str], what: &str, fix: &str| cli.run(args).exits_with(78).one_error(what, fix);
    refused(&["runs", "--config", "key.toml"], "runs.max_live_run", "runs.max_live_runs");
    refused(&["runs", "--config", "unit.toml"], "checks.timeout", "\"30s\"");
    refused(&["runs", "--config", "none.toml"], "none.toml", "create the file");
    refused(&["runs", "--data-dir", "key.toml"], "key.toml", "--data-dir");
    refused(&["runs", "--data-dir", "/proc/skep"], "/proc/skep", "--data-dir");

    cli.run(&["runs", "--data-dir", "relative"]).exits_with(0);
    // Remove the write-ahead log, from which SQLite would repair the file.
    for log in ["relative/skep.db-wal", "relative/skep.db-shm"] {
        let _missing = std::fs::remove_file(cli.path(log));
    }
    std::fs::write(cli.path("relative/skep.db"), "no database at all, only text").unwrap();
    refused(&["runs", "--data-dir", "relative"], "relative/skep.db", "backup");

    let mut no_git = cli.skep(&["runs"]);
    no_git.env("PATH", "/nonexistent");
    crate::support::cli::ended(no_git).exits_with(78).one_error("git", "install git");
    let mut no_home = cli.skep(&["runs"]);
    no_home.env_remove("HOME").env_remove("SKEP_DATA_DIR");
    crate::support::cli::ended(no_home).exits_with(78).one_error("home", "--data-dir");
}

#[test]
fn a_full_or_read_only_disk_is_named_and_nothing_is_lost() {
    let cli = Cli::new();
    let held = cli.path("held");
    std::fs::create_dir(&held).unwrap();
    // Runs one command on a file system of limited size, or a read-only one; this needs no privileges.
    let on = |place: &[&str], args: &[&str]| {
        let inner = cli.skep(args);
        let mut command = std::process::Command::new("bwrap");
        command.args(["--dev-bind", "/", "/"]).args(place).arg("--").arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(cli.dir.path()).stdin(std::process::Stdio::null());
        crate::support::cli::ended(command)
    };
    let held = held.to_str().unwrap();
    let full = |kib: u64| {
        let bytes = (kib * 1024).to_string();
        on(&["--perms", "0700", "--size", &bytes, "--tmpfs", held], &["runs", "--data-dir", held])
    };
    full(16).exits_with(78).one_error("the disk is full", "free some space");
    // The schema does not fit into the smaller sizes, which is reported each time; it fits into the largest.
    let codes: Vec<i32> = [48, 64, 96, 128, 160, 20_000]
        .map(|kib| {
            let output = full(kib);
            if output.code != 0 {
                output.one_error("the disk is full", "free some space");
            }
            output.code
        })
        .into();
    assert!(codes.contains(&75) && codes.ends_with(&[0]), "{codes:?}");
    assert!(codes.iter().all(|c| [0, 75, 78].contains(c)), "{codes:?}");

    cli.repo("sample", &[("a", "a")]);
    let run =
        ["run", "--goal", "g", "--engine", "command: false", "--check", "true", "--repo", "sample", "--data-dir", held];
    cli.run(&run).exits_with(4);
    let before = cli.run(&["runs", "--json", "--data-dir", held]).exits_with(0).json();
    on(&["--ro-bind", held, held], &["runs", "--data-dir", held]).exits_with(78).one_error(held, "--data-dir");
    on(&["--ro-bind", held, held], &run).exits_with(78).one_error(held, "--data-dir");
    assert_eq!(cli.run(&["runs", "--json", "--data-dir", held]).exits_with(0).json(), before);
}

#[test]
fn an_unknown_name_is_refused_with_the_command_that_lists_the_known_ones() {
    let cli = Cli::new();
    cli.run(&["show", "abcd1234"]).exits_with(2).one_error("abcd1234", "`skep runs`");
    cli.run(&["run", "--project", "nope", "--goal", "g"]).exits_with(2).one_error("nope", "`skep project list`");
    cli.run(&["run", "--repo", ".", "--goal", " "]).exits_with(2).one_error("the goal is empty", "");
    cli.run(&["run", "--repo", ".", "--goal", "g", "--engine", "foo:bar"])
        .exits_with(2)
        .one_error("foo:bar", "command");
}

#[test]
fn a_goal_cannot_inject_terminal_escapes() {
    let cli = Cli::new();
    cli.repo("tool", &[("a.txt", "a\n")]);
    let goal = "red\u{1b}[31m\u{202e}and\u{7}";
    let args = ["run", "--repo", "tool.git", "--goal", goal, "--engine", "command: echo x >> a.txt", "--check", "true"];
    let output = cli.run(&args).exits_with(4);
    assert!(!output.out.contains(['\u{1b}', '\u{202e}', '\u{7}']), "{:?}", output.out);
}

#[test]
fn a_second_service_is_refused_with_the_address_of_the_first() {
    let cli = Cli::new();
    let _service = cli.serve();
    cli.run(&["serve", "--listen", "127.0.0.1:0"]).exits_with(75).one_error("a service already uses", "--data-dir");
    cli.run(&["runs"]).exits_with(0);
}
