//! Commands that a repository's CI runs, as proposals for a person: they are shown and never run by themselves.

use super::tree::Tree;

/// Upper bounds on files, on proposals, and on the length of one.
pub const MAX_FILES: usize = 8;
const MAX_PROPOSALS: usize = 5;
const MAX_CHARS: usize = 160;
/// Files of CI systems whose commands are lines of YAML.
pub const FILES: &[&str] =
    &[".github/workflows/*.yml", ".github/workflows/*.yaml", ".gitlab-ci.yml", ".circleci/config.yml", ".travis.yml"];
/// Words of commands that run tests.
const TESTS: &[&str] = &[
    "test",
    "tests",
    "unittest",
    "pytest",
    "tox",
    "nox",
    "nosetests",
    "nose2",
    "behave",
    "rspec",
    "minitest",
    "cucumber",
    "ctest",
    "nextest",
    "phpunit",
    "pest",
    "phpspec",
    "behat",
    "codecept",
    "jest",
    "vitest",
    "mocha",
    "ava",
    "jasmine",
    "karma",
    "cypress",
    "playwright",
    "busted",
    "vusted",
    "bats",
    "shellspec",
    "prove",
    "kaocha",
    "eunit",
    "spec",
];
/// Words of commands that look for other faults.
const OTHERS: &[&str] = &["check", "lint", "clippy", "vet", "verify"];
/// Ends of the names of programs that look for other faults, whatever they are given to read.
const LINTERS: &[&str] = &["lint", "check", "flake8", "ruff", "rubocop", "mypy", "pyright"];

/// Returns the commands that test something, each with its file: those that run tests first.
pub fn proposals(tree: Tree<'_>) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for file in FILES.iter().flat_map(|pattern| tree.matches(pattern)).take(MAX_FILES) {
        for command in commands(tree.text(file)) {
            if rank(&command).is_some() && found.iter().all(|(c, _)| *c != command) {
                found.push((command, file.to_owned()));
            }
        }
    }
    found.sort_by_key(|(command, _)| rank(command));
    found.truncate(MAX_PROPOSALS);
    found
}

/// Returns the place of a command among the proposals; `None` if it tests nothing, or can't be run elsewhere.
fn rank(command: &str) -> Option<usize> {
    let is_part = |c: char| c.is_ascii_alphanumeric();
    // An expression of the CI system, or a line that only prints, can't be run elsewhere.
    let runs = !command.contains("${{") && !command.starts_with("echo") && command.chars().count() <= MAX_CHARS;
    if !runs || command.chars().any(char::is_control) {
        return None;
    }
    // The shell's own `test` tests no project, and installing a test runner runs no test.
    let is_alone = !command.contains("&&") && !command.contains(';');
    let program = command.split_whitespace().next().unwrap_or_default();
    let installs = command.split_whitespace().any(|word| matches!(word, "install" | "add" | "download"));
    if is_alone && (program == "test" || program == "[" || installs) {
        return None;
    }
    let has = |list: &[&str]| command.split(|c| !is_part(c)).any(|word| list.contains(&word));
    let is_linter = LINTERS.iter().any(|end| program.ends_with(end));
    match (has(TESTS), has(OTHERS)) {
        (true, _) if !is_linter => Some(0),
        (true, _) | (_, true) => Some(1),
        _ => None,
    }
}

/// Returns a command line without its comment. A `#` within a word or between quotes starts none.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == '#' && before.is_whitespace() => return &line[..at],
            None => {}
        }
        before = c;
    }
    line
}

/// Returns the lines of `run:` and `script:` entries, on one line, in a block, or in a list.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    // Indentation of the entry whose block or list is being read.
    let mut block: Option<usize> = None;
    for line in text.lines().take(5_000) {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if let Some(outer) = block {
            if indent > outer || (indent == outer && content.starts_with("- ")) {
                let command = content.strip_prefix("- ").unwrap_or(content).trim().trim_matches(['"', '\'']);
                if !command.ends_with('\\') {
                    found.push(without_comment(command).trim().to_owned());
                }
                continue;
            }
            block = None;
        }
        // The keys of a list's entry are indented as its first one.
        let (content, indent) = content.strip_prefix("- ").map_or((content, indent), |entry| (entry, indent + 2));
        let entry = ["run:", "script:", "command:"].into_iter().find_map(|key| content.strip_prefix(key));
        match entry.map(str::trim) {
            Some("" | "|" | "|-" | ">" | ">-") => block = Some(indent),
            Some(command) => found.push(command.trim_matches(['"', '\'']).to_owned()),
            None => {}
        }
    }
    found
}
