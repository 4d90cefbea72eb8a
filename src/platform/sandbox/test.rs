//! The self-test: hostile actions behind the walls against canaries, and what each level promises of them.

use super::inside::{self, probe};
use super::policy::{Level, Limits, Policy, Refused};
use super::{Job, Purpose, Sandbox, launcher};
use crate::platform::process;
use probe::{Canaries, Tried};
use serde::Serialize;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long the whole test may take; it takes a fraction of a second.
const LIMIT: Duration = Duration::from_secs(30);
/// The limits the test is run under: low, so that reaching them is quick.
const LIMITS: Limits =
    Limits { memory: 1 << 30, processes: 64, file: 1 << 20, open_files: 256, workspace: 1 << 30, tmp: 1 << 20 };

/// The first of the user numbers the test runs as when Skep is root: from a range that no distribution gives to anybody.
const OF_ITS_OWN: u32 = 65_100;

/// What the weaker level is known to leave open.
const OPEN_AT_LANDLOCK: &[&str] = &["look at a file outside", "change the mode of a file outside", STRAY];
const STRAY: &str = "leave a process running";

/// One action, what should come of it, and what came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was tried.
    pub action: String,
    /// Whether the level promises to hold it back.
    pub promised: bool,
    /// Whether it was held back.
    pub held: bool,
    /// What was seen.
    pub found: String,
}

impl Row {
    /// Whether the promise is kept.
    pub fn good(&self) -> bool {
        self.held || !self.promised
    }
}

/// Tries every action behind this sandbox's walls. `place` is a folder of Skep's own, as the workspaces are in.
///
/// # Errors
/// When the walls could not be made, or the test not be run: then no level holds.
pub async fn run(sandbox: &Sandbox, place: &Path) -> Result<Vec<Row>, Refused> {
    let level = sandbox.wall();
    if level == Level::None {
        return Ok(Vec::new());
    }
    let tried = attack(sandbox, place).await.map_err(|e| refused(level, &e.to_string()))?;
    let promised = |action: &str| level == Level::Strict || !OPEN_AT_LANDLOCK.contains(&action);
    Ok(tried
        .into_iter()
        .map(|t| Row { promised: promised(&t.action), action: t.action, held: t.held, found: t.found })
        .collect())
}

/// A sandbox, proven here and now.
///
/// # Errors
/// When its level does not hold: what does not, and what to do.
pub async fn proven(sandbox: Sandbox, place: &Path) -> Result<Sandbox, Refused> {
    let rows = run(&sandbox, place).await?;
    verdict(sandbox.wall(), &rows)?;
    Ok(sandbox)
}

/// Whether every promise was kept.
///
/// # Errors
/// When one was not.
pub fn verdict(level: Level, rows: &[Row]) -> Result<(), Refused> {
    let broken: Vec<String> =
        rows.iter().filter(|r| !r.good()).map(|r| format!("{} ({})", r.action, r.found)).collect();
    if broken.is_empty() {
        return Ok(());
    }
    Err(refused(level, &format!("a command could: {}", broken.join("; "))))
}

fn refused(level: Level, why: &str) -> Refused {
    let weaker = "the weaker level: sandbox.level = \"landlock\" (commands then see names and owners of all files of this machine)";
    let fix = match level {
        Level::Strict if why.contains("bwrap: ") => format!("{}; {weaker}", launcher::meaning(why)),
        Level::Strict => format!("`skep sandbox test` shows every action; {weaker}"),
        // It names the folder and what to do itself.
        Level::Landlock if why.contains("above the data directory") => "or start Skep as a user of its own".into(),
        Level::Landlock if why.contains("landlock") || why.contains("ncompatible") => {
            "Linux 6.12 or later with Landlock is needed (`lsm=` on the kernel's command line must name it; a container's filter must let \
             its calls through); or use level strict"
                .into()
        }
        _ => "`skep sandbox test` shows every action; use level strict".into(),
    };
    Refused { what: format!("the sandbox's level {} does not hold here: {why}", level.name()), fix }
}

async fn attack(sandbox: &Sandbox, place: &Path) -> io::Result<Vec<Tried>> {
    let outside = tempfile::tempdir()?;
    let open_to_all = |path: &Path, mode: u32| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    let own = tempfile::tempdir_in(place)?;
    let (dir, cache, scratch) = (own.path().join("work"), own.path().join("cache"), own.path().join("scratch"));
    std::fs::create_dir(&dir)?;
    open_to_all(outside.path(), 0o755)?;
    let (secret, folder, socket) =
        (outside.path().join("secret"), outside.path().join("folder"), outside.path().join("folder/socket"));
    std::fs::write(&secret, "canary")?;
    open_to_all(&secret, 0o644)?;
    std::fs::create_dir(&folder)?;
    open_to_all(&folder, 0o777)?;
    // Connections wait in the listeners' queues: looking whether there is one is all that is needed.
    let tcp = std::net::TcpListener::bind("127.0.0.1:0")?;
    let udp = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let unix = UnixListener::bind(&socket)?;
    open_to_all(&socket, 0o777)?;
    let nonce = uuid::Uuid::now_v7().simple().to_string();
    let name = format!("skep-canary-{nonce}");
    let named = UnixListener::bind_addr(&std::os::unix::net::SocketAddr::from_abstract_name(&name)?)?;
    tcp.set_nonblocking(true)?;
    udp.set_nonblocking(true)?;
    unix.set_nonblocking(true)?;
    named.set_nonblocking(true)?;
    let canaries = Canaries {
        secret,
        folder: folder.clone(),
        tcp: tcp.local_addr()?,
        udp: udp.local_addr()?,
        socket,
        name,
        skep: (
            i32::try_from(std::process::id()).unwrap_or(1),
            std::fs::read_link("/proc/self/ns/pid").map(|l| l.to_string_lossy().into_owned()).unwrap_or_default(),
        ),
        stray: format!("stray-{nonce}"),
        file: LIMITS.file,
        memory: LIMITS.memory,
        processes: LIMITS.processes,
    };
    let env = [(probe::CANARIES, serde_json::to_string(&canaries)?)];
    let job = Job {
        line: "",
        purpose: Purpose::Check,
        dir: &dir,
        cache: &cache,
        scratch: &scratch,
        env: &env,
        limit: LIMIT,
        keep: 64 * 1024,
        gate: None,
    };
    let tried = {
        let mut tested = sandbox.clone();
        // It is also what finds out that a broken wall holds again.
        tested.broken = Arc::default();
        // The kernel counts processes by user: those of others must not use up the room, nor be counted as ours.
        tested.user = sandbox.user.map(|(_, gid)| (OF_ITS_OWN + std::process::id() % 400, gid));
        tested.policy = Arc::new(Policy { limits: LIMITS, ..(*sandbox.policy).clone() });
        let helper = match sandbox.wall() {
            Level::Strict => launcher::HELPER.into(),
            // Not by its path: folders of that may be closed to the user commands run as.
            _ => "/proc/self/exe".into(),
        };
        let (program, end) = tested.launch(&job, false, vec![helper, inside::PROBE.into()])?;
        let ended = process::run_until(&program, None, tested.guard(&job, &end)).await?;
        drop(end);
        serde_json::from_slice::<Vec<Tried>>(&ended.stdout).map_err(|e| {
            let said = crate::platform::terminal_text::tail(&ended.stderr, 500);
            let how = if ended.timed_out { "was not done in time".to_owned() } else { e.to_string() };
            io::Error::other(if said.trim().is_empty() { format!("the test {how}") } else { said.trim().to_owned() })
        })?
    };
    // What is believed is what arrived out here.
    let mut buffer = [0; 8];
    let arrived = [
        ("write a file outside", folder.join("written").exists()),
        ("connect to a TCP port of this machine", tcp.accept().is_ok()),
        ("send a datagram to this machine", udp.recv(&mut buffer).is_ok()),
        ("connect to a unix socket", unix.accept().is_ok()),
        ("connect to an abstract socket", named.accept().is_ok()),
        (STRAY, is_running(&canaries.stray)),
    ];
    Ok(tried
        .into_iter()
        .map(|t| match arrived.iter().find(|(action, _)| *action == t.action) {
            Some((_, true)) => Tried { held: false, found: "it did".into(), ..t },
            Some((_, false)) if t.held && t.action != STRAY => t,
            Some((_, false)) => Tried { held: true, found: "nothing of it arrived".into(), ..t },
            None => t,
        })
        .collect())
}

/// Whether a process has this text in its arguments; it is ended.
fn is_running(text: &str) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return true };
    let mut running = false;
    for process in processes.flatten() {
        let Ok(line) = std::fs::read(process.path().join("cmdline")) else { continue };
        if String::from_utf8_lossy(&line).contains(text) {
            running = true;
            let pid =
                process.file_name().to_str().and_then(|n| n.parse().ok()).and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
    running
}
