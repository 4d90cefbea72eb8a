//! Tests a runner with a few small checks that take the same path as a run's checks.

use super::{CommandChecks, RemoteSessions};
use crate::adapters::runner::{self, settings::Runner};
use crate::domain::{CheckKind, CheckResult, CheckSpec, ProjectName};
use crate::platform::access::{Grants, ProjectGrants};
use crate::platform::sandbox::Sandbox;
use crate::ports::checks::{Checks, Trust};
use crate::ports::{PortError, PortResult, Repo};
use std::collections::BTreeMap;
use std::path::Path;

/// One property of a runner, and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfTestStep {
    /// The property, as a sentence.
    pub name: &'static str,
    /// Whether it holds.
    pub passed: bool,
    /// The observed result.
    pub detail: String,
}

/// Timeout of each check, in seconds.
const TIMEOUT_SECS: u64 = 30;
/// Writes a report of one passing test.
const WRITE_REPORT: &str = "printf '%s' '<testsuite><testcase name=\"a\"/></testsuite>' > out/report.xml";
/// Leaves a process behind that keeps touching a file, in a session of its own where `setsid` exists.
const LEAVE_PROCESS: &str =
    "$(command -v setsid) sh -c 'while :; do echo 1 > ../tmp/alive; sleep 0.2; done' >/dev/null 2>&1 & sleep 0.5";
/// Fails if that process is still alive.
const FIND_PROCESS: &str = "rm ../tmp/alive && sleep 1 && ! test -e ../tmp/alive";

/// Connects to a runner and checks that everything Skep needs is installed there. Leaves nothing behind.
///
/// # Errors
/// When the runner is unusable, with the fix.
pub async fn probe(name: &str, runner: &Runner) -> PortResult<String> {
    let sessions = temporary_sessions();
    let summary = runner::probe(name, runner, &sessions).await?;
    runner::purge(name, runner, &sessions).await?;
    Ok(summary)
}

/// Runs the self-test on a runner, with a checkout made in `scratch`.
///
/// # Errors
/// When the runner is unusable, with the fix.
pub async fn run(name: &str, runner: &Runner, scratch: &Path) -> PortResult<Vec<SelfTestStep>> {
    let summary = probe(name, runner).await?;
    let write_error = |e: std::io::Error| PortError::transient(format!("cannot write to {}: {e}", scratch.display()));
    let (dir, cache) = (scratch.join("tree"), scratch.join("cache"));
    std::fs::create_dir_all(dir.join("out")).map_err(write_error)?;
    std::fs::write(dir.join("file with a name"), "content\n").map_err(write_error)?;
    std::fs::write(dir.join("out/report.xml"), "<testsuite><testcase><failure/></testcase></testsuite>")
        .map_err(write_error)?;
    let check = |check: &str, timeout_secs, command: &str, junit: Option<&str>| CheckSpec {
        name: check.to_owned(),
        kind: CheckKind::Test,
        command: command.to_owned(),
        timeout_secs,
        junit: junit.map(str::to_owned),
        runner: Some(name.to_owned()),
        detected: false,
    };
    let specs = [
        check("tree", TIMEOUT_SECS, "grep -q content 'file with a name' && test -d .", None),
        check("fail", TIMEOUT_SECS, "exit 7", None),
        check("report", TIMEOUT_SECS, WRITE_REPORT, Some("out/report.xml")),
        check("timeout", 1, "sleep 600", None),
        check("leave", TIMEOUT_SECS, LEAVE_PROCESS, None),
        check("find", TIMEOUT_SECS, FIND_PROCESS, None),
    ];
    let repo = Repo { project: ProjectName::from_text("runner-test"), origin: String::new() };
    let all = Grants { runner: Some(name.to_owned()), ..Grants::default() };
    let granted = ProjectGrants { all, ..ProjectGrants::default() };
    let sessions = temporary_sessions();
    let runners = BTreeMap::from([(name.to_owned(), runner.clone())]);
    let checks = CommandChecks::new(Sandbox::disabled()).with_runners(runners, granted, sessions.clone());
    let results = checks.run(&repo, &dir, &cache, Trust::Unproven, &specs).await;
    // Swept here, because no later process will use this owner id.
    let swept = runner::purge(name, runner, &sessions).await;
    let results = results?;
    let [tree, fail, report, timeout, leave, find] = results.as_slice() else {
        return Err(PortError::permanent("some checks of the self-test returned no result", "report this as a bug"));
    };
    let step = |name, passed, result: &CheckResult| {
        let detail = match (result.why.is_empty(), result.tail.trim().is_empty()) {
            (true, _) => "passed".to_owned(),
            (false, true) => result.why.clone(),
            (false, false) => format!("{}: {}", result.why, result.tail.trim()),
        };
        SelfTestStep { name, passed, detail }
    };
    let (tree, fail, report, timeout) = (&tree.result, &fail.result, &report.result, &timeout.result);
    Ok(vec![
        SelfTestStep { name: "the runner is reachable and has the tools it needs", passed: true, detail: summary },
        step("a check sees the checkout and passes", tree.green, tree),
        step("a failing check is reported with its exit code", !fail.green && fail.exit_code == Some(7), fail),
        step("a JUnit report is fetched and counted", report.green && report.tests.is_some_and(|t| t.run == 1), report),
        step(
            "a check that exceeds its timeout is killed",
            timeout.exit_code.is_none() && timeout.why.contains("timeout"),
            timeout,
        ),
        step("background processes of a check are killed", leave.result.green && find.result.green, &find.result),
        SelfTestStep {
            name: "everything Skep created is removed afterwards",
            passed: swept.is_ok(),
            detail: swept.err().map_or_else(|| "removed".to_owned(), |e| e.to_string()),
        },
    ])
}

/// Sessions under an owner id of their own, so that a running service and this self-test do not sweep each other.
fn temporary_sessions() -> RemoteSessions {
    RemoteSessions::new(&format!("test-{}", uuid::Uuid::now_v7().simple()))
}
