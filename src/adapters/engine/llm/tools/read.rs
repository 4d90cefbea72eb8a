//! `read`: lines of a file, numbered.

use super::{FILE_BYTES_MAX, Spec, object, path};
use crate::platform::rooted_fs::RootedDir;
use serde::Deserialize;
use serde_json::json;

/// Lines given when the model names no number, and the most it may have at once.
const LINES: usize = 500;
const LINES_MAX: usize = 2_000;
/// The longest line shown whole, and the most text of one reading.
const LINE_CHARS_MAX: usize = 1_000;
const TEXT_BYTES_MAX: usize = 56 * 1024;

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
        about: "Shows lines of a text file, each with its number and a tab before it.",
        schema: object(
            json!({
                "path": {"type": "string", "description": "Relative to the worktree: src/main.rs"},
                "from": {"type": "integer", "minimum": 1, "description": "First line, from 1."},
                "lines": {"type": "integer", "minimum": 1, "maximum": LINES_MAX, "description": "How many lines; 500 when not given."},
            }),
            &["path"],
        ),
    }
}

/// A text file's content, or why there is none to show.
pub(super) fn text(tree: &RootedDir, path: &str) -> Result<String, String> {
    let bytes = tree.read(path, FILE_BYTES_MAX).map_err(|e| e.to_string())?;
    let size = bytes.len();
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(format!("{path:?} is not text ({size} bytes, binary or not UTF-8)")),
    }
}

pub(super) fn read(tree: &RootedDir, args: &Args) -> Result<String, String> {
    let path = path(&args.path)?;
    let text = text(tree, path)?;
    let total = text.lines().count();
    let from = args.from.unwrap_or(1).max(1);
    if from > total.max(1) {
        return Err(format!("{path:?} has {total} lines; there is no line {from}"));
    }
    let most = args.lines.unwrap_or(LINES).clamp(1, LINES_MAX);
    let mut shown = String::new();
    let mut last = from - 1;
    for (n, line) in text.lines().enumerate().skip(from - 1).take(most) {
        let mut cut: String = line.chars().take(LINE_CHARS_MAX).collect();
        if cut.len() < line.len() {
            cut.push_str(&format!(" [… line of {} bytes]", line.len()));
        }
        if shown.len() + cut.len() > TEXT_BYTES_MAX {
            break;
        }
        shown.push_str(&format!("{}\t{cut}\n", n + 1));
        last = n + 1;
    }
    let ends = if text.contains("\r\n") { ", lines end in CR LF" } else { "" };
    let more = if last < total { format!("; go on with from = {}", last + 1) } else { String::new() };
    Ok(format!("{path}, lines {from} to {last} of {total}{ends}{more}\n{shown}"))
}
