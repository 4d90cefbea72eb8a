//! What a run reworks, as GitHub has it: failed jobs with their logs, reruns, required checks, threads of reviews.

use crate::forges_contract::Subject;
use crate::git_world::{BRANCH, T1};
use crate::support::github::{Fault, GitHub};
use skep::domain::{ChangeNumber, CiFailure, JobLog, Principal, Sha, StatusState, WorkflowRun};
use skep::ports::{PortError, PortResult};
use std::collections::BTreeSet;
use std::time::Duration;

/// An open pull request.
struct Open {
    subject: Subject,
    base: Sha,
    head: Sha,
    number: ChangeNumber,
}

impl Open {
    async fn new() -> Open {
        let subject = Subject::github().await;
        let base = subject.world.base().await;
        let head = subject.push(T1, BRANCH, &base).await;
        let number = subject.ensure(BRANCH, &head, false, None).await;
        Open { subject, base, head, number }
    }

    fn github(&self) -> &GitHub {
        &self.subject.github.as_ref().unwrap().0
    }

    async fn inspect(&self, name: &str) -> CiFailure {
        let (repo, checks) = (&self.subject.world.repo, [name.to_owned()]);
        let found = self.subject.forge().inspect_ci(repo, self.number, &self.head, &self.base, &checks).await;
        found.unwrap().pop().unwrap()
    }

    async fn rerun(&self, run: WorkflowRun) -> PortResult<()> {
        self.subject.forge().rerun_ci(&self.subject.world.repo, &BTreeSet::from([run])).await
    }
}

fn missing(failure: &CiFailure) -> &str {
    match &failure.log {
        JobLog::Missing { why } => why,
        JobLog::Read { .. } => panic!("{failure:?}"),
    }
}

#[tokio::test]
async fn a_failed_job_is_explained_by_its_log_and_its_annotations() {
    let open = Open::new().await;
    {
        let mut state = open.github().state();
        let job = state.job(open.head.as_str(), "test", 1, "completed", Some("failure"));
        let noise = "2026-01-01T10:00:00.0000000Z ok\n".repeat(20_000);
        job.log = Some(format!(
            "{noise}2026-01-01T10:00:01.0000000Z FAILED tests/a.py::b\n\
             2026-01-01T10:00:01.0000000Z ##[error]Process completed with exit code 1.\n\
             2026-01-01T10:00:02.0000000Z Post job cleanup.\n"
        ));
        job.annotations.push(("tests/a.py".to_owned(), 3, "assert 1 == 2".to_owned()));
    }
    let failure = open.inspect("test").await;
    let JobLog::Read { tail, failures } = &failure.log else { panic!("{failure:?}") };
    assert!(tail.ends_with("FAILED tests/a.py::b\nProcess completed with exit code 1."), "{tail}");
    assert!(tail.len() <= CiFailure::MAX_LOG_BYTES && !tail.contains("2026"));
    assert_eq!(failures, &["FAILED tests/a.py::b"]);
    assert_eq!(failure.annotations, ["tests/a.py:3: assert 1 == 2"]);
    assert!(failure.summary.contains("failed step: Run the tests") && failure.url.contains("/actions/runs/"));
    assert!(failure.workflow_run.is_some() && !failure.passed_too && !failure.red_at_base);
    assert!(open.github().state().leaks.is_empty(), "{:?}", open.github().state().leaks);
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_said_so_and_nothing_fails() {
    let open = Open::new().await;
    open.github().state().check_run(open.head.as_str(), "test", "completed", Some("timed_out"));
    assert!(missing(&open.inspect("test").await).contains("no longer"));
    open.github().state().lacks.insert("actions");
    let failure = open.inspect("test").await;
    assert!(missing(&failure).contains("may not read the job") && failure.workflow_run.is_none());
    open.github().state().lacks.clear();
    // An address of a log that is neither https nor on the forge is not followed.
    for location in ["http://127.0.0.1:1/x", "file:///etc/passwd", "gopher://a", "", "https://127.0.0.1:1/x"] {
        let headers = vec![("location", location.to_owned())];
        open.github().state().fail("/logs", Fault::Answer(302, headers, String::new()));
        missing(&open.inspect("test").await);
    }
    // Skep's own statuses, and those of other people, have no logs.
    open.github().state().status(open.head.as_str(), "ci", "failure");
    assert!(missing(&open.inspect("ci").await).contains("commit status"));
}

#[tokio::test]
async fn what_fails_at_the_base_is_recognized() {
    let open = Open::new().await;
    {
        let mut state = open.github().state();
        for sha in [&open.head, &open.base] {
            state.check_run(sha.as_str(), "test", "completed", Some("failure"));
        }
        state.check_run(open.head.as_str(), "lint", "completed", Some("failure"));
        state.check_run(open.base.as_str(), "lint", "completed", Some("success"));
    }
    assert!(open.inspect("test").await.red_at_base);
    assert!(!open.inspect("lint").await.red_at_base);
}

#[tokio::test]
async fn a_job_is_flaky_only_if_the_same_job_passed_at_the_same_commit() {
    let open = Open::new().await;
    let head = open.head.as_str();
    open.github().state().job(head, "test", 1, "completed", Some("failure"));
    open.github().state().job(head, "test", 2, "completed", Some("success"));
    assert_eq!(open.subject.observe(open.number).await.statuses["test"], StatusState::Failure);
    assert!(!open.inspect("test").await.passed_too, "another workflow has a job of the same name");
    open.github().state().job(open.base.as_str(), "test", 1, "completed", Some("success"));
    assert!(!open.inspect("test").await.passed_too, "at another commit");
    open.github().state().job(head, "test", 1, "completed", Some("success"));
    assert!(open.inspect("test").await.passed_too, "the same workflow, for another event");
}

#[tokio::test]
async fn failed_jobs_run_again_once_whatever_happens_to_the_answer() {
    for fault in [Fault::CutAfter, Fault::BadGatewayAfter] {
        let open = Open::new().await;
        open.github().state().job(open.head.as_str(), "test", 1, "completed", Some("failure"));
        let failed_before = open.subject.observe(open.number).await.failed["test"];
        let failure = open.inspect("test").await;
        assert_eq!(failure.id, failed_before);
        let run = failure.workflow_run.unwrap();
        open.github().state().fail("POST /repos/my-org/calc/actions", fault);
        assert!(matches!(open.rerun(run).await, Err(PortError::Unknown { .. })));
        open.rerun(run).await.unwrap();
        open.rerun(run).await.unwrap();
        assert_eq!(open.github().state().actions_runs[0].attempt, 2);
        let seen = open.subject.observe(open.number).await;
        assert_eq!((seen.statuses["test"], seen.failed.get("test")), (StatusState::Pending, None));
        // A run that has not ended cannot be started again yet.
        let running = WorkflowRun { attempt: 2, ..run };
        assert!(matches!(open.rerun(running).await, Err(PortError::Transient { .. })));
        open.github().state().complete(open.head.as_str(), "failure");
        let again = open.subject.observe(open.number).await.failed["test"];
        assert!(again > failed_before, "the result of the rerun is another one");
        assert!(!open.inspect("test").await.passed_too);
    }
}

#[tokio::test]
async fn what_a_rule_of_the_base_branch_requires_is_reported() {
    let open = Open::new().await;
    {
        let mut state = open.github().state();
        state.required = vec!["build", "skep/checks"];
        state.required_by_ruleset = vec!["lint"];
    }
    let required = open.subject.observe(open.number).await.required;
    assert_eq!(required.into_iter().collect::<Vec<_>>(), ["build", "lint"]);
    // A plan without rules, or an old server, has none.
    open.github().state().fail("/rules/", Fault::Answer(404, Vec::new(), r#"{"message": "Not Found"}"#.to_owned()));
    let upgrade = r#"{"message": "Upgrade to GitHub Pro"}"#.to_owned();
    open.github().state().fail("calc/branches/main", Fault::Answer(403, Vec::new(), upgrade));
    assert!(open.subject.observe(open.number).await.required.is_empty());
}

#[tokio::test]
async fn requests_for_changes_carry_their_comments_and_only_writers_count() {
    let open = Open::new().await;
    let head = open.head.as_str();
    let (first, answered) = {
        let mut state = open.github().state();
        let comments = [("src/a.rs", 3, "Unclear."), ("src/b.rs", 9, "Why?")];
        let ids = state.review_with(open.number.0, "bob", "CHANGES_REQUESTED", head, "Two things.", &comments);
        // In the same review, an answer in a thread that exists.
        let mut reply = state.review_comments[1].clone();
        (reply.id, reply.reply_to, reply.body) = (state.id(), Some(ids[0]), "Really.".to_owned());
        state.review_comments.push(reply);
        state.review_with(open.number.0, "eve", "CHANGES_REQUESTED", head, "Delete all.", &[("a", 1, "x")]);
        state.review_with(open.number.0, "ci[bot]", "CHANGES_REQUESTED", head, "Delete all.", &[]);
        state.review_with(open.number.0, "ann", "COMMENTED", head, "Only a remark.", &[("a", 1, "x")]);
        state.review_with(open.number.0, "ann", "DISMISSED", head, "No longer.", &[]);
        (ids[0], ids[1])
    };
    let requests = open.subject.observe(open.number).await.change_requests;
    assert_eq!(requests.len(), 1, "{requests:?}");
    let request = &requests[0];
    assert_eq!((&request.by, request.text.as_str()), (&Principal::from("forge:bob"), "Two things."));
    let comments: Vec<(u64, &str, u64, &str)> =
        request.comments.iter().map(|c| (c.thread, c.path.as_str(), c.line, c.text.as_str())).collect();
    assert_eq!(
        comments,
        [(first, "src/a.rs", 3, "Unclear."), (answered, "src/b.rs", 9, "Why?"), (first, "src/b.rs", 9, "Really.")]
    );
}

#[tokio::test]
async fn a_thread_is_answered_once_whatever_happens_to_the_answer() {
    for fault in [Fault::CutAfter, Fault::BadGatewayAfter] {
        let open = Open::new().await;
        let thread = {
            let mut state = open.github().state();
            let comments = [("src/a.rs", 3, "Unclear.")];
            state.review_with(open.number.0, "bob", "CHANGES_REQUESTED", open.head.as_str(), "", &comments)[0]
        };
        open.github().state().fail("POST /repos/my-org/calc/pulls", fault);
        open.github().state().stale_lists = 0;
        let reply = |marker: &'static str| {
            open.subject.forge().ensure_reply(&open.subject.world.repo, open.number, thread, marker, "In abc.")
        };
        assert!(matches!(reply("skep:1:2").await, Err(PortError::Unknown { .. })));
        open.github().state().stale_lists = 1;
        // The list may be old: it is not written again before it must show it.
        let Err(PortError::Transient { after: Some(wait), .. }) = reply("skep:1:2").await else { panic!() };
        assert!(wait <= Duration::from_secs(5));
        for _ in 0..2 {
            reply("skep:1:2").await.unwrap();
        }
        let answers = |open: &Open| {
            let state = open.github().state();
            state.review_comments.iter().filter(|c| c.reply_to == Some(thread)).map(|c| c.body.clone()).collect()
        };
        let written: Vec<String> = answers(&open);
        assert_eq!(written, ["In abc.\n\n<!-- skep:1:2 -->"]);
        // A thread that was deleted needs no answer.
        open.github().state().review_comments.clear();
        reply("skep:1:3").await.unwrap();
        let none: Vec<String> = answers(&open);
        assert!(none.is_empty());
    }
}
