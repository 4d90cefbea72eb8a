//! Effects not known done: reading a run's, and counting a beginning before it happens.

use super::SeaStore;
use super::views::text_of;
use crate::domain::{EffectKey, RunId};
use crate::ports::store::{Lease, Pending};
use crate::ports::{PortError, PortResult};
use sea_orm::{DbBackend, QueryResult};

/// The most pending effects of one run that are carried on. `decide` keeps it to a few per task.
const PENDING_MAX: usize = 10_000;

/// A row that cannot be read: its run is put aside, no other.
pub(super) struct Unreadable(pub String);

/// The look at the lease locks the run's row, so that no take-over slips in between it and the count.
const BEGIN_POSTGRES: &str = "WITH mine AS (SELECT id FROM run WHERE id = $1 AND owner = $2 AND epoch = $3 FOR SHARE) \
    UPDATE outbox SET begun = begun + 1 FROM mine WHERE outbox.run = mine.id AND outbox.key = $4 RETURNING begun";
/// SQLite has one writer at a time: the look and the count are one anyway.
const BEGIN_SQLITE: &str = "UPDATE outbox SET begun = begun + 1 WHERE run = $1 AND key = $4 \
    AND EXISTS (SELECT 1 FROM run WHERE id = $1 AND owner = $2 AND epoch = $3) RETURNING begun";
const MINE: &str = "SELECT 1 AS one FROM run WHERE id = $1 AND owner = $2 AND epoch = $3";
const PENDING: &str = "SELECT key, begun, body FROM outbox WHERE run = $1 ORDER BY ord LIMIT 10001";

impl SeaStore {
    pub(super) async fn begin_effect(&self, lease: &Lease, key: &EffectKey) -> PortResult<u32> {
        let sql = if self.backend() == DbBackend::Postgres { BEGIN_POSTGRES } else { BEGIN_SQLITE };
        let mine = || [lease.run.to_string().into(), lease.owner.0.as_str().into(), lease.epoch.into()];
        let rows = self.write(sql, mine().into_iter().chain([key.as_str().into()])).await?;
        if let Some(row) = rows.first() {
            let begun: i64 = row.try_get("", "begun").map_err(|e| self.reading(&e))?;
            return Ok(u32::try_from(begun).unwrap_or(u32::MAX));
        }
        if self.read(MINE, mine()).await?.is_empty() {
            return Err(PortError::Fenced {
                what: format!("run {}: {} no longer has it under epoch {}", lease.run, lease.owner.0, lease.epoch),
            });
        }
        Err(PortError::permanent(
            format!("run {}: effect {key} is not pending", lease.run),
            "nothing: it is done, or was never decided",
        ))
    }

    /// A run's outbox in the order of decision, or the first row that cannot be read.
    pub(super) async fn pending_effects(&self, run: RunId) -> PortResult<Result<Vec<Pending>, Unreadable>> {
        let rows = self.read(PENDING, [run.to_string().into()]).await?;
        if rows.len() > PENDING_MAX {
            return Ok(Err(Unreadable(format!("it has more than {PENDING_MAX} effects pending"))));
        }
        Ok(rows.iter().map(pending_from).collect())
    }
}

fn pending_from(row: &QueryResult) -> Result<Pending, Unreadable> {
    let key = text_of(row, "key").map_err(Unreadable)?;
    let unreadable = |why: String| Unreadable(format!("its effect {key} cannot be read: {why}"));
    let begun: i64 = row.try_get("", "begun").map_err(|e| unreadable(e.to_string()))?;
    let body = text_of(row, "body").map_err(unreadable)?;
    let effect = serde_json::from_str(&body).map_err(|e| unreadable(e.to_string()))?;
    Ok(Pending { key: EffectKey(key), effect, begun: u32::try_from(begun).unwrap_or(u32::MAX) })
}
