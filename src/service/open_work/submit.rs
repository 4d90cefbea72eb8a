//! Submitting work: the bounds of what an agent sends, and waiting for the attempt to accept it.

use super::{Call, enter, find, lease_end, not_claimed, over, subject};
use crate::domain::{CriterionVerdict, Finding, Offer, OfferState, Step, Submission, Verdict};
use crate::render::utc;
use crate::service::audit::record;
use crate::service::{Caller, ServiceError, ServiceResult, Services};
use std::time::Duration;

/// Maximum bytes of a patch.
const MAX_PATCH_BYTES: usize = 512 * 1024;
/// Maximum characters of a summary or a finding.
const MAX_TEXT_CHARS: usize = 4_000;
/// Maximum bytes of a path in a finding.
const MAX_PATH_BYTES: usize = 1024;
/// How long a submission waits for its attempt.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);

/// Review that an agent submits.
#[derive(Clone, Debug)]
pub struct NewReview {
    /// The verdict.
    pub verdict: Verdict,
    /// The findings; a request for changes needs one.
    pub findings: Vec<Finding>,
    /// A sentence or two.
    pub summary: String,
    /// The verdicts on acceptance criteria without a command.
    pub criteria: Vec<CriterionVerdict>,
}

/// What became of a submission so far.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The offer.
    pub offer: Offer,
    /// Whether the attempt has accepted it. Otherwise the attempt has not looked at it yet.
    pub is_accepted: bool,
}

/// Submits a patch against the offer's commit.
///
/// # Errors
/// `missing_right` without [`crate::service::Right::Work`], `too_many_calls`, `no_offer`, `not_claimed`, `offer_closed`,
/// `invalid` if it is too large or the offer is for a review, and `refused_submission` (invalid) if it does not apply; the
/// claim stays then.
pub async fn patch(
    s: &Services,
    caller: &Caller,
    id: &str,
    patch: String,
    summary: String,
) -> ServiceResult<Submitted> {
    if patch.trim().is_empty() {
        return Err(ServiceError::invalid("patch: empty", "Send the output of `git diff` against the offer's commit"));
    }
    if patch.len() > MAX_PATCH_BYTES {
        let detail = format!("patch: larger than {} KiB", MAX_PATCH_BYTES / 1024);
        return Err(ServiceError::invalid(detail, "Send a smaller change, or give the offer back"));
    }
    text("summary", &summary)?;
    send(s, caller, id, Step::Develop, Submission::Patch { patch, summary }).await
}

/// Submits a review of the offer's commit.
///
/// # Errors
/// As [`patch`].
pub async fn review(s: &Services, caller: &Caller, id: &str, new: NewReview) -> ServiceResult<Submitted> {
    text("summary", &new.summary)?;
    if new.findings.len() > Finding::MAX || new.criteria.len() > Finding::MAX {
        let detail = format!("findings, criteria: more than {}", Finding::MAX);
        return Err(ServiceError::invalid(detail, "Send the most important ones"));
    }
    for finding in &new.findings {
        text("findings", &finding.text)?;
        if finding.path.len() > MAX_PATH_BYTES || finding.text.trim().is_empty() {
            let detail = "findings: a path is too long, or a text is empty";
            return Err(ServiceError::invalid(detail, "Say what is wrong, and what would be right"));
        }
    }
    for criterion in &new.criteria {
        text("criteria", &criterion.why)?;
        text("criteria", &criterion.id)?;
    }
    if new.verdict == Verdict::Rework && new.findings.is_empty() {
        let detail = "findings: a request for changes has none";
        return Err(ServiceError::invalid(detail, "Say what has to change"));
    }
    let NewReview { verdict, findings, summary, criteria } = new;
    send(s, caller, id, Step::Review, Submission::Review { verdict, findings, summary, criteria }).await
}

fn text(name: &str, text: &str) -> ServiceResult<()> {
    match text.chars().count() <= MAX_TEXT_CHARS && !text.contains('\0') {
        true => Ok(()),
        false => {
            let detail = format!("{name}: longer than {MAX_TEXT_CHARS} characters, or contains a NUL");
            Err(ServiceError::invalid(detail, "Shorten it"))
        }
    }
}

async fn send(s: &Services, caller: &Caller, id: &str, step: Step, work: Submission) -> ServiceResult<Submitted> {
    let agent = enter(s, caller, Call::Submit).await?;
    let offer = find(s, id).await?;
    if offer.order.step != step {
        let detail = format!("the offer is for the step `{}`", offer.order.step.name());
        return Err(ServiceError::invalid(detail, "Send a patch for `develop`, a review for `review`"));
    }
    let is_agents = offer.claim.as_ref().is_some_and(|claim| claim.agent == agent.name);
    let is_repeated = is_agents && offer.submission.as_ref() == Some(&work) && offer.state != OfferState::Closed;
    if !is_repeated {
        if !super::Runs::default().needs(s, &offer).await? {
            return Err(over());
        }
        if !s.open_work.submit(&offer.id, &agent.name, &work, s.clock.now()).await? {
            return Err(match is_agents && offer.submission.is_some() {
                true => already_submitted(id),
                false => not_claimed(id),
            });
        }
        record(s, caller, "work.submit", subject(&offer), step.name()).await;
    }
    wait(s, id).await
}

fn already_submitted(id: &str) -> ServiceError {
    let detail = format!("you have submitted work for the offer {id}, which is being looked at");
    ServiceError::conflict("already_submitted", detail, "Look at your own offers to see what becomes of it")
}

/// Waits for the attempt to look at a submission.
async fn wait(s: &Services, id: &str) -> ServiceResult<Submitted> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let offer = find(s, id).await?;
        match offer.state {
            OfferState::Claimed if !offer.problem.is_empty() => {
                let fix = format!("Correct it and submit it again before {}", utc(lease_end(s, s.clock.now())));
                let kind = crate::service::ErrorKind::Invalid;
                return Err(ServiceError::new(kind, "refused_submission", offer.problem, fix));
            }
            OfferState::Submitted | OfferState::Applying if tokio::time::Instant::now() < until => {}
            OfferState::Submitted | OfferState::Applying => return Ok(Submitted { offer, is_accepted: false }),
            OfferState::Delivered => return Ok(Submitted { offer, is_accepted: true }),
            _ => return Err(over()),
        }
        tokio::time::sleep(POLL).await;
    }
}
