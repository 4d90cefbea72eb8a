//! Writes open proposals to the issues of their projects: each has one issue, which is updated.

use super::{MAX_ROWS, Pass};
use crate::domain::ProjectName;
use crate::domain::improve::{Proposal, ProposalState};
use crate::ports::PortError;
use crate::ports::forge_issues::OwnIssue;
use crate::ports::proposals::StoredProposal;
use crate::ports::workspace::Repo;
use crate::render;
use crate::secrets::redact_all;
use crate::service::{ServiceResult, Services};

/// Publishes the open proposals. A problem with one of them is reported in the pass and does not affect the others. A
/// person who has closed the issue of a proposal has dropped it.
pub(super) async fn publish_open(s: &Services, only: Option<&ProjectName>, pass: &mut Pass) -> ServiceResult<()> {
    let stored = s.proposals.list_proposals(MAX_ROWS).await?;
    let in_scope = |p: &&StoredProposal| only.is_none_or(|only| *only == p.proposal.project);
    for StoredProposal { proposal, revision } in stored.iter().filter(in_scope) {
        if proposal.state != ProposalState::Open {
            continue;
        }
        let mut published = proposal.clone();
        match write_issue(s, proposal).await {
            Ok(issue) => published.issue = Some(issue.url).filter(|_| issue.is_open),
            Err(error) => {
                pass.problems.push(redact_all(&format!("{}: {error}", proposal.id)).into_owned());
                continue;
            }
        }
        if published.issue.is_none() {
            published.issue = proposal.issue.clone();
            published.state = ProposalState::Dropped;
            published.decided_at = Some(s.clock.now());
            published.why = Some("its issue was closed".to_owned());
        }
        if published != *proposal {
            s.proposals.update_proposal(&published, *revision).await?;
        }
        if let Some(new) = pass.proposed.iter_mut().find(|p| p.id == published.id) {
            *new = published.clone();
        }
        pass.published.extend(Some(published).filter(|p| p.state == ProposalState::Open));
    }
    Ok(())
}

async fn write_issue(s: &Services, proposal: &Proposal) -> Result<OwnIssue, PortError> {
    let project = s.store.project(&proposal.project).await?.ok_or_else(|| {
        let what = format!("the project {} is gone", proposal.project);
        PortError::permanent(what, "drop the proposal, or add the project again")
    })?;
    let repo = Repo { project: project.name.clone(), origin: project.repo.clone() };
    let issues = s.forges.issues(&project.forge)?;
    let (title, body) = render::proposal::issue(proposal);
    let marker = format!("skep:proposal:{}", proposal.id);
    issues.put_issue(&repo, &marker, &redact_all(&title), &redact_all(&body)).await
}
