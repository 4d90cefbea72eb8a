//! Walking a worktree as its own ignore rules want it: no link followed, `.git` never entered, everything counted.

use super::is_git;
use crate::platform::rooted_fs::{Entry, EntryKind, RootedDir};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Names looked at in one walk, in one folder, and how deep.
const NAMES_MAX: usize = 50_000;
const FOLDER_MAX: usize = 10_000;
const DEPTH_MAX: usize = 40;
/// The largest ignore file that is followed, and the most lines of it.
const RULES_BYTES_MAX: u64 = 64 * 1024;
const RULES_LINES_MAX: usize = 1_000;

/// What the walk's user wants to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// On; into the folder, if it is one.
    On,
    /// On, but not into this folder.
    Over,
    /// No further.
    Stop,
}

/// Walks from `root` ("" = the worktree) in path order. `visit` gets each path, what it is, and how deep it lies below `root`.
/// Gives whether everything was seen that the visitor wanted to see.
pub(super) fn walk(
    tree: &RootedDir,
    root: &str,
    visit: &mut dyn FnMut(&str, &Entry, usize) -> Next,
) -> Result<bool, String> {
    let mut rules = Vec::new();
    // Rules of the folders above hold below.
    let mut above = String::new();
    rules.extend(rules_of(tree, ""));
    for name in root.split('/').filter(|n| !n.is_empty()) {
        above = join(&above, name);
        if above != root {
            rules.extend(rules_of(tree, &above));
        }
    }
    let mut left = NAMES_MAX;
    let (entries, whole) = tree.entries(root, FOLDER_MAX).map_err(|e| e.to_string())?;
    let mut all = whole;
    if !root.is_empty() {
        rules.extend(rules_of(tree, root));
    }
    let mut walk = Walk { tree, visit, rules, left: &mut left, all: &mut all };
    walk.folder(root, entries, 1);
    Ok(all)
}

struct Walk<'a> {
    tree: &'a RootedDir,
    visit: &'a mut dyn FnMut(&str, &Entry, usize) -> Next,
    rules: Vec<Gitignore>,
    left: &'a mut usize,
    all: &'a mut bool,
}

impl Walk<'_> {
    /// Whether to go on.
    fn folder(&mut self, folder: &str, entries: Vec<Entry>, depth: usize) -> bool {
        for entry in entries {
            if *self.left == 0 {
                *self.all = false;
                return false;
            }
            *self.left -= 1;
            let path = join(folder, &entry.name);
            let is_folder = entry.kind == EntryKind::Directory;
            if is_git(&entry.name) || self.ignored(&path, is_folder) {
                continue;
            }
            match (self.visit)(&path, &entry, depth) {
                Next::Stop => {
                    *self.all = false;
                    return false;
                }
                Next::Over => continue,
                Next::On => {}
            }
            if is_folder && depth < DEPTH_MAX {
                // It may be gone, or a link by now: then there is nothing to walk.
                let Ok((inner, whole)) = self.tree.entries(&path, FOLDER_MAX) else { continue };
                *self.all &= whole;
                let own = inner.iter().any(|e| e.name == ".gitignore").then(|| rules_of(self.tree, &path)).flatten();
                let pushed = own.is_some();
                self.rules.extend(own);
                let on = self.folder(&path, inner, depth + 1);
                if pushed {
                    self.rules.pop();
                }
                if !on {
                    return false;
                }
            }
        }
        true
    }

    fn ignored(&self, path: &str, is_folder: bool) -> bool {
        // The nearest rules decide.
        for rules in self.rules.iter().rev() {
            match rules.matched(path, is_folder) {
                ignore::Match::Ignore(_) => return true,
                ignore::Match::Whitelist(_) => return false,
                ignore::Match::None => {}
            }
        }
        false
    }
}

pub(super) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// The ignore rules of a folder. A rule that cannot be read is left out: at worst more is shown.
fn rules_of(tree: &RootedDir, folder: &str) -> Option<Gitignore> {
    let bytes = tree.read(&join(folder, ".gitignore"), RULES_BYTES_MAX).ok()?;
    // Paths are relative to the worktree, so that the library looks at no file of the host's.
    let mut builder = GitignoreBuilder::new(folder);
    for line in String::from_utf8_lossy(&bytes).lines().take(RULES_LINES_MAX) {
        let _skipped = builder.add_line(None, line);
    }
    builder.build().ok()
}
