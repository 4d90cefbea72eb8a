//! Runs on a repository that Skep may not write to: they push to a fork, and a maintainer merges.

use crate::intake::{Double, Kind};
use crate::story_intake::{machine, serve, started};
use crate::support::cli::{Cli, ended};
use crate::support::forge_server::{Fault, LOGIN, REPO, git};

const FORK: &str = "skep-bot/calc";
const KINDS: [Kind; 2] = [Kind::GitHub, Kind::Forgejo];
const SED: &str = "command: sed -i s/helo/hello/ greet.txt";
const CHECK: &str = "grep -q hello greet.txt";
const RUN: &[&str] = &["run", "--repo", REPO, "--goal", "Say hello", "--engine", SED, "--check", CHECK, "--yes"];

/// A repository of others, and a machine that uses forks of its account.
fn elsewhere(kind: Kind) -> (Double, Cli) {
    let forge = started(kind);
    forge.state().read_only = true;
    let cli = machine(kind, &forge, &format!("fork_owner = \"{LOGIN}\"\n"));
    (forge, cli)
}

/// Asserts that one pull request from one fork waits for its maintainer.
#[track_caller]
fn assert_waits(forge: &Double) {
    let state = forge.state();
    assert_eq!((state.pulls.len(), state.merges, state.forks.len()), (1, 0, 1), "{:?}", state.pulls);
    let pull = &state.pulls[0];
    assert!(pull.open && pull.head_repo == FORK && pull.by == LOGIN, "{pull:?}");
    assert!(state.leaks.is_empty(), "{:?}", state.leaks);
    let branches = crate::git_world::git(&forge.bare(), &["branch", "--list"]);
    assert!(!branches.contains("skep/"), "nothing is pushed to the repository itself: {branches}");
}

#[test]
fn a_run_without_write_access_opens_a_pull_request_from_a_fork_and_ends_when_a_maintainer_merges() {
    for kind in KINDS {
        let (forge, cli) = elsewhere(kind);
        let asked = cli.run(RUN).exits_with(4).prints("only a maintainer of my-org/calc can merge pull request");
        assert!(asked.out.contains("ask a maintainer to merge"), "{}", asked.out);
        assert_waits(&forge);
        assert_eq!(forge.state().fork_requests, 1, "{kind:?}");
        {
            let mut state = forge.state();
            let pull = state.pulls[0].clone();
            let merged = git::merge(&forge.bare(), &pull, "merge").expect("a merge");
            (state.pulls[0].open, state.pulls[0].merged) = (false, Some((merged, "ann".to_owned())));
        }
        let _service = serve(&cli, None);
        let run = cli.newest();
        cli.until("the run ends", || cli.show(&run)["outcome"]["delivered"].is_object());
        assert_eq!(crate::git_world::git(&forge.bare(), &["show", "main:greet.txt"]), "hello");
        // The next run uses the same fork.
        let engine = "command: sed -i s/hello/hallo/ greet.txt";
        let check = ["--engine", engine, "--check", "grep -q hallo greet.txt", "--yes"];
        cli.run(&[&["run", "--repo", REPO, "--goal", "In German"][..], &check[..]].concat()).exits_with(4);
        let state = forge.state();
        assert_eq!((state.fork_requests, state.pulls.len()), (1, 2), "{kind:?}");
    }
}

#[test]
fn a_fork_is_made_once_over_lost_answers_and_kills() {
    for kind in KINDS {
        for fault in [Fault::CutAfter, Fault::BadGatewayAfter] {
            let (forge, cli) = elsewhere(kind);
            forge.state().fail("/my-org/calc/forks", fault);
            cli.run(RUN).exits_with(4);
            assert_waits(&forge);
        }
        for point in skep::fault::FORK_POINTS {
            let (forge, cli) = elsewhere(kind);
            let mut killed = cli.skep(RUN);
            killed.env("SKEP_FAULT", point);
            assert_eq!(ended(killed).code, -1, "{point} is reached");
            cli.run(RUN).exits_with(4);
            assert_waits(&forge);
        }
    }
}

#[test]
fn another_repository_with_the_name_of_the_fork_is_never_used() {
    for kind in KINDS {
        let (forge, cli) = elsewhere(kind);
        forge.state().strangers.insert(FORK.to_owned());
        cli.run(RUN)
            .exits_with(4)
            .prints("skep-bot/calc exists and is not a fork of my-org/calc")
            .prints("rename or delete");
        {
            let mut state = forge.state();
            assert_eq!((state.fork_requests, state.pulls.len()), (0, 0), "{kind:?}");
            state.strangers.clear();
        }
        cli.run(&["unblock", &cli.newest()]).exits_with(4);
        cli.run(&["approve", &cli.newest()]).exits_with(4);
        assert_waits(&forge);
    }
}

#[test]
fn a_repository_that_skep_may_write_to_needs_no_fork() {
    for kind in KINDS {
        let (forge, cli) = elsewhere(kind);
        forge.state().read_only = false;
        cli.run(RUN).exits_with(0);
        let state = forge.state();
        assert_eq!((state.merges, state.fork_requests, state.forks.len()), (1, 0, 0), "{kind:?}");
    }
}
