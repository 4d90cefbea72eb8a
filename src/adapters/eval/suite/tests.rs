//! Suites that are valid, and every way in which one is not.

use super::*;
use std::path::Path;

const TASK: &str = r#"
title = "Say hello"
goal = "Say hello."
kind = "bug"
language = "sh"
checks = ["sh test.sh"]
[source]
license = "MIT"
origin = "written for this test"
[hidden]
command = "sh hidden.sh"
expect = "1 passed"
canary = "canary 0123456789abcdef"
"#;

/// Writes a suite with one task, of whose files some are replaced.
fn suite(task: &str, other: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("suite.toml", "name = \"x\"\n"),
        ("one/task.toml", task),
        ("one/base/test.sh", "true\n"),
        ("one/hidden/hidden.sh", "# canary 0123456789abcdef\n"),
        ("one/oracle.patch", "--- a/x\n"),
    ];
    for (path, text) in files.iter().chain(other) {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

#[track_caller]
fn refused(task: &str, other: &[(&str, &str)], detail: &str, fix: &str) {
    let dir = suite(task, other);
    let problems = Suite::read(dir.path()).map(|_| ()).unwrap_err();
    let fits = |p: &SuiteProblem| p.detail.contains(detail) && p.fix.contains(fix);
    assert!(problems.iter().any(fits), "{detail:?}, {fix:?} not in {problems:#?}");
}

#[test]
fn a_suite_is_read_with_the_limits_of_the_suite_and_of_the_task() {
    let limits = "name = \"x\"\ntrials = 3\n[limits]\ncost = \"2 USD\"\nrounds = 1\n[gate]\nmargin = 0.1\n";
    let task = format!("{TASK}timeout = \"30s\"\n[limits]\ntime = \"5m\"\nrounds = 2\n");
    let dir = suite(&task, &[("suite.toml", limits)]);
    let read = Suite::read(dir.path()).unwrap();
    assert_eq!((read.name.as_str(), read.trials, read.gate.margin), ("x", 3, 0.1));
    let one = &read.tasks[0];
    assert_eq!(one.limits, "time=5m,cost=2 USD,rounds=2");
    assert_eq!((one.time.as_secs(), one.timeout.as_secs(), one.kind), (300, 30, "bug"));
    assert_eq!(read.clone().only(&["two".to_owned()]).unwrap_err(), "two");
    // Any change makes another suite.
    let digest = read.digest;
    assert_eq!(Suite::read(dir.path()).unwrap().digest, digest);
    std::fs::write(dir.path().join("one/base/more.txt"), "x").unwrap();
    assert_ne!(Suite::read(dir.path()).unwrap().digest, digest);
}

#[test]
fn what_is_wrong_with_a_suite_is_named_with_its_file() {
    let with = |from: &str, to: &str| {
        assert!(TASK.contains(from));
        TASK.replace(from, to)
    };
    refused(&with("goal =", "gaol ="), &[], "one/task.toml: line 3: unknown key `gaol`", "did you mean `goal`?");
    refused(&with("\"bug\"", "\"bugfix\""), &[], "unknown variant `bugfix`", "docs/evaluating.md");
    refused(&with("checks = [\"sh test.sh\"]", "checks = []"), &[], "checks is empty", "1 to 8");
    refused(&with("\"1 passed\"", "\"\""), &[], "hidden.expect is empty", "one line");
    refused(&with("Say hello.", "canary 0123456789abcdef"), &[], "contains the canary", "remove it");
    refused(&format!("{TASK}restore = [\"../x\"]\n"), &[], "names \"../x\", which the base does not have", "");
    refused(&format!("{TASK}timeout = \"2h\"\n"), &[], "not a duration up to 1h", "20m");
    refused(&format!("{TASK}[limits]\ncost = \"5\"\n"), &[], "not an amount of money", "1.00 USD");
    let archive = format!("{TASK}[base]\narchive = \"../base.tar\"\nsha256 = \"00\"\n");
    refused(&archive, &[], "leaves the task's folder", "");
    refused(TASK, &[("one/hidden/test.sh", "# canary 0123456789abcdef")], "also a file of the base", "");
    refused(TASK, &[("one/hidden/other.sh", "x")], "hidden/other.sh does not contain the canary", "comment");
    refused(TASK, &[("one/base/x", "canary 0123456789abcdef")], "x of the base contains the canary", "");
    refused(TASK, &[("one/oracle.patch", "canary 0123456789abcdef")], "oracle.patch contains the canary", "");
    refused(TASK, &[("suite.toml", "name = \"X y\"\n")], "the name is not valid", "");
    refused(TASK, &[("suite.toml", "name = \"x\"\n[gate]\nmust = [\"two\"]\n")], "task \"two\"", "");
    refused(TASK, &[("suite.toml", "name = \"x\"\n[gate]\nmargin = 3.0\n")], "gate.margin = 3", "");
    refused(TASK, &[("other.txt", "x")], "is not part of a suite", "");
    refused(TASK, &[("Two/task.toml", TASK)], "not a task's name", "");
    refused(TASK, &[("two/task.toml", TASK)], "two", "");
    let dir = suite(TASK, &[]);
    std::fs::remove_file(dir.path().join("one/oracle.patch")).unwrap();
    let problems = Suite::read(dir.path()).map(|_| ()).unwrap_err();
    assert!(problems[0].detail.contains("\"oracle.patch\" does not exist"), "{problems:?}");
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("one/base/link")).unwrap();
    let problems = Suite::read(dir.path()).map(|_| ()).unwrap_err();
    assert!(problems.iter().any(|p| p.detail.contains("\"link\"")), "{problems:?}");
}

#[test]
fn the_suite_of_the_repository_is_valid() {
    let suite = Suite::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("evals/small")).unwrap();
    assert!(suite.tasks.len() >= 12, "{}", suite.tasks.len());
    let kinds: BTreeSet<&str> = suite.tasks.iter().map(|task| task.kind).collect();
    assert!(kinds.len() >= 5, "{kinds:?}");
}
