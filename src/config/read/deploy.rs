//! Keys of deployments: `[deploy.NAME]`, with the criteria in `[deploy.NAME.accept.NAME]`.

use super::super::reader::Reader;
use super::super::sections::Config;
use super::{Parsed, is_page_address, variable_name, wrong};
use crate::adapters::runner::settings::Runner;
use crate::domain::ProjectName;
use crate::domain::deployment::{Criterion, CriterionTest, HostAddress, Method, Target};
use crate::domain::policy::PathPattern;
use crate::secrets::SecretName;
use std::collections::BTreeMap;
use std::time::Duration;

/// Names that are commands of `skep deploy`.
const COMMANDS: [&str; 11] =
    ["approve", "decline", "help", "list", "probe", "report", "resume", "rollback", "runbook", "show", "suspend"];
/// What `allow` may contain.
const ALLOWANCES: [&str; 5] = ["privileged", "host-network", "host-pid", "host-mounts", "docker-socket"];
const KINDS: &str = "write kind = \"command\", \"compose-ssh\" or \"hook\"";
/// Longest command line, in bytes.
const MAX_COMMAND_BYTES: usize = 8 * 1024;
/// Longest description of where a secret is set, in bytes.
const MAX_PLACE_BYTES: usize = 500;
/// Longest expected text of a body, in bytes.
const MAX_BODY_TEXT: usize = 4 * 1024;

type KeyOf<'a> = &'a dyn Fn(&str) -> String;

/// Reads every target.
pub(super) fn read(r: &mut Reader, c: &mut Config) {
    for name in r.names("deploy") {
        let at = |key: &str| format!("deploy.{name}.{key}");
        if COMMANDS.contains(&name.as_str()) {
            r.refuse(&at("kind"), format!("`skep deploy {name}` is a command"), "choose another name");
        }
        let before = r.problems.len();
        let target = target(r, c, &name, &at);
        if r.problems.len() == before
            && let Some(target) = target
        {
            c.deploy.push(target);
        }
    }
}

fn target(r: &mut Reader, c: &Config, name: &str, at: KeyOf<'_>) -> Option<Target> {
    let mut project = None;
    r.checked(&at("project"), &mut project, |t| match ProjectName::new(t) {
        Ok(name) => Ok(Some(name)),
        Err(why) => wrong(why, "`skep project list` lists the projects"),
    });
    require(r, &at("project"), project.is_some(), "a project");
    let runner = runner(r, c, at);
    let (mut env, mut secrets) = (BTreeMap::new(), Vec::new());
    r.texts(&at("env"), &mut env, |name, value| match (variable_name(name), value.contains('\0')) {
        (Ok(_), false) if !name.is_empty() => Ok(()),
        (Err(problem), _) => Err(problem),
        _ => wrong("one entry cannot be a variable", "write NAME = \"text\""),
    });
    r.list(&at("secrets"), &mut secrets, |t| match t {
        "" => wrong("one entry is empty", "write the names of secrets in the vault"),
        t => variable_name(t).map(drop),
    });
    let mut secrets_elsewhere = BTreeMap::new();
    r.texts(&at("secrets_elsewhere"), &mut secrets_elsewhere, |name, place| {
        let is_line = !place.trim().is_empty() && place.len() <= MAX_PLACE_BYTES && !place.contains(char::is_control);
        match (variable_name(name), is_line) {
            (Err(problem), _) => Err(problem),
            (Ok(_), true) => Ok(()),
            (Ok(_), false) => {
                wrong("one entry does not say where", "write STRIPE_KEY = \"Render dashboard, Environment\"")
            }
        }
    });
    let mut files = Vec::new();
    r.list(&at("files"), &mut files, |t| match PathPattern::problem(t) {
        None if !t.starts_with('/') => Ok(()),
        None => wrong("one entry leads out of the repository", "write patterns such as \"deploy/**\""),
        Some(why) => {
            wrong(format!("one entry is not a usable path pattern: {why}"), "write patterns such as \"deploy/**\"")
        }
    });
    let criteria = criteria(r, name);
    let method = method(r, name, at)?;
    let (mut on_land, mut test, mut approve) = (false, false, None);
    r.checked(&at("on"), &mut on_land, |t| match t {
        "land" => Ok(true),
        "request" => Ok(false),
        _ => {
            wrong("unknown value", "write \"land\" (what lands is deployed) or \"request\" (a person starts a rollout)")
        }
    });
    r.flag(&at("test"), &mut test);
    r.checked(&at("approve"), &mut approve, |t| match t {
        "person" => Ok(Some(true)),
        "never" => Ok(Some(false)),
        _ => wrong("unknown value", "write \"person\" (a person approves each rollout) or \"never\""),
    });
    let (mut is_reversible, mut rolls_back) = (true, true);
    r.flag(&at("reversible"), &mut is_reversible);
    r.flag(&at("rollback"), &mut rolls_back);
    // A hook that is not told the version always deploys the newest one.
    if let Method::Hook { query, .. } = &method {
        rolls_back &= query.values().any(|value| value.contains("{sha"));
    }
    if !is_reversible && approve == Some(false) {
        r.refuse(&at("approve"), "a target that is not reversible always needs a person", "remove this key");
    }
    let mut limit = Duration::from_secs(600);
    r.duration(&at("limit"), &mut limit, "10s", "6h");
    let mut keep = 3;
    r.number(&at("keep"), &mut keep, 1..=50);
    let url = url(r, at);
    let mut probe = Duration::from_secs(60);
    r.duration(&at("probe"), &mut probe, "1s", "1day");
    let mut branch = None;
    r.checked(&at("branch"), &mut branch, |t| match t.trim() {
        "" => wrong("the value is empty", "write a branch, or leave the key out for the project's base branch"),
        t => Ok(Some(t.to_owned())),
    });
    let mut is_public = false;
    r.flag(&at("public"), &mut is_public);
    let mut is_on_forge = false;
    r.flag(&at("on_forge"), &mut is_on_forge);
    let mut suspends_unsponsored = false;
    r.checked(&at("unsponsored"), &mut suspends_unsponsored, |t| match t {
        "suspend" => Ok(true),
        "keep" => Ok(false),
        _ => wrong("unknown value", "write \"keep\" or \"suspend\" (a week after the last sponsor stopped)"),
    });
    check(r, at, &method, runner.as_deref(), (&env, &secrets), (&criteria, url.as_deref()));
    Some(Target {
        name: name.to_owned(),
        project: project?,
        method,
        host: runner.as_deref().and_then(|runner| host(c, runner, name)),
        runner,
        files,
        env,
        secrets,
        secrets_elsewhere,
        on_land,
        needs_approval: !is_reversible || approve.unwrap_or(!test),
        timeout_secs: limit.as_secs(),
        keep,
        rolls_back: rolls_back && is_reversible,
        is_reversible,
        url,
        probe_secs: probe.as_secs().max(1),
        branch,
        is_public,
        is_on_forge,
        suspends_unsponsored,
        criteria,
    })
}

fn require(r: &mut Reader, key: &str, is_set: bool, what: &str) {
    if !is_set && !r.is_bad(key) {
        let word = key.rsplit('.').next().unwrap_or(key);
        r.refuse(key, format!("a target of this kind needs {what}"), format!("add {word} = \"…\""));
    }
}

fn runner(r: &mut Reader, c: &Config, at: KeyOf<'_>) -> Option<String> {
    let mut runner = None;
    r.checked(&at("runner"), &mut runner, |t| Ok(Some(t.to_owned())));
    if let Some(name) = &runner
        && !matches!(c.runners.get(name), Some(Runner::Ssh(_)))
    {
        let why = format!("there is no SSH runner {name:?}");
        r.refuse(&at("runner"), why, "add a table [runners.NAME] with kind = \"ssh\" (docs/runners.md), and name it");
    }
    runner
}

/// Returns the address of a runner.
fn host(c: &Config, runner: &str, target: &str) -> Option<HostAddress> {
    match c.runners.get(runner)? {
        Runner::Ssh(ssh) => Some(HostAddress {
            login: format!("{}@{}", ssh.user, ssh.host),
            port: ssh.port,
            dir: format!("{}/deploy/{target}", ssh.dir),
        }),
        Runner::Docker(_) => None,
    }
}

fn method(r: &mut Reader, name: &str, at: KeyOf<'_>) -> Option<Method> {
    let mut kind = String::new();
    r.checked(&at("kind"), &mut kind, |t| match t {
        "command" | "compose-ssh" | "hook" => Ok(t.to_owned()),
        _ => wrong("unknown kind of deployment", KINDS),
    });
    let mut command_line = String::new();
    r.checked(&at("command"), &mut command_line, command);
    let (mut file, mut compose_name, mut allow) = (String::new(), name.to_owned(), Vec::new());
    r.checked(&at("compose"), &mut file, |t| {
        let is_path = t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
        match is_path && !t.is_empty() && !t.starts_with(['/', '-']) && !t.split('/').any(|part| part == "..") {
            true => Ok(t.to_owned()),
            false => wrong("this is not a path in the repository", "write one such as \"deploy/compose.yaml\""),
        }
    });
    r.checked(&at("name"), &mut compose_name, |t| {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        match (1..=63).contains(&t.len()) && t.bytes().all(good) && t.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            true => Ok(t.to_owned()),
            false => wrong("this cannot be the name of a compose project", "use a-z, 0-9, _ and -"),
        }
    });
    r.list(&at("allow"), &mut allow, |t| match ALLOWANCES.contains(&t) {
        true => Ok(()),
        false => wrong("one entry is unknown", format!("use some of {}", ALLOWANCES.join(", "))),
    });
    let (mut url_secret, mut query) = (String::new(), BTreeMap::new());
    r.checked(&at("url_secret"), &mut url_secret, |t| match SecretName::new(t) {
        Ok(_) => Ok(t.to_owned()),
        Err(why) => wrong(why, "store the address with `skep secret set NAME`"),
    });
    r.texts(&at("query"), &mut query, |name, _| match name.is_empty() {
        true => wrong("one name is empty", "write ref = \"{sha}\""),
        false => Ok(()),
    });
    match kind.as_str() {
        "command" => {
            require(r, &at("command"), !command_line.is_empty(), "a command");
            Some(Method::Command { command: command_line })
        }
        "compose-ssh" => {
            require(r, &at("compose"), !file.is_empty(), "a compose file");
            Some(Method::Compose { file, name: compose_name, allow })
        }
        "hook" => {
            require(r, &at("url_secret"), !url_secret.is_empty(), "the secret that holds its address");
            Some(Method::Hook { url_secret, query })
        }
        _ => {
            if !r.is_bad(&at("kind")) {
                r.refuse(&at("kind"), "a target needs a kind", KINDS);
            }
            None
        }
    }
}

fn command(text: &str) -> Parsed<String> {
    match text.trim() {
        "" => wrong("the command is empty", "write a command line"),
        t if t.len() > MAX_COMMAND_BYTES || t.contains('\0') => {
            wrong("the command is longer than 8 KiB", "write it into a file of the repository, and call that")
        }
        t => Ok(t.to_owned()),
    }
}

fn url(r: &mut Reader, at: KeyOf<'_>) -> Option<String> {
    let mut url = None;
    r.checked(&at("url"), &mut url, |t| match t.trim_end_matches('/') {
        t if is_page_address(t) => Ok(Some(t.to_owned())),
        _ => wrong("this is not an http or https address", "write one such as \"https://tally.example.org\""),
    });
    url
}

fn criteria(r: &mut Reader, target: &str) -> Vec<Criterion> {
    let table = format!("deploy.{target}.accept");
    let mut criteria = Vec::new();
    for name in r.names(&table) {
        let at = |key: &str| format!("{table}.{name}.{key}");
        let (mut path, mut status, mut body, mut line) = (None::<String>, 200_u16, None, None);
        r.checked(&at("http"), &mut path, |t| {
            let path = t.strip_prefix("GET ").unwrap_or(t);
            match path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) && path.len() <= 1_000 {
                true => Ok(Some(path.to_owned())),
                false => wrong("this is not a request", "write \"GET /path\""),
            }
        });
        r.number(&at("status"), &mut status, 100..=599);
        r.checked(&at("body"), &mut body, |t| match t.len() {
            1..=MAX_BODY_TEXT => Ok(Some(t.to_owned())),
            _ => wrong("the text is empty, or longer than 4 KiB", "write a text that the body contains"),
        });
        r.checked(&at("command"), &mut line, |t| command(t).map(Some));
        let (mut within, mut limit) = (Duration::from_secs(60), Duration::from_secs(60));
        r.duration(&at("within"), &mut within, "1s", "1h");
        r.duration(&at("limit"), &mut limit, "1s", "1h");
        let (test, time) = match (path, line) {
            (Some(path), None) => (CriterionTest::Http { path, status, body }, within),
            (None, Some(command)) => (CriterionTest::Command { command }, limit),
            (Some(_), Some(_)) => {
                r.refuse(&at("command"), "http is set as well", "keep one of them, or write two criteria");
                continue;
            }
            (None, None) => {
                if !r.is_bad(&at("http")) && !r.is_bad(&at("command")) {
                    r.refuse(&at("http"), "a criterion needs a request or a command", "add http = \"GET /path\"");
                }
                continue;
            }
        };
        criteria.push(Criterion { name, test, within_secs: time.as_secs().max(1) });
    }
    criteria
}

/// Checks constraints between the keys.
fn check(
    r: &mut Reader,
    at: KeyOf<'_>,
    method: &Method,
    runner: Option<&str>,
    (env, secrets): (&BTreeMap<String, String>, &[String]),
    (criteria, url): (&[Criterion], Option<&str>),
) {
    let requests = || criteria.iter().filter(|c| matches!(c.test, CriterionTest::Http { .. }));
    if requests().next().is_some() && url.is_none() && !r.is_bad(&at("url")) {
        r.refuse(&at("url"), "a criterion makes a request, and the target has no address", "add url = \"https://…\"");
    }
    match method {
        Method::Compose { .. } if runner.is_none() => {
            r.refuse(&at("runner"), "a target of this kind needs a host", "name an SSH runner (docs/runners.md)");
        }
        Method::Hook { .. } if !criteria.iter().any(|criterion| criterion.test.names_version()) => {
            let fix = "add a criterion whose http answers the version, with body = \"{sha7}\"";
            r.refuse(&at("kind"), "a hook only reports that it was called, never what is deployed", fix);
        }
        _ => {}
    }
    if runner.is_none() && (!env.is_empty() || !secrets.is_empty()) {
        let key = if secrets.is_empty() { "env" } else { "secrets" };
        let fix = "name an SSH runner, or grant the project's checks what they need (docs/checks.md)";
        r.refuse(&at(key), "this key needs a runner, and the target has none", fix);
    }
}
