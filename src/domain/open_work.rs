//! Open work: a step offered to outside agents, and the rules for claiming it.
//!
//! An offer is the session of an attempt whose engine is `open`. An agent claims it for a limited time, its lease, and
//! submits a patch or a review. A claim that lapses, or is given back, makes the offer open again.

use super::access::PersonName;
use super::id::{AttemptId, Principal, RunId, Timestamp};
use super::order::{Order, Step};
use super::project::ProjectName;
use super::report::{CriterionVerdict, Finding, Verdict};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Prefix of the principal of an outside agent.
pub const AGENT: &str = "agent:";
/// How often a claim can be extended, in leases from its start.
pub const MAX_LEASES: i64 = 3;

/// An outside agent: a program of a person, who answers for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Name, unique.
    pub name: PersonName,
    /// The person it belongs to.
    pub owner: Principal,
    /// What it says about itself.
    pub about: String,
    /// SHA-256 of the secret part of its invite code, in hex.
    pub invite_digest: String,
    /// When the code stops working.
    pub invite_ends_at: Timestamp,
    /// Who invited it.
    pub invited_by: Principal,
    /// When it was invited.
    pub created_at: Timestamp,
    /// When it registered with the code, which works only once.
    pub registered_at: Option<Timestamp>,
    /// When it was last seen.
    pub seen_at: Option<Timestamp>,
    /// When it was revoked; such an agent can do nothing.
    pub revoked_at: Option<Timestamp>,
    /// Number of claims that lapsed.
    pub lapses: u32,
}

impl Agent {
    /// Returns its principal.
    pub fn principal(&self) -> Principal {
        Principal(format!("{AGENT}{}", self.name))
    }

    /// Returns its state at a time, as a word.
    pub fn state(&self, at: Timestamp) -> &'static str {
        match (self.revoked_at, self.registered_at) {
            (Some(_), _) => "revoked",
            (None, Some(_)) => "active",
            (None, None) if self.invite_ends_at > at => "invited",
            (None, None) => "expired",
        }
    }
}

/// State of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferState {
    /// Anyone who may do it can claim it.
    Open,
    /// An agent works on it.
    Claimed,
    /// The agent has submitted its work, which the attempt has not accepted yet.
    Submitted,
    /// The attempt is applying the submission to its worktree.
    Applying,
    /// The attempt has accepted the submission; checks, reviews and gates decide about it.
    Delivered,
    /// Over: withdrawn, or replaced by the offer of a later attempt.
    Closed,
}

impl OfferState {
    /// All states.
    pub const ALL: [OfferState; 6] = [
        OfferState::Open,
        OfferState::Claimed,
        OfferState::Submitted,
        OfferState::Applying,
        OfferState::Delivered,
        OfferState::Closed,
    ];

    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            OfferState::Open => "open",
            OfferState::Claimed => "claimed",
            OfferState::Submitted => "submitted",
            OfferState::Applying => "applying",
            OfferState::Delivered => "delivered",
            OfferState::Closed => "closed",
        }
    }

    /// Returns the state with this name.
    pub fn named(name: &str) -> Option<OfferState> {
        OfferState::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Returns whether its agent holds the offer: it counts as one of the agent's open claims.
    pub fn is_held(self) -> bool {
        matches!(self, OfferState::Claimed | OfferState::Submitted | OfferState::Applying)
    }
}

/// An agent's hold on an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The agent.
    pub agent: PersonName,
    /// Its owner.
    pub owner: Principal,
    /// When it was claimed.
    pub at: Timestamp,
    /// End of the lease. Every call of the agent extends it.
    pub until: Timestamp,
}

/// Work that an agent submits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Submission {
    /// A change.
    Patch {
        /// Unified diff against the offer's head.
        patch: String,
        /// The agent's own summary.
        summary: String,
    },
    /// A review.
    Review {
        /// The verdict.
        verdict: Verdict,
        /// The findings.
        findings: Vec<Finding>,
        /// A sentence or two.
        summary: String,
        /// The verdicts on acceptance criteria.
        criteria: Vec<CriterionVerdict>,
    },
}

/// An offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Id: the abbreviated run and the attempt, `3f9a12bc-4`.
    pub id: String,
    /// The project.
    pub project: ProjectName,
    /// The order of its attempt: the whole task.
    pub order: Box<Order>,
    /// When it was first offered.
    pub opened_at: Timestamp,
    /// State.
    pub state: OfferState,
    /// The last claim; it is current if [`OfferState::is_held`].
    pub claim: Option<Claim>,
    /// Agents that lost or gave back their claim, and may not claim it again.
    pub turned: Vec<String>,
    /// The last submission, until a later attempt needs it no more.
    pub submission: Option<Submission>,
    /// Why the last submission could not be used; empty = there was none, or it could.
    pub problem: String,
}

impl Offer {
    /// Returns the id of the offer of an attempt.
    pub fn id_of(run: RunId, attempt: AttemptId) -> String {
        format!("{}-{}", run.abbrev(), attempt.0)
    }

    /// Returns whether this agent holds it at a time.
    pub fn is_held_by(&self, agent: &PersonName, at: Timestamp) -> bool {
        self.state.is_held() && self.claim.as_ref().is_some_and(|claim| claim.agent == *agent && !self.has_lapsed(at))
    }

    /// Returns whether its claim has lapsed. Work that was submitted in time is not lost to the clock.
    pub fn has_lapsed(&self, at: Timestamp) -> bool {
        self.state == OfferState::Claimed && self.claim.as_ref().is_some_and(|claim| claim.until <= at)
    }

    /// Returns whether an agent can claim it at a time, as far as the offer itself says.
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.state == OfferState::Open || self.has_lapsed(at)
    }
}

/// Facts about an agent that decide whether it may claim an offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimFacts {
    /// Offers that the agent holds.
    pub agent_claims: u32,
    /// Offers that all agents of its owner hold.
    pub owner_claims: u32,
    /// Whether an agent of its owner wrote a part of the change.
    pub owner_wrote: bool,
    /// Whether the agent reviewed the change.
    pub agent_reviewed: bool,
}

/// Settings of open work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenWorkSettings {
    /// How long an offer waits for a claim before the attempt ends, in milliseconds.
    pub patience_ms: i64,
    /// Lease of a claim, in milliseconds.
    pub lease_ms: i64,
    /// Maximum number of offers that an agent holds at once.
    pub claims_per_agent: u32,
    /// Maximum number of offers that the agents of a person hold at once.
    pub claims_per_owner: u32,
    /// Maximum number of agents of a person that are invited or active.
    pub agents_per_owner: u32,
}

impl Default for OpenWorkSettings {
    fn default() -> Self {
        let day = 24 * 3_600_000;
        Self { patience_ms: day, lease_ms: day, claims_per_agent: 2, claims_per_owner: 4, agents_per_owner: 5 }
    }
}

/// Why an agent may not claim an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimRefusal {
    /// The offer is over.
    Closed,
    /// Another agent holds it, at least until then.
    Taken(Timestamp),
    /// The agent gave it back, or let its claim lapse.
    Turned,
    /// The agent holds as many offers as it may.
    AgentLimit(u32),
    /// The agents of its owner hold as many offers as they may.
    OwnerLimit(u32),
    /// An agent of the same owner wrote a part of the change.
    OwnWork,
    /// The agent has reviewed the change already.
    Reviewed,
}

impl ClaimRefusal {
    /// Returns the stable code.
    pub fn code(&self) -> &'static str {
        match self {
            ClaimRefusal::Closed => "offer_closed",
            ClaimRefusal::Taken(_) => "offer_taken",
            ClaimRefusal::Turned => "offer_turned",
            ClaimRefusal::AgentLimit(_) | ClaimRefusal::OwnerLimit(_) => "too_many_claims",
            ClaimRefusal::OwnWork => "own_work",
            ClaimRefusal::Reviewed => "already_reviewed",
        }
    }
}

impl fmt::Display for ClaimRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClaimRefusal::Closed => f.write_str("the offer is closed: its run no longer needs it"),
            ClaimRefusal::Taken(_) => f.write_str("another agent holds the offer"),
            ClaimRefusal::Turned => f.write_str("you gave this offer back, or let your claim lapse"),
            ClaimRefusal::AgentLimit(limit) => write!(f, "you hold {limit} offers, as many as one agent may"),
            ClaimRefusal::OwnerLimit(limit) => {
                write!(f, "the agents of your owner hold {limit} offers, as many as one person may")
            }
            ClaimRefusal::OwnWork => {
                f.write_str("an agent of your owner wrote a part of this change, and nobody reviews their own work")
            }
            ClaimRefusal::Reviewed => f.write_str("you have reviewed this change already"),
        }
    }
}

/// Decides whether an agent may claim an offer.
///
/// # Errors
/// Returns the reason why not.
pub fn may_claim(
    offer: &Offer,
    agent: &PersonName,
    facts: &ClaimFacts,
    settings: &OpenWorkSettings,
    at: Timestamp,
) -> Result<(), ClaimRefusal> {
    match (&offer.claim, offer.state) {
        (_, OfferState::Closed | OfferState::Delivered) => return Err(ClaimRefusal::Closed),
        (Some(claim), state) if state.is_held() && !offer.has_lapsed(at) => {
            return Err(ClaimRefusal::Taken(claim.until));
        }
        _ => {}
    }
    let lapsed = offer.has_lapsed(at) && offer.claim.as_ref().is_some_and(|claim| claim.agent == *agent);
    if lapsed || offer.turned.iter().any(|name| name == agent.as_str()) {
        return Err(ClaimRefusal::Turned);
    }
    match offer.order.step {
        Step::Review if facts.owner_wrote => return Err(ClaimRefusal::OwnWork),
        Step::Review if facts.agent_reviewed => return Err(ClaimRefusal::Reviewed),
        _ => {}
    }
    if facts.agent_claims >= settings.claims_per_agent {
        return Err(ClaimRefusal::AgentLimit(settings.claims_per_agent));
    }
    if facts.owner_claims >= settings.claims_per_owner {
        return Err(ClaimRefusal::OwnerLimit(settings.claims_per_owner));
    }
    Ok(())
}
