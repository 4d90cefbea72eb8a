//! Syntax errors that an edit has caused. The model is told at once; nothing is undone.
//!
//! JSON and TOML are parsed here. Other languages are parsed by their own tools, if the sandbox has them: they know the
//! dialect that the project uses. None of these commands executes the file.

use super::run::{Executed, execute};
use super::{ToolEnv, quoted};
use crate::platform::rooted_fs::RootedDir;
use crate::platform::sandbox::Sandbox;
use crate::platform::terminal_text;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Files that are checked after one call, and the largest of them.
const MAX_FILES: usize = 8;
const MAX_FILE_BYTES: usize = 512 * 1024;
/// Time limit of one parser.
const LIMIT: Duration = Duration::from_secs(10);
/// Upper bound of what the model sees of one parser's message, in bytes.
const MAX_MESSAGE_BYTES: usize = 1024;
/// Exit code of the shell for a command that was not found.
const NOT_FOUND: i32 = 127;
/// Name of the copy of the earlier content in the temporary folder.
const BEFORE: &str = "skep-before";

/// A file that a tool has changed; `None` = it does not exist.
pub(super) struct FileChange {
    pub path: String,
    pub before: Option<Vec<u8>>,
    pub after: Option<Vec<u8>>,
}

/// Parser of a language.
struct Parser {
    endings: &'static [&'static str],
    /// Shell command that parses the file `{}` and executes nothing of it.
    command: &'static str,
    /// What the output of a syntax error contains. Anything else is a failure of the parser.
    marks: &'static [&'static str],
    /// Whether a new file is checked, too. A dialect that the parser does not know shows in the earlier content only.
    checks_new: bool,
}

const PARSERS: &[Parser] = &[
    Parser {
        endings: &[".py", ".pyi"],
        command: "python3 -I -c 'import ast,sys; ast.parse(open(sys.argv[1], \"rb\").read(), sys.argv[1])' {}",
        marks: &["SyntaxError", "IndentationError", "TabError"],
        checks_new: true,
    },
    Parser { endings: &[".mjs", ".cjs"], command: "node --check {}", marks: &["SyntaxError"], checks_new: true },
    Parser { endings: &[".js"], command: "node --check {}", marks: &["SyntaxError"], checks_new: false },
    Parser {
        endings: &[".rs"],
        command: "rustfmt --edition 2024 < {} > /dev/null",
        marks: &["--> <stdin>"],
        checks_new: true,
    },
    Parser { endings: &[".go"], command: "gofmt -e {} > /dev/null", marks: &[".go:"], checks_new: true },
    Parser { endings: &[".rb"], command: "ruby -c {} > /dev/null", marks: &["syntax error"], checks_new: true },
    Parser { endings: &[".php"], command: "php -l {}", marks: &["Parse error", "syntax error"], checks_new: true },
    Parser {
        endings: &[".sh", ".bash"],
        command: "bash -n {}",
        marks: &["syntax error", "unexpected EOF"],
        checks_new: true,
    },
];

/// Parsers of one session.
#[derive(Default)]
pub(super) struct Syntax {
    /// Commands that the sandbox does not have.
    missing: Mutex<BTreeSet<&'static str>>,
}

impl Syntax {
    /// Describes the syntax errors that the changes have caused; empty = none is known. `left` is the time that is left
    /// of the session.
    pub async fn errors(
        &self,
        sandbox: &Sandbox,
        tool_env: &ToolEnv,
        changes: &[FileChange],
        left: Duration,
    ) -> String {
        let mut text = String::new();
        for change in changes.iter().take(MAX_FILES) {
            let Some(after) = change.after.as_deref().filter(|after| after.len() <= MAX_FILE_BYTES) else { continue };
            let error = match parsed_here(&change.path, after) {
                Some(Ok(())) => None,
                Some(Err(why)) => {
                    // Some programs read comments in JSON. If such a file did not parse before, that says nothing.
                    let parsed = change
                        .before
                        .as_deref()
                        .map(|before| matches!(parsed_here(&change.path, before), Some(Ok(()))));
                    parsed.unwrap_or(!allows_comments(&change.path)).then_some(why)
                }
                None => self.parsed_by_tool(sandbox, tool_env, change, left.min(LIMIT)).await,
            };
            if let Some(error) = error {
                text.push_str(&format!("\nSkep: {} has a syntax error now:\n{error}", change.path));
            }
        }
        text
    }

    /// Parses a changed file with the tool of its language. Returns the error, unless there was one before.
    async fn parsed_by_tool(
        &self,
        sandbox: &Sandbox,
        tool_env: &ToolEnv,
        change: &FileChange,
        limit: Duration,
    ) -> Option<String> {
        let parser = PARSERS.iter().find(|p| p.endings.iter().any(|ending| change.path.ends_with(ending)))?;
        let is_missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner).contains(parser.command);
        if is_missing || (change.before.is_none() && !parser.checks_new) {
            return None;
        }
        let now = self.parse(sandbox, tool_env, parser, &quoted(&change.path), limit).await?;
        let Some(before) = &change.before else { return Some(now) };
        let ending = parser.endings.iter().find(|ending| change.path.ends_with(*ending))?;
        let (name, scratch, bytes) = (format!("{BEFORE}{ending}"), tool_env.scratch.clone(), before.clone());
        let file = format!("tmp/{name}");
        let write = move || RootedDir::open(&scratch).is_ok_and(|folder| folder.write(&file, &bytes).is_ok());
        if !tokio::task::spawn_blocking(write).await.unwrap_or(false) {
            return None;
        }
        let earlier = self.parse(sandbox, tool_env, parser, &format!("\"$TMPDIR/{name}\""), limit).await;
        earlier.is_none().then_some(now)
    }

    /// Runs a parser on a file, given as a word of the shell. Returns the syntax error, if it finds one.
    async fn parse(
        &self,
        sandbox: &Sandbox,
        tool_env: &ToolEnv,
        parser: &Parser,
        file: &str,
        limit: Duration,
    ) -> Option<String> {
        let line = parser.command.replace("{}", file);
        let Executed { output, .. } = execute(sandbox, tool_env, &line, limit).await.ok()?;
        if output.code == Some(NOT_FOUND) {
            self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(parser.command);
        }
        let printed = terminal_text::sanitize(&output.stdout);
        let is_error = !output.ok() && !output.timed_out && parser.marks.iter().any(|mark| printed.contains(mark));
        is_error.then(|| terminal_text::tail(&output.stdout, MAX_MESSAGE_BYTES))
    }
}

/// Parses a file whose language is known here; `None` = it is not.
fn parsed_here(path: &str, bytes: &[u8]) -> Option<Result<(), String>> {
    let text = || std::str::from_utf8(bytes).map_err(|e| e.to_string());
    match path.rsplit_once('.')?.1 {
        "json" => Some(serde_json::from_slice::<serde::de::IgnoredAny>(bytes).map(drop).map_err(|e| e.to_string())),
        "toml" => Some(text().and_then(|text| text.parse::<toml::Table>().map(drop).map_err(|e| e.to_string()))),
        _ => None,
    }
}

/// Returns whether a JSON file is one of those that usually have comments.
fn allows_comments(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let known = ["tsconfig", "jsconfig", "devcontainer", ".eslintrc", "settings", "launch", "tasks", "extensions"];
    known.iter().any(|begin| name.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_toml_are_parsed_here() {
        assert_eq!(parsed_here("a.json", b"{\"a\": [1]}"), Some(Ok(())));
        assert!(matches!(parsed_here("a.json", b"{\"a\": [1}"), Some(Err(why)) if why.contains("line 1")));
        assert_eq!(parsed_here("a/Cargo.toml", b"[a]\nb = 1\n"), Some(Ok(())));
        assert!(matches!(parsed_here("Cargo.toml", b"[a\nb = 1\n"), Some(Err(_))));
        assert_eq!(parsed_here("a.txt", b"["), None);
        assert_eq!(parsed_here("Makefile", b"["), None);
        // Nesting is bounded by the parser.
        assert!(matches!(parsed_here("a.json", "[".repeat(500_000).as_bytes()), Some(Err(_))));
    }
}
