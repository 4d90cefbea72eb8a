//! The environment of a command: the host variables passed on, and the ones Skep sets.

use super::{Job, Level, folders, toolchain_cache};
use crate::secrets::Secret;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

/// Host variables that are passed on unchanged: how to find toolchains, certificates and mirrors. None of them is a
/// secret by nature; values that are URLs with a password are left out. RUSTUP_TOOLCHAIN and LD_LIBRARY_PATH are
/// missing on purpose: under `cargo run` they are Skep's own and would override what a project asks for.
#[rustfmt::skip]
const PASSED: &[&str] = &[
    "ALL_PROXY", "ANDROID_HOME", "ASDF_DIR", "CARGO_HTTP_CAINFO", "CC", "CURL_CA_BUNDLE", "CXX", "DOTNET_ROOT", "GOFLAGS",
    "GONOSUMDB", "GOPRIVATE", "GOPROXY", "GOROOT", "GOSUMDB", "GOTOOLCHAIN", "HTTPS_PROXY", "HTTP_PROXY", "JAVA_HOME",
    "LIBCLANG_PATH", "LOGNAME", "NODE_EXTRA_CA_CERTS", "NO_PROXY", "OPENSSL_DIR", "PIP_CERT", "PIP_INDEX_URL",
    "PKG_CONFIG_PATH", "REQUESTS_CA_BUNDLE", "RUSTUP_AUTO_INSTALL", "SDKROOT", "SSL_CERT_DIR", "SSL_CERT_FILE", "TZ", "USER",
    "all_proxy", "http_proxy", "https_proxy", "no_proxy", "npm_config_cafile", "npm_config_registry",
];

/// Proxies of the host. In the sandbox they are unreachable, and the egress proxy replaces them.
const PROXIES: &[&str] =
    &["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "all_proxy", "http_proxy", "https_proxy", "no_proxy"];

/// Toolchain caches, each a subdirectory of the command's own cache.
const CACHES: &[(&str, &str)] = &[
    ("CARGO_TARGET_DIR", "cargo-target"),
    ("GOCACHE", "go-build"),
    ("GRADLE_USER_HOME", "gradle"),
    ("PIP_CACHE_DIR", "pip"),
    ("PYTHONPYCACHEPREFIX", "pycache"),
    ("npm_config_cache", "npm"),
];

/// Variables with the same value for every command.
const FIXED: &[(&str, &str)] = &[
    ("CARGO_TERM_COLOR", "never"),
    ("CI", "true"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("LANG", "C.UTF-8"),
    ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
    ("SHELL", "/bin/sh"),
    ("SKEP", "1"),
    ("TERM", "dumb"),
    ("npm_config_update_notifier", "false"),
];

/// Variables that decide what a shell, the loader or a language runtime executes: by full name, and by prefix.
#[rustfmt::skip]
const EXECUTION_VARS: &[&str] = &[
    "BASH_ENV", "CLASSPATH", "EDITOR", "ENV", "HOME", "HOSTNAME", "IFS", "JAVA_TOOL_OPTIONS", "NODE_OPTIONS", "NODE_PATH", "OLDPWD",
    "PAGER", "PATH", "PERL5LIB", "PERL5OPT", "PROMPT_COMMAND", "PS1", "PS2", "PS4", "PWD", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP",
    "RUBYLIB", "RUBYOPT", "RUSTC", "RUSTC_WRAPPER", "RUSTFLAGS", "SHELLOPTS", "BASHOPTS", "TMPDIR", "VISUAL", "_JAVA_OPTIONS",
];
const EXECUTION_VAR_PREFIXES: &[&str] = &["BASH_FUNC_", "DYLD_", "GIT_", "LD_", "SKEP"];

/// Passed-on variables with the addresses of package sources, which may contain credentials.
const MIRRORS: &[&str] = &["GOPROXY", "PIP_INDEX_URL", "npm_config_registry"];

/// Returns whether a secret must not be passed under this name, because Skep sets the variable or because it decides
/// what is executed.
pub fn is_protected(name: &str) -> bool {
    let set = PASSED.iter().filter(|name| !MIRRORS.contains(name)).chain(PROXIES).copied();
    let set = set.chain(TOOLCHAINS.iter().map(|t| t.variable)).chain(CACHES.iter().chain(FIXED).map(|(name, _)| *name));
    set.chain(EXECUTION_VARS.iter().copied()).any(|protected| protected.eq_ignore_ascii_case(name))
        || EXECUTION_VAR_PREFIXES.iter().any(|b| name.get(..b.len()).is_some_and(|n| n.eq_ignore_ascii_case(b)))
}

/// A toolchain: its variable, its default directory in the real home, and the parts of it that commands may see
/// (empty: all).
pub struct Toolchain {
    /// Environment variable with its location.
    pub variable: &'static str,
    /// Default location, relative to the real home.
    pub beneath_home: &'static str,
    /// Visible parts. Parts that hold credentials, or that do not belong to the toolchain, are left out.
    pub parts: &'static [&'static str],
}

/// Locations of toolchains. They are passed on by name because HOME is not: HOME also leads to keys, credentials and
/// shell history.
#[rustfmt::skip]
pub const TOOLCHAINS: &[Toolchain] = &[
    Toolchain { variable: "CARGO_HOME", beneath_home: ".cargo", parts: &["bin", "registry", "git", "config.toml", "config"] },
    Toolchain { variable: "RUSTUP_HOME", beneath_home: ".rustup", parts: &[] },
    Toolchain { variable: "GOPATH", beneath_home: "go", parts: &["bin", "pkg"] },
    Toolchain { variable: "PYENV_ROOT", beneath_home: ".pyenv", parts: &[] },
    Toolchain { variable: "PYTHONUSERBASE", beneath_home: ".local", parts: &["bin", "lib"] },
    Toolchain { variable: "NVM_DIR", beneath_home: ".nvm", parts: &[] },
    Toolchain { variable: "VOLTA_HOME", beneath_home: ".volta", parts: &[] },
    Toolchain { variable: "RBENV_ROOT", beneath_home: ".rbenv", parts: &[] },
    Toolchain { variable: "ASDF_DATA_DIR", beneath_home: ".asdf", parts: &[] },
    Toolchain { variable: "MISE_DATA_DIR", beneath_home: ".local/share/mise", parts: &[] },
];

/// The part of the host's environment that commands get.
#[derive(Clone)]
pub struct Host {
    /// Names and values.
    pub vars: BTreeMap<OsString, OsString>,
    /// The real home directory, if the host names one. It is not passed on by itself.
    pub home: Option<PathBuf>,
    /// Whether the real HOME was requested by name.
    pub real_home: bool,
}

/// Prints names only: a value may be a key.
impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.vars.keys()).finish()
    }
}

impl Host {
    /// Selects the variables to pass on from an environment; `pass` names additional ones.
    pub fn from_env(from: &BTreeMap<OsString, OsString>, pass: &[String]) -> Host {
        let mut vars = BTreeMap::new();
        for name in PASSED {
            if let Some(value) = from.get(OsStr::new(name)).filter(|v| !contains_login(v)) {
                vars.insert(name.into(), value.clone());
            }
        }
        let home = from.get(OsStr::new("HOME")).map(PathBuf::from);
        for toolchain in TOOLCHAINS {
            let default = || {
                let path = home.as_ref()?.join(toolchain.beneath_home);
                path.is_dir().then(|| path.into_os_string())
            };
            if let Some(value) = from.get(OsStr::new(toolchain.variable)).cloned().or_else(default) {
                vars.insert(toolchain.variable.into(), value);
            }
        }
        for name in pass {
            if let Some(value) = from.get(OsStr::new(name)) {
                vars.insert(name.into(), value.clone());
            }
        }
        vars.insert("PATH".into(), absolute_only(from.get(OsStr::new("PATH"))));
        Host { real_home: vars.contains_key(OsStr::new("HOME")), vars, home }
    }

    /// Builds the complete environment of a command. `proxy` is the URL of the egress proxy, if the command may use
    /// it.
    pub fn environment(
        &self,
        job: &Job<'_>,
        level: Level,
        proxy: Option<&Secret>,
        job_marker: (&str, &str),
    ) -> Vec<(OsString, OsString)> {
        let cache = folders::seen_cache(job, level);
        let mut env = self.vars.clone();
        if level != Level::None {
            PROXIES.iter().for_each(|name| drop(env.remove(OsStr::new(name))));
        }
        let mut set = |name: &str, value: OsString| env.insert(name.into(), value);
        if !self.real_home {
            set("HOME", cache.join("home").into());
        }
        set("TMPDIR", job.scratch.join("tmp").into());
        for (name, dir) in CACHES {
            set(name, cache.join(dir).into());
        }
        for (name, value) in FIXED {
            set(name, value.into());
        }
        for (name, value) in toolchain_cache::environment(job, level, &self.vars) {
            set(name, value);
        }
        if let Some(url) = proxy {
            for name in PROXIES {
                let is_exception = name.eq_ignore_ascii_case("no_proxy");
                set(name, if is_exception { "localhost,127.0.0.1,::1" } else { url.expose() }.into());
            }
        }
        set(job_marker.0, job_marker.1.into());
        for (name, value) in job.env {
            set(name, value.into());
        }
        env.into_iter().collect()
    }
}

/// Returns whether a value looks like a URL that contains a user name or a password.
fn contains_login(value: &OsStr) -> bool {
    let text = value.to_string_lossy();
    text.contains("://") && text.contains('@')
}

/// Removes the relative parts of PATH: inside a checkout they would let the repository choose what `git` or `cargo`
/// is.
fn absolute_only(path: Option<&OsString>) -> OsString {
    let parts =
        path.map(|p| std::env::split_paths(p).filter(|p| p.is_absolute()).collect::<Vec<_>>()).unwrap_or_default();
    match std::env::join_paths(parts) {
        Ok(joined) if !joined.is_empty() => joined,
        _ => "/usr/local/bin:/usr/bin:/bin".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_variables_without_credentials_are_passed_on() {
        let from: BTreeMap<_, _> = [
            ("PATH", "/bin:.::relative:/usr/bin"),
            ("GITHUB_TOKEN", "canary"),
            ("HOME", "/nonexistent"),
            ("HTTPS_PROXY", "http://me:canary@proxy:1"),
            ("NO_PROXY", "localhost"),
            ("AGENT_KEY", "given"),
        ]
        .into_iter()
        .map(|(k, v)| (OsString::from(k), OsString::from(v)))
        .collect();
        let host = Host::from_env(&from, &["AGENT_KEY".to_owned()]);
        let names: Vec<_> = host.vars.keys().map(|k| k.to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["AGENT_KEY", "NO_PROXY", "PATH"]);
        assert_eq!(host.vars[OsStr::new("PATH")], "/bin:/usr/bin");
        assert_eq!(format!("{host:?}"), r#"{"AGENT_KEY", "NO_PROXY", "PATH"}"#);
    }
}
