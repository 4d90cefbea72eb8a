//! Which hosts the checks of a repository need: read from lock files, from the configuration of the package managers,
//! and from the managers themselves.
//!
//! Invariant: of a configuration only host names are kept. It may hold tokens and passwords.

pub mod checkout;
mod gradle;
mod table;
#[cfg(test)]
mod tests;

use super::detect;
use crate::domain::{CheckKind, CheckSpec};
use crate::platform::egress::hosts::{Hosts as AllowedHosts, Resolver, entry, may_be_listed, normalize_host};
use crate::platform::process::{self, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use table::{MANAGERS, Manager, OF_ARCHIVES, REDIRECTS, SHORT_FORMS, Source};

/// Upper bounds on a file of the home directory, on listed hosts, and on the time a manager has to answer.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
const MAX_HOSTS: usize = 20;
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// Upper bounds on the time a name has to resolve, and on the addresses of one host that are proposed.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);
const MAX_ADDRESSES: usize = 4;
/// Ends of the address by which Cargo.lock names Cargo's own registry. Its hosts are elsewhere.
const CARGO_REGISTRY: &str = "/crates.io-index";

/// The hosts that a package manager needs for some checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// The package manager.
    pub manager: &'static str,
    /// The checks that start it.
    pub checks: Vec<String>,
    /// The hosts, with a port unless it is the usual one; empty = they could not be found out.
    pub hosts: Vec<String>,
}

/// The user's own configuration.
#[derive(Clone, Default)]
pub struct UserFiles {
    home: Option<PathBuf>,
    variables: BTreeMap<String, String>,
    environment: Vec<(OsString, OsString)>,
}

/// Prints nothing: variables may hold keys.
impl std::fmt::Debug for UserFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserFiles").finish_non_exhaustive()
    }
}

impl UserFiles {
    /// The files beneath HOME and the variables of this process.
    pub fn of_process() -> UserFiles {
        let names = MANAGERS.iter().flat_map(|m| m.variables.iter().copied()).chain(["CARGO_HOME", "GRADLE_USER_HOME"]);
        let variables = names.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))).collect();
        let environment = std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("SKEP_"));
        UserFiles { home: std::env::var_os("HOME").map(PathBuf::from), variables, environment: environment.collect() }
    }

    fn text(&self, file: &str) -> String {
        self.home.as_ref().map_or_else(String::new, |home| read(&home.join(file)))
    }

    fn cargo_home(&self) -> Option<PathBuf> {
        let named = self.variables.get("CARGO_HOME").map(PathBuf::from);
        named.or_else(|| self.home.as_ref().map(|home| home.join(".cargo")))
    }

    fn gradle_home(&self) -> Option<PathBuf> {
        let named = self.variables.get("GRADLE_USER_HOME").map(PathBuf::from);
        named.or_else(|| self.home.as_ref().map(|home| home.join(".gradle")))
    }

    /// Returns the hosts of Cargo's own registry: its index is cached under the index's host, with a file that names
    /// the address of the downloads.
    fn cargo_registry(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let Some(index) = self.cargo_home().map(|home| home.join("registry/index")) else { return found };
        for entry in std::fs::read_dir(index).into_iter().flatten().flatten().take(MAX_HOSTS) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let host = name.rsplit_once('-').and_then(|(host, _)| normalize_host(host));
            // A git clone of an index names a host that is not asked for any more.
            let config = read(&entry.path().join("config.json"));
            if let Some(host) = host.filter(|_| !config.is_empty()) {
                found.insert(host);
                found.extend(addresses(&config, "\"dl\": \""));
                found.extend(addresses(&config, "\"dl\":\""));
            }
        }
        found
    }
}

/// Returns whether a list of hosts allows a host, with its port.
pub fn is_allowed(allowed: &AllowedHosts, host: &str) -> bool {
    let (name, port) = with_port(host);
    allowed.check(name, port).is_ok()
}

fn with_port(host: &str) -> (&str, u16) {
    host.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse().ok()?))).unwrap_or((host, 443))
}

/// Returns the addresses that hosts lead to and that have to be allowed as well: those outside the public internet, as
/// of a mirror in a company's network. Addresses of this machine and of metadata services are never proposed, and a
/// host with an address that may be dialed needs no other one.
pub async fn private_addresses(hosts: &[String], allowed: &AllowedHosts, resolver: &dyn Resolver) -> Vec<String> {
    let resolved = hosts.iter().map(|host| async move {
        let (name, port) = with_port(host);
        // A name that cannot be resolved is reported by the command that needs it.
        tokio::time::timeout(RESOLVE_TIMEOUT, resolver.resolve(name, port)).await.ok()?.ok()
    });
    let mut found = BTreeSet::new();
    for addresses in futures::future::join_all(resolved).await.into_iter().flatten() {
        if !addresses.iter().any(|address| allowed.may_dial(*address)) {
            let listable = addresses.iter().filter(|a| may_be_listed(a.ip()) && !a.ip().to_canonical().is_loopback());
            found.extend(listable.map(|a| entry(&a.ip().to_canonical().to_string(), a.port())).take(MAX_ADDRESSES));
        }
    }
    found.into_iter().take(MAX_HOSTS).collect()
}

/// Returns the paths of a repository whose texts [`needed`] reads.
pub fn wanted(paths: &[String]) -> Vec<String> {
    let sources = MANAGERS.iter().flat_map(|m| m.locks.iter().chain(m.repo).chain(m.also));
    let plain = MANAGERS.iter().flat_map(|m| m.plain_locks.iter().copied());
    let names: BTreeSet<&str> = sources.map(|s| s.file).chain(plain).chain(["Cargo.toml"]).collect();
    // A project in a folder has its own lock file.
    let is_source = |path: &&String| {
        let near = path.matches('/').count() <= 2;
        near && names.iter().any(|n| path.strip_suffix(n).is_some_and(|dir| dir.is_empty() || dir.ends_with('/')))
    };
    paths.iter().filter(is_source).take(40).cloned().collect()
}

/// Returns what the checks need from the network.
pub async fn needed(
    checks: &[CheckSpec],
    paths: &[String],
    files: &BTreeMap<String, Vec<u8>>,
    user: &UserFiles,
) -> Vec<Needed> {
    let mut found = Vec::new();
    for manager in MANAGERS {
        let starting: Vec<&CheckSpec> = checks.iter().filter(|check| starts(manager, &check.command)).collect();
        // What a setup check installs is there for the others.
        let setup: Vec<&CheckSpec> = starting.iter().copied().filter(|check| check.kind == CheckKind::Setup).collect();
        let names = if setup.is_empty() { starting } else { setup };
        let mut missing: Vec<String> = Vec::new();
        for check in names {
            if !is_installed(check, user).await {
                missing.push(check.name.clone());
            }
        }
        if missing.is_empty() {
            continue;
        }
        let hosts = match hosts(manager, paths, files, user) {
            Hosts::Found(hosts) if hosts.is_empty() => continue,
            Hosts::Found(hosts) => hosts,
            Hosts::Ask(also) => ask(manager, user).await.into_iter().chain(also).collect(),
        };
        found.push(Needed {
            manager: manager.name,
            checks: missing,
            hosts: hosts.into_iter().take(MAX_HOSTS).collect(),
        });
    }
    found
}

/// Returns whether everything that a detected setup check would install is there already.
async fn is_installed(check: &CheckSpec, user: &UserFiles) -> bool {
    let Some(packages) = detect::packages(&check.command) else { return false };
    run(&format!("python3 -c '{}' {}", detect::HAS_PACKAGES, packages.join(" ")), user).await.is_some()
}

enum Hosts {
    /// Exactly these; none = nothing has to be downloaded.
    Found(BTreeSet<String>),
    /// The manager uses its defaults, and these.
    Ask(BTreeSet<String>),
}

/// Returns whether a command starts a manager to install something.
fn starts(manager: &Manager, command: &str) -> bool {
    let simple_commands = command.replace("\\\n", " ");
    simple_commands.split([';', '&', '|', '(', ')', '{', '}', '`', '!', '\n']).any(|simple| {
        let words: Vec<&str> = simple.split([' ', '\t', '\'', '"']).filter(|word| !word.is_empty()).collect();
        let is_program = |word: &str| {
            let name = word.rsplit('/').next().unwrap_or(word);
            manager.programs.iter().any(|p| *p == name || (p.contains('/') && word.starts_with(p)))
        };
        let mut programs = words.iter().enumerate().filter(|(_, word)| is_program(word));
        match manager.installs {
            // Where every command of a manager counts, its name as an argument of another program does not.
            [] => programs.any(|(at, _)| is_started(&words[..at])),
            installs => programs.any(|(at, _)| words[at..].iter().any(|word| installs.contains(word))),
        }
    })
}

/// Words before a program that start it.
const STARTERS: &[&str] = &[
    "env", "exec", "time", "timeout", "nice", "xargs", "run", "npx", "-m", "-c", "then", "do", "else", "sh", "bash",
    "sudo",
];

/// Returns whether a program follows these words of a simple command, and not an argument of one.
fn is_started(before: &[&str]) -> bool {
    // What a starter takes for itself: `timeout 60`, `nice -n 10`.
    let is_option =
        |word: &str| word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && !STARTERS.contains(&word);
    let is_variable = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    before
        .iter()
        .rfind(|word| !is_option(word))
        .is_none_or(|last| STARTERS.contains(last) || last.split_once('=').is_some_and(|(name, _)| is_variable(name)))
}

fn hosts(manager: &Manager, paths: &[String], files: &BTreeMap<String, Vec<u8>>, user: &UserFiles) -> Hosts {
    let text = |path: &str| files.get(path).map(|bytes| String::from_utf8_lossy(bytes));
    let named = |name: &str| {
        let is_it = |path: &&String| path.strip_suffix(name).is_some_and(|dir| dir.is_empty() || dir.ends_with('/'));
        paths.iter().filter(is_it).cloned().collect::<Vec<_>>()
    };
    let of_repo = |sources: &[Source]| {
        let mut found = BTreeSet::new();
        for source in sources {
            for text in named(source.file).iter().filter_map(|path| text(path)) {
                let text = match manager.name {
                    "gradle" => gradle::reached(source.file, &text, user).into(),
                    _ => text,
                };
                found.extend(source.before.iter().flat_map(|before| addresses(&text, before)));
            }
        }
        if OF_ARCHIVES.contains(&manager.name) {
            let redirected = REDIRECTS.iter().filter(|(from, _)| found.contains(*from)).map(|(_, to)| (*to).to_owned());
            found.extend(redirected.collect::<Vec<_>>());
        }
        found
    };
    let mut configured = of_repo(manager.repo);
    for source in manager.home {
        let text = user.text(source.file);
        configured.extend(source.before.iter().flat_map(|before| addresses(&text, before)));
    }
    for value in manager.variables.iter().filter_map(|name| user.variables.get(*name)) {
        configured.extend(value.split([' ', ',', '|']).filter_map(host_of));
    }
    // Packages that lie beside their lock file are not downloaded. Such a folder among test data says nothing.
    let locks = manager.locks.iter().map(|lock| lock.file).chain(manager.plain_locks.iter().copied());
    let mut projects: Vec<String> =
        locks.flat_map(|lock| named(lock).into_iter().map(|path| path[..path.len() - lock.len()].to_owned())).collect();
    projects.push(String::new());
    let is_vendored = |path: &String| {
        let below = |project: &String| {
            path.strip_prefix(project.as_str()).is_some_and(|rest| rest.starts_with(manager.vendored))
        };
        projects.iter().any(below)
    };
    if !manager.vendored.is_empty() && paths.iter().any(is_vendored) {
        return Hosts::Found(BTreeSet::new());
    }
    let has_lock = manager.locks.iter().any(|lock| !named(lock.file).is_empty());
    // An empty file of checksums, as Go writes it, lists nothing.
    let is_empty = |path: &String| manager.name == "go" && text(path).is_some_and(|text| text.trim().is_empty());
    let has_plain_lock = manager.plain_locks.iter().flat_map(|lock| named(lock)).any(|path| !is_empty(&path));
    if manager.name == "cargo" {
        return cargo(has_lock, &named("Cargo.lock"), &named("Cargo.toml"), &text, configured, user);
    }
    let (locked, also) = (of_repo(manager.locks), of_repo(manager.also));
    match (locked.is_empty(), has_lock, has_plain_lock) {
        (false, ..) => Hosts::Found(locked.into_iter().chain(configured).chain(also).collect()),
        (true, true, false) => Hosts::Found(BTreeSet::new()),
        // Go writes its checksums as soon as there is a dependency.
        (true, false, false) if manager.name == "go" => Hosts::Found(BTreeSet::new()),
        _ if configured.is_empty() => Hosts::Ask(also),
        _ => Hosts::Found(configured.into_iter().chain(also).collect()),
    }
}

fn cargo<'t>(
    has_lock: bool,
    locks: &[String],
    manifests: &[String],
    text: &dyn Fn(&str) -> Option<std::borrow::Cow<'t, str>>,
    configured: BTreeSet<String>,
    user: &UserFiles,
) -> Hosts {
    let mut found = BTreeSet::new();
    let mut uses_registry = false;
    for text in locks.iter().filter_map(|path| text(path)) {
        for line in text.lines().filter(|line| line.starts_with("source = \"")) {
            match line.trim_end_matches('"').split(['?', '#']).next() {
                Some(url) if url.ends_with(CARGO_REGISTRY) => uses_registry = true,
                _ => found.extend(addresses(line, "source = \"")),
            }
        }
    }
    if !has_lock {
        let has_dependencies = |text: &str| text.lines().any(|line| line.trim().ends_with("dependencies]"));
        for text in manifests.iter().filter_map(|path| text(path)) {
            uses_registry |= has_dependencies(&text);
            let no_spaces = text.replace(' ', "");
            found.extend(["git=\"", "git='"].iter().flat_map(|before| addresses(&no_spaces, before)));
        }
    }
    match (uses_registry, configured.is_empty()) {
        (false, _) => Hosts::Found(found),
        (true, false) => Hosts::Found(found.into_iter().chain(configured).collect()),
        (true, true) => match user.cargo_registry() {
            hosts if hosts.is_empty() => Hosts::Ask(found),
            hosts => Hosts::Found(found.into_iter().chain(hosts).collect()),
        },
    }
}

/// Asks a manager for the addresses it uses by default: started by Skep in an empty folder, so that nothing of a
/// repository is read.
async fn ask(manager: &Manager, user: &UserFiles) -> BTreeSet<String> {
    for line in manager.ask.split("||").map(str::trim).filter(|line| !line.is_empty()) {
        // A manager may know the question and not the answer: Yarn 1 prints "undefined", and succeeds.
        let output = run(line, user).await.unwrap_or_default();
        let hosts: BTreeSet<String> = output.split([' ', ',', '|', '\n', '\t']).filter_map(host_of).collect();
        if !hosts.is_empty() {
            return hosts;
        }
    }
    BTreeSet::new()
}

/// Runs one of Skep's own command lines in an empty folder and returns its output, if it succeeds.
async fn run(line: &str, user: &UserFiles) -> Option<String> {
    let dir = tempfile::tempdir().ok()?;
    let program = Program {
        name: "/bin/sh".into(),
        args: vec!["-c".into(), line.into()],
        env: user.environment.clone(),
        dir: dir.path().to_owned(),
        stdin: Vec::new(),
        timeout: ASK_TIMEOUT,
        max_output: 16 * 1024,
    };
    let finished = process::run(&program, None).await.ok().filter(process::ProcessOutput::ok)?;
    Some(String::from_utf8_lossy(&finished.stdout).into_owned())
}

/// Returns the hosts of the addresses that follow `before` in a text.
fn addresses(text: &str, before: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if let Some((_, host)) = SHORT_FORMS.iter().find(|(short, _)| before.ends_with(short)) {
        found.extend(text.contains(before).then(|| (*host).to_owned()));
        return found;
    }
    for (at, _) in text.match_indices(before) {
        let rest = &text[at + before.len()..];
        let end = rest.find(['\n', ' ', ',', '<', ';']).unwrap_or(rest.len());
        // In some files the name goes on: `index-url = https://…`, `extra-index-url=https://…`.
        let value = rest[..end].trim_matches(['"', '\'', '=', '(', ')', '{', '}']);
        let value =
            if value.is_empty() { rest.lines().next().unwrap_or("").trim_matches([' ', '=', '"']) } else { value };
        if found.len() < MAX_HOSTS
            && let Some(host) = host_of(value)
        {
            found.insert(host);
        }
    }
    found
}

/// Returns the host of an address, with its port unless it is the usual one. A user name and a password are dropped.
fn host_of(address: &str) -> Option<String> {
    let address = address.trim().replace('\\', "");
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => ("", address.strip_prefix("//").unwrap_or(&address)),
    };
    let authority = rest.split(['/', '?', '#', '"', '\'']).next()?;
    let authority = authority.rsplit('@').next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
        _ => (authority, None),
    };
    let host = normalize_host(host).filter(|host| host.contains('.') || !scheme.is_empty())?;
    let is_file = matches!(scheme, "file" | "workspace" | "link");
    // A word of another kind has neither a scheme nor the form of a name.
    let is_name = !scheme.is_empty() || host.rsplit('.').next().is_some_and(|l| l.chars().all(char::is_alphabetic));
    if is_file || !is_name {
        return None;
    }
    match port.filter(|port| !matches!(*port, "443" | "80" | "")) {
        Some(port) => Some(format!("{host}:{port}")),
        None => Some(host),
    }
}

/// Reads a file of the user; empty if it is missing, too large, or no file.
fn read(path: &Path) -> String {
    let is_file = std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= MAX_FILE_BYTES);
    let mut text = String::new();
    if is_file && let Ok(file) = std::fs::File::open(path) {
        // A file that is not text names no host.
        let _unreadable = file.take(MAX_FILE_BYTES).read_to_string(&mut text);
    }
    text
}
