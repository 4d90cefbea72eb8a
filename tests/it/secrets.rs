//! No secret leaks: engines and checks of complete runs print all they know, then everything that was written or
//! printed is searched. A run whose push contains a secret waits for a person.

use crate::support::cli::{Cli, ended, git};
use crate::support::rest::{request, service};
use crate::support::search::Search;
use axum::body::Body;
use axum::http::Method;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

const PASSED: &str = "pAsSeD-51c0f3aa97+/b2e8-canary";
const KEPT: &str = "kEpT-0be17a6d93f4-canary-of-the-vault";

/// Script that prints its secret in every way a careless or hostile program might.
const LEAKY_ENGINE: &str = r#"
v="$AGENT_KEY"
echo "plain $v"
printf '%s' "$v" | base64 -w0; echo
printf 'x%s' "$v" | base64 -w0; echo
printf 'xx%s' "$v" | base64 -w0 | tr '+/' '-_'; echo
printf '%s' "$v" | od -An -v -tx1 | tr -d ' \n'; echo
printf '%s' "$v" | od -An -v -tx1 | tr -d '\n' | sed 's/ /%/g'; echo
printf '%s\n' "$v" | sed '/\n/!G;s/\(.\)\(.*\n\)/&\2\1/;//D;s/.//'
printf '{"json": "%s"}\n' "$v" >&2
printf '%s' "$v" | cut -c1-9 | tr -d '\n'; sleep 0.2; printf '%s\n' "$v" | cut -c10-
yes "$v" | head -c 1302000
case "$SKEP_TRY" in
1) echo "failed with $v" >&2; exit 3 ;;
2) echo bad > state.txt ;;
*) echo good > state.txt ;;
esac
printf '{"summary": "did it with %s"}' "$v" > "$SKEP_REPORT_FILE"
"#;

/// A data directory whose engines receive the canary in `AGENT_KEY`.
fn cli(engine: &str) -> Cli {
    let cli = Cli::new();
    std::fs::create_dir_all(cli.path("data")).unwrap();
    std::fs::set_permissions(cli.path("data"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let tools = cli.path("tools");
    let config = format!(
        "[engines]\npass_env = [\"AGENT_KEY\"]\n[steps.develop]\ntries = 4\n[sandbox]\ntoolchains = [\"{}\"]\n",
        tools.display()
    );
    std::fs::write(cli.path("data/skep.toml"), config).unwrap();
    std::fs::create_dir(&tools).unwrap();
    std::fs::write(tools.join("engine.sh"), engine).unwrap();
    cli
}

fn with_key(mut command: Command) -> Command {
    command.env("AGENT_KEY", PASSED).env("KEPT", KEPT);
    command
}

fn run(cli: &Cli, check: Option<&str>) -> Command {
    let engine = format!("command: sh {}", cli.path("tools/engine.sh").display());
    let mut args = vec!["run", "--repo", "tool.git", "--goal", "Do it", "--engine", &engine];
    args.extend(check.into_iter().flat_map(|check| ["--check", check]));
    with_key(cli.skep(&args))
}

/// Every object of a repository, as text.
fn objects(repo: &Path) -> Vec<u8> {
    let script = "git rev-list --all --objects | cut -d' ' -f1 | git cat-file --batch";
    let done = Command::new("sh").args(["-c", script]).env("GIT_DIR", repo).output().unwrap();
    assert!(done.status.success() && !done.stdout.is_empty());
    done.stdout
}

#[test]
fn a_leaky_run_leaks_no_secret() {
    let cli = cli(LEAKY_ENGINE);
    // The check also prints the secret and writes it to its report.
    std::fs::write(cli.path("tools/leak.txt"), format!("name='{PASSED}'")).unwrap();
    let leak = cli.path("tools/leak.txt").display().to_string();
    let rules = format!(
        r#"[[check]]
name = "unit"
kind = "test"
junit = "report.xml"
command = '''cat {leak}; echo "<testsuite><testcase $(cat {leak})/></testsuite>" > report.xml; test ! -e state.txt || grep good state.txt'''
"#
    );
    cli.repo("tool", &[("a.txt", "hello\n"), (".skep.toml", &rules)]);

    // The service logs at the most detailed level.
    let log = std::fs::File::create(cli.path("service.log")).unwrap();
    let mut serve = with_key(cli.skep(&["serve", "--listen", "127.0.0.1:0"]));
    let all = "trace,sqlx=trace,sea_orm=trace,hyper=trace,hyper_util=trace,ractor=trace";
    serve.env("SKEP_TELEMETRY__LOG_LEVEL", all).stdout(Stdio::null()).stderr(log);
    let service = crate::support::cli::BackgroundProcess(serve.spawn().unwrap());
    cli.until("the service answers", || cli.path("data/service.json").is_file());

    let mut printed = Vec::new();
    let mut does = |command: Command, code: i32| {
        let done = ended(command).exits_with(code);
        printed.extend_from_slice(done.out.as_bytes());
        printed.extend_from_slice(done.err.as_bytes());
        done.out
    };
    does(with_key(cli.skep(&["secret", "set", "DEPLOY_KEY", "--from-env", "KEPT"])), 0);
    does(cli.skep(&["secret", "list"]), 0);
    let mut following = run(&cli, None);
    following.arg("--yes");
    // A command that fails by itself is not run again unless a person asks for it.
    let mut out = does(following, 4);
    let id = cli.newest();
    out.push_str(&does(with_key(cli.skep(&["unblock", &id, "--follow"])), 4));
    out.push_str(&does(cli.skep(&["approve", &id, "--follow"]), 0));
    assert!(out.contains("[redacted:AGENT_KEY]") && out.contains("a2 failed") && out.contains("failed ("), "{out}");

    // All commands that show data of the run.
    for args in [
        &["show", &id, "--json"][..],
        &["show", &id],
        &["show", &id, "--patch"],
        &["events", &id, "--json"],
        &["logs", &id],
        &["change", "show", &id],
        &["runs", "--json"],
        &["secret", "list", "--json"],
    ] {
        does(cli.skep(args), 0);
    }
    let logs = does(cli.skep(&["logs", &id]), 0);
    assert!(logs.matches("[redacted:AGENT_KEY]").count() > 1_000, "the output was not stored in redacted form");
    drop(service);

    let search = Search::of(&[PASSED, KEPT]);
    let mut found = search.find("the output of commands", &printed);
    // The objects of the mirrors are searched below.
    let skip = |path: &Path| path.ends_with("data/mirrors");
    found.extend(search.find_below(&cli.path("data"), &skip));
    found.extend(search.find("the log", &std::fs::read(cli.path("service.log")).unwrap()));
    found.extend(search.find("the origin", &objects(&cli.path("tool.git"))));
    let mirrors = std::fs::read_dir(cli.path("data/mirrors")).unwrap().flatten().map(|e| e.path());
    for mirror in mirrors.filter(|m| m.is_dir()) {
        found.extend(search.find("a mirror", &objects(&mirror)));
    }
    assert_eq!(found, Vec::<String>::new());
    let trace = std::fs::read_to_string(cli.path("service.log")).unwrap();
    assert!(trace.contains("\"level\":\"trace\""), "the log was not at trace");
    let message = git(&cli.path("tool.git"), &["log", "-1", "--format=%B", "main"]);
    assert!(message.contains("did it with [redacted:AGENT_KEY]"), "{message}");
    // The search itself works: it finds the secret where the test wrote it.
    assert!(!search.find_below(&cli.path("."), &|p| p.ends_with("data")).is_empty());
}

#[test]
fn a_push_with_a_live_value_waits_and_the_task_is_redone_without_it() {
    let cli = cli("case \"$SKEP_TASK_TEXT\" in *'must not be published'*) echo clean > a.txt ;;\n\
         *) printf '%s' \"$AGENT_KEY\" | base64 -w0 > a.txt; echo >> a.txt ;; esac");
    cli.repo("tool", &[("a.txt", "hello\n")]);
    let output = ended(run(&cli, Some("true"))).exits_with(4);
    assert!(output.out.contains("the commits to push contain a secret"), "{}", output.out);
    assert!(output.out.contains("the secret AGENT_KEY at a.txt:1 in commit"), "{}", output.out);
    let id = cli.newest();
    assert_eq!(cli.show(&id)["escalations"][0]["code"], "secret_found");
    let branches = || git(&cli.path("tool.git"), &["branch", "--list", "skep/*"]);
    assert_eq!(branches(), "", "a branch was pushed");

    // A retry would be stopped again, and an approval would accept exactly this secret. A hint makes the dev redo the
    // task.
    let answer = with_key(cli.skep(&["unblock", &id, "--answer", "leave the key out", "--follow"]));
    let output = ended(answer).exits_with(4);
    assert!(output.out.contains("the merge waits for approval"), "{}", output.out);
    ended(with_key(cli.skep(&["approve", &id, "--follow"]))).exits_with(0);
    assert_eq!(git(&cli.path("tool.git"), &["show", "main:a.txt"]), "clean\n");
    let found = Search::of(&[PASSED]).find("the origin", &objects(&cli.path("tool.git")));
    assert_eq!(found, Vec::<String>::new(), "an object of the first attempt was pushed");
}

#[test]
fn a_probable_secret_waits_and_an_approval_accepts_exactly_that_one() {
    // Assembled at run time, so that this file contains no token.
    let token = format!("ghp_{}", "A1b2C3d4E5f6G7h8I9".repeat(2));
    let cli = cli(&format!("mkdir -p src; printf 'line\\ntoken = \"{token}\"\\n' > src/fixture.txt"));
    cli.repo("tool", &[("a.txt", "hello\n")]);
    let output = ended(run(&cli, Some("true"))).exits_with(4);
    assert!(output.out.contains("(github-token) at src/fixture.txt:2 in commit"), "{}", output.out);
    assert!(!output.out.contains(&token));
    let id = cli.newest();
    let output = ended(with_key(cli.skep(&["unblock", &id, "--follow"]))).exits_with(4);
    assert!(output.out.contains("the merge waits for approval"), "{}", output.out);
    ended(with_key(cli.skep(&["approve", &id, "--follow"]))).exits_with(0);
    assert!(git(&cli.path("tool.git"), &["show", "main:src/fixture.txt"]).contains(&token));
}

#[test]
fn secrets_are_set_from_input_file_or_variable_and_never_shown() {
    let cli = Cli::new();
    let piped = |args: &[&str], text: &str| {
        let mut command = cli.skep(args);
        std::fs::write(cli.path("input"), text).unwrap();
        command.stdin(std::fs::File::open(cli.path("input")).unwrap());
        ended(command)
    };
    let output = piped(&["secret", "set", "A"], &format!("{KEPT}\n"))
        .exits_with(0)
        .prints("A stored for all projects (version 1)");
    assert!(output.out.contains("vault.key") && output.out.contains("next to the data"), "{}", output.out);
    cli.run(&["secret", "set", "A", "--from-file", "input"]).exits_with(0).prints("(version 2)");
    cli.repo("tool", &[("a.txt", "a\n")]);
    cli.run(&["project", "add", "tool.git"]).exits_with(0);
    piped(&["secret", "set", "A", "--project", "tool"], PASSED).exits_with(0).prints("for project tool (version 1)");
    let list = cli.run(&["secret", "list", "--json"]).exits_with(0);
    assert_eq!(list.json()["secrets"].as_array().unwrap().len(), 2);
    assert!(!list.out.contains("kEpT") && !list.out.contains("ciphertext"), "{}", list.out);

    std::fs::write(cli.path("new.key"), "ab".repeat(32)).unwrap();
    cli.run(&["secret", "rekey", "--new-key-file", "new.key"])
        .exits_with(2)
        .one_error("can be read by other users", "chmod 600");
    std::fs::set_permissions(cli.path("new.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    cli.run(&["secret", "rekey", "--new-key-file", "new.key"]).exits_with(0).prints("2 secrets encrypted with key");
    assert_eq!(std::fs::read_to_string(cli.path("data/vault.key")).unwrap(), "ab".repeat(32));

    cli.run(&["secret", "remove", "A"]).exits_with(0).prints("A deleted");
    cli.run(&["secret", "remove", "A"]).exits_with(2).one_error("no secret A", "`skep secret list`");
    piped(&["secret", "set", "A"], "").exits_with(2).one_error("the value is empty", "--from-file");
    piped(&["secret", "set", "9"], "x").exits_with(2).one_error("starts with a letter", "another name");
    cli.run(&["secret", "set", "A", "--from-env", "NO_SUCH"]).exits_with(2).one_error("NO_SUCH", "standard input");
    cli.run(&["secret", "set", "A", "--project", "nope", "--from-file", "input"])
        .exits_with(2)
        .one_error("nope", "skep project list");
    let found = Search::of(&[PASSED, KEPT]).find_below(&cli.path("data"), &|_| false);
    assert_eq!(found, Vec::<String>::new());
}

#[tokio::test]
async fn rest_never_returns_secret_values() {
    let service = service().await;
    let post = async |path: &str, body: String| {
        let request = request(Method::POST, path).header("content-type", "application/json");
        service.send(request.body(Body::from(body)).unwrap()).await
    };
    let created = post("/api/v1/secrets", format!(r#"{{"name": "A", "value": "{KEPT}"}}"#)).await;
    assert_eq!((created.status.as_u16(), created.json()["secret"]["version"].as_u64()), (201, Some(1)));
    let mut responses = vec![created];
    for body in [
        format!("\"{KEPT}\""),
        format!(r#"{{"name": "A", "value": ["{KEPT}"]}}"#),
        format!(r#"{{"name": "A", "{KEPT}": 1}}"#),
        format!(r#"{{"name": "{KEPT} {KEPT}", "value": "x"}}"#),
        format!(r#"{{"name": "A", "project": "{KEPT}", "value": "x"}}"#),
        format!(r#"{{"name": "A", "value": "{KEPT}"#),
    ] {
        responses.push(post("/api/v1/secrets", body).await);
        assert!(responses.last().unwrap().status.is_client_error());
    }
    responses.push(post("/api/v1/secrets/A/remove", format!(r#"{{"{KEPT}": 1}}"#)).await);
    responses.push(post("/api/v1/secrets/rekey", format!(r#"{{"file": "{KEPT}"}}"#)).await);
    responses.push(post("/api/v1/secrets/rekey", format!(r#"{{"file": "/{KEPT}"}}"#)).await);
    responses.push(service.send(request(Method::GET, "/api/v1/secrets").body(Body::empty()).unwrap()).await);
    let all: String = responses.iter().map(|r| format!("{}{:?}", r.text, r.headers)).collect();
    assert_eq!(Search::of(&[KEPT]).find("REST", all.as_bytes()), Vec::<String>::new());
}

#[test]
fn a_value_that_an_ended_process_used_is_known_to_the_one_that_pushes() {
    let cli = Cli::new();
    std::fs::create_dir_all(cli.path("data")).unwrap();
    std::fs::set_permissions(cli.path("data"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let config = "[engines]\nsecrets = [\"DEPLOY\"]\n[policy]\nprotected_paths = [\"leak.txt\"]\n";
    std::fs::write(cli.path("data/skep.toml"), config).unwrap();
    let mut set = cli.skep(&["secret", "set", "DEPLOY", "--from-env", "KEPT"]);
    set.env("KEPT", KEPT);
    ended(set).exits_with(0);
    cli.repo("tool", &[("a.txt", "hello\n")]);
    let engine = "command: echo \"$DEPLOY\" > leak.txt";
    let asked = cli.run(&["run", "--repo", "tool.git", "--goal", "Do it", "--engine", engine, "--check", "true"]);
    asked.exits_with(4).prints("a task's work needs approval");
    // This process never opened the secret.
    let held = cli.run(&["approve", &cli.newest(), "--follow"]).exits_with(4);
    assert!(held.out.contains("the secret DEPLOY at leak.txt:1"), "{}", held.out);
    assert_eq!(git(&cli.path("tool.git"), &["branch", "--list", "skep/*"]), "", "a branch was pushed");
    let patch = cli.run(&["diff", &cli.newest(), "t1"]);
    assert!(!patch.out.contains(KEPT), "{}", patch.out);
}
