//! A repository on this machine, used without obeying it: Skep works in a git directory of its own whose objects and
//! refs are those of the repository.
//!
//! Invariant: no git runs with the repository's own configuration. Only the settings in [`TAKEN`] are read from it, as
//! data.

use super::Git;
use super::durable_fs::{read_text, remove_path, write_atomic};
use crate::ports::{PortError, PortResult};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Upper bound on a small file of a git directory, such as `HEAD`.
const MAX_FILE_BYTES: u64 = 4096;
/// Upper bound on linked worktrees that are looked at.
const MAX_WORKTREES: usize = 1_000;

/// Settings that describe how the repository stores its objects and files. Each has the values it may have; other
/// values, and every other setting, are ignored.
const TAKEN: &[(&str, &[&str])] = &[
    ("core.repositoryformatversion", &["0", "1"]),
    ("extensions.objectformat", &["sha1", "sha256"]),
    ("extensions.refstorage", &["files", "reftable"]),
    ("core.filemode", BOOLEAN),
    ("core.symlinks", BOOLEAN),
    ("core.ignorecase", BOOLEAN),
    ("core.precomposeunicode", BOOLEAN),
    ("core.autocrlf", &["true", "false", "input", "yes", "no", "on", "off", "1", "0"]),
    ("core.eol", &["lf", "crlf", "native"]),
    ("core.sparsecheckout", BOOLEAN),
    ("core.sparsecheckoutcone", BOOLEAN),
    ("index.sparse", BOOLEAN),
    (
        "core.sharedrepository",
        &["true", "false", "umask", "group", "all", "world", "everybody", "0660", "0664", "0666"],
    ),
];
const BOOLEAN: &[&str] = &["true", "false", "yes", "no", "on", "off", "1", "0"];
/// Settings of [`TAKEN`] that the options of every call would override.
const OVERRIDDEN: &[&str] = &["core.autocrlf"];

/// Where a local repository lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRepository {
    /// The folder that people know: the working copy, or the bare repository.
    pub top: PathBuf,
    /// The git directory of this working copy.
    pub git_dir: PathBuf,
    /// The git directory with the objects and refs, shared by all working copies.
    pub common_dir: PathBuf,
}

/// A working copy of a local repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkingCopy {
    /// The folder with the files.
    pub dir: PathBuf,
    /// Its git directory, with its index and `HEAD`.
    pub git_dir: PathBuf,
}

/// Settings of a repository, by lower-case name. Later values replace earlier ones.
pub type Settings = BTreeMap<String, String>;

impl LocalRepository {
    /// Finds the repository that a path lies in, upwards as git does; `None` = none.
    ///
    /// # Errors
    /// When a `.git` file on the way leads nowhere.
    pub fn find(path: &Path) -> PortResult<Option<Self>> {
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let device = std::fs::metadata(&real).map(|m| m.dev()).ok();
        for dir in real.ancestors() {
            // Like git, not beyond the file system.
            if std::fs::metadata(dir).map(|m| m.dev()).ok() != device {
                break;
            }
            let top = if dir == real { path } else { dir };
            let dot_git = dir.join(".git");
            let git_dir = match std::fs::metadata(&dot_git) {
                Ok(meta) if meta.is_dir() && is_git_dir(&dot_git) => dot_git,
                Ok(meta) if meta.is_file() => linked_dir(&dot_git, "gitdir: ")?.ok_or_else(|| {
                    PortError::permanent(
                        format!("{} does not lead to a git directory", dot_git.display()),
                        "repair it with `git worktree repair`, or use the repository's main folder",
                    )
                })?,
                _ if is_git_dir(dir) => dir.to_owned(),
                _ => continue,
            };
            let common_dir = linked_dir(&git_dir.join("commondir"), "")?.unwrap_or_else(|| git_dir.clone());
            return Ok(Some(Self { top: top.to_owned(), git_dir, common_dir }));
        }
        Ok(None)
    }

    /// Returns every working copy of the repository: the main one, and linked worktrees.
    pub fn working_copies(&self) -> Vec<WorkingCopy> {
        let common = &self.common_dir;
        let main = match common.file_name().is_some_and(|name| name == ".git") {
            true => common.parent().map(Path::to_owned),
            // The git directory lies elsewhere, as that of a submodule does.
            false if self.git_dir == *common && self.top.join(".git").exists() => Some(self.top.clone()),
            false => None,
        };
        let main = main.map(|dir| WorkingCopy { dir, git_dir: common.clone() });
        let worktrees = std::fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten();
        let linked = worktrees.take(MAX_WORKTREES).filter_map(|entry| {
            let git_dir = entry.path();
            let dot_git = small_file(&git_dir.join("gitdir"))?;
            let dir = git_dir.join(dot_git.trim_end()).parent()?.to_owned();
            dir.is_dir().then_some(WorkingCopy { dir, git_dir })
        });
        main.into_iter().chain(linked).collect()
    }
}

impl WorkingCopy {
    /// Returns the branch that is checked out here; `None` = the head is detached, or cannot be read.
    pub fn branch(&self) -> Option<String> {
        let head = self.git_dir.join("HEAD");
        let text = match std::fs::read_link(&head) {
            Ok(target) => format!("ref: {}", target.display()),
            Err(_) => small_file(&head)?,
        };
        Some(text.strip_prefix("ref: refs/heads/")?.trim_end().to_owned())
    }

    /// Returns the operation of git that a person has begun here and not finished, and its branch.
    pub fn operation(&self) -> Option<(&'static str, String)> {
        let rebased = ["rebase-merge/head-name", "rebase-apply/head-name"];
        let rebased = rebased.iter().filter_map(|file| small_file(&self.git_dir.join(file)));
        let of_branch = |name: String| name.trim_end().strip_prefix("refs/heads/").map(str::to_owned);
        if let Some(branch) = rebased.filter_map(of_branch).next() {
            return Some(("rebase", branch));
        }
        let marks = [("MERGE_HEAD", "merge"), ("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert")];
        let (_, begun) = marks.iter().find(|(file, _)| self.git_dir.join(file).exists())?;
        Some((begun, self.branch()?))
    }

    /// Returns the operation of git on `branch` that a person has begun here and not finished.
    pub fn unfinished(&self, branch: &str) -> Option<&'static str> {
        self.operation().filter(|(_, of)| of == branch).map(|(operation, _)| operation)
    }
}

/// Returns whether a folder is a git directory.
fn is_git_dir(dir: &Path) -> bool {
    std::fs::symlink_metadata(dir.join("HEAD")).is_ok_and(|m| !m.is_dir())
        && (dir.join("commondir").is_file() || (dir.join("objects").is_dir() && dir.join("refs").is_dir()))
}

/// Reads a file that names a git directory, relative to its own folder; `None` = there is no such file, or it leads
/// nowhere.
fn linked_dir(file: &Path, prefix: &str) -> PortResult<Option<PathBuf>> {
    let Some(text) = small_file(file) else { return Ok(None) };
    let Some(target) = text.strip_prefix(prefix) else { return Ok(None) };
    let dir = file.parent().unwrap_or(Path::new("/")).join(target.trim_end_matches(['\n', '\r']));
    Ok(std::fs::canonicalize(dir).ok().filter(|dir| is_git_dir(dir)))
}

/// Reads a small regular file; `None` for anything else.
fn small_file(path: &Path) -> Option<String> {
    let meta = std::fs::metadata(path).ok()?;
    if !meta.is_file() || meta.len() > MAX_FILE_BYTES {
        return None;
    }
    std::fs::read_to_string(path).ok()
}

/// Reads every setting of a repository, without following includes. They are data: no git runs with them.
///
/// # Errors
/// When its configuration cannot be read.
pub(super) async fn read_settings(git: &Git, git_dir: &Path, common_dir: &Path) -> PortResult<Settings> {
    let mut settings = Settings::new();
    for file in [common_dir.join("config"), git_dir.join("config.worktree"), common_dir.join("config.worktree")] {
        if !std::fs::metadata(&file).is_ok_and(|m| m.is_file()) {
            continue;
        }
        settings.extend(read_entries(git, &file).await?.into_iter().map(|(name, value)| (name.to_lowercase(), value)));
    }
    Ok(settings)
}

/// Reads the entries of a file of settings in order, without following includes.
pub(super) async fn read_entries(git: &Git, file: &Path) -> PortResult<Vec<(String, String)>> {
    let call = git.bare_call().args(["config", "--no-includes", "-z", "--list", "--file"]).arg(file);
    let output = call.output(&format!("read {}", file.display())).await?;
    let entries = output.split(|b| *b == 0).filter(|e| !e.is_empty()).map(|entry| {
        let text = String::from_utf8_lossy(entry);
        // A name without a value means true.
        let (name, value) = text.split_once('\n').unwrap_or((&text, "true"));
        (name.to_owned(), value.to_owned())
    });
    Ok(entries.collect())
}

/// Returns whether a boolean setting is on.
pub fn is_on(settings: &Settings, name: &str) -> bool {
    settings.get(name).is_some_and(|v| matches!(v.to_lowercase().as_str(), "true" | "yes" | "on" | "1"))
}

/// Returns the settings that Skep's own git directory takes over.
fn taken(settings: &Settings) -> Vec<(&'static str, &str)> {
    let value = |name: &str, allowed: &[&str]| {
        settings.get(name).map(String::as_str).filter(|v| allowed.contains(&v.to_lowercase().as_str()))
    };
    TAKEN.iter().filter_map(|(name, allowed)| Some((*name, value(name, allowed)?))).collect()
}

/// Skep's own git directory for a local repository.
#[derive(Clone, Debug)]
pub struct LocalView {
    /// The repository.
    pub repository: LocalRepository,
    /// Skep's git directory.
    pub dir: PathBuf,
    /// All settings of the repository, as data.
    pub settings: Settings,
}

impl LocalView {
    /// Returns the options of calls that read or write the files of a working copy.
    pub(super) fn options(&self) -> Vec<std::ffi::OsString> {
        let of_files = taken(&self.settings).into_iter().filter(|(name, _)| OVERRIDDEN.contains(name));
        of_files.flat_map(|(name, value)| ["-c".into(), format!("{name}={value}").into()]).collect()
    }

    /// Creates or refreshes Skep's git directory at `dir`, for a working copy with this git directory.
    pub(super) fn write(
        dir: &Path,
        repository: &LocalRepository,
        git_dir: &Path,
        settings: &Settings,
    ) -> PortResult<()> {
        let common = &repository.common_dir;
        let marker = format!("{}\n{}\n", common.display(), git_dir.display());
        if read_text(&dir.join("repository"))?.as_deref() != Some(&marker) {
            remove_path(dir)?;
            put(&dir.join("repository"), &marker)?;
        }
        let mut config = String::new();
        for (name, value) in taken(settings) {
            let (section, key) = name.split_once('.').unwrap_or((name, ""));
            config.push_str(&format!("[{section}]\n\t{key} = {value}\n"));
        }
        let logs = common.join("logs/refs").is_dir();
        config.push_str(&format!(
            "[core]\n\tbare = true\n\tlogAllRefUpdates = {logs}\n[gc]\n\tauto = 0\n[receive]\n\tautogc = false\n\
             \tdenyCurrentBranch = ignore\n"
        ));
        put(&dir.join("config"), &config)?;
        put(&dir.join("origin"), &repository.top.to_string_lossy())?;
        let head = match std::fs::read_link(git_dir.join("HEAD")) {
            Ok(target) => format!("ref: {}\n", target.display()),
            Err(_) => small_file(&git_dir.join("HEAD")).unwrap_or_default(),
        };
        put(&dir.join("HEAD"), &head)?;
        for name in ["objects", "refs", "packed-refs", "reftable", "shallow", "info/attributes", "info/exclude"] {
            link(&dir.join(name), &common.join(name))?;
        }
        link(&dir.join("info/sparse-checkout"), &git_dir.join("info/sparse-checkout"))?;
        if logs {
            link(&dir.join("logs/refs"), &common.join("logs/refs"))?;
            link(&dir.join("logs/HEAD"), &git_dir.join("logs/HEAD"))?;
        }
        Ok(())
    }
}

/// Writes a file unless it has this content already.
fn put(path: &Path, text: &str) -> PortResult<()> {
    if read_text(path)?.as_deref() == Some(text) {
        return Ok(());
    }
    write_atomic(path, text.as_bytes())
}

/// Makes `path` a link to `target`. The target need not exist.
fn link(path: &Path, target: &Path) -> PortResult<()> {
    if std::fs::read_link(path).is_ok_and(|current| current == target) {
        return Ok(());
    }
    remove_path(path)?;
    let make = || -> std::io::Result<()> {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        std::os::unix::fs::symlink(target, path)
    };
    match make() {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(PortError::transient(format!("cannot create {}: {e}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_settings_with_listed_values_are_taken() {
        let settings: Settings = [
            ("core.autocrlf", "input"),
            ("core.eol", "sh -c x"),
            ("core.fsmonitor", "/tmp/x"),
            ("core.hookspath", "/tmp/x"),
            ("filter.a.clean", "x"),
            ("core.sharedrepository", "group"),
            ("extensions.refstorage", "reftable"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        let names: Vec<&str> = taken(&settings).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["extensions.refstorage", "core.autocrlf", "core.sharedrepository"]);
    }

    #[test]
    fn a_repository_is_found_from_any_of_its_folders() {
        let tmp = tempfile::tempdir().unwrap();
        let top = tmp.path().canonicalize().unwrap().join("r");
        for dir in ["objects", "refs/heads", "worktrees/w"] {
            std::fs::create_dir_all(top.join(".git").join(dir)).unwrap();
        }
        std::fs::write(top.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        std::fs::create_dir_all(top.join("packages/api")).unwrap();
        let found = LocalRepository::find(&top.join("packages/api")).unwrap().unwrap();
        assert_eq!((found.top, &found.git_dir), (top.clone(), &top.join(".git")));
        // A linked worktree: its own HEAD, the shared objects.
        let linked = top.with_file_name("w");
        std::fs::create_dir_all(&linked).unwrap();
        std::fs::write(linked.join(".git"), format!("gitdir: {}/.git/worktrees/w\n", top.display())).unwrap();
        std::fs::write(top.join(".git/worktrees/w/HEAD"), "ref: refs/heads/side\n").unwrap();
        std::fs::write(top.join(".git/worktrees/w/commondir"), "../..\n").unwrap();
        std::fs::write(top.join(".git/worktrees/w/gitdir"), format!("{}/.git\n", linked.display())).unwrap();
        let found = LocalRepository::find(&linked).unwrap().unwrap();
        assert_eq!(found.common_dir, top.join(".git"));
        let branches: Vec<_> = found.working_copies().iter().filter_map(WorkingCopy::branch).collect();
        assert_eq!(branches, ["main", "side"]);
        std::fs::create_dir_all(top.join(".git/rebase-merge")).unwrap();
        std::fs::write(top.join(".git/rebase-merge/head-name"), "refs/heads/main\n").unwrap();
        assert_eq!(found.working_copies()[0].unfinished("main"), Some("rebase"));
        assert_eq!(found.working_copies()[1].unfinished("side"), None);
        // A `.git` file that leads nowhere is an error, not a reason to look further up.
        let broken = top.join("broken");
        std::fs::create_dir_all(&broken).unwrap();
        std::fs::write(broken.join(".git"), "gitdir: /nowhere\n").unwrap();
        assert!(LocalRepository::find(&broken).is_err());
        assert!(LocalRepository::find(tmp.path()).unwrap().is_none_or(|r| !r.top.starts_with(tmp.path())));
    }
}
