//! `edit` and `write`: changing files. An edit replaces exact text; all edits of a call are made, or none.

use super::read::text;
use super::{Did, FILE_BYTES_MAX, Spec, object, path};
use crate::platform::rooted_fs::{RootedDir, RootedFsError};
use serde::Deserialize;
use serde_json::json;

/// Edits of one call.
const EDITS_MAX: usize = 100;

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
        about: "Replaces exact text in a file. `old` must be there exactly once (or set `all`): without line numbers, with its \
                indentation. Several edits are made in order, all or none.",
        schema: object(
            json!({
                "path": {"type": "string"},
                "edits": {"type": "array", "minItems": 1, "maxItems": EDITS_MAX, "items": object(json!({
                    "old": {"type": "string", "description": "The text to replace."},
                    "new": {"type": "string", "description": "What stands there then."},
                    "all": {"type": "boolean", "description": "Replace every place."},
                }), &["old", "new"])},
            }),
            &["path", "edits"],
        ),
    }
}

pub(super) fn write_spec() -> Spec {
    Spec {
        name: "write",
        about: "Writes a whole file: a new one, or one that changes throughout. Folders are made.",
        schema: object(json!({"path": {"type": "string"}, "content": {"type": "string"}}), &["path", "content"]),
    }
}

pub(super) fn edit(tree: &RootedDir, args: &Args) -> Result<Did, String> {
    let path = path(&args.path)?;
    if args.edits.is_empty() || args.edits.len() > EDITS_MAX {
        return Err(format!("a call takes 1 to {EDITS_MAX} edits"));
    }
    let before = text(tree, path)?;
    let crlf = ends_in_crlf(&before);
    let mut after = before.clone();
    for (n, edit) in args.edits.iter().enumerate() {
        after = replace(&after, edit, crlf)
            .map_err(|why| format!("edit {} of {path:?}: {why}; nothing was changed", n + 1))?;
    }
    if after == before {
        return Err(format!("the edits leave {path:?} as it is; nothing was changed"));
    }
    put(tree, path, &after)?;
    let s = if args.edits.len() == 1 { "" } else { "s" };
    Ok(Did { text: format!("{path}: {} edit{s} made", args.edits.len()), changed: vec![path.to_owned()], ok: true })
}

pub(super) fn write(tree: &RootedDir, args: &Whole) -> Result<Did, String> {
    let path = path(&args.path)?;
    let before = match text(tree, path) {
        Ok(text) => Some(text),
        Err(why) => match tree.size(path) {
            Err(RootedFsError::Missing(_)) => None,
            // A file that is no text may be replaced; a link or a folder may not.
            Ok(_) => Some(String::new()),
            Err(_) => return Err(why),
        },
    };
    let content = with_ends(&args.content, before.as_deref().is_some_and(ends_in_crlf));
    if before.as_deref() == Some(content.as_str()) && !content.is_empty() {
        return Err(format!("{path:?} has exactly this content already"));
    }
    put(tree, path, &content)?;
    let how = if before.is_some() { "written anew" } else { "made" };
    Ok(Did {
        text: format!("{path}: {how}, {} lines", content.lines().count()),
        changed: vec![path.to_owned()],
        ok: true,
    })
}

fn put(tree: &RootedDir, path: &str, text: &str) -> Result<(), String> {
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{path:?} would have {} bytes; at most {FILE_BYTES_MAX} are written", text.len()));
    }
    tree.write(path, text.as_bytes()).map_err(|e| e.to_string())
}

/// Whether every line of a text ends in CR LF.
fn ends_in_crlf(text: &str) -> bool {
    text.contains("\r\n") && text.matches('\n').count() == text.matches("\r\n").count()
}

/// A model's text with the line ends of the file.
fn with_ends(text: &str, crlf: bool) -> String {
    match crlf && !text.contains("\r\n") {
        true => text.replace('\n', "\r\n"),
        false => text.to_owned(),
    }
}

fn replace(text: &str, edit: &Edit, crlf: bool) -> Result<String, String> {
    let (old, new) = (with_ends(&edit.old, crlf), with_ends(&edit.new, crlf));
    if old.is_empty() {
        return Err("old is empty; use write for a new file".to_owned());
    }
    let places: Vec<usize> = text.match_indices(&old).map(|(at, _)| at).take(1_000).collect();
    match places.as_slice() {
        [] => Err(format!("old is not in the file{}", hint(text, &old))),
        [_] => Ok(text.replacen(&old, &new, 1)),
        _ if edit.all => Ok(text.replace(&old, &new)),
        many => {
            let lines: Vec<String> = many.iter().take(8).map(|at| line_of(text, *at).to_string()).collect();
            Err(format!(
                "old is there {} times (lines {}); give more of the text around it, or set all",
                many.len(),
                lines.join(", ")
            ))
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where the first telling line of `old` stands, when only what is around it differs.
fn hint(text: &str, old: &str) -> String {
    let Some(telling) = old.lines().map(str::trim).find(|l| l.len() > 3) else { return String::new() };
    match text.lines().position(|l| l.trim() == telling) {
        Some(n) => {
            let telling: String = telling.chars().take(80).collect();
            format!("; its line {telling:?} is like line {}: look at its indentation and what follows", n + 1)
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
        })
    }

    #[test]
    fn only_what_is_there_once_is_replaced() {
        assert_eq!(edits("a b a", false, &[("b", "c", false)]).unwrap(), "a c a");
        assert!(edits("a\nb\na", false, &[("a", "c", false)]).unwrap_err().contains("2 times (lines 1, 3)"));
        assert_eq!(edits("a b a", false, &[("a", "c", true)]).unwrap(), "c b c");
        assert!(
            edits("    let x = 1;\n", false, &[("let x = 1;\nlet y", "", false)]).unwrap_err().contains("like line 1")
        );
        assert!(edits("a", false, &[("", "x", false)]).is_err());
    }

    #[test]
    fn line_ends_stay_what_they_are() {
        assert!(ends_in_crlf("a\r\nb\r\n") && !ends_in_crlf("a\r\nb\n") && !ends_in_crlf("a\n"));
        assert_eq!(edits("a\r\nb\r\nc\r\n", true, &[("a\nb\n", "x\ny\nz\n", false)]).unwrap(), "x\r\ny\r\nz\r\nc\r\n");
        assert_eq!(edits("a\nb\n", false, &[("a\n", "x\n", false)]).unwrap(), "x\nb\n");
    }
}
