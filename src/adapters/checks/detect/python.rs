//! Python: who installs the dependencies (by the lock file), and who runs the tests (by what the repository uses).

use super::python_deps::{Declared, declared};
use super::table::{quoted, uncommented};
use super::tree::{Tree, key};
use crate::domain::CheckKind::{self, Setup, Test};
use std::collections::BTreeSet;

/// A tool that installs dependencies and runs programs with them.
struct Manager {
    name: &'static str,
    /// The lock file, and the keys in pyproject.toml that only a user of this tool writes.
    lock: &'static str,
    keys: &'static [&'static str],
    /// Installs with and without the lock file; options for groups and extras follow.
    locked: &'static str,
    unlocked: &'static str,
    /// Options that add a dependency group, and an extra.
    group: &'static str,
    extra: &'static str,
    /// Runs a program with the dependencies.
    run: &'static str,
}

#[rustfmt::skip]
const MANAGERS: &[Manager] = &[
    Manager { name: "uv", lock: "uv.lock", keys: &["tool", "uv", "workspace"], locked: "uv sync --locked", unlocked: "uv sync", group: "--group", extra: "--extra", run: "uv run --no-sync" },
    Manager { name: "poetry", lock: "poetry.lock", keys: &["tool", "poetry"], locked: "poetry install --no-interaction", unlocked: "poetry install --no-interaction", group: "--with", extra: "--extras", run: "poetry run" },
    Manager { name: "pdm", lock: "pdm.lock", keys: &["tool", "pdm", "dev-dependencies"], locked: "pdm install --frozen-lockfile", unlocked: "pdm install --no-lock", group: "-G", extra: "-G", run: "pdm run" },
    Manager { name: "pipenv", lock: "Pipfile.lock", keys: &[], locked: "pipenv sync --dev", unlocked: "pipenv install --dev --skip-lock", group: "", extra: "", run: "pipenv run" },
];

/// A program that runs tests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runner {
    Pytest,
    Unittest,
    Django,
}

/// A program that succeeds if all packages named by its arguments are installed.
pub const HAS_PACKAGES: &str = "import importlib.metadata as m, sys; [m.version(p) for p in sys.argv[1:]]";
/// What precedes and follows the packages in the setup check of a project without a manager.
const PROBE: &str = "python3 -c 'import importlib.metadata as m, sys; [m.version(p) for p in sys.argv[1:]]' ";
const OTHERWISE: &str = " 2>/dev/null || ";

/// Returns the packages that a setup check of this module looks for before it installs them.
pub fn packages(command: &str) -> Option<Vec<&str>> {
    let (packages, _) = command.strip_prefix(PROBE)?.split_once(OTHERWISE)?;
    let is_name = |p: &&str| !p.starts_with('-') && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let packages: Vec<&str> = packages.split(' ').collect();
    packages.iter().all(is_name).then_some(packages)
}

/// Configuration that only pytest reads, besides sections of shared files.
const PYTEST_FILES: &str = "pytest.ini|.pytest.ini|pytest.toml|.pytest.toml|conftest.py|tests/conftest.py|test/conftest.py|src/conftest.py|testing/conftest.py";
/// Sections of shared files that configure pytest.
const PYTEST_SECTIONS: &[(&str, &str)] =
    &[("setup.cfg", "[tool:pytest]"), ("tox.ini", "[pytest]"), ("pyproject.toml", "[tool.pytest")];
/// Files of a folder that is a project by itself.
const PROJECT_FILES: &str = "pyproject.toml|setup.py|setup.cfg|tox.ini|noxfile.py|Pipfile|requirements.txt|manage.py";
/// Test files whose imports are read.
pub const MAX_TEST_FILES: usize = 24;
/// Upper bound on the folders in which unittest searches.
const MAX_STARTS: usize = 64;
/// Folders with code of others, or with data of tests.
const NOT_TESTS: &[&str] = &["vendor", "third_party", "third-party", "node_modules", "testdata", "fixtures"];

/// Returns the files of tests, those near the root first.
pub fn test_files<'a>(tree: Tree<'a>) -> Vec<&'a str> {
    let is_test = |path: &&str| {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let in_tests = matches!(folder.split('/').next(), Some("tests" | "test"));
        name.ends_with(".py")
            && (name.starts_with("test_") || name.ends_with("_test.py") || in_tests && name.starts_with("test"))
            && !folder.split('/').any(|part| part.starts_with('.') || NOT_TESTS.contains(&part))
    };
    let mut found: Vec<&str> = tree.files().filter(is_test).collect();
    found.sort_by_key(|path| path.matches('/').count());
    found
}

/// Returns whether a folder is a Python project by itself. Where no other language was found, a configuration of pytest
/// says so as well.
pub fn is_project(tree: Tree<'_>, is_only: bool) -> bool {
    tree.has(PROJECT_FILES) || (is_only && tree.has(PYTEST_FILES))
}

/// Returns the checks of a Python project with these test files. `is_complete` = they are all that the folder has.
pub fn checks(tree: Tree<'_>, tests: &[&str], is_complete: bool) -> Vec<(String, CheckKind, String)> {
    let declared = declared(tree);
    let Some(runner) = runner(tree, &declared, tests) else {
        return environments(tree, tests);
    };
    let commands = match runner {
        Runner::Pytest if is_complete => vec!["python3 -m pytest -q".to_owned()],
        Runner::Pytest => {
            let parts: BTreeSet<&str> = tests.iter().filter_map(|test| test.split('/').next()).collect();
            let parts: Vec<String> = parts.into_iter().map(quoted).collect();
            vec![format!("python3 -m pytest -q {}", parts.join(" "))]
        }
        Runner::Django => vec!["python3 manage.py test".to_owned()],
        Runner::Unittest => unittest(tree, tests),
    };
    let name = match runner {
        Runner::Pytest => "pytest",
        Runner::Django => "django-test",
        Runner::Unittest => "unittest",
    };
    let pyproject = tree.toml("pyproject.toml");
    let by_lock = MANAGERS.iter().find(|m| tree.has(m.lock));
    let manager = by_lock.or_else(|| {
        MANAGERS.iter().find(|m| match m.keys {
            [] => tree.has("Pipfile"),
            keys => key(&pyproject, keys).is_some(),
        })
    });
    match manager {
        Some(manager) => {
            let (setup, run) = managed(manager, tree, &declared, runner);
            let command = |line: &String| line.replacen("python3", &format!("{run} python"), 1);
            let commands: Vec<String> = commands.iter().map(command).collect();
            vec![(format!("{}-install", manager.name), Setup, setup), (name.to_owned(), Test, commands.join(" && "))]
        }
        None => with_pip(tree, &declared, runner, name, &commands),
    }
}

/// Explains why a Python project has no check.
pub fn missing(tree: Tree<'_>) -> Option<String> {
    let file = tree.first("pyproject.toml|setup.py|setup.cfg|requirements.txt|Pipfile")?;
    Some(format!("{file} is there, but no tests of pytest or unittest were found"))
}

/// Decides by what the repository uses, never by a word in a comment or a linter's rules.
fn runner(tree: Tree<'_>, declared: &Declared, tests: &[&str]) -> Option<Runner> {
    let configured = tree.has(PYTEST_FILES)
        || PYTEST_SECTIONS.iter().any(|(file, section)| {
            tree.text(file).lines().map(uncommented).any(|line| line.trim_start().starts_with(section))
        });
    if configured || declared.pytest.is_declared() {
        return Some(Runner::Pytest);
    }
    if tree.has("manage.py") && tree.text("manage.py").contains("django") {
        return Some(Runner::Django);
    }
    let uses = |word: &str| {
        let imports = |line: &str| {
            let line = line.trim_start();
            (line.starts_with("import ") || line.starts_with("from ")) && line.split([' ', ',', '.']).any(|w| w == word)
        };
        tests.iter().any(|file| code_lines(tree.text(file)).any(imports))
    };
    let functions = || tests.iter().any(|file| tree.text(file).lines().any(|l| l.starts_with("def test_")));
    match () {
        () if tests.is_empty() => None,
        () if uses("pytest") => Some(Runner::Pytest),
        () if uses("unittest") => Some(Runner::Unittest),
        () if functions() => Some(Runner::Pytest),
        () => tree.has("test*.py").then_some(Runner::Unittest),
    }
}

/// Returns the lines outside strings of several lines, such as docstrings with examples.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut open: Option<&str> = None;
    text.lines().filter(move |line| {
        let was_open = open.is_some();
        let mut rest = *line;
        loop {
            let found = match open {
                Some(quotes) => rest.find(quotes).map(|at| (at, quotes)),
                None => ["\"\"\"", "'''"].iter().filter_map(|q| Some((rest.find(q)?, *q))).min(),
            };
            let Some((at, quotes)) = found else { break };
            open = if open.is_some() { None } else { Some(quotes) };
            rest = &rest[at + quotes.len()..];
        }
        !was_open
    })
}

/// Checks of a project that leaves everything to tox, nox or Hatch.
fn environments(tree: Tree<'_>, tests: &[&str]) -> Vec<(String, CheckKind, String)> {
    let one = |name: &str, command: &str| vec![(name.to_owned(), Test, command.to_owned())];
    let pyproject = tree.toml("pyproject.toml");
    let hatch = |keys: &[&str]| key(&pyproject, keys).is_some();
    if hatch(&["tool", "hatch", "envs", "default", "scripts", "test"]) {
        return one("hatch", "hatch run test");
    }
    if hatch(&["tool", "hatch", "envs", "hatch-test"]) && !tests.is_empty() {
        return one("hatch", "hatch test");
    }
    // Linters keep their settings in tox.ini as well.
    let has_tox = tree.has("tox.toml")
        || tree.text("tox.ini").lines().any(|l| l.starts_with("[tox") || l.starts_with("[testenv"));
    if has_tox || key(&pyproject, &["tool", "tox"]).is_some() {
        // The environment `py` is the plain test environment with the Python that is there.
        let plain = tree.text("tox.ini").lines().any(|l| l.trim() == "[testenv]");
        return one("tox", if plain { "python3 -m tox -q -e py" } else { "python3 -m tox -q" });
    }
    let sessions = tree.text("noxfile.py");
    match ["tests", "test"].into_iter().find(|s| sessions.contains(&format!("def {s}("))) {
        Some(session) => one("nox", &format!("python3 -m nox -s {session}")),
        None if tree.has("noxfile.py") => one("nox", "python3 -m nox"),
        None => Vec::new(),
    }
}

/// Returns the commands that run all tests. Discovery enters only packages, so it starts in the folder of each test, or,
/// if that is a package, in the folder that contains the package.
fn unittest(tree: Tree<'_>, tests: &[&str]) -> Vec<String> {
    let parent = |path: &str| path.rfind('/').unwrap_or(0);
    let mut starts: BTreeSet<(&str, &str)> = BTreeSet::new();
    for test in tests {
        let mut folder = &test[..parent(test)];
        let name = test.rsplit('/').next().unwrap_or(test);
        while !folder.is_empty() && tree.has(&format!("{folder}/__init__.py")) {
            folder = &folder[..parent(folder)];
        }
        starts.insert((folder, if name.starts_with("test") { "" } else { " -p '*_test.py'" }));
    }
    let command = |(folder, names): (&str, &str)| {
        let start = if folder.is_empty() { String::new() } else { format!(" -s {}", quoted(folder)) };
        format!("python3 -m unittest discover{start}{names}")
    };
    starts.into_iter().take(MAX_STARTS).map(command).collect()
}

/// Returns how a manager installs, and how it runs a program.
fn managed(manager: &Manager, tree: Tree<'_>, declared: &Declared, runner: Runner) -> (String, String) {
    let mut setup = if tree.has(manager.lock) { manager.locked } else { manager.unlocked }.to_owned();
    let mut run = manager.run.to_owned();
    if manager.name == "uv" && key(&tree.toml("pyproject.toml"), &["tool", "uv", "workspace"]).is_some() {
        setup.push_str(" --all-packages");
    }
    let tests = if runner == Runner::Pytest { &declared.pytest } else { &declared.none };
    // Groups that are installed anyway are not repeated.
    match (&tests.group, &tests.extra) {
        _ if tests.always => {}
        (Some(group), _) if !manager.group.is_empty() => {
            setup.push_str(&format!(" {} {}", manager.group, quoted(group)))
        }
        (None, Some(extra)) if !manager.extra.is_empty() => {
            setup.push_str(&format!(" {} {}", manager.extra, quoted(extra)));
        }
        (None, None) if manager.name == "uv" && runner == Runner::Pytest => run.push_str(" --with pytest"),
        _ => {}
    }
    (setup, run)
}

/// Checks of a project without a manager. Where the dependencies are already there, as in an active virtual
/// environment, nothing is installed.
fn with_pip(
    tree: Tree<'_>,
    declared: &Declared,
    runner: Runner,
    name: &str,
    commands: &[String],
) -> Vec<(String, CheckKind, String)> {
    // The checkout's own code comes before an installed copy of it.
    let source =
        if tree.has("src/**.py") && tree.has("pyproject.toml|setup.py|setup.cfg") { "PYTHONPATH=src " } else { "" };
    let prefixed = |prefix: &str| {
        let lines: Vec<String> = commands.iter().map(|line| format!("{prefix}{line}")).collect();
        lines.join(" && ")
    };
    let mut needed = declared.names.clone();
    if !source.is_empty() {
        needed.extend(declared.project.clone());
    }
    let mut args = declared.requirements.iter().map(|file| format!("-r {}", quoted(file))).collect::<Vec<_>>();
    if tree.has("pyproject.toml|setup.py") && declared.is_installable {
        let extra =
            declared.pytest.extra.as_ref().filter(|_| runner == Runner::Pytest && declared.pytest.group.is_none());
        args.push(extra.map_or_else(|| "-e .".to_owned(), |extra| format!("-e '.[{extra}]'")));
    }
    if runner == Runner::Pytest {
        needed.extend((!needed.iter().any(|n| n == "pytest")).then(|| "pytest".to_owned()));
        args.extend(declared.group_requirements.iter().map(|r| format!("'{r}'")));
        if declared.pytest.extra.is_none() && declared.pytest.group.is_none() && !declared.pytest.always {
            args.push("pytest".to_owned());
        }
    }
    if needed.is_empty() || args.is_empty() {
        return vec![(name.to_owned(), Test, prefixed(source))];
    }
    let setup = format!(
        "{PROBE}{}{OTHERWISE}{{ python3 -m venv .venv && .venv/bin/python -m pip install -q {}; }}",
        needed.join(" "),
        args.join(" ")
    );
    let test = prefixed(&format!("PATH=\"$PWD/.venv/bin:$PATH\" {source}"));
    vec![("pip-install".to_owned(), Setup, setup), (name.to_owned(), Test, test)]
}
