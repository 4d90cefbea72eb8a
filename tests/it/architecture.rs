//! Rules for the source and the documents, checked on their text: layers, file form, language, what documents state.
//!
//! | file | rules |
//! |---|---|
//! | `actors` | the modules of the runtime import each other without a cycle |
//! | `layers` | which layer may use which, and which library is used where |
//! | `forms` | first lines, lengths and names of files; nothing unfinished |
//! | `language` | replaced names and phrases; the width of documents |
//! | `docs` | links, commands, configuration keys and paths in the documents |
//!
//! Every rule is a function over text and is tested with planted violations: a rule that cannot fail checks nothing.

mod actors;
mod docs;
mod forms;
mod language;
mod layers;

use std::path::{Path, PathBuf};

/// A file: its path relative to the root, and its text.
pub struct TextFile {
    pub path: String,
    pub text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files in `folders` whose names end with `ending`. The demo's sample project is data, not source.
fn files(folders: &[&str], ending: &str) -> Vec<TextFile> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|f| root().join(f)).collect();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root()).expect("a path in the root").to_string_lossy().replace('\\', "/");
            if name.starts_with("src/adapters/demo/tally/") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if name.ends_with(ending) {
                let text = std::fs::read_to_string(&path).expect("a text file");
                found.push(TextFile { path: name, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn file(path: &str) -> TextFile {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    TextFile { path: path.to_owned(), text }
}

fn sources() -> Vec<TextFile> {
    let found = files(&["src"], ".rs");
    assert!(found.len() > 100, "the source was not found");
    found
}

fn assert_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

/// Returns the code without comments and with empty string literals, line by line: only what the compiler acts on.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let bytes: Vec<char> = text.chars().collect();
    let mut i = 0;
    let at = |i: usize| bytes.get(i).copied().unwrap_or('\0');
    while i < bytes.len() {
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < bytes.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            'r' if (at(i + 1) == '"' || (at(i + 1) == '#' && matches!(at(i + 2), '"' | '#')))
                && !at(i.wrapping_sub(1)).is_alphanumeric() =>
            {
                let hashes = (1..).take_while(|n| at(i + n) == '#').count();
                i += 2 + hashes;
                let end = |i: usize| at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#');
                while i < bytes.len() && !end(i) {
                    out.extend((at(i) == '\n').then_some('\n'));
                    i += 1;
                }
                i += 1 + hashes;
                out.push_str("\"\"");
            }
            '"' => {
                i += 1;
                while i < bytes.len() && at(i) != '"' {
                    out.extend((at(i) == '\n').then_some('\n'));
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
                out.push_str("\"\"");
            }
            // A character literal, not a lifetime.
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < bytes.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            c => {
                out.push(c);
                i += 1;
            }
        }
    }
    out
}

#[test]
fn code_has_no_comments_and_empty_string_literals() {
    let text = "let a = \"crate::x // \\\" no\"; // crate::y\nlet b = r#\"todo!(\" \n\"#; let c = '\"'; let d: &'a str = '\\'';\n";
    assert_eq!(code(text), "let a = \"\"; \nlet b = \n\"\"; let c = ; let d: &'a str = ;\n");
}
