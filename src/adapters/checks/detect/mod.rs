//! Detects a repository's checks from its files at the base commit, for projects that define none.
//!
//! | file | duty |
//! |---|---|
//! | `tree` | the files, and patterns of their names |
//! | `table` | languages with one usual tool, as rules |
//! | `javascript`, `python`, `go` | languages with several tools: the lock file decides |
//! | `tasks` | task runners, where no language was recognized |
//! | `ci` | commands of CI files, which are only proposed |
//!
//! Invariant: pure. Texts come from a repository, so that nothing of them enters a command unquoted.

mod ci;
mod go;
mod javascript;
mod python;
mod python_deps;
mod table;
mod tasks;
mod tree;

use crate::domain::{CheckKind, CheckSpec};
pub use python::{HAS_PACKAGES, packages};
use std::collections::{BTreeMap, BTreeSet};
use table::{FALLBACKS, LANGUAGES, quoted};
pub use tree::Tree;

/// Timeout of a detected check, in seconds.
const TIMEOUT_SECS: u64 = 600;
/// Upper bounds on the files that are read, and on the projects in folders of a repository without one at its root.
const MAX_READ: usize = 160;
const MAX_PROJECTS: usize = 8;
/// Upper bound on files of one name that are read in folders.
const MAX_NESTED: usize = 32;

/// Files of a project's folder that decide.
#[rustfmt::skip]
const MANIFESTS: &[&str] = &[
    "Cargo.toml", "package.json", "yarn.lock", ".yarnrc.yml", "deno.json", "deno.jsonc", "pyproject.toml", "setup.cfg", "setup.py",
    "tox.ini", "tox.toml", "noxfile.py", "hatch.toml", "Pipfile", "manage.py", "requirements.txt", "go.work", "composer.json",
    "Rakefile", "pubspec.yaml", "CMakeLists.txt", "meson.build", "build.zig",
];
/// Files of folders whose content is needed.
const NESTED: &[&str] = &["**/package.json", "**/CMakeLists.txt", "**/meson.build"];
/// Manifests that make a folder a project of its own.
const PROJECTS: &[&str] = &[
    "Cargo.toml",
    "package.json",
    "pyproject.toml",
    "setup.py",
    "requirements.txt",
    "go.mod",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "Gemfile",
    "composer.json",
    "mix.exs",
    "Package.swift",
    "CMakeLists.txt",
    "deno.json",
];

/// What was detected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detected {
    /// The checks, in the order in which they run; empty = a person has to name them.
    pub checks: Vec<CheckSpec>,
    /// Why there are none, as the beginning of a sentence; empty if nothing was recognized.
    pub missing: Vec<String>,
    /// Commands that the repository's CI runs, each with its file.
    pub proposals: Vec<(String, String)>,
}

/// Returns the paths whose texts [`detect`] needs.
pub fn wanted(paths: &[String]) -> Vec<String> {
    let (sorted, none) = (sorted(paths), BTreeMap::new());
    let tree = Tree::new(&sorted, &none);
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut folders = vec![""];
    folders.extend(project_folders(tree));
    for folder in folders {
        let view = tree.within(folder);
        let names = MANIFESTS.iter().copied().chain(tasks::files()).filter(|name| view.has(name));
        found.extend(names.map(|name| format!("{folder}{name}")));
        let requirements = view.matches("*requirements*.txt").chain(view.matches("requirements/*.txt"));
        found.extend(requirements.chain(view.matches("tests/requirements.txt")).map(|f| format!("{folder}{f}")));
        found.extend(python::test_files(view).into_iter().map(|file| format!("{folder}{file}")));
    }
    found.extend(NESTED.iter().flat_map(|pattern| tree.matches(pattern).take(MAX_NESTED)).map(str::to_owned));
    found.extend(ci::FILES.iter().flat_map(|pattern| tree.matches(pattern)).take(ci::MAX_FILES).map(str::to_owned));
    // Manifests near the root decide more.
    let mut found: Vec<String> = found.into_iter().collect();
    found.sort_by_key(|path| path.matches('/').count());
    found.truncate(MAX_READ);
    found
}

/// Detects the checks of a repository from all its paths and the texts of those that [`wanted`] names.
pub fn detect(paths: &[String], texts: &BTreeMap<String, String>) -> Detected {
    let sorted = sorted(paths);
    // A byte order mark is not part of a text.
    let plain = |text: &String| text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned);
    let texts: BTreeMap<String, String> = texts.iter().map(|(path, text)| (path.clone(), plain(text))).collect();
    let tree = Tree::new(&sorted, &texts);
    let mut checks = project(tree);
    if checks.is_empty() {
        checks = project_folders(tree).into_iter().flat_map(|folder| within(tree, folder)).collect();
    }
    if checks.is_empty() {
        checks = fallback(tree);
    }
    // Setup checks run before tests, across languages.
    checks.sort_by_key(|c| c.kind);
    let missing = if checks.is_empty() { missing(tree) } else { Vec::new() };
    Detected { checks, missing, proposals: ci::proposals(tree) }
}

fn sorted(paths: &[String]) -> Vec<&str> {
    let mut sorted: Vec<&str> = paths.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted
}

/// Returns the checks of the project in one folder.
fn project(tree: Tree<'_>) -> Vec<CheckSpec> {
    let mut found = from_rules(LANGUAGES, tree);
    let mut add = |checks: Vec<(String, CheckKind, String)>| {
        found.extend(checks.into_iter().map(|(name, kind, command)| check(&name, kind, &command)));
        found.is_empty()
    };
    add(go::checks(tree));
    let is_only = add(javascript::checks(tree));
    add(python::checks(tree, is_only));
    found
}

fn from_rules(rules: &[table::Rule], tree: Tree<'_>) -> Vec<CheckSpec> {
    let mut families: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for rule in rules {
        if !families.contains(rule.family) && rule.fits(tree) {
            families.insert(rule.family);
            let commands = rule.commands(tree);
            found.extend(commands.into_iter().map(|(name, kind, command)| check(name, kind, &command)));
        }
    }
    found
}

/// Returns the checks of a project in a folder, as commands for the root folder.
fn within(tree: Tree<'_>, folder: &str) -> Vec<CheckSpec> {
    let mut checks = project(tree.within(folder));
    let dir = folder.trim_end_matches('/');
    for check in &mut checks {
        check.name = format!("{}-{}", slug(dir), check.name);
        check.command = format!("cd {} && {{ {}; }}", quoted(dir), check.command);
    }
    checks
}

/// Task runners and tools of last resort: those that need the least knowledge come first.
fn fallback(tree: Tree<'_>) -> Vec<CheckSpec> {
    let tasks: Vec<CheckSpec> = tasks::checks(tree).iter().map(|(name, kind, line)| check(name, *kind, line)).collect();
    if !tasks.is_empty() {
        return tasks;
    }
    let mut found = from_rules(FALLBACKS, tree);
    found.truncate(1);
    found
}

/// Returns the folders, one or two levels down, that hold a project of their own.
fn project_folders<'a>(tree: Tree<'a>) -> Vec<&'a str> {
    let mut folders: BTreeSet<&str> = BTreeSet::new();
    for path in tree.files() {
        let Some((folder, name)) = path.rsplit_once('/') else { continue };
        let parts = || folder.split('/');
        let foreign = |part: &str| part.starts_with(['.', '_']) || FOREIGN.contains(&part);
        if parts().count() <= 2 && PROJECTS.contains(&name) && !parts().any(foreign) {
            folders.insert(&path[..=folder.len()]);
        }
    }
    // A project within a project belongs to it.
    let all: Vec<&str> = folders.iter().copied().collect();
    let mut own: Vec<&str> = all.iter().copied().filter(|f| !all.iter().any(|o| o != f && f.starts_with(o))).collect();
    own.truncate(MAX_PROJECTS);
    own
}

/// Folders whose projects are not those of the repository itself.
const FOREIGN: &[&str] = &[
    "vendor",
    "third_party",
    "third-party",
    "node_modules",
    "examples",
    "example",
    "docs",
    "doc",
    "samples",
    "fixtures",
    "testdata",
    "templates",
];

/// Explains what was found instead of a check.
fn missing(tree: Tree<'_>) -> Vec<String> {
    [javascript::missing, python::missing, tasks::missing].into_iter().filter_map(|explain| explain(tree)).collect()
}

/// Makes a check's name of a path.
fn slug(path: &str) -> String {
    let part = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = path.chars().map(part).collect();
    let text: String = text.trim_matches('-').chars().take(32).collect();
    if text.is_empty() { "project".to_owned() } else { text }
}

fn check(name: &str, kind: CheckKind, command: &str) -> CheckSpec {
    CheckSpec {
        name: name.to_owned(),
        kind,
        command: command.to_owned(),
        timeout_secs: TIMEOUT_SECS,
        junit: None,
        runner: None,
        detected: true,
    }
}
