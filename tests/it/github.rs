//! What only GitHub has: foreign pull requests, lost answers, rate limits, permissions, credentials.

use crate::forges_contract::Subject;
use crate::git_world::{BRANCH, T1, git};
use crate::support::github::{Fault, GitHub, Issue, LOGIN, REPO, TOKEN};
use skep::adapters::forge::github::{GitHubForge, test};
use skep::adapters::forge::settings::{MergeMethod, RepoName};
use skep::domain::{ChangeNumber, ChangeState, ForgeName, Principal, Sha, StatusState};
use skep::ports::forge::{ChangeText, Landing};
use skep::ports::{ForgeIssues, GitCredentials, PortError, PortResult, Workspaces};
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
        let subject = Subject::github().await;
        let base = subject.world.base().await;
        let head = subject.push(T1, BRANCH, &base).await;
        let number = subject.ensure(BRANCH, &head, false, None).await;
        Open { subject, base, head, number }
    }

    fn github(&self) -> &GitHub {
        github(&self.subject)
    }

    async fn land(&self) -> PortResult<Landing> {
        self.subject.forge().land(&self.subject.world.repo, self.number, &self.head, &self.base).await
    }
}

fn github(subject: &Subject) -> &GitHub {
    &subject.github.as_ref().unwrap().0
}

async fn try_ensure(s: &Subject, head: &Sha) -> PortResult<ChangeNumber> {
    let text = ChangeText {
        after: None,
        branch: BRANCH,
        base_branch: "main",
        head,
        draft: true,
        title: "A thing",
        body: "Because.",
    };
    Ok(s.forge().ensure_change(&s.world.repo, text).await?.number)
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
async fn a_foreign_pull_request_with_the_same_branch_is_never_adopted() {
    let s = Subject::github().await;
    let base = s.world.base().await;
    let head = s.push(T1, BRANCH, &base).await;
    // One from a fork has the same branch name and is none of Skep's business.
    github(&s).state().open_pull("eve", BRANCH, "eve/calc", &"3".repeat(40));
    let foreign = github(&s).state().open_pull("ann", BRANCH, REPO, head.as_str());
    let error = try_ensure(&s, &head).await.unwrap_err();
    let PortError::Permanent { what, fix } = &error else { panic!("{error:?}") };
    assert!(what.contains("ann, not Skep, opened pull request 2") && fix.contains("/pull/2"), "{what}: {fix}");
    assert_eq!(github(&s).state().pulls.len(), 2);
    // The same account without Skep's marker is a person who uses the token's account.
    github(&s).state().close_pull(foreign, "ann");
    let by_hand = github(&s).state().open_pull(LOGIN, BRANCH, REPO, head.as_str());
    assert!(matches!(try_ensure(&s, &head).await, Err(PortError::Permanent { .. })));
    github(&s).state().close_pull(by_hand, "ann");
    let number = try_ensure(&s, &head).await.unwrap();
    assert!(number.0 > by_hand);
}

#[tokio::test]
async fn a_lost_answer_leads_to_one_pull_request_one_comment_and_one_merge() {
    for fault in [Fault::CutAfter, Fault::BadGatewayAfter] {
        let s = Subject::github().await;
        let base = s.world.base().await;
        let head = s.push(T1, BRANCH, &base).await;
        github(&s).state().fail("POST /repos/my-org/calc/pulls", fault.clone());
        // GitHub's lists are old, too.
        github(&s).state().stale_lists = 3;
        let number = patiently(|| try_ensure(&s, &head)).await;
        assert_eq!(github(&s).state().pulls.len(), 1, "{fault:?}");
        let ready = || {
            s.forge().ensure_change(
                &s.world.repo,
                ChangeText {
                    after: None,
                    branch: BRANCH,
                    base_branch: "main",
                    head: &head,
                    draft: false,
                    title: "A thing",
                    body: "Because.",
                },
            )
        };
        patiently(ready).await;

        github(&s).state().fail("POST /repos/my-org/calc/issues", fault.clone());
        github(&s).state().stale_lists = 2;
        patiently(|| s.forge().ensure_comment(&s.world.repo, number, "skep:1:2", "Hello")).await;
        assert_eq!(github(&s).state().comments.len(), 1, "{fault:?}");

        github(&s).state().fail("PUT /repos/my-org/calc/pulls", fault.clone());
        let landing = patiently(|| s.forge().land(&s.world.repo, number, &head, &base)).await;
        let landed = Sha(github(&s).head("main").unwrap());
        assert_eq!(landing, Landing::Landed(landed));
        assert_eq!(github(&s).state().merges, 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_rate_limit_is_obeyed_until_it_ends() {
    let open = Open::new().await;
    let headers = vec![("retry-after", "2".to_owned())];
    open.github().state().fail("GET /repos", Fault::Answer(429, headers, String::new()));
    let observe = || open.subject.forge().observe(&open.subject.world.repo, open.number);
    let error = observe().await.unwrap_err();
    assert!(matches!(error, PortError::Transient { after: Some(after), .. } if after.as_secs() <= 2), "{error:?}");
    let before = open.github().state().requests.len();
    let error = observe().await.unwrap_err();
    let PortError::Transient { after: Some(wait), .. } = error else { panic!("{error:?}") };
    assert_eq!(open.github().state().requests.len(), before, "nothing is sent meanwhile");
    tokio::time::sleep(wait).await;
    observe().await.unwrap();
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let open = Open::new().await;
    open.subject.observe(open.number).await;
    let counted = || {
        let state = open.github().state();
        (state.requests.len(), state.unchanged)
    };
    let (sent, unchanged) = counted();
    open.subject.observe(open.number).await;
    let (sent_after, unchanged_after) = counted();
    assert!(sent_after > sent);
    assert_eq!(unchanged_after - unchanged, sent_after - sent, "every answer of a second observation is a 304");
    open.github().state().status(open.head.as_str(), "ci", "success");
    assert_eq!(open.subject.observe(open.number).await.statuses["ci"], StatusState::Success);
}

#[tokio::test]
async fn only_people_who_may_write_steer_and_the_worse_of_two_results_counts() {
    let open = Open::new().await;
    let head = open.head.as_str();
    {
        let mut state = open.github().state();
        // Eve may only read, the bot is none of the people, and a comment gives no verdict.
        state.review(open.number.0, "eve", "APPROVED", head);
        state.review(open.number.0, "ci[bot]", "APPROVED", head);
        state.review(open.number.0, "ann", "APPROVED", head);
        state.review(open.number.0, "ann", "COMMENTED", head);
        state.review(open.number.0, "bob", "APPROVED", &"4".repeat(40));
        for by in ["eve", "ci[bot]", LOGIN, "bob"] {
            state.comment(open.number.0, by, "UNBLOCK #b1 yes");
        }
        state.status(head, "build", "success");
        state.check_run(head, "build", "completed", Some("failure"));
        state.check_run(head, "lint", "completed", Some("skipped"));
        state.check_run(head, "deploy", "in_progress", None);
        state.status(head, "old", "failure");
        state.status(head, "old", "success");
        state.status(head, "skep/checks", "failure");
    }
    let observed = open.subject.observe(open.number).await;
    assert_eq!(observed.approved_by, [Principal::from("forge:ann")]);
    let unblocks: Vec<&str> = observed.unblocks.iter().map(|u| u.by.as_str()).collect();
    assert_eq!(unblocks, ["forge:bob"]);
    let statuses: Vec<(&str, StatusState)> = observed.statuses.iter().map(|(c, s)| (c.as_str(), *s)).collect();
    let expected = [
        ("build", StatusState::Failure),
        ("deploy", StatusState::Pending),
        ("lint", StatusState::Success),
        ("old", StatusState::Success),
    ];
    assert_eq!(statuses, expected);
}

#[tokio::test]
async fn merging_uses_what_the_repository_allows() {
    let open = Open::new().await;
    open.github().state().forbidden_methods = ["merge", "rebase"].into();
    let Landing::Landed(landed) = open.land().await.unwrap() else { panic!() };
    let parents = git(&open.github().bare(), &["rev-list", "--parents", "-n1", landed.as_str()]);
    assert_eq!(parents.split_whitespace().count(), 2, "a squash has one parent");

    // A configured method that is not allowed is a person's decision.
    let github = GitHub::start();
    github.push("main", &[("a", "a")]);
    github.state().forbidden_methods = ["rebase"].into();
    let settings = github.settings(github.token_account());
    let settings = skep::adapters::forge::settings::GitHub { merge_method: Some(MergeMethod::Rebase), ..settings };
    let s = Subject::with(github, settings).await;
    let base = s.world.base().await;
    let head = s.push(T1, BRANCH, &base).await;
    let number = s.ensure(BRANCH, &head, false, None).await;
    let error = s.forge().land(&s.world.repo, number, &head, &base).await.unwrap_err();
    assert!(error.to_string().contains("Rebase merges are not allowed"), "{error}");
    assert_eq!(github_merges(&s), 0);
}

fn github_merges(s: &Subject) -> usize {
    github(s).state().merges
}

#[tokio::test]
async fn protection_is_reported_and_a_person_may_merge_first() {
    let open = Open::new().await;
    open.github().state().protected = Some("At least 1 approving review is required by reviewers with write access.");
    let error = open.land().await.unwrap_err();
    let PortError::Permanent { what, fix } = &error else { panic!("{error:?}") };
    assert!(what.contains("approving review") && fix.contains("protection"), "{what}: {fix}");
    open.github().state().protected = None;
    open.land().await.unwrap();
    let merged = open.github().state().pulls[0].merged.clone().unwrap();
    assert_eq!(open.land().await.unwrap(), Landing::Landed(Sha(merged.0.clone())));
    open.github().state().pulls[0].merged = Some((merged.0.clone(), "bob".to_owned()));
    let observed = open.subject.observe(open.number).await;
    assert_eq!(observed.state, ChangeState::Merged { sha: Sha(merged.0), by: Principal::from("forge:bob") });
}

#[tokio::test]
async fn a_repository_without_drafts_gets_a_ready_pull_request() {
    let s = Subject::github().await;
    let base = s.world.base().await;
    let head = s.push(T1, BRANCH, &base).await;
    github(&s).state().no_drafts = true;
    let number = try_ensure(&s, &head).await.unwrap();
    let drafts: Vec<bool> = github(&s).state().pulls.iter().map(|p| p.draft).collect();
    assert_eq!((number.0, drafts), (1, vec![false]));
}

#[tokio::test]
async fn refusals_say_what_to_grant_and_where() {
    let open = Open::new().await;
    let comment = || open.subject.forge().ensure_comment(&open.subject.world.repo, open.number, "skep:1:9", "x");
    open.github().state().lacks.insert("pull_requests");
    let error = comment().await.unwrap_err();
    assert!(error.fix().contains("pull_requests=write at "), "{}", error.fix());
    open.github().state().lacks.clear();
    open.github().state().archived = true;
    let error = comment().await.unwrap_err();
    assert!(error.fix().contains("unarchive"), "{}", error.fix());
    open.github().state().archived = false;
    let renamed = skep::ports::Repo {
        origin: format!("{}/my-org/old-name.git", open.github().url),
        ..open.subject.world.repo.clone()
    };
    let error = open.subject.forge().observe(&renamed, open.number).await.unwrap_err();
    assert!(error.to_string().contains("renamed") && error.fix().contains("project add"), "{error}");
    // A check that the account may not read does not stop the run.
    open.github().state().lacks.insert("checks");
    open.subject.observe(open.number).await;
}

#[tokio::test]
async fn a_credential_is_never_visible_while_git_uses_it() {
    let open = Open::new().await;
    open.subject.world.work.fetch(&open.subject.world.repo, None).await.unwrap();
    let state = open.github().state();
    assert!(state.git_calls >= 4, "git was used");
    assert!(state.leaks.is_empty(), "{:?}", state.leaks);
    let grep =
        std::process::Command::new("grep").args(["-r", "-l", TOKEN]).arg(open.subject.world.data()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "", "no file of the data directory holds it");
}

#[tokio::test]
async fn git_without_access_names_the_credential() {
    let github = GitHub::start();
    github.push("main", &[("a", "a")]);
    let mut settings = github.settings(github.token_account());
    let wrong = github.private_file("wrong", "stand-in-token-wrong");
    settings.account =
        skep::adapters::forge::settings::Account::Token(skep::adapters::forge::settings::SecretSource::File(wrong));
    let s = Subject::with(github, settings).await;
    let error = s.world.work.fetch(&s.world.repo, None).await.unwrap_err();
    assert!(matches!(error, PortError::Permanent { .. }), "{error:?}");
    assert!(error.fix().contains("credential"), "{}", error.fix());
}

#[tokio::test]
async fn an_app_acts_with_short_lived_tokens_for_one_repository() {
    let github = GitHub::start();
    github.push("main", &[("a", "a")]);
    let settings = github.settings(github.app_account());
    let s = Subject::with(github, settings).await;
    let base = s.world.base().await;
    let head = s.push(T1, BRANCH, &base).await;
    let number = s.ensure(BRANCH, &head, false, None).await;
    {
        let state = self::github(&s).state();
        // One for git, one for the API: the forge of the workspaces is another one here.
        assert_eq!(state.minted.len(), 2);
        for minted in &state.minted {
            assert_eq!(minted.repositories, ["calc"]);
            assert_eq!(minted.permissions["checks"], "read");
            assert_eq!(minted.permissions["contents"], "write");
            assert!(!minted.permissions.contains_key("workflows"), "not granted, so not asked for");
        }
        assert!(state.leaks.is_empty(), "{:?}", state.leaks);
    }
    // A token that was revoked is replaced within the same call.
    self::github(&s).state().minted.iter_mut().for_each(|m| m.revoked = true);
    s.observe(number).await;
    assert_eq!(self::github(&s).state().minted.len(), 3);
    // One that expires soon is replaced before it is used.
    self::github(&s).state().token_secs = 120;
    self::github(&s).state().minted.iter_mut().for_each(|m| m.revoked = true);
    s.observe(number).await;
    let minted = self::github(&s).state().minted.len();
    s.observe(number).await;
    assert!(self::github(&s).state().minted.len() > minted);
    self::github(&s).state().token_secs = 3_600;
    let landing = s.forge().land(&s.world.repo, number, &head, &base).await.unwrap();
    assert!(matches!(landing, Landing::Landed(_)));
    let observed = s.observe(number).await;
    assert!(matches!(observed.state, ChangeState::Merged { by, .. } if by == Principal::skep()));
}

#[tokio::test]
async fn an_app_that_is_not_installed_says_so() {
    let github = GitHub::start();
    let forge = GitHubForge::new(ForgeName("work".to_owned()), github.settings(github.app_account()), None).unwrap();
    let error = forge.credential(&format!("{}/my-org/other.git", github.url)).await.unwrap_err();
    assert!(error.to_string().contains("not installed on my-org/other"), "{error}");
    let not_ours = forge.credential("https://example.org/my-org/other.git").await.unwrap();
    assert!(not_ours.is_none());
}

#[tokio::test]
async fn a_test_shows_each_permission_and_changes_nothing() {
    let github = GitHub::start();
    github.push("main", &[("a", "a")]);
    let settings = github.settings(github.token_account());
    let run = || test(ForgeName("github".to_owned()), settings.clone(), None, RepoName::parse(REPO));
    let missing = |rows: Vec<skep::adapters::forge::permission::PermissionTest>| -> Vec<String> {
        rows.into_iter().filter(|row| !row.granted).map(|row| row.permission).collect()
    };
    assert_eq!(missing(run().await.unwrap()), [""; 0]);
    for (lacks, permission) in [
        ("contents", "contents: write"),
        ("pull_requests", "pull_requests: write"),
        ("statuses", "statuses: write"),
        ("checks", "checks: read"),
    ] {
        github.state().lacks = [lacks].into();
        assert_eq!(missing(run().await.unwrap()), [permission]);
    }
    github.state().lacks.clear();
    let state = github.state();
    assert!(state.pulls.is_empty() && state.statuses.is_empty());
    drop(state);
    assert_eq!(git(&github.bare(), &["branch", "--list"]), "* main");
}

#[tokio::test]
async fn an_own_issue_is_written_once_and_updated() {
    let s = Subject::github().await;
    let issues: &dyn ForgeIssues = &s.github.as_ref().unwrap().1;
    let put = async |title: &str, text: &str| issues.put_issue(&s.world.repo, "skep:proposal:1", title, text).await;
    let first = put("One", "first").await.unwrap();
    assert!(first.is_open && first.url.contains("/issues/"), "{first:?}");
    assert_eq!(put("Two", "second").await.unwrap(), first);
    // A person's issue with the same marker is not Skep's.
    let foreign = Issue { by: "mallory".to_owned(), ..self::github(&s).state().issues[0].clone() };
    let before = self::github(&s).state().issues[0].body.clone();
    self::github(&s).state().issues.push(Issue { number: 99, ..foreign });
    assert_eq!(put("Two", "second").await.unwrap(), first);
    let other = issues.put_issue(&s.world.repo, "skep:proposal:2", "Other", "text").await.unwrap();
    assert_ne!(other.url, first.url);
    let written = self::github(&s).state().issues.clone();
    assert_eq!(written.len(), 3);
    assert!(written[0].title == "Two" && before.starts_with("second") && written[0].body == before);
    self::github(&s).state().issues[0].open = false;
    assert!(!put("Three", "third").await.unwrap().is_open, "a closed issue stays as it is");
    assert_eq!(self::github(&s).state().issues[0].title, "Two");
}
