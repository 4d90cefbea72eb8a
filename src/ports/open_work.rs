//! Open work: outside agents, the offers that they claim, and how often they call. Only digests of invite codes are
//! stored.

use super::PortResult;
use crate::domain::open_work::{Claim, ClaimFacts, ClaimRefusal};
use crate::domain::{
    Agent, Offer, OpenWorkSettings, Order, PersonName, Principal, ProjectName, RunId, Submission, Timestamp,
};
use async_trait::async_trait;

/// Result of inviting an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invited {
    /// It was added.
    Added,
    /// There is an agent of this name, perhaps a revoked one.
    NameTaken,
    /// The owner has as many agents as a person may.
    OwnerLimit,
}

/// Outside agents and open work of one data directory.
///
/// Every change of an offer is one transaction that first checks the offer's state, so that two callers never both
/// succeed.
#[async_trait]
pub trait OpenWork: Send + Sync {
    /// Adds an agent, if the name is free and its owner has fewer than `limit` agents that are invited or active.
    async fn add_agent(&self, agent: &Agent, limit: u32) -> PortResult<Invited>;
    /// Returns an agent, also a revoked one.
    async fn agent(&self, name: &PersonName) -> PortResult<Option<Agent>>;
    /// Returns the agents by name.
    async fn agents(&self, limit: u64) -> PortResult<Vec<Agent>>;
    /// Registers an agent that has not registered yet; returns whether it did.
    async fn register_agent(&self, name: &PersonName, about: &str, at: Timestamp) -> PortResult<bool>;
    /// Revokes an agent, if it is not revoked, and opens the offers that it holds; returns whether there is such an
    /// agent.
    async fn revoke_agent(&self, name: &PersonName, at: Timestamp) -> PortResult<bool>;
    /// Counts a call of `who` in an hour, and returns the number of such calls in it, including this one. Counts of
    /// earlier days are forgotten.
    async fn count_call(&self, who: &str, what: &str, at: Timestamp) -> PortResult<u64>;
    /// Records that an agent was seen, and extends the leases of its claims to `until`, but not beyond `most_ms` after
    /// they began.
    async fn extend_claims(&self, agent: &PersonName, at: Timestamp, until: Timestamp, most_ms: i64) -> PortResult<()>;

    /// Offers the step of an attempt, or returns the offer that there is. The claim on the offer of the previous
    /// attempt at the same task carries over while its lease runs; so does its submission, if that attempt was lost
    /// before anyone judged it.
    async fn open_offer(&self, order: &Order, project: &ProjectName, patch: &str, at: Timestamp) -> PortResult<Offer>;
    /// Returns an offer.
    async fn offer(&self, id: &str) -> PortResult<Option<Offer>>;
    /// Returns the diff to review of an offer; empty for other steps.
    async fn offered_patch(&self, id: &str) -> PortResult<String>;
    /// Returns the offers that can be claimed at a time, oldest first, without their submissions.
    async fn open_offers(&self, at: Timestamp, limit: u64) -> PortResult<Vec<Offer>>;
    /// Returns the offers that an agent claimed last, newest first, without their submissions.
    async fn offers_of(&self, agent: &PersonName, limit: u64) -> PortResult<Vec<Offer>>;
    /// Claims an offer by [`crate::domain::open_work::may_claim`]; `None` = there is no such offer. Claiming an offer
    /// again that the agent holds changes nothing.
    async fn claim(
        &self,
        id: &str,
        claim: &Claim,
        settings: &OpenWorkSettings,
    ) -> PortResult<Option<Result<Offer, ClaimRefusal>>>;
    /// Opens an offer again that an agent holds or whose claim has lapsed; returns whether it did. The agent may not
    /// claim it again.
    async fn give_back(&self, id: &str, agent: &PersonName, at: Timestamp) -> PortResult<bool>;
    /// Stores the submission of the agent that holds the offer; returns whether it did.
    async fn submit(&self, id: &str, agent: &PersonName, work: &Submission, at: Timestamp) -> PortResult<bool>;
    /// Marks a submission as being applied; returns whether there was one to apply.
    async fn start_applying(&self, id: &str) -> PortResult<bool>;
    /// Returns a submission to its agent, with the problem, and lets the claim last until `until` at least.
    async fn refuse_submission(&self, id: &str, problem: &str, until: Timestamp) -> PortResult<()>;
    /// Marks a submission as accepted.
    async fn accept_submission(&self, id: &str) -> PortResult<()>;
    /// Closes an offer that is not delivered.
    async fn close_offer(&self, id: &str) -> PortResult<()>;
    /// Returns the facts that decide whether an agent of an owner may claim an offer of a run.
    async fn claim_facts(&self, agent: &PersonName, owner: &Principal, run: RunId) -> PortResult<ClaimFacts>;
}
