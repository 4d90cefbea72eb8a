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
/// Longest line that is quoted.
const MAX_LINE_CHARS: usize = 200;

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
    "Rakefile",
    "composer.json",
    "mix.exs",
];

/// Messages, in lower case, of clients that found no service at an address.
const REFUSED: &[&str] =
    &["connection refused", "econnrefused", "error 111 connecting", "(111)", "connect to server", "connect to local "];
/// Names of this machine, in lower case.
const LOOPBACK: &[&str] = &["localhost", "127.0.0.1", "[::1]", "::1"];
/// Lowest port that the kernel gives out: the servers of tests themselves listen there.
const MIN_OWN_PORT: u16 = 32_768;
/// Longest distance between the name of this machine and the port, in characters.
const MAX_PORT_DISTANCE: usize = 40;

/// Messages, in lower case, about a toolchain of another version than the repository needs, and the toolchain.
const TOOLCHAINS: &[(&str, &str)] = &[
    ("is not in goroot", "Go"),
    ("is not in std", "Go"),
    ("requires go >= ", "Go"),
    ("module requires go 1.", "Go"),
    ("invalid go version '", "Go"),
    ("toolchain not available", "Go"),
    ("requires rustc ", "Rust"),
    ("is not supported by the following package", "Rust"),
    ("does not understand this lock file", "Rust"),
    ("requires `-znext-lockfile-bump`", "Rust"),
    ("feature `edition20", "Rust"),
    ("code ebadengine", "Node.js"),
    ("the engine \"node\" is incompatible", "Node.js"),
    ("err_pnpm_unsupported_engine", "Node.js"),
    ("requires a different python", "Python"),
    ("incompatible with the project's python requirement", "Python"),
    ("current python version (", "Python"),
    ("your ruby version is ", "Ruby"),
    ("invalid target release", "Java"),
    ("error: release version ", "Java"),
    ("by a more recent version of the java runtime", "Java"),
    ("your php version (", "PHP"),
    ("does not support targeting .net", ".NET"),
    ("a compatible .net sdk was not found", ".NET"),
    ("is using swift tools version", "Swift"),
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
    ("cannot load such file -- ", Names::DeclaredPackage),
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
    if let Some((_, name)) = TOOLCHAINS.iter().find(|(message, _)| lower.contains(message)) {
        let line = line.trim().chars().take(MAX_LINE_CHARS).collect();
        return Some(Fault::Toolchain { name: (*name).to_owned(), line });
    }
    let found = MESSAGES.iter().find_map(|(message, names)| {
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
    });
    found.or_else(|| service_in(&lower))
}

/// Returns the service on this machine that a line, in lower case, reports as missing.
fn service_in(line: &str) -> Option<Fault> {
    if !REFUSED.iter().any(|message| line.contains(message)) {
        return None;
    }
    // `localhost:6379`; `"localhost" (127.0.0.1), port 5432`; `localhost port 8080`
    let of_host = LOOPBACK.iter().find_map(|host| {
        let rest = &line[line.find(host)? + host.len()..];
        let rest: String = rest.chars().take(MAX_PORT_DISTANCE).collect();
        let digits = rest.strip_prefix(':').or_else(|| Some(rest.split_once("port ")?.1))?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let port = digits[..end].parse::<u16>().ok().filter(|port| (1..MIN_OWN_PORT).contains(port))?;
        Some(format!("localhost:{port}"))
    });
    // `server on socket "/run/postgresql/.s.PGSQL.5432"`, `through socket '/run/mysqld/mysqld.sock'`
    let of_socket = || line.split_once("socket ").map(|(_, rest)| word(rest)).filter(|path| path.starts_with('/'));
    of_host.or_else(of_socket).map(|name| Fault::Service { name })
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
        let service = |name: &str| Some(Fault::Service { name: name.to_owned() });
        let toolchain =
            |name: &str, line: &str| Some(Fault::Toolchain { name: name.to_owned(), line: line.to_owned() });
        let go = "go: go.mod requires go >= 1.22 (running go 1.19)";
        let rust = "error: package `a v1.0.0` cannot be built because it requires rustc 1.90 or newer";
        let node = "npm error code EBADENGINE";
        let python = "ERROR: Package 'a' requires a different Python: 3.9.2 not in '>=3.10'";
        let table = [
            (1, "a.go:3:2: package slices is not in GOROOT (/usr/lib/go-1.19/src/slices)\n", {
                toolchain("Go", "a.go:3:2: package slices is not in GOROOT (/usr/lib/go-1.19/src/slices)")
            }),
            (1, go, toolchain("Go", go)),
            (101, rust, toolchain("Rust", rust)),
            (1, node, toolchain("Node.js", node)),
            (1, python, toolchain("Python", python)),
            (1, "npm warn EBADENGINE Unsupported engine", None),
            (
                1,
                "redis.exceptions.ConnectionError: Error 111 connecting to localhost:6379. Connection refused.",
                service("localhost:6379"),
            ),
            (1, "Error: connect ECONNREFUSED ::1:5432", service("localhost:5432")),
            (
                1,
                "connection to server at \"localhost\" (127.0.0.1), port 5432 failed: Connection refused",
                service("localhost:5432"),
            ),
            (
                1,
                "curl: (7) Failed to connect to localhost port 8080 after 0 ms: Couldn't connect to server",
                service("localhost:8080"),
            ),
            (1, "dial tcp 127.0.0.1:9200: connect: connection refused", service("localhost:9200")),
            (
                2,
                "psql: error: connection to server on socket \"/run/pg/.s.PGSQL.5432\" failed: Connection refused",
                service("/run/pg/.s.pgsql.5432"),
            ),
            (1, "dial tcp 127.0.0.1:41233: connect: connection refused", None),
            (1, "dial tcp 192.0.2.7:5432: connect: connection refused", None),
            (1, "listening on localhost:6379", None),
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
