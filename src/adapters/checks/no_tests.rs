//! Recognizes in the output of a test check that no test ran.
//!
//! Invariant: a check is never made green by its output, only red.

use crate::domain::{CheckKind, CheckResult, CheckSpec};
use crate::platform::process::ProcessOutput;
use crate::platform::terminal_text;

/// What programs that run tests print. White space in a line counts as one space.
struct Signature {
    /// Parts of the commands that start them.
    commands: &'static [&'static str],
    /// Starts of lines that count tests; `{n}` stands for the number.
    counts: &'static [&'static str],
    /// Parts of lines that say that there are none.
    none: &'static [&'static str],
    /// Starts of other lines that say that a test ran; after `…`, the end of the line.
    some: &'static [&'static str],
    /// Starts of lines that announce a program with tests. One that says nothing about its tests may have run some.
    programs: &'static [&'static str],
}

#[rustfmt::skip]
const SIGNATURES: &[Signature] = &[
    Signature { commands: &["-m unittest", "manage.py test", "tox", "nox"], counts: &["Ran {n} test"], none: &[], some: &[], programs: &[] },
    Signature { commands: &["pytest", "tox", "nox"], counts: &["{n} passed", "{n} failed", "{n} skipped"], none: &["no tests ran in "], some: &[], programs: &[] },
    Signature { commands: &["cargo test"], counts: &["running {n} test"], none: &[], some: &[], programs: &["Running ", "Doc-tests "] },
    Signature { commands: &["go test"], counts: &[], none: &["[no test files]", "[no tests to run]"], some: &["ok ", "FAIL ", "--- FAIL"], programs: &[] },
    Signature { commands: &["npm ", "yarn ", "bun ", "node "], counts: &["# tests {n}", "\u{2139} tests {n}", "{n} pass", "Tests: {n} ", "Tests {n} "], none: &["No tests found", "No test files found"], some: &["ok ", "not ok ", "\u{2713}", "\u{2714}", "\u{221a}", "PASS ", "FAIL "], programs: &[] },
    Signature { commands: &["deno test"], counts: &["ok | {n} passed"], none: &["No test modules found"], some: &[], programs: &[] },
    Signature { commands: &["rspec"], counts: &["{n} example"], none: &[], some: &[], programs: &[] },
    Signature { commands: &["rake test", "rails test", "ruby -I"], counts: &["{n} runs, ", "{n} tests, "], none: &[], some: &[], programs: &[] },
    Signature { commands: &["phpunit", "composer "], counts: &["OK ({n} test", "Tests: {n},"], none: &["No tests executed!"], some: &["OK, "], programs: &[] },
    Signature { commands: &["meson test"], counts: &["Ok: {n}", "Fail: {n}", "Timeout: {n}"], none: &["No tests defined."], some: &[], programs: &[] },
    Signature { commands: &["ctest"], counts: &["{n}% tests passed"], none: &["No tests were found!!!"], some: &[], programs: &[] },
    Signature { commands: &["make check", "make test"], counts: &["# TOTAL: {n}", "{n}% tests passed", "Ok: {n}"], none: &["No tests were found!!!", "No tests defined."], some: &["PASS: ", "FAIL: ", "ok ", "not ok "], programs: &[] },
    Signature { commands: &["gradlew test", "gradle test"], counts: &[], none: &["test NO-SOURCE"], some: &["> Task …:test", "> Task …:test FAILED", "> Task …:test UP-TO-DATE", "> Task …:test FROM-CACHE"], programs: &[] },
    Signature { commands: &["dotnet test"], counts: &[], none: &["No test is available in "], some: &["Passed! ", "Failed! "], programs: &[] },
    Signature { commands: &["sbt "], counts: &[], none: &["No tests were executed", "No tests to run for "], some: &["[info] Tests: succeeded ", "[info] Passed: Total ", "[error] Failed: Total "], programs: &[] },
    Signature { commands: &["lein test"], counts: &["Ran {n} tests containing"], none: &[], some: &[], programs: &[] },
    Signature { commands: &["mix test"], counts: &["{n} test", "{n} doctest"], none: &["There are no tests to run"], some: &[], programs: &[] },
    Signature { commands: &["swift test"], counts: &["Executed {n} test"], none: &[], some: &[], programs: &[] },
    Signature { commands: &["dart test", "flutter test"], counts: &[], none: &["No tests ran.", "No tests were found."], some: &[], programs: &[] },
    Signature { commands: &["prove "], counts: &["Files={n}, "], none: &["Result: NOTESTS"], some: &[], programs: &[] },
    Signature { commands: &["mvn ", "mvnw "], counts: &["[INFO] Tests run: {n},", "[WARNING] Tests run: {n},", "[ERROR] Tests run: {n},"], none: &["] No tests to run."], some: &[], programs: &[] },
];

impl Signature {
    /// Returns whether a line says that a test ran, or that none did.
    fn ran(&self, line: &str) -> Option<bool> {
        if self.none.iter().any(|text| line.contains(text)) {
            return Some(false);
        }
        let counted = self.counts.iter().find_map(|pattern| number(line, pattern));
        counted.map(|n| n > 0).or_else(|| self.some.iter().any(|form| has_form(line, form)).then_some(true))
    }

    /// Returns whether an output says that a test ran.
    fn says_some(&self, output: &str) -> bool {
        output.lines().any(|line| self.ran(&single_spaced(line)) == Some(true))
    }

    /// Returns whether an output says that no test ran at all. Of several programs, each must say it.
    fn says_none(&self, output: &str) -> bool {
        let (mut silent, mut without) = (0_usize, 0_usize);
        for line in output.lines() {
            let line = single_spaced(line);
            match self.ran(&line) {
                Some(true) => return false,
                Some(false) => without += 1,
                None => silent += usize::from(self.programs.iter().any(|start| line.starts_with(start))),
            }
        }
        without > 0 && silent <= without
    }
}

fn single_spaced(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns whether a line starts, and if there is a `…` also ends, as the form.
fn has_form(line: &str, form: &str) -> bool {
    let (start, end) = form.split_once('…').unwrap_or((form, ""));
    line.strip_prefix(start).is_some_and(|rest| rest.ends_with(end))
}

/// Returns the number in a line that starts as the pattern.
fn number(line: &str, pattern: &str) -> Option<u64> {
    let (before, after) = pattern.split_once("{n}")?;
    let rest = line.strip_prefix(before)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at(end);
    digits.parse().ok().filter(|_| rest.starts_with(after))
}

/// Returns whether the complete output of a test check says that no test ran.
pub fn says_none(spec: &CheckSpec, finished: &ProcessOutput) -> bool {
    if spec.kind != CheckKind::Test || spec.junit.is_some() || finished.truncated {
        return false;
    }
    let of_command = |s: &&Signature| s.commands.iter().any(|part| spec.command.contains(part));
    let known: Vec<&Signature> = SIGNATURES.iter().filter(of_command).collect();
    if known.is_empty() {
        return false;
    }
    let output = terminal_text::sanitize(&finished.stdout);
    // A command that starts several programs proves something if one of them ran a test.
    known.iter().any(|s| s.says_none(&output)) && !known.iter().any(|s| s.says_some(&output))
}

/// Returns whether a green check proves nothing: nobody said what its exit code means, and no test ran.
pub fn proves_nothing(spec: &CheckSpec, result: &CheckResult) -> bool {
    spec.detected && spec.kind == CheckKind::Test && result.green && result.tests.is_some_and(|tests| tests.run == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_none(command: &str, output: &str) -> bool {
        let spec = CheckSpec {
            name: "test".to_owned(),
            kind: CheckKind::Test,
            command: command.to_owned(),
            timeout_secs: 60,
            junit: None,
            runner: None,
            detected: true,
        };
        let finished = |truncated| ProcessOutput {
            code: Some(0),
            signal: None,
            timed_out: false,
            stop_reason: None,
            stdout: output.as_bytes().to_vec(),
            stderr: Vec::new(),
            truncated,
            took: std::time::Duration::ZERO,
        };
        assert!(!says_none(&spec, &finished(true)), "the rest of the output may say more");
        assert!(!says_none(&CheckSpec { junit: Some("r.xml".to_owned()), ..spec.clone() }, &finished(false)));
        says_none(&spec, &finished(false))
    }

    #[test]
    fn output_says_that_no_test_ran() {
        for (command, output) in [
            ("python3 -m unittest discover", "\n-----\nRan 0 tests in 0.000s\n\nOK\n"),
            ("python3 -m unittest discover", "\n-----\nRan 0 tests in 0.000s\n\nNO TESTS RAN\n"),
            ("cd a && { python3 manage.py test; }", "Found 0 test(s).\n\nRan 0 tests in 0.000s\n\nOK\n"),
            ("uv run python -m pytest -q", "\nno tests ran in 0.01s\n"),
            ("go test ./...", "?   \texample.org/x\t[no test files]\n?   \texample.org/x/y\t[no test files]\n"),
            ("go test ./...", "ok  \texample.org/x\t0.002s [no tests to run]\n"),
            (
                "cargo test",
                "     Running unittests src/main.rs (target/debug/deps/a-1)\n\nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed\n",
            ),
            (
                "cargo test --workspace",
                "     Running unittests src/lib.rs (a)\n\nrunning 0 tests\n\n   Doc-tests a\n\nrunning 0 tests\n",
            ),
            ("npm test", "> jest --passWithNoTests\n\nNo tests found, exiting with code 0\n"),
            ("cd web && { pnpm test; }", "No test files found, exiting with code 1\n"),
            ("node --test", "TAP version 13\n1..0\n# tests 0\n# pass 0\n"),
            ("yarn run test", "\u{2139} tests 0\n\u{2139} pass 0\n"),
            ("npm test", "\n\n  0 passing (1ms)\n"),
            ("bundle exec rspec", "No examples found.\n\n0 examples, 0 failures\n"),
            ("bundle exec rake test", "0 runs, 0 assertions, 0 failures, 0 errors, 0 skips\n"),
            ("vendor/bin/phpunit", "No tests executed!\n"),
            ("mvn -B -ntp test", "[INFO] No tests to run.\n"),
            ("meson setup b && meson test -C b", "ninja: no work to do.\nNo tests defined.\n"),
            ("ctest --test-dir b", "Test project /b\nNo tests were found!!!\n"),
            ("./configure && make check", "# TOTAL: 0\n# PASS:  0\n"),
            (
                "sh ./gradlew test --console=plain",
                "> Task :compileJava\n> Task :test NO-SOURCE\n\nBUILD SUCCESSFUL in 1s\n",
            ),
            (
                "dotnet test a.sln",
                "No test is available in /a/bin/a.dll. Make sure that test discoverer is registered.\n",
            ),
            ("mix test", "There are no tests to run\n"),
            ("swift test", "\t Executed 0 tests, with 0 failures (0 unexpected) in 0.000 (0.000) seconds\n"),
            ("prove -lr t", "Files=0, Tests=0,  0 wallclock secs\nResult: NOTESTS\n"),
        ] {
            assert!(is_none(command, output), "{command}: {output}");
        }
    }

    #[test]
    fn one_test_is_enough_and_an_unknown_program_may_have_run_some() {
        for (command, output) in [
            (
                "python3 -m unittest discover -s a && python3 -m unittest discover",
                "Ran 0 tests in 0s\nRan 2 tests in 0s\n",
            ),
            ("python3 -m pytest -q", "1 passed in 0.01s\n"),
            ("go test ./...", "?   \tx/y\t[no test files]\nok  \tx\t(cached)\n"),
            (
                "cargo test --workspace",
                "Running unittests src/lib.rs (a)\nrunning 0 tests\nRunning tests/b.rs (b)\nrunning 1 test\n",
            ),
            // A test target without the usual harness.
            (
                "cargo test",
                "Running unittests src/lib.rs (a)\nrunning 0 tests\nRunning tests/b.rs (b)\nall 3 cases passed\n",
            ),
            ("npm test --workspaces", "No tests found, exiting with code 0\n  \u{2713} adds (2 ms)\n"),
            ("npm test", "No test files found, exiting with code 0\nok 1 - adds\n"),
            ("npm test", "all fine\n"),
            ("tox", "Ran 0 tests in 0.000s\n3 passed in 0.01s\n"),
            ("meson test -C b", "1/1 basic OK 0.01s\n\nOk:                 1   \nFail:               0   \n"),
            ("ctest --test-dir b", "100% tests passed, 0 tests failed out of 12\n"),
            ("gradle test", "> Task :a:test NO-SOURCE\n> Task :b:test\n\nBUILD SUCCESSFUL in 1s\n"),
            ("make test", "ran all 12 programs\n"),
            ("npm test", " Tests  3 passed (3)\n"),
            ("npm test", "running 0 tests\n"),
            ("make test", "Ran 0 tests in 0.000s\n"),
            ("mvn -B -ntp test", "[INFO] No tests to run.\n[INFO] Tests run: 2, Failures: 0\n"),
        ] {
            assert!(!is_none(command, output), "{command}: {output}");
        }
    }
}
