//! Finding and ending processes that left their command's process group, by the mark they inherited.

use super::cgroup::Leaf;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The variable that carries the mark.
pub const NAME: &str = "SKEP_JOB";

/// The most of a process's environment looked at.
const ENVIRON_MAX: u64 = 1024 * 1024;
/// How often it is looked whether git has finished.
const GIT_LOOK: Duration = Duration::from_millis(20);
/// How often it is looked whether the launcher has made its namespace.
const INIT_LOOK: Duration = Duration::from_millis(1);
/// How long a killed namespace may take to be gone.
const GONE: Duration = Duration::from_secs(5);
/// Looks at the process table before giving up on something that forks faster than it is killed.
const LOOKS: usize = 16;

/// What the mark of a git call of our own ends with.
const GIT: &str = ".git";

/// A mark no other command has: `<pid namespace>.<pid>.<its start>.<count>`, so that a later process can tell whose it was.
pub fn mark() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static MINE: OnceLock<String> = OnceLock::new();
    let mine = MINE.get_or_init(|| {
        let pid = std::process::id();
        format!("{}.{pid}.{}", namespace().unwrap_or(0), started(pid).unwrap_or(0))
    });
    format!("{mine}.{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The mark of a git call of our own.
pub fn mark_git() -> String {
    mark() + GIT
}

/// The first process of a command's own process namespace, once it is known. Its end is the end of all in there.
pub type Init = Arc<OnceLock<First>>;

/// A namespace's first process: its number here, and its handle, which no other process can come to have.
pub struct First(Pid, OwnedFd);

impl First {
    /// Whether it ends within `patience`.
    fn ends(&self, patience: Duration) -> bool {
        let mut ended = [PollFd::new(&self.1, PollFlags::IN)];
        let patience = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: 0 };
        rustix::event::poll(&mut ended, Some(&patience)).is_ok_and(|ready| ready > 0)
    }
}

/// Ends every process of a command when dropped, and returns when they are gone.
pub struct Ends {
    mark: String,
    init: Init,
    /// Removed after all is ended.
    leaf: Option<Leaf>,
}

impl Ends {
    /// For the command with this mark, in this control group if it has one.
    pub fn new(mark: String, leaf: Option<Leaf>) -> Ends {
        Ends { mark, init: Init::default(), leaf }
    }

    /// Whether the kernel ended it because the memory of its control group was used up.
    pub fn ran_out_of_memory(&self) -> bool {
        self.leaf.as_ref().is_some_and(Leaf::ran_out_of_memory)
    }

    /// Where its namespace's first process is to be put.
    pub fn init(&self) -> Init {
        self.init.clone()
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        if let Some(leaf) = &self.leaf {
            // At once, so that nothing of it can fork away from what follows.
            leaf.kill();
        }
        if let Some(init) = self.init.get() {
            // The launcher tells of the command's end before its namespace is torn down.
            let _gone = rustix::process::pidfd_send_signal(&init.1, Signal::KILL);
            let _late = init.ends(GONE);
        }
        end_all(&|mark| mark == self.mark);
    }
}

/// Waits until the launcher with this number has made its namespace, and remembers the first process there.
pub async fn find_init(launcher: u32, init: &Init) {
    // It ends with the launcher; whoever waits gives up when that has ended.
    while let Some(children) = children(launcher) {
        if let Some(pid) = children.first().copied() {
            if let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
                // Nobody else puts one in.
                let _ours = init.set(First(pid, handle));
            }
            return;
        }
        tokio::time::sleep(INIT_LOOK).await;
    }
}

/// Tells a command in a namespace of its own to end: SIGTERM to what its first process has started or taken up, not to that one itself,
/// whose end would leave nobody the time. `false` = nobody was told.
pub fn tell_to_end(init: &Init) -> bool {
    let Some(first) = init.get() else { return false };
    let there = || children(first.0.as_raw_nonzero().get().unsigned_abs()).unwrap_or_default();
    let open = |pid: Pid| Some((pid, rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?));
    let opened: Vec<_> = there().into_iter().filter_map(open).collect();
    // By handles of what is still there: a number may have become another's in between.
    let still = there();
    if first.ends(Duration::ZERO) {
        return false;
    }
    let told = |(pid, handle): &(Pid, OwnedFd)| {
        still.contains(pid) && rustix::process::pidfd_send_signal(handle, Signal::TERM).is_ok()
    };
    opened.iter().filter(|one| told(one)).count() > 0
}

/// The processes started by a process with one thread; `None` = it is gone.
fn children(pid: u32) -> Option<Vec<Pid>> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    Some(children.split_ascii_whitespace().filter_map(|n| Pid::from_raw(n.parse().ok()?)).collect())
}

/// Ends what commands of Skep processes that are gone (killed, crashed) left running; returns how many there were. For the
/// start of a service.
///
/// Git of our own is let finish for a while first: it may be moving a branch, and a working copy with it. But it must be gone
/// before anybody works in the same folders again.
pub async fn sweep(git_patience: Duration) -> usize {
    let until = tokio::time::Instant::now() + git_patience;
    while any(&|mark| mark.ends_with(GIT) && left_behind(mark)) && tokio::time::Instant::now() < until {
        tokio::time::sleep(GIT_LOOK).await;
    }
    end_all(&left_behind)
}

/// Whether a mark is of a Skep process that is gone.
pub fn left_behind(mark: &str) -> bool {
    let Some(here) = namespace() else { return false };
    let mut parts = mark.split('.').map(str::parse::<u64>);
    let (Some(Ok(space)), Some(Ok(pid)), Some(Ok(start))) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    // Another namespace's numbers mean nothing here.
    space == here && u32::try_from(pid).is_ok_and(|pid| started(pid) != Some(start))
}

/// Whether a process with such a mark is there.
fn any(ours: &dyn Fn(&str) -> bool) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().filter_map(|p| p.file_name().to_str()?.parse().ok()).any(|pid| marked(pid, ours))
}

/// Kills all processes whose mark is `ours`, until none is left; returns how many were killed.
fn end_all(ours: &dyn Fn(&str) -> bool) -> usize {
    let mut ended = 0;
    for _ in 0..LOOKS {
        let mut found = 0;
        let Ok(processes) = std::fs::read_dir("/proc") else { return ended };
        for process in processes.flatten() {
            let Some(raw) = process.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let Some(pid) = Pid::from_raw(raw) else { continue };
            if raw.unsigned_abs() == std::process::id() || !marked(raw, ours) {
                continue;
            }
            // By handle, and looked at again: the number may have become another's in between.
            if let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty())
                && marked(raw, ours)
                && rustix::process::pidfd_send_signal(&handle, Signal::KILL).is_ok()
            {
                found += 1;
            }
        }
        ended += found;
        if found == 0 {
            break;
        }
    }
    ended
}

/// Whether a process has a mark that is `ours`. A process that is gone, or another user's, has none; a zombie neither.
fn marked(pid: i32, ours: &dyn Fn(&str) -> bool) -> bool {
    let Ok(file) = std::fs::File::open(format!("/proc/{pid}/environ")) else { return false };
    let mut environ = Vec::new();
    if file.take(ENVIRON_MAX).read_to_end(&mut environ).is_err() {
        return false;
    }
    environ
        .split(|b| *b == 0)
        .filter_map(|entry| entry.strip_prefix(NAME.as_bytes())?.strip_prefix(b"="))
        .filter_map(|value| std::str::from_utf8(value).ok())
        .any(ours)
}

/// When a process started, in clock ticks since boot.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; the 20th field after it is the start.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// This process's PID namespace.
fn namespace() -> Option<u64> {
    let link = std::fs::read_link("/proc/self/ns/pid").ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}
