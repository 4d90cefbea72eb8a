//! Bad input: one clear error with a fix, the right exit code, and nothing left behind.

use crate::support::cli::{Cli, git};

const RUN: &[&str] = &["run", "--goal", "g", "--engine", "command: true", "--repo"];

#[test]
fn an_unusable_repository_is_refused_and_leaves_nothing_behind() {
    let desk = Cli::new();
    desk.repo("plain-checks", &[("a", "a")]);
    std::fs::create_dir(desk.path("folder")).unwrap();
    git(desk.dir.path(), &["init", "-q", "-b", "main", "empty"]);
    desk.repo("loose", &[("a", "a")]);
    git(&desk.path("loose"), &["checkout", "-q", "--detach"]);
    let refused = |more: &[&str], code: i32, what: &str, fix: &str| {
        desk.does(&[RUN, more].concat()).ends(code).one_error(what, fix);
    };
    refused(&["nowhere"], 2, "nowhere", "pass a directory that exists");
    refused(&["folder"], 2, "folder", "git init");
    refused(&["empty"], 2, "has no commit", "make a first commit");
    refused(&["loose", "--check", "true"], 2, "HEAD is detached", "--base, for example: main");
    refused(&["loose", "--base", "nope", "--check", "true"], 2, "has no branch \"nope\"", "for example: main");
    refused(&["plain-checks"], 2, "no checks were found", "--check");
    refused(&["https://127.0.0.1:1/x.git"], 75, "127.0.0.1", "Retry once it is available");
    refused(&["plain-checks", "--check", "true", "--engine", "script:/no/such.toml"], 2, "no/such", "--engine");
    assert_eq!(desk.does(&["project", "list", "--json"]).ends(0).json()["projects"], serde_json::json!([]));
    assert_eq!(desk.does(&["runs", "--json"]).ends(0).json()["runs"], serde_json::json!([]));
}

#[test]
fn an_unusable_configuration_or_data_directory_is_named() {
    let desk = Cli::new();
    std::fs::write(desk.path("key.toml"), "[runs]\nmax_live_run = 3\n").unwrap();
    std::fs::write(desk.path("unit.toml"), "[checks]\ntimeout = 30\n").unwrap();
    let refused = |args: &[&str], what: &str, fix: &str| desk.does(args).ends(78).one_error(what, fix);
    refused(&["runs", "--config", "key.toml"], "runs.max_live_run", "runs.max_live_runs");
    refused(&["runs", "--config", "unit.toml"], "checks.timeout", "\"30s\"");
    refused(&["runs", "--config", "none.toml"], "none.toml", "create the file");
    refused(&["runs", "--data-dir", "key.toml"], "key.toml", "--data-dir");
    refused(&["runs", "--data-dir", "/proc/skep"], "/proc/skep", "--data-dir");

    desk.does(&["runs", "--data-dir", "relative"]).ends(0);
    // Remove the write-ahead log, from which SQLite would repair the file.
    for log in ["relative/skep.db-wal", "relative/skep.db-shm"] {
        let _missing = std::fs::remove_file(desk.path(log));
    }
    std::fs::write(desk.path("relative/skep.db"), "no database at all, only text").unwrap();
    refused(&["runs", "--data-dir", "relative"], "relative/skep.db", "backup");

    let mut no_git = desk.skep(&["runs"]);
    no_git.env("PATH", "/nonexistent");
    crate::support::cli::ended(no_git).ends(78).one_error("git", "install git");
    let mut no_home = desk.skep(&["runs"]);
    no_home.env_remove("HOME").env_remove("SKEP_DATA_DIR");
    crate::support::cli::ended(no_home).ends(78).one_error("home", "--data-dir");
}

#[test]
fn a_full_or_read_only_disk_is_named_and_nothing_is_lost() {
    let desk = Cli::new();
    let held = desk.path("held");
    std::fs::create_dir(&held).unwrap();
    // Runs one command on a file system of limited size, or a read-only one; this needs no privileges.
    let on = |place: &[&str], args: &[&str]| {
        let inner = desk.skep(args);
        let mut command = std::process::Command::new("bwrap");
        command.args(["--dev-bind", "/", "/"]).args(place).arg("--").arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(desk.dir.path()).stdin(std::process::Stdio::null());
        crate::support::cli::ended(command)
    };
    let held = held.to_str().unwrap();
    let full = |kib: u64| {
        let bytes = (kib * 1024).to_string();
        on(&["--perms", "0700", "--size", &bytes, "--tmpfs", held], &["runs", "--data-dir", held])
    };
    full(16).ends(78).one_error("the disk is full", "free some space");
    // The schema does not fit into the smaller sizes, which is reported each time; it fits into the largest.
    let codes: Vec<i32> = [48, 64, 96, 128, 160, 20_000]
        .map(|kib| {
            let said = full(kib);
            if said.code != 0 {
                said.one_error("the disk is full", "free some space");
            }
            said.code
        })
        .into();
    assert!(codes.contains(&75) && codes.ends_with(&[0]), "{codes:?}");
    assert!(codes.iter().all(|c| [0, 75, 78].contains(c)), "{codes:?}");

    desk.repo("sample", &[("a", "a")]);
    let run =
        ["run", "--goal", "g", "--engine", "command: false", "--check", "true", "--repo", "sample", "--data-dir", held];
    desk.does(&run).ends(4);
    let before = desk.does(&["runs", "--json", "--data-dir", held]).ends(0).json();
    on(&["--ro-bind", held, held], &["runs", "--data-dir", held]).ends(78).one_error(held, "--data-dir");
    on(&["--ro-bind", held, held], &run).ends(78).one_error(held, "--data-dir");
    assert_eq!(desk.does(&["runs", "--json", "--data-dir", held]).ends(0).json(), before);
}

#[test]
fn an_unknown_name_is_refused_with_the_command_that_lists_the_known_ones() {
    let desk = Cli::new();
    desk.does(&["show", "abcd1234"]).ends(2).one_error("abcd1234", "`skep runs`");
    desk.does(&["run", "--project", "nope", "--goal", "g"]).ends(2).one_error("nope", "`skep project list`");
    desk.does(&["run", "--repo", ".", "--goal", " "]).ends(2).one_error("the goal is empty", "");
    desk.does(&["run", "--repo", ".", "--goal", "g", "--engine", "foo:bar"]).ends(2).one_error("foo:bar", "command");
}

#[test]
fn a_goal_cannot_inject_terminal_escapes() {
    let desk = Cli::new();
    desk.repo("tool", &[("a.txt", "a\n")]);
    let goal = "red\u{1b}[31m\u{202e}and\u{7}";
    let args = ["run", "--repo", "tool.git", "--goal", goal, "--engine", "command: echo x >> a.txt", "--check", "true"];
    let said = desk.does(&args).ends(4);
    assert!(!said.out.contains(['\u{1b}', '\u{202e}', '\u{7}']), "{:?}", said.out);
}

#[test]
fn a_second_service_is_refused_with_the_address_of_the_first() {
    let desk = Cli::new();
    let _service = desk.serve();
    desk.does(&["serve", "--listen", "127.0.0.1:0"]).ends(75).one_error("a service already uses", "--data-dir");
    desk.does(&["runs"]).ends(0);
}
