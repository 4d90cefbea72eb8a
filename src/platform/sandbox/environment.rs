//! The environment of a command: the host variables passed on, and the ones Skep sets.

use super::package_caches::{HostCaches, OFFLINE, PNPM_OFFLINE, is_pnpm_project};
use super::{Job, Level, Purpose, folders, installations, toolchain_cache};
use crate::secrets::Secret;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// Host variables that are passed on unchanged: how to find toolchains, certificates and mirrors. None of them is a
/// secret by nature; values that are URLs with a password are left out. RUSTUP_TOOLCHAIN and LD_LIBRARY_PATH are
/// missing on purpose: under `cargo run` they are Skep's own and would override what a project asks for.
#[rustfmt::skip]
const PASSED: &[&str] = &[
    "ALL_PROXY", "ANDROID_HOME", "ASDF_DIR", "CARGO_HTTP_CAINFO", "CC", "CONDA_DEFAULT_ENV", "CONDA_PREFIX", "CURL_CA_BUNDLE",
    "CXX", "DOTNET_ROOT", "GOFLAGS", "GONOSUMDB", "GOPRIVATE", "GOPROXY", "GOROOT", "GOSUMDB", "GOTOOLCHAIN", "HTTPS_PROXY", "HTTP_PROXY", "JAVA_HOME",
    "LIBCLANG_PATH", "LOGNAME", "NODE_EXTRA_CA_CERTS", "NO_PROXY", "OPENSSL_DIR", "PIP_CERT", "PIP_INDEX_URL",
    "PKG_CONFIG_PATH", "REQUESTS_CA_BUNDLE", "RUSTUP_AUTO_INSTALL", "SDKROOT", "SSL_CERT_DIR", "SSL_CERT_FILE", "TZ", "USER",
    "VIRTUAL_ENV", "all_proxy", "http_proxy", "https_proxy", "no_proxy", "npm_config_cafile", "npm_config_registry",
];

/// Proxies of the host. In the sandbox they are unreachable, and the egress proxy replaces them.
const PROXIES: &[&str] =
    &["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "all_proxy", "http_proxy", "https_proxy", "no_proxy"];

/// Variables by which Yarn from version 2 finds a proxy.
const YARN_PROXIES: &[&str] = &["YARN_HTTPS_PROXY", "YARN_HTTP_PROXY"];
/// Variables with options of a build tool's JVM, and an option it needs besides the proxy: Maven from version 3.9 reads
/// properties of the JVM only if it is asked to. `JAVA_TOOL_OPTIONS` would print a line in every JVM of the tests.
const JVM_OPTIONS: &[(&str, &str)] =
    &[("GRADLE_OPTS", ""), ("MAVEN_OPTS", " -Daether.connector.http.useSystemProperties=true"), ("SBT_OPTS", "")];

/// Toolchain caches, each a subdirectory of the command's own cache.
const CACHES: &[(&str, &str)] = &[
    ("CARGO_TARGET_DIR", "cargo-target"),
    ("GOCACHE", "go-build"),
    ("GRADLE_USER_HOME", "gradle"),
    ("PIP_CACHE_DIR", "pip"),
    ("UV_CACHE_DIR", "uv"),
    ("npm_config_cache", "npm"),
];

/// Where Python stores bytecode of an engine's commands: not in the worktree. A check's checkout is thrown away.
const PYTHON_BYTECODE: (&str, &str) = ("PYTHONPYCACHEPREFIX", "pycache");

/// Variables with the same value for every command.
const FIXED: &[(&str, &str)] = &[
    ("CI", "true"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("LANG", "C.UTF-8"),
    ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ("SHELL", "/bin/sh"),
    ("SKEP", "1"),
    ("TERM", "dumb"),
    ("npm_config_update_notifier", "false"),
];

/// Variables that decide what a shell, the loader or a language runtime executes: by full name, and by prefix.
#[rustfmt::skip]
const EXECUTION_VARS: &[&str] = &[
    "BASH_ENV", "CLASSPATH", "DOTNET_ADDITIONAL_DEPS", "DOTNET_STARTUP_HOOKS", "EDITOR", "ENV", "GCONV_PATH", "GRADLE_OPTS", "HOME", "HOSTNAME",
    "IFS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "MAVEN_ARGS", "MAVEN_OPTS", "NODE_OPTIONS", "NODE_PATH", "OLDPWD", "OPENSSL_CONF",
    "OPENSSL_ENGINES", "OPENSSL_MODULES", "PAGER", "PATH", "PERL5LIB", "PERL5OPT", "PHPRC", "PHP_INI_SCAN_DIR", "PROMPT_COMMAND", "PS1", "PS2", "PS4",
    "PWD", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "RUBYLIB", "RUBYOPT", "RUSTC", "RUSTC_WRAPPER", "RUSTFLAGS", "SHELLOPTS", "BASHOPTS", "TMPDIR", "VISUAL", "_JAVA_OPTIONS",
];
const EXECUTION_VAR_PREFIXES: &[&str] =
    &["BASH_FUNC_", "DYLD_", "GIT_", "LD_", "LUA_CPATH", "LUA_INIT", "LUA_PATH", "R_ENVIRON", "R_PROFILE", "SKEP"];

/// Passed-on variables with the addresses of package sources, which may contain credentials.
const MIRRORS: &[&str] = &["GOPROXY", "PIP_INDEX_URL", "npm_config_registry"];

/// Returns whether a secret must not be passed under this name, because Skep sets the variable or because it decides
/// what is executed.
pub fn is_protected(name: &str) -> bool {
    let set = PASSED.iter().filter(|name| !MIRRORS.contains(name)).chain(PROXIES).copied();
    let set = set.chain(TOOLCHAINS.iter().map(|t| t.variable)).chain(CACHES.iter().chain(FIXED).map(|(name, _)| *name));
    let offline = OFFLINE.iter().chain([&PNPM_OFFLINE]).map(|(name, _)| *name).filter(|name| !MIRRORS.contains(name));
    let tools = YARN_PROXIES.iter().copied().chain(JVM_OPTIONS.iter().map(|(name, _)| *name));
    let set = set.chain(offline).chain(tools).chain([PYTHON_BYTECODE.0]);
    set.chain(EXECUTION_VARS.iter().copied()).any(|protected| protected.eq_ignore_ascii_case(name))
        || EXECUTION_VAR_PREFIXES.iter().any(|b| name.get(..b.len()).is_some_and(|n| n.eq_ignore_ascii_case(b)))
}

/// Returns whether a variable of the host decides what a command executes. The real HOME may be passed on by name.
pub fn decides_execution(name: &str) -> bool {
    name != "HOME"
        && (EXECUTION_VARS.contains(&name) || EXECUTION_VAR_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
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
    Toolchain { variable: "UV_PYTHON_INSTALL_DIR", beneath_home: ".local/share/uv/python", parts: &[] },
    Toolchain { variable: "NVM_DIR", beneath_home: ".nvm", parts: &[] },
    Toolchain { variable: "FNM_DIR", beneath_home: ".local/share/fnm", parts: &[] },
    Toolchain { variable: "NODENV_ROOT", beneath_home: ".nodenv", parts: &[] },
    Toolchain { variable: "BUN_INSTALL", beneath_home: ".bun", parts: &["bin"] },
    Toolchain { variable: "DENO_INSTALL", beneath_home: ".deno", parts: &["bin"] },
    Toolchain { variable: "VOLTA_HOME", beneath_home: ".volta", parts: &[] },
    Toolchain { variable: "RBENV_ROOT", beneath_home: ".rbenv", parts: &[] },
    Toolchain { variable: "GOENV_ROOT", beneath_home: ".goenv", parts: &[] },
    Toolchain { variable: "JENV_ROOT", beneath_home: ".jenv", parts: &[] },
    Toolchain { variable: "SDKMAN_DIR", beneath_home: ".sdkman", parts: &["bin", "candidates", "libexec", "src"] },
    Toolchain { variable: "ASDF_DATA_DIR", beneath_home: ".asdf", parts: &[] },
    // Hex and Rebar, without which Mix can fetch nothing.
    Toolchain { variable: "MIX_HOME", beneath_home: ".mix", parts: &["archives", "elixir", "escripts"] },
    Toolchain { variable: "MISE_DATA_DIR", beneath_home: ".local/share/mise", parts: &[] },
    Toolchain { variable: "MISE_CONFIG_DIR", beneath_home: ".config/mise", parts: &["config.toml"] },
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
    /// Files of the real home that version managers read, with their content.
    pub home_files: Vec<(&'static str, Vec<u8>)>,
    /// The host's package caches.
    pub packages: HostCaches,
}

/// Prints names only: a value may be a key.
impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.vars.keys()).finish()
    }
}

/// What one command is given in addition.
pub struct Given<'a> {
    /// URL of the egress proxy, if the command may use it.
    pub proxy: Option<&'a Secret>,
    /// Virtual environment of the project's working copy.
    pub environment: Option<&'a Path>,
    /// Whether the command runs as another user than Skep.
    pub other_user: bool,
    /// Name and value of the marker.
    pub job_marker: (&'a str, &'a str),
}

impl Host {
    /// Returns the active virtual environment.
    pub fn active_environment(&self) -> Option<&Path> {
        ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().find_map(|name| self.vars.get(OsStr::new(name))).map(Path::new)
    }

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
        let packages = HostCaches::find(from, home.as_deref());
        Host {
            real_home: vars.contains_key(OsStr::new("HOME")),
            vars,
            home_files: home_files(home.as_deref()),
            home,
            packages,
        }
    }

    /// Puts additional toolchains at the end of PATH: their folders, and the `bin` in them.
    pub fn add_to_path(&mut self, folders: &[PathBuf]) {
        let path = self.vars.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let mut path: Vec<PathBuf> = std::env::split_paths(&path).filter(|dir| !dir.as_os_str().is_empty()).collect();
        for folder in folders.iter().flat_map(|folder| [folder.clone(), folder.join("bin")]) {
            if folder.is_dir() && !path.contains(&folder) {
                path.push(folder);
            }
        }
        // A folder whose name contains a colon cannot be on PATH.
        if let Ok(path) = std::env::join_paths(path) {
            self.vars.insert("PATH".into(), path);
        }
    }

    /// Builds the complete environment of a command.
    pub fn environment(&self, job: &Job<'_>, level: Level, given: &Given<'_>) -> Vec<(OsString, OsString)> {
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
        if job.purpose == Purpose::Agent {
            set(PYTHON_BYTECODE.0, cache.join(PYTHON_BYTECODE.1).into());
        }
        if self.vars.contains_key(OsStr::new("MISE_DATA_DIR")) {
            // In the sandbox, the project's configuration can do no more than the command itself.
            set("MISE_TRUSTED_CONFIG_PATHS", job.dir.into());
        }
        for (name, value) in toolchain_cache::environment(job, level, &self.vars, given.other_user) {
            set(name, value);
        }
        if level != Level::None && given.proxy.is_none() {
            let of_pnpm = is_pnpm_project(job.dir).then_some(PNPM_OFFLINE);
            for (name, value) in OFFLINE.iter().copied().chain(of_pnpm) {
                set(name, value.into());
            }
            if let Some((name, value)) = self.packages.environment() {
                set(name, value);
            }
        }
        if let Some(root) = given.environment {
            let own = std::iter::once(root.join("bin"));
            let path = self.vars.get(OsStr::new("PATH")).map(|path| std::env::split_paths(path).collect::<Vec<_>>());
            if let Ok(path) = std::env::join_paths(own.chain(path.unwrap_or_default())) {
                set("PATH", path);
            }
            set("VIRTUAL_ENV", root.into());
        }
        // The environment may contain an older state of the project itself.
        let sources = job.origin.zip(given.environment.or(self.active_environment()));
        let sources = sources.map(|(origin, root)| installations::sources(root, origin)).unwrap_or_default();
        let sources: Vec<PathBuf> = sources.iter().map(|dir| job.dir.join(dir)).filter(|dir| dir.is_dir()).collect();
        if let (false, Ok(path)) = (sources.is_empty(), std::env::join_paths(sources)) {
            set("PYTHONPATH", path);
        }
        if let Some(url) = given.proxy {
            for name in PROXIES {
                let is_exception = name.eq_ignore_ascii_case("no_proxy");
                set(name, if is_exception { "localhost,127.0.0.1,::1" } else { url.expose() }.into());
            }
        }
        for (name, value) in given.proxy.map(|url| tool_proxies(url.expose())).unwrap_or_default() {
            set(name, value.into());
        }
        set(given.job_marker.0, given.job_marker.1.into());
        for (name, value) in job.env {
            set(name, value.into());
        }
        env.into_iter().collect()
    }
}

/// Returns variables for programs that ignore the usual ones of a proxy: Yarn from version 2, and the build tools of the
/// JVM. These send no credentials to open a tunnel, so they get none.
fn tool_proxies(url: &str) -> Vec<(&'static str, String)> {
    let mut found: Vec<(&str, String)> = YARN_PROXIES.iter().map(|name| (*name, url.to_owned())).collect();
    let address = url.strip_prefix("http://").filter(|address| !address.contains('@'));
    if let Some((host, port)) = address.and_then(|address| address.rsplit_once(':')) {
        // No list of exceptions: the default of the JVM leaves out this machine, and old start scripts would take the
        // `|` in it for a pipe.
        let options =
            ["http", "https"].map(|scheme| format!("-D{scheme}.proxyHost={host} -D{scheme}.proxyPort={port}"));
        let options = options.join(" ");
        found.extend(JVM_OPTIONS.iter().map(|(name, more)| (*name, format!("{options}{more}"))));
    }
    found
}

/// Files in the home that select versions of programs, and contain nothing else.
const HOME_FILES: &[&str] = &[".tool-versions"];
/// Maximum size of such a file, in bytes.
const HOME_FILE_MAX: u64 = 64 * 1024;

fn home_files(home: Option<&Path>) -> Vec<(&'static str, Vec<u8>)> {
    let read = |name: &&'static str| {
        let path = home?.join(name);
        let is_small = std::fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= HOME_FILE_MAX);
        if is_small { Some((*name, std::fs::read(path).ok()?)) } else { None }
    };
    HOME_FILES.iter().filter_map(read).collect()
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
    fn programs_that_ignore_the_usual_variables_find_the_proxy() {
        let found = tool_proxies("http://127.0.0.1:7390");
        let value = |name: &str| found.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        assert_eq!(value("YARN_HTTPS_PROXY"), Some("http://127.0.0.1:7390"));
        let maven = value("MAVEN_OPTS").unwrap();
        assert!(maven.starts_with("-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=7390 -Dhttps.proxyHost=127.0.0.1 "));
        assert!(found.iter().all(|(name, value)| is_protected(name) && !value.contains(['|', ';', '&'])));
        let with_login = tool_proxies("http://skep:canary@127.0.0.1:9");
        assert!(with_login.iter().all(|(name, _)| name.starts_with("YARN_")), "{with_login:?}");
    }

    #[test]
    fn variables_that_name_code_for_a_runtime_are_not_passed_on() {
        for name in [
            "DOTNET_STARTUP_HOOKS",
            "LUA_INIT",
            "LUA_INIT_5_4",
            "GCONV_PATH",
            "JDK_JAVA_OPTIONS",
            "MAVEN_OPTS",
            "GRADLE_OPTS",
            "OPENSSL_CONF",
            "PHPRC",
            "PHP_INI_SCAN_DIR",
            "R_PROFILE",
            "R_PROFILE_USER",
            "R_ENVIRON_USER",
            "LD_PRELOAD",
        ] {
            assert!(decides_execution(name) && is_protected(name), "{name}");
        }
        for name in ["AGENT_KEY", "R_LIBS", "OPENSSL_DIR", "HOME"] {
            assert!(!decides_execution(name), "{name}");
        }
    }

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

    #[test]
    fn additional_toolchains_are_at_the_end_of_path() {
        let dir = tempfile::tempdir().unwrap();
        let (tools, bin) = (dir.path().join("tools"), dir.path().join("tools/bin"));
        std::fs::create_dir_all(&bin).unwrap();
        let mut host = Host::from_env(&[("PATH".into(), "/usr/bin".into())].into(), &[]);
        for _ in 0..2 {
            host.add_to_path(&[tools.clone(), dir.path().join("missing")]);
        }
        let expected = format!("/usr/bin:{}:{}", tools.display(), bin.display());
        assert_eq!(host.vars[OsStr::new("PATH")], OsStr::new(&expected));
    }
}
