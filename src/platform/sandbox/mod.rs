//! The one place through which every command of an agent or a check is started, and the walls around it.
//!
//! | level | how | what it holds back |
//! |---|---|---|
//! | `strict` | bubblewrap, then [`inside`]: system call filter, Landlock, limits | other files, processes, networks, the kernel's riskier calls |
//! | `landlock` | [`inside`] alone | other files' content, networks, signals; not the names and owners of files |
//! | `none` | a shell | nothing but mistakes: limits, an emptied environment, a private HOME, and the end of the whole tree |
//!
//! | file | duty |
//! |---|---|
//! | `policy` | what a person decided |
//! | `environment`, `view`, `launcher` | what a command gets of the host: variables, files, mounts |
//! | `homes` | where a command that may fetch puts what it fetches |
//! | `inside` | the part of Skep that closes the last walls behind itself and becomes the command |
//! | `folders`, `tree` | its folders: made, given to its user, walked |
//! | `cgroup`, `watch`, `strays` | its memory and size, its end |
//! | `test` | hostile actions behind the walls: whether the level holds |
//!
//! At every level nothing of Skep's environment gets in but the names listed, and those in `engines.pass_env` for engines; output and
//! time are limited; what a command leaves running is killed, in its process group or by the `SKEP_JOB` it inherited.
//!
//! Invariant: no other file starts a command that comes from a repository, a project or an agent.

use super::process::{self, Finished, OnOutput, Program, Talk};
use crate::ports::Isolation;
use crate::secrets::{Redactor, Secret, redact_end, redact_live};
use futures::future::BoxFuture;
use inside::{Sockets, Walls};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

mod cgroup;
mod environment;
mod folders;
pub mod inside;
mod launcher;
mod policy;
mod reaper;
mod resource_monitor;
pub mod test;
mod toolchain_cache;
mod tree;
mod view;

pub use cgroup::Groups;
pub use environment::is_kept;
pub use policy::{Level, Limits, Policy, Refused, UNPRIVILEGED};
pub use reaper::{Ends as Strays, NAME as MARK, mark, mark_git, sweep};

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
    /// Its working folder, a whole worktree: behind walls it can write here, in its cache and its scratch folder, and nowhere else.
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
    pub gate: Option<&'a ProxyEndpoint>,
}

/// Where Skep's gate listens: the same gate at two places, because a walled command reaches only one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyEndpoint {
    /// Its unix socket, for commands without a network of their own.
    pub socket: PathBuf,
    /// Its loopback address, for the others.
    pub tcp: SocketAddr,
    /// What the loopback address asks a proxy's client for, `USER:PASSWORD`; who has the socket is not asked.
    pub login: Secret,
}

/// Starts commands.
#[derive(Clone)]
pub struct Sandbox {
    host: environment::Host,
    policy: Arc<Policy>,
    level: Level,
    /// Skep's own program, to be run within the walls.
    helper: PathBuf,
    /// Bubblewrap.
    launcher: PathBuf,
    view: Arc<[view::Seen]>,
    /// Who commands run as, when Skep is root.
    user: Option<(u32, u32)>,
    /// The control groups commands get, or why they get none.
    groups: Result<Arc<Groups>, Arc<str>>,
    /// Why nothing is started, while that is so.
    broken: Arc<RwLock<Option<Refused>>>,
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

/// Names only: a value may be a key.
impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)
    }
}

/// Limits go on in a shell of our own before the command's where no walls are wanted. A hard limit that is lower already stays. Files:
/// in blocks of 512 bytes.
const PRELUDE: &str = "ulimit -c 0; ulimit -f 8388608 2>/dev/null; ulimit -n 4096 2>/dev/null; exec /bin/sh -c \"$1\"";

/// What the launcher adds to the number of the signal that ended a command, as shells do.
const ENDED_BY: i32 = 128;

impl Sandbox {
    /// Level `none`, which lets toolchains of this process's user be found. `pass` names more variables that go in (a headless
    /// agent's key, or `HOME` for its login): a person's choice, from the configuration.
    pub fn of_this_process(pass: &[String]) -> Sandbox {
        Sandbox::new(&std::env::vars_os().collect(), pass)
    }

    /// The same from a given environment.
    pub fn new(from: &BTreeMap<OsString, OsString>, pass: &[String]) -> Sandbox {
        Sandbox {
            host: environment::Host::of(from, pass),
            policy: Arc::new(Policy { level: Level::None, accept_no_isolation: true, ..Policy::default() }),
            level: Level::None,
            helper: PathBuf::new(),
            launcher: PathBuf::new(),
            view: Arc::new([]),
            user: None,
            groups: Err("not asked for".into()),
            broken: Arc::default(),
        }
    }

    /// A sandbox that starts nothing: for processes that only read, and do not ask whether there are walls.
    pub fn closed() -> Sandbox {
        let sandbox = Sandbox::new(&BTreeMap::new(), &[]);
        sandbox
            .refuse(Some(Refused { what: "this process starts no commands".into(), fix: "use `skep serve`".into() }));
        sandbox
    }

    /// The same walls (and the same [`Sandbox::refuse`]) with more of this process's variables going in.
    pub fn passing(&self, pass: &[String]) -> Sandbox {
        let mut more = self.clone();
        more.host = environment::Host::of(&std::env::vars_os().collect(), pass);
        more
    }

    /// From now on nothing is started, or again.
    pub fn refuse(&self, why: Option<Refused>) {
        *self.broken.write().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// The level a policy wants, over this process's environment. `helper` is the `skep` program that is run within the walls; `None` =
    /// this process's own. Whether the level holds here is another question: [`test::run`] answers it.
    ///
    /// # Errors
    /// When the level needs something that is not installed, or is not accepted.
    pub fn walled(policy: &Policy, pass: &[String], helper: Option<&Path>) -> Result<Sandbox, Refused> {
        Sandbox::new(&std::env::vars_os().collect(), pass).with(policy, helper)
    }

    /// This sandbox with the walls a policy wants; see [`Sandbox::walled`].
    ///
    /// # Errors
    /// As there.
    pub fn with(mut self, policy: &Policy, helper: Option<&Path>) -> Result<Sandbox, Refused> {
        self.policy = Arc::new(policy.clone());
        self.level = policy.level;
        if policy.level == Level::None {
            return if policy.accept_no_isolation { Ok(self) } else { Err(not_accepted()) };
        }
        self.helper = match helper {
            Some(path) => path.to_owned(),
            None => std::env::current_exe().ok().filter(|p| p.is_file()).ok_or_else(replaced)?,
        };
        if policy.level == Level::Strict {
            let path = self.host.vars.get(OsStr::new("PATH")).cloned().unwrap_or_default();
            self.launcher = launcher::find(&path).ok_or_else(no_launcher)?;
        }
        self.view = view::of(&self.host, &policy.readable).into();
        if rustix::process::geteuid().is_root() {
            self.user = Some(policy.user.unwrap_or(UNPRIVILEGED));
        }
        Ok(self)
    }

    /// The same walls with these control groups, or without, for this reason.
    pub fn grouped(mut self, groups: Result<Groups, String>) -> Sandbox {
        self.groups = groups.map(Arc::new).map_err(Into::into);
        self
    }

    /// What binds the memory and the processes of a command here, in words for people.
    pub fn bounds(&self) -> String {
        let counted = self.groups.as_ref().map(|groups| groups.counted()).unwrap_or_default();
        let (of_group, by_group) = (
            |is: bool| if is { "control group, " } else { "" },
            match &self.groups {
                Ok(groups) => format!("control groups: in {}", groups.root().display()),
                Err(why) => format!("no control groups: {why}"),
            },
        );
        let (memory, processes) = (of_group(counted.memory), of_group(counted.processes));
        format!("memory: {memory}watcher; processes: {processes}limit of the kernel for a user; {by_group}")
    }

    /// The level of this sandbox.
    pub fn wall(&self) -> Level {
        self.level
    }

    /// Runs a command to its end or its limit; nothing of it runs on afterwards. Dropping the future ends it too.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn run(&self, job: &Job<'_>, on_output: Option<OnOutput>) -> io::Result<Finished> {
        let (program, end) = self.program(job, true)?;
        let (on_output, rest) = on_output.map(redacting).unzip();
        let mut ended = process::run_until(&program, on_output, self.guard(job, &end)).await?;
        if end.ran_out_of_memory() && !ended.ok() {
            let most = self.policy.limits.memory >> 20;
            ended.stopped = Some(format!("its processes used all of the {most} MiB of memory that are allowed"));
        }
        // Only now, when the group is gone: what left the group is still there. So it is on an early return, too.
        drop(end);
        rest.into_iter().for_each(|rest: Rest| rest());
        // Here, before anybody shortens it: of a value that is cut in two nobody could tell.
        let clean = if ended.truncated { redact_end } else { redact_live };
        ended.stdout = clean(&ended.stdout).into_owned();
        ended.stderr = clean(&ended.stderr).into_owned();
        if self.level != Level::None
            && let Some(said) = inside::complaint(ended.code, &ended.stderr)
        {
            let meaning =
                if said.starts_with("bwrap: ") { launcher::meaning(&said) } else { "see `skep sandbox test`" };
            return Err(io::Error::other(format!("the sandbox could not be made: {said}: {meaning}")));
        }
        if self.level == Level::Strict
            && let Some(signal @ 1..=64) = ended.code.map(|code| code - ENDED_BY)
        {
            (ended.code, ended.signal) = (None, Some(signal));
        }
        Ok(ended)
    }

    /// Starts a command to talk to over its standard input and output (`limit` is the caller's to keep). Nothing of it runs on after
    /// the end of what this returns. Its standard error is kept apart.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn open(&self, job: &Job<'_>) -> io::Result<(Talk, Strays)> {
        let (program, end) = self.program(job, false)?;
        let mut talk = process::open(&program)?;
        talk.end.stop_when(self.guard(job, &end));
        if self.level == Level::Strict {
            // Of its group only the launcher is outside; told to end, that takes the command along at once.
            let init = end.init();
            talk.end.tell_by(Box::new(move || reaper::tell_to_end(&init)));
        }
        Ok((talk, end))
    }

    /// What goes on beside a command, from its number on: it ends when the command has passed a limit, with the words for it.
    fn guard(&self, job: &Job<'_>, end: &Strays) -> impl FnOnce(u32) -> BoxFuture<'static, String> {
        let (folders, limits) = (folders::writable(job), self.policy.limits);
        let init = (self.level == Level::Strict).then(|| end.init());
        move |pid| {
            Box::pin(async move {
                if let Some(init) = init {
                    reaper::find_init(pid, &init).await;
                }
                resource_monitor::over(pid, folders, limits).await
            })
        }
    }

    /// Where a command finds the gate: `http://<address>:<port>`.
    pub fn gate_url(&self, gate: &ProxyEndpoint) -> String {
        match self.level {
            Level::Strict => format!("http://127.0.0.1:{}", inside::relay::PORT),
            Level::Landlock | Level::None => format!("http://{}", gate.tcp),
        }
    }

    /// The same as a proxy's address, for the command's environment: with the login, where it is asked for.
    fn proxy_url(&self, gate: &ProxyEndpoint) -> Secret {
        match self.level {
            Level::Strict => Secret::new(self.gate_url(gate)),
            Level::Landlock | Level::None => Secret::new(format!("http://{}@{}", gate.login.expose(), gate.tcp)),
        }
    }

    fn program(&self, job: &Job<'_>, merge: bool) -> io::Result<(Program, Strays)> {
        self.launch(job, merge, vec!["/bin/sh".into(), "-c".into(), job.line.into()])
    }

    /// A program for `argv` behind the walls.
    fn launch(&self, job: &Job<'_>, merge: bool, argv: Vec<OsString>) -> io::Result<(Program, Strays)> {
        if let Some((what, fix)) = self.broken() {
            return Err(io::Error::other(format!("{what}; {fix}")));
        }
        let mark = reaper::mark();
        folders::make(job, self.host.real_home)
            .map_err(|why| io::Error::other(format!("the command's folders: {why}")))?;
        let proxy = job.gate.map(|gate| self.proxy_url(gate));
        let env = self.host.environment(job, self.level, proxy.as_ref(), (reaper::NAME, &mark));
        let mut program = Program {
            name: OsString::new(),
            args: Vec::new(),
            env: vec![(reaper::NAME.into(), (&mark).into())],
            dir: job.dir.to_owned(),
            stdin: Vec::new(),
            limit: job.limit,
            keep: job.keep,
        };
        let leaf = self.groups.as_ref().ok().and_then(|groups| {
            let made = groups.leaf(&mark, &self.policy.limits);
            // The other limits hold without.
            made.inspect_err(|error| tracing::warn!(%error, "a command gets no control group")).ok()
        });
        let held = |program: &mut Program| {
            if let Some(leaf) = &leaf {
                let inner = (std::mem::take(&mut program.name), std::mem::take(&mut program.args));
                (program.name, program.args) = leaf.holding(inner.0, inner.1);
            }
        };
        if self.level == Level::None {
            program.name = "/bin/sh".into();
            let prelude = if merge { format!("{PRELUDE} 2>&1") } else { PRELUDE.to_owned() };
            program.args = [vec!["-c".into(), prelude.into(), "sh".into()], argv[2..].to_vec()].concat();
            program.env = env;
            held(&mut program);
            return Ok((program, Strays::new(mark, leaf)));
        }
        let (home, way) = (job.cache.join(job.purpose.folder()).join("home"), self.policy.data_dir.as_deref());
        folders::make_up_who(job.cache, &home, self.user)?;
        if let Some(user) = self.user {
            // At `strict` the mounts lead there, whatever lies above.
            folders::hand_over(job, user, way.filter(|_| self.level == Level::Landlock))?;
        }
        toolchain_cache::make(job, self.level, &self.host.vars, &self.view, self.user)
            .map_err(|e| io::Error::new(e.kind(), format!("the homes of toolchains: {e}")))?;
        let writable = folders::writable(job);
        let is_strict = self.level == Level::Strict;
        let own = |paths: &[&str]| paths.iter().map(OsString::from).collect::<Vec<_>>();
        let folders = writable.iter().map(|p| p.clone().into_os_string());
        let walls = Walls {
            level: self.level,
            argv,
            env,
            dir: job.dir.into(),
            merge,
            user: self.user,
            limits: self.policy.limits,
            readable: if is_strict { own(&["/"]) } else { view::paths(&self.view, &self.helper) },
            writable: folders.chain(own(if is_strict { &["/tmp", "/dev"] } else { &[] })).collect(),
            sockets: match (is_strict, job.gate) {
                (true, _) => Sockets::Own,
                (false, Some(_)) => Sockets::Tcp,
                (false, None) => Sockets::None,
            },
            port: job.gate.filter(|_| !is_strict).map(|gate| gate.tcp.port()),
            relay: is_strict && job.gate.is_some(),
        };
        program.stdin = inside::frame(&walls)?;
        if is_strict {
            let who = job.cache.join(folders::WHO);
            program.name = (&self.launcher).into();
            program.args = launcher::args(&launcher::Launch {
                view: &self.view,
                who: (&who.join("passwd"), &who.join("group")),
                helper: &self.helper,
                writable: &writable,
                gate: job.gate.map(|gate| gate.socket.as_path()),
                is_root: self.user.is_some(),
                limits: self.policy.limits,
            });
        } else {
            program.name = (&self.helper).into();
            program.args = vec![inside::HELPER.into()];
        }
        held(&mut program);
        Ok((program, Strays::new(mark, leaf)))
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

fn not_accepted() -> Refused {
    Refused {
        what: "the sandbox is switched off (level none), and nobody accepted that: commands would run with all rights of Skep's user".into(),
        fix: "set the level to strict, or accept it by sandbox.accept_no_isolation = true".into(),
    }
}

fn no_launcher() -> Refused {
    Refused {
        what: "bubblewrap is not installed, and commands of agents and checks need it to be walled in (level strict)".into(),
        fix: "install it: `apt-get install bubblewrap` (0.8 or later; the package has this name everywhere). The weaker level needs no package: \
              sandbox.level = \"landlock\" (kernel 6.12 or later; commands then see names and owners of all files)"
            .into(),
    }
}

fn replaced() -> Refused {
    Refused {
        what: "Skep's own program file was replaced or removed while it runs, and commands are started by it".into(),
        fix: "start Skep again".into(),
    }
}
