//! What a person's working copy holds that its last commit does not.
//!
//! Invariant: the repository's own configuration is not read by git. It could name filters and monitors, which are
//! programs; the call uses a git directory of its own that borrows the objects and a copy of the index.

use super::Git;
use crate::platform::git::durable_fs::run_blocking;
use crate::ports::{PortError, PortResult};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A help for the person only: a working copy that takes longer is not reported.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Files that differ from the last commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UncommittedFiles {
    /// Paths of changed, added or deleted files that git tracks.
    pub changed: Vec<String>,
    /// Paths of files, and of folders that end with a slash, that git does not know and does not ignore.
    pub untracked: Vec<String>,
}

/// Where a working copy and its parts are.
struct Parts {
    root: PathBuf,
    objects: PathBuf,
    index: PathBuf,
    head: String,
}

/// Reads the state of the working copy at `folder`; `None` if there is none, as in a bare repository.
///
/// # Errors
/// When git cannot read it.
pub async fn uncommitted_files(git: &Git, folder: &Path) -> PortResult<Option<UncommittedFiles>> {
    let Some(parts) = with_repo_around(folder).await? else { return Ok(None) };
    let root = parts.root.clone();
    let Some(own) = run_blocking(move || own_git_dir(&parts)).await? else { return Ok(None) };
    let call = git.call(own.path()).on_worktree(&root, &own.path().join("index")).timeout(TIMEOUT);
    let options = ["--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal", "--ignore-submodules=all"];
    let output = call.arg("status").args(options).output("read the state of the working copy").await?;
    Ok(Some(parse(&output)))
}

async fn with_repo_around(folder: &Path) -> PortResult<Option<Parts>> {
    let folder = folder.to_owned();
    run_blocking(move || {
        let Ok(repo) = gix::open_opts(&folder, gix::open::Options::isolated().strict_config(false)) else {
            return Ok(None);
        };
        // Before the first commit there is nothing to compare with.
        let (Some(root), Ok(head)) = (repo.workdir(), repo.head_id()) else { return Ok(None) };
        Ok(Some(Parts {
            root: root.to_owned(),
            objects: repo.common_dir().join("objects"),
            index: repo.index_path(),
            head: head.to_string(),
        }))
    })
    .await
}

/// Creates a git directory that borrows the objects and copies the index; `None` if that cannot be expressed.
fn own_git_dir(parts: &Parts) -> PortResult<Option<tempfile::TempDir>> {
    let failed =
        |e: std::io::Error| PortError::transient(format!("cannot prepare to read the state of the working copy: {e}"));
    let Some(objects) = std::path::absolute(&parts.objects).ok().and_then(|p| p.into_os_string().into_string().ok())
    else {
        return Ok(None);
    };
    // One path a line; a quoted path would be taken apart.
    if objects.contains('\n') || objects.starts_with(['"', '#']) || !parts.index.is_file() {
        return Ok(None);
    }
    let own = tempfile::tempdir().map_err(failed)?;
    let write = |name: &str, text: &str| std::fs::write(own.path().join(name), text).map_err(failed);
    for dir in ["objects/info", "refs"] {
        std::fs::create_dir_all(own.path().join(dir)).map_err(failed)?;
    }
    write("HEAD", &format!("{}\n", parts.head))?;
    write("objects/info/alternates", &format!("{objects}\n"))?;
    std::fs::copy(&parts.index, own.path().join("index")).map_err(failed)?;
    Ok(Some(own))
}

/// Parses `XY path\0…`.
fn parse(output: &[u8]) -> UncommittedFiles {
    let mut found = UncommittedFiles::default();
    for entry in output.split(|b| *b == 0).filter(|e| e.len() > 3) {
        let path = String::from_utf8_lossy(&entry[3..]).into_owned();
        match &entry[..2] {
            b"??" => found.untracked.push(path),
            b"!!" => {}
            _ => found.changed.push(path),
        }
    }
    found
}
