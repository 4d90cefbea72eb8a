//! Whole runs on GitLab through the real binary: killed where they write to GitLab, over lost answers, and without a
//! permission.

use crate::git_world::git;
use crate::intake::Kind;
use crate::story_intake::{machine, started};
use crate::support::cli::{Cli, ended};
use crate::support::forge_server::{Fault, ForgeServer, REPO, TOKEN};

const RUN: &[&str] = &[
    "run",
    "--repo",
    "my-org/calc",
    "--goal",
    "Say hello",
    "--engine",
    "command: sed -i s/helo/hello/ greet.txt",
    "--check",
    "grep -q hello greet.txt",
    "--yes",
];

/// Asserts that exactly one merge request was merged, and each comment was written once.
#[track_caller]
fn assert_merged_once(gitlab: &ForgeServer) {
    let state = gitlab.state();
    assert_eq!((state.pulls.len(), state.merges), (1, 1), "{:?}", state.pulls);
    let pull = &state.pulls[0];
    assert!(!pull.open && pull.merged.is_some() && !pull.title.starts_with("Draft"), "{pull:?}");
    let mut marks: Vec<&str> = state.comments.iter().map(|c| c.body.lines().next_back().unwrap()).collect();
    let all = marks.len();
    marks.sort_unstable();
    marks.dedup();
    assert_eq!(marks.len(), all, "a comment was written twice: {marks:?}");
    assert!(state.leaks.is_empty(), "{:?}", state.leaks);
    drop(state);
    assert!(git(&gitlab.bare(), &["show", "main:greet.txt"]).starts_with("hello"));
}

#[test]
fn a_goal_becomes_a_merged_merge_request() {
    let gitlab = started(Kind::GitLab);
    let cli = machine(Kind::GitLab, &gitlab, "");
    cli.run(&["forge", "list"]).exits_with(0).prints("gitlab");
    cli.run(&["forge", "test", "gitlab", "my-org/calc"]).exits_with(0).prints("role Developer").prints("works");
    cli.run(&["doctor"]).prints("forge gitlab");
    let address = format!("calc#1 at {}/{REPO}/-/merge_requests/1", gitlab.url);
    cli.run(RUN).exits_with(0).prints("delivered as ").prints(&address);
    assert_merged_once(&gitlab);
    let view = cli.show(&cli.newest());
    assert_eq!(view["outcome"]["delivered"]["sha"].as_str(), gitlab.head("main").as_deref());
    let state = gitlab.state();
    assert_eq!(state.pulls[0].title, "Say hello");
    assert!(state.pulls[0].body.contains("## How to unblock"), "{}", state.pulls[0].body);
    let contexts: Vec<&str> = state.statuses.iter().map(|s| s.context.as_str()).collect();
    assert!(contexts.contains(&"skep/checks") && contexts.contains(&"skep/review"), "{contexts:?}");
}

#[test]
fn a_forge_is_added_to_the_configuration_once_it_works() {
    let gitlab = started(Kind::GitLab);
    let cli = Cli::new();
    let file = |name: &str, text: &str| gitlab.private_file(name, text).display().to_string();
    let (good, bad) = (file("token", TOKEN), file("bad", "another"));
    let add = |token: &str| {
        let args = ["forge", "add", "gitlab", REPO, "--url", gitlab.url.as_str(), "--label", "skep"];
        cli.run(&[&args[..], &["--token-file", token]].concat())
    };
    let refused = add(&bad);
    assert!(refused.code != 0 && refused.err.contains("create a new one"), "{}", refused.err);
    assert!(!cli.path("data/skep.toml").exists(), "nothing was written");
    add(&good).exits_with(0).prints("Added [forges.gitlab]").prints("role Developer").prints("works");
    let text = std::fs::read_to_string(cli.path("data/skep.toml")).unwrap();
    assert!(text.contains("kind = \"gitlab\"") && text.contains(&format!("token_file = {good:?}")), "{text}");
    // With GitLab, a name may have more than two parts; another project cannot be seen.
    cli.run(&["forge", "test", "gitlab", "my-org/team/calc"]).exits_with(3).prints("does not exist");
}

#[test]
fn a_run_that_is_killed_while_it_writes_to_gitlab_ends_the_same() {
    for fault in ["before-change", "after-change", "before-comment", "after-comment", "before-land", "after-land-push"]
    {
        let gitlab = started(Kind::GitLab);
        let cli = machine(Kind::GitLab, &gitlab, "");
        let mut killed = cli.skep(RUN);
        killed.env("SKEP_FAULT", fault);
        let killed = ended(killed);
        assert_eq!(killed.code, -1, "{fault} is reached:\n{}\n{}", killed.out, killed.err);
        cli.run(RUN).exits_with(0);
        assert_merged_once(&gitlab);
    }
}

#[test]
fn a_run_goes_on_over_lost_answers_and_refusals() {
    let gitlab = started(Kind::GitLab);
    let cli = machine(Kind::GitLab, &gitlab, "");
    {
        let mut state = gitlab.state();
        state.fail("POST /api/v4/projects/my-org%2Fcalc/merge_requests", Fault::CutAfter);
        state.fail("/notes", Fault::Answer(503, Vec::new(), String::new()));
        state.fail("POST /api/v4/projects/my-org%2Fcalc/merge_requests/1/notes", Fault::BadGatewayAfter);
        state.fail("merge_requests/1/merge", Fault::CutAfter);
        state.fail("POST /api/v4/projects/my-org%2Fcalc/statuses", Fault::BadGatewayAfter);
    }
    cli.run(RUN).exits_with(0);
    assert!(gitlab.state().faults.is_empty(), "{:?}", gitlab.state().faults);
    assert_merged_once(&gitlab);
}

#[test]
fn a_missing_scope_is_a_question_that_names_it() {
    let gitlab = started(Kind::GitLab);
    let cli = machine(Kind::GitLab, &gitlab, "");
    gitlab.state().lacks.insert("api");
    cli.run(&["forge", "test", "gitlab", "my-org/calc"]).exits_with(3).prints("MISSING").prints("user_settings");
    cli.run(RUN).exits_with(4).prints("the scope api at ");
    gitlab.state().lacks.clear();
    cli.run(&["unblock", &cli.newest()]).exits_with(4).prints("skep diff ");
    cli.run(&["approve", &cli.newest()]).exits_with(0);
    assert_merged_once(&gitlab);
}
