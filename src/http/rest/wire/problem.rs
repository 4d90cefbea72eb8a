//! Errors as RFC 9457 problems.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// RFC 9457 problem.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"type": "urn:skep:problem:no_run", "title": "Not Found", "status": 404,
    "detail": "there is no run \"1234\"", "fix": "GET /api/v1/runs lists the runs", "code": "no_run"}))]
pub struct Problem {
    /// URI of the kind of problem: `urn:skep:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Kind of problem in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What failed, to what, and why.
    pub detail: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
    /// Stable code.
    pub code: String,
}
