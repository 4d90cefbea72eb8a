//! Granted secrets: the commands of their project get them, the log names them, and their values appear nowhere.

use crate::support::cli::{BackgroundProcess, Cli, CommandOutput, ended};
use crate::support::search::Search;
use sha2::{Digest, Sha256};
use std::process::Stdio;

const PASSWORD: &str = "cHeCk-7f2d90b1ce55-canary-of-a-check";
const DEPLOY: &str = "dEpLoY-51aa03ef9d77-canary-of-an-engine";

/// Creates a CLI with this configuration and the project `tool`.
fn cli(config: &str) -> Cli {
    let cli = Cli::new();
    std::fs::create_dir(cli.path("data")).unwrap();
    std::fs::write(cli.path("data/skep.toml"), config).unwrap();
    cli.repo("tool", &[("a.txt", "a\n")]);
    cli.run(&["project", "add", "tool.git"]).exits_with(0);
    cli
}

fn set(cli: &Cli, name: &str, project: &str, value: &str) -> CommandOutput {
    let mut command = cli.skep(&["secret", "set", name, "--project", project, "--from-env", "VALUE"]);
    command.env("VALUE", value);
    ended(command)
}

fn run(cli: &Cli, engine: &str, check: &str) -> CommandOutput {
    cli.run(&["run", "--repo", "tool.git", "--goal", "Do it", "--engine", engine, "--check", check, "--yes"])
}

/// Returns a shell line that succeeds if the variable has the value, and prints it. The line does not contain it.
fn has(name: &str, value: &str) -> String {
    let sum: String = Sha256::digest(value.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    format!("echo \"{name} is ${name}\"; printf %s \"${name}\" | sha256sum | grep -q {sum}")
}

const GRANTED: &str = "[project.tool.checks]\nsecrets = [\"DB_PASSWORD\"]\n[project.tool.engines]\nsecrets = [\"DEPLOY_KEY\"]\n\
    [agents.mine]\nprotocol = \"cli\"\ncommand = [\"sh\", \"{home}/do.sh\"]\n[agents.mine.files]\n\"do.sh\" = \"\"\"\n";

#[test]
fn checks_and_engines_get_their_secrets_and_only_the_names_are_shown() {
    let engine = format!("test -z \"$DB_PASSWORD\" && {} && echo b > a.txt", has("DEPLOY_KEY", DEPLOY));
    let check = format!("test -z \"$DEPLOY_KEY\" && {}", has("DB_PASSWORD", PASSWORD));
    let cli = cli(&format!("{GRANTED}{}\n\"\"\"\n", engine.replace('\\', "\\\\").replace("echo b", "echo c")));
    set(&cli, "DB_PASSWORD", "tool", PASSWORD).exits_with(0);
    set(&cli, "DEPLOY_KEY", "tool", DEPLOY).exits_with(0);
    let used = |name: &str| {
        let list = cli.run(&["secret", "list", "--json"]).exits_with(0).json();
        let rows = list["secrets"].as_array().unwrap().clone();
        rows.iter().find(|r| r["name"] == name).unwrap()["last_used_at"].clone()
    };
    assert!(used("DB_PASSWORD").is_null() && used("DEPLOY_KEY").is_null());

    let log = std::fs::File::create(cli.path("log")).unwrap();
    let mut serve = cli.skep(&["serve", "--listen", "127.0.0.1:0"]);
    serve.env("SKEP_TELEMETRY__LOG_LEVEL", "trace").stdout(Stdio::null()).stderr(log);
    let service = BackgroundProcess(serve.spawn().unwrap());
    cli.until("the service answers", || cli.path("data/service.json").is_file());
    let mut output = Vec::new();
    // A command, then a driven agent.
    for engine in [format!("command: {engine}"), "cli:mine".to_owned()] {
        let done = run(&cli, &engine, &check).exits_with(0);
        output.extend_from_slice(done.out.as_bytes());
        let id = cli.newest();
        for args in [&["show", &id, "--json"][..], &["events", &id, "--json"], &["logs", &id], &["show", &id]] {
            output.extend_from_slice(cli.run(args).exits_with(0).out.as_bytes());
        }
        let shown = cli.show(&id);
        let attempts = shown["attempts"].as_array().unwrap();
        let dev = attempts.iter().find(|a| a["step"] == "develop").unwrap();
        assert_eq!(dev["ended"]["secrets"][0], "DEPLOY_KEY", "{dev}");
        let events = cli.run(&["events", &id, "--json"]).exits_with(0).out;
        assert!(
            events.contains("\"secrets\":[\"DB_PASSWORD\"]") && !events.contains("\"secrets\":[\"DB_PASSWORD\",\"")
        );
    }
    let printed = String::from_utf8_lossy(&output);
    assert!(printed.contains("had access to the secrets DEPLOY_KEY"), "{printed}");
    for name in ["DEPLOY_KEY", "DB_PASSWORD"] {
        assert!(printed.contains(&format!("{name} is [redacted:{name}]")), "{printed}");
        assert!(used(name).is_number(), "{name} was used");
    }
    drop(service);
    let log = std::fs::read(cli.path("log")).unwrap();
    assert!(String::from_utf8_lossy(&log).contains("granted secrets of the vault"));
    let search = Search::of(&[PASSWORD, DEPLOY]);
    let mut found = search.find("what was printed", &output);
    found.extend(search.find("the log", &log));
    found.extend(search.find_below(&cli.path("data"), &|_| false));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_missing_secret_is_requested_by_name_and_the_command_does_not_run_without_it() {
    // The checks of the base would ask for their secret first.
    let cli = cli(
        "[policy]\nbase_checks = \"off\"\n[checks]\nsecrets = [\"DB_PASSWORD\"]\n[engines]\nsecrets = [\"DEPLOY_KEY\"]\n",
    );
    let check = has("DB_PASSWORD", PASSWORD);
    let output = run(&cli, "command: echo b > a.txt", &check).exits_with(4);
    assert!(
        output.out.contains("there is no secret DEPLOY_KEY, neither for project tool nor for all projects"),
        "{}",
        output.out
    );
    assert!(output.out.contains("skep secret set DEPLOY_KEY --project tool"), "{}", output.out);
    let id = cli.newest();
    assert_eq!(cli.show(&id)["escalations"][0]["code"], "engine");
    // A secret of another project does not count.
    cli.repo("other", &[("a.txt", "a\n")]);
    cli.run(&["project", "add", "other.git"]).exits_with(0);
    set(&cli, "DEPLOY_KEY", "other", DEPLOY).exits_with(0);
    cli.run(&["unblock", &id, "--follow"]).exits_with(4).prints("there is no secret DEPLOY_KEY");
    set(&cli, "DEPLOY_KEY", "tool", DEPLOY).exits_with(0);
    let output = cli.run(&["unblock", &id, "--follow"]).exits_with(4);
    assert!(output.out.contains("cannot start the check check-1: there is no secret DB_PASSWORD"), "{}", output.out);
    assert!(output.out.contains("skep secret set DB_PASSWORD --project tool"), "{}", output.out);
    assert_eq!(cli.show(&id)["escalations"][0]["code"], "effect");
    // A secret too short to be redacted is not granted.
    set(&cli, "DB_PASSWORD", "tool", "short").exits_with(0);
    cli.run(&["unblock", &id, "--follow"]).exits_with(4).prints("has fewer than 8 bytes");
    set(&cli, "DB_PASSWORD", "tool", PASSWORD).exits_with(0);
    cli.run(&["unblock", &id, "--follow"]).exits_with(4).prints("the merge waits for approval");
    let attempts = cli.show(&id)["attempts"].clone();
    let tries: Vec<_> = attempts.as_array().unwrap().iter().filter(|a| a["step"] == "develop").collect();
    assert_eq!(tries.iter().filter(|a| a["ended"]["ending"] == "unavailable").count(), tries.len() - 1, "{attempts}");
}

#[test]
fn without_isolation_no_secret_is_granted() {
    let cli = cli(
        "[sandbox]\nlevel = \"none\"\naccept_no_isolation = true\n[project.tool.checks]\nsecrets = [\"DB_PASSWORD\"]\n",
    );
    set(&cli, "DB_PASSWORD", "tool", PASSWORD).exits_with(0);
    let output = run(&cli, "command: echo b > a.txt", "touch ran; true").exits_with(4);
    assert!(
        output.out.contains("the secret DB_PASSWORD is not given to a run, because the sandbox level is none"),
        "{}",
        output.out
    );
}
