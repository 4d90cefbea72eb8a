//! A worktree: created atomically, with a disposable repository inside for the agent's own use.

use super::GitWorkspaces;
use crate::domain::Sha;
use crate::platform::git::durable_fs::{copy_index, make_dir, read_text, remove_path, run_blocking, write_atomic};
use crate::platform::git::{TREE_TIMEOUT, check_sha};
use crate::ports::{PortError, PortResult, Repo};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Paths of a worktree and of Skep's records about it.
#[derive(Clone, Debug)]
pub(super) struct WorktreePaths {
    /// The worktree, which the agent sees.
    pub dir: PathBuf,
    /// The index and the markers, which only Skep sees.
    pub sealed: PathBuf,
}

impl WorktreePaths {
    /// Returns the path of the trusted index, which describes the checkout.
    pub fn index(&self) -> PathBuf {
        self.sealed.join("index")
    }
    /// Returns the path of the index that commits are made from.
    pub fn staged_index(&self) -> PathBuf {
        self.sealed.join("index.work")
    }
    /// Returns the path of the marker with the checked-out commit. It is written last; without it, the worktree is
    /// incomplete.
    pub fn ready(&self) -> PathBuf {
        self.sealed.join("ready")
    }
    /// Returns the path of the file with the last commit made from this worktree.
    pub fn last(&self) -> PathBuf {
        self.sealed.join("last")
    }

    /// Returns the commit that is checked out here, if the worktree is complete.
    pub async fn head(&self) -> PortResult<Option<Sha>> {
        let (ready, dir) = (self.ready(), self.dir.clone());
        run_blocking(move || {
            let is_dir = std::fs::symlink_metadata(dir).is_ok_and(|m| m.is_dir());
            let head = read_text(&ready)?.map(|t| Sha(t.trim().to_owned()));
            Ok(head.filter(|sha| is_dir && check_sha(sha).is_ok()))
        })
        .await
    }

    /// Returns the last commit made here.
    pub async fn last_commit(&self) -> PortResult<Option<Sha>> {
        let last = self.last();
        run_blocking(move || Ok(read_text(&last)?.map(|t| Sha(t.trim().to_owned())).filter(|s| check_sha(s).is_ok())))
            .await
    }

    /// Removes both folders, the marker first, so that an interruption leaves the worktree marked as incomplete.
    pub async fn remove(&self) -> PortResult<()> {
        let paths = self.clone();
        run_blocking(move || {
            remove_path(&paths.ready())?;
            remove_path(&paths.dir)?;
            remove_path(&paths.sealed)
        })
        .await
    }
}

/// Counts `<size>\0` entries incrementally.
#[derive(Debug, Default)]
struct SizeCounter {
    files: u64,
    bytes: u64,
    current: u64,
}

impl SizeCounter {
    fn push(&mut self, chunk: &[u8]) {
        for byte in chunk {
            match byte {
                b'0'..=b'9' => self.current = self.current.saturating_mul(10).saturating_add(u64::from(byte - b'0')),
                0 => {
                    self.files += 1;
                    self.bytes = self.bytes.saturating_add(std::mem::take(&mut self.current));
                }
                _ => {}
            }
        }
    }
}

impl GitWorkspaces {
    /// Recreates the worktree at `head`.
    pub(super) async fn check_out(&self, repo: &Repo, paths: &WorktreePaths, head: &Sha) -> PortResult<()> {
        self.check_size(repo, head).await?;
        paths.remove().await?;
        let new = paths.clone();
        run_blocking(move || make_dir(&new.dir).and_then(|()| make_dir(&new.sealed))).await?;
        let tree = self.mirrors.call(repo).on_worktree(&paths.dir, &paths.index()).timeout(TREE_TIMEOUT);
        let tree = tree.args(["read-tree", "--reset", "-u", "--end-of-options", head.as_str()]);
        tree.output(&format!("check out {}", head.abbrev())).await?;
        crate::fault!("mid-checkout");
        self.write_agent_repo(repo, paths, head).await?;
        let (ready, text) = (paths.ready(), format!("{head}\n"));
        run_blocking(move || write_atomic(&ready, text.as_bytes())).await
    }

    /// Moves a worktree whose files equal those of `head` to `head`, leaving ignored files alone.
    pub(super) async fn move_head(&self, repo: &Repo, paths: &WorktreePaths, head: &Sha) -> PortResult<()> {
        if paths.head().await?.as_ref() == Some(head) {
            return self.write_agent_repo(repo, paths, head).await;
        }
        let ready = paths.ready();
        run_blocking(move || remove_path(&ready)).await?;
        let tree = self.mirrors.call(repo).on_worktree(&paths.dir, &paths.index()).timeout(TREE_TIMEOUT);
        let tree = tree.args(["read-tree", "--reset", "-u", "--end-of-options", head.as_str()]);
        tree.output(&format!("move the worktree to {}", head.abbrev())).await?;
        self.write_agent_repo(repo, paths, head).await?;
        let (ready, text) = (paths.ready(), format!("{head}\n"));
        run_blocking(move || write_atomic(&ready, text.as_bytes())).await
    }

    /// Brings the content of `work` into a worktree that is clean at its head and stays there.
    pub(super) async fn put_content(&self, repo: &Repo, paths: &WorktreePaths, work: &Sha) -> PortResult<()> {
        self.check_size(repo, work).await?;
        // The trusted index keeps describing the head, so the files are written from a copy of it.
        let (index, copy) = (paths.index(), paths.staged_index());
        let to = copy.clone();
        run_blocking(move || {
            remove_path(&to)?;
            copy_index(&index, &to).map_err(|e| PortError::transient(format!("cannot copy {}: {e}", index.display())))
        })
        .await?;
        let tree = self.mirrors.call(repo).on_worktree(&paths.dir, &copy).timeout(TREE_TIMEOUT);
        let tree = tree.args(["read-tree", "--reset", "-u", "--end-of-options", work.as_str()]);
        tree.output(&format!("bring the work of {} into the worktree", work.abbrev())).await?;
        Ok(())
    }

    /// Refuses a commit whose tree exceeds the limits, listing no more than needed: a few objects can name billions of
    /// files.
    async fn check_size(&self, repo: &Repo, head: &Sha) -> PortResult<()> {
        let tally = Arc::new(Mutex::new(SizeCounter::default()));
        let (counting, limits) = (Arc::clone(&tally), self.limits);
        let list = ["ls-tree", "-r", "-z", "--full-tree", "--format=%(objectsize)", "--end-of-options", head.as_str()];
        let call = self.mirrors.call(repo).timeout(TREE_TIMEOUT).args(list);
        call.stream_output(&format!("list the files of {}", head.abbrev()), move |chunk| {
            let Ok(mut counter) = counting.lock() else { return ControlFlow::Break(()) };
            counter.push(chunk);
            if counter.files > limits.files || counter.bytes > limits.bytes {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .await?;
        let over = tally.lock().map_or(true, |t| t.files > limits.files || t.bytes > limits.bytes);
        if over {
            return Err(PortError::permanent(
                format!("commit {} has more than {} files or {} MiB", head.abbrev(), limits.files, limits.bytes >> 20),
                "use a smaller repository; this limit prevents one run from filling the disk",
            ));
        }
        Ok(())
    }

    /// Writes a separate repository into the worktree for git commands of agents and checks: the newest commits and
    /// their tags, the same index, no link to the mirror. Skep never reads it back.
    pub(super) async fn write_agent_repo(&self, repo: &Repo, paths: &WorktreePaths, head: &Sha) -> PortResult<()> {
        let dot_git = paths.dir.join(".git");
        let dir = dot_git.clone();
        run_blocking(move || {
            remove_path(&dir)?;
            make_dir(&dir.join("objects/pack"))?;
            make_dir(&dir.join("refs/heads"))
        })
        .await?;
        // The newest commits, packed like a shallow fetch: nothing is compressed or hashed again.
        let history = self.history(repo, head).await?;
        let pack = ["pack-objects", "--quiet", "--revs", "--delta-base-offset"];
        let pack = self.mirrors.call(repo).timeout(TREE_TIMEOUT).args(pack).arg(dot_git.join("objects/pack/pack"));
        pack.stdin(history.revs(head)).output("pack the agent's own repository").await?;
        let (index, head) = (paths.index(), head.clone());
        let identity = self.git().identity().clone();
        run_blocking(move || {
            let clean = |t: &str| t.chars().filter(|c| !c.is_control() && !"\"\\".contains(*c)).collect::<String>();
            let config = format!(
                "[core]\n\trepositoryformatversion = 0\n\tbare = false\n[gc]\n\tauto = 0\n[user]\n\tname = \"{}\"\n\temail = \"{}\"\n",
                clean(&identity.name),
                clean(&identity.email)
            );
            let files = [
                ("config", config),
                ("shallow", history.shallow()),
                ("packed-refs", history.packed_refs()),
                ("refs/heads/work", format!("{head}\n")),
                ("HEAD", "ref: refs/heads/work\n".to_owned()),
            ];
            let write = || -> std::io::Result<()> {
                // An empty `shallow` would call a complete history shallow.
                for (name, text) in files.into_iter().filter(|(_, text)| !text.is_empty()) {
                    std::fs::write(dot_git.join(name), text)?;
                }
                copy_index(&index, &dot_git.join("index"))
            };
            write().map_err(|e| PortError::transient(format!("cannot write {}: {e}", dot_git.display())))
        })
        .await
    }
}
