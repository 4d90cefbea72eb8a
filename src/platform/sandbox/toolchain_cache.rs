//! Homes of toolchains for commands with a way out: they can put there what they fetch, and find what the host has already.
//!
//! The host's own are read-only behind the walls, which is right as long as nothing can be fetched. A home of the command's own has real
//! folders, and in them links to the host's files and finished packages: nothing is copied, and nothing of the host's can be changed.

use super::view::Seen;
use super::{Job, Level, tree};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// The folder of all homes, within the cache of the command's purpose.
const FOLDER: &str = "toolchains";
/// The most links in all homes together: what the host has beyond them is fetched again.
const LINKS_MAX: usize = 200_000;
/// Folders below this depth are linked as a whole.
const DEEP: usize = 12;

/// A toolchain's home: its variable, its folder, and which parts of the host's are linked, each with the depth down to which its folders
/// are real. What is finished once it is there (an unpacked package) is linked whole, what grows (an index, a repository) file by file.
struct Home {
    variable: &'static str,
    folder: &'static str,
    parts: &'static [(&'static str, usize)],
}

const HOMES: &[Home] = &[
    Home {
        variable: "CARGO_HOME",
        folder: "cargo",
        parts: &[
            ("bin", 1),
            ("config.toml", 0),
            ("config", 0),
            ("registry/index", DEEP),
            ("registry/cache", DEEP),
            (UNPACKED, 2),
            ("git/db", DEEP),
            ("git/checkouts", 2),
        ],
    },
    Home { variable: "PYTHONUSERBASE", folder: "python", parts: &[("bin", 1), ("lib", 3)] },
];

/// Packages as they were unpacked, with the modes their makers gave their files: another user may not be let to read all of them. They
/// are then unpacked anew from what was fetched.
const UNPACKED: &str = "registry/src";

/// Where Go keeps what it fetched, as a part of GOPATH. Its packages lie at any depth, so they are not linked: the host's downloads are
/// offered to it as the first proxy.
const GO_DOWNLOADS: &str = "pkg/mod/cache/download";
const GO_PROXIES: &str = "https://proxy.golang.org,direct";

/// The folder of all homes of a job; `None` = it uses the host's.
fn folder(job: &Job<'_>, level: Level) -> Option<PathBuf> {
    (job.gate.is_some() && level != Level::None).then(|| job.cache.join(job.purpose.folder()).join(FOLDER))
}

/// What a job's environment says of them, over the host's variables.
pub fn environment(job: &Job<'_>, level: Level, host: &BTreeMap<OsString, OsString>) -> Vec<(&'static str, OsString)> {
    let Some(folder) = folder(job, level) else { return Vec::new() };
    let of_host = |name: &str| host.get(OsStr::new(name));
    let mut env: Vec<(&'static str, OsString)> = HOMES
        .iter()
        .filter(|home| of_host(home.variable).is_some())
        .map(|home| (home.variable, folder.join(home.folder).into_os_string()))
        .collect();
    env.push(("GOMODCACHE", folder.join("go").into()));
    // Without it the packages could not be removed again with the run's folders.
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

/// Makes them, once for each cache; afterwards they are the command's.
///
/// # Errors
/// When the disk fails.
pub fn make(
    job: &Job<'_>,
    level: Level,
    host: &BTreeMap<OsString, OsString>,
    view: &[Seen],
    user: Option<(u32, u32)>,
) -> io::Result<()> {
    let Some(place) = folder(job, level) else { return Ok(()) };
    if std::fs::symlink_metadata(&place).is_ok() {
        return Ok(());
    }
    // Made aside, where no command can put a link in the way.
    let aside = tempfile::Builder::new().prefix("homes-").tempdir_in(job.cache)?;
    let made = aside.path().join(FOLDER);
    let mut left = LINKS_MAX;
    for home in HOMES {
        let Some(root) = host.get(OsStr::new(home.variable)).map(Path::new) else { continue };
        let own = made.join(home.folder);
        std::fs::create_dir_all(&own)?;
        for (part, depth) in home.parts {
            let from = root.join(part);
            // Only what a command sees: a configuration with a login in it is not among that.
            let is_fit = user.is_none() || *part != UNPACKED;
            if is_fit && is_seen(&from, view) {
                link(&from, &own.join(part), (*depth, user.is_some()), &mut left)?;
            }
        }
    }
    if left == 0 {
        tracing::warn!(
            most = LINKS_MAX,
            "the host's caches of packages are larger than what commands are shown of them"
        );
    }
    std::fs::create_dir_all(made.join("go"))?;
    if let Some(user) = user {
        tree::give(&made, user)?;
    }
    match std::fs::rename(&made, &place) {
        // Another command of the run was first.
        Err(_) if std::fs::symlink_metadata(&place).is_ok() => Ok(()),
        renamed => renamed,
    }
}

fn is_seen(path: &Path, view: &[Seen]) -> bool {
    view.iter().any(|seen| matches!(seen, Seen::Path(shown) if path.starts_with(shown)))
}

/// Makes `to` what `from` is: down to `depth` folders are real, everything else is a link. What is not there or cannot be read is left
/// out, and what only its owner can read when somebody `else_reads`.
fn link(from: &Path, to: &Path, (depth, else_reads): (usize, bool), left: &mut usize) -> io::Result<()> {
    if *left == 0 {
        return Ok(());
    }
    let Ok(found) = std::fs::metadata(from) else { return Ok(()) };
    if else_reads && found.mode() & 0o004 == 0 {
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
        link(&entry.path(), &to.join(entry.file_name()), (depth - 1, else_reads), left)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_real_down_to_their_depth_and_what_lies_below_is_the_host_s() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("crates/one-1.0/src")).unwrap();
        std::fs::write(from.join("crates/one-1.0/src/lib.rs"), "x").unwrap();
        std::fs::write(from.join("list"), "x").unwrap();
        link(&from, &to, (2, false), &mut 10).unwrap();
        let is_link = |path: &str| std::fs::symlink_metadata(to.join(path)).unwrap().is_symlink();
        assert_eq!((is_link("crates"), is_link("crates/one-1.0"), is_link("list")), (false, true, true));
        assert_eq!(std::fs::read_to_string(to.join("crates/one-1.0/src/lib.rs")).unwrap(), "x");
        let few = dir.path().join("few");
        link(&from, &few, (2, false), &mut 1).unwrap();
        let made = ["crates/one-1.0", "list"].iter().filter(|p| few.join(p).exists()).count();
        assert_eq!(made, 1, "no more links than there may be");
        link(&dir.path().join("nothing"), &dir.path().join("none"), (2, false), &mut 1).unwrap();
        assert!(!dir.path().join("none").exists());
        std::fs::set_permissions(from.join("list"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        let others = dir.path().join("others");
        link(&from, &others, (2, true), &mut 10).unwrap();
        assert!(!others.join("list").exists() && others.join("crates/one-1.0").exists());
    }
}
