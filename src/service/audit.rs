//! Audit log: a record of everything that callers changed.
//!
//! Invariant: no secret value gets into a record; texts are redacted, and use cases pass names only.

use super::input;
use super::{Caller, Right, ServiceResult, Services};
use crate::ports::audit::{AuditEntry, AuditFilter, AuditRow};
use crate::secrets::redact_all;

/// Maximum number of characters of a record's detail.
const MAX_DETAIL: usize = 500;

/// Records an action that was carried out. The action is done by then, so a failure to record it is logged and not
/// returned.
pub(super) async fn record(s: &Services, caller: &Caller, action: &str, subject: impl Into<String>, detail: &str) {
    let entry = AuditEntry {
        at: s.clock.now(),
        principal: caller.principal.clone(),
        via: caller.via.name().to_owned(),
        action: action.to_owned(),
        subject: subject.into(),
        detail: redact_all(detail).chars().filter(|c| !c.is_control()).take(MAX_DETAIL).collect(),
    };
    if let Err(error) = s.audit.record(&entry).await {
        tracing::error!(%error, action, subject = entry.subject, by = %entry.principal, "cannot write an audit record");
    }
}

/// Lists the audit log, newest first. `before` is the id of a row, for paging.
///
/// # Errors
/// `missing_right` without [`Right::Admin`], `invalid` if the limit is out of range.
pub async fn list(
    s: &Services,
    caller: &Caller,
    before: Option<u64>,
    limit: Option<u64>,
) -> ServiceResult<Vec<AuditRow>> {
    caller.require(Right::Admin)?;
    Ok(s.audit.list(&AuditFilter { before, limit: input::rows(limit)? }).await?)
}
