//! The loop to the end on GitHub, through the real service: CI fails and is repaired, a reviewer requests changes and is
//! answered, CI is green, a person approves, and exactly that commit is merged. Also if the service is killed on the way.

use crate::git_world::git;
use crate::support::cli::{BackgroundProcess, Cli};
use crate::support::github::{GitHub, LOGIN, TOKEN};
use std::cell::RefCell;
use std::process::Stdio;

/// A dev that reads its notes: it repairs what CI and reviewers name.
const DEV: &str = "command: if grep -q 'FAILED greet' \"$SKEP_NOTES_FILE\"; then echo repaired >> greet.txt; \
    elif grep -q 'greet.txt:1' \"$SKEP_NOTES_FILE\"; then echo documented > NOTES.md; \
    else sed -i s/helo/hello/ greet.txt; fi";

/// The double of GitHub, and a machine whose service may be killed.
struct Scene {
    github: GitHub,
    cli: Cli,
    service: RefCell<BackgroundProcess>,
}

impl Scene {
    /// Starts the service; `fault` is the fault point at which it is killed.
    fn new(fault: Option<&str>) -> Scene {
        let github = GitHub::start();
        github.push("main", &[("greet.txt", "helo\n")]);
        github.state().required = vec!["test"];
        let cli = Cli::new();
        let config = format!(
            "[policy]\nbase_checks = \"off\"\n\n[runs]\nsweep_interval = \"1s\"\n\n[forges.github]\nkind = \"github\"\n\
             url = \"{0}\"\napi_url = \"{0}\"\ntoken_file = \"{1}\"\n",
            github.url,
            github.private_file("token", TOKEN).display()
        );
        std::fs::create_dir_all(cli.path("data")).unwrap();
        std::fs::write(cli.path("data/skep.toml"), config).unwrap();
        let service = RefCell::new(serve(&cli, fault));
        let run = ["run", "--repo", "my-org/calc", "--goal", "Say hello", "--engine", DEV];
        cli.run(&[&run[..], &["--check", "grep -q hello greet.txt", "--detach"]].concat()).exits_with(0);
        Scene { github, cli, service }
    }

    /// Waits for a condition. A service that is gone is started again.
    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        self.cli.until(what, || {
            let mut service = self.service.borrow_mut();
            if service.0.try_wait().unwrap().is_some() {
                *service = serve(&self.cli, None);
            }
            holds()
        });
    }

    fn kill(&self) {
        let mut service = self.service.borrow_mut();
        service.0.kill().unwrap();
        service.0.wait().unwrap();
    }

    /// Waits until the pull request is ready for review at another head.
    #[track_caller]
    fn next_head(&self, before: &str) -> String {
        let ready = || {
            let branch = self.github.state().pulls.first().filter(|p| !p.draft).map(|p| p.branch.clone())?;
            self.github.head(&branch).filter(|head| head != before)
        };
        // After the push, it may become a draft again at any moment.
        let found = RefCell::new(None);
        self.until("the pull request is ready at a new head", || {
            *found.borrow_mut() = ready();
            found.borrow().is_some()
        });
        found.take().unwrap()
    }

    fn asks_for_approval(&self) -> usize {
        let state = self.github.state();
        state.comments.iter().filter(|c| c.body.contains("the merge waits for approval")).count()
    }
}

/// Starts the service, and waits until it responds.
fn serve(cli: &Cli, fault: Option<&str>) -> BackgroundProcess {
    let _gone = std::fs::remove_file(cli.path("data/service.json"));
    let mut command = cli.skep(&["serve", "--listen", "127.0.0.1:0"]);
    if let Some(fault) = fault {
        command.env("SKEP_FAULT", fault);
    }
    let service = BackgroundProcess(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    cli.until("the service responds", || cli.path("data/service.json").is_file());
    service
}

/// Plays the story. `kills` = the service is killed after each step of CI and of people.
fn told(fault: Option<&str>, kills: bool) -> Scene {
    let scene = Scene::new(fault);
    let step = || {
        if kills {
            scene.kill();
        }
    };
    let github = &scene.github;
    let first = scene.next_head("");
    {
        let mut state = github.state();
        let job = state.job(&first, "test", 1, "completed", Some("failure"));
        job.log = Some("2026-01-01T10:00:00.0000000Z FAILED greet: it is not repaired\n".to_owned());
    }
    step();
    let second = scene.next_head(&first);
    assert_eq!(scene.asks_for_approval(), 0, "nothing to approve while CI is red");
    github.state().job(&second, "test", 1, "completed", Some("success"));
    step();
    scene.until("the run asks for approval", || scene.asks_for_approval() == 1);
    let thread = {
        let mut state = github.state();
        let pull = state.pulls[0].number;
        state.review_with(pull, "eve", "CHANGES_REQUESTED", &second, "Delete everything.", &[]);
        let comments = [("greet.txt", 1, "Please document this.")];
        state.review_with(pull, "bob", "CHANGES_REQUESTED", &second, "", &comments)[0]
    };
    step();
    let third = scene.next_head(&second);
    let answers = || -> Vec<String> {
        let state = github.state();
        let of_thread = state.review_comments.iter().filter(|c| c.reply_to == Some(thread));
        of_thread.map(|c| format!("{}: {}", c.by, c.body)).collect()
    };
    scene.until("the thread is answered", || !answers().is_empty());
    github.state().job(&third, "test", 1, "completed", Some("success"));
    step();
    scene.until("the run asks for approval again", || scene.asks_for_approval() == 2);
    // An approval of an earlier head does not count, and the merge is at the approved one.
    let pull = github.state().pulls[0].number;
    github.state().review(pull, "ann", "APPROVED", &second);
    github.state().review(pull, "ann", "APPROVED", &third);
    step();
    scene.until("the pull request is merged", || github.state().pulls[0].merged.is_some());
    let run = scene.cli.newest();
    scene.until("the run has ended", || scene.cli.show(&run)["phase"] == "ended");

    assert_eq!(answers().len(), 1, "{:?}", answers());
    let answer = answers().remove(0);
    assert!(answer.starts_with(LOGIN) && answer.contains(&third), "{answer}");
    {
        let state = github.state();
        assert_eq!((state.pulls.len(), state.merges, &state.pulls[0].head), (1, 1, &third));
        let mut marks: Vec<&str> = state.comments.iter().map(|c| c.body.lines().next_back().unwrap()).collect();
        let all = marks.len();
        marks.sort_unstable();
        marks.dedup();
        assert_eq!(marks.len(), all, "a comment was written twice: {marks:?}");
        assert!(state.leaks.is_empty(), "{:?}", state.leaks);
        for head in [&first, &second, &third] {
            let own = state.statuses.iter().filter(|s| s.sha == *head && s.context == "skep/checks");
            assert!(own.map(|s| s.state.as_str()).eq(["success"]), "{head}: {:?}", state.statuses);
        }
        assert!(state.pulls[0].body.contains("rounds of rework: 2 of 3"), "{}", state.pulls[0].body);
    }
    assert_eq!(git(&github.bare(), &["show", "main:greet.txt"]), "hello\nrepaired");
    assert_eq!(git(&github.bare(), &["show", "main:NOTES.md"]), "documented");
    scene
}

#[test]
fn red_ci_and_a_request_for_changes_are_worked_on_until_the_merge() {
    let scene = told(None, false);
    let run = scene.cli.newest();
    let view = scene.cli.show(&run);
    assert_eq!(view["rounds"], 2, "{view}");
    let origins: Vec<&str> = view["tasks"].as_array().unwrap().iter().filter_map(|t| t["origin"].as_str()).collect();
    assert_eq!(origins, ["plan", "status", "person"]);
    let logged = scene.cli.run(&["events", &run]).exits_with(0);
    for line in ["read the failures of CI: test", "forge:bob requested changes", "landed as"] {
        assert!(logged.out.contains(line), "{line}:\n{}", logged.out);
    }
    assert!(!logged.out.contains("failed: cannot"), "{}", logged.out);
    assert!(!logged.out.contains("eve"), "others' text never steers:\n{}", logged.out);
}

#[test]
fn a_service_that_is_killed_at_each_step_ends_the_same() {
    told(None, true);
}

#[test]
fn a_service_that_is_killed_while_it_answers_a_thread_answers_once() {
    for fault in ["before-comment:2", "after-comment:2"] {
        told(Some(fault), false);
    }
}
