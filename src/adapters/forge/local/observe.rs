//! Looking at a change: its file, and the origin's branches as they are now.

use super::LocalForge;
use super::state::{StoredChange, truncated};
use crate::domain::change::UnblockComment;
use crate::domain::{BlockId, ChangeNumber, ChangeState, Observation, Principal, Sha, StatusState};
use crate::ports::{Change, Comment, PortError, PortResult, Repo};
use std::collections::BTreeMap;

/// Who merged when only git knows.
const BY_GIT: &str = "local:git";

/// The branches of a change, as they are on the origin.
pub(super) struct Branches {
    /// The base branch's head.
    pub base: Sha,
    /// The offered branch's head; `None` = it was deleted.
    pub head: Option<Sha>,
}

impl LocalForge {
    pub(super) async fn branches(&self, repo: &Repo, change: &Change) -> PortResult<Branches> {
        let mut seen = self.mirrors.remote_heads(repo, &[&change.base_branch, &change.branch]).await?.heads;
        let Some(base) = seen.remove(&change.base_branch) else {
            return Err(PortError::permanent(
                format!("{} has no branch {:?} any more", repo.origin, change.base_branch),
                "restore the base branch",
            ));
        };
        Ok(Branches { base, head: seen.remove(&change.branch) })
    }

    /// Marks an open change merged when its head is on the base branch, whoever put it there; this also heals a crash
    /// between the push and the file.
    pub(super) async fn record_merge(
        &self,
        repo: &Repo,
        entry: &mut StoredChange,
        branches: &Branches,
    ) -> PortResult<bool> {
        if entry.change.state != ChangeState::Open {
            return Ok(false);
        }
        let recorded = entry.change.head.clone();
        let wanted = entry.landing.as_ref().map(|l| l.head.clone());
        for head in [branches.head.clone(), wanted, Some(recorded)].into_iter().flatten() {
            // A head nobody has any more (a branch deleted before it was fetched) cannot be on the base branch.
            if self.mirrors.contains(repo, &head, &branches.base).await.unwrap_or(false) {
                let by = match &entry.landing {
                    Some(intent) if intent.head == head => intent.by.clone(),
                    _ => Principal::from(BY_GIT),
                };
                entry.change.head = head.clone();
                entry.change.state = ChangeState::Merged { sha: head, by };
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) async fn observe_change(&self, repo: &Repo, number: ChangeNumber) -> PortResult<Observation> {
        let mut entry = self.load(repo, number).await?;
        let branches = self.branches(repo, &entry.change).await?;
        if self.record_merge(repo, &mut entry, &branches).await? {
            let _held = self.lock(repo).await?;
            entry = self.load(repo, number).await?;
            if self.record_merge(repo, &mut entry, &branches).await? {
                self.save(repo, &entry).await?;
            }
        }
        let change = &entry.change;
        let head = match &change.state {
            ChangeState::Merged { sha, .. } => sha.clone(),
            _ => branches.head.clone().unwrap_or_else(|| change.head.clone()),
        };
        Ok(Observation {
            state: change.state.clone(),
            statuses: statuses(change, &head),
            approved_by: approvals(change, &head),
            unblocks: change.comments.iter().filter_map(unblock).collect(),
            base: branches.base,
            head,
        })
    }
}

fn statuses(change: &Change, head: &Sha) -> BTreeMap<String, StatusState> {
    let at_head = change.statuses.get(head).into_iter().flatten();
    at_head.filter(|(_, s)| s.by.is_person()).map(|(context, s)| (context.clone(), s.state)).collect()
}

/// People whose latest review approves exactly this head.
fn approvals(change: &Change, head: &Sha) -> Vec<Principal> {
    let mut latest = BTreeMap::new();
    for review in change.reviews.iter().filter(|r| r.by.is_person()) {
        latest.insert(&review.by, review);
    }
    latest.into_values().filter(|r| r.approved && r.head == *head).map(|r| r.by.clone()).collect()
}

/// `UNBLOCK #b3 the rest`, `unblock #3`.
fn unblock(comment: &Comment) -> Option<UnblockComment> {
    if !comment.by.is_person() || comment.marker.is_some() {
        return None;
    }
    let text = comment.text.trim_start();
    let (word, rest) = (text.get(..7)?, text.get(7..)?);
    let rest = rest.strip_prefix(|c: char| c.is_ascii_whitespace())?.trim_start().strip_prefix('#')?;
    let rest = rest.strip_prefix(['b', 'B']).unwrap_or(rest);
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, answer) = rest.split_at(digits);
    let ends = answer.chars().next().is_none_or(|c| !c.is_alphanumeric() && c != '_');
    let block = BlockId(number.parse().ok().filter(|_| word.eq_ignore_ascii_case("unblock") && ends)?);
    let text = truncated(answer.trim_start_matches([':', ',', '.', '-']).trim());
    Some(UnblockComment { comment: comment.id, block, by: comment.by.clone(), text })
}

#[cfg(test)]
mod tests {
    use super::unblock;
    use crate::domain::{Principal, Timestamp};
    use crate::ports::Comment;

    fn read(by: &str, text: &str) -> Option<(u32, String)> {
        let by = Principal::from(by);
        let comment = Comment { id: 1, by, at: Timestamp(0), text: text.to_owned(), marker: None };
        unblock(&comment).map(|u| (u.block.0, u.text))
    }

    #[test]
    fn only_a_persons_comment_that_starts_so_unblocks() {
        assert_eq!(read("local:a", "UNBLOCK #b3 use Postgres"), Some((3, "use Postgres".into())));
        assert_eq!(read("local:a", "  unblock  #12: yes\nand no"), Some((12, "yes\nand no".into())));
        assert_eq!(read("local:a", "UnBlock #B1"), Some((1, String::new())));
        for no in [
            "please UNBLOCK #b3",
            "UNBLOCK b3",
            "UNBLOCK #bx",
            "UNBLOCK #3x",
            "UNBLOCK#3",
            "UNBLOCKED #3",
            "> UNBLOCK #b3",
            "ünblöck #3",
            "UNBLOCK #b99999999999",
        ] {
            assert_eq!(read("local:a", no), None, "{no}");
        }
        assert_eq!(read("skep", "UNBLOCK #b3"), None);
    }
}
