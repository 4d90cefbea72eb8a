//! Fetches the tags of a branch's newest commits. What derives a version from tags needs no older ones, and a
//! repository may have very many.

use super::access::Access;
use super::mirror::Mirrors;
use super::object::check_branch;
use super::{HISTORY_COMMITS, NET_TIMEOUT};
use crate::domain::Sha;
use crate::ports::{PortResult, Repo};
use std::collections::{BTreeMap, BTreeSet};

/// Upper bound on the tags fetched at once.
const MAX_TAGS: usize = 200;

impl Mirrors {
    /// Fetches the tags of the newest commits of `head` that the mirror does not have.
    ///
    /// # Errors
    /// When the origin cannot be read.
    pub(super) async fn fetch_tags(&self, repo: &Repo, access: &Access, head: &Sha) -> PortResult<()> {
        let list = self.call(repo).with_origin(access).timeout(NET_TIMEOUT).args(["ls-remote", "--tags"]);
        let list = list.args(access.upload_pack()).arg("--end-of-options").arg(access.address());
        let listed = list.output(&format!("list the tags of {}", access.redacted())).await?;
        if listed.is_empty() {
            return Ok(());
        }
        let max_count = format!("--max-count={HISTORY_COMMITS}");
        let commits = self.call(repo).args(["rev-list", max_count.as_str(), "--end-of-options", head.as_str()]);
        let commits = commits.output_line("list the newest commits").await?;
        let known = self.call(repo).args(["for-each-ref", "refs/tags", "--format=%(objectname) %(refname:lstrip=2)"]);
        let known = known.output_line("list the mirror's tags").await?;
        let missing = missing(&String::from_utf8_lossy(&listed), &commits, &known);
        if missing.is_empty() {
            return Ok(());
        }
        let specs: Vec<String> = missing.iter().map(|name| format!("+refs/tags/{name}:refs/tags/{name}")).collect();
        self.update(repo, access, &specs).await
    }
}

/// Returns the listed tags of these commits that are not known yet.
fn missing(listed: &str, commits: &str, known: &str) -> Vec<String> {
    let commits: BTreeSet<&str> = commits.lines().collect();
    let known: BTreeSet<(&str, &str)> = known.lines().filter_map(|line| line.split_once(' ')).collect();
    // An annotated tag has a second line with its commit.
    let mut tags: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for (object, name) in listed.lines().filter_map(|line| line.split_once("\trefs/tags/")) {
        match name.strip_suffix("^{}") {
            Some(name) => {
                if let Some(tag) = tags.get_mut(name) {
                    tag.1 = object;
                }
            }
            None => {
                tags.insert(name, (object, object));
            }
        }
    }
    let is_missing = |(name, (object, commit)): &(&str, (&str, &str))| {
        commits.contains(commit) && !known.contains(&(*object, *name)) && check_branch(name).is_ok()
    };
    tags.into_iter().filter(is_missing).map(|(name, _)| name.to_owned()).take(MAX_TAGS).collect()
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn only_new_tags_of_recent_commits_are_fetched() {
        let listed = "o1\trefs/tags/v1\nc1\trefs/tags/v1^{}\nc2\trefs/tags/light\nc9\trefs/tags/old\nc1\trefs/tags/a..b\nc3\trefs/tags/k\n";
        assert_eq!(missing(listed, "c1\nc2\nc3", "c3 k\nx v1"), ["light", "v1"]);
    }
}
