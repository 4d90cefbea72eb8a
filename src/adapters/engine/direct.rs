//! Manager and reviewer without a model: the goal becomes the only task, and the verdict follows from checks and the
//! diff.

use super::free;
use crate::domain::{FileKind, Finding, Order, Step, TaskSpec, Verdict};
use crate::platform::rooted_fs::RootedDir;
use crate::platform::terminal_text;
use crate::ports::PortResult;
use crate::ports::engine::{AttemptEnv, Engine, EngineResult, Sink, StepOutcome};
use async_trait::async_trait;
use std::path::Path;

/// An added file larger than this gets a finding.
const LARGE_BYTES: u64 = 1024 * 1024;
/// Upper bounds of an exploration: names, and bytes of each text.
const MAX_NAMES: usize = 200;
const MAX_TEXT_BYTES: usize = 1500;
/// Files with instructions for agents or contributors, most specific first.
const INSTRUCTIONS: &[&str] =
    &["AGENTS.md", "CLAUDE.md", "CONTRIBUTING.md", ".github/copilot-instructions.md", "README.md"];

/// Engine `direct`.
#[derive(Clone, Copy, Debug)]
pub struct DirectEngine;

impl DirectEngine {
    /// Creates the engine, which takes no argument.
    ///
    /// # Errors
    /// If an argument is given.
    pub fn new(arg: &str) -> Result<Self, String> {
        if arg.is_empty() {
            Ok(Self)
        } else {
            Err(format!("engine direct takes no argument, but got {arg:?}; write direct"))
        }
    }
}

#[async_trait]
impl Engine for DirectEngine {
    fn runs_commands(&self) -> bool {
        false
    }

    async fn run(&self, order: &Order, env: &AttemptEnv, _sink: Sink) -> PortResult<EngineResult> {
        Ok(free(match order.step {
            Step::Explore => StepOutcome::Notes(explore(&env.dir)),
            Step::Plan => StepOutcome::Tasks(vec![TaskSpec {
                name: "goal".to_owned(),
                title: title(&order.goal),
                text: order.goal.clone(),
                needs: Vec::new(),
                paths: Vec::new(),
            }]),
            Step::Develop => StepOutcome::Failed(
                "engine direct cannot edit; choose another engine for the dev, such as --engine 'command:<shell command>'".to_owned(),
            ),
            Step::Review => review(order, env),
        }))
    }
}

/// Returns the first line of the goal, shortened to a title.
fn title(goal: &str) -> String {
    let line = terminal_text::sanitize(goal.as_bytes());
    let line = line.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("the goal").to_owned();
    if line.chars().count() <= 72 { line } else { line.chars().take(71).chain(['…']).collect() }
}

fn explore(dir: &Path) -> String {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .map(|entries| {
            let name = |e: std::fs::DirEntry| {
                let slash = if e.file_type().is_ok_and(|t| t.is_dir()) { "/" } else { "" };
                terminal_text::sanitize(format!("{}{slash}", e.file_name().to_string_lossy()).as_bytes())
                    .replace('\n', "?")
            };
            entries.flatten().take(10 * MAX_NAMES).map(name).filter(|n| n != ".git" && n != ".git/").collect()
        })
        .unwrap_or_default();
    names.sort();
    let more = names.len().saturating_sub(MAX_NAMES);
    names.truncate(MAX_NAMES);
    let mut notes =
        format!("Files at the root: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") });
    if more > 0 {
        notes.push_str(&format!(" and {more} more"));
    }
    notes.push('\n');
    if let Ok(tree) = RootedDir::open(dir) {
        for name in INSTRUCTIONS {
            if let Ok(bytes) = tree.read(name, LARGE_BYTES) {
                let head = &bytes[..bytes.len().min(MAX_TEXT_BYTES)];
                let cut = if head.len() < bytes.len() { "\n[truncated]" } else { "" };
                notes.push_str(&format!("\n{name}:\n{}{cut}\n", terminal_text::sanitize(head).trim_end()));
            }
        }
    }
    notes
}

/// Asks for rework where something is certainly wrong. What only a person can judge becomes a finding and is left to
/// the merge gate.
fn review(order: &Order, env: &AttemptEnv) -> StepOutcome {
    let mut wrong: Vec<Finding> = Vec::new();
    if order.results.is_empty() {
        wrong.push(finding("", 0, "no check ran at this commit"));
    }
    for red in order.results.iter().filter(|r| !r.green && !order.excused.contains(&r.name)) {
        wrong.push(finding("", 0, &format!("check {} failed: {}", red.name, red.why)));
    }
    if order.diff.is_empty() {
        wrong.push(finding("", 0, "the diff is empty"));
    }
    wrong.extend(conflict_markers(&env.patch));
    wrong.truncate(Finding::MAX);
    if !wrong.is_empty() {
        let summary = format!("{} finding(s) from checks and the diff.", wrong.len());
        return StepOutcome::Judged { verdict: Verdict::Rework, findings: wrong, summary, criteria: Vec::new() };
    }

    let mut notes = blobs(order, env);
    notes.extend(weaker_tests(order));
    notes.truncate(Finding::MAX);
    let passed = order.results.iter().filter(|r| r.green).count();
    let mut summary = format!("{}; {}.", checks_passed(passed, order.results.len()), order.diff.summary());
    if !order.excused.is_empty() {
        summary.push_str(&format!(" Red as at the base: {}.", order.excused.join(", ")));
    }
    if !notes.is_empty() {
        summary.push_str(&format!(" Findings in {}.", files(notes.len())));
    }
    if !order.concerns.is_empty() {
        summary.push_str(&format!(" For a person to decide: {}.", order.concerns.join("; ")));
    }
    summary.push_str(" No model read the code.");
    let judged = order.criteria.iter().filter(|c| c.test.is_none()).count();
    if judged > 0 {
        summary.push_str(&format!(" Acceptance criteria for the person who approves the merge: {judged}."));
    }
    StepOutcome::Judged { verdict: Verdict::Approve, findings: notes, summary, criteria: Vec::new() }
}

fn finding(path: &str, line: u64, text: &str) -> Finding {
    Finding { path: path.to_owned(), line, text: text.to_owned() }
}

/// Finds complete merge conflicts in the added lines: start, middle and end in this order within one file. A single
/// marker may be a heading or test data.
fn conflict_markers(patch: &str) -> Vec<Finding> {
    let (mut found, mut path, mut line, mut start, mut middle) = (Vec::new(), String::new(), 0u64, None, false);
    for text in patch.lines() {
        if let Some(name) = text.strip_prefix("+++ ") {
            path = name.strip_prefix("b/").unwrap_or(name).to_owned();
            (start, middle) = (None, false);
        } else if let Some(hunk) = text.strip_prefix("@@ ") {
            let to = hunk.split_whitespace().find_map(|p| p.strip_prefix('+'));
            line = to.and_then(|p| p.split(',').next()).and_then(|n| n.parse().ok()).unwrap_or(0);
        } else if let Some(added) = text.strip_prefix('+') {
            if added.starts_with("<<<<<<< ") {
                (start, middle) = (Some(line), false);
            } else if added.trim_end() == "=======" {
                middle = start.is_some();
            } else if added.starts_with(">>>>>>> ")
                && middle
                && let Some(at) = start.take()
            {
                middle = false;
                found.push(finding(
                    &path,
                    at,
                    "unresolved merge conflict: remove the markers and keep the correct lines",
                ));
            }
            line += 1;
        } else if text.starts_with(' ') {
            line += 1;
        }
    }
    found
}

/// Finds tests that were deleted or shortened, possibly to make a check pass.
fn weaker_tests(order: &Order) -> Vec<Finding> {
    let is_test = |path: &str| {
        let path = path.to_ascii_lowercase();
        let name = path.rsplit('/').next().unwrap_or(&path);
        path.split('/').any(|part| matches!(part, "test" | "tests" | "spec" | "__tests__"))
            || name.starts_with("test_")
            || ["_test.", ".test.", ".spec.", "_spec."].into_iter().any(|mark| name.contains(mark))
    };
    let tests = order.diff.files.iter().filter(|f| is_test(&f.path));
    tests
        .filter_map(|f| match f.kind {
            FileKind::Deleted => Some(finding(&f.path, 0, "a test file is deleted: is its behaviour still tested?")),
            FileKind::Modified if f.removed > f.added => {
                Some(finding(&f.path, 0, "more test lines are removed than added: is their behaviour still tested?"))
            }
            _ => None,
        })
        .collect()
}

/// Finds added files that are binary or large.
fn blobs(order: &Order, env: &AttemptEnv) -> Vec<Finding> {
    let tree = RootedDir::open(&env.dir).ok();
    let size = |path: &str| tree.as_ref().and_then(|t| t.size(path).ok());
    let added = order.diff.files.iter().filter(|f| f.kind == FileKind::Added);
    added
        .filter_map(|f| match (f.binary, size(&f.path)) {
            (_, Some(bytes)) if bytes > LARGE_BYTES => {
                Some(finding(&f.path, 0, &format!("a new file of {bytes} bytes: should it be in the repository?")))
            }
            (true, bytes) => {
                let size = bytes.map(|bytes| format!(" of {bytes} bytes")).unwrap_or_default();
                let text = format!("a new binary file{size}, which cannot be reviewed as text");
                Some(finding(&f.path, 0, &text))
            }
            _ => None,
        })
        .collect()
}

fn checks_passed(passed: usize, all: usize) -> String {
    match (passed, all) {
        (0, _) => "No check passed".to_owned(),
        (1, 1) => "The check passed".to_owned(),
        (passed, all) if passed == all => format!("All {all} checks passed"),
        (passed, all) => format!("{passed} of {all} checks passed"),
    }
}

fn files(n: usize) -> String {
    if n == 1 { "1 file".to_owned() } else { format!("{n} files") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_in_notes_are_not_changed_unseen() {
        // README.md is read as a description of the program, and honest work changes it every day.
        for path in INSTRUCTIONS.iter().filter(|path| **path != "README.md") {
            assert!(crate::domain::policy::Policy::default().protects(path), "{path}");
        }
    }

    #[test]
    fn a_conflict_is_found_with_its_line_and_a_lone_marker_is_not() {
        let patch = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +10,7 @@\n same\n+<<<<<<< ours\n+a\n+=======\n+b\n+>>>>>>> theirs\n";
        let found = conflict_markers(patch);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].path.as_str(), found[0].line), ("x", 11));
        assert!(conflict_markers("+++ b/a.md\n@@ -0,0 +1,2 @@\n+Title\n+=======\n+>>>>>>> quoted\n").is_empty());
        assert!(conflict_markers("-<<<<<<< a\n-=======\n->>>>>>> b\n").is_empty());
    }

    #[test]
    fn titles_are_one_short_line() {
        assert_eq!(title("\n\n  Fix it \x1b[31mnow\x1b[0m\nmore"), "Fix it now");
        assert_eq!(title(&"ü".repeat(100)).chars().count(), 72);
        assert_eq!(title(" \n"), "the goal");
    }
}
