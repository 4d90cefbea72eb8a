//! `patch`: changing several files by one patch, all of it or nothing.

use super::{Did, FILE_BYTES_MAX, Spec, object, path};
use crate::platform::rooted_fs::{RootedDir, RootedFsError};
use read::Change;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

mod fit;
mod read;
#[cfg(test)]
mod tests;

/// The largest patch, and the most bytes of files that one may hold in memory.
const PATCH_BYTES_MAX: usize = 1024 * 1024;
const TOTAL_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Files named in one line.
const NAMED: usize = 4;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    patch: String,
}

pub(super) fn spec() -> Spec {
    Spec {
        name: "patch",
        about: "Changes several files at once: makes, edits, renames, deletes. Takes a unified diff, or the form *** Begin Patch … *** \
                End Patch. What a hunk takes for granted must stand in the file exactly. All of it is done, or nothing.",
        schema: object(json!({"patch": {"type": "string"}}), &["patch"]),
    }
}

/// The first files a patch is about, for people.
pub(super) fn files(patch: &str) -> String {
    let Some(changes) = Some(patch).filter(|p| p.len() <= PATCH_BYTES_MAX).and_then(|p| read::patch(p).ok()) else {
        return String::new();
    };
    let names: Vec<&str> = changes.iter().filter_map(|c| c.to.as_deref().or(c.from.as_deref())).take(NAMED).collect();
    let more = changes.len().saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

pub(super) fn patch(tree: &RootedDir, args: &Args) -> Result<Did, String> {
    if args.patch.len() > PATCH_BYTES_MAX {
        let bytes = args.patch.len();
        return Err(format!("the patch has {bytes} bytes; at most {PATCH_BYTES_MAX} at once: send it in parts"));
    }
    let unchanged = |why: String| format!("{why}; nothing was changed");
    let changes = read::patch(&args.patch).map_err(unchanged)?;
    let mut plan = Plan { tree, files: BTreeMap::new(), moves: Vec::new(), bytes: 0 };
    let mut told = Vec::new();
    for change in &changes {
        told.push(plan.take(change).map_err(unchanged)?);
    }
    let changed = plan.carry_out().map_err(unchanged)?;
    Ok(Did { text: told.join("\n"), changed, ok: true })
}

/// What the files would be: worked out before the first is touched.
struct Plan<'a> {
    tree: &'a RootedDir,
    files: BTreeMap<String, State>,
    /// Renames, in order.
    moves: Vec<(String, String)>,
    bytes: usize,
}

/// A file before and after; `None` = it is not there.
struct State {
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}

impl Plan<'_> {
    /// Takes the change of one file in, and says it in words.
    fn take(&mut self, change: &Change) -> Result<String, String> {
        let (from, to) = (change.from.as_deref().map(path).transpose()?, change.to.as_deref().map(path).transpose()?);
        match (from, to) {
            (None, None) => Err("a file in it has no name".to_owned()),
            (None, Some(to)) => {
                self.absent(to)?;
                let text = fit::apply("", &change.hunks).map_err(|why| format!("the new file {to:?}: {why}"))?;
                let lines = text.lines().count();
                self.set(to, Some(text))?;
                Ok(format!("{to}: made, {lines} lines"))
            }
            (Some(from), None) => {
                let before = self.content(from)?;
                if !change.hunks.is_empty() && !fitted(from, &before, change)?.is_empty() {
                    return Err(format!("{from:?} is to be deleted, and has more in it than the patch removes"));
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

    /// What a file has in it, as the patch left it so far.
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
            let before = match self.tree.read(path, FILE_BYTES_MAX) {
                Ok(bytes) => Some(bytes),
                Err(RootedFsError::Missing(_)) => None,
                Err(why) => return Err(why.to_string()),
            };
            self.hold(before.as_ref().map_or(0, Vec::len) * 2)?;
            self.files.insert(path.to_owned(), State { after: before.clone(), before });
        }
        self.files.get_mut(path).ok_or_else(|| format!("{path:?} could not be kept"))
    }

    fn set(&mut self, path: &str, text: Option<String>) -> Result<(), String> {
        self.set_bytes(path, text.map(String::into_bytes))
    }

    fn set_bytes(&mut self, path: &str, after: Option<Vec<u8>>) -> Result<(), String> {
        let size = after.as_ref().map_or(0, Vec::len);
        if size as u64 > FILE_BYTES_MAX {
            return Err(format!("{path:?} would have {size} bytes; at most {FILE_BYTES_MAX} are written"));
        }
        self.hold(size)?;
        self.load(path)?.after = after;
        Ok(())
    }

    fn hold(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes += bytes;
        match self.bytes > TOTAL_BYTES_MAX {
            true => Err("its files are too large together: send it in parts".to_owned()),
            false => Ok(()),
        }
    }

    /// Does it, and takes back what was done when something cannot be; gives the paths that changed.
    fn carry_out(self) -> Result<Vec<String>, String> {
        let tree = self.tree;
        let differs = |(_, state): &(&String, &State)| state.before != state.after;
        let changed: Vec<String> = self.files.iter().filter(differs).map(|(path, _)| path.clone()).collect();
        if changed.is_empty() {
            return Err("the patch leaves every file as it is".to_owned());
        }
        let mut done: Vec<Undo> = Vec::new();
        let mut act = || -> Result<(), RootedFsError> {
            // A rename keeps the file's mode, where writing it anew would not.
            for (from, to) in &self.moves {
                let whole = self.files.get(from).is_some_and(|s| s.before.is_some() && s.after.is_none())
                    && self.files.get(to).is_some_and(|s| s.before.is_none() && s.after.is_some());
                if whole && tree.size(from).is_ok() {
                    tree.rename(from, to)?;
                    done.push(Undo::Back { from, to });
                }
            }
            let (gone, there): (Vec<_>, Vec<_>) =
                self.files.iter().filter(differs).partition(|(_, s)| s.after.is_none());
            for (path, state) in there {
                let Some(after) = &state.after else { continue };
                tree.write(path, after)?;
                done.push(Undo::Put { path, before: state.before.as_deref() });
            }
            // Last: what is deleted could be put back, but not with its mode.
            for (path, state) in gone {
                match tree.remove(path) {
                    Ok(()) => done.push(Undo::Put { path, before: state.before.as_deref() }),
                    // Renamed already.
                    Err(RootedFsError::Missing(_)) => {}
                    Err(why) => return Err(why),
                }
            }
            Ok(())
        };
        let Err(why) = act() else { return Ok(changed) };
        let stuck: Vec<String> =
            done.iter().rev().filter_map(|undo| undo.run(tree).err()).map(|e| e.to_string()).collect();
        match stuck.is_empty() {
            true => Err(why.to_string()),
            false => Err(format!("{why}; and what was done could not be taken back: {}", stuck.join(", "))),
        }
    }
}

/// A text file after a change's hunks.
fn fitted(path: &str, before: &[u8], change: &Change) -> Result<String, String> {
    match std::str::from_utf8(before) {
        Ok(text) if !text.contains('\0') => fit::apply(text, &change.hunks).map_err(|why| format!("{path:?}: {why}")),
        _ => Err(format!("{path:?} is not text")),
    }
}

/// A step that can be taken back.
enum Undo<'a> {
    Back { from: &'a str, to: &'a str },
    Put { path: &'a str, before: Option<&'a [u8]> },
}

impl Undo<'_> {
    fn run(&self, tree: &RootedDir) -> Result<(), RootedFsError> {
        match self {
            Undo::Back { from, to } => tree.rename(to, from),
            Undo::Put { path, before: Some(bytes) } => tree.write(path, bytes),
            Undo::Put { path, before: None } => tree.remove(path),
        }
    }
}
