//! Contract of `Checks`, tested on command checks in the sandbox.

use crate::support::sandbox;
use skep::adapters::checks::CommandChecks;
use skep::domain::check::TestCounts;
use skep::domain::{ArtifactKind, CheckKind, CheckSpec, ProjectName};
use skep::ports::checks::{Checked, Checks};
use skep::ports::{Repo, Trust};
use std::path::Path;

pub fn checks() -> CommandChecks {
    CommandChecks::new(sandbox::strict())
}

/// The project of these checks.
pub fn project() -> ProjectName {
    ProjectName::new("calc").unwrap()
}

/// Its repository, whose origin is not on this machine.
pub fn repo() -> Repo {
    Repo { project: project(), origin: "https://forge.invalid/calc".to_owned() }
}

fn spec(name: &str, kind: CheckKind, command: &str) -> CheckSpec {
    CheckSpec {
        name: name.to_owned(),
        kind,
        command: command.to_owned(),
        timeout_secs: 60,
        junit: None,
        runner: None,
        detected: false,
    }
}

async fn run(dir: &Path, specs: &[CheckSpec]) -> Vec<Checked> {
    let cache = tempfile::tempdir().unwrap();
    checks().run(&repo(), dir, cache.path(), Trust::Unproven, specs).await.unwrap()
}

async fn one(command: &str) -> Checked {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &[spec("test", CheckKind::Test, command)]).await.remove(0)
}

/// Runs a test check whose shell line `setup` writes the report, and which exits with `code`.
async fn reported(setup: &str, code: i32) -> Checked {
    let dir = tempfile::tempdir().unwrap();
    let command = format!("{setup}\nexit {code}");
    let specs = [CheckSpec { junit: Some("out/report.xml".to_owned()), ..spec("test", CheckKind::Test, &command) }];
    run(dir.path(), &specs).await.remove(0)
}

#[tokio::test]
async fn the_exit_code_decides() {
    let green = one("echo fine").await;
    assert!(green.result.green && green.result.why.is_empty());
    assert_eq!((green.result.exit_code, green.result.tail.as_str()), (Some(0), "fine\n"));
    assert_eq!(green.files, [(ArtifactKind::Log, "test.log".to_owned(), b"fine\n".to_vec())]);
    let red = one("echo broken >&2; exit 3").await.result;
    assert_eq!((red.green, red.exit_code, red.why.as_str()), (false, Some(3), "the command exited with code 3"));
    assert_eq!(red.tail, "broken\n");
    assert!(one("no-such-program-here").await.result.why.contains("not found"));
    assert!(one("kill -9 $$").await.result.why.contains("signal 9"));
}

#[tokio::test]
async fn a_detected_test_check_in_which_no_test_ran_fails_unless_another_check_tests() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tests")).unwrap();
    let file = dir.path().join("tests/test_a.py");
    std::fs::write(&file, "import unittest\n").unwrap();
    let named = spec("named", CheckKind::Test, "python3 -m unittest discover -s tests || test $? = 5");
    let detected = CheckSpec { name: "unittest".to_owned(), detected: true, ..named.clone() };
    let result = run(dir.path(), std::slice::from_ref(&detected)).await.remove(0).result;
    assert_eq!((result.green, result.exit_code), (false, Some(0)));
    assert!(result.why.starts_with("no test ran, according to its output; "), "{}", result.why);
    // A person said that the exit code decides.
    let result = run(dir.path(), &[named]).await.remove(0).result;
    assert!(result.green && result.tests == Some(TestCounts::default()), "{result:?}");
    // A linter proves no more than before; a test elsewhere in the repository does.
    let lint = spec("lint", CheckKind::Lint, "true");
    assert!(!run(dir.path(), &[detected.clone(), lint]).await[0].result.green);
    let other =
        CheckSpec { name: "other".to_owned(), command: "echo 'ok  x  0.1s' # go test".to_owned(), ..detected.clone() };
    for specs in [[detected.clone(), other.clone()], [other, detected.clone()]] {
        let results = run(dir.path(), &specs).await;
        assert!(results.iter().all(|checked| checked.result.green), "{results:?}");
    }
    std::fs::write(&file, "import unittest\nclass A(unittest.TestCase):\n    def test_a(self): pass\n").unwrap();
    assert!(run(dir.path(), &[detected]).await[0].result.green);
    let red = one("echo 'no tests ran in 0.01s'; exit 5 # python3 -m pytest").await.result;
    assert_eq!(red.why, "no test ran: the command exited with code 5");
}

#[tokio::test]
async fn a_check_that_exceeds_its_timeout_fails_with_its_output() {
    let dir = tempfile::tempdir().unwrap();
    let slow = CheckSpec { timeout_secs: 1, ..spec("slow", CheckKind::Test, "echo started; sleep 600") };
    let slow = run(dir.path(), &[slow]).await.remove(0).result;
    assert_eq!((slow.green, slow.exit_code), (false, None));
    assert!(slow.why.contains("timeout of 1 s") && slow.tail == "started\n", "{slow:?}");
}

#[tokio::test]
async fn a_failed_setup_check_stops_the_rest_and_a_failed_test_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let specs = [
        spec("deps", CheckKind::Setup, "exit 1"),
        spec("test", CheckKind::Test, "touch ran"),
        spec("lint", CheckKind::Lint, "touch ran"),
    ];
    let results: Vec<_> = run(dir.path(), &specs).await.into_iter().map(|c| c.result).collect();
    assert_eq!(results.len(), 3);
    assert!(results.iter().all(|r| !r.green));
    assert!(results[2].why.contains("setup check deps failed"));
    assert!(!dir.path().join("ran").exists());
    let specs = [spec("test", CheckKind::Test, "exit 1"), spec("lint", CheckKind::Lint, "touch ran")];
    let results = run(dir.path(), &specs).await;
    assert!(!results[0].result.green && results[1].result.green && dir.path().join("ran").exists());
}

#[tokio::test]
async fn the_tail_is_clean_text_and_the_log_keeps_the_bytes() {
    let checked = one(r"printf '\033[31mred\033[0m \000\377\033]0;title\007 end\r\n'").await;
    assert_eq!(checked.result.tail, "red \u{fffd} end\n");
    assert!(checked.files[0].2.contains(&0) && checked.files[0].2.contains(&0x1b));
}

#[tokio::test]
async fn only_the_end_of_a_flood_is_stored_with_a_notice() {
    let checked = one("head -c 100000000 /dev/zero | tr '\\0' x; echo; echo the end").await;
    let (_, _, log) = &checked.files[0];
    assert!(checked.result.green && log.len() <= 1024 * 1024);
    assert!(log.starts_with(b"[output truncated") && log.ends_with(b"the end\n"));
    assert!(checked.result.tail.len() <= 4096 && checked.result.tail.ends_with("the end\n"));
}

#[tokio::test]
async fn a_report_is_counted_and_stored() {
    let good = reported(
        r#"mkdir out; echo '<testsuite><testcase/><testcase><skipped/></testcase></testsuite>' > out/report.xml"#,
        0,
    );
    let good = good.await;
    assert!(good.result.green, "{:?}", good.result);
    assert_eq!(good.result.tests, Some(TestCounts { run: 2, failed: 0, skipped: 1 }));
    assert_eq!(good.files[1].0, ArtifactKind::TestReport);
}

#[tokio::test]
async fn a_report_with_failures_fails_the_check_despite_exit_code_0() {
    let bad =
        reported(r#"mkdir out; echo '<testsuite><testcase><failure/></testcase></testsuite>' > out/report.xml"#, 0)
            .await;
    assert!(!bad.result.green && bad.result.why.contains("1 of 1 tests failed"), "{:?}", bad.result);
}

#[tokio::test]
async fn a_report_that_proves_nothing_fails_the_check() {
    for (setup, part) in [
        ("true", "did not write its report"),
        ("mkdir out; : > out/report.xml", "is empty"),
        ("mkdir out; echo '<testsuite/>' > out/report.xml", "no test ran"),
        (
            "mkdir out; echo '<testsuite><testcase><skipped/></testcase></testsuite>' > out/report.xml",
            "all 1 tests were skipped",
        ),
        ("mkdir -p out/report.xml", "unusable"),
    ] {
        let checked = reported(setup, 0).await;
        assert!(!checked.result.green && checked.result.why.contains(part), "{setup}: {:?}", checked.result);
    }
}

#[tokio::test]
async fn a_report_from_the_commit_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("out")).unwrap();
    std::fs::write(dir.path().join("out/report.xml"), "<testsuite><testcase/></testsuite>").unwrap();
    let specs = [CheckSpec { junit: Some("out/report.xml".to_owned()), ..spec("test", CheckKind::Test, "true") }];
    let checked = run(dir.path(), &specs).await.remove(0);
    assert!(!checked.result.green && checked.result.why.contains("did not write"), "{:?}", checked.result);
}

#[tokio::test]
async fn hostile_reports_fail_the_check_and_leak_nothing() {
    let bomb = r#"mkdir out; cat > out/report.xml <<'X'
<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><testsuites>&b;</testsuites>
X"#;
    let deep = "mkdir out; yes '<testsuite>' | head -n 400000 > out/report.xml";
    for (setup, part) in [
        (bomb, "document type"),
        (deep, "nested deeper"),
        ("mkdir out; ln -s /etc/passwd out/report.xml", "symbolic link"),
        ("ln -s /etc out; true", "link or not a directory"),
        ("mkdir out; mkfifo out/report.xml", "named pipe"),
        ("mkdir out; ln -s /dev/zero out/report.xml", "symbolic link"),
        ("mkdir out; head -c 70000000 /dev/zero > out/report.xml", "the maximum is"),
        ("mkdir out; head -c 5000 /dev/urandom > out/report.xml", "its report"),
    ] {
        let checked = reported(setup, 0).await;
        assert!(!checked.result.green && checked.result.why.contains(part), "{setup}: {:?}", checked.result);
        assert_eq!(checked.files.len(), 1, "{setup}: the report is not stored");
    }
}

#[tokio::test]
async fn a_missing_checkout_is_an_error_and_not_a_failed_check() {
    let cache = tempfile::tempdir().unwrap();
    let specs = [spec("t", CheckKind::Test, "true")];
    let result =
        checks().run(&repo(), &cache.path().join("none"), &cache.path().join("cache"), Trust::Unproven, &specs).await;
    assert!(result.unwrap_err().to_string().contains("none"));
}

#[tokio::test]
async fn nothing_that_checks_leave_outlives_them() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leave = r#"echo x > "$TMPDIR/left"; mkdir -p "$CARGO_TARGET_DIR"; echo y > "$CARGO_TARGET_DIR/left"; echo z > "$HOME/left""#;
    let find = r#"test -e "$CARGO_TARGET_DIR/left" && test -e "$HOME/left" && ! test -e "$TMPDIR/left""#;
    let specs = [spec("leave", CheckKind::Test, leave), spec("find", CheckKind::Test, find)];
    for _ in 0..2 {
        // What a killed process left is not found either.
        std::fs::create_dir_all(cache.path().join("check/home")).unwrap();
        std::fs::write(cache.path().join("check/home/planted"), "").unwrap();
        let clean = spec("clean", CheckKind::Test, r#"! test -e "$HOME/left" && ! test -e "$HOME/planted""#);
        let specs = [&[clean], &specs[..]].concat();
        let results = checks().run(&repo(), dir.path(), cache.path(), Trust::Unproven, &specs).await.unwrap();
        results.iter().for_each(|checked| assert!(checked.result.green, "{:?}", checked.result));
        assert!(!cache.path().exists());
    }
}
