//! The keys of what commands are given, for all projects and for single ones.

use super::super::reader::Reader;
use super::super::sections::Config;
use super::{Parsed, wrong};
use crate::adapters::grants::Grants;
use crate::domain::ProjectName;
use std::net::IpAddr;

/// Reads what all projects are given, then each `[project.NAME]`: the same keys over it.
pub(super) fn read(r: &mut Reader, c: &mut Config) {
    grants(r, "", &mut c.granted.all);
    for name in r.names("project") {
        let mut own = c.granted.all.clone();
        grants(r, &format!("project.{name}."), &mut own);
        match ProjectName::new(&name) {
            Ok(project) => drop(c.granted.projects.insert(project, own)),
            Err(why) => {
                r.refuse(&format!("project.{name}"), why, "write a project's name, as `skep project list` has it")
            }
        }
    }
}

fn grants(r: &mut Reader, at: &str, g: &mut Grants) {
    r.list(&format!("{at}egress.hosts"), &mut g.hosts, host);
}

/// A host commands may reach: `pypi.org`, `*.crates.io`, either with `:PORT`.
fn host(text: &str) -> Parsed<()> {
    let fix = "write names such as \"pypi.org\", \"*.crates.io\" or \"proxy.example.org:8443\"";
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') => (name, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|p| p.parse::<u16>().is_err() || p == "0") {
        return wrong("the port of one entry is no port", fix);
    }
    if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let label = |l: &str| {
        (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !l.starts_with('-')
    };
    let plain = name.strip_prefix("*.").unwrap_or(name);
    match plain.len() <= 253 && plain.split('.').all(label) && (plain == name || plain.contains('.')) {
        true => Ok(()),
        false => wrong("one entry is no host's name", fix),
    }
}
