//! `edit` and `write`: change files. An edit replaces exact text; either all edits of a call are made, or none.

use super::near::{self, Difference};
use super::read::text;
use super::syntax::FileChange;
use super::{MAX_FILE_BYTES, Spec, ToolResult, object, path};
use crate::platform::rooted_fs::{RootedDir, RootedFsError};
use serde::Deserialize;
use serde_json::json;

/// Lines shown around a change; upper bounds of the lines shown after an edit, and of one of them.
const AROUND: usize = 3;
const MAX_CHANGED_LINES: usize = 40;
const MAX_LINE_CHARS: usize = 300;
/// Upper bound of the edits in one call.
const MAX_EDITS: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    path: String,
    edits: Vec<Edit>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    old: String,
    new: String,
    #[serde(default)]
    all: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whole {
    path: String,
    content: String,
}

pub(super) fn spec() -> Spec {
    Spec {
        name: "edit",
        description: "Replaces exact text in a file. `old` must occur exactly once, unless `all` is set. Include the indentation and \
                      leave out line numbers. Edits are applied in order; if one fails, none is applied.",
        schema: object(
            json!({
                "path": {"type": "string"},
                "edits": {"type": "array", "minItems": 1, "maxItems": MAX_EDITS, "items": object(json!({
                    "old": {"type": "string", "description": "Text to replace."},
                    "new": {"type": "string", "description": "Replacement text."},
                    "all": {"type": "boolean", "description": "Replace every occurrence."},
                }), &["old", "new"])},
            }),
            &["path", "edits"],
        ),
    }
}

pub(super) fn write_spec() -> Spec {
    Spec {
        name: "write",
        description: "Writes a whole file. Use it for new files and for files that change throughout. Missing folders are created.",
        schema: object(json!({"path": {"type": "string"}, "content": {"type": "string"}}), &["path", "content"]),
    }
}

pub(super) fn edit(tree: &RootedDir, args: &Args) -> Result<ToolResult, String> {
    let path = path(&args.path)?;
    if args.edits.is_empty() || args.edits.len() > MAX_EDITS {
        return Err(format!("send 1 to {MAX_EDITS} edits per call"));
    }
    let before = text(tree, path)?;
    let crlf = ends_in_crlf(&before);
    let mut after = before.clone();
    let mut notes = String::new();
    for (n, edit) in args.edits.iter().enumerate() {
        let (text, difference) = replace(&after, edit, crlf)
            .map_err(|why| format!("edit {} of {path:?}: {why}; nothing was changed", n + 1))?;
        after = text;
        notes.push_str(&match difference {
            None => continue,
            Some(Difference::Characters) => {
                format!("\nedit {}: old differs from the file in blanks or typographic characters", n + 1)
            }
            Some(Difference::Indentation) => {
                format!(
                    "\nedit {}: old differs from the file in its indentation; new was indented like the file",
                    n + 1
                )
            }
        });
    }
    if after == before {
        return Err(format!("the edits do not change {path:?}; nothing was changed"));
    }
    write_file(tree, path, &after)?;
    let s = if args.edits.len() == 1 { "" } else { "s" };
    Ok(ToolResult {
        text: format!("{path}: {} edit{s} applied{notes}\n{}", args.edits.len(), changed(&before, &after)),
        changed: vec![file_change(path, Some(before), after)],
        ok: true,
    })
}

fn file_change(path: &str, before: Option<String>, after: String) -> FileChange {
    FileChange { path: path.to_owned(), before: before.map(String::into_bytes), after: Some(after.into_bytes()) }
}

/// Returns the changed lines as `read` prints them, with some around them, so that a slip is seen at once. Of a change
/// that spans too many lines only the beginning is shown.
fn changed(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let begin = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let shorter = old.len().min(new.len()) - begin;
    let end = old.iter().rev().zip(new.iter().rev()).take(shorter).take_while(|(a, b)| a == b).count();
    let first = begin.saturating_sub(AROUND);
    let last = (new.len() - end + AROUND).min(new.len());
    let shown = last.min(first + MAX_CHANGED_LINES);
    let mut text = String::new();
    for (n, line) in new.iter().enumerate().take(shown).skip(first) {
        text.push_str(&format!("{}\t{}\n", n + 1, line.chars().take(MAX_LINE_CHARS).collect::<String>()));
    }
    if shown < last {
        text.push_str(&format!("[… to line {last}]\n"));
    }
    text
}

pub(super) fn write(tree: &RootedDir, args: &Whole) -> Result<ToolResult, String> {
    let path = path(&args.path)?;
    let before = match text(tree, path) {
        Ok(text) => Some(text),
        Err(why) => match tree.size(path) {
            Err(RootedFsError::Missing(_)) => None,
            // A binary file may be replaced; a link or a folder may not.
            Ok(_) => Some(String::new()),
            Err(_) => return Err(why),
        },
    };
    let content = with_line_endings(&args.content, before.as_deref().is_some_and(ends_in_crlf));
    if before.as_deref() == Some(content.as_str()) && !content.is_empty() {
        return Err(format!("{path:?} already has exactly this content"));
    }
    write_file(tree, path, &content)?;
    let how = if before.is_some() { "overwritten" } else { "created" };
    Ok(ToolResult {
        text: format!("{path}: {how}, {} lines", content.lines().count()),
        changed: vec![file_change(path, before, content)],
        ok: true,
    })
}

fn write_file(tree: &RootedDir, path: &str, text: &str) -> Result<(), String> {
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("{path:?} would have {} bytes; the limit is {MAX_FILE_BYTES}", text.len()));
    }
    tree.write(path, text.as_bytes()).map_err(|e| e.to_string())
}

/// Returns whether every line of a text ends in CRLF.
fn ends_in_crlf(text: &str) -> bool {
    text.contains("\r\n") && text.matches('\n').count() == text.matches("\r\n").count()
}

/// Converts a model's text to the line endings of the file.
fn with_line_endings(text: &str, crlf: bool) -> String {
    match crlf && !text.contains("\r\n") {
        true => text.replace('\n', "\r\n"),
        false => text.to_owned(),
    }
}

/// Returns the text after the edit, and in what `old` differs from the text it replaced.
fn replace(text: &str, edit: &Edit, crlf: bool) -> Result<(String, Option<Difference>), String> {
    let (old, new) = (with_line_endings(&edit.old, crlf), with_line_endings(&edit.new, crlf));
    if old.is_empty() {
        return Err("old is empty; use write to create a file".to_owned());
    }
    let positions: Vec<usize> = text.match_indices(&old).map(|(at, _)| at).take(1_000).collect();
    match positions.as_slice() {
        [] => match near::find(text, &old, &new) {
            Some(near::Near { range, new, difference }) => {
                Ok((format!("{}{new}{}", &text[..range.start], &text[range.end..]), Some(difference)))
            }
            None => Err(format!("old does not occur in the file{}", hint(text, &old))),
        },
        [_] => Ok((text.replacen(&old, &new, 1), None)),
        _ if edit.all => Ok((text.replace(&old, &new), None)),
        many => {
            let lines: Vec<String> = many.iter().take(8).map(|at| line_of(text, *at).to_string()).collect();
            Err(format!(
                "old occurs {} times (lines {}); include more of the surrounding text, or set all",
                many.len(),
                lines.join(", ")
            ))
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Describes where the first significant line of `old` occurs, if only the text around it differs.
fn hint(text: &str, old: &str) -> String {
    let Some(significant) = old.lines().map(str::trim).find(|l| l.len() > 3) else { return String::new() };
    match text.lines().position(|l| l.trim() == significant) {
        Some(n) => {
            let significant: String = significant.chars().take(80).collect();
            format!("; its line {significant:?} matches line {}: compare the indentation and the lines after it", n + 1)
        }
        None => "; read the file again".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(text: &str, crlf: bool, list: &[(&str, &str, bool)]) -> Result<String, String> {
        list.iter().try_fold(text.to_owned(), |text, (old, new, all)| {
            replace(&text, &Edit { old: (*old).to_owned(), new: (*new).to_owned(), all: *all }, crlf)
                .map(|(text, _)| text)
        })
    }

    #[test]
    fn an_edit_replaces_only_a_unique_text() {
        assert_eq!(edits("a b a", false, &[("b", "c", false)]).unwrap(), "a c a");
        assert!(edits("a\nb\na", false, &[("a", "c", false)]).unwrap_err().contains("2 times (lines 1, 3)"));
        assert_eq!(edits("a b a", false, &[("a", "c", true)]).unwrap(), "c b c");
        assert!(
            edits("    let x = 1;\n", false, &[("let x = 1;\nlet y", "", false)])
                .unwrap_err()
                .contains("matches line 1")
        );
        assert!(edits("a", false, &[("", "x", false)]).is_err());
    }

    #[test]
    fn an_edit_shows_the_lines_it_changed() {
        let text = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        assert_eq!(changed(text, &text.replace("5\n", "a\nb\n")), "2\t2\n3\t3\n4\t4\n5\ta\n6\tb\n7\t6\n8\t7\n9\t8\n");
        assert_eq!(changed(text, &text.replace("9\n", "")), "6\t6\n7\t7\n8\t8\n");
        assert_eq!(changed("a\na\n", "a\na\na\n"), "1\ta\n2\ta\n3\ta\n");
        assert_eq!(changed("x", ""), "");
        let many = changed("", &"line\n".repeat(100));
        assert!(many.lines().count() == MAX_CHANGED_LINES + 1 && many.ends_with("[… to line 100]\n"), "{many}");
    }

    #[test]
    fn line_endings_are_preserved() {
        assert!(ends_in_crlf("a\r\nb\r\n") && !ends_in_crlf("a\r\nb\n") && !ends_in_crlf("a\n"));
        assert_eq!(edits("a\r\nb\r\nc\r\n", true, &[("a\nb\n", "x\ny\nz\n", false)]).unwrap(), "x\r\ny\r\nz\r\nc\r\n");
        assert_eq!(edits("a\nb\n", false, &[("a\n", "x\n", false)]).unwrap(), "x\nb\n");
    }
}
