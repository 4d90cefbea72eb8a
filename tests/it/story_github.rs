//! A whole run on GitHub through the real binary, killed at the points where GitHub is written to.

use crate::support::cli::{Cli, ended};
use crate::support::github::{Fault, GitHub, TOKEN};

const GOAL: &str = "Say hello";
const SED: &str = "command: sed -i s/helo/hello/ greet.txt";
const CHECK: &str = "grep -q hello greet.txt";

/// A machine whose configuration names the double.
fn machine(github: &GitHub) -> Cli {
    let token = github.private_file("token", TOKEN);
    machine_with(github, &format!("token_file = \"{}\"", token.display()))
}

/// A machine whose configuration names the double, with this credential.
fn machine_with(github: &GitHub, credential: &str) -> Cli {
    let cli = Cli::new();
    let config = format!(
        "[policy]\nbase_checks = \"off\"\n\n[forges.github]\nkind = \"github\"\nurl = \"{0}\"\napi_url = \"{0}\"\n{credential}\n",
        github.url
    );
    std::fs::create_dir_all(cli.path("data")).unwrap();
    std::fs::write(cli.path("data/skep.toml"), config).unwrap();
    cli
}

fn started() -> GitHub {
    let github = GitHub::start();
    github.push("main", &[("greet.txt", "helo\n")]);
    github
}

const RUN: &[&str] = &["run", "--repo", "my-org/calc", "--goal", GOAL, "--engine", SED, "--check", CHECK, "--yes"];

/// Asserts that the run left exactly one merged pull request, and each comment once.
#[track_caller]
fn assert_merged_once(github: &GitHub) {
    let state = github.state();
    assert_eq!((state.pulls.len(), state.merges), (1, 1), "{:?}", state.pulls);
    let pull = &state.pulls[0];
    assert!(!pull.open && !pull.draft && pull.merged.is_some(), "{pull:?}");
    let mut bodies: Vec<&str> = state.comments.iter().map(|c| c.body.lines().next_back().unwrap()).collect();
    let all = bodies.len();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), all, "a comment was written twice: {bodies:?}");
    assert!(state.leaks.is_empty(), "{:?}", state.leaks);
    let shown = crate::git_world::git(&github.bare(), &["show", "main:greet.txt"]);
    assert_eq!(shown, "hello");
}

#[test]
fn a_goal_becomes_a_merged_pull_request() {
    let github = started();
    let cli = machine(&github);
    cli.run(&["forge", "list"]).exits_with(0).prints("github");
    cli.run(&["forge", "test", "github", "my-org/calc"]).exits_with(0).prints("contents: write").prints("works");
    cli.run(&["doctor"]).prints("forge github");
    cli.run(RUN).exits_with(0).prints("delivered as ").prints(&format!("calc#1 at {}/my-org/calc/pull/1", github.url));
    assert_merged_once(&github);
    let view = cli.show(&cli.newest());
    assert_eq!(view["outcome"]["delivered"]["sha"].as_str(), github.head("main").as_deref());
    {
        let state = github.state();
        let pull = &state.pulls[0];
        assert_eq!(pull.title, GOAL);
        for part in ["## Goal", "## Plan", "## Artifacts", "## How to unblock", "## Metadata", "- trace: `"] {
            assert!(pull.body.contains(part), "{part}: {}", pull.body);
        }
        let contexts: Vec<&str> = state.statuses.iter().map(|s| s.context.as_str()).collect();
        assert!(contexts.contains(&"skep/checks") && contexts.contains(&"skep/review"), "{contexts:?}");
    }
    // People use GitHub's own pages; Skep's are for the local forge.
    cli.run(&["change", "show", "calc#1"]).one_error("has pages of its own", "forge's own pages");
    cli.run(&["change", "list"]).exits_with(0).prints("No changes yet");
    // The clone URL is the same project.
    let url = format!("{}/my-org/calc", github.url);
    let projects = cli.run(&["project", "list", "--json"]).exits_with(0).json();
    assert_eq!(projects["projects"].as_array().unwrap().len(), 1, "{projects}");
    assert_eq!(projects["projects"][0]["repo"], format!("{url}.git"));
    assert_eq!(projects["projects"][0]["forge"], "github");
}

#[test]
fn a_run_that_is_killed_while_it_writes_to_github_ends_the_same() {
    for fault in ["before-change", "after-change", "before-comment", "after-comment", "before-land", "after-land-push"]
    {
        let github = started();
        let cli = machine(&github);
        let mut killed = cli.skep(RUN);
        killed.env("SKEP_FAULT", fault);
        let killed = ended(killed);
        assert_eq!(killed.code, -1, "{fault} is reached:\n{}\n{}", killed.out, killed.err);
        cli.run(RUN).exits_with(0);
        assert_merged_once(&github);
    }
}

#[test]
fn a_run_goes_on_over_lost_answers_and_refusals() {
    let github = started();
    let cli = machine(&github);
    {
        let mut state = github.state();
        state.fail("POST /repos/my-org/calc/pulls", Fault::CutAfter);
        state.fail("POST /repos/my-org/calc/issues", Fault::BadGatewayAfter);
        state.fail("PUT /repos/my-org/calc/pulls", Fault::CutAfter);
        state.fail("GET /repos/my-org/calc/pulls", Fault::Answer(503, Vec::new(), String::new()));
    }
    cli.run(RUN).exits_with(0);
    assert_merged_once(&github);
}

#[test]
fn a_missing_permission_is_a_question_that_names_it() {
    let github = started();
    let cli = machine(&github);
    github.state().lacks.insert("pull_requests");
    cli.run(RUN).exits_with(4).prints("pull_requests=write at ");
    github.state().lacks.clear();
    let asked = cli.run(&["unblock", &cli.newest()]).exits_with(4).prints("skep diff ");
    assert!(!asked.out.contains("skep change show"), "{}", asked.out);
    cli.run(&["approve", &cli.newest()]).exits_with(0);
    assert_merged_once(&github);
}

#[test]
fn a_token_comes_from_a_variable_the_vault_or_gh() {
    let github = started();
    let tests = ["forge", "test", "github", "my-org/calc"];
    let cli = machine_with(&github, "token_env = \"A_TOKEN\"");
    let mut command = cli.skep(&tests);
    command.env("A_TOKEN", TOKEN);
    ended(command).exits_with(0).prints("acts as skep-bot");
    cli.run(&tests).one_error("the variable A_TOKEN is not set", "set A_TOKEN");

    let cli = machine_with(&github, "token_secret = \"GITHUB_TOKEN\"");
    cli.run(&tests).one_error("GITHUB_TOKEN", "skep secret set GITHUB_TOKEN");
    let mut command = cli.skep(&["secret", "set", "GITHUB_TOKEN"]);
    command.stdin(std::fs::File::open(github.private_file("token", TOKEN)).unwrap());
    ended(command).exits_with(0);
    cli.run(&tests).exits_with(0).prints("acts as skep-bot");

    let cli = machine_with(&github, "token_gh = true");
    let host = github.url.trim_start_matches("http://");
    let gh = format!("#!/bin/sh\ntest \"$*\" = 'auth token --hostname {host}' && echo {TOKEN}\n");
    std::fs::create_dir(cli.path("bin")).unwrap();
    std::fs::write(cli.path("bin/gh"), gh).unwrap();
    std::fs::set_permissions(cli.path("bin/gh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = cli.skep(&tests);
    command.env("PATH", format!("{}:{}", cli.path("bin").display(), std::env::var("PATH").unwrap()));
    ended(command).exits_with(0).prints("acts as skep-bot");
}

#[test]
fn a_repository_without_its_forge_is_refused_with_the_fix() {
    let cli = Cli::new();
    cli.run(&["run", "--repo", "my-org/calc", "--goal", "x", "--engine", SED])
        .exits_with(2)
        .one_error("no forge is configured", "docs/github.md");
    cli.run(&["forge", "list"]).exits_with(0).prints("No forge is configured");
    cli.run(&["forge", "test", "github"]).exits_with(2).one_error("there is no forge github", "skep forge list");
}
