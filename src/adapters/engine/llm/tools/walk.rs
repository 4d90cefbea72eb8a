//! Walk over a worktree that respects its ignore rules: no link is followed, `.git` is never entered, everything is
//! bounded.

use super::is_git;
use crate::platform::rooted_fs::{Entry, EntryKind, RootedDir};
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Upper bounds of the names in one walk and in one folder, and of the depth.
const MAX_NAMES: usize = 50_000;
const MAX_FOLDER_NAMES: usize = 10_000;
const MAX_DEPTH: usize = 40;
/// Upper bounds of an ignore file, in bytes and in lines.
const MAX_RULES_BYTES: u64 = 64 * 1024;
const MAX_RULES_LINES: usize = 1_000;

/// Continuation of a walk after an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Continue, and enter the folder if it is one.
    Enter,
    /// Continue, but do not enter this folder.
    Skip,
    /// Stop.
    Stop,
}

/// Walks from `root` ("" = the worktree) in path order. `visit` receives each path, its entry, and its depth below
/// `root`. Returns whether everything that the visitor wanted was visited.
pub(super) fn walk(
    tree: &RootedDir,
    root: &str,
    visit: &mut dyn FnMut(&str, &Entry, usize) -> Next,
) -> Result<bool, String> {
    let mut rules = Vec::new();
    // The rules of parent folders apply to their subfolders.
    let mut above = String::new();
    rules.extend(rules_of(tree, ""));
    for name in root.split('/').filter(|n| !n.is_empty()) {
        above = join(&above, name);
        if above != root {
            rules.extend(rules_of(tree, &above));
        }
    }
    let mut left = MAX_NAMES;
    let (entries, whole) = tree.entries(root, MAX_FOLDER_NAMES).map_err(|e| e.to_string())?;
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
    /// Returns whether the walk continues.
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
                Next::Skip => continue,
                Next::Enter => {}
            }
            if is_folder && depth < MAX_DEPTH {
                // The folder may have been deleted or replaced by a link.
                let Ok((inner, whole)) = self.tree.entries(&path, MAX_FOLDER_NAMES) else { continue };
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
        // The nearest rules win.
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

/// Returns the ignore rules of a folder. An unreadable rule is skipped: at worst, more is shown.
fn rules_of(tree: &RootedDir, folder: &str) -> Option<Gitignore> {
    let bytes = tree.read(&join(folder, ".gitignore"), MAX_RULES_BYTES).ok()?;
    // Paths are relative to the worktree, so that the library reads no file of the host.
    let mut builder = GitignoreBuilder::new(folder);
    for line in String::from_utf8_lossy(&bytes).lines().take(MAX_RULES_LINES) {
        let _skipped = builder.add_line(None, line);
    }
    builder.build().ok()
}
