//! Idempotency keys in the table `idempotency_key`.

use super::SeaStore;
use crate::domain::{Principal, RunId};
use crate::ports::idempotency::{Claimed, IdempotencyKeys, NewClaim};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use sea_orm::QueryResult;

const FORGET: &str = "DELETE FROM idempotency_key WHERE at < $1";
/// A key that is claimed keeps its first claim.
const CLAIM: &str = "INSERT INTO idempotency_key (principal, key, fingerprint, run, reused, at) \
    VALUES ($1, $2, $3, $4, false, $5) ON CONFLICT (principal, key) DO NOTHING";
const READ: &str = "SELECT fingerprint, run, reused FROM idempotency_key WHERE principal = $1 AND key = $2";
const SETTLE: &str = "UPDATE idempotency_key SET run = $3, reused = true WHERE principal = $1 AND key = $2";

#[async_trait]
impl IdempotencyKeys for SeaStore {
    async fn claim(&self, claim: &NewClaim) -> PortResult<Claimed> {
        let retention_ms = i64::try_from(claim.retention_secs.saturating_mul(1000)).unwrap_or(i64::MAX);
        self.write(FORGET, [claim.at.0.saturating_sub(retention_ms).into()]).await?;
        let values = [
            claim.principal.as_str().into(),
            claim.key.as_str().into(),
            claim.fingerprint.as_str().into(),
            claim.run.to_string().into(),
            claim.at.0.into(),
        ];
        self.write(CLAIM, values).await?;
        let rows = self.read(READ, [claim.principal.as_str().into(), claim.key.as_str().into()]).await?;
        let row = rows.first().ok_or_else(|| PortError::transient("the idempotency key was removed meanwhile"))?;
        claimed(row).map_err(|e| self.reading(&e))
    }

    async fn settle(&self, principal: &Principal, key: &str, run: RunId) -> PortResult<()> {
        self.write(SETTLE, [principal.as_str().into(), key.into(), run.to_string().into()]).await.map(|_| ())
    }
}

fn claimed(row: &QueryResult) -> Result<Claimed, sea_orm::DbErr> {
    let run: String = row.try_get("", "run")?;
    let run = RunId::try_from(run).map_err(|e| sea_orm::DbErr::Type(e.to_string()))?;
    Ok(Claimed { fingerprint: row.try_get("", "fingerprint")?, run, reused: row.try_get("", "reused")? })
}
