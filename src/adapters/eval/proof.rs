//! Proof of a task: its tests tell the base from the solution, and its checks accept both.

use super::grade::{Grade, Grader, Tests};
use super::repo;
use super::suite::Task;
use super::trial::TrialContext;
use crate::domain::eval::TaskProof;
use crate::platform::git::durable_fs::{remove_path, run_blocking};
use crate::ports::PortResult;
use std::path::Path;

/// Proves a task in a folder that is removed afterwards. Each grading is repeated, to find tests that flap.
///
/// # Errors
/// When the tests could not be run.
pub async fn prove(context: &TrialContext, task: &Task, repeat: u32, folder: &Path) -> PortResult<TaskProof> {
    let proof = proof(context, task, repeat, folder).await;
    let folder = folder.to_owned();
    run_blocking(move || remove_path(&folder)).await?;
    proof
}

async fn proof(context: &TrialContext, task: &Task, repeat: u32, folder: &Path) -> PortResult<TaskProof> {
    let git = &context.git;
    let grader = Grader { git, skep: &context.program, machine: &context.machine, folder: &folder.join("grade") };
    let (base, fixed) = (folder.join("base.git"), folder.join("oracle.git"));
    let base_commit = repo::create(git, &base, &task.base).await?;
    let fixed_commit = repo::patched(git, &fixed, &task.base, &task.oracle).await?;
    let mut problems = Vec::new();
    for _ in 0..repeat.max(1) {
        let base = (base.as_path(), base_commit.as_str());
        let fixed = (fixed.as_path(), fixed_commit.as_str());
        if grader.grade(task, Tests::Hidden, base).await? == Grade::Green {
            problems.push("the hidden tests pass at the base: they do not test the goal".to_owned());
        }
        if let Grade::Red(why) = grader.grade(task, Tests::Hidden, fixed).await? {
            problems.push(format!("the hidden tests fail with the oracle patch: {why}"));
        }
        for (repo, where_) in [(base, "at the base"), (fixed, "with the oracle patch")] {
            if let Grade::Red(why) = grader.grade(task, Tests::Visible, repo).await? {
                problems.push(format!("the checks fail {where_}: {why}"));
            }
        }
        if !problems.is_empty() {
            break;
        }
    }
    let changed = repo::changed(git, &fixed, &base_commit, &fixed_commit).await?;
    problems.extend(
        changed
            .iter()
            .filter(|path| task.restore.contains(path))
            .map(|path| format!("the oracle patch changes {path}, which hidden.restore sets back")),
    );
    Ok(TaskProof {
        task: task.name.clone(),
        title: task.title.clone(),
        kind: task.kind.to_owned(),
        language: task.language.clone(),
        problems,
    })
}
