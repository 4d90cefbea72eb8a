//! Points in time.

use crate::domain;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = i64, example = 1_795_227_728_993_i64)]
pub struct Timestamp(pub i64);

impl From<domain::Timestamp> for Timestamp {
    fn from(at: domain::Timestamp) -> Timestamp {
        Timestamp(at.0)
    }
}
