//! Who may write for a run: taking, lengthening and giving back leases, and putting runs aside.

use super::SeaStore;
use super::outbox::Unreadable;
use super::views::run_from;
use crate::domain::RunId;
use crate::ports::store::{Lease, Owner, Taken};
use crate::ports::{PortError, PortResult};
use sea_orm::{DbBackend, Value};
use std::collections::BTreeSet;

/// No lease lasts longer without being renewed.
const TTL_SECS_MAX: u64 = 24 * 3600;
/// The most leases lengthened by one statement.
const RENEW_CHUNK: usize = 500;
/// The longest reason kept, in characters.
const WHY_MAX: usize = 2_000;

/// Every taking counts the epoch up, also by the same owner: what an earlier self of it still has in flight is fenced.
const TAKE: &str = "UPDATE run SET owner = $2, lease_until = {now} + $3, epoch = epoch + 1 \
    WHERE id = $1 AND home = $4 AND quarantined IS NULL AND (owner IS NULL OR owner = $2 OR lease_until <= {now}) \
    RETURNING epoch, version, snapshot";
/// All leases in one statement, so that none waits for the round trip of another.
const RENEW_POSTGRES: &str = "UPDATE run SET lease_until = {now} + $1 \
    FROM json_to_recordset($2::json) AS l (run text, owner text, epoch bigint) \
    WHERE run.id = l.run AND run.owner = l.owner AND run.epoch = l.epoch RETURNING run.id, run.epoch";
const RENEW_SQLITE: &str = "UPDATE run SET lease_until = {now} + $1 \
    FROM (SELECT value ->> 'run' AS run, value ->> 'owner' AS owner, value ->> 'epoch' AS epoch FROM json_each($2)) AS l \
    WHERE run.id = l.run AND run.owner = l.owner AND run.epoch = l.epoch RETURNING id, epoch";
const WHY_NOT: &str = "SELECT quarantined FROM run WHERE id = $1";
const GIVE_BACK: &str = "UPDATE run SET owner = NULL, lease_until = 0 WHERE id = $1 AND owner = $2 AND epoch = $3";
/// Counting the epoch up fences off a former owner that is still writing after all.
const FREE: &str = "UPDATE run SET owner = NULL, lease_until = 0, epoch = epoch + 1 WHERE home = $1 AND owner IS NOT NULL \
    RETURNING id";
/// Counting the epoch up fences off whoever carries the run right now.
const QUARANTINE: &str = "UPDATE run SET quarantined = $2, owner = NULL, lease_until = 0, epoch = epoch + 1 WHERE id = $1 \
    RETURNING id, {now} AS now";
const LIFT: &str = "UPDATE run SET quarantined = NULL WHERE id = $1 AND quarantined IS NOT NULL RETURNING id";

fn millis(ttl_secs: u64) -> i64 {
    i64::try_from(ttl_secs.min(TTL_SECS_MAX).saturating_mul(1000)).unwrap_or(i64::MAX)
}

impl SeaStore {
    pub(super) async fn take_lease(&self, run: RunId, owner: &Owner, ttl_secs: u64) -> PortResult<Option<Taken>> {
        let id = || Value::from(run.to_string());
        let rows = self.write(TAKE, [id(), owner.0.as_str().into(), millis(ttl_secs).into(), self.home()]).await?;
        let Some(row) = rows.first() else { return self.why_not(run).await };
        let epoch = row.try_get("", "epoch").map_err(|e| self.reading(&e))?;
        let lease = Lease { run, owner: owner.clone(), epoch };
        let state = match run_from(row) {
            Ok(state) if state.id == run => state,
            Ok(state) => return self.quarantined(run, &format!("its snapshot is of run {}", state.id)).await,
            Err(why) => return self.quarantined(run, &why).await,
        };
        match self.pending_effects(run).await? {
            Ok(pending) => Ok(Some(Taken { lease, run: Box::new(state), pending })),
            Err(Unreadable(why)) => self.quarantined(run, &why).await,
        }
    }

    /// Why a run could not be taken: another has it (no error), it is put aside, or there is none.
    async fn why_not(&self, run: RunId) -> PortResult<Option<Taken>> {
        let rows = self.read(WHY_NOT, [run.to_string().into()]).await?;
        let Some(row) = rows.first() else {
            return Err(PortError::permanent(format!("there is no run {run}"), "list the runs to find the right one"));
        };
        let why: Option<String> = row.try_get("", "quarantined").map_err(|e| self.reading(&e))?;
        why.map_or(Ok(None), |why| Err(aside(run, &why)))
    }

    async fn quarantined(&self, run: RunId, why: &str) -> PortResult<Option<Taken>> {
        self.put_aside(run, why).await?;
        Err(aside(run, why))
    }

    pub(super) async fn renew_leases(&self, leases: &[Lease], ttl_secs: u64) -> PortResult<Vec<RunId>> {
        let sql = if self.backend() == DbBackend::Postgres { RENEW_POSTGRES } else { RENEW_SQLITE };
        let mut kept = BTreeSet::new();
        for chunk in leases.chunks(RENEW_CHUNK) {
            let named: Vec<_> = chunk
                .iter()
                .map(|l| serde_json::json!({ "run": l.run, "owner": l.owner.0, "epoch": l.epoch }))
                .collect();
            let named = serde_json::Value::from(named).to_string();
            for row in self.write(sql, [millis(ttl_secs).into(), named.into()]).await? {
                let id: String = row.try_get("", "id").map_err(|e| self.reading(&e))?;
                let epoch: i64 = row.try_get("", "epoch").map_err(|e| self.reading(&e))?;
                kept.insert((id, epoch));
            }
        }
        let lost = |lease: &&Lease| !kept.contains(&(lease.run.to_string(), lease.epoch));
        Ok(leases.iter().filter(lost).map(|lease| lease.run).collect())
    }

    /// Gives a lease back. One that is no longer ours is given back already.
    pub(super) async fn give_lease_back(&self, lease: &Lease) -> PortResult<()> {
        let values = [lease.run.to_string().into(), lease.owner.0.as_str().into(), lease.epoch.into()];
        self.write(GIVE_BACK, values).await.map(|_| ())
    }

    pub(super) async fn free_all_leases(&self) -> PortResult<u64> {
        Ok(self.write(FREE, [self.home()]).await?.len() as u64)
    }

    pub(super) async fn put_aside(&self, run: RunId, why: &str) -> PortResult<()> {
        let why: String = why.chars().filter(|c| *c != '\0').take(WHY_MAX).collect();
        let tx = self.alone().await?;
        let aside = async {
            let rows = self.rows(&tx, QUARANTINE, [run.to_string().into(), why.into()]).await?;
            if let Some(row) = rows.first() {
                self.charge_open(&tx, run, row.try_get("", "now")?).await?;
            }
            Ok(!rows.is_empty())
        };
        let aside = aside.await;
        if !self.end(tx, aside).await? {
            return Err(PortError::permanent(format!("there is no run {run}"), "list the runs to find the right one"));
        }
        Ok(())
    }

    /// Lifts a run's quarantine; `false` if it was not quarantined. For a person who has fixed the cause.
    pub(super) async fn unquarantine(&self, run: RunId) -> PortResult<bool> {
        Ok(!self.write(LIFT, [run.to_string().into()]).await?.is_empty())
    }
}

/// The error of a run that is put aside.
pub(super) fn aside(run: RunId, why: &str) -> PortError {
    PortError::permanent(
        format!("run {run} is quarantined: {why}"),
        "`skep runs` shows the reason, other runs go on. Restore the store from a backup, or use the \
         program version that wrote it",
    )
}
