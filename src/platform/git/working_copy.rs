//! Moves a person's working copy to a commit that was put on its branch: index and files, as `git merge --ff-only`
//! would, but with no program of the repository and safe against a kill at any moment.
//!
//! The index is locked as git does, with a lock that names the landing. Everything is verified before the branch moves,
//! and nothing is written. After the branch has moved there is only one way, forward: the lock stays until the files and
//! the index are there, and whoever finds it finishes the move.

use super::durable_fs::{copy_index, remove_path, run_blocking};
use super::local::WorkingCopy;
use super::{Call, Git, TREE_TIMEOUT};
use crate::domain::Sha;
use crate::ports::{PortError, PortResult};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Upper bound on the files named in a refusal.
const MAX_NAMED: usize = 5;
/// Upper bound on a file that a kill may have left incomplete.
const MAX_PARTIAL_BYTES: u64 = 64 << 20;
/// Upper bound on files that are checked for being incomplete. A kill leaves one.
const MAX_PARTIAL_FILES: usize = 16;

/// One changed file of the landed commits.
#[derive(Debug)]
struct Entry {
    path: Vec<u8>,
    /// Mode and object before; `None` = the file is new.
    old: Option<(String, String)>,
    /// Mode and object after; `None` = the file was deleted.
    new: Option<(String, String)>,
}

/// What the changed files are like in the working copy. Files that are missing or equal to the old version are in none
/// of the sets.
#[derive(Debug, Default)]
struct Found {
    /// Equal to the new version.
    equal_new: BTreeSet<Vec<u8>>,
    /// Neither: a person's own changes.
    other: BTreeSet<Vec<u8>>,
}

/// A move of one working copy.
pub struct WorkingCopyMove<'a> {
    pub(super) git: &'a Git,
    /// The working copy.
    pub copy: &'a WorkingCopy,
    /// Skep's own git directory for it.
    pub(super) view: PathBuf,
    /// Options for reading and writing its files.
    pub(super) options: Vec<std::ffi::OsString>,
    /// The mirror, which has all objects.
    pub(super) mirror: PathBuf,
    /// Folder for indexes, removed with this value.
    pub(super) scratch: tempfile::TempDir,
}

impl WorkingCopyMove<'_> {
    fn index(&self) -> PathBuf {
        self.scratch.path().join("index")
    }

    fn call(&self, index: &Path) -> Call {
        let call = self.git.call(&self.view).on_worktree(&self.copy.dir, index).timeout(TREE_TIMEOUT);
        call.with_options(&self.options).with_objects(&self.mirror.join("objects"))
    }

    /// Verifies that the move would overwrite nothing of a person's. Writes nothing to the working copy.
    ///
    /// # Errors
    /// Permanent when a file that the move would touch has uncommitted changes; the files are named.
    pub async fn verify(&self, base: &Sha, head: &Sha) -> PortResult<()> {
        let entries = self.entries(base, head).await?;
        let found = self.compare(&entries).await?;
        self.copy_index().await?;
        // A file that has the new content already is not an obstacle, unless something else is staged for it.
        let staged = self.staged(base).await?;
        let staged: BTreeSet<Vec<u8>> = staged.intersection(&self.staged(head).await?).cloned().collect();
        let touched = |path: &Vec<u8>| entries.iter().any(|e| e.path == *path);
        let in_the_way: Vec<&Vec<u8>> = found.other.union(&staged).filter(|path| touched(path)).collect();
        if !in_the_way.is_empty() {
            return Err(self.refused(&names(&in_the_way)));
        }
        self.set_index(&self.index(), entries.iter().filter(|e| found.equal_new.contains(&e.path))).await?;
        let finished = self.read_tree(true, base, head).await?;
        if finished.ok() { Ok(()) } else { Err(self.refused(&super::output_tail(&finished.stderr))) }
    }

    /// Moves files and index forward. May be repeated after a kill: what is there already stays, and what a person
    /// changed in the meantime is left alone.
    ///
    /// # Errors
    /// When a file or the index cannot be written.
    pub async fn apply(&self, base: &Sha, head: &Sha) -> PortResult<()> {
        let entries = self.entries(base, head).await?;
        let mut found = self.compare(&entries).await?;
        self.remove_partial(&entries, &mut found).await?;
        self.copy_index().await?;
        let settled = |e: &&Entry| found.equal_new.contains(&e.path) || found.other.contains(&e.path);
        self.set_index(&self.index(), entries.iter().filter(settled)).await?;
        let finished = self.read_tree(false, base, head).await?;
        if !finished.ok() {
            return Err(super::command_error(&format!("update the files of {}", self.copy.dir.display()), &finished));
        }
        crate::fault!("mid-working-copy");
        let (from, to) = (self.index(), self.copy.git_dir.join("index"));
        run_blocking(move || {
            install(&from, &to).map_err(|e| PortError::transient(format!("cannot write {}: {e}", to.display())))
        })
        .await
    }

    /// Returns the files with changes that are in no commit, new ones included. A folder ends with a slash.
    ///
    /// # Errors
    /// When the index or the files cannot be read.
    pub async fn uncommitted(&self) -> PortResult<Vec<String>> {
        self.copy_index().await?;
        let list = ["ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard", "--directory"];
        let files =
            self.call(&self.index()).args(list).arg("--no-empty-directory").output("list changed files").await?;
        let staged = self.call(&self.index()).args(["diff-index", "--cached", "-z", "--name-only", "HEAD"]);
        // A branch without commits has nothing staged against it.
        let staged = staged.run("list staged files").await?.stdout;
        Ok(split(&files).union(&split(&staged)).map(|path| String::from_utf8_lossy(path).into_owned()).collect())
    }

    /// Returns the files that git ignores. A folder ends with a slash.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn ignored(&self) -> PortResult<Vec<String>> {
        let list = ["ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"];
        let files = self.call(&self.index()).args(list).output("list ignored files").await?;
        Ok(split(&files).iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect())
    }

    fn refused(&self, why: &str) -> PortError {
        let dir = self.copy.dir.display();
        PortError::permanent(
            format!("uncommitted changes in {dir} are in the way: {why}; nothing was landed"),
            format!("commit the changes in {dir}, or set them aside with `git stash -u`, then run `skep unblock`"),
        )
    }

    /// Lists the files that differ between two commits.
    async fn entries(&self, base: &Sha, head: &Sha) -> PortResult<Vec<Entry>> {
        let call = self.git.call(&self.mirror).timeout(TREE_TIMEOUT);
        let call = call.args(["diff-tree", "-r", "-z", "--raw", "--no-renames", "--ignore-submodules=none"]);
        let output =
            call.args(["--end-of-options", base.as_str(), head.as_str()]).output("compare two commits").await?;
        Ok(parse(&output))
    }

    /// Compares the files of the working copy with both versions.
    async fn compare(&self, entries: &[Entry]) -> PortResult<Found> {
        let differ_from_new = self.differing(entries.iter().filter_map(|e| Some((&e.path, e.new.as_ref()?)))).await?;
        let differ_from_old = self.differing(entries.iter().filter_map(|e| Some((&e.path, e.old.as_ref()?)))).await?;
        let root = open_root(&self.copy.dir)?;
        let mut found = Found::default();
        for entry in entries {
            let is_new = entry.new.is_some() && !differ_from_new.contains(&entry.path);
            match kind(&root, &entry.path) {
                None if entry.new.is_none() => found.equal_new.insert(entry.path.clone()),
                None => continue,
                Some(_) if is_new => found.equal_new.insert(entry.path.clone()),
                Some(_) if entry.old.is_some() && !differ_from_old.contains(&entry.path) => continue,
                Some(_) => found.other.insert(entry.path.clone()),
            };
        }
        Ok(found)
    }

    /// Returns which of these files differ from their version here, or are missing.
    async fn differing<'e>(
        &self,
        versions: impl Iterator<Item = (&'e Vec<u8>, &'e (String, String))>,
    ) -> PortResult<BTreeSet<Vec<u8>>> {
        let index = self.scratch.path().join("compared");
        let stdin = index_info(versions.map(|(path, version)| (path, Some(version))));
        if stdin.is_empty() {
            return Ok(BTreeSet::new());
        }
        remove(&index).await?;
        let call = self.call(&index).args(["update-index", "-z", "--index-info"]).stdin(stdin);
        call.output("compare the files of the working copy").await?;
        let list = self.call(&index).args(["ls-files", "-z", "--modified"]);
        let output = list.output("compare the files of the working copy").await?;
        remove(&index).await?;
        Ok(split(&output))
    }

    /// Removes files whose writing was cut short by a kill: they have the beginning of the new content.
    async fn remove_partial(&self, entries: &[Entry], found: &mut Found) -> PortResult<()> {
        let candidates = entries.iter().filter(|e| found.other.contains(&e.path)).take(MAX_PARTIAL_FILES);
        let mut removed = Vec::new();
        for entry in candidates {
            let Some((mode, object)) = &entry.new else { continue };
            if !mode.starts_with("100") {
                continue;
            }
            let root = open_root(&self.copy.dir)?;
            let Some(bytes) = read_regular(&root, &entry.path) else { continue };
            let call = self.git.call(&self.mirror).args(["cat-file", "blob", object]);
            if call.output_head("read a file", bytes.len()).await? == bytes
                && let Some((parent, name)) = parent(&root, &entry.path)
                && rustix::fs::unlinkat(&parent, name, AtFlags::empty()).is_ok()
            {
                removed.push(entry.path.clone());
            }
        }
        found.other.retain(|path| !removed.contains(path));
        Ok(())
    }

    /// Copies the index of the working copy, so that an interruption leaves the original.
    async fn copy_index(&self) -> PortResult<()> {
        let (from, to) = (self.copy.git_dir.join("index"), self.index());
        run_blocking(move || {
            remove_path(&to)?;
            remove_path(&to.with_extension("lock"))?;
            match copy_index(&from, &to) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    Err(PortError::transient(format!("cannot copy {}: {e}", from.display())))
                }
                _ => Ok(()),
            }
        })
        .await
    }

    /// Returns the paths whose entry in the copied index is not that of a commit.
    async fn staged(&self, commit: &Sha) -> PortResult<BTreeSet<Vec<u8>>> {
        let call = self.call(&self.index()).args(["diff-index", "--cached", "-z", "--name-only", "--no-renames"]);
        let call = call.arg("--ignore-submodules=none").args(["--end-of-options", commit.as_str()]);
        Ok(split(&call.output("read the index of the working copy").await?))
    }

    /// Gives entries their new version in an index.
    async fn set_index<'e>(&self, index: &Path, entries: impl Iterator<Item = &'e Entry>) -> PortResult<()> {
        let stdin = index_info(entries.map(|e| (&e.path, e.new.as_ref())));
        if stdin.is_empty() {
            return Ok(());
        }
        let call = self.call(index).args(["update-index", "-z", "--index-info"]).stdin(stdin);
        call.output("prepare the index of the working copy").await.map(drop)
    }

    async fn read_tree(
        &self,
        dry_run: bool,
        base: &Sha,
        head: &Sha,
    ) -> PortResult<crate::platform::process::ProcessOutput> {
        // Its exit code only says whether something differs.
        self.call(&self.index()).args(["update-index", "-q", "--refresh"]).run("refresh the index").await?;
        let call = self.call(&self.index()).args(["read-tree", "-m", "-u"]);
        let call = if dry_run { call.arg("--dry-run") } else { call };
        let call = call.args(["--end-of-options", base.as_str(), head.as_str()]);
        call.run(&format!("update the files of {}", self.copy.dir.display())).await
    }
}

/// Puts a finished index in its place, with the owner and permissions of the old one.
fn install(from: &Path, to: &Path) -> std::io::Result<()> {
    let dir = to.parent().unwrap_or(Path::new("/"));
    let new = tempfile::Builder::new().prefix("index.skep.").tempfile_in(dir)?;
    copy_index(from, new.path())?;
    if let Ok(old) = std::fs::metadata(to) {
        use std::os::unix::fs::MetadataExt;
        new.as_file().set_permissions(old.permissions())?;
        // Only root can, and only then is it needed.
        let _own = std::os::unix::fs::chown(new.path(), Some(old.uid()), Some(old.gid()));
    }
    new.as_file().sync_all()?;
    new.persist(to).map_err(|e| e.error)?;
    std::fs::File::open(dir)?.sync_all()
}

async fn remove(path: &Path) -> PortResult<()> {
    let path = path.to_owned();
    run_blocking(move || remove_path(&path)).await
}

/// Formats entries for `update-index -z --index-info`; without a version, the entry is removed.
fn index_info<'e>(entries: impl Iterator<Item = (&'e Vec<u8>, Option<&'e (String, String)>)>) -> Vec<u8> {
    let mut text = Vec::new();
    for (path, version) in entries {
        match version {
            Some((mode, object)) => text.extend_from_slice(format!("{mode} {object}\t").as_bytes()),
            None => text.extend_from_slice(format!("0 {}\t", "0".repeat(40)).as_bytes()),
        }
        text.extend_from_slice(path);
        text.push(0);
    }
    text
}

/// Parses `diff-tree --raw -z`: `:old new old new status\0path\0`.
fn parse(output: &[u8]) -> Vec<Entry> {
    let mut fields = output.split(|b| *b == 0);
    let mut entries = Vec::new();
    while let (Some(head), Some(path)) = (fields.next(), fields.next()) {
        let head = String::from_utf8_lossy(head);
        let parts: Vec<&str> = head.trim_start_matches(':').split(' ').collect();
        let [old_mode, new_mode, old, new, _] = parts[..] else { continue };
        let version = |mode: &str, object: &str| (mode != "000000").then(|| (mode.to_owned(), object.to_owned()));
        entries.push(Entry { path: path.to_owned(), old: version(old_mode, old), new: version(new_mode, new) });
    }
    entries
}

fn split(bytes: &[u8]) -> BTreeSet<Vec<u8>> {
    bytes.split(|b| *b == 0).filter(|p| !p.is_empty()).map(<[u8]>::to_vec).collect()
}

fn names(paths: &[&Vec<u8>]) -> String {
    let shown: Vec<String> = paths.iter().take(MAX_NAMED).map(|p| String::from_utf8_lossy(p).into_owned()).collect();
    match paths.len().saturating_sub(MAX_NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn open_root(dir: &Path) -> PortResult<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty())
        .map_err(|e| PortError::transient(format!("cannot open {}: {e}", dir.display())))
}

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Returns the kind of a file; `None` = there is none. Nothing behind a link counts.
fn kind(root: &OwnedFd, path: &[u8]) -> Option<FileType> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (parent, name) = parent(root, path)?;
    let fd = openat2(&parent, name, flags, Mode::empty(), ResolveFlags::BENEATH).ok()?;
    Some(FileType::from_raw_mode(rustix::fs::fstat(&fd).ok()?.st_mode))
}

/// Opens the folder of a file, behind no link.
fn parent<'p>(root: &OwnedFd, path: &'p [u8]) -> Option<(OwnedFd, &'p OsStr)> {
    let path = Path::new(OsStr::from_bytes(path));
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Some((openat2(root, dir, flags, Mode::empty(), BENEATH).ok()?, path.file_name()?))
}

fn read_regular(root: &OwnedFd, path: &[u8]) -> Option<Vec<u8>> {
    use std::io::Read;
    let (parent, name) = parent(root, path)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(openat2(&parent, name, flags, Mode::empty(), BENEATH).ok()?);
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.len() > MAX_PARTIAL_BYTES {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_PARTIAL_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_entries_are_parsed_and_written_back() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let zero = "0".repeat(40);
        let raw = format!(":000000 100644 {zero} {a} A\0x\ny\0:100755 000000 {b} {zero} D\0d/e\0");
        let entries = parse(raw.as_bytes());
        assert_eq!(entries.len(), 2);
        assert!(entries[0].old.is_none() && entries[1].new.is_none());
        let info = index_info(entries.iter().map(|e| (&e.path, e.new.as_ref())));
        assert_eq!(String::from_utf8(info).unwrap(), format!("100644 {a}\tx\ny\x000 {zero}\td/e\0"));
    }
}
