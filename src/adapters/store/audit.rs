//! Audit log in the table `audit`, append-only.

use super::SeaStore;
use crate::domain::{Principal, Timestamp};
use crate::ports::PortResult;
use crate::ports::audit::{AuditEntry, AuditFilter, AuditLog, AuditRow};
use async_trait::async_trait;
use sea_orm::QueryResult;

const RECORD: &str = "INSERT INTO audit (at, principal, via, action, subject, detail) VALUES ($1, $2, $3, $4, $5, $6)";
const LIST: &str =
    "SELECT id, at, principal, via, action, subject, detail FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2";

#[async_trait]
impl AuditLog for SeaStore {
    async fn record(&self, entry: &AuditEntry) -> PortResult<()> {
        let text = |text: &str| text.replace('\0', "").into();
        let values = [
            entry.at.0.into(),
            text(entry.principal.as_str()),
            text(&entry.via),
            text(&entry.action),
            text(&entry.subject),
            text(&entry.detail),
        ];
        self.write(RECORD, values).await.map(|_| ())
    }

    async fn list(&self, filter: &AuditFilter) -> PortResult<Vec<AuditRow>> {
        let before = filter.before.and_then(|id| i64::try_from(id).ok()).unwrap_or(i64::MAX);
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
        let rows = self.read(LIST, [before.into(), limit.into()]).await?;
        rows.iter().map(|row| row_of(row).map_err(|e| self.reading(&e))).collect()
    }
}

fn row_of(row: &QueryResult) -> Result<AuditRow, sea_orm::DbErr> {
    let id: i64 = row.try_get("", "id")?;
    Ok(AuditRow {
        id: u64::try_from(id).unwrap_or_default(),
        entry: AuditEntry {
            at: Timestamp(row.try_get("", "at")?),
            principal: Principal(row.try_get("", "principal")?),
            via: row.try_get("", "via")?,
            action: row.try_get("", "action")?,
            subject: row.try_get("", "subject")?,
            detail: row.try_get("", "detail")?,
        },
    })
}
