//! What a backup holds of a data directory, and where each of its entries belongs when it is restored.
//!
//! Invariant: a backup comes from outside. An entry is restored only if its path is one that a backup can have. In
//! particular it brings no configuration, hook or alternate object folder for git.

use crate::domain::ProjectName;
use crate::ports::{PortError, PortResult};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Upper bound of files in a backup.
pub(super) const MAX_FILES: usize = 5_000_000;
/// Deepest folder below `refs/` of a mirror.
const MAX_REF_DEPTH: usize = 32;
/// Longest path of an entry, in bytes.
pub(super) const MAX_PATH_BYTES: usize = 4_096;

/// Place of an entry in a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryPath {
    /// Part of the store.
    Store,
    /// The configuration file.
    Config,
    /// The vault's key.
    VaultKey,
    /// File of a project's mirror: the project, and the path in its git directory.
    Mirror(ProjectName, PathBuf),
    /// Other file of the data directory, at the same path there.
    Data(PathBuf),
}

impl EntryPath {
    /// Path of the configuration in a backup.
    pub const CONFIG: &'static str = "skep.toml";
    /// Path of the vault's key in a backup.
    pub const VAULT_KEY: &'static str = "vault.key";

    /// Parses the path of an entry; `None` = a backup has no such entry.
    pub fn parse(path: &str) -> Option<EntryPath> {
        let parts: Vec<&str> = path.split('/').collect();
        if path.len() > MAX_PATH_BYTES || !parts.iter().all(|part| is_plain(part)) {
            return None;
        }
        match parts.as_slice() {
            [Self::CONFIG] => Some(EntryPath::Config),
            [Self::VAULT_KEY] => Some(EntryPath::VaultKey),
            ["store", part] if part.ends_with(".jsonl") => Some(EntryPath::Store),
            ["mirrors", mirror, file @ ..] if is_git_file(file) => {
                let project = ProjectName::new(mirror.strip_suffix(".git")?).ok()?;
                Some(EntryPath::Mirror(project, file.iter().collect()))
            }
            ["forge", project, change] => {
                ProjectName::new(project).ok()?;
                is_number(change.strip_suffix(".json")?).then(|| EntryPath::Data(path.into()))
            }
            ["sealed", run, meter] => {
                uuid::Uuid::try_parse(run).ok()?;
                is_number(meter.strip_prefix('a')?.strip_suffix(".meter")?).then(|| EntryPath::Data(path.into()))
            }
            _ => None,
        }
    }
}

fn is_plain(part: &str) -> bool {
    !part.is_empty() && part != "." && part != ".." && !part.contains(['\0', '\\'])
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Returns whether a file of a git directory holds objects or refs.
fn is_git_file(parts: &[&str]) -> bool {
    match parts {
        ["packed-refs" | "shallow"] => true,
        ["refs", name @ ..] => (1..=MAX_REF_DEPTH).contains(&name.len()) && !name.iter().any(|n| n.ends_with(".lock")),
        ["objects", "pack", name] => {
            let pack = name.strip_prefix("pack-").and_then(|name| name.rsplit_once('.'));
            pack.is_some_and(|(id, kind)| is_hex(id) && matches!(kind, "pack" | "idx" | "rev" | "promisor"))
        }
        ["objects", folder, name] => folder.len() == 2 && is_hex(folder) && name.len() == 38 && is_hex(name),
        _ => false,
    }
}

/// File to back up.
#[derive(Clone, Debug)]
pub struct BackupFile {
    /// Where it is.
    pub from: PathBuf,
    /// Its path in the backup.
    pub path: String,
}

/// Lists the files of a data directory that cannot be made again: mirrors with the commits of runs, changes of the local
/// forge, and the meters of attempts in progress.
///
/// The store is copied first, so a mirror holds every commit that the store names. A mirror's refs come before its
/// objects, and each pack with its index, so that whatever is fetched meanwhile leaves no ref without its objects.
///
/// # Errors
/// If a folder cannot be read, or there are too many files.
pub fn data_files(data: &Path) -> PortResult<Vec<BackupFile>> {
    let mut files = Vec::new();
    for mirror in entries(&data.join("mirrors"))? {
        let name = format!("mirrors/{mirror}");
        let mut found = Vec::new();
        for file in ["shallow", "packed-refs"] {
            found.push(format!("{name}/{file}"));
        }
        walk(data, &format!("{name}/refs"), MAX_REF_DEPTH, &mut found)?;
        walk(data, &format!("{name}/objects"), 2, &mut found)?;
        // The index of a pack is written last. Both folders were read while packs may have been added.
        let packs: Vec<String> =
            found.iter().filter_map(|path| Some(format!("{}.pack", path.strip_suffix(".idx")?))).collect();
        let seen: std::collections::BTreeSet<String> = found.iter().cloned().collect();
        found.extend(packs.into_iter().filter(|pack| !seen.contains(pack)));
        add(data, found, &mut files)?;
    }
    for folder in ["forge", "sealed"] {
        let mut found = Vec::new();
        walk(data, folder, 2, &mut found)?;
        add(data, found, &mut files)?;
    }
    Ok(files)
}

fn add(data: &Path, found: Vec<String>, files: &mut Vec<BackupFile>) -> PortResult<()> {
    let wanted = found.into_iter().filter(|path| EntryPath::parse(path).is_some());
    files.extend(wanted.map(|path| BackupFile { from: data.join(&path), path }));
    match files.len() {
        0..=MAX_FILES => Ok(()),
        _ => Err(PortError::permanent(
            format!("{} has more than {MAX_FILES} files to back up", data.display()),
            "repack the mirrors with `git repack -ad`",
        )),
    }
}

/// Adds the files below `path`, which is relative to `data`, in the order of their names. Links are not followed.
fn walk(data: &Path, path: &str, depth: usize, found: &mut Vec<String>) -> PortResult<()> {
    for name in entries(&data.join(path))? {
        let path = format!("{path}/{name}");
        match std::fs::symlink_metadata(data.join(&path)) {
            Ok(meta) if meta.is_dir() && depth > 0 => walk(data, &path, depth - 1, found)?,
            Ok(meta) if meta.is_file() => found.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// Returns the names in a folder, sorted; none if it does not exist. Names that are not text belong to no file of Skep.
fn entries(dir: &Path) -> PortResult<Vec<String>> {
    let fail = |e: std::io::Error| {
        PortError::permanent(format!("cannot read {}: {e}", dir.display()), "make it readable for this user")
    };
    let mut names = Vec::new();
    match std::fs::read_dir(dir) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(e) => return Err(fail(e)),
        Ok(listed) => {
            for entry in listed {
                names.extend(entry.map_err(fail)?.file_name().into_string());
            }
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_a_backup_are_restored() {
        let sha = "ab".repeat(19);
        for path in [
            "skep.toml",
            "vault.key",
            "store/run.0001.jsonl",
            "mirrors/tally.git/packed-refs",
            "mirrors/tally.git/refs/skep/wip/0190/t1-1",
            &format!("mirrors/tally.git/objects/ab/{sha}"),
            "mirrors/tally.git/objects/pack/pack-0a1b.idx",
            "forge/tally/12.json",
            "sealed/01909d1b0c2a7000800000000000abcd/a3.meter",
        ] {
            assert!(EntryPath::parse(path).is_some(), "{path}");
        }
        for path in [
            "",
            "token",
            "home",
            "skep.db",
            "../skep.toml",
            "/etc/passwd",
            "store/../../x.jsonl",
            "mirrors/tally.git/config",
            "mirrors/tally.git/hooks/post-update",
            "mirrors/tally.git/objects/info/alternates",
            "mirrors/tally.git/objects/pack/../../config",
            "mirrors/tally.git/refs/../config",
            "mirrors/tally.git/refs/heads/x.lock",
            "mirrors/Tally.git/packed-refs",
            "mirrors/tally/packed-refs",
            "forge/tally/12.json/x",
            "forge/tally/.lock",
            "sealed/x/a1.meter",
            "sealed/01909d1b0c2a7000800000000000abcd/index",
            "work/x/y",
        ] {
            assert_eq!(EntryPath::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_pack_is_listed_with_its_index_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        };
        for path in [
            "mirrors/tally.git/HEAD",
            "mirrors/tally.git/config",
            "mirrors/tally.git/packed-refs",
            "mirrors/tally.git/refs/heads/skep/a",
            "mirrors/tally.git/objects/pack/pack-0a.idx",
            "mirrors/tally.git/objects/pack/tmp_pack_x",
            "mirrors/tally.lock",
            "forge/tally/1.json",
            "forge/tally/.lock",
            "work/a/b",
        ] {
            put(path);
        }
        std::os::unix::fs::symlink("/etc", dir.path().join("mirrors/tally.git/refs/etc")).unwrap();
        let listed: Vec<String> = data_files(dir.path()).unwrap().into_iter().map(|f| f.path).collect();
        assert_eq!(
            listed,
            [
                "mirrors/tally.git/shallow",
                "mirrors/tally.git/packed-refs",
                "mirrors/tally.git/refs/heads/skep/a",
                "mirrors/tally.git/objects/pack/pack-0a.idx",
                "mirrors/tally.git/objects/pack/pack-0a.pack",
                "forge/tally/1.json",
            ]
        );
    }
}
