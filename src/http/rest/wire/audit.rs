//! Entries of the audit log.

use super::Timestamp;
use crate::ports::audit::AuditRow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Entry of the audit log.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Id, ascending.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    #[schema(example = "local:ann")]
    pub principal: String,
    /// Surface.
    #[schema(example = "rest")]
    pub via: String,
    /// Action.
    #[schema(example = "run.open")]
    pub action: String,
    /// Subject.
    #[schema(example = "project:tally")]
    pub subject: String,
    /// Detail in words.
    pub detail: String,
}

impl From<AuditRow> for AuditEntry {
    fn from(row: AuditRow) -> AuditEntry {
        let AuditRow { id, entry } = row;
        AuditEntry {
            id,
            at: entry.at.into(),
            principal: entry.principal.to_string(),
            via: entry.via,
            action: entry.action,
            subject: entry.subject,
            detail: entry.detail,
        }
    }
}
