//! Keeps files in the form in which the repository stores them: no content in place of a pointer or an encrypted file,
//! and no line endings rewritten that nobody changed.

use super::GitWorkspaces;
use super::diff::Entry;
use super::paths::WorktreePaths;
use crate::domain::Sha;
use crate::domain::change::shown_path;
use crate::platform::git::{LocalRepository, TREE_TIMEOUT, check_sha, read_objects, read_starts};
use crate::platform::rooted_fs::RootedDir;
use crate::ports::{PortError, PortResult, Repo};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Git LFS, whose pointers may be changed.
const LFS: &str = "Git LFS";
/// Files whose content is read at once.
const MAX_READ_AT_ONCE: usize = 32;
/// Filters that store something else than the content of a file: the name in `.gitattributes`, also as the beginning of
/// `NAME-…`, and the product.
const FILTERS: &[(&str, &str)] = &[
    ("lfs", LFS),
    ("git-crypt", "git-crypt"),
    ("crypt", "transcrypt"),
    ("annex", "git-annex"),
    ("git-agecrypt", "git-agecrypt"),
    ("strongbox", "strongbox"),
    ("sops", "SOPS"),
    ("fat", "git-fat"),
    ("media", "git-media"),
];
/// Filters that only tidy the text of a file. Any other one may encrypt.
const TIDYING: &[&str] = &[
    "black",
    "clean_ipynb",
    "dos2unix",
    "indent",
    "ipynb",
    "jupyter",
    "kicad_pcb",
    "kicad_project",
    "kicad_sch",
    "nbclean",
    "nbstripout",
    "prettier",
    "rustfmt",
    "strip-notebook-output",
    "tabspace",
    "trailing-whitespace",
    "trimwhitespace",
];
/// Values of the attribute that name no filter.
const NO_FILTER: &[&str] = &["", "set", "unset", "unspecified"];
/// Beginnings of encrypted files, and the product.
const ENCRYPTED: &[(&[u8], &str)] = &[
    (b"\0GITCRYPT", "git-crypt"),
    (b"age-encryption.org/", "age"),
    (b"-----BEGIN AGE ENCRYPTED FILE-----", "age"),
    (b"# STRONGBOX ENCRYPTED RESOURCE", "strongbox"),
    (b"$ANSIBLE_VAULT;", "Ansible Vault"),
    (b"-----BEGIN PGP MESSAGE-----", "OpenPGP"),
    (b"Salted__", "OpenSSL"),
    (b"U2FsdGVkX1", "OpenSSL"),
];
/// Upper bound on the attributes file of the origin.
const MAX_ATTRIBUTES_BYTES: u64 = 1 << 20;
/// Beginnings of the pointers that Git LFS stores.
const POINTERS: &[&[u8]] = &[b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"];
/// Upper bound on a pointer.
const MAX_POINTER_BYTES: usize = 1024;
/// Upper bound on a file whose line endings are compared.
const MAX_TEXT_BYTES: u64 = 8 << 20;

/// Returns who keeps the content of a file with this filter in another form; `None` = the stored form is its text.
pub(super) fn product(filter: &str) -> Option<String> {
    if NO_FILTER.contains(&filter) || TIDYING.contains(&filter) {
        return None;
    }
    let is = |name: &str| filter == name || filter.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    let known = FILTERS.iter().find(|(name, _)| is(name)).map(|(_, product)| (*product).to_owned());
    Some(known.unwrap_or_else(|| format!("the filter {}", shown_path(filter))))
}

/// Returns the product that encrypted a file, by its beginning.
fn encrypted_by(start: &[u8]) -> Option<&'static str> {
    ENCRYPTED.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, product)| *product)
}

/// Returns why the bare content of a changed file must not be stored, given the beginnings of its versions and its
/// filters; `None` = it may be.
fn refused_for(filters: Option<&String>, old: Option<&Vec<u8>>, new: Option<&Vec<u8>>) -> Option<String> {
    let pointer = |start: Option<&Vec<u8>>| start.is_some_and(|start| is_pointer(start));
    if let Some(product) = old.and_then(|start| encrypted_by(start))
        && new.and_then(|start| encrypted_by(start)).is_none()
    {
        return Some(filters.cloned().unwrap_or_else(|| product.to_owned()));
    }
    let product = filters.cloned().or_else(|| pointer(old).then(|| LFS.to_owned()))?;
    (product != LFS || !pointer(new)).then_some(product)
}

fn is_pointer(bytes: &[u8]) -> bool {
    bytes.len() <= MAX_POINTER_BYTES && POINTERS.iter().any(|start| bytes.starts_with(start))
}

/// Returns the options with which git reads the attributes in a local origin's git directory, which no commit has. They
/// are data: no filter runs.
fn local_attributes(repo: &Repo) -> Vec<OsString> {
    let origin = Path::new(&repo.origin);
    let found = origin.is_absolute().then(|| LocalRepository::find(origin).ok().flatten()).flatten();
    let file = found.map(|repository| repository.common_dir.join("info/attributes"));
    let is_small = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.len() > 0 && m.len() <= MAX_ATTRIBUTES_BYTES)
    };
    let Some(file) = file.filter(is_small) else { return Vec::new() };
    let mut setting = OsString::from("core.attributesFile=");
    setting.push(file);
    vec!["-c".into(), setting]
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
        let local = local_attributes(repo);
        // The attributes before count as well: the same change may remove them.
        for index in [paths.index().as_path(), index] {
            let call = self.mirrors.call(repo).on_worktree(&paths.dir, index).with_options(&local);
            let call = call.timeout(TREE_TIMEOUT).args(["check-attr", "--cached", "-z", "--stdin", "filter"]);
            let output = call.stdin(stdin.clone()).output("read the attributes of the changed files").await?;
            let mut fields = output.split(|b| *b == 0);
            while let (Some(path), Some(_), Some(value)) = (fields.next(), fields.next(), fields.next()) {
                if let Some(product) = product(&String::from_utf8_lossy(value)) {
                    filters.insert(path.to_vec(), product);
                }
            }
        }
        for part in written.chunks(MAX_READ_AT_ONCE) {
            let ids = part.iter().flat_map(|e| [e.old.clone(), e.new.clone()]).collect();
            let starts = read_starts(&self.mirror(repo), ids, MAX_POINTER_BYTES + 1).await?;
            let refused = part.iter().zip(starts.chunks(2)).find_map(|(entry, versions)| {
                let [old, new] = versions else { return None };
                Some((&entry.path, refused_for(filters.get(&entry.raw), old.as_ref(), new.as_ref())?))
            });
            if let Some((path, product)) = refused {
                return Err(PortError::permanent(
                    format!(
                        "{} is kept by {product}, and Skep would put its bare content into the history instead",
                        shown_path(path)
                    ),
                    format!("leave files of {product} unchanged: restrict the goal, or change them yourself"),
                ));
            }
        }
        Ok(())
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
            ("git-agecrypt", Some("git-agecrypt")),
            ("strongbox", Some("strongbox")),
            ("sops", Some("SOPS")),
            ("fat", Some("git-fat")),
            ("lfsx", Some("the filter lfsx")),
            ("our-secrets", Some("the filter our-secrets")),
            ("nbstripout", None),
            ("kicad_project", None),
            ("unspecified", None),
            ("unset", None),
        ] {
            assert_eq!(product(filter).as_deref(), product_of, "{filter}");
        }
        assert!(is_pointer(b"version https://git-lfs.github.com/spec/v1\noid sha256:7\nsize 1\n"));
        assert!(!is_pointer(b"version 2"));
        assert!(!is_pointer(&[POINTERS[0], &[b'x'; 2000]].concat()));
    }

    #[test]
    fn plain_text_never_replaces_an_encrypted_file() {
        for (old, product) in [
            (&b"\0GITCRYPT\0abc"[..], "git-crypt"),
            (b"age-encryption.org/v1\n-> X25519 a\n", "age"),
            (b"-----BEGIN AGE ENCRYPTED FILE-----\n", "age"),
            (b"# STRONGBOX ENCRYPTED RESOURCE ; See\n", "strongbox"),
            (b"$ANSIBLE_VAULT;1.1;AES256\n62\n", "Ansible Vault"),
            (b"-----BEGIN PGP MESSAGE-----\n", "OpenPGP"),
            (b"Salted__12345678", "OpenSSL"),
            (b"U2FsdGVkX18=", "OpenSSL"),
        ] {
            let refused = |new: &[u8]| refused_for(None, Some(&old.to_vec()), Some(&new.to_vec()));
            assert_eq!(refused(b"password: x\n").as_deref(), Some(product));
            assert_eq!(refused(old), None, "{product} encrypted again");
        }
        let text = b"a: 1\n".to_vec();
        assert_eq!(refused_for(None, Some(&text), Some(&text)), None);
        assert_eq!(refused_for(None, None, Some(&text)), None);
    }
}
