//! Artifacts, patches and logs of runs.

use super::runs::{find_id, load};
use super::{Caller, Right, ServiceError, ServiceResult, Services};
use crate::domain::{ArtifactKind, ArtifactRef, AttemptId, Digest, Run, TaskId};
use crate::ports::Repo;
use crate::ports::blobs::ArtifactBytes;
use crate::render::utc;
use std::collections::BTreeMap;

/// Bytes with a file name.
#[derive(Clone, Debug)]
pub struct File {
    /// Name. May come from outside.
    pub name: String,
    /// Bytes.
    pub bytes: Vec<u8>,
}

/// Log, transcript or test report, with the attempt and task it belongs to.
#[derive(Clone, Debug)]
pub struct Log {
    /// Reference to the bytes.
    pub artifact: ArtifactRef,
    /// Attempt that wrote it; `None` for checks.
    pub attempt: Option<AttemptId>,
    /// Task, if known.
    pub task: Option<TaskId>,
}

/// Lists the artifacts of a run, oldest first.
///
/// # Errors
/// `no_run` or `several_runs`.
pub async fn list(s: &Services, caller: &Caller, run: &str) -> ServiceResult<Vec<ArtifactRef>> {
    let run = find_id(s, caller, Right::Read, run).await?;
    Ok(s.store.artifacts(run).await?)
}

/// Returns the bytes of an artifact of a run.
///
/// # Errors
/// `no_artifact`, and those of [`list`].
pub async fn bytes(s: &Services, caller: &Caller, run: &str, digest: &str) -> ServiceResult<File> {
    let run = find_id(s, caller, Right::Read, run).await?;
    let is_digest = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
    let found = match is_digest {
        true => s.store.artifact(run, &Digest(digest.to_ascii_lowercase())).await?,
        false => None,
    };
    match found {
        Some((artifact, ArtifactBytes::Stored(bytes))) => Ok(File { name: artifact.name, bytes }),
        Some((artifact, ArtifactBytes::RemovedAt(at))) => Err(ServiceError::not_found(
            "no_artifact",
            format!("{} was removed at {}, long after the run had ended", artifact.name, utc(at)),
            "The run's journal, patches and reviews are still there",
        )),
        None => Err(ServiceError::not_found(
            "no_artifact",
            "the run has no artifact with this digest",
            "List the artifacts of the run to see their digests",
        )),
    }
}

/// Returns the diff of a run's branch against its base, or the one that a task's latest attempt left; at most 1 MiB.
///
/// # Errors
/// `no_patch` if nothing changed yet, and those of [`list`].
pub async fn patch(s: &Services, caller: &Caller, run: &str, task: Option<&str>) -> ServiceResult<File> {
    let run = load(s, caller, Right::Read, run).await?;
    let none =
        |what: &str| ServiceError::not_found("no_patch", what, "Show the run: its tasks and diff show what changed");
    if let Some(task) = task {
        let found = latest_patch(&run, task).ok_or_else(|| none("this task has not left a patch"))?;
        let stored = s.store.artifact(run.id, &found.digest).await?;
        let Some((_, ArtifactBytes::Stored(bytes))) = stored else { return Err(none("the patch is no longer stored")) };
        return Ok(File { name: format!("{}-{task}.patch", run.id.abbrev()), bytes });
    }
    if run.head == run.base {
        let tasks = tasks_with_patches(&run);
        return Err(match tasks.as_slice() {
            [] => none("nothing has changed yet"),
            tasks => ServiceError::not_found(
                "no_run_patch",
                format!("the run's branch has no changes yet; {} left changes of its own", tasks.join(", ")),
                "Ask for the patch of a task",
            ),
        });
    }
    let repo = Repo { project: run.project.clone(), origin: run.settings.origin.clone() };
    let (_, bytes) = s.workspaces.diff(&repo, &run.base, &run.head).await?;
    Ok(File { name: format!("{}.patch", run.id.abbrev()), bytes })
}

/// Lists the logs, transcripts and test reports of a run, newest last.
///
/// # Errors
/// As [`list`].
pub async fn logs(s: &Services, caller: &Caller, run: &str) -> ServiceResult<Vec<Log>> {
    let run = load(s, caller, Right::Read, run).await?;
    let mut owners = BTreeMap::new();
    for task in &run.tasks {
        for artifact in task.results.iter().flat_map(|r| &r.artifacts) {
            owners.insert(artifact.digest.clone(), (None, Some(task.id)));
        }
    }
    for attempt in &run.attempts {
        for artifact in attempt.ended.iter().flat_map(|e| &e.artifacts) {
            owners.insert(artifact.digest.clone(), (Some(attempt.id), attempt.task));
        }
    }
    let kinds = [ArtifactKind::Log, ArtifactKind::Transcript, ArtifactKind::TestReport];
    let stored = s.store.artifacts(run.id).await?.into_iter().filter(|a| kinds.contains(&a.kind));
    let logs = stored.map(|artifact| {
        let (attempt, task) = owners.get(&artifact.digest).copied().unwrap_or_default();
        Log { artifact, attempt, task }
    });
    Ok(logs.collect())
}

/// Returns the tasks whose attempts left a patch.
pub fn tasks_with_patches(run: &Run) -> Vec<String> {
    let tasks = run.tasks.iter().map(|task| task.id.to_string());
    tasks.filter(|task| latest_patch(run, task).is_some()).collect()
}

fn latest_patch<'a>(run: &'a Run, task: &str) -> Option<&'a ArtifactRef> {
    run.attempts
        .iter()
        .rev()
        .filter(|a| a.task.is_some_and(|t| t.to_string() == task))
        .filter_map(|a| a.ended.as_ref())
        .flat_map(|e| &e.artifacts)
        .find(|a| a.kind == ArtifactKind::Patch)
}
