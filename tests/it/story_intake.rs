//! The whole story through the real service: a labelled issue becomes a merged pull request and a closed issue, also if
//! the service is killed between any two of its steps.

use crate::intake::{Double, Kind, SECRET, comment_hook, signature};
use crate::support::cli::{BackgroundProcess, Cli};
use crate::support::forge_server::{ForgeServer, REPO, TOKEN};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SED: &str = "command: sed -i s/helo/hello/ greet.txt";

/// A machine whose configuration names the double.
pub fn machine(kind: Kind, forge: &ForgeServer, more: &str) -> Cli {
    let cli = Cli::new();
    let (token, secret) = (forge.private_file("token", TOKEN), forge.private_file("webhook", SECRET));
    let api_url = if kind == Kind::GitHub { format!("api_url = \"{}\"\n", forge.url) } else { String::new() };
    let config = format!(
        "[policy]\nbase_checks = \"off\"\n\n[runs]\nsweep_interval = \"1s\"\n\n[forges.{0}]\nkind = \"{0}\"\n\
         url = \"{1}\"\n{api_url}token_file = \"{2}\"\nwebhook_secret_file = \"{3}\"\nlabel = \"skep\"\n{more}",
        kind.name(),
        forge.url,
        token.display(),
        secret.display()
    );
    std::fs::create_dir_all(cli.path("data")).unwrap();
    std::fs::write(cli.path("data/skep.toml"), config).unwrap();
    cli
}

/// Adds the project, with the engine that develops.
pub fn add_project(cli: &Cli, engine: &str) {
    let check = ["--check", "grep -q hello greet.txt"];
    cli.run(&[&["project", "add", REPO, "--engine", engine][..], &check[..]].concat()).exits_with(0);
}

pub fn started(kind: Kind) -> Double {
    let forge = kind.start();
    forge.push("main", &[("greet.txt", "helo\n")]);
    forge
}

/// Sends a webhook as a forge does; returns the status, or `None` if nobody answers.
pub fn hook(cli: &Cli, kind: Kind, id: &str, event: &str, body: Value) -> Option<u16> {
    let service: Value = serde_json::from_str(&std::fs::read_to_string(cli.path("data/service.json")).ok()?).ok()?;
    let url = format!("http://{}/webhooks/{}", service["address"].as_str()?, kind.name());
    let body = kind.payload(event, body).to_string();
    skep::telemetry::install_crypto();
    let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
    let mut sent = client.post(url);
    for (name, value) in kind.headers(id, event, body.as_bytes(), Some(&signature(SECRET, body.as_bytes()))) {
        sent = sent.header(name, value);
    }
    sent.body(body).send().ok().map(|response| response.status().as_u16())
}

pub fn labelled(kind: Kind, issue: u64) -> Value {
    let label = json!({ "name": "skep" });
    match kind {
        Kind::GitHub => json!({ "action": "labeled", "issue": { "number": issue }, "label": label }),
        Kind::Forgejo => json!({ "action": "label_updated", "issue": { "number": issue, "labels": [label] } }),
        Kind::GitLab => json!({ "action": "update", "issue": { "number": issue }, "label": label }),
    }
}

fn asks_for_approval(forge: &ForgeServer, issue: u64) -> bool {
    forge.state().comments_on(issue).iter().any(|comment| comment.body.contains("/skep approve"))
}

/// Asserts what is left of the story.
#[track_caller]
fn assert_told(forge: &ForgeServer, issue: u64) {
    let mut state = forge.state();
    assert_eq!((state.pulls.len(), state.merges), (1, 1), "{:?}", state.pulls);
    assert!(!state.issue(issue).open);
    let mut marks: Vec<&str> = state.comments.iter().filter_map(|c| c.body.lines().next_back()).collect();
    marks.retain(|line| line.starts_with("<!-- skep:"));
    let all = marks.len();
    marks.sort_unstable();
    marks.dedup();
    assert_eq!(marks.len(), all, "a comment was written twice: {marks:?}");
    assert_eq!(crate::git_world::git(&forge.bare(), &["show", "main:greet.txt"]), "hello");
}

#[test]
fn a_labelled_issue_ends_merged_and_closed() {
    for kind in Kind::ALL {
        let forge = started(kind);
        let cli = machine(kind, &forge, "poll_interval = \"0s\"\n");
        add_project(&cli, SED);
        let issue = forge.state().open_issue("eve", "Say hello", "It says helo.");
        let _service = cli.serve();
        forge.state().label(issue, "ann", "skep");
        assert_eq!(hook(&cli, kind, "1", "issues", labelled(kind, issue)), Some(202));
        assert_eq!(hook(&cli, kind, "1", "issues", labelled(kind, issue)), Some(202));
        cli.until("the run asks on the issue", || asks_for_approval(&forge, issue));
        let pull = forge.state().pulls[0].number;
        let comment = forge.state().post_comment(pull, "ann", "/skep approve");
        let mut commented = comment_hook(pull, comment, "/skep approve");
        commented["is_pull"] = json!(true);
        assert_eq!(hook(&cli, kind, "2", "issue_comment", commented), Some(202));
        cli.until("the issue is closed", || !forge.state().issue(issue).open);
        assert_told(&forge, issue);
        let name = kind.name();
        let (labelled_event, commented_event) = match kind {
            Kind::GitHub | Kind::Forgejo => ("issues.label", "issue_comment.created"),
            Kind::GitLab => ("issue.update", "note.create"),
        };
        cli.run(&["forge", "deliveries", name]).exits_with(0).prints(labelled_event).prints("done");
        let listed = cli.run(&["forge", "deliveries", name, "--limit", "2", "--json"]).exits_with(0).json();
        let events: Vec<&str> = (0..2).filter_map(|n| listed["deliveries"][n]["event"].as_str()).collect();
        // Before the command is applied, the comments before it are read.
        assert_eq!(events, ["sweep.commented", commented_event]);
        cli.run(&["forge", "deliveries", "nowhere"]).exits_with(2);
    }
}

/// Starts the service, with a fault point at which it is killed.
pub fn serve(cli: &Cli, fault: Option<&str>) -> BackgroundProcess {
    let _gone = std::fs::remove_file(cli.path("data/service.json"));
    let mut command = cli.skep(&["serve", "--listen", "127.0.0.1:0"]);
    if let Some(fault) = fault {
        command.env("SKEP_FAULT", fault);
    }
    let null = std::process::Stdio::null;
    let service = BackgroundProcess(command.stdout(null()).stderr(null()).spawn().unwrap());
    cli.until("the service responds", || cli.path("data/service.json").is_file());
    service
}

#[test]
fn a_service_that_is_killed_between_two_steps_tells_the_same_story() {
    for (kind, fault) in
        Kind::ALL.into_iter().flat_map(|kind| skep::fault::INTAKE_POINTS.iter().map(move |f| (kind, f)))
    {
        let forge = started(kind);
        let cli = machine(kind, &forge, "poll_interval = \"1s\"\n");
        add_project(&cli, SED);
        let issue = forge.state().open_issue("ann", "Say hello", "");
        let mut service = serve(&cli, Some(fault));
        let mut is_killed = false;
        forge.state().label(issue, "ann", "skep");
        // Killed or not, the answer does not matter: the sweep finds what a webhook lost.
        let _status = hook(&cli, kind, "1", "issues", labelled(kind, issue));
        let mut comment = None;
        let end = Instant::now() + Duration::from_secs(90);
        while forge.state().issue(issue).open {
            assert!(Instant::now() < end, "the issue is never closed after {fault} on {kind:?}");
            if !is_killed && service.0.try_wait().unwrap().is_some() {
                is_killed = true;
                service = serve(&cli, None);
            }
            if comment.is_none() && asks_for_approval(&forge, issue) {
                let pull = forge.state().pulls[0].number;
                comment = Some(forge.state().post_comment(pull, "ann", "/skep approve"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(is_killed, "{fault} is reached on {kind:?}");
        // The last comment is written before the issue is closed.
        assert_told(&forge, issue);
    }
}

/// Runs the script of a CI job.
fn script(cli: &Cli, env: &[(&str, &str)], args: &[&str]) -> crate::support::cli::CommandOutput {
    let mut command = std::process::Command::new("sh");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/ci/report.sh")).args(args).current_dir(cli.dir.path());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).envs(env.iter().copied());
    crate::support::cli::ended(command)
}

#[test]
fn a_run_on_the_local_forge_waits_for_a_ci_that_reports_by_script_and_by_command() {
    let cli = Cli::new();
    let repo = cli.repo("calc", &[("greet.txt", "helo\n")]);
    let policy = "[policy]\nbase_checks = \"off\"\napprove_merge = false\nrequired_statuses = [\"ci/linux\", \"ci\"]\n";
    std::fs::create_dir_all(cli.path("data")).unwrap();
    std::fs::write(cli.path("data/skep.toml"), policy).unwrap();
    let _service = cli.serve();
    let repo = repo.display().to_string();
    let engine = ["--engine", "command: sed -i s/helo/hello/ greet.txt", "--check", "grep -q hello greet.txt"];
    cli.run(&[&["run", "--detach", "--repo", &repo, "--goal", "Say hello"][..], &engine[..]].concat()).exits_with(0);
    let run = cli.newest();
    let waits = |run: &str| {
        let view = cli.show(run);
        view["phase"] == "gating" && view["change"].is_u64()
    };
    cli.until("the run waits for its CI", || waits(&run));
    let view = cli.show(&run);
    let (branch, sha) = (view["branch"].as_str().unwrap(), view["head"].as_str().unwrap());
    let service: Value =
        serde_json::from_str(&std::fs::read_to_string(cli.path("data/service.json")).unwrap()).unwrap();
    let url = format!("http://{}", service["address"].as_str().unwrap());
    let token = std::fs::read_to_string(cli.path("data/token")).unwrap();
    let token = token.trim();
    let job = [("SKEP_URL", url.as_str()), ("SKEP_TOKEN", token), ("GITHUB_REF_NAME", branch), ("GITHUB_SHA", sha)];
    let ci = |args: &[&str]| script(&cli, &job, args);
    assert_eq!(ci(&["maybe"]).code, 2);
    assert_eq!(ci(&["success", "a\"b"]).code, 2);
    assert_eq!(script(&cli, &[("SKEP_URL", &url)], &["success"]).code, 2);
    let other = [("SKEP_URL", url.as_str()), ("SKEP_TOKEN", token), ("CI_BRANCH", "main"), ("CI_SHA", sha)];
    script(&cli, &other, &["success"]).exits_with(0).prints("belongs to no run");
    let wrong = [("SKEP_URL", url.as_str()), ("SKEP_TOKEN", "wrong"), ("CI_BRANCH", branch), ("CI_SHA", sha)];
    assert_eq!(script(&cli, &wrong, &["success"]).code, 1);
    ci(&["pending", "ci/linux"]).exits_with(0).prints("reported pending");
    ci(&["success", "ci/linux"]).exits_with(0).prints("reported success");
    assert_eq!(cli.show(&run)["phase"], "gating", "it waits for the other one");
    cli.run(&["ci", "report", "success", "--branch", "skep/00000000", "--sha", sha]).exits_with(2);
    let report = ["ci", "report", "success", "--branch", branch, "--sha", sha, "--url", "https://ci.example.org/1"];
    cli.run(&report).exits_with(0).prints("ci is success at");
    cli.until("the run lands", || cli.show(&run)["outcome"]["delivered"].is_object());
}
