//! Actions that people take on changes of the local forge. Each is recorded with the person who took it.

use super::state::truncated;
use super::{LocalForge, MAX_COMMENTS, push_comment, put_status};
use crate::domain::{ChangeNumber, ChangeState, Principal, Sha, StatusState};
use crate::ports::forge::{Landing, Review, Status};
use crate::ports::{Change, HumanActions, PortError, PortResult, Repo};
use async_trait::async_trait;

/// Upper bound on listed changes.
const MAX_LISTED: usize = 200;

fn check_person(by: &Principal) -> PortResult<()> {
    if by.is_person() && by.as_str().len() <= 200 {
        Ok(())
    } else {
        Err(PortError::permanent(format!("{by} is not a person"), "log in as a person"))
    }
}

fn check_open(change: &Change) -> PortResult<()> {
    match &change.state {
        ChangeState::Open => Ok(()),
        ChangeState::Closed { by } => {
            Err(PortError::permanent(format!("change {} was closed by {by}", change.number), "submit the goal again"))
        }
        ChangeState::Merged { sha, by } => Err(PortError::permanent(
            format!("change {} was merged by {by} at {}", change.number, sha.abbrev()),
            "no action is needed",
        )),
    }
}

impl LocalForge {
    /// Loads a change with the current head of its branch. Marks it as merged if that head is on the base branch.
    async fn load_current(&self, repo: &Repo, number: ChangeNumber) -> PortResult<Change> {
        self.observe_change(repo, number).await.map(drop)?;
        let mut change = self.load(repo, number).await?.change;
        if change.state == ChangeState::Open
            && let Some(head) = self.branches(repo, &change).await?.head
        {
            change.head = head;
        }
        Ok(change)
    }
}

#[async_trait]
impl HumanActions for LocalForge {
    async fn changes(&self, repo: &Repo) -> PortResult<Vec<Change>> {
        let mut changes = Vec::new();
        for number in self.numbers(repo).await?.into_iter().rev().take(MAX_LISTED) {
            changes.push(self.load(repo, number).await?.change);
        }
        Ok(changes)
    }

    async fn change(&self, repo: &Repo, number: ChangeNumber) -> PortResult<Change> {
        self.load_current(repo, number).await
    }

    async fn review(
        &self,
        repo: &Repo,
        number: ChangeNumber,
        by: &Principal,
        approved: bool,
        text: &str,
    ) -> PortResult<Change> {
        check_person(by)?;
        let head = self.load_current(repo, number).await?.head;
        let review = Review { by: by.clone(), at: self.now(), head, approved, text: truncated(text) };
        self.edit(repo, number, |entry| {
            check_open(&entry.change)?;
            if entry.change.reviews.len() >= MAX_COMMENTS {
                return Err(PortError::permanent(
                    format!("change {number} already has {MAX_COMMENTS} reviews"),
                    "merge it, or close it and submit the goal again",
                ));
            }
            entry.change.reviews.push(review);
            Ok((entry.change.clone(), true))
        })
        .await
    }

    async fn comment(&self, repo: &Repo, number: ChangeNumber, by: &Principal, text: &str) -> PortResult<Change> {
        check_person(by)?;
        let at = self.now();
        self.edit(repo, number, |entry| {
            push_comment(&mut entry.change, by.clone(), at, text, None)?;
            Ok((entry.change.clone(), true))
        })
        .await
    }

    async fn merge(&self, repo: &Repo, number: ChangeNumber, by: &Principal) -> PortResult<Change> {
        check_person(by)?;
        let change = self.load_current(repo, number).await?;
        if let ChangeState::Merged { .. } = change.state {
            return Ok(change);
        }
        check_open(&change)?;
        let base = self.branches(repo, &change).await?.base;
        match self.land_as(repo, number, &change.head, &base, by).await? {
            Landing::Landed(_) | Landing::LandedInBatch(..) => Ok(self.load(repo, number).await?.change),
            Landing::Stale(why) => Err(PortError::permanent(
                format!("cannot merge change {number}: {why}"),
                "wait until the run has rebased it, review it again, then merge",
            )),
        }
    }

    async fn close_by(&self, repo: &Repo, number: ChangeNumber, by: &Principal) -> PortResult<Change> {
        check_person(by)?;
        self.edit(repo, number, |entry| {
            let open = entry.change.state == ChangeState::Open;
            if open {
                entry.change.state = ChangeState::Closed { by: by.clone() };
            }
            Ok((entry.change.clone(), open))
        })
        .await
    }

    async fn report_status(
        &self,
        repo: &Repo,
        number: ChangeNumber,
        by: &Principal,
        sha: &Sha,
        context: &str,
        state: StatusState,
        text: &str,
    ) -> PortResult<Change> {
        // A program may report what it tested, if its token has the right `review`.
        let status = Status { state, text: truncated(text), by: by.clone() };
        self.edit(repo, number, |entry| {
            put_status(&mut entry.change, sha, context, status)?;
            Ok((entry.change.clone(), true))
        })
        .await
    }
}
