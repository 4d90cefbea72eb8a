//! Keys of the hosts, secrets and runners that commands are granted, for all projects and for single ones.

use super::super::reader::Reader;
use super::super::sections::Config;
use super::{Parsed, is_loopback, wrong};
use crate::adapters::runner::settings::LOCAL;
use crate::domain::ProjectName;
use crate::platform::access::settings::Grants;
use crate::platform::egress::settings::may_be_listed;
use crate::platform::sandbox::settings::is_protected;
use std::net::{IpAddr, SocketAddr};

/// Maximum length of the name of a secret in the vault.
const SECRET_NAME_MAX: usize = 64;
/// Maximum number of secrets in one list.
const SECRETS_MAX: usize = 50;

/// Reads the grants of all projects, then each `[project.NAME]`, whose keys override them.
pub(super) fn read(r: &mut Reader, c: &mut Config) {
    let runners: Vec<String> = c.runners.keys().cloned().collect();
    grants(r, "", &mut c.granted.all, &runners);
    let fix = "write the name of a project, as `skep project list` shows it";
    for name in r.names_that("project", |name| ProjectName::new(name).is_ok(), fix) {
        let Ok(project) = ProjectName::new(&name) else { continue };
        let mut own = c.granted.all.clone();
        grants(r, &format!("project.{}.", project.as_key()), &mut own, &runners);
        c.granted.projects.insert(project, own);
    }
}

fn grants(r: &mut Reader, at: &str, g: &mut Grants, runners: &[String]) {
    r.list(&format!("{at}egress.hosts"), &mut g.hosts, host);
    secrets(r, &format!("{at}checks.secrets"), &mut g.check_secrets);
    secrets(r, &format!("{at}engines.secrets"), &mut g.engine_secrets);
    let runner = |name: &str| match name == LOCAL || runners.iter().any(|runner| runner == name) {
        true => Ok(()),
        false => wrong("unknown runner", "add its table [runners.NAME], or write \"local\""),
    };
    r.checked(&format!("{at}checks.runner"), &mut g.runner, |name| {
        runner(name)?;
        Ok((name != LOCAL).then(|| name.to_owned()))
    });
    r.list(&format!("{at}checks.runners"), &mut g.runners, runner);
}

/// Checks the constraints between these keys and others.
pub(super) fn check(r: &mut Reader, c: &Config) {
    let own = c.granted.projects.iter().map(|(name, g)| (format!("project.{}.engines.secrets", name.as_key()), g));
    for (key, grants) in std::iter::once(("engines.secrets".to_owned(), &c.granted.all)).chain(own) {
        if grants.hosts.iter().any(|host| reaches(host, c.server.listen)) {
            let key = key.replace("engines.secrets", "egress.hosts");
            r.refuse(&key, "one entry is Skep's own API, which would let commands approve their work", "leave it out");
        }
        if grants.engine_secrets.iter().any(|name| c.engines.pass_env.contains(name)) {
            r.refuse(&key, "engines.pass_env names one of them as well", "keep one of them");
        }
    }
}

fn secrets(r: &mut Reader, key: &str, slot: &mut Vec<String>) {
    r.list(key, slot, secret);
    if slot.len() > SECRETS_MAX {
        r.refuse(key, format!("there are more than {SECRETS_MAX}"), "leave some out");
    }
    let twice = (1..slot.len()).any(|n| slot[..n].contains(&slot[n]));
    if twice {
        r.refuse(key, "one name is listed twice", "keep one of them");
    }
}

/// Checks that a secret's name is also the name of a variable, and that setting the variable has no side effects on a
/// command.
fn secret(name: &str) -> Parsed<()> {
    let fix = "write names of secrets that are also names of variables, such as \"DB_PASSWORD\"; `skep secret set` accepts any such name";
    let is_variable = name.len() <= SECRET_NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match is_variable {
        true if is_protected(name) => {
            wrong("one entry is a variable that Skep sets, or that decides which programs run", fix)
        }
        true => Ok(()),
        false => wrong("one entry is not the name of a variable (a letter, then letters, digits and _)", fix),
    }
}

/// Returns whether an entry reaches this address of the API.
fn reaches(entry: &str, api: SocketAddr) -> bool {
    let Some((name, port)) = entry.rsplit_once(':').filter(|(name, _)| !name.contains(':') || name.starts_with('['))
    else {
        return false;
    };
    port.parse() == Ok(api.port())
        && (is_loopback(name) || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip == api.ip()))
}

/// Checks an entry of a list of hosts.
///
/// # Errors
/// Why it cannot be one, and what to write instead.
pub fn check_host(text: &str) -> Result<(), (String, String)> {
    host(text).map_err(|unreadable| (unreadable.why, unreadable.fix))
}

/// Checks a host that commands may connect to: `pypi.org`, `*.crates.io`, either with `:PORT`.
fn host(text: &str) -> Parsed<()> {
    let fix = "write names such as \"pypi.org\", \"*.crates.io\" or \"proxy.example.org:8443\"";
    if let Some((_, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let name = authority.rsplit('@').next().unwrap_or_default();
        let example = if name.is_empty() { fix.to_owned() } else { format!("write only its host: \"{name}\"") };
        return wrong("one entry is a URL", example);
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') => (name, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|p| p.parse::<u16>().is_err() || p == "0") {
        return wrong("one entry has an invalid port", fix);
    }
    if let Ok(ip) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
        return match may_be_listed(ip) {
            true => Ok(()),
            false => wrong("one entry is an address that gives away credentials of this machine", "leave it out"),
        };
    }
    let label = |l: &str| {
        (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !l.starts_with('-')
    };
    let plain = name.strip_prefix("*.").unwrap_or(name);
    match plain.len() <= 253 && plain.split('.').all(label) && (plain == name || plain.contains('.')) {
        true => Ok(()),
        false => wrong("one entry is not a host name", fix),
    }
}
