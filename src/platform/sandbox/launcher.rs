//! The command line of bubblewrap: which namespaces, which mounts. It holds paths only, nothing of the command.

use super::inside;
use super::policy::Limits;
use super::view::Seen;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Where bubblewrap is looked for first: what a system allows to make namespaces, it allows by this path.
const PLACES: &[&str] = &["/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap"];

/// Where Skep's own program is seen within the walls.
pub const HELPER: &str = "/run/skep/skep";

/// What one launch mounts.
pub struct Launch<'a> {
    /// The system and the toolchains.
    pub view: &'a [Seen],
    /// Made-up `/etc/passwd` and `/etc/group`.
    pub who: (&'a Path, &'a Path),
    /// Skep's own program.
    pub helper: &'a Path,
    /// What may be written.
    pub writable: &'a [PathBuf],
    /// The gate's socket.
    pub gate: Option<&'a Path>,
    /// Whether Skep runs as root: then the launcher keeps the rights it takes to give root up.
    pub is_root: bool,
    /// Sizes of the memory file systems.
    pub limits: Limits,
}

/// The program, if it is installed.
pub fn find(path: &OsStr) -> Option<PathBuf> {
    let on_path = std::env::split_paths(path).filter(|p| p.is_absolute()).map(|p| p.join("bwrap"));
    PLACES.iter().map(PathBuf::from).chain(on_path).find(|p| p.is_file())
}

/// Its arguments, the helper's name included.
pub fn args(launch: &Launch<'_>) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::with_capacity(128);
    let mut add = |parts: &[&OsStr]| args.extend(parts.iter().map(|p| (*p).to_owned()));
    let text = |parts: &[&'static str]| -> Vec<&'static OsStr> { parts.iter().map(|p| OsStr::new(*p)).collect() };
    add(&text(&["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]));
    add(&text(&["--die-with-parent", "--new-session", "--hostname", "skep", "--cap-drop", "ALL"]));
    if launch.is_root {
        // The helper makes the user namespace when it gives root up: made here, it would only rename root, whom limits do not bind.
        add(&text(&["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SYS_ADMIN"]));
    } else {
        add(&text(&["--unshare-user", "--disable-userns"]));
    }
    add(&text(&["--proc", "/proc", "--dev", "/dev"]));
    let size = OsString::from(launch.limits.tmp.max(1 << 20).to_string());
    for place in ["/tmp", "/dev/shm"] {
        add(&["--perms", "1777", "--size"].map(OsStr::new));
        add(&[&size, OsStr::new("--tmpfs"), OsStr::new(place)]);
    }
    let mut writable: Vec<&PathBuf> = launch.writable.iter().collect();
    writable.sort();
    writable.dedup();
    for folder in above(launch.view, &writable) {
        // Left to itself the launcher gives them the modes of the host, which may keep everybody but Skep out.
        add(&["--perms", "0755", "--dir"].map(OsStr::new));
        add(&[folder.as_ref()]);
    }
    for seen in launch.view {
        match seen {
            Seen::Path(path) => add(&[OsStr::new("--ro-bind-try"), path.as_ref(), path.as_ref()]),
            Seen::Link(link, to) => add(&[OsStr::new("--symlink"), to.as_ref(), link.as_ref()]),
        }
    }
    let ro = OsStr::new("--ro-bind");
    add(&[ro, launch.who.0.as_ref(), OsStr::new("/etc/passwd")]);
    add(&[ro, launch.who.1.as_ref(), OsStr::new("/etc/group")]);
    add(&[ro, launch.helper.as_ref(), OsStr::new(HELPER)]);
    if let Some(socket) = launch.gate {
        add(&[OsStr::new("--bind"), socket.as_ref(), OsStr::new(inside::relay::SOCKET)]);
    }
    // Sorted: outer folders come before what lies in them.
    for path in writable {
        add(&[OsStr::new("--bind"), path.as_ref(), path.as_ref()]);
    }
    add(&["--chdir", "/", "--", HELPER, inside::HELPER].map(OsStr::new));
    args
}

/// The folders above what is mounted, outer ones first; not those that come with a mount.
fn above(view: &[Seen], writable: &[&PathBuf]) -> Vec<PathBuf> {
    let mounted = view.iter().filter_map(|seen| match seen {
        Seen::Path(path) => Some(path),
        Seen::Link(..) => None,
    });
    let mounted: Vec<&Path> = mounted.chain(writable.iter().copied()).map(PathBuf::as_path).collect();
    let mut above: Vec<PathBuf> = Vec::new();
    for path in mounted.iter().copied().chain([Path::new("/etc/passwd"), Path::new(HELPER)]) {
        above
            .extend(path.ancestors().skip(1).filter(|p| !mounted.iter().any(|m| p.starts_with(m))).map(Path::to_owned));
    }
    above.retain(|p| !["/", "/tmp", "/dev", "/dev/shm", "/proc"].iter().any(|made| p == Path::new(made)));
    above.sort();
    above.dedup();
    above
}

/// What bubblewrap's complaint means, and what to do about it.
pub fn meaning(said: &str) -> &'static str {
    const NAMESPACES: &str = "this machine does not let this user make namespaces. On Debian and Ubuntu: `sysctl -w \
        kernel.unprivileged_userns_clone=1` and, since 24.04, `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` or an AppArmor \
        profile for bwrap; everywhere: a value over 0 in /proc/sys/user/max_user_namespaces. In a container: start it with \
        `--security-opt seccomp=unconfined --security-opt apparmor=unconfined --cap-add SYS_ADMIN` or give Skep a machine of its own";
    if said.contains("No space left on device") || said.contains("ENOSPC") {
        "the number of user namespaces is used up (nested sandboxes, or a limit of 0): raise /proc/sys/user/max_user_namespaces"
    } else if said.contains("proc on /newroot/proc") || said.contains("mount proc") {
        "this container hides parts of /proc, and a new one can't be mounted: start the container with `--security-opt \
         systempaths=unconfined`"
    } else if ["namespace", "Operation not permitted", "uid map", "Permission denied", "capabilit"]
        .iter()
        .any(|w| said.contains(w))
    {
        NAMESPACES
    } else if said.contains("Can't find source path") {
        "a folder that is to be seen is not there, or this user may not read the folders above it"
    } else if said.contains("Unknown option") {
        "this bubblewrap is too old: 0.8 or later is needed"
    } else {
        "`bwrap --unshare-all --ro-bind / / true` shows whether it works here at all"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(is_root: bool) -> Vec<String> {
        let view = [Seen::Path("/usr".into()), Seen::Link("/bin".into(), "usr/bin".into())];
        let args = args(&Launch {
            view: &view,
            who: (Path::new("/c/who/passwd"), Path::new("/c/who/group")),
            helper: Path::new("/x/skep"),
            writable: &["/w/b/in".into(), "/w".into(), "/w".into()],
            gate: Some(Path::new("/d/gate.sock")),
            is_root,
            limits: Limits::default(),
        });
        args.into_iter().map(|a| a.into_string().unwrap()).collect()
    }

    #[test]
    fn the_launch_as_a_user_is_pinned() {
        insta::assert_snapshot!(launch(false).join(" "), @"--unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try --die-with-parent --new-session --hostname skep --cap-drop ALL --unshare-user --disable-userns --proc /proc --dev /dev --perms 1777 --size 268435456 --tmpfs /tmp --perms 1777 --size 268435456 --tmpfs /dev/shm --perms 0755 --dir /etc --perms 0755 --dir /run --perms 0755 --dir /run/skep --ro-bind-try /usr /usr --symlink usr/bin /bin --ro-bind /c/who/passwd /etc/passwd --ro-bind /c/who/group /etc/group --ro-bind /x/skep /run/skep/skep --bind /d/gate.sock /run/skep/gate.sock --bind /w /w --bind /w/b/in /w/b/in --chdir / -- /run/skep/skep sandbox-helper");
    }

    #[test]
    fn as_root_no_right_is_kept_but_to_give_root_up() {
        let args = launch(true);
        assert!(!args.iter().any(|a| a.contains("user")), "{args:?}");
        let kept: Vec<_> =
            args.iter().zip(args.iter().skip(1)).filter(|(a, _)| *a == "--cap-add").map(|(_, c)| c).collect();
        assert_eq!(kept, ["CAP_SETUID", "CAP_SETGID", "CAP_SYS_ADMIN"]);
    }

    #[test]
    fn complaints_are_translated() {
        for (said, part) in [
            ("bwrap: Creating new namespace failed: No space left on device", "max_user_namespaces"),
            ("bwrap: No permissions to create new namespace, likely because…", "unprivileged_userns_clone"),
            ("bwrap: setting up uid map: Permission denied", "apparmor"),
            ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "systempaths"),
            ("bwrap: Unknown option --disable-userns", "0.8"),
            ("bwrap: Can't find source path /x: No such file or directory", "not there"),
        ] {
            assert!(meaning(said).contains(part), "{said}: {}", meaning(said));
        }
    }
}
