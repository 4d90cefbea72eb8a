//! Proves a place: small checks that go there as a run's do, and what came of each.

use super::{CommandChecks, RemoteSessions};
use crate::adapters::runner;
use crate::adapters::runner::settings::Runner;
use crate::domain::{CheckKind, CheckResult, CheckSpec, ProjectName};
use crate::platform::access::{Granted, Grants};
use crate::platform::sandbox::Sandbox;
use crate::ports::checks::Checks;
use crate::ports::{PortError, PortResult};
use std::collections::BTreeMap;
use std::path::Path;

/// One thing a place promises, and whether it was so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// What is promised.
    pub what: &'static str,
    /// Whether it was kept.
    pub kept: bool,
    /// What was seen.
    pub found: String,
}

/// How long each of the small checks may take, in seconds.
const LIMIT_SECS: u64 = 30;
/// A report of one green test.
const REPORT: &str = "printf '%s' '<testsuite><testcase name=\"a\"/></testsuite>' > out/report.xml";
/// Leaves something running, in a session of its own where that can be had, which shows that it lives.
const LEAVE: &str =
    "$(command -v setsid) sh -c 'while :; do echo 1 > ../tmp/alive; sleep 0.2; done' >/dev/null 2>&1 & sleep 0.5";
/// Whether that still lives.
const IS_LEFT: &str = "rm ../tmp/alive && sleep 1 && ! test -e ../tmp/alive";

/// Looks whether a place can be used: connects, and looks for what is needed there. Nothing is left there.
///
/// # Errors
/// Why it can't be used, and what to do.
pub async fn probe(name: &str, runner: &Runner) -> PortResult<String> {
    let sessions = own();
    let remote = runner::remote(name, runner);
    let found = remote.probe(sessions.owner_id()).await?;
    remote.sweep(sessions.owner_id(), &[]).await?;
    Ok(found)
}

/// Has small checks run there, from a checkout in `scratch`.
///
/// # Errors
/// Why it can't be used, and what to do.
pub async fn prove(name: &str, runner: &Runner, scratch: &Path) -> PortResult<Vec<Promise>> {
    let reached = probe(name, runner).await?;
    let write = |e: std::io::Error| PortError::transient(format!("the folder {}: {e}", scratch.display()));
    let (dir, cache) = (scratch.join("tree"), scratch.join("cache"));
    std::fs::create_dir_all(dir.join("out")).map_err(write)?;
    std::fs::write(dir.join("file with a name"), "content\n").map_err(write)?;
    std::fs::write(dir.join("out/report.xml"), "<testsuite><testcase><failure/></testcase></testsuite>")
        .map_err(write)?;
    let check = |check: &str, limit_secs, command: &str, junit: Option<&str>| CheckSpec {
        name: check.to_owned(),
        kind: CheckKind::Test,
        command: command.to_owned(),
        limit_secs,
        junit: junit.map(str::to_owned),
        runner: Some(name.to_owned()),
    };
    let specs = [
        check("tree", LIMIT_SECS, "grep -q content 'file with a name' && test -d .", None),
        check("red", LIMIT_SECS, "exit 7", None),
        check("report", LIMIT_SECS, REPORT, Some("out/report.xml")),
        check("limit", 1, "sleep 600", None),
        check("leave", LIMIT_SECS, LEAVE, None),
        check("left", LIMIT_SECS, IS_LEFT, None),
    ];
    let project = ProjectName::from_text("place-test");
    let all = Grants { runner: Some(name.to_owned()), ..Grants::default() };
    let granted = Granted { all, ..Granted::default() };
    let checks = CommandChecks::new(Sandbox::closed());
    let sessions = own();
    let checks = checks.with_runners(BTreeMap::from([(name.to_owned(), runner.clone())]), granted, sessions.clone());
    let done = checks.run(&project, &dir, &cache, &specs).await;
    // Here and now: no later process has this house.
    let swept = runner::remote(name, runner).sweep(sessions.owner_id(), &[]).await;
    let done = done?;
    let [tree, red, report, limit, leave, left] = done.as_slice() else {
        return Err(PortError::permanent("not every check came back", "report this as a defect"));
    };
    let promise = |what, kept, result: &CheckResult| {
        let found = match (result.why.is_empty(), result.tail.trim().is_empty()) {
            (true, _) => "green".to_owned(),
            (false, true) => result.why.clone(),
            (false, false) => format!("{}: {}", result.why, result.tail.trim()),
        };
        Promise { what, kept, found }
    };
    let (tree, red, report, limit) = (&tree.result, &red.result, &report.result, &limit.result);
    Ok(vec![
        Promise { what: "is reached, and has what is needed", kept: true, found: reached },
        promise("a check finds the checkout and is green", tree.green, tree),
        promise("a check that fails is red, with its exit code", !red.green && red.exit == Some(7), red),
        promise(
            "its JUnit report comes back and is counted",
            report.green && report.tests.is_some_and(|t| t.run == 1),
            report,
        ),
        promise("a check over its limit is ended", limit.exit.is_none() && limit.why.contains("limit"), limit),
        promise("what a check leaves running is ended", leave.result.green && left.result.green, &left.result),
        Promise {
            what: "everything of Skep's is removed afterwards",
            kept: swept.is_ok(),
            found: swept.err().map_or_else(|| "removed".to_owned(), |e| e.to_string()),
        },
    ])
}

/// A house of its own: a service beside this process has its own things there.
fn own() -> RemoteSessions {
    RemoteSessions::new(&format!("test-{}", uuid::Uuid::now_v7().simple()))
}
