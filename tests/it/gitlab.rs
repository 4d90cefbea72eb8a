//! What only GitLab has: drafts by title, approvals of versions, merge settings of the project, quick actions, jobs.

use crate::forges_contract::Subject;
use crate::git_world::{BRANCH, T1, git};
use crate::support::gitlab::{Fault, GitLab, LOGIN, REPO, TOKEN};
use serde_json::json;
use skep::adapters::forge::gitlab::{GitLabForge, test};
use skep::adapters::forge::permission::PermissionTest;
use skep::adapters::forge::settings::{GitLab as Settings, MergeMethod, RepoName};
use skep::domain::{ChangeNumber, ChangeState, ForgeName, JobLog, Principal, Sha, StatusState, WorkflowRun};
use skep::ports::forge::{ChangeText, Landing};
use skep::ports::{ForgeIssues, GitCredentials, PortError, PortResult};
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
        Open::of(Subject::gitlab().await).await
    }

    async fn of(subject: Subject) -> Open {
        let base = subject.world.base().await;
        let head = subject.push(T1, BRANCH, &base).await;
        let number = subject.ensure(BRANCH, &head, false, None).await;
        Open { subject, base, head, number }
    }

    fn gitlab(&self) -> &GitLab {
        gitlab(&self.subject)
    }

    fn issues(&self) -> &dyn ForgeIssues {
        &self.subject.gitlab.as_ref().unwrap().1
    }

    async fn land(&self) -> PortResult<Landing> {
        self.subject.forge().land(&self.subject.world.repo, self.number, &self.head, &self.base).await
    }
}

fn gitlab(subject: &Subject) -> &GitLab {
    &subject.gitlab.as_ref().unwrap().0
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
async fn a_draft_is_a_title_that_starts_with_draft() {
    let s = Subject::gitlab().await;
    let base = s.world.base().await;
    let head = s.push(T1, BRANCH, &base).await;
    let title = || gitlab(&s).state().pulls[0].title.clone();
    let number = try_ensure(&s, &head, true).await.unwrap();
    assert_eq!(title(), "Draft: A thing");
    let refused = s.forge().land(&s.world.repo, number, &head, &base).await.unwrap_err();
    assert!(refused.to_string().contains("draft_status") && refused.fix().contains("ready"), "{refused}");
    for draft in [false, true, false] {
        assert_eq!(try_ensure(&s, &head, draft).await.unwrap(), number);
        assert_eq!(title(), if draft { "Draft: A thing" } else { "A thing" });
    }
    let before = gitlab(&s).state().requests.len();
    try_ensure(&s, &head, false).await.unwrap();
    let state = gitlab(&s).state();
    assert!(state.requests[before..].iter().all(|request| request.starts_with("GET")), "nothing is left to write");
}

#[tokio::test]
async fn a_foreign_merge_request_with_the_same_branch_is_never_adopted() {
    let s = Subject::gitlab().await;
    let base = s.world.base().await;
    let head = s.push(T1, BRANCH, &base).await;
    // One from a fork has the same branch name and is none of Skep's business.
    gitlab(&s).state().open_pull("eve", BRANCH, "eve/calc", &"3".repeat(40));
    let foreign = gitlab(&s).state().open_pull("ann", BRANCH, REPO, head.as_str());
    let error = try_ensure(&s, &head, true).await.unwrap_err();
    let PortError::Permanent { what, fix } = &error else { panic!("{error:?}") };
    let told = what.contains(&format!("ann, not Skep, opened merge request {foreign}"));
    assert!(told && fix.contains(&format!("/merge_requests/{foreign}")), "{what}: {fix}");
    // Somebody who copies Skep's marker is somebody else as well.
    gitlab(&s).state().pulls[1].body = "Mine\n\n<!-- skep:change:skep%2Fa-thing-1 -->".to_owned();
    assert!(matches!(try_ensure(&s, &head, true).await, Err(PortError::Permanent { .. })));
    // The same account without Skep's marker is a person who uses the token's account.
    gitlab(&s).state().close_pull(foreign, "ann");
    let by_hand = gitlab(&s).state().open_pull(LOGIN, BRANCH, REPO, head.as_str());
    assert!(matches!(try_ensure(&s, &head, true).await, Err(PortError::Permanent { .. })));
    gitlab(&s).state().close_pull(by_hand, "ann");
    let number = try_ensure(&s, &head, true).await.unwrap();
    assert!(number.0 > by_hand);
}

#[tokio::test]
async fn a_lost_answer_leads_to_one_merge_request_one_comment_and_one_merge() {
    for fault in [Fault::CutAfter, Fault::BadGatewayAfter] {
        let s = Subject::gitlab().await;
        let base = s.world.base().await;
        let head = s.push(T1, BRANCH, &base).await;
        gitlab(&s).state().fail("POST /api/v4/projects/my-org%2Fcalc/merge_requests", fault.clone());
        gitlab(&s).state().stale_lists = 3;
        let number = patiently(|| try_ensure(&s, &head, false)).await;
        assert_eq!(gitlab(&s).state().pulls.len(), 1, "{fault:?}");

        gitlab(&s).state().fail("POST /api/v4/projects/my-org%2Fcalc/merge_requests", fault.clone());
        gitlab(&s).state().stale_lists = 2;
        patiently(|| s.forge().ensure_comment(&s.world.repo, number, "skep:1:2", "Hello")).await;
        assert_eq!(gitlab(&s).state().comments.len(), 1, "{fault:?}");

        gitlab(&s).state().fail("PUT /api/v4/projects/my-org%2Fcalc/merge_requests", fault.clone());
        let landing = patiently(|| s.forge().land(&s.world.repo, number, &head, &base)).await;
        assert_eq!(landing, Landing::Landed(Sha(gitlab(&s).head("main").unwrap())));
        assert_eq!(gitlab(&s).state().merges, 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_rate_limit_is_obeyed_until_it_ends() {
    let open = Open::new().await;
    let headers = vec![("retry-after", "2".to_owned()), ("ratelimit-remaining", "0".to_owned())];
    open.gitlab().state().fail("GET /api", Fault::Answer(429, headers, "Retry later\n".to_owned()));
    let observe = || open.subject.forge().observe(&open.subject.world.repo, open.number);
    let error = observe().await.unwrap_err();
    assert!(matches!(error, PortError::Transient { after: Some(after), .. } if after.as_secs() <= 2), "{error:?}");
    let before = open.gitlab().state().requests.len();
    let error = observe().await.unwrap_err();
    let PortError::Transient { after: Some(wait), .. } = error else { panic!("{error:?}") };
    assert_eq!(open.gitlab().state().requests.len(), before, "nothing is sent meanwhile");
    tokio::time::sleep(wait).await;
    observe().await.unwrap();
}

#[tokio::test]
async fn a_push_during_the_merge_is_never_merged() {
    let open = Open::new().await;
    open.gitlab().push(BRANCH, &[("late", "l")]);
    let landing = open.land().await.unwrap();
    assert!(matches!(landing, Landing::Stale(_)), "{landing:?}");
    // GitLab itself compares the head as well: the merge request showed the old one until a moment ago.
    let told = json!({ "iid": open.number.0, "web_url": "x", "state": "opened", "title": "A thing",
        "source_branch": BRANCH, "target_branch": "main", "target_project_id": 5, "updated_at": "2026-01-01T00:00:00Z",
        "sha": open.head });
    open.gitlab()
        .state()
        .fail("GET /api/v4/projects/my-org%2Fcalc/merge_requests/", Fault::Answer(200, Vec::new(), told.to_string()));
    let Landing::Stale(why) = open.land().await.unwrap() else { panic!() };
    assert!(why.contains("SHA does not match HEAD"), "{why}");
    assert_eq!((open.gitlab().state().merges, open.gitlab().head("main")), (0, Some(open.base.0.clone())));
}

#[tokio::test]
async fn merging_follows_the_projects_settings() {
    // A fast-forward keeps the commit.
    let open = Open::new().await;
    open.gitlab().state().forbidden_methods = ["merge-commit"].into();
    assert_eq!(open.land().await.unwrap(), Landing::Landed(open.head.clone()));
    let observed = open.subject.observe(open.number).await;
    assert!(matches!(&observed.state, ChangeState::Merged { sha, .. } if *sha == open.head), "{:?}", observed.state);

    // A project that demands to squash.
    let open = Open::new().await;
    open.gitlab().state().forbidden_methods = ["merge"].into();
    let Landing::Landed(landed) = open.land().await.unwrap() else { panic!() };
    let parents = git(&open.gitlab().bare(), &["rev-list", "--parents", "-n1", landed.as_str()]);
    assert_eq!(parents.split_whitespace().count(), 2, "a squash has one parent");

    // A configured method that the project forbids is a person's decision.
    for (method, forbidden) in [(MergeMethod::Squash, "squash"), (MergeMethod::Merge, "merge")] {
        let gitlab = GitLab::start();
        gitlab.push("main", &[("a", "a")]);
        gitlab.state().forbidden_methods = [forbidden].into();
        let settings = Settings { merge_method: Some(method), ..gitlab.settings() };
        let open = Open::of(Subject::gitlab_with(gitlab, settings).await).await;
        let error = open.land().await.unwrap_err();
        assert!(error.fix().contains("forges.gitlab.merge_method"), "{error}: {}", error.fix());
        assert_eq!(open.gitlab().state().merges, 0);
    }

    let open = Open::new().await;
    open.gitlab().state().lacks = ["merging without a train"].into();
    let error = open.land().await.unwrap_err();
    assert!(error.to_string().contains("merge trains") && error.fix().contains("train"), "{error}");
}

#[tokio::test]
async fn what_keeps_gitlab_from_merging_is_named_and_a_person_may_merge_first() {
    let open = Open::new().await;
    for (status, fix) in [
        ("not_approved", "approval rules"),
        ("discussions_not_resolved", "resolve its threads"),
        ("ci_must_pass", "pipeline that succeeds"),
        ("something_new", "what GitLab asks for"),
    ] {
        open.gitlab().state().protected = Some(status);
        let error = open.land().await.unwrap_err();
        assert!(matches!(error, PortError::Permanent { .. }), "{error:?}");
        assert!(error.to_string().contains(status) && error.fix().contains(fix), "{error}: {}", error.fix());
    }
    for status in ["checking", "ci_still_running"] {
        open.gitlab().state().protected = Some(status);
        assert!(matches!(open.land().await, Err(PortError::Transient { .. })), "{status}");
    }
    for status in ["conflict", "need_rebase"] {
        open.gitlab().state().protected = Some(status);
        assert!(matches!(open.land().await, Ok(Landing::Stale(_))), "{status}");
    }
    open.gitlab().state().protected = None;
    open.gitlab().state().lacks = ["merge"].into();
    let error = open.land().await.unwrap_err();
    assert!(error.to_string().contains("skep-bot may not merge to \"main\""), "{error}");
    assert!(error.fix().contains("/-/settings/repository"), "{}", error.fix());
    open.gitlab().state().lacks.clear();
    open.land().await.unwrap();
    let merged = open.gitlab().state().pulls[0].merged.clone().unwrap();
    assert_eq!(open.land().await.unwrap(), Landing::Landed(Sha(merged.0.clone())));
    open.gitlab().state().pulls[0].merged = Some((merged.0.clone(), "bob".to_owned()));
    let observed = open.subject.observe(open.number).await;
    assert_eq!(observed.state, ChangeState::Merged { sha: Sha(merged.0), by: Principal::from("forge:bob") });
}

#[tokio::test]
async fn only_people_who_may_write_steer() {
    let open = Open::new().await;
    let head = open.head.as_str();
    {
        let mut state = open.gitlab().state();
        for by in ["eve", "ghost", "project_5_bot_3f9a", "ann-2"] {
            state.review(open.number.0, by, "APPROVED", head);
        }
        state.collaborators.insert("project_5_bot_3f9a".to_owned(), "write");
        state.review(open.number.0, "ann", "APPROVED", head);
        state.review(open.number.0, "bob", "APPROVED", &"4".repeat(40));
        for by in ["eve", "project_5_bot_3f9a", LOGIN, "bob"] {
            state.comment(open.number.0, by, "UNBLOCK #b1 yes");
        }
        for (context, result) in [("old", "failure"), ("old", "success"), ("skip", "skipped"), ("stop", "canceled")] {
            state.status(head, context, result);
        }
    }
    let observed = open.subject.observe(open.number).await;
    assert_eq!(observed.approved_by, [Principal::from("forge:ann")]);
    let unblocks: Vec<&str> = observed.unblocks.iter().map(|u| u.by.as_str()).collect();
    assert_eq!(unblocks, ["forge:bob"], "the account of the token is not a member here");
    let statuses: Vec<(&str, StatusState)> = observed.statuses.iter().map(|(c, s)| (c.as_str(), *s)).collect();
    let expected = [("old", StatusState::Success), ("skip", StatusState::Success), ("stop", StatusState::Failure)];
    assert_eq!(statuses, expected);
}

#[tokio::test]
async fn an_approval_is_about_the_version_on_which_it_was_given() {
    let open = Open::new().await;
    open.gitlab().state().review(open.number.0, "ann", "APPROVED", open.head.as_str());
    assert_eq!(open.subject.observe(open.number).await.approved_by.len(), 1);
    // GitLab itself keeps the approval after a push, unless the project says otherwise.
    let pushed = open.gitlab().push(BRANCH, &[("more", "m")]);
    assert!(open.subject.observe(open.number).await.approved_by.is_empty());
    open.gitlab().state().review(open.number.0, "ann", "APPROVED", &pushed);
    assert_eq!(open.subject.observe(open.number).await.approved_by, [Principal::from("forge:ann")]);
    // One that is taken back does not count, nor the request that it replaced.
    open.gitlab().state().review(open.number.0, "ann", "DISMISSED", &pushed);
    let observed = open.subject.observe(open.number).await;
    assert!(observed.approved_by.is_empty() && observed.change_requests.is_empty(), "{observed:?}");
}

#[tokio::test]
async fn a_project_that_demands_a_pipeline_waits_for_the_first_one() {
    let open = Open::new().await;
    let observe = || async {
        let observed = open.subject.observe(open.number).await;
        (observed.required.into_iter().collect::<Vec<_>>(), observed.statuses.len())
    };
    assert_eq!(observe().await, (vec![], 0));
    open.gitlab().state().required = vec!["pipelines must succeed"];
    assert_eq!(observe().await, (vec!["pipeline".to_owned()], 0));
    open.gitlab().state().status(open.head.as_str(), "skep/checks", "success");
    assert_eq!(observe().await, (vec!["pipeline".to_owned()], 0), "Skep's own status is none");
    open.gitlab().state().status(open.head.as_str(), "test", "running");
    assert_eq!(observe().await, (vec![], 1));
}

#[tokio::test]
async fn lists_are_whole_even_if_the_server_gives_small_pages() {
    let open = Open::new().await;
    open.gitlab().state().max_page = 2;
    for n in 0..7 {
        open.gitlab().state().status(open.head.as_str(), &format!("ci-{n}"), "success");
        open.gitlab().state().comment(open.number.0, "eve", "Hello");
        open.gitlab().state().open_pull("eve", BRANCH, "eve/calc", &"3".repeat(40));
    }
    open.gitlab().state().comment(open.number.0, "ann", "UNBLOCK #b1 yes");
    let observed = open.subject.observe(open.number).await;
    assert_eq!((observed.statuses.len(), observed.unblocks.len()), (7, 1));
    assert_eq!(try_ensure(&open.subject, &open.head, false).await.unwrap(), open.number);
}

#[tokio::test]
async fn a_failed_job_has_its_log_and_is_run_again_once() {
    let open = Open::new().await;
    let id = {
        let mut state = open.gitlab().state();
        let job = state.job(open.head.as_str(), "test", 1, "completed", Some("failure"));
        let noise = "2026-01-01T10:00:00.000000Z 01O ok\n".repeat(400_000);
        job.log = Some(format!("{noise}2026-01-01T10:00:01.000000Z 01O FAILED tests/a.py::b\n"));
        job.id
    };
    let inspect = || async {
        let (repo, checks) = (&open.subject.world.repo, ["test".to_owned()]);
        let found = open.subject.forge().inspect_ci(repo, open.number, &open.head, &open.base, &checks).await;
        found.unwrap().remove(0)
    };
    let failure = inspect().await;
    let JobLog::Read { tail, failures } = &failure.log else { panic!("{failure:?}") };
    assert!(tail.ends_with("ok\nFAILED tests/a.py::b") && !tail.contains("2026"), "{tail}");
    assert_eq!(failures, &["FAILED tests/a.py::b"]);
    assert!(failure.url.ends_with(&format!("/-/jobs/{id}")), "{}", failure.url);
    assert_eq!((failure.workflow_run, failure.passed_too), (Some(WorkflowRun { id, attempt: 1 }), false));
    // The answer to the first try is lost.
    open.gitlab().state().fail("/retry", Fault::CutAfter);
    let runs = failure.workflow_run.into_iter().collect();
    patiently(|| open.subject.forge().rerun_ci(&open.subject.world.repo, &runs)).await;
    assert_eq!(open.gitlab().state().check_runs.len(), 2, "one more job");
    assert_eq!(open.subject.observe(open.number).await.statuses["test"], StatusState::Pending);
    open.gitlab().state().complete(open.head.as_str(), "success");
    assert!(inspect().await.passed_too);
}

#[tokio::test]
async fn a_thread_is_answered_once() {
    let open = Open::new().await;
    let threads = {
        let mut state = open.gitlab().state();
        let comments = [("src/a.rs", 3, "Unclear."), ("src/b.rs", 9, "Why?")];
        state.review_with(open.number.0, "bob", "CHANGES_REQUESTED", open.head.as_str(), "Please see below.", &comments)
    };
    let requests = open.subject.observe(open.number).await.change_requests;
    assert_eq!((requests.len(), requests[0].text.as_str()), (1, "Please see below."));
    let found: Vec<_> = requests[0].comments.iter().map(|c| (c.thread, c.path.as_str(), c.line)).collect();
    assert_eq!(found, [(threads[0], "src/a.rs", 3), (threads[1], "src/b.rs", 9)]);
    open.gitlab().state().fail("/discussions/", Fault::CutAfter);
    let repo = &open.subject.world.repo;
    let reply = || open.subject.forge().ensure_reply(repo, open.number, threads[1], "skep:1:2", "Done in abc.");
    for _ in 0..2 {
        patiently(reply).await;
    }
    let gone = open.subject.forge().ensure_reply(repo, open.number, 9_999, "skep:1:3", "Done.").await;
    gone.unwrap();
    let state = open.gitlab().state();
    let own = state.review_comments.iter().filter(|comment| comment.by == LOGIN);
    let answers: Vec<_> = own.map(|c| (c.reply_to, c.path.as_str(), c.body.as_str())).collect();
    assert_eq!(answers, [(Some(threads[1]), "src/b.rs", "Done in abc.\n\n<!-- skep:1:2 -->")]);
}

#[tokio::test]
async fn text_of_others_is_never_a_quick_action_and_an_unchanged_text_is_not_written_again() {
    let open = Open::new().await;
    let (repo, issues) = (&open.subject.world.repo, open.issues());
    let issue = open.gitlab().state().open_issue("ann", "Say hello", "");
    let quoted = "They wrote:\r\n/close\n/merge now\n/usr/bin/make";
    for _ in 0..3 {
        issues.put_comment(repo, ChangeNumber(issue), "skep:issue:1:run", quoted).await.unwrap();
        issues.put_issue(repo, "skep:proposal:1", "A proposal", quoted).await.unwrap();
        let text = ChangeText { body: quoted, ..text(&open.head, false) };
        open.subject.forge().ensure_change(repo, text).await.unwrap();
    }
    let state = open.gitlab().state();
    let stored = [&state.comments_on(issue)[0].body, &state.issues[1].body, &state.pulls[0].body];
    for body in stored {
        assert!(body.starts_with("They wrote:\n\\/close\n\\/merge now\n/usr/bin/make\n\n<!-- skep:"), "{body}");
    }
    assert_eq!((state.comments.len(), state.issues.len()), (1, 2));
    let puts: Vec<&String> = state.requests.iter().filter(|line| line.starts_with("PUT")).collect();
    assert_eq!(puts.len(), 1, "the description once: {puts:?}");
}

#[tokio::test]
async fn an_issue_and_a_merge_request_may_have_the_same_number() {
    let open = Open::new().await;
    let (repo, number) = (&open.subject.world.repo, open.number.0);
    // GitLab counts both from 1.
    let issue = open.gitlab().state().open_issue("ann", "Say hello", "");
    open.gitlab().state().issue(issue).number = number;
    let found = open.issues().issue(repo, number).await.unwrap().unwrap();
    assert_eq!((found.title.as_str(), found.pull), ("Say hello", None));
    open.gitlab().state().labels.insert((number, "unblocked".to_owned()));
    let listed = open.issues().list_labelled(repo, "unblocked").await.unwrap();
    let keys: Vec<(u64, bool)> = listed.iter().map(|found| (found.number, found.is_pull)).collect();
    let [(of_issue, false), (of_merge_request, true)] = keys[..] else { panic!("{keys:?}") };
    assert_eq!(of_issue, number);
    let found = open.issues().issue(repo, of_merge_request).await.unwrap().unwrap();
    assert_eq!((found.number, found.pull), (number, Some((BRANCH.to_owned(), open.head.clone()))));
    open.issues().put_comment(repo, ChangeNumber(of_merge_request), "skep:a", "To the merge request").await.unwrap();
    open.issues().put_comment(repo, ChangeNumber(of_issue), "skep:b", "To the issue").await.unwrap();
    let state = open.gitlab().state();
    let posted: Vec<&str> = state.requests.iter().filter_map(|line| line.strip_prefix("POST ")).collect();
    let path = |kind: &str| format!("/api/v4/projects/my-org%2Fcalc/{kind}/{number}/notes");
    assert_eq!(posted[posted.len() - 2..], [path("merge_requests"), path("issues")]);
}

#[tokio::test]
async fn what_a_person_can_fix_is_a_permanent_error_that_says_how() {
    let s = Subject::gitlab().await;
    let base = s.world.base().await;
    let head = s.push(T1, BRANCH, &base).await;
    gitlab(&s).state().archived = true;
    let error = try_ensure(&s, &head, true).await.unwrap_err();
    assert!(error.fix().contains("unarchive"), "{error}: {}", error.fix());
    gitlab(&s).state().archived = false;
    gitlab(&s).state().fail("GET /api", Fault::Answer(301, Vec::new(), String::new()));
    let error = try_ensure(&s, &head, true).await.unwrap_err();
    assert!(error.to_string().contains("renamed") && error.fix().contains("skep project add"), "{error}");
    gitlab(&s).state().lacks = ["api"].into();
    let error = try_ensure(&s, &head, true).await.unwrap_err();
    assert!(error.fix().contains("the scope api at "), "{error}: {}", error.fix());
    gitlab(&s).state().lacks = ["write"].into();
    let error = try_ensure(&s, &head, true).await.unwrap_err();
    assert!(error.fix().contains("role Developer"), "{error}: {}", error.fix());
    gitlab(&s).state().lacks.clear();
    let forge = GitLabForge::new(ForgeName("code".to_owned()), gitlab(&s).settings(), None).unwrap();
    gitlab(&s).private_file("token", "revoked-token");
    let error = forge.issue(&s.world.repo, 1).await.unwrap_err();
    assert!(error.fix().contains("create a new one at"), "{error}: {}", error.fix());
    // A token that was replaced is used at once.
    gitlab(&s).private_file("token", TOKEN);
    assert!(forge.issue(&s.world.repo, 1).await.unwrap().is_none());
    let credential = forge.credential(&s.world.repo.origin).await.unwrap().unwrap();
    assert_eq!((credential.username.as_str(), credential.password.expose()), ("oauth2", TOKEN));
    assert!(forge.credential("https://example.org/my-org/calc.git").await.unwrap().is_none());
}

async fn tested(gitlab: &GitLab, repo: &str) -> Vec<PermissionTest> {
    test(ForgeName("code".to_owned()), gitlab.settings(), None, RepoName::parse_nested(repo)).await.unwrap()
}

#[tokio::test]
async fn each_missing_permission_is_named_and_nothing_changes() {
    let gitlab = GitLab::start();
    gitlab.push("main", &[("a", "a")]);
    assert!(tested(&gitlab, REPO).await.iter().all(|row| row.granted));
    for (lack, permission, hint) in [
        ("api", "api", "/-/user_settings/personal_access_tokens"),
        ("write", "role Developer", "/-/project_members"),
        ("merge", "merge to main", "/-/settings/repository"),
        ("merging without a train", "merging without a merge train", "merge trains"),
    ] {
        gitlab.state().lacks = [lack].into();
        let rows = tested(&gitlab, REPO).await;
        let missing: Vec<&PermissionTest> = rows.iter().filter(|row| !row.granted).collect();
        assert_eq!(missing.len(), 1, "{lack}: {missing:?}");
        assert!(missing[0].permission == permission && missing[0].detail.contains(hint), "{lack}: {missing:?}");
    }
    gitlab.state().lacks.clear();
    let rows = tested(&gitlab, "my-org/team/unknown").await;
    assert!(rows.last().unwrap().detail.contains("my-org/team/unknown does not exist"), "{rows:?}");
    gitlab.state().archived = true;
    assert!(tested(&gitlab, REPO).await.iter().any(|row| !row.granted && row.detail.contains("unarchive")));
    let state = gitlab.state();
    assert!(state.requests.iter().all(|line| line.starts_with("GET")), "{:?}", state.requests);
}
