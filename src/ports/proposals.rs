//! Proposals to improve what makes runs fail.

use super::PortResult;
use crate::domain::improve::Proposal;
use async_trait::async_trait;

/// A proposal with the revision of its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredProposal {
    /// The proposal.
    pub proposal: Proposal,
    /// Number of times it was written.
    pub revision: u64,
}

/// Stored proposals.
#[async_trait]
pub trait Proposals: Send + Sync {
    /// Lists proposals, newest first, at most `limit`.
    async fn list_proposals(&self, limit: u64) -> PortResult<Vec<StoredProposal>>;
    /// Stores an open proposal, unless `most` are open already. One with the same id is replaced only if it still has
    /// the revision `replace`. Returns whether the proposal was stored.
    async fn open_proposal(&self, proposal: &Proposal, most: u32, replace: Option<u64>) -> PortResult<bool>;
    /// Writes a proposal if its row still has this revision. Returns whether it had.
    async fn update_proposal(&self, proposal: &Proposal, revision: u64) -> PortResult<bool>;
}
