//! Control groups: where the machine gave Skep a part of their tree, each command is in a leaf of its own there, with its limits.
//!
//! ```text
//! given/            memory and processes are counted below it, so no process may stay in it
//!   skep/           Skep
//!   job-<mark>/     a command: memory.max, pids.max; ended as one by cgroup.kill
//! ```
//!
//! They come on top of the other limits, which hold without them: nothing here ever stops a start.

use super::policy::Limits;
use super::reaper;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Skep's own leaf.
const OWN: &str = "skep";
/// What the names of commands' leaves begin with.
const JOB: &str = "job-";
/// What the launcher of a command needs for itself of the processes in its leaf.
const LAUNCHER: u64 = 8;
/// How long killed processes may take to leave a leaf.
const GONE: Duration = Duration::from_secs(5);
/// How often it is tried to remove an empty leaf meanwhile.
const AGAIN: Duration = Duration::from_millis(5);
/// Where a service manager writes that a group was given away; the first is readable by everybody.
const GIVEN: &[&str] = &["user.delegate", "trusted.delegate"];

/// Which limits the kernel counts by group here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Memory.
    pub memory: bool,
    /// Processes.
    pub processes: bool,
}

/// The part of the tree that is Skep's.
#[derive(Debug)]
pub struct Groups {
    root: PathBuf,
    counted: Counted,
}

impl Groups {
    /// The part this machine gave to Skep. This process moves into a leaf of its own there.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn given() -> Result<Groups, String> {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let (mount, own) = place(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
            .ok_or("no tree of control groups (version 2) is mounted")?;
        // A manager may have put the process one below what it gave away, and so does Skep.
        let root = [own.as_path(), own.parent().unwrap_or(&own)].into_iter().find(|dir| is_given(dir, &mount));
        let root = root.ok_or("none was given to Skep: `Delegate=yes` in a systemd unit does that")?;
        Groups::within(root).map_err(|e| format!("{} can't be used: {e}", root.display()))
    }

    /// Takes a part of the tree: moves this process into its leaf, has counted what can be, ends what dead processes left there.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn within(root: &Path) -> io::Result<Groups> {
        let own = root.join(OWN);
        make(&own)?;
        std::fs::write(own.join("cgroup.procs"), "0")?;
        let can = std::fs::read_to_string(root.join("cgroup.controllers"))?;
        let count = |what: &str| {
            let is_there = can.split_ascii_whitespace().any(|one| one == what);
            // Refused while other processes are in the group itself.
            is_there && std::fs::write(root.join("cgroup.subtree_control"), format!("+{what}")).is_ok()
        };
        let counted = Counted { memory: count("memory"), processes: count("pids") };
        let groups = Groups { root: root.to_owned(), counted };
        groups.sweep();
        Ok(groups)
    }

    /// Which limits bind here.
    pub fn counted(&self) -> Counted {
        self.counted
    }

    /// Where they are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A leaf for the command with this mark.
    ///
    /// # Errors
    /// When it can't be made; what was made of it is removed.
    pub fn leaf(&self, mark: &str, limits: &Limits) -> io::Result<Leaf> {
        let leaf = Leaf { path: self.root.join(format!("{JOB}{mark}")) };
        make(&leaf.path)?;
        let set = |file: &str, value: String| std::fs::write(leaf.path.join(file), value);
        if self.counted.memory && limits.memory > 0 {
            set("memory.max", limits.memory.to_string())?;
            // A machine may have no swap, and an older kernel not the other.
            let _none = set("memory.swap.max", "0".into());
            let _older = set("memory.oom.group", "1".into());
        }
        if self.counted.processes && limits.processes > 0 {
            set("pids.max", limits.processes.saturating_add(LAUNCHER).to_string())?;
        }
        Ok(leaf)
    }

    /// Ends and removes the leaves of processes that are gone.
    fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return };
        for name in entries.flatten().filter_map(|e| e.file_name().into_string().ok()) {
            if name.strip_prefix(JOB).is_some_and(reaper::left_behind) {
                tracing::warn!(leaf = name, "ended what an earlier process had left in its control group");
                drop(Leaf { path: self.root.join(name) });
            }
        }
    }
}

/// One command's group; all of it is ended and the group removed when this is dropped.
#[derive(Debug)]
pub struct Leaf {
    path: PathBuf,
}

impl Leaf {
    /// The same program, started within it: a shell of our own moves itself there and becomes the program. Nothing of the command is
    /// read by that shell.
    pub fn holding(&self, name: OsString, args: Vec<OsString>) -> (OsString, Vec<OsString>) {
        let line = "{ echo 0 > \"$0\"; } 2> /dev/null; exec \"$@\"";
        let first = ["-c".into(), line.into(), self.path.join("cgroup.procs").into(), name];
        ("/bin/sh".into(), first.into_iter().chain(args).collect())
    }

    /// Whether the kernel ended it because its memory was used up.
    pub fn ran_out_of_memory(&self) -> bool {
        let events = std::fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        events.lines().filter_map(|l| l.strip_prefix("oom_kill ")).any(|n| n.trim() != "0")
    }

    /// Kills everything in it at once. Since Linux 5.14; before, others see to it.
    pub fn kill(&self) {
        let _older =
            OpenOptions::new().write(true).open(self.path.join("cgroup.kill")).and_then(|mut f| f.write_all(b"1"));
    }

    /// Waits until nobody is in it.
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
            // 0: too late, or a signal of nobody's interest ended the wait; it is given up.
            if !rustix::event::poll(&mut changed, Some(&left)).is_ok_and(|n| n > 0) {
                return;
            }
        }
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        let until = Instant::now() + GONE;
        self.kill();
        self.wait_until_empty(until);
        while let Err(e) = std::fs::remove_dir(&self.path) {
            match e.raw_os_error() {
                // The last of them is on its way out.
                Some(libc::EBUSY) if Instant::now() < until => std::thread::sleep(AGAIN),
                Some(libc::ENOENT) => return,
                _ => {
                    let leaf = self.path.display();
                    tracing::debug!(%leaf, error = %e, "a control group can't be removed; the next start tries again");
                    return;
                }
            }
        }
    }
}

fn make(dir: &Path) -> io::Result<()> {
    match std::fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Where the tree is mounted, and this process's group in it.
fn place(mountinfo: &str, own: &str) -> Option<(PathBuf, PathBuf)> {
    let own = own.lines().find_map(|l| l.strip_prefix("0::"))?;
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (top, at) = (fields.next()?, fields.next()?);
        if !kind.starts_with("cgroup2 ") || at.contains('\\') {
            return None;
        }
        let beneath = Path::new(own).strip_prefix(top).ok()?;
        // An empty part would leave a slash behind.
        let dir = if beneath.as_os_str().is_empty() { at.into() } else { Path::new(at).join(beneath) };
        Some((at.into(), dir))
    })
}

/// Whether a group is Skep's to divide: a service manager's word, or the top of a container's own tree.
fn is_given(dir: &Path, mount: &Path) -> bool {
    // The machine's topmost group alone has no kind.
    let is_top = !dir.join("cgroup.type").exists();
    let is_said = || {
        let mut value = [0; 4];
        GIVEN
            .iter()
            .any(|name| rustix::fs::getxattr(dir, *name, &mut value).is_ok_and(|n| value.get(..n) == Some(b"1")))
    };
    !is_top && (dir == mount || is_said())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up tree with these controllers.
    fn tree(controllers: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cgroup.controllers"), controllers).unwrap();
        root
    }

    fn read(root: &Path, path: &str) -> String {
        std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| format!("{e}"))
    }

    #[test]
    fn a_leaf_gets_the_limits_that_are_counted() {
        let root = tree("cpuset cpu io memory hugetlb pids\n");
        let groups = Groups::within(root.path()).unwrap();
        assert_eq!(groups.counted(), Counted { memory: true, processes: true });
        assert_eq!(read(root.path(), "skep/cgroup.procs"), "0");
        assert_eq!(read(root.path(), "cgroup.subtree_control"), "+pids", "the last of two");
        let leaf = groups.leaf("1.2.3.4", &Limits { memory: 1 << 30, processes: 64, ..Limits::default() }).unwrap();
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
    fn what_is_not_counted_or_not_limited_is_not_written() {
        let root = tree("hugetlb\n");
        let groups = Groups::within(root.path()).unwrap();
        assert_eq!(groups.counted(), Counted::default());
        drop(groups.leaf("1.2.3.4", &Limits::default()).unwrap());
        assert!(!root.path().join("job-1.2.3.4").exists() && !root.path().join("cgroup.subtree_control").exists());
        let root = tree("memory pids\n");
        let none = Limits { memory: 0, processes: 0, ..Limits::default() };
        drop(Groups::within(root.path()).unwrap().leaf("1.2.3.4", &none).unwrap());
        assert!(!root.path().join("job-1.2.3.4").exists());
        assert!(Groups::within(&root.path().join("gone")).is_err());
    }

    #[test]
    fn leaves_of_the_dead_are_swept_and_no_others() {
        let root = tree("");
        let space = std::fs::read_link("/proc/self/ns/pid").unwrap();
        let space: String = space.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
        // Process 1 is there, but never started at that tick.
        let (dead, mine) = (format!("job-{space}.1.123456789012.0"), format!("job-{}", reaper::mark()));
        for name in [dead.as_str(), &mine, "job-strange", "other", "job-1.1.123456789012.0"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        Groups::within(root.path()).unwrap();
        let is_there = |name: &str| root.path().join(name).exists();
        assert!(!is_there(&dead));
        assert!(is_there(&mine) && is_there("job-strange") && is_there("other") && is_there("job-1.1.123456789012.0"));
    }

    #[test]
    fn the_tree_is_found_and_the_machine_s_topmost_group_is_never_taken() {
        let mounts = "25 1 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let of = |own| place(mounts, own).map(|(_, dir)| dir);
        assert_eq!(
            of("4:memory:/x\n0::/system.slice/skep.service\n"),
            Some("/sys/fs/cgroup/system.slice/skep.service".into())
        );
        assert_eq!(of("0::/\n"), Some("/sys/fs/cgroup".into()));
        assert_eq!(of("4:memory:/x\n"), None);
        let bound = "30 1 0:26 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(place(bound, "0::/docker/x/skep").map(|(_, dir)| dir), Some("/sys/fs/cgroup/skep".into()));
        assert_eq!(place(bound, "0::/elsewhere"), None);
        let root = tree("");
        assert!(!is_given(root.path(), root.path()));
        std::fs::write(root.path().join("cgroup.type"), "domain\n").unwrap();
        assert!(is_given(root.path(), root.path()) && !is_given(root.path(), Path::new("/sys/fs/cgroup")));
    }

    #[test]
    fn a_program_held_by_a_leaf_keeps_its_arguments() {
        let root = tree("");
        let leaf = Groups::within(root.path()).unwrap().leaf("1.2.3.4", &Limits::default()).unwrap();
        let (name, args) = leaf.holding("/bin/echo".into(), vec!["$(id)".into(), "a b".into()]);
        let said = std::process::Command::new(name).args(args).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "$(id) a b\n");
        assert_eq!(read(root.path(), "job-1.2.3.4/cgroup.procs"), "0\n");
    }
}
