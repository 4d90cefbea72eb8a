//! Task runners: a Makefile, a justfile or a Taskfile with a task that tests.

use super::tree::Tree;
use crate::domain::CheckKind::{self, Test};

/// A task runner.
struct TaskRunner {
    name: &'static str,
    /// Its files, in the order in which it searches for them.
    files: &'static [&'static str],
    /// Returns whether a line defines this task.
    defines: fn(&str, &str) -> bool,
}

const RUNNERS: &[TaskRunner] = &[
    TaskRunner { name: "make", files: &["GNUmakefile", "makefile", "Makefile"], defines: make_rule },
    TaskRunner { name: "just", files: &["justfile", ".justfile", "Justfile"], defines: just_recipe },
    TaskRunner {
        name: "task",
        files: &["Taskfile.yml", "taskfile.yml", "Taskfile.yaml", "taskfile.yaml", "Taskfile.dist.yml"],
        defines: task_key,
    },
];

/// Tasks that test, in the order of preference.
const TASKS: &[&str] = &["test", "check", "tests", "ci"];

/// Names of all files of task runners.
pub fn files() -> impl Iterator<Item = &'static str> {
    RUNNERS.iter().flat_map(|r| r.files.iter().copied())
}

/// Returns the task that tests, if a task runner has one.
pub fn checks(tree: Tree<'_>) -> Vec<(String, CheckKind, String)> {
    RUNNERS
        .iter()
        .find_map(|runner| {
            let text = tree.text(runner.files.iter().find(|f| tree.has(f))?);
            let task = TASKS.iter().find(|task| text.lines().any(|line| (runner.defines)(line, task)))?;
            Some((format!("{}-{task}", runner.name), Test, format!("{} {task}", runner.name)))
        })
        .into_iter()
        .collect()
}

/// Explains why a task runner's file has no check.
pub fn missing(tree: Tree<'_>) -> Option<String> {
    let file = files().find(|f| tree.has(f))?;
    Some(format!("{file} has no task named {}", TASKS.join(", ")))
}

/// A rule starts its line and lists its targets before the colon; `test := x` assigns a variable.
fn make_rule(line: &str, task: &str) -> bool {
    !line.starts_with(['\t', '#', ' '])
        && line.split_once(':').is_some_and(|(targets, rest)| {
            !rest.starts_with('=') && !rest.starts_with(":=") && targets.split_whitespace().any(|t| t == task)
        })
}

/// A recipe starts its line: its name, its parameters, a colon. It can be called without arguments if they have
/// defaults.
fn just_recipe(line: &str, task: &str) -> bool {
    let Some((head, rest)) = line.split_once(':') else { return false };
    let mut words = head.trim_start_matches('@').split_whitespace();
    !line.starts_with([' ', '\t', '#'])
        && !rest.starts_with('=')
        && words.next() == Some(task)
        && words.all(|parameter| parameter.starts_with('*') || parameter.contains('='))
}

/// A task is a key of the map `tasks`, indented by one level.
fn task_key(line: &str, task: &str) -> bool {
    let indent = line.len() - line.trim_start().len();
    (1..=4).contains(&indent)
        && line.trim().split_once(':').is_some_and(|(key, _)| key.trim_matches(['"', '\'']) == task)
}
