//! Writes on an issue what its run does, asks and ends with. Each comment is written once and updated in place.

use crate::domain::{ChangeNumber, Outcome, Run};
use crate::ports::intake::IssueRun;
use crate::ports::{ForgeIssues, PortError, PortResult, Repo};
use crate::render;
use crate::secrets::redact_all;
use crate::service::{ServiceResult, Services};
use sha2::{Digest, Sha256};

/// Brings the comments on an issue up to date with its run, and closes the issue after the landing.
///
/// # Errors
/// If the forge or the store cannot be reached; then it should be tried again.
pub(super) async fn report(s: &Services, mut row: IssueRun) -> ServiceResult<()> {
    // Its start is applied again.
    let Some(run) = s.store.load(row.run).await? else { return Ok(()) };
    let tracker = s.forges.issues(&row.forge)?;
    let repo = Repo { project: run.project.clone(), origin: run.settings.origin.clone() };
    let before = row.clone();
    let written = write(&*tracker, &repo, &mut row, &run).await;
    match written {
        Ok(()) => row.is_finished = run.ended(),
        // The issue was deleted, for example: nobody waits for the end of this run there.
        Err(error @ PortError::Permanent { .. }) if run.ended() => {
            tracing::warn!(run = %run.id, %error, "cannot write on the issue of a run that has ended");
            row.is_finished = true;
        }
        Err(error) => return Err(error.into()),
    }
    if row != before {
        s.intake.put_progress(&row).await?;
    }
    Ok(())
}

async fn write(tracker: &dyn ForgeIssues, repo: &Repo, row: &mut IssueRun, run: &Run) -> PortResult<()> {
    row.progress.run = put(tracker, repo, row, "run", &render::issue::about(run)).await?;
    let was_asked = !row.progress.question.is_empty();
    let answered = was_asked.then(|| render::issue::ANSWERED.to_owned());
    if let Some(text) = render::issue::question(run).or(answered) {
        row.progress.question = put(tracker, repo, row, "question", &text).await?;
    }
    if !run.ended() {
        return Ok(());
    }
    if let Some(text) = render::issue::end(run) {
        let marker = format!("skep:issue:{}:end", run.id);
        tracker.put_comment(repo, ChangeNumber(row.number), &marker, &redact_all(&text)).await?;
        crate::fault!("before-issue-close");
    }
    match run.outcome {
        Some(Outcome::Delivered { .. }) => tracker.close_issue(repo, row.number).await,
        _ => Ok(()),
    }
}

/// Writes one comment unless it has this text already, and returns the digest of the text.
async fn put(tracker: &dyn ForgeIssues, repo: &Repo, row: &IssueRun, part: &str, text: &str) -> PortResult<String> {
    let digest: String = Sha256::digest(text.as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect();
    let known = if part == "run" { &row.progress.run } else { &row.progress.question };
    if *known != digest {
        let marker = format!("skep:issue:{}:{part}", row.run);
        tracker.put_comment(repo, ChangeNumber(row.number), &marker, &redact_all(text)).await?;
    }
    Ok(digest)
}
