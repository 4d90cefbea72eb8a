//! Diffs two trees in the mirror. Without a worktree, no attribute of the change can hide a line of it.

use super::{GitWorkspaces, MAX_TEXT_BYTES};
use crate::domain::{DiffStat, FileChange, FileKind, Sha};
use crate::platform::git::TREE_TIMEOUT;
use crate::ports::{PortResult, Repo};

/// One entry of a raw diff.
#[derive(Debug)]
pub(super) struct Entry {
    /// Mode before; `000000` = absent.
    pub old_mode: String,
    /// Mode after.
    pub new_mode: String,
    /// Object before.
    pub old: String,
    /// Object after.
    pub new: String,
    /// Path; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Path, byte for byte.
    pub raw: Vec<u8>,
}

impl GitWorkspaces {
    pub(super) async fn diff_of(&self, repo: &Repo, from: &Sha, to: &Sha) -> PortResult<(DiffStat, Vec<u8>)> {
        let (stat, _) = self.stat_of(repo, from, to).await?;
        Ok((stat, self.patch_of(repo, from, to).await?))
    }

    /// Returns the patch, truncated to the limit.
    pub(super) async fn patch_of(&self, repo: &Repo, from: &Sha, to: &Sha) -> PortResult<Vec<u8>> {
        if from == to {
            return Ok(Vec::new());
        }
        let show =
            ["diff-tree", "-r", "-p", "--no-ext-diff", "--no-textconv", "--no-renames", "--ignore-submodules=none"];
        let call = self.mirrors.call(repo).timeout(TREE_TIMEOUT).args(show).args([
            "--end-of-options",
            from.as_str(),
            to.as_str(),
        ]);
        call.output_head("show the patch", MAX_TEXT_BYTES).await
    }

    /// Returns the diff statistics and the entries.
    pub(super) async fn stat_of(&self, repo: &Repo, from: &Sha, to: &Sha) -> PortResult<(DiffStat, Vec<Entry>)> {
        if from == to {
            return Ok((DiffStat::default(), Vec::new()));
        }
        let count = ["diff-tree", "-r", "-z", "--raw", "--numstat", "--no-ext-diff", "--no-textconv", "--no-renames"];
        let call = self.mirrors.call(repo).timeout(TREE_TIMEOUT).args(count);
        let call = call.args(["--no-abbrev", "--ignore-submodules=none"]);
        let output = call.args(["--end-of-options", from.as_str(), to.as_str()]).output("compare two trees").await?;
        let (mut stat, entries) = parse(&output);
        stat.unusual = self.unusual(repo, to, &entries).await?;
        Ok((stat, entries))
    }
}

/// Parses `--raw --numstat -z`: first `:modes…\0path\0` for each file, then `added\tremoved\tpath\0` for each.
fn parse(output: &[u8]) -> (DiffStat, Vec<Entry>) {
    let mut stat = DiffStat::default();
    let mut entries = Vec::new();
    let mut fields = output.split(|b| *b == 0).filter(|f| !f.is_empty());
    while let Some(field) = fields.next() {
        let field = String::from_utf8_lossy(field);
        if let Some(raw) = field.strip_prefix(':') {
            let mut parts = raw.split(' ');
            let (old_mode, new_mode) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let (old, new) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let raw_path = fields.next().unwrap_or_default().to_owned();
            let path = String::from_utf8_lossy(&raw_path).into_owned();
            let kind = match parts.next().unwrap_or_default() {
                "A" => FileKind::Added,
                "D" => FileKind::Deleted,
                _ => FileKind::Modified,
            };
            stat.files_total += 1;
            if stat.files.len() < DiffStat::MAX_FILES {
                let blob = (kind != FileKind::Deleted).then(|| Sha(new.to_owned()));
                stat.files.push(FileChange { path: path.clone(), kind, added: 0, removed: 0, binary: false, blob });
            }
            entries.push(Entry {
                old_mode: old_mode.to_owned(),
                new_mode: new_mode.to_owned(),
                old: old.to_owned(),
                new: new.to_owned(),
                path,
                raw: raw_path,
            });
            continue;
        }
        let mut parts = field.splitn(3, '\t');
        let (added, removed) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let path = parts.next().unwrap_or_default();
        let (plus, minus) = (added.parse().unwrap_or(0_u64), removed.parse().unwrap_or(0_u64));
        stat.added = stat.added.saturating_add(plus);
        stat.removed = stat.removed.saturating_add(minus);
        // Both lists follow git's path order. Files beyond the cap have no entry.
        if let Ok(at) = stat.files.binary_search_by(|f| f.path.as_str().cmp(path)) {
            let file = &mut stat.files[at];
            (file.added, file.removed, file.binary) = (plus, minus, added == "-");
        } else if let Some(file) = stat.files.iter_mut().find(|f| f.path == path) {
            (file.added, file.removed, file.binary) = (plus, minus, added == "-");
        }
    }
    (stat, entries)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn raw_and_numstat_lines_are_joined() {
        let (stat, entries) = parse(
            b":000000 100644 0 1 A\0a\nb\0:100644 000000 1 0 D\0c\0:100644 160000 1 2 T\0d\0\
              3\t0\ta\nb\0-\t-\tc\x001\t1\td\0",
        );
        assert_eq!(stat.summary(), "3 files, +4 -1");
        assert_eq!(stat.files[0].path, "a\nb");
        assert!(stat.files[1].binary);
        let blobs: Vec<Option<&str>> = stat.files.iter().map(|f| f.blob.as_ref().map(|sha| sha.as_str())).collect();
        assert_eq!(blobs, [Some("1"), None, Some("2")]);
        assert_eq!(entries[2].new_mode, "160000");
    }
}
