//! Arguments as models spell them: other agents' names for the same thing, absolute paths, numbers as text.
//!
//! Models are trained on the tools of many agents and mix their arguments up. Where the meaning is beyond doubt, a
//! refusal only costs a turn. Anything else is left as it is, and is refused with its reason.

use serde_json::{Map, Value};
use std::path::Path;

/// Other names of arguments, by the name used here.
const PATH: &[&str] = &["file_path", "filePath", "filename", "file"];
const FROM: &[&str] = &["offset", "start_line", "line_start"];
const LINES: &[&str] = &["limit"];
const OLD: &[&str] = &["old_string", "old_str", "oldString", "search"];
const NEW: &[&str] = &["new_string", "new_str", "newString", "replace"];
const ALL: &[&str] = &["replace_all", "replaceAll"];
const CONTENT: &[&str] = &["contents", "file_text", "text"];
const COMMAND: &[&str] = &["cmd", "script"];
/// Arguments that hold whole numbers.
const NUMBERS: &[&str] = &["from", "lines", "seconds", "depth"];

/// Returns the arguments of a call to `tool` as the tool spells them. `dir` is the worktree.
pub(super) fn usual(tool: &str, args: &Value, dir: &Path) -> Value {
    let Value::Object(given) = args else { return args.clone() };
    let mut args = given.clone();
    match tool {
        "read" => {
            rename(&mut args, "path", PATH);
            rename(&mut args, "from", FROM);
            rename(&mut args, "lines", LINES);
        }
        "write" => {
            rename(&mut args, "path", PATH);
            rename(&mut args, "content", CONTENT);
        }
        "edit" => edits(&mut args),
        super::RUN => {
            rename(&mut args, "command", COMMAND);
            // A sentence for people, which some agents' shell tools require.
            args.remove("description");
        }
        _ => {}
    }
    if let Some(Value::String(path)) = args.get_mut("path") {
        relative(path, dir);
    }
    for name in NUMBERS {
        let Some(value) = args.get_mut(*name) else { continue };
        if let Some(number) = value.as_str().and_then(|text| text.trim().parse::<u64>().ok()) {
            *value = number.into();
        }
    }
    Value::Object(args)
}

fn rename(args: &mut Map<String, Value>, name: &str, others: &[&str]) {
    let Some(other) = others.iter().find(|other| args.contains_key(**other)) else { return };
    if !args.contains_key(name)
        && let Some(value) = args.remove(*other)
    {
        args.insert(name.to_owned(), value);
    }
}

/// Spells the arguments of an edit: one edit may stand beside the path instead of in a list.
fn edits(args: &mut Map<String, Value>) {
    rename(args, "path", PATH);
    if let Some(Value::Object(edit)) = args.get("edits").cloned() {
        args.insert("edits".to_owned(), Value::Array(vec![Value::Object(edit)]));
    }
    if !args.contains_key("edits") {
        let path = args.remove("path");
        let edit = std::mem::take(args);
        if let Some(path) = path {
            args.insert("path".to_owned(), path);
        }
        args.insert("edits".to_owned(), Value::Array(vec![Value::Object(edit)]));
    }
    for edit in args.get_mut("edits").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Value::Object(edit) = edit {
            rename(edit, "old", OLD);
            rename(edit, "new", NEW);
            rename(edit, "all", ALL);
        }
    }
}

/// Turns an absolute path inside the worktree, as `pwd` and stack traces print it, into the relative one.
fn relative(path: &mut String, dir: &Path) {
    let Ok(inside) = Path::new(path.as_str()).strip_prefix(dir) else { return };
    let Some(inside) = inside.to_str() else { return };
    *path = if inside.is_empty() { ".".to_owned() } else { inside.to_owned() };
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_of_other_agents_are_understood() {
        let cases = [
            (
                "read",
                json!({"file_path": "/w/t/src/a.rs", "offset": "10", "limit": 5}),
                json!({"path": "src/a.rs", "from": 10, "lines": 5}),
            ),
            ("write", json!({"filePath": "a", "contents": "x"}), json!({"path": "a", "content": "x"})),
            (
                "edit",
                json!({"file_path": "a", "old_string": "x", "new_string": "y", "replace_all": true}),
                json!({"path": "a", "edits": [{"old": "x", "new": "y", "all": true}]}),
            ),
            (
                "edit",
                json!({"path": "a", "edits": {"old_str": "x", "new_str": "y"}}),
                json!({"path": "a", "edits": [{"old": "x", "new": "y"}]}),
            ),
            (
                "run",
                json!({"cmd": "ls", "description": "Lists", "seconds": "9"}),
                json!({"command": "ls", "seconds": 9}),
            ),
            ("list", json!({"path": "/w/t", "depth": "2"}), json!({"path": ".", "depth": 2})),
        ];
        for (tool, given, usual) in cases {
            assert_eq!(super::usual(tool, &given, Path::new("/w/t")), usual);
        }
    }

    #[test]
    fn what_is_spelled_right_or_in_doubt_stays() {
        let cases = [
            ("read", json!({"path": "a", "file_path": "b"})),
            ("read", json!({"path": "/etc/passwd"})),
            ("read", json!({"path": "/w/tree/a"})),
            ("read", json!({"path": "a", "from": "ten"})),
            ("edit", json!({"path": "a", "edits": [{"old": "x", "new": "y", "all": false}]})),
            ("run", json!({"command": "ls", "timeout": 5})),
            ("run", json!("ls")),
        ];
        for (tool, given) in cases {
            assert_eq!(super::usual(tool, &given, Path::new("/w/t")), given);
        }
    }
}
