//! Rows of agents and offers as values of the domain.

use super::super::ledger::number;
use crate::domain::open_work::Claim;
use crate::domain::{Agent, Offer, OfferState, PersonName, Principal, ProjectName, Timestamp};
use sea_orm::{DbErr, QueryResult};

/// Columns of an offer, without its submission and its patch, which are large.
pub(super) const COLUMNS: &str =
    "id, project, order_body, state, agent, owner, claimed_at, lease_ends, turned, problem, opened_at";
/// Columns of an agent.
pub(super) const AGENT_COLUMNS: &str = "name, owner, about, invite_digest, invite_ends_at, invited_by, created_at, \
    registered_at, seen_at, revoked_at, lapses";

pub(super) fn offer(row: &QueryResult, with_submission: bool) -> Result<Offer, DbErr> {
    let text = |column: &str| row.try_get::<String>("", column);
    let json = |e: serde_json::Error| DbErr::Json(e.to_string());
    let state = text("state")?;
    let submission: Option<String> = if with_submission { row.try_get("", "submission")? } else { None };
    let owner: Option<String> = row.try_get("", "owner")?;
    let claim = match (row.try_get::<Option<String>>("", "agent")?, owner) {
        (Some(agent), Some(owner)) => Some(Claim {
            agent: PersonName::new(&agent).map_err(DbErr::Type)?,
            owner: Principal(owner),
            at: time(row, "claimed_at")?.unwrap_or_default(),
            until: time(row, "lease_ends")?.unwrap_or_default(),
        }),
        _ => None,
    };
    Ok(Offer {
        id: text("id")?,
        project: ProjectName::new(&text("project")?).map_err(DbErr::Type)?,
        order: serde_json::from_str(&text("order_body")?).map_err(json)?,
        opened_at: Timestamp(row.try_get("", "opened_at")?),
        state: OfferState::named(&state).ok_or_else(|| DbErr::Type(format!("offer.state: unknown {state:?}")))?,
        claim,
        turned: text("turned")?.split_ascii_whitespace().map(str::to_owned).collect(),
        submission: submission.map(|text| serde_json::from_str(&text)).transpose().map_err(json)?,
        problem: text("problem")?,
    })
}

pub(super) fn agent(row: &QueryResult) -> Result<Agent, DbErr> {
    let text = |column: &str| row.try_get::<String>("", column);
    Ok(Agent {
        name: PersonName::new(&text("name")?).map_err(DbErr::Type)?,
        owner: Principal(text("owner")?),
        about: text("about")?,
        invite_digest: text("invite_digest")?,
        invite_ends_at: Timestamp(row.try_get("", "invite_ends_at")?),
        invited_by: Principal(text("invited_by")?),
        created_at: Timestamp(row.try_get("", "created_at")?),
        registered_at: time(row, "registered_at")?,
        seen_at: time(row, "seen_at")?,
        revoked_at: time(row, "revoked_at")?,
        lapses: u32::try_from(number(row, "lapses")?).unwrap_or(u32::MAX),
    })
}

fn time(row: &QueryResult, column: &str) -> Result<Option<Timestamp>, DbErr> {
    Ok(row.try_get::<Option<i64>>("", column)?.map(Timestamp))
}
