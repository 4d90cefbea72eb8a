//! What an end and a report are worth: green only what ended well and proves something.

use crate::domain::check::TestCounts;
use crate::domain::{CheckKind, CheckResult, CheckSpec};
use crate::platform::process::Finished;
use crate::ports::checks::Checked;

/// A check that is red without having run.
pub fn red(spec: &CheckSpec, why: String) -> Checked {
    let result = CheckResult {
        name: spec.name.clone(),
        kind: spec.kind,
        green: false,
        exit: None,
        duration_ms: 0,
        why,
        tail: String::new(),
        tests: None,
        artifacts: Vec::new(),
        given: Vec::new(),
    };
    Checked { result, files: Vec::new() }
}

/// What is wrong with how the command ended.
pub fn complaint(spec: &CheckSpec, ended: &Finished) -> Option<String> {
    if let Some(why) = &ended.stopped {
        return Some(format!("it was killed: {why}"));
    }
    match (ended.timed_out, ended.code) {
        (true, _) => {
            Some(format!("it was still running after its limit of {} s and was killed", spec.limit_secs.max(1)))
        }
        (_, Some(0)) => None,
        (_, Some(127)) => Some("it ended with exit code 127: a command was not found".to_owned()),
        (_, Some(code)) => Some(format!("it ended with exit code {code}")),
        (_, None) => {
            let signal = ended.signal.map_or_else(String::new, |s| format!(" {s}"));
            Some(format!("it was killed by signal{signal}"))
        }
    }
}

/// What is wrong with a report of a command that ended well. Tests that prove nothing are not green.
pub fn doubt(kind: CheckKind, counts: TestCounts) -> Option<String> {
    match counts {
        TestCounts { failed: 1.., run, .. } => {
            Some(format!("it ended with exit code 0, but its report shows {} of {run} tests failed", counts.failed))
        }
        TestCounts { run: 0, .. } if kind == CheckKind::Test => Some("its report shows that no test ran".to_owned()),
        TestCounts { run, skipped, .. } if kind == CheckKind::Test && run == skipped => {
            Some(format!("its report shows that all {run} tests were skipped"))
        }
        _ => None,
    }
}
