//! Deployments through the real program: Docker Compose on a real OpenSSH server with a `docker` that stands in, an
//! application that answers what is "running" there, commands, and a deploy hook.

use crate::support::cli::{BackgroundProcess, Cli, CommandOutput, ended, git};
use crate::support::sshd::Sshd;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

const PASSWORD: &str = "telltale-93bb71c0ffee";

/// A machine with a project, and a host with an application.
struct World {
    cli: Cli,
    sshd: Sshd,
    host: PathBuf,
    app: u16,
}

/// Serves what `running` in the folder says, until the test ends: its version, or 500 for the mode `broken`.
fn application(host: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut head = [0_u8; 2048];
            let size = stream.read(&mut head).unwrap_or_default();
            if head[..size].starts_with(b"POST /message") {
                stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                let mut text = head[..size].to_vec();
                let _timeout = stream.read_to_end(&mut text);
                let mut file = std::fs::File::options().create(true).append(true).open(host.join("messages")).unwrap();
                file.write_all(&text).unwrap();
            }
            if head[..size].starts_with(b"POST /hook") {
                let line = String::from_utf8_lossy(&head[..size]).lines().next().unwrap_or_default().to_owned();
                let sha = line.split("ref=").nth(1).and_then(|rest| rest.split([' ', '&']).next()).unwrap_or_default();
                std::fs::write(host.join("running"), format!("{sha} good")).unwrap();
            }
            let running = std::fs::read_to_string(host.join("running")).unwrap_or_default();
            let (sha, mode) = running.split_once(' ').unwrap_or(("none", "good"));
            let is_app = !head[..size].starts_with(b"POST /message");
            let status = if is_app && mode.trim() == "broken" { "500 Internal Server Error" } else { "200 OK" };
            let body = format!("{{\"version\":\"{}\"}}", sha.get(..7).unwrap_or(sha));
            let _gone = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    port
}

const COMPOSE: &str = "{\"services\":{\"web\":{\"image\":\"web\",\"healthcheck\":{\"test\":[\"true\"]}}}}";

fn world(more: &str) -> World {
    world_with(more, "true")
}

/// Creates a world whose project has this check.
fn world_with(more: &str, check: &str) -> World {
    let cli = Cli::new();
    let host = cli.path("host");
    std::fs::create_dir_all(host.join("bin")).unwrap();
    let docker = host.join("bin/docker");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/deploy/docker.sh"), &docker).unwrap();
    std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", docker.parent().unwrap().display());
    let sshd = Sshd::start(&format!("SetEnv PATH={path} FAKE_HOST={}", host.display()));
    let app = application(host.clone());
    std::fs::create_dir(cli.path("data")).unwrap();
    let world = World { cli, sshd, host, app };
    world.configure(more);
    world.cli.repo("tool", &[("compose.yaml", COMPOSE), ("mode", "good\n"), ("a.txt", "a\n"), ("other/x", "x\n")]);
    world.cli.run(&["project", "add", "tool.git", "--engine", "command: true", "--check", check]).exits_with(0);
    world.secret("DB_PASSWORD", PASSWORD);
    world
}

impl World {
    /// Writes the configuration: the target `test` with these additional keys.
    fn configure(&self, more: &str) {
        let target = format!(
            "[deploy.test]\nproject = \"tool\"\nkind = \"compose-ssh\"\nrunner = \"box\"\ntest = true\n\
             files = [\"compose.yaml\", \"mode\"]\ncompose = \"compose.yaml\"\nsecrets = [\"DB_PASSWORD\"]\n\
             url = \"http://127.0.0.1:{}\"\nprobe = \"1s\"\nlimit = \"30s\"\n{more}\n[deploy.test.accept.health]\n\
             http = \"GET /health\"\nbody = \"\\\"version\\\":\\\"{{sha7}}\\\"\"\nwithin = \"2s\"\n\
             [deploy.test.accept.smoke]\ncommand = \"test -e mode && test ! -e other && test -n \\\"$SKEP_SHA\\\"\"\n",
            self.app
        );
        let channel = format!(
            "[notify.team]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{}/message\"\non = [\"question\", \"failed\"]\n",
            self.app
        );
        let text = format!("{}[policy]\nbase_checks = \"off\"\n{channel}{target}", self.sshd.table("box"));
        std::fs::write(self.cli.path("data/skep.toml"), text).unwrap();
    }
    fn secret(&self, name: &str, value: &str) {
        let mut command = self.cli.skep(&["secret", "set", name, "--from-env", "VALUE"]);
        command.env("VALUE", value);
        ended(command).exits_with(0);
    }
    /// Commits a mode of the application, and returns the commit.
    fn commit(&self, path: &str, text: &str) -> String {
        let work = self.cli.path("tool");
        std::fs::write(work.join(path), text).unwrap();
        git(&work, &["commit", "-q", "-a", "-m", "next"]);
        git(&work, &["push", "-q", "../tool.git", "main"]);
        git(&work, &["rev-parse", "HEAD"]).trim().to_owned()
    }
    fn head(&self) -> String {
        git(&self.cli.path("tool.git"), &["rev-parse", "main"]).trim().to_owned()
    }
    fn shown(&self) -> Value {
        self.cli.run(&["deploy", "show", "test", "--json"]).exits_with(0).json()["deployment"].clone()
    }
    fn rollout(&self, number: usize) -> Value {
        let shown = self.shown();
        let all = shown["rollouts"].as_array().unwrap();
        all.iter().find(|r| r["number"] == number).cloned().unwrap_or_default()
    }
    /// Deploys the newest commit, and returns its rollout at the end.
    fn deploy(&self, number: usize) -> Value {
        self.cli.run(&["deploy", "test"]).exits_with(0);
        self.ended(number)
    }
    fn ended(&self, number: usize) -> Value {
        self.cli.until("the rollout ends", || self.rollout(number)["ended"] == true);
        self.rollout(number)
    }
    fn running(&self) -> String {
        std::fs::read_to_string(self.host.join("running")).unwrap_or_default()
    }
    /// Waits for a message to people.
    fn message(&self, text: &str) {
        let messages = || std::fs::read_to_string(self.host.join("messages")).unwrap_or_default();
        self.cli.until(text, || messages().contains(text));
    }
    fn root(&self) -> PathBuf {
        self.sshd.root().join("deploy/test")
    }
    fn current(&self) -> String {
        let link = std::fs::read_link(self.root().join("current")).unwrap();
        link.file_name().unwrap().to_str().unwrap().to_owned()
    }
    fn serve_with_fault(&self, fault: &str) -> BackgroundProcess {
        let mut command = self.cli.skep(&["serve", "--listen", "127.0.0.1:0"]);
        command.env("SKEP_FAULT", fault).stdout(Stdio::null()).stderr(Stdio::null());
        BackgroundProcess(command.spawn().unwrap())
    }
}

#[test]
fn a_good_version_goes_live_and_bad_ones_go_back() {
    let w = world("");
    let _service = w.cli.serve();
    w.cli.until("the repository was observed", || w.shown()["status"] == "ready");
    let good = w.head();
    let first = w.deploy(1);
    assert_eq!((&first["state"], first["sha"].as_str()), (&"deployed".into(), Some(good.as_str())), "{first}");
    assert_eq!(first["criteria"].as_array().unwrap().len(), 2, "{first}");
    assert_eq!(w.shown()["status"], "live");
    assert_eq!((w.running(), w.current()), (format!("{good} good"), good.clone()));
    let release = w.root().join("releases").join(&good);
    assert!(release.join(".done").is_file() && release.join("tree/mode").is_file());
    assert!(!release.join("tree/other").exists(), "only the files of the target are sent");
    assert!(!w.root().join("lock").exists());
    assert_eq!(std::fs::read_to_string(w.host.join("password")).unwrap(), PASSWORD);

    let unhealthy = w.commit("mode", "unhealthy\n");
    let second = w.deploy(2);
    assert_eq!((&second["state"], second["sha"].as_str()), (&"rolled_back".into(), Some(unhealthy.as_str())));
    let log = second["deployment"]["log"].as_str().unwrap();
    assert!(log.contains("service web is unhealthy") && log.contains("boom: cannot open the database"), "{log}");
    assert!(!log.contains(PASSWORD), "{log}");
    assert_eq!((w.running(), w.current()), (format!("{good} good"), good.clone()));
    assert_eq!(w.shown()["sha"], good.as_str());

    w.commit("mode", "broken\n");
    let third = w.deploy(3);
    assert_eq!(third["state"], "rolled_back", "{third}");
    let health = third["criteria"].as_array().unwrap().iter().find(|c| c["name"] == "health").unwrap().clone();
    assert!(health["passed"] == false && health["got"].as_str().unwrap().starts_with("500"), "{health}");
    assert!(third["rollback_criteria"].as_array().unwrap().iter().all(|c| c["passed"] == true), "{third}");
    assert_eq!((w.running(), w.current()), (format!("{good} good"), good.clone()));
    w.cli.until("it is live", || w.shown()["status"] == "live");
    w.message("Deployment 2 of test rolled back");
    let report = w.cli.run(&["deploy", "report", "test", "2"]).exits_with(0);
    report
        .prints("rolled back")
        .prints("boom: cannot open the database")
        .prints("# Runbook of test")
        .prints("docker compose -p test");

    // The same commit once more, and an unknown one.
    w.cli.run(&["deploy", "test", "--sha", &good]).exits_with(0);
    assert_eq!(w.ended(4)["state"], "deployed");
    let foreign = "0123456789abcdef0123456789abcdef01234567";
    w.cli.run(&["deploy", "test", "--sha", foreign]).exits_with(2).one_error("is not on the branch", "commit");
    w.cli.run(&["deploy", "nowhere"]).exits_with(2).one_error("there is no target", "skep deploy list");
    w.cli.run(&["deploy", "list"]).exits_with(0).prints("live");
}

#[test]
fn every_step_is_repeated_harmlessly_after_a_kill() {
    let w = world("");
    {
        let _service = w.cli.serve();
        assert_eq!(w.deploy(1)["state"], "deployed");
    }
    let good = w.head();
    let faults = [
        "after-rollout-checks",
        "after-rollout-start",
        "after-deploy-send",
        "after-deploy-config",
        "after-deploy-up",
        "after-deploy-finish",
        "after-rollout-deploy",
        "after-rollout-test",
        "before-rollout-end",
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        let sha = w.commit("mode", &format!("good{n}\n"));
        w.cli.run(&["deploy", "test"]).exits_with(0);
        let mut killed = w.serve_with_fault(fault);
        assert!(!killed.0.wait().unwrap().success(), "it is killed at {fault}");
        let _service = w.cli.serve_again();
        let ended = w.ended(n + 2);
        assert_eq!(
            (&ended["state"], ended["sha"].as_str()),
            (&"deployed".into(), Some(sha.as_str())),
            "{fault}: {ended}"
        );
        assert_eq!((w.running(), w.current()), (format!("{sha} good{n}"), sha), "{fault}");
        assert!(!w.root().join("lock").exists(), "{fault}");
    }
    // Old releases are removed, the one before stays.
    let releases = std::fs::read_dir(w.root().join("releases")).unwrap().count();
    assert!((2..=4).contains(&releases), "{releases}");
    assert!(!w.root().join("releases").join(&good).exists());
    // The way back, too.
    w.commit("mode", "broken\n");
    w.cli.run(&["deploy", "test"]).exits_with(0);
    let mut killed = w.serve_with_fault("after-rollout-back");
    assert!(!killed.0.wait().unwrap().success());
    let _service = w.cli.serve_again();
    let last = faults.len() + 2;
    assert_eq!(w.ended(last)["state"], "rolled_back");
    assert_eq!(w.shown()["rollouts"].as_array().unwrap().len(), last);
}

#[test]
fn what_lands_is_deployed_once_with_a_report_on_the_change() {
    let w = world("on = \"land\"");
    {
        let _service = w.cli.serve();
        w.cli.until("the target was seen", || w.shown()["status"] == "ready");
    }
    let mut killed = w.serve_with_fault("after-rollout-queued");
    w.cli.until("the service responds", || w.cli.path("data/service.json").is_file());
    let run =
        ["run", "--repo", "tool.git", "--goal", "b", "--engine", "command: echo b > a.txt", "--check", "true", "--yes"];
    w.cli.run(&run);
    assert!(!killed.0.wait().unwrap().success());
    let _service = w.cli.serve_again();
    let ended = w.ended(1);
    assert_eq!((&ended["state"], ended["sha"].as_str()), (&"deployed".into(), Some(w.head().as_str())), "{ended}");
    assert!(ended["run"].is_string(), "{ended}");
    let change = w.cli.run(&["change", "show", "tool#1"]).exits_with(0);
    assert!(change.out.contains("Deployment 1 of test: deployed"), "{}", change.out);
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(w.shown()["rollouts"].as_array().unwrap().len(), 1);
}

#[test]
fn a_person_approves_and_a_newer_version_takes_the_turn() {
    let w = world("approve = \"person\"");
    let _service = w.cli.serve();
    w.cli.run(&["deploy", "test"]).exits_with(0);
    w.cli.until("it waits", || w.rollout(1)["state"] == "waiting");
    w.cli.run(&["deploy", "list"]).exits_with(0).prints("rollout 1 waits for approval");
    assert_eq!(w.running(), "");
    w.message("Deployment 1 of test waits for approval");
    let newer = w.commit("mode", "good2\n");
    w.cli.run(&["deploy", "test"]).exits_with(0);
    w.cli.until("the newer one waits", || w.rollout(2)["state"] == "waiting");
    assert_eq!(w.rollout(1)["state"], "superseded");
    // What was seen is no longer what waits.
    let stale = w.cli.run(&["deploy", "approve", "test", "--rollout", "1"]);
    stale.one_error("rollout 2 of test waits now; nothing was answered", "Look at the target");
    assert_eq!(w.rollout(2)["state"], "waiting");
    w.cli.run(&["deploy", "approve", "test", "--rollout", "2"]).exits_with(0);
    let ended = w.ended(2);
    assert_eq!((&ended["state"], ended["sha"].as_str()), (&"deployed".into(), Some(newer.as_str())), "{ended}");
    assert!(ended["approved_by"].as_str().is_some_and(|by| by.starts_with("local:")), "{ended}");
    w.cli.run(&["deploy", "approve", "test"]).exits_with(2).one_error("no rollout of test waits", "skep deploy show");
    w.cli.run(&["deploy", "test"]).exits_with(0);
    w.cli.until("it waits", || w.rollout(3)["state"] == "waiting");
    w.cli.run(&["deploy", "decline", "test", "--why", "not on a Friday"]).exits_with(0);
    assert!(w.ended(3)["why"].as_str().unwrap().contains("not on a Friday"));

    // Suspended: nothing is deployed until somebody resumes it.
    w.cli.run(&["deploy", "suspend", "test", "--why", "the database moves"]).exits_with(0);
    assert_eq!(w.shown()["status"], "suspended");
    w.cli.run(&["deploy", "test", "--yes"]).exits_with(2).one_error("the database moves", "skep deploy resume test");
    w.cli.run(&["deploy", "resume", "test"]).exits_with(0);
    w.cli.until("it is live", || w.shown()["status"] == "live");

    // It stops answering: three red probes suspend it, and only a person resumes it.
    std::fs::write(w.host.join("running"), format!("{newer} broken")).unwrap();
    w.cli.until("it is suspended", || w.shown()["status"] == "suspended");
    w.message("test does not answer as expected: 500");
    assert!(w.shown()["suspended_why"].as_str().unwrap().contains("probes in a row"), "{}", w.shown());
    std::fs::write(w.host.join("running"), format!("{newer} good")).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(w.shown()["status"], "suspended");
    w.cli.run(&["deploy", "resume", "test"]).exits_with(0);
    w.cli.until("it is live", || w.shown()["status"] == "live");
}

#[test]
fn a_version_with_a_red_check_is_not_deployed_and_one_without_checks_needs_a_person() {
    let w = world_with("", "! grep -q red mode");
    let bare = "[deploy.bare]\nproject = \"bare\"\nkind = \"command\"\ncommand = \"true\"\ntest = true\n";
    let path = w.cli.path("data/skep.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}{bare}")).unwrap();
    w.cli.repo("bare", &[("notes.txt", "nothing to test\n")]);
    w.cli.run(&["project", "add", "bare.git", "--engine", "command: true"]).exits_with(0);
    let _service = w.cli.serve();
    let first = w.deploy(1);
    assert_eq!(
        (&first["state"], &first["proof"]),
        (&"deployed".into(), &"Green at this version: check-1".into()),
        "{first}"
    );
    let before = w.running();
    w.commit("mode", "red\n");
    let second = w.deploy(2);
    assert_eq!((&second["state"], &second["started_at"]), (&"failed".into(), &Value::Null), "{second}");
    let why = second["why"].as_str().unwrap();
    assert!(why.contains("check-1 is red") && why.contains("nothing was deployed"), "{why}");
    assert_eq!((w.running(), &w.shown()["status"]), (before, &"live".into()));
    w.message("Deployment 2 of test failed");

    // Nothing can show that this one is fit: although the target is for tests, a person decides.
    w.cli.run(&["deploy", "bare"]).exits_with(0);
    let shown = || w.cli.run(&["deploy", "show", "bare", "--json"]).exits_with(0).json()["deployment"].clone();
    w.cli.until("it waits", || shown()["waiting"] == 1);
    assert_eq!(shown()["rollouts"][0]["unproven"], true);
    w.cli.run(&["deploy", "show", "bare"]).exits_with(0).prints("the project has no checks");
    w.cli.run(&["deploy", "approve", "bare"]).exits_with(0);
    w.cli.until("it is deployed", || shown()["rollouts"][0]["state"] == "deployed");
}

#[test]
fn a_compose_file_that_reaches_the_host_is_refused_and_changes_nothing() {
    let w = world("");
    let _service = w.cli.serve();
    assert_eq!(w.deploy(1)["state"], "deployed");
    let before = w.running();
    let hostile = "{\"services\":{\"web\":{\"privileged\":true,\"volumes\":[{\"type\":\"bind\",\"source\":\"/\"}]}}}";
    w.commit("compose.yaml", hostile);
    let ended = w.deploy(2);
    assert_eq!((&ended["state"], &ended["deployment"]["changed"]), (&"failed".into(), &false.into()), "{ended}");
    let log = ended["deployment"]["log"].as_str().unwrap();
    assert!(log.contains("is privileged") && log.contains("mounts / of the host"), "{log}");
    assert_eq!(w.running(), before);
    assert_eq!(w.shown()["status"], "live");
}

/// The program of another person, with an access token of a role.
fn person(w: &World, name: &str, role: &str) -> impl Fn(&[&str]) -> CommandOutput {
    w.cli.run(&["user", "add", name, "--role", role]).exits_with(0);
    let rights = if role == "viewer" { "read" } else { "read,run" };
    let new = ["token", "new", name, "--person", name, "--rights", rights, "--json"];
    let token = w.cli.run(&new).exits_with(0).json()["token"].as_str().unwrap().to_owned();
    let service: Value =
        serde_json::from_str(&std::fs::read_to_string(w.cli.path("data/service.json")).unwrap()).unwrap();
    let url = format!("http://{}", service["address"].as_str().unwrap());
    move |args: &[&str]| {
        let machine = Cli::new();
        let mut command = machine.skep(args);
        command.env("SKEP_SERVER", &url).env("SKEP_TOKEN", &token);
        ended(command)
    }
}

/// Makes a request without a token, and returns status, headers and body.
fn open_request(w: &World, path: &str) -> (u16, String, String) {
    let service: Value =
        serde_json::from_str(&std::fs::read_to_string(w.cli.path("data/service.json")).unwrap()).unwrap();
    let address = service["address"].as_str().unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nsec-fetch-site: cross-site\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn rights_are_required_and_only_public_targets_are_public() {
    let w = world("approve = \"person\"\npublic = true");
    {
        let private = "[deploy.private]\nproject = \"tool\"\nkind = \"command\"\ncommand = \"true\"\n";
        let path = w.cli.path("data/skep.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{private}")).unwrap();
    }
    let _service = w.cli.serve();
    let (viewer, member) = (person(&w, "vera", "viewer"), person(&w, "max", "member"));
    viewer(&["deploy", "list"]).exits_with(0).prints("private");
    viewer(&["deploy", "test"]).exits_with(2).one_error("does not have the right `run`", "");
    member(&["deploy", "test", "--yes"]).exits_with(2).one_error("does not have the right `approve`", "");
    member(&["deploy", "test"]).exits_with(0);
    w.cli.until("it waits", || w.rollout(1)["state"] == "waiting");
    member(&["deploy", "approve", "test"]).exits_with(2).one_error("does not have the right `approve`", "");
    for args in [&["suspend", "test", "--why", "x"][..], &["resume", "test"], &["rollback", "test"]] {
        member(&[&["deploy"], args].concat()).exits_with(2).one_error("does not have the right `approve`", "");
    }
    member(&["sponsor", "add", "Acme", "--project", "tool"]).exits_with(2).one_error("right `admin`", "");
    assert_eq!(w.running(), "");
    assert!(!open_request(&w, "/api/v1/public/test/badge.json").2.contains("\"message\":\"live\""));
    w.cli.run(&["deploy", "approve", "test"]).exits_with(0);
    assert_eq!(w.ended(1)["asked_by"], "user:max");

    w.cli
        .run(&["sponsor", "add", "Acme", "--project", "tool", "--hosting", "--monthly", "20.00 USD", "--public"])
        .exits_with(0);
    w.cli.run(&["sponsor", "list"]).exits_with(0).prints("Acme").prints("$20.00").prints("hosting");
    w.cli.until("private is ready", || {
        let all = w.cli.run(&["deploy", "list", "--json"]).exits_with(0).json();
        all["deployments"].as_array().unwrap().iter().any(|d| d["target"] == "private" && d["status"] == "sponsored")
    });
    let (status, head, body) = open_request(&w, "/api/v1/public/test/badge.json");
    assert!(status == 200 && head.contains("cache-control: public, max-age=60"), "{head}");
    let badge: Value = serde_json::from_str(&body).unwrap();
    let shield = serde_json::json!({"schemaVersion": 1, "label": "test", "message": "live", "color": "brightgreen"});
    assert_eq!(badge, shield);
    let (status, head, body) = open_request(&w, "/api/v1/public/test/badge.svg");
    assert!(status == 200 && head.contains("image/svg+xml") && body.contains(">live</text>"), "{head} {body}");
    let (_, _, body) = open_request(&w, "/api/v1/public/test/deployment");
    let public: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&public["status"], &public["sponsors"][0]), (&"live".into(), &"Acme".into()), "{public}");
    for name in ["private", "nowhere"] {
        for part in ["deployment", "badge.json", "badge.svg"] {
            assert_eq!(open_request(&w, &format!("/api/v1/public/{name}/{part}")).0, 404, "{name} {part}");
        }
    }
    assert_eq!(open_request(&w, "/api/v1/deployments").0, 403, "other sites may only see what is public");
    let status = || {
        let shown = w.cli.run(&["deploy", "show", "private", "--json"]).exits_with(0).json();
        shown["deployment"]["status"].as_str().unwrap().to_owned()
    };
    w.cli.run(&["sponsor", "pause", "Acme", "--project", "tool"]).exits_with(0);
    w.cli.run(&["sponsor", "list"]).exits_with(0).prints("paused");
    assert_eq!(status(), "ready");
    w.cli.run(&["sponsor", "resume", "Acme", "--project", "tool"]).exits_with(0);
    assert_eq!(status(), "sponsored");
    w.cli.run(&["sponsor", "end", "Acme", "--project", "tool"]).exits_with(0);
    w.cli.run(&["sponsor", "list"]).exits_with(0).prints("ended");
    let late = w.cli.run(&["sponsor", "resume", "Acme", "--project", "tool"]).exits_with(2);
    late.one_error("no longer sponsors", "skep sponsor add");
}

#[test]
fn commands_and_hooks_deploy_and_go_back() {
    let w = world("");
    let host = w.host.display();
    let more = format!(
        "[deploy.script]\nproject = \"tool\"\nkind = \"command\"\nrunner = \"box\"\ntest = true\n\
         secrets = [\"DB_PASSWORD\"]\nenv = {{ WORD = \"it's $HOME\" }}\n\
         command = \"echo $DB_PASSWORD; printf %s \\\"$WORD\\\" > {host}/word; cat mode; echo {{sha}} > {host}/script; grep -q good mode\"\n\
         [deploy.here]\nproject = \"tool\"\nkind = \"command\"\ntest = true\ncommand = \"grep good mode && test -e other/x\"\n\
         [deploy.web]\nproject = \"tool\"\nkind = \"hook\"\ntest = true\nurl_secret = \"HOOK\"\n\
         query = {{ ref = \"{{sha}}\" }}\nurl = \"http://127.0.0.1:{}\"\n[deploy.web.accept.version]\n\
         http = \"/version\"\nbody = \"{{sha7}}\"\nwithin = \"5s\"\n",
        w.app
    );
    let path = w.cli.path("data/skep.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}{more}")).unwrap();
    w.secret("HOOK", &format!("http://127.0.0.1:{}/hook?key=s3cr3t-hook-key", w.app));
    let shown =
        |target: &str| w.cli.run(&["deploy", "show", target, "--json"]).exits_with(0).json()["deployment"].clone();
    let deploy = |target: &str, number: usize| {
        w.cli.run(&["deploy", target]).exits_with(0);
        let newest = || shown(target)["rollouts"][0].clone();
        w.cli.until("the rollout ends", || newest()["number"] == number && newest()["ended"] == true);
        newest()
    };
    let good = w.head();
    for (target, fault) in [("script", "after-deploy-command"), ("web", "after-deploy-hook")] {
        w.cli.run(&["deploy", target]).exits_with(0);
        let mut killed = w.serve_with_fault(fault);
        assert!(!killed.0.wait().unwrap().success(), "it is killed at {fault}");
    }
    let _service = w.cli.serve_again();
    for target in ["script", "web"] {
        w.cli.until("the rollout ends", || shown(target)["rollouts"][0]["ended"] == true);
    }
    assert_eq!(deploy("here", 1)["state"], "deployed");
    for target in ["script", "here", "web"] {
        let shown = shown(target);
        assert_eq!((&shown["rollouts"][0]["state"], &shown["status"]), (&"deployed".into(), &"live".into()), "{shown}");
        assert_eq!(shown["rollouts"].as_array().unwrap().len(), 1, "{shown}");
    }
    assert_eq!(std::fs::read_to_string(w.host.join("word")).unwrap(), "it's $HOME", "values are data");
    let log = shown("script")["rollouts"][0]["deployment"]["log"].as_str().unwrap().to_owned();
    assert!(log.contains("good") && !log.contains(PASSWORD), "{log}");
    assert_eq!(w.running(), format!("{good} good"));
    w.commit("mode", "bad\n");
    let ended = deploy("script", 2);
    assert_eq!(ended["state"], "rolled_back", "{ended}");
    assert_eq!(std::fs::read_to_string(w.host.join("script")).unwrap().trim(), good);
    assert_eq!(deploy("here", 2)["state"], "rolled_back");
    assert_eq!(deploy("web", 2)["state"], "deployed");
    w.cli.run(&["deploy", "rollback", "web"]).exits_with(0);
    w.cli.until("the version before is back", || w.running() == format!("{good} good"));
    w.cli.until("it ended", || shown("web")["sha"] == good.as_str());
    let runbook = w.cli.run(&["deploy", "runbook", "script"]).exits_with(0);
    assert!(runbook.out.contains("export WORD='it'\\''s $HOME'"), "{}", runbook.out);
    assert!(runbook.out.contains("Set these variables first") && !runbook.out.contains(PASSWORD), "{}", runbook.out);
    // The runbook of a target without a host is carried out in a clone of the repository.
    let runbook = w.cli.run(&["deploy", "runbook", "here"]).exits_with(0).out;
    let lines: Vec<&str> = runbook.lines().skip_while(|line| !line.starts_with("## Deploy")).collect();
    let lines = lines.into_iter().skip_while(|line| !line.starts_with("```")).skip(1);
    let script: Vec<&str> = lines.take_while(|line| !line.starts_with("```")).collect();
    let mut by_hand = std::process::Command::new("sh");
    by_hand.args(["-ec", &script.join("\n")]).current_dir(w.cli.path("tool"));
    assert!(by_hand.output().unwrap().status.success(), "{script:?}");
    assert_eq!(git(&w.cli.path("tool"), &["rev-parse", "HEAD"]).trim(), good);
    let everything = format!("{}{}", shown("web"), shown("script"));
    assert!(!everything.contains("s3cr3t-hook-key") && !everything.contains(PASSWORD));
}

#[test]
fn a_target_that_cannot_work_is_refused_with_the_configuration() {
    let w = world("");
    let path = w.cli.path("data/skep.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    w.cli.run(&["config", "check"]).exits_with(0);
    for (from, to, why) in [
        ("runner = \"box\"", "runner = \"bx\"", "there is no SSH runner"),
        ("kind = \"compose-ssh\"", "kind = \"compose\"", "unknown kind of deployment"),
        ("compose = \"compose.yaml\"", "compose = \"../compose.yaml\"", "not a path in the repository"),
        ("files = [\"compose.yaml\"", "files = [\"/etc/**\"", "leads out of the repository"),
        ("secrets =", "secret =", "unknown key"),
        ("[deploy.test", "[deploy.list", "is a command"),
        ("url =", "uri =", "unknown key"),
        ("http = \"GET /health\"", "http = \"POST /health\"", "not a request"),
        ("limit = \"30s\"", "limit = 30", "a duration needs a unit"),
    ] {
        std::fs::write(&path, good.replace(from, to)).unwrap();
        let checked = w.cli.run(&["config", "check"]).exits_with(78);
        let text = format!("{}{}", checked.out, checked.err);
        assert!(text.contains(why), "{why}: {text}");
    }
}
