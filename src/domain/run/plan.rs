//! The manager's tasks with their needs: a DAG, checked before it is accepted.

use crate::domain::goal::MAX_GOAL_BYTES;
use crate::domain::policy::{PathPattern, Policy};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One task as the manager wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Its name within the plan (`parser`), unique; needs refer to it.
    pub name: String,
    /// A one-line title for people.
    pub title: String,
    /// The complete description of the work.
    pub text: String,
    /// Names of tasks that must be integrated first.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Path patterns the task may touch; empty = any the policy allows.
    #[serde(default)]
    pub paths: Vec<String>,
}

/// The state of the plan. A revision is a new plan, never an edit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Counted from 1; 0 = no plan yet.
    pub revision: u32,
    /// Whether a person approved it, where the policy requires that.
    pub approved: bool,
}

/// Upper bound on the path patterns of a task.
pub const MAX_PATHS: usize = 64;

/// Returns why these tasks are not a usable plan, worded for the manager's next attempt; `None` if they are.
pub fn refuse(tasks: &[TaskSpec], policy: &Policy) -> Option<String> {
    if tasks.is_empty() {
        return Some("the plan has no task".to_owned());
    }
    if tasks.len() > policy.max_tasks as usize {
        return Some(format!("the plan has {} tasks, the policy allows {}", tasks.len(), policy.max_tasks));
    }
    let mut names = BTreeSet::new();
    for t in tasks {
        if t.name.trim().is_empty() || t.name.len() > 64 {
            return Some(format!("task name {:?} is empty or longer than 64 bytes", t.name));
        }
        if t.title.len() > 300 || t.text.len() > MAX_GOAL_BYTES {
            return Some(format!("task {:?} has a title over 300 bytes or a text over 64 KiB", t.name));
        }
        if !names.insert(t.name.as_str()) {
            return Some(format!("two tasks are named {:?}", t.name));
        }
        if t.paths.len() > MAX_PATHS || t.needs.len() > tasks.len() {
            return Some(format!("task {:?} has more than {MAX_PATHS} path patterns or more needs than tasks", t.name));
        }
        for pattern in &t.paths {
            if let Err(why) = PathPattern::new(pattern) {
                return Some(format!("task {:?}: {why}", t.name));
            }
        }
    }
    for t in tasks {
        if let Some(need) = t.needs.iter().find(|n| !names.contains(n.as_str())) {
            return Some(format!("task {:?} needs {need:?}, which is not in the plan", t.name));
        }
    }
    // Kahn's algorithm: remove tasks whose needs are gone; the remainder is a cycle.
    let mut removed: BTreeSet<&str> = BTreeSet::new();
    loop {
        let before = removed.len();
        for t in tasks {
            if t.needs.iter().all(|n| removed.contains(n.as_str())) {
                removed.insert(&t.name);
            }
        }
        if removed.len() == tasks.len() {
            return None;
        }
        if removed.len() == before {
            let stuck = tasks.iter().find(|t| !removed.contains(t.name.as_str()))?;
            return Some(format!("task {:?} depends on itself through its needs", stuck.name));
        }
    }
}
