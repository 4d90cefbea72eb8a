//! Reads objects of a mirror in this process, with gix.

use super::durable_fs::run_blocking;
use super::object::{CommitParts, check_sha};
use crate::domain::Sha;
use crate::ports::{PortError, PortResult};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

fn read_error(doing: &str, error: &dyn std::fmt::Display) -> PortError {
    PortError::permanent(format!("cannot {doing}: {error}"), "`skep doctor` checks the mirror")
}

/// Opens a mirror and runs blocking work on it.
///
/// # Errors
/// When the mirror cannot be opened, and those of the work.
pub async fn with_repo<T: Send + 'static>(
    mirror: &Path,
    work: impl FnOnce(&gix::Repository) -> PortResult<T> + Send + 'static,
) -> PortResult<T> {
    let mirror = mirror.to_owned();
    run_blocking(move || {
        // Isolated: no environment, and no configuration except the mirror's own. Replacement refs would show other
        // bytes than those that are pushed.
        let options = gix::open::Options::isolated()
            .open_path_as_is(true)
            .strict_config(false)
            .config_overrides(["core.useReplaceRefs=false"]);
        let repo = gix::open_opts(&mirror, options).map_err(|e| read_error("open the mirror", &e))?;
        work(&repo)
    })
    .await
}

fn id(sha: &Sha) -> PortResult<gix::ObjectId> {
    check_sha(sha)?;
    gix::ObjectId::from_hex(sha.as_str().as_bytes()).map_err(|e| read_error("read a commit id", &e))
}

fn commit<'r>(repo: &'r gix::Repository, sha: &Sha) -> PortResult<gix::Commit<'r>> {
    repo.find_commit(id(sha)?).map_err(|e| read_error(&format!("find commit {}", sha.abbrev()), &e))
}

/// Returns the parts of a commit.
///
/// # Errors
/// When the commit does not exist.
pub async fn read_commit(mirror: &Path, sha: &Sha) -> PortResult<CommitParts> {
    let sha = sha.clone();
    with_repo(mirror, move |repo| {
        CommitParts::parse(&commit(repo, &sha)?.data)
            .ok_or_else(|| read_error("read commit", &format!("{sha} is malformed")))
    })
    .await
}

/// Returns the tree of a commit.
///
/// # Errors
/// When the commit does not exist.
pub async fn commit_tree(mirror: &Path, sha: &Sha) -> PortResult<Sha> {
    Ok(read_commit(mirror, sha).await?.tree)
}

/// Returns whether `older` is `newer` or one of its ancestors.
///
/// # Errors
/// When one of them is not in the mirror.
pub async fn is_ancestor(mirror: &Path, older: &Sha, newer: &Sha) -> PortResult<bool> {
    let (older, newer) = (older.clone(), newer.clone());
    with_repo(mirror, move |repo| {
        let (older, newer) = (commit(repo, &older)?.id, commit(repo, &newer)?.id);
        let base = repo.merge_base(older, newer);
        match base {
            Ok(base) => Ok(base.is_some_and(|base| base.detach() == older)),
            Err(e) => Err(read_error("compare two commits", &e)),
        }
    })
    .await
}

/// Returns the newest commits of a history, newest first, following the first parent of each.
///
/// # Errors
/// When the commit does not exist.
pub async fn first_parents(mirror: &Path, head: &Sha, max: usize) -> PortResult<Vec<Sha>> {
    let head = head.clone();
    with_repo(mirror, move |repo| {
        let (mut found, mut next) = (Vec::new(), Some(commit(repo, &head)?));
        while let Some(current) = next.filter(|_| found.len() < max) {
            found.push(Sha(current.id.to_string()));
            // A shallow history ends where its origin does.
            let parent = current.parent_ids().next().and_then(|id| repo.find_commit(id.detach()).ok());
            next = parent;
        }
        Ok(found)
    })
    .await
}

/// Reads a regular file at a commit: its bytes, or its size if that exceeds `max_bytes`. `None` = no such regular file.
///
/// # Errors
/// When the commit does not exist.
pub async fn read_blob(
    mirror: &Path,
    sha: &Sha,
    path: &str,
    max_bytes: u64,
) -> PortResult<Option<Result<Vec<u8>, u64>>> {
    let (sha, path) = (sha.clone(), path.to_owned());
    with_repo(mirror, move |repo| {
        let tree = commit(repo, &sha)?.tree().map_err(|e| read_error("read a tree", &e))?;
        let names: Vec<&str> = path.split('/').collect();
        if names.iter().any(|n| n.is_empty()) || names.len() > 256 {
            return Ok(None);
        }
        let entry = tree.lookup_entry(names.iter().map(|n| n.as_bytes())).map_err(|e| read_error("read a tree", &e))?;
        let Some(entry) = entry.filter(|e| e.mode().is_blob()) else { return Ok(None) };
        let size = repo.find_header(entry.object_id()).map_err(|e| read_error("read a file", &e))?.size();
        if size > max_bytes {
            return Ok(Some(Err(size)));
        }
        let mut blob = entry.object().map_err(|e| read_error("read a file", &e))?;
        Ok(Some(Ok(std::mem::take(&mut blob.data))))
    })
    .await
}

/// Reads files by their object ids; `None` = larger than `max_bytes`, or no file.
///
/// # Errors
/// When the mirror cannot be opened.
pub async fn read_objects(mirror: &Path, ids: Vec<String>, max_bytes: u64) -> PortResult<Vec<Option<Vec<u8>>>> {
    with_repo(mirror, move |repo| {
        let read = |id: &String| {
            let id = gix::ObjectId::from_hex(id.as_bytes()).ok()?;
            let small = repo.find_header(id).ok()?.size() <= max_bytes;
            small.then(|| repo.find_blob(id).ok().map(|mut blob| std::mem::take(&mut blob.data)))?
        };
        Ok(ids.iter().map(read).collect())
    })
    .await
}

/// Upper bound on a file whose beginning is read.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Reads the first `max_bytes` of files by their object ids; `None` = larger than 64 MiB, or no file.
///
/// # Errors
/// When the mirror cannot be opened.
pub async fn read_starts(mirror: &Path, ids: Vec<String>, max_bytes: usize) -> PortResult<Vec<Option<Vec<u8>>>> {
    with_repo(mirror, move |repo| {
        let read = |id: &String| {
            let id = gix::ObjectId::from_hex(id.as_bytes()).ok()?;
            let small = repo.find_header(id).ok()?.size() <= MAX_FILE_BYTES;
            small.then(|| repo.find_blob(id).ok().map(|blob| blob.data[..blob.data.len().min(max_bytes)].to_vec()))?
        };
        Ok(ids.iter().map(read).collect())
    })
    .await
}

/// Returns the names in each of these folders of a tree or commit, up to `max_names` in each; "" = the root. A folder
/// that does not exist has none.
///
/// # Errors
/// When the tree does not exist.
pub async fn folder_names(
    mirror: &Path,
    root: &Sha,
    folders: BTreeSet<String>,
    max_names: usize,
) -> PortResult<BTreeMap<String, BTreeSet<String>>> {
    let root = root.clone();
    with_repo(mirror, move |repo| {
        let object = repo.find_object(id(&root)?).map_err(|e| read_error("read a tree", &e))?;
        let tree = object.peel_to_tree().map_err(|e| read_error("read a tree", &e))?;
        let names = |tree: &gix::Tree<'_>| {
            let names = tree.iter().filter_map(Result::ok).map(|entry| entry.filename().to_string());
            names.take(max_names).collect::<BTreeSet<String>>()
        };
        let mut found = BTreeMap::new();
        for folder in folders {
            let listed = if folder.is_empty() {
                names(&tree)
            } else {
                let parts = folder.split('/').map(str::as_bytes);
                let entry = tree.lookup_entry(parts).map_err(|e| read_error("read a tree", &e))?;
                let inner = entry.filter(|e| e.mode().is_tree()).and_then(|e| e.object().ok()?.try_into_tree().ok());
                inner.as_ref().map(names).unwrap_or_default()
            };
            found.insert(folder, listed);
        }
        Ok(found)
    })
    .await
}

/// Folders of other people's code: the folder itself is listed, with a slash at its end, and none of its files.
const FOREIGN: &[&str] = &["node_modules", "third_party", "vendor"];

/// Returns the paths of the files at a commit, up to `max_paths`: folder by folder from the root down, so that a limit
/// cuts off the deepest ones.
///
/// # Errors
/// When the commit does not exist.
pub async fn paths(mirror: &Path, sha: &Sha, max_paths: usize) -> PortResult<Vec<String>> {
    let sha = sha.clone();
    with_repo(mirror, move |repo| {
        let mut found = Vec::new();
        let mut folders = VecDeque::from([(String::new(), commit(repo, &sha)?.tree_id().map(gix::Id::detach))]);
        let mut visited = 0;
        while let Some((folder, tree)) = folders.pop_front() {
            let tree = tree.map_err(|e| read_error("read a tree", &e))?;
            let tree = repo.find_tree(tree).map_err(|e| read_error("read a tree", &e))?;
            for entry in tree.iter() {
                let entry = entry.map_err(|e| read_error("read a tree", &e))?;
                let path = format!("{folder}{}", entry.filename());
                if entry.mode().is_tree() {
                    // Nested folders without files would otherwise not be bounded.
                    if FOREIGN.iter().any(|name| *entry.filename() == *name) {
                        found.push(format!("{path}/"));
                    } else if visited < max_paths {
                        visited += 1;
                        folders.push_back((format!("{path}/"), Ok(entry.object_id())));
                    }
                } else if found.len() < max_paths {
                    found.push(path);
                } else {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    })
    .await
}
