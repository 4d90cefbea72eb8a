//! Keeps files in the form in which the repository stores them: no content in place of a pointer or an encrypted file,
//! and no line endings rewritten that nobody changed.

use super::GitWorkspaces;
use super::diff::Entry;
use super::paths::WorktreePaths;
use crate::domain::Sha;
use crate::platform::git::{TREE_TIMEOUT, check_sha, read_objects};
use crate::platform::rooted_fs::RootedDir;
use crate::ports::{PortError, PortResult, Repo};
use std::collections::BTreeMap;
use std::path::Path;

/// Git LFS, whose pointers may be changed.
const LFS: &str = "Git LFS";
/// Files whose content is read at once.
const MAX_READ_AT_ONCE: usize = 32;
/// Filters that store something else than the content of a file: the name in `.gitattributes`, also as the beginning of
/// `NAME-…`, and the product.
const FILTERS: &[(&str, &str)] =
    &[("lfs", LFS), ("git-crypt", "git-crypt"), ("crypt", "transcrypt"), ("annex", "git-annex")];
/// Beginnings of the pointers that Git LFS stores.
const POINTERS: &[&[u8]] = &[b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"];
/// Upper bound on a pointer.
const MAX_POINTER_BYTES: usize = 1024;
/// Upper bound on a file whose line endings are compared.
const MAX_TEXT_BYTES: u64 = 8 << 20;

/// Returns the product behind a filter that stores something else than the content.
pub(super) fn product(filter: &str) -> Option<&'static str> {
    let is = |name: &str| filter == name || filter.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    FILTERS.iter().find(|(name, _)| is(name)).map(|(_, product)| *product)
}

fn is_pointer(bytes: &[u8]) -> bool {
    bytes.len() <= MAX_POINTER_BYTES && POINTERS.iter().any(|start| bytes.starts_with(start))
}

impl GitWorkspaces {
    /// Refuses to store the content of a file whose repository stores a pointer or an encrypted form. `index` has the
    /// staged files and their attributes.
    pub(super) async fn refuse_bare_content(
        &self,
        repo: &Repo,
        paths: &WorktreePaths,
        index: &Path,
        entries: &[Entry],
    ) -> PortResult<()> {
        let written: Vec<&Entry> = entries.iter().filter(|e| e.new_mode.starts_with("100")).collect();
        if written.is_empty() {
            return Ok(());
        }
        let stdin: Vec<u8> = written.iter().flat_map(|e| [e.raw.as_slice(), b"\0"].concat()).collect();
        let mut filters = BTreeMap::new();
        // The attributes before count as well: the same change may remove them.
        for index in [paths.index().as_path(), index] {
            let call = self.mirrors.call(repo).on_worktree(&paths.dir, index).timeout(TREE_TIMEOUT);
            let call = call.args(["check-attr", "--cached", "-z", "--stdin", "filter"]).stdin(stdin.clone());
            let output = call.output("read the attributes of the changed files").await?;
            let mut fields = output.split(|b| *b == 0);
            while let (Some(path), Some(_), Some(value)) = (fields.next(), fields.next(), fields.next()) {
                if let Some(product) = product(&String::from_utf8_lossy(value)) {
                    filters.insert(path.to_vec(), product);
                }
            }
        }
        let mut refused = None;
        for part in written.chunks(MAX_READ_AT_ONCE) {
            let ids = part.iter().flat_map(|e| [e.old.clone(), e.new.clone()]).collect();
            let texts = read_objects(&self.mirror(repo), ids, MAX_POINTER_BYTES as u64).await?;
            let is_pointer = |at: usize| texts.get(at).and_then(Option::as_ref).is_some_and(|text| is_pointer(text));
            refused = part.iter().enumerate().find_map(|(n, entry)| {
                let (was, is) = (is_pointer(2 * n), is_pointer(2 * n + 1));
                let product = filters.get(&entry.raw).copied().or(was.then_some(LFS))?;
                (product != LFS || !is).then_some((&entry.path, product))
            });
            if refused.is_some() {
                break;
            }
        }
        match refused {
            None => Ok(()),
            Some((path, product)) => Err(PortError::permanent(
                format!("{path} is kept by {product}, and Skep would put its bare content into the history instead"),
                format!("leave files of {product} unchanged: restrict the goal, or change them yourself"),
            )),
        }
    }

    /// Stages files as they are if git rewrote line endings that the work did not change: files whose stored form has
    /// CRLF although their attributes say otherwise. Returns the new tree; `None` = nothing to do.
    pub(super) async fn keep_line_endings(
        &self,
        repo: &Repo,
        paths: &WorktreePaths,
        index: &Path,
        entries: &[Entry],
    ) -> PortResult<Option<Sha>> {
        let modified = entries.iter().filter(|e| e.old_mode.starts_with("100") && e.new_mode.starts_with("100"));
        let modified: Vec<&Entry> = modified.collect();
        let root = RootedDir::open(&paths.dir)
            .map_err(|e| PortError::transient(format!("cannot open {}: {e}", paths.dir.display())))?;
        let has_crlf = |bytes: &[u8]| bytes.windows(2).any(|two| two == b"\r\n");
        let mut rewritten = Vec::new();
        for part in modified.chunks(MAX_READ_AT_ONCE) {
            let ids = part.iter().flat_map(|e| [e.old.clone(), e.new.clone()]).collect();
            let texts = read_objects(&self.mirror(repo), ids, MAX_TEXT_BYTES).await?;
            for (entry, versions) in part.iter().zip(texts.chunks(2)) {
                let [Some(old), Some(new)] = versions else { continue };
                // A name that is not UTF-8 is left to git.
                if has_crlf(old)
                    && !has_crlf(new)
                    && let Ok(path) = std::str::from_utf8(&entry.raw)
                    && let Ok(bytes) = root.read(path, MAX_TEXT_BYTES)
                    && has_crlf(&bytes)
                {
                    rewritten.push((*entry, bytes));
                }
            }
        }
        if rewritten.is_empty() {
            return Ok(None);
        }
        let mut stdin = Vec::new();
        for (entry, bytes) in rewritten {
            let call = self.mirrors.call(repo).args(["hash-object", "-w", "--stdin"]).stdin(bytes);
            let object = Sha(call.output_line("store a file as it is").await?);
            check_sha(&object)?;
            stdin.extend_from_slice(format!("{} {object}\t", entry.new_mode).as_bytes());
            stdin.extend_from_slice(&entry.raw);
            stdin.push(0);
        }
        let call = || self.mirrors.call(repo).on_worktree(&paths.dir, index).timeout(TREE_TIMEOUT);
        call().args(["update-index", "-z", "--index-info"]).stdin(stdin).output("stage files as they are").await?;
        let tree = Sha(call().arg("write-tree").output_line("write the tree").await?);
        check_sha(&tree)?;
        Ok(Some(tree))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_and_pointers_are_recognized() {
        for (filter, product_of) in [
            ("lfs", Some("Git LFS")),
            ("git-crypt", Some("git-crypt")),
            ("git-crypt-team", Some("git-crypt")),
            ("crypt", Some("transcrypt")),
            ("nbstripout", None),
            ("lfsx", None),
            ("unspecified", None),
        ] {
            assert_eq!(product(filter), product_of, "{filter}");
        }
        assert!(is_pointer(b"version https://git-lfs.github.com/spec/v1\noid sha256:7\nsize 1\n"));
        assert!(!is_pointer(b"version 2"));
        assert!(!is_pointer(&[POINTERS[0], &[b'x'; 2000]].concat()));
    }
}
