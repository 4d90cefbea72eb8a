//! Gates before landing.

use crate::domain::gate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// State of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// Passed.
    Open,
    /// Not passed; something must change.
    Shut,
    /// Not decided yet.
    Wait,
}

/// Condition that must hold before a change lands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Gate {
    /// Name.
    #[schema(example = "review")]
    pub name: String,
    /// State.
    pub state: GateState,
    /// Reason it is not open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl From<(&str, gate::Gate)> for Gate {
    fn from((name, gate): (&str, gate::Gate)) -> Gate {
        let (state, why) = match gate {
            gate::Gate::Open => (GateState::Open, None),
            gate::Gate::Shut(why) => (GateState::Shut, Some(why)),
            gate::Gate::Wait(why) => (GateState::Wait, Some(why)),
        };
        Gate { name: name.to_owned(), state, why }
    }
}
