//! Grading: the hidden tests on top of a commit, run as a check of a repository that no run has seen.

use super::program::{Home, SkepProgram, failure, last_object};
use super::repo;
use super::suite::Task;
use crate::platform::git::Git;
use crate::platform::git::durable_fs::{make_dir, remove_path, run_blocking, write_atomic};
use crate::platform::terminal_text;
use crate::ports::{PortError, PortResult};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Time that starting Skep and preparing the check may take, on top of the time of the tests.
const OVERHEAD: Duration = Duration::from_secs(180);
/// File of a repository with its own rules. It decides what checks do, so the base's version counts, or none.
const RULES: &str = ".skep.toml";
/// Upper bound of a reason, in bytes.
const MAX_WHY_BYTES: usize = 600;

/// Judgement about a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grade {
    /// Every test passed.
    Green,
    /// A test failed, or did not run.
    Red(String),
}

/// What a grading needs.
pub(super) struct Grader<'g> {
    pub git: &'g Git,
    pub skep: &'g SkepProgram,
    /// Configuration of this machine's sandbox.
    pub machine: &'g toml::Table,
    /// Folder for this grading only.
    pub folder: &'g Path,
}

/// What to grade with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tests {
    /// The hidden tests.
    Hidden,
    /// The checks that a run may see.
    Visible,
}

impl Grader<'_> {
    /// Grades a commit of a repository.
    ///
    /// # Errors
    /// When the tests could not be run, which says nothing about the commit.
    pub async fn grade(&self, task: &Task, tests: Tests, source: (&Path, &str)) -> PortResult<Grade> {
        let folder = self.folder.to_owned();
        run_blocking(move || remove_path(&folder).and_then(|()| make_dir(&folder))).await?;
        let graded = self.folder.join("repo.git");
        let restored = |path: &str| task.base.get(path);
        let rules = restored(RULES).map(|content| (RULES, content));
        let hidden = match tests {
            Tests::Hidden => task.hidden.iter().map(|(path, content)| (path.as_str(), content)).collect(),
            Tests::Visible => Vec::new(),
        };
        let restore = task.restore.iter().filter_map(|path| Some((path.as_str(), restored(path)?)));
        let files = rules.into_iter().chain(restore).chain(hidden);
        repo::overlay(self.git, &graded, source, &[RULES], files).await?;
        let config = self.folder.join("skep.toml");
        self.write_config(&config, task, tests)?;
        let data = self.folder.join("data");
        let home = Home { data: &data, config: &config };
        let commands: Vec<&str> = match tests {
            Tests::Hidden => vec![&task.command],
            Tests::Visible => task.checks.iter().map(String::as_str).collect(),
        };
        let graded = graded.to_string_lossy().into_owned();
        let mut args = vec!["check", "--repo", &graded];
        commands.iter().for_each(|command| args.extend(["--check", command]));
        let limit = u32::try_from(commands.len()).unwrap_or(u32::MAX);
        let ended = self.skep.call(home, args, &[], task.timeout.saturating_mul(limit) + OVERHEAD).await?;
        // 3: a check failed.
        if !matches!(ended.code, Some(0 | 3)) {
            return Err(PortError::transient(failure(&ended)));
        }
        let results = last_object(&ended.stdout).map(|mut end| end["end"]["results"].take());
        let results = results.and_then(|results| serde_json::from_value::<Vec<CheckResult>>(results).ok());
        let Some(results) = results.filter(|results| results.len() >= commands.len()) else {
            return Err(PortError::transient(format!("`skep check` reported no results: {}", failure(&ended))));
        };
        let folder = self.folder.to_owned();
        run_blocking(move || remove_path(&folder)).await?;
        judge(&results, (tests == Tests::Hidden).then_some(task.expect.as_str()))
    }

    fn write_config(&self, path: &Path, task: &Task, tests: Tests) -> PortResult<()> {
        let mut table = self.machine.clone();
        let mut checks = toml::Table::new();
        if tests == Tests::Hidden {
            let timeout = humantime::format_duration(task.timeout).to_string().replace(' ', "");
            checks.insert("timeout".to_owned(), toml::Value::String(timeout));
        }
        table.insert("checks".to_owned(), toml::Value::Table(checks));
        write_atomic(path, table.to_string().as_bytes())
    }
}

/// The parts of a check's result that decide.
#[derive(serde::Deserialize)]
struct CheckResult {
    name: String,
    green: bool,
    exit_code: Option<i32>,
    why: String,
    tail: String,
    #[serde(default)]
    failures: Vec<Value>,
}

fn judge(results: &[CheckResult], expect: Option<&str>) -> PortResult<Grade> {
    for result in results {
        if result.green {
            // A program under test can end the process with 0 before the tests have run.
            if let Some(expect) = expect.filter(|expect| !result.tail.contains(expect)) {
                let tail = terminal_text::tail(result.tail.as_bytes(), MAX_WHY_BYTES);
                return Ok(Grade::Red(format!("the tests ended without {expect:?} in their output: {}", tail.trim())));
            }
            continue;
        }
        // Tests may crash, hang or use too much. A missing program, a full disk or a sandbox that cannot be set up is not
        // their fault.
        let has_run = result.exit_code.is_none_or(|code| !matches!(code, 126 | 127))
            && result.why.starts_with("the command")
            && !result.why.contains("disk");
        if !has_run {
            return Err(PortError::transient(format!("the check {} did not run: {}", result.name, result.why)));
        }
        let failures: Vec<&str> = result.failures.iter().filter_map(Value::as_str).take(3).collect();
        let what = if failures.is_empty() { result.why.clone() } else { failures.join("; ") };
        return Ok(Grade::Red(terminal_text::tail(what.as_bytes(), MAX_WHY_BYTES)));
    }
    Ok(Grade::Green)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(green: bool, exit_code: Option<i32>, why: &str, tail: &str) -> CheckResult {
        let (name, why, tail) = ("check-1".to_owned(), why.to_owned(), tail.to_owned());
        CheckResult { name, green, exit_code, why, tail, failures: Vec::new() }
    }

    #[test]
    fn only_tests_that_ran_are_green() {
        let of = |result: CheckResult| judge(&[result], Some("Ran 3 tests"));
        assert_eq!(of(result(true, Some(0), "", "Ran 3 tests in 0.1s\n\nOK\n")).unwrap(), Grade::Green);
        assert!(matches!(of(result(true, Some(0), "", "")).unwrap(), Grade::Red(_)), "the process ended early");
        assert!(matches!(of(result(true, Some(0), "", "Ran 2 tests in 0.1s\n")).unwrap(), Grade::Red(_)));
        let red = |code, why: &str| of(result(false, code, why, "Ran 3 tests"));
        assert!(matches!(red(Some(1), "the command exited with code 1").unwrap(), Grade::Red(_)));
        assert!(matches!(red(None, "the command exceeded its timeout of 60 s and was killed").unwrap(), Grade::Red(_)));
        assert!(matches!(red(None, "the command was killed by signal 11").unwrap(), Grade::Red(_)));
        for (code, why) in [
            (None, "the sandbox cannot be set up"),
            (Some(127), "the command exited with code 127: `python3` was not found"),
            (None, "the command was killed: the disk is full"),
        ] {
            assert!(red(code, why).is_err(), "{why:?} says nothing about the work");
        }
    }
}
