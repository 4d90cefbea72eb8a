//! `list`: the tree of a folder.

use super::walk::{Next, walk};
use super::{Spec, folder, object};
use crate::platform::rooted_fs::{EntryKind, RootedDir};
use serde::Deserialize;
use serde_json::json;

/// Names shown at once, and how deep when the model does not say.
const NAMES_MAX: usize = 800;
const DEPTH: usize = 2;
const DEPTH_MAX: usize = 12;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    path: Option<String>,
    depth: Option<usize>,
}

pub(super) fn spec() -> Spec {
    Spec {
        name: "list",
        about: "Shows the files and folders below a folder, without what the repository ignores. Sizes are in bytes.",
        schema: object(
            json!({
                "path": {"type": "string", "description": "A folder; the whole worktree when not given."},
                "depth": {"type": "integer", "minimum": 1, "maximum": DEPTH_MAX, "description": "How many levels; 2 when not given."},
            }),
            &[],
        ),
    }
}

pub(super) fn list(tree: &RootedDir, args: &Args) -> Result<String, String> {
    let root = folder(args.path.as_deref())?;
    let deepest = args.depth.unwrap_or(DEPTH).clamp(1, DEPTH_MAX);
    let (mut shown, mut count) = (String::new(), 0);
    let all = walk(tree, root, &mut |_path, entry, depth| {
        if count == NAMES_MAX {
            return Next::Stop;
        }
        count += 1;
        let what = match entry.kind {
            EntryKind::File => format!("  {}", entry.size),
            EntryKind::Directory => "/".to_owned(),
            EntryKind::Link => "  (link, not followed)".to_owned(),
            EntryKind::Other => "  (not a regular file)".to_owned(),
        };
        shown.push_str(&format!("{}{}{what}\n", "  ".repeat(depth - 1), entry.name));
        if depth < deepest { Next::On } else { Next::Over }
    })?;
    let name = if root.is_empty() { "the worktree" } else { root };
    let more = if all { "" } else { " (not all: give a path or a smaller depth)" };
    match count {
        0 => Ok(format!("{name}: nothing here")),
        _ => Ok(format!("{name}{more}:\n{shown}")),
    }
}
