//! The part of the history that a worktree's own repository has: the newest commits, back to the newest tag.

use super::GitWorkspaces;
use crate::domain::Sha;
use crate::platform::git::{HISTORY_COMMITS, check_branch};
use crate::ports::{PortError, PortResult, Repo};
use std::collections::BTreeSet;
use std::io::ErrorKind;

/// Commits that a worktree has at least, if there are so many. What `git describe` and checks of changed lines look at
/// is usually among them.
const MIN_COMMITS: usize = 50;

/// Newest commits of a history.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Commits whose parents are left out.
    boundary: Vec<String>,
    /// Tags of the commits: object and name.
    tags: Vec<(String, String)>,
}

impl History {
    /// Returns the input of `git pack-objects --revs`.
    pub fn revs(&self, head: &Sha) -> String {
        let mut text: String = self.boundary.iter().map(|sha| format!("--shallow {sha}\n")).collect();
        text.push_str(&format!("{head}\n"));
        self.tags.iter().for_each(|(object, _)| text.push_str(&format!("{object}\n")));
        text
    }

    /// Returns the content of the file `shallow`.
    pub fn shallow(&self) -> String {
        self.boundary.iter().map(|sha| format!("{sha}\n")).collect()
    }

    /// Returns the content of the file `packed-refs`.
    pub fn packed_refs(&self) -> String {
        self.tags.iter().map(|(object, name)| format!("{object} refs/tags/{name}\n")).collect()
    }
}

impl GitWorkspaces {
    /// Returns the history of `head`: its newest commits, back to the newest tag if that is not too far.
    pub(super) async fn history(&self, repo: &Repo, head: &Sha) -> PortResult<History> {
        let tags = self.mirrors.call(repo).args(["for-each-ref", "refs/tags"]);
        let tags = tags.arg("--format=%(objectname) %(*objectname) %(refname:lstrip=2)");
        let tags = tags.output_line("list the mirror's tags").await?;
        let max_count = format!("--max-count={HISTORY_COMMITS}");
        let list = self.mirrors.call(repo).args(["rev-list", "--parents", max_count.as_str(), "--end-of-options"]);
        let list = list.arg(head.as_str()).output_line("list the newest commits").await?;
        // A shallow mirror ends where its origin does.
        let shallow = self.mirror(repo).join("shallow");
        let ends = match std::fs::read_to_string(&shallow) {
            Ok(ends) => ends,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => {
                let what = format!("cannot read {}: {error}", shallow.display());
                return Err(PortError::permanent(what, "give Skep's user access to its data directory"));
            }
        };
        Ok(select(&list, &tags, &ends))
    }
}

/// Selects from `commit parent…` lines, `object peeled name` lines, and the commits where the mirror itself ends.
fn select(commits: &str, tags: &str, ends: &str) -> History {
    let commits: Vec<Vec<&str>> = commits.lines().map(|line| line.split(' ').collect()).collect();
    // A tag of a commit has no peeled object: the field is empty.
    let tags: Vec<(&str, &str, &str)> = tags
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ' ');
            let (object, peeled, name) = (fields.next()?, fields.next()?, fields.next()?);
            Some((object, if peeled.is_empty() { object } else { peeled }, name))
        })
        .filter(|(_, _, name)| check_branch(name).is_ok())
        .collect();
    let tagged: BTreeSet<&str> = tags.iter().map(|(_, commit, _)| *commit).collect();
    let newest_tag = commits.iter().position(|c| c.first().is_some_and(|sha| tagged.contains(sha)));
    let count = newest_tag.map_or(MIN_COMMITS, |at| MIN_COMMITS.max(at + 1));
    let commits = &commits[..count.min(commits.len())];
    let selected: BTreeSet<&str> = commits.iter().filter_map(|c| c.first().copied()).collect();
    let ends: BTreeSet<&str> = ends.lines().collect();
    let is_boundary = |c: &&Vec<&str>| c.iter().skip(1).any(|p| !selected.contains(p)) || ends.contains(c[0]);
    History {
        boundary: commits.iter().filter(|c| !c.is_empty()).filter(is_boundary).map(|c| c[0].to_owned()).collect(),
        tags: tags
            .iter()
            .filter(|(_, commit, _)| selected.contains(commit))
            .map(|(object, _, name)| ((*object).to_owned(), (*name).to_owned()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_reaches_back_to_the_newest_tag() {
        let line = |n: usize| format!("c{n} c{}\n", n + 1);
        let commits: String = (0..300).map(line).collect();
        let of = |tags: &str, ends: &str| select(commits.trim(), tags, ends);
        let none = of("", "");
        assert_eq!((none.boundary, none.tags.len()), (vec!["c49".to_owned()], 0));
        let far = of("t1 c120 v2.0\nc7  light\nt3 c299 v1.0\nt4 c3 bad name", "");
        assert_eq!(far.boundary, ["c49"], "the newest tag is near");
        assert_eq!(far.packed_refs(), "c7 refs/tags/light\n");
        let far = of("t1 c120 v2.0\nt3 c299 v1.0", "");
        assert_eq!((far.packed_refs(), far.boundary), ("t1 refs/tags/v2.0\n".to_owned(), vec!["c120".to_owned()]));
        assert_eq!(of("", "c9\n").shallow(), "c9\nc49\n");
        let whole = select("a b c\nb\nc", "", "");
        assert!(whole.boundary.is_empty(), "a complete history has no boundary");
        assert_eq!(whole.revs(&Sha("a".into())), "a\n");
    }
}
