//! Guesses a repository's checks from the files at its root, for projects that named none.

use crate::domain::{CheckKind, CheckSpec};

/// The files at a repository's root that are read for it.
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

/// A guessed check's time limit.
const LIMIT_SECS: u64 = 600;

/// The checks of a repository with these names at its root; `read` gives a root file's text. Empty = nothing was found, and
/// somebody has to say what proves a change.
///
/// | seen | check |
/// |---|---|
/// | `Cargo.toml` | `cargo test` (`--workspace` where there is one) |
/// | `package.json` with a real test script | `npm ci` or `npm install`, then `npm test` |
/// | signs of pytest, or a Python project with tests | `python3 -m pytest -q` |
/// | `tox.ini` without pytest | `python3 -m tox -q` |
/// | `test*.py` at the root, nothing else of Python | `python3 -m unittest discover` |
/// | `go.mod` | `go test ./...` |
/// | none of these, a Makefile with `test` or `check` | `make test`, `make check` |
pub fn detect(names: &[String], read: impl Fn(&str) -> Option<String>) -> Vec<CheckSpec> {
    let has = |name: &str| names.iter().any(|n| n == name);
    let mut found = Vec::new();
    if has("Cargo.toml") {
        let all = read("Cargo.toml").is_some_and(|t| t.lines().any(|l| l.trim() == "[workspace]"));
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
        // In the order make itself looks.
        let file = ["GNUmakefile", "makefile", "Makefile"].into_iter().find(|n| has(n));
        found.extend(file.and_then(read).and_then(|text| make(&text)));
    }
    // Setup before tests, whichever language it is for.
    found.sort_by_key(|c| c.kind);
    found
}

fn check(name: &str, kind: CheckKind, command: &str) -> CheckSpec {
    CheckSpec {
        name: name.to_owned(),
        kind,
        command: command.to_owned(),
        timeout_secs: LIMIT_SECS,
        junit: None,
        runner: None,
    }
}

fn npm(has: &dyn Fn(&str) -> bool, package: Option<String>) -> Vec<CheckSpec> {
    let package: serde_json::Value = package.and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default();
    let script = package["scripts"]["test"].as_str().unwrap_or("").trim();
    // What `npm init` writes is a test that always fails.
    if script.is_empty() || script.contains("no test specified") {
        return Vec::new();
    }
    let some = |key: &str| package[key].as_object().is_some_and(|o| !o.is_empty());
    let setup = if has("package-lock.json") || has("npm-shrinkwrap.json") {
        Some("npm ci --no-audit --no-fund")
    } else if ["dependencies", "devDependencies", "optionalDependencies", "workspaces"].into_iter().any(some)
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
    let mentions = |name: &str, word: &str| has(name) && read(name).is_some_and(|t| t.contains(word));
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
    let loose = names.iter().any(|n| n.starts_with("test") && n.ends_with(".py"));
    if loose {
        return Some(check("unittest", CheckKind::Test, "python3 -m unittest discover"));
    }
    // A tests folder alone may be any language's.
    let project = ["pyproject.toml", "setup.py", "setup.cfg"].into_iter().any(has);
    (project && (has("tests") || has("test"))).then(|| check("pytest", CheckKind::Test, "python3 -m pytest -q"))
}

fn make(text: &str) -> Option<CheckSpec> {
    let target = |name: &str| {
        text.lines().any(|line| {
            // A rule names targets before its colon, at the start of the line; `test := x` is a variable.
            !line.starts_with(['\t', '#', ' '])
                && line.split_once(':').is_some_and(|(targets, rest)| {
                    !rest.starts_with('=') && !rest.starts_with(":=") && targets.split_whitespace().any(|t| t == name)
                })
        })
    };
    let name = ["test", "check"].into_iter().find(|n| target(n))?;
    Some(check(&format!("make-{name}"), CheckKind::Test, &format!("make {name}")))
}
