//! Finds labelled issues and comments with commands that no webhook reported, and stores them as the same deliveries.

use super::{key_of, projects_of, repo_of, store};
use crate::domain::delivery::UNBLOCKED_LABEL;
use crate::domain::{Fact, ForgeName, Timestamp, command};
use crate::ports::forge_issues::ForgeIssues;
use crate::ports::intake::{COMMENTED, Delivery, NewDelivery};
use crate::ports::{PortResult, Repo};
use crate::service::Services;
use std::collections::BTreeSet;

/// Sweeps the repositories of a forge. One that cannot be read does not keep the others from being swept.
///
/// # Errors
/// If the store cannot be read.
pub(super) async fn sweep(s: &Services, forge: &ForgeName, label: &str) -> PortResult<()> {
    let tracker = s.forges.issues(forge)?;
    let mut swept = BTreeSet::new();
    for (repository, project) in projects_of(s, forge).await? {
        if !swept.insert(repository.clone()) {
            continue;
        }
        let one = Sweep { s, forge, tracker: &*tracker, repository: &repository, repo: repo_of(&project) };
        if let Err(error) = one.carry_out(label).await {
            tracing::warn!(%forge, repository, %error, "cannot sweep a repository; the next sweep tries again");
        }
    }
    Ok(())
}

/// Reads the comments of the repositories that these deliveries are about, so that what was written earlier is applied
/// earlier, even if its webhook is late or lost. `read` are the repositories that were read before. Returns whether one
/// was read.
///
/// # Errors
/// If the store cannot be read.
pub(super) async fn read_earlier_comments(
    s: &Services,
    due: &[Delivery],
    read: &mut BTreeSet<(ForgeName, String)>,
) -> PortResult<bool> {
    let mut is_read = false;
    for new in due.iter().map(|delivery| &delivery.new).filter(|new| new.event != COMMENTED) {
        let needs_order =
            matches!(new.fact, Ok(Fact::Commented { .. } | Fact::Labelled { .. } | Fact::Relabelled { .. }));
        let (forge, repository) = (&new.forge, &new.repository);
        if !needs_order || !read.insert((forge.clone(), repository.clone())) {
            continue;
        }
        let found = projects_of(s, forge).await?.into_iter().find(|(name, _)| name == repository);
        let (Some((_, project)), Ok(tracker)) = (found, s.forges.issues(forge)) else { continue };
        let sweep = Sweep { s, forge, tracker: &*tracker, repository, repo: repo_of(&project) };
        match sweep.comments().await {
            Ok(()) => is_read = true,
            Err(error) => {
                tracing::warn!(%forge, repository, %error, "cannot read the earlier comments of a repository")
            }
        }
    }
    Ok(is_read)
}

struct Sweep<'a> {
    s: &'a Services,
    forge: &'a ForgeName,
    tracker: &'a dyn ForgeIssues,
    repository: &'a str,
    repo: Repo,
}

impl Sweep<'_> {
    async fn carry_out(&self, label: &str) -> PortResult<()> {
        self.labels(label, false).await?;
        self.labels(UNBLOCKED_LABEL, true).await?;
        self.comments().await
    }

    /// Each issue is looked at once after it has changed.
    async fn labels(&self, label: &str, with_pulls: bool) -> PortResult<()> {
        for issue in self.tracker.list_labelled(&self.repo, label).await? {
            if issue.is_pull && !with_pulls {
                continue;
            }
            let number = issue.number;
            let run = self.s.intake.issue_run(self.forge, self.repository, number).await?;
            if !with_pulls && run.is_some_and(|run| !run.is_finished) {
                continue;
            }
            let id = format!("sweep:{label}:{}:{number}:{}", self.repository, issue.updated_at.0);
            self.found(id, "sweep.labelled", Fact::Labelled { number, label: label.to_owned() }).await?;
        }
        Ok(())
    }

    async fn comments(&self) -> PortResult<()> {
        let known = self.s.intake.cursor(self.forge, self.repository).await?;
        let rules = self.tracker.rules();
        let login = rules.mention.as_deref();
        // What was written before Skep came is not for Skep.
        let since = known.unwrap_or(self.s.clock.now());
        let mut read_to = since;
        for comment in self.tracker.comments_since(&self.repo, since).await? {
            read_to = Timestamp(read_to.0.max(comment.updated_at.0));
            if comment.is_own
                || comment.at < Timestamp(since.0 - 1000)
                || command::parse(&comment.text, login).is_none()
            {
                continue;
            }
            let id = format!("sweep:comment:{}:{}", self.repository, comment.id);
            let fact = Fact::Commented { number: comment.number, comment: comment.id };
            self.found(id, COMMENTED, fact).await?;
        }
        if known != Some(read_to) {
            self.s.intake.put_cursor(self.forge, self.repository, read_to).await?;
        }
        Ok(())
    }

    async fn found(&self, id: String, event: &str, fact: Fact) -> PortResult<()> {
        let fact = Ok(fact);
        let new = NewDelivery {
            forge: self.forge.clone(),
            id,
            event: event.to_owned(),
            repository: self.repository.to_owned(),
            key: key_of(self.repository, &fact),
            fact,
            at: self.s.clock.now(),
        };
        store(self.s, new).await
    }
}
