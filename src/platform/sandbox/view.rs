//! The host files a sandboxed command sees: the system and the toolchains, and nothing else of anyone's home
//! directory.

use super::environment::{Host, TOOLCHAINS};
use super::installations;
use super::masks::Hidden;
use super::policy::SandboxError;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// System directories; where one is a symbolic link, the link itself is shown.
const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];

/// The parts of `/etc` that programs need, none of which contains credentials. The user database is generated instead,
/// and name resolution is of no use without a network.
#[rustfmt::skip]
const ETC: &[&str] = &[
    "/etc/alternatives", "/etc/ca-certificates", "/etc/ca-certificates.conf", "/etc/crypto-policies", "/etc/fonts", "/etc/groovy",
    "/etc/hosts", "/etc/java", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/magic",
    "/etc/maven/logging", "/etc/maven/m2.conf", "/etc/mime.types", "/etc/nsswitch.conf", "/etc/os-release", "/etc/php.d",
    "/etc/php.ini", "/etc/pki/ca-trust", "/etc/pki/tls", "/etc/protocols", "/etc/services", "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf", "/etc/timezone",
];

/// The parts of `/proc` that are readable at the level without a PID namespace: nothing about other processes.
#[rustfmt::skip]
const PROC: &[&str] = &["/proc/cpuinfo", "/proc/filesystems", "/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/version"];

/// Host variables that name a path a toolchain needs.
#[rustfmt::skip]
const NAMED: &[&str] = &[
    "ANDROID_HOME", "ASDF_DIR", "CARGO_HTTP_CAINFO", "CURL_CA_BUNDLE", "DOTNET_ROOT", "GOROOT", "JAVA_HOME", "LIBCLANG_PATH",
    "NODE_EXTRA_CA_CERTS", "OPENSSL_DIR", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SDKROOT", "SSL_CERT_DIR", "SSL_CERT_FILE",
    "npm_config_cafile",
];

/// Maximum number of entries of a directory of configurations that are inspected.
const ETC_MAX: usize = 2_000;
/// The largest toolchain configuration file that is searched for credentials, in bytes.
const CONFIG_MAX: u64 = 64 * 1024;

/// A host path that a command sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visible {
    /// A readable file or directory.
    Path(PathBuf),
    /// A symbolic link of the system, and its target.
    Link(PathBuf, PathBuf),
}

/// Lists what commands see of this host; `more` are the paths from the configuration.
pub fn of(host: &Host, more: &[PathBuf]) -> Vec<Visible> {
    let mut visible = Vec::new();
    for path in SYSTEM.iter().map(Path::new) {
        match std::fs::symlink_metadata(path) {
            Ok(m) if m.is_symlink() => match std::fs::read_link(path) {
                Ok(target) => visible.push(Visible::Link(path.to_owned(), target)),
                Err(_) => continue,
            },
            Ok(_) => visible.push(Visible::Path(path.to_owned())),
            Err(_) => continue,
        }
    }
    let etc = ETC.iter().map(PathBuf::from).chain(runtimes(Path::new("/etc")));
    let paths = etc.chain(toolchains(host)).chain(named(host));
    let found = paths.chain(on_path(host)).chain(host.packages.paths());
    add(&mut visible, found.filter(|p| may_show(p, host)).chain(more.iter().cloned()));
    visible
}

/// Lists the configuration of language runtimes that a distribution puts below `/etc`, with a version in its name: a JDK
/// cannot open a TLS connection without it, and PHP loads no extension. Server processes keep passwords beside it.
fn runtimes(etc: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().take(ETC_MAX).map(|e| e.path());
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_jdk = |path: &PathBuf| name(path).starts_with("java") && name(path).contains("jdk");
    let php = entries(&etc.join("php")).flat_map(|version| [version.join("cli"), version.join("mods-available")]);
    let mut found: Vec<PathBuf> = entries(etc).filter(is_jdk).chain(php).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

/// Checks the paths that the configuration adds.
///
/// # Errors
/// When one of them must not be shown.
pub fn check(more: &[PathBuf], host: &Host) -> Result<(), SandboxError> {
    let is_refused = |path: &Path| refusal_to_add(path).is_some() || !may_show(path, host);
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match more.iter().find(|path| path.exists() && (is_refused(path) || refusal_to_add(&real(path)).is_some())) {
        None => Ok(()),
        Some(path) => Err(SandboxError {
            what: format!(
                "sandbox.toolchains: {} {}",
                path.display(),
                refusal_to_add(path)
                    .or_else(|| refusal_to_add(&real(path)))
                    .unwrap_or("contains the home directory of Skep's user, or leads to what must stay hidden")
            ),
            fix: "name the folders with programs themselves, such as \"/opt/toolchains\"".into(),
        }),
    }
}

/// Removes what lies within a hidden directory.
pub fn leave_out(visible: &mut Vec<Visible>, hidden: &[PathBuf]) {
    let hidden: Vec<PathBuf> = hidden.iter().filter_map(|path| path.canonicalize().ok()).collect();
    visible.retain(|visible| match visible {
        Visible::Path(path) => !path.canonicalize().is_ok_and(|real| hidden.iter().any(|h| real.starts_with(h))),
        Visible::Link(..) => true,
    });
}

/// Adds the existing paths that are not visible yet.
fn add(visible: &mut Vec<Visible>, paths: impl Iterator<Item = PathBuf>) {
    for path in paths {
        let is_visible = visible.iter().any(|s| match s {
            Visible::Path(shown) => path.starts_with(shown),
            Visible::Link(link, _) => path.starts_with(link),
        });
        if !is_visible && path.exists() {
            visible.push(Visible::Path(path));
        }
    }
}

/// Virtual environment of a project's working copy that is not activated.
pub struct Environment {
    /// Its directory.
    pub root: PathBuf,
    /// The paths it needs that are not visible otherwise.
    pub needed: Vec<Visible>,
}

/// Names of virtual environments in a working copy.
const ENVIRONMENTS: &[&str] = &[".venv", "venv"];

/// Returns the environment of the working copy `origin`. A directory of this name in the checkout itself comes from the
/// repository, and is not what a person has installed.
pub fn environment_of(origin: &Path, checkout: &Path, host: &Host, view: &[Visible]) -> Option<Environment> {
    let is_tracked = |name: &str| std::fs::symlink_metadata(checkout.join(name)).is_ok();
    ENVIRONMENTS.iter().filter(|name| !is_tracked(name)).find_map(|name| {
        let root = origin.join(name);
        let paths = installations::of_environment(&root)?;
        if !may_show(&root, host) {
            return None;
        }
        let mut all = view.to_vec();
        add(&mut all, paths.into_iter().filter(|p| may_show(p, host)));
        Some(Environment { root, needed: all.split_off(view.len()) })
    })
}

/// Returns the same as plain paths without anything hidden, for the level that has no mounts, together with Skep's
/// executable, which runs there.
pub fn paths(visible: &[Visible], hidden: &Hidden, helper: &Path) -> Vec<OsString> {
    let of_view = visible.iter().flat_map(|s| match s {
        Visible::Path(path) | Visible::Link(path, _) => hidden.visible_parts(path),
    });
    of_view.map(Into::into).chain(PROC.iter().map(Into::into)).chain([helper.into()]).collect()
}

fn toolchains(host: &Host) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for toolchain in TOOLCHAINS {
        let Some(root) = host.vars.get(OsStr::new(toolchain.variable)).map(PathBuf::from) else { continue };
        if toolchain.parts.is_empty() {
            found.push(root);
            continue;
        }
        found
            .extend(toolchain.parts.iter().map(|part| root.join(part)).filter(|p| p.is_dir() || !may_contain_login(p)));
    }
    found
}

fn named(host: &Host) -> Vec<PathBuf> {
    NAMED.iter().filter_map(|name| host.vars.get(OsStr::new(name))).map(PathBuf::from).collect()
}

/// Returns the installations that PATH leads to.
fn on_path(host: &Host) -> Vec<PathBuf> {
    let Some(path) = host.vars.get(OsStr::new("PATH")) else { return Vec::new() };
    installations::of_path(std::env::split_paths(path).filter(|dir| may_show(dir, host)))
}

/// Returns whether a path may be shown: absolute, and not a directory that contains a home, Skep's data or the
/// machine's own data.
fn may_show(path: &Path, host: &Host) -> bool {
    refusal(path).is_none()
        && host.home.as_ref().is_none_or(|home| !home.starts_with(path))
        // The target of a link is shown.
        && path.canonicalize().is_ok_and(|real| {
            refusal(&real).is_none() && host.home.as_ref().is_none_or(|home| !home.starts_with(real))
        })
}

/// Directories of the machine that are not shown themselves.
#[rustfmt::skip]
const NEVER: &[&str] = &[
    "/", "/boot", "/dev", "/etc", "/home", "/media", "/mnt", "/opt", "/proc", "/root", "/run", "/srv", "/sys", "/tmp", "/var",
    "/var/lib", "/var/run", "/run/user",
];
/// Directories of the machine of which nothing is shown: devices, and the state of processes and the kernel.
const NEVER_BELOW: &[&str] = &["/dev", "/proc", "/sys"];
/// Directories of the machine of which the configuration may add nothing: settings with passwords, sockets, data of
/// services. What programs need of them is in the lists above.
const NOT_ADDED_BELOW: &[&str] = &["/boot", "/etc", "/run", "/var/lib", "/var/run"];
/// Directories that contain homes.
const HOMES: &[&str] = &["/export/home", "/home", "/Users", "/var/home"];
/// Names of files and directories with credentials.
#[rustfmt::skip]
const CREDENTIALS: &[&str] = &[
    ".aws", ".azure", ".boto", ".docker", ".git-credentials", ".gnupg", ".kube", ".mozilla", ".my.cnf", ".netrc",
    ".password-store", ".pgpass", ".pypirc", ".s3cfg", ".ssh", ".terraform.d", ".thunderbird", ".vault-token", "gcloud", "gnupg", "keyrings",
];
/// Beginnings of paths in a home that lead to credentials. Programs on `PATH` may lie there, too.
#[rustfmt::skip]
const CREDENTIALS_BELOW: &[&str] = &[
    ".claude", ".codex", ".gemini", ".qwen", ".cargo/credentials", ".config/chromium", ".config/containers", ".config/gh", ".config/git", ".config/glab-cli", ".config/google-chrome",
    ".config/hub", ".config/op", ".config/rclone", ".config/sops", ".gradle/gradle.properties", ".local/share/opencode", ".m2/settings",
];
/// Folders of a home with credentials among other things: the configuration may add parts of them.
const MIXED: &[&str] = &[".cargo", ".config", ".gradle", ".local", ".local/share", ".m2"];
/// Upper bound on the user database.
const PASSWD_MAX: u64 = 1 << 20;

/// Returns why a path must not be shown to commands, whoever asks for it; the text completes the sentence "it …".
pub fn refusal(path: &Path) -> Option<&'static str> {
    use std::path::Component;
    let is = |list: &[&str]| list.iter().any(|one| path == Path::new(one));
    let is_below = |list: &[&str]| list.iter().any(|one| path.starts_with(one));
    if !path.is_absolute() || path.components().any(|c| c == Component::ParentDir) {
        Some("is not a plain absolute path")
    } else if is(NEVER) || is_below(NEVER_BELOW) {
        Some("belongs to the machine as a whole")
    } else if path.parent() == Some(Path::new("/home")) {
        Some("is a home directory")
    } else if path.components().any(|c| CREDENTIALS.iter().any(|name| c == Component::Normal(OsStr::new(name)))) {
        Some("may contain credentials")
    } else {
        None
    }
}

/// Returns why the configuration must not add a path to what commands see; the text completes the sentence "it …".
pub fn refusal_to_add(path: &Path) -> Option<&'static str> {
    let text = path.to_string_lossy();
    let in_home = |part: &str| text.contains(&format!("/{part}"));
    if let Some(why) = refusal(path) {
        Some(why)
    } else if NOT_ADDED_BELOW.iter().any(|folder| path.starts_with(folder))
        || HOMES.iter().any(|h| path == Path::new(h))
    {
        Some("belongs to the machine as a whole")
    } else if path.parent().is_some_and(|above| HOMES.iter().any(|homes| above == Path::new(homes)))
        || homes().iter().any(|home| home.starts_with(path))
    {
        Some("is a home directory, or contains one")
    } else if CREDENTIALS_BELOW.iter().any(|part| in_home(part))
        || path.ends_with(".npmrc")
        || MIXED.iter().any(|folder| path.ends_with(folder))
    {
        Some("may contain credentials")
    } else {
        None
    }
}

/// Returns the homes of the people who use this machine.
fn homes() -> Vec<PathBuf> {
    let passwd = Path::new("/etc/passwd");
    match std::fs::metadata(passwd) {
        Ok(meta) if meta.is_file() && meta.len() <= PASSWD_MAX => {
            homes_in(&std::fs::read_to_string(passwd).unwrap_or_default())
        }
        _ => Vec::new(),
    }
}

/// Returns the homes in a user database. Those of services are folders of programs, such as `/usr/sbin`.
fn homes_in(passwd: &str) -> Vec<PathBuf> {
    let home = |line: &str| {
        let mut fields = line.split(':');
        let is_person = fields.nth(2)?.parse::<u32>().is_ok_and(|id| id == 0 || (1000..65_534).contains(&id));
        let home = fields.nth(2).map(PathBuf::from)?;
        (is_person && home.is_absolute() && home != Path::new("/")).then_some(home)
    };
    passwd.lines().filter_map(home).collect()
}

/// Returns whether a configuration file may contain credentials; a file that cannot be read counts as such.
fn may_contain_login(path: &Path) -> bool {
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
        let visible = of(&Host::from_env(&from, &[]), &[]);
        visible
            .into_iter()
            .filter_map(|s| match s {
                Visible::Path(p) if p.starts_with(home) => Some(p.strip_prefix(home).unwrap().to_owned()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn configurations_of_runtimes_are_shown_and_those_of_servers_are_not() {
        let etc = tempfile::tempdir().unwrap();
        for folder in ["java-17-openjdk", "javascript-common", "php/8.2/cli", "php/8.2/fpm", "php/8.2/mods-available"] {
            std::fs::create_dir_all(etc.path().join(folder)).unwrap();
        }
        let found = runtimes(etc.path());
        let found: Vec<_> = found.iter().map(|path| path.strip_prefix(etc.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(found, ["java-17-openjdk", "php/8.2/cli", "php/8.2/mods-available"]);
    }

    #[test]
    fn the_configuration_adds_no_home_no_credentials_and_nothing_of_the_machine() {
        for refused in [
            "/etc/app/tools",
            "/run/user/1000/podman",
            "/var/lib/docker",
            "/var/run/x",
            "/boot/x",
            "/root/.config/gh",
            "/proc/self",
            "/sys/x",
            "/dev/shm",
            "/home",
            "/home/me",
            "/var/home/me",
            "/Users/me",
            "/export/home/me",
            "/home/me/.config",
            "/home/me/.config/gh",
            "/home/me/.cargo",
            "/home/me/.cargo/credentials.toml",
            "/home/me/.git-credentials",
            "/home/me/.npmrc",
            "/home/me/.claude",
            "/home/me/.codex/auth.json",
            "/home/me/.gemini",
            "/home/me/.vault-token",
            "/home/me/.mozilla/firefox",
            "/home/me/.docker/config.json",
            "/home/me/.kube",
            "/home/me/.aws",
            "/home/me/.azure",
            "/home/me/.gnupg",
            "/home/me/.ssh/config",
            "/home/me/.netrc",
            "/home/me/.pypirc",
            "/home/me/.m2/settings.xml",
        ] {
            assert!(refusal_to_add(Path::new(refused)).is_some(), "{refused}");
        }
        for added in ["/opt/toolchains", "/srv/tools/bin", "/home/me/tools", "/home/me/.cargo/bin", "/usr/local/x"] {
            assert_eq!(refusal_to_add(Path::new(added)), None, "{added}");
        }
        let passwd =
            "root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/usr/sbin:/bin/false\nme:x:1000:1000::/data/me:/bin/sh\nx";
        assert_eq!(homes_in(passwd), ["/root", "/data/me"].map(PathBuf::from));
    }

    #[test]
    fn toolchains_in_a_home_are_visible_and_credentials_are_not() {
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
    fn a_variable_cannot_expose_a_home_or_the_system() {
        let home = tempfile::tempdir().unwrap();
        for name in ["JAVA_HOME", "GOROOT", "PYENV_ROOT"] {
            for path in [home.path(), home.path().parent().unwrap(), Path::new("/"), Path::new("/usr/../etc")] {
                let visible = of(
                    &Host::from_env(&[(name.into(), path.into()), ("HOME".into(), home.path().into())].into(), &[]),
                    &[],
                );
                assert!(!visible.contains(&Visible::Path(path.to_owned())), "{name}={}", path.display());
            }
        }
    }
}
