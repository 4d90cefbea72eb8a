//! A suite: a folder with `suite.toml` and one folder per task, read and validated as a whole.

use super::digest;
use super::files::{Tree, read_archive, read_folder};
use super::manifest::{self, LimitsTable, SuiteFile, TaskFile, is_name};
use crate::domain::eval::gate::GateRules;
use crate::platform::rooted_fs::{self, EntryKind, RootedDir};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Upper bounds.
const MAX_TASKS: usize = 200;
const MAX_MANIFEST_BYTES: u64 = 64 * 1024;
const MAX_GOAL_BYTES: usize = 16 * 1024;
/// A patch is part of a command line, whose words may have 128 KiB.
const MAX_PATCH_BYTES: u64 = 96 * 1024;
const MAX_CHECKS: usize = 8;
const MAX_TRIALS: u32 = 100;
const MIN_CANARY_CHARS: usize = 16;
const MAX_TIMEOUT: Duration = Duration::from_secs(60 * 60);
const MAX_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Working time of a run without a limit of its own.
const DEFAULT_TIME: &str = "20m";

/// A suite.
#[derive(Clone, Debug)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// Digest of all its files: a changed task makes another suite, and results of two suites are never compared.
    pub digest: String,
    /// Trials per task and variant.
    pub trials: u32,
    /// Rules of the gate.
    pub gate: GateRules,
    /// Its tasks, by name.
    pub tasks: Vec<Task>,
}

/// A task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Name: that of its folder.
    pub name: String,
    /// Title.
    pub title: String,
    /// Kind of work, such as `bug`.
    pub kind: &'static str,
    /// Programming language.
    pub language: String,
    /// Goal of the run.
    pub goal: String,
    /// Commands that the run may see.
    pub checks: Vec<String>,
    /// Limits of the run, as `skep run --limit` takes them.
    pub limits: String,
    /// Working time of the run.
    pub time: Duration,
    pub(super) base: Tree,
    pub(super) hidden: Tree,
    pub(super) command: String,
    pub(super) expect: String,
    pub(super) canary: String,
    pub(super) timeout: Duration,
    pub(super) restore: Vec<String>,
    pub(super) oracle: Vec<u8>,
}

/// Something that is wrong with a suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuiteProblem {
    /// What is wrong, and in which file.
    pub detail: String,
    /// The fix, in the imperative.
    pub fix: String,
}

/// Collects problems of one file.
struct Report<'p> {
    file: String,
    problems: &'p mut Vec<SuiteProblem>,
}

impl Report<'_> {
    fn add(&mut self, what: impl std::fmt::Display, fix: &str) {
        self.problems.push(SuiteProblem { detail: format!("{}: {what}", self.file), fix: fix.to_owned() });
    }
    fn require(&mut self, holds: bool, what: impl std::fmt::Display, fix: &str) {
        if !holds {
            self.add(what, fix);
        }
    }
}

impl Suite {
    /// Reads a suite.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(folder: &Path) -> Result<Suite, Vec<SuiteProblem>> {
        let mut problems = Vec::new();
        match read(folder, &mut problems) {
            Some(suite) if problems.is_empty() => Ok(suite),
            _ => Err(problems),
        }
    }

    /// Keeps only the named tasks.
    ///
    /// # Errors
    /// The name that no task has.
    pub fn only(mut self, names: &[String]) -> Result<Suite, String> {
        if let Some(unknown) = names.iter().find(|name| !self.tasks.iter().any(|task| task.name == **name)) {
            return Err(unknown.clone());
        }
        self.tasks.retain(|task| names.is_empty() || names.contains(&task.name));
        Ok(self)
    }
}

fn read(folder: &Path, problems: &mut Vec<SuiteProblem>) -> Option<Suite> {
    let mut report = Report { file: folder.join("suite.toml").display().to_string(), problems };
    let root = match RootedDir::open(folder) {
        Ok(root) => root,
        Err(e) => {
            report.add(e, "name the folder of a suite, such as evals/small");
            return None;
        }
    };
    let (file, text) = manifest_of::<SuiteFile>(&root, "suite.toml", &mut report)?;
    report.require(is_name(&file.name), "the name is not valid", "use 1 to 40 of a-z, 0-9 and '-'");
    report.require(
        (1..=MAX_TRIALS).contains(&file.trials),
        format!("trials = {} is out of range", file.trials),
        "use 1 to 100",
    );
    report.require(
        (0.0..=0.5).contains(&file.gate.margin),
        format!("gate.margin = {} is out of range", file.gate.margin),
        "use 0.0 to 0.5: 0.05 is five percentage points",
    );
    report.require(
        !file.description.contains(char::is_control),
        "the description has more than one line",
        "shorten it",
    );
    let (entries, is_complete) = match root.entries("", MAX_TASKS + 2) {
        Ok(found) => found,
        Err(e) => {
            report.add(e, "make the folder readable");
            return None;
        }
    };
    report.require(is_complete, format!("more than {MAX_TASKS} tasks"), "split the suite");
    let mut parts: Vec<Vec<u8>> = vec![text.into_bytes()];
    let mut tasks = Vec::new();
    for entry in entries {
        match entry.kind {
            EntryKind::Directory => tasks.extend(read_task(folder, &entry.name, &file.limits, problems, &mut parts)),
            EntryKind::File if ["suite.toml", "README.md", "LICENSE"].contains(&entry.name.as_str()) => {}
            _ => problems.push(SuiteProblem {
                detail: format!("{}: is not part of a suite", folder.join(&entry.name).display()),
                fix: "keep suite.toml, README.md, LICENSE and one folder per task".to_owned(),
            }),
        }
    }
    let mut report = Report { file: folder.join("suite.toml").display().to_string(), problems };
    report.require(!tasks.is_empty(), "the suite has no task", "add a folder with a task.toml");
    let names: BTreeSet<&str> = tasks.iter().map(|task: &Task| task.name.as_str()).collect();
    for must in file.gate.must.iter().filter(|must| !names.contains(must.as_str())) {
        report.add(format!("gate.must names the task {must:?}, which does not exist"), "name a folder of the suite");
    }
    let canaries: BTreeSet<&str> = tasks.iter().map(|task| task.canary.as_str()).collect();
    report.require(canaries.len() == tasks.len(), "two tasks have the same canary", "give each task one of its own");
    let digest = digest(parts.iter().map(Vec::as_slice));
    Some(Suite { name: file.name, digest, trials: file.trials, gate: file.gate, tasks })
}

/// Reads and parses a manifest.
fn manifest_of<T: serde::de::DeserializeOwned>(
    root: &RootedDir,
    name: &str,
    report: &mut Report<'_>,
) -> Option<(T, String)> {
    let bytes = match root.read(name, MAX_MANIFEST_BYTES) {
        Ok(bytes) => bytes,
        Err(e) => {
            report.add(e, "docs/evaluating.md describes the files of a suite");
            return None;
        }
    };
    let Ok(text) = String::from_utf8(bytes) else {
        report.add("is not UTF-8 text", "save it as UTF-8");
        return None;
    };
    match manifest::parse(&text) {
        Ok(file) => Some((file, text)),
        Err((what, fix)) => {
            report.add(what, &fix);
            None
        }
    }
}

fn read_task(
    suite: &Path,
    name: &str,
    defaults: &LimitsTable,
    problems: &mut Vec<SuiteProblem>,
    parts: &mut Vec<Vec<u8>>,
) -> Option<Task> {
    let folder: PathBuf = suite.join(name);
    let mut report = Report { file: folder.join("task.toml").display().to_string(), problems };
    report.require(is_name(name), "the folder's name is not a task's name", "use 1 to 40 of a-z, 0-9 and '-'");
    let root = RootedDir::open(&folder).ok()?;
    let (file, text) = manifest_of::<TaskFile>(&root, "task.toml", &mut report)?;
    let before = report.problems.len();
    check_texts(&file, &mut report);
    let limits = file.limits.or(defaults);
    let time = limits.time.as_deref().unwrap_or(DEFAULT_TIME);
    let time = duration(time, MAX_TIME, "limits.time", &mut report);
    let timeout = duration(&file.hidden.timeout, MAX_TIMEOUT, "hidden.timeout", &mut report);
    let base = match &file.base {
        Some(archive) => {
            report.require(
                rooted_fs::check(&archive.archive).is_ok(),
                format!("base.archive = {:?} leaves the task's folder", archive.archive),
                "name an archive in the task's folder",
            );
            report.require(
                !folder.join("base").exists(),
                "the task has both a folder `base` and an archive",
                "keep one of them",
            );
            if report.problems.len() > before {
                return None;
            }
            read_archive(&folder.join(&archive.archive), &archive.sha256).map_err(|why| (archive.archive.clone(), why))
        }
        None => read_folder(&folder.join("base")).map_err(|why| ("base".to_owned(), why)),
    };
    let hidden = read_folder(&folder.join("hidden")).map_err(|why| ("hidden".to_owned(), why));
    let mut readable = |tree: Result<Tree, (String, String)>| match tree {
        Ok(tree) if tree.is_empty() => {
            report.add("a folder of files is empty", "add the files of the base to `base`, hidden tests to `hidden`");
            None
        }
        Ok(tree) => Some(tree),
        Err((what, why)) => {
            report.add(format!("{what} {why}"), "keep plain files in it");
            None
        }
    };
    let (base, hidden) = (readable(base), readable(hidden));
    let oracle = root.read("oracle.patch", MAX_PATCH_BYTES);
    if let Err(e) = &oracle {
        report.add(e, "add the patch that solves the task, at most 96 KiB");
    }
    let (base, hidden, oracle) = (base?, hidden?, oracle.ok()?);
    check_trees(&file, &base, &hidden, &oracle, &mut report);
    if report.problems.len() > before {
        return None;
    }
    parts.extend([name.as_bytes().to_vec(), text.into_bytes(), oracle.clone()]);
    for (path, content) in base.iter().chain(&hidden) {
        parts.extend([path.as_bytes().to_vec(), vec![u8::from(content.is_executable)], content.bytes.clone()]);
    }
    Some(Task {
        name: name.to_owned(),
        title: file.title,
        kind: file.kind.name(),
        language: file.language,
        goal: file.goal,
        checks: file.checks,
        limits: limits_text(&limits),
        time: time?,
        base,
        hidden,
        command: file.hidden.command,
        expect: file.hidden.expect,
        canary: file.hidden.canary,
        timeout: timeout?,
        restore: file.hidden.restore,
        oracle,
    })
}

/// Checks the texts of a task.
fn check_texts(file: &TaskFile, report: &mut Report<'_>) {
    let is_line = |text: &str| !text.trim().is_empty() && !text.contains(char::is_control);
    for (key, text) in [
        ("title", &file.title),
        ("language", &file.language),
        ("source.license", &file.source.license),
        ("source.origin", &file.source.origin),
        ("hidden.command", &file.hidden.command),
        ("hidden.expect", &file.hidden.expect),
        ("hidden.canary", &file.hidden.canary),
    ] {
        report.require(is_line(text), format!("{key} is empty or has several lines"), "write it on one line");
    }
    report.require(
        !file.goal.trim().is_empty() && file.goal.len() <= MAX_GOAL_BYTES,
        "the goal is empty or longer than 16 KiB",
        "describe what should be different when the run is done",
    );
    report.require(
        (1..=MAX_CHECKS).contains(&file.checks.len()) && file.checks.iter().all(|check| is_line(check)),
        "checks is empty, too long or has an empty command",
        "list 1 to 8 commands that verify a change",
    );
    report.require(
        file.hidden.canary.chars().count() >= MIN_CANARY_CHARS,
        format!("hidden.canary has fewer than {MIN_CANARY_CHARS} characters"),
        "use a random text, such as a UUID",
    );
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'-' | b'_');
    report.require(
        file.hidden.canary.bytes().all(is_plain),
        "hidden.canary has other characters than letters, digits, blanks, '-' and '_'",
        "use a random text, such as a UUID, which reads the same in JSON",
    );
    let is_cost = |cost: &String| cost.strip_suffix(" USD").is_some_and(|n| n.parse::<f64>().is_ok_and(|n| n > 0.0));
    report.require(
        file.limits.cost.as_ref().is_none_or(is_cost),
        "limits.cost is not an amount of money",
        "write an amount with its currency, such as \"1.00 USD\"",
    );
    let reveals =
        [&file.goal, &file.title].into_iter().chain(&file.checks).any(|text| text.contains(&file.hidden.canary));
    report.require(!reveals, "the goal, the title or a check contains the canary", "remove it there");
}

/// Checks the files of a task.
fn check_trees(file: &TaskFile, base: &Tree, hidden: &Tree, oracle: &[u8], report: &mut Report<'_>) {
    let has_canary = |bytes: &[u8]| bytes.windows(file.hidden.canary.len()).any(|w| w == file.hidden.canary.as_bytes());
    for (path, content) in hidden {
        report.require(
            has_canary(&content.bytes),
            format!("hidden/{path} does not contain the canary"),
            "add hidden.canary to it, in a comment",
        );
        report.require(
            !base.contains_key(path),
            format!("hidden/{path} is also a file of the base"),
            "give hidden tests names of their own",
        );
    }
    for (path, _) in base.iter().filter(|(_, content)| has_canary(&content.bytes)) {
        report.add(format!("{path} of the base contains the canary"), "remove it there");
    }
    report.require(!has_canary(oracle), "oracle.patch contains the canary", "solve the task without the hidden tests");
    for path in file.hidden.restore.iter().filter(|path| !base.contains_key(*path)) {
        report.add(format!("hidden.restore names {path:?}, which the base does not have"), "name a file of the base");
    }
}

fn duration(text: &str, most: Duration, key: &str, report: &mut Report<'_>) -> Option<Duration> {
    let parsed = humantime::parse_duration(text).ok().filter(|time| !time.is_zero() && *time <= most);
    let most = humantime::format_duration(most);
    report.require(
        parsed.is_some(),
        format!("{key} = {text:?} is not a duration up to {most}"),
        "write a number with a unit, such as \"20m\"",
    );
    parsed
}

/// Returns limits as `skep run --limit` takes them.
fn limits_text(limits: &LimitsTable) -> String {
    let time = limits.time.clone().or_else(|| Some(DEFAULT_TIME.to_owned()));
    let number = |n: Option<u64>| n.map(|n| n.to_string());
    let all = [
        ("time", time),
        ("cost", limits.cost.clone()),
        ("tokens", number(limits.tokens)),
        ("turns", number(limits.turns)),
        ("rounds", number(limits.rounds.map(u64::from))),
    ];
    all.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
