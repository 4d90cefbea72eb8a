//! Stores changes as files: `<data>/forge/<project>/<n>.json`, each written atomically.

use super::LocalForge;
pub(super) use crate::adapters::forge::comment::truncated;
use crate::domain::{BatchProof, ChangeNumber, Principal, Sha};
use crate::platform::git::durable_fs::{read_text, run_blocking, write_atomic};
use crate::ports::forge::BatchMember;
use crate::ports::{Change, PortError, PortResult, Repo};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// Upper bound on the changes of a project.
const MAX_CHANGES: usize = 100_000;

/// A change, and the forge's private data about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredChange {
    #[serde(flatten)]
    pub change: Change,
    /// Written before the base branch is pushed, so that the author of the merge is known even if the process dies in
    /// between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landing: Option<LandingIntent>,
}

/// The commit that is about to land, and who lands it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LandingIntent {
    pub head: Sha,
    pub by: Principal,
    /// The head of the change's branch, if another commit with the same patch lands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<Sha>,
    /// What proved the batch that it lands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Box<BatchProof>>,
    /// The base it lands on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Sha>,
    /// Names this landing in the locks on working copies; `None` = no working copy is left to move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// When it began to push, in milliseconds since the epoch, by the clock that also dates files; `None` = the push has
    /// ended. A killed process leaves it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushing_since: Option<u64>,
}

impl LandingIntent {
    /// Creates the intent of a landing that begins now, or that continues one whose process was killed.
    pub(super) fn new(head: &Sha, base: &Sha, by: &Principal, killed: Option<u64>) -> Self {
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
        let now = || now().and_then(|t| u64::try_from(t.as_millis()).ok());
        Self {
            head: head.clone(),
            by: by.clone(),
            proven: None,
            batch: None,
            base: Some(base.clone()),
            token: Some(uuid::Uuid::now_v7().to_string()),
            pushing_since: killed.or_else(now),
        }
    }

    /// Returns the intent of one change of the batch that lands with this one.
    pub(super) fn of_member(&self, member: &BatchMember, proof: Option<&BatchProof>) -> Self {
        Self {
            head: member.commit.clone(),
            proven: (member.head != member.commit).then(|| member.head.clone()),
            batch: proof.cloned().map(Box::new),
            ..self.clone()
        }
    }

    /// Returns the intent once no working copy is left to move.
    pub(super) fn moved(self) -> Self {
        Self { token: None, ..self }
    }

    /// Returns the intent once its outcome is known and nothing of it is left to do.
    pub(super) fn ended(self) -> Self {
        Self { token: None, pushing_since: None, ..self }
    }
}

impl LocalForge {
    /// Returns the numbers of a project's changes, ascending.
    pub(super) async fn numbers(&self, repo: &Repo) -> PortResult<Vec<ChangeNumber>> {
        let folder = self.folder(repo);
        run_blocking(move || {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(PortError::transient(format!("cannot list {}: {e}", folder.display()))),
            };
            let number = |e: std::fs::DirEntry| e.file_name().to_str()?.strip_suffix(".json")?.parse().ok();
            let mut numbers: Vec<_> =
                entries.flatten().filter_map(number).take(MAX_CHANGES).map(ChangeNumber).collect();
            numbers.sort_unstable();
            Ok(numbers)
        })
        .await
    }

    pub(super) async fn load(&self, repo: &Repo, number: ChangeNumber) -> PortResult<StoredChange> {
        let path = self.folder(repo).join(format!("{number}.json"));
        let project = repo.project.clone();
        run_blocking(move || {
            let Some(text) = read_text(&path)? else {
                let folder = path.parent().unwrap_or(&path);
                let is_change = |e: std::fs::DirEntry| e.path().extension().is_some_and(|kind| kind == "json");
                let has_changes = std::fs::read_dir(folder).is_ok_and(|all| all.flatten().any(is_change));
                if !has_changes {
                    return Err(PortError::permanent(
                        format!("project {project} has no change {number}: {} holds no changes", folder.display()),
                        "if they were lost, restore the folder from a backup and try again, or end the run and start \
                         its goal again: the branch of the run keeps its commits",
                    ));
                }
                return Err(PortError::permanent(
                    format!("project {project} has no change {number}"),
                    format!("`skep change list {project}` lists them"),
                ));
            };
            serde_json::from_str(&text).map_err(|e| {
                PortError::permanent(
                    format!("{} is damaged: {e}", path.display()),
                    "repair the file, or restore it from a backup",
                )
            })
        })
        .await
    }

    pub(super) async fn save(&self, repo: &Repo, entry: &StoredChange) -> PortResult<()> {
        let path = self.folder(repo).join(format!("{}.json", entry.change.number));
        let bytes = serde_json::to_vec_pretty(entry)
            .map_err(|e| PortError::permanent(format!("cannot serialize the change: {e}"), "report this as a bug"))?;
        run_blocking(move || write_atomic(&path, &bytes)).await
    }
}
