//! Audit log in the table `audit`: append-only, and chained, so that a changed or removed record is noticed.

use super::SeaStore;
use crate::domain::{Principal, Timestamp};
use crate::ports::PortResult;
use crate::ports::audit::{AuditEntry, AuditFilter, AuditLog, AuditRow};
use async_trait::async_trait;
use sea_orm::{DatabaseTransaction, DbErr, QueryResult};
use sha2::{Digest, Sha256};

const RECORD: &str =
    "INSERT INTO audit (at, principal, via, action, subject, detail, hash) VALUES ($1, $2, $3, $4, $5, $6, $7)";
const LIST: &str =
    "SELECT id, at, principal, via, action, subject, detail FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2";
const NEWEST: &str = "SELECT action, subject, hash FROM audit ORDER BY id DESC LIMIT 1";

#[async_trait]
impl AuditLog for SeaStore {
    async fn record(&self, entry: &AuditEntry) -> PortResult<()> {
        // No other process may append between reading the newest record and writing the next one.
        let tx = self.exclusive().await?;
        let appended = append(self, &tx, entry).await;
        self.end(tx, appended).await
    }

    async fn list(&self, filter: &AuditFilter) -> PortResult<Vec<AuditRow>> {
        let before = filter.before.and_then(|id| i64::try_from(id).ok()).unwrap_or(i64::MAX);
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
        let rows = self.read(LIST, [before.into(), limit.into()]).await?;
        rows.iter().map(|row| row_of(row).map_err(|e| self.reading(&e))).collect()
    }
}

/// Appends a record within an exclusive transaction.
pub(super) async fn append(store: &SeaStore, tx: &DatabaseTransaction, entry: &AuditEntry) -> Result<(), DbErr> {
    let newest = store.query_in(tx, NEWEST, []).await?;
    let previous: String = newest.first().map_or(Ok(String::new()), |row| row.try_get("", "hash"))?;
    let text = |text: &str| text.replace('\0', "");
    let entry = AuditEntry {
        at: entry.at,
        principal: Principal(text(entry.principal.as_str())),
        via: text(&entry.via),
        action: text(&entry.action),
        subject: text(&entry.subject),
        detail: text(&entry.detail),
    };
    let hash = hash(&previous, &entry);
    let AuditEntry { at, principal, via, action, subject, detail } = entry;
    let values =
        [at.0.into(), principal.0.into(), via.into(), action.into(), subject.into(), detail.into(), hash.into()];
    store.execute_in(tx, RECORD, values).await
}

/// Returns the hash of a record that follows the one with the hash `previous`.
pub(super) fn hash(previous: &str, entry: &AuditEntry) -> String {
    let texts = [entry.principal.as_str(), &entry.via, &entry.action, &entry.subject, &entry.detail];
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(entry.at.0.to_be_bytes());
    for text in texts {
        // With its length, so that no text can pass for a part of its neighbor.
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the subject of the newest record, if that is of this action.
pub(super) async fn newest_subject(
    store: &SeaStore,
    tx: &DatabaseTransaction,
    action: &str,
) -> PortResult<Option<String>> {
    let fail = |e: DbErr| store.reading(&e);
    let rows = store.query_in(tx, NEWEST, []).await.map_err(fail)?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (found, subject): (String, String) =
        (row.try_get("", "action").map_err(fail)?, row.try_get("", "subject").map_err(fail)?);
    Ok((found == action).then_some(subject))
}

pub(super) fn row_of(row: &QueryResult) -> Result<AuditRow, DbErr> {
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
