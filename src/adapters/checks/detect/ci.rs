//! Commands that a repository's CI runs, as proposals for a person: they are shown and never run by themselves.

use super::table::uncommented;
use super::tree::Tree;

/// Upper bounds on files, on proposals, and on the length of one.
pub const MAX_FILES: usize = 8;
const MAX_PROPOSALS: usize = 5;
const MAX_CHARS: usize = 160;
/// Files of CI systems whose commands are lines of YAML.
pub const FILES: &[&str] =
    &[".github/workflows/*.yml", ".github/workflows/*.yaml", ".gitlab-ci.yml", ".circleci/config.yml", ".travis.yml"];
/// Words of commands that test something.
const WORDS: &[&str] = &[
    "test", "tests", "check", "pytest", "tox", "nox", "spec", "rspec", "ctest", "lint", "clippy", "vet", "verify",
    "phpunit",
];

/// Returns the commands that test something, each with its file.
pub fn proposals(tree: Tree<'_>) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for file in FILES.iter().flat_map(|pattern| tree.matches(pattern)).take(MAX_FILES) {
        for command in commands(tree.text(file)) {
            if found.len() < MAX_PROPOSALS && is_test(&command) && found.iter().all(|(c, _)| *c != command) {
                found.push((command, file.to_owned()));
            }
        }
    }
    found
}

fn is_test(command: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric();
    // An expression of the CI system, or a line that only prints, can't be run elsewhere.
    let runs = !command.contains("${{") && !command.starts_with("echo") && command.chars().count() <= MAX_CHARS;
    runs && !command.chars().any(char::is_control) && command.split(|c| !is_part(c)).any(|word| WORDS.contains(&word))
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
                    found.push(uncommented(command).trim().to_owned());
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
