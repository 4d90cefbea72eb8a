//! What only Forgejo and Gitea have: drafts by title, foreign pull requests, scopes, patterns, smaller pages, versions.

use crate::forges_contract::Subject;
use crate::git_world::{BRANCH, T1, git};
use crate::support::forgejo::{Fault, Forgejo, LOGIN, REPO, TOKEN};
use skep::adapters::forge::forgejo::{ForgejoForge, test};
use skep::adapters::forge::permission::PermissionTest;
use skep::adapters::forge::settings::{Forgejo as Settings, MergeMethod, RepoName};
use skep::domain::{ChangeNumber, ChangeState, ForgeName, JobLog, Principal, Sha, StatusState};
use skep::ports::forge::{ChangeText, Landing};
use skep::ports::{GitCredentials, PortError, PortResult};
use std::time::Duration;

/// A world with an open change.
struct Open {
    subject: Subject,
    base: Sha,
    head: Sha,
    number: ChangeNumber,
}

impl Open {
    async fn new() -> Open {
        Open::of(Subject::forgejo().await).await
    }

    async fn of(subject: Subject) -> Open {
        let base = subject.world.base().await;
        let head = subject.push(T1, BRANCH, &base).await;
        let number = subject.ensure(BRANCH, &head, false, None).await;
        Open { subject, base, head, number }
    }

    fn forgejo(&self) -> &Forgejo {
        forgejo(&self.subject)
    }

    async fn land(&self) -> PortResult<Landing> {
        self.subject.forge().land(&self.subject.world.repo, self.number, &self.head, &self.base).await
    }
}

fn forgejo(subject: &Subject) -> &Forgejo {
    &subject.forgejo.as_ref().unwrap().0
}

fn text(head: &Sha, draft: bool) -> ChangeText<'_> {
    ChangeText { after: None, branch: BRANCH, base_branch: "main", head, draft, title: "A thing", body: "Because." }
}

async fn try_ensure(s: &Subject, head: &Sha, draft: bool) -> PortResult<ChangeNumber> {
    Ok(s.forge().ensure_change(&s.world.repo, text(head, draft)).await?.number)
}

/// Repeats a call as the runtime does: after a passing or unknown error.
async fn patiently<T, F: Future<Output = PortResult<T>>>(mut call: impl FnMut() -> F) -> T {
    for _ in 0..400 {
        match call().await {
            Ok(value) => return value,
            Err(PortError::Transient { .. } | PortError::Unknown { .. }) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("it never succeeds");
}

#[tokio::test]
async fn a_draft_is_a_title_that_starts_with_wip() {
    let s = Subject::forgejo().await;
    let base = s.world.base().await;
    let head = s.push(T1, BRANCH, &base).await;
    let title = || forgejo(&s).state().pulls[0].title.clone();
    let number = try_ensure(&s, &head, true).await.unwrap();
    assert_eq!(title(), "WIP: A thing");
    let refused = s.forge().land(&s.world.repo, number, &head, &base).await.unwrap_err();
    assert!(refused.to_string().contains("Work in progress"), "{refused}");
    for draft in [false, true, false] {
        assert_eq!(try_ensure(&s, &head, draft).await.unwrap(), number);
        assert_eq!(title(), if draft { "WIP: A thing" } else { "A thing" });
    }
    let before = forgejo(&s).state().requests.len();
    try_ensure(&s, &head, false).await.unwrap();
    let state = forgejo(&s).state();
    assert!(state.requests[before..].iter().all(|request| request.starts_with("GET")), "nothing is left to write");
}

#[tokio::test]
async fn a_foreign_pull_request_with_the_same_branch_is_never_adopted() {
    let s = Subject::forgejo().await;
    let base = s.world.base().await;
    let head = s.push(T1, BRANCH, &base).await;
    // One from a fork has the same branch name and is none of Skep's business.
    forgejo(&s).state().open_pull("eve", BRANCH, "eve/calc", &"3".repeat(40));
    let foreign = forgejo(&s).state().open_pull("ann", BRANCH, REPO, head.as_str());
    let error = try_ensure(&s, &head, true).await.unwrap_err();
    let PortError::Permanent { what, fix } = &error else { panic!("{error:?}") };
    assert!(what.contains("ann, not Skep, opened pull request 2") && fix.contains("/pulls/2"), "{what}: {fix}");
    // Somebody who copies Skep's marker is somebody else as well.
    forgejo(&s).state().pulls[1].body = format!("Mine\n\n<!-- skep:change:{BRANCH} -->");
    assert!(matches!(try_ensure(&s, &head, true).await, Err(PortError::Permanent { .. })));
    // The same account without Skep's marker is a person who uses the token's account.
    forgejo(&s).state().close_pull(foreign, "ann");
    let by_hand = forgejo(&s).state().open_pull(LOGIN, BRANCH, REPO, head.as_str());
    assert!(matches!(try_ensure(&s, &head, true).await, Err(PortError::Permanent { .. })));
    forgejo(&s).state().close_pull(by_hand, "ann");
    let number = try_ensure(&s, &head, true).await.unwrap();
    assert!(number.0 > by_hand);
}

#[tokio::test]
async fn a_lost_answer_leads_to_one_pull_request_one_comment_and_one_merge() {
    for fault in [Fault::CutAfter, Fault::BadGatewayAfter] {
        let s = Subject::forgejo().await;
        let base = s.world.base().await;
        let head = s.push(T1, BRANCH, &base).await;
        forgejo(&s).state().fail("POST /api/v1/repos/my-org/calc/pulls", fault.clone());
        forgejo(&s).state().stale_lists = 3;
        let number = patiently(|| try_ensure(&s, &head, false)).await;
        assert_eq!(forgejo(&s).state().pulls.len(), 1, "{fault:?}");

        forgejo(&s).state().fail("POST /api/v1/repos/my-org/calc/issues", fault.clone());
        forgejo(&s).state().stale_lists = 2;
        patiently(|| s.forge().ensure_comment(&s.world.repo, number, "skep:1:2", "Hello")).await;
        assert_eq!(forgejo(&s).state().comments.len(), 1, "{fault:?}");

        forgejo(&s).state().fail("/merge", fault.clone());
        let landing = patiently(|| s.forge().land(&s.world.repo, number, &head, &base)).await;
        assert_eq!(landing, Landing::Landed(Sha(forgejo(&s).head("main").unwrap())));
        assert_eq!(forgejo(&s).state().merges, 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_rate_limit_is_obeyed_until_it_ends() {
    let open = Open::new().await;
    open.forgejo().state().fail("GET /api", Fault::Answer(429, vec![("retry-after", "2".to_owned())], String::new()));
    let observe = || open.subject.forge().observe(&open.subject.world.repo, open.number);
    let error = observe().await.unwrap_err();
    assert!(matches!(error, PortError::Transient { after: Some(after), .. } if after.as_secs() <= 2), "{error:?}");
    let before = open.forgejo().state().requests.len();
    let error = observe().await.unwrap_err();
    let PortError::Transient { after: Some(wait), .. } = error else { panic!("{error:?}") };
    assert_eq!(open.forgejo().state().requests.len(), before, "nothing is sent meanwhile");
    tokio::time::sleep(wait).await;
    observe().await.unwrap();
}

#[tokio::test]
async fn a_push_during_the_merge_is_never_merged() {
    let open = Open::new().await;
    // The pull request still shows the old head, as it does for a moment after a push.
    let moved = open.forgejo().push(BRANCH, &[("late", "l")]);
    let landing = open.land().await.unwrap();
    assert!(matches!(landing, Landing::Stale(_)), "{landing:?}");
    open.forgejo().state().fail("/merge", Fault::Answer(409, Vec::new(), r#"{"message": "head out of date"}"#.into()));
    let at_moved = Sha(moved);
    let land = open.subject.forge().land(&open.subject.world.repo, open.number, &at_moved, &open.base).await;
    assert_eq!(land.unwrap(), Landing::Stale("head out of date".to_owned()));
    assert_eq!((open.forgejo().state().merges, open.forgejo().head("main")), (0, Some(open.base.0.clone())));
}

#[tokio::test]
async fn merging_uses_what_the_repository_allows() {
    let open = Open::new().await;
    open.forgejo().state().forbidden_methods = ["merge", "squash", "rebase", "rebase-merge"].into();
    assert_eq!(open.land().await.unwrap(), Landing::Landed(open.head.clone()), "a fast-forward keeps the commit");

    let open = Open::new().await;
    open.forgejo().state().forbidden_methods = ["merge", "rebase"].into();
    let Landing::Landed(landed) = open.land().await.unwrap() else { panic!() };
    let parents = git(&open.forgejo().bare(), &["rev-list", "--parents", "-n1", landed.as_str()]);
    assert_eq!(parents.split_whitespace().count(), 2, "a squash has one parent");

    // A configured method that is not allowed is a person's decision.
    let forgejo = Forgejo::start();
    forgejo.push("main", &[("a", "a")]);
    forgejo.state().forbidden_methods = ["rebase"].into();
    let settings = Settings { merge_method: Some(MergeMethod::Rebase), ..forgejo.settings() };
    let open = Open::of(Subject::forgejo_with(forgejo, settings).await).await;
    let error = open.land().await.unwrap_err();
    assert!(error.to_string().contains("rebase is not allowed"), "{error}");
    assert_eq!(open.forgejo().state().merges, 0);
}

#[tokio::test]
async fn protection_is_reported_and_a_person_may_merge_first() {
    let open = Open::new().await;
    open.forgejo().state().protected = Some("Does not have enough approvals");
    let error = open.land().await.unwrap_err();
    let PortError::Permanent { what, fix } = &error else { panic!("{error:?}") };
    assert!(what.contains("enough approvals") && fix.contains("protection"), "{what}: {fix}");
    // The forge has not computed yet whether it can be merged.
    open.forgejo().state().protected = Some("Please try again later");
    assert!(matches!(open.land().await, Err(PortError::Transient { .. })));
    open.forgejo().state().protected = None;
    open.land().await.unwrap();
    let merged = open.forgejo().state().pulls[0].merged.clone().unwrap();
    assert_eq!(open.land().await.unwrap(), Landing::Landed(Sha(merged.0.clone())));
    open.forgejo().state().pulls[0].merged = Some((merged.0.clone(), "bob".to_owned()));
    let observed = open.subject.observe(open.number).await;
    assert_eq!(observed.state, ChangeState::Merged { sha: Sha(merged.0), by: Principal::from("forge:bob") });
}

#[tokio::test]
async fn only_people_who_may_write_steer_even_if_their_permissions_are_hidden() {
    for is_admin in [true, false] {
        let open = Open::new().await;
        let head = open.head.as_str();
        {
            let mut state = open.forgejo().state();
            if !is_admin {
                state.lacks.insert("admin");
            }
            state.review(open.number.0, "eve", "APPROVED", head);
            state.review(open.number.0, "Ghost", "APPROVED", head);
            state.review(open.number.0, "ann", "APPROVED", head);
            state.review(open.number.0, "ann", "COMMENTED", head);
            state.review(open.number.0, "bob", "APPROVED", &"4".repeat(40));
            for by in ["eve", "forgejo-actions", LOGIN, "bob"] {
                state.comment(open.number.0, by, "UNBLOCK #b1 yes");
            }
            for (context, result) in [("old", "failure"), ("old", "success"), ("skip", "skipped"), ("warn", "warning")]
            {
                state.status(head, context, result);
            }
        }
        let observed = open.subject.observe(open.number).await;
        assert_eq!(observed.approved_by, [Principal::from("forge:ann")]);
        let unblocks: Vec<&str> = observed.unblocks.iter().map(|u| u.by.as_str()).collect();
        assert_eq!(unblocks, ["forge:bob"], "the account of the token is not a collaborator here");
        let statuses: Vec<(&str, StatusState)> = observed.statuses.iter().map(|(c, s)| (c.as_str(), *s)).collect();
        let expected = [("old", StatusState::Success), ("skip", StatusState::Success), ("warn", StatusState::Failure)];
        assert_eq!(statuses, expected);
    }
}

#[tokio::test]
async fn a_dismissed_verdict_does_not_count() {
    let open = Open::new().await;
    let head = open.head.as_str();
    open.forgejo().state().review(open.number.0, "ann", "APPROVED", head);
    open.forgejo().state().review(open.number.0, "ann", "DISMISSED", head);
    let observed = open.subject.observe(open.number).await;
    assert!(observed.approved_by.is_empty() && observed.change_requests.is_empty(), "{observed:?}");
}

#[tokio::test]
async fn required_statuses_may_be_patterns() {
    let open = Open::new().await;
    open.forgejo().state().required = vec!["CI / *", "deploy", "skep/checks"];
    let required = || async { open.subject.observe(open.number).await.required.into_iter().collect::<Vec<_>>() };
    assert_eq!(required().await, ["CI / *", "deploy"]);
    open.forgejo().state().status(open.head.as_str(), "CI / test (pull_request)", "pending");
    assert_eq!(required().await, ["CI / test (pull_request)", "deploy"]);
}

#[tokio::test]
async fn lists_are_whole_even_if_the_server_gives_small_pages() {
    let open = Open::new().await;
    open.forgejo().state().max_page = 2;
    for n in 0..7 {
        open.forgejo().state().status(open.head.as_str(), &format!("ci-{n}"), "success");
        open.forgejo().state().open_pull("eve", &format!("other-{n}"), REPO, open.head.as_str());
    }
    assert_eq!(open.subject.observe(open.number).await.statuses.len(), 7);
    assert_eq!(try_ensure(&open.subject, &open.head, false).await.unwrap(), open.number);
}

#[tokio::test]
async fn a_failed_job_has_its_log_where_the_version_has_it() {
    let open = Open::new().await;
    {
        let mut state = open.forgejo().state();
        let job = state.job(open.head.as_str(), "test", 1, "completed", Some("failure"));
        let noise = "2026-01-01T10:00:00.0000000Z ok\n".repeat(400_000);
        job.log = Some(format!("{noise}2026-01-01T10:00:01.0000000Z FAILED tests/a.py::b\n"));
        let page = format!("/{REPO}/actions/runs/{}/jobs/0", job.run);
        state.status(open.head.as_str(), "CI / test (push)", "failure");
        state.statuses.last_mut().unwrap().page = page;
    }
    let inspect = || async {
        let checks = ["CI / test (push)".to_owned()];
        let repo = &open.subject.world.repo;
        let found = open.subject.forge().inspect_ci(repo, open.number, &open.head, &open.base, &checks).await;
        found.unwrap().remove(0)
    };
    let failure = inspect().await;
    let JobLog::Read { tail, failures } = &failure.log else { panic!("{failure:?}") };
    assert!(tail.ends_with("ok\nFAILED tests/a.py::b") && !tail.contains("2026"), "{tail}");
    assert_eq!(failures, &["FAILED tests/a.py::b"]);
    assert!(failure.url.starts_with(&open.forgejo().url) && failure.url.contains("/actions/runs/"), "{}", failure.url);
    open.forgejo().state().is_old = true;
    let JobLog::Missing { why } = inspect().await.log else { panic!() };
    assert!(why.contains("this version of Forgejo does not offer logs"), "{why}");
}

#[tokio::test]
async fn a_thread_is_answered_once_and_on_the_pull_request_of_an_old_version() {
    for is_old in [false, true] {
        let open = Open::new().await;
        open.forgejo().state().is_old = is_old;
        let threads = {
            let mut state = open.forgejo().state();
            let comments = [("src/a.rs", 3, "Unclear."), ("src/a.rs", 3, "And wrong."), ("src/b.rs", 9, "Why?")];
            state.review_with(open.number.0, "bob", "CHANGES_REQUESTED", open.head.as_str(), "", &comments)
        };
        let requests = open.subject.observe(open.number).await.change_requests;
        let found: Vec<u64> = requests[0].comments.iter().map(|comment| comment.thread).collect();
        assert_eq!(found, [threads[0], threads[0], threads[2]], "comments on one line are one thread");
        for _ in 0..2 {
            let repo = &open.subject.world.repo;
            let reply = open.subject.forge().ensure_reply(repo, open.number, threads[2], "skep:1:2", "Done in abc.");
            reply.await.unwrap();
        }
        let state = open.forgejo().state();
        let own = state.review_comments.iter().filter(|comment| comment.by == LOGIN);
        let answers: Vec<_> = own.map(|c| (c.path.as_str(), c.line, c.body.as_str())).collect();
        let comments: Vec<&str> = state.comments.iter().map(|comment| comment.body.as_str()).collect();
        match is_old {
            false => {
                assert_eq!(answers, [("src/b.rs", Some(9), "Done in abc.\n\n<!-- skep:1:2 -->")]);
                assert!(comments.is_empty());
            }
            true => {
                assert!(answers.is_empty());
                assert_eq!(comments, ["On `src/b.rs`, line 9:\n\nDone in abc.\n\n<!-- skep:1:2 -->"]);
            }
        }
    }
}

#[tokio::test]
async fn what_a_person_can_fix_is_a_permanent_error_that_says_how() {
    let open = Open::new().await;
    open.forgejo().state().archived = true;
    let error = try_ensure(&open.subject, &open.head, true).await.unwrap_err();
    assert!(error.fix().contains("unarchive"), "{error}: {}", error.fix());
    open.forgejo().state().archived = false;
    open.forgejo().state().fail("GET /api", Fault::Answer(307, Vec::new(), String::new()));
    let error = try_ensure(&open.subject, &open.head, true).await.unwrap_err();
    assert!(error.to_string().contains("renamed") && error.fix().contains("skep project add"), "{error}");
    let forge = ForgejoForge::new(ForgeName("code".to_owned()), open.forgejo().settings(), None).unwrap();
    open.forgejo().private_file("token", "revoked-token");
    let error = forge.credential(&open.subject.world.repo.origin).await.unwrap_err();
    assert!(error.fix().contains("create a new one at"), "{error}: {}", error.fix());
}

#[tokio::test]
async fn a_token_that_was_replaced_is_used_at_once() {
    let open = Open::new().await;
    let forge = ForgejoForge::new(ForgeName("code".to_owned()), open.forgejo().settings(), None).unwrap();
    open.forgejo().private_file("token", "old-token-a8d1");
    let url = &open.subject.world.repo.origin;
    forge.credential(url).await.unwrap_err();
    open.forgejo().private_file("token", TOKEN);
    let credential = forge.credential(url).await.unwrap().unwrap();
    assert_eq!((credential.username.as_str(), credential.password.expose()), (LOGIN, TOKEN));
    assert!(forge.credential("https://example.org/my-org/calc.git").await.unwrap().is_none());
}

async fn tested(forgejo: &Forgejo, repo: &str) -> Vec<PermissionTest> {
    test(ForgeName("code".to_owned()), forgejo.settings(), None, RepoName::parse(repo)).await.unwrap()
}

#[tokio::test]
async fn each_missing_permission_is_named_and_nothing_changes() {
    let forgejo = Forgejo::start();
    forgejo.push("main", &[("a", "a")]);
    assert!(tested(&forgejo, REPO).await.iter().all(|row| row.granted));
    for (lack, permission, optional, hint) in [
        ("write:issue", "write:issue", false, "/user/settings/applications"),
        ("write:repository", "write:repository", false, "/user/settings/applications"),
        ("write", "collaborator: write", false, "/settings/collaboration"),
        ("admin", "collaborator: administrator", true, "can be assigned"),
    ] {
        forgejo.state().lacks = [lack].into();
        let rows = tested(&forgejo, REPO).await;
        let row = rows.iter().find(|row| row.permission == permission).unwrap();
        assert!(!row.granted && row.optional == optional && row.detail.contains(hint), "{lack}: {row:?}");
    }
    forgejo.state().lacks = ["merge"].into();
    forgejo.state().protected = Some("Does not have enough approvals");
    let rows = tested(&forgejo, REPO).await;
    let row = rows.iter().find(|row| row.permission == "merge to main").unwrap();
    assert!(!row.granted && row.detail.contains("whitelist"), "{row:?}");
    forgejo.state().is_old = true;
    assert!(tested(&forgejo, REPO).await.iter().any(|row| row.permission == "logs of Actions" && !row.granted));
    let rows = tested(&forgejo, "my-org/unknown").await;
    assert!(rows.last().unwrap().detail.contains("does not exist"), "{rows:?}");
    let state = forgejo.state();
    assert_eq!((state.pulls.len(), state.comments.len(), state.statuses.len()), (0, 0, 0));
}
