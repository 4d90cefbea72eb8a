//! A whole life on Forgejo and on GitLab through the real service: a labelled issue becomes a pull request that is
//! repaired after red CI and reworked after a review, approved, merged at the approved commit, and the issue is closed.

use crate::intake::Kind;
use crate::story_intake::{add_project, hook, labelled, machine, serve, started};
use crate::support::cli::Cli;
use crate::support::forge_server::{ForgeServer, REPO};
use serde_json::{Value, json};
use std::cell::RefCell;

/// A dev that reads its notes: it repairs what CI and reviewers name.
const DEV: &str = "command: if grep -q 'FAILED greet' \"$SKEP_NOTES_FILE\"; then echo repaired >> greet.txt; \
    elif grep -q 'greet.txt:1' \"$SKEP_NOTES_FILE\"; then echo documented > NOTES.md; \
    else sed -i s/helo/hello/ greet.txt; fi";

/// The service, and the forge that reports to it.
struct Life<'a> {
    kind: Kind,
    cli: &'a Cli,
    forge: &'a ForgeServer,
    reported: RefCell<u32>,
}

impl Life<'_> {
    fn report(&self, event: &str, body: Value) {
        *self.reported.borrow_mut() += 1;
        let id = format!("delivery-{}", self.reported.borrow());
        assert_eq!(hook(self.cli, self.kind, &id, event, body), Some(202), "{event}");
    }

    /// Waits until the pull request is ready for review at another head, and returns it.
    fn next_head(&self, before: &str) -> String {
        let found = RefCell::new(None);
        self.cli.until("the pull request is ready at a new head", || {
            let state = self.forge.state();
            let is_draft = |title: &str| title.starts_with("WIP: ") || title.starts_with("Draft: ");
            let ready = state.pulls.first().filter(|pull| !is_draft(&pull.title));
            let head = ready.and_then(|pull| self.forge.head(&pull.branch)).filter(|head| head != before);
            *found.borrow_mut() = head;
            found.borrow().is_some()
        });
        found.take().unwrap()
    }

    /// Reports the result of a job at a commit.
    fn ci(&self, sha: &str, result: &'static str) {
        {
            let mut state = self.forge.state();
            let job = state.job(sha, "test", 1, "completed", Some(result));
            job.log = Some("2026-01-01T10:00:00.0000000Z FAILED greet: it is not repaired\n".to_owned());
            // A job of Forgejo is a status as well.
            if self.kind == Kind::Forgejo {
                let page = format!("/{REPO}/actions/runs/{}/jobs/0", job.run);
                state.status(sha, "CI / test (pull_request)", result);
                state.statuses.last_mut().unwrap().page = page;
            }
        }
        match (self.kind, result) {
            (Kind::GitLab, _) => self.report("pipeline", json!({ "sha": sha, "status": result })),
            (_, "success") => self.report("action_run_success", json!({ "run": { "commit_sha": sha } })),
            _ => self.report("action_run_failure", json!({ "run": { "commit_sha": sha } })),
        }
    }

    fn report_review(&self, event: &str, branch: &str, number: u64) {
        let event = if self.kind == Kind::GitLab { "pull_request" } else { event };
        let head = json!({ "label": branch, "ref": branch });
        self.report(event, json!({ "action": "reviewed", "pull_request": { "number": number, "head": head } }));
    }
}

#[test]
fn a_labelled_issue_on_forgejo_is_repaired_reworked_approved_merged_and_closed() {
    tell(Kind::Forgejo, "action_run_failure");
}

#[test]
fn a_labelled_issue_on_gitlab_is_repaired_reworked_approved_merged_and_closed() {
    tell(Kind::GitLab, "pipeline.failure");
}

/// Tells the story; `red` is the event by which the forge reports red CI.
fn tell(kind: Kind, red: &str) {
    let forge = started(kind);
    forge.state().required = vec!["CI / *"];
    let cli = machine(kind, &forge, "poll_interval = \"0s\"\n");
    add_project(&cli, DEV);
    let _service = serve(&cli, None);
    let life = Life { kind, cli: &cli, forge: &forge, reported: RefCell::default() };
    let issue = forge.state().open_issue("ann", "Say hello", "It says helo.");
    forge.state().label(issue, "ann", "skep");
    life.report("issues", labelled(kind, issue));

    let first = life.next_head("");
    life.ci(&first, "failure");
    let second = life.next_head(&first);
    life.ci(&second, "success");
    let questions = || {
        let state = forge.state();
        state.comments_on(issue).into_iter().filter(|c| c.body.contains("/skep approve")).count()
    };
    cli.until("the run asks for approval on the issue", || questions() == 1);
    let (pull, branch) = {
        let state = forge.state();
        (state.pulls[0].number, state.pulls[0].branch.clone())
    };
    let comments = [("greet.txt", 1, "Please document this.")];
    forge.state().review_with(pull, "bob", "CHANGES_REQUESTED", &second, "", &comments);
    life.report_review("pull_request_rejected", &branch, pull);
    let third = life.next_head(&second);
    life.ci(&third, "success");
    let asked = || {
        let state = forge.state();
        state.comments_on(pull).into_iter().filter(|c| c.body.contains("the merge waits for approval")).count()
    };
    cli.until("the run asks for approval again", || asked() == 2);
    // An approval of an earlier head does not count, and the merge is at the approved one.
    forge.state().review(pull, "bob", "APPROVED", &second);
    life.report_review("pull_request_approved", &branch, pull);
    forge.state().review(pull, "bob", "APPROVED", &third);
    life.report_review("pull_request_approved", &branch, pull);
    cli.until("the issue is closed", || !forge.state().issue(issue).open);

    let state = forge.state();
    assert_eq!((state.pulls.len(), state.merges), (1, 1), "{:?}", state.pulls);
    assert_eq!(state.pulls[0].head, third);
    let on_issue = state.comments_on(issue);
    assert!(on_issue.iter().any(|c| c.body.contains("Delivered: ")), "{on_issue:#?}");
    let mut marks: Vec<&str> = state.comments.iter().filter_map(|c| c.body.lines().next_back()).collect();
    marks.retain(|line| line.starts_with("<!-- skep:"));
    let all = marks.len();
    marks.sort_unstable();
    marks.dedup();
    assert_eq!(marks.len(), all, "a comment was written twice: {marks:?}");
    assert!(state.leaks.is_empty(), "{:?}", state.leaks);
    drop(state);
    assert_eq!(crate::git_world::git(&forge.bare(), &["show", "main:greet.txt"]), "hello\nrepaired");
    assert_eq!(crate::git_world::git(&forge.bare(), &["show", "main:NOTES.md"]), "documented");
    cli.run(&["forge", "deliveries", kind.name()]).exits_with(0).prints(red).prints("done");
}
