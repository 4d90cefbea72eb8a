//! Reading a mirror's objects in this process, with gix.

use super::durable_fs::run_blocking;
use super::object::{CommitParts, check_sha};
use crate::domain::Sha;
use crate::ports::{PortError, PortResult};
use std::path::Path;

fn failed(doing: &str, error: &dyn std::fmt::Display) -> PortError {
    PortError::permanent(format!("cannot {doing}: {error}"), "see the message; `skep doctor` checks the mirror")
}

/// Opens a mirror and does some reading where it may block.
///
/// # Errors
/// When it cannot be opened; those of the work.
pub async fn with_repo<T: Send + 'static>(
    mirror: &Path,
    work: impl FnOnce(&gix::Repository) -> PortResult<T> + Send + 'static,
) -> PortResult<T> {
    let mirror = mirror.to_owned();
    run_blocking(move || {
        // Isolated: no configuration but the mirror's own, no environment; replacements would show other bytes than are
        // pushed.
        let options = gix::open::Options::isolated()
            .open_path_as_is(true)
            .strict_config(false)
            .config_overrides(["core.useReplaceRefs=false"]);
        let repo = gix::open_opts(&mirror, options).map_err(|e| failed("open the mirror", &e))?;
        work(&repo)
    })
    .await
}

fn id(sha: &Sha) -> PortResult<gix::ObjectId> {
    check_sha(sha)?;
    gix::ObjectId::from_hex(sha.as_str().as_bytes()).map_err(|e| failed("read a commit id", &e))
}

fn commit<'r>(repo: &'r gix::Repository, sha: &Sha) -> PortResult<gix::Commit<'r>> {
    repo.find_commit(id(sha)?).map_err(|e| failed(&format!("find commit {}", sha.abbrev()), &e))
}

/// A commit's parts.
///
/// # Errors
/// When there is no such commit.
pub async fn read_commit(mirror: &Path, sha: &Sha) -> PortResult<CommitParts> {
    let sha = sha.clone();
    with_repo(mirror, move |repo| {
        CommitParts::read(&commit(repo, &sha)?.data)
            .ok_or_else(|| failed("read commit", &format!("{sha} is malformed")))
    })
    .await
}

/// A commit's tree.
///
/// # Errors
/// When there is no such commit.
pub async fn commit_tree(mirror: &Path, sha: &Sha) -> PortResult<Sha> {
    Ok(read_commit(mirror, sha).await?.tree)
}

/// Whether `older` is contained in `newer`. Both must be in the mirror.
///
/// # Errors
/// When one is missing.
pub async fn is_ancestor(mirror: &Path, older: &Sha, newer: &Sha) -> PortResult<bool> {
    let (older, newer) = (older.clone(), newer.clone());
    with_repo(mirror, move |repo| {
        let (older, newer) = (commit(repo, &older)?.id, commit(repo, &newer)?.id);
        let base = repo.merge_base(older, newer);
        match base {
            Ok(base) => Ok(base.is_some_and(|base| base.detach() == older)),
            Err(e) => Err(failed("compare two commits", &e)),
        }
    })
    .await
}

/// A regular file at a commit: its bytes up to `most`, and whether that is all. `None` = no such regular file.
///
/// # Errors
/// When there is no such commit, or the file is far too large to look into.
pub async fn read_blob(mirror: &Path, sha: &Sha, path: &str, most: u64) -> PortResult<Option<Result<Vec<u8>, u64>>> {
    let (sha, path) = (sha.clone(), path.to_owned());
    with_repo(mirror, move |repo| {
        let tree = commit(repo, &sha)?.tree().map_err(|e| failed("read a tree", &e))?;
        let names: Vec<&str> = path.split('/').collect();
        if names.iter().any(|n| n.is_empty()) || names.len() > 256 {
            return Ok(None);
        }
        let entry = tree.lookup_entry(names.iter().map(|n| n.as_bytes())).map_err(|e| failed("read a tree", &e))?;
        let Some(entry) = entry.filter(|e| e.mode().is_blob()) else { return Ok(None) };
        let size = repo.find_header(entry.object_id()).map_err(|e| failed("read a file", &e))?.size();
        if size > most {
            return Ok(Some(Err(size)));
        }
        let mut blob = entry.object().map_err(|e| failed("read a file", &e))?;
        Ok(Some(Ok(std::mem::take(&mut blob.data))))
    })
    .await
}

/// The names in the root folder, capped.
///
/// # Errors
/// When there is no such commit.
pub async fn root_names(mirror: &Path, sha: &Sha, most: usize) -> PortResult<Vec<String>> {
    let sha = sha.clone();
    with_repo(mirror, move |repo| {
        let tree = commit(repo, &sha)?.tree().map_err(|e| failed("read a tree", &e))?;
        let names = tree.iter().take(most).map(|entry| match entry {
            Ok(entry) => Ok(entry.filename().to_string()),
            Err(e) => Err(failed("read a tree", &e)),
        });
        names.collect()
    })
    .await
}
