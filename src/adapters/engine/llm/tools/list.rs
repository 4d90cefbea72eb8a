//! `list`: shows the tree of a folder.

use super::walk::{Next, walk};
use super::{Spec, folder, object};
use crate::platform::rooted_fs::{EntryKind, RootedDir};
use serde::Deserialize;
use serde_json::json;

/// Upper bound of the names shown, and the default and largest depth.
const MAX_NAMES: usize = 800;
const DEFAULT_DEPTH: usize = 2;
const MAX_DEPTH: usize = 12;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    path: Option<String>,
    depth: Option<usize>,
}

pub(super) fn spec() -> Spec {
    Spec {
        name: "list",
        description: "Lists the files (with sizes in bytes) and folders below a folder. Files that the repository ignores are left out.",
        schema: object(
            json!({
                "path": {"type": "string", "description": "Folder to list. Default: the whole worktree."},
                "depth": {"type": "integer", "minimum": 1, "maximum": MAX_DEPTH, "description": "Number of levels. Default: 2."},
            }),
            &[],
        ),
    }
}

pub(super) fn list(tree: &RootedDir, args: &Args) -> Result<String, String> {
    let root = folder(args.path.as_deref())?;
    let deepest = args.depth.unwrap_or(DEFAULT_DEPTH).clamp(1, MAX_DEPTH);
    let (mut shown, mut count) = (String::new(), 0);
    let all = walk(tree, root, &mut |_path, entry, depth| {
        if count == MAX_NAMES {
            return Next::Stop;
        }
        count += 1;
        let what = match entry.kind {
            EntryKind::File => format!("  {}", entry.size),
            EntryKind::Directory => "/".to_owned(),
            EntryKind::Link => "  (symbolic link, not followed)".to_owned(),
            EntryKind::Other => "  (not a regular file)".to_owned(),
        };
        shown.push_str(&format!("{}{}{what}\n", "  ".repeat(depth - 1), entry.name));
        if depth < deepest { Next::Enter } else { Next::Skip }
    })?;
    let name = if root.is_empty() { "the worktree" } else { root };
    let more = if all { "" } else { " (incomplete: give a path or a smaller depth)" };
    match count {
        0 => Ok(format!("{name}: empty")),
        _ => Ok(format!("{name}{more}:\n{shown}")),
    }
}
