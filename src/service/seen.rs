//! What a person saw of a run's changes, and what is new to them.

use super::artifacts::File;
use super::{Caller, ServiceError, ServiceResult, Services};
use crate::domain::{Run, Timestamp};
use crate::ports::seen_changes::SeenChange;
use crate::ports::{ChangeVersion, Repo};

/// How long it is remembered what somebody saw, in milliseconds.
const REMEMBER_MS: i64 = 90 * 86_400_000;

/// What changed since a person looked.
#[derive(Clone, Debug)]
pub struct Since {
    /// The difference, as a patch of at most 1 MiB.
    pub patch: File,
    /// Paths whose older version does not fit the newer base: they contain conflict markers there.
    pub conflicts: Vec<String>,
}

/// Records that the caller sees the changes of a run, and returns the version that they saw before, if it was another
/// one. Only people are remembered.
///
/// # Errors
/// If the store cannot be used.
pub async fn see(s: &Services, caller: &Caller, run: &Run) -> ServiceResult<Option<SeenChange>> {
    if !caller.principal.is_person() || run.head == run.base {
        return Ok(None);
    }
    let now = s.clock.now();
    let seen = SeenChange { base: run.base.clone(), head: run.head.clone(), at: now };
    let before = s.seen_changes.see(&caller.principal, run.id, &seen).await?;
    if before.is_some() {
        s.seen_changes.forget_seen(Timestamp(now.0 - REMEMBER_MS)).await?;
    }
    Ok(before)
}

/// Returns how the changes of a run differ from a version that was seen. If the base moved, only the changes are
/// compared, not the bases.
///
/// # Errors
/// `no_run`; `not_possible` if the commits that were seen are no longer stored.
pub async fn since(s: &Services, caller: &Caller, run: &Run, seen: &SeenChange) -> ServiceResult<Since> {
    if !caller.reads(run.project.as_str()) {
        return Err(ServiceError::no_run(&run.id.to_string()));
    }
    let repo = Repo { project: run.project.clone(), origin: run.settings.origin.clone() };
    let old = ChangeVersion { base: seen.base.clone(), head: seen.head.clone() };
    let new = ChangeVersion { base: run.base.clone(), head: run.head.clone() };
    let diff = s.workspaces.diff_versions(&repo, &old, &new).await?;
    let name = format!("{}-since-{}.patch", run.id.abbrev(), seen.head.abbrev());
    Ok(Since { patch: File { name, bytes: diff.patch }, conflicts: diff.conflicts })
}
