//! Toolchain homes of commands: they store downloads and unpacked packages there, and find what the host already has.
//!
//! The host's own toolchain homes are read-only in the sandbox, which is enough for a command that downloads nothing and
//! runs as Skep's user. The command's homes consist of real directories with links to the host's files and finished
//! packages: nothing is copied, and nothing of the host's can be changed.

use super::package_caches::{project_files, uses};
use super::view::Visible;
use super::{Job, Level, folders, tree};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

/// Directory of all homes, within the cache of the command's purpose.
const DIR_NAME: &str = "toolchains";
/// Maximum number of links in all homes together; whatever else the host has is downloaded again.
const LINKS_MAX: usize = 200_000;
/// Directories below this depth are linked as a whole.
const MAX_DEPTH: usize = 12;

/// Home of one toolchain: its variable, its directory, and the parts of the host's home that are linked, each with the
/// depth down to which directories are real. What never changes once it exists (an unpacked package) is linked whole;
/// what grows (an index, a repository) is linked file by file.
struct Home {
    variable: &'static str,
    dir: &'static str,
    /// Linked parts: name, depth for a command that downloads, depth for one that cannot.
    parts: &'static [(&'static str, usize, usize)],
    /// Beginnings of names of the files by which a project is recognized that uses these parts; empty = every project
    /// does. A home has thousands of files, and making the links for each command takes seconds.
    projects: &'static [&'static str],
}

const HOMES: &[Home] = &[
    Home {
        variable: "CARGO_HOME",
        dir: "cargo",
        parts: &[("bin", 1, 1), ("config.toml", 0, 0), ("config", 0, 0)],
        projects: &[],
    },
    Home {
        variable: "CARGO_HOME",
        dir: "cargo",
        parts: &[
            ("registry/index", MAX_DEPTH, 1),
            ("registry/cache", MAX_DEPTH, 1),
            (UNPACKED, 2, 2),
            ("git/db", MAX_DEPTH, 1),
            ("git/checkouts", 2, 2),
        ],
        projects: &["Cargo.toml"],
    },
    Home { variable: "PYTHONUSERBASE", dir: "python", parts: &[("bin", 1, 1), ("lib", 3, 1)], projects: &[] },
];

/// Unpacked packages, with the file modes their authors chose: another user may not be able to read all of them. In
/// that case they are unpacked again from the downloads.
const UNPACKED: &str = "registry/src";

/// Go's downloads, as a part of GOPATH. Its packages lie at any depth, so they are not linked: Go gets the host's
/// downloads as its first proxy.
const GO_DOWNLOADS: &str = "pkg/mod/cache/download";
const GO_PROXIES: &str = "https://proxy.golang.org,direct";

/// Returns whether a job has homes of its own; otherwise it uses the host's. As another user, it needs them even without
/// network access, to unpack packages whose files only their owner can read.
fn has_homes(job: &Job<'_>, level: Level, other_user: bool) -> bool {
    level != Level::None && (job.proxy.is_some() || other_user)
}

/// Returns the variables that point to the homes, overriding the host's.
pub fn environment(
    job: &Job<'_>,
    level: Level,
    host: &BTreeMap<OsString, OsString>,
    other_user: bool,
) -> Vec<(&'static str, OsString)> {
    if !has_homes(job, level, other_user) {
        return Vec::new();
    }
    let dir = folders::seen_cache(job, level).join(DIR_NAME);
    let of_host = |name: &str| host.get(OsStr::new(name));
    let mut env: Vec<(&'static str, OsString)> = HOMES
        .iter()
        .filter(|home| of_host(home.variable).is_some())
        .map(|home| (home.variable, dir.join(home.dir).into_os_string()))
        .collect();
    if job.proxy.is_none() {
        // Go reads the host's modules, and downloads none.
        return env;
    }
    env.push(("GOMODCACHE", dir.join("go").into()));
    // Without this flag, the packages could not be removed together with the run's directories.
    let mut flags = of_host("GOFLAGS").cloned().unwrap_or_default();
    flags.push(" -modcacherw");
    env.push(("GOFLAGS", flags));
    if let Some(path) = of_host("GOPATH") {
        let mut proxies = OsString::from("file://");
        proxies.push(Path::new(path).join(GO_DOWNLOADS));
        proxies.push(",");
        proxies.push(of_host("GOPROXY").map_or(OsStr::new(GO_PROXIES), OsString::as_os_str));
        env.push(("GOPROXY", proxies));
    }
    env
}

/// Creates the homes, once for each cache; from then on they belong to the command.
///
/// # Errors
/// When the disk fails.
pub fn make(
    job: &Job<'_>,
    level: Level,
    host: &BTreeMap<OsString, OsString>,
    view: &[Visible],
    user: Option<(u32, u32)>,
) -> io::Result<()> {
    let target = job.cache.join(job.purpose.dir_name()).join(DIR_NAME);
    if !has_homes(job, level, user.is_some()) || std::fs::symlink_metadata(&target).is_ok() {
        return Ok(());
    }
    // Created in a separate directory, where no command can put a link in the way.
    let staging = tempfile::Builder::new().prefix("homes-").tempdir_in(job.cache)?;
    let made = staging.path().join(DIR_NAME);
    let names = project_files(job.dir);
    let mut left = LINKS_MAX;
    for home in HOMES.iter().filter(|home| uses(&names, home.projects)) {
        let Some(root) = host.get(OsStr::new(home.variable)).map(Path::new) else { continue };
        let own = made.join(home.dir);
        std::fs::create_dir_all(&own)?;
        for (part, online, offline) in home.parts {
            let depth = if job.proxy.is_some() { *online } else { *offline };
            let from = root.join(part);
            // Links only what commands may see, which excludes a configuration file with credentials.
            let is_readable = user.is_none() || *part != UNPACKED;
            if is_readable && is_seen(&from, view) {
                link(&from, &own.join(part), Linked { depth, other_user: user.is_some() }, &mut left)?;
            }
        }
    }
    if left == 0 {
        tracing::warn!(
            max_links = LINKS_MAX,
            "the host's package caches are too large; commands see only a part of them"
        );
    }
    std::fs::create_dir_all(made.join("go"))?;
    if let Some(user) = user {
        tree::give(&made, user)?;
    }
    match std::fs::rename(&made, &target) {
        // Another command of the run has created the homes first.
        Err(_) if std::fs::symlink_metadata(&target).is_ok() => Ok(()),
        renamed => renamed,
    }
}

fn is_seen(path: &Path, view: &[Visible]) -> bool {
    view.iter().any(|seen| matches!(seen, Visible::Path(shown) if path.starts_with(shown)))
}

/// How a directory is linked.
#[derive(Clone, Copy)]
pub struct Linked {
    /// Directories down to this depth are real, everything else is a link.
    pub depth: usize,
    /// Whether another user is the reader. Files that only their owner can read are then left out.
    pub other_user: bool,
}

/// Recreates `from` at `to`, with at most `left` links. What does not exist or cannot be read is left out, and so are
/// lock files, which belong to the programs that made them.
pub fn link(from: &Path, to: &Path, Linked { depth, other_user }: Linked, left: &mut usize) -> io::Result<()> {
    if *left == 0 {
        return Ok(());
    }
    let Ok(found) = std::fs::metadata(from) else { return Ok(()) };
    let is_lock = from.extension().is_some_and(|e| e == "lock" || e == "lck") || from.ends_with(".lock");
    if (other_user && found.mode() & 0o004 == 0) || (is_lock && found.is_file()) {
        return Ok(());
    }
    let is_link = std::fs::symlink_metadata(from).is_ok_and(|m| m.is_symlink());
    if !found.is_dir() || is_link || depth == 0 {
        *left -= 1;
        if let Some(above) = to.parent() {
            std::fs::create_dir_all(above)?;
        }
        return symlink(from, to);
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
        link(&entry.path(), &to.join(entry.file_name()), Linked { depth: depth - 1, other_user }, left)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_real_down_to_their_depth_and_links_below_it() {
        let linked = |depth, other_user| Linked { depth, other_user };
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("crates/one-1.0/src")).unwrap();
        std::fs::write(from.join("crates/one-1.0/src/lib.rs"), "x").unwrap();
        std::fs::write(from.join("list"), "x").unwrap();
        link(&from, &to, linked(2, false), &mut 10).unwrap();
        let is_link = |path: &str| std::fs::symlink_metadata(to.join(path)).unwrap().is_symlink();
        assert_eq!((is_link("crates"), is_link("crates/one-1.0"), is_link("list")), (false, true, true));
        assert_eq!(std::fs::read_to_string(to.join("crates/one-1.0/src/lib.rs")).unwrap(), "x");
        let few = dir.path().join("few");
        link(&from, &few, linked(2, false), &mut 1).unwrap();
        let made = ["crates/one-1.0", "list"].iter().filter(|p| few.join(p).exists()).count();
        assert_eq!(made, 1, "the number of links is limited");
        link(&dir.path().join("nothing"), &dir.path().join("none"), linked(2, false), &mut 1).unwrap();
        assert!(!dir.path().join("none").exists());
        std::fs::set_permissions(from.join("list"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        let others = dir.path().join("others");
        link(&from, &others, linked(2, true), &mut 10).unwrap();
        assert!(!others.join("list").exists() && others.join("crates/one-1.0").exists());
    }
}
