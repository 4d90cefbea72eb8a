//! Detects a repository's checks from the files in its root folder, for projects that define none.

use crate::domain::{CheckKind, CheckSpec};

/// Files in a repository's root folder whose content is needed.
pub const FILES: &[&str] = &[
    super::repo_file::NAME,
    "Cargo.toml",
    "package.json",
    "setup.cfg",
    "pyproject.toml",
    "tox.ini",
    "requirements.txt",
    "requirements-dev.txt",
    "GNUmakefile",
    "makefile",
    "Makefile",
];

/// Timeout of a detected check, in seconds.
const TIMEOUT_SECS: u64 = 600;

/// Detects the checks of a repository from the names in its root folder; `read` returns the text of a root file. An
/// empty result means that nothing was recognized, and a person has to define the checks.
///
/// | found | check |
/// |---|---|
/// | `Cargo.toml` | `cargo test` (`--workspace` in a workspace) |
/// | `package.json` with a real test script | `npm ci` or `npm install`, then `npm test` |
/// | a mention of pytest, or a Python project with tests | `python3 -m pytest -q` |
/// | `tox.ini` without pytest | `python3 -m tox -q` |
/// | `test*.py` in the root folder, no other sign of Python | `python3 -m unittest discover` |
/// | `go.mod` | `go test ./...` |
/// | none of these, a Makefile with `test` or `check` | `make test`, `make check` |
pub fn detect(names: &[String], read: impl Fn(&str) -> Option<String>) -> Vec<CheckSpec> {
    // A byte order mark is not part of the text.
    let read =
        |name: &str| read(name).map(|text| text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned));
    let has = |name: &str| names.iter().any(|n| n == name);
    let mut found = Vec::new();
    if has("Cargo.toml") {
        let all = table(read("Cargo.toml")).contains_key("workspace");
        found.push(check("cargo-test", CheckKind::Test, if all { "cargo test --workspace" } else { "cargo test" }));
    }
    if has("package.json") {
        found.extend(npm(&has, read("package.json")));
    }
    found.extend(python(names, &has, &read));
    if has("go.mod") {
        found.push(check("go-test", CheckKind::Test, "go test ./..."));
    }
    if found.is_empty() {
        // In the order in which make itself searches.
        let file = ["GNUmakefile", "makefile", "Makefile"].into_iter().find(|n| has(n));
        found.extend(file.and_then(read).and_then(|text| make(&text)));
    }
    // Setup checks run before tests, across languages.
    found.sort_by_key(|c| c.kind);
    found
}

fn check(name: &str, kind: CheckKind, command: &str) -> CheckSpec {
    CheckSpec {
        name: name.to_owned(),
        kind,
        command: command.to_owned(),
        timeout_secs: TIMEOUT_SECS,
        junit: None,
        runner: None,
    }
}

fn npm(has: &dyn Fn(&str) -> bool, package: Option<String>) -> Vec<CheckSpec> {
    let package: serde_json::Value = package.and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default();
    let script = package["scripts"]["test"].as_str().unwrap_or("").trim();
    // The script `npm init` generates always fails.
    if script.is_empty() || script.contains("no test specified") {
        return Vec::new();
    }
    let has_entries = |key: &str| package[key].as_object().is_some_and(|o| !o.is_empty());
    let setup = if has("package-lock.json") || has("npm-shrinkwrap.json") {
        Some("npm ci --no-audit --no-fund")
    } else if ["dependencies", "devDependencies", "optionalDependencies", "workspaces"].into_iter().any(has_entries)
        || package["workspaces"].is_array()
    {
        Some("npm install --no-audit --no-fund --no-package-lock")
    } else {
        None
    };
    let mut found: Vec<CheckSpec> =
        setup.map(|line| check("npm-install", CheckKind::Setup, line)).into_iter().collect();
    found.push(check("npm-test", CheckKind::Test, "npm test"));
    found
}

fn python(names: &[String], has: &dyn Fn(&str) -> bool, read: &dyn Fn(&str) -> Option<String>) -> Option<CheckSpec> {
    // A comment that mentions pytest, or a linter's rules for it, does not make a project use it.
    let mentions = |name: &str, word: &str| {
        has(name)
            && read(name).is_some_and(|t| t.lines().any(|l| l.split('#').next().is_some_and(|l| l.contains(word))))
    };
    let pytest = has("pytest.ini")
        || has("conftest.py")
        || mentions("setup.cfg", "[tool:pytest]")
        || ["pyproject.toml", "tox.ini", "requirements.txt", "requirements-dev.txt"]
            .into_iter()
            .any(|f| mentions(f, "pytest"));
    if pytest {
        return Some(check("pytest", CheckKind::Test, "python3 -m pytest -q"));
    }
    if has("tox.ini") {
        return Some(check("tox", CheckKind::Test, "python3 -m tox -q"));
    }
    let root_tests = names.iter().any(|n| n.starts_with("test") && n.ends_with(".py"));
    if root_tests {
        return Some(check("unittest", CheckKind::Test, "python3 -m unittest discover"));
    }
    // A `tests` folder alone says nothing about the language.
    let project = ["pyproject.toml", "setup.py", "setup.cfg"].into_iter().any(has);
    (project && (has("tests") || has("test"))).then(|| check("pytest", CheckKind::Test, "python3 -m pytest -q"))
}

/// Parses a TOML file; empty if it is missing or invalid.
fn table(text: Option<String>) -> toml::Table {
    text.and_then(|t| t.parse().ok()).unwrap_or_default()
}

fn make(text: &str) -> Option<CheckSpec> {
    let target = |name: &str| {
        text.lines().any(|line| {
            // A rule starts its line and lists its targets before the colon; `test := x` assigns a variable.
            !line.starts_with(['\t', '#', ' '])
                && line.split_once(':').is_some_and(|(targets, rest)| {
                    !rest.starts_with('=') && !rest.starts_with(":=") && targets.split_whitespace().any(|t| t == name)
                })
        })
    };
    let name = ["test", "check"].into_iter().find(|n| target(n))?;
    Some(check(&format!("make-{name}"), CheckKind::Test, &format!("make {name}")))
}
