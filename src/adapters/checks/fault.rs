//! Recognizes in a red check's output what its environment lacks. What is not recognized may be the commit's fault.
//!
//! Invariant: the output is text from outside. What is read from it decides only whom to ask, never whether a check is
//! green.

use crate::domain::Fault;
use crate::platform::rooted_fs::RootedDir;
use crate::platform::terminal_text;
use std::path::Path;

/// Upper bound on the output that is searched, from its end.
const MAX_SEARCHED_BYTES: usize = 64 * 1024;
/// Upper bound on a manifest that is searched for a declared package.
const MAX_MANIFEST_BYTES: u64 = 256 * 1024;
/// Longest name of a program or package.
const MAX_NAME_CHARS: usize = 100;

/// Files in the root folder in which a repository declares its packages.
const MANIFESTS: &[&str] = &[
    "pyproject.toml",
    "requirements.txt",
    "requirements-dev.txt",
    "dev-requirements.txt",
    "test-requirements.txt",
    "requirements/dev.txt",
    "requirements/test.txt",
    "requirements/tests.txt",
    "setup.py",
    "setup.cfg",
    "tox.ini",
    "Pipfile",
    "package.json",
    "Gemfile",
    "composer.json",
    "mix.exs",
];

/// How a message names what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// A program: the word before the text.
    ProgramBefore,
    /// A program: the word after the text.
    ProgramAfter,
    /// A package: the word after the text, whatever the repository declares.
    Package,
    /// A package: the word after the text, if the repository declares it. Else the commit may have to add it.
    DeclaredPackage,
    /// Space on a disk.
    Space,
}

/// Messages of programs, in lower case, and what they name. The first that matches counts.
const MESSAGES: &[(&str, Names)] = &[
    ("no space left on device", Names::Space),
    ("disk quota exceeded", Names::Space),
    (": command not found", Names::ProgramBefore),
    (": not found", Names::ProgramBefore),
    ("linker `", Names::ProgramAfter),
    ("env: '", Names::ProgramAfter),
    ("env: \u{2018}", Names::ProgramAfter),
    (": no module named ", Names::Package),
    ("modulenotfounderror: no module named ", Names::DeclaredPackage),
    ("cannot find module '", Names::DeclaredPackage),
    ("cannot find package '", Names::DeclaredPackage),
    ("could not find gem '", Names::DeclaredPackage),
];

/// Returns what the environment of a command that ended red lacks, as far as its output shows it.
pub fn of(code: Option<i32>, output: &[u8], needs_network: bool, checkout: &Path) -> Option<Fault> {
    if needs_network {
        return Some(Fault::Network);
    }
    let text = terminal_text::tail(output, MAX_SEARCHED_BYTES);
    let lines: Vec<String> = text.lines().rev().take(400).map(str::to_owned).collect();
    let no_program = matches!(code, Some(126 | 127)) || lines.iter().any(|l| l.contains("Error 127"));
    let found = lines.iter().find_map(|line| fault_in(line, no_program, checkout));
    found.or_else(|| no_program.then(|| Fault::Program { name: String::new() }))
}

/// Returns the fault that a line reports.
fn fault_in(line: &str, no_program: bool, checkout: &Path) -> Option<Fault> {
    let lower = line.to_lowercase();
    let make = no_program || lower.starts_with("make");
    if make && let Some(rest) = lower.strip_suffix(": no such file or directory") {
        // `make: go: No such file or directory`; a path names a file of the repository.
        let name = word(rest.rsplit(": ").next().unwrap_or_default());
        if !name.is_empty() && !name.contains('/') {
            return Some(Fault::Program { name });
        }
    }
    MESSAGES.iter().find_map(|(message, names)| {
        let at = lower.find(message)?;
        // Names keep their case where lower case has the same length.
        let line = if lower.len() == line.len() { line } else { lower.as_str() };
        let after = || word(&line[at + message.len()..]);
        Some(match names {
            Names::Space => Fault::Space,
            // A shell says it with this exit code; other programs say "not found" about other things.
            Names::ProgramBefore if no_program => {
                let name = line[..at].rsplit([':', ' ']).next().map(word)?;
                Fault::Program { name: Some(name).filter(|n| !n.is_empty())? }
            }
            Names::ProgramBefore => return None,
            Names::ProgramAfter => Fault::Program { name: after() },
            // `/usr/bin/python3: No module named pytest`: the command itself asked for the module.
            Names::Package if lower[..at].contains("python") && !lower[..at].contains(' ') => {
                Fault::Module { name: after() }
            }
            Names::Package => return None,
            Names::DeclaredPackage => {
                let name = after();
                let package = name.split(['.', '/']).next().filter(|_| !name.starts_with('@')).unwrap_or(&name);
                if !is_declared(package, checkout) {
                    return None;
                }
                Fault::Module { name }
            }
        })
    })
}

/// Returns the word at the start of a text, without quotes.
fn word(text: &str) -> String {
    let end = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | ',' | ';' | ':' | '\u{2019}');
    text.trim_start_matches(['\'', '"', '`'])
        .split(end)
        .next()
        .unwrap_or_default()
        .chars()
        .take(MAX_NAME_CHARS)
        .collect()
}

/// Returns whether a manifest of the repository names the package.
fn is_declared(package: &str, checkout: &Path) -> bool {
    let plain = |text: &str| text.to_lowercase().replace(['-', '.'], "_");
    let package = plain(package);
    let Some(root) = RootedDir::open(checkout).ok().filter(|_| !package.is_empty()) else { return false };
    MANIFESTS.iter().filter_map(|name| root.read(name, MAX_MANIFEST_BYTES).ok()).any(|bytes| {
        let text = plain(&String::from_utf8_lossy(&bytes));
        text.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '@' | '/')).any(|word| word == package)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_environment_are_told_from_faults_of_the_commit() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pyproject.toml"), "dependencies = [\"requests>=2\", 'ruamel.yaml']\n").unwrap();
        std::fs::write(dir.path().join("package.json"), r#"{"devDependencies": {"@scope/kit": "1", "jest": "29"}}"#)
            .unwrap();
        let program = |name: &str| Some(Fault::Program { name: name.to_owned() });
        let module = |name: &str| Some(Fault::Module { name: name.to_owned() });
        let table = [
            (127, "sh: 1: go: not found", program("go")),
            (127, "bash: line 1: pytest: command not found\n", program("pytest")),
            (127, "/tmp/x.sh: line 3: cargo-nextest: command not found", program("cargo-nextest")),
            (127, "env: 'node': No such file or directory", program("node")),
            (126, "sh: 1: ./run: Permission denied", program("")),
            (127, "", program("")),
            (2, "make: go: No such file or directory\nmake: *** [Makefile:2: test] Error 127", program("go")),
            (2, "sh: 1: eslint: not found\nmake: *** [test] Error 127", program("eslint")),
            (101, "error: linker `cc` not found", program("cc")),
            (1, "/home/me/.venv/bin/python3: No module named pytest", module("pytest")),
            (1, "E   ModuleNotFoundError: No module named 'requests'", module("requests")),
            (1, "ModuleNotFoundError: No module named 'ruamel'", None),
            (1, "ModuleNotFoundError: No module named 'greet'", None),
            (1, "Error: Cannot find module 'jest'", module("jest")),
            (
                1,
                "Error [ERR_MODULE_NOT_FOUND]: Cannot find package '@scope/kit' imported from /a",
                module("@scope/kit"),
            ),
            (1, "Error: Cannot find module './calc'", None),
            (1, "write failed: No space left on device", Some(Fault::Space)),
            (1, "AssertionError: page: not found", None),
            (1, "cat: a.txt: No such file or directory", None),
            (1, "FAILED test_a - assert 1 == 2", None),
        ];
        for (code, output, expected) in table {
            assert_eq!(of(Some(code), output.as_bytes(), false, dir.path()), expected, "{output:?}");
        }
        assert_eq!(of(Some(1), b"getaddrinfo EAI_AGAIN", true, dir.path()), Some(Fault::Network));
    }
}
