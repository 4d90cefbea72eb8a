//! Pushes one branch to an origin by compare-and-swap.

use super::access::Access;
use super::leftovers::{is_git_at_work, reported_locks};
use super::lock::LockGuard;
use super::mirror::Mirrors;
use super::{Call, local::LocalView};
use crate::domain::Sha;
use crate::platform::process::ProcessOutput;
use crate::ports::{PortError, PortResult, Repo};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Maximum wait for a lock that a person's git holds on a branch.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// An update of a branch.
#[derive(Clone, Debug)]
pub struct BranchUpdate<'a> {
    /// The branch.
    pub branch: &'a str,
    /// Its new head; `None` = delete it.
    pub head: Option<&'a Sha>,
    /// The head it must have now; `None` = it must not exist.
    pub expected: Option<&'a Sha>,
    /// In a local origin, a lock on the branch that was made at this time or later and that no git holds is Skep's own;
    /// `None` = no lock is.
    pub own_locks_since: Option<SystemTime>,
}

impl Mirrors {
    /// Pushes an update. A dropped caller does not end it, because a git that is killed leaves its locks in the origin;
    /// `held` is released when it has ended, and returned.
    ///
    /// # Errors
    /// When git cannot be started or exceeds its timeout.
    pub async fn push(
        &self,
        repo: &Repo,
        access: &Access,
        update: BranchUpdate<'_>,
        doing: &str,
        held: Option<LockGuard>,
    ) -> (PortResult<ProcessOutput>, Option<LockGuard>) {
        let BranchUpdate { branch, head, expected, own_locks_since } = update;
        let call = self.call(repo).with_origin(access);
        let call = call.args(["push", "--porcelain", "--no-verify", "--no-follow-tags"]).args(access.receive_pack());
        let call = call.arg(format!("--force-with-lease=refs/heads/{branch}:{}", expected.map_or("", Sha::as_str)));
        let call = call.arg("--end-of-options").arg(access.address());
        let call = call.arg(format!("{}:refs/heads/{branch}", head.map_or("", Sha::as_str)));
        let (view, branch, doing) = (access.view.clone(), branch.to_owned(), doing.to_owned());
        let what = format!("cannot {doing}");
        let task =
            tokio::spawn(async move { (run(&call, view.as_ref(), &branch, own_locks_since, &doing).await, held) });
        task.await.unwrap_or_else(|e| (Err(PortError::Unknown { what: format!("{what}: {e}") }), None))
    }
}

/// Runs a push. Waits for a lock in a local origin, and removes one that a killed push of Skep left.
async fn run(
    call: &Call,
    view: Option<&LocalView>,
    branch: &str,
    own_locks_since: Option<SystemTime>,
    doing: &str,
) -> PortResult<ProcessOutput> {
    let deadline = tokio::time::Instant::now() + LOCK_TIMEOUT;
    loop {
        let finished = call.run(doing).await?;
        let Some(view) = view.filter(|_| !finished.ok()) else { return Ok(finished) };
        let locks = locks_of(view, &finished);
        if locks.is_empty() || tokio::time::Instant::now() >= deadline {
            return Ok(finished);
        }
        let own = view.repository.common_dir.join(format!("refs/heads/{branch}.lock"));
        if let Some(since) = own_locks_since
            && locks.contains(&own)
            && is_left_behind(view, &own, since)
        {
            tracing::warn!(lock = %own.display(), "removing a lock file that a killed push left");
            // If it cannot be removed, the next try reports it.
            let _left = std::fs::remove_file(&own);
            continue;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Returns the locks in a local origin that a push met, by their path there.
pub(super) fn locks_of(view: &LocalView, finished: &ProcessOutput) -> Vec<PathBuf> {
    let message = String::from_utf8_lossy(&finished.stderr);
    let in_view = |lock: PathBuf| {
        let name = lock.strip_prefix(&view.dir).ok().map_or(lock.clone(), Path::to_owned);
        let name = name.strip_prefix(".").ok().map_or(name.clone(), Path::to_owned);
        view.repository.common_dir.join(name)
    };
    reported_locks(&message).into_iter().map(in_view).collect()
}

/// Returns whether a lock was made at `since` or later by a git that is gone.
fn is_left_behind(view: &LocalView, lock: &Path, since: SystemTime) -> bool {
    let made = std::fs::symlink_metadata(lock).ok().filter(std::fs::Metadata::is_file).and_then(|m| m.modified().ok());
    let repository = &view.repository;
    made.is_some_and(|made| made >= since)
        && !is_git_at_work(&[&repository.common_dir, &repository.git_dir, &repository.top, &view.dir], true)
}

/// Creates the error for a push to a local origin that met a lock; `None` = it met none.
pub fn lock_error(access: &Access, finished: &ProcessOutput) -> Option<PortError> {
    let view = access.view.as_ref()?;
    let lock = locks_of(view, finished).into_iter().next()?;
    Some(PortError::permanent(
        format!("{} exists: another git is at work in {}, or one was killed there", lock.display(), access.redacted()),
        format!("wait for that git, or remove {} if none is running, then run `skep unblock`", lock.display()),
    ))
}
