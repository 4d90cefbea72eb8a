//! Judges a finished check: it passes only if its command succeeded and its report shows that something was tested.

use super::no_tests;
use crate::domain::change::failure_lines::{how_to_get, missing_program};
use crate::domain::check::TestCounts;
use crate::domain::{CheckKind, CheckResult, CheckSpec};
use crate::platform::process::{ProcessOutput, StopReason};
use crate::ports::checks::{CheckProgress, CheckWatch, Checked};
use std::path::Path;

/// Creates a failed check whose command was not run.
pub fn failed_without_running(spec: &CheckSpec, why: String) -> Checked {
    let result = CheckResult {
        name: spec.name.clone(),
        kind: spec.kind,
        green: false,
        exit_code: None,
        duration_ms: 0,
        why,
        failures: Vec::new(),
        tail: String::new(),
        tests: None,
        artifacts: Vec::new(),
        secrets: Vec::new(),
        fault: None,
    };
    Checked { result, files: Vec::new() }
}

/// Returns the output of a check with the files of its checkout named as in the repository. The checkout is gone when
/// somebody reads it, and its place means nothing to them.
pub fn as_in_repository(output: &str, checkout: &Path) -> String {
    let folder = format!("{}/", checkout.display());
    output.replace(&format!("file://{folder}"), "").replace(&folder, "")
}

/// Returns why the command failed, if it did.
pub fn command_failure(spec: &CheckSpec, finished: &ProcessOutput) -> Option<String> {
    match &finished.stop_reason {
        Some(why @ StopReason::FullDisk(_)) => {
            return Some(format!("what the command wrote may be incomplete: {why}"));
        }
        Some(why) => return Some(format!("the command was killed: {why}")),
        None => {}
    }
    match (finished.timed_out, finished.code) {
        (true, _) => Some(format!("the command exceeded its timeout of {} s and was killed", spec.timeout_secs.max(1))),
        (_, Some(0)) => None,
        (_, Some(127)) => {
            let output = String::from_utf8_lossy(&finished.stdout);
            let missing = missing_program(&output).unwrap_or_default();
            let program = if missing.is_empty() { "a program".to_owned() } else { format!("`{missing}`") };
            let how = how_to_get(&missing);
            Some(format!("the command exited with code 127: {program} was not found; {how}"))
        }
        (_, Some(126)) => Some("the command exited with code 126: the file is not executable".to_owned()),
        (_, Some(code)) => Some(format!("the command exited with code {code}")),
        (_, None) => {
            let signal = finished.signal.map_or_else(String::new, |s| format!(" {s}"));
            Some(format!("the command was killed by signal{signal}"))
        }
    }
}

/// Returns why the report of a successful command still fails the check. A test check in which no test ran proves
/// nothing.
pub fn report_failure(kind: CheckKind, counts: TestCounts) -> Option<String> {
    match counts {
        TestCounts { failed: 1.., run, .. } => {
            Some(format!("the command exited with code 0, but its report has {} of {run} tests failed", counts.failed))
        }
        TestCounts { run: 0, .. } if kind == CheckKind::Test => Some("no test ran, according to its report".to_owned()),
        TestCounts { run, skipped, .. } if kind == CheckKind::Test && run == skipped => {
            Some(format!("all {run} tests were skipped, according to its report"))
        }
        _ => None,
    }
}

/// Turns detected test checks red in which no test ran, unless another check tested something: a part of a repository
/// may have no tests, but then another part proves the commit. Reports the end of those checks.
pub fn require_a_test(specs: &[CheckSpec], results: &mut [Checked], watch: &CheckWatch) {
    let nothing = |(spec, checked): (&CheckSpec, &Checked)| no_tests::proves_nothing(spec, &checked.result);
    let tested = specs.iter().zip(results.iter()).any(|(spec, c)| spec.kind == CheckKind::Test && !nothing((spec, c)));
    for (spec, checked) in specs.iter().zip(results) {
        if nothing((spec, checked)) {
            if !tested {
                checked.result.green = false;
                checked.result.why = NO_TEST_RAN.to_owned();
            }
            watch(CheckProgress::Finished(checked.result.clone()));
        }
    }
}

/// Reason for which a detected test check fails although its command succeeded.
const NO_TEST_RAN: &str = "no test ran, according to its output; if its exit code is enough, name the command with --check \
                           or in .skep.toml";

#[cfg(test)]
mod tests {
    use super::as_in_repository;
    use std::path::Path;

    #[test]
    fn files_of_the_checkout_are_named_as_in_the_repository() {
        let checkout = Path::new("/srv/skep/work/01a2/x-check-base");
        for (output, shown) in [
            ("File \"/srv/skep/work/01a2/x-check-base/test_calc.py\", line 5", "File \"test_calc.py\", line 5"),
            ("at file:///srv/skep/work/01a2/x-check-base/src/a.mjs:3:1", "at src/a.mjs:3:1"),
            ("/srv/skep/work/01a2/x-check-base2/a.py", "/srv/skep/work/01a2/x-check-base2/a.py"),
            ("in /srv/skep/work/01a2/x-check-base", "in /srv/skep/work/01a2/x-check-base"),
            ("/usr/lib/python3.11/unittest/case.py", "/usr/lib/python3.11/unittest/case.py"),
        ] {
            assert_eq!(as_in_repository(output, checkout), shown);
        }
    }
}
