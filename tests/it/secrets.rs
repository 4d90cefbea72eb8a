//! No secret leaves: whole runs of the real program with engines and checks that say all they know, then everything that was
//! written or said is searched. And what would be pushed with a secret in it waits for a person.

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

/// Says its secret in every way a careless or hostile program may.
const TELLTALE: &str = r#"
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

/// A desk whose engines are given the canary, and know of it by `AGENT_KEY` alone.
fn desk(engine: &str) -> Cli {
    let desk = Cli::new();
    std::fs::create_dir_all(desk.path("data")).unwrap();
    std::fs::set_permissions(desk.path("data"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let tools = desk.path("tools");
    let config = format!(
        "[engines]\npass_env = [\"AGENT_KEY\"]\n[steps.develop]\ntries = 4\n[sandbox]\ntoolchains = [\"{}\"]\n",
        tools.display()
    );
    std::fs::write(desk.path("data/skep.toml"), config).unwrap();
    std::fs::create_dir(&tools).unwrap();
    std::fs::write(tools.join("engine.sh"), engine).unwrap();
    desk
}

fn with_key(mut command: Command) -> Command {
    command.env("AGENT_KEY", PASSED).env("KEPT", KEPT);
    command
}

fn run(desk: &Cli, check: Option<&str>) -> Command {
    let engine = format!("command: sh {}", desk.path("tools/engine.sh").display());
    let mut args = vec!["run", "--repo", "tool.git", "--goal", "Do it", "--engine", &engine];
    args.extend(check.into_iter().flat_map(|check| ["--check", check]));
    with_key(desk.skep(&args))
}

/// Every object of a repository, as text.
fn objects(repo: &Path) -> Vec<u8> {
    let script = "git rev-list --all --objects | cut -d' ' -f1 | git cat-file --batch";
    let done = Command::new("sh").args(["-c", script]).env("GIT_DIR", repo).output().unwrap();
    assert!(done.status.success() && !done.stdout.is_empty());
    done.stdout
}

#[test]
fn a_run_that_says_all_it_knows_tells_nothing() {
    let desk = desk(TELLTALE);
    // The check knows it, too: it prints it, and puts it into its report.
    std::fs::write(desk.path("tools/leak.txt"), format!("name='{PASSED}'")).unwrap();
    let leak = desk.path("tools/leak.txt").display().to_string();
    let rules = format!(
        r#"[[check]]
name = "unit"
kind = "test"
junit = "report.xml"
command = '''cat {leak}; echo "<testsuite><testcase $(cat {leak})/></testsuite>" > report.xml; grep good state.txt'''
"#
    );
    desk.repo("tool", &[("a.txt", "hello\n"), (".skep.toml", &rules)]);

    // The service logs everything there is.
    let log = std::fs::File::create(desk.path("service.log")).unwrap();
    let mut serve = with_key(desk.skep(&["serve", "--listen", "127.0.0.1:0"]));
    let all = "trace,sqlx=trace,sea_orm=trace,hyper=trace,hyper_util=trace,ractor=trace";
    serve.env("SKEP_TELEMETRY__LOG_LEVEL", all).stdout(Stdio::null()).stderr(log);
    let service = crate::support::cli::Beside(serve.spawn().unwrap());
    desk.until("the service answers", || desk.path("data/service.json").is_file());

    let mut said = Vec::new();
    let mut does = |command: Command, code: i32| {
        let done = ended(command).ends(code);
        said.extend_from_slice(done.out.as_bytes());
        said.extend_from_slice(done.err.as_bytes());
        done.out
    };
    does(with_key(desk.skep(&["secret", "set", "DEPLOY_KEY", "--from-env", "KEPT"])), 0);
    does(desk.skep(&["secret", "list"]), 0);
    let mut following = run(&desk, None);
    following.arg("--yes");
    let out = does(following, 0);
    assert!(out.contains("[redacted:AGENT_KEY]") && out.contains("a2 failed") && out.contains("failed ("), "{out}");

    // Everything people can ask for.
    let id = desk.newest();
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
        does(desk.skep(args), 0);
    }
    let logs = does(desk.skep(&["logs", &id]), 0);
    assert!(logs.matches("[redacted:AGENT_KEY]").count() > 1_000, "the flood was kept, without it");
    drop(service);

    let search = Search::of(&[PASSED, KEPT]);
    let mut found = search.find("what commands printed", &said);
    // Not searched: the objects of mirrors, which are below as the origin has them, and the token, which is its own place.
    let skip = |path: &Path| path.ends_with("data/mirrors");
    found.extend(search.find_below(&desk.path("data"), &skip));
    found.extend(search.find("the log", &std::fs::read(desk.path("service.log")).unwrap()));
    found.extend(search.find("the origin", &objects(&desk.path("tool.git"))));
    let mirrors = std::fs::read_dir(desk.path("data/mirrors")).unwrap().flatten().map(|e| e.path());
    for mirror in mirrors.filter(|m| m.is_dir()) {
        found.extend(search.find("a mirror", &objects(&mirror)));
    }
    assert_eq!(found, Vec::<String>::new());
    let trace = std::fs::read_to_string(desk.path("service.log")).unwrap();
    assert!(trace.contains("\"level\":\"trace\""), "the log was not at trace");
    let message = git(&desk.path("tool.git"), &["log", "-1", "--format=%B", "main"]);
    assert!(message.contains("did it with [redacted:AGENT_KEY]"), "{message}");
    // The search itself sees: where the person put it, it is.
    assert!(!search.find_below(&desk.path("."), &|p| p.ends_with("data")).is_empty());
}

#[test]
fn a_push_with_a_live_value_waits_and_the_work_is_done_again_without_it() {
    let desk = desk(
        "case \"$SKEP_TASK_TEXT\" in *'must not be published'*) echo clean > a.txt ;;\n\
         *) printf '%s' \"$AGENT_KEY\" | base64 -w0 > a.txt; echo >> a.txt ;; esac",
    );
    desk.repo("tool", &[("a.txt", "hello\n")]);
    let said = ended(run(&desk, Some("true"))).ends(4);
    assert!(said.out.contains("what would be pushed holds a secret"), "{}", said.out);
    assert!(said.out.contains("the secret AGENT_KEY at a.txt:1 in commit"), "{}", said.out);
    let id = desk.newest();
    assert_eq!(desk.show(&id)["escalations"][0]["code"], "secret_found");
    let branches = || git(&desk.path("tool.git"), &["branch", "--list", "skep/*"]);
    assert_eq!(branches(), "", "nothing was pushed");

    // Tried again as it is, it is held back again; yes would let exactly this pass, a hint has it done without it.
    let answer = with_key(desk.skep(&["unblock", &id, "--answer", "leave the key out", "--follow"]));
    let said = ended(answer).ends(4);
    assert!(said.out.contains("the merge waits for approval"), "{}", said.out);
    ended(with_key(desk.skep(&["approve", &id, "--follow"]))).ends(0);
    assert_eq!(git(&desk.path("tool.git"), &["show", "main:a.txt"]), "clean\n");
    let found = Search::of(&[PASSED]).find("the origin", &objects(&desk.path("tool.git")));
    assert_eq!(found, Vec::<String>::new(), "no object of the first work got out");
}

#[test]
fn what_looks_like_a_secret_waits_and_a_persons_yes_lets_exactly_that_pass() {
    // Put together here, so that this file holds none.
    let token = format!("ghp_{}", "A1b2C3d4E5f6G7h8I9".repeat(2));
    let desk = desk(&format!("mkdir -p src; printf 'line\\ntoken = \"{token}\"\\n' > src/fixture.txt"));
    desk.repo("tool", &[("a.txt", "hello\n")]);
    let said = ended(run(&desk, Some("true"))).ends(4);
    assert!(said.out.contains("(github-token) at src/fixture.txt:2 in commit"), "{}", said.out);
    assert!(!said.out.contains(&token));
    let id = desk.newest();
    let said = ended(with_key(desk.skep(&["unblock", &id, "--follow"]))).ends(4);
    assert!(said.out.contains("the merge waits for approval"), "{}", said.out);
    ended(with_key(desk.skep(&["approve", &id, "--follow"]))).ends(0);
    assert!(git(&desk.path("tool.git"), &["show", "main:src/fixture.txt"]).contains(&token));
}

#[test]
fn a_secret_is_given_by_input_file_or_variable_and_never_shown() {
    let desk = Cli::new();
    let piped = |args: &[&str], text: &str| {
        let mut command = desk.skep(args);
        std::fs::write(desk.path("input"), text).unwrap();
        command.stdin(std::fs::File::open(desk.path("input")).unwrap());
        ended(command)
    };
    let said =
        piped(&["secret", "set", "A"], &format!("{KEPT}\n")).ends(0).says("A stored for all projects (version 1)");
    assert!(said.out.contains("vault.key") && said.out.contains("beside the data"), "{}", said.out);
    desk.does(&["secret", "set", "A", "--from-file", "input"]).ends(0).says("(version 2)");
    desk.repo("tool", &[("a.txt", "a\n")]);
    desk.does(&["project", "add", "tool.git"]).ends(0);
    piped(&["secret", "set", "A", "--project", "tool"], PASSED).ends(0).says("for project tool (version 1)");
    let list = desk.does(&["secret", "list", "--json"]).ends(0);
    assert_eq!(list.json()["secrets"].as_array().unwrap().len(), 2);
    assert!(!list.out.contains("kEpT") && !list.out.contains("ciphertext"), "{}", list.out);

    std::fs::write(desk.path("new.key"), "ab".repeat(32)).unwrap();
    desk.does(&["secret", "rekey", "--new-key-file", "new.key"])
        .ends(2)
        .one_error("can be read by other users", "chmod 600");
    std::fs::set_permissions(desk.path("new.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    desk.does(&["secret", "rekey", "--new-key-file", "new.key"]).ends(0).says("2 secrets encrypted with key");
    assert_eq!(std::fs::read_to_string(desk.path("data/vault.key")).unwrap(), "ab".repeat(32));

    desk.does(&["secret", "remove", "A"]).ends(0).says("A deleted");
    desk.does(&["secret", "remove", "A"]).ends(2).one_error("no secret A", "`skep secret list`");
    piped(&["secret", "set", "A"], "").ends(2).one_error("the value is empty", "--from-file");
    piped(&["secret", "set", "9"], "x").ends(2).one_error("begins with a letter", "another name");
    desk.does(&["secret", "set", "A", "--from-env", "NO_SUCH"]).ends(2).one_error("NO_SUCH", "standard input");
    desk.does(&["secret", "set", "A", "--project", "nope", "--from-file", "input"])
        .ends(2)
        .one_error("nope", "skep project list");
    let found = Search::of(&[PASSED, KEPT]).find_below(&desk.path("data"), &|_| false);
    assert_eq!(found, Vec::<String>::new());
}

#[tokio::test]
async fn rest_never_says_what_it_was_given() {
    let service = service().await;
    let post = async |path: &str, body: String| {
        let request = request(Method::POST, path).header("content-type", "application/json");
        service.send(request.body(Body::from(body)).unwrap()).await
    };
    let kept = post("/api/v1/secrets", format!(r#"{{"name": "A", "value": "{KEPT}"}}"#)).await;
    assert_eq!((kept.status.as_u16(), kept.json()["secret"]["version"].as_u64()), (201, Some(1)));
    let mut said = vec![kept];
    for body in [
        format!("\"{KEPT}\""),
        format!(r#"{{"name": "A", "value": ["{KEPT}"]}}"#),
        format!(r#"{{"name": "A", "{KEPT}": 1}}"#),
        format!(r#"{{"name": "{KEPT} {KEPT}", "value": "x"}}"#),
        format!(r#"{{"name": "A", "project": "{KEPT}", "value": "x"}}"#),
        format!(r#"{{"name": "A", "value": "{KEPT}"#),
    ] {
        said.push(post("/api/v1/secrets", body).await);
        assert!(said.last().unwrap().status.is_client_error());
    }
    said.push(post("/api/v1/secrets/A/remove", format!(r#"{{"{KEPT}": 1}}"#)).await);
    said.push(post("/api/v1/secrets/rekey", format!(r#"{{"file": "{KEPT}"}}"#)).await);
    said.push(post("/api/v1/secrets/rekey", format!(r#"{{"file": "/{KEPT}"}}"#)).await);
    said.push(service.send(request(Method::GET, "/api/v1/secrets").body(Body::empty()).unwrap()).await);
    let all: String = said.iter().map(|r| format!("{}{:?}", r.text, r.headers)).collect();
    assert_eq!(Search::of(&[KEPT]).find("REST", all.as_bytes()), Vec::<String>::new());
}
