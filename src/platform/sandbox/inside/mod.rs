//! The helper process inside the sandbox: applies the last restrictions to itself, then becomes the command.
//!
//! The helper receives a frame on standard input, before the command's own input. The arguments and the environment of
//! the launcher therefore contain nothing of the command.
//!
//! Invariant: no runtime, no logging, no configuration: it is started for every command and knows only the frame.

use super::policy::{Level, Limits};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

mod filter;
mod landlock;
pub(super) mod probe;
pub(super) mod relay;
mod user;

pub use filter::Sockets;

/// Argument that starts the executable as this helper.
pub const HELPER: &str = "sandbox-helper";
/// Argument that starts the executable as the relay.
const RELAY: &str = "sandbox-relay";
/// Argument that starts the executable as the self-test's hostile program.
pub const PROBE: &str = "sandbox-probe";

/// Prefix of every error message of the helper, on standard error.
pub const MESSAGE_PREFIX: &str = "skep sandbox: ";
/// Exit code of the helper when the command could not be started.
pub const NOT_STARTED: u8 = 125;

/// Time that the namespace's init may take to reach its wait, and the interval between looks.
const INIT_TIMEOUT: Duration = Duration::from_secs(2);
const INIT_POLL_INTERVAL: Duration = Duration::from_micros(200);

/// Maximum frame size in bytes: an environment and a shell command line.
const FRAME_MAX: u32 = 8 * 1024 * 1024;

/// Restrictions to apply, and the program to become.
#[derive(Serialize, Deserialize)]
pub struct Restrictions {
    /// Isolation level.
    pub level: Level,
    /// Program and arguments.
    pub argv: Vec<OsString>,
    /// Complete environment.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub dir: OsString,
    /// Whether standard error is merged into standard output.
    pub merge: bool,
    /// User and group to run as, when the helper runs as root.
    pub user: Option<(u32, u32)>,
    /// Resource limits.
    pub limits: Limits,
    /// Paths it may read and execute.
    pub readable: Vec<OsString>,
    /// Paths it may write.
    pub writable: Vec<OsString>,
    /// Sockets it may create.
    pub sockets: Sockets,
    /// The only port it may connect to, at `landlock`.
    pub port: Option<u16>,
    /// Whether to start the relay to the egress proxy, at `strict`.
    pub relay: bool,
}

/// Encodes a frame: its length, then its body.
///
/// # Errors
/// When it is larger than the helper accepts.
pub fn frame(restrictions: &Restrictions) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(restrictions)?;
    let length = u32::try_from(body.len()).ok().filter(|n| *n <= FRAME_MAX);
    let length = length.ok_or_else(|| io::Error::other("the command's environment is larger than 8 MiB"))?;
    Ok([&length.to_le_bytes()[..], &body].concat())
}

/// Runs the helper if the program was started as one; `None` = it was not.
pub fn run_if_helper(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let name = args.nth(1)?;
    let ended = if name == HELPER {
        become_command()
    } else if name == RELAY {
        relay::run()
    } else if name == PROBE {
        probe::run()
    } else {
        return None;
    };
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{MESSAGE_PREFIX}{e}");
            ExitCode::from(NOT_STARTED)
        }
    })
}

/// Becomes the command; returns only on failure.
fn become_command() -> io::Result<()> {
    let restrictions = read_frame()?;
    let in_step = |step: &'static str| move |e: io::Error| io::Error::new(e.kind(), format!("{step}: {e}"));
    close_inherited_files().map_err(in_step("close inherited files"))?;
    let relay_listener =
        if restrictions.relay { Some(listen().map_err(in_step("listen on the proxy port"))?) } else { None };
    let rules = landlock::rules(&restrictions)?;
    if let Some(user) = restrictions.user {
        user::give_up_root(user, restrictions.level == Level::Strict).map_err(in_step("give up root"))?;
    }
    if restrictions.level == Level::Landlock {
        // At `strict` the launcher does this for the whole namespace. A change of user resets it, so it comes after
        // that.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    }
    require_skep(restrictions.level).map_err(in_step("check that Skep is running"))?;
    set_limits(&restrictions.limits).map_err(in_step("set limits"))?;
    rustix::thread::set_no_new_privs(true)?;
    rules.bind()?;
    filter::apply(restrictions.sockets).map_err(in_step("apply the system call filter"))?;
    if let Some(listener) = relay_listener {
        let mut relay = Command::new("/proc/self/exe");
        relay.arg(RELAY).env_clear().current_dir("/").stdin(Stdio::from(listener));
        relay
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(in_step("start the relay to the egress proxy"))?;
    }
    let (program, args) = restrictions.argv.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(restrictions.env).current_dir(&restrictions.dir);
    if restrictions.merge {
        command.stderr(io::stdout().as_fd().try_clone_to_owned()?);
    }
    let e = command.exec();
    Err(io::Error::new(e.kind(), format!("cannot start {program:?} in {:?}: {e}", restrictions.dir)))
}

/// Fails if Skep has died. From here on, its death ends this process: each process between Skep and this one is killed
/// with its parent, or this one is itself. Before, a death of Skep would have gone unnoticed.
fn require_skep(level: Level) -> io::Result<()> {
    if level == Level::Strict {
        // The namespace's init asks for the signal after it has started this process, and then sleeps.
        let is_waiting = || std::fs::read_to_string("/proc/1/stat").is_ok_and(|stat| is_sleeping(&stat));
        let until = std::time::Instant::now() + INIT_TIMEOUT;
        while !is_waiting() && std::time::Instant::now() < until {
            std::thread::sleep(INIT_POLL_INTERVAL);
        }
    }
    // Only Skep reads this pipe.
    let stdout = io::stdout();
    let mut output = [PollFd::new(&stdout, PollFlags::OUT)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut output, Some(&now))?;
    if output[0].revents().contains(PollFlags::ERR) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

/// Returns whether the state in a `/proc/PID/stat` is that of a sleeping process.
fn is_sleeping(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
}

/// Marks all files that Skep inherited or left open to be closed; the command gets only its three streams.
fn close_inherited_files() -> io::Result<()> {
    #[allow(unsafe_code)] // only sets the close-on-exec flag of descriptors
    let ended = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if ended == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads exactly one frame: everything after it is the command's input.
fn read_frame() -> io::Result<Restrictions> {
    // Not through `io::stdin()`: its buffer would swallow what follows.
    let mut input = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > FRAME_MAX {
        return Err(io::Error::other("the frame is too large"));
    }
    let mut body = vec![0; length as usize];
    input.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Sets resource limits. A lower hard limit stays in force.
fn set_limits(limits: &Limits) -> io::Result<()> {
    let each = [
        (Resource::Core, Some(0)),
        (Resource::Fsize, Some(limits.file).filter(|n| *n > 0)),
        (Resource::Nofile, Some(limits.open_files).filter(|n| *n > 0)),
        (Resource::Data, Some(limits.memory).filter(|n| *n > 0)),
        (Resource::Nproc, Some(limits.processes).filter(|n| *n > 0)),
    ];
    for (resource, limit) in each {
        let Some(limit) = limit else { continue };
        let now = rustix::process::getrlimit(resource).maximum;
        let maximum = Some(now.map_or(limit, |now| now.min(limit)));
        rustix::process::setrlimit(resource, Rlimit { current: maximum, maximum })?;
    }
    Ok(())
}

fn listen() -> io::Result<std::os::fd::OwnedFd> {
    std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, relay::PORT)).map(Into::into)
}

/// Returns the error message if a program's exit shows that the sandbox could not be set up.
pub fn complaint(code: Option<i32>, stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    let message = text.lines().find(|l| l.starts_with(MESSAGE_PREFIX) || l.starts_with("bwrap: "))?;
    (code == Some(1) || code == Some(i32::from(NOT_STARTED))).then(|| message.to_owned())
}

/// Returns whether an argument is one of the helper's names.
pub fn is_name(name: &OsStr) -> bool {
    [HELPER, RELAY, PROBE].iter().any(|n| name == *n)
}
