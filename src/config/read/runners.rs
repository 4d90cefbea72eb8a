//! Keys of runners other than this machine: `[runners.NAME]`.

use super::super::reader::Reader;
use super::super::sections::Config;
use super::{Parsed, wrong};
use crate::adapters::runner::settings::{Docker, LOCAL, Runner, Ssh};
use std::path::PathBuf;

/// Reads every runner.
pub(super) fn read(r: &mut Reader, c: &mut Config) {
    for name in r.names("runners") {
        let at = |key: &str| format!("runners.{name}.{key}");
        if name == LOCAL {
            r.refuse(&at("kind"), "\"local\" is the runner on this machine, in the sandbox", "choose another name");
        }
        let mut kind = String::new();
        r.checked(&at("kind"), &mut kind, |t| match t {
            "ssh" | "docker" => Ok(t.to_owned()),
            _ => wrong("unknown kind of runner", "write \"ssh\" or \"docker\""),
        });
        let runner = match kind.as_str() {
            "ssh" => Runner::Ssh(ssh(r, &at, true)),
            "docker" => Runner::Docker(docker(r, &at, true)),
            _ => {
                r.refuse(&at("kind"), "a runner needs a kind", "write kind = \"ssh\" or kind = \"docker\"");
                // Marks the keys of both kinds as known; required keys are reported once the kind is set.
                let (_ssh, _docker) = (ssh(r, &at, false), docker(r, &at, false));
                continue;
            }
        };
        c.runners.insert(name, runner);
    }
}

type KeyOf<'a> = &'a dyn Fn(&str) -> String;

/// Reads a string of letters, digits and the characters `more` that does not look like an option.
fn word(text: &str, more: &str, fix: &str) -> Parsed<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
    match (1..=255).contains(&text.len()) && !text.starts_with('-') && text.chars().all(good) {
        true => Ok(text.to_owned()),
        false => wrong("the value contains characters that are not allowed", fix),
    }
}

fn require(r: &mut Reader, key: &str, is_set: bool, what: &str, fix: &str) {
    if !is_set {
        r.refuse(key, format!("a runner of this kind needs {what}"), fix);
    }
}

fn ssh(r: &mut Reader, at: KeyOf<'_>, all: bool) -> Ssh {
    let mut s = Ssh {
        host: String::new(),
        port: 22,
        user: String::new(),
        identity_file: PathBuf::new(),
        known_hosts: PathBuf::new(),
        dir: ".skep".into(),
    };
    let host = "write its host name or address, such as \"ci.example.org\"";
    r.checked(&at("host"), &mut s.host, |t| word(t, ".-:_", host));
    require(r, &at("host"), !all || !s.host.is_empty(), "a host", host);
    r.number(&at("port"), &mut s.port, 1..=65_535);
    let user = "write the name of a dedicated user on that host, such as \"skep\"";
    r.checked(&at("user"), &mut s.user, |t| word(t, "._-", user));
    require(r, &at("user"), !all || !s.user.is_empty(), "a user", user);
    // ssh expands %, ~ and quotes in paths.
    let file = |t: &str| match t.starts_with('/') {
        true => word(t, "/._-+@, ", "write the absolute path, without quotes, % and ~").map(PathBuf::from),
        false => wrong("this is not an absolute path", "write the absolute path, starting with /"),
    };
    for (key, slot, what) in [
        ("identity_file", &mut s.identity_file, "a private key"),
        ("known_hosts", &mut s.known_hosts, "a file with its host keys: no other key is accepted"),
    ] {
        r.checked(&at(key), slot, file);
        require(r, &at(key), !all || !slot.as_os_str().is_empty(), what, "write the absolute path of that file");
    }
    r.checked(&at("dir"), &mut s.dir, |t| {
        let fix = "write a folder such as \".skep\" (in the user's home) or \"/var/lib/skep\"";
        match t.split('/').any(|part| part == "..") || t == "/" {
            true => wrong("this cannot be a folder of Skep", fix),
            false => word(t, "/._-", fix),
        }
    });
    s
}

fn docker(r: &mut Reader, at: KeyOf<'_>, all: bool) -> Docker {
    let mut d = Docker {
        image: String::new(),
        docker_host: String::new(),
        network: "none".into(),
        memory: 4 << 30,
        cpus: 2,
        processes: 4_096,
        user: (65_534, 65_534),
        runtime: String::new(),
    };
    let image = "write the name of an image, preferably with its digest: \"NAME@sha256:…\"";
    r.checked(&at("image"), &mut d.image, |t| word(t, "._-/:@", image));
    require(r, &at("image"), !all || !d.image.is_empty(), "an image", image);
    r.checked(&at("docker_host"), &mut d.docker_host, |t| {
        let fix = "write \"unix:///path/of/the.sock\" or \"tcp://127.0.0.1:PORT\"; for a Docker engine on another machine use kind = \"ssh\"";
        let loopback = |rest: &str| rest.starts_with("127.0.0.1:") || rest.starts_with("[::1]:");
        match (t.strip_prefix("unix:///"), t.strip_prefix("tcp://")) {
            _ if t.is_empty() => Ok(String::new()),
            (Some(_), _) => word(t, "/._-:", fix),
            (_, Some(rest)) if loopback(rest) => word(t, "/.:[]", fix),
            (_, Some(_)) => wrong("anyone on the network path could take over the engine's machine", fix),
            _ => wrong("this is not the address of a Docker engine", fix),
        }
    });
    let name = "write a name that the Docker engine knows";
    r.checked(&at("network"), &mut d.network, |t| match t {
        "host" => wrong(
            "the host's network gives access to everything that listens on it",
            "write \"none\", or the name of a dedicated network",
        ),
        t => word(t, "._-", name),
    });
    super::sandbox::bytes(r, &at("memory"), &mut d.memory);
    r.number(&at("cpus"), &mut d.cpus, 1..=1_024);
    r.number(&at("processes"), &mut d.processes, 16..=1_000_000);
    r.checked(&at("user"), &mut d.user, |t| {
        let ids = t.split_once(':').and_then(|(u, g)| Some((u.parse::<u32>().ok()?, g.parse::<u32>().ok()?)));
        ids.map_or_else(|| wrong("this is not a user", "write UID:GID as numbers, such as \"65534:65534\""), Ok)
    });
    r.checked(&at("runtime"), &mut d.runtime, |t| if t.is_empty() { Ok(String::new()) } else { word(t, "._-", name) });
    d
}
