//! The self-test: tries hostile actions against canaries from inside the sandbox, and compares the results with what
//! each level promises.

use super::inside::{self, probe};
use super::policy::{Level, Limits, Policy, SandboxError};
use super::view::Visible;
use super::{Job, Purpose, Sandbox, launcher};
use crate::platform::process;
use probe::{Canaries, ProbeResult};
use serde::Serialize;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Time limit of the whole test, which normally takes a fraction of a second.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Resource limits of the test: low, so that they are reached quickly.
const LIMITS: Limits =
    Limits { memory: 1 << 30, processes: 64, file: 1 << 20, open_files: 256, workspace: 1 << 30, tmp: 1 << 20 };

/// First of the user ids that the test runs as when Skep is root, from the range that no distribution assigns.
const TEST_UID_BASE: u32 = 65_100;

/// Actions that the weaker level is known not to block.
const OPEN_AT_LANDLOCK: &[&str] = &["See that a file exists outside", "Change the mode of a file outside", STRAY];
const STRAY: &str = "Leave a process running";

/// One action, with the expected and the actual result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestResult {
    /// The action.
    pub action: String,
    /// Whether the level promises to block it.
    pub must_block: bool,
    /// Whether it was blocked.
    pub blocked: bool,
    /// The observed result.
    pub observed: String,
}

impl TestResult {
    /// Returns whether the promise was kept.
    pub fn passed(&self) -> bool {
        self.blocked || !self.must_block
    }
}

/// Tries every action inside this sandbox. `data_dir` is a directory owned by Skep, like the one that holds the
/// workspaces.
///
/// # Errors
/// When the sandbox could not be set up, or the test could not run: then no level holds.
pub async fn run(sandbox: &Sandbox, data_dir: &Path) -> Result<Vec<TestResult>, SandboxError> {
    let level = sandbox.level();
    if level == Level::None {
        return Ok(Vec::new());
    }
    let results = attack(sandbox, data_dir).await.map_err(|e| failed(level, &e.to_string()))?;
    let must_block = |action: &str| level == Level::Strict || !OPEN_AT_LANDLOCK.contains(&action);
    Ok(results
        .into_iter()
        .map(|t| TestResult {
            must_block: must_block(&t.action),
            action: t.action,
            blocked: t.blocked,
            observed: t.observed,
        })
        .collect())
}

/// Returns the sandbox if its level holds on this machine.
///
/// # Errors
/// When the level does not hold: what failed, and the fix.
pub async fn proven(sandbox: Sandbox, data_dir: &Path) -> Result<Sandbox, SandboxError> {
    let results = run(&sandbox, data_dir).await?;
    verdict(sandbox.level(), &results)?;
    Ok(sandbox)
}

/// Checks that every promise was kept.
///
/// # Errors
/// When one was not.
pub fn verdict(level: Level, results: &[TestResult]) -> Result<(), SandboxError> {
    let broken: Vec<String> =
        results.iter().filter(|r| !r.passed()).map(|r| format!("{} ({})", r.action, r.observed)).collect();
    if broken.is_empty() {
        return Ok(());
    }
    Err(failed(level, &format!("a command could: {}", broken.join("; "))))
}

fn failed(level: Level, why: &str) -> SandboxError {
    let weaker = "the weaker level: sandbox.level = \"landlock\" (commands then see the names and owners of all files on this machine)";
    let fix = match level {
        // A weaker sandbox would not help.
        _ if why.contains("No space left on device") || why.contains("os error 28") => {
            "the disk is full: free some space, then repeat it".into()
        }
        Level::Strict if why.contains("bwrap: ") => format!("{}; {weaker}", launcher::meaning(why)),
        Level::Strict => format!("`skep sandbox test` shows every action; {weaker}"),
        // The message names the directory and the fix itself.
        Level::Landlock if why.contains("above the data directory") => "or run Skep as a dedicated user".into(),
        Level::Landlock if why.contains("landlock") || why.contains("ncompatible") => {
            "use Linux 6.12 or later with Landlock (`lsm=` on the kernel command line must name it, and a container's filter must allow \
             its system calls), or use level strict"
                .into()
        }
        _ => "`skep sandbox test` shows every action; use level strict".into(),
    };
    SandboxError { what: format!("sandbox level {} does not hold on this machine: {why}", level.name()), fix }
}

async fn attack(sandbox: &Sandbox, data_dir: &Path) -> io::Result<Vec<ProbeResult>> {
    let outside = tempfile::tempdir()?;
    let set_mode = |path: &Path, mode: u32| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    let workspace = tempfile::tempdir_in(data_dir)?;
    let (dir, cache, scratch) =
        (workspace.path().join("work"), workspace.path().join("cache"), workspace.path().join("scratch"));
    std::fs::create_dir(&dir)?;
    set_mode(outside.path(), 0o755)?;
    let shown = Shown::create(&outside.path().join("shown"), workspace.path())?;
    let (secret, folder, socket) =
        (outside.path().join("secret"), outside.path().join("folder"), outside.path().join("folder/socket"));
    std::fs::write(&secret, "canary")?;
    set_mode(&secret, 0o644)?;
    std::fs::create_dir(&folder)?;
    set_mode(&folder, 0o777)?;
    // Connections wait in the listeners' queues, so it is enough to check afterwards whether there is one.
    let tcp = std::net::TcpListener::bind("127.0.0.1:0")?;
    let udp = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let unix = UnixListener::bind(&socket)?;
    set_mode(&socket, 0o777)?;
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
        shown: shown.visible.clone(),
        shown_socket: shown.socket.clone(),
        hidden: [&shown.hidden[..], &own_files(&sandbox.policy.hidden)].concat(),
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
        command: "",
        purpose: Purpose::Check,
        origin: None,
        dir: &dir,
        cache: &cache,
        scratch: &scratch,
        env: &env,
        timeout: TIMEOUT,
        max_output: 64 * 1024,
        proxy: None,
    };
    let results = {
        let mut tested = sandbox.clone();
        // A broken sandbox is tested, too, which is how Skep detects that it works again.
        tested.broken = Arc::default();
        // The kernel counts processes by user: processes of others must neither use up the limit nor be counted as the
        // test's.
        tested.user = sandbox.user.map(|(_, gid)| (TEST_UID_BASE + std::process::id() % 400, gid));
        let hidden = [&sandbox.policy.hidden[..], &shown.to_hide].concat();
        tested.policy = Arc::new(Policy { limits: LIMITS, hidden, ..(*sandbox.policy).clone() });
        tested.show([&sandbox.view[..], &[Visible::Path(shown.dir.clone())]].concat());
        let helper = match sandbox.level() {
            Level::Strict => launcher::HELPER.into(),
            // Not by the executable's path, whose directories may be inaccessible to the user that commands run as.
            _ => "/proc/self/exe".into(),
        };
        let (program, reaper) = tested.launch(&job, false, vec![helper, inside::PROBE.into()])?;
        let output = process::run_with_monitor(&program, None, tested.monitor(&job, &reaper)).await?;
        drop(reaper);
        serde_json::from_slice::<Vec<ProbeResult>>(&output.stdout).map_err(|e| {
            let stderr = crate::platform::terminal_text::tail(&output.stderr, 500);
            let what = if output.timed_out { "timed out".to_owned() } else { e.to_string() };
            io::Error::other(if stderr.trim().is_empty() {
                format!("the self-test failed: {what}")
            } else {
                stderr.trim().to_owned()
            })
        })?
    };
    // Only data that arrived outside counts.
    let mut buffer = [0; 8];
    let arrived = [
        ("Write a file outside", folder.join("written").exists()),
        ("Connect to a TCP port of this machine", tcp.accept().is_ok()),
        ("Send a UDP datagram to this machine", udp.recv(&mut buffer).is_ok()),
        ("Connect to a Unix socket", unix.accept().is_ok()),
        ("Connect to a Unix socket in a visible directory", shown.listener.accept().is_ok()),
        ("Connect to an abstract Unix socket", named.accept().is_ok()),
        (STRAY, is_running(&canaries.stray)),
    ];
    Ok(results
        .into_iter()
        .map(|t| match arrived.iter().find(|(action, _)| *action == t.action) {
            Some((_, true)) => ProbeResult { blocked: false, observed: "it succeeded".into(), ..t },
            Some((_, false)) if t.blocked && t.action != STRAY => t,
            Some((_, false)) => ProbeResult { blocked: true, observed: "no effect outside".into(), ..t },
            None => t,
        })
        .collect())
}

/// A directory that is shown to the test, with things in it that must stay hidden.
struct Shown {
    dir: PathBuf,
    /// A file that is not hidden.
    visible: PathBuf,
    socket: PathBuf,
    listener: UnixListener,
    /// What to hide: a directory and a file.
    to_hide: Vec<PathBuf>,
    /// Files that must not be readable: in the hidden directory, the hidden file, and one in Skep's data directory.
    hidden: Vec<PathBuf>,
}

impl Shown {
    fn create(dir: &Path, data_dir: &Path) -> io::Result<Shown> {
        let (data, key, socket) = (dir.join("data"), dir.join("key"), dir.join("socket"));
        std::fs::create_dir_all(&data)?;
        let files = [dir.join("visible"), data.join("secret"), key.clone(), data_dir.join("secret")];
        for file in &files {
            std::fs::write(file, "canary")?;
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644))?;
        }
        for path in [dir, &data] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
        }
        let listener = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777))?;
        listener.set_nonblocking(true)?;
        let [visible, hidden @ ..] = files;
        Ok(Shown { dir: dir.to_owned(), visible, socket, listener, to_hide: vec![data, key], hidden: hidden.to_vec() })
    }
}

/// Lists Skep's own files: those named, and those in the directories named.
fn own_files(hidden: &[PathBuf]) -> Vec<PathBuf> {
    let below = |path: &PathBuf| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries
            .filter(|e| e.file_type().is_ok_and(|kind| kind.is_file()))
            .map(|e| e.path())
            .take(100)
            .collect::<Vec<_>>()
    };
    hidden.iter().flat_map(|path| if path.is_dir() { below(path) } else { vec![path.clone()] }).collect()
}

/// Returns whether a process has this text in its arguments, and kills it with the group that it leads.
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
                // What it has started does not have the text.
                let _no_leader = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
    running
}

#[cfg(test)]
mod tests {
    use super::is_running;
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[test]
    fn a_stray_process_is_found_and_nothing_of_it_stays() {
        let text = format!("stray-{}", uuid::Uuid::now_v7().simple());
        let secs = format!("{}", 600_000 + std::process::id());
        let line = format!("sleep {secs}; : {text}");
        let mut setsid = Command::new("setsid").args(["env", "-i", "/bin/sh", "-c", &line]).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        let sleeps = || {
            let processes = std::fs::read_dir("/proc").unwrap().flatten();
            let line = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
            processes.filter_map(line).any(|line| line == format!("sleep\0{secs}\0").as_bytes())
        };
        while !sleeps() {
            assert!(Instant::now() < end, "it does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(is_running(&text));
        setsid.wait().unwrap();
        while sleeps() {
            assert!(Instant::now() < end, "what it has started stays");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!is_running(&text));
    }
}
