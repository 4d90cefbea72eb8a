//! What the checks of base commits left in their homes and caches, kept for each project: downloads, build outputs.
//!
//! The checks of any other commit start from a copy, so that they need not download and build everything again.
//!
//! Invariant: only [`Caches::keep`] adds something, and it is called for base commits only. A command writes to copies.

use crate::domain::ProjectName;
use crate::platform::git::durable_fs::{make_dir, remove_path, run_blocking};
use crate::platform::rooted_fs::RootedDir;
use crate::platform::sandbox::copy_tree;
use crate::ports::PortResult;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::sync::RwLock;

/// Caches kept for one project: with two, a branch that changes dependencies does not displace those of the base.
const KEPT_MAX: usize = 2;
/// Upper bound of one cache, in bytes. A larger one is not kept, because copying it would take longer than it saves.
const BYTES_MAX: u64 = 4 << 30;
/// Upper bound of a lock file that is read, in bytes.
const LOCK_FILE_BYTES_MAX: u64 = 64 << 20;
/// Hexadecimal digits of a folder's name.
const NAME_CHARS: usize = 32;

/// Files in the root folder that decide which dependencies a project has. What they pin is what its caches contain.
#[rustfmt::skip]
const LOCK_FILES: &[&str] = &[
    "Cargo.lock", "Gemfile.lock", "Pipfile.lock", "build.gradle", "build.gradle.kts", "bun.lock", "bun.lockb", "composer.lock",
    "conda-lock.yml", "deno.lock", "flake.lock", "go.sum", "go.work.sum", "gradle.lockfile", "mix.lock", "npm-shrinkwrap.json",
    "package-lock.json", "packages.lock.json", "paket.lock", "pdm.lock", "pixi.lock", "pnpm-lock.yaml", "poetry.lock", "pom.xml",
    "requirements.txt", "uv.lock", "yarn.lock",
];

/// Whether the commands of a project may reach hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// They may, so that they download into caches of their own.
    Open,
    /// They may not. Their caches have links to what the host has downloaded, and nothing can be downloaded into these.
    Closed,
}

impl Network {
    /// Returns the networks whose caches are usable with this one, the best first.
    fn usable(self) -> &'static [Network] {
        match self {
            Network::Open => &[Network::Open],
            Network::Closed => &[Network::Open, Network::Closed],
        }
    }
}

/// The kept caches of all projects. Without a folder, nothing is kept.
#[derive(Clone, Debug, Default)]
pub struct Caches {
    root: Option<PathBuf>,
    /// Identifies the toolchains and the user that filled them.
    environment: String,
}

/// Held for writing while a cache is replaced, and for reading while one is copied. One for all: a reload of the
/// configuration does not separate readers from writers.
static IN_USE: RwLock<()> = RwLock::const_new(());

impl Caches {
    /// Keeps caches in the folder `root`, for this environment.
    pub fn in_dir(root: &Path, environment: &str) -> Caches {
        Caches { root: Some(root.to_owned()), environment: environment.to_owned() }
    }

    /// Fills the new folder `to` with the cache for the lock files of the checkout `dir`, else with the project's newest
    /// one. Without one, or if it cannot be copied, `to` is not created: commands then start from nothing.
    pub async fn fill(&self, project: &ProjectName, network: Network, dir: &Path, to: &Path) {
        let usable: Vec<PathBuf> = network.usable().iter().filter_map(|n| self.of_project(project, *n)).collect();
        let (name, to) = (self.name(dir), to.to_owned());
        let _in_use = IN_USE.read().await;
        let copied = run_blocking(move || {
            let Some(from) = best(&usable, &name) else { return Ok(()) };
            if std::fs::symlink_metadata(&to).is_ok() {
                return Ok(());
            }
            if let Err(error) = copy_tree(&from, &to, BYTES_MAX) {
                tracing::warn!(from = %from.display(), %error, "cannot copy the caches of base commits; starting without");
                remove_path(&to)?;
            }
            Ok(())
        });
        if let Err(error) = copied.await {
            tracing::warn!(%error, "cannot fill the caches of a command; it may fail");
        }
    }

    /// Keeps the folder `from`, which only commands of a base commit have written to. It is moved, not copied.
    pub async fn keep(&self, project: &ProjectName, network: Network, dir: &Path, from: &Path) {
        let Some(of_project) = self.of_project(project, network) else { return };
        let (name, from) = (self.name(dir), from.to_owned());
        let _in_use = IN_USE.write().await;
        let kept = run_blocking(move || {
            make_dir(&of_project)?;
            let target = of_project.join(&name);
            remove_path(&target)?;
            let moved = std::fs::rename(&from, &target).and_then(|()| {
                // The newest is preferred, and the oldest is removed.
                std::fs::File::open(&target)?.set_modified(SystemTime::now())
            });
            if let Err(error) = moved {
                tracing::warn!(from = %from.display(), %error, "cannot keep the caches of a base commit");
            }
            newest_first(&of_project).into_iter().skip(KEPT_MAX).try_for_each(|old| remove_path(&old))
        });
        if let Err(error) = kept.await {
            tracing::warn!(%error, "cannot keep the caches of a base commit");
        }
    }

    fn of_project(&self, project: &ProjectName, network: Network) -> Option<PathBuf> {
        let mut parts = vec![project.as_str().as_bytes(), self.environment.as_bytes()];
        if network == Network::Open {
            parts.push(b"network");
        }
        Some(self.root.as_ref()?.join(digest(parts)))
    }

    /// Names the cache for the lock files of a checkout.
    fn name(&self, dir: &Path) -> String {
        let tree = RootedDir::open(dir).ok();
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for file in LOCK_FILES {
            if let Some(bytes) = tree.as_ref().and_then(|tree| tree.read(file, LOCK_FILE_BYTES_MAX).ok()) {
                parts.extend([file.as_bytes().to_vec(), bytes]);
            }
        }
        digest(parts.iter().map(Vec::as_slice))
    }
}

/// Removes the folder of a run of checks, whatever a command left in it.
pub async fn clear(cache: &Path) -> PortResult<()> {
    let cache = cache.to_owned();
    run_blocking(move || remove_path(&cache)).await
}

/// Returns the cache with this name, else the newest one, of the first folder that has one.
fn best(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    let exact = folders.iter().map(|folder| folder.join(name)).find(|exact| exact.is_dir());
    exact.or_else(|| folders.iter().find_map(|folder| newest_first(folder).into_iter().next()))
}

fn newest_first(of_project: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(of_project) else { return Vec::new() };
    let mut found: Vec<(SystemTime, PathBuf)> =
        entries.flatten().filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path()))).collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

/// Returns a folder name for these parts, in which their borders count.
fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hex.chars().take(NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn dirs() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (tree, cache) = (root.path().join("tree"), root.path().join("run/check"));
        fs::create_dir_all(&tree).unwrap();
        (root, tree, cache)
    }

    async fn keep(caches: &Caches, project: &str, tree: &Path, cache: &Path, text: &str) {
        fs::create_dir_all(cache).unwrap();
        fs::write(cache.join("from"), text).unwrap();
        caches.keep(&ProjectName::new(project).unwrap(), Network::Closed, tree, cache).await;
        assert!(!cache.exists(), "it was moved");
    }

    async fn filled(caches: &Caches, project: &str, tree: &Path, to: &Path) -> Option<String> {
        caches.fill(&ProjectName::new(project).unwrap(), Network::Closed, tree, to).await;
        let text = fs::read_to_string(to.join("from")).ok();
        remove_path(to).unwrap();
        text
    }

    #[tokio::test]
    async fn the_lock_file_selects_the_cache_and_the_newest_replaces_a_missing_one() {
        let (root, tree, cache) = dirs();
        let caches = Caches::in_dir(&root.path().join("caches"), "here");
        assert_eq!(filled(&caches, "one", &tree, &cache).await, None, "there is none yet");
        for lock in ["a", "b", "c"] {
            fs::write(tree.join("Cargo.lock"), lock).unwrap();
            keep(&caches, "one", &tree, &cache, lock).await;
        }
        for (lock, expected) in [("c", "c"), ("b", "b"), ("a", "c"), ("new", "c")] {
            fs::write(tree.join("Cargo.lock"), lock).unwrap();
            assert_eq!(filled(&caches, "one", &tree, &cache).await.as_deref(), Some(expected), "{lock}");
        }
        assert_eq!(filled(&caches, "other", &tree, &cache).await, None, "projects share nothing");
        let elsewhere = Caches::in_dir(&root.path().join("caches"), "other toolchains");
        assert_eq!(filled(&elsewhere, "one", &tree, &cache).await, None);
    }

    #[tokio::test]
    async fn what_a_command_does_to_its_copy_changes_no_kept_cache() {
        let (root, tree, cache) = dirs();
        let caches = Caches::in_dir(&root.path().join("caches"), "here");
        keep(&caches, "one", &tree, &cache, "base").await;
        let project = ProjectName::new("one").unwrap();
        caches.fill(&project, Network::Closed, &tree, &cache).await;
        fs::write(cache.join("from"), "changed").unwrap();
        fs::write(cache.join("more"), "planted").unwrap();
        remove_path(&cache).unwrap();
        caches.fill(&project, Network::Closed, &tree, &cache).await;
        assert_eq!(fs::read_to_string(cache.join("from")).unwrap(), "base");
        assert!(!cache.join("more").exists());
    }

    #[tokio::test]
    async fn links_to_what_the_host_downloaded_do_not_get_in_the_way_of_downloads() {
        let (root, tree, cache) = dirs();
        let caches = Caches::in_dir(&root.path().join("caches"), "here");
        let project = ProjectName::new("one").unwrap();
        let found = async |network| {
            caches.fill(&project, network, &tree, &cache).await;
            let text = fs::read_to_string(cache.join("from")).ok();
            remove_path(&cache).unwrap();
            text
        };
        keep(&caches, "one", &tree, &cache, "links").await;
        assert_eq!(found(Network::Closed).await.as_deref(), Some("links"));
        assert_eq!(found(Network::Open).await, None, "once hosts are allowed, the caches start empty");
        fs::create_dir_all(&cache).unwrap();
        fs::write(cache.join("from"), "downloads").unwrap();
        caches.keep(&project, Network::Open, &tree, &cache).await;
        assert_eq!(found(Network::Open).await.as_deref(), Some("downloads"));
        assert_eq!(found(Network::Closed).await.as_deref(), Some("downloads"), "a closed network uses them as well");
    }
}
