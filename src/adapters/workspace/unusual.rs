//! Finds entries of a diff that a person should look at whatever their lines say: links that lead out of the repository,
//! folders that git takes for a repository, modules that are loaded instead of others, and text that a reader cannot
//! see.

use super::GitWorkspaces;
use super::diff::Entry;
use super::shadows::{folders, shadowed};
use crate::domain::Sha;
use crate::platform::git::{folder_names, read_objects};
use crate::ports::{PortResult, Repo};
use std::collections::BTreeSet;

/// Upper bound on reported entries.
const MAX_REPORTED: usize = 20;
/// Upper bound on the target of a link.
const MAX_TARGET_BYTES: u64 = 4096;
/// Upper bound on entries whose content or neighbors are inspected.
const MAX_INSPECTED: usize = 1_000;
/// Upper bound on names read from a folder.
const MAX_NAMES: usize = 10_000;
/// Upper bound on a file whose text is inspected.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// Files whose content is read at once.
const MAX_READ_AT_ONCE: usize = 32;
/// Blanks in a row that push the rest of a line out of view.
const MANY_BLANKS: usize = 120;

impl GitWorkspaces {
    /// Describes the unusual entries of a diff.
    pub(super) async fn unusual(&self, repo: &Repo, to: &Sha, entries: &[Entry]) -> PortResult<Vec<String>> {
        let links: Vec<&Entry> = entries.iter().filter(|e| e.new_mode == "120000").take(MAX_INSPECTED).collect();
        let ids = links.iter().map(|e| e.new.clone()).collect();
        let targets = read_objects(&self.mirror(repo), ids, MAX_TARGET_BYTES).await?;
        let leads_out = links.iter().zip(targets).filter_map(|(entry, target)| {
            let target = String::from_utf8_lossy(&target.unwrap_or_default()).into_owned();
            let target: String = target.chars().take(200).collect();
            leaves(&entry.path, &target).then(|| format!("the link {} leads out of it, to {target}", entry.path))
        });
        let added = entries.iter().filter(|e| e.old_mode == "000000").map(|e| e.path.as_str());
        let bare =
            bare_repositories(added).into_iter().map(|dir| format!("git takes the folder {dir} for a repository"));
        let mut found: Vec<String> = leads_out.chain(bare).take(MAX_REPORTED).collect();
        found.extend(self.shadowing(repo, to, entries).await?);
        found.extend(self.hiding(repo, entries).await?);
        found.truncate(MAX_REPORTED);
        Ok(found)
    }

    /// Describes new modules that are loaded instead of existing ones.
    async fn shadowing(&self, repo: &Repo, to: &Sha, entries: &[Entry]) -> PortResult<Vec<String>> {
        let is_new = |e: &&Entry| e.old_mode == "000000" && e.new_mode.starts_with("100");
        let added: BTreeSet<&str> = entries.iter().filter(is_new).map(|e| e.path.as_str()).collect();
        let needed: BTreeSet<String> = added.iter().take(MAX_INSPECTED).flat_map(|path| folders(path)).collect();
        if needed.is_empty() {
            return Ok(Vec::new());
        }
        let names = folder_names(&self.mirror(repo), to, needed, MAX_NAMES).await?;
        // A module that is as new as the other takes nobody's place.
        let old = |folder: &str| -> Vec<String> {
            let is_old = |name: &&String| {
                let path = if folder.is_empty() { (*name).clone() } else { format!("{folder}/{name}") };
                !added.contains(path.as_str())
            };
            names.get(folder).into_iter().flatten().filter(is_old).cloned().collect()
        };
        let described = added
            .iter()
            .take(MAX_INSPECTED)
            .filter_map(|path| shadowed(path, &old).map(|other| format!("{path} can be loaded instead of {other}")));
        Ok(described.take(MAX_REPORTED).collect())
    }

    /// Describes files with new text that a reader cannot see.
    async fn hiding(&self, repo: &Repo, entries: &[Entry]) -> PortResult<Vec<String>> {
        let written: Vec<&Entry> =
            entries.iter().filter(|e| e.new_mode.starts_with("100") && e.old != e.new).take(MAX_INSPECTED).collect();
        let mut found = Vec::new();
        for part in written.chunks(MAX_READ_AT_ONCE) {
            let ids = part.iter().flat_map(|e| [e.old.clone(), e.new.clone()]).collect();
            let texts = read_objects(&self.mirror(repo), ids, MAX_TEXT_BYTES).await?;
            for (entry, versions) in part.iter().zip(texts.chunks(2)) {
                let [old, Some(new)] = versions else { continue };
                let before = old.as_deref().map(hidden_text).unwrap_or_default();
                for ((now, before), what) in hidden_text(new).into_iter().zip(before).zip(HIDING) {
                    // A file that had such text before may need it.
                    if let (Some(line), None) = (now, before) {
                        found.push(format!("{} has {what} in line {line}", entry.path));
                    }
                }
            }
            if found.len() >= MAX_REPORTED {
                break;
            }
        }
        Ok(found)
    }
}

/// What hides text, in the order of [`hidden_text`].
const HIDING: [&str; 2] = ["text behind many blanks", "characters that change the reading direction"];

/// Returns the first line with text behind many blanks, and the first with characters that change the reading
/// direction. A binary file has none.
fn hidden_text(bytes: &[u8]) -> [Option<usize>; 2] {
    if bytes.iter().take(8_000).any(|b| *b == 0) {
        return [None, None];
    }
    let text = String::from_utf8_lossy(bytes);
    let first = |hides: fn(&str) -> bool| text.lines().position(hides).map(|at| at + 1);
    let behind_blanks = |line: &str| {
        let mut blanks = 0;
        line.trim_end().chars().any(|c| {
            blanks = if c.is_whitespace() { blanks + 1 } else { 0 };
            blanks >= MANY_BLANKS
        })
    };
    let turns = |line: &str| line.contains(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
    [first(behind_blanks), first(turns)]
}

/// Returns whether a link leads out of the repository, by its text.
fn leaves(path: &str, target: &str) -> bool {
    if target.starts_with('/') {
        return true;
    }
    let mut depth = path.matches('/').count();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// Returns the folders that have the parts of a bare repository.
fn bare_repositories<'p>(added: impl Iterator<Item = &'p str>) -> BTreeSet<String> {
    let (mut heads, mut objects, mut refs) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for path in added {
        let mut before = String::new();
        let parts: Vec<&str> = path.split('/').collect();
        for (n, part) in parts.iter().enumerate() {
            let is_last = n + 1 == parts.len();
            match part.to_lowercase().as_str() {
                "head" if is_last => heads.insert(before.clone()),
                "objects" if !is_last => objects.insert(before.clone()),
                "refs" if !is_last => refs.insert(before.clone()),
                _ => false,
            };
            before.push_str(part);
            before.push('/');
        }
    }
    let all = heads.into_iter().filter(|dir| objects.contains(dir) && refs.contains(dir));
    all.map(|dir| if dir.is_empty() { ".".to_owned() } else { dir.trim_end_matches('/').to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_out_of_the_repository_are_found() {
        for (path, target) in [("a", "/etc"), ("a", ".."), ("d/a", "../../x"), ("d/a", "b/../../../x"), ("a", "/")] {
            assert!(leaves(path, target), "{path} -> {target}");
        }
        for (path, target) in [("a", "b"), ("d/a", "../b"), ("d/a", "./e/../../c"), ("a", ""), ("a", "..b")] {
            assert!(!leaves(path, target), "{path} -> {target}");
        }
    }

    #[test]
    fn text_out_of_view_and_turned_text_are_found() {
        let wide = format!("a\nx = 1{}; evil()\n", " ".repeat(MANY_BLANKS));
        assert_eq!(hidden_text(wide.as_bytes()), [Some(2), None]);
        let mixed = format!("{}\u{a0}\u{3000}evil()", "\t ".repeat(MANY_BLANKS / 2));
        assert_eq!(hidden_text(mixed.as_bytes()), [Some(1), None]);
        for turn in ["\u{202a}", "\u{202e}", "\u{2066}", "\u{2069}"] {
            assert_eq!(hidden_text(format!("a\n\nb {turn} c").as_bytes()), [None, Some(3)], "{turn:?}");
        }
        for plain in [
            format!("a{}\nb", " ".repeat(500)),
            format!("{}a", " ".repeat(MANY_BLANKS - 1)),
            "a\n".repeat(500),
            "\u{200f}\u{5e9}\u{5dc}\u{5d5}\u{5dd}".to_owned(),
            format!("\0{}a\u{202e}", " ".repeat(500)),
        ] {
            assert_eq!(hidden_text(plain.as_bytes()), [None, None], "{plain:?}");
        }
    }

    #[test]
    fn bare_repositories_are_found() {
        let of = |paths: &[&str]| bare_repositories(paths.iter().copied()).into_iter().collect::<Vec<_>>();
        assert_eq!(of(&["f/x.git/HEAD", "f/x.git/objects/x", "f/x.git/refs/heads/main", "HEAD"]), ["f/x.git"]);
        assert_eq!(of(&["HEAD", "objects/x", "refs/x"]), ["."]);
        assert!(of(&["f/HEAD", "f/objects/x", "g/refs/x", "f/refs"]).is_empty());
    }
}
