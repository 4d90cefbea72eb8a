//! Audit log: who changed what, when, through which surface.

use super::PortResult;
use crate::domain::{Principal, Timestamp};
use async_trait::async_trait;

/// Action to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub principal: Principal,
    /// Surface (`rest`).
    pub via: String,
    /// Action (`run.open`).
    pub action: String,
    /// Subject (`run:<id>`, `project:<name>`).
    pub subject: String,
    /// Detail in words. Never contains the value of a secret.
    pub detail: String,
}

/// Recorded action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Number in the log, ascending.
    pub id: u64,
    /// The action.
    pub entry: AuditEntry,
}

/// Part of the log to list.
#[derive(Clone, Copy, Debug)]
pub struct AuditFilter {
    /// Only rows before this number.
    pub before: Option<u64>,
    /// Maximum number of rows.
    pub limit: u64,
}

/// Audit log.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Appends an action.
    async fn record(&self, entry: &AuditEntry) -> PortResult<()>;
    /// Lists actions, newest first.
    async fn list(&self, filter: &AuditFilter) -> PortResult<Vec<AuditRow>>;
}
