//! The part of Skep that runs within the walls: closes the last of them behind itself, then becomes the command.
//!
//! It is told by a frame on standard input, before the command's own input: no argument or environment of the launcher holds anything
//! of the command.
//!
//! Invariant: no runtime, no logging, no configuration: it is started for every command and sees nothing but the frame.

use super::policy::{Level, Limits};
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

mod filter;
mod landlock;
pub(super) mod probe;
pub(super) mod relay;
mod user;

pub use filter::Sockets;

/// The argument that makes the program this part of itself.
pub const HELPER: &str = "sandbox-helper";
/// The same for the relay.
const RELAY: &str = "sandbox-relay";
/// The same for the hostile actions of the self-test.
pub const PROBE: &str = "sandbox-probe";

/// What every complaint of this part begins with, on standard error.
pub const VOICE: &str = "skep sandbox: ";
/// Its exit code when the command could not be started.
pub const NOT_STARTED: u8 = 125;

/// The largest frame taken: an environment and a shell line.
const FRAME_MAX: u32 = 8 * 1024 * 1024;

/// What to close, and what to become.
#[derive(Serialize, Deserialize)]
pub struct Walls {
    /// The level.
    pub level: Level,
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working folder.
    pub dir: OsString,
    /// Whether its standard error goes where its standard output goes.
    pub merge: bool,
    /// The user and group it runs as, when this part runs as root.
    pub user: Option<(u32, u32)>,
    /// Its limits.
    pub limits: Limits,
    /// What it may read and run.
    pub readable: Vec<OsString>,
    /// What it may write.
    pub writable: Vec<OsString>,
    /// Which sockets it may make.
    pub sockets: Sockets,
    /// The one port it may connect to, at `landlock`.
    pub port: Option<u16>,
    /// Whether the relay to the gate is started, at `strict`.
    pub relay: bool,
}

/// A frame: its length, then itself.
///
/// # Errors
/// When it is larger than is taken.
pub fn frame(walls: &Walls) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(walls)?;
    let length = u32::try_from(body.len()).ok().filter(|n| *n <= FRAME_MAX);
    let length = length.ok_or_else(|| io::Error::other("the command's environment is larger than 8 MiB"))?;
    Ok([&length.to_le_bytes()[..], &body].concat())
}

/// Runs this part if the program was started as it; `None` = it was not.
pub fn entered(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let name = args.nth(1)?;
    let ended = if name == HELPER {
        become_the_command()
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
            eprintln!("{VOICE}{e}");
            ExitCode::from(NOT_STARTED)
        }
    })
}

/// Returns only when it failed.
fn become_the_command() -> io::Result<()> {
    let walls = read_frame()?;
    let said = |what: &'static str| move |e: io::Error| io::Error::new(e.kind(), format!("{what}: {e}"));
    keep_to_itself().map_err(said("open files"))?;
    let way_out = if walls.relay { Some(listen().map_err(said("the gate's port"))?) } else { None };
    let rules = landlock::rules(&walls)?;
    if let Some(user) = walls.user {
        user::give_up_root(user, walls.level == Level::Strict).map_err(said("giving root up"))?;
    }
    if walls.level == Level::Landlock {
        // At `strict` the launcher does it for the whole namespace. A change of user takes it back, so only now.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    }
    limit(&walls.limits).map_err(said("limits"))?;
    rustix::thread::set_no_new_privs(true)?;
    rules.bind()?;
    filter::apply(walls.sockets).map_err(said("system call filter"))?;
    if let Some(listener) = way_out {
        let mut relay = Command::new("/proc/self/exe");
        relay.arg(RELAY).env_clear().current_dir("/").stdin(Stdio::from(listener));
        relay.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(said("the relay to the gate"))?;
    }
    let (program, args) = walls.argv.split_first().ok_or_else(|| io::Error::other("there is no command"))?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(walls.env).current_dir(&walls.dir);
    if walls.merge {
        command.stderr(io::stdout().as_fd().try_clone_to_owned()?);
    }
    let e = command.exec();
    Err(io::Error::new(e.kind(), format!("cannot start {program:?} in {:?}: {e}", walls.dir)))
}

/// Whatever Skep itself was started with and left open ends here; the command gets its three streams.
fn keep_to_itself() -> io::Result<()> {
    #[allow(unsafe_code)] // it marks descriptors, to be closed when another program begins
    let ended = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if ended == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads exactly the frame: what follows is the command's.
fn read_frame() -> io::Result<Walls> {
    // Not by `io::stdin()`: its buffer would swallow what follows.
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

/// A hard limit that is lower already stays.
fn limit(limits: &Limits) -> io::Result<()> {
    let each = [
        (Resource::Core, Some(0)),
        (Resource::Fsize, Some(limits.file).filter(|n| *n > 0)),
        (Resource::Nofile, Some(limits.open_files).filter(|n| *n > 0)),
        (Resource::Data, Some(limits.memory).filter(|n| *n > 0)),
        (Resource::Nproc, Some(limits.processes).filter(|n| *n > 0)),
    ];
    for (resource, wanted) in each {
        let Some(wanted) = wanted else { continue };
        let now = rustix::process::getrlimit(resource).maximum;
        let most = Some(now.map_or(wanted, |now| now.min(wanted)));
        rustix::process::setrlimit(resource, Rlimit { current: most, maximum: most })?;
    }
    Ok(())
}

fn listen() -> io::Result<std::os::fd::OwnedFd> {
    std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, relay::PORT)).map(Into::into)
}

/// Whether a program's end says that the walls could not be closed, and what they said.
pub fn complaint(code: Option<i32>, stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    let said = text.lines().find(|l| l.starts_with(VOICE) || l.starts_with("bwrap: "))?;
    (code == Some(1) || code == Some(i32::from(NOT_STARTED))).then(|| said.to_owned())
}

/// Whether an argument is one of this part's names.
pub fn is_name(name: &OsStr) -> bool {
    [HELPER, RELAY, PROBE].iter().any(|n| name == *n)
}
