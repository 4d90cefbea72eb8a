//! Predictions as the SWE-bench harness reads them: one patch per task, as JSON lines or as one JSON list or object.

use super::super::grade::{Grade, Grader, Tests};
use super::super::repo;
use super::super::suite::{Suite, Task};
use super::super::trial::TrialContext;
use crate::domain::eval::{Corner, TrialSet};
use crate::platform::git::Git;
use crate::platform::git::durable_fs::{read_text, remove_path, run_blocking};
use crate::ports::{PortError, PortResult};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Upper bounds of a file of predictions, of their number and of one patch.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
const MAX_PREDICTIONS: usize = 10_000;
const MAX_PATCH_BYTES: usize = 1024 * 1024;

/// A prediction: the work that a model did for a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prediction {
    /// The task.
    pub instance_id: String,
    /// The model.
    #[serde(default)]
    pub model_name_or_path: String,
    /// The patch; `None` or empty = there is none.
    #[serde(default)]
    pub model_patch: Option<String>,
}

/// Writes the work of the trials with a number as JSON lines. A trial without work has an empty patch; one that the
/// infrastructure spoiled is left out.
///
/// # Errors
/// When the work of a trial cannot be read.
pub async fn write(git: &Git, set: &TrialSet, number: u32) -> PortResult<(String, u64)> {
    let (mut text, mut count) = (String::new(), 0);
    for trial in set.trials.iter().filter(|t| t.number == number && t.corner.is_some()) {
        let patch = match &trial.commit {
            None => String::new(),
            Some(commit) => {
                let landed = matches!(trial.corner, Some(Corner::LandedCorrect | Corner::LandedWrong));
                work_of(git, Path::new(&trial.data_dir), landed, commit).await?
            }
        };
        let prediction = Prediction {
            instance_id: trial.task.clone(),
            model_name_or_path: set.id.clone(),
            model_patch: Some(patch),
        };
        let line = serde_json::to_string(&prediction).map_err(|e| {
            PortError::permanent(format!("cannot write a prediction as JSON: {e}"), "report this as a bug")
        })?;
        text.push_str(&line);
        text.push('\n');
        count += 1;
    }
    Ok((text, count))
}

/// Returns the patch of a trial, from its base to the commit that was graded.
async fn work_of(git: &Git, data_dir: &Path, landed: bool, commit: &str) -> PortResult<String> {
    let gone = || {
        PortError::permanent(
            format!("the work of the trial in {} is gone", data_dir.display()),
            "remove its trial.json, and carry out the trial again",
        )
    };
    let folder = data_dir.parent().ok_or_else(gone)?.to_owned();
    let (base_file, repo) = (folder.join("base"), folder.join("repo.git"));
    let base = run_blocking(move || read_text(&base_file)).await?.ok_or_else(gone)?;
    let repo = if landed { repo } else { data_dir.join("mirrors/repo.git") };
    let diff = ["diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", base.trim(), commit];
    let bytes = git.call(&repo).args(diff).output_head("read the work of a trial", MAX_PATCH_BYTES + 1).await?;
    let unusable = |why: &str| {
        let what = format!("the patch of the trial in {} {why}", data_dir.display());
        PortError::permanent(what, "leave this task out with --task")
    };
    if bytes.len() > MAX_PATCH_BYTES {
        return Err(unusable(&format!("has more than {MAX_PATCH_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| unusable("is not UTF-8 text, which JSON requires"))
}

/// Reads predictions for a suite.
///
/// # Errors
/// What is wrong with the file, and what to do.
pub fn read(path: &Path, suite: &Suite) -> Result<Vec<Prediction>, (String, String)> {
    let name = path.display();
    let fix = "each prediction is an object with instance_id, model_name_or_path and model_patch".to_owned();
    let size =
        std::fs::metadata(path).map_err(|e| (format!("cannot read {name}: {e}"), "name a file".to_owned()))?.len();
    if size > MAX_FILE_BYTES {
        return Err((format!("{name} has {size} bytes; the limit is {MAX_FILE_BYTES}"), "split the file".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|e| (format!("cannot read {name}: {e}"), fix.clone()))?;
    let found = parse(&text).map_err(|why| (format!("{name}: {why}"), fix))?;
    if found.len() > MAX_PREDICTIONS {
        let what = format!("{name} has {} predictions; the limit is {MAX_PREDICTIONS}", found.len());
        return Err((what, "split the file".to_owned()));
    }
    let mut seen = BTreeSet::new();
    for prediction in &found {
        let id: String = prediction.instance_id.chars().filter(|c| !c.is_control()).take(100).collect();
        if !suite.tasks.iter().any(|task| task.name == prediction.instance_id) {
            return Err((format!("{name}: the suite has no task {id:?}"), "remove that prediction".to_owned()));
        }
        if !seen.insert(&prediction.instance_id) {
            return Err((format!("{name}: there are two predictions for {id:?}"), "keep one of them".to_owned()));
        }
        let size = prediction.model_patch.as_ref().map_or(0, String::len);
        if size > MAX_PATCH_BYTES {
            let what = format!("{name}: the patch for {id:?} has {size} bytes; the limit is {MAX_PATCH_BYTES}");
            return Err((what, "remove that prediction".to_owned()));
        }
    }
    Ok(found)
}

fn parse(text: &str) -> Result<Vec<Prediction>, String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Whole {
        List(Vec<Prediction>),
        ById(BTreeMap<String, Prediction>),
    }
    let lines = || -> Result<Vec<Prediction>, String> {
        let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        numbered.map(|(n, line)| serde_json::from_str(line).map_err(|e| format!("line {}: {e}", n + 1))).collect()
    };
    match lines() {
        Ok(found) => Ok(found),
        Err(why) => match serde_json::from_str(text) {
            Ok(Whole::List(found)) => Ok(found),
            Ok(Whole::ById(found)) => Ok(found.into_values().collect()),
            Err(_) => Err(why),
        },
    }
}

/// Grades a prediction with the hidden tests, in a folder that is removed afterwards.
///
/// # Errors
/// When the tests could not be run, which says nothing about the prediction.
pub async fn grade(context: &TrialContext, task: &Task, prediction: &Prediction, folder: &Path) -> PortResult<Grade> {
    let graded = judge(context, task, prediction, folder).await;
    let folder = folder.to_owned();
    run_blocking(move || remove_path(&folder)).await?;
    graded
}

async fn judge(context: &TrialContext, task: &Task, prediction: &Prediction, folder: &Path) -> PortResult<Grade> {
    let patch = prediction.model_patch.as_deref().unwrap_or_default();
    if patch.trim().is_empty() {
        return Ok(Grade::Red("there is no patch".to_owned()));
    }
    if patch.contains(&task.canary) {
        return Ok(Grade::Red("the patch contains the hidden tests".to_owned()));
    }
    let work = folder.join("work.git");
    let commit = match repo::apply(&context.git, &work, &task.base, patch.as_bytes()).await? {
        Ok(commit) => commit,
        Err(why) => return Ok(Grade::Red(format!("the patch does not apply to the base: {why}"))),
    };
    let (git, machine) = (&context.git, &context.machine);
    let grader = Grader { git, skep: &context.program, machine, folder: &folder.join("grade") };
    grader.grade(task, Tests::Hidden, (&work, &commit)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_are_read_in_every_form_that_the_harness_reads() {
        let one = r#"{"instance_id": "a", "model_name_or_path": "m", "model_patch": "diff\n"}"#;
        let two = r#"{"instance_id": "b", "model_patch": null, "extra": 1}"#;
        let ids = |text: &str| parse(text).map(|found| found.into_iter().map(|p| p.instance_id).collect::<Vec<_>>());
        for text in
            [format!("{one}\n\n{two}\n"), format!("[{one},\n{two}]"), format!("{{\"a\": {one},\n\"b\": {two}}}")]
        {
            assert_eq!(ids(&text), Ok(vec!["a".to_owned(), "b".to_owned()]), "{text}");
        }
        assert_eq!(parse(two).unwrap()[0].model_patch, None);
        assert_eq!(ids(""), Ok(vec![]));
        assert!(ids(&format!("{one}\n{{\"model_patch\": 1}}\n")).unwrap_err().starts_with("line 2: "));
    }
}
