//! Control groups: where the machine delegated a part of their tree to Skep, each command gets its own leaf with its
//! limits.
//!
//! ```text
//! delegated/        memory and processes are accounted below it, so no process may stay in it
//!   skep/           Skep
//!   job-<marker>/   a command: memory.max, pids.max; ended as a whole by cgroup.kill
//! ```
//!
//! Control groups only add to the other limits, so a failure here never prevents a start.

use super::policy::Limits;
use super::reaper;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of Skep's own leaf.
const OWN_LEAF: &str = "skep";
/// Prefix of the names of commands' leaves.
const JOB_PREFIX: &str = "job-";
/// Processes that the launcher of a command needs for itself in the leaf.
const LAUNCHER_PROCESSES: u64 = 8;
/// Time that killed processes may take to leave a leaf.
const EMPTY_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between attempts to remove an empty leaf.
const REMOVE_INTERVAL: Duration = Duration::from_millis(5);
/// Extended attributes by which a service manager marks a delegated group; the first is readable by everyone.
const DELEGATION_ATTRIBUTES: &[&str] = &["user.delegate", "trusted.delegate"];

/// Limits that the kernel enforces by group on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accounted {
    /// Memory.
    pub memory: bool,
    /// Processes.
    pub processes: bool,
}

/// The part of the control group tree that is delegated to Skep.
#[derive(Debug)]
pub struct Cgroups {
    root: PathBuf,
    accounted: Accounted,
}

impl Cgroups {
    /// Opens the part of the tree that is delegated to Skep. This process moves into its own leaf there.
    ///
    /// # Errors
    /// The reason why there is none, for people.
    pub fn delegated() -> Result<Cgroups, String> {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let (mount, own) = mount_and_group(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
            .ok_or("no cgroup tree (version 2) is mounted")?;
        // A service manager may have put the process one level below what it delegated, as Skep does itself.
        let root = [own.as_path(), own.parent().unwrap_or(&own)].into_iter().find(|dir| is_delegated(dir, &mount));
        let root = root.ok_or("none is delegated to Skep (set `Delegate=yes` in the systemd unit)")?;
        Cgroups::within(root).map_err(|e| format!("{} cannot be used: {e}", root.display()))
    }

    /// Takes over a part of the tree: moves this process into its leaf, enables accounting where possible, and ends
    /// what dead processes left there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn within(root: &Path) -> io::Result<Cgroups> {
        let own = root.join(OWN_LEAF);
        create(&own)?;
        std::fs::write(own.join("cgroup.procs"), "0")?;
        if is_own_init() {
            // Without this, a container's group would not be free of processes.
            let _elsewhere = std::fs::write(own.join("cgroup.procs"), "1");
        }
        let controllers = std::fs::read_to_string(root.join("cgroup.controllers"))?;
        let account = |controller: &str| {
            let is_available = controllers.split_ascii_whitespace().any(|one| one == controller);
            // Rejected while other processes are in the group itself.
            is_available && std::fs::write(root.join("cgroup.subtree_control"), format!("+{controller}")).is_ok()
        };
        let accounted = Accounted { memory: account("memory"), processes: account("pids") };
        let cgroups = Cgroups { root: root.to_owned(), accounted };
        cgroups.sweep();
        Ok(cgroups)
    }

    /// Returns which limits the kernel enforces here.
    pub fn accounted(&self) -> Accounted {
        self.accounted
    }

    /// Returns the directory of the delegated tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Creates a leaf for the command with this marker.
    ///
    /// # Errors
    /// When it cannot be created; a partial leaf is removed.
    pub fn leaf(&self, job_marker: &str, limits: &Limits) -> io::Result<Leaf> {
        let leaf = Leaf { path: self.root.join(format!("{JOB_PREFIX}{job_marker}")) };
        create(&leaf.path)?;
        let set = |file: &str, value: String| std::fs::write(leaf.path.join(file), value);
        if self.accounted.memory && limits.memory > 0 {
            set("memory.max", limits.memory.to_string())?;
            // A machine may have no swap, and older kernels no oom.group.
            let _no_swap = set("memory.swap.max", "0".into());
            let _older = set("memory.oom.group", "1".into());
        }
        if self.accounted.processes && limits.processes > 0 {
            set("pids.max", limits.processes.saturating_add(LAUNCHER_PROCESSES).to_string())?;
        }
        Ok(leaf)
    }

    /// Ends and removes the leaves of processes that no longer exist.
    fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return };
        for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()) {
            if name.strip_prefix(JOB_PREFIX).is_some_and(reaper::is_orphaned) {
                tracing::warn!(leaf = name, "killed processes that an earlier run of Skep left in a control group");
                drop(Leaf { path: self.root.join(name) });
            }
        }
    }
}

/// Returns whether process 1 is Skep as an init.
fn is_own_init() -> bool {
    let program = |process: &str| std::fs::read_link(format!("/proc/{process}/exe")).ok();
    program("1").is_some_and(|init| program("self") == Some(init))
}

/// Control group of one command. On drop, everything in it is killed and the group is removed.
#[derive(Debug)]
pub struct Leaf {
    path: PathBuf,
}

impl Leaf {
    /// Wraps a program so that it starts in this leaf: a shell moves itself into the leaf, then becomes the program.
    /// The shell interprets no text of the command.
    pub fn wrap(&self, name: OsString, args: Vec<OsString>) -> (OsString, Vec<OsString>) {
        let line = "{ echo 0 > \"$0\"; } 2> /dev/null; exec \"$@\"";
        let first = ["-c".into(), line.into(), self.path.join("cgroup.procs").into(), name];
        ("/bin/sh".into(), first.into_iter().chain(args).collect())
    }

    /// Returns whether the kernel killed a process because the group's memory was used up.
    pub fn ran_out_of_memory(&self) -> bool {
        let events = std::fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        events.lines().filter_map(|l| l.strip_prefix("oom_kill ")).any(|n| n.trim() != "0")
    }

    /// Kills everything in the group at once. Needs Linux 5.14; on older kernels the other mechanisms end the command.
    pub fn kill(&self) {
        let _older =
            OpenOptions::new().write(true).open(self.path.join("cgroup.kill")).and_then(|mut f| f.write_all(b"1"));
    }

    /// Waits until no process is left in the group.
    fn wait_until_empty(&self, until: Instant) {
        let Ok(mut events) = std::fs::File::open(self.path.join("cgroup.events")) else { return };
        loop {
            let mut text = String::new();
            if events.rewind().and_then(|()| events.read_to_string(&mut text)).is_err() || !text.contains("populated 1")
            {
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            let mut changed = [PollFd::new(&events, PollFlags::PRI)];
            // Timeout, or the wait was interrupted by a signal: give up.
            if !rustix::event::poll(&mut changed, Some(&left)).is_ok_and(|n| n > 0) {
                return;
            }
        }
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        let until = Instant::now() + EMPTY_TIMEOUT;
        self.kill();
        self.wait_until_empty(until);
        while let Err(e) = std::fs::remove_dir(&self.path) {
            match e.raw_os_error() {
                // The last process is still exiting.
                Some(libc::EBUSY) if Instant::now() < until => std::thread::sleep(REMOVE_INTERVAL),
                Some(libc::ENOENT) => return,
                _ => {
                    let leaf = self.path.display();
                    tracing::debug!(%leaf, error = %e, "cannot remove a control group; the next start tries again");
                    return;
                }
            }
        }
    }
}

fn create(dir: &Path) -> io::Result<()> {
    match std::fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Returns where the tree is mounted, and this process's group in it.
fn mount_and_group(mountinfo: &str, own: &str) -> Option<(PathBuf, PathBuf)> {
    let own = own.lines().find_map(|l| l.strip_prefix("0::"))?;
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (top, at) = (fields.next()?, fields.next()?);
        if !kind.starts_with("cgroup2 ") || at.contains('\\') {
            return None;
        }
        let below = Path::new(own).strip_prefix(top).ok()?;
        // Joining an empty path would leave a trailing slash.
        let dir = if below.as_os_str().is_empty() { at.into() } else { Path::new(at).join(below) };
        Some((at.into(), dir))
    })
}

/// Returns whether Skep may divide a group: the service manager marked it, or it is the root of a container's own
/// tree.
fn is_delegated(dir: &Path, mount: &Path) -> bool {
    // Only the root group of the machine has no type.
    let is_machine_root = !dir.join("cgroup.type").exists();
    let is_marked = || {
        let mut value = [0; 4];
        DELEGATION_ATTRIBUTES
            .iter()
            .any(|name| rustix::fs::getxattr(dir, *name, &mut value).is_ok_and(|n| value.get(..n) == Some(b"1")))
    };
    !is_machine_root && (dir == mount || is_marked())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a fake tree with these controllers.
    fn tree(controllers: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cgroup.controllers"), controllers).unwrap();
        root
    }

    fn read(root: &Path, path: &str) -> String {
        std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| format!("{e}"))
    }

    #[test]
    fn a_leaf_gets_the_limits_that_are_accounted() {
        let root = tree("cpuset cpu io memory hugetlb pids\n");
        let cgroups = Cgroups::within(root.path()).unwrap();
        assert_eq!(cgroups.accounted(), Accounted { memory: true, processes: true });
        assert_eq!(read(root.path(), "skep/cgroup.procs"), "0");
        assert_eq!(read(root.path(), "cgroup.subtree_control"), "+pids", "the last of two");
        let leaf = cgroups.leaf("1.2.3.4", &Limits { memory: 1 << 30, processes: 64, ..Limits::default() }).unwrap();
        for (file, value) in
            [("memory.max", "1073741824"), ("memory.swap.max", "0"), ("memory.oom.group", "1"), ("pids.max", "72")]
        {
            assert_eq!(read(root.path(), &format!("job-1.2.3.4/{file}")), value, "{file}");
        }
        assert!(!leaf.ran_out_of_memory());
        std::fs::write(root.path().join("job-1.2.3.4/memory.events"), "oom 1\noom_kill 3\noom_group_kill 1\n").unwrap();
        assert!(leaf.ran_out_of_memory());
        std::fs::write(root.path().join("job-1.2.3.4/cgroup.kill"), "").unwrap();
        leaf.kill();
        assert_eq!(read(root.path(), "job-1.2.3.4/cgroup.kill"), "1");
    }

    #[test]
    fn limits_without_accounting_are_not_written() {
        let root = tree("hugetlb\n");
        let cgroups = Cgroups::within(root.path()).unwrap();
        assert_eq!(cgroups.accounted(), Accounted::default());
        drop(cgroups.leaf("1.2.3.4", &Limits::default()).unwrap());
        assert!(!root.path().join("job-1.2.3.4").exists() && !root.path().join("cgroup.subtree_control").exists());
        let root = tree("memory pids\n");
        let none = Limits { memory: 0, processes: 0, ..Limits::default() };
        drop(Cgroups::within(root.path()).unwrap().leaf("1.2.3.4", &none).unwrap());
        assert!(!root.path().join("job-1.2.3.4").exists());
        assert!(Cgroups::within(&root.path().join("gone")).is_err());
    }

    #[test]
    fn only_leaves_of_dead_processes_are_swept() {
        let root = tree("");
        let space = std::fs::read_link("/proc/self/ns/pid").unwrap();
        let space: String = space.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
        // Process 1 exists, but did not start at that tick.
        let (dead, mine) = (format!("job-{space}.1.123456789012.0"), format!("job-{}", reaper::job_marker()));
        for name in [dead.as_str(), &mine, "job-strange", "other", "job-1.1.123456789012.0"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        Cgroups::within(root.path()).unwrap();
        let is_there = |name: &str| root.path().join(name).exists();
        assert!(!is_there(&dead));
        assert!(is_there(&mine) && is_there("job-strange") && is_there("other") && is_there("job-1.1.123456789012.0"));
    }

    #[test]
    fn the_tree_is_found_and_the_machine_s_root_group_is_never_used() {
        let mounts = "25 1 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let of = |own| mount_and_group(mounts, own).map(|(_, dir)| dir);
        assert_eq!(
            of("4:memory:/x\n0::/system.slice/skep.service\n"),
            Some("/sys/fs/cgroup/system.slice/skep.service".into())
        );
        assert_eq!(of("0::/\n"), Some("/sys/fs/cgroup".into()));
        assert_eq!(of("4:memory:/x\n"), None);
        let bound = "30 1 0:26 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(mount_and_group(bound, "0::/docker/x/skep").map(|(_, dir)| dir), Some("/sys/fs/cgroup/skep".into()));
        assert_eq!(mount_and_group(bound, "0::/elsewhere"), None);
        let root = tree("");
        assert!(!is_delegated(root.path(), root.path()));
        std::fs::write(root.path().join("cgroup.type"), "domain\n").unwrap();
        assert!(is_delegated(root.path(), root.path()) && !is_delegated(root.path(), Path::new("/sys/fs/cgroup")));
    }

    #[test]
    fn a_wrapped_program_keeps_its_arguments() {
        let root = tree("");
        let leaf = Cgroups::within(root.path()).unwrap().leaf("1.2.3.4", &Limits::default()).unwrap();
        let (name, args) = leaf.wrap("/bin/echo".into(), vec!["$(id)".into(), "a b".into()]);
        let output = std::process::Command::new(name).args(args).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "$(id) a b\n");
        assert_eq!(read(root.path(), "job-1.2.3.4/cgroup.procs"), "0\n");
    }
}
