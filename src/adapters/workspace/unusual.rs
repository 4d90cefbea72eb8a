//! Finds entries of a diff that a person should look at whatever their lines say: links that lead out of the repository,
//! and folders that git takes for a repository.

use super::GitWorkspaces;
use super::diff::Entry;
use crate::platform::git::read_objects;
use crate::ports::{PortResult, Repo};
use std::collections::BTreeSet;

/// Upper bound on reported entries.
const MAX_REPORTED: usize = 20;
/// Upper bound on the target of a link.
const MAX_TARGET_BYTES: u64 = 4096;

impl GitWorkspaces {
    /// Describes the unusual entries of a diff.
    pub(super) async fn unusual(&self, repo: &Repo, entries: &[Entry]) -> PortResult<Vec<String>> {
        let links: Vec<&Entry> = entries.iter().filter(|e| e.new_mode == "120000").take(1_000).collect();
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
        Ok(leads_out.chain(bare).take(MAX_REPORTED).collect())
    }
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
    fn bare_repositories_are_found() {
        let of = |paths: &[&str]| bare_repositories(paths.iter().copied()).into_iter().collect::<Vec<_>>();
        assert_eq!(of(&["f/x.git/HEAD", "f/x.git/objects/x", "f/x.git/refs/heads/main", "HEAD"]), ["f/x.git"]);
        assert_eq!(of(&["HEAD", "objects/x", "refs/x"]), ["."]);
        assert!(of(&["f/HEAD", "f/objects/x", "g/refs/x", "f/refs"]).is_empty());
    }
}
