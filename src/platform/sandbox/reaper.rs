//! Finds and ends processes that left their command's process group, by the marker they inherited.

use super::cgroup::Leaf;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Environment variable that carries the marker.
pub const JOB_MARKER_VAR: &str = "SKEP_JOB";

/// Maximum number of bytes read from a process's environment.
const ENVIRON_MAX: u64 = 1024 * 1024;
/// Interval between checks whether git has finished.
const GIT_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Interval between checks whether the launcher has created its namespace.
const INIT_POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Time that a killed namespace may take to disappear.
const NAMESPACE_TIMEOUT: Duration = Duration::from_secs(5);
/// Scans of the process table before giving up on something that forks faster than it is killed.
const MAX_SCANS: usize = 16;

/// Suffix of the markers of Skep's own git calls.
const GIT_SUFFIX: &str = ".git";

/// Returns a unique marker: `<pid namespace>.<pid>.<its start time>.<count>`, so that a later process can tell which
/// process it belonged to.
pub fn job_marker() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static PROCESS: OnceLock<String> = OnceLock::new();
    let process = PROCESS.get_or_init(|| {
        let pid = std::process::id();
        format!("{}.{pid}.{}", namespace().unwrap_or(0), started(pid).unwrap_or(0))
    });
    format!("{process}.{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Returns a unique marker for one of Skep's own git calls.
pub fn git_job_marker() -> String {
    job_marker() + GIT_SUFFIX
}

/// The init process of a command's PID namespace, once it is known. When it ends, every process in the namespace ends.
pub type Init = Arc<OnceLock<InitProcess>>;

/// Init process of a namespace: its process id here, and its pidfd, which can never refer to another process.
pub struct InitProcess(Pid, OwnedFd);

impl InitProcess {
    /// Returns whether it ends within `timeout`.
    fn ends(&self, timeout: Duration) -> bool {
        let mut ended = [PollFd::new(&self.1, PollFlags::IN)];
        let timeout = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: 0 };
        rustix::event::poll(&mut ended, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }
}

/// Ends every process of a command on drop, and returns from the drop when they are gone.
pub struct ProcessReaper {
    job_marker: String,
    init: Init,
    /// Removed after all processes have ended.
    leaf: Option<Leaf>,
}

impl ProcessReaper {
    /// Creates the reaper of the command with this marker, in this control group if it has one.
    pub fn new(job_marker: String, leaf: Option<Leaf>) -> ProcessReaper {
        ProcessReaper { job_marker, init: Init::default(), leaf }
    }

    /// Returns whether the kernel killed it because its control group ran out of memory.
    pub fn ran_out_of_memory(&self) -> bool {
        self.leaf.as_ref().is_some_and(Leaf::ran_out_of_memory)
    }

    /// Returns the slot for the init process of its namespace.
    pub fn init(&self) -> Init {
        self.init.clone()
    }
}

impl Drop for ProcessReaper {
    fn drop(&mut self) {
        if let Some(leaf) = &self.leaf {
            // First of all, so that no process can fork away from what follows.
            leaf.kill();
        }
        if let Some(init) = self.init.get() {
            // The launcher reports the command's exit before the namespace is torn down.
            let _gone = rustix::process::pidfd_send_signal(&init.1, Signal::KILL);
            let _late = init.ends(NAMESPACE_TIMEOUT);
        }
        kill_all(&|job_marker| job_marker == self.job_marker);
    }
}

/// Waits until the launcher with this process id has created its namespace, and stores the namespace's init process.
pub async fn find_init(launcher: u32, init: &Init) {
    // The loop ends with the launcher; the caller gives up waiting when the launcher has exited.
    while let Some(children) = children(launcher) {
        if let Some(pid) = children.first().copied() {
            if let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
                // Nothing else fills the slot.
                let _ours = init.set(InitProcess(pid, handle));
            }
            return;
        }
        tokio::time::sleep(INIT_POLL_INTERVAL).await;
    }
}

/// Asks a command in its own namespace to terminate: SIGTERM to the processes its init has started or adopted, not to
/// the init itself, whose end would leave them no time. Returns `false` if no process was signalled.
pub fn terminate(init: &Init) -> bool {
    let Some(init_process) = init.get() else { return false };
    let current_children = || children(init_process.0.as_raw_nonzero().get().unsigned_abs()).unwrap_or_default();
    let open = |pid: Pid| Some((pid, rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?));
    let opened: Vec<_> = current_children().into_iter().filter_map(open).collect();
    // By pidfds of processes that still exist: a process id may have been reused in the meantime.
    let remaining = current_children();
    if init_process.ends(Duration::ZERO) {
        return false;
    }
    let is_signalled = |(pid, handle): &(Pid, OwnedFd)| {
        remaining.contains(pid) && rustix::process::pidfd_send_signal(handle, Signal::TERM).is_ok()
    };
    opened.iter().filter(|one| is_signalled(one)).count() > 0
}

/// Returns the child processes of a single-threaded process; `None` = it no longer exists.
fn children(pid: u32) -> Option<Vec<Pid>> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    Some(children.split_ascii_whitespace().filter_map(|n| Pid::from_raw(n.parse().ok()?)).collect())
}

/// Kills what commands of dead (killed, crashed) Skep processes left running, and returns how many processes that
/// were. For the start of a service.
///
/// Skep's own git processes may finish for a while first: one may be moving a branch, and a working copy with it. But
/// they must be gone before anything works in the same directories again.
pub async fn sweep(git_patience: Duration) -> usize {
    let until = tokio::time::Instant::now() + git_patience;
    while exists(&|job_marker| job_marker.ends_with(GIT_SUFFIX) && is_orphaned(job_marker))
        && tokio::time::Instant::now() < until
    {
        tokio::time::sleep(GIT_POLL_INTERVAL).await;
    }
    kill_all(&is_orphaned)
}

/// Returns whether a marker belongs to a Skep process that no longer exists.
pub fn is_orphaned(job_marker: &str) -> bool {
    let Some(here) = namespace() else { return false };
    let mut parts = job_marker.split('.').map(str::parse::<u64>);
    let (Some(Ok(space)), Some(Ok(pid)), Some(Ok(start))) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    // Process ids of another namespace mean nothing here.
    space == here && u32::try_from(pid).is_ok_and(|pid| started(pid) != Some(start))
}

/// Returns whether a process with a matching marker exists.
fn exists(is_match: &dyn Fn(&str) -> bool) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().filter_map(|p| p.file_name().to_str()?.parse().ok()).any(|pid| has_marker(pid, is_match))
}

/// Kills all processes with a matching marker until none is left; returns how many were killed.
fn kill_all(is_match: &dyn Fn(&str) -> bool) -> usize {
    let mut killed = 0;
    for _ in 0..MAX_SCANS {
        let mut found = 0;
        let Ok(processes) = std::fs::read_dir("/proc") else { return killed };
        for process in processes.flatten() {
            let Some(raw) = process.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let Some(pid) = Pid::from_raw(raw) else { continue };
            if raw.unsigned_abs() == std::process::id() || !has_marker(raw, is_match) {
                continue;
            }
            // By pidfd, and checked again: the process id may have been reused in the meantime.
            if let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty())
                && has_marker(raw, is_match)
                && rustix::process::pidfd_send_signal(&handle, Signal::KILL).is_ok()
            {
                found += 1;
            }
        }
        killed += found;
        if found == 0 {
            break;
        }
    }
    killed
}

/// Returns whether a process has a matching marker. A process that is gone, or another user's, has none; neither has a
/// zombie.
fn has_marker(pid: i32, is_match: &dyn Fn(&str) -> bool) -> bool {
    let Ok(file) = std::fs::File::open(format!("/proc/{pid}/environ")) else { return false };
    let mut environ = Vec::new();
    if file.take(ENVIRON_MAX).read_to_end(&mut environ).is_err() {
        return false;
    }
    environ
        .split(|b| *b == 0)
        .filter_map(|entry| entry.strip_prefix(JOB_MARKER_VAR.as_bytes())?.strip_prefix(b"="))
        .filter_map(|value| std::str::from_utf8(value).ok())
        .any(is_match)
}

/// Returns when a process started, in clock ticks since boot.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything; the 20th field after it is the start time.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Returns the id of this process's PID namespace.
fn namespace() -> Option<u64> {
    let link = std::fs::read_link("/proc/self/ns/pid").ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}
