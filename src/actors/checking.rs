//! Runs the checks of a project on one commit, in a checkout of their own.

use super::deps::Deps;
use super::notifications::Notification;
use super::target::RunTarget;
use crate::domain::{CheckResult, CheckSpec, Sha};
use crate::ports::checks::{CheckProgress, CheckWatch};
use crate::ports::{PortResult, Trust};
use std::sync::Arc;

/// Runs the checks on exactly this commit in a fresh checkout with this name. Returns the results, and the wall time in
/// milliseconds.
pub(super) async fn check(
    deps: &Deps,
    target: &RunTarget,
    (name, trust): (&str, Trust),
    sha: &Sha,
    specs: &[CheckSpec],
) -> PortResult<(Vec<CheckResult>, u64)> {
    let started = deps.clock.monotonic();
    let dir = deps.workspaces.check_dir(&target.repo, target.run, name, sha).await?;
    let (cache, _) = deps.workspaces.scratch_dirs(target.run, name);
    let (notifications, run) = (deps.notifications.clone(), target.run);
    let watch: CheckWatch = Arc::new(move |progress| {
        if let CheckProgress::Output { name, line } = progress {
            notifications.send(Notification::CheckOutput { run, check: name, text: line });
        }
    });
    let checked = deps.parts().checks.run_watched(&target.repo, &dir, &cache, trust, specs, watch).await?;
    crate::fault!("after-check");
    let mut results = Vec::with_capacity(checked.len());
    for check in checked {
        let mut result = check.result;
        for (kind, name, bytes) in &check.files {
            result.artifacts.push(deps.store.put_artifact(target.run, *kind, name, bytes).await?);
        }
        results.push(result);
    }
    deps.workspaces.remove_dir(&target.repo, target.run, name).await?;
    let wall_ms = u64::try_from(deps.clock.monotonic().saturating_sub(started).as_millis()).unwrap_or(u64::MAX);
    Ok((results, wall_ms))
}
