//! Deliveries of forges, and results of a CI.

use super::{StatusState, Timestamp};
use crate::domain;
use crate::ports::intake;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// State of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Stored, to be applied.
    Received,
    /// Applied; the reply is still to be written.
    Applied,
    /// Applied.
    Done,
    /// There was nothing to do.
    Ignored,
    /// It could not be applied.
    Failed,
}

/// What a forge reported, or what a sweep found there.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// Number, in order of arrival.
    pub number: u64,
    /// Id that the forge chose.
    #[schema(example = "72d3162e-cc78-11e3-81ab-4c9367dc0958")]
    pub id: String,
    /// Kind of event.
    #[schema(example = "issues.labeled")]
    pub event: String,
    /// Repository; empty if the event has none.
    #[schema(example = "my-org/calc")]
    pub repository: String,
    /// State.
    pub state: DeliveryState,
    /// What was done, or why nothing was.
    pub reason: String,
    /// Failed tries.
    pub tries: u32,
    /// When it arrived.
    pub received_at: Timestamp,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
}

impl From<domain::DeliveryState> for DeliveryState {
    fn from(state: domain::DeliveryState) -> DeliveryState {
        match state {
            domain::DeliveryState::Received => DeliveryState::Received,
            domain::DeliveryState::Applied => DeliveryState::Applied,
            domain::DeliveryState::Done => DeliveryState::Done,
            domain::DeliveryState::Ignored => DeliveryState::Ignored,
            domain::DeliveryState::Failed => DeliveryState::Failed,
        }
    }
}

impl From<intake::Delivery> for Delivery {
    fn from(delivery: intake::Delivery) -> Delivery {
        let intake::Delivery { seq, new, state, reason, tries, settled_at, .. } = delivery;
        Delivery {
            number: seq,
            id: new.id,
            event: new.event,
            repository: new.repository,
            state: state.into(),
            reason,
            tries,
            received_at: new.at.into(),
            settled_at: settled_at.map(Into::into),
        }
    }
}

/// Result of a CI.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CiReport {
    /// Branch of a run.
    #[schema(example = "skep/3f9a12bc")]
    pub branch: String,
    /// Commit that was tested, all of its hex digits.
    pub sha: String,
    /// Context of the status.
    #[serde(default = "ci")]
    #[schema(example = "ci/windows")]
    pub context: String,
    /// State.
    #[schema(example = "success")]
    pub state: StatusState,
    /// Address of the CI's own report.
    #[serde(default)]
    pub url: Option<String>,
}

fn ci() -> String {
    "ci".to_owned()
}
