//! `read`: lines of a file, numbered.

use super::{MAX_FILE_BYTES, Spec, object, path};
use crate::platform::rooted_fs::RootedDir;
use serde::Deserialize;
use serde_json::json;

/// Default and maximum number of lines per call.
const LINES: usize = 500;
const MAX_LINES: usize = 2_000;
/// Upper bounds of a line shown whole, and of the text of one call.
const MAX_LINE_CHARS: usize = 1_000;
const MAX_TEXT_BYTES: usize = 56 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    path: String,
    from: Option<usize>,
    lines: Option<usize>,
}

pub(super) fn spec() -> Spec {
    Spec {
        name: "read",
        description: "Returns lines of a text file. Each line starts with its number and a tab.",
        schema: object(
            json!({
                "path": {"type": "string", "description": "Path relative to the worktree, such as src/main.rs."},
                "from": {"type": "integer", "minimum": 1, "description": "First line to return, starting at 1."},
                "lines": {"type": "integer", "minimum": 1, "maximum": MAX_LINES, "description": "Number of lines. Default: 500."},
            }),
            &["path"],
        ),
    }
}

/// Returns a text file's content, or why it cannot be shown.
pub(super) fn text(tree: &RootedDir, path: &str) -> Result<String, String> {
    let bytes = tree.read(path, MAX_FILE_BYTES).map_err(|e| e.to_string())?;
    let size = bytes.len();
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(format!("{path:?} is not a text file ({size} bytes, binary or not UTF-8)")),
    }
}

pub(super) fn read(tree: &RootedDir, args: &Args) -> Result<String, String> {
    let path = path(&args.path)?;
    let text = text(tree, path)?;
    let total = text.lines().count();
    let from = args.from.unwrap_or(1).max(1);
    if from > total.max(1) {
        return Err(format!("{path:?} has only {total} lines; line {from} does not exist"));
    }
    let max_lines = args.lines.unwrap_or(LINES).clamp(1, MAX_LINES);
    let mut shown = String::new();
    let mut last = from - 1;
    for (n, line) in text.lines().enumerate().skip(from - 1).take(max_lines) {
        let mut cut: String = line.chars().take(MAX_LINE_CHARS).collect();
        if cut.len() < line.len() {
            cut.push_str(&format!(" [… line of {} bytes]", line.len()));
        }
        if shown.len() + cut.len() > MAX_TEXT_BYTES {
            break;
        }
        shown.push_str(&format!("{}\t{cut}\n", n + 1));
        last = n + 1;
    }
    let ends = if text.contains("\r\n") { ", CRLF line endings" } else { "" };
    let more = if last < total { format!("; to read more, use from = {}", last + 1) } else { String::new() };
    Ok(format!("{path}, lines {from} to {last} of {total}{ends}{more}\n{shown}"))
}
