//! Finds the lines of a failed check's output that say what failed.
//!
//! A suite may print a thousand lines after its only failure. The forms are those of test runners and compilers that
//! people use; a line of another form is found at the end of the output, as before.

use super::failure_name;

/// Upper bounds on the lines, and on the length of one.
const MAX_LINES: usize = 12;
const MAX_CHARS: usize = 200;

/// A form of a line that says what failed.
struct Form {
    /// The line begins with one of these, after its indentation.
    begins: &'static [&'static str],
    /// And contains this; empty = anything.
    contains: &'static str,
    /// And ends with this; empty = anything.
    ends: &'static str,
}

const fn begins(begins: &'static [&'static str]) -> Form {
    Form { begins, contains: "", ends: "" }
}

/// Go names each failed test once, without its package: an equal line is another test.
const GO_TEST: &str = "--- FAIL: ";

/// Lines that name a failed test.
const TESTS: &[Form] = &[
    // pytest, jest, unittest
    begins(&["FAILED ", "ERROR tests/", "ERROR test", "FAIL ", "FAIL: ", "ERROR: test", "● "]),
    // cargo test, Gradle
    Form { begins: &["test "], contains: " ... FAILED", ends: "" },
    Form { begins: &[""], contains: " > ", ends: " FAILED" },
    // go test, TAP, node, vitest, ctest
    begins(&[GO_TEST, "not ok ", "✖ ", "✗ ", "✕ ", "× "]),
    Form { begins: &[""], contains: " - ", ends: "(Failed)" },
    Form { begins: &[""], contains: " - ", ends: "(Timeout)" },
    // RSpec, surefire, dotnet test, ExUnit and PHPUnit
    begins(&["rspec ./", "[ERROR] Failures:", "[ERROR]   ", "Failed "]),
    Form { begins: &["1) ", "2) ", "3) ", "4) ", "5) "], contains: "", ends: "" },
];

/// Lines with an error that may stop a suite before its tests.
const ERRORS: &[Form] = &[
    // rustc and clang, tsc, javac, dotnet, Python, Node, Ruby
    begins(&["error[", "error: ", "E   ", "Error: ", "thread '", "panic: ", "fatal: ", "npm ERR! ", "npm error "]),
    Form { begins: &[""], contains: ": error", ends: "" },
    Form { begins: &[""], contains: "Error: ", ends: "" },
    Form { begins: &[""], contains: ".go:", ends: "" },
    // ESLint: position, severity, text, rule
    Form { begins: &[""], contains: "  error  ", ends: "" },
    Form { begins: &[""], contains: "No module named ", ends: "" },
    begins(&["make: *** ", "ninja: ", "CMake Error"]),
    // Package managers: yarn, pnpm, pip, Poetry, go, Maven
    begins(&["error ", "ERR_PNPM_", "ERROR: ", "Unable to find installation candidates", "go: ", "[ERROR] Failed to "]),
    Form { begins: &[""], contains: "version solving failed", ends: "" },
    begins(&["curl: ("]),
];

/// Lines of these beginnings say only that something failed.
const EMPTY: &[&str] = &[
    "error: test failed, to rerun",
    "error: could not compile",
    "error: aborting due to",
    "npm ERR! A complete log",
    "npm error A complete log",
    "error Command failed with exit code",
    "error Found incompatible module",
    "go: downloading ",
    "go: finding ",
    "go: added ",
    "FAIL\t",
    "FAILED (",
    "Failed to",
    "✖ failing tests",
];
/// What the summary of a linter contains.
const LINT_SUMMARY: &[&str] = &[" problem (", " problems ("];

impl Form {
    fn fits(&self, line: &str) -> bool {
        self.begins.iter().any(|b| line.starts_with(b)) && line.contains(self.contains) && line.ends_with(self.ends)
    }
}

/// Returns the lines of a check's output that say what failed: names of tests, or else errors.
pub fn lines(output: &str) -> Vec<String> {
    [TESTS, ERRORS].into_iter().map(|forms| of_forms(output, forms)).find(|found| !found.is_empty()).unwrap_or_default()
}

fn of_forms(output: &str, forms: &[Form]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for line in output.lines().map(str::trim) {
        if found.len() == MAX_LINES {
            break;
        }
        let says_nothing =
            EMPTY.iter().any(|start| line.starts_with(start)) || LINT_SUMMARY.iter().any(|part| line.contains(part));
        if forms.iter().any(|form| form.fits(line)) && !says_nothing {
            // Equal names with other durations are two tests; one test is often printed twice, with its duration.
            let line = failure_name::without_stamps(line);
            if seen.contains(&line) && !line.starts_with(GO_TEST) {
                continue;
            }
            found.push(failure_name::without_duration(&line).chars().take(MAX_CHARS).collect());
            seen.push(line);
        }
    }
    found
}

/// Returns what to do about a missing program. One with a relative path is looked for in the repository.
pub fn how_to_get(program: &str) -> &'static str {
    match program.contains('/') && !program.starts_with('/') {
        true => "commit it, or create it in a check of kind \"setup\"",
        false => "install it, or add the folder that has it to sandbox.toolchains",
    }
}

/// Returns the program that a shell or `env` could not find.
pub fn missing_program(output: &str) -> Option<String> {
    let ends = [": not found", ": command not found", ": No such file or directory", ": inaccessible or not found"];
    output.lines().rev().take(50).find_map(|line| {
        let line = line.trim();
        let before = ends.iter().find_map(|end| line.strip_suffix(end))?;
        let name = before.rsplit(": ").next()?.trim_matches(['‘', '’', '\'', '"', '`']);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.+/@".contains(c);
        ((1..=100).contains(&name.len()) && name.chars().all(is_name)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_of_each_runner_are_found() {
        let noise = "ok 1 - fine\ntest a ... ok\n    at file.js:3:4\n0 failed, 0 errors\n".repeat(200);
        for line in [
            "FAILED tests/test_a.py::test_b - assert 1 == 2",
            "FAIL: test_b (test_a.T.test_b)",
            "test tests::adds ... FAILED",
            "--- FAIL: TestAdd (0.00s)",
            "not ok 12 - adds",
            "✖ adds (1.2ms)",
            "● sum › adds",
            "CalcTest > adds() FAILED",
            "2 - adds (Failed)",
            "rspec ./spec/calc_spec.rb:3 # Calc adds",
            "[ERROR]   CalcTest.adds:12 expected: <3> but was: <4>",
            "Failed Calc.Tests.Adds [3 ms]",
            "1) CalcTest::testAdds",
        ] {
            assert_eq!(lines(&format!("{noise}  {line}\n{noise}# fail 1\n")), [failure_name::of_line(line)]);
        }
    }

    #[test]
    fn names_are_shown_without_times() {
        assert_eq!(lines("--- FAIL: TestA (0.15s)\n✖ adds (1.2ms)\n✖ adds (1.2ms)\n"), ["--- FAIL: TestA", "✖ adds"]);
        assert_eq!(lines("--- FAIL: TestA (0.00s)\n--- FAIL: TestA (0.00s)\n").len(), 2, "of two packages");
        let log = "2026-11-30T17:42:46.707Z - [Slack CLI] - error: Error: boom\n2026-11-30T17:42:47.001Z - [Slack CLI] - error: Error: boom\n";
        assert_eq!(lines(log), ["[Slack CLI] - error: Error: boom"]);
    }

    #[test]
    fn errors_count_where_no_test_failed() {
        let cargo =
            "   Compiling a\nerror[E0308]: mismatched types\n  --> src/lib.rs:1\nerror: could not compile `a`\n";
        assert_eq!(lines(cargo), ["error[E0308]: mismatched types"]);
        assert_eq!(lines("/usr/bin/python3: No module named pytest\n"), ["/usr/bin/python3: No module named pytest"]);
        assert_eq!(lines("all is well\n"), [""; 0]);
        let many: String = (0..100).map(|n| format!("not ok {n} - x\n")).collect();
        assert_eq!(lines(&many).len(), MAX_LINES);
        assert!(lines(&format!("not ok {}", "x".repeat(10_000)))[0].len() <= MAX_CHARS);
    }

    #[test]
    fn what_a_package_manager_lacks_is_found() {
        let yarn = "yarn install v1.22.22\n[1/4] Resolving packages...\nerror semantic-release@25.0.3: The engine \"node\" \
                    is incompatible with this module.\nerror Found incompatible module.\ninfo Visit https://yarnpkg.com\n";
        let wanted = "error semantic-release@25.0.3: The engine \"node\" is incompatible with this module.";
        assert_eq!(lines(yarn), [wanted]);
        for line in [
            "ERR_PNPM_OUTDATED_LOCKFILE  Cannot install with \"frozen-lockfile\"",
            "Unable to find installation candidates for attrs (25.3.0)",
            "ERROR: No matching distribution found for attrs==99",
            "Because a depends on b (^9) which does not match any versions, version solving failed.",
            "go: go.mod requires go >= 1.22 (running go 1.19)",
            "[ERROR] Failed to execute goal on project a: Could not resolve dependencies",
            "curl: (6) Could not resolve host: nosuch.example.org",
        ] {
            assert_eq!(lines(&format!("go: downloading a v1\n\n  {line}\nmore\n")), [line]);
        }
    }

    #[test]
    fn the_missing_program_is_named() {
        for (output, name) in [
            ("/bin/sh: 1: nosuch: not found\n", "nosuch"),
            ("bash: line 1: ./x.sh: command not found\n", "./x.sh"),
            ("env: ‘ruby3’: No such file or directory\n", "ruby3"),
        ] {
            assert_eq!(missing_program(output).as_deref(), Some(name));
        }
        assert_eq!(missing_program("cat: a file: No such file or directory"), None);
    }
}
