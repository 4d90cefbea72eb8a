//! The one place through which every command of an agent or a check is started.
//!
//! | level | what it holds back |
//! |---|---|
//! | `none` (this one) | nothing but mistakes: limits, an emptied environment, a private HOME, and the end of the whole tree |
//!
//! At this level a command runs with the rights of the user Skep runs as: it can read that user's files, reach the network
//! and signal its processes. Nothing here may be relied on against a hostile command; [`level`] says so to whoever asks.
//!
//! What does hold: nothing of Skep's environment gets in but the names below and, for engines, those of
//! `engines.pass_env`; output, time, file size and open files are
//! limited; what a command leaves running is killed, in its process group or, on Linux, by the `SKEP_JOB` it inherited (a
//! process that both left the group and wiped its environment is not found). Memory and process counts are not limited
//! here: address-space limits break common runtimes, and process limits count the whole user.
//!
//! Invariant: no other file starts a command that comes from a repository, a project or an agent.

use super::process::{self, Finished, OnOutput, Program, Talk};
use crate::secret::{Redactor, redact_end, redact_live};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

mod strays;

pub use strays::{Ends as Strays, NAME as MARK, mark_git, sweep};

/// The isolation commands get.
pub fn level() -> &'static str {
    "none"
}

/// What a command is run for. Each purpose has caches of its own, so that an agent never writes what a check builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An engine's work.
    Agent,
    /// A check.
    Check,
}

impl Purpose {
    /// Its folder within the cache.
    pub fn folder(self) -> &'static str {
        match self {
            Purpose::Agent => "agent",
            Purpose::Check => "check",
        }
    }
}

/// A command.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// The shell line. From a person or the base commit, never from an agent.
    pub line: &'a str,
    /// Why it is run.
    pub purpose: Purpose,
    /// Its working folder.
    pub dir: &'a Path,
    /// Where its caches are kept.
    pub cache: &'a Path,
    /// Where its temporary files go; the caller removes it.
    pub scratch: &'a Path,
    /// More environment, over everything else.
    pub env: &'a [(&'a str, String)],
    /// How long it may take.
    pub limit: Duration,
    /// How many bytes of its output (both streams, as they came) are kept: the last ones.
    pub keep: usize,
    /// The one way out it gets, if any. Without it, it reaches no network where the level can hold that.
    pub gate: Option<&'a GatePlace>,
}

/// Where Skep's gate listens: the same gate at two places, because a walled command reaches only one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatePlace {
    /// Its unix socket, for commands without a network of their own.
    pub socket: PathBuf,
    /// Its loopback address, for the others.
    pub tcp: SocketAddr,
}

/// Starts commands.
#[derive(Clone)]
pub struct Sandbox {
    /// What of the host's environment goes in.
    host: BTreeMap<OsString, OsString>,
    /// Whether the real HOME was asked for by name.
    real_home: bool,
}

/// Names only: a value may be a key.
impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.host.keys()).finish()
    }
}

/// Host variables that go in as they are: how to find toolchains, certificates and mirrors. None of them is a secret by
/// its nature; values that are URLs with a password in them stay out. RUSTUP_TOOLCHAIN and LD_LIBRARY_PATH are not among
/// them: under `cargo run` they are Skep's own, and would override what a project asks for.
#[rustfmt::skip]
const PASSED: &[&str] = &[
    "ALL_PROXY", "ANDROID_HOME", "ASDF_DIR", "CC", "CXX", "DOTNET_ROOT", "GOFLAGS", "GONOSUMDB", "GOPRIVATE", "GOPROXY",
    "GOROOT", "GOSUMDB", "GOTOOLCHAIN", "HTTPS_PROXY", "HTTP_PROXY", "JAVA_HOME", "LIBCLANG_PATH", "LOGNAME",
    "NODE_EXTRA_CA_CERTS", "NO_PROXY", "OPENSSL_DIR", "PIP_INDEX_URL", "PKG_CONFIG_PATH", "RUSTUP_AUTO_INSTALL", "SDKROOT",
    "SSL_CERT_DIR", "SSL_CERT_FILE", "TZ", "USER", "all_proxy", "http_proxy", "https_proxy", "no_proxy",
    "npm_config_registry",
];

/// Where toolchains keep themselves: the variable, and its default beneath the real home. They go in by name because HOME
/// does not: HOME also leads to keys, logins and shell history.
const TOOLCHAINS: &[(&str, &str)] = &[
    ("CARGO_HOME", ".cargo"),
    ("RUSTUP_HOME", ".rustup"),
    ("GOPATH", "go"),
    ("PYENV_ROOT", ".pyenv"),
    ("PYTHONUSERBASE", ".local"),
    ("NVM_DIR", ".nvm"),
    ("VOLTA_HOME", ".volta"),
    ("RBENV_ROOT", ".rbenv"),
    ("ASDF_DATA_DIR", ".asdf"),
    ("MISE_DATA_DIR", ".local/share/mise"),
];

/// The limits go on in a shell of our own before the command's: safe code has no other place between fork and exec. A hard
/// limit that is lower already stays. Files: 4 GiB in blocks of 512 bytes.
const PRELUDE: &str = "ulimit -c 0; ulimit -f 8388608 2>/dev/null; ulimit -n 4096 2>/dev/null; exec /bin/sh -c \"$1\"";
/// Both streams become one, in the order written: what people read. Not for a program that is talked to.
const ONE_STREAM: &str = " 2>&1";

impl Sandbox {
    /// A sandbox that lets toolchains of this process's user be found. `pass` names more variables that go in (a headless
    /// agent's key, or `HOME` for its login): a person's choice, from the configuration.
    pub fn of_this_process(pass: &[String]) -> Sandbox {
        Sandbox::new(&std::env::vars_os().collect(), pass)
    }

    /// The same from a given environment.
    pub fn new(from: &BTreeMap<OsString, OsString>, pass: &[String]) -> Sandbox {
        let mut host = BTreeMap::new();
        for name in PASSED {
            if let Some(value) = from.get(OsStr::new(name)).filter(|v| !holds_login(v)) {
                host.insert(name.into(), value.clone());
            }
        }
        let home = from.get(OsStr::new("HOME")).map(PathBuf::from);
        for (name, beneath) in TOOLCHAINS {
            let default = || home.as_ref().map(|h| h.join(beneath)).filter(|p| p.is_dir()).map(PathBuf::into_os_string);
            if let Some(value) = from.get(OsStr::new(name)).cloned().or_else(default) {
                host.insert(name.into(), value);
            }
        }
        for name in pass {
            if let Some(value) = from.get(OsStr::new(name)) {
                host.insert(name.into(), value.clone());
            }
        }
        host.insert("PATH".into(), absolute_only(from.get(OsStr::new("PATH"))));
        Sandbox { real_home: host.contains_key(OsStr::new("HOME")), host }
    }

    /// Runs a command to its end or its limit; nothing of it runs on afterwards. Dropping the future ends it too.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn run(&self, job: &Job<'_>, on_output: Option<OnOutput>) -> io::Result<Finished> {
        let (program, end) = self.program(job, ONE_STREAM)?;
        // Dropped last, after the group is gone: then only what left the group is still there.
        let _end = end;
        let (on_output, rest) = on_output.map(redacting).unzip();
        let mut ended = process::run(&program, on_output).await?;
        rest.into_iter().for_each(|rest: Rest| rest());
        // Here, before anybody shortens it: of a value that is cut in two nobody could tell.
        let clean = if ended.truncated { redact_end } else { redact_live };
        ended.stdout = clean(&ended.stdout).into_owned();
        ended.stderr = clean(&ended.stderr).into_owned();
        Ok(ended)
    }

    /// Starts a command to talk to over its standard input and output (`limit` is the caller's to keep). Nothing of it runs on after
    /// the end of what this returns.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn open(&self, job: &Job<'_>) -> io::Result<(Talk, Strays)> {
        let (program, end) = self.program(job, "")?;
        Ok((process::open(&program)?, end))
    }

    /// Where a command finds the gate: `http://<address>:<port>`.
    pub fn gate_url(&self, gate: &GatePlace) -> String {
        format!("http://{}", gate.tcp)
    }

    fn program(&self, job: &Job<'_>, streams: &str) -> io::Result<(Program, Strays)> {
        let mark = strays::mark();
        let program = Program {
            name: "/bin/sh".into(),
            args: vec!["-c".into(), format!("{PRELUDE}{streams}").into(), "sh".into(), job.line.into()],
            env: self.environment(job, &mark)?,
            dir: job.dir.to_owned(),
            stdin: Vec::new(),
            limit: job.limit,
            keep: job.keep,
        };
        Ok((program, strays::Ends(mark)))
    }

    /// The whole environment of a command, its folders made.
    fn environment(&self, job: &Job<'_>, mark: &str) -> io::Result<Vec<(OsString, OsString)>> {
        let cache = job.cache.join(job.purpose.folder());
        let (home, tmp) = (cache.join("home"), job.scratch.join("tmp"));
        std::fs::create_dir_all(&home)?;
        std::fs::create_dir_all(&tmp)?;
        let mut env = self.host.clone();
        let mut set = |name: &str, value: OsString| env.insert(name.into(), value);
        if !self.real_home {
            // Tests that commit need somebody to be.
            let identity = home.join(".gitconfig");
            if !identity.exists() {
                std::fs::write(identity, "[user]\n\tname = Skep\n\temail = skep@localhost\n")?;
            }
            set("HOME", home.into());
        }
        set("TMPDIR", tmp.into());
        for (name, folder) in [
            ("CARGO_TARGET_DIR", "cargo-target"),
            ("GOCACHE", "go-build"),
            ("GRADLE_USER_HOME", "gradle"),
            ("PIP_CACHE_DIR", "pip"),
            ("PYTHONPYCACHEPREFIX", "pycache"),
            ("npm_config_cache", "npm"),
        ] {
            set(name, cache.join(folder).into());
        }
        for (name, value) in [
            ("CARGO_TERM_COLOR", "never"),
            ("CI", "true"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("LANG", "C.UTF-8"),
            ("NO_COLOR", "1"),
            ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("SHELL", "/bin/sh"),
            ("SKEP", "1"),
            ("TERM", "dumb"),
            ("npm_config_update_notifier", "false"),
        ] {
            set(name, value.into());
        }
        set(strays::NAME, mark.into());
        for (name, value) in job.env {
            set(name, value.into());
        }
        Ok(env.into_iter().collect())
    }
}

/// Gives on what was held back.
type Rest = Box<dyn FnOnce() + Send>;

/// Live values taken out of output as it comes, whatever its chunks; the second part is called at its end.
fn redacting(tell: OnOutput) -> (OnOutput, Rest) {
    let streams = Arc::new(Mutex::new([Redactor::default(), Redactor::default()]));
    let (of_end, tell_end) = (Arc::clone(&streams), Arc::clone(&tell));
    let as_it_comes = move |is_err: bool, chunk: &[u8]| {
        let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
        tell(is_err, &streams[usize::from(is_err)].push(chunk));
    };
    let at_end = move || {
        let streams = std::mem::take(&mut *of_end.lock().unwrap_or_else(PoisonError::into_inner));
        for (is_err, stream) in [false, true].into_iter().zip(streams) {
            tell_end(is_err, &stream.finish());
        }
    };
    (Arc::new(as_it_comes), Box::new(at_end))
}

/// Whether a value looks like a URL with a user or password in it.
fn holds_login(value: &OsStr) -> bool {
    let text = value.to_string_lossy();
    text.contains("://") && text.contains('@')
}

/// PATH without its relative parts: in a checkout they would let the repository choose what `git` or `cargo` is.
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

    fn host(vars: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
        vars.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect()
    }

    #[test]
    fn only_named_variables_go_in_and_no_logins() {
        let sandbox = Sandbox::new(
            &host(&[
                ("PATH", "/bin:.::relative:/usr/bin"),
                ("GITHUB_TOKEN", "canary"),
                ("HOME", "/nonexistent"),
                ("HTTPS_PROXY", "http://me:canary@proxy:1"),
                ("NO_PROXY", "localhost"),
                ("AGENT_KEY", "given"),
            ]),
            &["AGENT_KEY".to_owned()],
        );
        let names: Vec<_> = sandbox.host.keys().map(|k| k.to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["AGENT_KEY", "NO_PROXY", "PATH"]);
        assert_eq!(sandbox.host[OsStr::new("PATH")], "/bin:/usr/bin");
        assert_eq!(format!("{sandbox:?}"), r#"{"AGENT_KEY", "NO_PROXY", "PATH"}"#);
    }
}
