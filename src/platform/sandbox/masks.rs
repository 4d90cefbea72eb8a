//! What stays hidden inside shown directories: Skep's own data and secrets, and sockets of the host.
//!
//! A read-only mount does not prevent a connection to a socket, so sockets are covered one by one: those that processes
//! of this network namespace have bound, which the kernel lists, and those of other namespaces found in a walk.

use super::view::Visible;
use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The kernel's list of bound Unix sockets in this network namespace.
const BOUND_SOCKETS: &str = "/proc/net/unix";
/// Directory levels and entries of one shown directory that are searched for sockets of other namespaces.
const WALK_DEPTH: usize = 4;
const WALK_ENTRIES_MAX: usize = 50_000;
/// System directories that are not searched: package managers fill them, and services put no sockets there.
const NOT_WALKED: &[&str] = &["/usr", "/nix/store"];

/// A path, as commands find it, that is covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// A directory, which appears empty.
    Dir(PathBuf),
    /// A file or a socket, which cannot be opened.
    File(PathBuf),
}

impl Mask {
    /// Returns its path.
    pub fn path(&self) -> &Path {
        match self {
            Mask::Dir(path) | Mask::File(path) => path,
        }
    }
}

/// Paths that must stay hidden, and where they could be seen.
#[derive(Clone, Debug, Default)]
pub struct Hidden {
    /// Shown paths, each with the path it really has on the host.
    shown: Vec<(PathBuf, PathBuf)>,
    /// Skep's data directory, secrets and configuration. They may be created later.
    own: Vec<PathBuf>,
    /// Sockets of other namespaces, with their real paths.
    foreign: Vec<PathBuf>,
}

impl Hidden {
    /// Prepares the masks for a view in which the paths `own` must not be seen.
    pub fn new(view: &[Visible], own: &[PathBuf]) -> Hidden {
        let paths = view.iter().filter_map(|visible| match visible {
            Visible::Path(path) => Some((path.clone(), path.canonicalize().ok()?)),
            Visible::Link(..) => None,
        });
        let shown: Vec<(PathBuf, PathBuf)> = paths.collect();
        let mut foreign = Vec::new();
        for (seen, real) in shown.iter().filter(|(seen, _)| !NOT_WALKED.iter().any(|system| seen == Path::new(system)))
        {
            tracing::trace!(path = %seen.display(), "searching a visible directory for sockets");
            find_sockets(real, WALK_DEPTH, &mut { WALK_ENTRIES_MAX }, &mut foreign);
        }
        find_sockets(Path::new("/usr/local"), WALK_DEPTH, &mut { WALK_ENTRIES_MAX }, &mut foreign);
        Hidden { shown, own: own.to_owned(), foreign }
    }

    /// Lists what has to be covered now, outer directories first.
    pub fn masks(&self) -> Vec<Mask> {
        let mut masks = BTreeMap::new();
        for path in self.own.iter().chain(&self.foreign).cloned().chain(bound_sockets()) {
            let Ok(real) = path.canonicalize() else { continue };
            let Ok(meta) = std::fs::symlink_metadata(&real) else { continue };
            for (seen, shown) in &self.shown {
                let Ok(rest) = real.strip_prefix(shown) else { continue };
                let seen = if rest.as_os_str().is_empty() { seen.clone() } else { seen.join(rest) };
                masks.insert(seen, meta.is_dir());
            }
        }
        let mask = |(path, is_dir)| if is_dir { Mask::Dir(path) } else { Mask::File(path) };
        let all: Vec<Mask> = masks.into_iter().map(mask).collect();
        let is_covered =
            |path: &Path| all.iter().any(|m| matches!(m, Mask::Dir(dir) if path != dir && path.starts_with(dir)));
        all.iter().filter(|mask| !is_covered(mask.path())).cloned().collect()
    }

    /// Returns the parts of a shown path that contain nothing hidden, for the level that has no mounts.
    pub fn visible_parts(&self, path: &Path) -> Vec<PathBuf> {
        let hidden: Vec<PathBuf> = self.own.iter().filter_map(|own| own.canonicalize().ok()).collect();
        let Ok(real) = path.canonicalize() else { return Vec::new() };
        let mut parts = Vec::new();
        split(path.to_owned(), &real, &hidden, &mut parts);
        parts
    }
}

fn split(seen: PathBuf, real: &Path, hidden: &[PathBuf], parts: &mut Vec<PathBuf>) {
    if hidden.iter().any(|hidden| real.starts_with(hidden)) {
        return;
    }
    if !hidden.iter().any(|hidden| hidden.starts_with(real)) {
        return parts.push(seen);
    }
    for entry in std::fs::read_dir(real).into_iter().flatten().flatten() {
        split(seen.join(entry.file_name()), &entry.path(), hidden, parts);
    }
}

fn find_sockets(dir: &Path, depth: usize, left: &mut usize, found: &mut Vec<PathBuf>) {
    let is_socket = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if is_socket(dir) {
        return found.push(dir.to_owned());
    }
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Some(less) = left.checked_sub(1) else { return };
        *left = less;
        match entry.file_type() {
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            Ok(kind) if kind.is_dir() && depth > 0 => find_sockets(&entry.path(), depth - 1, left, found),
            _ => {}
        }
    }
}

/// Lists the paths of the sockets that processes of this network namespace have bound.
fn bound_sockets() -> Vec<PathBuf> {
    paths_of(&std::fs::read_to_string(BOUND_SOCKETS).unwrap_or_default())
}

/// Parses the kernel's list: after seven fields, the path, which may contain spaces. Names that start with `@` are no
/// files.
fn paths_of(list: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let mut rest = line;
        for _ in 0..7 {
            rest = rest.trim_start_matches(' ').split_once(' ')?.1;
        }
        rest.starts_with('/').then(|| PathBuf::from(rest))
    };
    let mut paths: Vec<PathBuf> = list.lines().filter_map(path).collect();
    paths.sort();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn own_data_and_sockets_are_covered_wherever_they_are_shown() {
        let root = tempfile::tempdir().unwrap();
        let (package, link) = (root.path().join("package"), root.path().join("link"));
        fs::create_dir_all(package.join("data/inner")).unwrap();
        fs::write(package.join("key"), "x").unwrap();
        symlink(&package, &link).unwrap();
        let view = [Visible::Path(package.clone()), Visible::Path(link.clone())];
        let own = ["data", "data/inner", "key", "later"].map(|name| package.join(name));
        let hidden = Hidden::new(&view, &own);
        let _listener = UnixListener::bind(package.join("a service.socket")).unwrap();
        let mut masks: Vec<Mask> = hidden.masks().into_iter().filter(|m| m.path().starts_with(root.path())).collect();
        let mut expected = Vec::new();
        for shown in [&link, &package] {
            expected.extend([
                Mask::File(shown.join("a service.socket")),
                Mask::Dir(shown.join("data")),
                Mask::File(shown.join("key")),
            ]);
        }
        masks.sort_by(|a, b| a.path().cmp(b.path()));
        assert_eq!(masks, expected);
        fs::write(package.join("later"), "x").unwrap();
        assert!(hidden.masks().contains(&Mask::File(package.join("later"))));
    }

    #[test]
    fn without_mounts_only_the_other_parts_are_shown() {
        let root = tempfile::tempdir().unwrap();
        let package = root.path().join("package");
        fs::create_dir_all(package.join("var/data/inner")).unwrap();
        fs::create_dir_all(package.join("var/other")).unwrap();
        fs::create_dir_all(package.join("bin")).unwrap();
        let hidden = Hidden::new(&[Visible::Path(package.clone())], &[package.join("var/data")]);
        let mut parts = hidden.visible_parts(&package);
        parts.sort();
        assert_eq!(parts, [package.join("bin"), package.join("var/other")]);
        assert_eq!(hidden.visible_parts(&package.join("bin")), [package.join("bin")]);
        assert!(hidden.visible_parts(&package.join("var/data/inner")).is_empty());
    }

    #[test]
    fn sockets_of_other_namespaces_are_found_by_walking() {
        let root = tempfile::tempdir().unwrap();
        let mut found = Vec::new();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        let _listener = UnixListener::bind(root.path().join("a/b/socket")).unwrap();
        find_sockets(root.path(), WALK_DEPTH, &mut { 10 }, &mut found);
        assert_eq!(found, [root.path().join("a/b/socket")]);
        find_sockets(root.path(), 1, &mut { 10 }, &mut found);
        find_sockets(root.path(), WALK_DEPTH, &mut { 1 }, &mut found);
        assert_eq!(found.len(), 1, "depth and number of entries are limited");
    }

    #[test]
    fn the_kernel_s_list_is_parsed() {
        let list = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 2001 /run/a b.sock\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01   202 @abstract\n\
                    0000000000000000: 00000003 00000000 00000000 0001 03   203\n";
        assert_eq!(paths_of(list), [PathBuf::from("/run/a b.sock")]);
    }
}
