//! Writes on an issue what its run does, asks and ends with. Each comment is written once and updated in place.

use crate::domain::{ChangeNumber, Outcome};
use crate::ports::intake::IssueRun;
use crate::ports::{ForgeIssues, Repo};
use crate::render;
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
    put(&*tracker, &repo, &row, "run", &render::issue::about(&run)).await.map(|digest| row.progress.run = digest)?;
    let question = render::issue::question(&run);
    let is_asked = !before.progress.question.is_empty();
    if let Some(text) = question.or_else(|| is_asked.then(|| render::issue::ANSWERED.to_owned())) {
        row.progress.question = put(&*tracker, &repo, &row, "question", &text).await?;
    }
    if run.ended() {
        if let Some(text) = render::issue::end(&run) {
            let marker = format!("skep:issue:{}:end", run.id);
            tracker.put_comment(&repo, ChangeNumber(row.number), &marker, &text).await?;
            crate::fault!("before-issue-close");
        }
        if matches!(run.outcome, Some(Outcome::Delivered { .. })) {
            tracker.close_issue(&repo, row.number).await?;
        }
        row.is_finished = true;
    }
    if row != before {
        s.intake.put_progress(&row).await?;
    }
    Ok(())
}

/// Writes one comment unless it has this text already, and returns the digest of the text.
async fn put(
    tracker: &dyn ForgeIssues,
    repo: &Repo,
    row: &IssueRun,
    part: &str,
    text: &str,
) -> ServiceResult<String> {
    let digest: String = Sha256::digest(text.as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect();
    let known = if part == "run" { &row.progress.run } else { &row.progress.question };
    if *known != digest {
        let marker = format!("skep:issue:{}:{part}", row.run);
        tracker.put_comment(repo, ChangeNumber(row.number), &marker, text).await?;
    }
    Ok(digest)
}

