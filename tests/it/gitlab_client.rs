//! A client that others wrote understands the double of GitLab.

use crate::support::gitlab::{GitLab, LOGIN, REPO, TOKEN};
use serde_json::{Value, json};

#[test]
#[ignore = "needs the Python package python-gitlab: SKEP_PYTHON_GITLAB=<python that has it>"]
fn python_gitlab_lives_a_merge_request_to_its_merge() {
    let gitlab = GitLab::start();
    gitlab.push("main", &[("a", "a")]);
    let head = gitlab.push("feature/x", &[("b", "b")]);
    let job = {
        let mut state = gitlab.state();
        let job = state.job(&head, "test", 1, "completed", Some("failure"));
        job.log = Some("FAILED tests/a.py::b\n".to_owned());
        job.id.to_string()
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/gitlab/client.py");
    let python = std::env::var_os("SKEP_PYTHON_GITLAB").unwrap();
    let mut command = std::process::Command::new(python);
    command.args([script, &gitlab.url, TOKEN, REPO, "feature/x", &job]).env("NO_PROXY", "127.0.0.1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = gitlab.state().pulls[0].number;
    let merged = gitlab.head("main").unwrap();
    for (name, expected) in [
        ("login", json!(LOGIN)),
        ("project", json!(REPO)),
        ("head", json!(head)),
        ("scopes", json!(["api"])),
        ("levels", json!({ "ann": 30, "ann-2": 50 })),
        ("second", json!(409)),
        ("listed", json!([[number, "By a client", "opened"]])),
        ("notes", json!(["Hello again"])),
        ("versions", json!([head])),
        ("trace", json!("FAILED tests/a.py::b\n")),
        ("retried", json!(403)),
        ("statuses", json!([["by-a-client", "success"], ["test", "failed"], ["test", "running"]])),
        ("issue", json!("closed")),
        ("events", json!(["Issue", "MergeRequest"])),
        ("moved", json!(409)),
        ("merged", json!(["merged", merged])),
    ] {
        assert_eq!(seen[name], expected, "{name}: {seen:#}");
    }
    assert!(gitlab.head("feature/x").is_none());
}
