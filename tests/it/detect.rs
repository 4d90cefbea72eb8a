//! Which checks are detected in which repositories.

use skep::adapters::checks::detect::detect;
use skep::domain::check::CheckKind;

fn detected(files: &[(&str, &str)]) -> Vec<(String, String)> {
    let names: Vec<String> = files.iter().map(|(n, _)| (*n).to_owned()).collect();
    let read = |name: &str| files.iter().find(|(n, _)| *n == name).map(|(_, text)| (*text).to_owned());
    let checks = detect(&names, read);
    assert!(checks.windows(2).all(|w| w[0].kind <= w[1].kind), "setup checks come first");
    assert!(checks.iter().all(|c| c.timeout_secs == 600 && matches!(c.kind, CheckKind::Setup | CheckKind::Test)));
    checks.into_iter().map(|c| (c.name, c.command)).collect()
}

fn commands(files: &[(&str, &str)]) -> Vec<String> {
    detected(files).into_iter().map(|(_, command)| command).collect()
}

#[test]
fn rust_go_and_make() {
    assert_eq!(commands(&[("Cargo.toml", "[package]")]), ["cargo test"]);
    assert_eq!(commands(&[("Cargo.toml", "[workspace]\nmembers = []")]), ["cargo test --workspace"]);
    for header in ["[workspace] # every crate\nmembers = []", "workspace.members = []", "\u{feff}[workspace.package]"] {
        assert_eq!(commands(&[("Cargo.toml", header)]), ["cargo test --workspace"], "{header}");
    }
    assert_eq!(commands(&[("Cargo.toml", "# [workspace]\n[package]")]), ["cargo test"]);
    assert_eq!(commands(&[("go.mod", "module x")]), ["go test ./..."]);
    assert_eq!(commands(&[("Makefile", "all: x\n\ntest: all\n\t./run\n")]), ["make test"]);
    assert_eq!(commands(&[("Makefile", "lint check: all\n")]), ["make check"]);
    assert_eq!(commands(&[("Makefile", "test := x\n# test: y\n\techo test:\n")]), [""; 0]);
    assert_eq!(commands(&[("Makefile", "test:\n"), ("Cargo.toml", "")]), ["cargo test"]);
}

#[test]
fn npm() {
    let real = r#"{"scripts":{"test":"node --test"}}"#;
    let init = r#"{"scripts":{"test":"echo \"Error: no test specified\" && exit 1"}}"#;
    let deps = r#"{"scripts":{"test":"jest"},"devDependencies":{"jest":"1"}}"#;
    assert_eq!(commands(&[("package.json", real)]), ["npm test"]);
    assert_eq!(commands(&[("package.json", init)]), [""; 0]);
    assert_eq!(commands(&[("package.json", "{ broken")]), [""; 0]);
    assert_eq!(commands(&[("package.json", r#"["not", "an object"]"#)]), [""; 0]);
    assert_eq!(
        commands(&[("package.json", real), ("package-lock.json", "")]),
        ["npm ci --no-audit --no-fund", "npm test"]
    );
    assert_eq!(commands(&[("package.json", &format!("\u{feff}{deps}"))]), commands(&[("package.json", deps)]));
    assert_eq!(commands(&[("package.json", deps)])[0], "npm install --no-audit --no-fund --no-package-lock");
}

#[test]
fn python() {
    let pytest = ["python3 -m pytest -q"];
    assert_eq!(commands(&[("pytest.ini", "")]), pytest);
    assert_eq!(commands(&[("pyproject.toml", "[tool.pytest.ini_options]")]), pytest);
    assert_eq!(commands(&[("setup.cfg", "[tool:pytest]")]), pytest);
    assert_eq!(commands(&[("tox.ini", "[testenv]\ndeps = pytest")]), pytest);
    assert_eq!(commands(&[("pyproject.toml", "[project]"), ("tests", "")]), pytest);
    assert_eq!(commands(&[("tox.ini", "[testenv]\ncommands = nose")]), ["python3 -m tox -q"]);
    assert_eq!(commands(&[("test_x.py", ""), ("x.py", "")]), ["python3 -m unittest discover"]);
    assert_eq!(commands(&[("pyproject.toml", "[project]")]), [""; 0]);
    assert_eq!(
        commands(&[("pyproject.toml", "[tool.ruff.lint]\nselect = [\"PT\"] # flake8-pytest-style"), ("test_x.py", "")]),
        ["python3 -m unittest discover"]
    );
}

#[test]
fn several_languages_and_none() {
    let both =
        detected(&[("Cargo.toml", ""), ("package.json", r#"{"scripts":{"test":"x"}}"#), ("package-lock.json", "")]);
    let names: Vec<_> = both.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["npm-install", "cargo-test", "npm-test"]);
    assert!(detected(&[("README.md", ""), ("tests", ""), ("src", "")]).is_empty());
    assert!(detected(&[]).is_empty());
}
