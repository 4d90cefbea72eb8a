//! Sets of trials in a data directory: where their results and their work are, and reading them back.
//!
//! Results are in `evals/SUITE-DIGEST/VARIANT-DIGEST/TASK/NUMBER/trial.json`, so the same command finds its finished
//! trials, and a changed suite, variant or program has a set of its own. The work is in `stores`, under names that say
//! nothing to a run.

use super::digest;
use super::suite::Suite;
use super::trial::finished;
use super::variant::Variant;
use crate::domain::eval::TrialSet;
use crate::platform::git::durable_fs::{make_dir, read_text, run_blocking, write_atomic};
use crate::ports::{PortError, PortResult};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Characters of a digest in a name.
const NAME_DIGITS: usize = 12;
/// Upper bound of the sets of one suite.
const MAX_SETS: usize = 1_000;

/// `set.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetFile {
    /// Name of the variant.
    variant: String,
    /// Program that runs the trials.
    program: String,
    /// Trials per task.
    trials: u32,
    /// When it was created, in Unix milliseconds.
    created_at: u64,
}

/// A set of trials to carry out.
#[derive(Clone, Debug)]
pub struct SetPlan {
    /// The variant.
    pub variant: Variant,
    /// Id of the set.
    pub id: String,
    data_dir: PathBuf,
    folder: PathBuf,
}

/// Exclusive use of the sets of a suite while it lives. The kernel releases the lock when the process ends.
#[derive(Debug)]
pub struct SetLock(#[expect(dead_code, reason = "held, not read")] File);

fn suite_folder(data_dir: &Path, suite: &Suite) -> PathBuf {
    let digest = suite.digest.get(..NAME_DIGITS).unwrap_or(&suite.digest);
    data_dir.join("evals").join(format!("{}-{digest}", suite.name))
}

impl SetLock {
    /// Locks the sets of a suite.
    ///
    /// # Errors
    /// Transient when another process uses them.
    pub async fn acquire(data_dir: &Path, suite: &Suite) -> PortResult<SetLock> {
        let folder = suite_folder(data_dir, suite);
        run_blocking(move || {
            make_dir(&folder)?;
            let path = folder.join("lock");
            let unusable = |e: std::io::Error| PortError::transient(format!("cannot lock {}: {e}", path.display()));
            let file = OpenOptions::new().create(true).append(true).open(&path).map_err(unusable)?;
            match file.try_lock() {
                Ok(()) => Ok(SetLock(file)),
                Err(TryLockError::WouldBlock) => Err(PortError::transient(
                    "another process is evaluating this suite in the same data directory; wait until it ends",
                )),
                Err(TryLockError::Error(e)) => Err(unusable(e)),
            }
        })
        .await
    }
}

impl SetPlan {
    /// Returns the set of a variant. `program` identifies the program that runs the trials.
    pub fn new(data_dir: &Path, suite: &Suite, variant: Variant, program: &str) -> SetPlan {
        let config = variant.config.to_string();
        let dev = format!("{:?}", variant.dev);
        let mut settings: Vec<String> = variant
            .env
            .iter()
            .filter(|(name, _)| name.to_string_lossy().starts_with("SKEP_"))
            .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
            .collect();
        settings.sort();
        let fixed = [variant.name.as_bytes(), dev.as_bytes(), config.as_bytes(), program.as_bytes()];
        let digest = digest(fixed.into_iter().chain(settings.iter().map(String::as_bytes)));
        let id = format!("{}-{}", variant.name, digest.get(..NAME_DIGITS).unwrap_or(&digest));
        let folder = suite_folder(data_dir, suite).join(&id);
        SetPlan { variant, id, data_dir: data_dir.to_owned(), folder }
    }

    /// Records the set before its first trial.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn record(&self, program: &str, trials: u32) -> PortResult<()> {
        let path = self.folder.join("set.json");
        let before = read_set(&path).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let file = SetFile {
            variant: self.variant.name.clone(),
            program: program.to_owned(),
            trials: trials.max(before.as_ref().map_or(0, |set| set.trials)),
            created_at: before.map_or_else(|| u64::try_from(now).unwrap_or(u64::MAX), |set| set.created_at),
        };
        let text = serde_json::to_vec_pretty(&file).map_err(|e| {
            PortError::permanent(format!("cannot write a set of trials as JSON: {e}"), "report this as a bug")
        })?;
        run_blocking(move || write_atomic(&path, &text)).await
    }

    /// Returns the folders of a trial: for its result, and for its work.
    pub fn folders(&self, task: &str, number: u32) -> (PathBuf, PathBuf) {
        let folder = self.folder.to_string_lossy();
        let name = digest([folder.as_bytes(), task.as_bytes(), &number.to_be_bytes()]);
        let work = self.data_dir.join("stores").join(name.get(..NAME_DIGITS).unwrap_or(&name));
        (self.folder.join(task).join(number.to_string()), work)
    }
}

async fn read_set(path: &Path) -> PortResult<Option<SetFile>> {
    let file = path.to_owned();
    let Some(text) = run_blocking(move || read_text(&file)).await? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| {
        PortError::permanent(format!("cannot read {}: {e}", path.display()), "remove the folder of that set")
    })
}

/// Reads the sets of a suite, the newest one first.
///
/// # Errors
/// When a file cannot be read.
pub async fn load_sets(data_dir: &Path, suite: &Suite) -> PortResult<Vec<TrialSet>> {
    let folder = suite_folder(data_dir, suite);
    let mut names: Vec<String> = match std::fs::read_dir(&folder) {
        Ok(entries) => entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .take(MAX_SETS)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect(),
        Err(_) => return Ok(Vec::new()),
    };
    names.sort();
    let mut found = Vec::new();
    for id in names {
        let Some(set) = read_set(&folder.join(&id).join("set.json")).await? else { continue };
        let mut trials = Vec::new();
        for task in &suite.tasks {
            for number in 1..=set.trials {
                let file = folder.join(&id).join(&task.name).join(number.to_string()).join("trial.json");
                trials.extend(finished(&file).await?);
            }
        }
        let requested = suite.tasks.len() as u64 * u64::from(set.trials);
        let trial_set = TrialSet { variant: set.variant, id, program: set.program, requested, trials };
        found.push((set.created_at, trial_set));
    }
    found.sort_by_key(|(created_at, _)| std::cmp::Reverse(*created_at));
    Ok(found.into_iter().map(|(_, set)| set).collect())
}
