//! The bubblewrap command line: namespaces and mounts. It contains paths only, nothing of the command.

use super::inside;
use super::masks::Mask;
use super::policy::Limits;
use super::view::Visible;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Paths where bubblewrap is searched first, because systems that restrict namespaces exempt it by these paths.
const BWRAP_PATHS: &[&str] = &["/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap"];

/// Path of Skep's own executable inside the sandbox.
pub const HELPER: &str = "/run/skep/skep";

/// The mounts of one launch.
pub struct Launch<'a> {
    /// The visible parts of the system and the toolchains.
    pub view: &'a [Visible],
    /// What is covered in it.
    pub masks: &'a [Mask],
    /// The generated `/etc/passwd` and `/etc/group`.
    pub user_files: (&'a Path, &'a Path),
    /// Skep's own executable.
    pub helper: &'a Path,
    /// Writable directories, each with the path at which the command finds it.
    pub writable: &'a [(PathBuf, PathBuf)],
    /// Socket of the egress proxy.
    pub proxy: Option<&'a Path>,
    /// Whether Skep runs as root; then the launcher keeps the capabilities needed to give up root.
    pub is_root: bool,
    /// Limits; they set the size of the memory file systems.
    pub limits: Limits,
}

/// Finds bubblewrap, if it is installed.
pub fn find(path: &OsStr) -> Option<PathBuf> {
    let on_path = std::env::split_paths(path).filter(|p| p.is_absolute()).map(|p| p.join("bwrap"));
    BWRAP_PATHS.iter().map(PathBuf::from).chain(on_path).find(|p| p.is_file())
}

/// Builds the arguments, including the helper's name.
pub fn args(launch: &Launch<'_>) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::with_capacity(128);
    let mut add = |parts: &[&OsStr]| args.extend(parts.iter().map(|p| (*p).to_owned()));
    let text = |parts: &[&'static str]| -> Vec<&'static OsStr> { parts.iter().map(|p| OsStr::new(*p)).collect() };
    add(&text(&["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]));
    add(&text(&["--die-with-parent", "--new-session", "--hostname", "skep", "--cap-drop", "ALL"]));
    if launch.is_root {
        // The helper creates the user namespace when it gives up root: created here, it would only rename root, to
        // whom limits do not apply.
        add(&text(&["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SYS_ADMIN"]));
    } else {
        add(&text(&["--unshare-user", "--disable-userns"]));
    }
    add(&text(&["--proc", "/proc", "--dev", "/dev"]));
    let size = OsString::from(launch.limits.tmp.max(1 << 20).to_string());
    for mount_point in ["/tmp", "/dev/shm"] {
        add(&["--perms", "1777", "--size"].map(OsStr::new));
        add(&[&size, OsStr::new("--tmpfs"), OsStr::new(mount_point)]);
    }
    let mut writable: Vec<&(PathBuf, PathBuf)> = launch.writable.iter().collect();
    writable.sort_by(|a, b| a.1.cmp(&b.1));
    writable.dedup();
    for dir in parent_dirs(launch.view, &writable) {
        // By default the launcher copies the modes of the host, which may lock out everyone but Skep.
        add(&["--perms", "0755", "--dir"].map(OsStr::new));
        add(&[dir.as_ref()]);
    }
    for visible in launch.view {
        match visible {
            Visible::Path(path) => add(&[OsStr::new("--ro-bind-try"), path.as_ref(), path.as_ref()]),
            Visible::Link(link, to) => add(&[OsStr::new("--symlink"), to.as_ref(), link.as_ref()]),
        }
    }
    let ro = OsStr::new("--ro-bind");
    for mask in launch.masks {
        match mask {
            Mask::Dir(path) => add(&[OsStr::new("--tmpfs"), path.as_ref()]),
            Mask::File(path) => add(&[ro, OsStr::new("/dev/null"), path.as_ref()]),
        }
    }
    let covered =
        |path: &Path| launch.masks.iter().any(|m| matches!(m, Mask::Dir(dir) if path != dir && path.starts_with(dir)));
    // Within a covered directory nothing exists but what leads to the command's directories.
    for dir in parent_dirs(&[], &writable).iter().filter(|dir| covered(dir)) {
        add(&["--perms", "0755", "--dir"].map(OsStr::new));
        add(&[dir.as_ref()]);
    }
    add(&[ro, launch.user_files.0.as_ref(), OsStr::new("/etc/passwd")]);
    add(&[ro, launch.user_files.1.as_ref(), OsStr::new("/etc/group")]);
    add(&[ro, launch.helper.as_ref(), OsStr::new(HELPER)]);
    if let Some(socket) = launch.proxy {
        add(&[OsStr::new("--bind"), socket.as_ref(), OsStr::new(inside::relay::SOCKET)]);
    }
    // Sorted, so that outer directories are mounted before inner ones.
    for (path, seen) in writable {
        add(&[OsStr::new("--bind"), path.as_ref(), seen.as_ref()]);
    }
    for mask in launch.masks {
        if let Mask::Dir(path) = mask {
            add(&[OsStr::new("--remount-ro"), path.as_ref()]);
        }
    }
    add(&["--chdir", "/", "--", HELPER, inside::HELPER].map(OsStr::new));
    args
}

/// Lists the parent directories of all mounts, outer ones first, except those that are part of a mount themselves.
fn parent_dirs(view: &[Visible], writable: &[&(PathBuf, PathBuf)]) -> Vec<PathBuf> {
    let mounted = view.iter().filter_map(|visible| match visible {
        Visible::Path(path) => Some(path),
        Visible::Link(..) => None,
    });
    let mounted: Vec<&Path> = mounted.chain(writable.iter().map(|(_, seen)| seen)).map(PathBuf::as_path).collect();
    let mut parents: Vec<PathBuf> = Vec::new();
    for path in mounted.iter().copied().chain([Path::new("/etc/passwd"), Path::new(HELPER)]) {
        parents
            .extend(path.ancestors().skip(1).filter(|p| !mounted.iter().any(|m| p.starts_with(m))).map(Path::to_owned));
    }
    parents.retain(|p| !["/", "/tmp", "/dev", "/dev/shm", "/proc"].iter().any(|made| p == Path::new(made)));
    parents.sort();
    parents.dedup();
    parents
}

/// Explains an error message of bubblewrap, and how to fix the cause.
pub fn meaning(message: &str) -> &'static str {
    const NAMESPACES: &str = "this user may not create namespaces on this machine. On Debian and Ubuntu: `sysctl -w \
        kernel.unprivileged_userns_clone=1` and, since 24.04, `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` or an AppArmor \
        profile for bwrap; everywhere: a value over 0 in /proc/sys/user/max_user_namespaces. In a container: start it with \
        `--security-opt seccomp=unconfined --security-opt apparmor=unconfined --cap-add SYS_ADMIN` or run Skep on a dedicated machine";
    if message.contains("No space left on device") || message.contains("ENOSPC") {
        "the limit of user namespaces is reached (nested sandboxes, or a limit of 0): raise /proc/sys/user/max_user_namespaces"
    } else if message.contains("proc on /newroot/proc") || message.contains("mount proc") {
        "this container hides parts of /proc, so that a new one cannot be mounted: start the container with `--security-opt \
         systempaths=unconfined`"
    } else if ["namespace", "Operation not permitted", "uid map", "Permission denied", "capabilit"]
        .iter()
        .any(|w| message.contains(w))
    {
        NAMESPACES
    } else if message.contains("Can't find source path") {
        "a directory to mount does not exist, or this user may not read the directories above it"
    } else if message.contains("Unknown option") {
        "this bubblewrap is too old: 0.8 or later is needed"
    } else {
        "`bwrap --unshare-all --ro-bind / / true` shows whether bubblewrap works on this machine at all"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(is_root: bool) -> Vec<String> {
        let view = [Visible::Path("/usr".into()), Visible::Link("/bin".into(), "usr/bin".into())];
        let args = args(&Launch {
            view: &view,
            masks: &[Mask::Dir("/usr/data".into()), Mask::File("/usr/key".into())],
            user_files: (Path::new("/c/users/passwd"), Path::new("/c/users/group")),
            helper: Path::new("/x/skep"),
            writable: &["/w/b/in", "/w", "/w"].map(|path| (path.into(), path.into())),
            proxy: Some(Path::new("/d/egress.sock")),
            is_root,
            limits: Limits::default(),
        });
        args.into_iter().map(|a| a.into_string().unwrap()).collect()
    }

    #[test]
    fn the_arguments_as_an_ordinary_user() {
        insta::assert_snapshot!(launch(false).join(" "), @"--unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try --die-with-parent --new-session --hostname skep --cap-drop ALL --unshare-user --disable-userns --proc /proc --dev /dev --perms 1777 --size 268435456 --tmpfs /tmp --perms 1777 --size 268435456 --tmpfs /dev/shm --perms 0755 --dir /etc --perms 0755 --dir /run --perms 0755 --dir /run/skep --ro-bind-try /usr /usr --symlink usr/bin /bin --tmpfs /usr/data --ro-bind /dev/null /usr/key --ro-bind /c/users/passwd /etc/passwd --ro-bind /c/users/group /etc/group --ro-bind /x/skep /run/skep/skep --bind /d/egress.sock /run/skep/egress.sock --bind /w /w --bind /w/b/in /w/b/in --remount-ro /usr/data --chdir / -- /run/skep/skep sandbox-helper");
    }

    #[test]
    fn as_root_only_the_capabilities_to_give_up_root_are_kept() {
        let args = launch(true);
        assert!(!args.iter().any(|a| a.contains("userns") || a.contains("unshare-user")), "{args:?}");
        let kept: Vec<_> =
            args.iter().zip(args.iter().skip(1)).filter(|(a, _)| *a == "--cap-add").map(|(_, c)| c).collect();
        assert_eq!(kept, ["CAP_SETUID", "CAP_SETGID", "CAP_SYS_ADMIN"]);
    }

    #[test]
    fn error_messages_are_explained() {
        for (message, part) in [
            ("bwrap: Creating new namespace failed: No space left on device", "max_user_namespaces"),
            ("bwrap: No permissions to create new namespace, likely because…", "unprivileged_userns_clone"),
            ("bwrap: setting up uid map: Permission denied", "apparmor"),
            ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "systempaths"),
            ("bwrap: Unknown option --disable-userns", "0.8"),
            ("bwrap: Can't find source path /x: No such file or directory", "does not exist"),
        ] {
            assert!(meaning(message).contains(part), "{message}: {}", meaning(message));
        }
    }
}
