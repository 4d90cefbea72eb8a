//! What a walled command sees of the host's files: the system, the toolchains, and nothing of anybody's home besides.

use super::environment::{Host, TOOLCHAINS};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Folders of the system; where one is a link, the link is seen.
const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];

/// What of `/etc` programs need, and nothing with a login in it: who is who is made up, names of the network lead nowhere.
#[rustfmt::skip]
const ETC: &[&str] = &[
    "/etc/alternatives", "/etc/ca-certificates", "/etc/ca-certificates.conf", "/etc/fonts", "/etc/hosts", "/etc/ld.so.cache",
    "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/magic", "/etc/mime.types", "/etc/nsswitch.conf",
    "/etc/os-release", "/etc/pki/ca-trust", "/etc/pki/tls", "/etc/protocols", "/etc/services", "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf", "/etc/timezone",
];

/// What of `/proc` is read at the level without a process namespace: nothing about anybody.
#[rustfmt::skip]
const PROC: &[&str] = &["/proc/cpuinfo", "/proc/filesystems", "/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/version"];

/// Variables of the host that name a path a toolchain needs.
#[rustfmt::skip]
const NAMED: &[&str] = &[
    "ANDROID_HOME", "ASDF_DIR", "CARGO_HTTP_CAINFO", "CURL_CA_BUNDLE", "DOTNET_ROOT", "GOROOT", "JAVA_HOME", "LIBCLANG_PATH",
    "NODE_EXTRA_CA_CERTS", "OPENSSL_DIR", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SDKROOT", "SSL_CERT_DIR", "SSL_CERT_FILE",
    "npm_config_cafile",
];

/// The largest configuration of a toolchain that is looked through for logins.
const CONFIG_MAX: u64 = 64 * 1024;

/// One thing of the host's that is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A folder or file, readable.
    Path(PathBuf),
    /// A link of the system's, to what.
    Link(PathBuf, PathBuf),
}

/// The system and the toolchains of this host; `more` is what a person named.
pub fn of(host: &Host, more: &[PathBuf]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for path in SYSTEM.iter().map(Path::new) {
        match std::fs::symlink_metadata(path) {
            Ok(m) if m.is_symlink() => match std::fs::read_link(path) {
                Ok(target) => seen.push(Seen::Link(path.to_owned(), target)),
                Err(_) => continue,
            },
            Ok(_) => seen.push(Seen::Path(path.to_owned())),
            Err(_) => continue,
        }
    }
    let paths = ETC.iter().map(PathBuf::from).chain(toolchains(host)).chain(named(host));
    for path in paths.chain(on_path(host)).filter(|p| is_fit(p, host)).chain(more.iter().cloned()) {
        let is_seen = seen.iter().any(|s| match s {
            Seen::Path(there) => path.starts_with(there),
            Seen::Link(link, _) => path.starts_with(link),
        });
        if !is_seen && path.exists() {
            seen.push(Seen::Path(path));
        }
    }
    seen
}

/// The same as plain paths, for the level that knows no mounts; and Skep's program, which is run there.
pub fn paths(seen: &[Seen], helper: &Path) -> Vec<OsString> {
    let of_view = seen.iter().map(|s| match s {
        Seen::Path(path) | Seen::Link(path, _) => path.clone().into_os_string(),
    });
    of_view.chain(PROC.iter().map(Into::into)).chain([helper.into()]).collect()
}

fn toolchains(host: &Host) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for toolchain in TOOLCHAINS {
        let Some(root) = host.vars.get(OsStr::new(toolchain.variable)).map(PathBuf::from) else { continue };
        if toolchain.parts.is_empty() {
            found.push(root);
            continue;
        }
        found.extend(toolchain.parts.iter().map(|part| root.join(part)).filter(|p| p.is_dir() || !may_hold_login(p)));
    }
    found
}

fn named(host: &Host) -> Vec<PathBuf> {
    NAMED.iter().filter_map(|name| host.vars.get(OsStr::new(name))).map(PathBuf::from).collect()
}

/// The folders programs are looked for in; of a package in `/opt` the whole of it.
fn on_path(host: &Host) -> Vec<PathBuf> {
    let Some(path) = host.vars.get(OsStr::new("PATH")) else { return Vec::new() };
    let whole = |p: PathBuf| match p.strip_prefix("/opt").ok().and_then(|rest| rest.components().next()) {
        Some(package) => Path::new("/opt").join(package),
        None => p,
    };
    std::env::split_paths(path).map(whole).collect()
}

/// Whether a path may be seen: absolute, and not a folder that holds a home, Skep's or the machine's own things.
fn is_fit(path: &Path, host: &Host) -> bool {
    const NEVER: &[&str] = &["/", "/etc", "/home", "/root", "/var", "/proc", "/sys", "/dev", "/run", "/tmp", "/opt"];
    path.is_absolute()
        && !NEVER.iter().any(|never| path == Path::new(never))
        && host.home.as_ref().is_none_or(|home| !home.starts_with(path))
        && !path.components().any(|c| c == std::path::Component::ParentDir)
}

/// Whether a configuration file may hold a login; one that can't be read is not shown either.
fn may_hold_login(path: &Path) -> bool {
    let is_small = std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= CONFIG_MAX);
    let text = if is_small { std::fs::read_to_string(path).ok() } else { None };
    text.is_none_or(|text| {
        let lower = text.to_lowercase();
        ["token", "secret", "password", "credential"].iter().any(|word| lower.contains(word))
            || lower.split("://").skip(1).any(|rest| rest.split(['/', '"']).next().is_some_and(|h| h.contains('@')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn see(home: &Path, vars: &[(&str, &Path)]) -> Vec<PathBuf> {
        let mut from: BTreeMap<OsString, OsString> = vars.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        from.insert("HOME".into(), home.into());
        let seen = of(&Host::of(&from, &[]), &[]);
        seen.into_iter()
            .filter_map(|s| match s {
                Seen::Path(p) if p.starts_with(home) => Some(p.strip_prefix(home).unwrap().to_owned()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn of_a_home_the_toolchains_are_seen_and_no_login() {
        let home = tempfile::tempdir().unwrap();
        for folder in [".cargo/bin", ".cargo/registry", ".ssh", ".local/lib", ".local/share/skep", ".pyenv"] {
            std::fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        std::fs::write(home.path().join(".cargo/credentials.toml"), "canary").unwrap();
        std::fs::write(home.path().join(".cargo/config.toml"), "[registries.own]\ntoken = 'canary'\n").unwrap();
        let expected = [".cargo/bin", ".cargo/registry", ".pyenv", ".local/lib"].map(PathBuf::from);
        assert_eq!(see(home.path(), &[]), expected);
        std::fs::write(home.path().join(".cargo/config.toml"), "[net]\noffline = true\n").unwrap();
        assert!(see(home.path(), &[]).contains(&".cargo/config.toml".into()));
        std::fs::write(home.path().join(".cargo/config.toml"), "x = 'https://me:pw@host/'\n").unwrap();
        assert!(!see(home.path(), &[]).contains(&".cargo/config.toml".into()));
    }

    #[test]
    fn a_variable_does_not_open_a_home_or_the_system() {
        let home = tempfile::tempdir().unwrap();
        for name in ["JAVA_HOME", "GOROOT", "PYENV_ROOT"] {
            for path in [home.path(), home.path().parent().unwrap(), Path::new("/"), Path::new("/usr/../etc")] {
                let seen =
                    of(&Host::of(&[(name.into(), path.into()), ("HOME".into(), home.path().into())].into(), &[]), &[]);
                assert!(!seen.contains(&Seen::Path(path.to_owned())), "{name}={}", path.display());
            }
        }
    }
}
