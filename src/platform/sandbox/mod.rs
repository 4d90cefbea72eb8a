//! The sandbox: starts every command of an agent or a check, isolated at the configured level.
//!
//! | level | mechanism | what it blocks |
//! |---|---|---|
//! | `strict` | bubblewrap, then [`inside`]: system call filter, Landlock, limits | other files, processes, networks, risky system calls |
//! | `landlock` | [`inside`] alone | file contents elsewhere, networks, signals; not the names and owners of files |
//! | `none` | a shell | accidents only: limits, an emptied environment, a private HOME, and the whole process tree ended |
//!
//! | file | duty |
//! |---|---|
//! | `policy` | the configured level, limits and extra readable paths |
//! | `environment`, `view`, `launcher` | what a command sees of the host: variables, files, mounts |
//! | `installations`, `masks` | what a directory on PATH needs of the host, and what is hidden in it |
//! | `toolchain_cache`, `package_caches` | where a command stores what it downloads, and finds what the host has |
//! | `inside` | the part of Skep that applies the last restrictions to itself and then becomes the command |
//! | `folders`, `tree`, `cgroup`, `resource_monitor`, `reaper` | its directories, limits, and the end of its processes |
//! | `self_test` | hostile actions tried inside the sandbox, to prove that the level holds |
//!
//! At every level, the only variables of Skep's environment that reach a command are a fixed list and, for engines,
//! those in `engines.pass_env`. Output and time are limited. Processes a command leaves running are killed: by its
//! process group, or by the `SKEP_JOB` variable they inherited.
//!
//! Invariant: no other file starts a command that comes from a repository, a project or an agent.

use super::process::{self, InteractiveProcess, OnOutput, ProcessOutput, Program, StopReason};
use crate::ports::Isolation;
use crate::secrets::{Secret, redact_end, redact_live};
use futures::future::BoxFuture;
use inside::{Restrictions, Sockets};
use policy::{bubblewrap_missing, executable_replaced, not_accepted};
use redacted_output::{Flush, redacting};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

mod cgroup;
mod environment;
mod folders;
pub mod inside;
mod installations;
mod launcher;
mod masks;
mod package_caches;
mod policy;
mod reaper;
mod redacted_output;
mod resource_monitor;
pub mod self_test;
pub mod settings;
mod toolchain_cache;
mod tree;
mod view;

pub use cgroup::Cgroups;
pub use environment::is_protected;
pub use policy::{Level, Limits, Policy, SandboxError, UNPRIVILEGED};
pub use reaper::{JOB_MARKER_VAR, ProcessReaper, git_job_marker, job_marker, sweep};
pub use tree::{copy as copy_tree, size as tree_size};

/// Purpose of a command. Each purpose has its own caches, so that an agent can never write what a check builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The work of an engine.
    Agent,
    /// A check.
    Check,
}

impl Purpose {
    /// Returns the name of its subdirectory in the cache.
    pub fn dir_name(self) -> &'static str {
        match self {
            Purpose::Agent => "agent",
            Purpose::Check => "check",
        }
    }
}

/// A command to run in the sandbox.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// Shell command line. Written by a person or taken from the base commit, never by an agent.
    pub command: &'a str,
    /// Purpose of the command.
    pub purpose: Purpose,
    /// Working directory, a whole worktree. A sandboxed command can write here, in its cache and in its scratch
    /// directory, and nowhere else.
    pub dir: &'a Path,
    /// The project's working copy on this machine, if there is one. Its virtual environment is used; nothing else of it
    /// is visible.
    pub origin: Option<&'a Path>,
    /// Directory of its home and caches. Commands of another role, attempt or commit must not share it.
    pub cache: &'a Path,
    /// Directory of its temporary files; the caller removes it.
    pub scratch: &'a Path,
    /// Additional environment variables; they override all others.
    pub env: &'a [(&'a str, String)],
    /// Time limit.
    pub timeout: Duration,
    /// Number of bytes of output to keep (both streams interleaved): the last ones.
    pub max_output: usize,
    /// The egress proxy, if the command may use one. Without it the command reaches no network, where the level can
    /// enforce that.
    pub proxy: Option<&'a ProxyEndpoint>,
}

/// Address of the egress proxy: one proxy behind two listeners, because a sandboxed command can reach only one of
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyEndpoint {
    /// Unix socket, for commands in a network namespace of their own.
    pub socket: PathBuf,
    /// Loopback address, for all other commands.
    pub tcp: SocketAddr,
    /// Proxy credentials as `USER:PASSWORD`. The loopback listener requires them; the socket does not.
    pub login: Secret,
}

/// Starts commands in isolation.
#[derive(Clone)]
pub struct Sandbox {
    host: environment::Host,
    policy: Arc<Policy>,
    level: Level,
    /// Skep's own executable, run inside the sandbox as its helper.
    helper: PathBuf,
    /// The bubblewrap executable.
    launcher: PathBuf,
    view: Arc<[view::Visible]>,
    hidden: Arc<masks::Hidden>,
    /// User and group of commands when Skep runs as root.
    user: Option<(u32, u32)>,
    /// Control groups for commands, or the reason why there are none.
    cgroups: Result<Arc<Cgroups>, Arc<str>>,
    /// Why no command is started; `None` = commands are started.
    broken: Arc<RwLock<Option<SandboxError>>>,
}

impl Isolation for Sandbox {
    fn level(&self) -> &'static str {
        self.level.name()
    }
    fn broken(&self) -> Option<(String, String)> {
        let broken = self.broken.read().unwrap_or_else(PoisonError::into_inner);
        broken.as_ref().map(|refused| (refused.what.clone(), refused.fix.clone()))
    }
}

/// Prints names only: a value may be a key.
impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)
    }
}

/// Applies limits in a shell that precedes the command's shell, for level `none`. A lower hard limit stays in force.
/// The file size is given in blocks of 512 bytes.
const PRELUDE: &str = "ulimit -c 0; ulimit -f 8388608 2>/dev/null; ulimit -n 4096 2>/dev/null; exec /bin/sh -c \"$1\"";

/// Added by the launcher to the number of the signal that ended a command, as shells do.
const ENDED_BY: i32 = 128;

impl Sandbox {
    /// Creates a sandbox of level `none` from this process's environment, so that the user's toolchains are found.
    /// `pass` names additional variables to pass on (a headless agent's key, or `HOME` for its login); they come from
    /// the configuration.
    pub fn from_process_env(pass: &[String]) -> Sandbox {
        Sandbox::new(&std::env::vars_os().collect(), pass)
    }

    /// Creates a sandbox of level `none` from the given environment.
    pub fn new(from: &BTreeMap<OsString, OsString>, pass: &[String]) -> Sandbox {
        Sandbox {
            host: environment::Host::from_env(from, pass),
            policy: Arc::new(Policy { level: Level::None, accept_no_isolation: true, ..Policy::default() }),
            level: Level::None,
            helper: PathBuf::new(),
            launcher: PathBuf::new(),
            view: Arc::new([]),
            hidden: Arc::default(),
            user: None,
            cgroups: Err("not requested".into()),
            broken: Arc::default(),
        }
    }

    /// Creates a sandbox that starts nothing, for processes that only read and need no isolation.
    pub fn disabled() -> Sandbox {
        let sandbox = Sandbox::new(&BTreeMap::new(), &[]);
        sandbox.set_broken(Some(SandboxError {
            what: "this process does not run commands".into(),
            fix: "use `skep serve`".into(),
        }));
        sandbox
    }

    /// Returns the same sandbox, sharing [`Sandbox::set_broken`], with more of this process's variables passed on.
    pub fn with_passed_env(&self, pass: &[String]) -> Sandbox {
        let mut more = self.clone();
        more.host = environment::Host::from_env(&std::env::vars_os().collect(), pass);
        more.host.add_to_path(&more.policy.readable);
        more
    }

    /// Stops starting commands (`Some`) or starts them again (`None`).
    pub fn set_broken(&self, why: Option<SandboxError>) {
        *self.broken.write().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Creates the sandbox a policy asks for, from this process's environment. `helper` is the `skep` executable run
    /// inside the sandbox; `None` means this process's own. Whether the level really holds on this machine is a
    /// separate question, answered by [`self_test::run`].
    ///
    /// # Errors
    /// When something the level needs is not installed, or level `none` was not accepted.
    pub fn isolated(policy: &Policy, pass: &[String], helper: Option<&Path>) -> Result<Sandbox, SandboxError> {
        Sandbox::new(&std::env::vars_os().collect(), pass).with_policy(policy, helper)
    }

    /// Applies a policy to this sandbox; see [`Sandbox::isolated`].
    ///
    /// # Errors
    /// As for [`Sandbox::isolated`].
    pub fn with_policy(mut self, policy: &Policy, helper: Option<&Path>) -> Result<Sandbox, SandboxError> {
        self.policy = Arc::new(policy.clone());
        self.level = policy.level;
        self.host.add_to_path(&policy.readable);
        if policy.level == Level::None {
            return if policy.accept_no_isolation { Ok(self) } else { Err(not_accepted()) };
        }
        self.helper = match helper {
            Some(path) => path.to_owned(),
            None => std::env::current_exe().ok().filter(|p| p.is_file()).ok_or_else(executable_replaced)?,
        };
        view::check(&policy.readable, &self.host)?;
        if policy.level == Level::Strict {
            let path = self.host.vars.get(OsStr::new("PATH")).cloned().unwrap_or_default();
            self.launcher = launcher::find(&path).ok_or_else(bubblewrap_missing)?;
        }
        self.show(view::of(&self.host, &policy.readable));
        if rustix::process::geteuid().is_root() {
            self.user = Some(policy.user.unwrap_or(UNPRIVILEGED));
        }
        Ok(self)
    }

    /// Sets what commands see.
    fn show(&mut self, mut view: Vec<view::Visible>) {
        view::leave_out(&mut view, &self.policy.hidden);
        self.hidden = Arc::new(masks::Hidden::new(&view, &self.policy.hidden));
        self.view = view.into();
    }

    /// Sets the control groups, or the reason why there are none.
    pub fn with_cgroups(mut self, cgroups: Result<Cgroups, String>) -> Sandbox {
        self.cgroups = cgroups.map(Arc::new).map_err(Into::into);
        self
    }

    /// Describes what limits the memory and the number of processes of a command on this machine.
    pub fn bounds(&self) -> String {
        let accounted = self.cgroups.as_ref().map(|cgroups| cgroups.accounted()).unwrap_or_default();
        let (of_group, by_group) = (
            |is: bool| if is { "control group, " } else { "" },
            match &self.cgroups {
                Ok(cgroups) => format!("control groups: in {}", cgroups.root().display()),
                Err(why) => format!("no control groups: {why}"),
            },
        );
        let (memory, processes) = (of_group(accounted.memory), of_group(accounted.processes));
        format!("memory: {memory}monitor; processes: {processes}kernel limit per user; {by_group}")
    }

    /// Returns a text that changes whenever commands find other toolchains, or run as another user.
    pub fn fingerprint(&self) -> String {
        format!("{:?} {:?} {:?}", self.level, self.user, self.host.vars)
    }

    /// Returns the data directory of its policy.
    pub fn data_dir(&self) -> Option<&Path> {
        self.policy.data_dir.as_deref()
    }

    /// Returns whether commands see this file of the host, given by its real path.
    pub fn shows(&self, path: &Path) -> bool {
        let shown = |visible: &view::Visible| match visible {
            view::Visible::Path(shown) | view::Visible::Link(shown, _) => path.starts_with(shown),
        };
        self.level == Level::None || self.view.iter().any(shown)
    }

    /// Returns the isolation level.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Runs a command until it exits or hits a limit. No process of it survives, also when the future is dropped.
    ///
    /// # Errors
    /// When the command cannot be started.
    pub async fn run(&self, job: &Job<'_>, on_output: Option<OnOutput>) -> io::Result<ProcessOutput> {
        let (program, reaper) = self.shell_program(job, true)?;
        let (on_output, flush) = on_output.map(redacting).unzip();
        let mut output = process::run_with_monitor(&program, on_output, self.monitor(job, &reaper)).await?;
        if reaper.ran_out_of_memory() && !output.ok() {
            let mib = self.policy.limits.memory >> 20;
            let why = format!("its processes used all of the allowed {mib} MiB of memory");
            output.stop_reason = Some(StopReason::Excess(why));
        }
        resource_monitor::note_full_disk(&mut output, job.dir, self.policy.limits);
        // Dropped only after the group has ended (or by an early return): it still finds processes that left the group.
        drop(reaper);
        flush.into_iter().for_each(|flush: Flush| flush());
        // Redact before anyone truncates the output: a value cut in two would not be recognized.
        let clean = if output.truncated { redact_end } else { redact_live };
        output.stdout = clean(&output.stdout).into_owned();
        output.stderr = clean(&output.stderr).into_owned();
        if self.level != Level::None
            && let Some(complaint) = inside::complaint(output.code, &output.stderr)
        {
            let meaning = if complaint.starts_with("bwrap: ") {
                launcher::meaning(&complaint)
            } else {
                "see `skep sandbox test`"
            };
            return Err(io::Error::other(format!("cannot set up the sandbox: {complaint}: {meaning}")));
        }
        if self.level == Level::Strict
            && let Some(signal @ 1..=64) = output.code.map(|code| code - ENDED_BY)
        {
            (output.code, output.signal) = (None, Some(signal));
        }
        Ok(output)
    }

    /// Starts a command to be driven over its standard input and output; the caller enforces `timeout`. No process of
    /// it survives the returned handles. Its standard error is collected separately.
    ///
    /// # Errors
    /// When the command cannot be started.
    pub fn spawn(&self, job: &Job<'_>) -> io::Result<(InteractiveProcess, ProcessReaper)> {
        let (program, reaper) = self.shell_program(job, false)?;
        let mut process = process::spawn(&program)?;
        process.handle.kill_when(self.monitor(job, &reaper));
        if self.level == Level::Strict {
            // Outside the namespace there is only the launcher, and terminating it would kill the command at once.
            let init = reaper.init();
            process.handle.terminate_with(Box::new(move || reaper::terminate(&init)));
        }
        Ok((process, reaper))
    }

    /// Returns the monitor of a command, started with its process id. Its future completes with the reason once the
    /// command exceeds a limit.
    fn monitor(&self, job: &Job<'_>, reaper: &ProcessReaper) -> impl FnOnce(u32) -> BoxFuture<'static, StopReason> {
        let (folders, limits) = (folders::writable(job), self.policy.limits);
        let init = (self.level == Level::Strict).then(|| reaper.init());
        move |pid| {
            Box::pin(async move {
                if let Some(init) = init {
                    reaper::find_init(pid, &init).await;
                }
                resource_monitor::wait_for_excess(pid, folders, limits).await
            })
        }
    }

    /// Returns the address at which a command finds the egress proxy: `http://<address>:<port>`.
    pub fn proxy_url(&self, proxy: &ProxyEndpoint) -> String {
        match self.level {
            Level::Strict => format!("http://127.0.0.1:{}", inside::relay::PORT),
            Level::Landlock | Level::None => format!("http://{}", proxy.tcp),
        }
    }

    /// Returns the proxy URL for the command's environment, with credentials where the listener requires them.
    fn proxy_login_url(&self, proxy: &ProxyEndpoint) -> Secret {
        match self.level {
            Level::Strict => Secret::new(self.proxy_url(proxy)),
            Level::Landlock | Level::None => Secret::new(format!("http://{}@{}", proxy.login.expose(), proxy.tcp)),
        }
    }

    fn shell_program(&self, job: &Job<'_>, merge: bool) -> io::Result<(Program, ProcessReaper)> {
        self.launch(job, merge, vec!["/bin/sh".into(), "-c".into(), job.command.into()])
    }

    /// Builds the program that runs `argv` in the sandbox.
    fn launch(&self, job: &Job<'_>, merge: bool, argv: Vec<OsString>) -> io::Result<(Program, ProcessReaper)> {
        if let Some((what, fix)) = self.broken() {
            return Err(io::Error::other(format!("{what}; {fix}")));
        }
        let job_marker = reaper::job_marker();
        folders::make(job, &self.host)
            .map_err(|why| io::Error::other(format!("cannot create the command's directories: {why}")))?;
        let proxy = job.proxy.map(|proxy| self.proxy_login_url(proxy));
        let adjacent = job.origin.filter(|_| self.host.active_environment().is_none());
        let adjacent = adjacent.and_then(|origin| view::environment_of(origin, job.dir, &self.host, &self.view));
        let given = environment::Given {
            proxy: proxy.as_ref(),
            environment: adjacent.as_ref().map(|environment| environment.root.as_path()),
            other_user: self.user.is_some(),
            job_marker: (reaper::JOB_MARKER_VAR, &job_marker),
        };
        let env = self.host.environment(job, self.level, &given);
        let mut program = Program {
            name: OsString::new(),
            args: Vec::new(),
            env: vec![(reaper::JOB_MARKER_VAR.into(), (&job_marker).into())],
            dir: job.dir.to_owned(),
            stdin: Vec::new(),
            timeout: job.timeout,
            max_output: job.max_output,
        };
        let leaf = self.cgroups.as_ref().ok().and_then(|cgroups| {
            let made = cgroups.leaf(&job_marker, &self.policy.limits);
            // The other limits apply without one.
            made.inspect_err(|error| tracing::warn!(%error, "cannot create a control group for a command")).ok()
        });
        let hold_in_leaf = |program: &mut Program| {
            if let Some(leaf) = &leaf {
                let inner = (std::mem::take(&mut program.name), std::mem::take(&mut program.args));
                (program.name, program.args) = leaf.wrap(inner.0, inner.1);
            }
        };
        if self.level == Level::None {
            program.name = "/bin/sh".into();
            let prelude = if merge { format!("{PRELUDE} 2>&1") } else { PRELUDE.to_owned() };
            program.args = [vec!["-c".into(), prelude.into(), "sh".into()], argv[2..].to_vec()].concat();
            program.env = env;
            hold_in_leaf(&mut program);
            return Ok((program, ProcessReaper::new(job_marker, leaf)));
        }
        let (home, data_dir) = (folders::seen_cache(job, self.level).join("home"), self.policy.data_dir.as_deref());
        folders::write_user_files(job.cache, &home, self.user)?;
        if let Some(user) = self.user {
            // At `strict` the bind mounts make the directories reachable, whatever lies above them.
            folders::give_to_user(job, user, data_dir.filter(|_| self.level == Level::Landlock))?;
        }
        toolchain_cache::make(job, self.level, &self.host.vars, &self.view, self.user)
            .and_then(|()| self.host.packages.make(job, self.user))
            .map_err(|e| io::Error::new(e.kind(), format!("cannot prepare the toolchain caches: {e}")))?;
        let needed = adjacent.map(|environment| environment.needed).unwrap_or_default();
        let (view, hidden) = match needed.is_empty() {
            true => (Arc::clone(&self.view), Arc::clone(&self.hidden)),
            false => {
                let view = [&self.view[..], &needed].concat();
                let hidden = masks::Hidden::new(&view, &self.policy.hidden);
                (view.into(), Arc::new(hidden))
            }
        };
        let writable = folders::mounts(job, self.level);
        let is_strict = self.level == Level::Strict;
        let owned = |paths: &[&str]| paths.iter().map(OsString::from).collect::<Vec<_>>();
        let folders = writable.iter().map(|(_, seen)| seen.clone().into_os_string());
        let restrictions = Restrictions {
            level: self.level,
            argv,
            env,
            dir: job.dir.into(),
            merge,
            user: self.user,
            limits: self.policy.limits,
            readable: if is_strict { owned(&["/"]) } else { view::paths(&view, &hidden, &self.helper) },
            writable: folders.chain(owned(if is_strict { &["/tmp", "/dev"] } else { &[] })).collect(),
            sockets: match (is_strict, job.proxy.is_some()) {
                (true, _) => Sockets::Own,
                (false, true) => Sockets::Tcp,
                (false, false) => Sockets::None,
            },
            port: job.proxy.filter(|_| !is_strict).map(|proxy| proxy.tcp.port()),
            relay: is_strict && job.proxy.is_some(),
        };
        program.stdin = inside::frame(&restrictions)?;
        if is_strict {
            let user_files = job.cache.join(folders::USER_FILES);
            program.name = (&self.launcher).into();
            program.args = launcher::args(&launcher::Launch {
                view: &view,
                masks: &hidden.masks(),
                user_files: (&user_files.join("passwd"), &user_files.join("group")),
                helper: &self.helper,
                writable: &writable,
                proxy: job.proxy.map(|proxy| proxy.socket.as_path()),
                is_root: self.user.is_some(),
                limits: self.policy.limits,
            });
        } else {
            program.name = (&self.helper).into();
            program.args = vec![inside::HELPER.into()];
        }
        hold_in_leaf(&mut program);
        Ok((program, ProcessReaper::new(job_marker, leaf)))
    }
}
