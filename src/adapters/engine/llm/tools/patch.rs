//! `patch`: changes several files by one patch, atomically.

use super::syntax::FileChange;
use super::{MAX_FILE_BYTES, Spec, ToolResult, object, path};
use crate::platform::rooted_fs::{RootedDir, RootedFsError};
use read::Change;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

mod fit;
mod read;
#[cfg(test)]
mod tests;

/// Upper bounds of a patch, and of the file contents it may hold in memory.
const MAX_PATCH_BYTES: usize = 1024 * 1024;
const MAX_TOTAL_BYTES: usize = 32 * 1024 * 1024;
/// Upper bound of the files named in one line.
const MAX_NAMED_FILES: usize = 4;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    patch: String,
}

pub(super) fn spec() -> Spec {
    Spec {
        name: "patch",
        description: "Creates, edits, renames and deletes several files at once. Accepts a unified diff, or the form *** Begin Patch … \
                      *** End Patch. Context lines and removed lines must match the file exactly. If one hunk fails, nothing is changed.",
        schema: object(json!({"patch": {"type": "string"}}), &["patch"]),
    }
}

/// Names the first files that a patch changes, for people.
pub(super) fn files(patch: &str) -> String {
    let Some(changes) = Some(patch).filter(|p| p.len() <= MAX_PATCH_BYTES).and_then(|p| read::patch(p).ok()) else {
        return String::new();
    };
    let names: Vec<&str> =
        changes.iter().filter_map(|c| c.to.as_deref().or(c.from.as_deref())).take(MAX_NAMED_FILES).collect();
    let more = changes.len().saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// Returns the paths that a patch changes; none if it cannot be read.
pub(super) fn paths(text: &str) -> Vec<String> {
    let changes = read::patch(text).unwrap_or_default();
    changes.into_iter().flat_map(|change| [change.from, change.to]).flatten().collect()
}

/// Applies a patch that somebody else sends, with the bounds and rules of the tool.
pub(super) fn apply(tree: &RootedDir, text: &str) -> Result<(), String> {
    patch(tree, &Args { patch: text.to_owned() }).map(drop)
}

pub(super) fn patch(tree: &RootedDir, args: &Args) -> Result<ToolResult, String> {
    if args.patch.len() > MAX_PATCH_BYTES {
        let bytes = args.patch.len();
        return Err(format!("the patch has {bytes} bytes; the limit is {MAX_PATCH_BYTES}. Send it in parts"));
    }
    let unchanged = |why: String| format!("{why}; nothing was changed");
    let changes = read::patch(&args.patch).map_err(unchanged)?;
    let mut plan = Plan { tree, files: BTreeMap::new(), moves: Vec::new(), bytes: 0 };
    let mut report = Vec::new();
    for change in &changes {
        report.push(plan.add(change).map_err(unchanged)?);
    }
    let changed = plan.apply().map_err(unchanged)?;
    Ok(ToolResult { text: report.join("\n"), changed, ok: true })
}

/// Contents of the files after the patch, computed before any file is changed.
struct Plan<'a> {
    tree: &'a RootedDir,
    files: BTreeMap<String, State>,
    /// Renames, in order.
    moves: Vec<(String, String)>,
    bytes: usize,
}

/// Content of a file before and after; `None` = the file does not exist.
struct State {
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}

impl Plan<'_> {
    /// Adds the change of one file and describes it.
    fn add(&mut self, change: &Change) -> Result<String, String> {
        let (from, to) = (change.from.as_deref().map(path).transpose()?, change.to.as_deref().map(path).transpose()?);
        match (from, to) {
            (None, None) => Err("a file in the patch has no name".to_owned()),
            (None, Some(to)) => {
                self.absent(to)?;
                let text = fit::apply("", &change.hunks).map_err(|why| format!("the new file {to:?}: {why}"))?;
                let lines = text.lines().count();
                self.set(to, Some(text))?;
                Ok(format!("{to}: created, {lines} lines"))
            }
            (Some(from), None) => {
                let before = self.content(from)?;
                if !change.hunks.is_empty() && !fitted(from, &before, change)?.is_empty() {
                    return Err(format!("cannot delete {from:?}: it has lines that the patch does not remove"));
                }
                self.set(from, None)?;
                Ok(format!("{from}: deleted"))
            }
            (Some(from), Some(to)) => {
                let before = self.content(from)?;
                if from == to && change.hunks.is_empty() {
                    return Err(format!("the patch has no hunk for {from:?}"));
                }
                let after = match change.hunks.is_empty() {
                    true => before,
                    false => fitted(from, &before, change)?.into_bytes(),
                };
                if from != to {
                    self.absent(to)?;
                    self.set_bytes(from, None)?;
                    self.moves.push((from.to_owned(), to.to_owned()));
                }
                self.set_bytes(to, Some(after))?;
                let (n, s) = (change.hunks.len(), if change.hunks.len() == 1 { "" } else { "s" });
                let moved = if from == to { String::new() } else { format!("renamed from {from}, ") };
                Ok(format!("{to}: {moved}{n} hunk{s} applied"))
            }
        }
    }

    /// Returns the content of a file after the changes added so far.
    fn content(&mut self, path: &str) -> Result<Vec<u8>, String> {
        self.load(path)?.after.clone().ok_or_else(|| format!("{path:?} does not exist"))
    }

    fn absent(&mut self, path: &str) -> Result<(), String> {
        match self.load(path)?.after {
            Some(_) => Err(format!("{path:?} already exists")),
            None => Ok(()),
        }
    }

    fn load(&mut self, path: &str) -> Result<&mut State, String> {
        if !self.files.contains_key(path) {
            let before = match self.tree.read(path, MAX_FILE_BYTES) {
                Ok(bytes) => Some(bytes),
                Err(RootedFsError::Missing(_)) => None,
                Err(why) => return Err(why.to_string()),
            };
            self.reserve(before.as_ref().map_or(0, Vec::len) * 2)?;
            self.files.insert(path.to_owned(), State { after: before.clone(), before });
        }
        self.files.get_mut(path).ok_or_else(|| format!("{path:?} could not be loaded"))
    }

    fn set(&mut self, path: &str, text: Option<String>) -> Result<(), String> {
        self.set_bytes(path, text.map(String::into_bytes))
    }

    fn set_bytes(&mut self, path: &str, after: Option<Vec<u8>>) -> Result<(), String> {
        let size = after.as_ref().map_or(0, Vec::len);
        if size as u64 > MAX_FILE_BYTES {
            return Err(format!("{path:?} would have {size} bytes; the limit is {MAX_FILE_BYTES}"));
        }
        self.reserve(size)?;
        self.load(path)?.after = after;
        Ok(())
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes += bytes;
        match self.bytes > MAX_TOTAL_BYTES {
            true => Err("the changed files are too large together; send the patch in parts".to_owned()),
            false => Ok(()),
        }
    }

    /// Writes the changes and returns them. If one fails, the ones before it are undone.
    fn apply(self) -> Result<Vec<FileChange>, String> {
        let tree = self.tree;
        let differs = |(_, state): &(&String, &State)| state.before != state.after;
        if !self.files.iter().any(|file| differs(&file)) {
            return Err("the patch changes no file".to_owned());
        }
        let mut undo_log: Vec<Undo> = Vec::new();
        let mut act = || -> Result<(), RootedFsError> {
            // A rename preserves the file's mode; writing a new file would not.
            for (from, to) in &self.moves {
                let whole = self.files.get(from).is_some_and(|s| s.before.is_some() && s.after.is_none())
                    && self.files.get(to).is_some_and(|s| s.before.is_none() && s.after.is_some());
                if whole && tree.size(from).is_ok() {
                    tree.rename(from, to)?;
                    undo_log.push(Undo::Rename { from, to });
                }
            }
            let (deleted, written): (Vec<_>, Vec<_>) =
                self.files.iter().filter(differs).partition(|(_, s)| s.after.is_none());
            for (path, state) in written {
                let Some(after) = &state.after else { continue };
                tree.write(path, after)?;
                undo_log.push(Undo::Restore { path, before: state.before.as_deref() });
            }
            // Deletions come last: undoing one would restore the content but not the mode.
            for (path, state) in deleted {
                match tree.remove(path) {
                    Ok(()) => undo_log.push(Undo::Restore { path, before: state.before.as_deref() }),
                    // The file was renamed above.
                    Err(RootedFsError::Missing(_)) => {}
                    Err(why) => return Err(why),
                }
            }
            Ok(())
        };
        let Err(why) = act() else {
            let changed = self.files.into_iter().filter(|(_, state)| state.before != state.after);
            return Ok(changed.map(|(path, State { before, after })| FileChange { path, before, after }).collect());
        };
        let failures: Vec<String> =
            undo_log.iter().rev().filter_map(|undo| undo.run(tree).err()).map(|e| e.to_string()).collect();
        match failures.is_empty() {
            true => Err(why.to_string()),
            false => Err(format!("{why}; undoing the earlier changes failed, too: {}", failures.join(", "))),
        }
    }
}

/// Applies a change's hunks to a text file.
fn fitted(path: &str, before: &[u8], change: &Change) -> Result<String, String> {
    match std::str::from_utf8(before) {
        Ok(text) if !text.contains('\0') => fit::apply(text, &change.hunks).map_err(|why| format!("{path:?}: {why}")),
        _ => Err(format!("{path:?} is not a text file")),
    }
}

/// Action that undoes one step.
enum Undo<'a> {
    Rename { from: &'a str, to: &'a str },
    Restore { path: &'a str, before: Option<&'a [u8]> },
}

impl Undo<'_> {
    fn run(&self, tree: &RootedDir) -> Result<(), RootedFsError> {
        match self {
            Undo::Rename { from, to } => tree.rename(to, from),
            Undo::Restore { path, before: Some(bytes) } => tree.write(path, bytes),
            Undo::Restore { path, before: None } => tree.remove(path),
        }
    }
}
