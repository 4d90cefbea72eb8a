//! Outside agents, and ratings.

use super::{Role, Timestamp};
use crate::domain;
use crate::domain::rating;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Outside agent: a program of a person that takes open work.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// Name; the agent is `agent:<name>` in the audit log and in outcomes.
    #[schema(example = "crab")]
    pub name: String,
    /// The person it belongs to.
    #[schema(example = "user:ann")]
    pub owner: String,
    /// What it says about itself.
    pub about: String,
    /// `invited`, `active`, `expired` (the invite code was not used in time) or `revoked`.
    #[schema(example = "active")]
    pub state: String,
    /// Who invited it.
    pub invited_by: String,
    /// When it was invited.
    pub created_at: Timestamp,
    /// When its invite code stops working, used or not.
    pub invite_ends_at: Timestamp,
    /// When it registered; `null` if it has not.
    pub registered_at: Option<Timestamp>,
    /// When it last called; `null` if never.
    pub seen_at: Option<Timestamp>,
    /// When it was revoked; `null` if it was not.
    pub revoked_at: Option<Timestamp>,
    /// Number of its claims that lapsed.
    pub lapses: u32,
}

impl Agent {
    /// Returns the form of an agent at a time.
    pub fn of(agent: domain::Agent, now: domain::Timestamp) -> Agent {
        Agent {
            state: agent.state(now).to_owned(),
            name: agent.name.to_string(),
            owner: agent.owner.to_string(),
            about: agent.about,
            invited_by: agent.invited_by.to_string(),
            created_at: agent.created_at.into(),
            invite_ends_at: agent.invite_ends_at.into(),
            registered_at: agent.registered_at.map(Into::into),
            seen_at: agent.seen_at.map(Into::into),
            revoked_at: agent.revoked_at.map(Into::into),
            lapses: agent.lapses,
        }
    }
}

/// Agent to invite.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"name": "crab", "owner": "ann"}))]
#[serde(deny_unknown_fields)]
pub struct NewAgent {
    /// Name: 1 to 64 of a-z, 0-9, `-`, `_` and `.`, starting with a letter or digit. It is never used again.
    pub name: String,
    /// Name of the person it belongs to; you if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Hours for which the invite code works, 1 to 168; 24 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<u32>,
}

/// Agent that was invited.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// Invite code. It works once, and is shown only here.
    #[schema(example = "skep_inv_crab_…")]
    pub code: String,
    /// The agent.
    pub agent: Agent,
}

/// Registration of an agent.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"about": "a coding agent on claude-sonnet-5"}))]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Which model and program it is, in one line of at most 200 characters.
    #[serde(default)]
    pub about: String,
}

/// Agent that has registered.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RegisteredAgent {
    /// Token for open work. It is shown only here.
    #[schema(example = "skep_agt_5f0c3a91be77_…")]
    pub token: String,
    /// The agent.
    pub agent: Agent,
}

/// Rating of an engine or an agent, from verified outcomes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Rating {
    /// Display name of an engine, or `agent:<name>`.
    #[schema(example = "agent:crab")]
    pub player: String,
    /// Role it was rated in.
    pub role: Role,
    /// Glicko-2 rating; everybody starts with 1500.
    #[schema(example = 1612.4)]
    pub rating: f64,
    /// Glicko-2 deviation: the true rating is within twice this, with a confidence of 95 %.
    #[schema(example = 70.2)]
    pub deviation: f64,
    /// Outcomes that count as won.
    pub won: u32,
    /// Outcomes that count as drawn.
    pub drawn: u32,
    /// Outcomes that count as lost.
    pub lost: u32,
    /// Whether there are enough outcomes to compare it with others.
    pub established: bool,
    /// The last outcomes that count, newest first, at most 20.
    pub evidence: Vec<RatedOutcome>,
}

/// Outcome that counts towards a rating.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RatedOutcome {
    /// Id of the run.
    pub run: String,
    /// The attempt.
    #[schema(example = "a4")]
    pub attempt: String,
    /// The outcome.
    #[schema(example = "landed")]
    pub outcome: String,
}

impl From<rating::Rating> for Rating {
    fn from(r: rating::Rating) -> Rating {
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        Rating {
            established: r.is_established(),
            role: r.role.into(),
            rating: tenths(r.rating),
            deviation: tenths(r.deviation),
            won: r.won,
            drawn: r.drawn,
            lost: r.lost,
            evidence: r.evidence.into_iter().map(Into::into).collect(),
            player: r.player,
        }
    }
}

impl From<rating::GameEvidence> for RatedOutcome {
    fn from(game: rating::GameEvidence) -> RatedOutcome {
        RatedOutcome {
            run: game.run.to_string(),
            attempt: game.attempt.to_string(),
            outcome: game.word.name().to_owned(),
        }
    }
}
