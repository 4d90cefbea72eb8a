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
/// Upper bounds on the files that are read, and on the projects in folders that are checked.
const MAX_READ: usize = 160;
const MAX_PROJECTS: usize = 16;
/// Upper bound on the folders that are looked at for a project, and on those that are named because no check covers
/// them.
const MAX_FOLDERS: usize = 32;
const MAX_NAMED: usize = 5;
/// How deep in the repository a project is checked, in folders.
const MAX_DEPTH: usize = 2;
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
/// Manifests that make a folder a project of its own, those of one language together.
const PROJECTS: &[&[&str]] = &[
    &["Cargo.toml"],
    &["package.json", "deno.json", "deno.jsonc"],
    &["pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "Pipfile"],
    &["go.mod", "go.work"],
    &["pom.xml", "build.gradle", "build.gradle.kts"],
    &["Gemfile"],
    &["composer.json"],
    &["mix.exs"],
    &["Package.swift"],
    &["CMakeLists.txt", "meson.build"],
];

/// What was detected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detected {
    /// The checks, in the order in which they run; empty = a person has to name them.
    pub checks: Vec<CheckSpec>,
    /// Why there are none, or which projects of the repository none of them covers, as parts of a sentence; empty if
    /// nothing was recognized, or everything is covered.
    pub missing: Vec<String>,
    /// Commands that the repository's CI runs, each with its file.
    pub proposals: Vec<(String, String)>,
}

/// Returns the paths whose texts [`detect`] needs.
pub fn wanted(paths: &[String]) -> Vec<String> {
    let (sorted, none) = (sorted(paths), BTreeMap::new());
    let tree = Tree::new(&sorted, &none);
    let mut found: BTreeSet<String> = BTreeSet::new();
    let nested: Vec<&str> = project_folders(tree).into_iter().filter(|f| is_near(f)).take(MAX_FOLDERS).collect();
    for folder in [""].iter().chain(&nested) {
        let view = tree.within(folder);
        let names = MANIFESTS.iter().copied().chain(tasks::files()).filter(|name| view.has(name));
        found.extend(names.map(|name| format!("{folder}{name}")));
        let requirements = view.matches("*requirements*.txt").chain(view.matches("requirements/*.txt"));
        found.extend(requirements.chain(view.matches("tests/requirements.txt")).map(|f| format!("{folder}{f}")));
        let mut tests = python::test_files(view);
        // Those of a project in a folder are read with it.
        tests.sort_by_key(|test| folder.is_empty() && nested.iter().any(|f| test.starts_with(f)));
        found.extend(tests.into_iter().take(python::MAX_TEST_FILES).map(|file| format!("{folder}{file}")));
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
        // A task that tests the whole repository is a better guide than what its folders look like.
        checks = tasks::checks(tree).iter().map(|(name, kind, line)| check(name, *kind, line)).collect();
    }
    let mut left_out = Vec::new();
    match checks.is_empty() {
        true => (checks, left_out) = in_folders(tree),
        false => left_out.extend(beside(tree)),
    }
    let missing = match checks.is_empty() {
        false => not_covered(tree, &left_out),
        true => {
            checks = fallback(tree);
            if checks.is_empty() { missing(tree, &left_out) } else { Vec::new() }
        }
    };
    // Setup checks run before tests, across languages.
    checks.sort_by_key(|c| c.kind);
    distinguish(&mut checks);
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
    // Tests without a project count only where no other language was found; those of the root folder come last.
    let is_python = python::is_project(tree, is_only) || (is_only && !tree.folder().is_empty());
    let is_empty = match is_python {
        true => add(python::checks(tree, &python::test_files(tree), true)),
        false => is_only,
    };
    if !is_empty {
        add(go::nested(tree).into_iter().map(|(_, check)| check).collect());
    }
    found
}

/// Returns the checks of the projects in folders, and the folders that no check covers. A project within a project that
/// is checked belongs to it.
fn in_folders<'a>(tree: Tree<'a>) -> (Vec<CheckSpec>, Vec<&'a str>) {
    let (mut checks, mut covered, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    let is_in = |folders: &[&str], path: &str| folders.iter().any(|folder| path.starts_with(folder));
    for (n, folder) in project_folders(tree).into_iter().enumerate() {
        if is_in(&covered, folder) {
            continue;
        }
        let may_be_checked = is_near(folder) && n < MAX_FOLDERS && covered.len() < MAX_PROJECTS;
        let found = if may_be_checked { within(tree, folder) } else { Vec::new() };
        match found.is_empty() {
            true => left_out.push(folder),
            false => covered.push(folder),
        }
        checks.extend(found);
    }
    for (folder, (name, kind, command)) in go::nested(tree) {
        if !is_in(&covered, folder) && covered.len() < MAX_PROJECTS {
            covered.push(folder);
            checks.push(check(&name, kind, &command));
        }
    }
    left_out.retain(|folder| !is_in(&covered, folder) && !covered.iter().any(|inner| inner.starts_with(folder)));
    let mut tests = python::test_files(tree);
    let all = tests.len();
    tests.retain(|test| !is_in(&covered, test) && !is_in(&left_out, test));
    if !tests.is_empty() || checks.is_empty() {
        let loose = python::checks(tree, &tests, tests.len() == all);
        checks.extend(loose.into_iter().map(|(name, kind, command)| check(&name, kind, &command)));
    }
    (checks, left_out)
}

/// Returns the folders with projects of languages that the root folder's project does not use. They are not checked:
/// its own checks may cover them.
fn beside<'a>(tree: Tree<'a>) -> Vec<&'a str> {
    let is_foreign = |folder: &str| {
        let used = |names: &&[&str]| names.iter().any(|name| tree.within(folder).has(name));
        let languages = PROJECTS.iter().copied().filter(used);
        // Modules of Go are tested one by one.
        languages.into_iter().any(|names| !names.contains(&"go.mod") && !names.iter().any(|name| tree.has(name)))
    };
    let near = project_folders(tree).into_iter().filter(|folder| is_near(folder)).take(MAX_FOLDERS);
    near.filter(|folder| is_foreign(folder) && !within(tree, folder).is_empty()).collect()
}

/// Appends a number to names that are taken.
fn distinguish(checks: &mut [CheckSpec]) {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for check in checks {
        let mut name = check.name.clone();
        let mut n = 2;
        while !taken.insert(name.clone()) {
            name = format!("{}-{n}", check.name);
            n += 1;
        }
        check.name = name;
    }
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

/// Tools of last resort: those that need the least knowledge come first.
fn fallback(tree: Tree<'_>) -> Vec<CheckSpec> {
    let mut found = from_rules(FALLBACKS, tree);
    found.truncate(1);
    found
}

/// Returns the folders that hold a project of their own, each before those within it.
fn project_folders<'a>(tree: Tree<'a>) -> Vec<&'a str> {
    let mut folders: BTreeSet<&str> = BTreeSet::new();
    for path in tree.files() {
        let Some((folder, name)) = path.rsplit_once('/') else { continue };
        let foreign = |part: &str| part.starts_with(['.', '_']) || FOREIGN.contains(&part);
        if PROJECTS.iter().any(|names| names.contains(&name)) && !folder.split('/').any(foreign) {
            folders.insert(&path[..=folder.len()]);
        }
    }
    // Those near the root decide more.
    let mut folders: Vec<&str> = folders.into_iter().collect();
    folders.sort_by_key(|folder| folder.matches('/').count());
    folders
}

fn is_near(folder: &str) -> bool {
    folder.matches('/').count() <= MAX_DEPTH
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
fn missing(tree: Tree<'_>, folders: &[&str]) -> Vec<String> {
    let in_folder = |folder: &&str| {
        let explain = [javascript::missing, python::missing].into_iter().find_map(|e| e(tree.within(folder)));
        explain.map(|text| format!("{folder}{text}"))
    };
    let of_root =
        [javascript::missing, python::missing, tasks::missing].into_iter().filter_map(|explain| explain(tree));
    of_root.chain(folders.iter().filter_map(in_folder)).take(MAX_NAMED).collect()
}

/// Names the projects in folders that no check covers.
fn not_covered(tree: Tree<'_>, folders: &[&str]) -> Vec<String> {
    let manifest = |folder: &&str| {
        let name = PROJECTS.iter().copied().flatten().find(|name| tree.within(folder).has(name))?;
        Some(format!("{folder}{name}"))
    };
    let mut named: Vec<String> = folders.iter().filter_map(manifest).take(MAX_NAMED).collect();
    if folders.len() > MAX_NAMED {
        named.push(format!("{} more", folders.len() - MAX_NAMED));
    }
    if named.is_empty() { Vec::new() } else { vec![format!("no check covers {}", named.join(", "))] }
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
