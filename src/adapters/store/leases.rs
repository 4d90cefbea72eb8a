//! Leases: acquiring, renewing and releasing the right to write for a run, and quarantine.

use super::SeaStore;
use super::codec;
use super::run_index::text_of;
use super::snapshot;
use crate::domain::{EffectKey, RunId};
use crate::ports::journal::PendingEffect;
use crate::ports::leases::{Lease, LeasedRun, Leases, Owner};
use crate::ports::{PortError, PortResult};
use async_trait::async_trait;
use sea_orm::{DbBackend, QueryResult, Value};
use std::collections::BTreeSet;

/// Longest validity of a lease that is not renewed.
const MAX_TTL_SECS: u64 = 24 * 3600;
/// Upper bound of leases renewed by one statement.
const RENEW_CHUNK: usize = 500;
/// Longest stored reason of a quarantine, in characters.
const MAX_REASON: usize = 2_000;
/// Upper bound of pending effects of one run that is resumed. `decide` keeps them to a few per task.
const MAX_PENDING: usize = 10_000;

/// Every acquisition raises the epoch, even by the same owner: writes still in flight under the earlier epoch are
/// fenced.
const ACQUIRE: &str = "UPDATE run SET owner = $2, lease_until = {now} + $3, epoch = epoch + 1 \
    WHERE id = $1 AND home = $4 AND quarantined IS NULL AND (owner IS NULL OR owner = $2 OR lease_until <= {now}) \
    RETURNING epoch, ";
const PENDING: &str = "SELECT key, begun, version, body FROM outbox WHERE run = $1 ORDER BY ord LIMIT 10001";
/// All leases in one statement, so that none waits for the round trip of another.
const RENEW_POSTGRES: &str = "UPDATE run SET lease_until = {now} + $1 \
    FROM json_to_recordset($2::json) AS l (run text, owner text, epoch bigint) \
    WHERE run.id = l.run AND run.owner = l.owner AND run.epoch = l.epoch RETURNING run.id, run.epoch";
const RENEW_SQLITE: &str = "UPDATE run SET lease_until = {now} + $1 \
    FROM (SELECT value ->> 'run' AS run, value ->> 'owner' AS owner, value ->> 'epoch' AS epoch FROM json_each($2)) AS l \
    WHERE run.id = l.run AND run.owner = l.owner AND run.epoch = l.epoch RETURNING id, epoch";
const WHY_QUARANTINED: &str = "SELECT quarantined FROM run WHERE id = $1";
const RELEASE: &str = "UPDATE run SET owner = NULL, lease_until = 0 WHERE id = $1 AND owner = $2 AND epoch = $3";
/// Raising the epoch fences a former owner that still writes.
const RELEASE_ALL: &str = "UPDATE run SET owner = NULL, lease_until = 0, epoch = epoch + 1 \
    WHERE home = $1 AND owner IS NOT NULL RETURNING id";
/// Raising the epoch fences the process that drives the run now.
const QUARANTINE: &str = "UPDATE run SET quarantined = $2, owner = NULL, lease_until = 0, epoch = epoch + 1 WHERE id = $1 \
    RETURNING id, {now} AS now";
const LIFT: &str = "UPDATE run SET quarantined = NULL WHERE id = $1 AND quarantined IS NOT NULL RETURNING id";

fn millis(ttl_secs: u64) -> i64 {
    i64::try_from(ttl_secs.min(MAX_TTL_SECS).saturating_mul(1000)).unwrap_or(i64::MAX)
}

#[async_trait]
impl Leases for SeaStore {
    async fn acquire(&self, run: RunId, owner: &Owner, ttl_secs: u64) -> PortResult<Option<LeasedRun>> {
        let id = Value::from(run.to_string());
        let sql = format!("{ACQUIRE}{}", snapshot::COLUMNS);
        let rows = self.write(&sql, [id, owner.0.as_str().into(), millis(ttl_secs).into(), self.home()]).await?;
        let Some(row) = rows.first() else { return self.why_not_acquired(run).await };
        let epoch = row.try_get("", "epoch").map_err(|e| self.reading(&e))?;
        let lease = Lease { run, owner: owner.clone(), epoch };
        let state = match snapshot::read_to_write(row, &self.openings) {
            Ok(state) if state.id == run => state,
            Ok(state) => return self.quarantine_unreadable(run, &format!("its snapshot is of run {}", state.id)).await,
            Err(why) => return self.quarantine_unreadable(run, &why).await,
        };
        match self.pending_effects(run).await? {
            Ok(pending) => Ok(Some(LeasedRun { lease, run: Box::new(state), pending })),
            Err(why) => self.quarantine_unreadable(run, &why).await,
        }
    }

    async fn renew(&self, leases: &[Lease], ttl_secs: u64) -> PortResult<Vec<RunId>> {
        let sql = if self.backend() == DbBackend::Postgres { RENEW_POSTGRES } else { RENEW_SQLITE };
        let mut renewed = BTreeSet::new();
        for chunk in leases.chunks(RENEW_CHUNK) {
            let wanted: Vec<_> = chunk
                .iter()
                .map(|l| serde_json::json!({ "run": l.run, "owner": l.owner.0, "epoch": l.epoch }))
                .collect();
            let wanted = serde_json::Value::from(wanted).to_string();
            for row in self.write(sql, [millis(ttl_secs).into(), wanted.into()]).await? {
                let id: String = row.try_get("", "id").map_err(|e| self.reading(&e))?;
                let epoch: i64 = row.try_get("", "epoch").map_err(|e| self.reading(&e))?;
                renewed.insert((id, epoch));
            }
        }
        let lost = |lease: &&Lease| !renewed.contains(&(lease.run.to_string(), lease.epoch));
        Ok(leases.iter().filter(lost).map(|lease| lease.run).collect())
    }

    async fn release(&self, lease: &Lease) -> PortResult<()> {
        let values = [lease.run.to_string().into(), lease.owner.0.as_str().into(), lease.epoch.into()];
        self.write(RELEASE, values).await.map(|_| ())
    }

    async fn release_all(&self) -> PortResult<u64> {
        Ok(self.write(RELEASE_ALL, [self.home()]).await?.len() as u64)
    }

    async fn quarantine(&self, run: RunId, why: &str) -> PortResult<()> {
        let why: String = why.chars().filter(|c| *c != '\0').take(MAX_REASON).collect();
        let tx = self.exclusive().await?;
        let quarantined = async {
            let rows = self.query_in(&tx, QUARANTINE, [run.to_string().into(), why.into()]).await?;
            if let Some(row) = rows.first() {
                self.settle_reservations(&tx, run, row.try_get("", "now")?).await?;
            }
            Ok(!rows.is_empty())
        };
        let quarantined = quarantined.await;
        if self.end(tx, quarantined).await? { Ok(()) } else { Err(no_run(run)) }
    }

    async fn lift_quarantine(&self, run: RunId) -> PortResult<bool> {
        Ok(!self.write(LIFT, [run.to_string().into()]).await?.is_empty())
    }
}

impl SeaStore {
    /// Explains why a run could not be acquired: another owner has it (no error), it is quarantined, or it does not
    /// exist.
    async fn why_not_acquired(&self, run: RunId) -> PortResult<Option<LeasedRun>> {
        let rows = self.read(WHY_QUARANTINED, [run.to_string().into()]).await?;
        let Some(row) = rows.first() else { return Err(no_run(run)) };
        let why: Option<String> = row.try_get("", "quarantined").map_err(|e| self.reading(&e))?;
        why.map_or(Ok(None), |why| Err(quarantined(run, &why)))
    }

    async fn quarantine_unreadable(&self, run: RunId, why: &str) -> PortResult<Option<LeasedRun>> {
        self.quarantine(run, why).await?;
        Err(quarantined(run, why))
    }

    /// Reads a run's outbox in the order of decision; the inner error says what cannot be read.
    async fn pending_effects(&self, run: RunId) -> PortResult<Result<Vec<PendingEffect>, String>> {
        let rows = self.read(PENDING, [run.to_string().into()]).await?;
        if rows.len() > MAX_PENDING {
            return Ok(Err(format!("it has more than {MAX_PENDING} pending effects")));
        }
        Ok(rows.iter().map(pending_from).collect())
    }
}

fn pending_from(row: &QueryResult) -> Result<PendingEffect, String> {
    let key = text_of(row, "key")?;
    let unreadable = |why: String| format!("cannot read its pending effect {key}: {why}");
    let number = |column: &str| row.try_get::<i64>("", column).map_err(|e| unreadable(e.to_string()));
    let (begun, version) = (number("begun")?, number("version")?);
    let body = text_of(row, "body").map_err(unreadable)?;
    let effect = codec::decode_effect(version, &body).map_err(unreadable)?;
    Ok(PendingEffect { key: EffectKey(key), effect, begun: u32::try_from(begun).unwrap_or(u32::MAX) })
}

fn no_run(run: RunId) -> PortError {
    PortError::permanent(format!("there is no run {run}"), "list the runs with `skep runs`")
}

fn quarantined(run: RunId, why: &str) -> PortError {
    PortError::permanent(
        format!("run {run} is quarantined: {why}"),
        "other runs are not affected; restore the store from a backup, or use the Skep version that wrote the run",
    )
}
